"""Values that this deployment is told, of changes that came first through somebody who is not.

Such a change is taken without them, and its position is known from then on. What it lacks is remembered
(:class:`~synchro.models.Unseen`): until the value comes, this deployment is in the place of one who is not told it.
Its own changes of the object go without the field, unless somebody enters something there (:func:`hush`). When the same
change comes once more with the value, :mod:`synchro.completing` takes it.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection, Iterable, Mapping, Sequence
from typing import Any, NamedTuple

import orjson

from changelog_format import Change
from synchro import entitlement, references, registry, serialize, upcasting
from synchro.models import Action, ChangeLog, Unseen
from synchro.plan import Incoming, Plan, Write
from synchro.registry import ModelSpec
from synchro.versions import Key, Stamp

Owned = Mapping[str, frozenset[str]]
Place = tuple[str, str]
"""Root model and text of the primary key of an object."""
STATES = (Action.ADD, Action.CHANGE)
ROW = (
    "pk", "root", "pk_text", "model", "version", "imported", "payload", "date", "origin__ident", "seq", "base",
    "base_node__ident",
)  # fmt: skip


class Row(NamedTuple):
    """A state in the log."""

    pk: int
    root: str
    pk_text: str
    model: str
    version: int
    imported: bool
    payload: str
    date: int
    origin: str
    seq: int
    base: int | None
    base_node: str | None

    @property
    def place(self) -> Place:
        return self.root, self.pk_text

    @property
    def stamp(self) -> Stamp:
        return Stamp(self.date, self.origin)

    @property
    def made_on(self) -> Stamp | None:
        return None if self.base is None or self.base_node is None else Stamp(self.base, self.base_node)

    def data(self) -> dict[str, Any]:
        found: dict[str, Any] = orjson.loads(self.payload)
        return found

    def carried(self) -> dict[str, Any]:
        """Present name → value, of the fields that it has as whoever made it has them."""
        data = self.data()
        fields = data.get("fields") or {} if self.imported else data
        withheld = data.get("withheld", ()) if self.imported else ()
        return {
            upcasting.current_field(self.model, self.version, name): value
            for name, value in fields.items()
            if name not in withheld
        }


class Mark(NamedTuple):
    """A value that is waited for: whose change that is, and in which row of the log."""

    pk: int
    row: Row
    field: str


def marks_of(places: Collection[Place], using: str) -> dict[Place, list[Mark]]:
    """What is waited for of the objects *places*; of those of which nothing is there is no entry."""
    found: dict[Place, list[Mark]] = defaultdict(list)
    roots = sorted({root for root, _ in places})
    for part in serialize.chunks(sorted({text for _, text in places})):
        rows = Unseen.objects.using(using).filter(change__root__in=roots, change__pk_text__in=part)
        columns = ("pk", "field", *(f"change__{name}" for name in ROW))
        for pk, field, *row in rows.order_by("pk").values_list(*columns):
            mark = Mark(pk, Row(*row), field)
            if mark.row.place in places:
                found[mark.row.place].append(mark)
    return found


def any_left(using: str) -> bool:
    """Whether some value is waited for."""
    return Unseen.objects.using(using).exists()


def fields_of(keys: Iterable[Key], using: str) -> dict[Key, set[str]]:
    """Of the objects *keys* the fields whose newest value this deployment does not have."""
    if not Unseen.objects.using(using).exists():
        return {}
    places = {(key.root, key.pk_text) for key in keys if not key.link}
    return {Key(*place): {mark.field for mark in marks} for place, marks in marks_of(places, using).items()}


def hush(node_pk: int, start: int, using: str) -> None:
    """Take from the changes made here after position *start* what nobody here knows: see the module."""
    if not Unseen.objects.using(using).exists():
        return
    rows = ChangeLog.objects.using(using).filter(log=node_pk, seq__gt=start, imported=False, link="", action__in=STATES)
    before: dict[Place, dict[str, Any]] = defaultdict(dict)
    waiting = Unseen.objects.using(using).order_by("pk")
    columns = ("change__root", "change__pk_text", "field", "before")
    made = list(rows.order_by("seq").values_list("pk", "root", "pk_text", "payload"))
    for part in serialize.chunks(sorted({text for _, _, text, _ in made})):
        for root, text, field, value in waiting.filter(change__pk_text__in=part).values_list(*columns):
            before[root, text][field] = orjson.loads(value)
    for pk, root, text, payload in made:
        unknown = before.get((root, text))
        if not unknown:
            continue
        state = orjson.loads(payload)
        said = {name: value for name, value in state.items() if name not in unknown or unknown[name] != value}
        if len(said) < len(state):
            ChangeLog.objects.using(using).filter(pk=pk).update(payload=orjson.dumps(said).decode())


class Noting:
    """Remembers what the changes of one import lack."""

    def __init__(self, using: str) -> None:
        self._using = using
        self._lacking: Mapping[str, frozenset[str]] | None = None
        self.noted = False

    def note(self, plan: Plan, batch: Sequence[Incoming], entries: Mapping[int, int], owned: Owned) -> None:
        """*plan* has been carried out; *entries* are the rows of the log for the numbers of *batch*.

        *owned*: the fields that this deployment withholds from somebody, and is told itself.
        """
        created = {
            id(each.change) for each in plan.operations if isinstance(each, Write) and each.created and each.change
        }
        wanted: dict[int, set[str]] = {}
        for number, change in enumerate(batch):
            if number in plan.held or not isinstance(change.arrived, Change) or change.arrived.fields is None:
                continue
            names = self._names(change, owned, unknown_base=id(change) in created and change.base is not None)
            if names and number in entries:
                wanted[entries[number]] = names
        for found in plan.conflicts:
            if found.winner == "held" and found.number is not None:  # nothing of it was taken yet
                wanted.pop(entries.get(found.number, 0), None)
        if wanted:
            self._remember(wanted)

    def _names(self, change: Incoming, owned: Owned, *, unknown_base: bool) -> set[str]:
        arrived: Any = change.arrived
        label = change.record.model
        names = {upcasting.current_field(arrived.model, change.arrived_version, name) for name in arrived.withheld}
        if unknown_base:  # somebody changed it before, and what that said of these fields did not come
            names |= owned.get(label, frozenset()) - (change.record.fields or {}).keys()
        if not names:
            return names
        if self._lacking is None:
            self._lacking = entitlement.lacking(self._using)
        return names - self._lacking.get(label, frozenset())

    def _remember(self, wanted: Mapping[int, set[str]]) -> None:
        using = self._using
        rows = [Row(*row) for row in ChangeLog.objects.using(using).filter(pk__in=wanted).values_list(*ROW)]
        histories = logs({row.place for row in rows}, using)
        fresh = []
        for row in rows:
            state = state_of(row, using)
            for name in sorted(wanted[row.pk]):
                newest = newest_of(histories[row.place], name, but=row.pk)
                if state is not None and name in state and (newest is None or row.stamp > newest.stamp):
                    fresh.append(Unseen(change_id=row.pk, field=name, before=orjson.dumps(state[name]).decode()))
        Unseen.objects.using(using).bulk_create(fresh, ignore_conflicts=True)
        self.noted = self.noted or bool(fresh)


def unfinished(places: Collection[Place], using: str) -> set[Place]:
    """Those of *places* of which some value is still waited for."""
    return set(marks_of(places, using)) if places and Unseen.objects.using(using).exists() else set()


def logs(places: Collection[Place], using: str) -> dict[Place, list[Row]]:
    """The sealed states of objects in the log, but for those that are held."""
    found: dict[Place, list[Row]] = {place: [] for place in places}
    roots = sorted({root for root, _ in places})
    for part in serialize.chunks(sorted({text for _, text in places})):
        rows = ChangeLog.objects.using(using).filter(root__in=roots, pk_text__in=part, link="", action__in=STATES)
        for values in rows.filter(log__isnull=False, held__isnull=True).values_list(*ROW):
            row = Row(*values)
            if row.place in found:
                found[row.place].append(row)
    return found


def newest_of(log: Iterable[Row], name: str, *, but: int) -> Row | None:
    """The latest change that gave the field *name* a value."""
    return max((row for row in log if row.pk != but and name in row.carried()), key=lambda row: row.stamp, default=None)


def spec_of(row: Row) -> ModelSpec | None:
    """The model that the object is of now."""
    model = registry.by_label(upcasting.current_label(row.model))
    return None if model is None else registry.spec(model)


def state_of(row: Row, using: str) -> dict[str, Any] | None:
    """What the object holds now."""
    spec = spec_of(row)
    if spec is None:
        return None
    pk = references.pk_value(spec, row.pk_text)
    return None if pk is None else serialize.row_states(spec, [pk], using).get(pk)
