"""Completing what came without values that this deployment is told: they come later, with the same change.

The log gets them, and so does the row, unless a later change gave the field its value. What does not win is recorded as
a conflict where one side did not know of the other.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import orjson
from django.utils import timezone

from changelog_format import Change, RelayError
from changelog_format.dates import format_date
from synchro import apply, nodes, portable, redacting, registry, serialize, upcasting
from synchro.ancestry import Ancestry
from synchro.models import ChangeLog, Conflict, Held, RedactedField, Unseen
from synchro.plan import Incoming, Plan
from synchro.planner import Planner
from synchro.registry import ModelSpec
from synchro.trust import Vouch
from synchro.unseen import ROW, STATES, Place, Row, any_left, logs, marks_of, newest_of, spec_of, state_of
from synchro.versions import Key


class Completing:
    """Takes what changes that come say of fields that were waited for."""

    def __init__(self, planner: Planner, vouch: Vouch | None, using: str) -> None:
        """*vouch* raises where the sender is not believed what a node is said to have changed."""
        self._planner = planner
        self._vouch = vouch
        self._using = using
        redacted = bool(redacting.withheld_from_somebody()) or RedactedField.objects.using(using).exists()
        self._may_lack = redacted or any_left(using)

    def take(self, changes: Sequence[Incoming], *, noted: bool) -> tuple[Plan, dict[Place, ModelSpec]]:
        """What was written for *changes*, which are all known by now; and the objects that are whole by that.

        *noted*: some of what came before in this import lacks something.
        """
        told = {
            (change.stamp.node, change.origin_seq): change
            for change in changes
            if isinstance(change.record, Change) and change.record.fields is not None
        }
        if not told or not (noted or self._may_lack):
            return Plan(), {}
        pairs = self._logged(told)
        lacking = {row.pk: names for row, change in pairs if (names := _filled(row, change))}
        marks = marks_of({row.place for row, _ in pairs}, self._using)
        pairs = [(row, change) for row, change in pairs if row.pk in lacking or row.place in marks]
        if not pairs:
            return Plan(), {}
        return self._complete([pair for pair in pairs if self._believed(pair[1])], lacking)

    def _believed(self, change: Incoming) -> bool:
        try:
            if self._vouch is not None:
                self._vouch(change.stamp.node)
        except RelayError:
            return False
        return True

    def _logged(self, told: Mapping[tuple[str, int], Incoming]) -> list[tuple[Row, Incoming]]:
        by_node: dict[str, list[int]] = defaultdict(list)
        for node, seq in told:
            by_node[node].append(seq)
        found: list[tuple[Row, Incoming]] = []
        for node, seqs in by_node.items():
            for part in serialize.chunks(seqs):
                rows = ChangeLog.objects.using(self._using).filter(
                    origin__ident=node, origin_seq__in=part, imported=True, link="", action__in=STATES
                )
                for *row, seq in rows.values_list(*ROW, "origin_seq"):
                    logged, change = Row(*row), told[node, seq]
                    if logged.stamp == change.stamp and logged.version == change.arrived_version:
                        found.append((logged, change))
        order = {key: number for number, key in enumerate(told)}
        return sorted(found, key=lambda pair: order[pair[1].stamp.node, pair[1].origin_seq])

    def _complete(
        self, pairs: Sequence[tuple[Row, Incoming]], lacking: Mapping[int, set[str]]
    ) -> tuple[Plan, dict[Place, ModelSpec]]:
        using = self._using
        done = Plan()
        for row, change in pairs:
            if row.pk in lacking:
                self._fill(row, change)
        not_in = Held.objects.using(using).filter(change__in=[row.pk for row, _ in pairs])
        held = set(not_in.values_list("change", flat=True))
        waiting = _waiting(using)
        completed: dict[Place, ModelSpec] = {}
        for row, change in pairs:
            if row.pk in held or row.place in waiting:
                continue  # it goes in with what it says by now
            spec = spec_of(row)
            if self._settle(row, change, lacking.get(row.pk, set()), done) and spec is not None:
                completed[row.place] = spec
        left = marks_of(completed, using)
        return done, {place: spec for place, spec in completed.items() if place not in left}

    def _fill(self, row: Row, change: Incoming) -> None:
        """Put into the log what it lacks of the change; the rest stays as it came first."""
        arrived: Any = change.arrived
        data, came = row.data(), arrived.to_dict()
        names = set(data["withheld"]) & came["fields"].keys() - set(came.get("withheld", ()))
        for part in ("fields", "refs", "files"):
            given = {name: each for name, each in came.get(part, {}).items() if name in names}
            if given:
                data[part] = {**data.get(part, {}), **given}
        left = [name for name in data.pop("withheld") if name not in names]
        if left:
            data["withheld"] = left
        using = self._using
        ChangeLog.objects.using(using).filter(pk=row.pk).update(payload=orjson.dumps(data).decode())
        record: Any = change.record
        now = {upcasting.current_field(row.model, row.version, name) for name in names}
        for pk, side in Conflict.objects.using(using).filter(change_id=row.pk).values_list("pk", "incoming"):
            whole = orjson.loads(side)
            for part, of_record in (("fields", record.fields), ("refs", record.refs)):
                given = {name: each for name, each in (of_record or {}).items() if name in now}
                whole[part] = {**whole.get(part, {}), **given}
            Conflict.objects.using(using).filter(pk=pk).update(incoming=orjson.dumps(whole).decode())

    def _settle(self, row: Row, change: Incoming, filled: set[str], done: Plan) -> bool:
        """Take of *change* the fields that this object lacks; whether there were such."""
        using = self._using
        marks = marks_of({row.place}, using).get(row.place, [])
        carried = _carried_by(change)
        names = {mark.field for mark in marks if mark.field in carried} | filled
        if not names:
            return False
        log = logs({row.place}, using)[row.place]
        state = state_of(row, using)
        recorded = Conflict.objects.using(using).filter(change_id=row.pk).exists()
        taken: set[str] = set()
        unaware: list[tuple[bool, Row]] = []
        for name in names:
            newest = newest_of(log, name, but=row.pk)
            of_field = [mark for mark in marks if mark.field == name]
            since = min((mark.row.seq for mark in of_field), default=row.seq)
            later = newest is not None and newest.stamp > row.stamp
            if state is not None and not later:
                taken.add(name)
            if state is not None:
                others = self._unaware(row, log, name, since, recorded=recorded)
                unaware += ((each.stamp > row.stamp, each) for each in others)
            latest = row.stamp if newest is None else max(row.stamp, newest.stamp)
            ended = [mark.pk for mark in of_field if mark.row.stamp <= latest or mark.row.made_on == row.stamp]
            Unseen.objects.using(using).filter(pk__in=ended).delete()
        if unaware and state is not None:
            self._record(row, change, unaware, names, state)
        self._write(change, taken, done)
        after = state_of(row, using) or {}
        for name in names & after.keys():
            left = Unseen.objects.using(using).filter(change__root=row.root, change__pk_text=row.pk_text, field=name)
            left.update(before=orjson.dumps(after[name]).decode())
        # Others may have got the change from here as it was.
        return bool(filled) or not names <= max(log, key=lambda each: each.stamp, default=row).carried().keys()

    def _unaware(self, row: Row, log: Sequence[Row], name: str, since: int, *, recorded: bool) -> Iterator[Row]:
        """Which gave the field *name* its value without knowing what *row* says of it, nor that of them.

        Of the newest one, and of the newest one that was made here while the value was waited for, from position
        *since* on. What was here before was compared with the rest of the change when that came; *recorded*: it is in a
        conflict already.
        """
        own = nodes.own_idents(self._using)
        here = [each for each in log if each.seq > since and each.origin in own]
        for newest in {newest_of(log, name, but=row.pk), newest_of(here, name, but=row.pk)}:
            if newest is None or newest.origin == row.origin or (newest.seq <= since and recorded):
                continue
            if newest.seq > since and newest.origin in own:
                yield newest
                continue
            ancestry, key = Ancestry(self._using), Key(row.root, row.pk_text)
            ancestry.load([(key, min(row.stamp, newest.stamp))])
            if not ancestry.made_upon(key, max(row.stamp, newest.stamp), min(row.stamp, newest.stamp)):
                yield newest

    def _write(self, change: Incoming, names: set[str], done: Plan) -> None:
        if not names:
            return
        self._planner.forget()
        plan = self._planner.plan_fields([(change, names)])
        apply.apply_operations(plan.operations, self._using)
        done.operations += plan.operations
        done.counts.update(plan.counts)
        done.details += plan.details
        self._planner.forget()

    def _record(
        self,
        row: Row,
        change: Incoming,
        unaware: Sequence[tuple[bool, Row]],
        names: set[str],
        state: Mapping[str, Any],
    ) -> None:
        """A value that somebody entered without knowing the other one: one of them is not there any more."""
        record: Any = change.record
        spec = spec_of(row)
        if spec is None:
            return
        newest = max((each for _, each in unaware), key=lambda each: each.stamp)
        node = nodes.own(self._using)
        translator = portable.Translator("" if node is None else node.ident, self._using)
        [(fields, refs)] = translator.portable_states([(spec, dict(state))])
        if all(fields.get(name) == record.fields.get(name) for name in names):
            return
        local = {"date": format_date(newest.date), "node": newest.origin, "fields": fields, "refs": refs}
        incoming = {"date": record.date, "node": change.stamp.node, "action": record.action, "fields": record.fields}
        incoming |= {"refs": record.refs, "actor": record.actor, "context": record.context}
        Conflict.objects.using(self._using).create(
            model=spec.label,
            object_id=record.id,
            pk_text=row.pk_text,
            key="" if record.key is None else orjson.dumps(record.key).decode(),
            kind="object",
            local=orjson.dumps(local).decode(),
            incoming=orjson.dumps({name: value for name, value in incoming.items() if value is not None}).decode(),
            winner="local" if all(later for later, _ in unaware) else "incoming",
            policy="newest",
            created=timezone.now(),
            change_id=row.pk,
        )


def _carried_by(change: Incoming) -> set[str]:
    """The fields that *change* has as whoever made it has them, by their present names."""
    record, arrived = change.record, change.arrived
    if not isinstance(record, Change) or not isinstance(arrived, Change):
        return set()
    withheld = {upcasting.current_field(arrived.model, change.arrived_version, name) for name in arrived.withheld}
    return set(record.fields or {}) - withheld


def _filled(row: Row, change: Incoming) -> set[str]:
    """What *change* has that the same change in the log has not."""
    withheld = row.data().get("withheld", ())
    names = {upcasting.current_field(row.model, row.version, name) for name in withheld}
    return names & _carried_by(change)


def _waiting(using: str) -> set[Place]:
    """The objects that wait for somebody's decision."""
    found = set()
    rows = Conflict.objects.using(using).filter(held=True, link="")
    for label, text in rows.values_list("model", "pk_text"):
        model = registry.by_label(label)
        found.add((label if model is None else registry.spec(model).root_label, text))
    return found
