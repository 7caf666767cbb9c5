"""A queryset that logs its own bulk operations.

::

    class Visit(models.Model):
        objects = LoggedManager()                                   # or LoggedQuerySet.as_manager()

    class VisitQuerySet(LoggedQuerySet): ...

    class Visit(models.Model):
        objects = LoggedManager.from_queryset(VisitQuerySet)()

Each operation is logged in the transaction that it is, with a number of queries that does not grow with the rows within
a chunk. In paused code, for models that are not tracked, and where synchro's tables are missing, they are Django's own.
Importing this needs no ready app registry, for models do it.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable
from importlib import import_module
from typing import TYPE_CHECKING, Any, TypeVar

from django.db import models, transaction

M = TypeVar("M", bound=models.Model)
M_co = TypeVar("M_co", bound=models.Model, covariant=True)


def _bulk() -> Any:
    """What needs synchro's models: see `synchro.bulk`."""
    return import_module("synchro.bulk")


class LoggedQuerySet(models.QuerySet[M]):
    """Logs ``update()``, ``bulk_update()``, ``bulk_create()`` and ``delete()``."""

    def update(self, **kwargs: Any) -> int:
        """As Django's. The rows are found and locked first, so that those are logged that changed."""
        self._for_write = True
        refused = self.query.is_sliced or self.query.combinator  # by Django
        if refused or not kwargs or not _bulk().logs(self.model, self.db):
            return super().update(**kwargs)
        with transaction.atomic(using=self.db, savepoint=False):
            found = _bulk().locked(self)
            few = len(found) <= _bulk().FEW
            matched: Any = super(LoggedQuerySet, self.filter(pk__in=found)) if few else super()
            rows: int = matched.update(**kwargs)
            self._result_cache = None
            _bulk().log_updated(self.model, found, kwargs, self.db)
        return rows

    update.alters_data = True  # type: ignore[attr-defined]

    def bulk_create(
        self,
        objs: Iterable[M],
        batch_size: int | None = None,
        ignore_conflicts: bool = False,
        update_conflicts: bool = False,
        update_fields: Collection[str] | None = None,
        unique_fields: Collection[str] | None = None,
    ) -> list[M]:
        """As Django's, with and without conflicts."""
        self._for_write = True
        objs = list(objs)
        options: dict[str, Any] = {
            "batch_size": batch_size,
            "ignore_conflicts": ignore_conflicts,
            "update_conflicts": update_conflicts,
            "update_fields": update_fields,
            "unique_fields": unique_fields,
        }
        if not objs or not _bulk().logs(self.model, self.db):
            return super().bulk_create(objs, **options)
        with (
            transaction.atomic(using=self.db, savepoint=False),
            _bulk().creation_logged(self.model, objs, options, self.db),
        ):
            return super().bulk_create(objs, **options)

    bulk_create.alters_data = True  # type: ignore[attr-defined]

    def delete(self) -> tuple[int, dict[str, int]]:
        """As Django's: signals tell the log of each row, and the log is written at once."""
        self._for_write = True
        if not _bulk().logs(self.model, self.db):
            return super().delete()
        with transaction.atomic(using=self.db, savepoint=False), _bulk().gathered(self.db):
            return super().delete()

    delete.alters_data = True  # type: ignore[attr-defined]
    delete.queryset_only = True  # type: ignore[attr-defined]

    def _raw_delete(self, using: str | None) -> int:
        """Django's fast path, which sends no signals."""
        alias = using or self.db
        if not _bulk().logs(self.model, alias):
            return super()._raw_delete(using)
        with transaction.atomic(using=alias, savepoint=False):
            found = _bulk().locked(self.using(alias))
            deleted = super()._raw_delete(using)
            _bulk().log_gone(self.model, found, alias)
        return deleted

    _raw_delete.alters_data = True  # type: ignore[attr-defined]


if TYPE_CHECKING:
    _Manager = models.Manager
else:
    _Manager = models.Manager.from_queryset(LoggedQuerySet)


class LoggedManager(_Manager[M_co]):
    """A manager whose bulk operations, and those of its querysets, are logged."""

    if TYPE_CHECKING:

        def get_queryset(self) -> LoggedQuerySet[M_co]: ...
