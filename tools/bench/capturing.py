"""Saving, linking and deleting objects one by one, with different programs listening."""

import json

from contestants import contestant, in_batches, save_new, stored, touch

LISTENERS = (
    ("plain save", "none", ("sqlite", "postgres", "mariadb")),
    ("synchro", "synchro", ("sqlite", "postgres", "mariadb")),
    ("synchro, triggers too", "triggers", ("sqlite", "postgres", "mariadb")),
    ("auditlog", "auditlog", ("sqlite", "postgres", "mariadb")),
    ("simple-history", "simple_history", ("sqlite", "postgres", "mariadb")),
    ("reversion", "reversion", ("sqlite", "postgres", "mariadb")),
    ("pghistory", "pghistory", ("postgres",)),
)


def capture_works(name, listener, databases):
    options = {"listener": listener, "databases": databases}
    revisions = listener == "reversion"

    @contestant("capture: create", name, **options)
    def create(size):
        import data

        found, _ = data.objects(size)
        return lambda: in_batches(found, save_new, revisions=revisions)

    @contestant("capture: update", name, state="full", **options)
    def update(size):
        found = stored(size)
        for each in found:
            touch(each, "!")
        return lambda: in_batches(found, lambda each: each.save(), revisions=revisions)

    @contestant("capture: update again", name, state="full", **options)
    def update_again(size):
        found = stored(size // 4)
        for each in found:
            touch(each, "?")
        in_batches(found, lambda each: each.save(), revisions=revisions)
        in_batches(found, lambda each: each.save(), revisions=revisions)
        for each in found:
            touch(each, "!")
        return lambda: in_batches(found, lambda each: each.save(), revisions=revisions)

    @contestant("capture: m2m add", name, state="full", **options)
    def links(size):
        from library.models import Book, Tag

        tags = list(Tag.objects.order_by("pk"))
        books = list(Book.objects.order_by("pk")[: size // 4])
        Book.tags.through._base_manager.filter(book__in=books[:500]).exists()
        in_batches(books, lambda book: book.tags.clear(), revisions=revisions)
        wanted = [(book, tags[n % len(tags)]) for n, book in enumerate(books)]
        return lambda: in_batches(wanted, lambda pair: pair[0].tags.add(pair[1]), revisions=revisions)

    @contestant("capture: delete", name, state="full", **options)
    def delete(size):
        from library.models import Review

        found = list(Review.objects.order_by("pk")[: size // 4])
        return lambda: in_batches(found, lambda each: each.delete(), revisions=revisions)


for _listener in LISTENERS:
    capture_works(*_listener)


_INSERT = "INSERT INTO bench_log (model, pk, payload) VALUES (%s, %s, %s)"


def _row(each):
    values = {name: str(value) for name, value in vars(each).items() if name[0] != "_"}
    return type(each).__name__, str(each.pk), json.dumps(values)


def _insert_log():
    from django.db import connection

    def insert(each):
        with connection.cursor() as cursor:
            cursor.execute(_INSERT, _row(each))

    with connection.cursor() as cursor:
        number = {"sqlite": "INTEGER PRIMARY KEY", "postgresql": "bigserial PRIMARY KEY"}.get(
            connection.vendor, "bigint AUTO_INCREMENT PRIMARY KEY"
        )
        cursor.execute(f"CREATE TABLE bench_log (id {number}, model varchar(50), pk varchar(50), payload text)")
    return insert


@contestant("capture: create", "limit: one INSERT a save")
def create_raw(size):
    import data

    insert = _insert_log()
    found, _ = data.objects(size)

    def save(each):
        save_new(each)
        insert(each)

    return lambda: in_batches(found, save)


@contestant("capture: update", "limit: one INSERT a save", state="full")
def update_raw(size):
    insert = _insert_log()
    found = stored(size)
    for each in found:
        touch(each, "!")

    def save(each):
        each.save()
        insert(each)

    return lambda: in_batches(found, save)


def _buffered(found, save):
    """Save each of *found*; what was saved is written once a transaction."""
    from django.db import connection

    _insert_log()
    rows = []

    def keep(each):
        save(each)
        rows.append(_row(each))

    def write():
        with connection.cursor() as cursor:
            cursor.executemany(_INSERT, rows)
        rows.clear()

    return lambda: in_batches(found, keep, end=write)


@contestant("capture: create", "limit: one executemany a transaction")
def create_buffered(size):
    import data

    found, _ = data.objects(size)
    return _buffered(found, save_new)


@contestant("capture: update", "limit: one executemany a transaction", state="full")
def update_buffered(size):
    found = stored(size)
    for each in found:
        touch(each, "!")
    return _buffered(found, lambda each: each.save())


def _merely_listening(**_kwargs):
    return None


@contestant("capture: m2m add", "limit: merely listening", state="full")
def links_heard(size):
    from django.db.models.signals import m2m_changed
    from library.models import Book, Tag

    tags = list(Tag.objects.order_by("pk"))
    books = list(Book.objects.order_by("pk")[: size // 4])
    in_batches(books, lambda book: book.tags.clear())
    m2m_changed.connect(_merely_listening, sender=Book.tags.through)
    wanted = [(book, tags[n % len(tags)]) for n, book in enumerate(books)]
    return lambda: in_batches(wanted, lambda pair: pair[0].tags.add(pair[1]))


@contestant("capture: delete", "limit: merely listening", state="full")
def deletions_heard(size):
    from django.db.models.signals import post_delete
    from library.models import Review

    post_delete.connect(_merely_listening, sender=Review)
    found = list(Review.objects.order_by("pk")[: size // 4])
    return lambda: in_batches(found, lambda each: each.delete())


def trigger_works(name, listener, databases=("sqlite", "postgres", "mariadb")):
    @contestant("touch triggers: update() of one row", name, listener=listener, state="full", databases=databases)
    def rows(size):
        from library.models import Review

        found = list(Review._base_manager.order_by("pk").values_list("pk", flat=True)[: size // 4])
        return lambda: in_batches(found, lambda pk: Review._base_manager.filter(pk=pk).update(stars=6))

    @contestant("touch triggers: bulk_create()", name, listener=listener, databases=databases)
    def many(size):
        import data

        return lambda: data.fill(size)


trigger_works("without", "none")
trigger_works("synchro", "triggers")
trigger_works("pghistory", "pghistory", ("postgres",))
