"""Scanning: the whole of the tracked tables against the log, by the chunk.

What was written past the log (``update()``, ``bulk_create()``, raw SQL, rows from before the installation) is logged:
deletions first, children before parents; then new and changed rows, parents before children; then links. Each chunk
has a transaction of its own, so that nobody has to wait long.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

from django.db import DEFAULT_DB_ALIAS, models
from django.utils.translation import gettext as _

from synchro import nodes, ordering, progress, reconciling, registry, restating, walking
from synchro.actors import nobody
from synchro.changelog import Entry, Restated
from synchro.errors import ScanError
from synchro.models import Action
from synchro.pause import DisableSynchroLog
from synchro.reconciling import LinkField, Pair
from synchro.registry import ModelClass
from synchro.seal import seal, seal_pending

_COUNTS = {
    Action.ADD: "added",
    Action.CHANGE: "changed",
    Action.DELETE: "deleted",
    Action.LINK: "linked",
    Action.UNLINK: "unlinked",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class ScanReport:
    """What was found, and logged unless ``dry_run``. ``models``: label → the same counts."""

    added: int = 0
    changed: int = 0
    deleted: int = 0
    linked: int = 0
    unlinked: int = 0
    dry_run: bool = False
    models: Mapping[str, Mapping[str, int]] = field(default_factory=dict)

    @property
    def total(self) -> int:
        return self.added + self.changed + self.deleted + self.linked + self.unlinked

    def as_dict(self) -> dict[str, Any]:
        """The numbers as ``--json`` prints them."""
        return asdict(self)


def scan(
    models: Iterable[str | type[models.Model]] | None = None,
    *,
    dry_run: bool = False,
    whole: bool = False,
    using: str = DEFAULT_DB_ALIAS,
) -> ScanReport:
    """Log what the tables of *models* (labels, apps or classes; all that are tracked) hold and the log does not say.

    *dry_run* only counts. *whole* also logs, as it is, whatever is no longer in the log. Raises
    ``ScanError`` for what is not tracked, ``ClockError``, and ``RuntimeError`` inside a transaction.
    """
    wanted = list(registry.tracked()) if models is None else named_models(models)
    run = _Scan(using, dry_run=dry_run, whole=whole)
    # What is found is logged here; nothing else is to be, whatever listens to signals.
    with DisableSynchroLog(), nobody():
        run.all(wanted)
    return run.report()


def named_models(names: Iterable[str | type[models.Model]]) -> list[ModelClass]:
    """The tracked models that *names* (labels, apps, classes) mean. Raises ``ScanError`` for a name of none."""
    found: dict[ModelClass, None] = {}
    for each in names:
        named = _named(each) if isinstance(each, str) else [each]
        tracked = [model for model in named if registry.is_tracked(model)]
        if not tracked:
            raise ScanError(
                _("%(name)s names nothing that is tracked.") % {"name": each}, hint=_("See SYNCHRO_MODELS.")
            )
        found.update((registry.spec(model).model, None) for model in tracked)
    return list(found)


def _named(name: str) -> list[ModelClass]:
    model = registry.by_label(name) if "." in name else None
    if model is not None:
        return [model]
    return [
        model for model in registry.tracked() if name.lower() in (model._meta.app_label, model._meta.app_config.name)
    ]


class _Scan:
    def __init__(self, using: str, *, dry_run: bool, whole: bool) -> None:
        self._using = using
        self._whole = whole
        self._dry_run = dry_run
        self._counts: dict[str, Counter[str]] = defaultdict(Counter)
        self._looked_at = 0

    def all(self, wanted: Sequence[ModelClass]) -> None:
        units = [model for model in ordering.parents_first(wanted) if not _covered(model, wanted)]
        if not self._dry_run:
            seal(self._using)
        for root in dict.fromkeys(registry.spec(model).root for model in reversed(units)):
            for pk_values in walking.gone(root, self._using):
                self._objects(root, pk_values)
        for model in units:
            for pk_values in walking.rows(model, self._using):
                self._objects(model, pk_values)
                self._looked_at += len(pk_values)
                progress.tell("scanning", self._looked_at)
        for relation in registry.tracked_links().values():
            if any(registry.spec(model).links.get(relation.name) is relation for model in wanted):
                for pairs in walking.link_rows(relation, self._using):
                    self._links(relation, pairs)
                    self._looked_at += len(pairs)
                    progress.tell("scanning", self._looked_at)
                for pairs in walking.gone_links(relation, self._using):
                    self._links(relation, pairs)
        progress.tell("scanning", self._looked_at, self._looked_at)

    def report(self) -> ScanReport:
        total: Counter[str] = Counter()
        for counts in self._counts.values():
            total.update(counts)
        by_model = {label: dict(sorted(counts.items())) for label, counts in sorted(self._counts.items())}
        return ScanReport(**total, dry_run=self._dry_run, models=by_model)

    # --- a chunk of objects, a chunk of links -------------------------------------------------------------------------

    def _objects(self, model: ModelClass, pk_values: Sequence[Any]) -> None:
        spec = registry.spec(model)
        self._carry_out(
            lambda: [entry for _, entry in reconciling.differences(spec, pk_values, self._using, whole=self._whole)],
            lambda: reconciling.reconcile(spec, pk_values, self._using, whole=self._whole),
        )

    def _links(self, relation: LinkField, pairs: Sequence[Pair]) -> None:
        self._carry_out(
            lambda: [
                entry for _, entry in reconciling.link_differences(relation, pairs, self._using, whole=self._whole)
            ],
            lambda: reconciling.reconcile_links(relation, pairs, self._using, whole=self._whole),
        )

    def _carry_out(self, look: Callable[[], list[Entry]], act: Callable[[], list[Entry]]) -> None:
        """*look* at it first: most chunks hold nothing new, and then nobody is kept waiting."""
        entries = look()
        if entries and not self._dry_run:
            with nodes.outermost(self._using):
                node = nodes.lock_own(self._using)
                seal_pending(node, self._using)
                entries = act()
                restating.say_again([each for each in entries if isinstance(each, Restated)], node, self._using)
                # At once: a deletion that waits could be numbered after somebody's later addition.
                seal_pending(node, self._using)
        for entry in entries:
            self._counts[entry.model][_COUNTS[Action(entry.action)]] += 1


def _covered(model: ModelClass, wanted: Sequence[ModelClass]) -> bool:
    """Whether the rows of *model* are looked at with those of a multi-table parent that is tracked, too."""
    root = registry.spec(model).root
    return any(parent in wanted and registry.spec(parent).root is root for parent in model._meta.get_parent_list())
