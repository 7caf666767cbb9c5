"""Primary keys inside texts and JSON mean the same object elsewhere, if the project says where they are (case A8)."""

import re

import pytest
from django.core.checks import run_checks
from django.core.exceptions import ImproperlyConfigured
from django.test import override_settings

from synchro import DisableSynchroLog, embedded, embedded_keys, retry_held, scan
from synchro.errors import EmbeddedKeyError
from synchro.models import Conflict
from tests.app.deploy import ALIASES, at, brought, carry, log, records, rolled_back, take, write
from tests.project.plain.models import Color
from tests.project.shop.models import Car, Note, Person, Restaurant, Tag

pytestmark = pytest.mark.django_db(databases=ALIASES)
KEY = r"[^\"'<>]+"


@pytest.fixture(autouse=True)
def registered(monkeypatch):
    monkeypatch.setattr(embedded, "_functions", {})
    embedded.clear_caches()

    @embedded_keys("shop.note", "text")
    def links(value, swap):
        value = re.sub(rf'<a person="({KEY})">', lambda m: f'<a person="{swap("shop.person", m[1])}">', value)
        return re.sub(rf'<a tag="({KEY})">', lambda m: f'<a tag="{swap("shop.Tag", m[1])}">', value)

    @embedded_keys("Shop.Note", "data")
    def in_json(value, swap):
        return {**value, "people": [swap("shop.person", key) for key in value.get("people", [])]}

    yield
    monkeypatch.undo()
    embedded.clear_caches()


@pytest.fixture(autouse=True)
def apart():
    """Numbers at HQ are others."""
    with rolled_back():
        with DisableSynchroLog():
            for model in (Person, Tag, Note):
                for number in range(3):
                    at(model).create(**({} if model is Note else {"name": f"old{number}"}))
                at(model).all().delete()
        yield


def link(target, kind="person"):
    return f'See <a {kind}="{target.pk}">here</a>.'


def test_they_are_those_of_the_same_object():
    ann, tag = Person.objects.create(name="ann"), Tag.objects.create(name="red")
    Note.objects.create(text=link(ann) + link(tag, "tag"), data={"people": [ann.pk], "n": 1})
    assert carry().held == 0
    theirs, red = at(Person).get(), at(Tag).get()
    assert theirs.pk != ann.pk
    assert at(Note).get().text == link(theirs) + link(red, "tag")
    assert at(Note).get().data == {"people": [theirs.pk], "n": 1}


def test_the_record_has_object_ids():
    ann = Person.objects.create(name="ann")
    Note.objects.create(text=link(ann), data={"people": [ann.pk]})
    person, note = records(write()[0])
    assert note["fields"]["text"] == f'See <a person="{person["id"]}">here</a>.'
    assert note["fields"]["data"] == {"people": [person["id"]]}


def test_they_go_on_and_come_back():
    ann = Person.objects.create(name="ann")
    note = Note.objects.create(text=link(ann))
    carry()
    carry("hq", "ship")
    assert at(Note, "ship").get().text == link(at(Person, "ship").get())
    there = at(Note, "ship").get()
    there.text += " Seen."
    there.save()
    assert brought(carry("ship", "hq"))["changed"] == 1
    carry("hq", "default")
    note.refresh_from_db()
    assert note.text == link(ann) + " Seen."
    for source, target in (("default", "hq"), ("hq", "ship"), ("ship", "default")):
        report = carry(source, target)
        assert report is None or set(brought(report)) <= {"already_known"}


def test_what_it_points_to_arrives_later():
    """Until then an object id stands there, which in a record means the same."""
    note = Note.objects.create()
    ann = Person.objects.create(name="ann")
    note.text = link(ann)
    note.save()
    first, _ = write(models=["shop.note"])
    take(first)
    (waiting,) = re.findall(rf'"({KEY})"', at(Note).get().text)
    assert waiting.endswith(f"/{ann.pk}")
    carry()
    assert at(Note).get().text == link(at(Person).get())
    assert at(Note).get().text != link(ann)
    with DisableSynchroLog():
        assert [each for each in log("hq") if each[1] == "shop.note" and each[0] == "change"]
    before = len(log("hq"))
    scan(using="hq")
    assert len(log("hq")) == before  # that it was put there is no change


def test_what_it_points_to_is_held():
    with override_settings(SYNCHRO_ACCEPT={"*": [("shop", "note")]}):
        ann = Person.objects.create(name="ann")
        Note.objects.create(text=link(ann), data={"people": [ann.pk]})
        assert carry().held == 1
        assert f"/{ann.pk}" in at(Note).get().text
    assert retry_held(using="hq").held == 0
    theirs = at(Person).get()
    assert at(Note).get().text == link(theirs)
    assert at(Note).get().data == {"people": [theirs.pk]}


def test_what_was_never_logged_is_logged_first():
    with DisableSynchroLog():
        ann = Person.objects.create(name="ann")
    Note.objects.create(text=link(ann))
    assert brought(carry()) == {"added": 2}
    assert at(Note).get().text == link(at(Person).get())


def test_what_is_gone_names_nobody_else():
    ann = Person.objects.create(name="ann")
    Note.objects.create(text=link(ann))
    number = ann.pk
    ann.delete()
    with DisableSynchroLog():
        at(Person).create(pk=number, name="somebody else")
    carry()
    assert at(Note).get().text != f'See <a person="{number}">here</a>.'


def test_rows_that_turn_out_to_be_one():
    with DisableSynchroLog():
        red = at(Tag).create(name="red")
    Note.objects.create(text=link(Tag.objects.create(name="red"), "tag"))
    carry()
    assert at(Note).get().text == link(red, "tag")


def test_equal_texts_are_no_conflict_whatever_the_numbers():
    ann = Person.objects.create(name="ann")
    note = Note.objects.create(text="")
    carry()
    theirs = at(Note).get()
    note.text, theirs.text = link(ann), link(at(Person).get())
    note.save()
    theirs.save()
    assert carry().conflicts == carry("hq", "default").conflicts == 0
    theirs.text = "Other."
    theirs.save()
    note.text += "!"
    note.save()
    assert carry().conflicts == 1
    sides = Conflict.objects.using("hq").get()
    assert f"/{ann.pk}" in str(sides.incoming)


def test_both_sides_are_combined():
    ann, bob = Person.objects.create(name="ann"), Person.objects.create(name="bob")
    note = Note.objects.create(text=link(ann), char="a")
    carry()
    theirs = at(Note).get()
    note.char = "b"
    note.save()
    theirs.text = link(at(Person).get(name="bob"))
    theirs.save()
    report = take(write(to="hq")[0], on_conflict="merge")
    assert report.conflicts == 1
    assert (at(Note).get().char, at(Note).get().text) == ("b", theirs.text)
    carry("hq", "default")
    note.refresh_from_db()
    assert (note.char, note.text) == ("b", link(bob))


def test_what_was_written_past_the_log_is_not_seen_where_nothing_was():
    ann = Person.objects.create(name="ann")
    note = Note.objects.create(text=link(ann))
    carry()
    note.char = "later"
    note.save()
    assert brought(carry()) == {"changed": 1}
    assert scan(using="hq").changed == scan().changed == 0


@pytest.mark.parametrize("mode", ["save", "raw"])
def test_fields_of_a_parent(mode):
    @embedded_keys("shop.place", "name")
    def person(value, swap):
        return f"@{swap('shop.person', value[1:])}"

    with override_settings(SYNCHRO_APPLY=mode):
        ann = Person.objects.create(name="ann")
        Restaurant.objects.create(name=f"@{ann.pk}", stars=2)
        carry()
        assert at(Restaurant).get().name == f"@{at(Person).get().pk}"


def test_models_that_are_not_tracked_keep_the_sender_s_id():
    """Nothing says which row of ours it would be."""

    @embedded_keys("shop.car", "plate")
    def color(value, swap):
        return str(swap("plain.color", value))

    red = Color.objects.create(name="red")
    Car.objects.create(plate=str(red.pk))
    carry()
    assert at(Car).get().plate.endswith(f"/{red.pk}")


def test_a_function_that_fails():
    @embedded_keys("shop.tag", "name")
    def fails(value, swap):
        raise KeyError("oops")

    Tag.objects.create(name="a")
    with pytest.raises(
        EmbeddedKeyError, match=r"shop.tag.name: its function for embedded keys fails: KeyError: 'oops'"
    ):
        write()


def test_a_function_that_fails_on_what_comes():
    Tag.objects.create(name="a")
    data, _ = write()

    @embedded_keys("shop.tag", "name")
    def fails(value, swap):
        raise KeyError("oops")

    report = take(data)
    assert [each.reason for each in report.held_changes] == [
        "shop.tag.name: its function for embedded keys fails: KeyError: 'oops'"
    ]


def test_wrong_names_are_told_by_a_check():
    assert not [each for each in run_checks() if each.id == "synchro.E033"]
    embedded_keys("shop.note", "txet")(lambda value, swap: value)
    embedded_keys("shop.nothing", "text")(lambda value, swap: value)
    found = [each.msg for each in run_checks() if each.id == "synchro.E033"]
    assert found == [
        "embedded_keys() names shop.note.txet, which is no field.",
        "embedded_keys() names shop.nothing.text, which is no field.",
    ]
    with pytest.raises(ImproperlyConfigured, match="embedded_keys"):
        embedded_keys("shop.note")
