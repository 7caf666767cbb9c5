"""Saying again, for a snapshot, what the log lost in a reset, or has only under an earlier id of this deployment.

It is said as the change that it was: with its date, its origin and its position there. Dated anew, the state of an
object would win over what somebody else made of it in the meantime.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

from synchro import digests, nodes, reconciling, references, registry, schemas, serialize, tables, versions
from synchro.changelog import Restated
from synchro.models import ChangeLog, Node, Version
from synchro.versions import Key

_NUMBERS = tables.columns(Version, "seq", "base", "base_node")
_POSITION = tables.columns(ChangeLog, "log", "seq")
_RESTATED = tables.columns(
    ChangeLog,
    *("model", "root", "pk_text", "link", "action", "captured", "payload", "version"),
    *("imported", "log", "seq", "date", "base", "base_node", "origin", "origin_seq"),
)


def remember(using: str) -> None:
    """Note which changes the versions are, before these leave the log; not where a row is not what was logged of it."""
    known = Version.objects.using(using).filter(deleted=False, change_id__isnull=False)
    for part in references.by_chunk(known, "pk", "change_id"):
        changes = ChangeLog.objects.using(using).filter(pk__in=[change for _, change in part])
        found = {pk: numbers for pk, *numbers in changes.values_list("pk", "origin_seq", "base", "base_node")}
        rows = [(*found[change], pk) for pk, change in part if change in found]
        tables.update_many(Version, _NUMBERS, [Version._meta.pk], rows, using)
    for label, texts in _unlogged(using):
        Version.objects.using(using).filter(root=label, link="", pk_text__in=texts).update(seq=None)


def _unlogged(using: str) -> Iterator[tuple[str, list[str]]]:
    """Model and primary keys (as text) of the objects whose rows were written past the log."""
    for root in {registry.spec(model).root for model in registry.tracked()}:
        spec = digests.family(root)[0]
        for texts in reconciling.logged_texts(spec.root_label, using):
            pk_values = [pk for text in texts if (pk := references.pk_value(registry.spec(root), text)) is not None]
            differing = reconciling.differences(registry.spec(root), pk_values, using)
            if differing:
                yield spec.root_label, [entry.pk_text for _, entry in differing]


def say_again(entries: Sequence[Restated], node: Node, using: str) -> None:
    """Put the newest changes of the objects and links of *entries* back into the log of *node*, under its lock.

    Those that *node* made go to where they were, which no range has, but a snapshot; those of others to its end.
    """
    schemas.note_own({entry.model for entry in entries}, using)
    for part in serialize.chunks(entries):
        _say_again(part, node, using)
    node.save(using=using, update_fields=["seq"])


def _say_again(entries: Sequence[Restated], node: Node, using: str) -> None:
    current = versions.find([_key(entry) for entry in entries], using)
    logged = ChangeLog.objects.using(using).filter(pk__in=[each.change_id or 0 for each in current.values()])
    here = set(logged.values_list("pk", flat=True))
    lost = _lost([entry for entry in entries if current[_key(entry)].change_id not in here], using)
    makers = nodes.numbers(using)
    moved: list[tuple[Any, ...]] = []
    put_back: list[tuple[Any, ...]] = []
    for entry in entries:
        found = current[_key(entry)]
        maker = makers[found.stamp.node]
        if found.change_id in here:
            node.seq += 1
            moved.append((node.pk, node.seq, found.change_id))
            continue
        if maker != node.pk:
            node.seq += 1
        place = found.seq if maker == node.pk else node.seq
        date = found.stamp.date
        said = (*entry[:5], date, *entry[6:], False)
        put_back.append((*said, node.pk, place, date, *lost[_key(entry)], maker, found.seq))
    tables.update_many(ChangeLog, _POSITION, [ChangeLog._meta.pk], moved, using)
    tables.insert_many(ChangeLog, _RESTATED, put_back, using)
    _point_to(put_back, node, using)


def _key(entry: Restated) -> Key:
    return Key(entry.root, entry.pk_text, entry.link)


def _lost(entries: Sequence[Restated], using: str) -> dict[Key, tuple[int | None, int | None]]:
    """What the changes were made on: date and node."""
    rows = Version.objects.using(using).filter(pk_text__in={entry.pk_text for entry in entries}, seq__isnull=False)
    columns = ("root", "pk_text", "link", "base", "base_node")
    return {Key(*key): (base, base_node) for *key, base, base_node in rows.values_list(*columns)}


def _point_to(rows: Sequence[tuple[Any, ...]], node: Node, using: str) -> None:
    """Let the versions know their changes, which were just inserted as *rows*."""
    places = {row[10]: Key(row[1], row[2], row[3]) for row in rows}
    inserted = ChangeLog.objects.using(using).filter(log=node, seq__in=list(places))
    found = [(pk, *places[seq]) for pk, seq in inserted.values_list("pk", "seq")]
    keys = tables.columns(Version, "root", "pk_text", "link")
    tables.update_many(Version, tables.columns(Version, "change_id"), keys, found, using)
