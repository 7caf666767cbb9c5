"""Who wins: an incoming change, or what is here.

Per object there is one register for its fields, and one for each m2m link; in each the greatest ``(date, node)`` wins,
so that every node comes to the same state whatever the order in which the files arrive. It is a conflict only if
neither change was made on top of the other (the local version is later than the incoming ``base``) and the contents
differ.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from django.utils.translation import gettext as _

from changelog_format import Change
from synchro import conf
from synchro.ancestry import Ancestry
from synchro.combining import Histories
from synchro.conf import Policy
from synchro.models import Action
from synchro.plan import ConflictFoundError, FoundConflict, Incoming, Plan
from synchro.registry import ModelSpec
from synchro.resolving import LinkPlace, Slot
from synchro.versions import Current, Key, Stamp


def policy_for(spec: ModelSpec, run: Policy | None, default: Policy) -> Policy:
    """The policy of this run, else of the model in the settings, else the default."""
    if run is not None:
        return run
    configured = conf.conflict_policies()
    return configured.get(spec.label) or configured.get("") or default


@dataclass(frozen=True, slots=True, kw_only=True)
class Verdict:
    """``apply``: the incoming state is to be written. ``conflict``: it was one, which is recorded.

    ``taken``: what of it is written where both sides are combined (then ``apply`` is false).
    """

    apply: bool
    conflict: bool = False
    taken: dict[str, Any] | None = None


class Decider:
    """Decides for one bundle, and remembers what it decided against the order of dates."""

    def __init__(
        self,
        policy: Policy | None,
        default: Policy,
        histories: Histories,
        ancestry: Ancestry,
        held: Iterable[tuple[str, str, str]] = (),
        *,
        forced: bool = False,
        compare: bool = True,
    ) -> None:
        """*policy* is that of the run, *default* counts where neither the run nor the settings name one.

        *held* are the objects (root model, text of the primary key) and links that wait for somebody's decision.
        *forced*: that decision has been made, and is for what is incoming. Without *compare* there is nothing to
        decide: what comes is taken.
        """
        self._compare = compare
        self._policy = policy
        self._default = default
        self.forced = forced
        self.histories = histories
        self.ancestry = ancestry
        self._held = set(held)
        # Objects of which both sides together would be what no row can hold.
        self._apart: set[tuple[str, str, str]] = set()
        # What was decided against the order of dates, and for links whether they are there.
        self._kept: dict[tuple[str | None, ...], bool] = {}

    def accept(self, plan: Plan) -> None:
        """*plan* has been carried out. What it kept against the order of dates is kept against later changes too."""
        self.go_on(plan)
        self._kept.update(
            ((spec.root_label, slot.text), True) for slot, spec in (*plan.decisions, *plan.combined) if slot.ours
        )
        self._kept.update(
            ((spec.label, source.text, name, target.text), present)
            for source, spec, name, target, present in plan.link_decisions
        )

    def go_on(self, plan: Plan) -> None:
        """What comes next is planned after *plan*: what waits by then waits on, and what was decided does not."""
        for place, waits in plan.waiting.items():
            (self._held.add if waits else self._held.discard)(place)

    def keep_apart(self, slot: Slot, spec: ModelSpec) -> None:
        """Both sides of this object cannot be combined: the later one wins from now on."""
        self._apart.add((spec.root_label, slot.log_text, ""))

    @property
    def undisturbed(self) -> bool:
        """Whether nothing waits for a decision, and nothing was decided against the order of dates."""
        return not self._held and not self._kept

    def waits(self, plan: Plan, place: tuple[str, str, str]) -> bool:
        """Whether the object or link at *place* waits for somebody's decision."""
        return plan.waiting.get(place, place in self._held)

    def kept_link(self, place: LinkPlace) -> bool | None:
        """Whether the link at *place* is there, where that was decided against the order of dates."""
        source, spec, name, target = place
        return self._kept.get((spec.label, source.text, name, target.text))

    def policy_of(self, spec: ModelSpec, change: Incoming) -> Policy:
        """What decides about *change*: a decision of somebody else always counts by its date."""
        return "newest" if change.resolution else policy_for(spec, self._policy, self._default)

    def decide(
        self,
        plan: Plan,
        spec: ModelSpec,
        slot: Slot,
        change: Incoming,
        number: int,
        *,
        same: bool,
        given: Mapping[str, Any] | None = None,
    ) -> Verdict:
        """What is to become of the incoming state *given*; *same*: the row holds it already."""
        here = slot.stamp is not None or spec.label in slot.rows
        if not here or not self._compare:
            return Verdict(apply=True)
        local = slot.stamp
        wins = local is None or change.stamp > local or self.forced
        if local is None and slot.state is None:
            return Verdict(apply=wins)  # a row of another table of the family only
        place = (spec.root_label, slot.log_text, "")
        kept = slot.ours or (spec.root_label, slot.text) in self._kept
        concurrent = local is None or kept or self._concurrent(local, change, Key(*place))
        deleting = isinstance(change.record, Change) and change.record.action == Action.DELETE
        if local is not None and slot.deleted:
            same = deleting
        if change.resolution and wins:
            plan.closed.append((spec.root_label, slot, "", change, len(plan.conflicts)))
            plan.waiting[place] = False
        waits = self.waits(plan, place) and not change.resolution and (wins or concurrent)
        if same or local == change.stamp or not (concurrent or waits) or self.forced:
            return Verdict(apply=wins)
        policy = "hold" if waits else self.policy_of(spec, change)
        if policy == "fail":
            raise ConflictFoundError(describe(spec, slot, change))
        taken = None
        if given is not None and not slot.deleted and place not in self._apart:
            taken = self._taken(policy, spec, slot, change, given, wins=wins)
        decided = {"local": False, "incoming": True, "hold": False}.get(policy, wins)
        winner = "held" if policy == "hold" else _winner(taken, decided=decided)
        _record(plan, spec, slot, change, number, winner, policy)
        if policy == "hold":
            plan.waiting[place] = True
            return Verdict(apply=False, conflict=True)
        if taken is None and decided == wins:
            return Verdict(apply=decided, conflict=True)
        # Against the order of dates, or both: a logged change, dated after both, so that every node follows it.
        (plan.decisions if taken is None else plan.combined).append((slot, spec))
        if wins:  # kept all the same: the decision is made on top of the change that lost
            slot.stamp = change.stamp
            plan.stamped[slot] = (spec, change.stamp, deleting, number)
        slot.ours = wins or taken is not None
        if taken is not None:
            self.histories.merged(spec, slot, change.stamp)
        return Verdict(apply=decided and taken is None, conflict=True, taken=taken)

    def _taken(
        self, policy: Policy, spec: ModelSpec, slot: Slot, change: Incoming, given: Mapping[str, Any], *, wins: bool
    ) -> dict[str, Any] | None:
        """What of *given* goes into the row that is here, so that it has both; None where one of them wins wholly."""
        taken = self.histories.combined(spec, slot, change, given) if policy == "merge" else None
        if taken is None and not wins and policy in ("newest", "merge"):
            taken = self.histories.untold(spec, slot, given) or None
        return taken

    def decide_link(
        self,
        plan: Plan,
        spec: ModelSpec,
        change: Incoming,
        source: Slot,
        current: Current | None,
        *,
        present: bool,
        kept: bool | None,
        number: int,
        place: Key,
    ) -> tuple[bool, bool]:
        """Whether the incoming link change is later, and whether it is to be applied.

        *kept* says whether the link is there where an earlier decision of this import went against the order of dates.
        """
        if current is None:
            return True, True
        wins = change.stamp > current.stamp or self.forced
        concurrent = kept is not None or (
            current.stamp != change.stamp and self._concurrent(current.stamp, change, place)
        )
        here = not current.deleted if kept is None else kept
        if change.resolution and wins:
            plan.closed.append((spec.label, source, place.link, change, len(plan.conflicts)))
            plan.waiting[place] = False
        waits = self.waits(plan, place) and not change.resolution and (wins or concurrent)
        if here == present or not (concurrent or waits) or self.forced:
            return wins, wins
        policy = "hold" if waits else self.policy_of(spec, change)
        if policy == "fail":
            raise ConflictFoundError(describe(spec, source, change))
        decided = {"local": False, "incoming": True, "hold": False}.get(policy, wins)
        _count(plan, change)
        plan.conflicts.append(
            FoundConflict(
                kind="link",
                spec=spec,
                slot=source,
                change=change,
                local=current.stamp,
                local_deleted=not here,
                state=None,
                winner="held" if policy == "hold" else _winner(None, decided=decided),
                policy=policy,
                number=number,
                link=place.link,
            )
        )
        if policy == "hold":
            plan.waiting[place] = True
            return False, False
        return wins, decided

    def _concurrent(self, local: Stamp, change: Incoming, key: Key) -> bool:
        """Whether *change* and *local* were made without knowing of each other.

        A node knows its own changes, also those that were held here.
        """
        if local.node == change.stamp.node or not (change.base is None or local > change.base):
            return False
        return change.stamp > local or not self.ancestry.made_upon(key, local, change.stamp)


def _winner(taken: dict[str, Any] | None, *, decided: bool) -> str:
    return "merged" if taken is not None else "incoming" if decided else "local"


def _record(
    plan: Plan, spec: ModelSpec, slot: Slot, change: Incoming, number: int, winner: str, policy: Policy
) -> None:
    _count(plan, change)
    plan.conflicts.append(
        FoundConflict(
            kind="unlogged" if slot.stamp is None else "object",
            spec=spec,
            slot=slot,
            change=change,
            local=slot.stamp,
            local_deleted=slot.deleted,
            state=None if slot.state is None else dict(slot.state),
            winner=winner,
            policy=policy,
            number=number,
        )
    )


def _count(plan: Plan, change: Incoming) -> None:
    plan.counts["conflicts"] += 1
    plan.details.append(("conflict", change.record.model, change.record.id))


def describe(spec: ModelSpec, slot: Slot, change: Incoming) -> str:
    """The two sides of a conflict, for a message."""
    record: Any = change.record
    if slot.stamp is None:
        text = _("%(model)s %(object)s: %(date)s by %(node)s against a row that was never logged")
    else:
        text = _("%(model)s %(object)s: %(date)s by %(node)s against a change of %(other)s")
    return text % {
        "model": spec.label,
        "object": record.key or record.id,
        "date": record.date,
        "node": change.stamp.node,
        "other": "" if slot.stamp is None else slot.stamp.node,
    }


def stamp(
    plan: Plan,
    slot: Slot,
    spec: ModelSpec,
    change: Incoming,
    number: int,
    *,
    deleted: bool,
    local: Stamp | None,
) -> None:
    """The register of *slot* is now at *change*, unless a later one was kept there."""
    if local is None or change.stamp > local:
        slot.stamp, slot.deleted = change.stamp, deleted
        plan.stamped[slot] = (spec, change.stamp, deleted, number)
