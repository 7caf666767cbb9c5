"""Sealing: giving the pending changes their final, gapless positions and strictly increasing dates.

Auto-increment ids are not commit order: a transaction that took id 10 may commit after an export that saw 11. So a
change has no position until it is sealed, under the node's lock; one that commits late is sealed the next time.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from typing import Any, NamedTuple

import orjson
from django.db import transaction
from django.db.models import Max
from django.utils.translation import gettext as _

from changelog_format.dates import format_date
from synchro import (
    changelog,
    embedded,
    nodes,
    pks,
    pointing,
    references,
    registry,
    relabelling,
    schemas,
    serialize,
    tables,
    touches,
    upcasting,
    values,
    versions,
)
from synchro.actors import nobody
from synchro.errors import ClockError
from synchro.models import Action, ChangeLog, Node, options
from synchro.options import DEFAULT_TOLERANCE_SECONDS
from synchro.registry import ModelSpec
from synchro.schemas import Pointer, Shape, Shapes
from synchro.versions import Current, Key, Stamp

MICROSECONDS = 1_000_000
_SEALED = tables.columns(ChangeLog, "log", "seq", "date", "base", "base_node", "origin", "origin_seq")


class _Row(NamedTuple):
    id: int
    model: str
    key: Key
    action: str
    captured: int
    payload: str
    version: int


def seal(using: str) -> Node:
    """Seal everything that is pending, in a transaction of its own; the own node with its new position.

    Raises ``RuntimeError`` inside a transaction (positions would be published that may yet roll back), and
    ``ClockError`` when the log's clock would be further in the future than the tolerance allows.
    """
    with transaction.atomic(using=using, durable=True):
        node = nodes.lock_own(using)
        seal_pending(node, using)
    return node


def tolerance() -> int:
    """How far in the future a change may be dated, in microseconds."""
    seconds = options.clock_tolerance
    return int(DEFAULT_TOLERANCE_SECONDS if seconds is None else seconds) * MICROSECONDS


def seal_pending(node: Node, using: str, *, targets: bool = True) -> int:
    """Seal everything that is pending; how many changes that was.

    It happens under the lock that :func:`synchro.nodes.lock_own` took. With *targets* rows never logged that a change
    points to are logged before it; otherwise :func:`seal_targets` has to do so later.
    """
    start = node.seq
    relabelling.follow_renames(using)
    with nobody():  # the one who seals did not write what is found
        touches.reconcile_touched(using)
    while part := _pending(using, limit=serialize.CHUNK):
        schemas.note_own({row.model for row in part}, using)
        for rows in serialize.chunks(_log_missing_targets(part, using) if targets else ()):
            _number(node, rows, using)
        _number(node, part, using)
    if node.seq != start:
        latest = changelog.now() + tolerance()
        if node.clock > latest:
            message = _(
                "The log's clock stands at %(clock)s, ahead of this machine's (%(now)s) by more than the tolerance: a "
                "change from a clock that is set wrong was logged here. Set this machine's clock right, or raise the "
                "option clock_tolerance."
            ) % {"clock": format_date(node.clock), "now": format_date(changelog.now())}
            raise ClockError(message)
        node.save(using=using, update_fields=["seq", "clock"])
    return node.seq - start


def _pending(using: str, *, after: int = 0, limit: int | None = None) -> list[_Row]:
    rows = changelog.pending(using).filter(pk__gt=after)[:limit]
    return [_row(row) for row in rows.values_list(*_ROW)]


_ROW = ("pk", "model", "root", "pk_text", "link", "action", "captured", "payload", "version")


def _row(values_: Sequence[Any]) -> _Row:
    pk, model, root, pk_text, link, action, captured, payload, version = values_
    key = Key(root, pk_text, upcasting.current_link(model, version, link))
    return _Row(pk, model, key, action, captured, payload, version)


def _number(node: Node, part: Sequence[_Row], using: str) -> None:
    known = versions.find([row.key for row in part], using)
    newest = dict(known)
    idents = {current.stamp.node for current in known.values()} | {node.ident}
    node_ids = {ident: row.pk for ident, row in nodes.by_ident(idents, using).items()}
    sealed: list[tuple[Any, ...]] = []
    changed: dict[Key, Current] = {}
    for row in part:
        node.seq += 1
        # Strictly above every earlier date of this log, also of what was imported: a later edit always counts as later.
        node.clock = max(row.captured, node.clock + 1)
        base = newest.get(row.key)
        base_date, base_node = (base.stamp.date, node_ids[base.stamp.node]) if base else (None, None)
        sealed.append((node.pk, node.seq, node.clock, base_date, base_node, node.pk, node.seq, row.id))
        gone = row.action in (Action.DELETE, Action.UNLINK)
        newest[row.key] = changed[row.key] = Current(Stamp(node.clock, node.ident), gone, row.id)
    tables.update_many(ChangeLog, _SEALED, [ChangeLog._meta.pk], sealed, using)
    versions.store(changed, known, node_ids, using)


# --- rows never logged that a logged row points to --------------------------------------------------------------------


def _targets(rows: Iterable[_Row], using: str) -> Iterator[tuple[ModelSpec, Any]]:
    """The rows of tracked models that *rows* need: what their states point to, and both ends of their links."""
    by_column: dict[Pointer, set[Any]] = defaultdict(set)
    rows = list(rows)
    shapes = Shapes(using)
    shapes.load((row.model, row.version) for row in rows)
    specs = {spec for row in rows if (spec := shapes.of(row.model, row.version).spec) is not None}
    known = pointing.kinds(specs, using)
    for row in rows:
        shape = shapes.of(row.model, row.version)
        source = shape.spec
        if source is None or not registry.is_tracked(source.model) or row.action == Action.DELETE:
            continue
        if row.key.link:
            link = source.links.get(row.key.link.partition(":")[0])
            if link is not None:
                target = registry.spec(link.related_model)
                yield source, references.pk_value(source, row.key.pk_text)
                yield target, references.pk_value(target, row.key.link.partition(":")[2])
            continue
        if (shape.relations or embedded.functions_of(source)) and row.payload:
            state = orjson.loads(row.payload)
            yield from _inside(shape, state)
            generics = (pointing.target(source, name, state, known) for name in shape.generics)
            yield from ((each[0], references.pk_value(*each)) for each in generics if each is not None)
            for name, pointer in shape.relations.items():
                value = state.get(name)
                if value is None:
                    continue
                try:
                    pointed = values.decode(pointer.column, value)
                except values.UndecodableValueError:  # logged before the schema changed: it points nowhere by now
                    continue
                if pointer.column.primary_key:
                    yield pointer.target, pointed
                else:
                    by_column[pointer].add(pointed)
    for (target, column), wanted in by_column.items():  # foreign keys with to_field
        for part in serialize.chunks(list(wanted)):
            found = serialize.rows(target, using).filter(**{f"{column.attname}__in": part})
            yield from ((target, pk) for pk in found.values_list("pk", flat=True))


def _inside(shape: Shape, state: serialize.State) -> Iterator[tuple[ModelSpec, Any]]:
    """The rows that keys inside values of *state* name."""
    if shape.spec is not None and not shape.past:
        for label, text in embedded.mentioned(shape.spec, state):
            model = registry.by_label(label)
            if model is not None:
                yield registry.spec(model), references.pk_value(registry.spec(model), text)


def _unlogged(targets: Iterable[tuple[ModelSpec, Any]], using: str) -> dict[ModelSpec, list[Any]]:
    by_model: dict[ModelSpec, dict[str, Any]] = defaultdict(dict)
    for target, pk in targets:
        if pk is not None and registry.is_tracked(target.model):
            by_model[target][pks.to_text(target.model, pk)] = pk
    found: dict[ModelSpec, list[Any]] = {}
    for target, wanted in by_model.items():
        missing = versions.unlogged(target.root_label, wanted, using)
        for part in serialize.chunks(sorted(missing)):
            waiting = changelog.pending(using).filter(root=target.root_label, link="", pk_text__in=part)
            missing.difference_update(waiting.values_list("pk_text", flat=True))
        if missing:
            found[target] = [wanted[text] for text in sorted(missing)]
    return found


def seal_targets(node: Node, start: int, using: str) -> None:
    """Log and number the rows never logged that changes made here after the position *start* point to."""
    end = node.seq
    while start < end:
        rows = ChangeLog.objects.using(using).filter(log=node, seq__gt=start, seq__lte=end).order_by("seq")
        found = list(rows.values_list("seq", "imported", *_ROW)[: serialize.CHUNK])
        part = [_row(values_) for _, imported, *values_ in found if not imported]
        if part:
            for fresh in serialize.chunks(_log_missing_targets(part, using)):
                _number(node, fresh, using)
        start = found[-1][0] if found else end
    node.save(using=using, update_fields=["seq", "clock"])


def _log_missing_targets(part: Sequence[_Row], using: str) -> list[_Row]:
    """Log the rows of tracked models that *part* points to and of which no change was ever logged.

    What those point to is logged too. They were there before synchro, or were written past the ORM. Returned in an
    order in which they can be replayed.
    """
    first: list[_Row] = []
    wanted = _unlogged(_targets(part, using), using)
    while wanted:
        before = ChangeLog.objects.using(using).aggregate(last=Max("pk"))["last"] or 0
        with nobody():
            for target, pk_values in wanted.items():
                changelog.log_objects(target, pk_values, Action.ADD, using)
        fresh = _fresh(wanted, _pending(using, after=before), captured=part[0].captured)
        first = fresh + first
        wanted = _unlogged(_targets(fresh, using), using)
    return first


def _fresh(wanted: dict[ModelSpec, list[Any]], rows: Iterable[_Row], *, captured: int) -> list[_Row]:
    """Those of *rows* that log the objects in *wanted* for the first time, dated *captured*.

    Nobody knows when these came to be; dated now, they would push the changes that need them past their own time. What
    somebody else commits at this moment is not among them: it comes after everything that was pending before it.
    """
    keys = {Key(spec.root_label, pks.to_text(spec.model, pk)) for spec, of_spec in wanted.items() for pk in of_spec}
    # A multi-table child whose first parent is another one has a primary key of its own.
    others = {
        child._meta.label_lower
        for spec in wanted
        for child in registry.descendants(spec.model)
        if registry.spec(child).root is not spec.root
    }
    found: dict[Key, _Row] = {}
    for row in rows:
        if row.key in keys or (row.model in others and row.action == Action.ADD):
            found.setdefault(row.key, row._replace(captured=captured))
    return list(found.values())
