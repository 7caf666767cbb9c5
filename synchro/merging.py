"""Two rows with histories that turn out to be one object: both are folded into one.

The later state wins, what points to the other row is made to point to the one that stays, and both histories go on as
one. No deletion is logged: the object lives on. The values that lost are kept in a conflict record.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any

from changelog_format import Change, Target
from changelog_format.dates import format_date
from synchro import apply, merging_rows, portable, reasons, references, registry, serialize, tables, versions
from synchro.merging_registers import move_registers
from synchro.models import MergedRow
from synchro.plan import Fold, FoundConflict, HoldError, Incoming, Operation, Remove, Write
from synchro.registry import ModelSpec
from synchro.resolving import Slot, is_unborn, rows_of_family
from synchro.versions import Current, Key, Stamp

NEVER = Stamp(0, "")


@dataclass(slots=True)
class Outcome:
    """What the rest of the import has to know of the folds that were carried out.

    ``merged``: ids that this node found to be one object. ``deferred``: objects that live here and whose newest change,
    by the merge, is a deletion. ``moved``: root model and text of the row that is gone → the slot that it became.
    ``tables``: those in which there are foreign keys that may point to what is gone.
    """

    merged: list[tuple[Slot, ModelSpec, str, str]] = field(default_factory=list)
    deferred: list[tuple[Slot, ModelSpec, Incoming]] = field(default_factory=list)
    moved: dict[tuple[str, str], Slot] = field(default_factory=dict)
    conflicts: list[FoundConflict] = field(default_factory=list)
    tables: set[str] = field(default_factory=set)


@dataclass(slots=True)
class _Half:
    """One of the two: how the log names it, its ids, the tables in which it has a row, its newest change, its state."""

    text: str
    ids: set[str]
    rows: set[str]
    current: Current | None
    spec: ModelSpec
    state: dict[str, Any] | None = None

    @property
    def stamp(self) -> Stamp:
        return self.current.stamp if self.current is not None else NEVER

    @property
    def deleted(self) -> bool:
        return self.current is not None and self.current.deleted

    def slot(self) -> Slot:
        unborn = is_unborn(self.spec, self.text)
        return Slot(
            spec=self.spec, ids=set(self.ids), pk_text=None if unborn else self.text, rows=set(self.rows),
            stamp=self.stamp, deleted=self.deleted, state=self.state, unborn=self.text if unborn else None,
        )  # fmt: skip


@dataclass(slots=True)
class _Pair:
    kept: _Half
    gone: _Half


class Merger:
    """Folds what one plan found to be folded; everything by the chunk."""

    def __init__(self, own_ident: str, node_ids: dict[str, int], using: str) -> None:
        """*node_ids* are the primary keys of the nodes by id, of all that have changes here."""
        self._own = own_ident
        self._node_ids = node_ids
        self._using = using
        self.outcome = Outcome()

    def carry_out(self, folds: Sequence[Fold]) -> Outcome:
        """Fold as many of *folds* as do not touch each other; the next plan finds the others again.

        Raises ``HoldError`` where two rows cannot become one.
        """
        by_root: dict[ModelSpec, list[tuple[str, str]]] = defaultdict(list)
        busy: set[tuple[str, str]] = set()
        announced: set[tuple[str, str]] = set()
        for fold in folds:
            root = registry.spec(fold.spec.root)
            places = {(root.label, fold.one), (root.label, fold.other)}
            if len(places) == 1 or places & busy:
                continue
            busy |= places
            by_root[root].append((fold.one, fold.other))
            if fold.announce:
                announced |= places
        for root, pairs in by_root.items():
            self._fold(root, pairs, announce={text for label, text in announced if label == root.label})
        return self.outcome

    def _fold(
        self, spec: ModelSpec, texts: Sequence[tuple[str, str]], *, announce: set[str], fixed: bool = False
    ) -> None:
        """Fold pairs of objects of one family. With *fixed* the first of each pair is the one that stays."""
        pairs = self._pairs(spec, texts, fixed=fixed)
        for borrower in _borrowers(spec):
            self._fold_borrowers(borrower, pairs)
        for pair in pairs:
            self._find_conflict(pair)
            if pair.kept.text in announce or pair.gone.text in announce:
                first, second = min(pair.kept.ids), min(pair.gone.ids)
                self.outcome.merged.append((pair.kept.slot(), pair.kept.spec, first, second))
        self._move_rows(pairs)
        self._move_names(spec, pairs)

    # --- what there is ------------------------------------------------------------------------------------------------

    def _pairs(self, spec: ModelSpec, texts: Sequence[tuple[str, str]], *, fixed: bool) -> list[_Pair]:
        every = {text for pair in texts for text in pair}
        current = versions.find([Key(spec.root_label, text) for text in every], self._using)
        rows = rows_of_family(spec, every, self._using)
        explicit = references.explicit_ids(spec, every, self._using)
        halves = {}
        for text in every:
            ids = set(explicit.get(text, ())) or {f"{self._own}/{text}"}
            labels = rows.get(text, set())
            halves[text] = _Half(text, ids, labels, current.get(Key(spec.root_label, text)), _derived(spec, labels))
        self._read_states([half for half in halves.values() if half.rows])
        pairs = []
        for one, other in ((halves[one], halves[other]) for one, other in texts):
            stays = one if fixed or _rank(one) <= _rank(other) else other
            pairs.append(_Pair(stays, other if stays is one else one))
        return pairs

    def _read_states(self, halves: Iterable[_Half]) -> None:
        by_spec: dict[ModelSpec, list[_Half]] = defaultdict(list)
        for half in halves:
            by_spec[half.spec].append(half)
        for spec, some in by_spec.items():
            pks_ = {references.pk_value(spec, half.text): half for half in some}
            for pk, state in serialize.row_states(spec, pks_, self._using).items():
                pks_[pk].state = state

    def _fold_borrowers(self, spec: ModelSpec, pairs: Sequence[_Pair]) -> None:
        """Objects whose primary key is a foreign key to the folded ones are folded with them."""
        texts = [(pair.kept.text, pair.gone.text) for pair in pairs]
        gone = {text for _, text in texts}
        known = versions.find([Key(spec.root_label, text) for text in gone], self._using)
        here = set(rows_of_family(spec, gone, self._using)) | {key.pk_text for key in known}
        wanted = [pair for pair in texts if pair[1] in here]
        if wanted:
            self._fold(spec, wanted, announce=set(), fixed=True)

    # --- rows ---------------------------------------------------------------------------------------------------------

    def _move_rows(self, pairs: Sequence[_Pair]) -> None:
        """Re-point what points to the rows that go, remove these, and give the others the later states."""
        removes: list[Operation] = []
        later: list[_Pair] = []
        for pair in pairs:
            kept, gone = pair.kept, pair.gone
            if gone.rows - kept.rows and kept.rows:
                raise HoldError(reasons.TWO_KINDS(one=min(kept.ids), other=min(gone.ids)))
            if gone.rows:
                removes.append(Remove(gone.slot(), gone.spec, None))
            if gone.rows and kept.rows and gone.stamp > kept.stamp and gone.state is not None:
                later.append(pair)
        alive = [pair for pair in pairs if pair.gone.rows]
        if not alive:
            return
        self.outcome.tables |= apply.touched_tables(removes)
        moving = [pair for pair in alive if not pair.kept.rows]  # a profile that goes over to another person
        if moving:
            merging_rows.rename(moving[0].gone.spec, [(p.gone.text, p.kept.text) for p in moving], self._using)
            renamed = {pair.gone.text for pair in moving}
            removes = [op for op in removes if isinstance(op, Remove) and op.slot.text not in renamed]
        by_family: dict[ModelSpec, list[_Pair]] = defaultdict(list)
        for pair in alive:
            if pair.kept.rows:
                by_family[pair.gone.spec].append(pair)
        for spec, of_spec in by_family.items():
            moved = {
                references.pk_value(spec, pair.gone.text): references.pk_value(spec, pair.kept.text) for pair in of_spec
            }
            merging_rows.repoint(spec, moved, self._fold_clashing, self._using)
        # Rows that go may point to one another: what they say now is that they point to those that stay.
        self._read_states([pair.gone for pair in later])
        writes = [
            Write(pair.kept.slot(), pair.gone.spec, pair.gone.state, created=False, change=None)
            for pair in later
            if pair.gone.state is not None
        ]
        apply.apply_operations(removes, self._using)
        apply.apply_operations(writes, self._using)

    def _fold_clashing(self, spec: ModelSpec, texts: Sequence[tuple[str, str]]) -> None:
        """Two rows that would have the same unique values, now that what they point to is one object, are one too."""
        self._fold(spec, texts, announce=set() if spec.borrows_identity else {text for pair in texts for text in pair})

    # --- histories ----------------------------------------------------------------------------------------------------

    def _move_names(self, spec: ModelSpec, pairs: Sequence[_Pair]) -> None:
        moved = {pair.gone.text: pair.kept.text for pair in pairs}
        self._move_references(spec, pairs)
        self._store_versions(spec, pairs)
        conflicts, links = move_registers(spec, moved, self._node_ids, self._using)
        slots = {pair.kept.text: pair.kept.slot() for pair in pairs}
        for found in conflicts:
            self.outcome.conflicts.append(self._link_conflict(spec, slots, found))
        apply.apply_operations(links, self._using)
        for pair in pairs:
            self.outcome.moved[spec.root_label, pair.gone.text] = slots[pair.kept.text]
            if pair.kept.rows and pair.gone.deleted and pair.gone.stamp > pair.kept.stamp:
                change = _as_change(pair.gone, pair.kept.spec, None, None)
                self.outcome.deferred.append((slots[pair.kept.text], pair.kept.spec, change))

    def _move_references(self, spec: ModelSpec, pairs: Sequence[_Pair]) -> None:
        if spec.borrows_identity:
            return
        references.add(
            [
                (spec, object_id, pair.kept.text)
                for pair in pairs
                for object_id in sorted(pair.kept.ids | pair.gone.ids)
            ],
            self._using,
        )
        merged = [
            (spec.root_label, pair.gone.text, pair.kept.text) for pair in pairs if not is_unborn(spec, pair.gone.text)
        ]
        columns = tables.columns(MergedRow, "root", "pk_text", "into")
        again = [(kept, root, gone) for root, gone, kept in merged]
        tables.update_many(MergedRow, columns[2:], [columns[0], columns[2]], again, self._using)
        tables.insert_many(MergedRow, columns, merged, self._using)

    def _store_versions(self, spec: ModelSpec, pairs: Sequence[_Pair]) -> None:
        changed, known = {}, []
        for pair in pairs:
            key = Key(spec.root_label, pair.kept.text)
            if pair.kept.current is not None:
                known.append(key)
            if pair.gone.current is not None and pair.gone.stamp > pair.kept.stamp:
                changed[key] = pair.gone.current
        versions.store(changed, known, self._node_ids, self._using)
        versions.forget(spec.root_label, [pair.gone.text for pair in pairs], self._using)

    # --- what lost ----------------------------------------------------------------------------------------------------

    def _find_conflict(self, pair: _Pair) -> None:
        kept, gone = pair.kept, pair.gone
        if not kept.rows and not gone.rows:
            return
        if kept.state == gone.state and bool(kept.rows) == bool(gone.rows):
            return
        fields, refs = None, None
        if gone.state is not None:
            translator = portable.Translator(self._own, self._using)
            ((fields, refs),) = translator.portable_states([(gone.spec, gone.state)])
        elif gone.current is None:
            return
        self.outcome.conflicts.append(
            FoundConflict(
                kind="merge",
                spec=kept.spec,
                slot=kept.slot(),
                change=_as_change(gone, kept.spec, fields, refs),
                local=kept.current.stamp if kept.current is not None else None,
                local_deleted=not kept.rows,
                state=kept.state,
                winner="incoming" if gone.stamp > kept.stamp else "local",
                policy="newest",
            )
        )

    @staticmethod
    def _link_conflict(spec: ModelSpec, slots: dict[str, Slot], found: Any) -> FoundConflict:
        key, kept, lost = found
        slot = slots.get(key.pk_text)
        model = registry.by_label(key.root)
        own = registry.spec(model) if model is not None else spec
        if slot is None:
            slot = Slot(spec=own, pk_text=key.pk_text, ids={min(next(iter(slots.values())).ids)})
        name, _, target = key.link.partition(":")
        record = Change(
            seq=1, date=format_date(lost.stamp.date), base=None, action="unlink" if lost.deleted else "link",
            model=own.label, id=min(slot.ids), key=None, field=name,
            target=Target(model=own.links[name].related_model._meta.label_lower, id=target, key=None),
        )  # fmt: skip
        return FoundConflict(
            kind="link", spec=own, slot=slot, change=Incoming(record, lost.stamp, None, record), local=kept.stamp,
            local_deleted=kept.deleted, state=None, winner="local", policy="newest",
        )  # fmt: skip


def _as_change(half: _Half, spec: ModelSpec, fields: Any, refs: Any) -> Incoming:
    """The newest change of *half* as if it came from elsewhere: the other side of a conflict."""
    gone = fields is None
    record = Change(
        seq=1, date=format_date(half.stamp.date), base=None, action="delete" if gone else "change", model=spec.label,
        id=min(half.ids), key=None, fields=fields, refs=refs,
    )  # fmt: skip
    return Incoming(record, half.stamp, None, record)


def _rank(half: _Half) -> tuple[int, str]:
    """The row that stays is the one in more tables; of equals that with the smallest id, as on every other node."""
    return -len(half.rows), min(half.ids)


def _derived(spec: ModelSpec, labels: Iterable[str]) -> ModelSpec:
    """Of the models in whose tables an object has a row, the most derived one."""
    models_ = [model for label in labels if (model := registry.by_label(label)) is not None]
    return registry.spec(max(models_, key=lambda model: len(model._meta.get_parent_list()), default=spec.model))


def _borrowers(spec: ModelSpec) -> list[ModelSpec]:
    """The roots of tracked models whose primary key is, in the end, a foreign key to objects of *spec*."""
    if spec.borrows_identity:
        return []
    roots = {registry.spec(registry.spec(model).root) for model in registry.tracked()}
    found = [root for root in roots if root.borrows_identity and root.identity is spec.root]
    return sorted(found, key=lambda root: root.label)
