"""Capturing m2m changes: one entry a link, whichever side it was made from, and the rows of explicit through models."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from django.db import models

from synchro import changelog, pks, registry, tables
from synchro.models import Action
from synchro.registry import spec

ModelClass = type[models.Model]
Pair = tuple[Any, Any]


def links_changed(
    sender: ModelClass,
    instance: models.Model,
    action: str,
    reverse: bool,
    pk_set: set[Any] | None,
    using: str,
    **_kwargs: Any,
) -> None:
    """Receiver of ``m2m_changed``: log the links that were added, or are about to be removed."""
    if action not in ("post_add", "pre_remove", "pre_clear") or (not pk_set and action != "pre_clear"):
        return
    if not changelog.logs(using):
        return
    field = registry.tracked_links().get(sender)
    if field is None:
        if action == "post_add" and sender in registry.intermediaries():
            _log_intermediaries(sender, instance, reverse=reverse, others=pk_set or set(), using=using)
    elif action == "post_add":
        pairs = [(other, instance.pk) if reverse else (instance.pk, other) for other in pk_set or ()]
        _log(field, pairs, Action.LINK, using)
    else:
        _log(field, _present(field, instance, reverse=reverse, others=pk_set, using=using), Action.UNLINK, using)


def log_present(model: ModelClass, pk: Any, using: str) -> None:
    """Log the links of an object of *model* that stay when its child's row goes: a deletion takes all links with it."""
    family = {model, *model._meta.get_parent_list()}
    for through, field in registry.tracked_links().items():
        source, target = through_columns(field)
        for end, column in ((field.model, source), (field.related_model, target)):
            if end._meta.concrete_model in family:
                rows = tables.rows(through, using).filter(**{column.attname: pk}).order_by("pk")
                _log(field, rows.values_list(source.attname, target.attname), Action.LINK, using)


def row_saved(field: models.ManyToManyField[Any, Any], row: models.Model, using: str) -> None:
    """Log the link that *row* is: a row of Django's own through table that was saved by hand, which sends no signal."""
    source, target = through_columns(field)
    _log(field, [(getattr(row, source.attname), getattr(row, target.attname))], Action.LINK, using)


def target_dies(sender: ModelClass, instance: models.Model, using: str, **_kwargs: Any) -> None:
    """Receiver of ``pre_delete`` of models that are not tracked and that tracked links point to.

    The links go with the row and no signal tells of it; the deletion itself is not logged, so the links have to be.
    """
    if changelog.logs(using):
        for field in registry.linked_by(sender):
            _log(field, _present(field, instance, reverse=True, others=None, using=using), Action.UNLINK, using)


def canonical_pair(field: models.ManyToManyField[Any, Any], pair: Pair) -> Pair:
    """A symmetrical link is two rows and one fact: it is named from the side whose key sorts first."""
    first, second = pair
    if getattr(field.remote_field, "symmetrical", False) and (str(type(first)), second) < (str(type(second)), first):
        return second, first
    return pair


def through_columns(field: models.ManyToManyField[Any, Any]) -> tuple[models.Field[Any, Any], models.Field[Any, Any]]:
    """The two foreign keys of *field*'s through table: to the model that declares it, and to its target."""
    source, target = tables.columns(registry.through(field), field.m2m_field_name(), field.m2m_reverse_field_name())
    return source, target


def _log(field: models.ManyToManyField[Any, Any], pairs: Iterable[Pair], action: Action, using: str) -> None:
    source, target = spec(field.model), spec(field.related_model)
    # An instance may hold the text of a number or UUID; keys of one kind sort alike from either side.
    converted = ((pks.converted(source.model, first), pks.converted(target.model, second)) for first, second in pairs)
    # In one order, whatever set they came in: the same changes give the same log.
    unique = sorted({canonical_pair(field, pair) for pair in converted}, key=_shortest_first)
    changelog.append_many(
        (changelog.link_entry(source, first, field, second, action) for first, second in unique), using
    )


def _shortest_first(pair: Pair) -> list[tuple[int, str]]:
    return [(len(text), text) for text in map(str, pair)]


def _present(
    field: models.ManyToManyField[Any, Any],
    instance: models.Model,
    *,
    reverse: bool,
    others: set[Any] | None,
    using: str,
) -> list[Pair]:
    """The links that are really there: ``remove()`` also names those that are not."""
    source, target = through_columns(field)
    mine, theirs = (target, source) if reverse else (source, target)
    rows = tables.rows(registry.through(field), using).filter(**{mine.attname: instance.pk})
    if others is not None:
        rows = rows.filter(**{f"{theirs.attname}__in": others})
    return list(rows.order_by("pk").values_list(source.attname, target.attname))


def _log_intermediaries(
    through: ModelClass, instance: models.Model, *, reverse: bool, others: set[Any], using: str
) -> None:
    """Log the rows that ``add()`` makes of an explicit through model as the objects that they are.

    It makes them with ``bulk_create``, which sends no signal.
    """
    field = registry.intermediaries()[through]
    source, target = through_columns(field)
    mine, theirs = (target, source) if reverse else (source, target)
    rows = tables.rows(through, using).filter(**{mine.attname: instance.pk, f"{theirs.attname}__in": others})
    changelog.log_rows(spec(through), rows.order_by("pk").values_list("pk", flat=True), Action.ADD, using)
