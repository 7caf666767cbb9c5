"""Who this deployment is, and what it has of the others.

The row of the current own node is the lock of the log: whoever numbers changes, or imports, updates it first of all
statements (a transaction that reads first and writes later dies on SQLite with "database is locked"), in a transaction
of its own (:func:`outermost`).
"""

from __future__ import annotations

import secrets
from collections.abc import Iterable, Iterator
from contextlib import contextmanager

from django.db import DEFAULT_DB_ALIAS, IntegrityError, connections, transaction
from django.db.models import F

from synchro import conf, references, serialize, tables
from synchro.models import ChangeLog, Destination, KnownRange, Node


def new_ident(name: str) -> str:
    """A node id that nobody else has: *name* and 32 random bits."""
    return f"{name}-{secrets.token_hex(4)}"


@contextmanager
def outermost(using: str, *, durable: bool = True) -> Iterator[None]:
    """An outermost transaction, for :func:`lock_own`; inside another one ``RuntimeError``, or a part without *durable*.

    Whatever isolation level the project has, each statement sees what is committed by then. With a snapshot of its
    beginning, what others commit before their rows are locked would be overwritten unseen.
    """
    with transaction.atomic(using=using, durable=durable):
        connection = connections[using]
        if connection.vendor != "sqlite" and len(connection.atomic_blocks) == 1:
            with connection.cursor() as cursor:
                cursor.execute("SET TRANSACTION ISOLATION LEVEL READ COMMITTED")
        yield


def lock_own(using: str) -> Node:
    """The current own node, locked until the transaction ends. Call it before any other query of the transaction.

    Creates the node at first use. A database whose node has another name than ``SYNCHRO_NODE`` is a copy of another
    deployment's: it gets an id of its own.
    """
    current = Node.objects.using(using).filter(current=True)
    if not current.update(clock=F("clock")):
        try:
            with transaction.atomic(using=using):
                name = conf.node_name(using)
                # Another deployment's database says its own name when that deployment first works on it.
                said = name if using == DEFAULT_DB_ALIAS else ""
                Node.objects.using(using).create(ident=new_ident(name), name=said, own=True, current=True)
        except IntegrityError:  # another process was first: wait for it
            current.update(clock=F("clock"))
    # As it is, also where the caller's transaction has a snapshot of what was before.
    node = current.select_for_update().get()
    if using == DEFAULT_DB_ALIAS and not node.name:
        node.name = conf.node_name(using)
        node.save(using=using, update_fields=["name"])
    elif is_copied(node, using):
        node = take_new_id(node, using)
    return node


def is_copied(node: Node, using: str) -> bool:
    """Whether the database whose own node *node* is belongs to a deployment of another name by now."""
    return using == DEFAULT_DB_ALIAS and bool(node.name) and node.name != conf.node_name(using)


def own(using: str) -> Node | None:
    """The current own node without locking or creating it."""
    return Node.objects.using(using).filter(current=True).first()


def name_of(node: Node, using: str) -> str:
    """What *node*, own node of database *using*, is called: by the alias until its deployment has said its name."""
    return node.name or conf.node_name(using)


def own_idents(using: str) -> frozenset[str]:
    """Every id that this deployment has or had."""
    return frozenset(Node.objects.using(using).filter(own=True).values_list("ident", flat=True))


def date_at(node: Node, seq: int, using: str) -> int | None:
    """The date of position *seq* of the log of *node*; known after a reset or pruning up to there as well."""
    date = ChangeLog.objects.using(using).filter(log=node, seq=seq).values_list("date", flat=True).first()
    if date is None:
        date = {node.pruned_seq: node.pruned_date, node.reset_seq: node.reset_date}.get(seq)
    return date


def take_new_id(old: Node, using: str) -> Node:
    """Go on under a new id: the database is a copy, and its old id lives on elsewhere.

    What was logged under the old id is known from now on as that node's; objects that were born under it keep their ids
    by explicit references, and those that were added since it was copied get ids of the new node.

    Its own log starts at 1, with what some destination has not got yet: where nothing was copied and the deployment got
    another name, nobody else would send that. These changes stay the old node's, so whoever has them from the original
    knows them, and the other way round.
    """
    name = conf.node_name(using)
    resend = unsent(old, old.seq, using)
    behind = list(old.destinations.using(using).filter(seq__lt=old.seq).values_list("name", flat=True))
    KnownRange.objects.using(using).filter(origin=old).delete()
    if old.seq:
        KnownRange.objects.using(using).create(origin=old, first=1, last=old.seq)
    last = date_at(old, old.seq, using)
    old.own, old.current, old.taken_seq, old.taken_date = False, None, old.seq, last
    old.save(using=using)
    # What others have is of the old log.
    Node.objects.using(using).update(acked_seq=0)
    new = Node.objects.using(using).create(ident=new_ident(name), name=name, own=True, current=True, clock=old.clock)
    references.pin_newborn(new, using)
    references.pin_births(old.ident, using)
    move_log(old, new, resend, using)
    Destination.objects.using(using).bulk_create(Destination(log=new, name=each) for each in behind)
    new.save(using=using)
    return new


def unsent(old: Node, common: int, using: str) -> int:
    """The position, *common* at most, up to which every destination of *old* has got its log."""
    exported = Destination.objects.using(using).filter(log=old).values_list("seq", flat=True)
    return max(min([*exported, common], default=0) if exported else 0, old.reset_seq, old.pruned_seq)


def move_log(old: Node, new: Node, after: int, using: str) -> None:
    """Put what *old* has after position *after*, in its order, at the end of *new*'s log. The caller saves *new*."""
    columns = tables.columns(ChangeLog, "log", "seq", "origin", "origin_seq")
    rows = ChangeLog.objects.using(using).filter(log=old, seq__gt=after).order_by("seq")
    while part := list(rows.values_list("pk", "origin", "origin_seq")[: serialize.CHUNK]):
        moved = []
        for pk, origin, origin_seq in part:
            new.seq += 1
            moved.append((new.pk, new.seq, origin, new.seq if origin == new.pk else origin_seq, pk))
        tables.update_many(ChangeLog, columns, [ChangeLog._meta.pk], moved, using)


def numbers(using: str) -> dict[str, int]:
    """The primary keys of all nodes that are known here, by id."""
    return dict(Node.objects.using(using).values_list("ident", "pk"))


def by_ident(idents: Iterable[str], using: str) -> dict[str, Node]:
    """The rows of the nodes called *idents*; those that are missing are created."""
    wanted = set(idents)
    found = {node.ident: node for node in Node.objects.using(using).filter(ident__in=wanted)}
    missing = sorted(wanted - set(found))
    if missing:
        rows = Node.objects.using(using)
        rows.bulk_create(Node(ident=ident, name=ident.rpartition("-")[0]) for ident in missing)
        found.update((node.ident, node) for node in rows.filter(ident__in=missing))
    return found
