"""One step of the measurement: ``worker.py begin``, ``fill SIZE``, ``bundle PATH``, ``measure PATH`` or ``plans``."""

import json
import sys
import tempfile
import time

import django

COUNT = 1000  # how much is done beside a log of each size


def authors(prefix, count=COUNT):
    from library.models import Author

    return [Author(name=f"{prefix} {number}", note="some words of a note") for number in range(count)]


def begin():
    """Tables, and a log of real changes, exported."""
    from django.contrib.auth.models import User
    from django.core.management import call_command
    from django.db import transaction

    from synchro import export_bundle

    call_command("migrate", "auth", verbosity=0)
    call_command("migrate", run_syncdb=True, verbosity=0)
    User.objects.create_superuser("root", "", "root")
    with transaction.atomic():
        for each in authors("first"):
            each.save()
    with tempfile.TemporaryDirectory() as folder:
        export_bundle(folder)


def fill(size):
    """Copy the first thousand changes, with their objects' versions, until there are so many."""
    from django.db import connection, transaction
    from django.db.models import Max

    from synchro.models import ChangeLog, Node, Version

    def copied(cursor, model, changed, most):
        names = [field.column for field in model._meta.concrete_fields if not field.primary_key]
        quote = connection.ops.quote_name
        columns = ", ".join(map(quote, names))
        values = ", ".join(changed.get(name, quote(name)) for name in names)
        cursor.execute(
            f"INSERT INTO {quote(model._meta.db_table)} ({columns}) SELECT {values} "
            f"FROM {quote(model._meta.db_table)} ORDER BY id LIMIT {most}"
        )

    text = "CONCAT('c', {0}, '-', id)" if connection.vendor != "sqlite" else "'c' || {0} || '-' || id"
    with transaction.atomic(), connection.cursor() as cursor:
        node = Node.objects.get(current=True)
        while (count := ChangeLog.objects.count()) < size:
            first = ChangeLog.objects.aggregate(last=Max("pk"))["last"]
            tag, lowest = text.format(node.seq), "(SELECT MIN(low.id) FROM synchro_change low)"
            # The first rows of the log have the positions 1, 2, 3… One date a microsecond, so that none is to come.
            most = min(count, size - count)
            changed = {
                "seq": f"id - {lowest} + 1 + {node.seq}",
                "origin_seq": f"id - {lowest} + 1 + {node.seq}",
                "date": f"id - {lowest} + 1 + {node.clock}",
                "log_id": str(node.pk),
                "origin_id": str(node.pk),
                "base_node_id": "NULL",
                "base": "NULL",
                "imported": "FALSE",
                "pk_text": tag,
            }
            copied(cursor, ChangeLog, changed, most)
            date = f"change_id - {lowest} + 1 + {node.clock}"
            changed = {"date": date, "change_id": f"change_id + {first}", "pk_text": tag}
            copied(cursor, Version, changed, most)
            cursor.execute("SELECT MAX(seq), MAX(date) FROM synchro_change WHERE log_id = %s", [node.pk])
            node.seq, node.clock = cursor.fetchone()
            node.save()
    with connection.cursor() as cursor:
        cursor.execute("ANALYZE" if connection.vendor != "mysql" else "ANALYZE TABLE synchro_change, synchro_version")


def bundle(path):
    """A thousand new objects of this node, which are the next of its log."""
    from django.db import transaction

    from synchro import export_bundle

    with transaction.atomic():
        for each in authors(f"other {time.time_ns()}"):
            each.save()
    export_bundle(path)


def measure(path):
    """Everything that is measured, printed as JSON."""
    from django.contrib.auth.models import User
    from django.db import transaction
    from django.test import Client
    from library.models import Author

    from synchro import export_bundle, import_bundle
    from synchro.seal import seal
    from synchro.status import status

    found = {}

    def timed(what, work):
        started = time.perf_counter()
        result = work()
        took = 1000 * (time.perf_counter() - started)
        found[what] = min(found.get(what, took), took)
        return result

    client = Client()
    client.force_login(User.objects.get(username="root"))
    rows = list(Author._base_manager.order_by("pk")[:COUNT])

    def save():
        with transaction.atomic():
            for each in rows:
                each.save()

    def page():
        answer = client.get("/admin/synchro/changelog/")
        if answer.status_code != 200:  # noqa: PLR2004 - HTTP's word for "here it is"
            raise RuntimeError(f"the admin answers {answer.status_code}")

    folder = tempfile.mkdtemp()
    for each in range(3):
        for row in rows:
            row.note = f"round {each} of {time.time_ns()}"
        timed("capture 1,000", save)
        timed("seal 1,000", lambda: seal("default"))
        timed("export the newest 1,000", lambda number=each: export_bundle(f"{folder}/{number}.jsonl.zst"))
        timed("status", lambda: status("default"))
        timed("the admin's page of the log", page)
    timed("import 1,000", lambda: import_bundle(path, allow_gap=True))
    sys.stdout.write(json.dumps(found) + "\n")


def plans():
    """How the database goes about the slowest statements of a capture, a seal, an export and a page."""
    from django.db import connection
    from django.test.utils import CaptureQueriesContext
    from library.models import Author

    from synchro import export_bundle

    with CaptureQueriesContext(connection) as queries, tempfile.TemporaryDirectory() as folder:
        Author._base_manager.order_by("pk").first().save()
        export_bundle(folder)
    word = {"sqlite": "EXPLAIN QUERY PLAN"}.get(connection.vendor, "EXPLAIN")
    seen = set()
    for each in queries:
        sql = each["sql"]
        if not sql.startswith("SELECT") or "synchro_" not in sql or sql[:90] in seen:
            continue
        seen.add(sql[:90])
        with connection.cursor() as cursor:
            cursor.execute(f"{word} {sql.replace('%', '%%')}")
            steps = [" ".join(map(str, row)) for row in cursor.fetchall()]
        sys.stdout.write(f"{sql[:300]}\n    " + "\n    ".join(steps) + "\n")


def main():
    what, *words = sys.argv[1:]
    django.setup()
    steps = {"begin": begin, "fill": lambda size: fill(int(size)), "bundle": bundle, "measure": measure, "plans": plans}
    steps[what](*words)


if __name__ == "__main__":
    main()
