"""Planning merges: two ids that turn out to be one object."""

from __future__ import annotations

from typing import Any

from synchro import reasons, references, registry
from synchro.plan import Fold, HoldError, Incoming, Operation, Plan, Write
from synchro.registry import ModelSpec
from synchro.resolving import Outlook, Slot


def attach(plan: Plan, outlook: Outlook, slot: Slot, spec: ModelSpec, object_id: str) -> None:
    """*object_id* is *slot*, also for everybody else.

    Two ids that turn out to be one object are a change of its own.
    """
    others = sorted(slot.ids) if object_id not in slot.ids else []
    outlook.attach(slot, object_id)
    if spec.borrows_identity:
        return
    plan.attached.append((slot, spec, object_id))
    if others:
        plan.merges.append((slot, spec, others[0], object_id))
        plan.counts["merged"] += 1


def plan_same(plan: Plan, outlook: Outlook, spec: ModelSpec, change: Incoming, number: int) -> None:
    """Somebody found two ids to be one object. Raises ``HoldError`` where one of them means nothing here."""
    record: Any = change.record
    first, second = record.same
    for object_id in (first, second):
        slot = outlook.by_id(spec, object_id)
        if slot is not None and slot.imaginary and references.birth_node(object_id) == outlook.own:
            raise HoldError(reasons.UNKNOWN_OWN(id=object_id))
    one, other = outlook.by_id(spec, first), outlook.by_id(spec, second)
    slot = one or other or outlook.create(spec, first)
    if one is not None and other is not None and one is not other:
        if one.known and other.known and registry.is_for_people(spec.model):
            raise HoldError(reasons.ACCOUNTS(model=spec.label))
        slot = unite(plan, outlook, spec, one, other, announce=False, called=record.id)
    for object_id in (first, second):
        if object_id not in slot.ids or one is None or other is None:
            outlook.attach(slot, object_id)
            plan.attached.append((slot, spec, object_id))
    plan.slots[number] = slot


def unite(
    plan: Plan, outlook: Outlook, spec: ModelSpec, one: Slot, other: Slot, *, announce: bool, called: str = ""
) -> Slot:
    """*one* and *other* are one object: the slot that stands for it from now on.

    Where both have a row or a history here, these have to be folded before anything else can be planned on them. With
    *announce* it was found out here, and others are to be told: of an id of each, whatever other ids they have.
    """
    if one.known and other.known:
        plan.folds.append(Fold(spec, one.log_text, other.log_text, announce, called))
    elif announce and one.ids and other.ids and not spec.borrows_identity:
        plan.merges.append((one, spec, min(one.ids), min(other.ids)))
        plan.counts["merged"] += 1
    if (other.alive and not one.alive) or (other.known and not one.known):
        one, other = other, one
    plan.attached += [(one, spec, object_id) for object_id in sorted(other.ids)]
    outlook.unite(one, other)
    return one


def collisions(plan: Plan, outlook: Outlook) -> None:
    """Note as folds what *plan* gives the natural key of another living object, where both may be one.

    Two objects of which one node says that they are two (both have an id born there) are never one.
    """
    for op in list(plan.operations):
        if not isinstance(op, Write) or op.slot.key is None or op.slot.text is None:
            continue
        for other in outlook.of_key(op.spec, op.slot.key):
            births = {references.birth_node(each) for each in other.ids}
            if other is not op.slot and births.isdisjoint(map(references.birth_node, op.slot.ids)):
                called = "" if op.change is None else op.change.arrived.id
                plan.folds.append(Fold(op.spec, op.slot.log_text, other.log_text, announce=True, called=called))


def clashing_keys(plan: Plan, outlook: Outlook) -> list[Operation]:
    """The writes of *plan* that give an object the natural key of another one, which may yet get another key."""
    return [
        op
        for op in plan.operations
        if isinstance(op, Write) and op.slot.key is not None and len(outlook.of_key(op.spec, op.slot.key)) > 1
    ]
