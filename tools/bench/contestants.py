"""Who is measured, and what all of them need.

A contestant prepares (unmeasured) and returns the function that is measured. The first of each work is what the others
are compared with; "limit: …" is the least that the same work can cost, not a program to use.
"""

import os
import re
from collections.abc import Callable
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path

BATCH = 100  # objects a transaction, where objects are saved one by one


@dataclass(frozen=True)
class Contestant:
    """`listener`: what is installed; `state`: the database it begins with; `databases`: where it can run at all.

    `needs`: a package without which it cannot run, besides that of its listener.
    """

    work: str
    name: str
    prepare: Callable
    listener: str = "none"
    state: str = "empty"
    node: str = "bench"
    databases: tuple = ("sqlite", "postgres", "mariadb")
    remote: str | None = None
    needs: str | None = None

    @property
    def work_kind(self):
        return re.match("[a-z]+", self.work)[0]

    @property
    def is_possible(self):
        """Whether this Python has what it needs."""
        own = self.listener if self.listener not in ("none", "synchro", "triggers") else None
        return all(name is None or find_spec(name) is not None for name in (self.needs, own))


CONTESTANTS: list[Contestant] = []
FOLDER = Path(os.environ.get("BENCH_FOLDER", "."))


def contestant(work, name, **options):
    def register(prepare):
        CONTESTANTS.append(Contestant(work, name, prepare, **options))
        return prepare

    return register


def find(work, name):
    return next(each for each in CONTESTANTS if (each.work, each.name) == (work, name))


# --- what several of them do ------------------------------------------------------------------------------------------


def in_batches(items, save, *, revisions=False, end=None):
    """Call *save* for each of *items*, `BATCH` a transaction; and *end*, if there is one, at the end of each."""
    from contextlib import nullcontext

    from django.db import transaction

    revision = nullcontext
    if revisions:
        import reversion

        revision = reversion.create_revision
    for first in range(0, len(items), BATCH):
        with transaction.atomic(), revision():
            for item in items[first : first + BATCH]:
                save(item)
            if end is not None:
                end()


def point_again(instance):
    """Take over the primary keys that the targets got when they were saved."""
    for field in instance._meta.concrete_fields:
        if field.is_relation:
            setattr(instance, field.name, getattr(instance, field.name))


def save_new(instance):
    point_again(instance)
    instance.save()


def stored(limit=None):
    from library.models import Author, Book, Review, Tag

    return [each for model in (Author, Tag, Book, Review) for each in model._base_manager.order_by("pk")][:limit]


TOUCHED = {"Author": "note", "Tag": "label", "Book": "title", "Review": "text"}


def touch(instance, suffix):
    """Change what is no part of a key."""
    field = TOUCHED[type(instance).__name__]
    setattr(instance, field, f"{getattr(instance, field)[:30]}{suffix}")
