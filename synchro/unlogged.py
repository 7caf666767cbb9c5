"""What an import is about to overwrite or delete and the log does not know: rows that were written past it.

They gain no date by that, for it may have been on purpose. Their values are kept in a conflict record.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Sequence
from typing import Any

from django.db import models

from synchro import digests, registry, serialize
from synchro.combining import comparable, logged_states, respelled
from synchro.models import ChangeLog
from synchro.plan import FoundConflict, Incoming, Plan, Remove, Write
from synchro.registry import ModelClass, ModelSpec
from synchro.resolving import Slot
from synchro.versions import Key


def keep_unlogged(plan: Plan, own_ident: str, using: str) -> None:
    """Note as conflicts what *plan* overwrites or deletes of rows that are not as they were last logged."""
    doomed: dict[Slot, tuple[ModelSpec, Incoming]] = {}
    for op in plan.operations:
        if isinstance(op, Remove) or (isinstance(op, Write) and not op.created):
            _note(doomed, op.slot, op.spec, op.change)
    for slot, spec, change in plan.deferred:
        _note(doomed, slot, spec, change)
    for found in plan.conflicts:
        if found.state is not None and found.state == found.slot.row:
            doomed.pop(found.slot, None)
    if not doomed:
        return
    entries = {slot.change_id: slot for slot in doomed if slot.change_id is not None}
    for part in serialize.chunks(list(entries)):
        logged = ChangeLog.objects.using(using).filter(pk__in=part, link="")
        rows = list(logged.values_list("pk", "model", "imported", "payload", "version"))
        states = logged_states([row[1:] for row in rows], own_ident, using)
        for (entry, label, imported, *_), state in zip(rows, states, strict=True):
            slot = entries[entry]
            if state is not None and _differs(label, slot, state, imported=imported):
                _conflict(plan, slot, *doomed[slot])
        in_log = {row[0] for row in rows}
        for slot in _unlike_digest([entries[entry] for entry in part if entry not in in_log], using):
            _conflict(plan, slot, *doomed[slot])


def _unlike_digest(slots: Sequence[Slot], using: str) -> Iterator[Slot]:
    """Those of *slots*, whose states are no longer in the log, that are not as they were when it was emptied."""
    by_root: dict[ModelClass, dict[str, Slot]] = defaultdict(dict)
    for slot in slots:
        by_root[slot.spec.root][slot.log_text] = slot
    for root, of_root in by_root.items():
        spec = registry.spec(root)
        known = digests.remembered([Key(spec.root_label, text) for text in of_root], using)
        noted = {key.pk_text: number for key, number in known.items() if number is not None}
        for text, number in digests.of_rows(spec, noted, using).items():
            if noted[text] != number:
                yield of_root[text]


def _note(doomed: dict[Slot, tuple[ModelSpec, Incoming]], slot: Slot, spec: ModelSpec, change: Incoming | None) -> None:
    if change is not None and slot.row is not None and slot.change_id is not None:
        doomed.setdefault(slot, (spec, change))


def _differs(label: str, slot: Slot, state: dict[str, Any], *, imported: bool) -> bool:
    model = registry.by_label(label)
    if model is None or slot.row is None:
        return False
    spec = registry.spec(model)
    here = comparable(spec, slot.row)
    if imported:  # a file may be called otherwise here
        here = {f.name: here[f.name] for f in spec.fields if f.name in here and not isinstance(f, models.FileField)}
    # These say whom they mean in another way in a record than in a row, and a row follows its target's new name.
    otherwise = {*spec.generics, *(name for name, f in spec.relations.items() if not f.target_field.primary_key)}
    return any(
        name in here and name not in otherwise and here[name] != value and not respelled(spec, name, here[name], value)
        for name, value in state.items()
    )


def _conflict(plan: Plan, slot: Slot, spec: ModelSpec, change: Incoming) -> None:
    plan.counts["conflicts"] += 1
    plan.conflicts.append(
        FoundConflict(
            kind="unlogged",
            spec=spec,
            slot=slot,
            change=change,
            local=None,
            local_deleted=False,
            state=slot.row,
            winner="incoming",
            policy="newest",
        )
    )
