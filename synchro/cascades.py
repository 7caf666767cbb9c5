"""What a deletion sets off in the database itself, by foreign keys of ``DB_CASCADE`` and its like, telling nobody.

Before the row goes it is looked which rows will go and change with it, level by level; afterwards these are logged.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

from django.db import models

from synchro import changelog, registry, serialize, tables
from synchro.changelog import Entry
from synchro.models import Action

ModelClass = type[models.Model]

_CARRIED = "_synchro_carried"


@dataclass
class _Carried:
    """By model: the rows that go, with the states of those that are tracked, and the tracked rows that change."""

    gone: dict[ModelClass, dict[Any, serialize.State | None]] = field(default_factory=lambda: defaultdict(dict))
    changed: dict[ModelClass, dict[Any, None]] = field(default_factory=lambda: defaultdict(dict))


def before(sender: ModelClass, instance: models.Model, using: str, **_kwargs: Any) -> None:
    """Receiver of ``pre_delete`` for what foreign keys with database cascades lead to."""
    vars(instance).pop(_CARRIED, None)
    if not changelog.logs(using):
        return
    found = _Carried()
    level: dict[ModelClass, list[Any]] = {registry.spec(sender).model: [instance.pk]}
    while level:
        following: dict[ModelClass, list[Any]] = defaultdict(list)
        for target, pk_values in level.items():
            for column in registry.pointing_to(target, registry.DATABASE_CASCADES):
                source = column.model
                rows = [pk for part in _pointing(column, pk_values, using) for pk in part]
                if column.remote_field.on_delete is not registry.DATABASE_CASCADE:
                    if registry.is_tracked(source):
                        found.changed[source].update(dict.fromkeys(rows))
                    continue
                fresh = [pk for pk in rows if pk not in found.gone[source]]
                states: dict[Any, serialize.State] = {}
                if registry.is_tracked(source):
                    states = serialize.row_states(registry.spec(source), fresh, using)
                found.gone[source].update((pk, states.get(pk)) for pk in fresh)
                following[source] += fresh
        level = {model: pk_values for model, pk_values in following.items() if pk_values}
    vars(instance)[_CARRIED] = found


def after(instance: models.Model, using: str, **_kwargs: Any) -> None:
    """Receiver of ``post_delete``: log what went along, and what changed and is still there."""
    found: _Carried | None = vars(instance).pop(_CARRIED, None)
    if found is None or not changelog.logs(using):
        return
    entries: list[Entry] = []
    for model, states in reversed(found.gone.items()):  # the last level first: children before what they point to
        spec = registry.spec(model)
        here = {pk for rows in serialize.by_pk(spec, states, using) for pk in rows.values_list("pk", flat=True)}
        entries += [
            changelog.state_entry(spec, pk, Action.DELETE, state)
            for pk, state in states.items()
            if state is not None and pk not in here
        ]
    if entries:
        changelog.append_many(entries, using)
    for model, changed in found.changed.items():
        changelog.log_objects(registry.spec(model), changed, Action.CHANGE, using)


def _pointing(column: models.ForeignKey[Any, Any], pk_values: Sequence[Any], using: str) -> Iterator[list[Any]]:
    """The primary keys of the rows whose *column* points to one of *pk_values*, by the chunk."""
    target = column.target_field
    for part in serialize.chunks(list(pk_values)):
        values: Any = part
        if not target.primary_key:
            values = tables.rows(target.model, using).filter(pk__in=part).values_list(target.attname, flat=True)
        yield list(
            tables.rows(column.model, using).filter(**{f"{column.attname}__in": values}).values_list("pk", flat=True)
        )
