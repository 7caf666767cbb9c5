"""Starting over: the log is emptied, and everything up to now counts as synchronized."""

from __future__ import annotations

from django.db import DEFAULT_DB_ALIAS
from django.utils import timezone

from synchro import nodes, reconciling, restating
from synchro.models import Action, ChangeLog, Conflict, Destination, Held, RemoteHeld, Unseen, Version, options
from synchro.seal import seal_pending


def reset_synchro(using: str = DEFAULT_DB_ALIAS) -> None:
    """Empty the log and move every destination to its end, as after copying the database to the other places.

    Positions go on, and what is known of others stays: tombstones, references, and changes that are held. A deployment
    that has not imported everything before the reset will be told that changes are missing. The last deletions and the
    merges stay in the log, for snapshots: no row tells of them.
    """
    with nodes.outermost(using, durable=False):  # also as a part of the caller's: nothing leaves the database
        node = nodes.lock_own(using)
        seal_pending(node, using)
        # Of the earlier reset where nothing was logged since: peers know the position by this date.
        node.reset_date = nodes.date_at(node, node.seq, using) if node.seq else None
        node.reset_seq = node.seq
        node.save(using=using)
        restating.remember(using)
        reconciling.remember_rows(using)
        held = Held.objects.using(using).values("change")
        waiting = Conflict.objects.using(using).filter(held=True, change_id__isnull=False).values("change_id")
        # What somebody else commits at this moment is pending: it was not looked at, and stays.
        rows = ChangeLog.objects.using(using).filter(log__isnull=False).exclude(pk__in=held).exclude(pk__in=waiting)
        tombs = Version.objects.using(using).filter(deleted=True, change_id__isnull=False).values("change_id")
        unseen = Unseen.objects.using(using).values("change")  # what did not come yet is waited for all the same
        rows = rows.exclude(log=node, action=Action.SAME).exclude(pk__in=unseen)
        rows = rows.exclude(log=node, action__in=[Action.DELETE, Action.UNLINK], pk__in=tombs)
        rows._raw_delete(using)  # noqa: SLF001  delete() would load them all, to look for what is held
        RemoteHeld.objects.using(using).all().delete()
        Destination.objects.using(using).filter(log=node).update(seq=node.seq, moved=timezone.now())
    if using == DEFAULT_DB_ALIAS:  # the option is that database's, and moves its position
        options.last_check = timezone.now()
