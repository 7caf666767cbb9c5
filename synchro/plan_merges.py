"""Planning merges: two ids that turn out to be one object."""

from __future__ import annotations

from typing import Any

from synchro.plan import HoldError, Incoming, Plan
from synchro.registry import ModelSpec
from synchro.resolving import Outlook, Slot


def attach(plan: Plan, outlook: Outlook, slot: Slot, spec: ModelSpec, object_id: str) -> None:
    """*object_id* is *slot*, also for everybody else.

    Two ids that turn out to be one object are a change of its own.
    """
    others = sorted(slot.ids - {object_id})
    outlook.attach(slot, object_id)
    if spec.borrows_identity:
        return
    plan.attached.append((slot, spec, object_id))
    if others:
        plan.merges.append((slot, spec, others[0], object_id))
        plan.counts["merged"] += 1


def plan_same(plan: Plan, outlook: Outlook, spec: ModelSpec, change: Incoming, number: int) -> None:
    """Somebody found two ids to be one object. Raises ``HoldError`` where that cannot be followed."""
    record: Any = change.record
    first, second = record.same
    one, other = outlook.by_id(spec, first), outlook.by_id(spec, second)
    if one is not None and other is not None and one is not other:
        if one.alive and other.alive:
            raise HoldError(f"{first} and {second} are one object elsewhere and two rows here")
        one, other = (one, other) if one.alive else (other, one)
        for object_id in sorted(other.ids):
            outlook.attach(one, object_id)
            plan.attached.append((one, spec, object_id))
    slot = one or other
    if slot is None:
        slot = outlook.create(spec, first)
    plan.slots[number] = slot
    for object_id in (first, second):
        if object_id not in slot.ids or one is None or other is None:
            outlook.attach(slot, object_id)
            plan.attached.append((slot, spec, object_id))
