"""What deleted objects were last: a parent that a living child needs comes back as it was before it was deleted."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable

import orjson

from changelog_format import Change
from synchro import registry, serialize
from synchro.models import Action, ChangeLog
from synchro.plan import Incoming
from synchro.portable import PORTABLE_COLUMNS, LogRow, Translator
from synchro.registry import ModelSpec
from synchro.resolving import Slot


class LastStates:
    """The newest states in the log of some objects, as records of those changes."""

    def __init__(self, own_ident: str, using: str) -> None:
        self._own = own_ident
        self._using = using
        self._of: dict[Slot, Incoming | None] = {}

    def load(self, slots: Iterable[Slot]) -> list[Incoming]:
        """Read those of *slots* that were not read yet; a handful of queries a model. What was found."""
        by_root: dict[ModelSpec, dict[str, Slot]] = defaultdict(dict)
        for slot in slots:
            if slot not in self._of:
                self._of[slot] = None
                by_root[registry.spec(slot.spec.root)][slot.log_text] = slot
        found: list[Incoming] = []
        for root, of_root in by_root.items():
            newest: dict[str, LogRow] = {}
            for part in serialize.chunks(sorted(of_root)):
                rows = ChangeLog.objects.using(self._using).filter(root=root.label, link="", pk_text__in=part)
                rows = rows.exclude(date=None).exclude(payload="").order_by("pk_text", "-date", "-origin__ident")
                for row in map(LogRow._make, rows.values_list(*PORTABLE_COLUMNS).iterator(serialize.CHUNK)):
                    if row.pk_text not in newest and _tells(row):
                        newest[row.pk_text] = row
            # What a deletion notes is the state that it ended.
            told = [row._replace(action=Action.CHANGE.value) if not row.imported else row for row in newest.values()]
            translated = Translator(self._own, self._using).records(told)
            records = (record for record in translated if isinstance(record, Change))
            for row, record in zip(told, records, strict=True):
                change = self._of[of_root[row.pk_text]] = Incoming.of(record, self._own, row.version)
                found.append(change)
        return found

    def of(self, slot: Slot) -> Incoming | None:
        """The newest state of *slot* in the log, if it has one."""
        return self._of.get(slot)


def _tells(row: LogRow) -> bool:
    """Whether the change has the whole state of its object."""
    data = orjson.loads(row.payload)
    if row.imported:
        return data.get("fields") is not None
    model = registry.by_label(row.model)
    if row.action != Action.DELETE or model is None:
        return bool(data)
    return all(column.name in data for column in registry.spec(model).fields)  # what the deleted instance held
