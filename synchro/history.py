"""The history of one object, out of the log: who did what to it and when, field by field.

States that were logged here hold local primary keys, and those that arrived hold natural keys and ids; both are
compared as a bundle would carry them.
"""

from __future__ import annotations

import datetime as dt
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import orjson
from django.db import DEFAULT_DB_ALIAS, models

from synchro import moments, naturalkeys, nodes, reasons, references, registry, serialize
from synchro.actors import REASON
from synchro.models import Action, ChangeLog, Held
from synchro.portable import Translator
from synchro.registry import ModelClass, ModelSpec

MOST = 5000
"""Changes of one object that are looked at, the newest."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Difference:
    """One field: its values as a bundle carries them; a foreign key is its target's natural key, or its object id."""

    field: str
    before: Any
    after: Any


@dataclass(frozen=True, slots=True, kw_only=True)
class Step:
    """One change of the object.

    ``node`` made it, at its position ``seq``; both are empty while it is ``pending``. ``differences`` is what it did to
    the fields. ``first``: the log has no state before it to compare with, so all fields are told. ``link`` is the m2m
    field of a link, ``target`` what is at the other end. ``held`` says why it could not be applied here yet, in
    the active language.
    """

    id: int
    model: str
    action: str
    date: dt.datetime
    microseconds: int
    pending: bool
    node: str
    seq: int | None
    actor: str
    reason: str
    context: Mapping[str, Any]
    resolution: bool
    differences: tuple[Difference, ...] = ()
    first: bool = False
    link: str = ""
    target: str = ""
    held: str = ""


def history(
    model: ModelClass, pk_text: str, *, start: int = 0, number: int = 50, using: str = DEFAULT_DB_ALIAS
) -> tuple[list[Step], int]:
    """*number* changes of the row *pk_text* of *model* after the *start* newest, newest first; and how many there are.

    A row of a parent and those of its multi-table children are one object.
    """
    roots = {spec.label for spec in _family(model)} | {registry.spec(model).root_label}
    rows = ChangeLog.objects.using(using).filter(root__in=sorted(roots), pk_text=pk_text).exclude(action=Action.SAME)
    order = sorted(
        rows.order_by("-pk").values_list("date", "captured", "pk", "link")[:MOST],
        key=lambda each: (each[0] if each[0] is not None else each[1], each[2]),
        reverse=True,
    )
    wanted = [pk for _, _, pk, _ in order[start : start + number]]
    older = next((pk for _, _, pk, link in order[start + number :] if not link), None)
    found = _Steps(wanted, older, using)
    return found.steps(), len(order)


def said(row: ChangeLog) -> tuple[str, dict[str, Any]]:
    """Who made the change, and what was noted along; both empty where nobody said."""
    if row.imported:
        record = orjson.loads(row.payload)
        return record.get("actor") or "", record.get("context") or {}
    return row.actor, orjson.loads(row.context) if row.context else {}


def names_of(rows: Sequence[ChangeLog], using: str = DEFAULT_DB_ALIAS) -> dict[int, str]:
    """``ChangeLog`` id → what the object is called: by its natural key, else by its primary key or id.

    The number of queries grows with the models in *rows*, not with the rows.
    """
    found: dict[int, str] = {}
    wanted: dict[ModelSpec, dict[str, list[int]]] = defaultdict(lambda: defaultdict(list))
    for row in rows:
        model = registry.by_label(row.model)
        if row.imported:
            record = orjson.loads(row.payload)
            here = not row.pk_text.startswith("?")
            found[row.pk] = key_text(record["key"]) if record.get("key") else row.pk_text if here else record["id"]
            continue
        found[row.pk] = row.pk_text
        if model is not None and naturalkeys.has_natural_key(model):
            wanted[registry.spec(model)][row.pk_text].append(row.pk)
    for spec, texts in wanted.items():
        for text, name in names_of_rows(spec, texts, using).items():
            for pk in texts[text]:
                found[pk] = name
        for row in rows:  # of what is gone, the last state tells as much as is in it
            if row.pk_text in texts and found[row.pk] == row.pk_text and row.payload and not row.imported:
                paths = naturalkeys.key_paths(spec.model) or ()
                state = orjson.loads(row.payload)
                if row.model == spec.label and paths and all(path in state for path in paths):
                    found[row.pk] = key_text([state[path] for path in paths])
    return found


def names_of_rows(spec: ModelSpec, texts: Iterable[str], using: str) -> dict[str, str]:
    """Text of the primary key → natural key, of the rows that exist and have one."""
    if not naturalkeys.has_natural_key(spec.model):
        return {}
    pk_of = {text: pk for text in texts if (pk := references.pk_value(spec, text)) is not None}
    keys = naturalkeys.keys_of(spec.model, pk_of.values(), using)
    return {text: key_text(keys[pk]) for text, pk in pk_of.items() if pk in keys}


def key_text(key: Iterable[Any]) -> str:
    """A natural key for people."""
    parts: list[str] = []
    for part in key:
        parts += [key_text(part)] if isinstance(part, list) else [] if part is None else [str(part)]
    return " · ".join(parts)


def _family(model: ModelClass) -> list[ModelSpec]:
    root = registry.spec(model).root
    return [registry.spec(each) for each in registry.tracked() if registry.spec(each).root is root]


class _Steps:
    def __init__(self, wanted: Sequence[int], older: int | None, using: str) -> None:
        self._using = using
        self._wanted = wanted
        ids = [*wanted, *([older] if older is not None else [])]
        rows = ChangeLog.objects.using(using).select_related("origin").in_bulk(ids)
        self._rows = [rows[pk] for pk in ids if pk in rows]  # newest first
        self._states = self._portable()
        self._add_untold()
        self._held = dict(Held.objects.using(using).filter(change__in=wanted).values_list("change_id", "reason"))
        self._targets = self._target_names()

    def _add_untold(self) -> None:
        """What the record of an imported change does not tell is as it was before."""
        before: _State = ({}, {})
        for row in reversed(self._rows):
            if row.link:
                continue
            fields, refs = self._states.get(row.pk, ({}, {}))
            untold = before[0].keys() - fields.keys() if row.imported and fields else set()
            pointed = untold & before[1].keys()
            before = (
                {**{name: before[0][name] for name in untold}, **fields},
                {**{name: before[1][name] for name in pointed}, **refs},
            )
            if row.pk in self._states:
                self._states[row.pk] = before

    def steps(self) -> list[Step]:
        before: dict[int, int | None] = {}
        later: list[int] = []
        for row in self._rows:
            if row.link:
                continue
            before.update(dict.fromkeys(later, row.pk))
            later = [row.pk]
        wanted = set(self._wanted)
        return [self._step(row, before.get(row.pk)) for row in self._rows if row.pk in wanted]

    def _step(self, row: ChangeLog, before: int | None) -> Step:
        actor, context = said(row)
        reason = context.get(REASON, "")
        differences, first = self._compared(row, before)
        return Step(
            id=row.pk,
            model=row.model,
            action=row.action,
            date=moments.from_microseconds(row.captured if row.date is None else row.date),
            microseconds=row.captured if row.date is None else row.date,
            pending=row.date is None,
            node=row.origin.ident if row.origin is not None else "",
            seq=row.origin_seq,
            actor=actor,
            reason=reason if isinstance(reason, str) else "",
            context={name: value for name, value in context.items() if name != REASON},
            resolution=row.resolution,
            differences=differences,
            first=first,
            link=row.link.partition(":")[0],
            target=self._targets.get(row.pk, ""),
            held=reasons.told(self._held.get(row.pk, "")),
        )

    def _compared(self, row: ChangeLog, before: int | None) -> tuple[tuple[Difference, ...], bool]:
        after = self._states.get(row.pk)
        if after is None or row.link or row.action == Action.DELETE:
            return (), False
        earlier = None if row.action == Action.ADD and before is None else self._states.get(before or 0)
        if earlier is None:
            told = [Difference(field=name, before=None, after=_value(after, name)) for name in after[0]]
            return tuple(each for each in told if each.after is not None), True
        names = dict.fromkeys([*earlier[0], *after[0]])
        return tuple(
            Difference(field=name, before=_value(earlier, name), after=_value(after, name))
            for name in names
            if _differ(earlier, after, name)
        ), False

    def _portable(self) -> dict[int, _State]:
        found: dict[int, _State] = {}
        local: list[tuple[int, ModelSpec, serialize.State]] = []
        for row in self._rows:
            if row.link or not row.payload or row.action == Action.DELETE:
                continue
            data = orjson.loads(row.payload)
            model = registry.by_label(row.model)
            if row.imported:
                found[row.pk] = data.get("fields") or {}, data.get("refs") or {}
            elif model is None:
                found[row.pk] = data, {}
            else:
                local.append((row.pk, registry.spec(model), data))
        node = nodes.own(self._using)
        translator = Translator(node.ident if node is not None else "", self._using)
        carried = translator.portable_states([(spec, state) for _, spec, state in local])
        found.update({pk: state for (pk, _, _), state in zip(local, carried, strict=True)})
        return found

    def _target_names(self) -> dict[int, str]:
        """What is at the other end of links."""
        found: dict[int, str] = {}
        wanted: dict[ModelSpec, dict[str, list[int]]] = defaultdict(lambda: defaultdict(list))
        for row in self._rows:
            if not row.link:
                continue
            name, _, text = row.link.partition(":")
            record = orjson.loads(row.payload) if row.imported and row.payload else {}
            target = record.get("target") or {}
            found[row.pk] = key_text(target["key"]) if target.get("key") else target.get("id") or text
            model = registry.by_label(row.model)
            field = registry.spec(model).links.get(name) if model is not None else None
            if field is not None and not target.get("key"):
                wanted[registry.spec(_target(field))][text].append(row.pk)
        for spec, texts in wanted.items():
            for text, name in names_of_rows(spec, texts, self._using).items():
                found.update(dict.fromkeys(texts[text], name))
        return found


_State = tuple[Mapping[str, Any], Mapping[str, str]]


def _target(field: models.ManyToManyField[Any, Any]) -> ModelClass:
    return field.related_model


def _value(state: _State, name: str) -> Any:
    fields, refs = state
    value = fields.get(name)
    return refs[name] if name in refs and not isinstance(value, list) else value


def _differ(one: _State, other: _State, name: str) -> bool:
    # An object whose natural key changed is still the same target.
    if name in one[1] and name in other[1]:
        return bool(one[1][name] != other[1][name])
    return bool(_value(one, name) != _value(other, name))


__all__ = ["Difference", "Step", "history", "key_text", "names_of", "names_of_rows", "said"]
