"""What an import leaves in this node's own tables.

The records verbatim, references, versions, conflicts, and what is held.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import orjson
from django.db import models
from django.utils import timezone

from changelog_format import Change, ObjectRecord
from changelog_format.dates import format_date
from synchro import (
    changelog,
    entitlement,
    nodes,
    pks,
    portable,
    references,
    registry,
    serialize,
    tables,
    unseen,
    upcasting,
    versions,
)
from synchro.actors import ACTOR_LENGTH
from synchro.merging import Merger, Outcome
from synchro.merging_registers import revived
from synchro.models import Action, ChangeLog, Conflict, Held, HeldObject, Node
from synchro.plan import NO_RECORD, FoundConflict, Incoming, Link, Plan, Remove
from synchro.plan_parents import NEEDING, referrers
from synchro.registry import ModelSpec
from synchro.resolving import LinkPlace, Slot, canonical_ends, unborn_text
from synchro.versions import Current, Key, Stamp

LOGGED = tables.columns(
    ChangeLog, "model", "root", "pk_text", "link", "action", "captured", "payload", "imported", "log", "seq", "date",
    "base", "base_node", "origin", "origin_seq", "resolution", "version", "actor",
)  # fmt: skip
_MERGED = "="


@dataclass(frozen=True, slots=True)
class Removal:
    """A deletion that was put off, and whether living children still need the object."""

    operation: Remove
    needed: bool


def _entry(spec: ModelSpec, text: str, link: str, action: Action, payload: str) -> changelog.Entry:
    now, root = changelog.now(), spec.label if action in (Action.LINK, Action.UNLINK) else spec.root_label
    return changelog.Entry(spec.label, root, text, link, action.value, now, payload, spec.version)


class Recorder:
    """Writes down what each chunk of one import brought."""

    def __init__(self, node: Node, using: str, *, direct: bool = False) -> None:
        """*direct*: the settings of this process are those of the other deployment."""
        self._node = node
        self._using = using
        self._node_ids: dict[str, int] = {node.ident: node.pk}
        self._described: dict[int, tuple[str, str]] = {}
        self._deferred: list[tuple[Slot, ModelSpec, Incoming]] = []
        self._kept: dict[tuple[str, int], int] = {}
        # By texts and not by slots, which hold whole states: these grow with what was decided in the whole bundle.
        self._decided: dict[tuple[ModelSpec, str], None] = {}
        self._combined: dict[tuple[ModelSpec, str], None] = {}
        self._nulled: dict[tuple[str, str], ModelSpec] = {}
        # Objects whose newest change lacks what its maker is not told, and this deployment is.
        self._partial: dict[tuple[str, str], ModelSpec] = {}
        self._owned = {} if direct else entitlement.owned(using)
        self._unseen = unseen.Noting(using)
        self._direct = direct
        self._decided_links: dict[tuple[ModelSpec, str, str, str], bool] = {}
        self.retrying = False

    def retry(self, change: Incoming, entry: int) -> None:
        """*change* is in the log already, in the row *entry*; what is recorded from now on is about such changes."""
        self._kept[change.stamp.node, change.origin_seq] = entry
        self.retrying = True

    def decide(self, slot: Slot, spec: ModelSpec) -> None:
        """Somebody decided that the object is to be as it is now."""
        self._decided[spec, slot.log_text] = None

    def decide_link(self, place: LinkPlace, *, present: bool) -> None:
        """Somebody decided whether the link is to be there."""
        source, spec, name, target = place
        self._decided_links[spec, source.log_text, name, target.log_text] = present

    def record(self, plan: Plan, batch: Sequence[Incoming]) -> None:
        """Write down the outcome of *plan*, which has been applied, for the records of *batch*."""
        self._settle_links(plan, batch)
        entries = self._log(plan, batch)
        self._references(plan)
        self._versions(plan, entries)
        self._close(plan)  # first: what the plan found after a decision waits for another
        self._conflicts(plan, entries)
        self._merges(plan.merges)
        self._decisions(plan)
        self._note_partial(plan, batch)
        if not self._direct:  # what REMOTE is told only its own settings would say
            self._unseen.note(plan, batch, entries, self._owned)
        self._deferred += plan.deferred
        self._held_objects(plan, batch)

    @property
    def node(self) -> Node:
        """This deployment's own node, whose position and clock go on with each record."""
        return self._node

    def numbers_of(self, idents: Iterable[str]) -> dict[str, int]:
        """The primary keys of nodes by their ids, of those called *idents* at least."""
        missing = set(idents) - self._node_ids.keys()
        if missing:
            self._node_ids.update({ident: row.pk for ident, row in nodes.by_ident(missing, self._using).items()})
        return self._node_ids

    def told(self, objects: Iterable[tuple[str, str]]) -> None:
        """The sender itself tells of *objects* (root model, text of the primary key), which a deletion had nulled."""
        for each in objects if self._nulled else ():
            self._nulled.pop(each, None)

    def merger(self) -> Merger:
        """What folds rows that turned out to be one object."""
        idents = nodes.numbers(self._using)
        return Merger(self._node.ident, idents, self._using)

    def links_of_revived(self, plan: Plan) -> list[Link]:
        """The links of the objects that *plan* gave a row again."""
        return revived(plan.revived, nodes.numbers(self._using), self._using)

    def accept(self, outcome: Outcome) -> None:
        """Two rows became one: *outcome* is what has to be written down of that, and remembered until the end."""
        plan = Plan(conflicts=outcome.conflicts)
        self.describe_conflicts(plan)
        self._conflicts(plan, {})
        self._merges(outcome.merged)
        self._deferred += outcome.deferred
        for slot, _, _ in self._deferred:
            found = outcome.moved.get((slot.spec.root_label, slot.log_text))
            if found is not None and found is not slot:
                slot.become(found)

        def now(spec: ModelSpec, text: str) -> str:
            found = outcome.moved.get((spec.root_label, text))
            return text if found is None else found.log_text

        self._decided = {(spec, now(spec, text)): None for spec, text in self._decided}
        self._combined = {(spec, now(spec, text)): None for spec, text in self._combined}
        self._nulled = {(root, now(spec, text)): spec for (root, text), spec in self._nulled.items()}
        self._partial = {(root, now(spec, text)): spec for (root, text), spec in self._partial.items()}
        self._decided_links = {
            (spec, now(spec, source), name, now(registry.spec(spec.links[name].related_model), target)): present
            for (spec, source, name, target), present in self._decided_links.items()
        }

    @staticmethod
    def _settle_links(plan: Plan, batch: Sequence[Incoming]) -> None:
        """Name symmetrical links between new objects as this database does, now that both ends have their keys."""
        for number, target in plan.targets.items():
            record: Any = batch[number].record
            model = registry.by_label(record.model)
            if model is not None:
                relation = registry.spec(model).links[record.field]
                plan.slots[number], plan.targets[number] = canonical_ends(relation, plan.slots[number], target)

    @contextmanager
    def restored_on_error(self) -> Iterator[None]:
        """Take positions back that were given to rows of the log when the block fails.

        The rows themselves are undone by the caller's savepoint.
        """
        seq, clock, node_ids = self._node.seq, self._node.clock, dict(self._node_ids)
        try:
            yield
        except BaseException:
            self._node.seq, self._node.clock, self._node_ids = seq, clock, node_ids
            raise

    # --- the log ------------------------------------------------------------------------------------------------------

    def _log(self, plan: Plan, batch: Sequence[Incoming]) -> dict[int, int]:
        """The records verbatim, in this node's log; number in the batch → primary key of the log row."""
        changes = [(number, change) for number, change in enumerate(batch) if isinstance(change.record, Change)]
        idents = {change.stamp.node for _, change in changes}
        idents |= {change.base.node for _, change in changes if change.base is not None}
        self.numbers_of(idents)
        if self.retrying:
            entries = {number: self._kept[change.stamp.node, change.origin_seq] for number, change in changes}
            self._update_retried(plan, changes, entries)
        else:
            rows = [self._row(plan, number, change) for number, change in changes]
            entries = dict(
                zip(
                    (number for number, _ in changes),
                    tables.insert_returning(ChangeLog, LOGGED, rows, self._using),
                    strict=True,
                )
            )
        held = {entries[number]: reason for number, reason in plan.held.items()}
        already = dict(Held.objects.using(self._using).filter(change__in=held).values_list("change_id", "reason"))
        Held.objects.using(self._using).bulk_create(
            Held(change_id=pk, reason=reason, since=timezone.now()) for pk, reason in held.items() if pk not in already
        )
        told = [(held[pk], pk) for pk, reason in already.items() if held[pk] != reason]
        tables.update_many(Held, tables.columns(Held, "reason"), tables.columns(Held, "change"), told, self._using)
        return entries

    def _row(self, plan: Plan, number: int, change: Incoming) -> tuple[Any, ...]:
        record: Any = change.arrived
        node = self._node
        node.seq += 1
        node.clock = max(node.clock, change.stamp.date)
        data = record.to_dict()
        del data["seq"]
        data.pop("version", None)  # it has a column of its own
        data["origin"] = {"node": change.stamp.node, "seq": change.origin_seq}
        root, text = self._place(plan, number, change)
        return (
            record.model,
            root,
            text,
            self._link_text(plan, number, change),
            record.action,
            changelog.now(),
            orjson.dumps(data).decode(),
            True,
            node.pk,
            node.seq,
            change.stamp.date,
            None if change.base is None else change.base.date,
            None if change.base is None else self._node_ids[change.base.node],
            self._node_ids[change.stamp.node],
            change.origin_seq,
            change.resolution,
            change.arrived_version,
            storable_actor(record.actor or ""),
        )

    @staticmethod
    def _place(plan: Plan, number: int, change: Incoming) -> tuple[str, str]:
        """Root model and primary key text by which the log finds the history of the object."""
        slot = plan.slots.get(number)
        record: Any = change.record
        if slot is not None and number not in plan.held:
            model = registry.by_label(record.model)
            # A link's history is that of the model that declares the field, whatever table its objects begin in.
            linked = model is None or record.field is not None
            return (record.model if linked else registry.spec(model).root_label), slot.log_text
        return record.model, unborn_text(record.id)

    @staticmethod
    def _link_text(plan: Plan, number: int, change: Incoming) -> str:
        record: Any = change.record
        if record.action == Action.SAME:
            return _MERGED
        if record.field is None:
            return ""
        target = None if number in plan.held else plan.targets.get(number)
        return f"{record.field}:{unborn_text(record.target.id) if target is None else target.log_text}"

    def _update_retried(self, plan: Plan, changes: Sequence[tuple[int, Incoming]], entries: dict[int, int]) -> None:
        done = [entries[number] for number, _ in changes if number not in plan.held]
        for part in serialize.chunks(done):
            Held.objects.using(self._using).filter(change__in=part).delete()
        columns = tables.columns(ChangeLog, "root", "pk_text", "link")
        rows = [
            (*self._place(plan, number, change), self._link_text(plan, number, change), entries[number])
            for number, change in changes
            if number not in plan.held
        ]
        tables.update_many(ChangeLog, columns, [ChangeLog._meta.pk], rows, self._using)

    # --- what is held -------------------------------------------------------------------------------------------------

    def held_changes(self) -> list[Incoming]:
        """Everything that is held, in the order of the log."""
        rows = Held.objects.using(self._using).order_by("change__seq")
        found = []
        not_heeded = entitlement.NotHeeded(self._using)
        columns = ("change", "change__payload", "change__version")
        for pk, payload, version in rows.values_list(*columns).iterator(chunk_size=serialize.CHUNK):
            record = Change.from_dict({**orjson.loads(payload), "seq": 1})
            record = not_heeded.without(record, self._node.ident, version)
            change = Incoming.of(record, self._node.ident, version)  # each names its origin
            self._kept[change.stamp.node, change.origin_seq] = pk
            found.append(change)
        return found

    def _held_objects(self, plan: Plan, batch: Sequence[Incoming]) -> None:
        """Keep the object records that could not be used; of those that were kept before, drop what is in now."""
        rows = HeldObject.objects.using(self._using)
        for number in plan.held_objects:
            change = batch[number]
            record: Any = change.arrived
            data = record.to_dict()
            data.pop("version", None)
            rows.update_or_create(
                model=record.model,
                object_id=record.id,
                defaults={
                    "node": change.stamp.node,
                    "version": change.arrived_version,
                    "payload": orjson.dumps(data).decode(),
                },
            )
        if self.retrying:
            for number, change in enumerate(batch):
                if isinstance(change.arrived, ObjectRecord) and number not in plan.held_objects:
                    rows.filter(model=change.arrived.model, object_id=change.arrived.id).delete()

    def held_objects(self) -> list[Incoming]:
        """The object records that could not be used yet, in the order in which they came."""
        rows = HeldObject.objects.using(self._using).order_by("pk").values_list("node", "version", "payload")
        return [
            Incoming.of(ObjectRecord.from_dict(orjson.loads(payload)), node, version)
            for node, version, payload in rows.iterator(chunk_size=serialize.CHUNK)
        ]

    # --- identities and versions --------------------------------------------------------------------------------------

    def _references(self, plan: Plan) -> None:
        wanted: list[tuple[ModelSpec, str, str]] = []
        for slot, spec, object_id in plan.attached:
            text = slot.log_text
            whole = len(slot.ids) > 1 or (slot.unborn is not None and slot.text is not None)
            ids = slot.ids if whole else {object_id}
            wanted += [
                (spec, each, text) for each in sorted(ids) if each != f"{self._node.ident}/{text}" or len(slot.ids) > 1
            ]
        references.add(wanted, self._using)

    def _versions(self, plan: Plan, entries: dict[int, int]) -> None:
        changed: dict[Key, Current] = {}
        for slot, (spec, stamp, deleted, number) in plan.stamped.items():
            changed[Key(spec.root_label, slot.log_text)] = Current(stamp, deleted, entries.get(number))
        for _, spec, name, _, stamp, deleted, number in plan.stamped_links:
            source, target = plan.slots[number], plan.targets[number]
            key = Key(spec.label, source.log_text, f"{name}:{target.log_text}")
            earlier = changed.get(key)
            if earlier is None or stamp > earlier.stamp:
                changed[key] = Current(stamp, deleted, entries.get(number))
        known = versions.find(changed, self._using)
        self.numbers_of(current.stamp.node for current in changed.values())
        versions.store(changed, known, self._node_ids, self._using)

    # --- conflicts and decisions --------------------------------------------------------------------------------------

    def describe_conflicts(self, plan: Plan) -> None:
        """Put the local sides of *plan*'s conflicts into words, before they are overwritten."""
        self._described = {}
        if not plan.conflicts:
            return
        states = [(number, found) for number, found in enumerate(plan.conflicts) if found.state is not None]
        portables = portable.Translator(self._node.ident, self._using).portable_states(
            [(found.spec, {name: _raw(value) for name, value in (found.state or {}).items()}) for _, found in states]
        )
        said = self._said(plan)
        sides = {number: side for (number, _), side in zip(states, portables, strict=True)}
        for number, found in enumerate(plan.conflicts):
            fields, refs = sides.get(number, (None, None))
            actor, context = said.get(found.local, (None, None)) if found.local is not None else (None, None)
            local = {
                "actor": actor,
                "context": context,
                "date": None if found.local is None else format_date(found.local.date),
                "node": None if found.local is None else found.local.node,
                "action": "delete" if found.local_deleted else None,
                "fields": None if found.local_deleted else fields,
                "refs": None if found.local_deleted else refs,
            }
            self._described[number] = (
                orjson.dumps({name: value for name, value in local.items() if value is not None}).decode(),
                _incoming_side(found),
            )

    def _said(self, plan: Plan) -> dict[Stamp, tuple[str | None, dict[str, Any] | None]]:
        """Who made the local versions that *plan* found conflicts with, and the context, where that is known."""
        keys = [found.key for found in plan.conflicts]
        stamps = {each.change_id: each.stamp for each in versions.find(keys, self._using).values() if each.change_id}
        found: dict[Stamp, tuple[str | None, dict[str, Any] | None]] = {}
        for part in serialize.chunks(list(stamps)):
            rows = ChangeLog.objects.using(self._using).filter(pk__in=part)
            of_record = rows.filter(imported=True).values_list("pk", "payload")
            for pk, payload in of_record:
                record = orjson.loads(payload)
                found[stamps[pk]] = record.get("actor"), record.get("context")
            for pk, actor, context in rows.filter(imported=False).values_list("pk", "actor", "context"):
                found[stamps[pk]] = actor or None, orjson.loads(context) if context else None
        return found

    def _conflicts(self, plan: Plan, entries: Mapping[int, int]) -> None:
        rows = []
        decided = {
            Key(root, slot.log_text, link): (before, change.stamp.node)
            for root, slot, link, change, before in plan.closed
        }
        now = timezone.now()
        for number, found in enumerate(plan.conflicts):
            record: Any = found.change.record
            local, incoming = self._described[number]
            before, by = decided.get(found.key, (0, ""))
            held = found.winner == "held"
            ended = held and number < before
            rows.append(
                Conflict(
                    model=found.spec.label,
                    object_id=record.id,
                    pk_text=found.slot.log_text,
                    key="" if record.key is None else orjson.dumps(record.key).decode(),
                    kind=found.kind,
                    local=local,
                    incoming=incoming,
                    winner=found.winner,
                    policy=found.policy,
                    created=now,
                    link=found.link,
                    change_id=None if found.number is None else entries.get(found.number),
                    held=held and not ended,
                    resolution="elsewhere" if ended else "",
                    resolved_by=by if ended else "",
                    resolved=now if ended else None,
                )
            )
        Conflict.objects.using(self._using).bulk_create(rows, batch_size=serialize.CHUNK)

    def _merges(self, merges: Iterable[tuple[Slot, ModelSpec, str, str]]) -> None:
        """Log which ids turned out to be one object: facts that later records do not change."""
        changelog.append_many(
            (
                _entry(
                    spec, slot.log_text, _MERGED, Action.SAME, orjson.dumps({"same": sorted((first, second))}).decode()
                )
                for slot, spec, first, second in merges
            ),
            self._using,
        )

    def _close(self, plan: Plan) -> None:
        """Somebody elsewhere decided what waited for a decision here before *plan*."""
        if not plan.closed:
            return
        waiting: dict[Key, list[int]] = defaultdict(list)
        held = Conflict.objects.using(self._using).filter(held=True)
        for pk, label, text, link in held.values_list("pk", "model", "pk_text", "link"):
            waiting[Key(label if link else root_of(label), text, link)].append(pk)
        by_node: dict[str, list[int]] = defaultdict(list)
        for root, slot, link, change, _ in plan.closed:
            by_node[change.stamp.node] += waiting.get(Key(root, slot.log_text, link), ())
        for node, pk_values in by_node.items():
            for part in serialize.chunks(pk_values):
                Conflict.objects.using(self._using).filter(pk__in=part).update(
                    held=False, resolution="elsewhere", resolved_by=node, resolved=timezone.now()
                )

    def _decisions(self, plan: Plan) -> None:
        """Remember what changes of this node's own *plan* gives rise to.

        They are logged when the whole bundle is in, with the states that the objects have then.
        """
        self.told((spec.root_label, slot.log_text) for slot, (spec, *_) in plan.stamped.items())
        for spec, text in plan.nulled:
            self._note_nulled(spec, text)
        self._decided.update(((spec, slot.log_text), None) for slot, spec in plan.decisions)
        self._combined.update(((spec, slot.log_text), None) for slot, spec in plan.combined)
        for source, spec, name, target, present in plan.link_decisions:
            self._decided_links[spec, source.log_text, name, target.log_text] = present

    def _note_partial(self, plan: Plan, batch: Sequence[Incoming]) -> None:
        """Whoever gets the object from this deployment is to get it whole: what is redacted elsewhere is known here.

        It is logged once more with all fields, as a change of this node's own, unless a later change has them.
        """
        for slot, (spec, _stamp, deleted, number) in plan.stamped.items() if self._owned else ():
            place = spec.root_label, slot.log_text
            self._partial.pop(place, None)
            record = batch[number].record if number != NO_RECORD else None
            owned = self._owned.get(spec.label)
            state = record.fields if isinstance(record, Change) and not deleted else None
            if owned and state is not None and not owned <= state.keys():
                self._partial[place] = spec

    @property
    def noted(self) -> bool:
        """Whether something that came lacks what this deployment is told."""
        return self._unseen.noted

    def whole(self, places: Mapping[unseen.Place, ModelSpec]) -> None:
        """Objects that lacked something that this deployment is told have it by now."""
        if self._owned:
            self._partial.update(places)

    def _note_nulled(self, spec: ModelSpec, text: str) -> None:
        """A row of *spec* was set to NULL by a deletion.

        Of a multi-table object the most derived model is the one to log.
        """
        known = self._nulled.setdefault((spec.root_label, text), spec)
        if issubclass(spec.model, known.model):
            self._nulled[spec.root_label, text] = spec

    def log_decisions(self) -> None:
        """Log what was decided here: changes of this node's own, dated after everything that was imported."""
        using = self._using
        decided: dict[ModelSpec, dict[str, Any]] = defaultdict(dict)
        for spec, text in self._decided:
            decided[spec][text] = references.pk_value(spec, text)
        alive: dict[ModelSpec, set[Any]] = {}
        for spec, of_spec in decided.items():
            alive[spec] = _existing(spec, of_spec.values(), using)
            gone = (text for text, pk in of_spec.items() if pk not in alive[spec])
            entries = (_entry(spec, text, "", Action.DELETE, "{}") for text in gone)
            changelog.append_many(entries, using, resolution=True)
        nulled: dict[ModelSpec, dict[Any, None]] = defaultdict(dict)
        for (_, text), spec in self._nulled.items():
            pk = references.pk_value(spec, text)
            if pk not in alive.get(spec, ()):
                nulled[spec][pk] = None
        for spec, pk_values in nulled.items():
            changelog.log_rows(spec, pk_values, Action.CHANGE, using)
        for spec, of_spec in decided.items():
            kept = dict.fromkeys(pk for pk in of_spec.values() if pk in alive[spec])
            changelog.log_rows(spec, kept, Action.CHANGE, using, resolution=True)
        combined: dict[ModelSpec, dict[Any, None]] = defaultdict(dict)
        lacking = unseen.unfinished(self._partial, using)
        partial = [(spec, text) for (root, text), spec in self._partial.items() if (root, text) not in lacking]
        for spec, text in [*self._combined, *partial]:
            pk = references.pk_value(spec, text)
            if pk is not None and pk not in alive.get(spec, ()):
                combined[spec][pk] = None
        for spec, pk_values in combined.items():
            # No decision against anybody: whoever else combines the same two comes to the same.
            changelog.log_rows(spec, pk_values, Action.CHANGE, using)
        links = []
        for (spec, source, name, target), present in self._decided_links.items():
            action = Action.LINK if present else Action.UNLINK
            links.append(_entry(spec, source, f"{name}:{target}", action, ""))
        changelog.append_many(links, using, resolution=True)

    # --- deletions that were put off ----------------------------------------------------------------------------------

    def deferred(self) -> Iterator[Removal]:
        """The deletions that were put off and still hold, by now.

        Each is to be carried out before the next is asked for.

        A parent that is still needed is logged as alive again.
        """
        for slot, spec, change in self._deferred:
            key = Key(spec.root_label, slot.log_text)
            current = versions.find([key], self._using).get(key)
            if current is None or slot.text is None:
                continue
            kept = None
            if not current.deleted or current.stamp != change.stamp:  # a later change brought it back by itself
                kept = self._parent_alone(spec, current)
                if kept is None:
                    continue
            pk = pks.from_text(spec.model, slot.text)
            needed = False
            for child, relation, pk_values in _children(spec, pk, self._using):
                if kept is not None and issubclass(kept.model, relation.related_model):
                    continue
                if relation.remote_field.on_delete in NEEDING:
                    needed = True
                else:
                    for each in pk_values:
                        self._note_nulled(child, pks.to_text(child.model, each))
            if needed:
                self._keep_parent(spec, slot, pk, change, current.stamp)
            yield Removal(Remove(slot, spec, change, kept), needed)
        self._deferred.clear()

    def _parent_alone(self, spec: ModelSpec, current: Current) -> ModelSpec | None:
        """The multi-table parent of *spec* that *current* brought back alone, after the child's deletion."""
        logged = ChangeLog.objects.using(self._using).filter(pk=current.change_id or 0, action=Action.ADD)
        label = logged.values_list("model", flat=True).first()
        model = None if label is None else registry.by_label(upcasting.current_label(label))
        return registry.spec(model) if model in spec.model._meta.get_parent_list() and model is not None else None

    def _keep_parent(self, spec: ModelSpec, slot: Slot, pk: Any, change: Incoming, stamp: Stamp) -> None:
        plan = Plan()
        state = serialize.row_states(spec, [pk], self._using).get(pk)
        if state is None:
            return
        plan.conflicts.append(
            FoundConflict(
                kind="parent", spec=spec, slot=slot, change=change, local=stamp, local_deleted=False, state=state,
                winner="local", policy="newest",
            )
        )  # fmt: skip
        plan.decisions.append((slot, spec))
        self.describe_conflicts(plan)
        self._conflicts(plan, {})
        self._decisions(plan)


def root_of(label: str) -> str:
    """The label of the model whose objects' history that of *label* is."""
    model = registry.by_label(label)
    return label if model is None else registry.spec(model).root_label


def held_objects(using: str) -> set[tuple[str, str, str]]:
    """The objects and links that wait for a decision: root model, text of the primary key, link."""
    rows = Conflict.objects.using(using).filter(held=True).values_list("model", "pk_text", "link")
    return {(label if link else root_of(label), text, link) for label, text, link in rows}


def _children(
    spec: ModelSpec, pk: Any, using: str
) -> Iterator[tuple[ModelSpec, models.ForeignKey[Any, Any], list[Any]]]:
    """The tracked rows that point to the row *pk* of *spec*, by foreign key."""
    for child, relation in referrers(spec):
        path = relation.attname if relation.target_field.primary_key else f"{relation.name}__pk"
        rows = serialize.rows(child, using).filter(**{path: pk}).order_by()
        if found := list(rows.values_list("pk", flat=True)):
            yield child, relation, found


def _existing(spec: ModelSpec, pk_values: Iterable[Any], using: str) -> set[Any]:
    found: set[Any] = set()
    for rows in serialize.by_pk(spec, (pk for pk in pk_values if pk is not None), using):
        found.update(rows.order_by().values_list("pk", flat=True))
    return found


def storable_actor(actor: str) -> str:
    """What the log's column takes of a sender's *actor*; the record has it whole."""
    return actor.replace("\0", "")[:ACTOR_LENGTH]


def _raw(value: Any) -> Any:
    return (value.text or min(value.ids)) if isinstance(value, Slot) else value


def _incoming_side(found: FoundConflict) -> str:
    record: Any = found.change.record
    side = {
        "date": record.date,
        "node": found.change.stamp.node,
        "action": record.action,
        "fields": record.fields,
        "refs": record.refs,
        "files": None if not record.files else {name: each.to_dict() for name, each in record.files.items()},
        "field": record.field,
        "target": None if record.target is None else record.target.id,
        "actor": record.actor,
        "context": record.context,
    }
    return orjson.dumps({name: value for name, value in side.items() if value is not None}).decode()
