"""Changes that a clock far ahead has dated, and that have not left this deployment, get the date of now.

A change that is dated beyond the tolerance stops its deployment, for it would win against everybody until that date. As
long as nobody else can have it, its date is nobody's business. What was exported keeps it: others know a change by it.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

import orjson
from django.db import DEFAULT_DB_ALIAS
from django.db.models import Max, Q, QuerySet
from django.utils.translation import gettext as _

from changelog_format import Succession
from changelog_format.dates import format_date
from synchro import changelog, conf, nodes, serialize, tables
from synchro.errors import ClockError
from synchro.models import Bundle, ChangeLog, Destination, Node, Version
from synchro.seal import tolerance


@dataclass(frozen=True, slots=True, kw_only=True)
class RedateReport:
    """How many changes got another date, or would (``dry_run``): ``pending`` ones, and ``sealed`` ones with a position.

    ``earliest`` and ``latest`` are the dates that they had.
    """

    pending: int
    sealed: int
    earliest: str | None
    latest: str | None
    dry_run: bool

    def as_dict(self) -> dict[str, Any]:
        """The numbers as ``--json`` prints them."""
        return asdict(self)


def redate(*, dry_run: bool = False, using: str = DEFAULT_DB_ALIAS) -> RedateReport:
    """Date what is dated beyond the tolerance, and has not left this deployment, now, in the order of the log.

    They stay later than everything else in the log, so what was decided in their favour stands. *dry_run* only counts.
    Raises ``ClockError``, and changes nothing, where one of those changes was exported, or is another deployment's.

    A bundle that was written and could not be noted, because the machine stopped at that moment, counts as not
    exported: whoever takes it all the same refuses the next one as a fork.
    """
    with nodes.outermost(using):
        node = nodes.lock_own(using)
        limit = changelog.now() + tolerance()
        log = ChangeLog.objects.using(using)
        pending = changelog.pending(using).filter(captured__gt=limit)
        sealed = log.filter(log=node, date__gt=limit)
        _refuse_known(node, sealed, limit, using)
        moments: list[Any] = [*pending.values_list("captured", flat=True), *sealed.values_list("date", flat=True)]
        report = RedateReport(
            pending=pending.count(),
            sealed=sealed.count(),
            earliest=format_date(min(moments)) if moments else None,
            latest=format_date(max(moments)) if moments else None,
            dry_run=dry_run,
        )
        if not dry_run:
            pending.update(captured=changelog.now())
            _date_sealed(node, sealed, limit, using)
    return report


def _refuse_known(node: Node, sealed: QuerySet[ChangeLog], limit: int, using: str) -> None:
    """Refuse to touch what others may know by its date."""
    known = sealed.filter(Q(seq__lte=_left(node, using)) | ~Q(origin=node)).order_by("-date")
    found = known.values_list("date", flat=True).first()
    if found is None:  # what is no longer in the log, after a reset or pruning, was let go as exported
        versions = Version.objects.using(using).filter(date__gt=limit)
        found = versions.exclude(node=node, date__in=sealed.values("date")).aggregate(latest=Max("date"))["latest"]
    if found is not None:
        raise ClockError(
            _("A change that is dated %(date)s was exported, or is another deployment's: it keeps its date.")
            % {"date": format_date(found)},
            hint=_(
                "Nothing was changed. Raise the option clock_tolerance, here and where the bundles of this deployment "
                "go, until that date has passed."
            ),
        )


def _left(node: Node, using: str) -> int:
    """The position up to which somebody else may have the log of *node*."""
    destinations = Destination.objects.using(using).filter(log=node)
    if destinations.filter(name=conf.configured_remote()).exists():
        return node.seq  # options.last_check may have set that one back
    sent = Bundle.objects.using(using).filter(direction=Bundle.Direction.SENT, node=node)
    peers = Node.objects.using(using).filter(own=False)
    ends = [
        destinations.aggregate(most=Max("seq"))["most"],
        sent.aggregate(most=Max("last_seq"))["most"],
        peers.aggregate(most=Max("acked_seq"))["most"],
        node.reset_seq,
        node.pruned_seq,
    ]
    if node.succession:  # others know these under the id of before
        moved = Succession.from_dict(orjson.loads(node.succession)).moved
        ends += [run.at + run.last - run.first for run in moved]
    return max(end or 0 for end in ends)


def _date_sealed(node: Node, sealed: QuerySet[ChangeLog], limit: int, using: str) -> None:
    rows: list[tuple[Any, ...]] = list(sealed.order_by("seq").values_list("pk", "date"))
    if not rows:
        return
    kept = [
        model.objects.using(using).filter(date__lte=limit).aggregate(latest=Max("date"))["latest"] or 0
        for model in (ChangeLog, Version)
    ]
    clock = max(*kept, changelog.now() - 1)
    now: dict[int, int] = {}
    for _pk, date in rows:
        clock += 1
        now[date] = clock
    for part in serialize.chunks(rows):
        dated = [(now[date], pk) for pk, date in part]
        tables.update_numbers(ChangeLog, tables.columns(ChangeLog, "date"), dated, using)
    for model, column, of in (
        (ChangeLog, "base", "base_node"),
        (Version, "date", "node"),
        (Version, "base", "base_node"),
    ):
        _follow(model, column, {of: node, f"{column}__gt": limit}, now, using)
    node.clock = clock
    node.save(using=using, update_fields=["clock"])


def _follow(
    model: type[ChangeLog | Version], column: str, wanted: Mapping[str, Any], now: Mapping[int, int], using: str
) -> None:
    """What names the dates of before names those of *now*."""
    rows = list(model.objects.using(using).filter(**wanted).values_list(column, "pk"))
    for part in serialize.chunks(rows):
        dated = [(now[date], pk) for date, pk in part]
        tables.update_numbers(model, tables.columns(model, column), dated, using)
