"""Writing a chunk that is plain (see :mod:`express`): rows, links, the log, references and versions, each in bulk."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from typing import Any

from django.db import DatabaseError, OperationalError, connections, transaction

from synchro import apply, changelog, tables, versions
from synchro.apply import default_of
from synchro.checkpoints import Checkpoints
from synchro.express import End, Entry, Express, Found, NotPlainError, Thing, pk_of
from synchro.express_models import PlainLink, PlainModel
from synchro.lines import Line
from synchro.models import ChangeLog, Reference
from synchro.plan import HoldError, Link, Write
from synchro.recording import LOGGED, Recorder, storable_actor
from synchro.registry import AnyField, ModelSpec
from synchro.resolving import Slot
from synchro.trust import Vouch
from synchro.values import UndecodableValueError
from synchro.versions import VersionRow

_REFERENCE = tables.columns(Reference, "model", "object_id", "pk_text")


def take(
    lines: Sequence[Line],
    express: Express,
    recorder: Recorder,
    checkpoints: Checkpoints,
    vouch: Vouch | None,
    using: str,
) -> tuple[list[tuple[str, str, str]], set[str]] | None:
    """Take *lines* if everything in them is plain and new: what came of them, and the tables that were written.

    None, and nothing done, otherwise. *vouch*: see ``Taking``.
    """
    try:
        with recorder.restored_on_error(), transaction.atomic(using=using):
            found = express.find(lines)
            positions = found.positions()
            if not checkpoints.all_new(positions):
                return None
            if vouch is not None:
                for origin in positions.keys() - {express.sender}:
                    vouch(origin)
            touched = write(found, recorder, using)
    except OperationalError:
        raise  # the database itself
    except (NotPlainError, DatabaseError, HoldError, UndecodableValueError):
        return None  # whoever looks at each record by itself finds out which it is
    checkpoints.take(positions)
    if found.handled:
        express.forget()  # there is no knowing what the project's own code wrote
    else:
        express.remember(found.things)
    return found.details, touched


def write(found: Found, recorder: Recorder, using: str) -> set[str]:
    """Write *found*; the tables in which foreign keys were written.

    Raises ``HoldError`` and what the database raises; the caller's savepoint undoes everything then.
    """
    new = [thing for thing in found.things if thing.new]
    touched = _write_one_by_one(found, using) if found.handled else _write_in_bulk(found, new, using)
    places = _places(found.entries)
    numbers = _log(found.entries, places, recorder, using)
    for model, things in _by_model(new).items():
        references = ((model.spec.identity_label, thing.id, str(thing.pk)) for thing in things)
        tables.insert_many(Reference, _REFERENCE, references, using, copy=True)
    _versions(found, places, numbers, recorder, using)
    recorder.told((thing.model.spec.root_label, str(thing.pk)) for thing in found.things)
    return touched


# --- rows -------------------------------------------------------------------------------------------------------------


def _write_in_bulk(found: Found, new: Sequence[Thing], using: str) -> set[str]:
    changed = [thing for thing in found.things if thing.given and not thing.new]
    _number(new, using)
    waiting = [thing for thing in changed if not _ready(thing)]
    _update([thing for thing in changed if _ready(thing)] if waiting else changed, using)
    _insert(new, using)
    _update(waiting, using)
    links = [entry for entry in found.entries if entry.link is not None]
    _link(links, found, using)
    return {
        *(thing.model.spec.model._meta.db_table for thing in (*new, *changed)),
        *(entry.link.through._meta.db_table for entry in links if entry.link is not None),
    }


def _write_one_by_one(found: Found, using: str) -> set[str]:
    """As the planner would have it written: saved through the models that somebody listens to."""
    slots: dict[Thing, Slot] = {}

    def slot(spec: ModelSpec, end: End) -> Slot:
        if not isinstance(end, Thing):
            return Slot(spec=spec, pk_text=str(end), rows={spec.label})
        known = slots.get(end)
        if known is None:
            known = slots[end] = Slot(spec=spec, ids={end.id})
            if end.pk is not None:
                known.pk_text, known.rows = str(end.pk), {spec.label}
        return known

    operations: list[Write | Link] = []
    for entry in found.entries:
        spec = entry.model.spec
        if entry.link is not None:
            ends = slot(spec, entry.ends[0]), slot(entry.link.target, entry.ends[1])
            present = entry.data["action"] == "link"
            operations.append(Link(ends[0], spec, entry.link.field, ends[1], present, None))
        elif entry.thing is not None and entry.written is not None:
            given = {
                name: slot(value.model.spec, value) if isinstance(value, Thing) else value
                for name, value in entry.written.items()
            }
            mine = slot(spec, entry.thing)
            present_in = frozenset[str]() if entry.created else frozenset({spec.label})
            operations.append(Write(mine, spec, given, entry.created, None, present_in))
    apply.apply_operations(operations, using)
    for thing, made in slots.items():
        thing.pk = int(made.text or "")
    return apply.touched_tables(operations)


def _by_model(things: Iterable[Thing]) -> dict[PlainModel, list[Thing]]:
    grouped: dict[PlainModel, list[Thing]] = defaultdict(list)
    for thing in things:
        grouped[thing.model].append(thing)
    return grouped


def _number(new: Sequence[Thing], using: str) -> None:
    """Number new objects beforehand where the database can, so that they may point to each other."""
    for model, things in _by_model(new).items():
        numbers = tables.allocate(model.spec.model, len(things), using)
        for thing, number in zip(things, numbers or (), strict=False):
            thing.pk = number


def _ready(thing: Thing) -> bool:
    """Whether everything that it points to has its primary key."""
    return not any(isinstance(value := thing.given.get(n), Thing) and value.pk is None for n in thing.model.relations)


def _update(things: Sequence[Thing], using: str) -> None:
    for model, of_model in _by_model(things).items():
        key: AnyField = model.spec.model._meta.pk
        for names, group in _by_names(of_model):
            fields = [model.fields[name] for name in names]
            rows = ((*values, thing.pk) for thing, values in zip(group, _rows(model, names, group), strict=True))
            tables.update_many(model.spec.model, fields, [key], rows, using, prepared=True)


def _by_names(things: Iterable[Thing]) -> Iterator[tuple[tuple[str, ...], list[Thing]]]:
    """*things* by the names of the fields that are given: one statement for each set of columns."""
    grouped: dict[tuple[str, ...], list[Thing]] = defaultdict(list)
    for thing in things:
        grouped[tuple(thing.given)].append(thing)
    for names, group in grouped.items():
        if names:
            yield names, group


def _rows(model: PlainModel, names: Sequence[str], things: Iterable[Thing]) -> Iterator[list[Any]]:
    """What each of *things* is given, which are just *names*, in their order; what is pointed to by its number."""
    pointing = [place for place, name in enumerate(names) if name in model.relations]
    for thing in things:
        row = list(thing.given.values())
        for place in pointing:
            row[place] = pk_of(row[place])
        yield row


def _insert(new: Sequence[Thing], using: str) -> None:
    """Insert what can be inserted, until nothing is left: as everywhere, what points to others comes after them."""
    waiting: Sequence[Thing] = new
    while waiting:
        wave: list[Thing] = []
        others: list[Thing] = []
        for thing in waiting:
            (wave if _ready(thing) else others).append(thing)
        if not wave:
            raise NotPlainError  # they point to each other, and cannot be numbered beforehand
        waiting = others
        for model, things in _by_model(wave).items():
            _insert_rows(model, things, using)


def _insert_rows(model: PlainModel, things: Sequence[Thing], using: str) -> None:
    connection, table = connections[using], model.spec.model
    key: AnyField = table._meta.pk
    others = [
        column
        for column in table._meta.local_concrete_fields
        if not column.primary_key and not getattr(column, "generated", False)
    ]
    fixed: dict[AnyField, Any] = {}
    grouped: dict[tuple[str, ...], list[Thing]] = defaultdict(list)
    for thing in things:
        grouped[tuple(thing.given)].append(thing)
    for names, group in grouped.items():
        missing = [column for column in others if column.name not in names]
        for column in missing:
            if column not in fixed:
                fixed[column] = default_of(column, model.spec)
        # What the database fills in by itself is left out.
        missing = [column for column in missing if not hasattr(fixed[column], "resolve_expression")]
        fields = [*(model.fields[name] for name in names), *missing]
        rows = list(_rows(model, names, group))
        for row in rows if missing else ():
            for column in missing:
                default = default_of(column, model.spec) if callable(column.default) else fixed[column]
                row.append(column.get_db_prep_save(default, connection))
        if group[0].pk is not None:
            numbered = ((thing.pk, *row) for thing, row in zip(group, rows, strict=True))
            tables.insert_many(table, [key, *fields], numbered, using, prepared=True, copy=True)
        else:
            numbers = tables.insert_returning(table, fields, rows, using, prepared=True, copy=True)
            for thing, number in zip(group, numbers, strict=True):
                thing.pk = number


def _link(links: Sequence[Entry], found: Found, using: str) -> None:
    by_link: dict[PlainLink, dict[str, list[tuple[Any, Any]]]] = defaultdict(lambda: defaultdict(list))
    for entry in links:
        if entry.link is not None:
            source, target = entry.ends
            by_link[entry.link][entry.data["action"]].append((pk_of(source), pk_of(target)))
    for link, pairs in by_link.items():
        tables.delete_many(link.through, link.columns, pairs["unlink"], using)
        present = found.present.get(link, set())
        fresh = [pair for pair in pairs["link"] if pair not in present]
        tables.insert_many(link.through, link.columns, fresh, using, prepared=True, copy=True)


# --- what is remembered -----------------------------------------------------------------------------------------------


def _places(entries: Sequence[Entry]) -> list[tuple[str, str, str]]:
    """Of each record what the log and the versions call its object or link: root model, primary key, link."""
    places = []
    for entry in entries:
        if entry.thing is not None:
            places.append((entry.model.spec.root_label, str(entry.thing.pk), ""))
        else:
            source, target = entry.ends
            places.append((entry.model.spec.label, str(pk_of(source)), f"{entry.data['field']}:{pk_of(target)}"))
    return places


def _log(entries: Sequence[Entry], places: Sequence[tuple[str, str, str]], recorder: Recorder, using: str) -> list[int]:
    """The records verbatim, in this node's log; the primary keys of the rows."""
    node, now = recorder.node, changelog.now()
    made_on = {entry.base.node for entry in entries if entry.base is not None}
    numbers = recorder.numbers_of({entry.node for entry in entries} | made_on)
    first = node.seq + 1
    rows = []
    for seq, (entry, (root, text, link)) in enumerate(zip(entries, places, strict=True), first):
        data, spec, base = entry.data, entry.model.spec, entry.base
        actor = data.get("actor")
        rows.append(
            (
                spec.label, root, text, link, data["action"], now, _payload(entry), True, node.pk, seq, entry.date,
                None if base is None else base.date, None if base is None else numbers[base.node], numbers[entry.node],
                entry.seq, False, spec.version, storable_actor(actor) if actor else "",
            )
        )  # fmt: skip
    node.seq += len(entries)
    node.clock = max(node.clock, *(entry.date for entry in entries))
    return tables.insert_returning(ChangeLog, LOGGED, rows, using, copy=True)


def _payload(entry: Entry) -> str:
    """The record without its position in the sender's log and with its origin, as it is spelled in its line."""
    # The key that stands after the position begins at the comma after it.
    rest = entry.text[entry.text.index(b",", _AFTER_TYPE) + 1 :].decode()
    if "origin" in entry.data:
        return f'{{"type":"change",{rest}'
    return f'{{"type":"change",{rest[:-1]},"origin":{{"node":"{entry.node}","seq":{entry.seq}}}}}'


_AFTER_TYPE = len(b'{"type":"change",')


def _versions(
    found: Found, places: Sequence[tuple[str, str, str]], numbers: Sequence[int], recorder: Recorder, using: str
) -> None:
    node_ids = recorder.numbers_of(())
    new: list[VersionRow] = []
    changed: list[VersionRow] = []
    for thing in found.things:
        if thing.stamp is not None:
            date, node = thing.stamp
            value = (date, node_ids[node], False, numbers[thing.number], None)
            (new if thing.new else changed).append((places[thing.number], value))
    for entry, place, number in zip(found.entries, places, numbers, strict=True):
        if entry.link is not None:
            value = (entry.date, node_ids[entry.node], entry.data["action"] == "unlink", number, None)
            (changed if entry.known else new).append((place, value))
    versions.write(new, changed, using, copy=True)
