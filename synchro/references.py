"""Object ids: how an object is called everywhere, and which row it is here.

An object id is ``<node id>/<pk there>``: where the object was born, and its primary key there. An object that was born
here needs no row in ``Reference``; one that came from elsewhere, or that has several ids, has one for each. Objects
whose primary key is a foreign key (one-to-one profiles, multi-table children) are named by their target's id.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

from django.db.models import QuerySet
from django.db.models.functions import Length

from synchro import pks, registry, serialize, tables, values
from synchro.models import Action, ChangeLog, MergedRow, Node, Reference, Version
from synchro.registry import ModelSpec

_FIELDS = tables.columns(Reference, "model", "object_id", "pk_text")


def birth_node(object_id: str) -> str:
    """The node id in *object_id*."""
    return object_id.partition("/")[0]


def birth_pk(object_id: str) -> str:
    """The text of the primary key at the birthplace."""
    return object_id.partition("/")[2]


def explicit_ids(spec: ModelSpec, pk_texts: Iterable[str], using: str) -> dict[str, list[str]]:
    """Text of the local pk → the object ids written down for it, the smallest first."""
    found: dict[str, list[str]] = defaultdict(list)
    for part in serialize.chunks(sorted(set(pk_texts))):
        rows = Reference.objects.using(using).filter(model=spec.identity_label, pk_text__in=part)
        for pk_text, object_id in rows.values_list("pk_text", "object_id"):
            found[pk_text].append(object_id)
    for ids in found.values():
        ids.sort()
    return found


def ids_of(spec: ModelSpec, pk_texts: Iterable[str], own_ident: str, using: str) -> dict[str, str]:
    """Text of the local pk → the object id that travels: the smallest, or that of an object born here."""
    wanted = set(pk_texts)
    explicit = explicit_ids(spec, wanted, using)
    return {text: explicit[text][0] if text in explicit else f"{own_ident}/{text}" for text in wanted}


def resolve(spec: ModelSpec, object_ids: Iterable[str], own_ident: str, using: str) -> dict[str, str]:
    """Object id → text of the local pk, for the ids that are known here (the row itself may be gone: a tombstone)."""
    wanted = set(object_ids)
    found: dict[str, str] = {}
    for part in serialize.chunks(sorted(wanted)):
        rows = Reference.objects.using(using).filter(model=spec.identity_label, object_id__in=part)
        found.update(rows.values_list("object_id", "pk_text"))
    for object_id in wanted - set(found):
        if birth_node(object_id) == own_ident:
            found[object_id] = birth_pk(object_id)
    return found


def merged_into(spec: ModelSpec, pk_texts: Iterable[str], using: str) -> dict[str, str]:
    """Of rows that turned out to be the object of another row, and are gone: the text of that row."""
    found: dict[str, str] = {}
    for part in serialize.chunks(sorted(pk_texts)):
        rows = MergedRow.objects.using(using).filter(root=spec.root_label, pk_text__in=part)
        found.update(rows.values_list("pk_text", "into"))
    return found


def highest(spec: ModelSpec, using: str) -> int:
    """The highest number among the local primary keys that are written down for objects of *spec*."""
    rows = Reference.objects.using(using).filter(model=spec.identity_label)
    texts = rows.order_by(Length("pk_text").desc(), "-pk_text").values_list("pk_text", flat=True)
    return next((int(text) for text in texts[:100] if text.isdecimal()), 0)


def add(pairs: Iterable[tuple[ModelSpec, str, str]], using: str) -> None:
    """Write down ``(spec, object id, local pk text)``; a known id is moved to the row given."""
    by_label: dict[str, dict[str, str]] = defaultdict(dict)
    for spec, object_id, pk_text in pairs:
        by_label[spec.identity_label][object_id] = pk_text
    for label, wanted in by_label.items():
        known: dict[str, str] = {}
        for part in serialize.chunks(sorted(wanted)):
            rows = Reference.objects.using(using).filter(model=label, object_id__in=part)
            known.update(rows.values_list("object_id", "pk_text"))
        fresh = [(label, object_id, text) for object_id, text in wanted.items() if object_id not in known]
        moved = [(text, label, object_id) for object_id, text in wanted.items() if known.get(object_id, text) != text]
        tables.insert_many(Reference, _FIELDS, fresh, using)
        tables.update_many(Reference, [_FIELDS[2]], _FIELDS[:2], moved, using)


def pin_births(ident: str, using: str) -> None:
    """Write down ``<ident>/<pk>`` for every object that has no id yet: it was born under *ident*, which is given up.

    That is every row that a record may name, whether it was ever logged or not, and every object that was logged and
    is gone.
    """
    for model in sorted(registry.reachable(registry.tracked()), key=lambda each: each._meta.label_lower):
        if tables.exists(model, using):
            label = registry.spec(model).identity_label
            for part in by_chunk(tables.rows(model, using), "pk"):
                pin(ident, label, [pks.to_text(model, pk) for (pk,) in part], using)
    logged = Version.objects.using(using).filter(link="")
    for part in by_chunk(logged, "pk", "root", "pk_text"):
        by_label: dict[str, list[str]] = defaultdict(list)
        for _, root, text in part:
            by_label[root].append(text)
        for label, texts in by_label.items():
            pin(ident, label, texts, using)


def pin_newborn(node: Node, using: str) -> None:
    """Write down ``<id of node>/<pk>`` for the objects that came to be since the database parted from another.

    Their first change is pending, or sealed as *node*'s. Where this database was copied from, or in its lost future,
    the same primary keys were given to other objects, which are called by the earlier id. Before :func:`pin_births`.
    """
    added = ChangeLog.objects.using(using).filter(action=Action.ADD, link="", base__isnull=True, imported=False)
    for rows, has_base in ((added.filter(origin=node), True), (added.filter(log__isnull=True), False)):
        for part in by_chunk(rows, "pk", "root", "pk_text"):
            by_root: dict[str, set[str]] = defaultdict(set)
            for _, root, text in part:
                by_root[root].add(text)
            for root, texts in by_root.items():
                if not has_base:  # what has a version was there before
                    known = Version.objects.using(using).filter(root=root, link="", pk_text__in=texts)
                    texts.difference_update(known.values_list("pk_text", flat=True))
                model = registry.by_label(root)
                pin(
                    node.ident, registry.spec(model).identity_label if model is not None else root, sorted(texts), using
                )


def by_chunk(rows: QuerySet[Any], *names: str) -> Iterator[list[tuple[Any, ...]]]:
    """The values of *names*, the primary key first, of all *rows*, without a cursor that stays open between writes."""
    rows = rows.order_by("pk")
    part = list(rows.values_list(*names)[: serialize.CHUNK])
    while part:
        yield part
        part = list(rows.filter(pk__gt=part[-1][0]).values_list(*names)[: serialize.CHUNK])


def pin(ident: str, label: str, texts: Sequence[str], using: str) -> None:
    """Write down ``<ident>/<text>`` for those of *texts*, of the model *label*, that have no id yet."""
    known = Reference.objects.using(using).filter(model=label, pk_text__in=texts).values_list("pk_text", flat=True)
    fresh = dict.fromkeys(texts)
    for text in known:
        fresh.pop(text, None)
    tables.insert_many(Reference, _FIELDS, ((label, f"{ident}/{text}", text) for text in fresh), using)


def pk_value(spec: ModelSpec, pk_text: str) -> Any | None:
    """The primary key that *pk_text* stands for, or None where it stands for none in this model."""
    try:
        return pks.from_text(spec.model, pk_text)
    except values.UndecodableValueError:
        return None


def group(pairs: Iterable[tuple[ModelSpec, str]]) -> Mapping[ModelSpec, set[str]]:
    """The texts of *pairs* by model."""
    grouped: dict[ModelSpec, set[str]] = defaultdict(set)
    for spec, text in pairs:
        grouped[spec].add(text)
    return grouped
