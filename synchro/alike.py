"""Objects without a natural key that are here already: told by a unique constraint, or by being alike in every field.

Migrations, fixtures and receivers of ``post_migrate`` make the same rows on each deployment (a default locale, the root
of a tree, a first workflow), and say nothing of it to the log. When the first change of such an object arrives, the row
that nobody has claimed yet is taken for it.

A chunk's candidates are looked up with a few queries a model; which of them is the one is decided when the foreign keys
of the record are known.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from typing import Any, TypeAlias

from django.core.signals import setting_changed
from django.db import models
from django.db.models import Q

from changelog_format import Change, ObjectRecord
from synchro import naturalkeys, pks, references, registry, serialize, storable, values
from synchro.combining import respelled
from synchro.registry import AnyField, ModelSpec
from synchro.resolving import Outlook, Slot, foreign_value, target_spec

MOST_ROWS = 20
"""Rows a record that a search may bring before it is given up: such rows are no leftovers of a migration."""


@dataclass(frozen=True, slots=True, kw_only=True)
class _Shape:
    """By what the rows of a model are told apart.

    ``constraints``: the names of the fields of each unique constraint. ``plain``: the fields by whose values rows can
    be looked up. ``compared``: the names of all that have to be equal; not the times at which each side made its row.
    """

    constraints: tuple[tuple[str, ...], ...]
    plain: tuple[AnyField, ...]
    compared: frozenset[str]


_PLAIN = (models.CharField, models.IntegerField, models.BooleanField, models.UUIDField, models.DateField)


@cache
def _shape(spec: ModelSpec) -> _Shape | None:
    """The shape of *spec*, None where its objects are told apart by other means."""
    model = spec.model
    if spec.borrows_identity or naturalkeys.portable_pk(model) or naturalkeys.has_natural_key(model):
        return None
    fields = {field.name: field for field in spec.fields}
    found: list[tuple[str, ...]] = [(field.name,) for field in spec.fields if field.unique]
    for each in (model, *model._meta.get_parent_list()):
        found += [tuple(names) for names in each._meta.unique_together]
        found += [tuple(constraint.fields) for constraint in each._meta.total_unique_constraints]
    return _Shape(
        constraints=tuple(names for names in dict.fromkeys(found) if set(names) <= set(fields)),
        plain=tuple(
            field
            for field in spec.fields
            if values.converts_as(field) in _PLAIN and not _own_time(field) and field.name not in spec.generics
        ),
        compared=frozenset(name for name, field in fields.items() if not _own_time(field)),
    )


def clear_caches(**_signal: Any) -> None:
    """Forget what was read from the settings. Called when one changes (in tests)."""
    _shape.cache_clear()


setting_changed.connect(clear_caches, dispatch_uid="synchro.alike")


def _own_time(field: AnyField) -> bool:
    return bool(getattr(field, "auto_now", False) or getattr(field, "auto_now_add", False))


def equal(spec: ModelSpec, state: Mapping[str, Any], given: Mapping[str, Any], names: Iterable[str] = ()) -> bool:
    """Whether a row of *state* holds what is *given* (of *names*, or everything); foreign keys may be slots."""
    for name in names or given:
        if name not in state or name not in given:
            return False
        mine, value = state[name], given[name]
        if isinstance(value, Slot) and not isinstance(mine, Slot):
            try:
                value = foreign_value(value, spec, name)  # as the row holds it
            except KeyError:
                return False
        if mine is not value and mine != value and not respelled(spec, name, mine, value):
            return False
    return True


class Alike:
    """The rows of one chunk that may be what its records are about."""

    def __init__(self, outlook: Outlook) -> None:
        self._outlook = outlook
        self._candidates: dict[ModelSpec, dict[str, Slot]] = defaultdict(dict)

    def load(self, records: Iterable[tuple[ModelSpec, Change | ObjectRecord]]) -> None:
        """Look up the candidates for those of *records* whose objects are not known here."""
        unknown: dict[ModelSpec, dict[str, Change | ObjectRecord]] = defaultdict(dict)
        for spec, record in records:
            if record.fields is not None and _shape(spec) is not None:
                slot = self._outlook.by_id(spec, record.id)
                if slot is None or not slot.alive:
                    unknown[spec].setdefault(record.id, record)  # its first state is likest
        for spec, of_spec in unknown.items():
            texts = self._search(spec, list(of_spec.values()))
            self._candidates[spec].update(self._outlook.existing(spec, texts))

    def find(self, spec: ModelSpec, object_id: str, given: Mapping[str, Any]) -> Slot | None:
        """The one row here that *object_id*, which has the values *given*, is; None if there is none."""
        shape = _shape(spec)
        candidates = self._candidates.get(spec)
        if shape is None or not candidates:
            return None
        birth = references.birth_node(object_id)
        possible = [
            slot
            for slot in candidates.values()
            if slot.alive and slot.state is not None and birth not in map(references.birth_node, slot.ids)
        ]
        for names in shape.constraints:
            if all(given.get(name) is not None for name in names):
                for slot in possible:
                    if equal(spec, slot.state or {}, given, names) and self._free(spec, shape, slot, given):
                        return slot
        compared = shape.compared & set(given)
        if compared != shape.compared:
            return None
        same = [slot for slot in possible if _unclaimed(slot) and equal(spec, slot.state or {}, given, compared)]
        return min(same, key=lambda slot: (len(slot.text or ""), slot.text or "")) if same else None

    @staticmethod
    def _free(spec: ModelSpec, shape: _Shape, slot: Slot, given: Mapping[str, Any]) -> bool:
        """Whether a row that a unique constraint tells may be taken: nothing of it is lost then.

        A row that has a history of its own is another object, whose clash is somebody's to decide, unless both are
        alike in every field.
        """
        if _unclaimed(slot) or not registry.is_tracked(spec.model):
            return True
        return equal(spec, slot.state or {}, given, shape.compared & set(given))

    # --- looking up, by the chunk -------------------------------------------------------------------------------------

    def _search(self, spec: ModelSpec, records: Sequence[Change | ObjectRecord]) -> set[str]:
        def known(fields: Mapping[str, Any], name: str, object_id: str) -> Any:
            target = target_spec(spec, name, fields)
            slot = None if target is None else self._outlook.by_id(target, object_id)
            if slot is None:
                return None
            try:
                return foreign_value(slot, spec, name)
            except KeyError:
                return None

        states = [(record.fields or {}, record.refs or {}) for record in records]
        return search(spec, states, known, self._outlook.using)


Known: TypeAlias = Callable[[Mapping[str, Any], str, str], Any]
"""With a record's fields, the name of a foreign key and an object id: what the row would hold, None where unknown."""


def search(
    spec: ModelSpec, states: Sequence[tuple[Mapping[str, Any], Mapping[str, str]]], known: Known, using: str
) -> set[str]:
    """The texts of the primary keys of the rows that may be like one of *states* (fields and refs of records).

    Nothing for a model whose objects are told apart by other means.
    """
    shape = _shape(spec)
    if shape is None:
        return set()
    names = {field.name: field for field in spec.fields}
    searches = [[names[name] for name in constraint] for constraint in shape.constraints]
    found: set[str] = set()
    for number, fields in enumerate([*searches, list(shape.plain)]):
        rows = [row for state in states if (row := _row(fields, *state, known, using)) is not None]
        if not rows or (not fields and number < len(searches)):
            continue
        condition = Q()
        for field, column in zip(fields, zip(*rows, strict=True), strict=False):
            given = list(dict.fromkeys(value for value in column if value is not None))
            part = Q(**{f"{field.attname}__in": given})
            condition &= part if None not in column else part | Q(**{f"{field.attname}__isnull": True})
        most = MOST_ROWS * len(rows)
        pk_values = serialize.rows(spec, using).filter(condition).order_by("pk")
        part_ = list(pk_values.values_list("pk", flat=True)[: most + 1])
        if len(part_) <= most:
            found.update(pks.to_text(spec.model, pk) for pk in part_)
    return found


def _row(
    columns: Sequence[AnyField], fields: Mapping[str, Any], refs: Mapping[str, str], known: Known, using: str
) -> tuple[Any, ...] | None:
    """The python values of *columns* in a record; None where one of them is not known yet."""
    row = []
    for field in columns:
        value, object_id = fields.get(field.name), refs.get(field.name)
        if object_id is not None:
            value = known(fields, field.name, object_id)
            if value is None:
                return None
        try:
            found = values.decode(field, value)
            storable.check(field, found, using)
            row.append(found)
        except values.UndecodableValueError:
            return None
    return tuple(row)


def _unclaimed(slot: Slot) -> bool:
    """Whether nobody has ever logged or named the object."""
    return slot.stamp is None and not slot.ids
