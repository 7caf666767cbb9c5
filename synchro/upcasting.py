"""Upcasters: how a record of an older version of a model becomes one of the version that this deployment has.

A model's version is its ``SYNCHRO_VERSION`` (1 where it has none). Whoever changes what a model's records look like
counts it up
and says here, in a module ``upcasters`` of some installed app, what becomes of records of the version before::

    from synchro import VersionedRecord, upcaster

    # What can be said without code: renamed and dropped fields and m2m fields, values for new ones, a new name of the
    # model.
    upcaster("shop.customer", from_version=1, moved_to="crm.client", renamed={"phone": "telephone"}, dropped=["fax"])

    @upcaster("crm.client", from_version=2, added={"rank": 0})
    def split_name(record: VersionedRecord) -> VersionedRecord | None:
        first, _, last = record.value("name", "").partition(" ")
        return record.without("name").having(first_name=first, last_name=last)

Each takes a record one version further, and they are chained. Records are lifted when they are applied, never in the
log: what is
relayed, and what is kept for the audit, is what came. Nothing here touches a database.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, replace
from functools import lru_cache
from typing import Any, TypeAlias, TypeVar

from django.core.exceptions import ImproperlyConfigured

from changelog_format import Change, ObjectRecord, decode_value, encode_value
from synchro import naturalkeys, reasons, registry
from synchro.conf import early_gettext as _

CONTENT_TYPE = "contenttypes.contenttype"
_CONTENT_TYPE_KEY = 2


class UpcastError(Exception):
    """A record cannot be lifted; the text says why."""


@dataclass(frozen=True, slots=True, kw_only=True)
class VersionedRecord:
    """A record on its way from one version of its model to the next.

    ``action`` is that of SPEC.md, section 7, or ``"object"`` for a row of a model that is not tracked, or ``"key"``
    where only
    the natural key is to be lifted, because another object points to this one. ``fields`` (field name → JSON form,
    foreign keys
    as natural keys) and ``refs`` (foreign key → object id) are empty for actions that have no state. ``field`` is
    the m2m field of a link. ``id`` stays what it is. Dicts are copies.
    """

    model: str
    version: int
    action: str
    id: str
    key: list[Any] | None
    fields: dict[str, Any]
    refs: dict[str, str]
    field: str | None = None

    @property
    def has_state(self) -> bool:
        """Whether the record has an object's state: the others have no fields, and need none."""
        return self.action in ("add", "change", "object")

    def value(self, name: str, default: Any = None) -> Any:
        """The field *name* as a python value (decimals, dates and UUIDs as strings); *default* where it is missing."""
        return decode_value(self.fields[name]) if name in self.fields else default

    def having(self, **values: Any) -> VersionedRecord:
        """With these values in these fields; records without a state stay as they are."""
        if not self.has_state:
            return self
        return replace(self, fields={**self.fields, **{name: encode_value(value) for name, value in values.items()}})

    def without(self, *names: str) -> VersionedRecord:
        """Without these fields."""
        return replace(
            self,
            fields={name: value for name, value in self.fields.items() if name not in names},
            refs={name: value for name, value in self.refs.items() if name not in names},
        )

    def renamed(self, names: Mapping[str, str]) -> VersionedRecord:
        """With fields, foreign keys and m2m fields called otherwise: old name → new name."""
        return replace(
            self,
            fields={names.get(name, name): value for name, value in self.fields.items()},
            refs={names.get(name, name): value for name, value in self.refs.items()},
            field=None if self.field is None else names.get(self.field, self.field),
        )


Function: TypeAlias = Callable[[VersionedRecord], "VersionedRecord | None"]
F = TypeVar("F", bound=Function)


@dataclass(frozen=True, slots=True, kw_only=True)
class Step:
    """How records of one version of one model become those of the next."""

    model: str
    from_version: int
    moved_to: str | None = None
    renamed: Mapping[str, str]
    dropped: frozenset[str]
    added: Mapping[str, Any]
    function: Function | None = None

    @property
    def target(self) -> str:
        """What the model is called afterwards."""
        return self.moved_to or self.model

    def apply(self, record: VersionedRecord) -> VersionedRecord | None:
        """The record of the next version; None where it has no counterpart there."""
        if record.field in self.dropped:
            return None
        lifted = record.without(*self.dropped).renamed(self.renamed)
        missing = {name: value for name, value in self.added.items() if name not in lifted.fields}
        lifted = replace(lifted.having(**missing), model=self.target, version=self.from_version + 1)
        if self.function is None:
            return lifted
        try:
            result = self.function(lifted)
        except Exception as error:  # the project's own code: whatever it raises, the record is held
            text = " ".join(str(error).split())
            raise UpcastError(
                reasons.UPCASTER_FAILED(
                    model=self.model, version=self.from_version, error=f"{type(error).__name__}: {text}"
                )
            ) from error
        if result is None:
            return None
        if not isinstance(result, VersionedRecord) or (result.model, result.id) != (lifted.model, lifted.id):
            raise UpcastError(reasons.UPCASTER_STRAYED(model=self.model, version=self.from_version))
        return replace(result, version=self.from_version + 1)


_steps: dict[tuple[str, int], Step] = {}


def upcaster(
    model: str,
    *,
    from_version: int,
    moved_to: str | None = None,
    renamed: Mapping[str, str] | None = None,
    dropped: Iterable[str] = (),
    added: Mapping[str, Any] | None = None,
) -> Callable[[F], F]:
    """Say how records of *model* in *from_version* become those of the next version.

    *moved_to* is the model's new label, where it was renamed or moved to another app. *renamed*: fields and m2m
    fields, old name → new
    name. *dropped*: those that are gone. *added*: python values for new fields that the record does not have. A
    function
    decorated with this does the rest: it gets what these made of the record, and returns a record, or None for one
    that has no counterpart any more. It must
    depend on nothing but the record, so that all deployments come to the same.

    Raises ``ImproperlyConfigured`` where this was said before.
    """
    place = (model.lower(), from_version)
    if place in _steps:
        message = _("There are two upcasters of %(model)s from version %(version)d.")
        raise ImproperlyConfigured(message % {"model": model, "version": from_version})
    if isinstance(dropped, str):
        dropped = (dropped,)
    step = Step(
        model=place[0],
        from_version=from_version,
        moved_to=None if moved_to is None else moved_to.lower(),
        renamed=dict(renamed or {}),
        dropped=frozenset(dropped),
        added=dict(added or {}),
    )
    _steps[place] = step
    clear_caches()

    def attach(function: F) -> F:
        if _steps[place].function is not None:
            message = _("There are two upcasters of %(model)s from version %(version)d.")
            raise ImproperlyConfigured(message % {"model": model, "version": from_version})
        _steps[place] = replace(step, function=function)
        clear_caches()
        return function

    return attach


def steps() -> Mapping[tuple[str, int], Step]:
    """All that is registered, by model and version."""
    return _steps


def clear_caches() -> None:
    """Forget what was derived from the upcasters and the models' versions."""
    for cached in (way, moves, link_renames):
        cached.cache_clear()


# --- what follows from them -------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Way:
    """The steps from a version to the one that is installed here. ``gap`` says what is missing on it."""

    steps: tuple[Step, ...]
    model: str
    version: int
    gap: str | None = None


@lru_cache(maxsize=4096)
def way(model: str, version: int) -> Way:
    """How a record of *model* in *version* gets to what is installed here, as far as upcasters lead."""
    found: list[Step] = []
    first = version
    while True:
        installed = registry.by_label(model)
        here = registry.spec(installed).version if installed is not None else None
        step = _steps.get((model, version))
        if here is not None and version >= here:
            return Way(tuple(found), model, version)
        if step is None:
            gap = None
            if here is not None:
                gap = reasons.NO_UPCASTER(model=model, here=here, version=version)
            return Way(tuple(found), model, version, gap)
        if version - first > len(_steps):  # cannot be: each step counts up
            return Way(tuple(found), model, version)
        found.append(step)
        model, version = step.target, version + 1


@lru_cache(maxsize=1)
def moves() -> Mapping[str, str]:
    """Former label → present label, of models that were renamed or moved and whose old label is free."""
    found: dict[str, str] = {}
    for step in _steps.values():
        if step.moved_to is not None and registry.by_label(step.model) is None:
            end = way(step.model, step.from_version).model
            if registry.by_label(end) is not None:
                found[step.model] = end
    return found


@lru_cache(maxsize=1)
def link_renames() -> Mapping[tuple[str, str], str | None]:
    """(Present label of the model, former m2m field) → its present name, None where it was dropped."""
    found: dict[tuple[str, str], str | None] = {}
    for (model, version), step in _steps.items():
        of = way(model, version)
        present = registry.by_label(of.model)
        if present is None or of.gap is not None:
            continue
        links = registry.spec(present).links
        for name in {*step.renamed, *step.dropped} - set(links):
            now = _link_name(of, name)
            if now is None or now in links:
                found[of.model, name] = now
    return found


def _link_name(of: Way, name: str | None) -> str | None:
    for step in of.steps:
        if name is None or name in step.dropped:
            return None
        name = step.renamed.get(name, name)
    return name


def current_label(model: str) -> str:
    """What *model* is called here now."""
    return moves().get(model, model)


def current_link(model: str, version: int, link: str) -> str:
    """``<m2m field>:<pk>`` as it is called now, of a link that was logged in *version* of *model*."""
    if not link or not _steps:
        return link
    name, colon, rest = link.partition(":")
    return f"{_link_name(way(model, version), name) or name}{colon}{rest}"


def current_field(model: str, version: int, name: str) -> str:
    """What the field *name* of *model* in *version* is called now, as far as that is said without code."""
    return name if not _steps else _link_name(way(model, version), name) or name


# --- lifting ----------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Lifted:
    """What became of a record: None where it has no counterpart here. ``version`` is that of its model now."""

    record: Change | ObjectRecord | None
    version: int


def lift(record: Change | ObjectRecord, version: int) -> Lifted:
    """*record*, which is in *version* of its model, as one of the version installed here.

    One of a newer version, or of a model that is not installed, stays as it is. Raises ``UpcastError``.
    """
    of = way(record.model, version)
    if of.gap is not None:
        raise UpcastError(of.gap)
    if not of.steps:
        return Lifted(_with_current_types(record), version)
    state: VersionedRecord | None = VersionedRecord(
        model=record.model,
        version=version,
        action=record.action if isinstance(record, Change) else "object",
        id=record.id,
        key=None if record.key is None else list(record.key),
        fields=dict(record.fields or {}),
        refs=dict(record.refs or {}),
        field=record.field if isinstance(record, Change) else None,
    )
    for step in of.steps:
        state = None if state is None else step.apply(state)
    if state is None:
        return Lifted(None, of.version)
    lifted: Change | ObjectRecord
    files = None
    if record.files is not None:
        names = {name: _link_name(of, name) for name in record.files}
        files = {
            now: record.files[name] for name, now in names.items() if now is not None and now in state.fields
        } or None
    if isinstance(record, Change):
        stateful = record.fields is not None
        lifted = replace(
            record,
            model=state.model,
            version=None,
            key=_key(state, record),
            fields=state.fields if stateful else None,
            refs=state.refs if stateful else None,
            files=files,
            field=state.field,
        )
    else:
        lifted = replace(
            record,
            model=state.model,
            version=None,
            key=_key(state, record),
            fields=state.fields,
            refs=state.refs,
            files=files,
        )
    return Lifted(_with_current_types(lifted), of.version)


def _key(state: VersionedRecord, record: Change | ObjectRecord) -> list[Any] | None:
    """The natural key that the upcasters gave, or that which the lifted fields make, where they left it as it was."""
    if state.key != record.key or not state.has_state:
        return state.key or None
    model = registry.by_label(state.model)
    made = None if model is None else natural_key(model, state.fields)
    return made if made is not None else state.key


def natural_key(model: registry.ModelClass, fields: Mapping[str, Any]) -> list[Any] | None:
    """The natural key that a record's *fields* say by themselves, or None where they do not."""
    paths = naturalkeys.key_paths(model)
    if not paths:
        return None
    found = []
    for path in paths:
        head, _, rest = path.partition("__")
        if head not in fields:
            return None
        value = fields[head]
        if rest:
            relation = registry.spec(model).relations.get(head)
            target = None if relation is None else naturalkeys.key_paths(relation.related_model)
            if target is None or rest not in target or not isinstance(value, list) or len(value) != len(target):
                return None
            value = value[target.index(rest)]
        elif isinstance(value, list) and head in registry.spec(model).relations:
            return None
        found.append(value)
    return found


def lift_state(model: str, version: int, state: dict[str, Any]) -> dict[str, Any]:
    """A logged *state* of this deployment as it would be in the present version, as far as that can be told.

    Its foreign keys are primary keys, which upcasters need not understand.
    """
    found = lift_values(model, version, state, {})
    return state if found is None else found[0]


def lift_values(
    model: str, version: int, fields: Mapping[str, Any], refs: Mapping[str, str]
) -> tuple[dict[str, Any], dict[str, str]] | None:
    """The values of a logged record as they would be in the present version; None where nothing can tell that."""
    of = way(model, version)
    record: VersionedRecord | None = VersionedRecord(
        model=model, version=version, action="change", id="", key=None, fields=dict(fields), refs=dict(refs)
    )
    try:
        for step in of.steps:
            record = None if record is None else step.apply(record)
    except UpcastError:
        return None
    return None if record is None else (record.fields, record.refs)


def lift_key(model: str, version: int, key: list[Any], object_id: str) -> list[Any]:
    """The natural *key* of the object *object_id*, which somebody points to, as it is in the version installed here."""
    of = way(model, version)
    state: VersionedRecord | None = VersionedRecord(
        model=model, version=version, action="key", id=object_id, key=list(key), fields={}, refs={}
    )
    if of.gap is None:
        try:
            for step in of.steps:
                state = None if state is None else step.apply(state)
        except UpcastError:
            return key  # it is only the second best way to know the object
    return key if state is None or not state.key else state.key


def lift_targets(record: Change | ObjectRecord, keys: Mapping[str, int]) -> Change | ObjectRecord:
    """*record*, lifted, with the natural keys of its targets lifted too; *keys*: present label → version there."""
    model = registry.by_label(record.model)
    if model is None:
        return record
    spec = registry.spec(model)
    changed: dict[str, Any] = {}
    for name, relation in spec.relations.items():
        label = registry.spec(relation.related_model).label
        value = (record.fields or {}).get(name)
        if label in keys and isinstance(value, list):
            changed[name] = lift_key(*former(label, keys[label]), value, (record.refs or {}).get(name, ""))
    if changed:
        record = replace(record, fields={**(record.fields or {}), **changed})
    if isinstance(record, Change) and record.target is not None and record.target.key is not None:
        link = spec.links.get(record.field or "")
        label = "" if link is None else registry.spec(link.related_model).label
        if label in keys:
            key = lift_key(*former(label, keys[label]), record.target.key, record.target.id)
            record = replace(record, target=replace(record.target, key=key))
    return record


def former(model: str, version: int) -> tuple[str, int]:
    """What *model* was called in *version*, and that version."""
    for (label, number), step in _steps.items():
        if number == version and step.model != model and way(label, number).model == model:
            return label, version
    return model, version


def older_keys(versions: Mapping[str, int]) -> dict[str, int]:
    """Of a header's models those whose natural keys have to be lifted: present label → version in the header."""
    found: dict[str, int] = {}
    for label, version in versions.items():
        of = way(label, version)
        if of.gap is None and any(step.function is not None for step in of.steps):
            found[of.model] = version
    return found


def _with_current_types(record: Change | ObjectRecord) -> Change | ObjectRecord:
    """*record* with content types named as the models are called now, wherever it names them by natural key."""
    renamed = moves()
    if not renamed:
        return record
    if record.model == CONTENT_TYPE:
        key = None if record.key is None else _current_type(record.key)
        if key is None or key == record.key or record.fields is None:
            return replace(record, key=key)
        return replace(record, key=key, fields={**record.fields, "app_label": key[0], "model": key[1]})
    model = registry.by_label(record.model)
    if model is None or not record.fields:
        return record
    changed = {
        name: _current_type(value)
        for name, relation in registry.spec(model).relations.items()
        if relation.related_model._meta.label_lower == CONTENT_TYPE
        and isinstance(value := record.fields.get(name), list)
    }
    return replace(record, fields={**record.fields, **changed}) if changed else record


def _current_type(key: list[Any]) -> list[Any]:
    if len(key) != _CONTENT_TYPE_KEY or not all(isinstance(part, str) for part in key):
        return key
    now = moves().get(".".join(key).lower())
    return key if now is None else now.split(".")
