"""Planning: from the records of a chunk to what is to be done, decided before anything is written.

:class:`Planner` takes the records in the sender's order and gives a :class:`synchro.plan.Plan`: operations, conflicts,
and the changes that are held. It reads, and writes nothing; :mod:`synchro.apply` writes, and decides nothing.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any

from django.core.exceptions import FieldDoesNotExist
from django.db import models

from changelog_format import Change, ObjectRecord
from synchro import embedded, handlers, naturalkeys, pointing, reasons, references, registry, settling, storable, values
from synchro.alike import Alike, equal
from synchro.ancestry import Ancestry
from synchro.combining import Histories
from synchro.conf import Policy
from synchro.deciding import Decider, stamp
from synchro.errors import EmbeddedKeyError
from synchro.filing import IncomingFiles, file_columns
from synchro.models import Action
from synchro.plan import NO_RECORD, DeadTargetError, FoundConflict, HoldError, Incoming, Plan, Remove, VoidError, Write
from synchro.plan_links import link_register, plan_link, plan_link_again
from synchro.plan_merges import attach, collisions, plan_same, unite
from synchro.plan_parents import NEEDING, keep_parents, keep_revived
from synchro.registry import AnyField, ModelSpec
from synchro.resolving import Lock, Outlook, Slot, Wanted, frozen, target_spec, wanted_by
from synchro.reviving import LastStates
from synchro.unlogged import keep_unlogged
from synchro.versions import Key, Stamp


class Planner:
    """Plans chunk after chunk of one bundle."""

    def __init__(
        self,
        own_ident: str,
        policy: Policy | None,
        default_policy: Policy,
        using: str,
        *,
        pending: bool = False,
        lock: Lock | None = None,
        files: IncomingFiles | None = None,
        held: Iterable[tuple[str, str, str]] = (),
        forced: bool = False,
        compare: bool = True,
        direct: bool = False,
    ) -> None:
        """Make a planner for one bundle.

        Without *compare* what comes is taken, whatever is here and when it came to be. *direct*: of several objects of
        one natural key the first is taken (see :class:`~synchro.resolving.Outlook`), and what a record points to is
        brought back where it was deleted here, for its living copy is at hand.

        *lock* is called with the rows that are about to be written, before their versions are read.

        *files*: the contents of files that came along; without it names are decided by what is there.

        *held* and *forced*: see ``Decider``.

        *pending*: take unsealed local changes into account, where sealing them first would be a change (a preview).
        """
        self._own = own_ident
        histories = Histories(own_ident, using)
        ancestry = Ancestry(using)
        self.decider = Decider(policy, default_policy, histories, ancestry, held, forced=forced, compare=compare)
        self._using = using
        self._specs: dict[tuple[str, int], ModelSpec | str] = {}
        self._promised: frozenset[tuple[str, str]] = frozenset()
        self._needed = registry.reachable(registry.tracked())
        self._pending = pending
        self._files = files or IncomingFiles(using, reading=True, quick=True)
        self._lock = lock
        self._direct = direct
        self._reviving = False
        self._coming_back: set[Slot] | None = None
        self.forget()

    def accept(self, plan: Plan) -> None:
        """*plan* has been carried out."""
        self.decider.accept(plan)
        self.forget()

    def forget(self) -> None:
        """The plan so far has been carried out: what comes next is planned on the database as it is."""
        self.outlook = Outlook(
            self._own, self._using, pending=self._pending, lock=self._lock, first_of_many=self._direct
        )
        self._alike = Alike(self.outlook)
        self._last = LastStates(self._own, self._using)
        self._inside: dict[embedded.Key, Any] = {}

    @staticmethod
    def nothing(changes: Sequence[Incoming], reasons: Sequence[str]) -> Plan:
        """The plan that holds *changes*, each for its reason, and does nothing else."""
        plan = Plan()
        for number, (change, reason) in enumerate(zip(changes, reasons, strict=True)):
            if isinstance(change.record, Change):
                plan.held[number] = reason
                plan.details.append(("held", change.arrived.model, change.arrived.id))
            else:
                plan.held_objects[number] = reason
        return plan

    def hold_as_told(self, changes: Sequence[Incoming]) -> list[bool]:
        """For each of *changes*, all taken before: whether the object's row still holds what it says. Reads only."""
        self._load(changes)
        return [self._holds_as_told(change) for change in changes]

    def _holds_as_told(self, change: Incoming) -> bool:
        record: Any = change.record
        try:
            spec = self._spec(change)
            given = self._values(Plan(), spec, record)
        except (HoldError, values.UndecodableValueError):
            return False  # what it pointed to is gone, so the row points elsewhere
        slot = self.outlook.by_id(spec, record.id)
        if slot is None or slot.state is None:
            return False
        self._name_files(spec, record, slot, given)
        return equal(spec, slot.state, given)

    def plan(
        self, changes: Sequence[Incoming], *, promise: bool = False, last: bool = False, revive: bool = False
    ) -> Plan:
        """What to do for *changes*, in their order. Reads only. Raises ``ConflictFoundError`` under the policy "fail".

        With *promise* an object may be pointed to before it comes: what points to a later one of *changes* need not
        wait. With *last* nothing comes after them: what would get the natural key of another object is that object.
        With *revive* what one of them cannot live without comes back where it was deleted here.
        """
        self._reviving = revive
        promised = set(self._states(changes)) if promise else set()
        while True:
            self._promised = frozenset(promised)
            plan = self._plan(changes)
            broken = promised & set(self._states([changes[number] for number in plan.held]))
            if not broken:
                if last:
                    collisions(plan, self.outlook)
                return plan
            promised -= broken  # what points to these has to wait with them
            self.forget()

    def _plan(self, changes: Sequence[Incoming]) -> Plan:
        plan = Plan()
        self._load(changes)
        if self._reviving:
            self._load_last_states(changes)
        # Merges first: whatever else is said of either of two ids is then said of one object.
        for number, change in sorted(enumerate(changes), key=lambda each: not _is_merge(each[1])):
            record = change.record
            try:
                spec = self._spec(change)
                if isinstance(record, ObjectRecord):
                    self._plan_object(plan, spec, change, number)
                elif record.action == Action.SAME:
                    plan_same(plan, self.outlook, spec, change, number)
                elif record.field is not None:
                    plan_link(plan, self.outlook, self.decider, spec, change, number)
                elif record.action == Action.DELETE:
                    self._plan_delete(plan, spec, change, number)
                else:
                    self._plan_state(plan, spec, change, number)
            except VoidError:
                plan.counts["unchanged"] += isinstance(record, Change)
                plan.details.append(("unchanged", record.model, record.id))
            except (HoldError, values.UndecodableValueError) as error:
                if isinstance(record, Change):
                    plan.held[number] = str(error)
                    plan.details.append(("held", record.model, record.id))
                    if isinstance(error, DeadTargetError):
                        plan.orphans.add(number)
                else:
                    plan.held_objects[number] = str(error)
        keep_revived(plan)
        keep_parents(plan, self.outlook)
        keep_unlogged(plan, self._own, self._using)
        return plan

    def plan_again(self, changes: Sequence[Incoming]) -> Plan:
        """What to write for *changes*, which were all taken before.

        Where one is still the newest that is known of its object or link, and the database holds something else.
        """
        plan = Plan()
        self._load(changes)
        for change in changes:
            record = change.record
            try:
                spec = self._spec(change)
                if isinstance(record, Change) and record.field is not None:
                    plan_link_again(plan, self.outlook, spec, change)
                elif isinstance(record, Change) and record.action != Action.SAME:
                    self._plan_object_again(plan, spec, change)
            except (HoldError, values.UndecodableValueError):
                continue  # it was held, or is superseded
        keep_parents(plan, self.outlook)
        return plan

    def plan_fields(self, wanted: Sequence[tuple[Incoming, Collection[str]]]) -> Plan:
        """Write of each change, which was taken before, the named fields alone, where the object is here."""
        plan = Plan()
        self._load([change for change, _ in wanted])
        for change, names in wanted:
            record: Any = change.record
            try:
                spec = self._spec(change)
                slot = self.outlook.by_id(spec, record.id)
                if slot is None or spec.label not in slot.rows:
                    continue
                given = self._values(plan, spec, record)
            except (HoldError, values.UndecodableValueError):
                continue
            self._name_files(spec, record, slot, given)
            named = {name: value for name, value in given.items() if name in names}
            if slot.state is not None and equal(spec, slot.state, named):
                continue
            self._write(plan, slot, spec, named, change)
            plan.counts["changed"] += 1
            plan.details.append(("changed", record.model, record.id))
        return plan

    def _plan_object_again(self, plan: Plan, spec: ModelSpec, change: Incoming) -> None:
        record: Any = change.record
        slot = self.outlook.by_id(spec, record.id)
        if slot is None or slot.stamp != change.stamp:
            return
        if record.action == Action.DELETE:
            if spec.label in slot.rows:
                plan.operations.append(Remove(slot, spec, change))
                plan.counts["deleted"] += 1
                slot.rows.clear()
            return
        given = self._values(plan, spec, record)
        created = spec.label not in slot.rows
        if created or slot.state is None or not equal(spec, slot.state, given):
            self._write(plan, slot, spec, given, change)
            plan.counts["added" if created else "changed"] += 1

    # --- what the records are about -----------------------------------------------------------------------------------

    def _spec(self, change: Incoming) -> ModelSpec:
        record = change.record
        if change.fault is not None:
            raise HoldError(change.fault)
        if change.void:
            raise VoidError
        found = self._specs.get((record.model, change.version))
        if found is None:
            found = self._specs[record.model, change.version] = self._find_spec(record.model, change.version)
        if isinstance(found, str):
            raise HoldError(found)
        # The links of a tracked multi-table child may be declared by a parent that is not tracked itself.
        linked = isinstance(record, Change) and record.field is not None and found.model in registry.written()
        if isinstance(record, Change) and not (registry.is_tracked(found.model) or linked):
            if record.action != Action.SAME or found.model not in self._needed:
                raise HoldError(reasons.NOT_TRACKED(model=record.model))
            accepted = registry.accepts_object(change.stamp.node, found.model)
        else:
            accepted = isinstance(record, ObjectRecord) or registry.accepts(change.stamp.node, found.model)
        if not accepted:
            raise HoldError(reasons.NOT_ACCEPTED(model=record.model, node=change.stamp.node))
        return found

    @staticmethod
    def _find_spec(label: str, version: int) -> ModelSpec | str:
        model = registry.by_label(label)
        if model is None:
            return reasons.NOT_INSTALLED(model=label)
        found = registry.spec(model)
        if version > found.version:
            return reasons.NEWER(model=label, there=version, here=found.version)
        return found

    def _states(self, changes: Sequence[Incoming]) -> Iterator[tuple[str, str]]:
        """The objects of which *changes* have a state: root model and id."""
        for change in changes:
            record = change.record
            if isinstance(record, Change) and record.fields is not None:
                try:
                    yield self._spec(change).root_label, record.id
                except HoldError:
                    continue

    def _load(self, changes: Sequence[Incoming]) -> None:
        wanted: list[Wanted] = []
        links: list[tuple[Wanted, str, Wanted]] = []
        written: set[Wanted] = set()
        about: list[Wanted] = []
        records: list[tuple[ModelSpec, Change | ObjectRecord]] = []
        for change in changes:
            try:
                spec = self._spec(change)
            except HoldError:
                continue
            records.append((spec, change.record))
            named = list(wanted_by(change.record, spec))
            wanted += named
            if isinstance(change.record, Change):
                about += named if _is_merge(change) else named[:1]
            if isinstance(change.record, Change) and change.record.field is not None and len(named) == 2:  # noqa: PLR2004  both ends
                links += [(named[0], change.record.field, named[1]), (named[1], change.record.field, named[0])]
            elif named and named[0].id == getattr(change.record, "id", None):
                written.add(named[0])
            written.update(
                each
                for each in named[1:]
                if any(
                    not f.target_field.primary_key and registry.spec(f.related_model) is each.spec
                    for f in spec.relations.values()
                )
            )
        self.outlook.load(wanted, links, written, about)
        self._alike.load(records)
        told = [(spec, record.fields) for spec, record in records if record.fields]
        self._inside.update(settling.here(told, self._own, self._using))
        self._load_ancestry(changes)
        self._load_histories(changes)

    def _load_ancestry(self, changes: Sequence[Incoming]) -> None:
        """What was made on what, of the objects and links that have a later version than that of *changes*."""
        found: list[tuple[Key, Stamp]] = []
        for change in changes:
            record = change.record
            if not isinstance(record, Change) or record.action == Action.SAME:
                continue
            try:
                spec = self._spec(change)
            except HoldError:
                continue
            if record.field is not None:
                known = [link_register(self.outlook, spec, record)]
            else:
                slots = [self.outlook.by_id(spec, record.id), *self.outlook.of_key(spec, frozen(record.key))]
                known = [(Key(spec.root_label, slot.log_text), slot.stamp) for slot in slots if slot is not None]
            found += [
                (key, change.stamp)
                for key, newest in known
                if newest is not None and newest > change.stamp and newest.node != change.stamp.node
            ]
        if found:
            self.decider.ancestry.load(found)

    def _load_last_states(self, changes: Sequence[Incoming]) -> None:
        """What objects last were that *changes* need and that were deleted here; and what these need in turn."""
        while changes:
            dead: dict[Slot, None] = {}
            for change in changes:
                try:
                    spec = self._spec(change)
                except HoldError:
                    continue
                for name, object_id in (getattr(change.record, "refs", None) or {}).items():
                    relation = spec.relations.get(name)
                    if relation is None:
                        continue
                    slot = self.outlook.by_id(registry.spec(relation.related_model), object_id)
                    if slot is not None and not slot.alive and slot.deleted:
                        dead[slot] = None
            changes = self._last.load(dead)
            self._load(changes)

    def _load_histories(self, changes: Sequence[Incoming]) -> None:
        """What a merge of both sides needs, of the objects on which there may be one.

        And of those whose later version here may be one of an older schema: of models that had such.
        """
        found: dict[tuple[ModelSpec, str], None] = {}
        for change in changes:
            record = change.record
            if not isinstance(record, Change) or record.fields is None:
                continue
            try:
                spec = self._spec(change)
            except HoldError:
                continue
            merges = self.decider.policy_of(spec, change) == "merge"
            if not merges and spec.version == 1:
                continue
            slots = [self.outlook.by_id(spec, record.id), *self.outlook.of_key(spec, frozen(record.key))]
            for slot in slots:
                if slot is not None and slot.stamp is not None and (merges or slot.stamp > change.stamp):
                    found[spec, slot.log_text] = None
        if found:
            self.decider.histories.load(found)

    # --- an object's state --------------------------------------------------------------------------------------------

    def _plan_object(  # noqa: PLR0911  (one for each way in which there is nothing to create)
        self, plan: Plan, spec: ModelSpec, change: Incoming, number: int
    ) -> None:
        """A row that another record points to: created where it was never seen, otherwise left alone."""
        record = change.record
        if spec.model not in self._needed:
            plan.held_objects[number] = reasons.NOTHING_POINTS(model=spec.label)
            return
        known = self.outlook.by_id(spec, record.id)
        revived = self._direct and known is not None and not known.alive and registry.is_tracked(spec.model)
        if known is not None and not revived:
            return
        if not registry.accepts_object(change.stamp.node, spec.model):
            return  # what points to it is not accepted either
        slot = self.outlook.by_key(spec, frozen(record.key), record.id)
        if slot is not None:
            attach(plan, self.outlook, slot, spec, record.id)
            return
        try:
            given = self._values(plan, spec, record)
        except (HoldError, values.UndecodableValueError) as error:
            plan.held_objects[number] = str(error)  # what points to it will be held, and says so
            return
        slot = self._alike.find(spec, record.id, given)
        if slot is not None:
            attach(plan, self.outlook, slot, spec, record.id)
            return
        if registry.gives_rights(spec.model) and not self._direct:
            plan.held_objects[number] = reasons.OBJECT_NOT_MADE(model=spec.label, id=record.id)
            return
        taken = {column.name for column in registry.object_fields(spec)}
        slot = known or self.outlook.create(spec, record.id)
        self._name_files(spec, record, slot, given)
        self._write(plan, slot, spec, {name: value for name, value in given.items() if name in taken}, change)
        attach(plan, self.outlook, slot, spec, record.id)
        plan.counts["objects"] += 1
        if registry.is_tracked(spec.model):  # here, though not at the sender: from now on it has a history
            plan.decisions.append((slot, spec))

    def _plan_state(self, plan: Plan, spec: ModelSpec, change: Incoming, number: int) -> None:
        record: Any = change.record
        if self._overtaken(spec, change):
            # Nobody will point it elsewhere: whoever made it knows the later one by then.
            record = self._without_lost(spec, record, absent=False)
        try:
            given = self._values(plan, spec, record)
        except (HoldError, values.UndecodableValueError) as error:
            slot = self._superseded_by(spec, change)
            if slot is None and self._reviving and isinstance(error, DeadTargetError):
                slot = self._kept_against(plan, spec, change, number)
            elif slot is None:
                raise
            if slot is not None:
                plan.slots[number] = slot
                verdict = self.decider.decide(plan, spec, slot, change, number, same=False)
                plan.counts["stale"] += not verdict.conflict
                plan.details.append(("stale", record.model, record.id))
                return
            self._coming_back = set()
            try:
                given = self._values(plan, spec, record)
            finally:
                self._coming_back = None
        slot = self._object(plan, spec, change, given)
        plan.slots[number] = slot
        local = slot.stamp
        self._name_files(spec, record, slot, given)
        whole = record is change.record
        same = whole and slot.state is not None and spec.label in slot.rows and equal(spec, slot.state, given)
        verdict = self.decider.decide(plan, spec, slot, change, number, same=same, given=given)
        self.decider.histories.add(spec, slot, change, given)
        if verdict.taken is not None:
            if verdict.taken:
                self._write(plan, slot, spec, verdict.taken, change)
                plan.counts["changed"] += 1
                plan.details.append(("changed", record.model, record.id))
            return
        if not verdict.apply:
            plan.counts["stale"] += not verdict.conflict
            plan.details.append(("stale", record.model, record.id))
            return
        created = spec.label not in slot.rows
        wholly = not created and self._is_namesake(spec, change)
        if created or not same or wholly:
            self._write(plan, slot, spec, given, change, wholly=wholly)
            plan.counts["added" if created else "changed"] += 1
        else:
            if self._direct and handlers.has_handlers(spec.model):  # as in the original, they are told of each save
                self._write(plan, slot, spec, given, change)
            plan.counts["unchanged"] += 1
        plan.details.append(("added" if created else "unchanged" if same else "changed", record.model, record.id))
        self.outlook.set_key(slot, spec, record.key)
        stamp(plan, slot, spec, change, number, deleted=False, local=local)

    def _name_files(self, spec: ModelSpec, record: Any, slot: Slot, given: dict[str, Any]) -> None:
        """Put the names that files have here in the place of those that they have elsewhere."""
        for column in file_columns(spec):
            name = given.get(column.name)
            if isinstance(name, str) and name:
                ref = None if record.files is None else record.files.get(column.name)
                mine = (slot.state or {}).get(column.name)
                what = f"{record.model} {record.id}"
                given[column.name] = self._files.local_name(column, name, ref, mine, what)

    def _is_namesake(self, spec: ModelSpec, change: Incoming) -> bool:
        """Whether a new object meets a row that only happens to have the same primary key, given by hand.

        As in the original, it takes that row's place; fields that do not travel are reset.
        """
        record: Any = change.record
        new = record.action == Action.ADD and change.base is None and record.key is None
        return new and bool(spec.skipped) and self.outlook.by_pk_alone(spec, record.id)

    def _overtaken(self, spec: ModelSpec, change: Incoming) -> bool:
        """Whether a later change of the object is here, or somebody decided for this one."""
        slot = self.outlook.by_id(spec, change.record.id)
        return self.decider.forced or (slot is not None and slot.stamp is not None and slot.stamp > change.stamp)

    def _superseded_by(self, spec: ModelSpec, change: Incoming) -> Slot | None:
        """The object, where a later change of it is here already and wins, so that this one has no effect any more."""
        slot = self.outlook.by_id(spec, change.record.id)
        if slot is None or slot.stamp is None or slot.stamp <= change.stamp:
            return None
        key = Key(spec.root_label, slot.log_text)
        knew = slot.stamp.node == change.stamp.node or self.decider.ancestry.made_upon(key, slot.stamp, change.stamp)
        return slot if knew or self.decider.policy_of(spec, change) == "newest" else None

    def _kept_against(self, plan: Plan, spec: ModelSpec, change: Incoming, number: int) -> Slot | None:
        """The object, where what is here of it is kept against *change*, whatever the values."""
        slot = self.outlook.by_id(spec, change.record.id)
        if slot is None or slot.stamp is None:
            return None
        trial = Plan(waiting=dict(plan.waiting))
        verdict = self.decider.decide(trial, spec, replace(slot), change, number, same=False)
        return None if verdict.apply else slot

    def _write(
        self,
        plan: Plan,
        slot: Slot,
        spec: ModelSpec,
        given: dict[str, Any],
        change: Incoming,
        *,
        wholly: bool = False,
    ) -> None:
        created = spec.label not in slot.rows
        # Such a key is that of another row: the object's id does not tell it.
        key = spec.model._meta.pk
        if created and isinstance(key, models.ForeignKey) and key.name in spec.relations and key.name not in given:
            raise HoldError(reasons.NO_PRIMARY_KEY(model=spec.label, field=key.name))
        for label in slot.rows if created else ():  # a child is made of what is there
            parent = registry.by_label(label)
            if parent is not None and not registry.accepts(change.stamp.node, parent):
                raise HoldError(reasons.NOT_ACCEPTED(model=label, node=change.stamp.node))
        if not slot.alive and slot.known:
            plan.revived.append((slot, slot.unborn))
        plan.operations.append(Write(slot, spec, given, created, change, frozenset(slot.rows), wholly))
        slot.rows.update([spec.label, *(parent._meta.label_lower for parent in spec.model._meta.get_parent_list())])
        slot.state = {**(slot.state or {}), **given}
        slot.deleted = False

    def _object(self, plan: Plan, spec: ModelSpec, change: Incoming, given: Mapping[str, Any]) -> Slot:
        """The object that *change* is about; a slot for a new one if it is not here."""
        record: Any = change.record
        slot = self.outlook.by_id(spec, record.id)
        if slot is not None and slot.imaginary and references.birth_node(record.id) == self._own:
            raise HoldError(reasons.UNKNOWN_OWN(id=record.id))
        if (
            slot is not None
            and slot.known
            and (slot.alive or not slot.deleted or slot.stamp is None or change.stamp <= slot.stamp)
        ):
            return slot
        # Unknown, or known and dead and now revived: then a living object of the same natural key is the same one.
        match = self.outlook.by_key(spec, frozen(record.key), record.id)
        if match is None:
            match = self._alike.find(spec, record.id, given)
        if match is not None:
            if slot is not None:  # something points to it already, or it was deleted
                unite(plan, self.outlook, spec, match, slot, announce=True, called=record.id)
            attach(plan, self.outlook, match, spec, record.id)
            return match
        if slot is None:
            slot = self.outlook.create(spec, record.id)
        attach(plan, self.outlook, slot, spec, record.id)
        return slot

    def _values(self, plan: Plan, spec: ModelSpec, record: Any) -> dict[str, Any]:
        """The values that this deployment takes from *record*, foreign keys as slots. Raises ``HoldError``."""
        known = {f.name: f for f in spec.fields}
        given: dict[str, Any] = {}
        for name, value in self._with_own_keys(spec, record.fields).items():
            column = known.get(name)
            if column is None:
                self._ignorable(spec, name)
                continue
            if name in spec.relations and value is not None:
                given[name] = self._target(plan, spec, record, spec.relations[name], value)
            elif name in spec.generics and name in record.refs:
                given[name] = self._generic_target(plan, spec, column, record)
            else:
                storable.check(column, values.decode(column, value), self._using)
                if record.files is not None and name in record.files and value:
                    self._files.check(column, value, record.files[name])
                given[name] = value
        return given

    def _with_own_keys(self, spec: ModelSpec, fields: Mapping[str, Any]) -> Mapping[str, Any]:
        """*fields* with primary keys of this deployment inside the values, as far as they are known."""
        if not embedded.functions_of(spec):
            return fields
        try:
            return {**fields, **embedded.rewritten(spec, fields, self._inside)}
        except EmbeddedKeyError as error:
            raise HoldError(str(error)) from error

    @staticmethod
    def _ignorable(spec: ModelSpec, name: str) -> None:
        if name in spec.skipped:
            return
        try:
            spec.model._meta.get_field(name)
        except FieldDoesNotExist:
            raise HoldError(reasons.NO_FIELD(model=spec.label, field=repr(name))) from None

    def _target(
        self, plan: Plan, spec: ModelSpec, record: Any, relation: models.ForeignKey[Any, Any], value: Any
    ) -> Any:
        """What a foreign key of *record* is to hold.

        The slot of its target, or the raw value where it dangles on purpose.
        """
        target = registry.spec(relation.related_model)
        object_id = record.refs.get(relation.name)
        if object_id is None:
            if not isinstance(value, list) and not getattr(relation, "db_constraint", True):
                return value  # it dangles on purpose
            raise HoldError(reasons.WITHOUT_ID(field=relation.name, model=target.label, key=value))
        slot = self._pointed_to(target, object_id, value)
        itself = object_id == record.id and target.root is spec.root
        if (slot is None or not slot.alive) and (itself or (target.root_label, object_id) in self._promised):
            return slot or self.outlook.create(target, object_id)
        if (slot is None or not slot.alive) and relation.name in spec.loose:
            slot = slot or self.outlook.create(target, object_id)
            self._keep_number(plan, slot, target, object_id)
            return slot
        if slot is None:
            form = reasons.TARGET_NOT_MADE if registry.gives_rights(target.model) else reasons.TARGET_ABSENT
            raise HoldError(form(field=relation.name, model=target.label, id=object_id))
        if not slot.alive and slot not in (self._coming_back or ()):
            text = reasons.TARGET_DELETED(field=relation.name, model=target.label, id=object_id)
            if relation.remote_field.on_delete not in NEEDING:
                raise HoldError(text)  # whoever made it will hear of the deletion, and point elsewhere
            if self._coming_back is None or not self._revive(plan, slot, self._coming_back):
                raise DeadTargetError(text)
        return slot

    def _pointed_to(self, target: ModelSpec, object_id: str, value: Any) -> Slot | None:
        slot = self.outlook.by_id(target, object_id)
        if slot is None or not slot.alive:
            key = frozen(value) if isinstance(value, list) else None
            match = self.outlook.by_key(target, key, object_id)
            slot = match if match is not None else slot
        return slot

    def _revive(self, plan: Plan, slot: Slot, coming_back: set[Slot]) -> bool:
        """Bring *slot* back, which a living child needs, by a logged change; False where that cannot be done.

        It has the state that it was deleted with, and what that needs comes back, too. *coming_back* has what does so
        already.
        """
        change = self._last.of(slot)
        if change is None or slot.stamp is None or self.decider.waits(plan, (slot.spec.root_label, slot.log_text, "")):
            return False
        coming_back.add(slot)
        spec = self._spec(change)
        record: Any = self._without_lost(spec, change.record)
        given = self._values(plan, spec, record)
        self._name_files(spec, record, slot, given)
        plan.counts["conflicts"] += 1
        plan.details.append(("conflict", record.model, record.id))
        plan.conflicts.append(
            FoundConflict(
                kind="parent", spec=spec, slot=slot, change=change, local=slot.stamp, local_deleted=True, state=None,
                winner="incoming", policy="newest",
            )
        )  # fmt: skip
        self._write(plan, slot, spec, given, change)
        self.outlook.set_key(slot, spec, record.key)
        plan.decisions.append((slot, spec))
        return True

    def _without_lost(self, spec: ModelSpec, record: Any, *, absent: bool = True) -> Any:
        """*record* without what it pointed to and can live without, where that is not here any more.

        With *absent* also where it never was.
        """
        lost = []
        for name, object_id in (record.refs or {}).items():
            relation = spec.relations.get(name)
            if relation is None or not relation.null or relation.remote_field.on_delete in NEEDING:
                continue
            target = registry.spec(relation.related_model)
            slot = self._pointed_to(target, object_id, record.fields[name])
            gone = absent if slot is None else not slot.alive and (absent or slot.deleted)
            if gone and (target.root_label, object_id) not in self._promised:
                lost.append(name)
        if not lost:
            return record
        refs = {name: object_id for name, object_id in record.refs.items() if name not in lost}
        return replace(record, fields={**record.fields, **dict.fromkeys(lost)}, refs=refs)

    def _generic_target(self, plan: Plan, spec: ModelSpec, column: AnyField, record: Any) -> Any:
        """What the generic foreign key *column* of *record* is to hold: its target's slot, or the raw value.

        What it points to may be gone, or may come later, or never. Then a primary key is set aside for it that no other
        row will have.
        """
        value, object_id = record.fields[column.name], record.refs[column.name]
        target = target_spec(spec, column.name, record.fields)
        if target is None:
            kind = record.fields.get(spec.generics[column.name])
            raise HoldError(reasons.TARGET_NOT_INSTALLED(field=column.name, model=kind))
        slot = self.outlook.by_id(target, object_id)
        if slot is None or not slot.alive:
            match = self.outlook.by_key(target, frozen(value) if isinstance(value, list) else None, object_id)
            slot = match or slot or self.outlook.create(target, object_id)
        text = slot.text
        if text is None and naturalkeys.portable_pk(target.model):
            text = references.birth_pk(object_id)
        if text is None:
            self._keep_number(plan, slot, target, object_id)
        # The same key may be spelled in several ways.
        spelled = None if isinstance(value, list) else pointing.pk_text(column, target.model, value)
        return slot if text is None or spelled != text else value

    @staticmethod
    def _keep_number(plan: Plan, slot: Slot, target: ModelSpec, object_id: str) -> None:
        """Let *slot*, which has no row, go by the primary key that is set aside for it."""
        if slot.text is None:
            plan.attached.append((slot, registry.spec(target.identity), object_id))
            if slot.stamp is not None:  # its tombstone is to be found by that number
                plan.stamped.setdefault(slot, (target, slot.stamp, slot.deleted, NO_RECORD))

    # --- deletions ----------------------------------------------------------------------------------------------------

    def _plan_delete(self, plan: Plan, spec: ModelSpec, change: Incoming, number: int) -> None:
        record: Any = change.record
        slot = self.outlook.by_id(spec, record.id) or self.outlook.by_key(spec, frozen(record.key), record.id)
        if slot is None:
            slot = self.outlook.create(spec, record.id)  # remembered as dead: an older change must not bring it to life
        if record.id not in slot.ids or self.outlook.by_id(spec, record.id) is None or slot.text is None:
            attach(plan, self.outlook, slot, spec, record.id)
        plan.slots[number] = slot
        local = slot.stamp
        verdict = self.decider.decide(plan, spec, slot, change, number, same=False)
        if not verdict.apply:
            plan.counts["stale"] += not verdict.conflict
            plan.details.append(("stale", record.model, record.id))
            return
        if spec.label in slot.rows:
            plan.operations.append(Remove(slot, spec, change))
            plan.counts["deleted"] += 1
            plan.details.append(("deleted", record.model, record.id))
            slot.rows.clear()
        stamp(plan, slot, spec, change, number, deleted=True, local=local)


def _is_merge(change: Incoming) -> bool:
    return isinstance(change.record, Change) and change.record.action == Action.SAME
