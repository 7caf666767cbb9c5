"""Sealing: giving the pending changes their final, gapless positions and strictly increasing dates.

Auto-increment ids are not commit order: a transaction that took id 10 may commit after an export that saw 11. So a
change has no position until it is sealed, under the node's lock; one that commits late is sealed the next time.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from typing import Any, NamedTuple

import orjson
from django.db import connections
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
    unseen,
    upcasting,
    values,
    versions,
)
from synchro.actors import nobody
from synchro.errors import ClockError
from synchro.models import Action, ChangeLog, Node, Version, options
from synchro.options import DEFAULT_TOLERANCE_SECONDS
from synchro.registry import ModelSpec
from synchro.schemas import Pointer, Shape, Shapes
from synchro.versions import Key

MICROSECONDS = 1_000_000
_SEALED = tables.columns(ChangeLog, "log", "seq", "date", "base", "base_node", "origin", "origin_seq")
_VERSION = tables.columns(Version, "date", "node", "deleted", "change_id")
_GONE = frozenset({Action.DELETE.value, Action.UNLINK.value})
# How many objects are remembered to have been logged; some 100 bytes each.
_REMEMBERED = 50_000


class _Row(NamedTuple):
    """A change that is to be numbered; with the version that it was made on, and that one's primary key."""

    id: int
    model: str
    root: str
    pk_text: str
    link: str
    action: str
    captured: int
    payload: str
    version: int
    known: int | None
    base: int | None
    base_node: int | None

    @property
    def key(self) -> Key:
        return Key(self.root, self.pk_text, self.link)


def seal(using: str) -> Node:
    """Seal everything that is pending, in a transaction of its own; the own node with its new position.

    Raises ``RuntimeError`` inside a transaction (positions would be published that may yet roll back), and
    ``ClockError`` when the log's clock would be further in the future than the tolerance allows.
    """
    with nodes.outermost(using):
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
    logged = _Logged(using)
    noted: set[str] = set()
    while part := _pending(using, limit=serialize.CHUNK):
        fresh = {row.model for row in part}.difference(noted)
        schemas.note_own(fresh, using)
        noted |= fresh
        _seal_part(node, part, logged if targets else None, using)
    if node.seq != start:
        unseen.hush(node.pk, start, using)
        latest = changelog.now() + tolerance()
        if node.clock > latest:
            message = _(
                "The log's clock stands at %(clock)s, ahead of this machine's (%(now)s) by more than the tolerance: a "
                "change from a clock that is set wrong was logged here. Set this machine's clock right, or raise the "
                "option clock_tolerance."
            ) % {"clock": format_date(node.clock), "now": format_date(changelog.now())}
            hint = _("If it is right: `manage.py synchro_redate` dates what was not exported yet now.")
            raise ClockError(message, hint=hint)
        node.save(using=using, update_fields=["seq", "clock"])
    return node.seq - start


def _seal_part(node: Node, part: list[_Row], logged: _Logged | None, using: str) -> None:
    first = _log_missing_targets(part, logged, using) if logged is not None else []
    for rows in serialize.chunks(first):
        _number(node, rows, using)
    if first:  # which may be what changes of this part were made on
        part = _read(using, "c.id", [row.id for row in part])
    _number(node, part, using)


def _pending(using: str, *, after: int = 0, limit: int | None = None) -> list[_Row]:
    # Of what is pending both columns of the index are NULL, and so it gives the rows in the order of their numbers.
    return _read(using, "c.log_id IS NULL AND c.seq IS NULL AND c.id", after, limit)


def _read(using: str, condition: str, wanted: int | list[int], limit: int | None = None) -> list[_Row]:
    """The changes where *condition* holds for what is *wanted*, in their order."""
    right, parameters = ("> %s", [wanted]) if isinstance(wanted, int) else tables.any_of(wanted, using)
    sql = (
        "SELECT c.id, c.model, c.root, c.pk_text, c.link, c.action, c.captured, c.payload, c.version, "  # noqa: S608
        f"v.id, v.date, v.node_id FROM {ChangeLog._meta.db_table} c "
        f"LEFT JOIN {Version._meta.db_table} v ON v.root = c.root AND v.pk_text = c.pk_text AND v.link = c.link "
        f"WHERE {condition} {right} ORDER BY c.id {'' if limit is None else f'LIMIT {limit}'}"
    )
    with connections[using].cursor() as cursor:
        cursor.execute(sql, parameters)
        rows = [_Row(*row) for row in cursor.fetchall()]
    if connections[using].vendor == "mysql":  # which gives bytes for text that it is to compare exactly
        rows = [row._replace(**{name: getattr(row, name).decode() for name in _EXACT}) for row in rows]
    return _as_called_now(rows, using) if upcasting.link_renames() else rows


_EXACT = ("model", "root", "pk_text", "link")


def _as_called_now(rows: Sequence[_Row], using: str) -> list[_Row]:
    """*rows* with the present names of m2m fields that were renamed, under which the versions of their links go."""
    renamed = {row.id: row for row in rows if upcasting.current_link(row.model, row.version, row.link) != row.link}
    for row in renamed.values():
        renamed[row.id] = row._replace(link=upcasting.current_link(row.model, row.version, row.link))
    found: dict[Key, tuple[int, int, int]] = {}
    for part in serialize.chunks([row.pk_text for row in renamed.values()]):
        stored = Version.objects.using(using).filter(pk_text__in=part, link__in={row.link for row in renamed.values()})
        for root, text, link, *version in stored.values_list("root", "pk_text", "link", "pk", "date", "node_id"):
            found[Key(root, text, link)] = version[0], version[1], version[2]
    for row in renamed.values():
        known, base, base_node = found.get(row.key, (None, None, None))
        renamed[row.id] = row._replace(known=known, base=base, base_node=base_node)
    return [renamed.get(row.id, row) for row in rows]


def _number(node: Node, part: Sequence[_Row], using: str) -> None:
    """Give *part* the next positions and dates, and note the newest change of each object and link.

    Positions and dates are counted here and written by one statement for all; window functions in the database took as
    long.
    """
    sealed: list[tuple[Any, ...]] = []
    newest: dict[Key, tuple[_Row, int]] = {}
    seq, clock, own = node.seq, node.clock, node.pk
    for row in part:
        seq += 1
        # Strictly above every earlier date of this log, also of what was imported: a later edit always counts as later.
        clock = row.captured if row.captured > clock else clock + 1
        key = row.key
        before = newest.get(key)
        base, base_node = (row.base, row.base_node) if before is None else (before[1], own)
        sealed.append((own, seq, clock, base, base_node, own, seq, row.id))
        newest[key] = row, clock
    node.seq, node.clock = seq, clock
    tables.update_numbers(ChangeLog, _SEALED, sealed, using)
    known = [(clock, own, row.action in _GONE, row.id, row.known) for row, clock in newest.values() if row.known]
    tables.update_numbers(Version, _VERSION, known, using)
    _note_versions([(key, row, clock) for key, (row, clock) in newest.items() if not row.known], own, using)


def _note_versions(rows: Sequence[tuple[Key, _Row, int]], own: int, using: str) -> None:
    """Note changes of what had none yet. A quarter of the time of sending them from here."""
    if upcasting.link_renames():  # the log has other names
        fields = [*tables.columns(Version, "root", "pk_text", "link"), *_VERSION]
        values_ = ((*key, clock, own, row.action in _GONE, row.id) for key, row, clock in rows)
        tables.insert_many(Version, fields, values_, using)
    elif rows:
        condition, parameters = tables.any_of([row.id for _, row, _ in rows], using)
        gone = ", ".join(f"'{action}'" for action in sorted(_GONE))
        sql = (
            f"INSERT INTO {Version._meta.db_table} (root, pk_text, link, date, node_id, deleted, change_id) "  # noqa: S608
            f"SELECT root, pk_text, link, date, log_id, CASE WHEN action IN ({gone}) THEN TRUE ELSE FALSE END, id "
            f"FROM {ChangeLog._meta.db_table} WHERE id {condition} ORDER BY id"
        )
        with connections[using].cursor() as cursor:
            cursor.execute(sql, parameters)


# --- rows never logged that a logged row points to --------------------------------------------------------------------


class _Logged:
    """Knows of which objects a change was ever logged. What was looked up once, or was seen, is remembered."""

    def __init__(self, using: str) -> None:
        self._using = using
        self._known: dict[str, set[str]] = defaultdict(set)

    def note(self, rows: Iterable[_Row]) -> None:
        """*rows* are in the log."""
        if sum(map(len, self._known.values())) > _REMEMBERED:
            self._known.clear()
        for row in rows:
            if not row.link:
                self._known[row.root].add(row.pk_text)

    def missing(self, mentioned: Mapping[ModelSpec, set[str]]) -> dict[ModelSpec, list[Any]]:
        """The primary keys of those that were not."""
        found: dict[ModelSpec, list[Any]] = {}
        for spec, texts in mentioned.items():
            known = self._known[spec.root_label]
            asked = texts - known
            if not asked or not registry.is_tracked(spec.model):
                continue
            unlogged = versions.unlogged(spec.root_label, asked, self._using)
            for part in serialize.chunks(sorted(unlogged)):
                waiting = changelog.pending(self._using).filter(root=spec.root_label, link="", pk_text__in=part)
                unlogged.difference_update(waiting.values_list("pk_text", flat=True))
            known |= asked - unlogged
            pk_values = [pk for text in sorted(unlogged) if (pk := references.pk_value(spec, text)) is not None]
            if pk_values:
                found[spec] = pk_values
        return found


def _mentioned(rows: Iterable[_Row], using: str) -> dict[ModelSpec, set[str]]:
    """The rows that *rows* need, by the texts of their primary keys: where states point to, both ends of links."""
    groups: dict[schemas.Place, list[_Row]] = defaultdict(list)
    for row in rows:
        groups[row.model, row.version].append(row)
    shapes = Shapes(using)
    shapes.load(groups)
    specs = {spec for place in groups if (spec := shapes.of(*place).spec) is not None}
    known = pointing.kinds(specs, using)
    found: dict[ModelSpec, set[str]] = defaultdict(set)
    by_column: dict[Pointer, set[Any]] = defaultdict(set)
    for place, group in groups.items():
        shape = shapes.of(*place)
        source = shape.spec
        if source is None or not registry.is_tracked(source.model):
            continue
        for row in group:
            link = source.links.get(row.link.partition(":")[0]) if row.link else None
            if link is not None:
                found[source].add(row.pk_text)
                found[registry.spec(link.related_model)].add(row.link.partition(":")[2])
        if not shape.relations and not embedded.functions_of(source):
            continue
        states = [
            orjson.loads(row.payload) for row in group if row.payload and not row.link and row.action != Action.DELETE
        ]
        for spec, pk in _others(shape, states, known):
            found[spec].add(pks.to_text(spec.model, pk))
        for name, pointer in shape.relations.items():
            pointed = _pointed(pointer, {_hashable(state.get(name)) for state in states})
            if pointer.column.primary_key:
                found[pointer.target].update(pks.to_text(pointer.target.model, pk) for pk in pointed)
            else:
                by_column[pointer] |= pointed
    for (target, column), wanted in by_column.items():  # foreign keys with to_field
        for part in serialize.chunks(list(wanted)):
            there = serialize.rows(target, using).filter(**{f"{column.attname}__in": part})
            found[target].update(pks.to_text(target.model, pk) for pk in there.values_list("pk", flat=True))
    return found


def _hashable(raw: Any) -> Any:
    return orjson.dumps(raw) if isinstance(raw, (dict, list)) else raw


def _pointed(pointer: Pointer, raws: Iterable[Any]) -> set[Any]:
    """What a foreign key with these raw values points to."""
    found: set[Any] = set()
    for raw in raws:
        # Logged before the schema changed, it points nowhere by now.
        with suppress(values.UndecodableValueError):
            found.add(values.decode(pointer.column, orjson.loads(raw) if isinstance(raw, bytes) else raw))
    return found - {None}


def _others(
    shape: Shape, states: Iterable[serialize.State], known: Mapping[Any, ModelSpec]
) -> Iterator[tuple[ModelSpec, Any]]:
    """The rows that generic foreign keys, and keys inside values of *states*, name."""
    source = shape.spec
    inside = source is not None and not shape.past and bool(embedded.functions_of(source))
    if source is None or not (shape.generics or inside):
        return
    for state in states:
        for label, text in embedded.mentioned(source, state) if inside else ():
            model = registry.by_label(label)
            if model is not None:
                yield from _row_of(registry.spec(model), text)
        for name in shape.generics:
            pointed = pointing.target(source, name, state, known)
            if pointed is not None:
                yield from _row_of(*pointed)


def _row_of(spec: ModelSpec, text: str) -> Iterator[tuple[ModelSpec, Any]]:
    pk = references.pk_value(spec, text)
    if pk is not None:
        yield spec, pk


def seal_targets(node: Node, start: int, using: str) -> None:
    """Log and number the rows never logged that changes made here after the position *start* point to."""
    end = node.seq
    logged = _Logged(using)
    while start < end:
        rows = ChangeLog.objects.using(using).filter(log=node, seq__gt=start, seq__lte=end).order_by("seq")
        found = list(rows.values_list("pk", "imported", "seq")[: serialize.CHUNK])
        made_here = [pk for pk, imported, _ in found if not imported]
        part = _read(using, "c.id", made_here) if made_here else []
        for fresh in serialize.chunks(_log_missing_targets(part, logged, using)):
            _number(node, fresh, using)
        start = found[-1][2] or end if found else end
    node.save(using=using, update_fields=["seq", "clock"])


def _log_missing_targets(part: Sequence[_Row], logged: _Logged, using: str) -> list[_Row]:
    """Log the rows of tracked models that *part* points to and of which no change was ever logged.

    What those point to is logged too. They were there before synchro, or were written past the ORM. Returned in an
    order in which they can be replayed.
    """
    first: list[_Row] = []
    logged.note(part)
    wanted = logged.missing(_mentioned(part, using))
    while wanted:
        before = ChangeLog.objects.using(using).aggregate(last=Max("pk"))["last"] or 0
        with nobody():
            for target, pk_values in wanted.items():
                changelog.log_objects(target, pk_values, Action.ADD, using)
        fresh = _fresh(wanted, _pending(using, after=before), captured=part[0].captured)
        logged.note(fresh)
        first = fresh + first
        wanted = logged.missing(_mentioned(fresh, using))
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
