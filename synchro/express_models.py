"""What is plain about a model, so that chunks of its changes can be taken past the planner (see :mod:`express`)."""

from __future__ import annotations

import datetime as dt
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from dataclasses import field as attribute
from decimal import Decimal
from typing import Any, cast

from django.conf import settings
from django.db import connections, models
from django.db.backends.base.operations import BaseDatabaseOperations

from synchro import conf, embedded, handlers, naturalkeys, registry, storable, tables, upcasting, values
from synchro.links import through_columns
from synchro.registry import AnyField, ModelClass, ModelSpec

Convert = Callable[[Any], Any]


@dataclass(frozen=True, slots=True, eq=False, kw_only=True)
class PlainLink:
    """An m2m field: its through table, the two columns in it, and the other end; ``handled``: one by one."""

    field: models.ManyToManyField[Any, Any]
    through: ModelClass
    columns: tuple[AnyField, AnyField]
    target: ModelSpec
    handled: bool


@dataclass(frozen=True, slots=True, eq=False, kw_only=True)
class PlainModel:
    """A model of one table with automatic numbers.

    ``converters``: field name → from the JSON form to what the database's driver takes, for all but foreign keys.
    ``relations``: the models that these point to. ``files``: the fields that name a file. ``handled``: they are
    saved one by one. ``key_column``: the column that is the natural key, where it is one.
    """

    spec: ModelSpec
    using: str
    fields: Mapping[str, AnyField]
    converters: Mapping[str, Convert]
    relations: Mapping[str, ModelSpec]
    links: Mapping[str, PlainLink]
    files: frozenset[str]
    handled: bool
    keyed: bool
    key_column: AnyField | None
    _shapes: dict[tuple[str, ...], Shape | None] = attribute(default_factory=dict)

    def shape(self, names: tuple[str, ...]) -> Shape | None:
        """How records are converted that give the fields *names*; None where one of them is not known here."""
        if names not in self._shapes:
            self._shapes[names] = self._shape_of(names)
        return self._shapes[names]

    def _shape_of(self, names: tuple[str, ...]) -> Shape | None:
        known = {*self.converters, *self.relations}
        if not known.issuperset(name for name in names if name not in self.spec.skipped):
            return None
        columns = [name for name in names if name in self.converters]
        kinds = {name: taken_as(self.fields[name], self.using) for name in columns}
        return Shape(
            converted=tuple((name, self.converters[name]) for name in columns),
            exact=tuple((name, kind) for name, kind in kinds.items() if kind is not None),
            quick=tuple(
                (name, quick_converter(self.fields[name], self.converters[name], self.using))
                for name, kind in kinds.items()
                if kind is None
            ),
            pointing=tuple((name, self.relations[name].label) for name in names if name in self.relations),
            left_out=tuple(name for name in names if name not in known),
            files=tuple(name for name in columns if name in self.files),
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Shape:
    """How the values of one set of fields are converted: looked at once, and not for each record.

    ``converted``: all but foreign keys, each with its converter. Where a line has neither tags nor NULs: ``exact``
    are those that stand as the driver takes them, if they are of this type or None, and ``quick`` are the others.
    ``pointing``: the foreign keys, and the models that they point to. ``left_out``: what is skipped.
    """

    converted: tuple[tuple[str, Convert], ...]
    exact: tuple[tuple[str, type], ...]
    quick: tuple[tuple[str, Convert], ...]
    pointing: tuple[tuple[str, str], ...]
    left_out: tuple[str, ...]
    files: tuple[str, ...]


def plain_model(label: str, version: int, using: str) -> PlainModel | None:  # noqa: PLR0911
    """What is plain about the model that records call *label*, in that *version*; None where something is not."""
    model = registry.by_label(label)
    if model is None or not registry.is_tracked(model) or conf.keep_pks():
        return None
    spec = registry.spec(model)
    way = upcasting.way(label, version)
    if spec.label != label or spec.version != version or way.steps or way.gap is not None or upcasting.moves():
        return None
    if not _plain_table(spec) or not all(_plain_table(registry.spec(each.related_model)) for each in _pointing(spec)):
        return None
    if embedded.functions_of(spec) or any(True for _ in spec.loose):  # generic foreign keys are loose, too
        return None
    if naturalkeys.allows_many(model) or naturalkeys.key_spec(model).opaque:
        return None
    if any(tables.pointed_to_by(field) for field in spec.fields):
        return None
    if any(not relation.target_field.primary_key for relation in spec.relations.values()):
        return None
    return PlainModel(
        spec=spec,
        using=using,
        fields={field.name: field for field in spec.fields},
        converters={f.name: converter(f, using) for f in spec.fields if f.name not in spec.relations},
        relations={name: registry.spec(relation.related_model) for name, relation in spec.relations.items()},
        links={name: link for name, field in spec.links.items() if (link := _plain_link(field)) is not None},
        files=frozenset(field.name for field in spec.fields if isinstance(field, models.FileField)),
        handled=handlers.has_handlers(model),
        keyed=naturalkeys.has_natural_key(model),
        key_column=_key_column(model),
    )


def _pointing(spec: ModelSpec) -> list[models.ForeignKey[Any, Any]]:
    return list(spec.relations.values())


def _plain_table(spec: ModelSpec) -> bool:
    """Whether an object of *spec* is one row, numbered by the database."""
    model = spec.model
    return (
        isinstance(model._meta.pk, models.AutoField)
        and spec.root is model
        and not model._meta.get_parent_list()
        and not registry.descendants(model)
    )


def _plain_link(field: models.ManyToManyField[Any, Any]) -> PlainLink | None:
    target = registry.spec(field.related_model)
    symmetrical = getattr(field.remote_field, "symmetrical", False)
    if symmetrical or not _plain_table(target):
        return None
    return PlainLink(
        field=field,
        through=registry.through(field),
        columns=through_columns(field),
        target=target,
        handled=handlers.has_link_handlers(field),
    )


def _key_column(model: ModelClass) -> AnyField | None:
    """The text column that is the natural key of *model*, where it is one column of the table."""
    key = naturalkeys.key_spec(model)
    if key.paths is None or len(key.paths) != 1 or key.leaves[0].model is not model:
        return None
    leaf = key.leaves[0]
    return leaf if key.paths[0] == leaf.name and values.converts_as(leaf) in _TEXTS else None


_TEXTS = (models.CharField, models.TextField)
_INTEGERS = (models.IntegerField, models.AutoField, models.BigAutoField, models.SmallAutoField)


def converter(field: AnyField, using: str) -> Convert:
    """From the JSON form of *field*'s values to what the driver of the database *using* takes.

    ``UndecodableValueError`` where the field or the database cannot hold one; what else a field of somebody else's
    raises.
    """
    connection = connections[using]
    prepare = field.get_db_prep_save
    decode, check = values.decode, storable.check

    def convert(value: Any) -> Any:
        found = decode(field, value)
        check(field, found, using)
        return prepare(found, connection)

    return convert


def quick_converter(field: AnyField, convert: Convert, using: str) -> Convert:  # noqa: PLR0911  (one kind each)
    """As *convert*, which is :func:`converter`'s, for values of a line in which no tag and no NUL is.

    What most values are goes past the five calls a value that Django and *convert* make.
    """
    connection, kind = connections[using], values.converts_as(field)
    operations: Any = connection.ops
    if kind in _TEXTS:
        longest = longest_text(field, using)
        return convert if longest is None else _quick_text(convert, longest)
    if kind in _INTEGERS:
        return _quick_integer(convert, field, operations)
    if kind is models.DateField:
        return _quick_date(convert, operations.adapt_datefield_value)
    if kind is models.DateTimeField and settings.USE_TZ:
        return _quick_moment(convert, operations.adapt_datetimefield_value)
    if isinstance(field, models.DecimalField) and kind is models.DecimalField:
        as_it_is = type(operations).adapt_decimalfield_value is BaseDatabaseOperations.adapt_decimalfield_value
        return _quick_decimal(convert, field, connection.vendor) if as_it_is else convert
    if isinstance(field, models.JSONField) and kind is models.JSONField:
        return convert if field.encoder or field.decoder else _quick_json(convert, operations.adapt_json_value)
    return convert


def longest_text(field: AnyField, using: str) -> int | None:
    """How many characters the database *using* takes for the text *field*, where it says so."""
    limited = values.converts_as(field) is not models.TextField and connections[using].vendor != "sqlite"
    return field.max_length if limited else None


def taken_as(field: AnyField, using: str) -> type | None:
    """The type of which every value in a line without tags and NULs is what the driver takes; None: there is none."""
    kind = values.converts_as(field)
    if kind in _TEXTS:
        return str if longest_text(field, using) is None else None
    own: dict[Any, type] = {models.BooleanField: bool, models.FloatField: float}
    return own.get(kind)


def _quick_text(convert: Convert, longest: int) -> Convert:
    return lambda value: value if type(value) is str and len(value) <= longest else convert(value)


def _quick_integer(convert: Convert, field: AnyField, operations: Any) -> Convert:
    kind, adapt = field.get_internal_type(), operations.adapt_integerfield_value
    low, high = operations.integer_field_range(kind)
    least, most = -(2**63) if low is None else low, 2**63 - 1 if high is None else high
    return lambda value: adapt(value, kind) if type(value) is int and least <= value <= most else convert(value)


def _quick_date(convert: Convert, adapt: Convert) -> Convert:
    parse = dt.date.fromisoformat

    def convert_date(value: Any) -> Any:
        try:
            return adapt(parse(value))
        except (ValueError, TypeError):
            return convert(value)

    return convert_date


def _quick_moment(convert: Convert, adapt: Convert) -> Convert:
    parse = dt.datetime.fromisoformat

    def convert_moment(value: Any) -> Any:
        try:
            moment = parse(value)
        except (ValueError, TypeError):
            return convert(value)
        return adapt(moment) if moment.tzinfo is dt.UTC else convert(value)

    return convert_moment


def _quick_decimal(convert: Convert, field: models.DecimalField[Any, Any], vendor: str) -> Convert:
    # Both may be None since Django 6.0, which the stubs do not know.
    places, digits = cast("int | None", field.decimal_places), cast("int | None", field.max_digits)
    if not places or not digits or digits <= places or digits > values.SQLITE_DECIMAL_DIGITS:
        return convert
    spelled = re.compile(rf"-?(?:0|[1-9][0-9]{{0,{digits - places - 1}}})\.[0-9]{{{places}}}").fullmatch
    # SQLite's driver would be given the text of the number in any case.
    adapt: Convert = str if vendor == "sqlite" else Decimal

    def convert_decimal(value: Any) -> Any:
        return adapt(value) if type(value) is str and spelled(value) and value[:2] != "-0" else convert(value)

    return convert_decimal


def _quick_json(convert: Convert, adapt: Callable[[Any, None], Any]) -> Convert:
    return lambda value: convert(value) if value is None else adapt(value, None)
