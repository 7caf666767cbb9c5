"""Conflicts that wait for a decision (policy "hold"), and deciding them.

A decision is a logged change, dated after both versions, that says that it is one: it travels, wins everywhere, and
ends the same conflict where somebody else was asked, too.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import orjson
from django.db import DEFAULT_DB_ALIAS, DatabaseError, IntegrityError, OperationalError, transaction
from django.utils import timezone
from django.utils.translation import gettext as _

from changelog_format import Change
from synchro import apply, claims, nodes, reasons, references, registry, serialize, tables, values, versions
from synchro.actors import REASON, acting
from synchro.errors import ResolveError
from synchro.filing import IncomingFiles, awaited, contents_of
from synchro.models import ChangeLog, Conflict, Node, Version
from synchro.pause import DisableSynchroLog
from synchro.plan import HoldError, Incoming, Link, Plan, Write
from synchro.planner import Planner
from synchro.portable import Translator
from synchro.recording import Recorder, root_of
from synchro.registry import ModelClass, ModelSpec
from synchro.resolving import Slot
from synchro.seal import seal_pending
from synchro.timeline import MOST, Step, of_row
from synchro.values import UndecodableValueError
from synchro.versions import Key

BY_LENGTH = 150


@dataclass(frozen=True, slots=True, kw_only=True)
class ConflictInfo:
    """A recorded conflict.

    ``local`` and ``incoming`` are the two versions: ``date``, ``node``, ``actor`` (who), ``context`` (``reason``: why),
    ``fields`` and ``refs``, or ``action`` "delete"; ``files``, if contents of files travelled, the size and digest of
    each. ``winner`` is "held" while ``held``, until somebody decides.
    ``also``: the others about the same object (or link) that wait; one decision ends all of them, and what it returns
    names those that it ended.
    """

    id: int
    model: str
    object: str
    key: list[Any] | None
    kind: str
    link: str
    local: Mapping[str, Any]
    incoming: Mapping[str, Any]
    winner: str
    policy: str
    created: str
    held: bool
    resolution: str
    resolved_by: str
    resolved: str | None
    also: tuple[int, ...] = ()

    def differing(self) -> list[str]:
        """The names of the fields in which the two versions differ."""
        mine, theirs = self.local.get("fields") or {}, self.incoming.get("fields") or {}
        untold = self.untold()
        return [
            name
            for name in dict.fromkeys([*mine, *theirs])
            if mine.get(name) != theirs.get(name) and name not in untold
        ]

    def untold(self) -> list[str]:
        """The names of the fields that only one of two states says something of."""
        mine, theirs = self.local.get("fields") or {}, self.incoming.get("fields") or {}
        if not (mine and theirs):
            return []
        return [name for name in dict.fromkeys([*mine, *theirs]) if (name in mine) != (name in theirs)]


def conflicts(*, held: bool | None = True, using: str = DEFAULT_DB_ALIAS) -> list[ConflictInfo]:
    """What was recorded, oldest first: what waits for a decision; with *held* False the others, with None all."""
    rows = Conflict.objects.using(using).order_by("pk")
    if held is not None:
        rows = rows.filter(held=held)
    waiting: dict[tuple[Any, ...], list[int]] = defaultdict(list)
    places = Conflict.objects.using(using).filter(held=True).order_by("pk").values_list(*_PLACE, "pk")
    for *place, pk in places.iterator():
        waiting[tuple(place)].append(pk)
    return [info(row, waiting[_place_of(row)] if row.held else ()) for row in rows.iterator()]


def conflict(number: int, *, using: str = DEFAULT_DB_ALIAS) -> ConflictInfo:
    """One recorded conflict. Raises ``ResolveError`` where there is none of that number."""
    row = _row(number, using)
    return info(row, waiting_with(row, using))


def waiting_with(row: Conflict, using: str = DEFAULT_DB_ALIAS) -> list[int]:
    """The numbers of all that wait about the object (or link) that *row* is about, if that one waits."""
    if not row.held:
        return []
    about = dict(zip(_PLACE, _place_of(row), strict=True))
    return list(Conflict.objects.using(using).filter(held=True, **about).order_by("pk").values_list("pk", flat=True))


def _place_of(row: Conflict) -> tuple[Any, ...]:
    return row.model, row.pk_text, row.link


_PLACE = ("model", "pk_text", "link")


def present(found: ConflictInfo, pk_text: str, *, using: str = DEFAULT_DB_ALIAS) -> ConflictInfo:
    """*found*, about the row *pk_text*, with what is here by now in the place of what was here when it was recorded."""
    model = registry.by_label(found.model)
    if model is None or found.link:
        return found
    spec = registry.spec(model)
    pk = references.pk_value(spec, pk_text)
    state = {} if pk is None else serialize.row_states(spec, [pk], using)
    made = _made(model, pk_text, found.incoming.get("date"), using)
    local: dict[str, Any] = dict(found.local)
    if made is not None:
        local = {"date": made.date, "actor": made.actor, "context": {**made.context, REASON: made.reason or ""}}
        local["node"] = made.node
        local = {name: value for name, value in local.items() if value}
    local.pop("action", None)
    if pk not in state:
        return replace(found, local={**local, "action": "delete"})
    node = nodes.own(using)
    translator = Translator(node.ident if node is not None else "", using)
    [(fields, refs)] = translator.portable_states([(spec, state[pk])])
    return replace(found, local={**local, "fields": fields, "refs": refs})


def _made(model: ModelClass, pk_text: str, arrived: str | None, using: str) -> Step | None:
    """What made the row as it is here: the newest change that could be applied and is not the one that *arrived*."""
    for start in range(0, MOST, 50):
        steps, total = of_row(model, pk_text, start=start, number=50, using=using)
        for each in steps:
            if not (each.held or each.link or each.same) and each.date != arrived:
                return each
        if start + len(steps) >= total:
            return None
    return None


def take(number: int, *, by: str = "", using: str = DEFAULT_DB_ALIAS) -> ConflictInfo:
    """Decide for the incoming version. *by* is who decided, and otherwise whoever acts (``synchro.acting``).

    As with the other decisions, all that waits about this object ends with it; ``also`` of what is returned names them.
    Raises ``ResolveError`` where nothing waits, or where that version cannot be applied.
    """
    return _resolve(number, "take", by, using)


def keep(number: int, *, by: str = "", using: str = DEFAULT_DB_ALIAS) -> ConflictInfo:
    """Decide for what is here. Raises ``ResolveError`` where nothing waits."""
    return _resolve(number, "keep", by, using)


def merge(
    number: int,
    *,
    incoming: Iterable[str] = (),
    values: Mapping[str, Any] | None = None,
    by: str = "",
    using: str = DEFAULT_DB_ALIAS,
) -> ConflictInfo:
    """Decide field by field: *incoming* are taken from there, *values* (in their JSON forms) are set, the rest stays.

    Raises ``ResolveError`` where nothing waits, where one of the sides is a deletion, and for fields that there are
    not, or that cannot hold such a value.
    """
    return _resolve(number, "merge", by, using, list(incoming), dict(values or {}))


def _row(number: int, using: str) -> Conflict:
    row = Conflict.objects.using(using).filter(pk=number).first()
    if row is None:
        raise ResolveError(
            _("There is no conflict %(number)d.") % {"number": number},
            hint=_("`manage.py synchro_conflicts list` shows them."),
        )
    return row


def info(row: Conflict, waiting: Iterable[int] = ()) -> ConflictInfo:
    """What a row of the table says; *waiting* are those about the same object."""
    return ConflictInfo(
        id=row.pk,
        model=row.model,
        object=row.object_id,
        key=orjson.loads(row.key) if row.key else None,
        kind=row.kind,
        link=row.link,
        local=orjson.loads(row.local),
        incoming=orjson.loads(row.incoming),
        winner=row.winner,
        policy=row.policy,
        created=row.created.isoformat(),
        held=row.held,
        resolution=row.resolution,
        resolved_by=row.resolved_by,
        resolved=row.resolved.isoformat() if row.resolved else None,
        also=tuple(number for number in waiting if number != row.pk),
    )


def _decided(row: Conflict) -> str:
    """That nothing waits, for whoever wants to decide all the same."""
    if not row.resolved:
        text = _("Conflict %(number)d does not wait for a decision: it was decided (%(how)s).")
    elif row.resolved_by:
        text = _("Conflict %(number)d does not wait for a decision: it was decided by %(by)s (%(how)s).")
    else:
        text = _("Conflict %(number)d does not wait for a decision: it was decided by somebody (%(how)s).")
    return text % {"number": row.pk, "by": row.resolved_by, "how": row.resolution or row.policy}


def _resolve(
    number: int, how: str, by: str, using: str, names: Sequence[str] = (), given: Mapping[str, Any] | None = None
) -> ConflictInfo:
    files = IncomingFiles(using)
    try:
        with DisableSynchroLog(), acting(by[:BY_LENGTH] or None), nodes.outermost(using):
            node = nodes.lock_own(using)
            seal_pending(node, using)
            row = _row(number, using)
            if not row.held:
                raise ResolveError(_decided(row))
            _Resolving(row, node, files, using).resolve(how, names, given or {})
            ended = waiting_with(row, using)
            about = dict(zip(_PLACE, _place_of(row), strict=True))
            Conflict.objects.using(using).filter(held=True, **about).update(
                held=False, resolution=how, resolved_by=by[:BY_LENGTH], resolved=timezone.now()
            )
            held = Recorder(node, using).held_changes()
            files.settle([*(contents_of(each.arrived) for each in held), *awaited(using)])
            return info(_row(number, using), ended)
    except BaseException:
        files.undo()
        raise
    finally:
        files.close()


class _Resolving:
    """One decision being carried out, in the caller's transaction."""

    def __init__(self, row: Conflict, node: Node, files: IncomingFiles, using: str) -> None:
        model = registry.by_label(row.model)
        if model is None:
            raise ResolveError(_("%(model)s is not installed here.") % {"model": row.model})
        self._row = row
        self._spec = registry.spec(model)
        self._node = node
        self._files = files
        self._using = using

    def resolve(self, how: str, names: Sequence[str], given: Mapping[str, Any]) -> None:
        recorder = Recorder(self._node, self._using)
        if how == "keep":
            self._keep(recorder)
        else:
            change = self._change()
            plan = self._plan(change)
            if how == "merge":
                self._restrict(plan, names, given)
            recorder.retry(change, self._row.change_id or 0)
            recorder.describe_conflicts(plan)
            self._files.store(plan.operations)
            self._apply(plan)
            self._files.accept(plan.operations)
            recorder.record(plan, [change])
            if plan.revived:
                apply.apply_operations(recorder.links_of_revived(plan), self._using)
            self._note(plan, recorder)
        self._settle()
        recorder.log_decisions()

    def _change(self) -> Incoming:
        logged = ChangeLog.objects.using(self._using).filter(pk=self._row.change_id or 0).first()
        if logged is None:
            raise ResolveError(
                _("The log does not have the incoming version of conflict %(number)d any more.")
                % {"number": self._row.pk},
                hint=_("Keep what is here, or merge: set the fields to the values that `show` gives."),
            )
        record = Change.from_dict({**orjson.loads(logged.payload), "seq": 1})
        return Incoming.of(record, self._node.ident, logged.version)

    def _plan(self, change: Incoming) -> Plan:
        planner = Planner(self._node.ident, "incoming", "incoming", self._using, files=self._files, forced=True)
        plan = planner.plan([change])
        if plan.held or plan.folds:
            reason = next(iter(plan.held.values()), reasons.TWO_ROWS())
            raise ResolveError(
                _("The incoming version cannot be taken: %(reason)s.") % {"reason": reasons.told(reason)}
            )
        if plan.deferred:
            raise ResolveError(_("The object cannot be deleted: others that live here need it."))
        plan.conflicts.clear()
        plan.decisions.clear()
        plan.link_decisions.clear()
        plan.closed.clear()
        return plan

    def _apply(self, plan: Plan) -> None:
        try:
            with transaction.atomic(using=self._using):
                apply.apply_operations(plan.operations, self._using)
        except OperationalError:
            raise  # the database itself
        except (DatabaseError, HoldError, UndecodableValueError) as error:
            clashing = claims.waiting(plan.operations, self._using) if isinstance(error, IntegrityError) else {}
            reason = reasons.told(next(iter(clashing.values()), str(error)))
            raise ResolveError(
                _("The database does not take what conflict %(id)s would become: %(reason)s.")
                % {"id": self._row.pk, "reason": reason},
                hint=_("Change the row that is in the way first, keep what is here, or merge other values."),
            ) from error

    def _restrict(self, plan: Plan, names: Sequence[str], given: Mapping[str, Any]) -> None:
        """Of the incoming state only the fields *names*, and *given* values."""
        write = next((op for op in plan.operations if isinstance(op, Write)), None)
        if write is None or write.created:
            raise ResolveError(_("There are no two states to merge: one side is a deletion, or both are equal."))
        known = {column.name: column for column in self._spec.fields}
        for name in [*names, *given]:
            if name not in known or (name in names and name not in write.values):
                raise ResolveError(
                    _("%(model)s has no field %(name)r that could be merged.")
                    % {"model": self._spec.label, "name": name}
                )
        for name, value in given.items():
            try:
                values.decode(known[name], value)
            except values.UndecodableValueError as error:
                raise ResolveError(
                    _("%(model)s.%(name)s cannot be set: %(error)s")
                    % {"model": self._spec.label, "name": name, "error": reasons.told(str(error))}
                ) from error
        write.values = {**{name: write.values[name] for name in names}, **given}

    def _keep(self, recorder: Recorder) -> None:
        if self._row.link:
            place = self._place()
            key = Key(self._spec.label, self._row.pk_text, self._row.link)
            current = versions.find([key], self._using).get(key)
            recorder.decide_link(place, present=current is not None and not current.deleted)
        else:
            recorder.decide(self._slot(self._spec, self._row.pk_text), self._spec)

    def _note(self, plan: Plan, recorder: Recorder) -> None:
        if self._row.link:
            link = next((op for op in plan.operations if isinstance(op, Link)), None)
            present = link.present if link is not None else _present(self._row)
            recorder.decide_link(self._place(), present=present)
        else:
            recorder.decide(next(iter(plan.slots.values())), self._spec)

    def _place(self) -> tuple[Slot, ModelSpec, str, Slot]:
        name, _, target = self._row.link.partition(":")
        related = registry.spec(self._spec.links[name].related_model)
        return self._slot(self._spec, self._row.pk_text), self._spec, name, self._slot(related, target)

    @staticmethod
    def _slot(spec: ModelSpec, text: str) -> Slot:
        return Slot(spec=spec, pk_text=text)

    def _settle(self) -> None:
        """What the decision is made on: the newest of all versions that waited, and of what is here."""
        row = self._row
        root = row.model if row.link else root_of(row.model)
        held = Conflict.objects.using(self._using).filter(
            held=True, model=row.model, pk_text=row.pk_text, link=row.link
        )
        logged = ChangeLog.objects.using(self._using).filter(pk__in=held.values("change_id"))
        newest = max(logged.values_list("date", "origin__ident", "origin_id"), key=lambda each: each[:2], default=None)
        own = Version.objects.using(self._using).filter(root=root, pk_text=row.pk_text, link=row.link)
        current = own.values_list("date", "node__ident").first()
        if newest is not None and current is not None and newest[:2] > current:
            columns = tables.columns(Version, "date", "node")
            keys = tables.columns(Version, "root", "pk_text", "link")
            where = (newest[0], newest[2], root, row.pk_text, row.link)
            tables.update_many(Version, columns, keys, [where], self._using)


def _present(row: Conflict) -> bool:
    return bool(orjson.loads(row.incoming)["action"] == "link")


__all__ = ["ConflictInfo", "conflict", "conflicts", "info", "keep", "merge", "present", "take", "waiting_with"]
