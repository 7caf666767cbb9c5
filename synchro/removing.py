"""Deleting objects with what depends on them, as Django's collector does, and telling only those who are to be told.

A model that is applied ``"raw"`` has no handlers run, also where the deletion of something else takes its rows along.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import reduce
from operator import attrgetter, or_
from typing import Any, cast

from django.db import models, transaction
from django.db.models import signals
from django.db.models.deletion import Collector
from django.db.models.sql import DeleteQuery, UpdateQuery

from synchro import conf


def delete(instances: Sequence[models.Model], using: str, *, keep_parents: bool = False) -> None:
    """Delete *instances* (of one model) and their dependants. Raises what Django raises for protected rows."""
    if instances:
        collector = _Collector(using=using, origin=instances[0])
        collector.collect(instances, keep_parents=keep_parents)
        collector.carry_out()


class _Collector(Collector):
    """As ``Collector.delete``, step by step, with signals for those models only that are applied by ``"save"``."""

    def carry_out(self) -> None:
        # Sets and lists of querysets, whatever the stubs say.
        data: dict[Any, Any] = self.data
        updates: dict[Any, Any] = self.field_updates
        for model, collected in data.items():
            data[model] = sorted(collected, key=attrgetter("pk"))
        self.sort()
        data = cast("dict[Any, Any]", self.data)  # sorting makes another one
        with transaction.atomic(using=self.using, savepoint=False):
            for model, collected in data.items():
                self._tell(signals.pre_delete, model, collected)
            for rows in self.fast_deletes:
                rows._raw_delete(using=self.using)  # noqa: SLF001  as Django's own does
            for (field, value), groups in updates.items():
                self._update(field, value, groups)
            for model, collected in data.items():
                collected.reverse()
                DeleteQuery(model).delete_batch([each.pk for each in collected], self.using)
                self._tell(signals.post_delete, model, collected)

    def _tell(self, signal: signals.ModelSignal, model: Any, instances: Sequence[models.Model]) -> None:
        if not model._meta.auto_created and conf.apply_mode(model._meta.label_lower) != "raw":
            for instance in instances:
                signal.send(sender=model, instance=instance, using=self.using, origin=self.origin)

    def _update(self, field: Any, value: Any, groups: Sequence[Any]) -> None:
        lazy = [each for each in groups if isinstance(each, models.QuerySet)]
        if lazy:
            reduce(or_, lazy).update(**{field.name: value})
        found = [instance for each in groups if not any(each is other for other in lazy) for instance in each]
        if found:
            pk_values = list({instance.pk for instance in found})
            UpdateQuery(type(found[0])).update_batch(pk_values, {field.name: value}, self.using)
