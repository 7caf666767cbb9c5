"""Who made a change and why: said by requests, commands and tasks, carried in bundles, told by conflicts."""

import asyncio
import threading
from types import SimpleNamespace

import orjson
import pytest
from asgiref.sync import async_to_sync, sync_to_async
from django.contrib.auth import login
from django.contrib.auth.models import AnonymousUser, User
from django.core.management import call_command
from django.http import HttpResponse, StreamingHttpResponse
from django.test import AsyncClient, Client, RequestFactory
from django.urls import path
from django.utils.decorators import sync_and_async_middleware

from synchro import DisableSynchroLog, acting, conflicts, scan
from synchro.actors import ACTOR_LENGTH, CONTEXT_LENGTH
from synchro.middleware import ActorMiddleware
from synchro.models import ChangeLog
from synchro.seal import seal
from tests.app.deploy import carry, lines, queries, records, take, write
from tests.project.shop.models import City, Club, Country, Person, Tag

pytestmark = [pytest.mark.django_db(databases=["default", "hq"]), pytest.mark.urls(__name__)]


def said(using="default"):
    """Who and why of each change, oldest first."""
    rows = ChangeLog.objects.using(using).order_by("pk").values_list("actor", "context")
    return [(actor, orjson.loads(context) if context else {}) for actor, context in rows]


def who():
    return [actor for actor, _ in said()]


# --- requests ---------------------------------------------------------------------------------------------------------


def make(request, name):
    Tag.objects.create(name=name)
    return HttpResponse("done")


def make_as(request, name):
    """What a token does: nobody is known until the view authenticates."""
    Tag.objects.create(name=f"{name} before")
    request.user = User.objects.get(username=name)
    return make(request, name)


def log_in(request, name):
    login(request, User.objects.get(username=name), backend="django.contrib.auth.backends.ModelBackend")
    return make(request, name)


async def make_async(request, name):
    await Tag.objects.acreate(name=name)
    return HttpResponse("done")


def fail(request):
    Tag.objects.create(name="fails")
    raise ZeroDivisionError


def stream(request):
    def steps():
        for name in ("red", "blue"):
            Tag.objects.create(name=name)
            yield name

    return StreamingHttpResponse(steps())


async def stream_async(request):
    async def steps():
        for name in ("red", "blue"):
            await Tag.objects.acreate(name=name)
            yield name

    return StreamingHttpResponse(steps())


urlpatterns = [
    path("stream/", stream),
    path("stream-async/", stream_async),
    path("make/<name>/", make),
    path("make-as/<name>/", make_as),
    path("log-in/<name>/", log_in),
    path("make-async/<name>/", make_async),
    path("fail/", fail),
]


@pytest.fixture
def ann():
    return User.objects.create_user("ann", password="x")


def browser(user, kind=Client):
    made = kind()
    made.force_login(user)
    return made


def test_what_a_request_changes_is_logged_with_its_user(ann):
    browser(ann).get("/make/red/")
    Client().get("/make/blue/")
    Tag.objects.create(name="green")
    assert who() == ["ann", "", ""]


def test_a_user_who_is_known_late_is_seen(ann):
    Client().get("/make-as/ann/")
    User.objects.create_user("ben")
    Client().get("/log-in/ben/")
    assert who() == ["", "ann", "ben"]


def test_an_async_view(ann):
    async def run():
        client = AsyncClient()
        await client.aforce_login(ann)
        await client.get("/make-async/red/")
        await AsyncClient().get("/make-async/blue/")

    async_to_sync(run)()
    assert who() == ["ann", ""]


def test_what_is_changed_while_the_answer_is_sent(ann):
    response = browser(ann).get("/stream/")
    assert who() == []
    for step in response.streaming_content:
        assert step in (b"red", b"blue")
        Tag.objects.create(name=f"between: {step}")  # by whoever sends it
    assert who() == ["ann", "", "ann", ""]


def test_what_is_changed_while_an_async_answer_is_sent(ann):
    async def run():
        client = AsyncClient()
        await client.aforce_login(ann)
        response = await client.get("/stream-async/")
        return [step async for step in response.streaming_content]

    assert async_to_sync(run)() == [b"red", b"blue"]
    assert who() == ["ann", "ann"]


def test_a_request_that_fails_leaves_nobody_behind(ann):
    with pytest.raises(ZeroDivisionError):
        browser(ann).get("/fail/")
    Tag.objects.create(name="after")
    assert who() == ["ann", ""]


def test_a_request_that_changes_nothing_asks_for_no_user(ann):
    request = RequestFactory().get("/")
    request.session = browser(ann).session
    middleware = ActorMiddleware(lambda request: HttpResponse())
    number, _ = queries("default", lambda: middleware(request))
    assert number == 0


@pytest.mark.parametrize("user", [None, AnonymousUser(), SimpleNamespace(is_authenticated=True)])
def test_a_user_who_cannot_be_named_loses_no_change(user):
    request = RequestFactory().get("/")
    if user is not None:
        request.user = user
    ActorMiddleware(lambda request: make(request, "red"))(request)
    assert who() == [""]


def test_looking_for_the_user_may_change_something_itself():
    class Request(SimpleNamespace):
        @property
        def user(self):
            Tag.objects.create(name="seen")
            return User(username="ann")

    ActorMiddleware(lambda request: make(request, "red"))(Request())
    assert sorted(who()) == ["", "ann"]


def test_a_long_name_is_cut_in_a_request_and_loses_no_change():
    request = RequestFactory().get("/")
    request.user = User(username="a" * 300)
    ActorMiddleware(lambda request: make(request, "red"))(request)
    assert who() == ["a" * ACTOR_LENGTH]


def test_it_is_of_both_kinds_as_django_wants():
    assert ActorMiddleware.sync_capable
    assert ActorMiddleware.async_capable
    assert sync_and_async_middleware(ActorMiddleware) is ActorMiddleware


# --- blocks -----------------------------------------------------------------------------------------------------------


def test_a_block_says_who_and_why(ann):
    with acting(ann, reason="lab results", batch=7):
        tag = Tag.objects.create(name="red")
    tag.save()
    assert said() == [("ann", {"reason": "lab results", "batch": 7}), ("", {})]


def test_everything_that_is_logged_has_it():
    country = Country.objects.create(code="PL", name="Polska")
    person, tag = Person.objects.create(name="a"), Tag.objects.create(name="red")
    ChangeLog.objects.all().delete()
    with acting("ann"):
        country.save(update_fields=["name"])
        person.tags.add(tag)
        person.tags.clear()
        person.delete()
    assert len(who()) >= 4
    assert set(who()) == {"ann"}


def test_blocks_nest():
    with acting("ann", reason="round"):
        with acting(reason="correction"):
            Tag.objects.create(name="1")
        with acting(ward=3):
            Tag.objects.create(name="2")
        with acting("ben"):
            Tag.objects.create(name="3")
        Tag.objects.create(name="4")
    Tag.objects.create(name="5")
    assert said() == [
        ("ann", {"reason": "correction"}),
        ("ann", {"reason": "round", "ward": 3}),
        ("ben", {}),
        ("ann", {"reason": "round"}),
        ("", {}),
    ]


def test_one_instance_may_be_entered_again():
    me = acting("ann")
    with me, me:
        Tag.objects.create(name="1")
    with me:
        Tag.objects.create(name="2")
    Tag.objects.create(name="3")
    assert who() == ["ann", "ann", ""]


def test_a_reason_without_an_actor_keeps_the_user_of_the_request(ann):
    def view(request):
        with acting(reason="import"):
            request.user = ann
            return make(request, "red")

    ActorMiddleware(view)(RequestFactory().get("/"))
    assert said() == [("ann", {"reason": "import"})]


def test_decorators_of_all_kinds():
    @acting("nightly", reason="clean-up")
    def plain():
        Tag.objects.create(name="plain")

    @acting("nightly")
    def steps():
        Tag.objects.create(name="step")
        yield
        Tag.objects.create(name="step 2")

    @acting("nightly")
    async def later():
        await sync_to_async(Tag.objects.create)(name="later")

    plain()
    for _ in steps():
        Tag.objects.create(name="between")
    async_to_sync(later)()
    assert who() == ["nightly", "nightly", "", "nightly", "nightly"]


def test_tasks_side_by_side_do_not_mix():
    @acting("first")
    async def first(name):
        await asyncio.sleep(0.01)
        await Tag.objects.acreate(name=name)

    async def second():
        async with acting("second"):
            await asyncio.sleep(0.02)
            await Tag.objects.acreate(name="second")

    async def both():
        await asyncio.gather(first("a"), second(), first("b"))

    async_to_sync(both)()
    assert sorted(who()) == ["first", "first", "second"]


def test_threads_inherit_nothing():
    found = []

    def run():
        from synchro.actors import current

        found.append(current())

    with acting("ann"):
        thread = threading.Thread(target=run)
        thread.start()
        thread.join()
    assert [tuple(each) for each in found] == [("", "")]


@pytest.mark.parametrize(
    ("arguments", "error"),
    [
        ({"actor": "a" * (ACTOR_LENGTH + 1)}, ValueError),
        ({"actor": "a\0b"}, ValueError),
        ({"actor": "\ud800"}, ValueError),
        ({"actor": 5}, TypeError),
        ({"reason": 5}, TypeError),
        ({"reason": "r" * CONTEXT_LENGTH}, ValueError),
        ({"reason": "a\0b"}, ValueError),
        ({"when": object()}, ValueError),
        ({"number": 2**64}, ValueError),
        ({"number": float("nan")}, ValueError),
        ({"deep": orjson.loads("[" * 150 + "]" * 150)}, ValueError),
    ],
)
def test_what_cannot_be_noted_is_refused_at_the_block(arguments, error):
    with pytest.raises(error):
        acting(**arguments)


def test_a_context_that_grows_too_long_is_refused_when_the_block_is_entered():
    half = "r" * (CONTEXT_LENGTH // 2)
    with acting("ann", first=half), pytest.raises(ValueError, match="2000"), acting(second=half):
        pass
    Tag.objects.create(name="after")
    assert who() == [""]


def test_an_actor_of_the_greatest_length_is_stored():
    with acting("ą" * ACTOR_LENGTH, reason="ż" * (CONTEXT_LENGTH - len('{"reason":""}'))):
        Tag.objects.create(name="red")
    assert len(ChangeLog.objects.get().context) == CONTEXT_LENGTH


def test_what_is_not_logged_stays_so():
    with acting("ann"), DisableSynchroLog():
        Tag.objects.create(name="red")
    assert who() == []


# --- who did not do it ------------------------------------------------------------------------------------------------


def test_a_scan_does_not_claim_what_it_finds():
    Tag.objects.bulk_create([Tag(name="red")])
    with acting("ann"):
        scan()
    assert who() == [""]


def test_an_export_does_not_claim_what_it_has_to_add():
    with DisableSynchroLog():
        country = Country.objects.create(code="PL", name="Polska")
    with acting("ben"):
        City.objects.create(country=country, name="a")
    with acting("ann"):
        seal("default")
    rows = dict(ChangeLog.objects.values_list("model", "actor"))
    assert rows == {"shop.country": "", "shop.city": "ben"}


# --- on the way -------------------------------------------------------------------------------------------------------


def test_bundles_carry_it_and_relays_keep_it():
    with acting("ann", reason="round", ward=3):
        Tag.objects.create(name="red")
    Tag.objects.create(name="blue")
    data, _ = write()
    first, second = records(data)
    assert (first["actor"], first["context"]) == ("ann", {"reason": "round", "ward": 3})
    assert not {"actor", "context"} & second.keys()
    take(data, "hq")
    assert who_at("hq") == ["ann", ""]
    relayed, _ = write("hq", to="ship")
    assert [record.get("actor") for record in records(relayed)] == ["ann", None]
    assert records(relayed)[0]["context"] == {"reason": "round", "ward": 3}


def test_one_record_an_object_says_who_made_the_newest_state():
    with acting("ann"):
        tag = Tag.objects.create(name="red")
    with acting("ben", reason="typo"):
        tag.save()
    (record,) = records(write(mode="squash")[0])
    assert (record["actor"], record["context"]) == ("ben", {"reason": "typo"})


def test_the_same_range_gives_the_same_bytes():
    with acting("ann", reason="round"):
        Tag.objects.create(name="red")
    first = write()[0]
    assert write(since=0, until=1)[0] == first
    assert len(lines(first)) == 3


def who_at(using):
    return list(ChangeLog.objects.using(using).order_by("pk").values_list("actor", flat=True))


# --- conflicts --------------------------------------------------------------------------------------------------------


@pytest.fixture
def apart():
    club = Club.objects.create(name="Chess")
    carry("default", "hq")
    with acting("ann", reason="at home"):
        club.name = "Chess here"
        club.save()
    theirs = Club.objects.using("hq").get()
    theirs.name = "Chess there"
    with acting("ben", reason="by phone"):
        theirs.save()
    take(write()[0], "hq", on_conflict="hold")
    (found,) = conflicts.conflicts(using="hq")
    return found


def test_conflicts_tell_both_sides(apart, capsys):
    assert (apart.local["actor"], apart.local["context"]) == ("ben", {"reason": "by phone"})
    assert (apart.incoming["actor"], apart.incoming["context"]) == ("ann", {"reason": "at home"})
    call_command("synchro_conflicts", "show", str(apart.id), database="hq")
    told = capsys.readouterr().out
    assert 'by ben, "by phone"' in told
    assert 'by ann, "at home"' in told


def test_a_decision_is_by_who_decided(apart):
    conflicts.take(apart.id, by="eve", using="hq")
    assert who_at("hq")[-1] == "eve"


def test_a_decision_without_a_name_is_by_who_acts(apart):
    with acting("eve"):
        conflicts.keep(apart.id, using="hq")
    assert who_at("hq")[-1] == "eve"
