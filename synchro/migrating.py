"""After ``migrate``: synchro's own tables follow renamed models, and the schemas of now are noted for later."""

from __future__ import annotations

from typing import Any

from django.db import transaction

from synchro import registry, relabelling, schemas, tables
from synchro.models import ChangeLog, HeldObject, Reference, Schema, Version


def after_migrate(*, using: str, **_kwargs: Any) -> None:
    """Receiver of ``post_migrate``."""
    if all(tables.exists(model, using) for model in (ChangeLog, HeldObject, Reference, Schema, Version)):
        with transaction.atomic(using=using):
            relabelling.follow_renames(using)
            schemas.note_own(registry.tracked_labels(), using)
