"""What is known of rows whose states are no longer in the log: a digest of each."""

from __future__ import annotations

import hashlib
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import orjson
from django.db import models

from synchro import changelog, pks, references, registry, serialize, tables
from synchro.models import Version
from synchro.registry import ModelSpec
from synchro.versions import Key

ModelClass = type[models.Model]

_DIGEST = tables.columns(Version, "digest")
_KEYS = tables.columns(Version, "root", "pk_text", "link")


def of_state(state: serialize.State) -> int:
    """64 bits that tell whether a row is as it was, where its state itself is no longer in the log."""
    text = orjson.dumps(state, option=orjson.OPT_SORT_KEYS)
    return int.from_bytes(hashlib.blake2b(text, digest_size=8).digest(), "big", signed=True)


def remembered(keys: Sequence[Key], using: str) -> dict[Key, int | None]:
    """The digests that were noted of objects of one family."""
    found: dict[Key, int | None] = {}
    for part in serialize.chunks(keys):
        rows = Version.objects.using(using).filter(
            root=part[0].root, pk_text__in=[key.pk_text for key in part], link=""
        )
        found.update((Key(part[0].root, text), number) for text, number in rows.values_list("pk_text", "digest"))
    return found


def store(root_label: str, found: Mapping[str, int], using: str) -> None:
    """Note the digests *found*, by the text of the primary key."""
    rows = [(number, root_label, text, "") for text, number in found.items()]
    tables.update_many(Version, _DIGEST, _KEYS, rows, using)


def of_rows(spec: ModelSpec, texts: Iterable[str], using: str) -> dict[str, int]:
    """Text of the primary key → digest of what the rows of a family hold now."""
    return {text: of_state(state) for text, (_, state) in row_states(spec, texts, using).items()}


def row_states(spec: ModelSpec, texts: Iterable[str], using: str) -> dict[str, tuple[ModelSpec, serialize.State]]:
    """Text of the primary key → the most derived model of the family that has a row of it, with its state."""
    root = spec.root
    wanted = [pk for text in texts if (pk := references.pk_value(registry.spec(root), text)) is not None]
    found = owners(family(root), wanted, using)
    return {pks.to_text(root, pk): next(iter(rows.items())) for pk, rows in found.items() if rows}


def family(root: ModelClass) -> list[ModelSpec]:
    """The tracked models whose objects' history is that of *root*, the most derived ones first."""
    found = [registry.spec(model) for model in registry.tracked() if registry.spec(model).root is root]
    return sorted(found, key=lambda each: (-len(each.model._meta.get_parent_list()), each.label))


def owners(
    classes: Sequence[ModelSpec], pk_values: Sequence[Any], using: str
) -> dict[Any, dict[ModelSpec, serialize.State]]:
    """Primary key → the most derived models that have a row of it, with its state."""
    found: dict[Any, dict[ModelSpec, serialize.State]] = defaultdict(dict)
    for each in classes:
        wanted = [pk for pk in pk_values if not any(issubclass(seen.model, each.model) for seen in found.get(pk, ()))]
        for child in registry.descendants(each.model):
            other = registry.spec(child)
            if other.root is not each.root:  # logged as a child whose history belongs to another parent
                taken = changelog.pks_of_child(each, other, wanted, using)
                wanted = [pk for pk in wanted if pk not in taken]
        for pk, state in serialize.row_states(each, wanted, using).items():
            found[pk][each] = state
    return found
