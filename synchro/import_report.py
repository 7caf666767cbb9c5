"""What an import says of itself."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, replace
from typing import Any

from synchro.drift import Difference

DETAILS, PREVIEWED = 10_000, 100_000
"""Of how many changes a report says what became of which object, for an import and for a preview.

With each of them goes a third of a kilobyte: of 100,000 they would be most of an import's memory.
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class HeldChange:
    """A change that could not be applied yet, and why; ``key`` is its object's natural key, where it has one."""

    model: str
    id: str
    reason: str
    key: list[Any] | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class ImportReport:
    """What an import did, or would do (``dry_run``).

    Counts are of changes; ``held`` counts, ``held_changes`` names some. ``files``: contents that were written;
    ``missing_files`` names some that did not come and are not here. ``schema``: models whose schema here is another one
    than the sender's. ``sender_ahead``: by how many seconds at least the sender's clock is ahead of this machine's (how
    far it is behind cannot be told from a file). ``new_id``: this database turned out to be a restored backup, and goes
    on under this id. ``models``: of each model how many changes were added, changed, deleted, m2m, merged, unchanged,
    stale, conflict, held. ``details``: what became of which object (model and id), the first of them; ``keys``: the
    natural keys of those that have one. Without a file, where only what is held was tried again, ``bundle`` and
    ``file`` are empty.
    """

    bundle: str
    file: str
    node: str
    from_seq: int
    to_seq: int
    records: int
    added: int = 0
    changed: int = 0
    deleted: int = 0
    m2m: int = 0
    merged: int = 0
    unchanged: int = 0
    already_known: int = 0
    stale: int = 0
    conflicts: int = 0
    held: int = 0
    objects: int = 0
    own: bool = False
    dry_run: bool = False
    sender_ahead: float = 0.0
    new_id: str | None = None
    held_changes: tuple[HeldChange, ...] = ()
    files: int = 0
    missing_files: tuple[str, ...] = ()
    schema: tuple[Difference, ...] = ()
    withheld: tuple[str, ...] = ()
    models: Mapping[str, Mapping[str, int]] = field(default_factory=dict)
    details: tuple[tuple[str, str, str], ...] = field(default=(), repr=False)
    keys: Mapping[tuple[str, str], list[Any]] = field(default_factory=dict, repr=False)

    def as_dict(self) -> dict[str, Any]:
        """The numbers as ``--json`` prints them."""
        data = asdict(replace(self, details=(), keys={}))  # which would be copied, one by one
        del data["details"], data["keys"]
        return data
