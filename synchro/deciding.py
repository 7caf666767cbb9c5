"""Who wins: an incoming change, or what is here.

Per object there is one register for its fields, and one for each m2m link; in each the greatest ``(date, node)`` wins,
so that every node comes to the same state whatever the order in which the files arrive. It is a conflict only if
neither change was made on top of the other (the local version is later than the incoming ``base``) and the contents
differ.
"""

from __future__ import annotations

from typing import Any

from changelog_format import Change
from synchro import conf
from synchro.conf import Policy
from synchro.models import Action
from synchro.plan import ConflictFoundError, FoundConflict, Incoming, Plan
from synchro.registry import ModelSpec
from synchro.resolving import LinkPlace, Slot
from synchro.versions import Current, Stamp


def policy_for(spec: ModelSpec, run: Policy | None, default: Policy) -> Policy:
    """The policy of this run, else of the model in the settings, else the default."""
    if run is not None:
        return run
    configured = conf.conflict_policies()
    return configured.get(spec.label) or configured.get("") or default


class Decider:
    """Decides for one bundle, and remembers what it decided against the order of dates."""

    def __init__(self, policy: Policy | None, default: Policy) -> None:
        """*policy* is that of the run, *default* counts where neither the run nor the settings name one."""
        self._policy = policy
        self._default = default
        # What was decided against the order of dates, and for links whether they are there.
        self._kept: dict[tuple[str | None, ...], bool] = {}

    def accept(self, plan: Plan) -> None:
        """*plan* has been carried out. What it kept against the order of dates is kept against later changes too."""
        self._kept.update(((spec.root_label, slot.text), True) for slot, spec in plan.decisions if slot.ours)
        self._kept.update(
            ((spec.label, source.text, name, target.text), present)
            for source, spec, name, target, present in plan.link_decisions
        )

    def kept_link(self, place: LinkPlace) -> bool | None:
        """Whether the link at *place* is there, where that was decided against the order of dates."""
        source, spec, name, target = place
        return self._kept.get((spec.label, source.text, name, target.text))

    def policy_of(self, spec: ModelSpec, change: Incoming) -> Policy:
        """What decides about *change*: a decision of somebody else always counts by its date."""
        return "newest" if change.resolution else policy_for(spec, self._policy, self._default)

    def decide(
        self, plan: Plan, spec: ModelSpec, slot: Slot, change: Incoming, number: int, *, same: bool
    ) -> tuple[bool, bool]:
        """Whether the incoming state is to be applied, and whether that was a conflict (which is then recorded)."""
        here = slot.stamp is not None or spec.label in slot.rows
        if not here:
            return True, False
        local = slot.stamp
        wins = local is None or change.stamp > local
        if local is None and slot.state is None:
            return wins, False  # a row of another table of the family only
        kept = slot.ours or (spec.root_label, slot.text) in self._kept
        concurrent = local is None or kept or self._concurrent(local, change)
        deleting = isinstance(change.record, Change) and change.record.action == Action.DELETE
        if local is not None and slot.deleted:
            same = deleting
        if not concurrent or same or (local == change.stamp):
            return wins, False
        policy = self.policy_of(spec, change)
        decided = {"local": False, "incoming": True}.get(policy, wins)
        if policy == "fail":
            raise ConflictFoundError(describe(spec, slot, change))
        plan.counts["conflicts"] += 1
        plan.details.append(("conflict", change.record.model, change.record.id))
        plan.conflicts.append(
            FoundConflict(
                kind="unlogged" if local is None else "object",
                spec=spec,
                slot=slot,
                change=change,
                local=local,
                local_deleted=slot.deleted,
                state=None if slot.state is None else dict(slot.state),
                winner="incoming" if decided else "local",
                policy=policy,
            )
        )
        if decided != wins:
            # Against the order of dates: a logged change, dated after both, so that every node follows it.
            plan.decisions.append((slot, spec))
            if wins:  # kept all the same: the decision is made on top of the change that lost
                slot.stamp, slot.ours = change.stamp, True
                plan.stamped[slot] = (spec, change.stamp, deleting, number)
        return decided, True

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
    ) -> tuple[bool, bool]:
        """Whether the incoming link change is later, and whether it is to be applied.

        *kept* says whether the link is there where an earlier decision of this import went against the order of dates.
        """
        if current is None:
            return True, True
        wins = change.stamp > current.stamp
        concurrent = kept is not None or (current.stamp != change.stamp and self._concurrent(current.stamp, change))
        here = not current.deleted if kept is None else kept
        if not concurrent or here == present:
            return wins, wins
        policy = self.policy_of(spec, change)
        if policy == "fail":
            raise ConflictFoundError(describe(spec, source, change))
        decided = {"local": False, "incoming": True}.get(policy, wins)
        plan.counts["conflicts"] += 1
        plan.details.append(("conflict", change.record.model, change.record.id))
        plan.conflicts.append(
            FoundConflict(
                kind="link",
                spec=spec,
                slot=source,
                change=change,
                local=current.stamp,
                local_deleted=not here,
                state=None,
                winner="incoming" if decided else "local",
                policy=policy,
            )
        )
        return wins, decided

    @staticmethod
    def _concurrent(local: Stamp, change: Incoming) -> bool:
        """Whether *change* was made without knowing of *local*.

        A node knows its own changes, also those that were held here.
        """
        return local.node != change.stamp.node and (change.base is None or local > change.base)


def describe(spec: ModelSpec, slot: Slot, change: Incoming) -> str:
    """The two sides of a conflict, for a message."""
    record: Any = change.record
    mine = "a row that was never logged" if slot.stamp is None else f"a change of {slot.stamp.node}"
    return f"{spec.label} {record.key or record.id}: {record.date} by {change.stamp.node} against {mine}"


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
