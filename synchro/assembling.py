"""The usual change from the log to its line in a bundle, without the detour over records.

:class:`~synchro.portable.Translator` turns each row of the log into a record, which the writer checks and writes as a
line. Nearly every change needs none of that: its payload was checked when it was logged or imported, and all that is
missing are names. Here such rows become lines at once; for all others the translator is asked. Both give the same
lines (a property test holds them against each other), this one in a twelfth of the time: what was logged goes in as it
was written, with only its foreign keys replaced.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Any, NamedTuple, cast

import orjson
from django.db import connections, models

from changelog_format import Change, Header, ObjectRecord
from changelog_format.dates import format_date
from changelog_format.limits import INT64_MAX
from synchro import (
    embedded,
    naturalkeys,
    nodes,
    pks,
    references,
    registry,
    schemas,
    serialize,
    tables,
    upcasting,
    values,
)
from synchro.models import Action, ChangeLog, HeldObject, MergedRow, Node, Reference
from synchro.portable import PORTABLE_COLUMNS, LogRow, Translator
from synchro.redacting import Redaction
from synchro.registry import ModelSpec

# What a line is made of. ``kind`` tells at once what a row of the log is: each column that need not be fetched is a
# hundredth of an export.
_COLUMNS = (
    "seq", "date", "kind", "model", "version", "pk_text", "link", "action", "payload", "base", "base_node_id", "actor",
    "context",
)  # fmt: skip
SEQ, _DATE, _KIND, _MODEL, _VERSION, _PK_TEXT, _LINK, _ACTION, _PAYLOAD = range(9)
_OWN, _RELAYED, _OTHER = range(3)
# How many names of rows are remembered from chunk to chunk; some 500 bytes each.
_REMEMBERED = 20_000
# A line that is longer, nests deeper or may have a tagged value is checked by the writer, value by value.
_USUAL_SIZE = 32 * 1024
_USUAL_DEPTH = 90

_STATES = frozenset({Action.ADD.value, Action.CHANGE.value})
_OBJECTS = _STATES | {Action.DELETE.value}
_LINKS = frozenset({Action.LINK.value, Action.UNLINK.value})

Raw = tuple[Any, ...]
"""A row of the log as the driver gives it, in the order of ``_COLUMNS``."""


class Run(NamedTuple):
    """The lines of changes that follow one another, from position ``first`` on, and their dates in microseconds."""

    first: int
    dates: list[int]
    lines: list[str]

    @property
    def last_date(self) -> str:
        """The date of the last one."""
        return format_date(self.dates[-1])

    def single(self) -> Iterator[Run]:
        """Each of them alone."""
        for number, (date, line) in enumerate(zip(self.dates, self.lines, strict=True)):
            yield Run(self.first + number, [date], [line])


class _Name(NamedTuple):
    """What the target of a foreign key or link is called; no row: it points nowhere, and is carried as it is.

    ``inside`` is its id as it stands between quotes, ``key_text`` its natural key as it stands in a line.
    """

    inside: str
    key: list[Any] | None
    row: bool
    key_text: str

    @property
    def text(self) -> str:
        """Id and natural key as they stand in a line, after the quote before the id."""
        return f'{self.inside}","key":{self.key_text}'


class _Pointed(NamedTuple):
    """What a foreign key with some raw value becomes in a line: ``before`` in the logged state by ``after``.

    ``ref`` is what stands among the refs; ``name`` is None where it points nowhere, and is carried as it is.
    """

    before: str
    after: str
    ref: str
    name: _Name | None


@dataclass(eq=False, slots=True)
class _Pointer:
    """A foreign key, and what the raw values that it was seen with stand for."""

    name: str
    target: ModelSpec
    column: registry.AnyField
    plain: bool
    token: str
    seen: dict[Any, _Pointed] = field(default_factory=dict)


KeyParts = tuple[tuple[str, _Pointer | None, int], ...]


@dataclass(eq=False, slots=True)
class _Way:
    """How the changes of one version of one model become lines.

    ``key``: the parts of the natural key, each a field, or a foreign key and which part of its target's natural key.
    ``home``: what is to stay here. ``wide``: fields that may hold more than a number in a line may be. ``flat``: no
    field holds values with names inside. ``heads``: by action what stands before the id. ``plain``: rows are called by
    the number that is their primary key, which comes after ``ident``. ``ends``: by link what stands behind its source.
    """

    spec: ModelSpec
    fields: frozenset[str]
    key: KeyParts | None
    home: frozenset[str]
    pointers: tuple[_Pointer, ...]
    links: Mapping[str, ModelSpec]
    wide: tuple[str, ...]
    flat: bool
    heads: Mapping[str, str]
    plain: bool
    ident: str
    ends: dict[str, str] = field(default_factory=dict)


class _Group(NamedTuple):
    """Rows of the log that become lines in the same way. ``states``: what was logged; empty for links."""

    way: _Way
    rows: list[Raw]
    states: list[dict[str, Any] | None]


class Assembler:
    """Gives what a history of one node's log consists of, by the chunk: lines where it can, otherwise records."""

    def __init__(self, header: Header, node: Node, using: str, redaction: Redaction | None = None) -> None:
        self._using = using
        self._node = node
        self._header = header
        self._translator = Translator(node.ident, using, header.models, redaction=redaction)
        self._redaction = redaction
        self._idents = {pk: ident for ident, pk in nodes.numbers(using).items()}
        self._shapes = schemas.Shapes(using)
        self._ways: dict[schemas.Place, _Way | None] = {}
        self._relayed: dict[schemas.Place, bool] = {}
        self._named: dict[ModelSpec, dict[str, _Name]] = defaultdict(dict)
        self._ids: dict[ModelSpec, dict[str, str]] = defaultdict(dict)
        self._explicit: dict[ModelSpec, bool] = {}
        self._remembered = 0
        self._holds_objects = HeldObject.objects.using(using).exists()
        self._sql = _select(using)

    def rows(self, start: int, end: int) -> list[Raw]:
        """The next sealed rows after *start* up to *end*, at most a chunk; fewer where positions are missing."""
        with connections[self._using].cursor() as cursor:
            cursor.execute(self._sql, (self._node.pk, start, end))
            found: list[Raw] = cursor.fetchall()
        if connections[self._using].vendor == "mysql":  # which gives bytes for text that it is to compare exactly
            found = [(*row[:3], row[3].decode(), row[4], row[5].decode(), row[6].decode(), *row[7:]) for row in found]
        return found

    def parts(self, rows: Sequence[Raw]) -> Iterator[Run | Change | ObjectRecord]:
        """The lines and records of *rows* in their order."""
        lines = self._lines(rows)
        if None not in lines:  # nearly always
            yield Run(rows[0][SEQ], [row[_DATE] for row in rows], cast("list[str]", lines))
            return
        records = self._translator.records(self._log_rows(rows, lines))
        run = Run(0, [], [])
        for row, line in zip(rows, lines, strict=True):
            if line is not None:
                if not run.lines:
                    run = Run(row[SEQ], [], [])
                run.lines.append(line)
                run.dates.append(row[_DATE])
                continue
            if run.lines:
                yield run
                run = Run(0, [], [])
            for record in records:  # the change, after the objects that it needs
                yield record
                if isinstance(record, Change):
                    break
        if run.lines:
            yield run

    def _log_rows(self, rows: Sequence[Raw], lines: Sequence[str | None]) -> list[LogRow]:
        """Those of *rows* that have no line, as the translator takes them."""
        wanted = [row[SEQ] for row, line in zip(rows, lines, strict=True) if line is None]
        found = ChangeLog.objects.using(self._using).filter(log=self._node, seq__gte=wanted[0], seq__lte=wanted[-1])
        if len(wanted) < wanted[-1] + 1 - wanted[0]:
            found = found.filter(seq__in=wanted)
        return [LogRow(*row) for row in found.order_by("seq").values_list(*PORTABLE_COLUMNS)]

    # --- what can be done here ----------------------------------------------------------------------------------------

    def _prepare(self, places: Iterable[schemas.Place]) -> None:
        fresh = {place for place in places if place not in self._ways}
        self._shapes.load(fresh)
        for place in fresh:
            told = self._redaction is None or not self._redaction.concerns(place[0], own=True)
            self._ways[place] = self._way(place) if told else None
            told = self._redaction is None or not self._redaction.concerns(place[0], own=False)
            self._relayed[place] = told and self._can_relay(place)
        if self._remembered > _REMEMBERED:
            self._remembered = 0
            self._named.clear()
            self._ids.clear()
            for way in self._ways.values():
                for pointer in way.pointers if way is not None else ():
                    pointer.seen.clear()
                if way is not None:
                    way.ends.clear()

    def _way(self, place: schemas.Place) -> _Way | None:
        label, version = place
        shape, info = self._shapes.of(*place), self._header.models.get(label)
        spec = shape.spec
        if spec is None or shape.past or shape.generics or info is None or info.version != version:
            return None
        if embedded.functions_of(spec) or (shape.key is None and naturalkeys.has_natural_key(spec.model)):
            return None  # only the project's own code knows what is said
        targets = [*(pointer.target for pointer in shape.relations.values()), *shape.links.values()]
        if not all(registry.is_tracked(target.model) for target in (spec, *targets)):
            return None  # such targets get records of their own
        if not all(pointer.column.primary_key for pointer in shape.relations.values()):
            return None
        pointers = {
            name: _Pointer(name, target, column, _is_plain(column), f"{_json(name)}:")
            for name, (target, column) in shape.relations.items()
        }
        key = None if shape.key is None else _key_parts(shape.key, pointers)
        if key is None and shape.key is not None:
            return None
        return _Way(
            spec=spec,
            fields=frozenset({*info.fields, *info.relations}),
            key=key,
            home=registry.stays_here(spec),
            pointers=tuple(pointers.values()),
            links={name: shape.links[name] for name in info.links if name in shape.links},
            # MariaDB's go up to twice what a number in a line may be.
            wide=tuple(f.name for f in spec.fields if isinstance(naturalkeys.leaf(f), models.PositiveBigIntegerField)),
            flat=all(naturalkeys.leaf(each).__class__ in _FLAT for each in spec.fields) and not shape.past,
            heads={action: f',"action":"{action}","model":{_json(label)},"id":"' for action in _OBJECTS | _LINKS},
            plain=_is_plain(spec.model._meta.pk) and not self._has_ids(spec),
            ident=f"{self._node.ident}/",
        )

    def _has_ids(self, spec: ModelSpec) -> bool:
        """Whether rows of *spec* may be called otherwise than by their primary key here."""
        written = Reference.objects.using(self._using).filter(model=spec.identity_label).exists()
        return written or MergedRow.objects.using(self._using).filter(root=spec.root_label).exists()

    def _can_relay(self, place: schemas.Place) -> bool:
        """Whether records of *place* that were imported need nothing but their position here."""
        label, version = place
        info = self._header.models.get(label)
        if info is None or info.version != version or self._holds_objects:
            return False
        model = registry.by_label(upcasting.current_label(label))
        if model is None:
            return True
        spec = registry.spec(model)
        return all(registry.is_tracked(each.related_model) for each in (*spec.relations.values(), *spec.links.values()))

    # --- lines --------------------------------------------------------------------------------------------------------

    def _lines(self, rows: Sequence[Raw]) -> list[str | None]:
        """The line of each row, their positions following one another; None where the translator has to look at it."""
        groups: dict[tuple[int, str, int, bool], list[Raw]] = defaultdict(list)
        for row in rows:
            groups[row[_KIND], row[_MODEL], row[_VERSION], row[_LINK] == ""].append(row)
        self._prepare((model, version) for _, model, version, _ in groups)
        first = rows[0][SEQ]
        lines: list[str | None] = [None] * len(rows)
        relayed: list[Raw] = []
        changes: list[_Group] = []
        for (kind, model, version, of_objects), group in groups.items():
            way = self._ways[model, version]
            if kind == _RELAYED and self._relayed[model, version]:
                relayed += group
            elif kind == _OWN and way is not None:
                changes.append(_Group(way, group, _states(group) if of_objects else []))
        self._find_names(changes)
        for each in changes:
            if each.states:
                self._object_lines(each, lines, first)
            else:
                self._link_lines(each, lines, first)
        lines = _usual(lines)
        for row in relayed:
            lines[row[SEQ] - first] = _relayed_line(row)
        return lines

    def _object_lines(self, group: _Group, lines: list[str | None], first: int) -> None:
        """Put the lines of *group* among *lines*, of which the first is at position *first*."""
        way = group.way
        fields, home, pointers, wide, ids = way.fields, way.home, way.pointers, way.wide, self._ids[way.spec]
        parts, dumps = way.key, orjson.dumps
        # A key of one field needs no look at what it is made of.
        alone = parts[0][0] if parts is not None and len(parts) == 1 and parts[0][1] is None else None
        last, second = None, ""
        for row, state in zip(group.rows, group.states, strict=True):
            seq, date, _, _, _, pk_text, _, action, payload, base, base_node, actor, context = row
            if state is None or action not in _OBJECTS:
                continue
            try:
                if alone is not None:
                    key = dumps([state[alone]]).decode()
                else:
                    key = "null" if parts is None else _key_text(parts, state)
                rest = refs = ""
                if action in _STATES:
                    if home and not home.isdisjoint(state):
                        state = {name: value for name, value in state.items() if name not in home}  # noqa: PLW2901
                        payload = _json(state)
                    if pointers:
                        payload, refs = _pointing(way, payload, state)
                    if not fields.issuperset(state) or (wide and any(_too_wide(state.get(name)) for name in wide)):
                        continue
                    rest = f',"fields":{payload},"refs":{{{refs}}}'
                ident = f"{way.ident}{pk_text}" if way.plain else ids[pk_text]
            except LookupError:
                continue
            if not way.flat and _is_deep(payload):
                continue
            seconds, micro = divmod(date, 1_000_000)
            if seconds != last:  # changes share it with their neighbours
                last, second = seconds, format_date(date)[:19]
            based = "null" if base is None else self._base(base, base_node)
            said = _said(actor, context) if actor or context else ""
            lines[seq - first] = (
                f'{{"type":"change","seq":{seq},"date":"{second}.{micro:06d}Z","base":{based}{way.heads[action]}'
                f'{ident}","key":{key}{rest}{said}}}'
            )

    def _link_lines(self, group: _Group, lines: list[str | None], first: int) -> None:
        way, ends = group.way, group.way.ends
        named = self._named[way.spec]
        last, second = None, ""
        for seq, date, _, _, _, pk_text, link, action, _, base, base_node, actor, context in group.rows:
            source, end = named.get(pk_text), ends.get(link)
            if source is None or end is None or action not in _LINKS:
                continue
            seconds, micro = divmod(date, 1_000_000)
            if seconds != last:
                last, second = seconds, format_date(date)[:19]
            based = "null" if base is None else self._base(base, base_node)
            said = _said(actor, context) if actor or context else ""
            lines[seq - first] = (
                f'{{"type":"change","seq":{seq},"date":"{second}.{micro:06d}Z","base":{based}{way.heads[action]}'
                f'{source.inside}","key":{source.key_text}{end}{said}}}'
            )

    def _base(self, date: int, node: int) -> str:
        text = f'"{format_date(date)}"'
        return text if node == self._node.pk else f'{text},"base_node":"{self._idents[node]}"'

    # --- names, by the chunk ------------------------------------------------------------------------------------------

    def _find_names(self, groups: Sequence[_Group]) -> None:
        """Find out what everything is called that the lines of *groups* mention."""
        asked: dict[ModelSpec, set[str]] = defaultdict(set)
        texts: dict[_Pointer, dict[Any, str]] = {}
        links: list[tuple[_Way, str, ModelSpec, str]] = []
        for way, rows, states in groups:
            if not states:
                asked[way.spec].update(row[_PK_TEXT] for row in rows)
                for link in {row[_LINK] for row in rows}.difference(way.ends):
                    name, _, text = link.partition(":")
                    if name in way.links:
                        links.append((way, link, way.links[name], text))
                        asked[way.links[name]].add(text)
                continue
            if not way.plain:
                self._find_ids(way, {row[_PK_TEXT] for row in rows})
            for pointer in way.pointers:
                texts[pointer] = found = _texts(pointer, states)
                asked[pointer.target].update(found.values())
        for spec, of_spec in asked.items():
            known = self._named[spec]
            missing = of_spec.difference(known)
            if missing:
                self._remembered += len(missing)
                known.update(self._names_of(spec, missing))
        for pointer, found in texts.items():
            known = self._named[pointer.target]
            for raw, text in found.items():
                pointer.seen[raw] = _pointed(pointer, raw, known[text])
        for way, link, target, text in links:
            end, (name, *_) = self._named[target][text].text, link.partition(":")
            head = f'"field":{_json(name)},"target":{{"model":{_json(target.label)},"id":"'
            way.ends[link] = f",{head}{end}}}"

    def _names_of(self, spec: ModelSpec, texts: set[str]) -> dict[str, _Name]:
        """What the translator calls the rows *texts* of *spec*; where they are there and born here, in one query."""
        found: dict[str, _Name] = {}
        if spec not in self._explicit:
            self._explicit[spec] = self._has_ids(spec)
        if _is_plain(spec.model._meta.pk) and not self._explicit[spec]:
            numbers = [int(text) for text in texts if text.isdecimal() and text.isascii()]
            keys: dict[int, Any] = {}
            if naturalkeys.has_natural_key(spec.model):
                keys = naturalkeys.keys_of(spec.model, numbers, self._using)
            else:
                there = tables.rows(spec.model, self._using).order_by().values_list("pk")
                keys = {number: None for (number,) in tables.among(there, spec.model._meta.pk, numbers)}
            own = f"{self._node.ident}/"
            for number, key in keys.items():
                found[str(number)] = _Name(f"{own}{number}", key, True, _json(key))
        if len(found) < len(texts):
            for text, (ident, key, row) in self._translator.names_of(spec, texts.difference(found)).items():
                found[text] = _Name(_inside(ident), key, row, _json(key))
        return found

    def _find_ids(self, way: _Way, texts: set[str]) -> None:
        known = self._ids[way.spec]
        missing = texts.difference(known)
        if not missing:
            return
        self._remembered += len(missing)
        merged = references.merged_into(way.spec, missing, self._using)
        wanted = {merged.get(text, text) for text in missing}
        ids = references.ids_of(way.spec, wanted, self._node.ident, self._using)
        known.update((text, _inside(ids[merged.get(text, text)])) for text in missing)


_SCALARS = frozenset({int, str})
# Fields whose values have no names inside, but for tags.
_FLAT = frozenset({
    models.AutoField, models.BigAutoField, models.SmallAutoField, models.BigIntegerField, models.BooleanField,
    models.CharField, models.DateField, models.DateTimeField, models.DecimalField, models.EmailField, models.FloatField,
    models.IntegerField, models.PositiveBigIntegerField, models.PositiveIntegerField, models.PositiveSmallIntegerField,
    models.SlugField, models.SmallIntegerField, models.TextField, models.TimeField, models.URLField, models.UUIDField,
})  # fmt: skip


def _key_parts(paths: Sequence[str], pointers: Mapping[str, _Pointer]) -> KeyParts | None:
    """What ``_Way.key`` has for a natural key of *paths*; None where it is not made of its targets' natural keys."""
    parts: list[tuple[str, _Pointer | None, int]] = []
    for path in paths:
        head, _, rest = path.partition("__")
        pointer = pointers.get(head) if rest else None
        told = naturalkeys.key_paths(pointer.target.model) or () if pointer is not None else ()
        if rest and rest not in told:
            return None
        parts.append((head, pointer, told.index(rest) if rest else 0))
    return tuple(parts)


def _relayed_line(row: Raw) -> str:
    """As it came, which was checked then, but for the order of its first keys and what it says of files."""
    record = orjson.loads(row[_PAYLOAD])
    record.pop("files", None)
    return _json({"type": "change", "seq": row[SEQ], "origin": record.pop("origin"), **record})


def _key_text(parts: KeyParts, state: Mapping[str, Any]) -> str:
    """The natural key of *state* as it stands in a line. Raises ``LookupError`` where it is not known."""
    key: list[Any] = []
    for name, pointer, number in parts:
        value = state[name]
        if pointer is not None and value is not None:
            target = pointer.seen[value].name if value.__class__ in _SCALARS else None
            if target is None or target.key is None:
                raise LookupError(name)
            value = target.key[number]
        key.append(value)
    return _json(key)


def _pointing(way: _Way, payload: str, state: Mapping[str, Any]) -> tuple[str, str]:
    """*payload*, the text of *state*, with natural keys in its foreign keys; and the ids of what they point to.

    It takes a quarter of the time of writing the state anew. Raises ``LookupError`` where it is not sure.
    """
    refs = ""
    for pointer in way.pointers:
        raw = state.get(pointer.name)
        if raw is None:
            continue
        if raw.__class__ not in _SCALARS:
            raise LookupError(pointer.name)
        before, after, ref, name = pointer.seen[raw]
        if name is None:
            continue
        refs = f"{refs},{ref}" if refs else ref
        if after:
            replaced = payload.replace(before, after, 1)
            # Inside a string there is a backslash before each quote. Only objects in other values may have such a name.
            if replaced == payload or not (way.flat or payload.count(pointer.token) == 1):
                raise LookupError(pointer.name)
            payload = replaced
    return payload, refs


def _texts(pointer: _Pointer, states: Iterable[Mapping[str, Any] | None]) -> dict[Any, str]:
    """What *pointer* holds in *states* that it was not seen with yet, and of which primary keys that is the text."""
    name, seen = pointer.name, pointer.seen
    found: dict[Any, str] = {}
    for state in states:
        raw = None if state is None else state.get(name)
        if raw is not None and raw.__class__ in _SCALARS and raw not in seen and raw not in found:
            text = str(raw) if pointer.plain and type(raw) is int else _text(pointer, raw)
            if text is not None:
                found[raw] = text
    return found


def _pointed(pointer: _Pointer, raw: Any, name: _Name) -> _Pointed:
    before = f"{pointer.token}{raw if raw.__class__ is int else _json(raw)}"
    after = "" if name.key is None else f"{pointer.token}{name.key_text}"
    return _Pointed(before, after, f'{pointer.token}"{name.inside}"', name if name.row else None)


def _said(actor: str, context: str) -> str:
    """Who made a change, and what was noted along."""
    who = f',"actor":{_json(actor)}' if actor else ""
    return f'{who},"context":{_respelled(context)}' if context else who


def _states(rows: Sequence[Raw]) -> list[dict[str, Any] | None]:
    """What was logged by *rows*; None where that is nothing."""
    payloads = [row[_PAYLOAD] for row in rows]
    if "" in payloads:
        return [orjson.loads(payload) if payload else None for payload in payloads]
    # Half the time of reading them one by one.
    found: list[dict[str, Any] | None] = orjson.loads(f"[{','.join(payloads)}]")
    return found


def _usual(lines: list[str | None]) -> list[str | None]:
    """*lines*, without those that the writer has to check. All at once it takes a third of the time."""
    known = [line for line in lines if line is not None]
    text = "\n".join(known)
    long = max(map(len, known), default=0) > _USUAL_SIZE
    if long or "$" in text or text.count("\n") >= len(known):
        return [line if line is not None and _is_usual(line) else None for line in lines]
    return lines


def _is_usual(line: str) -> bool:
    # Without a tag what JSON holds is a value of the format. That costs a tenth of looking at each value.
    return len(line) <= _USUAL_SIZE and not ("$" in line and '"$' in line) and "\n" not in line


def _inside(text: str) -> str:
    """*text* as it stands between quotes."""
    return _json(text)[1:-1]


def _json(value: Any) -> str:
    return orjson.dumps(value).decode()


@lru_cache(maxsize=1024)
def _respelled(context: str) -> str:
    """*context*, which many changes share, as it stands in a line."""
    return _json(orjson.loads(context))


def _is_deep(line: str) -> bool:
    """Whether *line* may nest deeper than usual."""
    return line.count("{") + line.count("[") > _USUAL_DEPTH


def _is_plain(column: registry.AnyField) -> bool:
    """Whether raw values of *column* are whole numbers."""
    return isinstance(naturalkeys.leaf(column), models.IntegerField)


def _too_wide(value: Any) -> bool:
    return type(value) is int and value > INT64_MAX


def _text(pointer: _Pointer, raw: Any) -> str | None:
    try:
        return pks.to_text(pointer.target.model, values.decode(pointer.column, raw))
    except values.UndecodableValueError:
        return None


def _select(using: str) -> str:
    quote = connections[using].ops.quote_name
    origin, log = quote("origin_id"), quote("log_id")
    kind = (
        f"CASE WHEN {quote('imported')} THEN CASE WHEN {origin} = {log} THEN {_OTHER} ELSE {_RELAYED} END "
        f"WHEN {quote('resolution')} OR {origin} <> {log} THEN {_OTHER} ELSE {_OWN} END"
    )
    columns = ", ".join(kind if name == "kind" else quote(name) for name in _COLUMNS)
    # By the chunk and its positions, which an index gives in their order: no cursor has to stay open meanwhile.
    return (
        f"SELECT {columns} FROM {quote(ChangeLog._meta.db_table)} WHERE {log} = %s "  # noqa: S608  constants
        f"AND {quote('seq')} > %s AND {quote('seq')} <= %s ORDER BY {quote('seq')} LIMIT {serialize.CHUNK}"
    )
