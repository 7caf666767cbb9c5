"""The fields of django.contrib.postgres: what is logged is the row, and what arrives is what left."""

import datetime as dt
import os
import uuid
from decimal import Decimal

import pytest
from django.db.models import QuerySet

from synchro import registry, serialize, values
from tests.app.deploy import ALIASES, carry, records, rolled_back, take, write
from tests.app.logged import log, tracking

pytestmark = [
    pytest.mark.django_db(databases=ALIASES),
    pytest.mark.skipif(os.environ.get("SYNCHRO_TEST_DB") != "postgres", reason="only PostgreSQL has these fields"),
]
NOON = dt.datetime(2024, 2, 29, 12, 0, 0, 1, tzinfo=dt.UTC)


def cases():
    from django.db.backends.postgresql.psycopg_any import DateRange, DateTimeTZRange, NumericRange

    from tests.project.zoo.models import Point

    return [
        ("numbers", [1, None, -(2**31)], [1, None, -(2**31)]),
        ("numbers", [], []),
        ("numbers", None, None),
        ("texts", ["", None, 'a"b', "{},\\", "null", "NULL", "ż😀"], ["", None, 'a"b', "{},\\", "null", "NULL", "ż😀"]),
        ("days", [dt.date(1, 1, 1), None, dt.date(9999, 12, 31)], ["0001-01-01", None, "9999-12-31"]),
        ("moments", [NOON], ["2024-02-29T12:00:00.000001Z"]),
        ("prices", [Decimal("12345678901234567890.0123456789"), Decimal(1)],
         ["12345678901234567890.0123456789", "1.0000000000"]),
        ("grid", [[1.5, None], [float("inf"), 0.1]], [[1.5, None], [{"$float": "Infinity"}, 0.1]]),
        ("blobs", [b"\x00\xff", b""], [{"$bytes": "AP8="}, {"$bytes": ""}]),
        ("uids", [uuid.UUID(int=5)], ["00000000-0000-0000-0000-000000000005"]),
        ("datas", [{"a": [1, None]}, "text", 2**64], [{"a": [1, None]}, "text", {"$int": "18446744073709551616"}]),
        ("points", [Point(1, 2), None], ["(1;2)", None]),
        ("store", {"a": "1", "b": None, "": "", "$int": "5"}, {"a": "1", "b": None, "": "", "$int": "5"}),
        ("store", {"$int": "5"}, {"$$int": "5"}),
        ("store", {}, {}),
        ("stores", [{"a": "1"}, {}], [{"a": "1"}, {}]),
        ("whole", NumericRange(1, 5, "[]"), {"$range": {"lower": 1, "upper": 6, "bounds": "[)"}}),
        ("whole", (1, None), {"$range": {"lower": 1, "upper": None, "bounds": "[)"}}),
        ("whole", NumericRange(empty=True), {"$range": "empty"}),
        ("whole", NumericRange(None, None), {"$range": {"lower": None, "upper": None, "bounds": "()"}}),
        ("big", NumericRange(-(2**62), 2**62), {"$range": {"lower": -(2**62), "upper": 2**62, "bounds": "[)"}}),
        ("exact", NumericRange(Decimal("0.10"), Decimal("2.5"), "(]"),
         {"$range": {"lower": "0.10", "upper": "2.5", "bounds": "(]"}}),
        ("period", DateTimeTZRange(NOON, None),
         {"$range": {"lower": "2024-02-29T12:00:00.000001Z", "upper": None, "bounds": "[)"}}),
        ("stay", DateRange(dt.date(2024, 1, 1), dt.date(2024, 1, 3), "(]"),
         {"$range": {"lower": "2024-01-02", "upper": "2024-01-04", "bounds": "[)"}}),
        ("closed", (NOON, NOON),
         {"$range": {"lower": "2024-02-29T12:00:00.000001Z", "upper": "2024-02-29T12:00:00.000001Z", "bounds": "[]"}}),
        ("spans", [NumericRange(1, 2), NumericRange(empty=True)],
         [{"$range": {"lower": 1, "upper": 2, "bounds": "[)"}}, {"$range": "empty"}]),
    ]  # fmt: skip


@pytest.fixture
def fossils():
    from tests.project.pg.models import Fossil

    with tracking("pg"), rolled_back():
        yield Fossil


def state(model, pk, using):
    return serialize.row_states(registry.spec(model), [pk], using)[pk]


def test_values_of_every_field_arrive_as_they_left(fossils):
    for name, assigned, expected in cases():
        created = fossils(name=name, **{name: assigned})
        created.save()
        logged = log(model=fossils)[-1].state
        assert logged[name] == expected
        assert logged == state(fossils, created.pk, "default")
    assert carry().added == len(cases())
    pairs = zip(*(QuerySet(fossils, using=using).order_by("pk") for using in ("default", "hq")), strict=True)
    for mine, theirs in pairs:
        assert state(fossils, mine.pk, "default") == state(fossils, theirs.pk, "hq")
        assert mine.found == theirs.found


def test_changes_of_these_fields_arrive_too(fossils):
    created = fossils.objects.create(numbers=[1])
    carry()
    for name, assigned, expected in cases():
        setattr(created, name, assigned)
        created.save(update_fields=[name])
        assert log(model=fossils)[-1].state[name] == expected
    assert carry().held == 0
    (arrived,) = QuerySet(fossils, using="hq").values_list("pk", flat=True)
    assert state(fossils, created.pk, "default") == state(fossils, arrived, "hq")


def test_a_generated_search_vector_is_not_sent_and_a_stored_one_is(fossils):
    created = fossils.objects.create(name="two words")
    fossils.objects.filter(pk=created.pk).update(search="'stored':1A 'it''s':2")
    created.save(update_fields=["name"])
    data, _ = write()
    assert "found" not in records(data)[-1]["fields"]
    take(data)
    arrived = QuerySet(fossils, using="hq").get()
    assert arrived.search == "'it''s':2 'stored':1A"
    assert arrived.found == "'two':1 'words':2"


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("numbers", "{1}"),
        ("numbers", ["x"]),
        ("store", [1]),
        ("store", {"a": 1}),
        ("whole", "[1,2)"),
        ("whole", {"$range": {"lower": "x", "upper": None, "bounds": "[)"}}),
    ],
)
def test_what_these_fields_cannot_hold_is_named(fossils, name, value):
    with pytest.raises(values.UndecodableValueError, match=rf"pg\.fossil\.{name} cannot hold"):
        values.decode(fossils._meta.get_field(name), value)
