"""synchro's pages in the admin: what they show, who may see them, and what they ask the database."""

import re
from html import unescape
from itertools import chain
from pathlib import Path

import pytest
from django.contrib import admin
from django.contrib.auth.models import Permission, User
from django.db import connection
from django.db.models import Value
from django.db.models.functions import Concat
from django.test import Client, override_settings
from django.test.utils import CaptureQueriesContext
from django.urls import path, reverse
from django.utils.html import escape

from synchro import acting, conflicts, export_bundle
from synchro.admin import SynchroHistoryMixin, leafing, register
from synchro.models import Bundle, ChangeLog, Conflict, Destination, Held, Node
from tests.app.deploy import carry, take, write
from tests.project.shop.models import City, Country, Device, Note, Person, Restaurant, Tag

urlpatterns = [path("admin/", admin.site.urls)]

pytestmark = [pytest.mark.django_db(databases=["default", "hq", "ship"]), pytest.mark.urls(__name__)]

LOG = "/admin/synchro/changelog/"
TABLES = [ChangeLog, Bundle, Conflict, Destination, Held, Node]


def person(name, *permissions, **kwargs):
    made = User.objects.create_user(name, password="x", **{"is_staff": True, **kwargs})
    wanted = Permission.objects.filter(codename__in=permissions, content_type__app_label__in=["synchro", "shop"])
    assert len(wanted) == len(permissions)
    made.user_permissions.set(wanted)
    browser = Client()
    browser.force_login(made)
    return browser


@pytest.fixture
def boss():
    return person("boss", is_superuser=True)


@pytest.fixture
def folder(settings, tmp_path):
    settings.SYNCHRO_ADMIN_FOLDER = tmp_path / "private"
    return tmp_path / "private"


def text(response):
    assert response.status_code == 200, response
    return re.sub(r"\s+", " ", re.sub(r"<[^>]+>", " ", response.content.decode()))


def content(response):
    """What is downloaded; the client closes the file at its end."""
    return b"".join(response.streaming_content)


def rows(response):
    """The cells of a list, row by row."""
    body = response.content.decode().partition('<table id="result_list">')[2].partition("</table>")[0]
    found = []
    for row in body.split("<tr>")[2:]:
        cells = re.findall(r"<t[dh][^>]*>(.*?)</t[dh]>", row, re.DOTALL)
        found.append([re.sub(r"\s+", " ", re.sub(r"<[^>]+>", "", cell)).strip() for cell in cells])
    return found


def listed(browser, **parameters):
    """What and who of the rows in the log."""
    return [(row[3], row[4]) for row in rows(browser.get(LOG, parameters))]


# --- who gets in ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("model", TABLES)
def test_each_table_asks_for_its_permission_and_cannot_be_edited(model):
    name = model._meta.model_name
    address = f"/admin/synchro/{name}/"
    assert person("nobody").get(address).status_code == 403
    assert Client().get(address).url.startswith("/admin/login/")
    browser = person("viewer", f"view_{name}")
    assert browser.get(address).status_code == 200
    assert browser.get(f"{address}add/").status_code == 403
    assert browser.post(f"{address}1/delete/", {"post": "yes"}).status_code in (302, 403)


def test_even_the_boss_edits_nothing(boss):
    Tag.objects.create(name="red")
    change = ChangeLog.objects.get()
    assert boss.post(f"{LOG}{change.pk}/change/", {"action": "delete"}).status_code == 403
    assert boss.post(f"{LOG}{change.pk}/delete/", {"post": "yes"}).status_code == 403
    assert ChangeLog.objects.get().action == "add"


@pytest.mark.parametrize("model", TABLES)
def test_what_is_empty_says_so(boss, model):
    page = text(boss.get(f"/admin/synchro/{model._meta.model_name}/"))
    assert escape(str(admin.site.get_model_admin(model).empty)) in page


# --- the log ----------------------------------------------------------------------------------------------------------


@pytest.fixture
def filled():
    poland = Country.objects.create(code="PL", name="Polska")
    with acting("ann", reason="round"):
        City.objects.create(name="Wrocław", country=poland)
    with acting("ben"):
        Tag.objects.create(name="red").delete()
    person_ = Person.objects.create(name="Ola")
    person_.tags.add(Tag.objects.create(name="blue"))


def test_the_log_shows_the_newest_first(boss, filled):
    keyless = str(Person.objects.get().pk)
    assert listed(boss) == [
        (keyless, "-"),
        ("blue", "-"),
        (keyless, "-"),
        ("red", "ben"),
        ("red", "ben"),
        ("Wrocław · PL", "ann"),
        ("PL", "-"),
    ]


@pytest.mark.parametrize(
    ("parameters", "found"),
    [
        ({"model": "shop.country"}, ["PL"]),
        ({"action__exact": "delete"}, ["red"]),
        ({"who": "ann"}, ["Wrocław · PL"]),
        ({"who": "nobody"}, []),
        ({"from": "2000-01-01", "to": "2000-01-02"}, []),
        ({"from": "2000-01-01", "who": "ben"}, ["red", "red"]),
        ({"from": "no date", "who": "ann"}, ["Wrocław · PL"]),
        ({"q": "Wroc"}, ["Wrocław · PL"]),
        ({"q": "PL"}, ["Wrocław · PL", "PL"]),
        ({"q": "PL", "model": "shop.country"}, ["PL"]),
        ({"q": "nothing has this key"}, []),
    ],
)
def test_the_log_is_filtered_and_searched(boss, filled, parameters, found):
    assert [name for name, _ in listed(boss, **parameters)] == found


def test_a_filter_keeps_the_others(boss, filled):
    page = boss.get(LOG, {"who": "ben", "action__exact": "delete", "q": "red"}).content.decode()
    form = page.partition('class="synchro-filter"')[2].partition("</form>")[0]
    assert 'name="action__exact" value="delete"' in form
    assert 'name="q" value="red"' in form
    assert 'name="who" id="synchro-filter-who" value="ben"' in form


def test_an_object_is_found_by_its_id_in_bundles(boss):
    Person.objects.using("hq").create(name="Ola")
    data, report = write("hq")
    take(data, "default")
    ident = f"{report.node}/{Person.objects.using('hq').get().pk}"
    Person.objects.create(name="another")
    assert len(listed(boss, q=ident)) == 1
    assert [row[5] for row in rows(boss.get(LOG, {"q": ident}))] == [report.node]


def test_the_origin_can_be_chosen(boss):
    Tag.objects.using("hq").create(name="theirs")
    carry("hq", "default")
    Tag.objects.create(name="ours")
    theirs = Node.objects.get(own=False)
    assert [name for name, _ in listed(boss, node=str(theirs.pk))] == ["theirs"]
    own = Node.objects.get(own=True)
    assert [name for name, _ in listed(boss, node=str(own.pk))] == ["ours"]


def test_a_change_has_a_page(boss, filled):
    change = ChangeLog.objects.get(actor="ann")
    page = text(boss.get(f"{LOG}{change.pk}/change/"))
    assert "round" in page
    assert "Wrocław · PL" in page


def test_the_number_of_queries_does_not_grow(boss, django_assert_num_queries, django_assert_max_num_queries):
    def asked():
        with CaptureQueriesContext(connection) as queries:
            assert boss.get(LOG).status_code == 200
        return queries

    for number in range(3):
        Tag.objects.create(name=f"few {number}")
    few = asked()
    for number in range(60):
        Tag.objects.create(name=f"many {number}")
    many = asked()
    assert len(many) == len(few)


# What reads a table of synchro's that can be large: a query, and how the databases say that it uses an index.
LARGE = re.compile(r'["`]synchro_(change|bundle|conflict|held|objectreference|version)["`]')
WHOLE = re.compile(r'(^SCAN|Seq Scan on) "?synchro_(change|bundle|conflict|held|objectreference|version)\b')
QUERIES = "", "p=40", "model=shop.tag", "action__exact=delete", "who=ann", "node=1", "q=tag 7"
ASKED = [
    *(f"{LOG}?{query}" for query in QUERIES),
    f"{LOG}?from=2020-01-01&to=2099-01-01",
    f"{LOG}?who=nobody&model=shop.tag&action__exact=change&node=1&from=2020-01-01",
    *(
        f"/admin/synchro/bundle/{query}"
        for query in ("", "?direction__exact=sent", "?destination=hq", "?node=1", "?q=x")
    ),
    *(f"/admin/synchro/conflict/{query}" for query in ("", "?state=all", "?state=decided&model=shop.tag", "?q=x")),
    "/admin/synchro/held/",
    "/admin/synchro/node/",
    "/admin/synchro/destination/",
    "/admin/synchro/changelog/object/shop.tag/1/",
    "/admin/synchro/destination/export/",
    "/admin/synchro/destination/import/",
]


@pytest.mark.parametrize("address", ASKED)
def test_no_page_reads_a_whole_table(boss, tmp_path, address):
    """As plans tell it: a million changes make no page slower."""
    for number in range(60):
        Tag.objects.create(name=f"tag {number}")
    export_bundle(tmp_path / "a.jsonl.zst")
    with CaptureQueriesContext(connection) as queries:
        assert boss.get(address).status_code == 200
    asked = [each["sql"] for each in queries if LARGE.search(each["sql"]) and each["sql"].startswith("SELECT")]
    assert asked or "destination" in address or "node/" in address
    for sql in asked:
        assert not re.search(r"COUNT\(|DISTINCT", sql)
        for line in plan(sql):
            assert not WHOLE.search(line), (line, sql)
            # In the order of the primary key, without sorting what was found.
            assert "q=" in address or "object/" in address or "USE TEMP B-TREE FOR ORDER" not in line, sql


def plan(sql):
    """The lines of what the database says that it would do; none where it cannot be asked about small tables."""
    with connection.cursor() as cursor:
        if connection.vendor == "sqlite":
            cursor.execute(f"EXPLAIN QUERY PLAN {sql}")
        elif connection.vendor == "postgresql":
            cursor.execute("SET LOCAL enable_seqscan = off")  # it reads small tables as a whole, if it can do otherwise
            cursor.execute(f"EXPLAIN {sql}")
        else:
            return []
        return [row[-1] for row in cursor.fetchall()]


@pytest.mark.parametrize(("asked", "few"), [("", 0), ("?model=shop.tag", 0), ("?model=shop.tag", 500), ("?q=x", 500)])
def test_one_leafs_to_the_oldest(boss, monkeypatch, asked, few):
    """Also among what an index finds, whether that is little or much."""
    monkeypatch.setattr(leafing, "FEW", few)
    monkeypatch.setattr(leafing, "_CHUNK", 7)
    for number in range(120):
        Tag.objects.create(name=f"{number:03}")
    if "q=" in asked:
        Tag.objects.update(name=Concat(Value("x"), "name"))
    found, address = [], LOG + asked
    while address:
        page = boss.get(address).content.decode()
        found.append(re.findall(r'#change-\d+">x?(\d+)<', page))
        after = re.search(r'<a href="(\?[^"]*)" rel="next">Older<', page)
        address = LOG + unescape(after[1]) if after else None
        assert ("Newest</a>" in page) == (len(found) > 1)
    assert [len(each) for each in found] == [50, 50, 20]
    assert list(chain(*found)) == [f"{number:03}" for number in reversed(range(120))]


def test_what_is_rare_is_looked_for_in_slices(boss, monkeypatch):
    monkeypatch.setattr(leafing, "SLICE", 7)
    with acting("ann"):
        Tag.objects.create(name="first")
    for number in range(100):
        Tag.objects.create(name=f"tag {number}")
    assert listed(boss, who="ann") == [("first", "ann")]
    assert len(listed(boss)) == 50
    assert listed(boss, q="first") == [("first", "ann")]
    assert listed(boss, who="nobody") == []


def test_what_an_index_finds_few_of_is_found_at_once(boss, monkeypatch):
    Tag.objects.using("hq").create(name="theirs")
    carry("hq", "default")
    with acting("ann"):
        Country.objects.create(code="PL")
    for number in range(60):
        Tag.objects.create(name=f"tag {number}")
    monkeypatch.setattr(leafing, "SLICE", 3)
    monkeypatch.setattr(leafing, "SECONDS", -1)
    theirs = Node.objects.get(own=False).pk
    assert listed(boss, model="shop.country", who="ann") == [("PL", "ann")]
    assert listed(boss, model="shop.country", who="ben") == []
    assert [name for name, _ in listed(boss, node=str(theirs))] == ["theirs"]
    assert [name for name, _ in listed(boss, q="theirs")] == ["theirs"]
    assert boss.get(LOG, {"node": str(10**30)}).status_code == boss.get(LOG, {"node": "²"}).status_code == 200
    assert listed(boss, model="no.such") == []


def test_an_object_that_was_born_here_is_found_by_its_id_and_no_other_of_its_number(boss, tmp_path):
    first = Person.objects.create(name="Ola")
    export_bundle(tmp_path / "a.jsonl.zst")
    here = Node.objects.get(own=True).ident
    assert len(listed(boss, q=f"{here}/{first.pk}")) == 1
    Person.objects.using("hq").create(name="Ben")
    carry("hq", "default")
    theirs = Person.objects.exclude(pk=first.pk).get()
    assert listed(boss, q=f"{here}/{theirs.pk}") == []


def test_a_search_that_takes_long_stops_and_goes_on(boss, monkeypatch):
    monkeypatch.setattr(leafing, "SLICE", 40)
    monkeypatch.setattr(leafing, "SECONDS", -1)
    with acting("ann"):
        Tag.objects.create(name="first")
    for number in range(100):
        Tag.objects.create(name=f"tag {number}")
    asked = {"who": "ann"}
    for _number in range(2):
        page = boss.get(LOG, asked).content.decode()
        assert rows(boss.get(LOG, asked)) == []
        assert "what is older was not looked at yet" in page
        further = re.search(r'<a href="\?([^"]*)" rel="next">Look further back<', page)
        asked = dict(pair.split("=") for pair in unescape(further[1]).split("&"))
        assert asked["who"] == "ann"
    assert listed(boss, **asked) == [("first", "ann")]
    assert "Look further back" not in boss.get(LOG, asked).content.decode()


@pytest.mark.parametrize("page", ["0", "-5", "x", str(2**63), str(10**30)])
def test_a_page_that_there_is_not_is_the_newest(boss, page):
    Tag.objects.create(name="red")
    assert listed(boss, p=page) == [("red", "-")]


def test_bundles_are_filtered_by_whom_they_are_for_and_from(boss, tmp_path):
    Tag.objects.create(name="red")
    export_bundle(tmp_path / "a.jsonl.zst", to="hq")
    export_bundle(tmp_path / "b.jsonl.zst", to="ship")
    own, other = Node.objects.get(), Node.objects.create(ident="other-00000001", name="other")
    bundles = "/admin/synchro/bundle/"
    assert [row[0] for row in rows(boss.get(bundles, {"destination": "hq"}))] == ["a.jsonl.zst"]
    assert len(rows(boss.get(bundles, {"node": own.pk}))) == 2
    assert rows(boss.get(bundles, {"node": other.pk})) == []


def test_the_way_to_a_page_names_what_is_on_it(boss, waiting, tmp_path):
    def last_step(model, pk):
        page = boss.get(f"/admin/synchro/{model}/{pk}/change/").content.decode()
        way = re.search(r'class="breadcrumbs">(.*?)</(?:div|ol)>', page, re.DOTALL)[1]
        return re.sub(r"<[^>]+>|&rsaquo;", "\n", way).strip().splitlines()[-1].strip()

    export_bundle(tmp_path / "a.jsonl.zst", to="hq")
    assert last_step("bundle", Bundle.objects.get(file=str(tmp_path / "a.jsonl.zst")).pk) == "a.jsonl.zst"
    assert last_step("bundle", Bundle.objects.get(direction="received").pk) == "(no file)"
    assert last_step("conflict", waiting.pk) == "PL"
    newest = ChangeLog.objects.latest("pk").pk
    assert last_step("changelog", newest) == rows(boss.get(LOG))[0][0]


# --- the history of an object -----------------------------------------------------------------------------------------


def history(browser, obj):
    return browser.get(reverse("admin:synchro_history", args=(obj._meta.label_lower, obj.pk)))


def differences(response):
    tables = re.findall(
        r'<table class="synchro-differences">.*?<tbody>(.*?)</tbody>', response.content.decode(), re.DOTALL
    )
    return [
        [
            [re.sub(r"<[^>]+>", "", cell).strip() for cell in re.findall(r"<t[dh].*?>(.*?)</t[dh]>", row, re.DOTALL)]
            for row in re.findall(r"<tr>(.*?)</tr>", table, re.DOTALL)
        ]
        for table in tables
    ]


def test_a_history_tells_field_by_field_what_was_changed(boss):
    poland = Country.objects.create(code="PL")
    with acting("ann", reason="found out"):
        city = City.objects.create(name="Wrocław", country=poland)
        city.population = 674_079
        city.country = Country.objects.create(code="DE")
        city.save()
    response = history(boss, city)
    page = text(response)
    assert "ann" in page
    assert "found out" in page
    changed, added = differences(response)
    assert changed == [["Country", "PL", "DE"], ["Population", "0", "674079"]]
    assert ["Name", "Wrocław"] in added


def test_a_history_goes_on_across_places(boss):
    note = Note.objects.create(char="first", done=False)
    carry("default", "hq")
    theirs = Note.objects.using("hq").get()
    theirs.char, theirs.done = "second", True
    with acting("ben"):
        theirs.save()
    carry("hq", "default")
    note.refresh_from_db()
    note.char = "third"
    note.save()
    response = history(boss, note)
    assert differences(response)[:2] == [
        [["Char", "second", "third"]],
        [["Done", "No", "Yes"], ["Char", "first", "second"]],
    ]
    assert "ben" in text(response)


def test_a_history_has_links_deletions_and_what_they_were(boss):
    ola = Person.objects.create(name="Ola")
    ola.tags.add(Tag.objects.create(name="blue"))
    pk = ola.pk
    ola.delete()
    page = text(boss.get(reverse("admin:synchro_history", args=("shop.person", pk))))
    assert "blue" in page
    assert "deletion" in page


def test_a_history_of_more_tables_and_of_other_keys(boss):
    place = Restaurant.objects.create(name="Inn", stars=2)
    place.stars = 3
    place.save()
    assert differences(history(boss, place))[0] == [["Stars", "2", "3"]]
    device = Device.objects.create(name="ECG")
    assert "ECG" in text(history(boss, device))


def test_a_history_leafs_and_does_not_ask_more_for_more_changes(boss):
    note = Note.objects.create(char="0")

    def asked():
        with CaptureQueriesContext(connection) as queries:
            assert history(boss, note).status_code == 200
        return len(queries)

    few = asked()
    for number in range(60):
        note.char = str(number)
        note.save()
    assert asked() == few
    second = boss.get(reverse("admin:synchro_history", args=("shop.note", note.pk)), {"p": "2"})
    assert "page 2 of 3" in text(second)
    assert len(differences(second)) == 25


def test_a_history_needs_the_permission_and_an_object():
    note = Note.objects.create()
    assert history(person("nobody", "view_bundle"), note).status_code == 403
    browser = person("auditor", "view_changelog")
    assert history(browser, note).status_code == 200
    assert browser.get(reverse("admin:synchro_history", args=("shop.unknown", 1))).status_code == 404
    assert "Nothing was recorded" in text(browser.get(reverse("admin:synchro_history", args=("shop.note", 987))))


# --- bundles ----------------------------------------------------------------------------------------------------------


def test_a_bundle_is_downloaded_where_its_file_still_is(boss, tmp_path, folder):
    Tag.objects.create(name="red")
    report = export_bundle(tmp_path)
    bundle = Bundle.objects.get()
    address = f"/admin/synchro/bundle/{bundle.pk}/"
    page = boss.get(f"{address}change/")
    assert "Download" in text(page)
    response = boss.get(f"{address}download/")
    assert content(response) == Path(report.file).read_bytes()
    assert "attachment" in response["Content-Disposition"]


def test_what_lies_at_the_path_by_now_is_not_given_away(boss, tmp_path, folder):
    Tag.objects.create(name="red")
    report = export_bundle(tmp_path)
    bundle = Bundle.objects.get()
    Path(report.file).write_bytes(b"a secret")
    assert "not on this server any more" in text(boss.get(f"/admin/synchro/bundle/{bundle.pk}/change/"))
    assert boss.get(f"/admin/synchro/bundle/{bundle.pk}/download/").status_code == 302
    (tmp_path / "link").symlink_to(report.file)
    Bundle.objects.update(file=str(tmp_path / "link"))
    assert boss.get(f"/admin/synchro/bundle/{bundle.pk}/download/").status_code == 302


def test_a_bundle_is_written_again_byte_for_byte(boss, folder):
    Tag.objects.create(name="red")
    data, _ = write(to="hq")
    bundle = Bundle.objects.get()
    seq = Destination.objects.get().seq
    again = boss.post(f"/admin/synchro/bundle/{bundle.pk}/again/", follow=True)
    assert "written again" in text(again)
    new = Bundle.objects.latest("pk")
    response = boss.get(f"/admin/synchro/bundle/{new.pk}/download/")
    assert content(response) == data
    assert Destination.objects.get().seq == seq


def test_a_bundle_that_came_from_elsewhere_says_where_to_ask(boss, folder):
    Tag.objects.using("hq").create(name="red")
    carry("hq", "default")
    bundle = Bundle.objects.get()
    assert "Ask for it there" in text(boss.get(f"/admin/synchro/bundle/{bundle.pk}/change/"))
    assert boss.post(f"/admin/synchro/bundle/{bundle.pk}/again/").status_code == 404


def test_downloads_need_both_permissions(tmp_path, folder):
    Tag.objects.create(name="red")
    export_bundle(tmp_path)
    bundle = Bundle.objects.get()
    for number, permissions in enumerate([("view_bundle",), ("can_export",)]):
        browser = person(f"one{number}", *permissions)
        assert browser.get(f"/admin/synchro/bundle/{bundle.pk}/download/").status_code == 403
        assert browser.post(f"/admin/synchro/bundle/{bundle.pk}/again/").status_code == 403
    browser = person("viewer", "view_bundle", "can_export")
    assert content(browser.get(f"/admin/synchro/bundle/{bundle.pk}/download/")) == Path(bundle.file).read_bytes()


# --- nodes, destinations, what is held --------------------------------------------------------------------------------


def test_nodes_and_destinations_tell_where_they_stand(boss):
    Tag.objects.create(name="red")
    carry("default", "hq")
    Tag.objects.using("hq").create(name="blue")
    carry("hq", "default")
    nodes = rows(boss.get("/admin/synchro/node/"))
    assert [row[3] for row in nodes] == ["up to 2", "imported up to 2"]
    assert [row[4] for row in nodes] == ["—", "up to 1"]
    (destination,) = rows(boss.get("/admin/synchro/destination/"))
    assert destination[0] == "hq"
    assert destination[3] == "1"
    for name in ("node", "destination"):
        pk = (Node if name == "node" else Destination).objects.last().pk
        assert boss.get(f"/admin/synchro/{name}/{pk}/change/").status_code == 200


def test_what_is_held_says_why(boss):
    Tag.objects.using("hq").create(name="red")
    City.objects.using("hq").create(name="X", country=Country.objects.using("hq").create(code="XX"))
    data, _ = write("hq")
    with override_settings(SYNCHRO_ACCEPT={"*": [("shop", "tag")]}):
        take(data, "default")
    (first, *_) = rows(boss.get("/admin/synchro/held/"))
    assert first[4]
    assert boss.get(f"/admin/synchro/held/{Held.objects.first().pk}/change/").status_code == 200


# --- conflicts --------------------------------------------------------------------------------------------------------


@pytest.fixture
def waiting():
    """One that waits here."""
    poland = Country.objects.create(code="PL", name="Poland")
    carry("default", "hq")
    theirs = Country.objects.using("hq").get()
    theirs.name = "Polska"
    with acting("ben", reason="spelling"):
        theirs.save()
    poland.name = "Rzeczpospolita"
    with acting("ann"):
        poland.save()
    take(write("hq")[0], "default", on_conflict="hold")
    return Conflict.objects.get()


def decide(browser, conflict, how, *, confirm=True, **chosen):
    first = browser.post(f"/admin/synchro/conflict/{conflict.pk}/decide/", {"how": how, **chosen})
    if not confirm or first.status_code != 200:
        return first
    seen = re.search(r'name="seen" value="(\w+)"', first.content.decode()).group(1)
    return browser.post(
        f"/admin/synchro/conflict/{conflict.pk}/decide/",
        {"how": how, "seen": seen, "confirm": "yes", **chosen},
        follow=True,
    )


def name():
    return Country.objects.get().name


def test_a_conflict_is_shown_side_by_side(boss, waiting):
    page = text(boss.get(f"/admin/synchro/conflict/{waiting.pk}/change/"))
    for told in ("Polska", "Rzeczpospolita", "ann", "ben", "spelling", "Keep what is here", "Two places changed this"):
        assert told in page


@pytest.mark.parametrize(
    ("how", "chosen", "result"),
    [
        ("take", {}, "Polska"),
        ("keep", {}, "Rzeczpospolita"),
        ("merge", {"choice-name": "incoming"}, "Polska"),
        ("merge", {"choice-name": "here"}, "Rzeczpospolita"),
        ("merge", {"choice-name": "other", "value-name": "Poland"}, "Poland"),
    ],
)
def test_a_conflict_is_decided(boss, waiting, how, chosen, result):
    page = decide(boss, waiting, how, confirm=False, **chosen)
    assert "Are you sure?" in text(page)
    assert name() == "Rzeczpospolita"  # nothing is done yet
    done = decide(boss, waiting, how, **chosen)
    assert "It is decided." in text(done)
    assert name() == result
    decided = conflicts.conflict(waiting.pk)
    assert (decided.resolution, decided.resolved_by) == (how, "boss")
    assert ChangeLog.objects.latest("pk").actor == "boss"
    carry("default", "hq")
    assert Country.objects.using("hq").get().name == result


def test_a_decision_is_not_made_about_what_nobody_saw(boss, waiting):
    page = decide(boss, waiting, "take", confirm=False)
    seen = re.search(r'name="seen" value="(\w+)"', page.content.decode()).group(1)
    here = Country.objects.get()
    here.name = "changed since"
    here.save()
    done = boss.post(
        f"/admin/synchro/conflict/{waiting.pk}/decide/", {"how": "take", "seen": seen, "confirm": "yes"}, follow=True
    )
    assert "Something changed in the meantime" in text(done)
    assert "changed since" in text(done)
    assert name() == "changed since"


def test_a_decision_needs_the_permission_and_a_post(waiting):
    browser = person("viewer", "view_conflict")
    page = browser.get(f"/admin/synchro/conflict/{waiting.pk}/change/")
    assert "You do not have the permission" in text(page)
    assert "Keep what is here" not in text(page)
    assert browser.post(f"/admin/synchro/conflict/{waiting.pk}/decide/", {"how": "take"}).status_code == 403
    decider = person("decider", "view_conflict", "can_resolve")
    assert decider.get(f"/admin/synchro/conflict/{waiting.pk}/decide/?how=take").status_code == 302
    assert name() == "Rzeczpospolita"
    strict = Client(enforce_csrf_checks=True)
    strict.force_login(User.objects.get(username="decider"))
    assert strict.post(f"/admin/synchro/conflict/{waiting.pk}/decide/", {"how": "take"}).status_code == 403


def test_a_decision_that_ends_more_than_is_shown_says_so(boss, waiting):
    more = "There is one more version of this"
    assert more not in text(boss.get(f"/admin/synchro/conflict/{waiting.pk}/change/"))
    shown = boss.post(f"/admin/synchro/conflict/{waiting.pk}/decide/", {"how": "take"})
    seen = re.search(r'name="seen" value="([^"]+)"', shown.content.decode()).group(1)
    theirs = Country.objects.using("hq").get()
    theirs.name = "Polonia"
    theirs.save()
    take(write("hq", since=1)[0], "default", allow_gap=True, on_conflict="hold")
    assert Conflict.objects.filter(held=True).count() == 2
    done = boss.post(
        f"/admin/synchro/conflict/{waiting.pk}/decide/", {"how": "take", "seen": seen, "confirm": "yes"}, follow=True
    )
    assert "Something changed in the meantime" in text(done)
    assert more in text(boss.get(f"/admin/synchro/conflict/{waiting.pk}/change/"))
    assert more in text(decide(boss, waiting, "take", confirm=False))
    decide(boss, waiting, "take")
    assert not Conflict.objects.filter(held=True).exists()


def test_what_is_decided_cannot_be_decided_again(boss, waiting):
    decide(boss, waiting, "keep")
    assert "does not wait" in text(
        boss.post(f"/admin/synchro/conflict/{waiting.pk}/decide/", {"how": "take"}, follow=True)
    )
    assert rows(boss.get("/admin/synchro/conflict/")) == []
    assert "kept, by boss" in rows(boss.get("/admin/synchro/conflict/", {"state": "all"}))[0][3]


def test_a_value_that_does_not_fit_is_told(boss, waiting):
    page = boss.post(
        f"/admin/synchro/conflict/{waiting.pk}/decide/",
        {"how": "merge", "choice-name": "other", "value-name": "x" * 200},
        follow=True,
    )
    assert "Name: Ensure this value has at most 100 characters" in text(page)
    assert name() == "Rzeczpospolita"
    # Nothing has to be chosen or written a second time.
    html = page.content.decode()
    assert re.search(r'name="choice-name" value="other" checked>', html)
    assert f'name="value-name" value="{"x" * 200}"' in html


def test_a_deletion_against_a_change(boss):
    poland = Country.objects.create(code="PL", name="Poland")
    carry("default", "hq")
    Country.objects.using("hq").get().delete()
    poland.name = "Polska"
    poland.save()
    take(write("hq")[0], "default", on_conflict="hold")
    waiting = Conflict.objects.get()
    assert rows(boss.get("/admin/synchro/conflict/"))[0][2] == "deleted in one place, changed in the other"
    page = text(boss.get(f"/admin/synchro/conflict/{waiting.pk}/change/"))
    assert "One place deleted this while the other changed it." in page
    assert "field by field" not in page
    assert "It will be deleted" in text(decide(boss, waiting, "take", confirm=False))
    decide(boss, waiting, "take")
    assert not Country.objects.exists()


def test_a_conflict_about_a_link(boss):
    ola = Person.objects.create(name="Ola")
    tag = Tag.objects.create(name="blue")
    ola.tags.add(tag)
    carry("default", "hq")
    Person.objects.using("hq").get().tags.clear()
    ola.tags.remove(tag)
    ola.tags.add(tag)
    take(write("hq")[0], "default", on_conflict="hold")
    for conflict in Conflict.objects.all():
        page = text(boss.get(f"/admin/synchro/conflict/{conflict.pk}/change/"))
        assert "connected" in page
        if conflict.held:
            decide(boss, conflict, "keep")
    assert list(ola.tags.all()) == [tag]


# --- the link on the pages of objects ---------------------------------------------------------------------------------


class Plain(admin.ModelAdmin):
    pass


class OwnTemplate(admin.ModelAdmin):
    change_form_template = "own_change_form.html"


class WhollyOwn(admin.ModelAdmin):
    change_form_template = "wholly_own.html"


class Unlinked(admin.ModelAdmin):
    synchro_history_link = False


class Mixed(SynchroHistoryMixin, admin.ModelAdmin):
    list_display = ("name", "synchro_history")
    readonly_fields = ("synchro_history",)


LINK = re.compile(r'<a href="([^"]+)">Synchro history</a>')


@pytest.fixture
def shown(settings):
    """Asks for the page of a tag, or the list, as a ModelAdmin of the project shows them."""

    def show(model_admin, browser, address="shop/tag/{}/change/"):
        site = admin.AdminSite(name="theirs")
        site.register(Tag, model_admin)
        register(site)
        settings.ROOT_URLCONF = (path("theirs/", site.urls), path("admin/", admin.site.urls))
        tag, _ = Tag.objects.get_or_create(name="red")
        response = browser.get("/theirs/" + address.format(tag.pk))
        assert response.status_code == 200
        return response.content.decode()

    return show


def test_the_page_of_each_tracked_object_leads_to_its_history(boss, shown):
    page = shown(Plain, boss)
    (address,) = LINK.findall(page)
    assert address.startswith("/theirs/synchro/changelog/object/shop.tag/")
    assert 'class="historylink"' in page  # Django's own is still there
    assert "red" in text(boss.get(address))


def test_templates_of_the_project_stay_what_they_are(boss, shown, settings, tmp_path):
    (tmp_path / "own_change_form.html").write_text(
        '{% extends "admin/change_form.html" %}{% block after_field_sets %}<p>ours</p>{% endblock %}'
    )
    settings.TEMPLATES = [{**settings.TEMPLATES[0], "DIRS": [tmp_path]}]
    page = shown(OwnTemplate, boss)
    assert "<p>ours</p>" in page
    assert LINK.search(page)
    (tmp_path / "wholly_own.html").write_text("<p>{{ original }} wholly ours</p>")
    assert "wholly ours" in shown(WhollyOwn, boss)


def test_the_link_can_be_left_out_and_is_for_those_who_may_view_the_log(boss, shown):
    assert not LINK.search(shown(Unlinked, boss))
    assert not LINK.search(shown(Plain, person("viewer", "view_tag")))
    assert LINK.search(shown(Plain, person("auditor", "view_tag", "view_changelog")))


def test_the_mixin_brings_a_column(boss, shown):
    assert LINK.search(shown(Mixed, boss, "shop/tag/"))
    assert len(LINK.findall(shown(Mixed, boss))) == 2


def test_the_page_for_a_new_object_and_of_what_is_not_tracked_have_none(boss, shown):
    assert not LINK.search(shown(Plain, boss, "shop/tag/add/"))
    user = User.objects.get(username="boss")
    assert not LINK.search(boss.get(f"/admin/auth/user/{user.pk}/change/").content.decode())
