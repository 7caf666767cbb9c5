"""Primary keys inside values of imported rows: as they are here, as soon as it is known what they are here.

What points to a row that is not here yet, or is held, has an object id in its place for the time being. In a record
that comes to the same, so nobody else is concerned, and it is no change of the row.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from functools import reduce
from operator import or_
from typing import Any

from django.db import models
from django.db.models import Q
from django.db.models.functions import Cast

from synchro import embedded, nodes, pks, references, registry, serialize, tables, values
from synchro.embedded import Key
from synchro.errors import EmbeddedKeyError
from synchro.registry import ModelSpec
from synchro.resolving import is_unborn

_IDENTS = 50
"""Nodes a query: each is an OR-ed condition."""


def settle(own_ident: str, using: str) -> int:
    """Put primary keys in the place of object ids that are known by now; how many rows that changed."""
    changed = 0
    for model in sorted(registry.tracked(), key=lambda each: each._meta.label_lower):
        spec = registry.spec(model)
        if not embedded.functions_of(spec):
            continue
        for part in serialize.chunks(sorted(_unsettled(spec, own_ident, using), key=str)):
            states = serialize.row_states(spec, part, using)
            local = here([(spec, state) for state in states.values()], own_ident, using)
            for pk, state in states.items():
                with suppress(EmbeddedKeyError):
                    changed += _write(spec, pk, embedded.rewritten(spec, state, local), using)
    return changed


def here(states: Sequence[tuple[ModelSpec, Mapping[str, Any]]], own_ident: str, using: str) -> dict[Key, Any]:
    """The object ids that *states* mention → the primary keys here, of those that are known."""
    by_spec: dict[ModelSpec, set[Key]] = defaultdict(set)
    for spec, state in states:
        try:
            mentioned = embedded.mentioned(spec, state)
        except EmbeddedKeyError:
            continue  # whoever is to write it will hear of it
        for label, text in mentioned:
            model = registry.by_label(label)
            if model is not None and "/" in text:
                by_spec[registry.spec(model)].add((label, text))
    found: dict[Key, Any] = {}
    for target, keys in by_spec.items():
        texts = references.resolve(target, {text for _, text in keys}, own_ident, using)
        for label, text in keys:
            if text in texts and not is_unborn(target, texts[text]):
                found[label, text] = spelled(target, texts[text])
    return found


def spelled(target: ModelSpec, pk_text: str) -> Any:
    """A primary key as it stands in texts and JSON: numbers as numbers."""
    pk = pks.from_text(target.model, pk_text)
    return pk if isinstance(pk, int) else pk_text


def _unsettled(spec: ModelSpec, own_ident: str, using: str) -> Iterable[Any]:
    """The primary keys of the rows that seem to have an object id of another node in them."""
    idents = sorted(set(nodes.numbers(using)) - {own_ident})
    found: set[Any] = set()
    for name in embedded.functions_of(spec):
        # Also JSON is searched as text.
        rows = tables.rows(spec.model, using).annotate(synchro_text=Cast(name, models.TextField())).order_by()
        for part in serialize.chunks(idents, _IDENTS):
            conditions = [Q(synchro_text__contains=f"{ident}/") for ident in part]
            found.update(rows.filter(reduce(or_, conditions)).values_list("pk", flat=True))
    return found


def _write(spec: ModelSpec, pk: Any, given: Mapping[str, Any], using: str) -> int:
    columns = {field.name: field for field in spec.fields}
    by_model: dict[Any, dict[Any, Any]] = defaultdict(dict)
    for name, value in given.items():
        by_model[columns[name].model._meta.concrete_model][columns[name]] = values.decode(columns[name], value)
    for model, of_model in by_model.items():
        key = pk if isinstance(pk, tuple) else (pk,)
        tables.update_many(model, list(of_model), model._meta.pk_fields, [[*of_model.values(), *key]], using)
    return bool(given)
