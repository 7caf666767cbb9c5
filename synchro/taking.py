"""Taking the records of a bundle: planned and applied chunk by chunk, in the caller's transaction."""

from __future__ import annotations

import uuid
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from operator import itemgetter
from typing import Any, TypeAlias

import orjson
from django.db import DatabaseError, IntegrityError, OperationalError, connections, transaction
from django.utils import timezone
from django.utils.translation import gettext as _
from django.utils.translation import ngettext

from changelog_format import Change, FilePiece, Header, ObjectRecord, RelayError, Succession
from changelog_format.dates import format_date, parse_date
from synchro import (
    apply,
    changelog,
    claims,
    conf,
    entitlement,
    express_writing,
    moments,
    nodes,
    progress,
    reasons,
    restoring,
    schemas,
    serialize,
    settling,
    successions,
    unseen,
    upcasting,
)
from synchro.checkpoints import Checkpoints
from synchro.completing import Completing
from synchro.conf import Policy
from synchro.drift import Difference
from synchro.errors import ClockError, ConflictError, DanglingError, HeldError, RestoredError
from synchro.express import Express
from synchro.filing import IncomingFiles, awaited, contents_of
from synchro.import_report import DETAILS, PREVIEWED, HeldChange, ImportReport
from synchro.lines import Line
from synchro.locking import sealed_lock
from synchro.merging import Outcome
from synchro.models import Bundle, Held, Node, options
from synchro.plan import ConflictFoundError, Fold, HoldError, Incoming, Link, Plan
from synchro.plan_merges import clashing_keys, collisions
from synchro.planner import Planner
from synchro.recording import Recorder, held_objects
from synchro.resolving import Lock, Slot
from synchro.seal import seal_pending, tolerance
from synchro.trust import Vouch
from synchro.values import UndecodableValueError

SHOWN = 20
AT_ONE_GO = 20_000
"""How many changes that wait for each other are tried together."""
_COUNTED = (
    "added", "changed", "deleted", "m2m", "merged", "unchanged", "already_known", "stale", "conflicts", "objects",
)  # fmt: skip
Chunked: TypeAlias = "Line | Change | ObjectRecord"
_WHAT = itemgetter(0, 1)
EXPRESS = True
"""Whether plain chunks go past the planner, which comes to the same (a test turns it off to see that)."""


class Taking:
    """One bundle being taken: what was asked for, and what has been done so far.

    *records* are read once; *spelled*: they are lines as the format's own writer spells them. *name* is what messages
    call them; *records_total* and *sha256* are what the bundle says of itself. With *careful* foreign keys are checked
    chunk by chunk, so that a record that leaves one pointing nowhere can be held; otherwise at the end, which is
    quicker, with ``DanglingError`` where there is one. *own_changes* are those of the bundle that this deployment is
    said to have made. *vouch* is called with each node of which the sender passes on changes that are new here, and
    raises where it is not believed them.

    For *direct* synchronization, without a file: what is known here already is written again where the row does not
    hold it, and of several objects of one natural key (``allow_many``) the first is taken. Without *compare* everything
    is taken, whatever is here.
    """

    def __init__(
        self,
        header: Header | None,
        records: Iterable[Line | Change | ObjectRecord | FilePiece],
        *,
        name: str,
        spelled: bool = False,
        records_total: int = 0,
        sha256: str = "",
        policy: Policy | None = None,
        strict: bool = False,
        allow_gap: bool = False,
        careful: bool = False,
        own_changes: restoring.OwnChanges | None = None,
        vouch: Vouch | None = None,
        differences: Sequence[Difference] = (),
        dry_run: bool = False,
        direct: bool = False,
        compare: bool = True,
        using: str,
    ) -> None:
        self._own_changes = own_changes
        self._vouch = vouch
        self._new_id: str | None = None
        self._of_bundle = header
        self._differences = tuple(differences)
        self._records = records
        self._total = records_total
        self._sha256 = sha256
        self._name = name
        self._spelled = spelled
        self._policy = policy
        self._strict = strict
        self._allow_gap = allow_gap
        self._careful = careful
        self._direct = direct
        self._stage: progress.Stage = "planning" if dry_run else "synchronizing" if direct else "importing"
        self._compare = compare
        self._using = using
        self._versions = {} if header is None else {label: info.version for label, info in header.models.items()}
        self._keys = upcasting.older_keys(self._versions)
        self._counts: Counter[str] = Counter()
        self._held: list[HeldChange] = []
        self._held_before: set[tuple[str, int]] = set()
        self._held_anew = 0
        self._details: list[tuple[str, str, str]] = []
        self._room = PREVIEWED if dry_run else DETAILS
        self._named: dict[tuple[str, str], list[Any]] = {}
        self._of_models: defaultdict[str, Counter[str]] = defaultdict(Counter)
        self._tables: set[str] = set()
        self._refused: set[tuple[str, int]] = set()
        self._orphans: set[tuple[str, int]] = set()
        self._renamed: successions.Renamed | None = None
        self._not_heeded = entitlement.NotHeeded(using)
        self._withheld: tuple[str, ...] = ()
        self._still_held: Sequence[Incoming] = ()
        self.files = IncomingFiles(using, reading=dry_run)
        self._known: list[Incoming] = []
        self._told: list[Incoming] = []
        self._completing: Completing | None = None
        self._plan: Plan | None = None

    @property
    def _header(self) -> Header:
        if self._of_bundle is None:
            raise RuntimeError("there is no bundle: only what is held can be tried again")
        return self._of_bundle

    def _believed(self, told: Succession) -> bool:
        """Whether the writer of the bundle may speak for both nodes of *told* (SPEC R77); others will tell it too."""
        if self._vouch is not None:
            try:
                self._vouch(told.node)
                self._vouch(told.of)
            except RelayError:
                return False
        return True

    # --- the ways -----------------------------------------------------------------------------------------------------

    def take(self) -> ImportReport:
        """Plan and apply everything, in the caller's transaction."""
        node = nodes.lock_own(self._using)
        if (found := self._parting(node)) is not None:
            node = restoring.go_on(node, found, self._using)
            self._new_id = node.ident
        seal_pending(node, self._using)
        if self._header.node.id in nodes.own_idents(self._using):
            return self._own_bundle()
        successions.note(filter(self._believed, self._header.successions), self._using)
        checkpoints = Checkpoints(self._header, node, self._using)
        checkpoints.check(allow_gap=self._allow_gap)
        self._check_schema(checkpoints.peer)
        schemas.note_received(self._header.models, self._using)
        self._withheld = entitlement.note(self._header, self._using, direct=self._direct)
        planner = self._planner(node, lock=sealed_lock(node, self._using))
        recorder = Recorder(node, self._using, direct=self._direct)
        if self._strict:
            self._held_before = {(each.stamp.node, each.origin_seq) for each in recorder.held_changes()}
        express = self._express(planner, node)
        for chunk in self._chunks():
            if recorder.noted:
                express = None  # it does not see that a later change has what was lacking
            if express is not None and self._take_plain(chunk, express, planner, recorder, checkpoints):
                continue
            self._take_batch(self._unknown(chunk, checkpoints), planner, recorder)
            self._complete(planner, recorder)
            self._mend(planner, recorder)
            if express is not None:
                express.forget()
        self._retry_held(planner, recorder)
        self._finish_deferred(recorder)
        settling.settle(node.ident, self._using)
        self._check_constraints()
        self._settle_files()
        if self._strict and self._held_anew:
            raise HeldError(self._held_text(), hint=_("Without --strict they are held, and the rest goes in."))
        self._check_files()
        checkpoints.advance(node)
        node.save(using=self._using, update_fields=["seq", "clock"])
        report = self._report(held=self._held_here())
        self._remember(checkpoints.peer, report)
        return report

    def recognise(self) -> str | None:
        """Only see by the bundle, in the caller's transaction, whether this database was restored; the new id then."""
        node = nodes.lock_own(self._using)
        found = self._parting(node)
        return None if found is None else restoring.go_on(node, found, self._using).ident

    def preview(self) -> ImportReport:
        """The same decisions without writing: nothing is sealed, applied or logged, and no handler runs."""
        node = nodes.own(self._using)
        if node is not None and (found := self._parting(node)) is not None:
            raise RestoredError(
                _(
                    "%(name)s: others have changes that %(node)s made, from position %(seen)d on, which are not in its "
                    "log: this database was restored from a backup."
                )
                % {"name": self._name, "node": node.ident, "seen": found.seen},
                hint=_("A preview cannot go on from here. The import itself gives this database a new id first."),
            )
        if self._header.node.id in nodes.own_idents(self._using):
            return self._own_bundle(dry_run=True)
        checkpoints = Checkpoints(self._header, node, self._using)
        checkpoints.check(allow_gap=self._allow_gap)
        self._check_schema(checkpoints.peer)
        planner = self._planner(node, pending=True)
        clashes = Plan()
        for chunk in self._chunks():
            batch = self._unknown(chunk, checkpoints)
            try:
                plan = planner.plan(batch)
            except ConflictFoundError as error:
                raise self._conflict(error) from error
            planner.decider.go_on(plan)
            self._count(plan, batch)
            self._count_folds(plan.folds)
            clashes.operations += clashing_keys(plan, planner.outlook)
            self.files.accept(plan.operations)
        collisions(clashes, planner.outlook)  # as they are after all of it
        self._count_folds(clashes.folds)
        if self._strict and self._held:
            raise HeldError(self._held_text(), hint=_("Without --strict they are held, and the rest goes in."))
        self._check_files()
        return self._report(held=len(self._held), dry_run=True)

    def retry(self) -> ImportReport:
        """Try what is held again, in the caller's transaction: this deployment may have been upgraded."""
        node = nodes.lock_own(self._using)
        seal_pending(node, self._using)
        self._total = self._held_here()
        recorder = Recorder(node, self._using, direct=self._direct)
        self._retry_held(self._planner(node, lock=sealed_lock(node, self._using)), recorder)
        self._finish_deferred(recorder)
        settling.settle(node.ident, self._using)
        self._check_constraints()
        self._settle_files()
        node.save(using=self._using, update_fields=["seq", "clock"])
        return self._retried(node, held=self._held_here(), dry_run=False)

    def preview_retry(self) -> ImportReport:
        """What :meth:`retry` would do, without writing."""
        node = nodes.own(self._using)
        if node is None:
            return self._retried(None, held=0, dry_run=True)
        recorder, planner = Recorder(node, self._using, direct=self._direct), self._planner(node, pending=True)
        waiting = [*recorder.held_objects(), *recorder.held_changes()]
        self._total = self._held_here()
        for part in serialize.chunks(waiting):
            try:
                plan = planner.plan(part, promise=True, last=True)
            except ConflictFoundError as error:
                raise self._conflict(error) from error
            planner.decider.go_on(plan)
            self._count(plan, part)
            self._count_folds(plan.folds)
            self.files.accept(plan.operations)
        return self._retried(node, held=len(self._held), dry_run=True)

    def _retried(self, node: Node | None, *, held: int, dry_run: bool) -> ImportReport:
        counts: dict[str, Any] = {name: self._counts[name] for name in _COUNTED}
        return ImportReport(
            bundle="",
            file="",
            node=node.ident if node is not None else "",
            from_seq=node.seq if node is not None else 0,
            to_seq=node.seq if node is not None else 0,
            records=self._total,
            **counts,
            held=held,
            dry_run=dry_run,
            held_changes=tuple(self._held[:SHOWN]),
            files=self.files.stored,
            missing_files=self.files.named_missing(),
            models=self._by_model(),
            details=tuple(self._details),
            keys=self._named,
        )

    def _check_files(self) -> None:
        if self._strict and self.files.missing:
            raise HeldError(
                ngettext(
                    "%(name)s: the contents of %(number)d file are missing: %(files)s.",
                    "%(name)s: the contents of %(number)d files are missing: %(files)s.",
                    len(self.files.missing),
                )
                % {
                    "name": self._name,
                    "number": len(self.files.missing),
                    "files": "; ".join(self.files.named_missing()),
                },
                hint=_("Nothing was imported. Without --strict their rows go in."),
            )

    def _check_schema(self, peer: Node) -> None:
        """Refuse a bundle of another schema in a strict import, before anything is written."""
        held = [each for each in self._differences if each.held]
        if self._strict and held and self._header.end.seq > peer.taken_seq:
            raise HeldError(
                _("%(name)s: its schema is not that of this deployment: %(models)s.")
                % {"name": self._name, "models": "; ".join(map(str, held))},
                hint=_("Upgrade this deployment first. Without --strict these changes are held until then."),
            )

    def _planner(self, node: Node | None, *, pending: bool = False, lock: Lock | None = None) -> Planner:
        default: Any = options.conflict_policy
        return Planner(
            node.ident if node is not None else "",
            self._policy,
            default if default in conf.POLICIES else "newest",
            self._using,
            pending=pending,
            lock=lock,
            files=self.files,
            held=held_objects(self._using),
            compare=self._compare,
            direct=self._direct,
        )

    def _parting(self, node: Node) -> restoring.Parting | None:
        return None if self._own_changes is None else restoring.parting(self._own_changes, node, self._using)

    def _own_bundle(self, *, dry_run: bool = False) -> ImportReport:
        """A bundle that this deployment wrote itself, and whose log has all that is in it."""
        self._counts["already_known"] = self._total
        return self._report(held=0, own=True, dry_run=dry_run)

    # --- chunk by chunk -----------------------------------------------------------------------------------------------

    def _chunks(self) -> Iterator[list[Chunked]]:
        """The records by the chunk, those of files' contents taken out."""
        latest = format_date(changelog.now() + tolerance())
        chunk: list[Any] = []
        read = 0
        for each in self._records:
            read += 1
            if isinstance(each, Line):
                kind = each.data["type"]
                date = each.data["date"] if kind == "change" else ""
                piece = FilePiece.from_dict(each.data) if kind == "file" else None
            else:
                date = each.date if isinstance(each, Change) else ""
                piece = each if isinstance(each, FilePiece) else None
            if piece is not None:
                self.files.take(piece)
                continue
            if date > latest:
                record: Any = each.record() if isinstance(each, Line) else each
                raise ClockError(
                    _(
                        "%(name)s: the change at position %(seq)d is dated %(date)s, later than this machine's clock "
                        "(%(now)s) by more than the tolerance."
                    )
                    % {"name": self._name, "seq": record.seq, "date": record.date, "now": format_date(changelog.now())},
                    hint=_("Set the clocks right. Nothing was imported."),
                )
            chunk.append(each)
            if len(chunk) >= serialize.CHUNK:
                yield chunk
                self.files.drop_spooled()
                progress.tell(self._stage, read, self._total or None)
                chunk = []
        if chunk:
            yield chunk
        progress.tell(self._stage, read, read)

    def _express(self, planner: Planner, node: Node) -> Express | None:
        """What takes plain chunks past the planner, where that comes to the same."""
        renamed = successions.Renamed(self._header.successions, self._using)
        ordinary = self._spelled and self._compare and not (self._careful or self._direct or self._keys or renamed)
        redacting = any(conf.redactions().values())  # records may have more than their makers may say
        if redacting or unseen.any_left(self._using) or not (ordinary and EXPRESS and planner.decider.undisturbed):
            return None
        lock = sealed_lock(node, self._using)
        return Express(self._header.node.id, self._versions, node.ident, lock, self._using)

    def _take_plain(
        self,
        chunk: Sequence[Chunked],
        express: Express,
        planner: Planner,
        recorder: Recorder,
        checkpoints: Checkpoints,
    ) -> bool:
        """Take *chunk* past the planner, if everything in it is plain; False, and nothing done, otherwise."""
        lines = [each for each in chunk if isinstance(each, Line)]
        if len(lines) != len(chunk) or not planner.decider.undisturbed:
            return False
        taken = express_writing.take(lines, express, recorder, checkpoints, self._vouch, self._using)
        if taken is None:
            return False
        details, touched = taken
        self._tables |= touched
        for (what, label), number in Counter(map(_WHAT, details)).items():
            self._counts[what] += number
            self._of_models[label][what] += number
        if (room := self._room - len(self._details)) > 0:
            self._details += details[:room]
            changes = (each.data for each in lines)
            self._named.update(((each["model"], each["id"]), each["key"]) for each in changes if each["key"])
        return True

    def _unknown(self, chunk: Sequence[Chunked], checkpoints: Checkpoints) -> list[Incoming]:
        """The records of *chunk* that are not known here yet."""
        batch: list[Any] = [each.record() if isinstance(each, Line) else each for each in chunk]
        sender, versions = self._header.node.id, self._versions
        if self._renamed is None:
            self._renamed = successions.Renamed(self._header.successions, self._using)
        incoming = []
        for record in batch:
            version = record.version or versions.get(record.model, 1)
            heeded = record if self._direct else self._not_heeded.without(record, sender, version)
            incoming.append(self._renamed(Incoming.of(heeded, sender, version, self._keys)))
        fresh, known = checkpoints.unknown(incoming)
        self._told = incoming
        if self._vouch is not None:
            for origin in {change.stamp.node for change in fresh} - {sender}:
                self._vouch(origin)
        self._counts["already_known"] += known
        if self._direct and known:
            new = set(map(id, fresh))
            self._known += [each for each in incoming if id(each) not in new]
        return fresh

    def _complete(self, planner: Planner, recorder: Recorder) -> None:
        """Take what the chunk says of fields that did not come before: also of changes that were known."""
        if self._completing is None:
            self._completing = Completing(planner, self._vouch, self._using)
        done, whole = self._completing.take(self._told, noted=recorder.noted)
        self._tables |= apply.touched_tables(done.operations)
        self._counts.update(done.counts)
        for what, label, _object in done.details:
            self._of_models[label][what] += 1
        recorder.whole(whole)

    def _mend(self, planner: Planner, recorder: Recorder) -> None:
        """Write again what was sent again, is the newest that is known of its object, and is not what the row holds.

        The sender's checkpoint was set back: somebody wants it to be as it was. What was logged here since stays.
        """
        known, self._known = self._known, []
        if not known:
            return
        plan = planner.plan_again(known)
        with recorder.restored_on_error(), transaction.atomic(using=self._using):
            apply.apply_operations(plan.operations, self._using)
        self._tables |= apply.touched_tables(plan.operations)
        self._counts.update(plan.counts)
        planner.forget()

    def _take_batch(
        self,
        batch: Sequence[Incoming],
        planner: Planner,
        recorder: Recorder,
        *,
        promise: bool = False,
        last: bool = False,
        revive: bool = False,
    ) -> None:
        """Take *batch* as a whole; where the database refuses that, its halves, down to the record that is to blame.

        That one is held with the reason that the database gives, and the others go in, in the sender's order.
        *promise*, *last* and *revive*: see ``Planner.plan``.
        """
        if not batch:
            return
        try:
            with recorder.restored_on_error(), transaction.atomic(using=self._using):
                plan = self._carry_out(batch, planner, recorder, promise=promise, last=last, revive=revive)
        except ConflictFoundError as error:
            raise self._conflict(error) from error
        except OperationalError:
            raise  # the database itself: nothing that holding a record would help
        except (DatabaseError, HoldError, UndecodableValueError) as error:
            planner.forget()
            clashing = self._clashing(error)
            combined = [each for each in (self._plan.combined if self._plan else ()) if each[0] in clashing]
            if combined:
                for slot, spec in combined:
                    planner.decider.keep_apart(slot, spec)
                self._take_batch(batch, planner, recorder, promise=promise, last=last, revive=revive)
                return
            waiting = self._waiting(batch, clashing)
            if len(batch) > 1:
                parts = [[change for change in batch if id(change) not in waiting]]
                if not waiting:
                    middle = len(batch) // 2
                    parts = [list(batch[:middle]), list(batch[middle:])]
                for part in parts:
                    self._take_batch(part, planner, recorder, promise=promise, last=last, revive=revive)
                self._hold([each for each in batch if id(each) in waiting], waiting, planner, recorder)
                return
            self._hold(batch, waiting or {id(batch[0]): _reason(error)}, planner, recorder)
            return
        self._accept(plan, batch, planner)

    def _clashing(self, error: Exception) -> dict[Slot, str]:
        """The objects that would have unique values of rows that stay as they are, and why that is refused."""
        if not isinstance(error, IntegrityError) or self._plan is None:
            return {}
        return claims.waiting(self._plan.operations, self._using)

    def _waiting(self, batch: Sequence[Incoming], clashing: Mapping[Slot, str]) -> dict[int, str]:
        """The ``id()`` of those of *batch* that are about *clashing* objects, and why they have to wait.

        Of an object that has to wait all changes do.
        """
        changes = {id(each) for each in batch}
        return {
            id(operation.change): clashing[operation.slot]
            for operation in (() if self._plan is None else self._plan.operations)
            if not isinstance(operation, Link) and operation.slot in clashing and id(operation.change) in changes
        }

    def _hold(
        self, changes: Sequence[Incoming], reasons: Mapping[int, str], planner: Planner, recorder: Recorder
    ) -> None:
        if changes:
            self._refused.update((each.stamp.node, each.origin_seq) for each in changes)
            plan = planner.nothing(changes, [reasons[id(each)] for each in changes])
            recorder.record(plan, changes)
            self._accept(plan, changes, planner)

    def _accept(self, plan: Plan, batch: Sequence[Incoming], planner: Planner) -> None:
        """Count what *plan* did, and remember what it leaves open."""
        self._count(plan, batch)
        self.files.accept(plan.operations)
        for number in plan.held:
            self.files.keep(contents_of(batch[number].arrived))
        for found in plan.conflicts:
            if found.winner == "held":
                self.files.keep(contents_of(found.change.arrived))
        planner.accept(plan)

    def _carry_out(
        self,
        batch: Sequence[Incoming],
        planner: Planner,
        recorder: Recorder,
        *,
        promise: bool,
        last: bool,
        revive: bool,
    ) -> Plan:
        self._plan = None
        plan = planner.plan(batch, promise=promise, last=last, revive=revive)
        folded: list[Outcome] = []
        gone: set[tuple[str, str]] = set()
        while plan.folds:  # what is one object is made one first; then there may be nothing else to decide
            outcome = recorder.merger().carry_out(plan.folds)
            if not gone.isdisjoint(outcome.moved):  # what is gone cannot go again: there is no end to it
                raise HoldError(reasons.KEY_TAKEN())
            gone.update(outcome.moved)
            folded.append(outcome)
            planner.forget()
            plan = planner.plan(batch, promise=promise, last=last, revive=revive)
            if not outcome.moved:
                raise HoldError(reasons.KEY_TAKEN())
        self._plan = plan
        recorder.describe_conflicts(plan)
        self.files.store(plan.operations)
        apply.apply_operations(plan.operations, self._using)
        touched = apply.touched_tables(plan.operations).union(*(outcome.tables for outcome in folded))
        self._tables |= touched
        if self._careful or len(batch) == 1:
            self._constraints(touched)
        recorder.record(plan, batch)
        if plan.revived:
            apply.apply_operations(recorder.links_of_revived(plan), self._using)
        for fold in (each for outcome in folded for each in outcome.moved):
            self._of_models[fold[0]]["merged"] += 1
        for outcome in folded:
            recorder.accept(outcome)
            self._counts["merged"] += len(outcome.moved)
            self._counts["conflicts"] += len(outcome.conflicts)
        return plan

    # --- at the end ---------------------------------------------------------------------------------------------------

    def _retry_held(self, planner: Planner, recorder: Recorder) -> None:
        """What could not be applied, now or at an earlier import: what it waited for may have come."""
        self._still_held = ()
        # Those that the database refuses may be in each other's way: once all of them are tried at one go.
        tried_together = False
        while held := recorder.held_changes():
            self._still_held = held
            before = len(held), len(self._refused)
            at_one_go = bool(self._refused) and not tried_together
            tried_together = at_one_go or tried_together
            # By themselves, for they would make the others fail with them.
            alone = [] if at_one_go else [each for each in held if (each.stamp.node, each.origin_seq) in self._refused]
            others = set(map(id, alone))
            together = [change for change in held if id(change) not in others]
            self._held.clear()
            self._held_anew = 0
            self._orphans.clear()
            recorder.retrying = True
            objects = recorder.held_objects()  # what held changes point to, and what they point to themselves
            size = AT_ONE_GO if at_one_go else serialize.CHUNK
            parts = [*serialize.chunks(objects), *serialize.chunks(together, size), *([change] for change in alone)]
            for part in parts:
                self._take_batch(part, planner, recorder, promise=True, last=True)
            recorder.retrying = False
            self._still_held = recorder.held_changes()
            if (len(self._still_held), len(self._refused)) != before:
                tried_together = tried_together and len(self._still_held) == before[0]
            elif not at_one_go and not self._revive_parents(planner, recorder):
                return

    def _revive_parents(self, planner: Planner, recorder: Recorder) -> bool:
        """What is held because something that it cannot live without was deleted here: that comes back.

        Not before everything else was tried: it may have come back by itself, or the children may be gone. Whether any
        of it went in.
        """
        orphans = [each for each in self._still_held if (each.stamp.node, each.origin_seq) in self._orphans]
        if not orphans:
            return False
        told, anew = list(self._held), self._held_anew
        self._held.clear()
        self._held_anew = 0
        recorder.retrying = True
        for part in serialize.chunks(orphans):
            self._take_batch(part, planner, recorder, promise=True, last=True, revive=True)
        recorder.retrying = False
        before = len(self._still_held)
        self._still_held = recorder.held_changes()
        if len(self._still_held) == before:
            self._held, self._held_anew = told, anew
            return False
        return True

    def _finish_deferred(self, recorder: Recorder) -> None:
        """Deletions that were put off for living children.

        They are carried out if these are gone, otherwise the parent is kept.
        """
        for removal in recorder.deferred():
            if removal.needed:
                self._counts["conflicts"] += 1
            else:
                apply.apply_operations([removal.operation], self._using)
                self._tables |= apply.touched_tables([removal.operation])
                self._counts["deleted"] += 1
        recorder.log_decisions()

    def _settle_files(self) -> None:
        """Keep the contents that what is held names, and the versions about which somebody has to decide."""
        self.files.settle([*(contents_of(each.arrived) for each in self._still_held), *awaited(self._using)])

    def _check_constraints(self) -> None:
        """Check foreign keys that the database checks only at the commit.

        Here the error can still say what it is.
        """
        try:
            self._constraints(self._tables)
        except IntegrityError as error:
            raise DanglingError(f"{self._name}: {error}", hint=_("Nothing was imported.")) from error

    def _constraints(self, tables: set[str]) -> None:
        if tables:
            connections[self._using].check_constraints(table_names=sorted(tables))

    def _held_here(self) -> int:
        return Held.objects.using(self._using).count()

    # --- what to say --------------------------------------------------------------------------------------------------

    def _count(self, plan: Plan, batch: Sequence[Incoming]) -> None:
        self._counts.update(plan.counts)
        for number, reason in plan.held.items():
            record: Any = batch[number].arrived
            self._held_anew += (batch[number].stamp.node, batch[number].origin_seq) not in self._held_before
            self._held.append(
                HeldChange(model=record.model, id=record.id, reason=reason, key=getattr(record, "key", None))
            )
            if number in plan.orphans:
                self._orphans.add((batch[number].stamp.node, batch[number].origin_seq))
        for what, label, _object in plan.details:
            self._of_models[label][what] += 1
        for _slot, model_spec, _here, arrived_id in plan.merges:
            self._note_merge(model_spec.label, arrived_id)
        if (room := self._room - len(self._details)) > 0:
            self._details += plan.details[:room]
            arrived = (each.arrived for each in batch)
            self._named.update(((each.model, each.id), each.key) for each in arrived if each.key)

    def _note_merge(self, label: str, object_id: str) -> None:
        self._of_models[label]["merged"] += 1
        if len(self._details) < self._room:
            self._details.append(("merged", label, object_id))

    def _count_folds(self, folds: Iterable[Fold]) -> None:
        """What would become one of two rows: a preview says so instead of doing it."""
        seen: set[tuple[str, str, str]] = set()
        for fold in folds:
            pair = fold.spec.label, min(fold.one, fold.other), max(fold.one, fold.other)
            if pair not in seen:
                seen.add(pair)
                self._counts["merged"] += 1
                self._note_merge(fold.spec.label, fold.called or fold.one)

    def _by_model(self) -> dict[str, dict[str, int]]:
        return {label: dict(sorted(counts.items())) for label, counts in sorted(self._of_models.items())}

    def _conflict(self, error: ConflictFoundError) -> ConflictError:
        return ConflictError(
            _("%(name)s: conflict at %(error)s.") % {"name": self._name, "error": error},
            hint=_("The policy is to fail: nothing was imported. See --on-conflict."),
        )

    def _held_text(self) -> str:
        shown = "; ".join(f"{each.model} {each.id}: {reasons.told(each.reason)}" for each in self._held[:SHOWN])
        if len(self._held) > SHOWN:
            shown += _("; and %(number)d more") % {"number": len(self._held) - SHOWN}
        return ngettext(
            "%(name)s: %(number)d change cannot be applied: %(shown)s.",
            "%(name)s: %(number)d changes cannot be applied: %(shown)s.",
            len(self._held),
        ) % {"name": self._name, "number": len(self._held), "shown": shown}

    def _report(self, *, held: int, own: bool = False, dry_run: bool = False) -> ImportReport:
        header = self._header
        return ImportReport(
            bundle=header.bundle,
            file=self._name,
            node=header.node.id,
            from_seq=header.start.seq,
            to_seq=header.end.seq,
            records=self._total,
            **{name: self._counts[name] for name in _COUNTED},
            held=held,
            own=own,
            dry_run=dry_run,
            sender_ahead=max(0, parse_date(header.created) - changelog.now()) / 1_000_000,
            new_id=self._new_id,
            held_changes=tuple(self._held[:SHOWN]),
            files=self.files.stored,
            missing_files=self.files.named_missing(),
            schema=self._differences,
            withheld=self._withheld,
            models=self._by_model(),
            details=tuple(self._details),
            keys=self._named,
        )

    def _remember(self, peer: Node, report: ImportReport) -> None:
        header = self._header
        Bundle.objects.using(self._using).create(
            direction=Bundle.Direction.RECEIVED,
            ident=uuid.UUID(header.bundle),
            node=peer,
            destination=header.destination[:64],
            first_seq=header.start.seq,
            last_seq=header.end.seq,
            records=self._total,
            sha256=self._sha256,
            file=self._name[-255:],
            created=moments.from_microseconds(parse_date(header.created)),
            handled=timezone.now(),
            header=orjson.dumps(header.to_dict()).decode(),
            report=orjson.loads(orjson.dumps(report.as_dict())),
        )


def _reason(error: Exception) -> str:
    text = " ".join(str(error).split())
    return text if isinstance(error, HoldError) else f"{type(error).__name__}: {text}"
