"""Column types of synchro's own tables."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from django.db import models
from django.db.backends.base.base import BaseDatabaseWrapper

if TYPE_CHECKING:
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

    def from_db_value(self, value: Any, *_args: Any) -> Any:
        return value.decode() if isinstance(value, (bytes, bytearray)) else value
