"""From the file to this database: which of our rows the objects of some records are.

A chunk of records is resolved with a handful of queries. The result is a :class:`Outlook`: the objects that the records
name, as :class:`Slot`, with what is known of them here, and as the plan goes on, with what will become of them.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, TypeAlias, cast

from django.db import models
from django.utils.translation import gettext as _

from changelog_format import Change, ObjectRecord
from synchro import naturalkeys, pks, pointing, references, registry, serialize, values, versions
from synchro.errors import AmbiguousKeyError
from synchro.links import canonical_pair
from synchro.registry import ModelSpec
from synchro.versions import Current, Key, Stamp

UNBORN = "?"


@dataclass(eq=False, slots=True)
class Slot:
    """One object, as the plan sees it.

    ``pk_text`` is the text of its primary key here, None until it is created. ``rows`` are the models in whose tables
    it has a row (several for multi-table children). ``stamp`` and ``deleted`` are its newest change, None when none was
    ever logged, and ``change_id`` its row in the log. ``row`` is what its row holds; ``state`` is the same, or what the
    plan will make it hold (foreign keys may be slots then).
    """

    spec: ModelSpec
    ids: set[str] = field(default_factory=set)
    pk_text: str | None = None
    rows: set[str] = field(default_factory=set)
    stamp: Stamp | None = None
    deleted: bool = False
    state: dict[str, Any] | None = None
    key: Any = None
    target: Slot | None = None
    unborn: str | None = None
    ours: bool = False
    row: dict[str, Any] | None = None
    change_id: int | None = None

    @property
    def alive(self) -> bool:
        return bool(self.rows)

    @property
    def known(self) -> bool:
        """Whether there is more to it than that something points to it."""
        return self.alive or self.stamp is not None or self.pk_text is not None or self.unborn is not None

    @property
    def imaginary(self) -> bool:
        """Whether it is only a number of our own numbering: no row, no history.

        Whoever makes one up must not choose what our next row is called.
        """
        automatic = isinstance(self.spec.root._meta.pk, models.AutoField)
        return automatic and self.pk_text is not None and not self.alive and self.stamp is None

    def become(self, other: Slot) -> None:
        """This turns out to be *other*: whatever holds this slot now means that one."""
        self.target, self.rows, self.ids = other, other.rows, other.ids

    @property
    def text(self) -> str | None:
        """The text of the primary key; that of the target where the primary key is a foreign key to it."""
        return self.target.text if self.target is not None else self.pk_text

    @property
    def log_text(self) -> str:
        """How the log and the versions name it: by its primary key, or by an id while it has no row."""
        text = self.text or self.unborn
        if text is None:
            object_id = min(self.ids)
            born_as = references.birth_pk(object_id)
            given = naturalkeys.portable_pk(self.spec.model) and references.pk_value(self.spec, born_as) is not None
            text = born_as if given else unborn_text(object_id)  # a key given by hand is the same for all who give it
        return text


def unborn_text(object_id: str) -> str:
    """What stands for the primary key of an object that has no row here."""
    return UNBORN + object_id


def is_unborn(spec: ModelSpec, pk_text: str) -> bool:
    """Whether *pk_text* is what :func:`unborn_text` gives, and no primary key of *spec* that only looks like it."""
    return pk_text.startswith(UNBORN) and references.pk_value(spec, pk_text) is None


@dataclass(frozen=True, slots=True)
class Wanted:
    """An object that a record names: by id, and by natural key or portable primary key where the record says one."""

    spec: ModelSpec
    id: str
    key: Any = None


def wanted_by(record: Change | ObjectRecord, spec: ModelSpec) -> Iterator[Wanted]:
    """Every object that *record* names: itself, the targets of its foreign keys, the other end of its link."""
    if isinstance(record, Change) and record.same is not None:
        for object_id in record.same:
            yield Wanted(spec, object_id)
        return
    yield Wanted(spec, record.id, frozen(record.key))
    for name, object_id in (record.refs or {}).items():
        target = target_spec(spec, name, record.fields or {})
        if target is not None:
            value = (record.fields or {}).get(name)
            key = frozen(value) if isinstance(value, list) else None
            yield Wanted(target, object_id, key)
    if isinstance(record, Change) and record.target is not None:
        link = spec.links.get(record.field or "")
        if link is not None:
            yield Wanted(registry.spec(link.related_model), record.target.id, frozen(record.target.key))


def target_spec(spec: ModelSpec, name: str, fields: Mapping[str, Any]) -> ModelSpec | None:
    """The model that the foreign key *name*, generic or not, of a record with *fields* points to."""
    if name in spec.generics:
        return pointing.kind_of(spec, name, fields)
    relation = spec.relations.get(name)
    return None if relation is None else registry.spec(relation.related_model)


def frozen(key: list[Any] | None) -> Any:
    """A natural key as a record has it, as something to look up by."""
    return None if key is None else naturalkeys.freeze(key)


LinkField: TypeAlias = "models.ManyToManyField[Any, Any]"
Ends: TypeAlias = "tuple[set[str], set[str]]"
"""The texts of the primary keys of what links go out from, and lead to."""
Lock: TypeAlias = Callable[[dict[ModelSpec, set[str]], dict[LinkField, Ends]], None]
"""Called with the texts of the primary keys of the rows that will be written, and with the links, before anything is
read of them."""

LinkPlace: TypeAlias = tuple[Slot, ModelSpec, str, Slot]
"""The side that declares the m2m field, its name, and the target."""


class Outlook:
    """The objects that the records at hand name, and what is planned for them."""

    def __init__(
        self,
        own_ident: str,
        using: str,
        *,
        pending: bool = False,
        lock: Lock | None = None,
        first_of_many: bool = False,
    ) -> None:
        """*first_of_many*: with ``allow_many`` the first object matches although it has an id already."""
        self.own = own_ident
        self.using = using
        self._lock = lock
        self._pending = pending
        self._first_of_many = first_of_many
        self._by_pk_alone: set[tuple[str, str]] = set()
        self._by_id: dict[tuple[str, str], Slot] = {}
        self._by_pk: dict[tuple[str, str], Slot] = {}
        self._by_key: dict[tuple[str, Any], list[Slot]] = defaultdict(list)
        self._links: dict[Key, Current] = {}
        self._planned_links: dict[LinkPlace, Current] = {}
        self._created: dict[tuple[str, str], Slot] = {}

    # --- what the plan asks -------------------------------------------------------------------------------------------

    def by_id(self, spec: ModelSpec, object_id: str) -> Slot | None:
        """The object called *object_id*, also one that the plan creates under the same primary key given by hand."""
        found = self._by_id.get((spec.root_label, object_id))
        return found or self._created.get((spec.root_label, references.birth_pk(object_id)))

    def by_pk_alone(self, spec: ModelSpec, object_id: str) -> bool:
        """Whether *object_id* was found here by nothing but a primary key that somebody gave by hand."""
        return (spec.root_label, object_id) in self._by_pk_alone

    def by_pk(self, spec: ModelSpec, pk_text: str) -> Slot | None:
        return self._by_pk.get((spec.root_label, pk_text))

    def by_key(self, spec: ModelSpec, key: Any, object_id: str) -> Slot | None:
        """The one living object of natural key *key* that may be *object_id*, or None.

        An object that already has an id born at the same node is another one; with ``allow_many`` only objects without
        any id match. Several candidates are no match.
        """
        if key is None or spec.borrows_identity:
            return None
        birth = references.birth_node(object_id)
        many = naturalkeys.allows_many(spec.model)
        found = [
            slot
            for slot in self._by_key.get((spec.label, key), ())
            if slot.alive
            and slot.key == key
            and object_id not in slot.ids
            and not (many and slot.ids and not self._first_of_many)
            and all(references.birth_node(each) != birth for each in slot.ids)
        ]
        if len(found) > 1 and not many and self._first_of_many:  # a direct synchronization: as in the original
            raise AmbiguousKeyError(
                _("%(model)s: %(count)d objects have the natural key %(key)s, and it is not said to be one of many.")
                % {"model": spec.label, "count": len(found), "key": naturalkeys.thaw(key)},
                hint=_("Make it unique, or tell its NaturalManager allow_many=True. Nothing was changed."),
            )
        return found[0] if len(found) == 1 or (many and found) else None

    def of_key(self, spec: ModelSpec, key: Any) -> list[Slot]:
        """The living objects of natural key *key*."""
        return [slot for slot in self._by_key.get((spec.label, key), ()) if slot.alive and slot.key == key]

    def create(self, spec: ModelSpec, object_id: str) -> Slot:
        """A slot for an object that is not here."""
        slot = Slot(spec=spec, ids={object_id})
        self._by_id[spec.root_label, object_id] = slot
        if naturalkeys.portable_pk(spec.model):
            self._created[spec.root_label, references.birth_pk(object_id)] = slot
        if spec.borrows_identity:
            slot.target = self._target_slot(spec, object_id)
        return slot

    def _target_slot(self, spec: ModelSpec, object_id: str) -> Slot:
        pk: Any = spec.root._meta.pk
        target = registry.spec(pk.related_model)
        return self.by_id(target, object_id) or self.create(target, object_id)

    def attach(self, slot: Slot, object_id: str) -> None:
        """From now on *object_id* is *slot*."""
        slot.ids.add(object_id)
        self._by_id[slot.spec.root_label, object_id] = slot

    def unite(self, one: Slot, other: Slot) -> None:
        """*other* turns out to be *one*: every id of it is called so from now on."""
        for object_id in sorted(other.ids):
            self.attach(one, object_id)
        other.become(one)

    def set_key(self, slot: Slot, spec: ModelSpec, key: list[Any] | None) -> None:
        """The plan gives *slot* this natural key."""
        slot.key = frozen(key)
        if slot.key is not None:
            others = self._by_key[spec.label, slot.key]
            if slot not in others:
                others.append(slot)

    def link(self, place: LinkPlace, key: Key | None) -> Current | None:
        """The newest change of the link at *place*, planned or else known under *key*."""
        planned = self._planned_links.get(place)
        return planned if planned is not None or key is None else self._links.get(key)

    def set_link(self, place: LinkPlace, current: Current) -> None:
        """The plan gives the link at *place* this newest change."""
        self._planned_links[place] = current

    # --- looking up, by the chunk -------------------------------------------------------------------------------------

    def load(
        self,
        wanted: Iterable[Wanted],
        link_keys: Iterable[tuple[Wanted, str, Wanted]],
        written: set[Wanted],
        about: Iterable[Wanted] = (),
    ) -> None:
        """Find *wanted* here; *written* are those whose rows' values will be compared, *about* those to be locked."""
        if self._lock is not None:
            self._lock(self._candidates(about), self._candidate_links(link_keys))
        fresh: dict[tuple[str, str], Wanted] = {}
        for each in wanted:
            place = (each.spec.root_label, each.id)
            if place not in self._by_id and (place not in fresh or fresh[place].key is None):
                fresh[place] = each
            identity = each.spec
            while identity.borrows_identity:  # the target is looked up with it
                pk: Any = identity.root._meta.pk
                identity = registry.spec(pk.related_model)
                if (identity.root_label, each.id) not in self._by_id:
                    fresh.setdefault((identity.root_label, each.id), Wanted(identity, each.id))
        by_spec: dict[ModelSpec, dict[str, Wanted]] = defaultdict(dict)
        for each in fresh.values():
            by_spec[each.spec][each.id] = each
        for spec, of_spec in by_spec.items():
            self._load_spec(spec, of_spec)
        self._load_states(written)
        self._load_links(link_keys)

    def _candidates(self, about: Iterable[Wanted]) -> dict[ModelSpec, set[str]]:
        """The texts of the primary keys that *about* may turn out to have here."""
        by_spec: dict[ModelSpec, dict[str, Wanted]] = defaultdict(dict)
        for each in about:
            if by_spec[each.spec].get(each.id, each).key is None or each.key is not None:
                by_spec[each.spec][each.id] = each
        found: dict[ModelSpec, set[str]] = {}
        for spec, of_spec in by_spec.items():
            texts = references.resolve(spec, of_spec, self.own, self.using)
            guessed = (
                {references.birth_pk(each) for each in of_spec if each not in texts}
                if naturalkeys.portable_pk(spec.model)
                else ()
            )
            matches = self._key_matches(spec, of_spec).values()
            found[spec] = {text for text in texts.values() if not is_unborn(spec, text)}.union(guessed, *matches)
        return found

    def _candidate_links(self, named: Iterable[tuple[Wanted, str, Wanted]]) -> dict[LinkField, Ends]:
        """The texts of the primary keys that both ends of the links *named* may turn out to have here."""
        ends: dict[LinkField, tuple[list[Wanted], list[Wanted]]] = defaultdict(lambda: ([], []))
        for source, name, target in named:
            field = source.spec.links.get(name)
            if field is not None:
                ends[field][0].append(source)
                ends[field][1].append(target)
        return {field: (self._texts(sources), self._texts(targets)) for field, (sources, targets) in ends.items()}

    def _texts(self, named: Iterable[Wanted]) -> set[str]:
        return set().union(*self._candidates(named).values())

    def _load_spec(self, spec: ModelSpec, wanted: dict[str, Wanted]) -> None:
        texts = references.resolve(spec, wanted, self.own, self.using)
        portable = naturalkeys.portable_pk(spec.model)
        guessed = {each: references.birth_pk(each) for each in wanted if portable and each not in texts}
        matches = self._key_matches(spec, wanted)
        candidates = {text for found in matches.values() for text in found}
        here = rows_of_family(spec, {*texts.values(), *guessed.values(), *candidates}, self.using)
        slots = self._slots(spec, {*texts.values(), *guessed.values(), *candidates}, here)
        for object_id, text in texts.items():
            if spec.borrows_identity:
                slots[text].target = self.by_id(registry.spec(self._pk_model(spec)), object_id)
            self.attach(slots[text], object_id)
        for object_id, text in guessed.items():
            if slots[text].alive or slots[text].stamp is not None:  # also where it was deleted
                self.attach(slots[text], object_id)
                self._by_pk_alone.add((spec.root_label, object_id))
        for key, found in matches.items():
            for slot in (slots[text] for text in found):
                if slot.key is None:
                    slot.key = key
                if slot not in self._by_key[spec.label, key]:
                    self._by_key[spec.label, key].append(slot)

    def _key_matches(self, spec: ModelSpec, wanted: dict[str, Wanted]) -> dict[Any, list[str]]:
        """Natural key → texts of the pks of the rows that have it, for the keys that *wanted* name."""
        keys = dict.fromkeys(each.key for each in wanted.values() if each.key is not None)
        if not keys or spec.borrows_identity or not naturalkeys.has_natural_key(spec.model):
            return {}
        found = naturalkeys.find(spec.model, keys, self.using)
        return {key: [pks.to_text(spec.model, pk) for pk in of_key] for key, of_key in found.items()}

    def _slots(self, spec: ModelSpec, texts: set[str], here: dict[str, set[str]]) -> dict[str, Slot]:
        """Text of the pk → its slot, with the rows in *here* and what the log and the references know of it."""
        current = self._versions([Key(spec.root_label, text) for text in texts])
        explicit = references.explicit_ids(spec, texts, self.using)
        slots: dict[str, Slot] = {}
        for text in texts:
            slot = self._by_pk.get((spec.root_label, text))
            if slot is None:
                slot = Slot(spec=spec, rows=set(here.get(text, ())))
                if is_unborn(spec, text):
                    slot.unborn = text
                else:
                    slot.pk_text = text
                self._by_pk[spec.root_label, text] = slot
                known = current.get(Key(spec.root_label, text))
                if known is not None:
                    slot.stamp, slot.deleted, slot.change_id = known.stamp, known.deleted, known.change_id
                slot.ids.update(explicit.get(text, ()))
                if known is not None and not slot.ids and not is_unborn(spec, text):
                    slot.ids.add(f"{self.own}/{text}")
            slots[text] = slot
        return slots

    def existing(self, spec: ModelSpec, texts: set[str]) -> dict[str, Slot]:
        """Text of the pk → slot, with its state, of those among *texts* that have a row of *spec* here."""
        here = rows_of_family(spec, texts, self.using) if texts else {}
        found = {text: slot for text, slot in self._slots(spec, set(here), here).items() if spec.label in slot.rows}
        wanted = {references.pk_value(spec, text): slot for text, slot in found.items() if slot.state is None}
        for pk, state in serialize.row_states(spec, wanted, self.using).items():
            wanted[pk].state = dict(state)
        return found

    def _versions(self, keys: list[Key]) -> dict[Key, Current]:
        found = versions.find(keys, self.using)
        if self._pending:
            found.update(versions.find_pending(keys, self.own, self.using))
        return found

    @staticmethod
    def _pk_model(spec: ModelSpec) -> type[models.Model]:
        """The model that the primary key of *spec*, which borrows its identity, points to."""
        return cast("models.ForeignKey[Any, Any]", spec.root._meta.pk).related_model

    def _load_states(self, written: set[Wanted]) -> None:
        by_spec: dict[ModelSpec, dict[Any, Slot]] = defaultdict(dict)
        for each in written:
            slot = self.by_id(each.spec, each.id)
            slots = [] if slot is None else [slot]
            if each.key is not None and (slot is None or not slot.alive):  # also where a dead object may come back
                slots += self._by_key.get((each.spec.label, each.key), ())
            for found in slots:
                if found.state is None and each.spec.label in found.rows and found.text is not None:
                    by_spec[each.spec][references.pk_value(each.spec, found.text)] = found
        # Of an object of several tables the most derived model, which comes last, tells most.
        for spec in sorted(by_spec, key=lambda each: len(each.model._meta.get_parent_list())):
            slots_by_pk = by_spec[spec]
            for pk, state in serialize.row_states(spec, slots_by_pk, self.using).items():
                slots_by_pk[pk].state = slots_by_pk[pk].row = dict(state)

    def _load_links(self, link_keys: Iterable[tuple[Wanted, str, Wanted]]) -> None:
        keys = []
        for source, name, target in link_keys:
            mine, theirs = self._find(source), self._find(target)
            if mine is not None and theirs is not None and mine.text is not None and theirs.text is not None:
                keys.append(Key(source.spec.label, mine.text, f"{name}:{theirs.text}"))
        fresh = [key for key in keys if key not in self._links]
        self._links.update(self._versions(fresh))

    def _find(self, wanted: Wanted) -> Slot | None:
        return self.by_id(wanted.spec, wanted.id) or self.by_key(wanted.spec, wanted.key, wanted.id)


def rows_of_family(spec: ModelSpec, texts: Iterable[str], using: str) -> dict[str, set[str]]:
    """Text of the pk → labels of the models of the family in whose tables there is a row."""
    here: dict[str, set[str]] = defaultdict(set)
    pk_of = {
        text: pk for text in texts if not is_unborn(spec, text) and (pk := references.pk_value(spec, text)) is not None
    }
    children = registry.descendants(spec.root)
    family = dict.fromkeys([spec.model, *spec.model._meta.get_parent_list(), *children])
    for child in children:
        family.update(dict.fromkeys(child._meta.get_parent_list()))
    for model in family:
        for rows in serialize.by_pk(registry.spec(model), pk_of.values(), using):
            for pk in rows.order_by().values_list("pk", flat=True):
                here[pks.to_text(spec.model, pk)].add(model._meta.label_lower)
    return here


def canonical_ends(relation: models.ManyToManyField[Any, Any], source: Slot, target: Slot) -> tuple[Slot, Slot]:
    """The ends of a symmetrical link in the order in which this database names it, as far as both have a row."""
    if not getattr(relation.remote_field, "symmetrical", False) or source.text is None or target.text is None:
        return source, target
    mine, theirs = (pks.from_text(slot.spec.model, slot.text or "") for slot in (source, target))
    return (source, target) if canonical_pair(relation, (mine, theirs)) == (mine, theirs) else (target, source)


def foreign_value(slot: Slot, spec: ModelSpec, name: str) -> Any:
    """What the foreign key *name* of *spec*, generic or not, holds when it points to *slot*. JSON form.

    Raises ``KeyError`` when it is not known yet.
    """
    if name not in spec.generics:
        return _column_value(slot, spec.relations[name].target_field)
    if slot.text is None:
        raise KeyError(name)
    column = next(field for field in spec.fields if field.name == name)
    return pointing.raw_key(column, slot.spec.model, slot.text)


def _column_value(slot: Slot, column: registry.AnyField) -> Any:
    """What a foreign key to *slot* holds: its primary key, or with ``to_field`` the value of that column. JSON form.

    Raises ``KeyError`` when it is not known yet.
    """
    if column.primary_key:
        if slot.text is None:
            raise KeyError(column.name)
        return values.encode(column, pks.from_text(slot.spec.model, slot.text))
    if slot.state is None or column.name not in slot.state:
        raise KeyError(column.name)
    return slot.state[column.name]


__all__ = [
    "Outlook",
    "Slot",
    "Wanted",
    "foreign_value",
    "frozen",
    "is_unborn",
    "rows_of_family",
    "target_spec",
    "unborn_text",
    "wanted_by",
]
