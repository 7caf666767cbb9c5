"""What an import would do, decided before anything is written.

:class:`Planner` takes the records of a chunk in the sender's order and gives a :class:`Plan`: operations, conflicts,
and the changes that are held. It reads, and writes nothing; :mod:`synchro.apply` writes, and decides nothing.

Per object there is one register for its fields, and one for each m2m link; in each the greatest ``(date, node)`` wins,
so that every node comes to the same state whatever the order in which the files arrive. It is a conflict only if
neither change was made on top of the other (the local version is later than the incoming ``base``) and the contents
differ.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from django.core.exceptions import FieldDoesNotExist
from django.db import models

from changelog_format import Change, ObjectRecord
from changelog_format.dates import parse_date
from synchro import conf, naturalkeys, pks, references, registry, serialize, values
from synchro.conf import Policy
from synchro.models import Action
from synchro.registry import ModelSpec
from synchro.resolving import Lock, Outlook, Slot, Wanted, canonical_ends, column_value, wanted_by
from synchro.versions import Current, Key, Stamp


class HoldError(Exception):
    """This record cannot be applied now; the text says why."""


class ConflictFoundError(Exception):
    """There is a conflict, and the policy is to fail."""


@dataclass(frozen=True, slots=True)
class Incoming:
    """A record as the importer handles it: the change, its date, and what it was made on."""

    record: Change | ObjectRecord
    stamp: Stamp
    base: Stamp | None
    origin_seq: int = 0
    version: int = 1

    @classmethod
    def of(cls, record: Change | ObjectRecord, sender: str, version: int) -> Incoming:
        """*sender* is the node that wrote the bundle: changes that name no origin are its own.

        *version* is what the header of that bundle says of the record's model.
        """
        if isinstance(record, ObjectRecord):
            return cls(record, Stamp(0, sender), None, version=version)
        node = record.origin.node if record.origin else sender
        base = None if record.base is None else Stamp(parse_date(record.base), record.base_node or node)
        seq = record.origin.seq if record.origin else record.seq
        return cls(record, Stamp(parse_date(record.date), node), base, seq, version)

    @property
    def resolution(self) -> bool:
        """Whether this is a decision between two versions: it counts by its date, whatever the policy here.

        Otherwise nodes with different policies would decide against each other's decisions for ever.
        """
        return isinstance(self.record, Change) and self.record.resolution


@dataclass(slots=True)
class Write:
    """Create or overwrite an object's row.

    ``values``: field name → JSON form, or the slot that a foreign key points to. ``present``: the models of a
    multi-table family in whose tables the object had a row before.
    """

    slot: Slot
    spec: ModelSpec
    values: dict[str, Any]
    created: bool
    change: Incoming
    present: frozenset[str] = frozenset()


@dataclass(slots=True)
class Remove:
    """Delete an object's rows in the tables of ``spec`` and its parents, and its links.

    ``kept`` is what the object comes back as later in the plan: its rows in the tables of that model stay.
    """

    slot: Slot
    spec: ModelSpec
    change: Incoming
    kept: ModelSpec | None = None


@dataclass(slots=True)
class Link:
    """Make (``present``) or remove one m2m link."""

    source: Slot
    spec: ModelSpec
    field: models.ManyToManyField[Any, Any]
    target: Slot
    present: bool
    change: Incoming


Operation = Write | Remove | Link


@dataclass(slots=True)
class FoundConflict:
    """Two versions, before anything was overwritten: ``state`` are the local row's values (None: it has none)."""

    kind: str
    spec: ModelSpec
    slot: Slot
    change: Incoming
    local: Stamp | None
    local_deleted: bool
    state: dict[str, Any] | None
    winner: str
    policy: Policy


@dataclass(slots=True)
class Plan:
    """The outcome for one chunk.

    ``slots``: number in the chunk → the object that the change is about, for the log; ``stamped`` and ``stamped_links``
    are the registers that the chunk moves.
    """

    operations: list[Operation] = field(default_factory=list)
    conflicts: list[FoundConflict] = field(default_factory=list)
    held: dict[int, str] = field(default_factory=dict)
    counts: Counter[str] = field(default_factory=Counter)
    slots: dict[int, Slot] = field(default_factory=dict)
    targets: dict[int, Slot] = field(default_factory=dict)
    stamped: dict[Slot, tuple[ModelSpec, Stamp, bool, int]] = field(default_factory=dict)
    stamped_links: list[tuple[Slot, ModelSpec, str, Slot, Stamp, bool, int]] = field(default_factory=list)
    decisions: list[tuple[Slot, ModelSpec]] = field(default_factory=list)
    link_decisions: list[tuple[Slot, ModelSpec, str, Slot, bool]] = field(default_factory=list)
    merges: list[tuple[Slot, ModelSpec, str, str]] = field(default_factory=list)
    attached: list[tuple[Slot, ModelSpec, str]] = field(default_factory=list)
    deferred: list[tuple[Slot, ModelSpec, Incoming]] = field(default_factory=list)
    nulled: list[tuple[ModelSpec, str]] = field(default_factory=list)
    details: list[tuple[str, str, str]] = field(default_factory=list)


def policy_for(spec: ModelSpec, run: Policy | None, default: Policy) -> Policy:
    """The policy of this run, else of the model in the settings, else the default."""
    if run is not None:
        return run
    configured = conf.conflict_policies()
    return configured.get(spec.label) or configured.get("") or default


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
    ) -> None:
        """Make a planner for one bundle.

        *lock* is called with the rows that are about to be written, before their versions are read.

        *pending*: take unsealed local changes into account, where sealing them first would be a change (a preview).
        """
        self._own = own_ident
        self._policy = policy
        self._default = default_policy
        self._using = using
        self._specs: dict[tuple[str, int], ModelSpec | str] = {}
        self._promised: frozenset[tuple[str, str]] = frozenset()
        # What was decided against the order of dates, and for links whether they are there.
        self._kept: dict[tuple[str | None, ...], bool] = {}
        self._needed = {spec.model for spec in _pointed_to()}
        self._pending = pending
        self._lock = lock
        self.forget()

    def accept(self, plan: Plan) -> None:
        """*plan* has been carried out. What it kept against the order of dates is kept against later changes too."""
        self._kept.update(((spec.root_label, slot.text), True) for slot, spec in plan.decisions if slot.ours)
        self._kept.update(
            ((spec.label, source.text, name, target.text), present)
            for source, spec, name, target, present in plan.link_decisions
        )
        self.forget()

    def forget(self) -> None:
        """The plan so far has been carried out: what comes next is planned on the database as it is."""
        self.outlook = Outlook(self._own, self._using, pending=self._pending, lock=self._lock)

    @staticmethod
    def nothing(change: Incoming, reason: str) -> Plan:
        """The plan that holds *change* and does nothing else."""
        plan = Plan()
        if isinstance(change.record, Change):
            plan.held[0] = reason
            plan.details.append(("held", change.record.model, change.record.id))
        return plan

    def plan(self, changes: Sequence[Incoming], *, promise: bool = False) -> Plan:
        """What to do for *changes*, in their order. Reads only. Raises ``ConflictFoundError`` under the policy "fail".

        With *promise* an object may be pointed to before it comes: what points to a later one of *changes* need not
        wait.
        """
        promised = set(self._states(changes)) if promise else set()
        while True:
            self._promised = frozenset(promised)
            plan = self._plan(changes)
            broken = promised & set(self._states([changes[number] for number in plan.held]))
            if not broken:
                return plan
            promised -= broken  # what points to these has to wait with them
            self.forget()

    def _plan(self, changes: Sequence[Incoming]) -> Plan:
        plan = Plan()
        self._load(changes)
        for number, change in enumerate(changes):
            record = change.record
            try:
                spec = self._spec(change)
                if isinstance(record, ObjectRecord):
                    self._plan_object(plan, spec, change)
                elif record.action == Action.SAME:
                    self._plan_same(plan, spec, change, number)
                elif record.field is not None:
                    self._plan_link(plan, spec, change, number)
                elif record.action == Action.DELETE:
                    self._plan_delete(plan, spec, change, number)
                else:
                    self._plan_state(plan, spec, change, number)
            except (HoldError, values.UndecodableValueError) as error:
                if isinstance(record, Change):
                    plan.held[number] = str(error)
                    plan.details.append(("held", record.model, record.id))
        self._keep_revived(plan)
        self._keep_parents(plan)
        return plan

    # --- what the records are about -----------------------------------------------------------------------------------

    def _spec(self, change: Incoming) -> ModelSpec:
        record = change.record
        found = self._specs.get((record.model, change.version))
        if found is None:
            found = self._specs[record.model, change.version] = self._find_spec(record.model, change.version)
        if isinstance(found, str):
            raise HoldError(found)
        # The links of a tracked multi-table child may be declared by a parent that is not tracked itself.
        linked = isinstance(record, Change) and record.field is not None and found.model in registry.written()
        if isinstance(record, Change) and not (registry.is_tracked(found.model) or linked):
            if record.action == Action.SAME and found.model in self._needed:
                return found
            raise HoldError(f"{record.model} is not tracked here: SYNCHRO_MODELS does not name it")
        return found

    @staticmethod
    def _find_spec(label: str, version: int) -> ModelSpec | str:
        model = registry.by_label(label)
        if model is None:
            return f"{label} is not installed here"
        found = registry.spec(model)
        if version > found.version:
            return f"{label} is of version {version} at the sender, and {found.version} here"
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
        for change in changes:
            try:
                spec = self._spec(change)
            except HoldError:
                continue
            named = list(wanted_by(change.record, spec))
            wanted += named
            if isinstance(change.record, Change):
                about += named[:1]
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

    # --- an object's state --------------------------------------------------------------------------------------------

    def _plan_object(self, plan: Plan, spec: ModelSpec, change: Incoming) -> None:
        """A row of a model that is not tracked: created where it was never seen, otherwise left alone."""
        record = change.record
        if spec.model not in self._needed or self.outlook.by_id(spec, record.id) is not None:
            return
        slot = self.outlook.by_key(spec, _frozen(record.key), record.id)
        if slot is not None:
            self._attach(plan, slot, spec, record.id)
            return
        try:
            given = self._values(spec, record)
        except (HoldError, values.UndecodableValueError):
            return  # what points to it will be held, and says so
        taken = {column.name for column in registry.object_fields(spec)}
        slot = self.outlook.create(spec, record.id)
        self._write(plan, slot, spec, {name: value for name, value in given.items() if name in taken}, change)
        self._attach(plan, slot, spec, record.id)
        plan.counts["objects"] += 1
        if registry.is_tracked(spec.model):  # here, though not at the sender: from now on it has a history
            plan.decisions.append((slot, spec))

    def _plan_state(self, plan: Plan, spec: ModelSpec, change: Incoming, number: int) -> None:
        record: Any = change.record
        try:
            given = self._values(spec, record)
        except (HoldError, values.UndecodableValueError):
            slot = self._superseded_by(spec, change)
            if slot is None:
                raise
            plan.slots[number] = slot
            _, conflict = self._decide(plan, spec, slot, change, number, same=False)
            plan.counts["stale"] += not conflict
            plan.details.append(("stale", record.model, record.id))
            return
        slot = self._object(plan, spec, change)
        plan.slots[number] = slot
        local = slot.stamp
        same = slot.state is not None and spec.label in slot.rows and self._equal(spec, slot.state, given)
        wins, conflict = self._decide(plan, spec, slot, change, number, same=same)
        if not wins:
            plan.counts["stale"] += not conflict
            plan.details.append(("stale", record.model, record.id))
            return
        created = spec.label not in slot.rows
        if created or not same:
            self._write(plan, slot, spec, given, change)
            plan.counts["added" if created else "changed"] += 1
        else:
            plan.counts["unchanged"] += 1
        plan.details.append(("added" if created else "unchanged" if same else "changed", record.model, record.id))
        self.outlook.set_key(slot, spec, record.key)
        self._stamp(plan, slot, spec, change, number, deleted=False, local=local)

    def _superseded_by(self, spec: ModelSpec, change: Incoming) -> Slot | None:
        """The object, where a later change of it is here already and wins, so that this one has no effect any more."""
        slot = self.outlook.by_id(spec, change.record.id)
        if slot is None or slot.stamp is None or slot.stamp <= change.stamp:
            return None
        same_node = slot.stamp.node == change.stamp.node
        return slot if same_node or policy_for(spec, self._policy, self._default) == "newest" else None

    def _write(self, plan: Plan, slot: Slot, spec: ModelSpec, given: dict[str, Any], change: Incoming) -> None:
        created = spec.label not in slot.rows
        plan.operations.append(Write(slot, spec, given, created, change, frozenset(slot.rows)))
        slot.rows.update([spec.label, *(parent._meta.label_lower for parent in spec.model._meta.get_parent_list())])
        slot.state = {**(slot.state or {}), **given}
        slot.deleted = False

    def _object(self, plan: Plan, spec: ModelSpec, change: Incoming) -> Slot:
        """The object that *change* is about; a slot for a new one if it is not here."""
        record: Any = change.record
        slot = self.outlook.by_id(spec, record.id)
        if slot is not None and slot.imaginary and references.birth_node(record.id) == self._own:
            raise HoldError(f"{record.id} names an object of this deployment that it does not know")
        if (
            slot is not None
            and slot.known
            and (slot.alive or not slot.deleted or slot.stamp is None or change.stamp <= slot.stamp)
        ):
            return slot
        # Unknown, or known and dead and now revived: then a living object of the same natural key is the same one.
        match = self.outlook.by_key(spec, _frozen(record.key), record.id)
        if match is not None:
            if slot is not None and not slot.known:
                slot.become(match)  # something planned before points to it already
            self._attach(plan, match, spec, record.id)
            return match
        if slot is None:
            slot = self.outlook.create(spec, record.id)
        self._attach(plan, slot, spec, record.id)
        return slot

    def _attach(self, plan: Plan, slot: Slot, spec: ModelSpec, object_id: str) -> None:
        """*object_id* is *slot*, also for everybody else.

        Two ids that turn out to be one object are a change of its own.
        """
        others = sorted(slot.ids - {object_id})
        self.outlook.attach(slot, object_id)
        if spec.borrows_identity:
            return
        plan.attached.append((slot, spec, object_id))
        if others:
            plan.merges.append((slot, spec, others[0], object_id))
            plan.counts["merged"] += 1

    def _values(self, spec: ModelSpec, record: Any) -> dict[str, Any]:
        """The values that this deployment takes from *record*, foreign keys as slots. Raises ``HoldError``."""
        known = {f.name: f for f in spec.fields}
        given: dict[str, Any] = {}
        for name, value in record.fields.items():
            column = known.get(name)
            if column is None:
                self._ignorable(spec, name)
                continue
            if name in spec.relations and value is not None:
                given[name] = self._target(spec, record.id, spec.relations[name], value, record.refs.get(name))
            else:
                values.decode(column, value)
                given[name] = value
        return given

    @staticmethod
    def _ignorable(spec: ModelSpec, name: str) -> None:
        if name in spec.skipped:
            return
        try:
            spec.model._meta.get_field(name)
        except FieldDoesNotExist:
            raise HoldError(f"{spec.label} has no field {name!r} here") from None

    def _target(
        self, spec: ModelSpec, own_id: str, relation: models.ForeignKey[Any, Any], value: Any, object_id: str | None
    ) -> Any:
        """What a foreign key of *spec*'s object *own_id* is to hold.

        The slot of its target, or the raw value where it dangles on purpose.
        """
        target = registry.spec(relation.related_model)
        if object_id is None:
            if not isinstance(value, list) and not getattr(relation, "db_constraint", True):
                return value  # it dangles on purpose
            raise HoldError(f"{relation.name} names {target.label} {value} without an id")
        slot = self.outlook.by_id(target, object_id)
        if slot is None or not slot.alive:
            key = _frozen(value) if isinstance(value, list) else None
            match = self.outlook.by_key(target, key, object_id)
            slot = match if match is not None else slot
        itself = object_id == own_id and target.root is spec.root
        if (slot is None or not slot.alive) and (itself or (target.root_label, object_id) in self._promised):
            return slot or self.outlook.create(target, object_id)
        if slot is None:
            raise HoldError(f"{relation.name} points to {target.label} {object_id}, which is not here")
        if not slot.alive:
            raise HoldError(f"{relation.name} points to {target.label} {object_id}, which is deleted here")
        return slot

    @staticmethod
    def _equal(spec: ModelSpec, state: Mapping[str, Any], given: Mapping[str, Any]) -> bool:
        for name, value in given.items():
            if name not in state:
                return False
            mine = state[name]
            if isinstance(value, Slot) and not isinstance(mine, Slot):
                try:
                    value = column_value(value, spec.relations[name].target_field)  # noqa: PLW2901  as the row holds it
                except KeyError:
                    return False
            if mine is not value and mine != value:
                return False
        return True

    # --- who wins -----------------------------------------------------------------------------------------------------

    def _decide(
        self, plan: Plan, spec: ModelSpec, slot: Slot, change: Incoming, number: int, *, same: bool
    ) -> tuple[bool, bool]:
        """Whether the incoming state is to be applied, and whether that was a conflict (which is then recorded)."""
        here = slot.stamp is not None or spec.label in slot.rows
        if not here:
            return True, False
        local = slot.stamp
        wins = local is None or change.stamp > local
        if local is None and slot.state is None:
            return wins, False  # a row of another table of the family only
        kept = slot.ours or (spec.root_label, slot.text) in self._kept
        concurrent = local is None or kept or self._concurrent(local, change)
        deleting = isinstance(change.record, Change) and change.record.action == Action.DELETE
        if local is not None and slot.deleted:
            same = deleting
        if not concurrent or same or (local == change.stamp):
            return wins, False
        policy = self._policy_for(spec, change)
        decided = {"local": False, "incoming": True}.get(policy, wins)
        if policy == "fail":
            raise ConflictFoundError(self._describe(spec, slot, change))
        plan.counts["conflicts"] += 1
        plan.details.append(("conflict", change.record.model, change.record.id))
        plan.conflicts.append(
            FoundConflict(
                kind="unlogged" if local is None else "object",
                spec=spec,
                slot=slot,
                change=change,
                local=local,
                local_deleted=slot.deleted,
                state=None if slot.state is None else dict(slot.state),
                winner="incoming" if decided else "local",
                policy=policy,
            )
        )
        if decided != wins:
            # Against the order of dates: a logged change, dated after both, so that every node follows it.
            plan.decisions.append((slot, spec))
            if wins:  # kept all the same: the decision is made on top of the change that lost
                slot.stamp, slot.ours = change.stamp, True
                plan.stamped[slot] = (spec, change.stamp, deleting, number)
        return decided, True

    def _policy_for(self, spec: ModelSpec, change: Incoming) -> Policy:
        return "newest" if change.resolution else policy_for(spec, self._policy, self._default)

    @staticmethod
    def _concurrent(local: Stamp, change: Incoming) -> bool:
        """Whether *change* was made without knowing of *local*.

        A node knows its own changes, also those that were held here.
        """
        return local.node != change.stamp.node and (change.base is None or local > change.base)

    def _describe(self, spec: ModelSpec, slot: Slot, change: Incoming) -> str:
        record: Any = change.record
        mine = "a row that was never logged" if slot.stamp is None else f"a change of {slot.stamp.node}"
        return f"{spec.label} {record.key or record.id}: {record.date} by {change.stamp.node} against {mine}"

    def _stamp(
        self,
        plan: Plan,
        slot: Slot,
        spec: ModelSpec,
        change: Incoming,
        number: int,
        *,
        deleted: bool,
        local: Stamp | None,
    ) -> None:
        """The register of *slot* is now at *change*, unless a later one was kept there."""
        if local is None or change.stamp > local:
            slot.stamp, slot.deleted = change.stamp, deleted
            plan.stamped[slot] = (spec, change.stamp, deleted, number)

    # --- deletions ----------------------------------------------------------------------------------------------------

    def _plan_delete(self, plan: Plan, spec: ModelSpec, change: Incoming, number: int) -> None:
        record: Any = change.record
        slot = self.outlook.by_id(spec, record.id) or self.outlook.by_key(spec, _frozen(record.key), record.id)
        if slot is None:
            slot = self.outlook.create(spec, record.id)  # remembered as dead: an older change must not bring it to life
        if record.id not in slot.ids or self.outlook.by_id(spec, record.id) is None or slot.text is None:
            self._attach(plan, slot, spec, record.id)
        plan.slots[number] = slot
        local = slot.stamp
        wins, conflict = self._decide(plan, spec, slot, change, number, same=False)
        if not wins:
            plan.counts["stale"] += not conflict
            plan.details.append(("stale", record.model, record.id))
            return
        if spec.label in slot.rows:
            plan.operations.append(Remove(slot, spec, change))
            plan.counts["deleted"] += 1
            plan.details.append(("deleted", record.model, record.id))
            slot.rows.clear()
        self._stamp(plan, slot, spec, change, number, deleted=True, local=local)

    @staticmethod
    def _keep_revived(plan: Plan) -> None:
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

    def _keep_parents(self, plan: Plan) -> None:
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
            for value in (op.slot.state or {}).values()
        }
        kept = {id(op.slot) for op in removed if op.kept is None and id(op.slot) in needed}
        by_spec: dict[ModelSpec, dict[str, Remove]] = defaultdict(dict)
        for op in removed:
            if op.slot.text is not None:
                by_spec[op.spec][op.slot.text] = op
        for spec, of_spec in by_spec.items():
            for child, relation in referrers(spec):
                for child_text, text in self._children(child, relation, spec, list(of_spec)):
                    parent = of_spec[text].slot
                    if relation.related_model._meta.label_lower in parent.rows:
                        continue  # it comes back
                    if self._let_go(child, relation, child_text, parent):
                        continue
                    if relation.remote_field.on_delete in NEEDING:
                        kept.add(id(parent))
                    else:
                        plan.nulled.append((child, child_text))
        put_off = [op for op in removed if id(op.slot) in kept]
        for op in put_off:
            plan.counts["deleted"] -= 1
            op.slot.rows.add(op.spec.label)  # as far as this plan's other operations are concerned
            plan.deferred.append((op.slot, op.spec, op.change))
        gone = set(map(id, put_off))
        plan.operations = [op for op in plan.operations if id(op) not in gone]

    def _children(
        self, child: ModelSpec, relation: models.ForeignKey[Any, Any], spec: ModelSpec, texts: Sequence[str]
    ) -> Iterator[tuple[str, str]]:
        """(text of the child's pk, text of the parent's) of the rows in *child*'s table that point to *texts*."""
        pk_values = [references.pk_value(spec, text) for text in texts]
        target = relation.target_field
        path = relation.attname if target.primary_key else f"{relation.name}__pk"
        for part in serialize.chunks([pk for pk in pk_values if pk is not None]):
            rows = serialize.rows(child, self._using).filter(**{f"{path}__in": part}).order_by()
            for child_pk, parent_pk in rows.values_list("pk", path):
                yield pks.to_text(child.model, child_pk), pks.to_text(spec.model, parent_pk)

    def _let_go(self, child: ModelSpec, relation: models.ForeignKey[Any, Any], child_text: str, parent: Slot) -> bool:
        """Whether the plan deletes this child too, or makes it point elsewhere."""
        slot = self.outlook.by_pk(child, child_text)
        if slot is None:
            return False
        if child.label not in slot.rows:
            return True
        planned = (slot.state or {}).get(relation.name)
        return (isinstance(planned, Slot) and planned is not parent) or (slot.state is not None and planned is None)

    # --- links --------------------------------------------------------------------------------------------------------

    def _plan_link(self, plan: Plan, spec: ModelSpec, change: Incoming, number: int) -> None:
        record: Any = change.record
        relation = spec.links.get(record.field)
        if relation is None:
            if record.field in spec.skipped:
                return
            raise HoldError(f"{spec.label} has no m2m field {record.field!r} here")
        source = self._end(plan, spec, record.id, record.key)
        target = self._end(plan, registry.spec(relation.related_model), record.target.id, record.target.key)
        source, target = canonical_ends(relation, source, target)
        plan.slots[number], plan.targets[number] = source, target
        present = record.action == Action.LINK
        key = self._link_key(spec, record.field, source, target)
        place = (source, spec, record.field, target)
        current = self.outlook.link(place, key)
        decisions = {each[:4]: each[4] for each in plan.link_decisions}
        kept = decisions.get(place, self._kept.get((spec.label, source.text, record.field, target.text)))
        wins, decided = self._decide_link(plan, spec, change, source, current, present=present, kept=kept)
        if decided != wins:
            plan.link_decisions.append((*place, present if decided else not present))
        if wins:
            plan.stamped_links.append((*place, change.stamp, not present, number))
            self.outlook.set_link(place, Current(change.stamp, not present, None))
        if not decided:
            plan.counts["stale"] += 1
        elif source.alive and target.alive:  # otherwise the log remembers the link until both are there
            plan.operations.append(Link(source, spec, relation, target, present, change))
            plan.counts["m2m"] += 1
            plan.details.append(("m2m", record.model, record.id))

    def _decide_link(
        self,
        plan: Plan,
        spec: ModelSpec,
        change: Incoming,
        source: Slot,
        current: Current | None,
        *,
        present: bool,
        kept: bool | None,
    ) -> tuple[bool, bool]:
        """Whether the incoming link change is later, and whether it is to be applied.

        *kept* says whether the link is there where an earlier decision of this import went against the order of dates.
        """
        if current is None:
            return True, True
        wins = change.stamp > current.stamp
        concurrent = kept is not None or (current.stamp != change.stamp and self._concurrent(current.stamp, change))
        here = not current.deleted if kept is None else kept
        if not concurrent or here == present:
            return wins, wins
        policy = self._policy_for(spec, change)
        if policy == "fail":
            raise ConflictFoundError(self._describe(spec, source, change))
        decided = {"local": False, "incoming": True}.get(policy, wins)
        plan.counts["conflicts"] += 1
        plan.details.append(("conflict", change.record.model, change.record.id))
        plan.conflicts.append(
            FoundConflict(
                kind="link",
                spec=spec,
                slot=source,
                change=change,
                local=current.stamp,
                local_deleted=not here,
                state=None,
                winner="incoming" if decided else "local",
                policy=policy,
            )
        )
        return wins, decided

    def _end(self, plan: Plan, spec: ModelSpec, object_id: str, key: list[Any] | None) -> Slot:
        slot = self.outlook.by_id(spec, object_id)
        if slot is None:
            slot = self.outlook.by_key(spec, _frozen(key), object_id)
            if slot is None:
                raise HoldError(f"the link names {spec.label} {object_id}, which is not here")
            self._attach(plan, slot, spec, object_id)
        return slot

    @staticmethod
    def _link_key(spec: ModelSpec, name: str, source: Slot, target: Slot) -> Key | None:
        if source.text is None or target.text is None:
            return None
        return Key(spec.label, source.text, f"{name}:{target.text}")

    # --- merges -------------------------------------------------------------------------------------------------------

    def _plan_same(self, plan: Plan, spec: ModelSpec, change: Incoming, number: int) -> None:
        record: Any = change.record
        first, second = record.same
        one, other = self.outlook.by_id(spec, first), self.outlook.by_id(spec, second)
        if one is not None and other is not None and one is not other:
            if one.alive and other.alive:
                raise HoldError(f"{first} and {second} are one object elsewhere and two rows here")
            one, other = (one, other) if one.alive else (other, one)
            for object_id in sorted(other.ids):
                self.outlook.attach(one, object_id)
                plan.attached.append((one, spec, object_id))
        slot = one or other
        if slot is None:
            slot = self.outlook.create(spec, first)
        plan.slots[number] = slot
        for object_id in (first, second):
            if object_id not in slot.ids or one is None or other is None:
                self.outlook.attach(slot, object_id)
                plan.attached.append((slot, spec, object_id))


# A child with such a foreign key cannot live without its parent; with the others (SET_NULL, SET_DEFAULT, SET) it can.
NEEDING = (models.CASCADE, models.PROTECT, models.RESTRICT, models.DO_NOTHING)


def referrers(spec: ModelSpec) -> list[tuple[ModelSpec, models.ForeignKey[Any, Any]]]:
    """The foreign keys of tracked models that point to objects of *spec*."""
    family = {spec.model, *spec.model._meta.get_parent_list()}
    return [
        (child, relation)
        for child in map(registry.spec, sorted(registry.tracked(), key=lambda model: model._meta.label_lower))
        for relation in child.relations.values()
        if relation.related_model._meta.concrete_model in family
    ]


def _frozen(key: list[Any] | None) -> Any:
    return None if key is None else naturalkeys.freeze(key)


def _pointed_to() -> set[ModelSpec]:
    """The models that records of tracked models may point to, directly or through each other."""
    found: set[ModelSpec] = set()
    waiting = [registry.spec(model) for model in registry.tracked()]
    while waiting:
        spec = waiting.pop()
        if spec not in found:
            found.add(spec)
            waiting += [registry.spec(f.related_model) for f in (*spec.relations.values(), *spec.links.values())]
    return found


__all__ = ["ConflictFoundError", "HoldError", "Incoming", "Link", "Plan", "Planner", "Remove", "Write", "policy_for"]
