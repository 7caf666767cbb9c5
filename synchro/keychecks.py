"""System checks of natural keys: those by which other deployments would take one row for another, or find none.

Of a model that ``SYNCHRO_NATURAL_KEYS`` speaks of nothing is said: somebody has decided.
"""

from __future__ import annotations

import inspect
from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from typing import Any, cast

from django.core.checks import CheckMessage, Warning  # noqa: A004  Django's name
from django.core.exceptions import FieldDoesNotExist
from django.db import models
from django.utils.translation import gettext as _
from django.utils.translation import ngettext

from synchro import conf, keyprobe, naturalkeys, reasons, registry

ModelClass = type[models.Model]


def messages() -> Iterator[CheckMessage]:
    """What is wrong with the natural keys of the tracked models, and of those that their rows point to."""
    decided = set(conf.natural_keys())
    for model in sorted(registry.reachable(registry.tracked()), key=lambda each: each._meta.label_lower):
        if model._meta.label_lower not in decided:
            yield from of_model(model)


def of_model(model: ModelClass) -> Iterator[CheckMessage]:
    """What is wrong with the natural key of *model*, whatever the settings say; nothing where it has none."""
    function = getattr(model, "natural_key", None)
    if not callable(function):
        return
    label = model._meta.label
    override = _("SYNCHRO_NATURAL_KEYS names other fields for %(label)s, or None for no key.") % {"label": label}
    parent = _inherited_from(model)
    spec = naturalkeys.key_spec(model)
    if parent is not None and spec.paths is None:
        yield Warning(
            _(
                "%(label)s inherits natural_key() from %(model)s, but its default manager does not look up %(label)s "
                "by it."
            )
            % {"label": label, "model": parent._meta.label},
            hint=_("Give %(label)s a key or a manager of its own.") % {"label": label} + f" {override}",
            obj=model,
            id="synchro.W043",
        )
        return
    if spec.paths is None and not spec.opaque:
        yield Warning(
            _("The natural key of %(label)s is not used: %(reason)s.")
            % {"label": label, "reason": reasons.told(spec.reason)},
            hint=f"{_('Its objects are told apart by their ids alone until it is mended.')} {override}",
            obj=model,
            id="synchro.W044",
        )
        return
    yield from _of_key(model, override, own=parent is None)


def _of_key(model: ModelClass, override: str, *, own: bool) -> Iterator[CheckMessage]:
    """Of a key that is used."""
    label = model._meta.label
    spec = naturalkeys.key_spec(model)
    seen = keyprobe.trace(model) if spec.opaque else keyprobe.Trace((), ())
    if seen.instances:
        yield Warning(
            _("The natural key of %(label)s contains objects (%(fields)s) and not their keys.")
            % {"label": label, "fields": ", ".join(seen.instances)},
            hint=f"{_('Let natural_key() give values; as it is, each row is looked up by itself.')} {override}",
            obj=model,
            id="synchro.W041",
        )
    going_up = (*seen.upwards, *_tree_path(model, spec.paths or ()))
    if going_up:
        yield Warning(
            _(
                "The natural key of %(label)s is computed from its ancestors (%(names)s), so that it changes without "
                "a change of the row."
            )
            % {"label": label, "names": ", ".join(going_up)},
            hint=f"{_('Choose what stays when a row is moved.')} {override}",
            obj=model,
            id="synchro.W042",
        )
    # Also where the lookup is another one, natural_key() itself may tell what rows would have to differ in.
    paths = spec.paths or keyprobe.natural_key_paths(model)
    if paths and own and not naturalkeys.allows_many(model) and not _tells_rows_apart(model, paths):
        yield Warning(
            _(
                "Several rows of %(label)s may have the same natural key (%(names)s): no unique constraint covers "
                "it, and one of them would be taken for another."
            )
            % {"label": label, "names": ", ".join(paths)},
            hint=f"{_('Make it unique.')} {override}",
            obj=model,
            id="synchro.W040",
        )
    if spec.opaque and paths and not _takes(model, len(paths)):
        yield Warning(
            ngettext(
                "natural_key() of %(label)s gives %(number)d value, which get_by_natural_key() does not take.",
                "natural_key() of %(label)s gives %(number)d values, which get_by_natural_key() does not take.",
                len(paths),
            )
            % {"label": label, "number": len(paths)},
            hint=f"{_('Its rows are not found by it.')} {override}",
            obj=model,
            id="synchro.W044",
        )


def _inherited_from(model: ModelClass) -> ModelClass | None:
    """The multi-table parent that defines the ``natural_key()`` of *model*."""
    for base in model.__mro__:
        if "natural_key" in vars(base):
            holder = cast("ModelClass", base)
            return holder if holder in model._meta.get_parent_list() else None
    return None


def _tree_path(model: ModelClass, paths: Iterable[str]) -> list[str]:
    """Columns in which django-treebeard keeps where a row stands."""
    return ["path"] if hasattr(model, "steplen") and "path" in paths else []


def _takes(model: ModelClass, values: int) -> bool:
    lookup = cast("Any", model._default_manager).get_by_natural_key
    try:
        inspect.signature(lookup).bind(*range(values))
    except TypeError:
        return False
    except ValueError:  # no signature can be had
        return True
    return True


# --- what is unique ---------------------------------------------------------------------------------------------------


def _tells_rows_apart(model: ModelClass, paths: Sequence[str]) -> bool:
    """Whether the database allows no two rows of *model* with equal values at all of *paths* (NULL apart)."""
    known: set[str] = set()
    through: dict[str, list[str]] = defaultdict(list)
    for path in paths:
        head, _, rest = path.partition("__")
        try:
            name = model._meta.pk.name if head == "pk" else model._meta.get_field(head).name
        except FieldDoesNotExist:
            continue
        if rest:
            through[name].append(rest)
        else:
            known.add(name)
    for name, rests in through.items():
        target = model._meta.get_field(name).related_model
        if isinstance(target, type) and _tells_rows_apart(target, rests):
            known.add(name)
    return any(unique and unique <= known for unique in _unique_sets(model))


def _unique_sets(model: ModelClass) -> Iterator[set[str]]:
    for each in (model, *model._meta.get_parent_list()):
        options = each._meta
        yield {field.name for field in options.pk_fields}
        yield from ({field.name} for field in options.local_concrete_fields if field.unique)
        yield from (set(names) for names in options.unique_together)
        for constraint in options.constraints:
            if isinstance(constraint, models.UniqueConstraint) and constraint.condition is None:
                # What differs in a function of some fields differs in these fields.
                yield {*constraint.fields, *(_fields_in(constraint.expressions))}


def _fields_in(expressions: Iterable[Any]) -> Iterator[str]:
    for expression in expressions:
        for part in expression.flatten() if hasattr(expression, "flatten") else [expression]:
            if isinstance(part, models.F):
                yield cast("Any", part).name.partition("__")[0]
