"""Reading a file into a database that is empty, or that holds the same objects."""

import json

from contestants import FOLDER, contestant


def load(name):
    from django.core.management import call_command

    path = str(FOLDER / name)
    return lambda: call_command("loaddata", path, verbosity=0)


def take(name, **options):
    from synchro import import_bundle

    path = FOLDER / name

    def run():
        report = import_bundle(path, **options)
        if report.held:
            raise RuntimeError(f"changes were held: {report}")
        return {"conflicts": report.conflicts}

    return run


def listen():
    """A receiver of the project's own, so that objects are saved one by one."""
    from django.db.models.signals import post_save
    from library import models

    def receiver(**kwargs):
        return None

    for name in ("Author", "Tag", "Book", "Review"):
        post_save.connect(receiver, sender=getattr(models, name), weak=False)


def import_works(work, state, taken, bundle, fixture):
    @contestant(work, "loaddata, natural keys", state=state)
    def natural(size):
        return load(f"{fixture}natural.json")

    @contestant(work, "loaddata, primary keys", state=state)
    def pk(size):
        return load(f"{fixture}pk.json")

    @contestant(work, "import-export, bulk", state=state, needs="import_export")
    def tuned(size):
        import tablib
        from resources import ALL

        parts = json.loads((FOLDER / f"{fixture}tuned.json").read_text())

        def run():
            for resource, part in zip(ALL, parts, strict=True):
                dataset = tablib.Dataset()
                dataset.dict = part
                resource().import_data(dataset, raise_errors=True, use_transactions=True)

        return run

    @contestant(work, "synchro", listener="synchro", state=taken, node="target")
    def bulk(size):
        return take(bundle)

    @contestant(work, "synchro, with handlers", listener="synchro", state=taken, node="target")
    def saving(size):
        listen()
        return take(bundle)


import_works("import: empty", "empty", "empty", "first.jsonl.zst", "")
import_works("import: all changed", "full", "taken", "second.jsonl.zst", "changed-")


@contestant("import: empty", "limit: executemany")
def import_limit(size):
    from django.db import connection, transaction
    from library.models import Author, Book, Review, Tag

    parts = json.loads((FOLDER / "pk.json").read_text())

    def run():
        with transaction.atomic(), connection.cursor() as cursor:
            for model in (Author, Tag, Book, Review):
                fields = list(model._meta.concrete_fields)
                names = ", ".join(connection.ops.quote_name(field.column) for field in fields)
                marks = ", ".join(["%s"] * len(fields))
                rows = [
                    [
                        part["pk"]
                        if field.primary_key
                        else field.get_db_prep_save(field.to_python(part["fields"][field.name]), connection)
                        if not field.is_relation
                        else part["fields"][field.name]
                        for field in fields
                    ]
                    for part in parts
                    if part["model"] == model._meta.label_lower
                ]
                table = connection.ops.quote_name(model._meta.db_table)
                cursor.executemany(f"INSERT INTO {table} ({names}) VALUES ({marks})", rows)
            table = connection.ops.quote_name(Book.tags.through._meta.db_table)
            pairs = [(p["pk"], tag) for p in parts if p["model"] == "library.book" for tag in p["fields"]["tags"]]
            cursor.executemany(f"INSERT INTO {table} (book_id, tag_id) VALUES (%s, %s)", pairs)

    return run


@contestant("import: all in conflict", "loaddata, natural keys", state="full")
def conflict_base(size):
    return load("changed-natural.json")


@contestant("import: all in conflict", "synchro", listener="synchro", state="edited", node="target")
def conflicting(size):
    return take("second.jsonl.zst")


@contestant("import: known already", "loaddata, natural keys", state="full")
def known_base(size):
    return load("natural.json")


@contestant("import: known already", "synchro", listener="synchro", state="taken", node="target")
def known(size):
    return take("first.jsonl.zst")
