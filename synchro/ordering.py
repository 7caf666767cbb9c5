"""In which order objects of several models are told, so that what others need comes first."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from synchro import registry
from synchro.registry import ModelClass


def parents_first(models: Iterable[ModelClass]) -> list[ModelClass]:
    """*models* after those of them that their foreign keys point to, and after their multi-table parents.

    Cycles are cut where they close, preferably at a foreign key that may be NULL.
    """
    wanted = sorted(models, key=lambda each: each._meta.label_lower)
    ordered: dict[ModelClass, None] = {}
    entered: set[ModelClass] = set()

    def visit(model: ModelClass) -> None:
        if model not in entered:
            entered.add(model)
            for needed in _needs(model):
                visit(needed)
            ordered[model] = None

    for model in wanted:
        visit(model)
    return [model for model in ordered if model in set(wanted)]


def _needs(model: ModelClass) -> Iterator[ModelClass]:
    """What *model* needs first, the indispensable before the rest."""
    yield from model._meta.get_parent_list()
    relations = registry.spec(model).relations.values()
    for field in sorted(relations, key=lambda each: (each.null, each.name)):
        yield registry.spec(field.related_model).model
