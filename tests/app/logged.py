"""What the tests of capture ask the log."""

from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import orjson
from django.db import connections
from django.db.backends.base.base import BaseDatabaseWrapper
from django.db.models import QuerySet
from django.test import override_settings

from synchro import capture, values
from synchro.models import ChangeLog
from synchro.registry import spec

ALIASES = ["default", "hq", "ship"]


@dataclass(frozen=True)
class Logged:
    """One row of the log: what was done to which object, and the values that it holds."""

    action: str
    model: str
    pk: str
    link: str = ""
    state: Any = None

    @property
    def short(self):
        return (self.action, self.model.partition(".")[2], self.pk, *([self.link] if self.link else []))


def log(*, since=0, using="default", model=None):
    """The rows of the log after the row *since*, oldest first."""
    rows = ChangeLog.objects.using(using).filter(pk__gt=since).order_by("pk")
    if model is not None:
        rows = rows.filter(model=model._meta.label_lower)
    return [
        Logged(row.action, row.model, row.pk_text, row.link, orjson.loads(row.payload) if row.payload else None)
        for row in rows
    ]


def mark(using="default"):
    """Where the log ends now: the *since* of a later look."""
    return ChangeLog.objects.using(using).order_by("-pk").values_list("pk", flat=True).first() or 0


@contextmanager
def noted(using="default"):
    """A list that holds, after the block, what was logged in it."""
    found = []
    start = mark(using)
    yield found
    found += log(since=start, using=using)


@contextmanager
def tracking(*entries):
    """Track other models than the settings say."""
    with override_settings(SYNCHRO_MODELS=entries):
        yield
    capture.connect()


def close_connections():
    """Close those of this thread, also to databases in memory, which Django keeps open."""
    for connection in connections.all(initialized_only=True):
        BaseDatabaseWrapper.close(connection)


def decoded(model, state):
    """Field name → python value of a logged state."""
    fields = {field.name: field for field in spec(model).fields}
    return {name: values.decode(fields[name], value) for name, value in state.items()}


def row_values(model, pk, using="default"):
    """Field name → python value in the database, past every instance and manager."""
    names = {field.attname: field.name for field in spec(model).fields}
    row = QuerySet(model, using=using).filter(pk=pk).values(*names).get()
    return {names[name]: value for name, value in row.items()}


def assert_logged_is_row(obj, *, using="default", pk=None):
    """The newest row of the log about *obj* says what its row says."""
    model = type(obj)._meta.concrete_model
    last = log(using=using, model=model)[-1]
    row = row_values(model, obj.pk if pk is None else pk, using)
    assert decoded(model, last.state) == row
