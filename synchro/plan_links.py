"""Planning the changes of m2m links, which are decided one by one."""

from __future__ import annotations

from typing import Any

from synchro import reasons, registry
from synchro.deciding import Decider
from synchro.models import Action
from synchro.plan import HoldError, Incoming, Link, Plan
from synchro.plan_merges import attach
from synchro.registry import ModelSpec
from synchro.resolving import Outlook, Slot, canonical_ends, frozen
from synchro.versions import Current, Key, Stamp


def plan_link(plan: Plan, outlook: Outlook, decider: Decider, spec: ModelSpec, change: Incoming, number: int) -> None:
    """One link made or removed. Raises ``HoldError`` where it cannot be."""
    record: Any = change.record
    relation = spec.links.get(record.field)
    if relation is None:
        if record.field in spec.skipped:
            return
        raise HoldError(reasons.NO_LINK_FIELD(model=spec.label, field=repr(record.field)))
    source = _end(plan, outlook, spec, record.id, record.key)
    target = _end(plan, outlook, registry.spec(relation.related_model), record.target.id, record.target.key)
    source, target = canonical_ends(relation, source, target)
    plan.slots[number], plan.targets[number] = source, target
    present = record.action == Action.LINK
    key = _link_key(spec, record.field, source, target)
    place = (source, spec, record.field, target)
    current = outlook.link(place, key)
    decisions = {each[:4]: each[4] for each in plan.link_decisions}
    kept = decisions.get(place, decider.kept_link(place))
    wins, decided = decider.decide_link(
        plan,
        spec,
        change,
        source,
        current,
        present=present,
        kept=kept,
        number=number,
        place=Key(spec.label, source.log_text, f"{record.field}:{target.log_text}"),
    )
    if decided != wins:
        plan.link_decisions.append((*place, present if decided else not present))
    if wins:
        plan.stamped_links.append((*place, change.stamp, not present, number))
        outlook.set_link(place, Current(change.stamp, not present, None))
    if not decided:
        plan.counts["stale"] += 1
    elif source.alive and target.alive:  # otherwise the log remembers the link until both are there
        plan.operations.append(Link(source, spec, relation, target, present, change))
        plan.counts["m2m"] += 1
        plan.details.append(("m2m", record.model, record.id))


def plan_link_again(plan: Plan, outlook: Outlook, spec: ModelSpec, change: Incoming) -> None:
    """A link change that was taken before: to be made again if it is still the newest that is known of its link."""
    record: Any = change.record
    relation = spec.links.get(record.field)
    if relation is None:
        return
    source = outlook.by_id(spec, record.id)
    target = outlook.by_id(registry.spec(relation.related_model), record.target.id)
    if source is None or target is None or not (source.alive and target.alive):
        return
    source, target = canonical_ends(relation, source, target)
    current = outlook.link((source, spec, record.field, target), _link_key(spec, record.field, source, target))
    if current is not None and current.stamp == change.stamp:
        plan.operations.append(Link(source, spec, relation, target, record.action == Action.LINK, change))


def link_register(outlook: Outlook, spec: ModelSpec, record: Any) -> tuple[Key, Stamp | None]:
    """How the log names the link that *record* is about, and its newest version, as far as both ends are here."""
    relation = spec.links.get(record.field)
    source = outlook.by_id(spec, record.id)
    target = None if relation is None else outlook.by_id(registry.spec(relation.related_model), record.target.id)
    if relation is None or source is None or target is None:
        return Key("", ""), None
    source, target = canonical_ends(relation, source, target)
    current = outlook.link((source, spec, record.field, target), _link_key(spec, record.field, source, target))
    key = Key(spec.label, source.log_text, f"{record.field}:{target.log_text}")
    return key, None if current is None else current.stamp


def _end(plan: Plan, outlook: Outlook, spec: ModelSpec, object_id: str, key: list[Any] | None) -> Slot:
    slot = outlook.by_id(spec, object_id)
    if slot is None:
        slot = outlook.by_key(spec, frozen(key), object_id)
        if slot is None:
            form = reasons.LINK_NOT_MADE if registry.gives_rights(spec.model) else reasons.LINK_ABSENT
            raise HoldError(form(model=spec.label, id=object_id))
        attach(plan, outlook, slot, spec, object_id)
    return slot


def _link_key(spec: ModelSpec, name: str, source: Slot, target: Slot) -> Key | None:
    if source.text is None or target.text is None:
        return None
    return Key(spec.label, source.text, f"{name}:{target.text}")
