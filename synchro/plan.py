"""What an import would do: the words in which :mod:`synchro.planner` says it and :mod:`synchro.apply` reads it."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from django.db import models

from changelog_format import Change, ObjectRecord
from changelog_format.dates import parse_date
from synchro import upcasting
from synchro.conf import Policy
from synchro.registry import ModelSpec
from synchro.resolving import Slot
from synchro.versions import Key, Stamp


class HoldError(Exception):
    """This record cannot be applied now; the text says why."""


class DeadTargetError(HoldError):
    """What the record needs was deleted here."""


class VoidError(HoldError):
    """This record means nothing here: by the upcasters it has no counterpart in the present version of its model."""


class ConflictFoundError(Exception):
    """There is a conflict, and the policy is to fail."""


@dataclass(frozen=True, slots=True)
class Incoming:
    """A record as the importer handles it: the change, its date, and what it was made on.

    ``record`` is lifted to the version of its model that is installed here, as far as upcasters lead; ``arrived`` is
    what came, in
    the version ``arrived_version``. ``fault``: why it could not be lifted; ``void``: it has no counterpart here.
    """

    record: Change | ObjectRecord
    stamp: Stamp
    base: Stamp | None
    arrived: Change | ObjectRecord
    origin_seq: int = 0
    version: int = 1
    arrived_version: int = 1
    fault: str | None = None
    void: bool = False

    @classmethod
    def of(
        cls, arrived: Change | ObjectRecord, sender: str, version: int, keys: Mapping[str, int] | None = None
    ) -> Incoming:
        """*sender* is the node that wrote the bundle: changes that name no origin are its own.

        *version* is that of the record's model. *keys*: the older versions of other models in which the sender's own
        changes name natural keys.
        """
        record, lifted_version, fault, void = arrived, version, None, False
        try:
            lifted = upcasting.lift(arrived, version)
        except upcasting.UpcastError as error:
            fault = str(error)
        else:
            lifted_version, void = lifted.version, lifted.record is None
            record = arrived if lifted.record is None else lifted.record
            if keys and (isinstance(arrived, ObjectRecord) or arrived.origin is None):
                record = upcasting.lift_targets(record, keys)
        if isinstance(arrived, ObjectRecord) or isinstance(record, ObjectRecord):
            return cls(
                record, Stamp(0, sender), None, arrived, version=lifted_version, arrived_version=version, fault=fault,
                void=void,
            )  # fmt: skip
        node = record.origin.node if record.origin else sender
        base = None if record.base is None else Stamp(parse_date(record.base), record.base_node or node)
        seq = record.origin.seq if record.origin else record.seq
        stamp = Stamp(parse_date(record.date), node)
        return cls(record, stamp, base, arrived, seq, lifted_version, version, fault, void)

    @property
    def resolution(self) -> bool:
        """Whether this is a decision between two versions: it counts by its date, whatever the policy here.

        Otherwise nodes with different policies would decide against each other's decisions for ever.
        """
        return isinstance(self.record, Change) and self.record.resolution


@dataclass(slots=True)
class Write:
    """Create or overwrite an object's row.

    ``values``: field name → JSON form, or the slot that a foreign key points to. ``present``: the models of a
    multi-table family in whose tables the object had a row before. ``wholly``: a row that is overwritten gets defaults
    in its skipped fields, as one that is created.
    """

    slot: Slot
    spec: ModelSpec
    values: dict[str, Any]
    created: bool
    change: Incoming | None
    present: frozenset[str] = frozenset()
    wholly: bool = False


@dataclass(slots=True)
class Remove:
    """Delete an object's rows in the tables of ``spec`` and its parents, and its links.

    ``kept`` is what the object comes back as later in the plan: its rows in the tables of that model stay.
    """

    slot: Slot
    spec: ModelSpec
    change: Incoming | None
    kept: ModelSpec | None = None

    @property
    def tables(self) -> list[type[models.Model]]:
        """The models from whose tables rows go, the most derived first."""
        kept = set() if self.kept is None else set(table_models(self.kept))
        return [model for model in table_models(self.spec)[::-1] if model not in kept]


@dataclass(slots=True)
class Link:
    """Make (``present``) or remove one m2m link."""

    source: Slot
    spec: ModelSpec
    field: models.ManyToManyField[Any, Any]
    target: Slot
    present: bool
    change: Incoming | None


Operation = Write | Remove | Link


@dataclass(frozen=True, slots=True)
class Fold:
    """Two objects that turned out to be one, each with a row or a history here: they are folded, then planned again.

    ``one`` and ``other`` are how the log names them. With ``announce`` it was found out here, and others are to be
    told. ``called`` is an id by which the record called one of them.
    """

    spec: ModelSpec
    one: str
    other: str
    announce: bool
    called: str = ""


@dataclass(slots=True)
class FoundConflict:
    """Two versions, before anything was overwritten: ``state`` are the local row's values (None: it has none).

    ``number`` is that of the incoming change in its chunk, ``link`` how the log calls the m2m link, if it is about one.
    ``winner``: "local", "incoming", "merged" (both), "held" (neither yet).
    """

    kind: str
    spec: ModelSpec
    slot: Slot
    change: Incoming
    local: Stamp | None
    local_deleted: bool
    state: dict[str, Any] | None
    winner: str
    policy: Policy
    number: int | None = None
    link: str = ""

    @property
    def key(self) -> Key:
        """What it is about."""
        return Key(self.spec.label if self.link else self.spec.root_label, self.slot.log_text, self.link)


NO_RECORD = -1
"""In the place of a record's number in its chunk: what none of them is about."""


@dataclass(slots=True)
class Plan:
    """The outcome for one chunk.

    ``orphans``: those of ``held`` that need something that was deleted here. ``held_objects``: number of an object
    record that could not be used yet → why.
    ``slots``: number in the chunk → the object that the change is about, for the log; ``stamped`` and ``stamped_links``
    are the registers that the chunk moves. ``revived``: objects that get a row again, and their names until now.
    ``waiting``: whether an object or link waits for a decision after the chunk, where the chunk changed that.
    ``closed``: what was decided elsewhere, and how many of ``conflicts`` had been found before.
    """

    operations: list[Operation] = field(default_factory=list)
    conflicts: list[FoundConflict] = field(default_factory=list)
    held: dict[int, str] = field(default_factory=dict)
    orphans: set[int] = field(default_factory=set)
    held_objects: dict[int, str] = field(default_factory=dict)
    counts: Counter[str] = field(default_factory=Counter)
    slots: dict[int, Slot] = field(default_factory=dict)
    targets: dict[int, Slot] = field(default_factory=dict)
    stamped: dict[Slot, tuple[ModelSpec, Stamp, bool, int]] = field(default_factory=dict)
    stamped_links: list[tuple[Slot, ModelSpec, str, Slot, Stamp, bool, int]] = field(default_factory=list)
    decisions: list[tuple[Slot, ModelSpec]] = field(default_factory=list)
    combined: list[tuple[Slot, ModelSpec]] = field(default_factory=list)
    closed: list[tuple[str, Slot, str, Incoming, int]] = field(default_factory=list)
    waiting: dict[tuple[str, str, str], bool] = field(default_factory=dict)
    link_decisions: list[tuple[Slot, ModelSpec, str, Slot, bool]] = field(default_factory=list)
    merges: list[tuple[Slot, ModelSpec, str, str]] = field(default_factory=list)
    folds: list[Fold] = field(default_factory=list)
    revived: list[tuple[Slot, str | None]] = field(default_factory=list)
    attached: list[tuple[Slot, ModelSpec, str]] = field(default_factory=list)
    deferred: list[tuple[Slot, ModelSpec, Incoming]] = field(default_factory=list)
    nulled: list[tuple[ModelSpec, str]] = field(default_factory=list)
    details: list[tuple[str, str, str]] = field(default_factory=list)


def table_models(spec: ModelSpec) -> list[type[models.Model]]:
    """The models whose tables hold an object of *spec*, the topmost parent first."""
    parents = list(spec.model._meta.get_parent_list())
    return [*sorted(parents, key=lambda model: len(model._meta.get_parent_list())), spec.model]
