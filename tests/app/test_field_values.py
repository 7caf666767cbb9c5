"""Values at the edges: they arrive as they left, or are refused by name. With SYNCHRO_TEST_DB=mixed also from each of
the three databases to the others."""

import datetime as dt
import uuid
from decimal import Decimal

import pytest
from django.db import connections, models, transaction
from django.db.models import QuerySet
from django.test import override_settings

from synchro import registry, serialize, storable
from synchro.errors import UnloggableValueError
from synchro.values import UndecodableValueError
from tests.app.deploy import ALIASES, assert_same, brought, rolled_back, take, write
from tests.app.logged import log, tracking
from tests.project.zoo.models import Point, Specimen

pytestmark = pytest.mark.django_db(databases=ALIASES)
MIXED = len({connections[alias].vendor for alias in ALIASES}) > 1
SOURCES = ALIASES if MIXED else ALIASES[:1]


def moment(*parts):
    return dt.datetime(*parts, tzinfo=dt.UTC)


ANYWHERE = [
    {"number": 2**63 - 1, "large": 2**63 - 1, "tiny": 16383, "positive": 2**31 - 1},
    {"number": -(2**63), "tiny": -16384, "real": 1.7976931348623157e308},
    {"real": 5e-324, "money": Decimal("9999999999999.99"), "wide": Decimal("12345678901234.5")},
    {"real": 1 / 3, "money": Decimal("-0.01"), "wide": Decimal("0.00000000000000000001")},
    {"real": 123456789.123456789, "wide": Decimal("1e19"), "short": "", "text": ""},
    {"short": "éż😀\x01\n", "text": None},
    {"short": "ab ", "text": "\r\n\x7f\ufffe 😀" + "x" * 70000},
    {"moment": moment(1, 1, 1), "day": dt.date(1, 1, 1), "hour": dt.time(0)},
    {"moment": moment(9999, 12, 31, 23, 59, 59, 999999), "day": dt.date(9999, 12, 31), "hour": dt.time.max},
    {"moment": moment(1850, 1, 1, 12, 0, 0, 1), "length": dt.timedelta(microseconds=-1)},
    {"length": dt.timedelta(days=10**8), "uid": uuid.UUID(int=5), "blob": bytes(range(256))},
    {"length": dt.timedelta(days=-(10**5), microseconds=1), "uid": uuid.UUID(int=2**128 - 1), "blob": b""},
    {"data": [2**64, -(2**70), 10**400, 2**63, 9007199254740993, {"k": 18446744073709551615}]},
    {"data": [None, {"a": None, "": ""}, [[[1.0, 0.1, 1e-7, 5e-324]]], True, "null"]},
    {"data": {"$int": "5"}, "coded": {"d": Decimal("1.50"), "t": moment(2024, 1, 1, 0, 0, 0, 123456)}},
    {"data": models.Value(None, models.JSONField())},
    {"data": "", "ip": "::ffff:10.0.0.1", "mapped": "::ffff:10.0.0.1"},
    {"ip": "2001:0DB8::0001", "mapped": "10.0.0.1", "path": "/a/b", "listed": "x"},
    {"point": Point(-1, 2), "words": ["a", "b"], "secret": "abc", "shout": "straße", "saves": 5},
    {"words": [], "made": moment(2001, 1, 1), "level": 3},
]


def state(pk, using):
    return serialize.row_states(registry.spec(Specimen), [pk], using)[pk]


@pytest.mark.parametrize("source", SOURCES)
def test_f3_values_that_every_database_holds_arrive_as_they_left(source):
    with tracking("zoo"), rolled_back():
        left = []
        for number, assigned in enumerate(ANYWHERE):
            specimen = Specimen(name=str(number), **assigned)
            specimen.save(using=source)
            left.append(state(specimen.pk, source))
            assert log(using=source, model=Specimen)[-1].state == left[-1]
        data, _ = write(source)
        for target in ALIASES:
            if target != source:
                assert brought(take(data, target)) == {"added": len(ANYWHERE)}
                names = dict(QuerySet(Specimen, using=target).values_list("name", "pk"))
                assert [state(names[str(number)], target) for number in range(len(ANYWHERE))] == left
                twice = QuerySet(Specimen, using=target).values_list("tiny", "twice")
                assert all(two == 2 * one for one, two in twice)


AWKWARD = [
    ("tiny", 20000, {"mysql", "postgresql"}),
    ("real", float("nan"), {"sqlite", "mysql"}),
    ("real", float("-inf"), {"mysql"}),
    ("wide", Decimal("12345678901234567890.5"), {"sqlite"}),
    ("wide", Decimal("0.12345678901234567890"), {"sqlite"}),
    ("wide", Decimal(99999999999999999999), {"sqlite"}),
    ("short", "abcdefgh", {"mysql", "postgresql"}),
    ("text", "a\0b", {"postgresql"}),
    ("text", "\ud800", {"sqlite", "mysql", "postgresql"}),
    ("length", dt.timedelta.max, {"sqlite", "mysql"}),
    ("length", dt.timedelta.min, {"sqlite", "mysql"}),
    ("data", {"a\0": 1}, {"postgresql"}),
    ("data", ["\ud800"], {"postgresql", "mysql"}),
    ("data", float("nan"), {"sqlite", "mysql", "postgresql"}),
    ("data", [{"a": float("inf")}], {"sqlite", "mysql", "postgresql"}),
]


@pytest.mark.parametrize("using", SOURCES)
@pytest.mark.parametrize(("name", "value", "refusing"), AWKWARD)
def test_f3_what_a_database_cannot_hold_is_named(name, value, refusing, using):
    field = Specimen._meta.get_field(name)
    # A column that is computed from this one overflows first.
    value = 40000 if name == "tiny" else value
    if connections[using].vendor in refusing:
        with pytest.raises(UndecodableValueError, match=rf"^zoo\.specimen\.{name} cannot hold .+: .+"):
            storable.check(field, value, using)
        return
    storable.check(field, value, using)
    with rolled_back(using), transaction.atomic(using=using):
        if name != "tiny":
            specimen = Specimen(**{name: value})
            specimen.save(using=using)
            found = QuerySet(Specimen, using=using).values_list(name, flat=True).get()
            assert found == value or repr(found) == repr(value)


@pytest.mark.skipif(connections["default"].vendor != "sqlite", reason="SQLite rounds decimals")
def test_a_row_that_cannot_be_read_back_is_named_and_not_saved():
    with tracking("zoo"), rolled_back("default"):
        message = r"zoo\.specimen \d+ cannot be logged: wide: the row cannot be read back"
        with pytest.raises(UnloggableValueError, match=message), transaction.atomic():
            Specimen.objects.create(wide=Decimal(99999999999999999999))
        assert not Specimen.objects.exists()


@pytest.mark.skipif(not MIXED, reason="needs SYNCHRO_TEST_DB=mixed")
def test_what_the_receivers_database_cannot_hold_is_held_by_name():
    with tracking("zoo"), rolled_back():
        for name, value, refusing in AWKWARD:
            for source in ALIASES:
                if connections[source].vendor in refusing or name == "tiny":
                    continue
                with transaction.atomic(using=source):
                    Specimen(**{name: value}).save(using=source)
        for source in ALIASES:
            data, _ = write(source)
            for target in ALIASES:
                if target != source:
                    for held in take(data, target).held_changes:
                        assert held.reason.startswith("zoo.specimen."), held


@override_settings(SYNCHRO_MODELS=("zoo",))
@pytest.mark.skipif(not MIXED, reason="needs SYNCHRO_TEST_DB=mixed")
def test_from_sqlite_over_postgresql_and_mariadb_back_to_sqlite():
    first, second, third = ALIASES
    with tracking("zoo"), rolled_back(second, third):
        with rolled_back(first):
            for number, assigned in enumerate(ANYWHERE):
                Specimen(name=str(number), **assigned).save(using=first)
            data, _ = write(first)
            take(data, second)
            assert_same(first, second)
        take(write(second)[0], third)
        assert_same(second, third)
        with rolled_back(first):  # another deployment, and empty
            assert not Specimen.objects.using(first).exists()
            take(write(third)[0], first)
            assert_same(third, first)
            assert_same(first, second)
