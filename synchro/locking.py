"""Keeping everybody else from writing what is about to be written here, while it is planned."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping
from typing import Any

from django.db import connections
from django.db.models import Model

from synchro import links, references, registry, serialize, tables
from synchro.models import Node
from synchro.registry import ModelSpec
from synchro.resolving import Ends, LinkField, Lock
from synchro.seal import seal_pending


def sealed_lock(node: Node, using: str) -> Lock | None:
    """What locks rows and links, and then numbers what others logged of them until then.

    Otherwise what is committed between the sealing at the start and the plan would be overwritten unseen. None where
    the database has no such locks: whoever writes to SQLite waits for the lock on the node anyway.
    """
    if not connections[using].features.has_select_for_update:
        return None

    def lock(rows: Mapping[ModelSpec, Iterable[str]], of_links: Mapping[LinkField, Ends]) -> None:
        lock_rows(rows, using)
        for field in sorted(of_links, key=str):
            lock_links(field, of_links[field], using)
        seal_pending(node, using)

    return lock


def lock_rows(wanted: Mapping[ModelSpec, Iterable[str]], using: str) -> None:
    """Lock the rows of the objects in *wanted* (texts of their primary keys), those of their parents' tables too.

    One query a table and chunk, in the order of the primary keys, so that two such calls do not block each other.
    """
    by_model: dict[type[Model], dict[str, Any]] = defaultdict(dict)
    for spec, texts in wanted.items():
        values = {text: pk for text in texts if (pk := references.pk_value(spec, text)) is not None}
        for model in (spec.model, *spec.model._meta.get_parent_list()):
            by_model[model].update(values)
    for model in sorted(by_model, key=lambda each: each._meta.label_lower):
        pk_values = by_model[model]
        for rows in serialize.by_pk(registry.spec(model), (pk_values[text] for text in sorted(pk_values)), using):
            list(rows.order_by("pk").select_for_update().values_list("pk", flat=True))


def lock_links(field: LinkField, ends: Ends, using: str) -> None:
    """Lock the links of *field* between any two of *ends* (texts of primary keys)."""
    columns = links.through_columns(field)
    sources, targets = (
        [pk for text in sorted(texts) if (pk := references.pk_value(registry.spec(model), text)) is not None]
        for model, texts in zip((field.model, field.related_model), ends, strict=True)
    )
    rows = tables.rows(registry.through(field), using).order_by("pk").select_for_update()
    for some in serialize.chunks(sources):
        for others in serialize.chunks(targets):
            found = rows.filter(**{f"{columns[0].attname}__in": some, f"{columns[1].attname}__in": others})
            list(found.values_list("pk", flat=True))
