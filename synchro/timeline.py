"""The history of one object, change by change with what each did to its fields: from the log, or from bundles.

Both are told in the words of a bundle: natural keys and object ids, no local primary keys. A change is compared with
the version that it was made on, so that what is shown is what its maker did; where that is not the change before, they
did not know of each other.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Self

import orjson
from django.db import DEFAULT_DB_ALIAS
from django.db.models import QuerySet
from django.utils.translation import gettext as _

from changelog_format import BundleReader, Change
from changelog_format.history import ABSENT, Difference, bundles_in, changes, differences
from synchro import naturalkeys, nodes, pks, references, registry, serialize
from synchro.actors import REASON
from synchro.errors import TimelineError
from synchro.models import Action, ChangeLog, Held, MergedRow
from synchro.portable import PORTABLE_COLUMNS, LogRow, Translator
from synchro.registry import ModelClass, ModelSpec

PK_PREFIX = "pk:"
_OBJECT_ID = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*-[0-9a-f]{8}/.+", re.DOTALL)
_LAST = 2**62
_PENDING = "\U0010ffff"  # what is pending is later than what is dated the same
MOST = 5000
"""Changes of one row through which one can leaf, the newest."""

_State = tuple[Mapping[str, Any], Mapping[str, str]]
"""Fields and refs."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Step:
    """One change of the object: ``node`` made it, at its position ``seq``; both are None while it is pending.

    ``fields`` is what it did to the fields (for the first state that is known, every field), and ``withheld`` names
    those of which it is not told here. ``link`` is the m2m field of a link and ``target`` what is at its other end, by
    natural key or id. ``same``: two ids that turned out to be one object. ``unaware``: it was made without knowing of
    the change before. ``held``: why it could not be applied here yet. ``file`` is the bundle that it was read from,
    ``entry`` its primary key in the log.
    """

    date: str
    node: str | None
    seq: int | None
    action: str
    model: str
    id: str
    key: list[Any] | None
    actor: str | None
    reason: str | None
    context: Mapping[str, Any]
    fields: tuple[Difference, ...] = ()
    withheld: tuple[str, ...] = ()
    link: str | None = None
    target: Any = None
    same: tuple[str, str] | None = None
    resolution: bool = False
    unaware: bool = False
    held: str | None = None
    file: str | None = None
    entry: int | None = None

    def as_dict(self) -> dict[str, Any]:
        """As ``--json`` prints it; what a state does not have is left out of ``fields``."""
        data = {name: getattr(self, name) for name in self.__slots__ if name != "entry"}
        data["fields"] = {
            each.field: {
                side: value for side, value in (("before", each.before), ("after", each.after)) if value is not ABSENT
            }
            for each in self.fields
        }
        return data


@dataclass(frozen=True, slots=True)
class _Found:
    """A change, and what its record does not say."""

    change: Change
    node: str | None
    seq: int | None
    held: str | None = None
    file: str | None = None
    folded: bool = False
    entry: int | None = None

    @property
    def stamp(self) -> tuple[str, str]:
        return self.change.date, self.node or _PENDING


def parse_key(words: Sequence[str]) -> str | list[Any]:
    """What names an object on a command line: ``pk:5`` and an object id as they are, else a natural key as a list.

    A key of several values is several words, or one word with a JSON array.
    """
    if len(words) == 1:
        (word,) = words
        if word.startswith(PK_PREFIX) or _OBJECT_ID.fullmatch(word):
            return word
        if word.startswith("["):
            try:
                found = json.loads(word)
            except json.JSONDecodeError:
                found = None
            if isinstance(found, list) and found:
                return found
    return list(words)


# --- from the log -----------------------------------------------------------------------------------------------------


def from_log(label: str, key: str | list[Any], *, using: str = DEFAULT_DB_ALIAS) -> list[Step]:
    """The changes of one object in the log of *using*, oldest first; *key* is as :func:`parse_key` gives it.

    Raises ``TimelineError`` where nothing, or more than one object, is called so.
    """
    model = registry.by_label(label.lower())
    if model is None:
        raise TimelineError(_("There is no model %(label)s.") % {"label": label}, hint=_("Write it as in shop.item."))
    spec = registry.spec(model)
    text = _row(spec, key, using)
    if text is None and isinstance(key, list):
        text = _formerly(spec, key, using)
    found = [] if text is None else list(_logged(_changes_of(spec, {text}, using), using))
    if not found:
        raise TimelineError(
            _("The log has no change of %(model)s %(key)s.") % {"model": spec.label, "key": _called(key)},
            hint=_("A natural key is written as one word a value, or as a JSON array; a primary key as pk:5."),
        )
    return _steps(found)


def _row(spec: ModelSpec, key: str | list[Any], using: str) -> str | None:
    """The text of the primary key of the row that *key* names now."""
    if isinstance(key, list):
        if not naturalkeys.has_natural_key(spec.model):
            if len(key) == 1:  # what else than a primary key can it be
                return _row(spec, f"{PK_PREFIX}{key[0]}", using)
            raise TimelineError(
                _("%(model)s has no natural key.") % {"model": spec.label}, hint=_("Write its primary key: pk:5.")
            )
        for each in _readings(key):
            found = naturalkeys.find(spec.model, [each], using).get(naturalkeys.freeze(each), [])
            if len(found) > 1:
                raise TimelineError(
                    _("%(model)s %(key)s is more than one object.") % {"model": spec.label, "key": _called(key)},
                    hint=_("Write pk:5."),
                )
            if found:
                return pks.to_text(spec.model, found[0])
        return None
    if not key.startswith(PK_PREFIX):
        own = nodes.own(using)
        return references.resolve(spec, [key], own.ident if own is not None else "", using).get(key)
    text = key.removeprefix(PK_PREFIX)
    value = references.pk_value(spec, text)
    return text if value is None else pks.to_text(spec.model, value)


def _readings(key: list[Any]) -> Iterator[list[Any]]:
    """The key as it was typed, and with words that look like numbers, true, false or null taken as such."""
    yield key
    read = [_value(each) if isinstance(each, str) else each for each in key]
    if read != key:
        yield read


def _value(word: str) -> Any:
    try:
        found = json.loads(word)
    except json.JSONDecodeError:
        return word
    return word if isinstance(found, (dict, list)) else found


def _formerly(spec: ModelSpec, key: list[Any], using: str) -> str | None:
    """The row that was called so once: it has another key now, or is gone. Reads the log of the model."""
    texts: set[str] = set()
    rows = ChangeLog.objects.using(using).filter(root=spec.root_label, link="")
    for row, change in _records(rows, using):
        if _same_key(change.key, key):
            texts.add(row.pk_text)
    into = references.merged_into(spec, texts, using)
    texts = {into.get(text, text) for text in texts}
    if len(texts) > 1:
        names = ", ".join(f"{PK_PREFIX}{text}" for text in sorted(texts))
        raise TimelineError(
            _("%(model)s %(key)s was the key of several objects: %(names)s.")
            % {"model": spec.label, "key": _called(key), "names": names},
            hint=_("Name one."),
        )
    return next(iter(texts), None)


def of_row(
    model: ModelClass, pk_text: str, *, start: int = 0, number: int = 50, using: str = DEFAULT_DB_ALIAS
) -> tuple[list[Step], int]:
    """*number* changes of the row *pk_text* of *model* after the *start* newest, newest first; and how many there are.

    Reads these alone, with what they were made on.
    """
    rows = _changes_of(registry.spec(model), {pk_text}, using)
    columns = "pk", "date", "captured", "origin__ident", "base", "base_node__ident", "link", "action", "imported"
    places = sorted(_Place.of(*row) for row in rows.order_by("-pk").values_list(*columns)[:MOST])
    shown = places[::-1][start : start + number]
    needed = _needed(places, {each.pk for each in shown})
    steps = {step.entry: step for step in _steps(list(_logged(rows.filter(pk__in=needed), using)))}
    return [steps[each.pk] for each in shown], len(places)


def _needed(places: Iterable[_Place], wanted: set[int]) -> set[int]:
    """*wanted* with what tells what these changes did: the states before, and what those do not tell themselves."""
    known: dict[int, int | None] = {}
    partial: set[int] = set()
    states: dict[tuple[int, str], int] = {}
    needed = set(wanted)
    last: int | None = None
    for each in places:
        if not each.is_state:
            continue
        known[each.pk] = states.get(each.base, last)
        if each.pk in wanted and last is not None:
            needed.add(last)
        if each.imported:
            partial.add(each.pk)
        states[each.stamp] = last = each.pk
    for pk in list(needed):
        state = known.get(pk) if pk in wanted or pk in partial else None
        while state is not None and state not in needed:
            needed.add(state)
            state = known[state] if state in partial else None
    return needed


@dataclass(frozen=True, slots=True, order=True)
class _Place:
    """Where a change stands in the history of its object."""

    stamp: tuple[int, str]
    pk: int
    base: tuple[int, str]
    is_state: bool
    imported: bool

    @classmethod
    def of(
        cls, pk: int, date: int | None, captured: int, node: str | None, base: int | None, base_node: str | None,
        link: str, action: str, imported: bool,
    ) -> Self:  # fmt: skip
        stamp = (captured, _PENDING) if date is None else (date, node or "")
        is_state = not link and action != Action.SAME
        base_ = base or 0, base_node or node or ""
        return cls(stamp=stamp, pk=pk, base=base_, is_state=is_state, imported=imported)


def _changes_of(spec: ModelSpec, texts: set[str], using: str) -> QuerySet[ChangeLog]:
    """The changes of the rows *texts* and of those that turned out to be the same object."""
    merged = MergedRow.objects.using(using).filter(root=spec.root_label)
    while more := set(merged.filter(into__in=texts).values_list("pk_text", flat=True)) - texts:
        texts |= more
    roots = sorted({spec.root_label, *(registry.spec(each).label for each in _family(spec))})
    return ChangeLog.objects.using(using).filter(root__in=roots, pk_text__in=sorted(texts))


def _logged(rows: QuerySet[ChangeLog], using: str) -> Iterator[_Found]:
    held = dict(Held.objects.using(using).filter(change__in=rows.values("pk")).values_list("change_id", "reason"))
    for row, change in _records(rows, using):
        pending = row.seq >= _LAST
        node, seq = (None, None) if pending else (row.origin, row.origin_seq)
        yield _Found(change, node, seq, held=held.get(row.pk), entry=row.pk)


def _family(spec: ModelSpec) -> list[Any]:
    """Links belong to the model that declares them, which may be a multi-table child."""
    return [each for each in registry.tracked() if registry.spec(each).root is spec.root]


def _records(rows: QuerySet[ChangeLog], using: str) -> Iterator[tuple[LogRow, Change]]:
    """Rows of the log as records, in their order; what is pending comes last, with positions that there are not."""
    own = nodes.own(using)
    translator = Translator(own.ident if own is not None else "", using)
    of_row = PORTABLE_COLUMNS.index("pk")
    after = 0
    while part := list(rows.order_by("pk").filter(pk__gt=after).values_list(*PORTABLE_COLUMNS)[: serialize.CHUNK]):
        after = part[-1][of_row]
        pending = ChangeLog.objects.using(using).filter(pk__in=[row[of_row] for row in part], seq__isnull=True)
        captured = dict(pending.values_list("pk", "captured"))
        found = [_sealed(LogRow(*row), captured, own.ident if own is not None else "") for row in part]
        records = (each for each in translator.records(found) if isinstance(each, Change))
        yield from zip(found, records, strict=True)


def _sealed(row: LogRow, captured: Mapping[int, int], own: str) -> LogRow:
    if row.pk not in captured:
        return row
    return row._replace(seq=_LAST + row.pk, date=captured[row.pk], origin=own, origin_seq=_LAST + row.pk)


# --- from bundles -----------------------------------------------------------------------------------------------------


def from_bundles(
    paths: Iterable[str], label: str, key: str | list[Any], opened: Callable[[str], BundleReader]
) -> list[Step]:
    """The changes of one object in bundles (files, folders of them), oldest first. Reads them twice.

    *opened* opens one of them. ``pk:5`` is the primary key where the object was born. Raises ``TimelineError`` as
    :func:`from_log` does, ``BundleError`` and ``OSError``.
    """
    files, label = bundles_in(paths), label.lower()
    named: set[str] = set()
    same: list[set[str]] = []
    for made in changes(files, opened, models=[label]):
        change = made.change
        if change.same is not None:
            same = _joined(same, set(change.same))
        if _is_called(change, key):
            named.add(change.id)
    objects = [ids for ids in _joined_all(same, named) if ids & named]
    if not objects:
        raise TimelineError(
            _("There is no change of %(label)s %(key)s in these bundles.") % {"label": label, "key": _called(key)},
            hint=_("A natural key is written as one word a value, or as a JSON array; a primary key as pk:5."),
        )
    if len(objects) > 1:
        names = ", ".join(sorted(min(ids) for ids in objects))
        raise TimelineError(
            _("%(label)s %(key)s was several objects: %(names)s.")
            % {"label": label, "key": _called(key), "names": names},
            hint=_("Name one of these ids."),
        )
    (ids,) = objects
    return _steps(
        [
            _Found(made.change, made.node, made.seq, file=made.file, folded=made.header.mode != "history")
            for made in changes(files, opened, models=[label])
            if made.change.id in ids or (made.change.same is not None and ids & set(made.change.same))
        ]
    )


def _joined(groups: list[set[str]], ids: set[str]) -> list[set[str]]:
    touching = [group for group in groups if group & ids]
    return [group for group in groups if not group & ids] + [ids.union(*touching)]


def _joined_all(groups: list[set[str]], names: set[str]) -> list[set[str]]:
    for name in names:
        groups = _joined(groups, {name})
    return groups


def _is_called(change: Change, key: str | list[Any]) -> bool:
    if isinstance(key, list):
        return _same_key(change.key, key)
    if key.startswith(PK_PREFIX):
        return references.birth_pk(change.id) == key.removeprefix(PK_PREFIX)
    return change.id == key or (change.same is not None and key in change.same)


# --- both -------------------------------------------------------------------------------------------------------------


def _same_key(found: list[Any] | None, wanted: list[Any]) -> bool:
    return found is not None and (found == wanted or list(map(_word, found)) == list(map(_word, wanted)))


def _word(value: Any) -> str:
    """A value of a key as somebody may have typed it."""
    return value if isinstance(value, str) else orjson.dumps(value).decode()


def _called(key: str | list[Any]) -> str:
    return key if isinstance(key, str) else orjson.dumps(key).decode()


def _steps(found: list[_Found]) -> list[Step]:
    states: dict[tuple[str, str], _State] = {}
    last: _Found | None = None
    steps = []
    for each in sorted(found, key=lambda one: one.stamp):
        change = each.change
        step = _step(each)
        if change.fields is not None or change.action == "delete":
            base = _base(each)
            known = base if base in states else last.stamp if last is not None else None
            before: _State = ({}, {}) if known is None else states[known]
            states[each.stamp] = after = _after(before, change)
            told = tuple(_compared(before, after)) if change.fields is not None else ()
            step = replace(step, fields=told, unaware=last is not None and _unaware(each, base, last))
            last = each
        steps.append(step)
    return steps


def _after(before: _State, change: Change) -> _State:
    """What the object is after *change*, made on *before*; what a record does not tell is unchanged."""
    if change.fields is None:
        return {}, {}
    untold = before[0].keys() - change.fields.keys()
    refs = {name: before[1][name] for name in untold & before[1].keys()}
    return {**{name: before[0][name] for name in untold}, **change.fields}, {**refs, **(change.refs or {})}


def _base(found: _Found) -> tuple[str, str] | None:
    change = found.change
    return None if change.base is None else (change.base, change.base_node or found.node or "")


def _unaware(each: _Found, base: tuple[str, str] | None, last: _Found) -> bool:
    """Whether it was made without knowing of the *last* one. A node knows its own; a fold stands for several."""
    return each.node not in (None, last.node) and not each.folded and (base is None or base < last.stamp)


def _compared(before: _State, after: _State) -> Iterator[Difference]:
    """Where they differ. A foreign key is compared by its target's id, which stays when its natural key does not."""
    refs_before, refs_after = before[1], after[1]
    both = refs_before.keys() & refs_after.keys()
    moved = {name for name in both if refs_before[name] != refs_after[name]}
    told = differences(_shown(before), _shown(after))
    yield from (each for each in told if each.field not in both or each.field in moved)


def _shown(state: _State) -> dict[str, Any]:
    """The fields, a foreign key to something without natural key as its id."""
    fields, refs = state
    return {
        name: refs[name] if name in refs and not isinstance(value, list) else value for name, value in fields.items()
    }


def _step(found: _Found) -> Step:
    change = found.change
    context = dict(change.context or {})
    reason = context.pop(REASON, None)
    target = change.target
    return Step(
        date=change.date,
        node=found.node,
        seq=found.seq,
        action=change.action,
        model=change.model,
        id=change.id,
        key=change.key,
        actor=change.actor,
        reason=reason if isinstance(reason, str) else None,
        context=context,
        withheld=change.withheld,
        link=change.field,
        target=None if target is None else target.key if target.key is not None else target.id,
        same=change.same,
        resolution=change.resolution,
        held=found.held,
        file=found.file,
        entry=found.entry,
    )


__all__ = ["MOST", "Difference", "Step", "from_bundles", "from_log", "of_row", "parse_key"]
