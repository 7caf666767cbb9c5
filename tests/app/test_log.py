"""synchro_log: what happened to one object, from the log and from bundles."""

import io
import json

import pytest
from django.core.files.base import ContentFile
from django.core.files.storage import storages
from django.core.management import CommandError, call_command
from django.utils import timezone

from synchro import acting, export_bundle, timeline
from synchro.models import ChangeLog, Held
from tests.app.deploy import at, carry
from tests.project.shop.models import City, Country, Person, Restaurant, Tag

pytestmark = pytest.mark.django_db(databases=["default", "hq", "ship"])


def run(*args, **options):
    out = io.StringIO()
    call_command("synchro_log", *map(str, args), stdout=out, no_color=True, **options)
    return out.getvalue()


def steps(*args, **options):
    return [json.loads(line) for line in run(*args, "--json", **options).splitlines()]


def refused(*args, **options):
    with pytest.raises(CommandError) as caught:
        run(*args, **options)
    return str(caught.value)


@pytest.fixture
def city():
    with acting("ann", reason="survey", ward=3):
        poland = Country.objects.create(code="PL", name="Polska")
        city = City.objects.create(name="Wrocław", country=poland, population=1)
    with acting("bob"):
        city.population = 2
        city.save()
    return city


@pytest.fixture(params=["log", "bundles"])
def source(request, tmp_path):
    """What says where to read from: the log as it is, or bundles of everything that is in it."""

    def arguments():
        if request.param == "log":
            return ()
        export_bundle(tmp_path / "b.jsonl.zst", to=f"to {len(list(tmp_path.iterdir()))}")
        return ("--from", str(tmp_path))

    return arguments


def test_a_history_tells_who_when_why_and_what(city, source):
    found = steps("shop.city", "Wrocław", "PL", *source())
    assert [(step["action"], step["actor"], step["reason"]) for step in found] == [
        ("add", "ann", "survey"), ("change", "bob", None),
    ]  # fmt: skip
    assert found[0]["context"] == {"ward": 3}
    assert found[0]["fields"]["name"] == {"after": "Wrocław"}
    assert found[0]["fields"]["country"] == {"after": ["PL"]}
    assert found[1]["fields"] == {"population": {"before": 1, "after": 2}}
    assert [step["unaware"] for step in found] == [False, False]


def test_what_is_printed(city, tmp_path):
    said = run("shop.city", "Wrocław", "PL")
    assert said.startswith('shop.city ["Wrocław","PL"] (')
    assert "): 2 changes\n" in said
    assert "  change  not exported yet by bob\n  population: 1 → 2\n" in said
    assert "  with ward 3\n" in said
    report = export_bundle(tmp_path)
    said = run("shop.city", "Wrocław", "PL", "--from", report.file)
    assert f"  change  {report.node}, position 3 by bob\n  in {report.file}\n  population: 1 → 2\n" in said


@pytest.mark.parametrize("key", [["Wrocław", "PL"], ['["Wrocław","PL"]'], ["pk"], ["id"]], ids=str)
def test_ways_to_name_an_object(city, source, key):
    arguments = source()
    node = export_bundle(io.BytesIO(), to="other").node
    named = {"pk": [f"pk:{city.pk}"], "id": [f"{node}/{city.pk}"]}.get(key[0], key)
    assert len(steps("shop.City", *named, *arguments)) == 2


def test_numbers_in_a_key_may_be_typed():
    city = Country.objects.create(code="12")
    assert len(steps("shop.country", "12")) == 1
    assert timeline.parse_key(["12", "x"]) == ["12", "x"]
    assert timeline.parse_key(["[oops"]) == ["[oops"]
    person = Person.objects.create(name="p")
    assert len(steps("shop.person", person.pk)) == 1
    assert city.pk


def test_an_object_that_is_gone_or_has_another_key_is_found_by_its_earlier_key(city, source):
    country = city.country
    country.code = "PO"
    country.save()
    city.delete()
    country.delete()
    arguments = source()
    found = steps("shop.country", "PL", *arguments)
    assert [step["action"] for step in found] == ["add", "change", "delete"]
    assert found[1]["fields"] == {"code": {"before": "PL", "after": "PO"}}
    assert found == steps("shop.country", "PO", *arguments)
    # A key that goes through a foreign key is what it was when it was exported.
    export_bundle(io.BytesIO(), to="other")
    assert steps("shop.city", "Wrocław", "PO", *arguments)[-1]["action"] == "delete"


def test_a_key_that_several_objects_had_one_after_the_other(source):
    for _ in range(2):
        Tag.objects.create(name="a").delete()
    assert "several objects" in refused("shop.tag", "a", *source())


def test_links_and_a_foreign_key_whose_target_was_renamed(city, source):
    person = Person.objects.create(name="p", city=city)
    tag = Tag.objects.create(name="t")
    person.tags.add(tag)
    city.name = "Breslau"
    city.save()
    person.name = "q"
    person.save()
    person.tags.remove(tag)
    found = steps("shop.person", f"pk:{person.pk}", *source())
    assert [step["action"] for step in found] == ["add", "link", "change", "unlink"]
    assert (found[1]["link"], found[1]["target"]) == ("tags", ["t"])
    assert found[2]["fields"] == {"name": {"before": "p", "after": "q"}}
    assert '  + tags: ["t"]' in run("shop.person", f"pk:{person.pk}")


def test_a_multi_table_child_is_one_object():
    place = Restaurant.objects.create(name="a", stars=1)
    place.place_ptr.name = "b"
    place.place_ptr.save()
    found = steps("shop.restaurant", f"pk:{place.pk}")
    assert len(found) >= 2
    assert steps("shop.place", f"pk:{place.pk}") == found


def test_what_others_did_and_what_was_made_without_knowing():
    tag = Person.objects.create(name="a")
    carry()
    theirs = at(Person).get()
    theirs.name = "theirs"
    theirs.save(using="hq")
    tag.name = "mine"
    tag.save()
    carry("hq", "default")
    found = steps("shop.person", f"pk:{tag.pk}")
    assert [step["unaware"] for step in found] == [False, False, True]
    assert {step["node"].partition("-")[0] for step in found} == {"office", "hq"}
    assert found[2]["fields"]["name"] == {"before": "a", "after": "mine"}
    assert "made without knowing of the change before" in run("shop.person", f"pk:{tag.pk}")


def test_merged_objects_are_one(tmp_path):
    for using in ("default", "hq"):
        Country.objects.using(using).create(code="PL", name=using)
    data = tmp_path / "x"
    data.mkdir()
    export_bundle(data, to="archive")
    carry()
    found = steps("shop.country", "PL", database="hq")
    assert {step["node"].partition("-")[0] for step in found if step["node"]} == {"office", "hq"}
    assert [step["action"] for step in found].count("add") == 2
    export_bundle(data, to="archive", using="hq")
    told = steps("shop.country", "PL", "--from", data)
    assert [step["action"] for step in told if step["action"] != "same"].count("add") == 2


def test_what_is_held_is_said():
    Tag.objects.create(name="a")
    change = ChangeLog.objects.get()
    Held.objects.create(change=change, reason="a unique clash", since=timezone.now())
    assert [step["held"] for step in steps("shop.tag", "a")] == ["a unique clash"]
    assert "  held here: a unique clash\n" in run("shop.tag", "a")


def test_the_number_of_queries_does_not_grow_with_the_changes(city, django_assert_max_num_queries):
    def count():
        with django_assert_max_num_queries(200) as captured:
            steps("shop.city", "Wrocław", "PL")
        return len(captured)

    before = count()
    for number in range(20):
        city.population = number
        city.save()
    assert count() == before


def test_errors_are_sentences_with_hints(city, tmp_path):
    assert "There is no model shop.nothing." in refused("shop.nothing", "x")
    said = refused("shop.city", "Atlantis", "XX")
    assert said.startswith('The log has no change of shop.city ["Atlantis","XX"].\n')
    assert "one word a value" in said
    export_bundle(tmp_path / "b.jsonl.zst")
    assert "in these bundles" in refused("shop.city", "Atlantis", "XX", "--from", tmp_path)
    assert "No such file" in refused("shop.city", "x", "--from", tmp_path / "none")
    (tmp_path / "c.jsonl.zst").write_bytes((tmp_path / "b.jsonl.zst").read_bytes()[:-1])
    assert str(tmp_path / "c.jsonl.zst") in refused("shop.city", "Wrocław", "PL", "--from", tmp_path)
    assert "has no natural key" in refused("shop.person", "a", "b")


def test_bundles_in_a_storage(city, settings, tmp_path):
    settings.STORAGES = {
        **settings.STORAGES,
        "memory": {"BACKEND": "django.core.files.storage.InMemoryStorage"},
    }
    export_bundle(tmp_path / "b.jsonl.zst")
    storages["memory"].save("b.jsonl.zst", ContentFile((tmp_path / "b.jsonl.zst").read_bytes()))
    assert len(steps("shop.city", "Wrocław", "PL", "--from", "storage:memory/")) == 2


def test_long_values_are_cut_unless_asked_for(city):
    city.extra = {"text": "x" * 500}
    city.save()
    assert "x" * 400 not in run("shop.city", "Wrocław", "PL")
    assert "(511 characters)" in run("shop.city", "Wrocław", "PL")
    assert "x" * 400 in run("shop.city", "Wrocław", "PL", verbosity=2)


def test_values_cannot_steer_the_terminal():
    Tag.objects.create(name="\x1b[2J")
    assert "\x1b" not in run("shop.tag", "\x1b[2J")


def test_a_page_of_the_history_is_what_the_whole_history_says(django_assert_num_queries):
    ola = Person.objects.create(name="Ola")
    carry()
    carry("hq", "default")
    for number in range(40):
        with acting(f"user {number}"):
            ola.name = str(number)
            ola.save()
        if number % 10 == 0:
            ola.tags.add(Tag.objects.create(name=str(number)))
            carry()
            theirs = at(Person, "hq").get()
            theirs.name = f"theirs {number}"
            theirs.save()
            ola.name = f"ours {number}"
            ola.save()
            carry("hq", "default")
            ola.refresh_from_db()
    whole = timeline.from_log("shop.person", f"pk:{ola.pk}")
    assert any(step.unaware for step in whole)
    assert len({step.node for step in whole}) == 3  # what is pending has none
    pages = []
    for start in range(0, len(whole) + 7, 7):
        steps, total = timeline.of_row(Person, str(ola.pk), start=start, number=7)
        assert total == len(whole)
        pages += steps
    assert pages == whole[::-1]
