"""Values: what is logged is what the row says, and what is decoded is what was encoded."""

import datetime as dt
import json
import math
import uuid
from decimal import Decimal

import orjson
import pytest
from django.core.serializers.json import DjangoJSONEncoder
from django.db import connection, models, transaction
from django.test import override_settings
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from changelog_format.values import JSON_NULL
from synchro import pks, registry, serialize, values
from synchro.values import INEXACT, UndecodableValueError
from tests.app.logged import ALIASES, decoded, log, row_values
from tests.project.odd.models import DraftField, Measure, Mood, Seat, Ticket, UpperField
from tests.project.shop.models import City, Device, Note, Parcel, Person, Profile

pytestmark = pytest.mark.django_db(databases=ALIASES)
SQLITE = connection.vendor == "sqlite"
MYSQL = connection.vendor == "mysql"

# PostgreSQL takes no NUL and no lone surrogate, MySQL's utf8mb4 no surrogate.
TEXT = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="" if SQLITE else "\0"))
JSON_TEXT = TEXT | st.text() if SQLITE else TEXT
JSON = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.integers(min_value=-(10**40), max_value=10**40)
    | st.floats(allow_nan=False, allow_infinity=False)
    | JSON_TEXT,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(JSON_TEXT | st.just("$int"), inner, max_size=4),
    max_leaves=12,
)
MOMENTS = st.datetimes(
    min_value=dt.datetime(1000, 1, 2),  # noqa: DTZ001  the zone comes from `timezones`
    max_value=dt.datetime(9999, 12, 30),  # noqa: DTZ001
    timezones=st.timezones() | st.just(dt.UTC),
    allow_imaginary=False,
)
NOTES = st.fixed_dictionaries(
    {},
    optional={
        "integer": st.integers(-(2**31), 2**31 - 1),
        "big": st.integers(-(2**63), 2**63 - 1),
        "small": st.integers(0, 32767),
        "real": st.none() | st.floats(allow_nan=not MYSQL, allow_infinity=not MYSQL),
        "price": st.none() | st.decimals(-99_999_999, 99_999_999, places=4) | st.decimals(-1, 1, places=2),
        "done": st.none() | st.booleans(),
        "char": TEXT.filter(lambda text: len(text) <= 200),
        "char_null": st.none() | TEXT.filter(lambda text: len(text) <= 200),
        "text": TEXT,
        "day": st.none() | st.dates(min_value=dt.date(1000, 1, 1)),
        "moment": st.none() | MOMENTS,
        "hour": st.none() | st.times(),
        "length": st.none() | st.timedeltas(dt.timedelta(days=-(10**7)), dt.timedelta(days=10**7)),
        "uid": st.none() | st.uuids(version=4),  # MariaDB takes no others
        "blob": st.none() | st.binary(),
        "data": JSON | st.builds(lambda: models.Value(None, models.JSONField())),
        "slug": st.text("abc-_", max_size=50),
        "url": st.just("https://ä.example/?q=1"),
        "email": st.just("a@example.org"),
        "ip": st.none() | st.ip_addresses().map(str),
        "file": st.just("notes/ä.txt"),
    },
)


def alike(one, other):
    """Equal, where NaN equals itself and types count."""
    if isinstance(one, float) and isinstance(other, float) and math.isnan(one):
        return math.isnan(other)
    if type(one) in (list, tuple) and type(other) in (list, tuple):
        return len(one) == len(other) and all(map(alike, one, other))
    if isinstance(one, dict) and isinstance(other, dict):
        return one.keys() == other.keys() and all(alike(one[key], other[key]) for key in one)
    if isinstance(one, (bytes, memoryview)):
        return bytes(one) == bytes(other)
    return type(one) is type(other) and one == other


@pytest.mark.filterwarnings("ignore:DateTimeField")
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow], max_examples=150)
@given(assigned=NOTES, partial=st.booleans())
def test_what_is_logged_is_what_the_row_says(assigned, partial):
    with transaction.atomic():
        note = Note.objects.create(**({} if partial else assigned))
        if partial and assigned:
            for name, value in assigned.items():
                setattr(note, name, value)
            note.save(update_fields=list(assigned))
        logged = decoded(Note, log(model=Note)[-1].state)
        row = row_values(Note, note.pk)
        null = logged.pop("data")
        assert (null is None) == Note.objects.filter(pk=note.pk, data__isnull=True).exists()
        if not isinstance(null, models.Value):
            assert alike(null, row.pop("data"))
        else:
            assert row.pop("data") is None
        assert all(alike(logged[name], row[name]) for name in row), (logged, row)
        # The same by the other way, from the row.
        state = serialize.row_states(registry.spec(Note), [note.pk], "default")[note.pk]
        assert state == log(model=Note)[-1].state
        # And what is decoded goes into a row that says the same.
        other = Note(**decoded(Note, state))
        other.save()
        again = serialize.row_states(registry.spec(Note), [other.pk], "default")[other.pk]
        assert again == state
        transaction.set_rollback(True)


# --- field by field ---------------------------------------------------------------------------------------------------


def field(model, name):
    return model._meta.get_field(name)


NOTE_VALUES = [
    ("integer", -5, -5),
    ("big", 2**63 - 1, 2**63 - 1),
    ("real", 0.1, 0.1),
    ("real", float("inf"), {"$float": "Infinity"}),
    ("real", float("-inf"), {"$float": "-Infinity"}),
    ("price", Decimal("1.5"), "1.5000"),
    ("price", Decimal("-0.0001"), "-0.0001"),
    ("done", True, True),
    ("done", None, None),
    ("char", "", ""),
    ("char", "\0 ä 😀", "\0 ä 😀"),
    ("char_null", None, None),
    ("day", dt.date(1, 1, 1), "0001-01-01"),
    ("moment", dt.datetime(2024, 2, 29, 12, 0, 0, 1, tzinfo=dt.UTC), "2024-02-29T12:00:00.000001Z"),
    ("moment", dt.datetime(2024, 2, 29, 12, tzinfo=dt.UTC), "2024-02-29T12:00:00Z"),
    ("hour", dt.time(23, 59, 59, 999999), "23:59:59.999999"),
    ("length", dt.timedelta(days=-1, microseconds=5), {"$duration": "-P0DT23H59M59.999995S"}),
    ("uid", uuid.UUID(int=5), "00000000-0000-0000-0000-000000000005"),
    ("blob", b"\x00\xff", {"$bytes": "AP8="}),
    ("data", [2**64, {"a": None}], [{"$int": "18446744073709551616"}, {"a": None}]),
    ("data", {"$int": 5}, {"$$int": 5}),
    ("data", "\ud800", {"$utf16": "2AA="}),
    ("data", "a\0b", "a\0b"),
    ("ip", "::1", "::1"),
    ("file", "notes/a.txt", "notes/a.txt"),
]


@pytest.mark.parametrize(("name", "value", "expected"), NOTE_VALUES)
def test_the_forms_of_values(name, value, expected):
    column = field(Note, name)
    encoded = values.encode(column, value)
    assert encoded == expected
    assert orjson.loads(orjson.dumps(encoded)) == encoded
    assert alike(values.decode(column, encoded), value) or values.decode(column, encoded) == value


def test_json_null_and_sql_null():
    column = field(Note, "data")
    assert values.encode(column, None) is None
    assert values.decode(column, None) is None
    assert values.encode(column, JSON_NULL) == {"$json": None}
    note = Note.objects.create(data=values.decode(column, {"$json": None}))
    assert not Note.objects.filter(pk=note.pk, data__isnull=True).exists()


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("integer", models.F("integer")),
        ("integer", True),
        ("integer", "5"),
        ("integer", 5.0),
        ("big", 2**63),
        ("done", 1),
        ("char", Mood.GOOD),
        ("char", 5),
        ("char", models.F("text")),
        ("price", 1.5),
        ("price", "1.5"),
        ("price", Decimal("1.00005")),
        ("price", Decimal("NaN")),
        ("price", Decimal("-0")),
        ("price", Decimal(10**8)),
        ("real", 5),
        ("real", -0.0),
        ("real", float("nan")),
        ("moment", dt.datetime(2024, 1, 1)),  # noqa: DTZ001  the point
        ("moment", dt.date(2024, 1, 1)),
        ("moment", dt.datetime.min.replace(tzinfo=dt.timezone(dt.timedelta(hours=1)))),
        ("day", dt.datetime(2024, 1, 1, tzinfo=dt.UTC)),
        ("hour", dt.time(1, tzinfo=dt.UTC)),
        ("uid", "00000000-0000-0000-0000-000000000005"),
        ("blob", "text"),
        ("data", None),
        ("data", (1,)),
        ("data", {1: 1}),
        ("data", [Decimal(1)]),
        ("data", float("inf")),
        ("data", [1e16]),
        ("data", {"a": -0.0}),
        ("ip", "::1"),
        ("file", None),
    ],
)
def test_what_an_instance_cannot_tell(name, value):
    assert values.codec(field(Note, name)).encode_assigned(value) is INEXACT


def test_a_field_class_of_somebody_else_is_read_from_the_row():
    for name in ("upper", "draft"):
        for value in ("x", None):
            assert values.codec(field(Measure, name)).encode_assigned(value) is INEXACT
    assert values.codec(field(Measure, "mood")).encode_assigned("good") == "good"
    assert values.codec(field(Measure, "wide")).encode_assigned(Decimal(1)) is INEXACT
    assert values.encode(field(Measure, "upper"), "X") == "X"
    assert issubclass(UpperField, models.CharField)
    assert issubclass(DraftField, models.CharField)


class Point:
    def __init__(self, x, y):
        self.x, self.y = x, y


class PointField(models.Field):
    def from_db_value(self, value, expression, connection):
        return self.to_python(value)

    def to_python(self, value):
        return value if value is None or isinstance(value, Point) else Point(*map(int, value.split(",")))

    def get_prep_value(self, value):
        return None if value is None else f"{value.x},{value.y}"

    def value_to_string(self, obj):
        return self.get_prep_value(self.value_from_object(obj))


def attached(column, name="it"):
    column.set_attributes_from_name(name)
    column.model = Note
    return column


def test_a_custom_field_goes_by_djangos_own_contract():
    column = attached(PointField())
    assert values.encode(column, Point(1, 2)) == "1,2"
    assert values.encode(column, None) is None
    back = values.decode(column, "1,2")
    assert (back.x, back.y) == (1, 2)
    with pytest.raises(UndecodableValueError, match=r"shop\.note\.it cannot hold 'x'"):
        values.decode(column, "x")


def test_a_json_field_with_an_encoder():
    class Decoder(json.JSONDecoder):
        def decode(self, text):
            return ("decoded", super().decode(text))

    column = attached(models.JSONField(encoder=DjangoJSONEncoder, decoder=Decoder))
    assert values.codec(column).encode_assigned({"a": 1}) is INEXACT
    assert values.encode(column, {"a": Decimal("1.5")}) == {"a": "1.5"}
    assert values.decode(column, {"a": "1.5"}) == ("decoded", {"a": "1.5"})


@override_settings(USE_TZ=False)
def test_without_time_zones():
    column = field(Note, "moment")
    naive = dt.datetime(2024, 7, 1, 12, 0, 0, 5)  # noqa: DTZ001  the point
    assert values.codec(column).encode_assigned(naive) == "2024-07-01T12:00:00.000005"
    assert values.codec(column).encode_assigned(naive.replace(tzinfo=dt.UTC)) is INEXACT
    assert values.decode(column, "2024-07-01T12:00:00.000005") == naive
    with override_settings(TIME_ZONE="Europe/Warsaw"):
        assert values.decode(column, "2024-07-01T12:00:00Z") == dt.datetime(2024, 7, 1, 14)  # noqa: DTZ001


@override_settings(USE_TZ=True, TIME_ZONE="Europe/Warsaw")
def test_a_naive_moment_of_a_deployment_without_time_zones():
    found = values.decode(field(Note, "moment"), "2024-07-01T12:00:00")
    assert found.astimezone(dt.UTC) == dt.datetime(2024, 7, 1, 10, tzinfo=dt.UTC)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("integer", "x"),
        ("integer", True),
        ("integer", 1.5),
        ("integer", [1]),
        ("real", "x"),
        ("real", [1]),
        ("price", "x"),
        ("price", True),
        ("price", {"a": 1}),
        ("done", 1),
        ("done", "yes"),
        ("char", [1]),
        ("char", {"$bytes": "AP8="}),
        ("day", "2024-02-30"),
        ("day", 5),
        ("moment", "yesterday"),
        ("hour", "25:00"),
        ("length", "P1D"),
        ("length", 5),
        ("uid", "x"),
        ("uid", 5),
        ("blob", "AP8="),
        ("data", {"$int": "x"}),
    ],
)
def test_what_a_field_cannot_take_is_named(name, value):
    with pytest.raises(UndecodableValueError, match=rf"shop\.note\.{name} cannot hold|needed|is no"):
        values.decode(field(Note, name), value)


# --- primary keys -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("model", "pk", "text"),
    [
        (Person, 5, "5"),
        (Person, "5", "5"),
        (Person, -1, "-1"),
        (Profile, 5, "5"),
        (Profile, "5", "5"),
        (Device, uuid.UUID(int=5), "00000000-0000-0000-0000-000000000005"),
        (Device, "00000000000000000000000000000005", "00000000-0000-0000-0000-000000000005"),
        (Parcel, "a-b", "a-b"),
        (Parcel, 5, "5"),
        (Ticket, "{}", "{}"),
        (Ticket, '{"$int":"5"}', '{"$int":"5"}'),
        (Ticket, "null", "null"),
        (Ticket, '"', '"'),
        (Ticket, "ä/b:c 😀", "ä/b:c 😀"),
        (Seat, (3, "a,b]"), '[3,"a,b]"]'),
        (Seat, ("3", "a"), '[3,"a"]'),
    ],
)
def test_primary_keys_as_text_and_back(model, pk, text):
    assert pks.to_text(model, pk) == text
    back = pks.from_text(model, text)
    assert pks.to_text(model, back) == text
    assert back == pks.converted(model, pk)
    assert type(back) is type(pks.converted(model, pk))


@given(TEXT)
def test_any_text_is_a_primary_key(text):
    assert pks.from_text(Ticket, pks.to_text(Ticket, text)) == text


@pytest.mark.parametrize(
    ("model", "text"),
    [
        (Person, "x"),
        (Person, ""),
        (Person, "1.5"),
        (Person, "true"),
        (Person, "null"),
        (Person, "[]"),
        (Person, '"5"'),
        (Person, "007"),
        (Device, "x"),
        (Device, "5"),
        (Seat, "[3]"),
        (Seat, "3"),
        (Seat, '["x","y"]'),
        (Seat, "[3,"),
        (Seat, '[null,"a"]'),
    ],
)
def test_what_is_no_primary_key(model, text):
    with pytest.raises(UndecodableValueError):
        pks.from_text(model, text)


@pytest.mark.parametrize(
    ("column", "pk", "text"),
    [
        (models.DecimalField(max_digits=6, decimal_places=2), Decimal("1.5"), "1.50"),
        (models.DateField(), dt.date(2024, 2, 29), "2024-02-29"),
        (models.DateTimeField(), dt.datetime(2024, 2, 29, tzinfo=dt.UTC), "2024-02-29T00:00:00Z"),
        (models.DurationField(), dt.timedelta(days=1), '{"$duration":"P1DT00H00M00S"}'),
        (models.FloatField(), 1.5, "1.5"),
        (models.BooleanField(), True, "true"),
        (models.BinaryField(), b"\xff", '{"$bytes":"/w=="}'),
        (models.GenericIPAddressField(), "10.0.0.1", "10.0.0.1"),
    ],
)
def test_primary_keys_of_other_kinds(column, pk, text, monkeypatch):
    monkeypatch.setattr(Ticket._meta, "pk_fields", [attached(column, "code")], raising=False)
    assert pks.to_text(Ticket, pk) == text
    assert pks.from_text(Ticket, text) == pk


# --- states -----------------------------------------------------------------------------------------------------------


def test_a_chunk_of_rows_is_one_query(django_assert_num_queries):
    Note.objects.bulk_create([Note(integer=number) for number in range(300)])
    found = list(Note.objects.values_list("pk", flat=True))
    for count in (10, 300):
        with django_assert_num_queries(1):
            states = serialize.row_states(registry.spec(Note), found[:count], "default")
        assert len(states) == count


def test_rows_are_read_past_managers(monkeypatch):
    def refuse(self):
        raise RuntimeError("outside a scope")

    Note.objects.bulk_create([Note(integer=5)])
    monkeypatch.setattr(models.Manager, "get_queryset", refuse)
    pk = serialize.rows(registry.spec(Note), "default").get().pk
    assert serialize.row_states(registry.spec(Note), [pk], "default")[pk]["integer"] == 5


def test_the_state_of_an_instance_or_nothing():
    spec = registry.spec(City)
    city = City(name="W", country_id=5, population=1)
    assert serialize.instance_state(spec, city) == {
        "name": "W",
        "country": 5,
        "population": 1,
        "latitude": None,
        "founded": None,
        "extra": {},
    }
    city.population = "2"
    assert serialize.instance_state(spec, city) is None
    assert "population" not in serialize.held_state(spec, city)
    assert serialize.held_state(spec, city)["name"] == "W"
