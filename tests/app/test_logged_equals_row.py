"""Whatever way of writing the ORM has, what the log says of an object last is what its row says."""

import asyncio
import datetime as dt
import json
from contextlib import contextmanager, suppress
from decimal import Decimal
from types import ModuleType

import pytest
from asgiref.sync import sync_to_async
from django.contrib import admin
from django.contrib.auth.models import Permission, User
from django.core.management import call_command
from django.db import connections, models, transaction
from django.db.models import F, QuerySet, Value
from django.db.models.functions import Concat, Upper
from django.db.models.signals import post_save, pre_save
from django.forms import inlineformset_factory, modelform_factory, modelformset_factory
from django.urls import path

from synchro import pks, registry
from synchro.links import through_columns
from tests.app.logged import ALIASES, close_connections, decoded, log, row_values, tracking
from tests.project.odd.models import Base, Label, Leaf, Measure, Middle, Seat, Sticker, Ticket
from tests.project.shop.models import (
    City,
    Club,
    Country,
    Device,
    Membership,
    Note,
    Parcel,
    Person,
    Place,
    Profile,
    Restaurant,
    Stamp,
    Tag,
)
from tests.project.zoo.models import Answer, Comment, Dog, Keeper, Player, Question, Specimen, Team

pytestmark = pytest.mark.django_db(databases=ALIASES)
autocommit = pytest.mark.django_db(databases=ALIASES, transaction=True)
TRACKED = (
    "shop",
    "zoo",
    ("odd", "Base", "Middle", "Leaf", "Measure", "Seat", "Label", "Sticker", "Ticket"),
    ("auth", "User", "Group"),
)


@pytest.fixture(autouse=True)
def everything_tracked():
    with tracking(*TRACKED):
        yield


def assert_log_is_database():
    """The last entry of each object tells of its row, or of its deletion; the last of each link whether it is there.

    A multi-table object is one, whatever the class that an entry names. With an object its links are gone.
    """
    last, links = {}, {}
    for entry in log():
        model = registry.by_label(entry.model)
        if entry.link:
            links[entry.model, entry.pk, entry.link] = entry.action
        else:
            last[registry.spec(model).root, entry.pk] = entry
            links = {place: action for place, action in links.items() if not touches(place, model, entry)}
    for model in registry.tracked():
        for pk in QuerySet(model).values_list("pk", flat=True):
            entry = last.get((registry.spec(model).root, pks.to_text(model, pk)))
            assert entry is not None, f"{model._meta.label} {pk} is not logged"
            assert entry.action in ("add", "change"), f"{model._meta.label} {pk} is there, and the log: {entry.action}"
            if entry.model == model._meta.label_lower:
                assert decoded(model, entry.state) == row_values(model, pk), f"{model._meta.label} {pk}"
    for (root, text), entry in last.items():
        model = registry.by_label(entry.model)
        if entry.action != "delete":
            assert QuerySet(model).filter(pk=pks.from_text(model, text)).exists(), f"{entry.model} {text} is not there"
        else:
            assert not QuerySet(root).filter(pk=pks.from_text(root, text)).exists(), f"{entry.model} {text} is there"
    present = {
        canonical((field.model._meta.label_lower, str(mine), f"{field.name}:{theirs}"))
        for through, field in registry.tracked_links().items()
        for mine, theirs in QuerySet(through).values_list(*(column.attname for column in through_columns(field)))
    }
    assert present == {place for place, action in links.items() if action == "link"}


def touches(place, model, entry):
    """Whether the link at *place* goes with what *entry*, of *model*, deletes."""
    label, mine, link = place
    name, _, theirs = link.partition(":")
    field = registry.by_label(label)._meta.get_field(name)
    ends = {(registry.spec(field.model).root, mine), (registry.spec(field.related_model).root, theirs)}
    return entry.action == "delete" and (registry.spec(model).root, entry.pk) in ends


def canonical(place):
    label, mine, link = place
    name, _, theirs = link.partition(":")
    field = registry.by_label(label)._meta.get_field(name)
    if getattr(field.remote_field, "symmetrical", False) and int(mine) > int(theirs):
        return label, theirs, f"{name}:{mine}"
    return place


@contextmanager
def receiving(signal, sender, receiver):
    signal.connect(receiver, sender=sender, weak=False)
    try:
        yield
    finally:
        signal.disconnect(receiver, sender=sender)


# --- expressions, partial and deferred --------------------------------------------------------------------------------


def test_expressions():
    note = Note.objects.create(integer=5, char="ab")
    note.integer = F("integer") + 1
    note.char = Concat("char", Value("-"), "char")
    note.save()
    note.save()  # what an instance keeps of an expression differs between versions of Django
    Note.objects.create(integer=Value(3) + Value(4), char=Upper(Value("up")))
    note.big = models.Case(models.When(integer__gt=5, then=Value(1)), default=Value(2))
    note.save(update_fields=["big"])
    City.objects.create(name="x", country=Country.objects.create(code="PL"), population=Value(2) * 3)
    assert_log_is_database()


def test_update_fields_with_other_attributes_changed():
    note = Note.objects.create(integer=1, char="a", text="t")
    note.integer, note.char, note.text = 2, "b", "u"
    note.save(update_fields=["integer"])
    assert_log_is_database()
    note.save(update_fields={"text"})
    note.save(update_fields=())
    assert_log_is_database()
    person = Person.objects.create(name="p")
    person.boss, person.name = Person.objects.create(name="boss"), "other"
    person.save(update_fields=["boss_id"])
    assert_log_is_database()
    restaurant = Restaurant.objects.create(name="r", stars=1)
    restaurant.name, restaurant.stars = "s", 2
    restaurant.save(update_fields=["name"])
    assert_log_is_database()
    restaurant.save(update_fields=["stars"])
    assert_log_is_database()


def test_deferred_fields():
    note = Note.objects.create(integer=1, char="a", price=Decimal("1.5"), data={"a": [1]})
    for loaded in (Note.objects.defer("char", "data").get(), Note.objects.only("integer").get()):
        loaded.integer += 1
        loaded.save()
        assert_log_is_database()
    loaded = Note.objects.only("pk").get()
    loaded.char = "z"
    loaded.save()
    assert Note.objects.get(pk=note.pk).char == "z"
    Restaurant.objects.create(name="r", stars=3)
    for loaded in (Restaurant.objects.only("name").get(), Restaurant.objects.defer("name").get()):
        loaded.stars = (loaded.stars or 0) + 1
        loaded.save()
    loaded = Note.objects.only("integer").get()
    loaded.delete()
    assert_log_is_database()


# --- values that are not what is stored -------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "given",
    [
        {"integer": "7", "big": 7.9, "real": "1.25", "price": "3.10005", "done": "1"},
        {"integer": True, "big": Decimal(8), "real": 3, "price": 1.1, "done": 0},
        {"price": Decimal("0E+3"), "real": -0.0, "small": "3"},
        {"price": Decimal("1E+2"), "real": 1e300},
        {"day": dt.datetime(2024, 5, 6, 7, 8, tzinfo=dt.UTC), "moment": "2024-01-02T03:04:05.678901+02:00"},
        {"day": "2024-02-29", "hour": "23:59:59.999999"},
        {"moment": dt.date(2024, 1, 2)},
        {"uid": "0" * 31 + "a", "ip": "::FFFF:1.2.3.4", "email": 5, "char": 7, "text": b"bytes"},
        {"ip": "2001:0DB8::0001", "slug": 12},
        {"blob": bytearray(b"\0\1"), "file": "notes/a.txt"},
        {"blob": memoryview(b"abc"), "file": None},
        {"data": {"b": (1, 2), 3: None}},
        {"data": [1e22, -0.0, 1.0, "é", None, True, {"z": 1, "a": 2}]},
        {"data": 2**70},
        {"data": Value("plain", models.JSONField())},
        {"char": "trailing  ", "char_null": "", "text": "a\r\nb\tc"},
        {"length": dt.timedelta(days=-1, microseconds=1)},
    ],
)
@pytest.mark.filterwarnings("ignore:DateTimeField")
def test_attributes_of_another_type(given):
    note = Note(**given)
    note.save()
    assert_log_is_database()
    note.save()
    assert_log_is_database()
    loaded = Note.objects.get()
    loaded.save()
    assert_log_is_database()


def test_what_the_field_or_the_database_decides():
    specimen = Specimen.objects.create(name="x", secret="abc", shout="quiet", words=["a", "b"])
    assert_log_is_database()
    specimen.shout = "again"
    specimen.save()
    specimen.save(update_fields=["saves"])
    measure = Measure.objects.create(width=3, upper="low", draft="d", wide=Decimal("1.23456"))
    measure.save()
    stamp = Stamp.objects.create(name="s")
    stamp.save()
    stamp.changed = dt.datetime(1999, 1, 1, tzinfo=dt.UTC)
    stamp.save(update_fields=["name"])
    assert_log_is_database()


def test_handlers_that_refresh_and_change_the_instance():
    def before(instance, **kwargs):
        instance.char = f"{instance.char}+"

    def refresh(instance, **kwargs):
        instance.text = "not saved"
        instance.refresh_from_db()
        instance.char = "nor this"

    with receiving(pre_save, Note, before), receiving(post_save, Note, refresh):
        note = Note.objects.create(char="a")
        assert_log_is_database()
        note.save()
        note.save(update_fields=["char"])
    assert_log_is_database()
    assert Note.objects.get().char == "nor this+"


def test_a_handler_that_saves_the_same_row_by_another_instance():
    def count(instance, **kwargs):
        if instance.integer < 3:
            other = Note.objects.get(pk=instance.pk)
            other.integer += 1
            other.save()

    with receiving(post_save, Note, count):
        Note.objects.create(integer=0, char="a")
    assert Note.objects.get().integer == 3
    assert_log_is_database()


def test_a_handler_that_deletes_what_was_just_saved():
    def refuse(instance, **kwargs):
        if instance.char == "bad":
            Note.objects.get(pk=instance.pk).delete()

    with receiving(post_save, Note, refuse):
        Note.objects.create(char="bad")
        Note.objects.create(char="good")
    assert_log_is_database()


def test_save_overridden(monkeypatch):
    def save(self, *args, **kwargs):
        self.char = self.char.upper()
        models.Model.save(self, *args, **kwargs)
        self.char = "after"
        if not self.integer:
            self.integer = 1
            models.Model.save(self, update_fields=["integer"])

    monkeypatch.setattr(Note, "save", save)
    Note.objects.create(char="a")
    assert_log_is_database()
    note = Note.objects.get()
    note.save()
    assert_log_is_database()
    assert Note.objects.get().char == "A"


def test_save_base_and_inserting_with_a_given_key():
    Note(pk=77, char="a").save(force_insert=True)
    note = Note(pk=77, char="b")
    note.save(force_update=True)
    Note(pk=78, char="c").save_base(raw=True)
    Note(pk=78, integer=4).save()  # overwrites all
    restaurant = Restaurant.objects.create(name="r", stars=1)
    Restaurant(place_ptr_id=restaurant.pk, name="s", stars=5).save()
    place = Place.objects.create(name="p")
    late = Restaurant(place_ptr=place, stars=2)
    late.save_base(raw=True)
    assert_log_is_database()
    promoted = Restaurant(place_ptr=place)
    promoted.__dict__.update({**vars(place), "_state": promoted._state})
    promoted.save()
    assert_log_is_database()


def test_a_primary_key_that_changes_makes_another_row():
    parcel = Parcel.objects.create(code="a", weight="1.5")
    parcel.pk = "b"
    parcel.save()
    ticket = Ticket.objects.create(code="t")
    ticket.pk = "u"
    ticket.follows_id = "t"
    ticket.save()
    Seat.objects.create(hall=1, number="2")
    note = Note.objects.create(char="a")
    note.pk = None
    note._state.adding = True
    note.save()
    assert Parcel.objects.count() == Ticket.objects.count() == Note.objects.count() == 2
    assert_log_is_database()


# --- transactions -----------------------------------------------------------------------------------------------------


def test_savepoints_that_are_rolled_back():
    note = Note.objects.create(char="a")
    with transaction.atomic():
        note.char = "outer"
        note.save()
        with suppress(KeyError), transaction.atomic():
            note.char = "inner"
            note.save()
            Tag.objects.create(name="inner")
            Person.objects.create(name="p").tags.add(Tag.objects.get())
            raise KeyError
        with transaction.atomic():
            Tag.objects.create(name="kept")
            with suppress(KeyError), transaction.atomic():
                Tag.objects.get(name="kept").delete()
                raise KeyError
    saved = connections["default"].savepoint()
    Note.objects.create(char="gone")
    connections["default"].savepoint_rollback(saved)
    saved = connections["default"].savepoint()
    Note.objects.create(char="stays")
    connections["default"].savepoint_commit(saved)
    assert sorted(Note.objects.values_list("char", flat=True)) == ["outer", "stays"]
    assert_log_is_database()


@autocommit
def test_nested_blocks_in_autocommit():
    with suppress(KeyError), transaction.atomic():
        Note.objects.create(char="a")
        with transaction.atomic(savepoint=False):
            Tag.objects.create(name="a")
            raise KeyError
    with transaction.atomic():
        with transaction.atomic(durable=False):
            Note.objects.create(char="b")
        with suppress(KeyError), transaction.atomic():
            Note.objects.get().delete()
            raise KeyError
    Note.objects.create(char="c")
    assert sorted(Note.objects.values_list("char", flat=True)) == ["b", "c"]
    assert_log_is_database()


@autocommit
def test_what_a_commit_hook_saves():
    with transaction.atomic():
        note = Note.objects.create(char="a")
        transaction.on_commit(lambda: Note.objects.create(char=f"after {note.pk}"))
    assert Note.objects.count() == 2
    assert_log_is_database()


@autocommit
def test_autocommit_switched_off():
    transaction.set_autocommit(False)
    try:
        Note.objects.create(char="gone")
        transaction.rollback()
        Note.objects.create(char="stays")
        transaction.commit()
    finally:
        transaction.set_autocommit(True)
    assert [note.char for note in Note.objects.all()] == ["stays"]
    assert_log_is_database()


# --- managers, also asynchronous --------------------------------------------------------------------------------------


def test_get_or_create_and_update_or_create_through_relations():
    country, _ = Country.objects.get_or_create(code="PL", defaults={"name": "x"})
    Country.objects.get_or_create(code="PL", defaults={"name": "not taken"})
    country.cities.get_or_create(name="a", defaults={"population": 5})
    country.cities.update_or_create(name="a", defaults={"population": F("population") + 5})
    country.cities.update_or_create(name="b", create_defaults={"population": 7}, defaults={"population": 8})
    country.cities.create(name="c", latitude="1.5")
    person = Person.objects.create(name="p")
    person.tags.get_or_create(name="t")
    person.tags.update_or_create(name="t", defaults={"name": "u"})
    person.tags.create(name="v")
    Tag.objects.get(name="v").people.create(name="q")
    Club.objects.create(name="c").members.create(name="m", through_defaults={"role": "chief"})
    Club.objects.get().members.add(person, through_defaults={"role": "clerk"})
    person.friends.add(Person.objects.get(name="q"), Person.objects.get(name="m"))
    person.friends.remove(Person.objects.get(name="m"))
    person.tags.set([])
    assert City.objects.get(name="a").population == 10
    assert_log_is_database()


@autocommit
def test_asynchronous_writing():
    async def work():
        country = await Country.objects.acreate(code="PL")
        country.name = "x"
        await country.asave()
        await country.asave(update_fields=["name"])
        city, _ = await City.objects.aget_or_create(name="a", country=country)
        await City.objects.aget_or_create(name="a", country=country)
        await City.objects.aupdate_or_create(name="a", country=country, defaults={"population": 9})
        await country.cities.acreate(name="b")
        await country.cities.aupdate_or_create(name="b", defaults={"extra": {"a": 1}})
        await city.adelete()
        person = await Person.objects.acreate(name="p")
        tags = [await Tag.objects.acreate(name=name) for name in "abc"]
        await person.tags.aadd(*tags)
        await person.tags.aremove(tags[0])
        await person.tags.aset(tags[:1])
        await tags[2].people.aset([person])
        await person.tags.aget_or_create(name="d")
        await person.friends.aadd(await Person.objects.acreate(name="q"))
        await Tag.objects.filter(name="b").adelete()
        other = await Person.objects.acreate(name="r")
        await other.tags.aadd(tags[0])
        await other.tags.aclear()
        await asyncio.gather(*(Note.objects.acreate(char=str(number)) for number in range(5)))
        await sync_to_async(close_connections)()

    asyncio.run(work())
    assert Note.objects.count() == 5
    assert_log_is_database()


def test_deletions():
    country = Country.objects.create(code="PL")
    City.objects.create(name="a", country=country)
    team = Team.objects.create(name="t")
    team.captain = Player.objects.create(team=team)
    team.save()
    boss = Person.objects.create(name="b")
    staff = Person.objects.create(name="s", boss=boss)
    Profile.objects.create(person=boss, bio="x")
    Device.objects.create(name="d", owner=boss)
    boss.tags.add(Tag.objects.create(name="t"))
    boss.friends.add(staff)
    Membership.objects.create(person=boss, club=Club.objects.create(name="c"))
    keeper = Keeper.objects.create(badge="k")
    Comment.objects.create(about=keeper, text="goes along")
    Parcel.objects.create(code="p", sender=boss)
    dog = Dog.objects.create(name="d", chip="c", keeper=keeper)
    dog.likes.add(dog)
    label = Label.objects.create(name="l")
    Sticker.objects.create(label=label)
    Leaf.objects.create(name="leaf", owner=label)
    question = Question.objects.create(text="q")
    for text in "ab":
        Answer.objects.create(question=question, text=text)
    question.set_answer_order([answer.pk for answer in question.answer_set.order_by("-pk")])
    assert_log_is_database_but_for(Answer)
    boss.delete()
    country.delete()
    team.delete()
    keeper.delete()
    Label.objects.filter(name="l").delete()
    assert_log_is_database_but_for(Answer)
    Dog.objects.get().delete()
    Question.objects.all().delete()
    Tag.objects.all().delete()
    Middle.objects.all().delete()
    assert not Base.objects.exists()
    assert_log_is_database()


def assert_log_is_database_but_for(model):
    """Django numbers the rows of *model* by ``bulk_update``, which tells nobody (and is documented so)."""
    for each in QuerySet(model):
        each.save()
    assert_log_is_database()


# --- forms, formsets, the admin, fixtures -----------------------------------------------------------------------------


def test_forms_and_formsets():
    form = modelform_factory(Note, fields=["integer", "price", "moment", "data", "char_null"])(
        {"integer": " 5", "price": "1.50", "moment": "2024-01-02 03:04", "data": '{"a": 1.50}', "char_null": ""}
    )
    form.save()
    assert_log_is_database()
    tags = [Tag.objects.create(name=name) for name in "abc"]
    form = modelform_factory(Person, fields=["name", "tags"])({"name": "p", "tags": [tags[0].pk, tags[1].pk]})
    person = form.save(commit=False)
    person.save()
    form.save_m2m()
    form = modelform_factory(Person, fields=["name", "tags"])({"name": "p", "tags": [tags[2].pk]}, instance=person)
    form.save()
    assert [tag.name for tag in person.tags.all()] == ["c"]
    assert_log_is_database()

    data = {"form-TOTAL_FORMS": 3, "form-INITIAL_FORMS": 3, "form-0-DELETE": "on"}
    for number, tag in enumerate(tags):
        data |= {f"form-{number}-id": tag.pk, f"form-{number}-name": f"{tag.name}{tag.name}"}
    modelformset_factory(Tag, fields=["name"], can_delete=True)(data).save()
    assert sorted(Tag.objects.values_list("name", flat=True)) == ["bb", "cc"]
    assert_log_is_database()

    club = Club.objects.create(name="c")
    data = {"membership_set-TOTAL_FORMS": 1, "membership_set-INITIAL_FORMS": 0}
    data |= {"membership_set-0-person": person.pk, "membership_set-0-role": "chief"}
    formset = inlineformset_factory(Club, Membership, fields=["person", "role"])(data, instance=club)
    assert formset.is_valid()
    formset.save()
    assert Membership.objects.get().role == "chief"
    assert_log_is_database()


@pytest.fixture
def site(client, settings):
    """An admin with what a project registers."""

    class Cities(admin.TabularInline):
        model = City
        fields = ["name", "population"]

    class Memberships(admin.StackedInline):
        model = Membership

    class Countries(admin.ModelAdmin):
        inlines = [Cities]

    class Clubs(admin.ModelAdmin):
        inlines = [Memberships]

    class Persons(admin.ModelAdmin):
        filter_horizontal = ["tags"]
        exclude = ["friends"]

    class Notes(admin.ModelAdmin):
        list_display = ["pk", "char"]
        list_editable = ["char"]

    own = admin.AdminSite()
    for model, options in {Country: Countries, Club: Clubs, Person: Persons, Note: Notes}.items():
        own.register(model, options)
    settings.ROOT_URLCONF = ModuleType("urls_of_an_own_admin")
    settings.ROOT_URLCONF.urlpatterns = [path("admin/", own.urls)]
    User.objects.create_superuser("chief", "c@example.org", "pw")
    client.force_login(User.objects.get())
    return client


@pytest.mark.filterwarnings("ignore:The default scheme")  # Django 5.2, of every form with a URL
def test_the_admin_with_inlines(site):
    def post(page, **data):
        answer = site.post(f"/admin/shop/{page}", data)
        assert answer.status_code == 302, answer.context["errors"]

    def inline(name, *rows, initial=0):
        found = {f"{name}-TOTAL_FORMS": len(rows), f"{name}-INITIAL_FORMS": initial}
        for number, row in enumerate(rows):
            found |= {f"{name}-{number}-{key}": value for key, value in row.items()}
        return found

    post("country/add/", code="PL", **inline("cities", {"name": "a", "population": 1}, {"name": "b", "population": 2}))
    country = Country.objects.get()
    assert_log_is_database()
    a, b = City.objects.order_by("name")
    rows = (
        {"id": a.pk, "country": country.pk, "name": "z", "population": 3},
        {"id": b.pk, "country": country.pk, "name": "b", "population": 2, "DELETE": "on"},
        {"id": "", "country": country.pk, "name": "c", "population": 4},
    )
    post(f"country/{country.pk}/change/", code="DE", **inline("cities", *rows, initial=2))
    assert sorted(City.objects.values_list("name", flat=True)) == ["c", "z"]
    assert_log_is_database()

    tags = [Tag.objects.create(name=name) for name in "ab"]
    post("person/add/", name="p", tags=[tag.pk for tag in tags])
    person = Person.objects.get()
    post("club/add/", name="club", **inline("membership_set", {"person": person.pk, "role": "r"}))
    post(f"person/{person.pk}/change/", name="q", boss=person.pk, tags=[tags[1].pk])
    assert_log_is_database()

    notes = [Note.objects.create(char=char) for char in "ab"]
    rows = ({"id": note.pk, "char": note.char * 2} for note in reversed(notes))
    post("note/", **inline("form", *rows, initial=2), _save="1")
    assert sorted(Note.objects.values_list("char", flat=True)) == ["aa", "bb"]
    post("note/", action="delete_selected", _selected_action=[notes[0].pk], post="yes")
    post(f"country/{country.pk}/delete/", post="yes")
    assert (Note.objects.count(), City.objects.count()) == (1, 0)
    assert_log_is_database()


def test_accounts_and_their_rights():
    user = User.objects.create_user("ann", "a@example.org", "pw")
    user.user_permissions.set(Permission.objects.all()[:3])
    user.set_password("other")
    user.save()
    assert user.check_password("other")
    first, second, *_ = user.user_permissions.all()
    user.user_permissions.remove(first)
    second.delete()
    assert user.user_permissions.count() == 1
    assert_log_is_database()


def test_fixtures(tmp_path):
    fixture = [
        {"model": "shop.country", "pk": 5, "fields": {"code": "PL", "name": "x"}},
        {"model": "shop.city", "pk": 6, "fields": {"name": "a", "country": ["PL"], "latitude": "1.50", "visits": 3}},
        {"model": "shop.tag", "pk": 7, "fields": {"name": "t"}},
        {"model": "shop.person", "pk": 8, "fields": {"name": "p", "tags": [["t"]], "friends": [9], "boss": 9}},
        {"model": "shop.person", "pk": 9, "fields": {"name": "q", "friends": [8]}},
        {"model": "shop.place", "pk": 10, "fields": {"name": "r"}},
        {"model": "shop.restaurant", "pk": 10, "fields": {"stars": 4}},
        {
            "model": "shop.stamp",
            "pk": 11,
            "fields": {"created": "2001-01-01T00:00:00Z", "changed": "2001-01-01T01:00Z"},
        },
        {"model": "shop.note", "pk": 12, "fields": {"data": {"a": None}, "price": "1.5", "blob": "AAE="}},
        {"model": "zoo.creature", "pk": 13, "fields": {"name": "d"}},
        {"model": "zoo.animal", "pk": 13, "fields": {"legs": 3}},
        {"model": "zoo.dog", "pk": 13, "fields": {"chip": "c"}},
    ]
    file = tmp_path / "fixture.json"
    file.write_text(json.dumps(fixture))
    call_command("loaddata", str(file), verbosity=0)
    assert_log_is_database()
    fixture[0]["fields"]["name"] = "y"
    fixture[3]["fields"] |= {"tags": [], "friends": []}
    fixture[6]["fields"]["stars"] = 5
    fixture[9]["fields"]["name"] = "e"
    file.write_text(json.dumps(fixture))
    call_command("loaddata", str(file), verbosity=0)
    assert Restaurant.objects.get().stars == 5
    assert_log_is_database()


def test_the_other_database():
    """Of another alias the log is that database's."""
    Note.objects.using("hq").create(integer=Value(1) + 1)
    assert log() == []
    (entry,) = log(using="hq")
    pk = Note.objects.using("hq").get().pk
    assert decoded(Note, entry.state) == row_values(Note, pk, "hq")
    assert connections["hq"].alias == "hq"
