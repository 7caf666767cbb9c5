"""Column types of synchro's own tables."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from django.db import models
from django.db.backends.base.base import BaseDatabaseWrapper

if TYPE_CHECKING:
    from collections.abc import Sequence

    from django.core.checks import CheckMessage

    _CharField = models.CharField[str, str]
else:  # not generic at run time
    _CharField = models.CharField


class ExactCharField(_CharField):
    """Text that is compared byte by byte on every database.

    MariaDB's and MySQL's default collations take ``abc``, ``ABC`` and ``abc `` for one; primary keys and object ids are
    not.
    """

    def db_type(self, connection: BaseDatabaseWrapper) -> str:
        if connection.vendor == "mysql":
            return f"varbinary({4 * (self.max_length or 255)})"
        return super().db_type(connection) or ""

    def get_db_converters(self, connection: BaseDatabaseWrapper) -> list[Any]:
        """Only where the driver gives bytes: a function for each value would be a tenth of reading the log."""
        return [_decoded] if connection.vendor == "mysql" else []


def _decoded(value: Any, *_args: Any) -> Any:
    return value.decode() if isinstance(value, (bytes, bytearray)) else value


class UncheckedJSONField(models.JSONField):
    """JSON, without Django's check that asks every database of the project whether it can hold such.

    On SQLite that opens a connection: with a REMOTE that cannot be reached no command would start, not even the server.
    """

    def check(self, **kwargs: Any) -> Sequence[CheckMessage]:  # type: ignore[override]  # a list in some versions
        return super().check(**{**kwargs, "databases": ()})

    def deconstruct(self) -> Any:
        name, _path, args, kwargs = super().deconstruct()
        return name, "django.db.models.JSONField", args, kwargs
