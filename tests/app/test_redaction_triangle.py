"""SYNCHRO_REDACT where the one who is not told meets two who are, and is quicker than they are."""

import pytest
from django.core.management import call_command
from django.test import override_settings

from synchro import WITHHELD, reset_synchro, scan
from synchro.models import ChangeLog, Conflict, Unseen
from synchro.pruning import prune
from synchro.timeline import from_log
from tests.app.deploy import at, forged, rolled_back, take, write
from tests.project.shop.models import City, Country, Note, Person

pytestmark = pytest.mark.django_db(databases=["default", "hq", "ship"])
SECRET = "SENTINEL-7f3a"
REDACT = {"ship": {"shop.note": {"text": WITHHELD}}}
NAMES = {"default": "office", "hq": "hq", "ship": "ship"}


def carry(source, target, **options):
    """A bundle from *source*, for *target*; *office* and *hq* both withhold the text of notes from *ship*."""
    with override_settings(SYNCHRO_REDACT={} if source == "ship" else REDACT):
        data, _report = write(source, to=NAMES[target], **options)
    if data is not None:
        with override_settings(SYNCHRO_REDACT={} if target == "ship" else REDACT):
            take(data, target)


def everywhere():
    for _ in range(2):
        for source, target in (
            ("default", "hq"),
            ("hq", "default"),
            ("default", "ship"),
            ("ship", "hq"),
            ("hq", "ship"),
        ):
            carry(source, target, acknowledge=True)


def survives(value):
    kept = [at(Note, alias).get().text for alias in ("default", "hq")]
    recorded = [
        each for alias in ("default", "hq") for each in Conflict.objects.using(alias).values_list("local", "incoming")
    ]
    assert kept == [value, value] or value in str(recorded), (kept, recorded)


def test_an_object_that_comes_through_the_redacted_one_first_is_not_emptied_where_it_was_made():
    at(Note, "default").create(char="x", text=SECRET)
    carry("default", "ship")
    carry("ship", "hq")  # before the bundle of the office gets there
    everywhere()
    survives(SECRET)


def test_an_edit_that_comes_through_the_redacted_one_first_is_not_taken_back():
    at(Note, "default").create(char="x", text="old")
    everywhere()
    note = at(Note, "default").get()
    note.text = SECRET
    note.save(using="default")
    carry("default", "ship")
    carry("ship", "hq")
    everywhere()
    survives(SECRET)


def test_an_edit_by_the_redacted_one_of_what_is_not_there_yet_does_not_empty_it():
    at(Note, "default").create(char="x", text=SECRET)
    carry("default", "ship")
    note = at(Note, "ship").get()
    note.char = "edited"
    note.save(using="ship")
    carry("ship", "hq")
    everywhere()
    survives(SECRET)


# --- what is taken of them meanwhile ------------------------------------------------------------------------------


def made_at_the_office(text=SECRET, **values):
    """A note of the office that came to *hq* through *ship*, which is not told its text."""
    note = at(Note, "default").create(char="x", text=text, **values)
    carry("default", "ship")
    carry("ship", "hq")
    return note


def texts():
    return [at(Note, alias).get().text for alias in ("default", "hq")]


def test_who_is_told_is_like_one_who_is_not_until_the_value_comes():
    made_at_the_office()
    note = at(Note, "hq").get()
    note.integer = 5
    note.save(using="hq")
    carry("hq", "default")  # before anything of the office comes
    assert at(Note, "default").get().integer == 5
    assert texts() == [SECRET, ""]
    assert scan(using="hq").total == 0
    carry("default", "hq")
    assert texts() == [SECRET, SECRET]
    assert not Unseen.objects.using("hq").exists()
    everywhere()
    assert texts() == [SECRET, SECRET]
    assert {at(Note, alias).get().integer for alias in NAMES} == {5}
    assert not Conflict.objects.using("default").exists()
    assert at(Note, "ship").get().text == ""


@pytest.mark.parametrize("later", ["default", "hq"])
def test_of_two_that_were_entered_meanwhile_the_later_one_wins_and_both_are_recorded(later):
    note = made_at_the_office()

    def enter_at_hq():
        there = at(Note, "hq").get()
        there.text = "of hq"
        there.save(using="hq")

    if later == "hq":
        enter_at_hq()
    else:
        enter_at_hq()
        note.text = f"{SECRET} 2"
        note.save(using="default")
    everywhere()
    expected = "of hq" if later == "hq" else f"{SECRET} 2"
    assert texts() == [expected, expected]
    recorded = str([list(Conflict.objects.using(each).values_list("local", "incoming")) for each in ("default", "hq")])
    assert "of hq" in recorded
    assert SECRET in recorded


def test_the_newest_of_several_values_is_the_one_that_stays():
    note = made_at_the_office("first")
    note.text = SECRET
    note.save(using="default")
    carry("default", "ship")
    carry("ship", "hq")
    everywhere()
    assert texts() == [SECRET, SECRET]
    assert not Unseen.objects.using("hq").exists()


@pytest.mark.parametrize("mode", ["squash", "snapshot"])
def test_folded_bundles_of_the_one_who_is_not_told_are_waited_for_as_well(mode):
    at(Note, "default").create(char="x", text=SECRET)
    carry("default", "ship")
    for number in (1, 2):
        note = at(Note, "ship").get()
        note.integer = number
        note.save(using="ship")
    carry("ship", "hq", mode=mode)
    everywhere()
    assert texts() == [SECRET, SECRET]
    assert at(Note, "hq").get().integer == 2


def test_beginning_with_what_is_left_after_pruning_at_the_one_who_is_not_told_asserts_nothing():
    at(Note, "default").create(char="x", text=SECRET)
    carry("default", "ship")
    note = at(Note, "ship").get()
    note.char = "edited"
    note.save(using="ship")
    carry("ship", "default")
    ChangeLog.objects.using("ship").filter(imported=True).delete()
    carry("ship", "hq", mode="snapshot")
    carry("hq", "default", acknowledge=True)
    assert texts()[0] == SECRET
    everywhere()
    assert texts() == [SECRET, SECRET]


@pytest.mark.parametrize("forget", ["prune", "reset"])
def test_a_log_that_is_compacted_meanwhile_still_waits(forget):
    made_at_the_office()
    note = at(Note, "hq").get()
    note.integer = 5
    note.save(using="hq")
    carry("hq", "ship", acknowledge=True)
    carry("ship", "hq", acknowledge=True)
    if forget == "prune":
        prune(using="hq")
    else:
        reset_synchro(using="hq")
    carry("default", "hq")
    assert texts() == [SECRET, SECRET]


def test_the_office_keeps_what_hq_has_not_got_from_itself():
    at(Note, "hq").create(char="y")
    everywhere()
    note = at(Note, "default").create(char="x", text=SECRET)
    carry("default", "ship")
    note.text = ""
    carry("ship", "hq")
    carry("hq", "default", acknowledge=True)
    carry("ship", "default", acknowledge=True)
    prune(using="default")
    carry("default", "hq")
    assert at(Note, "hq").get(char="x").text == SECRET


def test_without_the_setting_the_value_comes_all_the_same():
    at(Note, "default").create(char="x", text=SECRET)
    carry("default", "ship")
    data, _report = write("ship", to="hq")
    take(data, "hq")  # which only hears that it is not told
    assert texts() == [SECRET, ""]
    with override_settings(SYNCHRO_REDACT=REDACT):
        data, _report = write("default", to="hq")
    take(data, "hq")
    assert texts() == [SECRET, SECRET]


def test_a_foreign_key_comes_later_too():
    rules = {"ship": {"shop.person": {"city": WITHHELD}}}
    with override_settings(SYNCHRO_REDACT=rules):
        country = at(Country, "default").create(name="Poland", code="PL")
        city = at(City, "default").create(name="Łódź", country=country)
        at(Person, "default").create(name="ann", city=city)
        to_ship, _report = write("default", to="ship")
        to_hq, _report = write("default", to="hq")
    take(to_ship, "ship")
    passed_on, _report = write("ship", to="hq")
    with override_settings(SYNCHRO_REDACT=rules):
        take(passed_on, "hq")
        person = at(Person, "hq").get()
        assert person.city is None
        person.name = "eva"
        person.save(using="hq")
        to_office, _report = write("hq", to="office")
        take(to_office, "default")
        assert at(Person, "default").get().name == "eva"
        assert at(Person, "default").get().city == city
        take(to_hq, "hq")
    assert at(Person, "hq").get().city.name == "Łódź"


def test_values_that_are_replaced_are_nobodys_edit_on_the_way_either():
    rules = {"ship": {"shop.note": {"text": "not for you"}}}
    with override_settings(SYNCHRO_REDACT=rules):
        at(Note, "default").create(char="x", text=SECRET)
        to_ship, _report = write("default", to="ship")
    take(to_ship, "ship")
    assert at(Note, "ship").get().text == "not for you"
    passed_on, _report = write("ship", to="hq")
    with override_settings(SYNCHRO_REDACT=rules):
        take(passed_on, "hq")
        assert at(Note, "hq").get().text == ""
        data, _report = write("default", to="hq")
        take(data, "hq")
    assert texts() == [SECRET, SECRET]


# --- who does not keep to it --------------------------------------------------------------------------------------


def test_one_who_does_not_say_what_was_withheld_of_what_is_passed_on_changes_nothing():
    at(Note, "default").create(char="x", text=SECRET)
    carry("default", "ship")
    data, _report = write("ship", to="hq")

    def silent(header, found):
        header.pop("redacted")
        for record in found:
            record.pop("withheld", None)

    def invented(header, found):
        silent(header, found)
        for record in found:
            record["fields"]["text"] = "invented"

    with override_settings(SYNCHRO_REDACT=REDACT):
        take(forged(data, invented), "hq")
    assert at(Note, "hq").get().text == ""
    everywhere()
    assert texts() == [SECRET, SECRET]


def test_the_rest_of_a_change_that_is_known_stays_as_it_came_first():
    made_at_the_office()
    with override_settings(SYNCHRO_REDACT=REDACT):
        data, _report = write("default", to="hq")

    def otherwise(_header, found):
        found[0]["fields"]["char"] = "otherwise"

    with override_settings(SYNCHRO_REDACT=REDACT):
        take(forged(data, otherwise), "hq")
    assert at(Note, "hq").get().char == "x"
    assert "otherwise" not in str(list(ChangeLog.objects.using("hq").values_list("payload", flat=True)))
    assert texts() == [SECRET, SECRET]


# --- what is said of it -------------------------------------------------------------------------------------------


def test_histories_and_conflicts_say_that_a_field_was_not_told(capsys):
    made_at_the_office()
    note = at(Note, "ship").get()
    call_command("synchro_log", "shop.note", f"pk:{note.pk}", database="ship")
    assert "text: not told" in capsys.readouterr().out
    assert from_log("shop.note", f"pk:{note.pk}", using="ship")[0].as_dict()["withheld"] == ("text",)
    there = at(Note, "default").get()
    there.char = "office"
    there.save(using="default")
    note.char = "ship"
    note.save(using="ship")
    carry("default", "ship")
    found = Conflict.objects.using("ship").get()
    call_command("synchro_conflicts", "show", str(found.pk), database="ship")
    told = capsys.readouterr().out
    assert 'text: "" here, not told incoming' in told
    assert 'char: "ship" here, "office" incoming' in told


@pytest.mark.parametrize("express", [True, False])
def test_a_later_value_of_the_same_bundle_ends_the_waiting(express, monkeypatch):
    monkeypatch.setattr("synchro.taking.EXPRESS", express)
    monkeypatch.setattr("synchro.serialize.CHUNK", 1)  # the later change is plain, and in a chunk of its own
    note = at(Note, "default").create(char="x", text="first")
    write("default", to="elsewhere")
    note.text = "second"
    note.save(using="default")
    data, _report = write("default", to="hq")

    def withhold(_header, found):
        first, second = found
        del first["fields"]["text"]
        first["withheld"] = ["text"]
        assert second["fields"]["text"] == "second"

    take(forged(data, withhold), "hq")
    assert at(Note, "hq").get().text == "second"
    assert not Unseen.objects.using("hq").exists()


@pytest.mark.parametrize("born", [("default", "hq"), ("hq", "default"), ("default", "ship", "hq")])
@pytest.mark.parametrize("edited", [None, "hq", "default"])
@pytest.mark.parametrize("mode", ["history", "squash"])
def test_what_two_entered_for_one_object_is_recorded_though_the_ship_brought_it_first(born, edited, mode, monkeypatch):
    monkeypatch.setitem(REDACT, "ship", {"shop.country": {"name": WITHHELD}})
    for alias in born:
        at(Country, alias).create(code="PL", name=f"by {NAMES[alias]}")
    for source, target in (("default", "ship"), ("ship", "hq"), ("hq", "ship"), ("ship", "default")):
        carry(source, target, mode=mode)
    if edited:
        country = at(Country, edited).get()
        country.name = "edited"
        country.save(using=edited)
    everywhere()
    everywhere()
    names = {at(Country, alias).get().name for alias in ("default", "hq")}
    assert len(names) == 1, names
    sides = str([list(Conflict.objects.using(a).values_list("local", "incoming")) for a in ("default", "hq")])
    given = {"by office", "by hq"} if not edited else {"edited", {"hq": "by office", "default": "by hq"}[edited]}
    assert not [each for each in given - names if each not in sides], sides
    assert not Unseen.objects.using("default").exists()
    assert not Unseen.objects.using("hq").exists()


def test_what_was_withheld_on_the_way_is_not_taken_from_an_earlier_change_that_lost():
    at(Note, "default").create(char="x", text="old")
    everywhere()
    with rolled_back("default"):
        note = at(Note, "default").get()
        note.char, note.text = "c", "by the clinic"
        note.save(using="default")
        data, _report = write("default", to="elsewhere")

    def by_the_clinic(header, found):
        header["node"] = {"id": "clinic-11aa22bb", "name": "clinic"}
        header["range"] = {"from": {"seq": 0, "date": None}, "to": {"seq": 1, "date": found[-1]["date"]}}
        header["acks"], header["previous"] = {}, None
        return [{**found[-1], "seq": 1}]

    clinic = forged(data, by_the_clinic)
    note = at(Note, "default").get()
    note.char, note.text = "o", SECRET
    note.save(using="default")
    carry("default", "ship")
    carry("ship", "hq")
    assert at(Note, "hq").get().text == "old"
    with override_settings(SYNCHRO_REDACT=REDACT):
        assert take(clinic, "hq", on_conflict="merge").conflicts == 1  # both changed char: the later one wins
    assert at(Note, "hq").get().char == "o"
    assert not ChangeLog.objects.using("hq").filter(imported=False).exists()  # nobody at hq has said anything
    carry("default", "hq")
    assert texts() == [SECRET, SECRET]
    assert "by the clinic" in str(list(Conflict.objects.using("hq").values_list("incoming")))
