"""Going through whole tables, and what the log believes to be in them, by the chunk and without open cursors."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from synchro import digests, links, reconciling, references, registry, serialize, tables
from synchro.models import Version
from synchro.reconciling import LinkField, Pair
from synchro.registry import ModelClass


def rows(model: ModelClass, using: str) -> Iterator[list[Any]]:
    """The primary keys of all rows of *model*."""
    for part in references.by_chunk(tables.rows(model, using), "pk"):
        yield [pk for (pk,) in part]


def gone(root: ModelClass, using: str) -> Iterator[list[Any]]:
    """The objects of the family of *root* that the log believes alive, and that have no row."""
    classes = digests.family(root)
    for texts in reconciling.logged_texts(registry.spec(root).root_label, using):
        pk_values = [pk for text in texts if (pk := references.pk_value(classes[0], text)) is not None]
        for each in classes:
            found = tables.rows(each.model, using).filter(pk__in=pk_values).order_by()
            here = set(found.values_list("pk", flat=True))
            pk_values = [pk for pk in pk_values if pk not in here]
        if pk_values:
            yield pk_values


def link_rows(relation: LinkField, using: str) -> Iterator[list[Pair]]:
    """The pairs that *relation* links, the side that declares it first."""
    source, target = links.through_columns(relation)
    through = registry.through(relation)
    for part in references.by_chunk(tables.rows(through, using), "pk", source.attname, target.attname):
        yield [links.canonical_pair(relation, (first, second)) for _, first, second in part]


def gone_links(relation: LinkField, using: str) -> Iterator[list[Pair]]:
    """The pairs that the log believes to be linked, and that have no row."""
    source, target = registry.spec(relation.model), registry.spec(relation.related_model)
    name = f"{relation.name}:"
    logged = Version.objects.using(using).filter(root=source.label, link__startswith=name, deleted=False).order_by("pk")
    after = 0
    while part := list(logged.filter(pk__gt=after).values_list("pk", "pk_text", "link")[: serialize.CHUNK]):
        after = part[-1][0]
        ends = [
            (references.pk_value(source, text), references.pk_value(target, link.removeprefix(name)))
            for _, text, link in part
        ]
        pairs = [pair for pair in ends if None not in pair]
        here = reconciling.present_links(relation, pairs, using)
        if missing := [pair for pair in pairs if pair not in here]:
            yield missing
