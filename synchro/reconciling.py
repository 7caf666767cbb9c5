"""Reconciling: logging what was written past the log.

The rows of some objects are compared with their last logged states, a chunk at a time, and differences are logged.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from synchro import changelog, pks, serialize, versions
from synchro.models import Action
from synchro.registry import ModelSpec
from synchro.versions import Key


def reconcile(spec: ModelSpec, pk_values: Iterable[Any], using: str) -> int:
    """Log what became of the objects *pk_values* since they were logged; how many changes that were.

    What is pending must be sealed. Objects whose newest change was imported, or is no longer in the log, are left
    alone.
    """
    logged = 0
    for part in serialize.chunks(list(pk_values)):
        texts = {pks.to_text(spec.model, pk): pk for pk in part}
        current = versions.find([Key(spec.root_label, text) for text in texts], using)
        entries = {cur.change_id: key.pk_text for key, cur in current.items() if cur.change_id and not cur.deleted}
        known = {entries[entry]: state for entry, state in changelog.last_states(list(entries), using).items()}
        rows = serialize.row_states(spec, [texts[text] for text in known], using)
        found = []
        for text, state in known.items():
            row = rows.get(texts[text])
            if row is None:
                found.append(changelog.state_entry(spec, texts[text], Action.DELETE, state))
            elif row != state:
                found.append(changelog.state_entry(spec, texts[text], Action.CHANGE, row))
        changelog.append_many(found, using)
        logged += len(found)
    return logged
