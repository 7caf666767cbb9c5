"""What records of each model and version look like: also of versions that this deployment had, or has not got yet.

A change is exported by the schema under which it was logged, which may be gone by then. So a deployment notes its own
schema
after each migration and whenever it numbers changes, and what bundles tell of others.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any, NamedTuple

import orjson
from django.core.exceptions import FieldDoesNotExist
from django.db import models

from changelog_format import ModelInfo
from synchro import naturalkeys, registry, serialize, upcasting
from synchro.models import Schema
from synchro.registry import AnyField, ModelSpec

Place = tuple[str, int]
"""Label and version of a model."""


@dataclass(frozen=True, slots=True)
class Known:
    """A schema that was noted.

    ``columns``: foreign key → the field that it points to, where that is not the primary key. An own one has everything
    that the model ever had in this version.
    """

    info: ModelInfo
    own: bool
    columns: Mapping[str, str] = field(default_factory=dict)


def info_of(spec: ModelSpec) -> ModelInfo:
    """What a header says of a model as it is here now."""
    relations = {name: f.related_model._meta.label_lower for name, f in spec.relations.items()}
    fields = spec.fields if registry.is_tracked(spec.model) else registry.object_fields(spec)
    return ModelInfo(
        version=spec.version,
        key=naturalkeys.key_paths(spec.model),
        fields={f.name: type(f).__name__ for f in fields},
        skipped=tuple(sorted(spec.skipped)),
        relations={name: label for name, label in relations.items() if name in {f.name for f in fields}},
        links={name: f.related_model._meta.label_lower for name, f in spec.links.items()},
    )


# --- noting and finding -----------------------------------------------------------------------------------------------


def note_own(labels: Iterable[str], using: str) -> None:
    """Note the present schemas of the installed models among *labels*; what a version had before is kept with it."""
    specs = {label: registry.spec(model) for label in labels if (model := registry.by_label(label)) is not None}
    wanted = {(label, spec.version): spec for label, spec in specs.items() if spec.label == label}
    if not wanted:
        return
    stored = _stored(specs, using, own=True)
    for (label, version), spec in wanted.items():
        columns = {name: f.target_field.name for name, f in spec.relations.items() if not f.target_field.primary_key}
        before = stored.get((label, version))
        known_ = _merged(before, Known(info_of(spec), own=True, columns=columns))
        if known_ != before:
            Schema.objects.using(using).update_or_create(
                model=label, version=version, own=True, defaults={"info": _dumped(known_)}
            )


def note_received(infos: Mapping[str, ModelInfo], using: str) -> None:
    """Note what a bundle's header says of models and versions that this deployment has not got."""
    told: dict[Place, ModelInfo] = {}
    for label, info in infos.items():
        model = registry.by_label(label)
        ours = None if model is None else registry.spec(model).version
        for version, each in ((info.version, replace(info, versions={})), *info.versions.items()):
            if version != ours and (each.fields or each.links):
                told[label, version] = each
    if not told:
        return
    stored = _stored({label for label, _ in told}, using, own=False)
    for (label, version), info in told.items():
        before = stored.get((label, version))
        known = Known(replace(info, version=version), own=False)
        if before is None or before.info != known.info:
            Schema.objects.using(using).update_or_create(
                model=label, version=version, own=False, defaults={"info": _dumped(known)}
            )


def known(labels: Iterable[str], using: str) -> dict[Place, Known]:
    """What is noted of the models *labels*; of a version that this deployment had, what it was here."""
    wanted = set(labels)
    return {**_stored(wanted, using, own=False), **_stored(wanted, using, own=True)}


def _stored(labels: Iterable[str], using: str, *, own: bool) -> dict[Place, Known]:
    found: dict[Place, Known] = {}
    for part in serialize.chunks(sorted(labels)):
        rows = Schema.objects.using(using).filter(model__in=part, own=own)
        for label, version, info in rows.values_list("model", "version", "info"):
            data = orjson.loads(info)
            found[label, version] = Known(ModelInfo.from_dict(data["info"]), own, data.get("columns", {}))
    return found


def _dumped(known_: Known) -> str:
    data = {"info": known_.info.to_dict(), "columns": dict(known_.columns)}
    return orjson.dumps(data).decode()


def _merged(before: Known | None, now: Known) -> Known:
    """*now*, with what the same version had *before*: rows of the log may have it."""
    if before is None:
        return now
    present = {*now.info.fields, *now.info.links}

    def joined(old: Mapping[str, str], new: Mapping[str, str]) -> dict[str, str]:
        return {**new, **{name: value for name, value in old.items() if name not in present}}

    info = replace(
        now.info,
        fields=joined(before.info.fields, now.info.fields),
        relations=joined(before.info.relations, now.info.relations),
        links=joined(before.info.links, now.info.links),
    )
    return Known(info, own=True, columns=joined(before.columns, now.columns))


# --- what logged rows mean --------------------------------------------------------------------------------------------


class Pointer(NamedTuple):
    """Where a foreign key points to: the model as it is here now, and its column."""

    target: ModelSpec
    column: AnyField


@dataclass(frozen=True, slots=True, eq=False)
class Shape:
    """How to read logged states of one version of a model.

    ``spec`` is the model as it is here now, None where it is no more. ``key`` are the paths of the natural key.
    ``past``: the version is not that of now.
    """

    spec: ModelSpec | None
    relations: Mapping[str, Pointer]
    links: Mapping[str, ModelSpec]
    key: tuple[str, ...] | None
    past: bool = False

    @property
    def generics(self) -> Mapping[str, str]:
        """The generic foreign keys, as the model has them now."""
        return {} if self.spec is None else self.spec.generics


def present_shape(spec: ModelSpec) -> Shape:
    """How states of *spec* are read as they are now."""
    return Shape(
        spec,
        {name: Pointer(registry.spec(f.related_model), f.target_field) for name, f in spec.relations.items()},
        {name: registry.spec(f.related_model) for name, f in spec.links.items()},
        naturalkeys.key_paths(spec.model),
    )


class Shapes:
    """The shapes of the rows of one log. Those of the past are looked up once."""

    def __init__(self, using: str) -> None:
        self._using = using
        self._found: dict[Place, Shape] = {}

    def load(self, places: Iterable[Place]) -> None:
        """Look up what is not known yet of *places*: at most two queries."""
        missing = [place for place in dict.fromkeys(places) if place not in self._found]
        noted: Mapping[Place, Known] | None = None
        for label, version in missing:
            model = registry.by_label(upcasting.current_label(label))
            spec = None if model is None else registry.spec(model)
            if noted is None:
                noted = _stored({each for each, _ in missing}, self._using, own=True)
            told = noted.get((label, version))
            if spec is not None and spec.label == label and spec.version == version:
                shape = present_shape(spec)
                if told is not None:  # with what is gone although the version is the same
                    relations, links = _pointers(told)
                    now = {f.name for f in spec.fields}
                    relations = {name: pointer for name, pointer in relations.items() if name not in now}
                    shape = replace(shape, relations={**relations, **shape.relations}, links={**links, **shape.links})
            elif told is not None:
                relations, links = _pointers(told)
                shape = Shape(spec, relations, links, told.info.key, past=True)
            elif spec is not None:  # nothing was noted at the time: what has the same name is taken for the same
                shape = replace(present_shape(spec), key=None, past=True)
            else:
                shape = Shape(None, {}, {}, None, past=True)
            self._found[label, version] = shape

    def of(self, label: str, version: int) -> Shape:
        """The shape of what was logged in *version* of *label*, which was loaded."""
        return self._found[label, version]


def _pointers(told: Known) -> tuple[dict[str, Pointer], dict[str, ModelSpec]]:
    relations: dict[str, Pointer] = {}
    for name, label in told.info.relations.items():
        model = registry.by_label(upcasting.current_label(label))
        if model is None:
            continue
        column: Any = model._meta.pk
        if name in told.columns:
            try:
                column = model._meta.get_field(told.columns[name])
            except FieldDoesNotExist:
                continue
        if isinstance(column, models.Field):
            relations[name] = Pointer(registry.spec(model), column)
    links = {
        name: registry.spec(model)
        for name, label in told.info.links.items()
        if (model := registry.by_label(upcasting.current_label(label))) is not None
    }
    return relations, links
