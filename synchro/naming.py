"""What people call the objects of changes in the log, and who made these."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Sequence
from typing import Any

import orjson
from django.db import DEFAULT_DB_ALIAS

from synchro import naturalkeys, references, registry
from synchro.models import ChangeLog
from synchro.registry import ModelSpec
from synchro.resolving import UNBORN

__all__ = ["key_text", "names_of", "names_of_rows", "said"]


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
            here = not row.pk_text.startswith(UNBORN)
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
