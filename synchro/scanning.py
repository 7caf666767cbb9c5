"""Scanning: the whole of the tracked tables against the log, by the chunk.

What was written past the log (``update()``, ``bulk_create()``, raw SQL, rows from before the installation) is logged:
deletions first, children before parents; then new and changed rows, parents before children; then links. Each chunk
has a transaction of its own, so that nobody has to wait long.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

from django.db import DEFAULT_DB_ALIAS, models, transaction

from synchro import links, nodes, ordering, reconciling, references, registry, serialize, tables
from synchro.changelog import Entry
from synchro.errors import ScanError
from synchro.models import Action, Version
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

    *dry_run* only counts. *whole* also logs, as it is, each row whose last state is no longer in the log. Raises
    ``ScanError`` for what is not tracked, ``ClockError``, and ``RuntimeError`` inside a transaction.
    """
    wanted = _wanted(models)
    run = _Scan(using, dry_run=dry_run)
    if whole and not dry_run:
        with transaction.atomic(using=using, durable=True):
            Version.objects.using(using).filter(digest__isnull=False).update(digest=None)
    # What is found is logged here; nothing else is to be, whatever listens to signals.
    with DisableSynchroLog():
        run.all(wanted)
    return run.report()


def _wanted(models_: Iterable[str | type[models.Model]] | None) -> list[ModelClass]:
    if models_ is None:
        return list(registry.tracked())
    found: dict[ModelClass, None] = {}
    for each in models_:
        named = _named(each) if isinstance(each, str) else [each]
        tracked = [model for model in named if registry.is_tracked(model)]
        if not tracked:
            raise ScanError(f"{each} names nothing that is tracked.", hint="See SYNCHRO_MODELS.")
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
    def __init__(self, using: str, *, dry_run: bool) -> None:
        self._using = using
        self._dry_run = dry_run
        self._counts: dict[str, Counter[str]] = defaultdict(Counter)

    def all(self, wanted: Sequence[ModelClass]) -> None:
        units = [model for model in ordering.parents_first(wanted) if not _covered(model, wanted)]
        if not self._dry_run:
            seal(self._using)
        for root in dict.fromkeys(registry.spec(model).root for model in reversed(units)):
            for pk_values in self._gone(root):
                self._objects(root, pk_values)
        for model in units:
            for pk_values in self._rows(model):
                self._objects(model, pk_values)
        for through, relation in registry.tracked_links().items():
            if any(registry.spec(model).links.get(relation.name) is relation for model in wanted):
                for pairs in self._link_rows(through, relation):
                    self._links(relation, pairs)
                for pairs in self._gone_links(relation):
                    self._links(relation, pairs)

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
            lambda: [entry for _, entry in reconciling.differences(spec, pk_values, self._using)],
            lambda: reconciling.reconcile(spec, pk_values, self._using),
        )

    def _links(self, relation: LinkField, pairs: Sequence[Pair]) -> None:
        self._carry_out(
            lambda: [entry for _, entry in reconciling.link_differences(relation, pairs, self._using)],
            lambda: reconciling.reconcile_links(relation, pairs, self._using),
        )

    def _carry_out(self, look: Callable[[], list[Entry]], act: Callable[[], list[Entry]]) -> None:
        """*look* at it first: most chunks hold nothing new, and then nobody is kept waiting."""
        entries = look()
        if entries and not self._dry_run:
            with transaction.atomic(using=self._using, durable=True):
                node = nodes.lock_own(self._using)
                seal_pending(node, self._using)
                entries = act()
                # At once: a deletion that waits could be numbered after somebody's later addition.
                seal_pending(node, self._using)
        for entry in entries:
            self._counts[entry.model][_COUNTS[Action(entry.action)]] += 1

    # --- what there is to look at -------------------------------------------------------------------------------------

    def _rows(self, model: ModelClass) -> Iterator[list[Any]]:
        for part in references.by_chunk(tables.rows(model, self._using), "pk"):
            yield [pk for (pk,) in part]

    def _gone(self, root: ModelClass) -> Iterator[list[Any]]:
        """Objects that the log believes alive, and that have no row."""
        classes = reconciling.family(root)
        for texts in reconciling.logged_texts(registry.spec(root).root_label, self._using):
            pk_values = [pk for text in texts if (pk := references.pk_value(classes[0], text)) is not None]
            for each in classes:
                rows = tables.rows(each.model, self._using).filter(pk__in=pk_values).order_by()
                here = set(rows.values_list("pk", flat=True))
                pk_values = [pk for pk in pk_values if pk not in here]
            if pk_values:
                yield pk_values

    def _link_rows(self, through: ModelClass, relation: LinkField) -> Iterator[list[Pair]]:
        source, target = links.through_columns(relation)
        for part in references.by_chunk(tables.rows(through, self._using), "pk", source.attname, target.attname):
            yield [links.canonical_pair(relation, (first, second)) for _, first, second in part]

    def _gone_links(self, relation: LinkField) -> Iterator[list[Pair]]:
        """Links that the log believes to be there, and that have no row."""
        source, target = registry.spec(relation.model), registry.spec(relation.related_model)
        name = f"{relation.name}:"
        rows = Version.objects.using(self._using).filter(
            root=source.label, link__startswith=name, deleted=False
        ).order_by("pk")  # fmt: skip
        after = 0
        while part := list(rows.filter(pk__gt=after).values_list("pk", "pk_text", "link")[: serialize.CHUNK]):
            after = part[-1][0]
            ends = [
                (references.pk_value(source, text), references.pk_value(target, link.removeprefix(name)))
                for _, text, link in part
            ]
            pairs = [pair for pair in ends if None not in pair]
            here = reconciling.present_links(relation, pairs, self._using)
            if missing := [pair for pair in pairs if pair not in here]:
                yield missing


def _covered(model: ModelClass, wanted: Sequence[ModelClass]) -> bool:
    """Whether the rows of *model* are looked at with those of a multi-table parent that is tracked, too."""
    root = registry.spec(model).root
    return any(parent in wanted and registry.spec(parent).root is root for parent in model._meta.get_parent_list())
