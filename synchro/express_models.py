"""What is plain about a model, so that chunks of its changes can be taken past the planner (see :mod:`express`)."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from django.db import connections, models

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
    fields: Mapping[str, AnyField]
    converters: Mapping[str, Convert]
    relations: Mapping[str, ModelSpec]
    links: Mapping[str, PlainLink]
    files: frozenset[str]
    handled: bool
    keyed: bool
    key_column: AnyField | None


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

    # What most values are goes past all that: a tenth of an import's time.
    kind = values.converts_as(field)
    if kind in _TEXTS:
        longest = None if kind is models.TextField or connection.vendor == "sqlite" else field.max_length

        def convert_text(value: Any) -> Any:
            usual = type(value) is str and value.isascii() and "\0" not in value
            return value if usual and (longest is None or len(value) <= longest) else convert(value)

        return convert_text
    if kind in _INTEGERS and connection.vendor != "postgresql":  # whose driver is told the size of integers
        low, high = connection.ops.integer_field_range(field.get_internal_type())
        least, most = -(2**63) if low is None else low, 2**63 - 1 if high is None else high

        def convert_integer(value: Any) -> Any:
            return value if type(value) is int and least <= value <= most else convert(value)

        return convert_integer
    return convert
