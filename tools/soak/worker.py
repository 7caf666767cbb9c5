"""What runs in the processes of the soak: ``worker.py write FOLDER NUMBER THREADS SECONDS`` and the like.

The library of the benchmarks is the project. A writer notes each transaction in a journal, after its commit.
"""

import json
import random
import sys
import threading
import time
from pathlib import Path

SHARED = 8


class Abandoned(Exception):  # noqa: N818 - no error: a transaction that is rolled back on purpose
    """The transaction is not to be."""


def write(folder, number, threads, seconds):
    """Write with so many threads for so many seconds, each with its own objects and some that all of them change."""
    until = time.monotonic() + float(seconds)
    failures = []

    def guarded(thread):
        try:
            _write(Path(folder), f"{number}-{thread}", until)
        except BaseException as error:  # noqa: BLE001 - said below, in the process
            failures.append(error)

    running = [threading.Thread(target=guarded, args=(thread,)) for thread in range(int(threads))]
    for thread in running:
        thread.start()
    for thread in running:
        thread.join()
    if failures:
        raise failures[0]


def _write(folder, name, until):
    from django.db import OperationalError, connection, transaction

    rng = random.Random(name)  # noqa: S311 - an experiment that can be repeated
    alive, count = [], 0
    with (folder / f"{name}.journal").open("w") as journal:
        while time.monotonic() < until:
            count += 1
            did = []
            kept = list(alive)
            try:
                with transaction.atomic():
                    for _ in range(rng.choice((1, 1, 2, 5))):
                        did.append(_step(rng, name, count, len(did), kept))
                    if rng.randrange(3) == 0:
                        time.sleep(rng.random() / 50)  # others commit meanwhile what got its number later
                    if rng.randrange(10) == 0:
                        raise Abandoned
            except (Abandoned, OperationalError):  # on purpose, or a deadlock: it is as if it had not been
                continue
            alive = kept
            journal.writelines(json.dumps(each) + "\n" for each in did)
    connection.close()


def _step(rng, name, count, step, alive):
    from library.models import Author, Tag

    token = f"{name}/{count}/{step}"
    kind = rng.randrange(6)
    if kind == 0:
        author = Author.objects.select_for_update().get(name=f"shared {rng.randrange(SHARED)}")
        author.note = str(int(author.note) + 1)
        author.save()
        return ["change", "library.author", author.name, author.note]
    if kind == 1 and alive:
        slug = alive.pop(rng.randrange(len(alive)))
        Tag.objects.get(slug=slug).delete()
        return ["delete", "library.tag", slug, None]
    if kind in (2, 3) and alive:
        tag = Tag.objects.get(slug=rng.choice(alive))
        tag.label = token
        tag.save()
        return ["change", "library.tag", tag.slug, token]
    slug = token.replace("/", "-")
    Tag.objects.create(slug=slug, label=token)
    alive.append(slug)
    return ["add", "library.tag", slug, token]


def export(folder, destination):
    """Export again and again until a file ``stop`` is there; once more after that."""
    from synchro import export_bundle

    target = Path(folder) / destination
    target.mkdir()
    last = False
    while not last:
        last = (Path(folder) / "stop").exists()
        export_bundle(target, to=destination)
        time.sleep(0.05)


def prepare(_folder):
    """The objects that all writers change."""
    from library.models import Author

    for number in range(SHARED):
        Author.objects.create(name=f"shared {number}", note="0")


def logged(folder):
    """What the log holds, in its order, and the positions."""
    import orjson

    from synchro.models import ChangeLog, Node

    node = Node.objects.get(current=True)
    rows = ChangeLog.objects.filter(log=node).order_by("seq")
    found = [
        [seq, action, model, pk, orjson.loads(payload) if payload else {}]
        for seq, action, model, pk, payload in rows.values_list("seq", "action", "model", "pk_text", "payload")
    ]
    Path(folder, "log.json").write_bytes(orjson.dumps({"seq": node.seq, "rows": found}))
    Path(folder, "pending.json").write_text(str(ChangeLog.objects.filter(seq=None).count()))


def dump(folder, name):
    """What the tables hold."""
    from library.models import Author, Tag

    rows = [sorted(Author.objects.values_list("name", "note")), sorted(Tag.objects.values_list("slug", "label"))]
    Path(folder, f"{name}.json").write_text(json.dumps(rows))


def command(*words):
    from django.core.management import call_command

    call_command(*words)


def main():
    import django

    django.setup()
    what, *how = sys.argv[1:]
    {"write": write, "export": export, "prepare": prepare, "logged": logged, "dump": dump, "command": command}[what](
        *how
    )


if __name__ == "__main__":
    main()
