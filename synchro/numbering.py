"""Automatic primary keys of new objects: the same as at their birthplace, where the project wants that.

``SYNCHRO_KEEP_PKS`` is for deployments that start empty, or from a copy, and whose texts hold primary keys (links in
rich text, JSON): as long as a number is free here, an object gets the one under which it was born.
"""

from __future__ import annotations

from collections.abc import Iterable

from synchro import conf, references, serialize, tables, versions
from synchro.models import Reference
from synchro.registry import ModelSpec
from synchro.resolving import Slot
from synchro.versions import Key


def keep_births(root: ModelSpec, slots: Iterable[Slot], using: str) -> None:
    """Give *slots*, new objects that *root* numbers, the numbers of their birthplaces as far as these are free.

    Nothing happens unless the setting says so.
    """
    if not conf.keep_pks():
        return
    wanted: dict[str, Slot] = {}
    for slot in slots:
        text = references.birth_pk(min(slot.ids)) if slot.ids else ""
        if slot.pk_text is None and text.isdecimal() and references.pk_value(root, text) is not None:
            wanted.setdefault(text, slot)
    for text in _taken(root, list(wanted), using):
        wanted.pop(text, None)
    for text, slot in wanted.items():
        slot.pk_text = text
    if wanted:
        tables.advance(root.model, max(map(int, wanted)), using)


def _taken(root: ModelSpec, texts: list[str], using: str) -> set[str]:
    """Those of *texts* that name a row here, or an object that is no more or not yet."""
    found = {key.pk_text for key in versions.find([Key(root.root_label, text) for text in texts], using)}
    for part in serialize.chunks(texts):
        rows = Reference.objects.using(using).filter(model=root.identity_label, pk_text__in=part)
        found.update(rows.values_list("pk_text", flat=True))
        pk_values = [references.pk_value(root, text) for text in part]
        here = tables.rows(root.model, using).filter(pk__in=pk_values)
        found.update(map(str, here.values_list("pk", flat=True)))
    return found
