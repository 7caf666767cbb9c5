"""What goes past the planner comes to the same as what the planner plans: every row of every table is compared.

Set SYNCHRO_SLOW=1 for many more examples.
"""

import io
from contextlib import contextmanager
from decimal import Decimal
from unittest import mock

import orjson
import pytest
from django.apps import apps
from django.db import NotSupportedError, connections, models
from django.db.models import QuerySet
from django.test import override_settings
from django.utils import timezone
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

from synchro import changelog, express_models, express_writing, import_bundle, registry, serialize, tables, taking
from synchro.errors import SynchroError
from synchro.models import ChangeLog
from tests.app import deploy, simulation, test_replay_property, test_zoo_property
from tests.app.deploy import at, brought, carry, listening, rolled_back
from tests.app.test_convergence import worlds
from tests.project.shop.models import City, Country, Note, Person, Tag

pytestmark = pytest.mark.django_db(databases=["default", "hq", "ship"])

EXAMPLES = 300 if test_replay_property.SLOW else 15
UNHURRIED = [HealthCheck.function_scoped_fixture, HealthCheck.too_slow]
PHASES = (Phase.explicit, Phase.reuse, Phase.generate)  # shrinking takes many minutes, and the difference is printed


# --- both ways --------------------------------------------------------------------------------------------------------


def rows(using):
    """`{table: rows}` of everything in the database."""
    connection = connections[using]
    with connection.cursor() as cursor:
        found = {}
        for table in sorted(connection.introspection.table_names(cursor)):
            cursor.execute(f"SELECT * FROM {connection.ops.quote_name(table)}")
            names = [column[0] for column in cursor.description]
            found[table] = sorted(([*zip(names, row, strict=True)] for row in cursor.fetchall()), key=repr)
    return found


def numbered_anew(using):
    """`{model: rows}` with automatic primary keys counted from 1, for a database that does not take numbers back."""
    numbers = {}
    for model in apps.get_models(include_auto_created=True):
        if isinstance(model._meta.pk, models.AutoField) and model._meta.managed and not model._meta.proxy:
            pks = QuerySet(model, using=using).order_by("pk").values_list("pk", flat=True)
            numbers[model] = {str(pk): f"#{place}" for place, pk in enumerate(pks)}
    return {
        model._meta.label: sorted((renumbered(row, numbers) for row in QuerySet(model, using=using)), key=repr)
        for model in apps.get_models(include_auto_created=True)
        if model._meta.managed and not model._meta.proxy
    }


def renumbered(instance, numbers):
    """The values of *instance* with other primary keys; what has them inside its texts is left out."""
    values = {name: value for name, value in instance.__dict__.items() if name != "_state"}

    def number(model, text):
        while isinstance(model._meta.pk, models.ForeignKey):
            model = model._meta.pk.related_model
        if isinstance(model._meta.pk, models.CompositePrimaryKey) and text:
            parts = zip(model._meta.pk_fields, orjson.loads(text), strict=True)
            return [number(field.related_model, part) if field.remote_field else part for field, part in parts]
        return numbers[model].get(str(text), "gone") if model in numbers and text not in (None, "") else text

    for field in instance._meta.concrete_fields:
        if field.primary_key or (field.remote_field and field.target_field.primary_key):
            values[field.attname] = number(field.related_model or type(instance), values[field.attname])
    for name in registry.spec(type(instance)).generics:
        del values[name]
    if "pk_text" in values:
        label = values.get("root") or values["model"]
        values["pk_text"] = number(apps.get_model(label), values["pk_text"])
    if "change_id" in values:
        values["change_id"] = number(ChangeLog, values["change_id"])
    if values.get("link"):
        values["link"] = values["link"].partition(":")[0]
    if isinstance(instance, ChangeLog) and not values["imported"]:
        values["payload"] = ""
    return sorted(values.items())


class BothWays:
    """Takes each bundle by the planner alone, takes that back, and takes it again with plain chunks past it."""

    def __init__(self):
        self.plain = self.planned = 0

    def __call__(self, source, *, using, **options):
        data = source.read()
        moment, now = changelog.now(), timezone.now()
        with (
            mock.patch.object(changelog, "now", return_value=moment),
            mock.patch.object(timezone, "now", return_value=now),
            mock.patch("secrets.token_hex", return_value=f"{moment % 2**32:08x}"),
        ):
            with rolled_back(using):
                planned = self._outcome(data, using, options, express=False)
            with mock.patch.object(taking.Taking, "_take_plain", self._counting(taking.Taking._take_plain)):
                past = self._outcome(data, using, options, express=True)
        assert past[0] == planned[0]
        for table in planned[1]:
            assert past[1][table] == planned[1][table]
        if isinstance(past[2], Exception):
            raise past[2]
        return past[2]

    @staticmethod
    def _outcome(data, using, options, *, express):
        with mock.patch.object(taking, "EXPRESS", express):
            try:
                result = import_bundle(io.BytesIO(data), using=using, **options)
                said = result.as_dict() | {"details": result.details}
            except SynchroError as error:
                result, said = error, repr(error)
        return said, rows(using) if _takes_back(using) else numbered_anew(using), result

    def _counting(self, way):
        def counted(*args):
            plain = way(*args)
            self.plain += plain
            self.planned += not plain
            return plain

        return counted


def _takes_back(using):
    """Whether the database gives the same numbers again after what came to nothing."""
    return connections[using].vendor == "sqlite"


@contextmanager
def both_ways():
    ways = BothWays()
    with mock.patch.object(deploy, "import_bundle", ways):
        yield ways


# --- whatever happens -------------------------------------------------------------------------------------------------


@settings(max_examples=EXAMPLES, suppress_health_check=UNHURRIED, phases=PHASES)
@given(worlds(), st.sampled_from((1000, 3, 1)))
def test_several_deployments_with_conflicts_and_disasters(world, chunk):
    with both_ways(), mock.patch.object(serialize, "CHUNK", chunk):
        simulation.simulate(**{**world, "size": 3})


@settings(max_examples=EXAMPLES, suppress_health_check=UNHURRIED, phases=PHASES)
@given(st.lists(test_replay_property.steps, min_size=5, max_size=40), st.sampled_from((1000, 7, 2, 1)), st.booleans())
def test_what_people_do(script, chunk, handlers):
    with both_ways():
        test_replay_property.replay(script, chunk, handlers=handlers)


@settings(max_examples=EXAMPLES, suppress_health_check=UNHURRIED, phases=PHASES)
@given(st.lists(test_zoo_property.steps, min_size=5, max_size=40), st.sampled_from((1000, 7, 1)), st.booleans())
def test_models_of_every_kind(script, chunk, handlers):
    with both_ways():
        test_zoo_property.replay(script, chunk, handlers=handlers)


# --- what is plain ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("heard", [(), (Person, City), (Person, City, Country, Tag, Person.tags.through)])
def test_new_objects_later_changes_and_links_are_plain_and_so_they_are_for_a_third(heard):
    country = Country.objects.create(code="PL")
    tags = [Tag.objects.create(name=f"t{n}") for n in range(5)]
    for n in range(20):
        city = City.objects.create(name=f"c{n}", country=country, extra={"n": [n, 0.5, None]}, latitude="1.5")
        person = Person.objects.create(name=f"p{n}", city=city, boss=Person.objects.first())
        person.tags.add(*tags[: n % 5])
    with both_ways() as ways, mock.patch.object(serialize, "CHUNK", 10), listening(*heard):
        assert carry("default", "hq").added == 46
        for person in Person.objects.all():
            person.name += "!"
            person.save()
            person.save()
        Person.objects.first().tags.add(*tags)
        Person.objects.last().tags.remove(tags[0])
        report = carry("default", "hq")
        assert (report.changed, report.unchanged, report.m2m) == (20, 20, 6)
        assert carry("hq", "ship").added == 46
        assert ways.planned == 0
        assert ways.plain > 20
    deploy.assert_same("default", "hq", "ship")


@pytest.mark.parametrize("deed", ["delete", "conflict", "unlogged", "known by its key", "twice"])
def test_what_the_planner_has_to_see(deed):
    tag, country = Tag.objects.create(name="a"), Country.objects.create(code="PL")
    if deed == "known by its key":
        Tag.objects.using("hq").create(name="a")
    with both_ways() as ways:
        carry("default", "hq")
        assert ways.plain == (deed != "known by its key")
        if deed == "conflict":
            Country.objects.using("hq").filter().first().save()
        elif deed == "unlogged":
            Country.objects.using("hq").update(name="there")
        elif deed == "twice":
            person = Person.objects.create(name="p")
            person.tags.add(tag)
            person.tags.remove(tag)
        elif deed == "delete":
            tag.delete()
        country.name = "here"
        country.save()
        carry("default", "hq")
        assert ways.planned == 1


# What columns of the usual kinds are given in lines without tags: what fits, what does not, and other spellings.
GIVEN = (
    None, True, False, 0, 1, -1, 300, 2**15, -(2**31), 2**31, 2**53 + 1, 2**63 - 1, -(2**63), 0.0, 1.5, 1e300,
    "", "a", "zażółć", "a" * 200, "a" * 5000, "a-b_c", "1", "2026-11-23", "20261123", "2026-W48-1", "2026-02-30",
    "9999-12-31", "2026-1-3", "2026-11-23T10:11:12Z", "2026-11-23T10:11:12.000123Z", "2026-11-23T10:11:12.5Z",
    "2026-11-23 10:11:12Z", "2026-11-23T10:11:12", "2026-11-23T10:11:12+02:00", "2026-11-23T10:11:12+00:00",
    "0001-01-01T00:00:00Z", "9999-12-31T23:59:59.999999Z", "1.50", "0.50", "-1.50", "-0.50", "-0.00", "007.10", "1.5",
    "+1.50", "1e3", "NaN", "Infinity", "123456.78", "12345678901234567.89", "0.1234567890123456", " 1.50", "1.50\n",
    "10:11:12", "1b4e28ba-2fa1-11d2-883f-0016d3cca427", [], ["a", 1, None], {}, {"a": {"b": [1.5, True, "ż"]}, "": ""},
)  # fmt: skip


def columns_of_every_kind():
    return [
        field
        for model in sorted(registry.tracked(), key=lambda model: model._meta.label)
        for field in model._meta.local_concrete_fields
        if not field.is_relation and not field.primary_key
    ]


def taken(convert, value, using):
    """What the driver is given, in the end; False where the value is refused."""
    try:
        found = convert(value)
    except Exception:  # noqa: BLE001  whatever it is, the planner says so
        return False
    found = getattr(found, "obj", found)  # JSON for PostgreSQL
    return repr(str(found) if isinstance(found, Decimal) and connections[using].vendor == "sqlite" else found)


@pytest.mark.parametrize("zone", [True, False])
def test_quick_converters_come_to_what_fields_come_to(zone):
    quick = 0
    with override_settings(USE_TZ=zone):
        for field in columns_of_every_kind():
            slowly = express_models.converter(field, "hq")
            convert = express_models.quick_converter(field, slowly, "hq")
            kind = express_models.taken_as(field, "hq")
            quick += convert is not slowly or kind is not None
            for value in GIVEN:
                expected = taken(slowly, value, "hq")
                assert taken(convert, value, "hq") == expected, (field, value)
                if kind is not None and (value is None or type(value) is kind):
                    assert repr(value) == expected, (field, value)
    assert quick > 20


def test_what_comes_with_a_tag_is_decoded():
    values = ["$", "a", {"$x": 1}, {"a": {"$y": None}}, {"$$": "$"}, "\\u0000", {"u": "\\u0000"}]
    for value in values:
        Note.objects.create(char="c", text=value if isinstance(value, str) else "", data=value)
    with both_ways() as ways, mock.patch.object(serialize, "CHUNK", 1):
        carry("default", "hq")
    assert ways.plain + ways.planned == len(values)
    assert [each.data for each in at(Note)] == values


def test_a_report_names_the_first_changes_and_counts_all():
    for n in range(5):
        Tag.objects.create(name=f"t{n}")
    with mock.patch.object(taking, "DETAILS", 3), mock.patch.object(serialize, "CHUNK", 2):
        report = carry("default", "hq")
    assert (report.added, len(report.details)) == (5, 3)


@pytest.mark.skipif(connections["hq"].vendor != "postgresql", reason="only PostgreSQL has COPY")
def test_where_copy_is_refused_rows_are_inserted():
    Tag.objects.create(name="a")
    with mock.patch.object(tables, "_copy", side_effect=NotSupportedError("row security")):
        assert carry("default", "hq").added == 1
    assert [each.name for each in at(Tag)] == ["a"]


def test_a_long_line_is_for_the_planner_and_not_its_whole_bundle():
    Note.objects.create(char="short")
    Note.objects.create(char="long", text="x" * 70_000)
    Note.objects.create(char="short, too")
    with both_ways() as ways, mock.patch.object(serialize, "CHUNK", 1):
        carry("default", "hq")
    assert (ways.plain, ways.planned) == (2, 1)


def test_new_objects_that_point_to_each_other_arrive_where_numbers_come_from_the_database():
    one, other = Person.objects.create(name="one"), Person.objects.create(name="other")
    one.boss, other.boss = other, one
    one.save()
    other.save()
    with mock.patch.object(express_writing, "_number"):
        assert brought(carry("default", "hq"))["added"] == 2
    assert {each.name: each.boss.name for each in at(Person)} == {"one": "other", "other": "one"}


def test_whatever_a_field_raises_holds_its_record_alone():
    Note.objects.create(char="good", ip="10.0.0.1")
    Note.objects.create(char="bad", ip="10.0.0.2")
    real = models.GenericIPAddressField.get_db_prep_value

    def prepared(self, value, connection, prepared=False):
        if value == "10.0.0.2" and connection.alias == "hq":
            raise ValueError("not this one")
        return real(self, value, connection, prepared)

    with mock.patch.object(models.GenericIPAddressField, "get_db_prep_value", prepared):
        report = carry("default", "hq")
    assert (report.added, report.held) == (1, 1)
    assert [each.char for each in at(Note)] == ["good"]
