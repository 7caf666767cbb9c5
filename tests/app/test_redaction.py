"""SYNCHRO_REDACT: what is not told to some destination, on all ways there and back."""

import io
import re
from contextlib import contextmanager
from dataclasses import replace
from unittest import mock

import orjson
import pytest
from django.core.exceptions import ImproperlyConfigured
from django.core.files.base import ContentFile
from django.core.management import CommandError, call_command
from django.test import override_settings

from changelog_format import BundleWriter, open_bundle
from synchro import WITHHELD, entitlement, export_bundle, naturalkeys, upcaster, upcasting
from synchro.checks import check_synchro
from synchro.errors import ExportError, RequestError
from synchro.models import ChangeLog, RedactedField
from synchro.pruning import prune
from synchro.requests import answer, everything_since, write_request
from synchro.scanning import scan
from synchro.splitting import export_parts
from synchro.status import status
from synchro.synchronizing import synchronize
from synchro.timeline import from_log, of_row
from tests.app.deploy import at, carry, lines, records, rolled_back, take, write
from tests.project.plain.models import Color
from tests.project.shop.models import Car, City, Country, Note, Person, Place, Profile, Restaurant, Tag

pytestmark = pytest.mark.django_db(databases=["default", "hq", "ship"])
SECRET = "SENTINEL-7f3a"
SHIP_IS_NOT_TOLD = {
    "ship": {
        "shop.note": {"text": WITHHELD, "file": WITHHELD},
        "shop.profile": {"bio": WITHHELD},
        "shop.place": {"name": WITHHELD},
        "shop.person": {"city": WITHHELD},
        "shop.car": {"color": WITHHELD},
    }
}


@contextmanager
def redacting_for_ship(rules=SHIP_IS_NOT_TOLD):
    """What *hq* and *office* have in their settings, and *ship* has not."""
    with override_settings(SYNCHRO_REDACT=rules):
        yield


def to_ship(**options):
    with redacting_for_ship():
        data, report = write("hq", to="ship", **options)
    return data, report


def from_hq():
    data, report = to_ship()
    return None if report is None else take(data, "ship")


def back():
    data, report = write("ship", to="hq")
    if report is None:
        return None
    with redacting_for_ship():
        return take(data, "hq")


def text_of(data):
    return "\n".join(orjson.dumps(line).decode() for line in lines(data))


def secrets(source="hq"):
    """Objects of each kind of redacted field, with the sentinel in it, at *source*."""
    at(Note, source).create(char="shown", text=SECRET)
    person = at(Person, source).create(name="ann")
    at(Profile, source).create(person=person, bio=SECRET)
    at(Place, source).create(name=SECRET)
    at(Restaurant, source).create(name=SECRET, stars=3)
    country = at(Country, source).create(code="PL")
    city = at(City, source).create(name=f"City {SECRET}", country=country)
    at(Person, source).create(name="eve", city=city)
    at(Car, source).create(plate="W1", color=at(Color, source).create(name=SECRET))


# --- what leaves ------------------------------------------------------------------------------------------------------


def forget_city(source="hq"):
    """The city's own record says its name; what points to it must not."""
    ChangeLog.objects.using(source).filter(model="shop.city").delete()


@pytest.mark.parametrize("mode", ["history", "squash", "snapshot"])
def test_no_form_of_export_tells_what_is_withheld(mode):
    secrets()
    with redacting_for_ship({**SHIP_IS_NOT_TOLD, "ship": {**SHIP_IS_NOT_TOLD["ship"], "shop.tag": {}}}):
        data, _report = write("hq", to="ship", mode=mode)
    told = [line for line in records(data) if line["model"] != "shop.city"]
    assert SECRET not in orjson.dumps(told).decode()
    assert [set(line["fields"]) for line in told if line["model"] == "shop.note"] == [
        {field.name for field in Note._meta.concrete_fields} - {"id", "text", "file"}
    ]
    assert lines(data)[0]["redacted"]["shop.restaurant"] == ["name"]
    with redacting_for_ship():
        whole, _ = write("hq", to="office", mode=mode)
    assert text_of(whole).count(SECRET) >= 7
    assert "redacted" not in lines(whole)[0]


def test_a_row_that_is_not_tracked_does_not_come_along_for_a_foreign_key_that_is_withheld():
    at(Car, "hq").create(plate="W1", color=at(Color, "hq").create(name=SECRET))
    data, _ = to_ship()
    assert [line["type"] for line in records(data)] == ["change"]
    assert SECRET not in text_of(data)


def test_fields_of_rows_that_are_not_tracked_are_withheld_as_well():
    at(Car, "hq").create(plate="W1", color=at(Color, "hq").create(name="red", rgb=SECRET[:7]))
    with redacting_for_ship({"ship": {"plain.color": {"rgb": WITHHELD}}}):
        data, _ = write("hq", to="ship")
    assert [line["model"] for line in records(data)] == ["plain.color", "shop.car"]
    assert SECRET[:7] not in text_of(data)


def test_contents_of_files_are_withheld_with_their_names(settings, tmp_path):
    settings.MEDIA_ROOT = tmp_path
    note = at(Note, "hq").create(char="x")
    note.file.save("scan.txt", ContentFile(SECRET.encode()))
    data, report = to_ship(with_files=True)
    assert report.files == 0
    assert "scan.txt" not in text_of(data)
    assert "file" not in records(data)[0]["fields"]
    with redacting_for_ship():
        _, whole = write("hq", to="office", with_files=True)
    assert whole.files == 1


def test_relayed_changes_are_redacted_too():
    secrets("default")
    carry("default", "hq")
    data, _ = to_ship()
    told = [line for line in records(data) if line["model"] != "shop.city"]
    assert all("origin" in line for line in told if line["type"] == "change")
    assert SECRET not in orjson.dumps(told).decode()
    assert not any("city" in line.get("refs", {}) for line in told)


def test_parts_and_answers_to_requests_are_redacted(tmp_path):
    at(Note, "hq").create(char="x", text=SECRET)
    from_hq()
    for number in range(4):
        at(Note, "hq").create(char=str(number), text=SECRET)
    with redacting_for_ship():
        parts = [each.file for each in export_parts(tmp_path, max_size=4000, to="ship", using="hq")]
        request = write_request(everything_since("hq", "ship"), tmp_path)
        answers = [each.file for each in answer(request, tmp_path / "answer.jsonl.zst", using="hq")]
    assert parts
    assert answers
    for file in (*parts, *answers):
        with open_bundle(file) as bundle:
            assert all("text" not in record.fields for record in bundle)


def test_somebody_new_who_asks_is_not_simply_told_everything(tmp_path):
    at(Note, "hq").create(char="x", text=SECRET)
    with redacting_for_ship():
        take(write("hq", to="office")[0], "default")
        path = write_request(everything_since("hq"), tmp_path / "r.json")
        assert list(answer(path, tmp_path, using="hq")) == []  # who got something before goes on getting it
        path.write_bytes(path.read_bytes().replace(b"office", b"orifice"))
        with pytest.raises(RequestError, match="orifice asks, to whom nothing went before"):
            list(answer(path, tmp_path, using="hq"))
    with redacting_for_ship({**SHIP_IS_NOT_TOLD, "*": {"shop.note": {"text": WITHHELD}}}):
        list(answer(path, tmp_path, using="hq"))


def test_the_same_range_again_is_the_same_file_only_where_the_same_is_told():
    at(Note, "hq").create(char="x", text=SECRET)
    first, report = to_ship()
    again, _ = to_ship(since=0, until=report.to_seq)
    assert again == first
    with redacting_for_ship({"ship": {"shop.note": {"char": WITHHELD}}}):
        other, _ = write("hq", to="ship", since=0, until=report.to_seq)
    assert lines(other)[0]["bundle"] != lines(first)[0]["bundle"]
    assert "char" not in records(other)[0]["fields"]


def test_a_bundle_for_nobody_in_particular_is_refused_where_somebody_is_not_told_all():
    at(Note, "hq").create(char="x", text=SECRET)
    with redacting_for_ship(), pytest.raises(ExportError, match="for nobody in particular"):
        write("hq")
    with redacting_for_ship({**SHIP_IS_NOT_TOLD, "*": {"shop.note": {"text": WITHHELD}}}):
        data, _ = write("hq")
    assert SECRET not in text_of(data)
    with redacting_for_ship({**SHIP_IS_NOT_TOLD, "*": {}}):
        data, _ = write("hq", since=0)
    assert SECRET in text_of(data)
    with redacting_for_ship({"ship": {}}):
        assert SECRET in text_of(write("hq", since=0)[0])


def test_what_everybody_is_not_told_is_also_withheld_from_who_has_an_entry():
    at(Note, "hq").create(char=SECRET, text=SECRET)
    rules = {"*": {"shop.note": {"text": WITHHELD}}, "ship": {"shop.note": {"char": "hidden"}}}
    with redacting_for_ship(rules):
        (told,) = records(write("hq", to="ship")[0])
        (others,) = records(write("hq", to="office")[0])
    assert told["fields"]["char"] == "hidden"
    assert "text" not in told["fields"]
    assert others["fields"]["char"] == SECRET
    assert "text" not in others["fields"]


def test_models_that_are_not_redacted_still_take_the_quick_way(django_assert_num_queries):
    at(Tag, "hq").create(name="a")
    at(Note, "hq").create(char="x", text=SECRET)
    with redacting_for_ship():
        data, _ = write("hq", to="ship")
    assert [line["model"] for line in records(data)] == ["shop.tag", "shop.note"]


# --- replaced ---------------------------------------------------------------------------------------------------------


def initials(value):
    return "".join(word[0] + "." for word in value.split())


def test_values_are_replaced_by_a_constant_or_by_what_a_callable_makes_of_them():
    at(Note, "hq").create(char="Ann Example", text=SECRET, day="2026-11-25", integer=7)
    rules = {"char": "tests.app.test_redaction.initials", "text": "-", "day": None, "integer": lambda value: value * 0}
    with redacting_for_ship({"ship": {"shop.note": rules}}):
        data, _ = write("hq", to="ship")
    (told,) = records(data)
    assert {name: told["fields"][name] for name in rules} == {"char": "A.E.", "text": "-", "day": None, "integer": 0}
    take(data, "ship")
    assert at(Note, "ship").get().char == "A.E."


def test_what_a_callable_cannot_make_refuses_the_export_and_does_not_say_the_value():
    at(Note, "hq").create(char=SECRET)
    rules = {"ship": {"shop.note": {"integer": lambda value: f"not {value}", "char": WITHHELD}}}
    refusing = pytest.raises(ExportError, match=r"shop\.note\.integer cannot be made: \w+\.")
    with redacting_for_ship(rules), refusing as refused:
        write("hq", to="ship")
    assert SECRET not in str(refused.value)


# --- what arrives -----------------------------------------------------------------------------------------------------


def test_a_new_object_has_the_default_and_one_that_is_there_keeps_what_it_has():
    note = at(Note, "hq").create(char="x", text=SECRET)
    from_hq()
    there = at(Note, "ship").get()
    assert (there.char, there.text) == ("x", "")
    there.text = "what is known at the ship"
    there.save(using="ship")
    note.char = "y"
    note.save(using="hq")
    assert from_hq().changed == 1
    there.refresh_from_db()
    assert (there.char, there.text) == ("y", "what is known at the ship")


def test_the_importer_is_told_once_what_is_withheld_and_the_status_goes_on_saying_so(capsys, tmp_path):
    at(Note, "hq").create(char="x", text=SECRET)
    with redacting_for_ship():
        export_bundle(tmp_path, to="ship", using="hq")
    call_command("synchro_import", str(tmp_path), database="ship", any_destination=True)
    said = capsys.readouterr().out
    assert re.search(r"hq-\w{8} does not tell this deployment .*shop\.note\.text", said)
    call_command("synchro_import", str(tmp_path), database="ship", any_destination=True)
    assert "does not tell" not in capsys.readouterr().out
    call_command("synchro_status", database="ship", verbosity=2)
    assert "shop.note.text" in capsys.readouterr().out
    assert "shop.note.text" in status("ship").withheld
    assert status("hq").withheld == ()


def test_a_scan_finds_nothing_in_what_was_redacted():
    secrets()
    from_hq()
    assert scan(using="ship", dry_run=True).total == 0


# --- the way back -----------------------------------------------------------------------------------------------------


def test_an_edit_at_the_other_side_does_not_bring_its_default_back():
    note = at(Note, "hq").create(char="x", text=SECRET)
    from_hq()
    there = at(Note, "ship").get()
    there.char = "edited at the ship"
    there.text = "whatever"
    there.save(using="ship")
    data, _ = write("ship", to="hq")
    told = records(data)[-1]
    assert told["fields"]["char"] == "edited at the ship"
    assert "text" not in told["fields"]
    assert lines(data)[0]["redacted"]["shop.note"] == ["file", "text"]
    with redacting_for_ship():
        take(data, "hq")
    note.refresh_from_db()
    assert (note.char, note.text) == ("edited at the ship", SECRET)


def test_a_sender_that_does_not_keep_to_it_is_not_heeded():
    note = at(Note, "hq").create(char="x", text=SECRET)
    from_hq()
    RedactedField.objects.using("ship").all().delete()
    there = at(Note, "ship").get()
    there.char, there.text = "edited", "forged"
    there.save(using="ship")
    data, _ = write("ship", to="hq")
    assert "forged" in text_of(data)
    with redacting_for_ship():
        take(data, "hq")
    note.refresh_from_db()
    assert (note.char, note.text) == ("edited", SECRET)
    assert "forged" not in text_of(write("hq", to="office")[0])  # nor is it passed on


def test_who_withholds_a_field_is_not_told_that_it_is_withheld_from_him():
    at(Note, "hq").create(char="x", text=SECRET)
    from_hq()
    there = at(Note, "ship").get()
    there.char = "edited"
    there.save(using="ship")
    report = back()
    assert report.withheld == ()
    assert entitlement.lacking("hq") == {}
    at(Note, "hq").create(char="y", text=SECRET)
    assert SECRET in text_of(write("hq", to="office")[0])


def test_who_gets_everything_from_a_redacted_one_is_redacted_too_unless_his_settings_say_otherwise():
    at(Note, "hq").create(char="x", text=SECRET)
    from_hq()
    at(Note, "ship").create(char="ship's")
    data, _ = write("ship", to="office")
    report = take(data, "default")
    assert "shop.note.text" in report.withheld
    assert entitlement.lacking("default") == {"shop.car": {"color"}, **entitlement.lacking("default")}
    with redacting_for_ship():  # the settings of who owns the values
        assert entitlement.lacking("default") == {}


def test_a_third_deployment_behind_the_hub_gets_objects_whole_whatever_the_way():
    note = at(Note, "hq").create(char="x", text=SECRET)
    from_hq()
    there = at(Note, "ship").get()
    there.char = "edited"
    there.save(using="ship")
    back()
    for mode in ("squash", "history"):
        with rolled_back("default"), redacting_for_ship():
            data, _ = write("hq", to="office", mode=mode, since=0)
            take(data, "default")
            assert (at(Note, "default").get().char, at(Note, "default").get().text) == ("edited", SECRET)
    with redacting_for_ship():
        assert SECRET in text_of(write("hq", to="office", mode="snapshot")[0])
        write("hq", to="office")
        write("hq", to="ship")
    note.refresh_from_db()
    assert note.text == SECRET


def test_after_pruning_the_log_still_has_the_objects_whole():
    at(Note, "hq").create(char="x", text=SECRET)
    from_hq()
    there = at(Note, "ship").get()
    there.char = "edited"
    there.save(using="ship")
    back()
    from_hq()
    write("ship", to="hq", acknowledge=True)
    prune(using="hq", ignore=["ship"])
    with redacting_for_ship():
        data, _ = write("hq", to="office", mode="snapshot")
    assert SECRET in text_of(data)
    take(data, "default")
    assert at(Note, "default").get().text == SECRET


def test_completing_ends():
    at(Note, "hq").create(char="x", text=SECRET)
    from_hq()
    there = at(Note, "ship").get()
    there.char = "edited"
    there.save(using="ship")
    back()
    for _ in range(3):
        from_hq()
        back()
        with redacting_for_ship():
            data, _ = write("hq", to="office")
            if data is not None:
                take(data, "default")
            carry("default", "hq")
    with redacting_for_ship():
        for source, target in (("hq", "ship"), ("hq", "office"), ("default", "hq")):
            assert write(source, to=target)[0] is None
    assert write("ship", to="hq")[0] is None


def test_histories_show_what_was_changed_and_not_what_was_left_out():
    note = at(Note, "hq").create(char="x", text=SECRET)
    from_hq()
    there = at(Note, "ship").get()
    there.char = "edited"
    there.save(using="ship")
    back()
    steps = from_log("shop.note", f"pk:{note.pk}", using="hq")
    assert [[each.field for each in step.fields] for step in steps[1:]] == [["char"], []]
    assert of_row(Note, str(note.pk), using="hq") == (steps[::-1], len(steps))
    for number in range(5):
        there.char = f"edited {number}"
        there.save(using="ship")
    back()
    whole = from_log("shop.note", f"pk:{note.pk}", using="hq")
    assert [[each.field for each in step.fields] for step in whole[-6:-1]] == [["char"]] * 5
    for start in range(len(whole)):
        assert of_row(Note, str(note.pk), start=start, number=1, using="hq")[0] == [whole[::-1][start]]


def test_merging_takes_what_the_other_side_may_edit():
    note = at(Note, "hq").create(char="x", integer=1, text=SECRET)
    from_hq()
    note.text = f"{SECRET} changed"
    note.save(using="hq")
    there = at(Note, "ship").get()
    there.integer = 2
    there.save(using="ship")
    data, _ = write("ship", to="hq")
    with redacting_for_ship():
        take(data, "hq", on_conflict="merge")
    note.refresh_from_db()
    assert (note.integer, note.text) == (2, f"{SECRET} changed")


def test_who_is_told_again_may_be_allowed_to_speak_again():
    at(Note, "hq").create(char="x", text=SECRET)
    from_hq()
    assert entitlement.restore("shop.note", "text", "ship") == 1
    assert "text" not in entitlement.lacking("ship")["shop.note"]
    assert entitlement.restore("shop.note", "text", "ship") == 0


def test_what_is_held_is_not_heeded_either_when_it_goes_in():
    at(Note, "hq").create(char="x", text=SECRET)
    from_hq()
    RedactedField.objects.using("ship").all().delete()
    there = at(Note, "ship").get()
    there.text = "forged"
    there.save(using="ship")
    data, _ = write("ship", to="hq")
    with override_settings(SYNCHRO_ACCEPT={"ship": []}):
        assert take(data, "hq").held == 1
    with redacting_for_ship():
        call_command("synchro_import", retry_held=True, database="hq", verbosity=0)
    assert at(Note, "hq").get().text == SECRET


# --- other versions of models -----------------------------------------------------------------------------------------


@contextmanager
def in_version(number):
    with override_settings(SYNCHRO_VERSIONS={"shop.note": number}):
        yield


@pytest.fixture
def renamed(settings):
    """shop.note of version 1 called its text `secret`; the log has such changes, its own and relayed ones."""
    for alias in ("default", "hq"):
        at(Note, alias).create(char="x", text=SECRET)
    carry("default", "hq")
    write("hq", to="nobody")
    for row in ChangeLog.objects.using("hq"):
        row.payload = row.payload.replace('"text":', '"secret":')
        row.save(using="hq")
    settings.SYNCHRO_VERSIONS = {"shop.note": 2}
    upcaster("shop.note", from_version=1, renamed={"secret": "text"})
    yield
    del upcasting._steps["shop.note", 1]
    upcasting.clear_caches()


@pytest.mark.parametrize("mode", ["history", "squash"])
def test_records_of_an_older_version_are_lifted_and_then_redacted(renamed, mode):
    data, _ = to_ship(mode=mode)
    told = records(data)
    assert [("text" in line["fields"], "secret" in line["fields"]) for line in told] == [(False, False)] * 2
    assert all("version" not in line for line in told)
    assert SECRET not in text_of(data)
    take(data, "ship")
    assert {note.char for note in at(Note, "ship")} == {"x"}


def test_a_change_of_a_version_that_is_not_known_here_is_not_passed_on_where_some_of_it_is_redacted():
    with in_version(3):
        at(Note, "default").create(char="x", text=SECRET)
        data, _ = write("default", to="hq")
    take(data, "hq")
    with pytest.raises(ExportError, match="of version 3, which is not known here") as refused:
        to_ship()
    assert "Upgrade" in refused.value.hint


def test_fields_that_are_not_known_here_are_not_passed_on_with_redacted_models():
    at(Note, "default").create(char="x")
    data, _ = write("default", to="hq")
    with open_bundle(io.BytesIO(data)) as bundle:
        header, found = bundle.header, list(bundle)
    info = replace(header.models["shop.note"], fields={**header.models["shop.note"].fields, "newer": "TextField"})
    stream = io.BytesIO()
    with BundleWriter(stream, replace(header, models={"shop.note": info})) as writer:
        writer.write(replace(found[0], fields={**found[0].fields, "newer": SECRET}))
    take(stream.getvalue(), "hq")
    assert SECRET in text_of(write("hq", to="office")[0])
    assert SECRET not in text_of(to_ship()[0])


# --- straight to a database -------------------------------------------------------------------------------------------


@pytest.mark.parametrize("key", ["ship", "*"])
def test_synchronize_keeps_to_it(key):
    Note.objects.create(char="x", text=SECRET)
    with override_settings(SYNCHRO_REMOTE="ship", SYNCHRO_REDACT={key: SHIP_IS_NOT_TOLD["ship"]}):
        synchronize()
    there = at(Note, "ship").get()
    assert (there.char, there.text) == ("x", "")
    assert SECRET not in "".join(ChangeLog.objects.using("ship").values_list("payload", flat=True))
    there.char = "edited"
    there.save(using="ship")
    (told,) = [line for line in records(write("ship", to="office")[0]) if "origin" not in line]
    assert told["fields"]["char"] == "edited"
    assert "text" not in told["fields"]


# --- the setting ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("rules", "said"),
    [
        ("ship", "SYNCHRO_REDACT is"),
        ({"ship": ["shop.note"]}, "SYNCHRO_REDACT has"),
        ({"ship": {"shop.note": ["text"]}}, "SYNCHRO_REDACT has"),
        ({"ship": {"shop.note": {"txt": WITHHELD}}}, "has no field 'txt'. Did you mean 'text'?"),
        ({"ship": {"shop.person": {"tags": WITHHELD}}}, "is a many-to-many field"),
        ({"ship": {"shop.person": {"staff": WITHHELD}}}, "is no field with a value"),
        ({"ship": {"shop.person": {"id": WITHHELD}}}, "tells objects apart or does not travel"),
        ({"ship": {"shop.city": {"visits": WITHHELD}}}, "tells objects apart or does not travel"),
        ({"ship": {"shop.membership": {"person": WITHHELD}}}, "is needed by each object"),
        ({"ship": {"shop.note": {"text": "no.such.callable"}}}, "looks like the path of a callable and is none"),
        ({"ship": {"shop.note": {"text": "tests.app.test_redaction.SECRET"}}}, "which cannot be called"),
        ({"ship": {"shop.note": {"integer": "seven"}}}, "cannot hold 'seven'"),
        ({"ship": {"shop.note": {"integer": None}}}, "cannot be NULL"),
        ({"ship": {"shop.person": {"city": 5}}}, "can only be WITHHELD"),
        ({"ship": {"shop.car": {"plate": WITHHELD}}}, "is unique"),
        ({"ship": {"shop.car": {"plate": "X"}}}, "is unique"),
        ({"ship": {"office.town": {"name": WITHHELD}}}, "is part of the natural key of office.town"),
    ],
)
def test_what_cannot_be_redacted_is_an_error_of_the_check_and_refuses_the_export(rules, said):
    at(Note, "hq").create(char="x")
    with override_settings(SYNCHRO_REDACT=rules):
        (found,) = [each for each in check_synchro() if each.id == "synchro.E032"]
        assert said in found.msg
        with pytest.raises((ExportError, ImproperlyConfigured), match="SYNCHRO_REDACT"):
            write("hq", to="ship")


def test_models_that_are_not_here_and_keys_that_nobody_can_look_into_are_warned_of():
    opaque = naturalkeys.KeySpec(opaque=True)
    rules = {"ship": {"lab.result": {"value": WITHHELD}, "shop.city": {"population": WITHHELD}}}
    with override_settings(SYNCHRO_REDACT=rules), mock.patch.dict(naturalkeys._specs, {City: opaque}):
        found = {each.id: each.msg for each in check_synchro()}
    assert "'lab.result'" in found["synchro.W034"]
    assert "shop.city" in found["synchro.W035"]
    assert repr(WITHHELD) == "WITHHELD"


def test_the_command_says_what_is_wrong_in_a_sentence():
    at(Note, "hq").create(char="x")
    with redacting_for_ship(), pytest.raises(CommandError, match=r"for nobody in particular.*\n.*--to"):
        call_command("synchro_export", database="hq")
    with override_settings(SYNCHRO_REDACT={"ship": []}), pytest.raises(CommandError, match="SYNCHRO_REDACT has"):
        call_command("synchro_export", to="ship", database="hq")
