"""From the log to the file: local primary keys become identities that mean something elsewhere.

A chunk of logged changes is translated with a handful of queries, whatever its size: the ids and natural keys of all
the objects that it names are looked up together. A target that has been deleted since is named by its last logged
state.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, NamedTuple, TypeAlias, cast

import orjson
from django.core.exceptions import FieldDoesNotExist
from django.db import models

from changelog_format import Change, ModelInfo, ObjectRecord, Origin, Target
from changelog_format.dates import format_date
from synchro import (
    changelog,
    embedded,
    naturalkeys,
    pks,
    pointing,
    references,
    registry,
    schemas,
    serialize,
    tables,
    upcasting,
    values,
    versions,
)
from synchro.models import Action, HeldObject, Reference
from synchro.redacting import Redaction
from synchro.registry import ModelSpec
from synchro.schemas import Shape
from synchro.versions import Key

_EMITTED_LIMIT = 50_000

PORTABLE_COLUMNS = (
    "pk", "model", "root", "pk_text", "link", "action", "payload", "imported", "seq", "date", "base",
    "base_node__ident", "resolution", "origin__ident", "origin_seq", "version", "actor", "context",
)  # fmt: skip


Missing: TypeAlias = Callable[[ModelSpec, str], bool]


class LogRow(NamedTuple):
    """A sealed row of the log, in the order of ``PORTABLE_COLUMNS``."""

    pk: int
    model: str
    root: str
    pk_text: str
    link: str
    action: str
    payload: str
    imported: bool
    seq: int
    date: int
    base: int | None
    base_node: str | None
    resolution: bool
    origin: str
    origin_seq: int
    version: int = 1
    actor: str = ""
    context: str = ""

    @property
    def place(self) -> schemas.Place:
        """Label and version of the model under which it was logged."""
        return self.model, self.version


class _Row(NamedTuple):
    """A row of a model, by the text of its primary key."""

    spec: ModelSpec
    pk_text: str


@dataclass
class _Names:
    """What the rows that a chunk mentions are called: object ids, and natural keys where there are any."""

    ids: dict[_Row, str] = field(default_factory=dict)
    # Of objects whose model is no more: by root label and text of the primary key.
    orphans: dict[tuple[str, str], str] = field(default_factory=dict)
    keys: dict[_Row, list[Any]] = field(default_factory=dict)
    known: set[_Row] = field(default_factory=set)


def mentioned_models(labels: Iterable[str]) -> set[ModelSpec]:
    """The installed models among *labels*, and every model that their records may mention."""
    named = frozenset(model for label in labels if (model := registry.by_label(label)) is not None)
    return set(map(registry.spec, registry.reachable(named)))


class Translator:
    """Turns rows of one node's log into records, by the chunk.

    Each says its version where that is not what *models*, those of the header, say. It remembers which object records
    it has given already. *missing* is asked of rows of tracked models that records point to, by spec and text of the
    primary key: where it says yes, these get object records, too. *redaction*: what is not told.
    """

    def __init__(
        self,
        own_ident: str,
        using: str,
        models: Mapping[str, ModelInfo] | None = None,
        missing: Missing | None = None,
        redaction: Redaction | None = None,
    ) -> None:
        self._own = own_ident
        self._using = using
        self._versions = {label: info.version for label, info in (models or {}).items()}
        self._shapes = schemas.Shapes(using)
        self._missing = missing
        self._redaction = redaction
        self._emitted: set[_Row] = set()
        self._held_objects: bool | None = None
        self._emitted_held: set[tuple[str, str]] = set()

    def records(self, rows: Sequence[LogRow]) -> Iterator[Change | ObjectRecord]:
        """The records of *rows* in their order, each after the object records that it needs."""
        made_here = [row for row in rows if not row.imported]
        self._shapes.load(row.place for row in made_here)
        shapes = {row.pk: self._shapes.of(*row.place) for row in made_here}
        states = {row.pk: self._state(row, shapes[row.pk]) for row in made_here if row.payload}
        targets = self._targets((shapes[row.pk], states[row.pk]) for row in made_here if row.pk in states)
        links = {row.pk: self._link(shapes[row.pk], row) for row in made_here if row.link}
        mentioned = {_Row(spec, row.pk_text) for row in made_here if (spec := shapes[row.pk].spec) is not None}
        names = self._names(
            mentioned | {row for row in targets.values() if row} | {row for row in links.values() if row}
        )
        names.orphans = self._orphans([row for row in made_here if shapes[row.pk].spec is None])
        own_keys = self._own_keys(made_here, shapes, states, targets, names)
        relayed = {row.pk: orjson.loads(row.payload) for row in rows if row.imported}
        lifted: dict[int, tuple[Change, int]] = {}
        if self._redaction is not None:
            for row in rows:
                if (told := self._redacted(row, shapes, states, targets, links, names, own_keys)) is not None:
                    lifted[row.pk] = told
                    relayed[row.pk] = told[0].to_dict()
        needs = self._relayed_needs(rows, relayed)
        for row in made_here:
            if row.pk in lifted:
                continue
            if row.pk in states and row.action != Action.DELETE:
                pointed = (
                    targets.get(_place(shapes[row.pk], name, states[row.pk])) for name in shapes[row.pk].relations
                )
                needs[row.pk] = [target for target in pointed if target and self._given(target)]
            elif (end := links.get(row.pk)) is not None:
                source = shapes[row.pk].spec
                ends = [end] if source is None else [_Row(source, row.pk_text), end]
                needs[row.pk] = [each for each in ends if self._given(each)]
        objects = self._object_records({target for of_row in needs.values() for target in of_row})
        held = self._held_needs(relayed)
        for row in rows:
            for target in needs.get(row.pk, ()):
                yield from objects.pop(target, ())
            yield from held.pop(row.pk, ())
            if row.pk in lifted:
                change, version = lifted[row.pk]
                yield replace(change, version=self._said(change.model, version).get("version"))
            elif row.imported:
                yield Change.from_dict({**relayed[row.pk], "seq": row.seq, **self._said(row.model, row.version)})
            else:
                state = states.get(row.pk, {})
                yield self._change(row, shapes[row.pk], state, targets, links.get(row.pk), names, own_keys)

    def _redacted(
        self,
        row: LogRow,
        shapes: Mapping[int, Shape],
        states: dict[int, serialize.State],
        targets: dict[Any, _Row | None],
        links: Mapping[int, _Row | None],
        names: _Names,
        own_keys: dict[int, list[Any] | None],
    ) -> tuple[Change, int] | None:
        """What is told of a relayed change, or one in an earlier version of its model, of which something is not told.

        With the version in which it is told; None where that can be seen in the state. Raises ``ExportError``.
        """
        assert self._redaction is not None  # noqa: S101  otherwise nobody asks
        if not self._redaction.concerns(row.model, own=not row.imported):
            return None
        if row.imported:
            change = Change.from_dict({**orjson.loads(row.payload), "seq": row.seq})
        elif (shape := shapes[row.pk]).past or shape.spec is None:
            change = self._change(row, shape, states.get(row.pk, {}), targets, links.get(row.pk), names, own_keys)
        else:
            return None
        return self._redaction.record(replace(change, version=None), row.version, own=not row.imported)

    def _state(self, row: LogRow, shape: Shape) -> serialize.State:
        """What was logged, without what is to stay here by now."""
        state: serialize.State = orjson.loads(row.payload)
        spec = shape.spec
        home = registry.stays_here(spec) if spec is not None else ()
        if self._redaction is not None and spec is not None and not shape.past:
            state = self._redaction.state(spec.label, state, own=True)
        return {name: value for name, value in state.items() if name not in home} if home else state

    def _said(self, label: str, version: int) -> dict[str, Any]:
        """What a record says of its version."""
        header = self._versions.get(label)
        if header is None:
            model = registry.by_label(label)
            header = version if model is None else registry.spec(model).version
        return {} if version == header else {"version": version}

    def _orphans(self, rows: Sequence[LogRow]) -> dict[tuple[str, str], str]:
        """The ids of objects whose model is not installed any more."""
        found: dict[tuple[str, str], str] = {}
        for root in {row.root for row in rows}:
            texts = sorted({row.pk_text for row in rows if row.root == root})
            for part in serialize.chunks(texts):
                ids = Reference.objects.using(self._using).filter(model=root, pk_text__in=part)
                for text, object_id in ids.order_by("-object_id").values_list("pk_text", "object_id"):
                    found[root, text] = object_id  # the smallest comes last
        return found

    def _held_needs(self, relayed: Mapping[int, dict[str, Any]]) -> dict[int, list[ObjectRecord]]:
        """The held object records that relayed records point to: this node could not make rows of them."""
        if self._held_objects is None:
            self._held_objects = HeldObject.objects.using(self._using).exists()
        found: dict[int, list[ObjectRecord]] = {}
        if not self._held_objects:
            return found
        wanted = {pk: [*record.get("refs", {}).values()] for pk, record in relayed.items()}
        for pk, record in relayed.items():
            if "target" in record:
                wanted[pk].append(record["target"]["id"])
        held: dict[str, list[ObjectRecord]] = defaultdict(list)
        asked: set[str] = set()
        level = {object_id for ids in wanted.values() for object_id in ids}
        while level:
            asked |= level
            following: set[str] = set()
            for part in serialize.chunks(sorted(level)):
                rows = HeldObject.objects.using(self._using).filter(object_id__in=part).order_by("pk")
                for object_id, version, payload in rows.values_list("object_id", "version", "payload"):
                    data = orjson.loads(payload)
                    each = ObjectRecord.from_dict({**data, **self._said(data["model"], version)})
                    if self._redaction is not None:
                        told, now = self._redaction.record(replace(each, version=None), version, own=False)
                        each = replace(told, version=self._said(told.model, now).get("version"))
                    held[object_id].append(each)
                    following.update(each.refs.values())
            level = following - asked
        for pk, ids in wanted.items():
            found[pk] = [given for object_id in ids for given in self._fresh_held(object_id, held)]
        return found

    def _fresh_held(self, object_id: str, held: Mapping[str, list[ObjectRecord]]) -> Iterator[ObjectRecord]:
        for record in held.get(object_id, ()):
            if (record.model, object_id) not in self._emitted_held:
                self._emitted_held.add((record.model, object_id))
                for needed in record.refs.values():
                    yield from self._fresh_held(needed, held)
                yield record

    def _relayed_needs(self, rows: Sequence[LogRow], relayed: dict[int, dict[str, Any]]) -> dict[int, list[_Row]]:
        """For each relayed record the rows here of models that are not tracked, to which it points."""
        pointed: list[tuple[int, ModelSpec, str]] = []
        for row in rows:
            model = registry.by_label(upcasting.current_label(row.model)) if row.pk in relayed else None
            if model is None:
                continue
            record, spec = relayed[row.pk], registry.spec(model)
            named: list[tuple[Any, str]] = [
                (spec.relations.get(name), each) for name, each in record.get("refs", {}).items()
            ]
            if "target" in record:
                named.append((spec.links.get(record["field"]), record["target"]["id"]))
            for relation, object_id in named:
                if relation is not None and (self._missing or not registry.is_tracked(relation.related_model)):
                    pointed.append((row.pk, registry.spec(relation.related_model), object_id))
        found: dict[int, list[_Row]] = defaultdict(list)
        for target, ids in references.group((target, object_id) for _, target, object_id in pointed).items():
            texts = references.resolve(target, ids, self._own, self._using)
            for pk, each, object_id in pointed:
                if each is target and object_id in texts and self._given(_Row(target, texts[object_id])):
                    found[pk].append(_Row(target, texts[object_id]))
        return found

    def _given(self, row: _Row) -> bool:
        """Whether *row*, to which a record points, gets an object record."""
        if not registry.is_tracked(row.spec.model):
            return True
        return self._missing is not None and self._missing(row.spec, row.pk_text)

    def names_of(self, spec: ModelSpec, texts: Iterable[str]) -> dict[str, tuple[str, list[Any] | None, bool]]:
        """Text of the pk → object id, natural key, and whether there is or was such a row."""
        rows = {text: _Row(spec, text) for text in texts}
        names = self._names(set(rows.values()))
        return {text: (names.ids[row], names.keys.get(row), row in names.known) for text, row in rows.items()}

    def portable_states(
        self, states: Sequence[tuple[ModelSpec, serialize.State]]
    ) -> list[tuple[dict[str, Any], dict[str, str]]]:
        """Fields and refs of local *states*, as a record would carry them."""
        shapes = {spec: schemas.present_shape(spec) for spec, _ in states}
        shaped = [(shapes[spec], state) for spec, state in states]
        targets = self._targets(shaped)
        names = self._names({row for row in targets.values() if row})
        return [self._portable(shape, state, targets, names) for shape, state in shaped]

    # --- one record ---------------------------------------------------------------------------------------------------

    def _change(
        self,
        row: LogRow,
        shape: Shape,
        state: serialize.State,
        targets: dict[Any, _Row | None],
        link: _Row | None,
        names: _Names,
        own_keys: dict[int, list[Any] | None],
    ) -> Change:
        me = _Row(shape.spec, row.pk_text) if shape.spec is not None else None
        orphan = names.orphans.get((row.root, row.pk_text)) or f"{self._own}/{row.pk_text}"
        # Made here, though under an earlier id where the database was restored from a backup since.
        earlier = row.origin != self._own
        common: dict[str, Any] = {
            "seq": row.seq,
            "origin": Origin(node=row.origin, seq=row.origin_seq) if earlier else None,
            "date": format_date(row.date),
            "base": None if row.base is None else format_date(row.base),
            "base_node": row.base_node if row.base_node != row.origin else None,
            "model": row.model,
            "id": names.ids[me] if me else orphan,
            "actor": row.actor or None,
            "context": orjson.loads(row.context) if row.context else None,
            "resolution": row.resolution,
            **self._said(row.model, row.version),
        }
        if row.action == Action.SAME:
            same = tuple(orjson.loads(row.payload)["same"])
            return Change(**{**common, "id": min(same)}, action="same", key=None, same=same)
        if row.link:
            name, _, pk_text = row.link.partition(":")
            label = link.spec.label if link else row.model
            target_id = names.ids[link] if link else f"{self._own}/{pk_text}"
            target = Target(model=label, id=target_id, key=names.keys.get(link) if link else None)
            return Change(
                **common, action=row.action, key=names.keys.get(me) if me else None, field=name, target=target
            )
        key = own_keys.get(row.pk)
        if row.action == Action.DELETE:
            return Change(**common, action="delete", key=key)
        fields, refs = self._portable(shape, state, targets, names)
        withheld: tuple[str, ...] = ()
        if self._redaction is not None and shape.spec is not None and not shape.past:
            logged = orjson.loads(row.payload)
            withheld = tuple(sorted(self._redaction.withheld(shape.spec.label, logged, own=True)))
        return Change(**common, action=row.action, key=key, fields=fields, refs=refs, withheld=withheld)

    @staticmethod
    def _portable(
        shape: Shape, state: serialize.State, targets: dict[Any, _Row | None], names: _Names
    ) -> tuple[dict[str, Any], dict[str, str]]:
        """The fields, and the object ids of the targets of foreign keys.

        Foreign keys are natural keys among the fields, where the target has one.
        """
        refs: dict[str, str] = {}
        inside = shape.spec is not None and not shape.past and bool(embedded.functions_of(shape.spec))
        if not shape.relations and not inside:
            return state, refs
        fields = dict(state)
        if inside and shape.spec is not None:
            known = {
                key: names.ids[row]
                for key in embedded.mentioned(shape.spec, state)
                if (row := _embedded_row(key)) is not None and row in names.ids
            }
            fields.update(embedded.rewritten(shape.spec, state, known))
        for name in (*shape.relations, *shape.generics):
            target = targets.get(_place(shape, name, state))
            if state.get(name) is None or target is None:
                continue  # it points nowhere, and is carried as it is
            if target not in names.known and name not in shape.generics:
                continue  # likewise; but what a generic foreign key names would be another's number elsewhere
            refs[name] = names.ids[target]
            if target in names.keys:
                fields[name] = names.keys[target]
        return fields, refs

    # --- looking up, by the chunk -------------------------------------------------------------------------------------

    def _targets(self, states: Iterable[tuple[Shape, serialize.State]]) -> dict[Any, _Row | None]:
        """(shape, foreign key name, raw value) → the row that it points to, for every foreign key of *states*."""
        found: dict[Any, _Row | None] = {}
        by_column: dict[models.Field[Any, Any], dict[Any, list[Any]]] = defaultdict(lambda: defaultdict(list))
        states = list(states)
        known = pointing.kinds((shape.spec for shape, _ in states if shape.spec is not None), self._using)
        for shape, state in states:
            if shape.spec is not None and not shape.past:
                found.update((key, _embedded_row(key)) for key in embedded.mentioned(shape.spec, state))
            for name in shape.generics:
                pointed = None if shape.spec is None else pointing.target(shape.spec, name, state, known)
                found[_place(shape, name, state)] = pointed and _Row(*pointed)
            for name, (target, column) in shape.relations.items():
                raw = state.get(name)
                place = _place(shape, name, state)
                if raw is None or place in found:
                    continue
                try:
                    value = values.decode(column, raw)
                except values.UndecodableValueError:  # logged before the schema changed: it points nowhere by now
                    found[place] = None
                    continue
                if column.primary_key:
                    found[place] = _Row(target, pks.to_text(target.model, value))
                else:
                    found[place] = None
                    by_column[column][_hashable(raw)].append(place)
        for column, places in by_column.items():  # foreign keys with to_field
            target = registry.spec(column.model)
            wanted = [values.decode(column, _thawed(raw)) for raw in places]
            rows = tables.rows(target.model, self._using).filter(**{f"{column.attname}__in": wanted})
            for value, pk in rows.order_by().values_list(column.attname, "pk"):
                for place in places.get(_hashable(values.encode(column, value)), ()):
                    found[place] = _Row(target, pks.to_text(target.model, pk))
        return found

    @staticmethod
    def _link(shape: Shape, row: LogRow) -> _Row | None:
        name, _, pk_text = row.link.partition(":")
        target = shape.links.get(name)
        return None if target is None else _Row(target, pk_text)

    def _names(self, rows: set[_Row]) -> _Names:
        names = _Names()
        for spec, found in references.group(rows).items():
            merged = references.merged_into(spec, found, self._using)
            texts = {merged.get(text, text) for text in found}
            self._names_of(spec, texts, names)
            for text, into in merged.items():
                here, gone = _Row(spec, into), _Row(spec, text)
                names.ids[gone] = names.ids[here]
                if here in names.keys:
                    names.keys[gone] = names.keys[here]
                if here in names.known:
                    names.known.add(gone)
        return names

    def _names_of(self, spec: ModelSpec, texts: set[str], names: _Names) -> None:
        for text, object_id in references.ids_of(spec, texts, self._own, self._using).items():
            names.ids[_Row(spec, text)] = object_id
        pk_of = {text: pk for text in texts if (pk := references.pk_value(spec, text)) is not None}
        if naturalkeys.has_natural_key(spec.model):
            keys = naturalkeys.keys_of(spec.model, pk_of.values(), self._using)
            names.keys.update({_Row(spec, text): keys[pk] for text, pk in pk_of.items() if pk in keys})
            present = {text for text, pk in pk_of.items() if pk in keys}
        else:
            present = set()
        missing = set(pk_of) - present
        names.known.update(_Row(spec, text) for text in present)
        if missing:
            here = _existing(spec, [pk_of[text] for text in missing], self._using)
            names.known.update(_Row(spec, text) for text in missing if pk_of[text] in here)
            self._name_deleted(spec, {text for text in missing if pk_of[text] not in here}, names)

    def _name_deleted(self, spec: ModelSpec, texts: set[str], names: _Names) -> None:
        """Rows that are gone: they were logged, so their last state still tells their natural key."""
        if not texts:
            return
        current = versions.find([Key(spec.root_label, text) for text in texts], self._using)
        names.known.update(_Row(spec, key.pk_text) for key in current)
        paths = naturalkeys.key_paths(spec.model)
        if paths is None or any("__" in path for path in paths):
            return
        entries = {cur.change_id: key.pk_text for key, cur in current.items() if cur.change_id is not None}
        for entry, state in changelog.last_states(list(entries), self._using).items():
            if all(path in state for path in paths):
                names.keys[_Row(spec, entries[entry])] = [state[path] for path in paths]

    def _own_keys(
        self,
        rows: Sequence[LogRow],
        shapes: dict[int, Shape],
        states: dict[int, serialize.State],
        targets: dict[Any, _Row | None],
        names: _Names,
    ) -> dict[int, list[Any] | None]:
        """The natural key of each logged object as it was at that change, which is not always what it is now."""
        through: dict[tuple[ModelSpec, str], set[str]] = defaultdict(set)
        for row in rows:
            shape = shapes[row.pk]
            for path in (shape.key or ()) if row.pk in states else ():
                head, _, rest = path.partition("__")
                target = targets.get(_place(shape, head, states[row.pk])) if rest else None
                if target is not None:
                    through[target.spec, rest].add(target.pk_text)
        looked_up = {
            (target, rest): self._path_values(target, rest, texts) for (target, rest), texts in through.items()
        }

        def component(shape: Shape, state: serialize.State, path: str) -> Any:
            head, _, rest = path.partition("__")
            if not rest:
                return state[path]
            target = targets.get(_place(shape, head, state))
            return None if target is None else looked_up[target.spec, rest][target.pk_text]

        keys: dict[int, list[Any] | None] = {}
        for row in rows:
            shape = shapes[row.pk]
            # A key of today's form tells nothing of an object of another version.
            current = None if shape.spec is None or shape.past else names.keys.get(_Row(shape.spec, row.pk_text))
            if shape.key is None or row.pk not in states:
                keys[row.pk] = current
                continue
            try:
                keys[row.pk] = [component(shape, states[row.pk], path) for path in shape.key]
            except (
                KeyError
            ):  # a skipped field, or a target that is gone: the row's present key is the best that is known
                keys[row.pk] = current
        return keys

    def _path_values(self, spec: ModelSpec, path: str, texts: set[str]) -> dict[str, Any]:
        """Text of the pk → the value at *path*, from the rows, or from the last logged state of rows that are gone."""
        try:
            column = _leaf_field(spec.model, path)
        except FieldDoesNotExist:  # the target's model has changed since: the key is not known
            return {}
        pk_of = {text: pk for text in texts if (pk := references.pk_value(spec, text)) is not None}
        by_pk: dict[Any, Any] = {}
        for rows in serialize.by_pk(spec, pk_of.values(), self._using):
            by_pk.update(rows.order_by().values_list("pk", path))
        found = {text: values.encode(column, by_pk[pk]) for text, pk in pk_of.items() if pk in by_pk}
        gone = texts - set(found)
        if gone and "__" not in path:
            current = versions.find([Key(spec.root_label, text) for text in gone], self._using)
            entries = {cur.change_id: key.pk_text for key, cur in current.items() if cur.change_id is not None}
            for entry, state in changelog.last_states(list(entries), self._using).items():
                if path in state:
                    found[entries[entry]] = state[path]
        return found

    # --- rows of models that are not tracked --------------------------------------------------------------------------

    def _object_records(self, rows: set[_Row]) -> dict[_Row, list[ObjectRecord]]:
        """For each of *rows* not given yet: its object record, after those of the rows that it points to itself."""
        wanted = rows - self._emitted
        found: dict[_Row, list[ObjectRecord]] = {}
        level: set[_Row] = set(wanted)
        needs: dict[_Row, list[_Row]] = {}
        single: dict[_Row, ObjectRecord] = {}
        while level:
            states = self._object_states(level)
            shapes = {row.spec: schemas.present_shape(row.spec) for row in states}
            targets = self._targets((shapes[row.spec], state) for row, state in states.items())
            names = self._names(set(states) | {row for row in targets.values() if row})
            following: set[_Row] = set()
            for row, state in states.items():
                fields, refs = self._portable(shapes[row.spec], state, targets, names)
                single[row] = ObjectRecord(
                    model=row.spec.label, id=names.ids[row], key=names.keys.get(row), fields=fields, refs=refs
                )
                needs[row] = [
                    target
                    for name in row.spec.relations
                    if (target := targets.get(_place(shapes[row.spec], name, state))) and target in names.known
                ]
                following.update(target for target in needs[row] if self._given(target))
            references.add(
                ((row.spec, single[row].id, row.pk_text) for row in states if not row.spec.borrows_identity),
                self._using,
            )
            level = following - set(single) - self._emitted
        for row in wanted & set(single):
            ordered = [each for each in _in_order(row, needs) if each in single]
            found[row] = [single[each] for each in ordered if each not in self._emitted]
            self._emitted.update(ordered)
        if len(self._emitted) > _EMITTED_LIMIT:  # bounded: giving one again is harmless
            self._emitted.clear()
        return found

    def _object_states(self, rows: set[_Row]) -> dict[_Row, serialize.State]:
        states: dict[_Row, serialize.State] = {}
        for spec, texts in references.group(rows).items():
            kept = {f.name for f in registry.object_fields(spec)}
            pk_values = [pk for text in texts if (pk := references.pk_value(spec, text)) is not None]
            for pk, state in serialize.row_states(spec, pk_values, self._using).items():
                row = _Row(spec, pks.to_text(spec.model, pk))
                told = {name: value for name, value in state.items() if name in kept}
                states[row] = told if self._redaction is None else self._redaction.state(spec.label, told, own=True)
        return states


def _in_order(row: _Row, needs: dict[_Row, list[_Row]]) -> list[_Row]:
    """*row* after everything that it needs; cycles are cut where they close."""
    ordered: dict[_Row, None] = {}
    entered: set[_Row] = set()

    def visit(each: _Row) -> None:
        if each not in entered:
            entered.add(each)
            for needed in needs.get(each, ()):
                visit(needed)
            ordered[each] = None

    visit(row)
    return list(ordered)


def _existing(spec: ModelSpec, pk_values: Sequence[Any], using: str) -> set[Any]:
    found: set[Any] = set()
    for rows in serialize.by_pk(spec, pk_values, using):
        found.update(rows.order_by().values_list("pk", flat=True))
    return found


def _leaf_field(model: type[models.Model], path: str) -> registry.AnyField:
    *heads, last = path.split("__")
    for head in heads:
        model = cast("type[models.Model]", model._meta.get_field(head).related_model)
    return model._meta.pk if last == "pk" else tables.columns(model, last)[0]


def _embedded_row(key: embedded.Key) -> _Row | None:
    """The row that a key inside a value names, where it is a primary key."""
    model = registry.by_label(key[0])
    if model is None or references.pk_value(registry.spec(model), key[1]) is None:
        return None
    return _Row(registry.spec(model), pks.to_text(model, references.pk_value(registry.spec(model), key[1])))


def _place(shape: Shape, name: str, state: serialize.State) -> tuple[Shape, str, Any]:
    """By what the target of a foreign key in *state* is looked up."""
    if name in shape.generics:
        return shape, name, (_hashable(state.get(shape.generics[name])), _hashable(state.get(name)))
    return shape, name, _hashable(state.get(name))


def _hashable(raw: Any) -> Any:
    return raw if isinstance(raw, (str, int, float, type(None))) else orjson.dumps(raw)


def _thawed(raw: Any) -> Any:
    return orjson.loads(raw) if isinstance(raw, bytes) else raw
