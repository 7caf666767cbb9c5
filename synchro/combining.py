"""The policy "merge": where two sides changed different fields of one object, both changes are taken.

What each side changed is found out by comparing it with the newest version that both were made on, if the log still has
that.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple, TypeAlias

import orjson

from changelog_format.dates import parse_date
from synchro import embedded, pks, references, registry, serialize, settling, upcasting, values
from synchro.models import ChangeLog, Conflict
from synchro.plan import Incoming
from synchro.registry import ModelSpec
from synchro.resolving import Slot
from synchro.versions import Stamp

State = dict[str, Any]


class _Logged(NamedTuple):
    """A version of an object: what it was made on, and its values (foreign keys as texts of primary keys).

    ``older``: its maker had an older version of the model, so that it may have known nothing of fields that it lacks.
    Not so where something was withheld on the way.
    """

    base: Stamp | None
    state: State
    older: bool


class Histories:
    """The logged versions of the objects at hand, and of what the plan makes of them."""

    def __init__(self, own_ident: str, using: str) -> None:
        self._own = own_ident
        self._using = using
        self._of: dict[tuple[str, str], dict[Stamp, _Logged]] = {}
        self._merged: dict[tuple[str, str], set[Stamp]] = defaultdict(set)

    def load(self, wanted: Iterable[tuple[ModelSpec, str]]) -> None:
        """Read the histories of objects, given by model and text of the primary key; a handful of queries a model."""
        by_root: dict[str, set[str]] = defaultdict(set)
        for spec, text in wanted:
            if (spec.root_label, text) not in self._of:
                by_root[spec.root_label].add(text)
                self._of[spec.root_label, text] = {}
        columns = (
            "model", "pk_text", "date", "origin__ident", "base", "base_node__ident", "imported", "payload",
            "version",
        )  # fmt: skip
        for root, texts in by_root.items():
            found: list[tuple[Any, ...]] = []
            for part in serialize.chunks(sorted(texts)):
                rows = ChangeLog.objects.using(self._using).filter(root=root, link="", pk_text__in=part)
                found += rows.exclude(date=None).values_list(*columns)
            self._remember(root, found)
            self._remember_merged(root, texts)

    def _remember(self, root: str, rows: list[tuple[Any, ...]]) -> None:
        states = logged_states([(row[0], *row[6:]) for row in rows], self._own, self._using, lifted=True)
        for row, state in zip(rows, states, strict=True):
            label, text, date, node, base, base_node, imported, payload, version = row
            model = registry.by_label(label)
            if state is None or model is None:
                continue
            made_on = None if base is None else Stamp(base, base_node)
            older = version < registry.spec(model).version and not (imported and orjson.loads(payload).get("withheld"))
            self._of[root, text][Stamp(date, node)] = _Logged(made_on, state, older)

    def _remember_merged(self, root: str, texts: set[str]) -> None:
        """What was combined at earlier imports: a change names only one version that it was made on."""
        for part in serialize.chunks(sorted(texts)):
            rows = Conflict.objects.using(self._using).filter(winner="merged", pk_text__in=part)
            for label, text, incoming in rows.values_list("model", "pk_text", "incoming"):
                model, side = registry.by_label(label), orjson.loads(incoming)
                if model is not None and registry.spec(model).root_label == root:
                    self._merged[root, text].add(Stamp(parse_date(side["date"]), side["node"]))

    def add(self, spec: ModelSpec, slot: Slot, change: Incoming, given: Mapping[str, Any]) -> None:
        """*change*, which is not in the log yet, is a version of *slot*."""
        versions = self._of.get((spec.root_label, slot.log_text))
        if versions is not None:
            older = change.arrived_version < spec.version and not getattr(change.arrived, "withheld", ())
            versions[change.stamp] = _Logged(change.base, comparable(spec, given), older)

    def merged(self, spec: ModelSpec, slot: Slot, stamp: Stamp) -> None:
        """What is here has the changes of the version *stamp*, too."""
        self._merged[spec.root_label, slot.log_text].add(stamp)

    def combined(
        self, spec: ModelSpec, slot: Slot, change: Incoming, given: Mapping[str, Any]
    ) -> dict[str, Any] | None:
        """What of *given* is to be taken over so that the object has the changes of both sides.

        None where both changed one field, or where it is not known what they changed.
        """
        if slot.state is None or slot.stamp is None:
            return None
        base = self._common(spec, slot, change)
        if base is None:
            return None
        mine, theirs = comparable(spec, slot.state), comparable(spec, given)
        taken: dict[str, Any] = {}
        for name, value in theirs.items():
            if name not in base or name not in mine:
                return None
            if value == base[name] or value == mine[name]:
                continue
            if mine[name] != base[name]:
                return None
            taken[name] = given[name]
        return taken

    def untold(self, spec: ModelSpec, slot: Slot, given: Mapping[str, Any]) -> dict[str, Any]:
        """What of *given* the version here does not speak of, since its maker had no such fields yet.

        It has no say about them, and where it arrives after *given*, they stay. So they are taken from *given* where
        that arrives later.
        """
        versions = self._of.get((spec.root_label, slot.log_text), {})
        here = None if slot.stamp is None else versions.get(slot.stamp)
        if here is None or not here.older or slot.state is None:
            return {}
        mine, theirs = comparable(spec, slot.state), comparable(spec, given)
        return {
            name: given[name]
            for name, value in theirs.items()
            if name not in here.state and name in mine and mine[name] != value
        }

    def _common(self, spec: ModelSpec, slot: Slot, change: Incoming) -> State | None:
        versions = self._of.get((spec.root_label, slot.log_text), {})
        mine = set(_line(versions, slot.stamp)) | self._merged[spec.root_label, slot.log_text]
        for stamp in _line(versions, change.base):
            if stamp in mine:
                return versions[stamp].state if stamp in versions else None
        return None


LoggedRow: TypeAlias = tuple[str, bool, str, int]
"""Of a row of the log: model, whether it was imported, payload, version of the model."""


def logged_states(rows: Sequence[LoggedRow], own_ident: str, using: str, *, lifted: bool = False) -> list[State | None]:
    """The states in rows of the log, comparable with each other.

    None for what holds no state, or that of another version of the model; *lifted*: upcasters make it one of the
    present version, which is what others make of it, and not always what a migration made of the row. A query for each
    model that they point to.
    """
    read: list[tuple[ModelSpec, bool, dict[str, Any]] | None] = []
    pointed: dict[ModelSpec, set[str]] = defaultdict(set)
    for label, imported, payload, version in rows:
        model = registry.by_label(label)
        data = orjson.loads(payload) if payload else {}
        if model is None or (data.get("fields") is None if imported else not data):
            read.append(None)
            continue
        spec = registry.spec(model)
        if lifted and version < spec.version:
            data = _lifted(label, version, data, imported=imported)
        elif imported and version != spec.version:
            data = None
        if data is None:
            read.append(None)
            continue
        read.append((spec, imported, data))
        if imported:
            for name, object_id in _pointed(spec, data):
                pointed[registry.spec(spec.relations[name].related_model)].add(object_id)
    texts = {
        (target, object_id): text
        for target, ids in pointed.items()
        for object_id, text in references.resolve(target, ids, own_ident, using).items()
    }
    told = [(each[0], each[2]["fields"]) for each in read if each is not None and each[1]]
    inside = settling.here(told, own_ident, using)
    found: list[State | None] = []
    for each in read:
        if each is None:
            found.append(None)
            continue
        spec, imported, data = each
        if not imported:
            found.append(comparable(spec, data))
            continue
        state = {**data["fields"], **embedded.rewritten(spec, data["fields"], inside)}
        for name, object_id in _pointed(spec, data):
            target = registry.spec(spec.relations[name].related_model)
            state[name] = texts.get((target, object_id), object_id)
        found.append(state)
    return found


def _lifted(label: str, version: int, data: dict[str, Any], *, imported: bool) -> dict[str, Any] | None:
    fields, refs = (data["fields"], data.get("refs") or {}) if imported else (data, {})
    found = upcasting.lift_values(*upcasting.former(label, version), fields, refs)
    if found is None:
        return None
    return {"fields": found[0], "refs": found[1]} if imported else found[0]


def _pointed(spec: ModelSpec, data: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    return ((name, each) for name, each in (data.get("refs") or {}).items() if name in spec.relations)


def _line(versions: Mapping[Stamp, _Logged], stamp: Stamp | None) -> Iterator[Stamp]:
    """*stamp*, what it was made on, and so on."""
    seen: set[Stamp] = set()
    while stamp is not None and stamp not in seen:
        seen.add(stamp)
        yield stamp
        logged = versions.get(stamp)
        stamp = logged.base if logged is not None else None


def comparable(spec: ModelSpec, state: Mapping[str, Any]) -> State:
    """*state* with foreign keys as the texts of primary keys, however they are given."""
    found = dict(state)
    for name, relation in spec.relations.items():
        value = state.get(name)
        if isinstance(value, Slot):
            found[name] = value.log_text
        elif value is not None and relation.target_field.primary_key and not isinstance(value, list):
            try:
                found[name] = pks.to_text(relation.related_model, values.decode(relation, value))
            except values.UndecodableValueError:
                found[name] = value
    return found


def respelled(spec: ModelSpec, name: str, mine: Any, given: Any) -> bool:
    """Whether *given* is the value *mine* as another database spells it."""
    column = next((each for each in spec.fields if each.name == name), None)
    if column is None or mine is None or given is None or isinstance(mine, Slot) or isinstance(given, Slot):
        return False
    try:
        found: bool = values.encode(column, values.decode(column, given)) == mine
    except (ValueError, TypeError):
        return False
    return found
