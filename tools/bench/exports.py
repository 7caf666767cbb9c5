"""Writing everything to a file."""

from pathlib import Path

from contestants import FOLDER, contestant


def _written(path):
    return {"bytes": Path(path).stat().st_size}


def dump(*options):
    from django.core.management import call_command

    path = FOLDER / "dump.json"

    def run():
        call_command("dumpdata", "library", *options, output=str(path), verbosity=0)
        return _written(path)

    return run


@contestant("export", "dumpdata, natural keys", state="full")
def dump_natural(size):
    return dump("--natural-foreign", "--natural-primary")


@contestant("export", "dumpdata, primary keys", state="full")
def dump_pk(size):
    return dump()


@contestant("export", "import-export, tuned", state="full", needs="import_export")
def export_tuned(size):
    from resources import ALL

    def run():
        path = FOLDER / "tuned-export.json"
        with path.open("w") as file:
            for resource in ALL:
                file.write(resource().export(resource.tuned()).json)
        return _written(path)

    return run


@contestant("export", "synchro", listener="synchro", state="logged")
def export(size):
    """Sealing included: the changes have no positions yet."""
    from synchro import export_bundle

    return lambda: _written(export_bundle(FOLDER).file)


@contestant("export", "synchro, the range again", listener="synchro", state="exported")
def export_again(size):
    from synchro import export_bundle

    return lambda: _written(export_bundle(FOLDER / "again.jsonl.zst", since=0).file)


@contestant("export", "synchro, level 19", listener="synchro", state="exported")
def export_small(size):
    from synchro import export_bundle

    return lambda: _written(export_bundle(FOLDER / "small.jsonl.zst", since=0, level=19).file)


@contestant("export", "limit: values_list, orjson, zstd", state="full")
def export_limit(size):
    import orjson
    import zstandard
    from library.models import Author, Book, Review, Tag

    def run():
        path = FOLDER / "limit.zst"
        with path.open("wb") as file, zstandard.ZstdCompressor(level=3).stream_writer(file) as stream:
            for model in (Author, Tag, Book, Review, Book.tags.through):
                names = [field.attname for field in model._meta.concrete_fields]
                rows = model._base_manager.values_list(*names).iterator(chunk_size=1000)
                for row in rows:
                    record = {"model": model._meta.label_lower, "fields": dict(zip(names, row, strict=True))}
                    stream.write(orjson.dumps(record, default=str) + b"\n")
        return _written(path)

    return run


@contestant("export", "limit: stored payloads, joined, zstd", listener="synchro", state="exported")
def export_payloads(size):
    """What was logged, as it was logged: no line has a position, an id or a natural key."""
    import hashlib

    import zstandard
    from django.db import connection

    sql = "SELECT seq, payload, date FROM synchro_change WHERE log_id IS NOT NULL AND seq > %s ORDER BY seq LIMIT 1000"

    def run():
        path, last, digest = FOLDER / "payloads.zst", 0, hashlib.sha256()
        with path.open("wb") as file, zstandard.ZstdCompressor(level=3).stream_writer(file) as stream:
            while True:
                with connection.cursor() as cursor:
                    cursor.execute(sql, [last])
                    rows = cursor.fetchall()
                if not rows:
                    break
                last = rows[-1][0]
                block = "\n".join([row[1] for row in rows]).encode()
                digest.update(block)
                stream.write(block)
        return _written(path)

    return run
