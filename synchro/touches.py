"""The rows that the touch triggers noted: reconciled before sealing, and their notes removed.

A note only says that a row was written. What became of it is found by comparing it with the log, so that a change that
was captured as well is not logged twice. The notes of rows that somebody is writing at the moment stay for the next
time.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Sequence
from typing import Any

import orjson
from django.db import models
from django.utils.functional import cached_property

from synchro import changelog, conf, links, ordering, reconciling, registry, serialize, tables, walking
from synchro.changelog import Entry
from synchro.models import Action, Touch
from synchro.reconciling import LinkField
from synchro.registry import AnyField, ModelClass

# Keys that every database writes as the same text, and the field's own class reads.
_TEXTUAL = (models.IntegerField, models.CharField, models.TextField, models.UUIDField, models.DateField)


def covered() -> dict[ModelClass, list[AnyField]]:
    """The models whose tables are watched, with the columns that tell which row it is; none: any row is meant."""
    found = {model: list(model._meta.pk_fields) for model in registry.written()}
    found.update((through, list(links.through_columns(field))) for through, field in registry.tracked_links().items())
    return {
        model: columns if all(_is_textual(column) for column in columns) else []
        for model, columns in sorted(found.items(), key=lambda each: each[0]._meta.label_lower)
    }


def _is_textual(column: AnyField) -> bool:
    leaf = _leaf(column)
    known = type(leaf).__module__.startswith("django.db.models") and isinstance(leaf, _TEXTUAL)
    return known and not isinstance(leaf, models.DateTimeField)


def _leaf(column: AnyField) -> AnyField:
    while isinstance(column, models.ForeignKey):
        column = column.target_field
    return column


def reconcile_touched(using: str) -> int:
    """Log what became of the rows that were noted, and remove the notes; how many changes that was.

    Call it under the node's lock, in the transaction that seals.
    """
    if not conf.triggers() or not tables.exists(Touch, using):
        return 0
    logged = after = 0
    notes = Touch.objects.using(using).order_by("pk")
    while part := list(notes.filter(pk__gt=after).values_list("pk", "model", "key")[: serialize.CHUNK]):
        after = part[-1][0]
        chunk = _Chunk(part, using)
        changelog.append_many(chunk.entries, using)
        logged += len(chunk.entries)
        notes.filter(pk__in=chunk.done).order_by().delete()
    return logged


class _Chunk:
    """Some notes: what is to be logged for them, and which of them are done with."""

    def __init__(self, notes: Sequence[tuple[int, str, str | None]], using: str) -> None:
        self._using = using
        self._notes: dict[str, dict[str | None, list[int]]] = defaultdict(lambda: defaultdict(list))
        for pk, label, key in notes:
            self._notes[label][key].append(pk)
        self._kept: set[int] = set()
        watched = {model._meta.label_lower: model for model in self._covered}
        through = registry.tracked_links()
        found: list[Entry] = []
        for label, keys in self._notes.items():
            model = watched.get(label)
            if model is None:
                continue  # of a model that is not tracked any more
            found += self._links(through[model], model, keys) if model in through else self._objects(model, keys)
        self.entries = _in_order(found)
        self.done = [pk for pk, _, _ in notes if pk not in self._kept]

    @cached_property
    def _covered(self) -> dict[ModelClass, list[AnyField]]:
        return covered()

    def _keys(self, model: ModelClass, keys: Iterable[str | None]) -> dict[Any, str]:
        """Key value → the text that it was noted as."""
        columns = [_leaf(column) for column in self._covered[model]]
        found: dict[Any, str] = {}
        for text in keys:
            if text is None or not columns:
                continue
            parts = [text] if len(columns) == 1 else orjson.loads(text)
            values_ = tuple(leaf.to_python(part) for leaf, part in zip(columns, parts, strict=True))
            found[values_ if len(columns) > 1 else values_[0]] = text
        return found

    def _objects(self, model: ModelClass, keys: dict[str | None, list[int]]) -> list[Entry]:
        spec = registry.spec(model)
        wanted = self._keys(model, keys)
        busy: set[Any] = set()
        found = reconciling.settled(spec, list(wanted), self._using, busy=busy) if wanted else []
        self._kept.update(pk for each in busy for pk in keys[wanted[each]])
        if None in keys:
            for walk in (walking.gone(spec.root, self._using), walking.rows(model, self._using)):
                for part in walk:
                    found += reconciling.settled(spec, part, self._using)
        return found

    def _links(self, field: LinkField, through: ModelClass, keys: dict[str | None, list[int]]) -> list[Entry]:
        wanted: dict[Any, list[str]] = defaultdict(list)
        for pair, text in self._keys(through, keys).items():
            wanted[links.canonical_pair(field, pair)].append(text)
        busy: set[Any] = set()
        found = reconciling.settled_links(field, list(wanted), self._using, busy=busy) if wanted else []
        self._kept.update(pk for pair in busy for text in wanted[pair] for pk in keys[text])
        if None in keys:
            for walk in (walking.link_rows(field, self._using), walking.gone_links(field, self._using)):
                for part in walk:
                    found += reconciling.settled_links(field, part, self._using)
        return found


def _in_order(entries: Sequence[Entry]) -> list[Entry]:
    """Deletions first, children before parents; then rows, parents before children; then links. Each once."""
    labels = {entry.model for entry in entries}
    models_ = {model: label for label in labels if (model := registry.by_label(label)) is not None}
    rank = {models_[model]: number for number, model in enumerate(ordering.parents_first(models_))}
    unique = {(entry.root, entry.pk_text, entry.link, entry.model, entry.action): entry for entry in entries}

    def place(entry: Entry) -> tuple[int, int]:
        if entry.link:
            return 2, 0
        return (0, -rank[entry.model]) if entry.action == Action.DELETE else (1, rank[entry.model])

    return sorted(unique.values(), key=place)
