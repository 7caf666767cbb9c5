"""One deployment of the driver: a process that forks a child for each thing to do.

So a child can be killed at any moment, and the next one starts at once.

Reads one JSON object a line: `{"do": …, …}`. Answers with the child's process id as soon as it runs, and with how it
ended. The library of the benchmarks is the project.
"""

import json
import os
import random
import sys
import traceback
from pathlib import Path


def write(seed, journal, **_):
    """Make, change, link and delete objects for ever; note in *journal* each transaction that was committed."""
    from django.db import transaction
    from library.models import Author, Book, Review, Tag

    rng = random.Random(seed)  # noqa: S311 - an experiment that can be repeated
    with Path(journal).open("a") as notes:
        number = 0
        while True:
            number += 1
            name = f"{seed}-{number}"
            with transaction.atomic():
                author = Author.objects.create(name=name)
                tag, _ = Tag.objects.get_or_create(slug=f"tag-{rng.randrange(30)}")
                book = Book.objects.create(
                    isbn=name[:13], title=name, author=author, price="9.90", published="2026-01-01", data={"n": number}
                )
                book.tags.add(tag)
                Review.objects.create(
                    code=f"t{name}", book=book, stars=1, written="2026-01-01T00:00:00Z", text="committed"
                )
                old = Book.objects.exclude(pk=book.pk).order_by("?").first()
                if old is not None and rng.randrange(3) == 0:
                    old.tags.clear()
                if old is not None:
                    old.title = f"changed by {name}"
                    old.save()
                gone = Review.objects.filter(code__startswith="x").order_by("?").first()
                if gone is not None and rng.randrange(2) == 0:
                    gone.delete()
                Review.objects.create(
                    code=f"x{name}", book=book, stars=2, written="2026-01-01T00:00:00Z", text="may be deleted"
                )
            notes.write(f"t{name}\n")
            notes.flush()


def add(seed, number=1, **_):
    """So many objects more, whose values cannot be compressed."""
    from django.db import transaction
    from library.models import Tag

    rng = random.Random(seed)  # noqa: S311 - an experiment that can be repeated
    with transaction.atomic():
        for _n in range(number):
            Tag.objects.create(slug=rng.randbytes(20).hex(), label=rng.randbytes(40).hex())


def edit(number, seed, **_):
    """Change *number* objects, in one transaction."""
    from django.db import transaction
    from library.models import Book

    with transaction.atomic():
        for book in Book.objects.order_by("pk")[:number]:
            book.title = f"edited {seed}"
            book.save()


def rival(number, seed, **_):
    """Change the same objects as ``edit``, backwards and a few at a time, as a busy application would."""
    from django.core.management import CommandError
    from django.db import OperationalError, transaction
    from library.models import Book

    refused = 0
    keys = list(Book.objects.order_by("pk").values_list("pk", flat=True)[:number])[::-1]
    for begin in range(0, len(keys), 10):
        try:
            with transaction.atomic():
                for key in keys[begin : begin + 10]:
                    book = Book.objects.filter(pk=key).first()
                    if book is not None:
                        book.title = f"rival {seed}"
                        book.save()
        except OperationalError:  # a deadlock, or too long a wait: an application tries again
            refused += 1
    if refused:
        raise CommandError(f"{refused} of its transactions were refused")


def positions(answer, **_):
    """Where each destination stands."""
    from synchro.models import Destination

    found = dict(Destination.objects.filter(log__current=True).values_list("name", "seq"))
    Path(answer).write_text(json.dumps(found))


def command(name, args, **_):
    from django.core.management import call_command

    call_command(name, *args)


def check(journal, answer, **_):
    """Whether the log tells what the tables hold, without a gap, and whether all that was committed is there."""
    import orjson
    from django.db import DEFAULT_DB_ALIAS
    from library.models import Book, Review

    from synchro import registry, serialize
    from synchro.models import ChangeLog, Node

    problems = []
    last = {}
    for label, pk, link, action, payload, imported in ChangeLog.objects.order_by("pk").values_list(
        "model", "pk_text", "link", "action", "payload", "imported"
    ):
        last[label, pk, link] = (action, payload, imported)
    for model in registry.tracked():
        spec = registry.spec(model)
        states = serialize.row_states(spec, list(model._base_manager.values_list("pk", flat=True)), DEFAULT_DB_ALIAS)
        for pk, state in states.items():
            action, payload, imported = last.get((spec.label, str(pk), ""), ("never", "", False))
            if action in ("never", "delete") or (not imported and orjson.loads(payload) != state):
                problems.append(f"{spec.label} {pk} is {state}, and the log says {action} {payload}")
        for (label, pk, link), (action, *_rest) in last.items():
            if label == spec.label and not link and action != "delete" and int(pk) not in states:
                problems.append(f"{label} {pk} is gone, and the log says {action}")
    links = {(str(a), f"tags:{b}") for a, b in Book.tags.through._base_manager.values_list("book_id", "tag_id")}
    logged = {(pk, link) for (_, pk, link), (action, *_rest) in last.items() if link and action == "link"}
    alive = set(map(str, Book._base_manager.values_list("pk", flat=True)))
    logged = {(pk, link) for pk, link in logged if pk in alive}
    problems += [f"link {each} differs between table and log" for each in links ^ logged]
    for node in Node.objects.filter(own=True):
        rows = ChangeLog.objects.filter(log=node, seq__gt=max(node.pruned_seq, node.reset_seq))
        positions = list(rows.order_by("seq").values_list("seq", flat=True))
        if positions and positions != list(range(positions[0], node.seq + 1)):
            problems.append(f"the positions of {node.ident} have a gap")
    if journal and Path(journal).exists():
        missing = set(Path(journal).read_text().split()) - set(Review._base_manager.values_list("code", flat=True))
        problems += [f"{code} was committed and is not there" for code in sorted(missing)]
    Path(answer).write_text(json.dumps(problems))


def dump(answer, alias="default", **_):
    """What the tables hold, by natural keys."""
    from library.models import Author, Book, Review, Tag

    found = {
        "authors": sorted(Author._base_manager.using(alias).values_list("name", "note")),
        "tags": sorted(Tag._base_manager.using(alias).values_list("slug", "label")),
        "books": sorted(map(str, Book._base_manager.using(alias).values_list("isbn", "title", "author__name", "data"))),
        "reviews": sorted(map(str, Review._base_manager.using(alias).values_list("code", "book__isbn", "text"))),
        "links": sorted(Book.tags.through._base_manager.using(alias).values_list("book__isbn", "tag__slug")),
    }
    Path(answer).write_text(json.dumps(found))


DOES = {
    "write": write, "add": add, "edit": edit, "rival": rival, "command": command, "check": check, "dump": dump,
    "positions": positions,
}  # fmt: skip


def child(asked):
    """Do one thing in a process of its own; never returns."""
    import resource

    status = 1
    descriptor = os.open(asked["log"], os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    os.dup2(descriptor, 1)
    os.dup2(descriptor, 2)
    sys.stdout, sys.stderr = os.fdopen(1, "w"), os.fdopen(2, "w")
    try:
        if asked.get("file_limit"):
            # A file that reaches this size cannot grow: what a full disk says, without filling one.
            resource.setrlimit(resource.RLIMIT_FSIZE, (asked["file_limit"], asked["file_limit"]))
        DOES[asked["do"]](**{name: value for name, value in asked.items() if name not in ("do", "log", "file_limit")})
        status = 0
    except BaseException as error:  # noqa: BLE001 - the parent is told by the status, the log by the text
        from django.core.management import CommandError

        if not isinstance(error, CommandError):
            traceback.print_exc()
            status = 2
        else:
            sys.stderr.write(f"{error}\n")
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(status)


def main():
    import django

    django.setup()
    # What is imported before the fork need not be imported after it.
    from library import models  # noqa: F401

    from synchro import export_bundle, import_bundle  # noqa: F401
    from synchro.management.commands import synchro_export, synchro_import, synchronize  # noqa: F401

    for line in sys.stdin:
        pid = os.fork()
        if not pid:
            child(json.loads(line))
        sys.stdout.write(json.dumps({"pid": pid}) + "\n")
        sys.stdout.flush()
        _, status = os.waitpid(pid, 0)
        sys.stdout.write(json.dumps({"status": os.waitstatus_to_exitcode(status)}) + "\n")
        sys.stdout.flush()


if __name__ == "__main__":
    main()
