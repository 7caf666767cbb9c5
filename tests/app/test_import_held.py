"""Changes that cannot be applied: held with a reason, tried again, and in nobody's way."""

from unittest import mock

import pytest
from django.db import IntegrityError, connections
from django.db.models import signals

from synchro.errors import HeldError
from synchro.models import ChangeLog, Held, Node
from synchro.recording import Recorder
from tests.app.deploy import (
    assert_same,
    at,
    brought,
    carry,
    forged,
    lines,
    listening,
    queries,
    records,
    take,
    unchanged,
    write,
)
from tests.project.plain.models import Color
from tests.project.shop.models import (
    Car,
    City,
    Club,
    Country,
    Device,
    Note,
    Person,
    Tag,
)

pytestmark = pytest.mark.django_db(databases=["default", "hq", "ship"])
HQ = "hq"


# --- I16: held --------------------------------------------------------------------------------------------------------


def with_record(data, change, *, model=None):
    """The bundle *data* after *change* was called with its first record (of *model*) and what the header says of it."""

    def edit(header, found):
        record = next(each for each in found if model in (None, each["model"]))
        change(record, header["models"][record["model"]])

    return forged(data, edit)


def unknown_field(record, info):
    record["fields"]["color"] = "red"
    info["fields"]["color"] = "CharField"


def bad_value(record, info):
    record["fields"]["name"] = ["no", "text"]


def missing_target(record, info):
    record["refs"]["city"] = f"{record['refs']['city']}999"
    record["fields"]["city"] = 999


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        (unknown_field, "shop.person has no field 'color' here"),
        (bad_value, "shop.person.name cannot hold ['no', 'text']"),
        (missing_target, "city points to shop.city "),
    ],
)
def test_i16_a_bad_record_is_held_and_named_and_does_not_block(change, reason):
    city = City.objects.create(name="a", country=Country.objects.create(code="PL"))
    person = Person.objects.create(name="p", city=city)
    Device.objects.create(name="depends on p", owner=person)
    Tag.objects.create(name="after")
    data, _ = write()
    report = take(with_record(data, change, model="shop.person"))
    assert reason in report.held_changes[0].reason
    assert [each.model for each in report.held_changes] == ["shop.person", "shop.device"]
    assert (report.held, report.added) == (2, 3)
    assert set(Held.objects.using(HQ).values_list("reason", flat=True)) == {h.reason for h in report.held_changes}
    assert Node.objects.using(HQ).get(own=False).taken_seq == 5


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        (unknown_field, r"shop\.person: held, for this deployment lacks fields of it \(not known here: color\)"),
        (bad_value, r"1 change cannot be applied: shop\.person"),
        (missing_target, r"1 change cannot be applied: shop\.person"),
    ],
)
def test_i16_strict_refuses_the_file_and_leaves_everything_as_it_was(change, reason):
    city = City.objects.create(name="a", country=Country.objects.create(code="PL"))
    Person.objects.create(name="p", city=city)
    data = with_record(write()[0], change, model="shop.person")
    with unchanged(), pytest.raises(HeldError, match=reason):
        take(data, strict=True)
    with unchanged(), pytest.raises(HeldError):
        take(data, strict=True, dry_run=True)


def test_i16_an_unknown_and_an_untracked_model_are_held_by_name():
    Tag.objects.create(name="a")
    Club.objects.create(name="c")
    data, _ = write()

    def edit(header, found):
        for record, label in zip(found, ("shop.nosuch", "plain.color"), strict=True):
            header["models"][label] = header["models"][record["model"]]
            record["model"] = label
        found[1]["fields"] = {"name": "written past the settings"}

    with unchanged("ship"):
        report = take(forged(data, edit))
    assert [each.reason for each in report.held_changes] == [
        "shop.nosuch is not installed here",
        "plain.color is not tracked here: SYNCHRO_MODELS does not name it",
    ]
    assert not at(Color).exists()


def test_i16_what_is_held_goes_in_when_what_it_waits_for_has_come():
    at(Car).create(plate="1", color=at(Color).create(name="another"))
    Car.objects.create(plate="1")
    assert carry().held == 1
    Tag.objects.create(name="a")
    report = carry()
    assert (report.held, report.added) == (1, 1)
    at(Car).get().delete()
    Tag.objects.create(name="b")
    report = carry()
    assert (report.held, report.added) == (0, 2)
    assert not Held.objects.using(HQ).exists()
    assert at(Car).get().plate == "1"
    Car.objects.update(plate="2")  # unlogged; what is compared next must come from a change
    car = Car.objects.get()
    car.save()
    assert brought(carry()) == {"changed": 1}


def test_i16_a_held_change_that_was_overtaken_has_no_effect():
    at(Car).create(plate="1", color=at(Color).create(name="another"))
    car = Car.objects.create(plate="1")
    assert carry().held == 1
    car.plate = "2"
    car.save()
    report = carry()
    assert at(Car).count() == 2
    at(Car).get(plate="1").delete()
    Tag.objects.create(name="a")
    report = carry()
    assert (report.held, report.conflicts) == (0, 0)
    assert at(Car).get().plate == "2"


def test_i16_one_bad_record_of_a_thousand():
    at(Car).create(plate="500", color=at(Color).create(name="another"))
    for number in range(1000):
        Car.objects.create(plate=str(number))
    count, report = queries(HQ, carry)
    assert (report.added, report.held) == (999, 1)
    assert [each.model for each in report.held_changes] == ["shop.car"]
    assert count < 1500
    assert ChangeLog.objects.using(HQ).filter(imported=True).count() == 1000


def test_i16_positions_stay_gapless_when_records_fail():
    at(Car).create(plate="b", color=at(Color).create(name="another"))
    for plate in "abc":
        Car.objects.create(plate=plate)
    with listening(Car):
        assert carry().held == 1
    data, report = write(HQ)
    assert [record["seq"] for record in records(data) if "seq" in record] == list(range(1, report.to_seq + 1))


def test_i16_a_held_record_is_relayed_untouched():
    Person.objects.create(name="p")
    take(with_record(write()[0], unknown_field))
    data, _ = write(HQ)
    (record,) = records(data)
    assert record["fields"]["color"] == "red"
    assert record["origin"]["seq"] == 1
    assert lines(data)[0]["models"]["shop.person"]


def test_i16_a_handler_that_refuses_holds_its_record():
    def refuse(sender, instance, using, **kwargs):
        if using == HQ and instance.name == "bad":
            raise ValueError("not with me")

    for name in ("good", "bad", "also good"):
        Person.objects.create(name=name)
    signals.pre_save.connect(refuse, sender=Person)
    try:
        report = carry()
        assert (report.added, report.held) == (2, 1)
        assert report.held_changes[0].reason == "ValueError: not with me"
    finally:
        signals.pre_save.disconnect(refuse, sender=Person)
    Tag.objects.create(name="a")
    assert carry().added == 2
    assert_same("default", "hq")


# --- foreign keys that point nowhere ----------------------------------------------------------------------------------


def test_a_foreign_key_that_points_nowhere_holds_its_record_alone():
    person = Person.objects.create(name="p")
    Device.objects.create(name="good", owner=person)
    Device.objects.create(name="bad", owner=person)
    Tag.objects.create(name="a")
    data, _ = write()

    def edit(header, found):
        found[2]["fields"]["owner"] = 999
        del found[2]["refs"]["owner"]

    report = take(forged(data, edit))
    assert (report.held, report.added) == (1, 3)
    assert report.held_changes[0].reason == "owner names shop.person 999 without an id"


def test_nodes_first_heard_of_in_what_was_undone_are_written_down_again():
    Note.objects.using("hq").create(char="a")
    carry("hq", "default")
    for number in range(3):
        Note.objects.create(integer=number)
    data, _ = write(to="ship")
    refused = iter([IntegrityError("no room")])
    conflicts = Recorder._conflicts

    def refuses_once(recorder, plan, entries):
        for error in refused:
            raise error
        conflicts(recorder, plan, entries)

    with mock.patch.object(Recorder, "_conflicts", refuses_once):
        assert brought(take(data, "ship")) == {"added": 4}
    origins = ChangeLog.objects.using("ship").order_by("seq").values_list("origin__ident", flat=True)
    assert [each.rpartition("-")[0] for each in origins] == ["hq", "office", "office", "office"]
    connections["ship"].check_constraints()
