"""Planning deletions against what still points to the deleted: nothing that lives loses what it cannot live without."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Sequence
from typing import Any

from django.db import models

from synchro import pks, references, registry, serialize
from synchro.plan import Link, Plan, Remove, Write
from synchro.registry import ModelSpec
from synchro.resolving import Outlook, Slot

# A child with such a foreign key cannot live without its parent; with the others (SET_NULL, SET_DEFAULT, SET) it can.
NEEDING = (models.CASCADE, models.PROTECT, models.RESTRICT, models.DO_NOTHING)


def may_dangle(relation: models.ForeignKey[Any, Any] | None) -> bool:
    """Whether a foreign key may go on pointing to what is no longer there."""
    if relation is None:
        return False
    return not getattr(relation, "db_constraint", True) and relation.remote_field.on_delete is models.DO_NOTHING


def referrers(spec: ModelSpec) -> list[tuple[ModelSpec, models.ForeignKey[Any, Any]]]:
    """The foreign keys of tracked models that point to objects of *spec*."""
    family = {spec.model, *spec.model._meta.get_parent_list()}
    return [
        (child, relation)
        for child in map(registry.spec, sorted(registry.tracked(), key=lambda model: model._meta.label_lower))
        for relation in child.relations.values()
        if relation.related_model._meta.concrete_model in family and not may_dangle(relation)
    ]


def keep_revived(plan: Plan) -> None:
    """Overwrite what is deleted and comes back: between the two, nothing that points to it is to be lost."""
    born: set[int] = set()
    removals: dict[int, Remove] = {}
    for op in plan.operations:
        place = id(op.slot) if not isinstance(op, Link) else None
        if isinstance(op, Remove) and place is not None:
            if place not in born:
                removals[place] = op
        elif isinstance(op, Write) and place is not None:
            removal = removals.pop(place, None)
            if removal is None:
                if op.created and not op.present:
                    born.add(place)
            elif issubclass(removal.spec.model, op.spec.model):
                removal.kept, op.created = op.spec, False
            elif issubclass(op.spec.model, removal.spec.model):
                family = [removal.spec.model, *removal.spec.model._meta.get_parent_list()]
                removal.kept, op.present = removal.spec, frozenset(model._meta.label_lower for model in family)


def keep_parents(plan: Plan, outlook: Outlook) -> None:
    """Put off the deletion of objects that living tracked children still need.

    Their sender did not know the children. They are looked at again at the end of the bundle, when the children may
    have gone or moved. Rows that a deletion sets to NULL are noted, for no signal tells of them.
    """
    removed = [op for op in plan.operations if isinstance(op, Remove)]
    if not removed:
        return
    needed = {
        id(value)
        for op in plan.operations
        if isinstance(op, Write) and op.slot.alive
        for name, value in (op.slot.state or {}).items()
        if name not in op.spec.generics and not may_dangle(op.spec.relations.get(name))
    }
    kept = {id(op.slot) for op in removed if op.kept is None and id(op.slot) in needed}
    by_spec: dict[ModelSpec, dict[str, Remove]] = defaultdict(dict)
    for op in removed:
        if op.slot.text is not None:
            by_spec[op.spec][op.slot.text] = op
    for spec, of_spec in by_spec.items():
        for child, relation in referrers(spec):
            for child_text, text in _children(child, relation, spec, list(of_spec), outlook.using):
                parent = of_spec[text].slot
                if relation.related_model._meta.label_lower in parent.rows:
                    continue  # it comes back
                if _let_go(outlook, child, relation, child_text, parent):
                    continue
                if relation.remote_field.on_delete in NEEDING:
                    kept.add(id(parent))
                else:
                    plan.nulled.append((child, child_text))
    put_off = [op for op in removed if id(op.slot) in kept]
    for op in put_off:
        plan.counts["deleted"] -= 1
        op.slot.rows.add(op.spec.label)  # as far as this plan's other operations are concerned
        if op.change is not None:
            plan.deferred.append((op.slot, op.spec, op.change))
    gone = set(map(id, put_off))
    plan.operations = [op for op in plan.operations if id(op) not in gone]


def _children(
    child: ModelSpec, relation: models.ForeignKey[Any, Any], spec: ModelSpec, texts: Sequence[str], using: str
) -> Iterator[tuple[str, str]]:
    """(text of the child's pk, text of the parent's) of the rows in *child*'s table that point to *texts*."""
    pk_values = [references.pk_value(spec, text) for text in texts]
    target = relation.target_field
    path = relation.attname if target.primary_key else f"{relation.name}__pk"
    for part in serialize.chunks([pk for pk in pk_values if pk is not None]):
        rows = serialize.rows(child, using).filter(**{f"{path}__in": part}).order_by()
        for child_pk, parent_pk in rows.values_list("pk", path):
            yield pks.to_text(child.model, child_pk), pks.to_text(spec.model, parent_pk)


def _let_go(
    outlook: Outlook, child: ModelSpec, relation: models.ForeignKey[Any, Any], child_text: str, parent: Slot
) -> bool:
    """Whether the plan deletes this child too, or makes it point elsewhere."""
    slot = outlook.by_pk(child, child_text)
    if slot is None:
        return False
    if child.label not in slot.rows:
        return True
    planned = (slot.state or {}).get(relation.name)
    return (isinstance(planned, Slot) and planned is not parent) or (slot.state is not None and planned is None)
