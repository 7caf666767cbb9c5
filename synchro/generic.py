"""Generic foreign keys: which fields of a model hold one, and what each points to."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from django.core.exceptions import FieldDoesNotExist
from django.db import models

ModelClass = type[models.Model]

CONTENT_TYPE = "contenttypes.contenttype"
# By their names these are generic foreign keys also where the model declares none (the admin's log, for one).
KIND, KEYS = "content_type", ("object_id", "object_pk")


def pairs(model: ModelClass) -> Mapping[str, str]:
    """Name of the field with the object's primary key → name of the foreign key that says its content type."""
    declared = [
        (field.ct_field, field.fk_field)
        for field in model._meta.private_fields
        if hasattr(field, "ct_field") and hasattr(field, "fk_field")
    ]
    customary = [
        (field.name, field.name.removesuffix(KIND) + key)
        for field in model._meta.concrete_fields
        if field.name.endswith(KIND)
        for key in KEYS
    ]
    found: dict[str, str] = {}
    for kind, key in (*declared, *customary):
        try:
            kind_field, key_field = model._meta.get_field(kind), model._meta.get_field(key)
        except FieldDoesNotExist:
            continue
        if _is_content_type(kind_field) and _holds_a_key(key_field):
            found.setdefault(key_field.name, kind_field.name)
    return found


def _is_content_type(field: Any) -> bool:
    return isinstance(field, models.ForeignKey) and field.related_model._meta.label_lower == CONTENT_TYPE


def _holds_a_key(field: Any) -> bool:
    # In a JSON column a natural key could not be told from a value.
    return isinstance(field, models.Field) and field.concrete and not isinstance(
        field, (models.JSONField, models.ForeignKey, models.AutoField)
    )  # fmt: skip
