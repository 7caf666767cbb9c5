"""Chunks in which everything is plain, taken past the planner: with the same outcome in a third of the time.

Plain is what most of a bundle is: objects that are new here and that no row can be, changes made on the version that
is here, links between living objects; of models of one table (:mod:`express_models`). Whether a chunk is that, is found
out by sets with a handful of queries, before anything is written; :mod:`express_writing` writes it. Everything else
goes to the planner, by the whole chunk. A test takes the same bundles both ways and compares all that is in the
database afterwards.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import orjson

from changelog_format.dates import parse_date
from changelog_format.jsonl import FAST_SIZE
from synchro import alike, naturalkeys, nodes, references, registry, serialize, tables, versions
from synchro.combining import respelled
from synchro.express_models import PlainLink, PlainModel, plain_model
from synchro.lines import Line
from synchro.models import ChangeLog, Reference, Version
from synchro.registry import ModelSpec
from synchro.resolving import Ends, LinkField, Lock
from synchro.versions import Stamp

_STATE, _LINK = ("fields", "refs"), ("field", "target")
# The keys of a plain record, in the order in which they are written → whether it is a link.
_SHAPES = {
    ("type", "seq", *origin, "date", "base", *base, "action", "model", "id", "key", *body, *actor, *context): body
    is _LINK
    for body in (_STATE, _LINK)
    for origin in ((), ("origin",))
    for base in ((), ("base_node",))
    for actor in ((), ("actor",))
    for context in ((), ("context",))
}


class NotPlainError(Exception):
    """Something about the chunk is for the planner."""


class Thing:
    """An object that the chunk has a state of.

    ``pk`` is None until a new one is numbered. ``given`` are the values to be written, by name, as the database takes
    them, foreign keys as primary keys or things; ``state`` what the row holds then, in JSON form.
    """

    __slots__ = ("change_id", "given", "id", "model", "new", "number", "pk", "row", "stamp", "state")

    def __init__(self, model: PlainModel, object_id: str, pk: int | None) -> None:
        self.model, self.id, self.pk = model, object_id, pk
        self.new = pk is None
        self.given: dict[str, Any] = {}
        self.state: dict[str, Any] = {}
        self.row: Mapping[str, Any] | None = None
        self.stamp: Stamp | None = None
        self.change_id: int | None = None
        self.number = 0


End = Thing | int


@dataclass(slots=True)
class Entry:
    """A record on its way to the log: ``link`` and ``ends`` are set for links, ``thing`` for states.

    ``written``: what is to be written, in JSON form, None where the object holds it already. ``known``: the link has a
    version here.
    """

    model: PlainModel
    data: dict[str, Any]
    text: bytes
    node: str
    seq: int
    date: int
    base: Stamp | None
    thing: Thing | None = None
    link: PlainLink | None = None
    ends: tuple[End, End] = (0, 0)
    known: bool = False
    written: dict[str, Any] | None = None
    created: bool = False


@dataclass(slots=True)
class Found:
    """A chunk that is plain: what is to be written of it. ``present``: of each m2m field links that are there."""

    entries: list[Entry]
    things: list[Thing]
    details: list[tuple[str, str, str]] = field(default_factory=list)
    present: dict[PlainLink, set[tuple[Any, Any]]] = field(default_factory=dict)

    @property
    def handled(self) -> bool:
        """Whether some of it is to be saved or linked one by one, in the order of the records."""
        return any(e.model.handled if e.link is None else e.link.handled for e in self.entries)

    def positions(self) -> dict[str, list[int]]:
        """The positions of the changes in the logs of the nodes that made them."""
        found: dict[str, list[int]] = defaultdict(list)
        for entry in self.entries:
            found[entry.node].append(entry.seq)
        return found


class Express:
    """Finds out of chunk after chunk of one bundle whether it is plain."""

    def __init__(
        self, sender: str, versions_: Mapping[str, int], own_ident: str, lock: Lock | None, using: str
    ) -> None:
        """*versions_*: of the header's models."""
        self.sender = sender
        self._versions = versions_
        self._own = own_ident
        self._lock = lock
        self._using = using
        self._models: dict[str, PlainModel | None] = {}
        self._accepted: dict[tuple[str, str], bool] = {}
        self._idents: dict[int, str] = {}
        # Root model → object id → primary key, of objects that are here, as long as nobody else writes in between.
        self._here: dict[str, dict[str, int]] = defaultdict(dict)

    def forget(self) -> None:
        """Others have written: what is here has to be asked again."""
        self._here.clear()
        self._idents = {}

    def idents(self) -> Mapping[int, str]:
        """The ids of the nodes that are known here, by the primary keys of their rows."""
        if not self._idents:
            self._idents = {pk: ident for ident, pk in nodes.numbers(self._using).items()}
        return self._idents

    def remember(self, things: Iterable[Thing]) -> None:
        """*things* are here now."""
        self._idents = {}  # the bundle may have brought others
        for thing in things:
            if thing.pk is not None:
                self._here[thing.model.spec.label][thing.id] = thing.pk
        for of_model in self._here.values():
            if len(of_model) > _REMEMBERED:
                of_model.clear()

    def find(self, lines: Sequence[Line]) -> Found:
        """What is to be written for *lines*. Reads only.

        Raises ``NotPlainError`` or ``UndecodableValueError`` where something of them is not plain.
        """
        return _Chunk(self, self._entries(lines)).found()

    # --- what the records are -----------------------------------------------------------------------------------------

    def _entries(self, lines: Sequence[Line]) -> list[Entry]:
        entries = []
        for text, data in lines:
            is_link = _SHAPES.get(tuple(data))
            if is_link is None or len(text) > FAST_SIZE:  # how those are spelled is not known
                raise NotPlainError
            origin = data.get("origin")
            node, seq = (self.sender, data["seq"]) if origin is None else (origin["node"], origin["seq"])
            model = self._model(data["model"], node)
            base = data["base"]
            made_on = None if base is None else Stamp(parse_date(base), data.get("base_node") or node)
            entry = Entry(model, data, text, node, seq, parse_date(data["date"]), made_on)
            if is_link:
                entry.link = model.links.get(data["field"])
                if entry.link is None:
                    raise NotPlainError
            entries.append(entry)
        return entries

    def _model(self, label: str, node: str) -> PlainModel:
        if label not in self._models:
            self._models[label] = plain_model(label, self._versions.get(label, 1), self._using)
        model = self._models[label]
        if model is None:
            raise NotPlainError
        accepted = self._accepted.get((node, label))
        if accepted is None:
            accepted = self._accepted[node, label] = registry.accepts(node, model.spec.model)
        if not accepted:
            raise NotPlainError
        return model


_REMEMBERED = 20_000


# How tags begin in a line (SPEC R18), and NULs, or what looks like them: rarely, so that a quick look is enough.
_TAG, _NUL = b'"$', b"\\u0000"


class _Chunk:
    """One chunk: what its records name is looked up, then each is decided in its order."""

    def __init__(self, express: Express, entries: list[Entry]) -> None:
        self._express = express
        self._entries = entries
        self._using = express._using  # noqa: SLF001  a part of it
        self._here = express._here  # noqa: SLF001
        self._own = express._own  # noqa: SLF001
        self._things: dict[tuple[str, str], Thing] = {}
        self._keys: dict[tuple[str, Any], str] = {}
        self._current: dict[tuple[str, str, str], Stamp] = {}
        self._links: set[tuple[PlainLink, End, End]] = set()

    def found(self) -> Found:
        objects, links = self._look_up()
        self._load_rows(objects)
        self._check_new(objects)
        self._load_links(links)
        found = Found(self._entries, [])
        for number, entry in enumerate(self._entries):
            if entry.link is None:
                self._state(entry, number, found)
            else:
                self._link(entry, found)
        found.things = list(self._things.values())
        self._check_logged(found.things)
        found.present = self._present(found)
        return found

    # --- looking up ---------------------------------------------------------------------------------------------------

    def _look_up(self) -> tuple[dict[PlainModel, dict[str, Entry]], list[Entry]]:
        """The objects of which there are states, with the first of each, and the links; all ids are resolved."""
        objects: dict[PlainModel, dict[str, Entry]] = defaultdict(dict)
        wanted: dict[ModelSpec, set[str]] = defaultdict(set)
        links = []
        for entry in self._entries:
            data, spec = entry.data, entry.model.spec
            wanted[spec].add(data["id"])
            if entry.link is None:
                objects[entry.model].setdefault(data["id"], entry)
                for name, object_id in data["refs"].items():
                    target = entry.model.relations.get(name)
                    if target is not None:
                        wanted[target].add(object_id)
            else:
                links.append(entry)
                wanted[entry.link.target].add(data["target"]["id"])
        fresh: dict[ModelSpec, dict[str, int]] = {}
        for spec, ids in wanted.items():
            fresh[spec] = self._resolved(spec, ids - self._here[spec.label].keys())
        self._lock(objects, links, fresh)
        pk_columns = {spec: tables.columns(spec.model, spec.model._meta.pk.name) for spec in fresh}
        for spec, of_spec in fresh.items():
            rows = tables.select_in(
                spec.model, pk_columns[spec], pk_columns[spec][0], of_spec.values(), self._using, {}
            )
            there = {pk for (pk,) in rows}
            if len(there) != len(set(of_spec.values())):
                raise NotPlainError  # known, and gone
            self._here[spec.label].update(of_spec)
        return objects, links

    def _resolved(self, spec: ModelSpec, ids: set[str]) -> dict[str, int]:
        """Object id → primary key here, of those of *ids* that are known."""
        own = f"{self._own}/"
        found = dict(
            tables.select_in(
                Reference, _REFERENCE, _REFERENCE[0], ids, self._using, {"model": spec.identity_label}
            )
        )  # fmt: skip
        found.update((each, references.birth_pk(each)) for each in ids if each.startswith(own) and each not in found)
        return {object_id: _number(text) for object_id, text in found.items()}

    def _lock(
        self,
        objects: Mapping[PlainModel, Mapping[str, Entry]],
        links: Sequence[Entry],
        fresh: Mapping[ModelSpec, Mapping[str, int]],
    ) -> None:
        lock = self._express._lock  # noqa: SLF001
        if lock is None:
            return

        def text(spec: ModelSpec, object_id: str) -> str | None:
            pk = self._here[spec.label].get(object_id) or fresh[spec].get(object_id)
            return None if pk is None else str(pk)

        rows: dict[ModelSpec, set[str]] = defaultdict(set)
        ends: dict[LinkField, Ends] = defaultdict(lambda: (set(), set()))
        for model, of_model in objects.items():
            rows[model.spec].update(known for each in of_model if (known := text(model.spec, each)) is not None)
        for entry in links:
            if entry.link is None or (source := text(entry.model.spec, entry.data["id"])) is None:
                continue
            rows[entry.model.spec].add(source)
            if (target := text(entry.link.target, entry.data["target"]["id"])) is not None:
                ends[entry.link.field][0].add(source)
                ends[entry.link.field][1].add(target)
        lock(rows, ends)

    def _load_rows(self, objects: Mapping[PlainModel, Mapping[str, Entry]]) -> None:
        """The rows and versions of the objects that are here."""
        for model, of_model in objects.items():
            spec, here = model.spec, self._here[model.spec.label]
            known = [(each, pk) for each in of_model if (pk := here.get(each)) is not None]
            things = {pk: Thing(model, each, pk) for each, pk in known}
            if not things:
                continue
            if len(things) != len(known):
                raise NotPlainError  # one object by two of its names
            states = serialize.row_states(spec, things, self._using)
            texts = [str(pk) for pk in things]
            rows = tables.select_in(
                Version, _VERSION, _VERSION[0], texts, self._using, {"root": spec.root_label, "link": ""}
            )  # fmt: skip
            if len(states) != len(things) or len(rows) != len(things):
                raise NotPlainError
            idents = self._express.idents()
            for text, date, node, deleted, change_id in rows:
                thing = things[int(text)]
                if deleted:
                    raise NotPlainError
                thing.stamp, thing.change_id = Stamp(date, idents[node]), change_id
                thing.row = states[thing.pk]
                thing.state = dict(thing.row)
                self._things[spec.label, thing.id] = thing

    def _check_new(self, objects: Mapping[PlainModel, Mapping[str, Entry]]) -> None:
        """Refuse where a row may be one of the objects that are not known here."""
        for model, of_model in objects.items():
            here = self._here[model.spec.label]
            new = {object_id: entry for object_id, entry in of_model.items() if object_id not in here}
            if not new:
                continue
            if not model.keyed:
                if any(entry.data["key"] is not None for entry in new.values()):
                    raise NotPlainError
                self._check_alike(model, new)
                continue
            keys = [entry.data["key"] for entry in new.values() if entry.data["key"] is not None]
            column = model.key_column
            if column is not None and all(len(key) == 1 and type(key[0]) is str for key in keys):
                texts = [key[0] for key in keys]
                if tables.select_in(model.spec.model, [column], column, texts, self._using, {}):
                    raise NotPlainError
            elif naturalkeys.find(model.spec.model, keys, self._using):
                raise NotPlainError

    def _check_alike(self, model: PlainModel, new: Mapping[str, Entry]) -> None:
        """Of objects without a natural key: no row is like one of them that was not born where they were."""
        spec = model.spec
        births = {references.birth_node(object_id) for object_id in new}
        if len(births) > 1:
            raise NotPlainError

        def known(_fields: Mapping[str, Any], name: str, object_id: str) -> Any:
            target = model.relations.get(name)
            return None if target is None else self._here[target.label].get(object_id)

        states = [(entry.data["fields"], entry.data["refs"]) for entry in new.values()]
        texts = alike.search(spec, states, known, self._using)
        explicit = references.explicit_ids(spec, texts, self._using)
        for text in texts:
            if births.isdisjoint(map(references.birth_node, explicit.get(text, (f"{self._own}/{text}",)))):
                raise NotPlainError

    def _load_links(self, links: Sequence[Entry]) -> None:
        """The newest changes of the links between objects that are here."""
        sources: dict[str, set[str]] = defaultdict(set)
        names: dict[str, set[str]] = defaultdict(set)
        for entry in links:
            ends = self._known_ends(entry)
            if ends is not None:
                label, text, name = _link_key(entry, *ends)
                sources[label].add(text)
                names[label].add(name)
        for label, texts in sources.items():
            # As in versions.find: an object may have very many links.
            few = len(texts) * len(names[label]) <= versions.LOOKUPS
            also = (_LINKED[1], names[label]) if few else None
            rows = tables.select_in(
                Version, _LINKED, _LINKED[0], texts, self._using, {"root": label}, also, but={"link": ""}
            )
            idents = self._express.idents() if rows else {}
            for text, name, date, node in rows:
                self._current[label, text, name] = Stamp(date, idents[node])

    def _known_ends(self, entry: Entry) -> tuple[int, int] | None:
        """The primary keys of both ends of a link; None where one of them is not here yet."""
        link = entry.link
        if link is None:
            return None
        source = self._here[entry.model.spec.label].get(entry.data["id"])
        target = self._here[link.target.label].get(entry.data["target"]["id"])
        return None if source is None or target is None else (source, target)

    # --- deciding -----------------------------------------------------------------------------------------------------

    def _state(self, entry: Entry, number: int, found: Found) -> None:
        data, model = entry.data, entry.model
        label, object_id, key = model.spec.label, data["id"], data["key"]
        state, given = self._values(entry)
        thing = self._things.get((label, object_id))
        added = thing is None
        if thing is None:
            if references.birth_node(object_id) == self._own:
                raise NotPlainError
            thing = self._things[label, object_id] = Thing(model, object_id, None)
        elif not self._follows(entry, thing.stamp):
            raise NotPlainError
        if key is not None:
            frozen = key[0] if len(key) == 1 and type(key[0]) is str else naturalkeys.freeze(key)
            if self._keys.setdefault((label, frozen), object_id) != object_id:
                raise NotPlainError
        changed = not added and not _holds(thing, state)
        if added or changed:
            entry.written, entry.created = state, added
            thing.state.update(state)
            thing.given.update(given)
        thing.stamp, thing.number, entry.thing = Stamp(entry.date, entry.node), number, thing
        found.details.append(("added" if added else "changed" if changed else "unchanged", label, object_id))

    @staticmethod
    def _follows(entry: Entry, local: Stamp | None) -> bool:
        """Whether the change is later than what is here, and was made on that or something later."""
        if local is None or (entry.date, entry.node) <= local:
            return False
        return local.node == entry.node or (entry.base is not None and local <= entry.base)

    def _values(self, entry: Entry) -> tuple[dict[str, Any], dict[str, Any]]:
        """What the record gives: as JSON, and as the database takes it."""
        model, text, fields, refs = entry.model, entry.text, entry.data["fields"], entry.data["refs"]
        shape = model.shape(tuple(fields))
        if shape is None:
            raise NotPlainError
        state = dict(fields)
        for name in shape.left_out:
            del state[name]
        if any(state[name] for name in shape.files):
            raise NotPlainError  # it may be called otherwise here
        given = dict(state)
        try:
            if _TAG in text or _NUL in text:
                for name, convert in shape.converted:
                    given[name] = convert(given[name])
            else:
                for name, kind in shape.exact:
                    value = given[name]
                    if type(value) is not kind and value is not None:
                        given[name] = model.converters[name](value)
                for name, convert in shape.quick:
                    given[name] = convert(given[name])
        except Exception as error:  # whatever a field raises: the planner holds that record alone
            raise NotPlainError from error
        for name, label in shape.pointing:
            state[name] = given[name] = None if fields[name] is None else self._end(label, refs.get(name))
        return state, given

    def _end(self, label: str, object_id: str | None) -> End:
        """The object called so, which has to be here, or new in this chunk."""
        if object_id is None:
            raise NotPlainError
        found = self._here[label].get(object_id) or self._things.get((label, object_id))
        if found is None:
            raise NotPlainError
        return found

    def _link(self, entry: Entry, found: Found) -> None:
        link, data = entry.link, entry.data
        assert link is not None  # noqa: S101  only links come here
        source = self._end(entry.model.spec.label, data["id"])
        target = self._end(link.target.label, data["target"]["id"])
        place = (link, source, target)
        if place in self._links:
            raise NotPlainError  # made and removed again
        self._links.add(place)
        ends = self._known_ends(entry)
        current = None if ends is None else self._current.get(_link_key(entry, *ends))
        if current is not None and not self._follows(entry, current):
            raise NotPlainError
        entry.ends, entry.known = (source, target), current is not None
        found.details.append(("m2m", entry.model.spec.label, data["id"]))

    # --- what was written past the log, and what is there ------------------------------------------------------------

    def _check_logged(self, things: Iterable[Thing]) -> None:
        """Refuse where a row that is to be overwritten is not as it was last logged: its values are to be kept."""
        doomed = {thing.change_id: thing for thing in things if thing.given and thing.change_id is not None}
        if not doomed:
            return
        rows = tables.select_in(ChangeLog, _LOGGED, _LOGGED[0], doomed, self._using, {"link": ""})
        if len(rows) != len(doomed):
            raise NotPlainError  # pruned
        logged: list[tuple[Thing, Mapping[str, Any], Mapping[str, str]]] = []
        moved: dict[ModelSpec, set[str]] = defaultdict(set)
        for pk, label, imported, payload, version in rows:
            thing = doomed[pk]
            spec = thing.model.spec
            if label != spec.label or not payload or (imported and version != spec.version):
                raise NotPlainError
            data = orjson.loads(payload)
            state, refs = (data.get("fields"), data.get("refs") or {}) if imported else (data, {})
            if state is None:
                raise NotPlainError
            logged.append((thing, state, refs))
            for name, object_id in refs.items():
                target = thing.model.relations.get(name)
                if target is not None and object_id not in self._here[target.label]:
                    moved[target].add(object_id)
        before = {spec: self._resolved(spec, ids) for spec, ids in moved.items()}
        if not all(self._as_logged(*each, before) for each in logged):
            raise NotPlainError

    def _as_logged(
        self,
        thing: Thing,
        state: Mapping[str, Any],
        refs: Mapping[str, str],
        before: Mapping[ModelSpec, Mapping[str, int]],
    ) -> bool:
        """Whether the row holds the logged *state*; *before*: what objects that are not named any more are here."""
        model, row = thing.model, thing.row or {}
        for name, value in state.items():
            if name not in row:
                continue
            target = model.relations.get(name)
            if target is not None and name in refs:
                value = self._here[target.label].get(refs[name]) or before[target].get(refs[name])  # noqa: PLW2901
            if row[name] != value and not respelled(model.spec, name, row[name], value):
                return False
        return True

    def _present(self, found: Found) -> dict[PlainLink, set[tuple[Any, Any]]]:
        """The links that are to be made and are there, between objects that were here before."""
        wanted: dict[PlainLink, tuple[set[int], set[int]]] = defaultdict(lambda: (set(), set()))
        for entry in found.entries:
            if entry.link is None or entry.data["action"] != "link":
                continue
            source, target = entry.ends
            if not (isinstance(source, Thing) and source.new) and not (isinstance(target, Thing) and target.new):
                wanted[entry.link][0].add(pk_of(source))
                wanted[entry.link][1].add(pk_of(target))
        return {link: self._present_links(link, *ends) for link, ends in wanted.items()}

    def _present_links(self, link: PlainLink, sources: set[int], targets: set[int]) -> set[tuple[Any, Any]]:
        """The links between *sources* and *targets*; a chunk has no more of either than go into one statement."""
        source, target = link.columns
        return set(tables.select_in(link.through, link.columns, source, sources, self._using, {}, (target, targets)))


def pk_of(end: End) -> Any:
    """The primary key of one end of a link or foreign key."""
    return end.pk if isinstance(end, Thing) else end


def _number(text: str) -> int:
    """The number that *text* is; there is no row for anything else."""
    if not (text.isascii() and text.isdecimal() and str(int(text)) == text):
        raise NotPlainError
    return int(text)


def _holds(thing: Thing, state: Mapping[str, Any]) -> bool:
    """Whether the object holds *state* already."""
    mine, spec = thing.state, thing.model.spec
    for name, value in state.items():
        if name not in mine:
            return False
        held = mine[name]
        if held is value or held == value:
            continue
        if isinstance(held, Thing) or isinstance(value, Thing) or not respelled(spec, name, held, value):
            return False
    return True


def _link_key(entry: Entry, source: int, target: int) -> tuple[str, str, str]:
    return entry.model.spec.label, str(source), f"{entry.data['field']}:{target}"


_REFERENCE = tables.columns(Reference, "object_id", "pk_text")
_LINKED = tables.columns(Version, "pk_text", "link", "date", "node")
_VERSION = tables.columns(Version, "pk_text", "date", "node", "deleted", "change_id")
_LOGGED = tables.columns(ChangeLog, "id", "model", "imported", "payload", "version")
