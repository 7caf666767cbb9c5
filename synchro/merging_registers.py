"""Folding histories: the newest changes of links, and the log, are named after the row that stays."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from synchro import references, registry, serialize, tables, versions
from synchro.links import canonical_pair
from synchro.models import ChangeLog, Conflict, Version
from synchro.plan import Link
from synchro.registry import ModelSpec
from synchro.resolving import Slot, is_unborn, rows_of_family
from synchro.versions import Current, Key

LostLink = tuple[Key, Current, Current]
"""The link, its newest change, and the one that lost against it."""


def move_registers(
    spec: ModelSpec, moved: Mapping[str, str], node_ids: Mapping[str, int], using: str
) -> tuple[list[LostLink], list[Link]]:
    """Move links and log of *moved* (text that is given up → text that stays).

    Returns where two registers of one link met and said different things, and what is to be done so that the links are
    what the later of them says.
    """
    labels = [model._meta.label_lower for model in _family(spec)]
    fields = list(_links_to(spec))
    found = _rows(labels, fields, moved, using)
    merged: dict[Key, list[Current]] = defaultdict(list)
    for key, current in found.values():
        merged[_renamed(key, labels, fields, moved)].append(current)
    known = versions.find(merged, using)
    changed: dict[Key, Current] = {}
    lost: list[LostLink] = []
    for key, several in merged.items():
        several.extend([known[key]] if key in known else [])
        newest = max(several, key=lambda each: each.stamp)
        lost += [(key, newest, each) for each in several if each.deleted != newest.deleted]
        changed[key] = newest
    for part in serialize.chunks(list(found)):
        Version.objects.using(using).filter(pk__in=part).delete()
    known = {key: current for key, current in known.items() if key not in {k for k, _ in found.values()}}
    versions.store(changed, known, node_ids, using)
    _move_log(spec, labels, fields, moved, using)
    return lost, list(_links(changed, using))


def revived(slots: Iterable[tuple[Slot, str | None]], node_ids: Mapping[str, int], using: str) -> list[Link]:
    """The links that objects have that got a row again: the log remembers them.

    *slots*: each with what stood for its primary key until now, where it had none.
    """
    by_root: dict[ModelSpec, list[tuple[Slot, str | None]]] = defaultdict(list)
    for slot, unborn in slots:
        by_root[registry.spec(slot.spec.root)].append((slot, unborn))
    found: list[Link] = []
    for spec, of_root in by_root.items():
        born = {unborn: slot.log_text for slot, unborn in of_root if unborn is not None and unborn != slot.log_text}
        if born:
            move_registers(spec, born, node_ids, using)
            versions.forget(spec.root_label, born, using)
        labels = [model._meta.label_lower for model in _family(spec)]
        texts = {slot.log_text: slot.log_text for slot, _ in of_root}
        registers = _rows(labels, list(_links_to(spec)), texts, using)
        found += _links({key: current for key, current in registers.values() if not current.deleted}, using)
    return found


def _family(spec: ModelSpec) -> list[Any]:
    models_ = [spec.root, *registry.descendants(spec.root)]
    for model in list(models_):
        models_ += [parent for parent in model._meta.get_parent_list() if parent not in models_]
    return models_


def _links_to(spec: ModelSpec) -> Iterator[tuple[ModelSpec, str]]:
    """The m2m fields that point to objects of *spec*'s family, with the models by which their links are logged."""
    family = set(_family(spec))
    for model in sorted(registry.written(), key=lambda each: each._meta.label_lower):
        own = registry.spec(model)
        for name, relation in own.links.items():
            if relation.related_model._meta.concrete_model in family:
                yield own, name


def _rows(
    labels: list[str], fields: Iterable[tuple[ModelSpec, str]], moved: Mapping[str, str], using: str
) -> dict[int, tuple[Key, Current]]:
    """The registers of links of which one end is among *moved*, by their primary keys."""
    columns = ("pk", "root", "pk_text", "link", "date", "node__ident", "deleted", "change_id")
    found: dict[int, tuple[Key, Current]] = {}
    every = Version.objects.using(using).exclude(link="")
    queries = []
    for part in serialize.chunks(sorted(moved)):
        queries.append(every.filter(root__in=labels, pk_text__in=part))
        queries += [every.filter(root=own.label, link__in=[f"{name}:{text}" for text in part]) for own, name in fields]
    for query in queries:
        for pk, root, text, link, date, node, deleted, change_id in query.values_list(*columns):
            found[pk] = Key(root, text, link), Current(versions.Stamp(date, node), deleted, change_id)
    return found


def _renamed(key: Key, labels: list[str], fields: Iterable[tuple[ModelSpec, str]], moved: Mapping[str, str]) -> Key:
    name, colon, target = key.link.partition(":")
    source = moved.get(key.pk_text, key.pk_text) if key.root in labels else key.pk_text
    points_here = any(own.label == key.root and name == each for own, each in fields)
    target = moved.get(target, target) if points_here else target
    model = registry.by_label(key.root)
    relation = registry.spec(model).links.get(name) if model is not None else None
    if relation is None:  # not a link either: that of merges has no target
        return Key(key.root, source, f"{name}{colon}{target}")
    spec, related = registry.spec(relation.model), registry.spec(relation.related_model)
    if not is_unborn(spec, source) and not is_unborn(related, target):
        pair = references.pk_value(spec, source), references.pk_value(related, target)
        if canonical_pair(relation, pair) != pair:
            source, target = target, source
    return Key(key.root, source, f"{name}:{target}")


def _move_log(
    spec: ModelSpec,
    labels: list[str],
    fields: Iterable[tuple[ModelSpec, str]],
    moved: Mapping[str, str],
    using: str,
) -> None:
    entries = ChangeLog.objects.using(using)
    text = tables.columns(ChangeLog, "pk_text")
    for label in dict.fromkeys([spec.root_label, *labels]):
        keys = tables.columns(ChangeLog, "root", "pk_text")
        tables.update_many(ChangeLog, text, keys, [(kept, label, gone) for gone, kept in moved.items()], using)
        keys = tables.columns(Conflict, "model", "pk_text")
        rows = [(kept, label, gone) for gone, kept in moved.items()]
        tables.update_many(Conflict, tables.columns(Conflict, "pk_text"), keys, rows, using)
    for own, name in fields:
        for part in serialize.chunks(sorted(moved)):
            wanted = {f"{name}:{gone}": f"{name}:{moved[gone]}" for gone in part}
            found = entries.filter(root=own.label, link__in=wanted).values_list("pk", "link")
            renamed = [(wanted[link], pk) for pk, link in found]
            tables.update_many(ChangeLog, tables.columns(ChangeLog, "link"), [ChangeLog._meta.pk], renamed, using)
            keys = tables.columns(Conflict, "model", "link")
            rows = [(now, own.label, former) for former, now in wanted.items()]
            tables.update_many(Conflict, keys[1:], keys, rows, using)


def _links(changed: Mapping[Key, Current], using: str) -> Iterator[Link]:
    """What makes the links between living objects what *changed* says of them."""
    by_field: dict[tuple[ModelSpec, str], dict[Key, Current]] = defaultdict(dict)
    for key, current in changed.items():
        model = registry.by_label(key.root)
        name = key.link.partition(":")[0]
        if model is not None and name in registry.spec(model).links:
            by_field[registry.spec(model), name][key] = current
    for (own, name), registers in by_field.items():
        relation = own.links[name]
        related = registry.spec(relation.related_model)
        sources = {key.pk_text for key in registers}
        targets = {key.link.partition(":")[2] for key in registers}
        mine, theirs = rows_of_family(own, sources, using), rows_of_family(related, targets, using)
        for key, current in registers.items():
            target = key.link.partition(":")[2]
            if mine.get(key.pk_text) and theirs.get(target):
                ends = (
                    Slot(spec=own, pk_text=key.pk_text, rows=mine[key.pk_text]),
                    Slot(spec=related, pk_text=target, rows=theirs[target]),
                )
                yield Link(ends[0], own, relation, ends[1], not current.deleted, None)
