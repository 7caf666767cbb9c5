"""Reconciling: logging what was written past the log.

The rows of some objects, and the links of some pairs, are compared with what the log says of them, a chunk at a time,
and differences are logged. A change that was captured is not logged again: what is in the log already, sealed or
pending, is what rows are compared with.

Rows that differ are locked and compared once more before anything is logged: between reading a row and reading the log
somebody may have changed both.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple, TypeAlias

import orjson
from django.db import connections, models

from changelog_format import Change
from synchro import changelog, digests, links, nodes, pks, registry, serialize, tables, unseen, upcasting, versions
from synchro.changelog import Entry, Restated
from synchro.models import Action, ChangeLog, Version
from synchro.plan import Incoming
from synchro.planner import Planner
from synchro.registry import ModelSpec
from synchro.versions import Current, Key

ModelClass = type[models.Model]
LinkField: TypeAlias = "models.ManyToManyField[Any, Any]"
Pair = tuple[Any, Any]


def reconcile(spec: ModelSpec, pk_values: Iterable[Any], using: str, *, whole: bool = False) -> list[Entry]:
    """Log what became of the objects *pk_values* since they were logged; what was logged.

    *spec* is a tracked model or a multi-table parent of one; its rows are looked at as the objects that they are part
    of. Call it in a transaction. *whole*: log an object also where it is as it was, but its last state is no longer in
    the log, or only in that of an earlier id of this deployment. What is ``Restated`` is left to the caller.
    """
    logged: list[Entry] = []
    for part in serialize.chunks(list(pk_values)):
        entries = settled(spec, part, using, whole=whole)
        changelog.append_many([each for each in entries if not isinstance(each, Restated)], using)
        logged += entries
    return logged


def settled(
    spec: ModelSpec, part: Sequence[Any], using: str, *, whole: bool = False, busy: set[Any] | None = None
) -> list[Entry]:
    """What :func:`reconcile` would log for one chunk, now that its rows are locked.

    With *busy* rows that somebody else is writing at the moment are left out, and put into it.
    """
    found = differences(spec, part, using, whole=whole)
    if not found:
        return []
    wanted = list(dict.fromkeys(pk for pk, _ in found))
    rows = tables.rows(spec.model, using).filter(pk__in=wanted).order_by("pk")
    skipped = {pk for (pk,) in _lock(rows, ("pk",), using, wait=busy is None)}
    if busy is not None:
        busy |= skipped
    wanted = [pk for pk in wanted if pk not in skipped]
    return [entry for _, entry in differences(spec, wanted, using, whole=whole)]


def reconcile_links(field: LinkField, pairs: Iterable[Pair], using: str, *, whole: bool = False) -> list[Entry]:
    """The same for the m2m links *pairs* (the side that declares *field* first)."""
    logged: list[Entry] = []
    for part in serialize.chunks(list(dict.fromkeys(links.canonical_pair(field, pair) for pair in pairs))):
        entries = settled_links(field, part, using, whole=whole)
        changelog.append_many([each for each in entries if not isinstance(each, Restated)], using)
        logged += entries
    return logged


def settled_links(
    field: LinkField, part: Sequence[Pair], using: str, *, whole: bool = False, busy: set[Any] | None = None
) -> list[Entry]:
    """As :func:`settled`, for one chunk of links."""
    found = link_differences(field, part, using, whole=whole)
    if not found:
        return []
    wanted = [pair for pair, _ in found]
    columns = [column.attname for column in links.through_columns(field)]
    taken = _lock(_link_rows(field, wanted, using), columns, using, wait=busy is None)
    skipped = {links.canonical_pair(field, pair) for pair in taken}
    if busy is not None:
        busy |= skipped
    wanted = [pair for pair in wanted if pair not in skipped]
    return [entry for _, entry in link_differences(field, wanted, using, whole=whole)]


def differences(
    spec: ModelSpec, pk_values: Sequence[Any], using: str, *, whole: bool = False
) -> list[tuple[Any, Entry]]:
    """What :func:`reconcile` would log for the rows *pk_values* of *spec*, each with the primary key. Reads only."""
    found = _of_family(spec.root, pk_values, using, whole=whole)
    for child in registry.descendants(spec.model):  # whose own history belongs to another parent
        if registry.spec(child).root is not spec.root:
            own = changelog.pks_of_child(spec, registry.spec(child), pk_values, using)
            back = {own_pk: pk for pk, own_pk in own.items()}
            of_child = _of_family(registry.spec(child).root, list(back), using, whole=whole)
            found += [(back[own_pk], entry) for own_pk, entry in of_child]
    return found


# --- objects ----------------------------------------------------------------------------------------------------------


class _Logged(NamedTuple):
    """A row of the log: of which model, whether it came from elsewhere, what it holds, and in whose log it is."""

    label: str
    imported: bool
    payload: str
    version: int
    log_id: int | None


def _of_family(root: ModelClass, pk_values: Sequence[Any], using: str, *, whole: bool) -> list[tuple[Any, Entry]]:
    classes = digests.family(root)
    if not classes or not pk_values:
        return []
    keys = {Key(classes[0].root_label, pks.to_text(root, pk)): pk for pk in pk_values}
    # The rows first: of a row that is seen, the log entry that its own transaction wrote is seen afterwards, too.
    owners = digests.owners(classes, list(keys.values()), using)
    known = _Known(keys, using, whole=whole)
    found: list[tuple[Any, Entry]] = []
    for key, pk in keys.items():
        rows = owners.get(pk, {})
        made = known.last(key)
        if key not in known.alive:
            found += [(pk, changelog.state_entry(each, pk, Action.ADD, state)) for each, state in rows.items()]
        elif made is None:
            found += _lost_state(classes, pk, rows, known.digests.get(key), whole=whole, numbered=known.numbered(key))
        elif registry.is_tracked(made.model):
            found += _against_last(made, key, pk, rows, known)
    return _pointed_first(found)


def _lost_state(
    classes: Sequence[ModelSpec],
    pk: Any,
    rows: Mapping[ModelSpec, serialize.State],
    remembered: int | None,
    *,
    whole: bool,
    numbered: bool,
) -> Iterator[tuple[Any, Entry]]:
    """An object of which the log no longer holds a state, only its digest, if that."""
    if not rows:
        yield pk, changelog.state_entry(classes[-1], pk, Action.DELETE, {})
    for each, state in rows.items():
        same = remembered == digests.of_state(state)
        if whole or not same:
            entry = changelog.state_entry(each, pk, Action.CHANGE, state)
            yield pk, Restated(*entry) if same and numbered and len(rows) == 1 else entry


def _against_last(
    made: ModelSpec, key: Key, pk: Any, rows: Mapping[ModelSpec, serialize.State], known: _Known
) -> Iterator[tuple[Any, Entry]]:
    """An object that was last logged as one of *made*."""
    if made not in rows:
        if not any(issubclass(each.model, made.model) for each in rows):
            yield pk, changelog.state_entry(made, pk, Action.DELETE, known.plain_state(key, made))
        for each, state in rows.items():  # a child's row that came, or the parent's that is left
            yield pk, changelog.state_entry(each, pk, Action.ADD, state)
        return
    for each, state in rows.items():
        same = known.holds(key, state) if each is made else known.sibling_holds(each, key, state)
        if not same:
            entry = changelog.state_entry(each, pk, Action.CHANGE, state)
            yield pk, Restated(*entry) if each is made and known.says(key, state) else entry


class _Known:
    """What the log says of the objects *keys*: who is alive, and their last states.

    *whole*: what the log of an earlier id says counts as not said.
    """

    def __init__(self, keys: Iterable[Key], using: str, *, whole: bool) -> None:
        self._using = using
        self._logs = _own_logs(using) if whole else None
        current = _current(list(keys), using)
        self.alive = {key: cur for key, cur in current.items() if not cur.deleted}
        self._changes = _changes([cur.change_id for cur in self.alive.values() if cur.change_id is not None], using)
        imported = {pk: change for pk, change in self._changes.items() if change.imported}
        self._unseen = unseen.fields_of(self.alive, using)
        self._as_told = _hold_as_told(imported, using)
        self.digests = digests.remembered(
            [key for key, cur in self.alive.items() if cur.change_id not in self._changes], using
        )

    def last(self, key: Key) -> ModelSpec | None:
        """The model of the last change, where it is still in the log."""
        change = self._change(key)
        model = registry.by_label(upcasting.current_label(change.label)) if change is not None else None
        return None if model is None else registry.spec(model)

    def holds(self, key: Key, state: serialize.State) -> bool:
        """Whether the row is what the last change says, which is in a log that counts."""
        change = self._change(key)
        return change is not None and _is_in(self._logs, change) and self.says(key, state)

    def numbered(self, key: Key) -> bool:
        """Whether it is known which change the last one was, that the log has lost."""
        return self.alive[key].seq is not None

    def says(self, key: Key, state: serialize.State) -> bool:
        """Whether the row is what the last change says."""
        change = self._change(key)
        if change is None:
            return False
        if change.imported:
            return self._as_told[self.alive[key].change_id or 0]
        logged = _as_of_now(change)
        unknown = self._unseen.get(key, set()) - logged.keys()
        return _covers({**logged, **{name: state[name] for name in unknown if name in state}}, state)

    def sibling_holds(self, spec: ModelSpec, key: Key, state: serialize.State) -> bool:
        """An object that is of two classes side by side has one newest change; the other class's last one is here."""
        rows = ChangeLog.objects.using(self._using).filter(
            root=key.root, pk_text=key.pk_text, link="", model=spec.label
        )
        pk = rows.order_by("-pk").values_list("pk", flat=True).first()
        if pk is None:
            return False
        last = _changes([pk], self._using)[pk]
        if not _is_in(self._logs, last):
            return False
        return _hold_as_told({pk: last}, self._using)[pk] if last.imported else _covers(_as_of_now(last), state)

    def plain_state(self, key: Key, spec: ModelSpec) -> serialize.State:
        """What is known of the last state, for the log of a deletion: foreign keys only where they are our own."""
        change = self._change(key)
        if change is None or not change.payload:
            return {}
        logged: serialize.State = orjson.loads(change.payload)
        if not change.imported:
            return logged
        return {name: value for name, value in (logged.get("fields") or {}).items() if name not in spec.relations}

    def _change(self, key: Key) -> _Logged | None:
        cur = self.alive.get(key)
        return None if cur is None else self._changes.get(cur.change_id or 0)


def _current(keys: Sequence[Key], using: str) -> dict[Key, Current]:
    """The newest changes of *keys*, also those that are not sealed yet."""
    found = versions.find(keys, using)
    found.update(versions.find_pending(keys, "", using))
    return found


def _changes(wanted: Sequence[int], using: str) -> dict[int, _Logged]:
    found: dict[int, _Logged] = {}
    for part in serialize.chunks(wanted):
        rows = ChangeLog.objects.using(using).filter(pk__in=part)
        columns = ("pk", "model", "imported", "payload", "version", "log_id")
        found.update((row[0], _Logged(*row[1:])) for row in rows.values_list(*columns))
    return found


def _own_logs(using: str) -> frozenset[int | None]:
    """The log that is sent to others: that of the current node, and what is not sealed yet."""
    node = nodes.own(using)
    return frozenset({None} if node is None else {None, node.pk})


def _is_in(logs: frozenset[int | None] | None, change: _Logged) -> bool:
    return logs is None or change.log_id in logs


def _as_of_now(change: _Logged) -> serialize.State:
    """What was logged, under the names and in the forms that the model's fields have by now."""
    return upcasting.lift_state(change.label, change.version, orjson.loads(change.payload))


def _covers(logged: Mapping[str, Any], state: Mapping[str, Any]) -> bool:
    """Whether *logged* says all that the row holds. Columns that are gone since do not matter."""
    return all(name in logged and logged[name] == value for name, value in state.items())


def _hold_as_told(wanted: Mapping[int, _Logged], using: str) -> dict[int, bool]:
    """Of imported changes, whether taking them again would change nothing."""
    if not wanted:
        return {}
    node = nodes.own(using)
    changes = [
        Incoming.of(Change.from_dict({**orjson.loads(each.payload), "seq": 1}), "", each.version)
        for each in wanted.values()
    ]
    planner = Planner(node.ident if node is not None else "", None, "newest", using)
    return dict(zip(wanted, planner.hold_as_told(changes), strict=True))


def _pointed_first(found: list[tuple[Any, Entry]]) -> list[tuple[Any, Entry]]:
    """*found* in an order in which rows of one model that point to each other come after what they point to."""
    by_place = {(entry.root, entry.pk_text): (pk, entry) for pk, entry in found if entry.action != Action.DELETE}
    ordered: dict[int, tuple[Any, Entry]] = {id(entry): (pk, entry) for pk, entry in found
                                             if entry.action == Action.DELETE}  # fmt: skip
    for pk, entry in found:
        trail = [(pk, entry)]
        seen = {id(entry)}
        while True:  # one way up: enough for trees; cycles are cut where they close
            target = next(
                (by_place[place] for place in _own_targets(trail[-1][1]) if place in by_place
                 and id(by_place[place][1]) not in seen and id(by_place[place][1]) not in ordered),
                None,
            )  # fmt: skip
            if target is None:
                break
            seen.add(id(target[1]))
            trail.append(target)
        ordered.update((id(each[1]), each) for each in reversed(trail) if id(each[1]) not in ordered)
    return list(ordered.values())


def _own_targets(entry: Entry) -> Iterator[tuple[str, str]]:
    model = registry.by_label(entry.model)
    if model is None:
        return
    spec = registry.spec(model)
    own = [f for f in spec.relations.values() if registry.spec(f.related_model).root is spec.root]
    if own:
        state = orjson.loads(entry.payload)
        for relation in own:
            if state.get(relation.name) is not None and relation.target_field.primary_key:
                yield spec.root_label, str(state[relation.name])


# --- what is no longer in the log -------------------------------------------------------------------------------------


def remember_rows(using: str) -> None:
    """Note what the rows of all logged objects hold now, before their states leave the log."""
    for root in {registry.spec(model).root for model in registry.tracked()}:
        spec = digests.family(root)[0]
        for texts in logged_texts(spec.root_label, using):
            digests.store(spec.root_label, digests.of_rows(spec, texts, using), using)


def logged_texts(root_label: str, using: str) -> Iterator[list[str]]:
    """The primary keys (as text) of the objects of a family that are alive as far as the log knows, by the chunk."""
    rows = Version.objects.using(using).filter(root=root_label, link="", deleted=False).order_by("pk")
    after = 0
    while part := list(rows.filter(pk__gt=after).values_list("pk", "pk_text")[: serialize.CHUNK]):
        after = part[-1][0]
        yield [text for _, text in part]


# --- links ------------------------------------------------------------------------------------------------------------


def link_differences(
    field: LinkField, pairs: Sequence[Pair], using: str, *, whole: bool = False
) -> list[tuple[Pair, Entry]]:
    """What :func:`reconcile_links` would log for *pairs*. Reads only."""
    if not pairs:
        return []
    source, target = registry.spec(field.model), registry.spec(field.related_model)
    here = present_links(field, pairs, using)
    keys = {
        pair: Key(
            source.label,
            pks.to_text(source.model, pair[0]),
            f"{field.name}:{pks.to_text(target.model, pair[1])}",
        )
        for pair in pairs
    }
    current = _current(list(keys.values()), using)
    logs = _own_logs(using) if whole else None
    changes = _changes([cur.change_id or 0 for cur in current.values()], using) if whole else {}
    kept = {pk for pk, change in changes.items() if _is_in(logs, change)}
    missing = []
    found: list[tuple[Pair, Entry]] = []
    for pair, key in keys.items():
        cur = current.get(key)
        linked = cur is not None and not cur.deleted and (not whole or pair not in here or cur.change_id in kept)
        if pair in here and not linked:
            entry = changelog.link_entry(source, pair[0], field, pair[1], Action.LINK)
            known = cur is not None and not cur.deleted and (cur.change_id in changes or cur.seq is not None)
            found.append((pair, Restated(*entry) if known else entry))
        elif pair not in here and linked:
            missing.append(pair)
    # A link outlives its ends in the log: an object that is revived has its links again.
    sources = _existing(source, {pair[0] for pair in missing}, using)
    targets = _existing(target, {pair[1] for pair in missing}, using)
    found += [
        (pair, changelog.link_entry(source, pair[0], field, pair[1], Action.UNLINK))
        for pair in missing
        if pair[0] in sources and pair[1] in targets
    ]
    return found


def present_links(field: LinkField, pairs: Sequence[Pair], using: str) -> set[Pair]:
    """Those of *pairs* of which there is a row in the link table."""
    columns = [column.attname for column in links.through_columns(field)]
    rows = _link_rows(field, pairs, using).values_list(*columns)
    return {links.canonical_pair(field, pair) for pair in rows} & set(pairs)


def _link_rows(field: LinkField, pairs: Sequence[Pair], using: str) -> models.QuerySet[Any, Any]:
    source, target = links.through_columns(field)
    firsts, seconds = {pair[0] for pair in pairs}, {pair[1] for pair in pairs}
    if getattr(field.remote_field, "symmetrical", False):
        firsts = seconds = firsts | seconds
    rows = tables.rows(registry.through(field), using)
    return rows.filter(**{f"{source.attname}__in": firsts, f"{target.attname}__in": seconds}).order_by("pk")


def _existing(spec: ModelSpec, pk_values: Iterable[Any], using: str) -> set[Any]:
    found: set[Any] = set()
    for part in serialize.chunks(list(pk_values)):
        found.update(serialize.rows(spec, using).filter(pk__in=part).order_by().values_list("pk", flat=True))
    return found


# --- locking ----------------------------------------------------------------------------------------------------------


def _lock(rows: models.QuerySet[Any, Any], names: Sequence[str], using: str, *, wait: bool) -> set[Any]:
    """Keep others from writing *rows* until the transaction ends. Without *wait* those that somebody has, by *names*.

    Whoever writes to SQLite has the only write lock anyway.
    """
    features = connections[using].features
    if not features.has_select_for_update:
        return set()
    skip = not wait and features.has_select_for_update_skip_locked
    lock = rows.select_for_update(skip_locked=skip, no_key=features.has_select_for_no_key_update)
    locked = set(lock.values_list(*names))
    return set(rows.values_list(*names)) - locked if skip else set()
