"""Models and m2m fields that were renamed: what synchro's own tables call them follows.

References, versions and the histories of objects go by labels, and links by the names of their fields. The log keeps
what it has,
but for the model by which an object's history is found.
"""

from __future__ import annotations

from django.db.models import Exists, Model, OuterRef, Subquery

from synchro import serialize, tables, upcasting
from synchro.models import ChangeLog, Conflict, MergedRow, Reference, RemoteReference, Version


def follow_renames(using: str) -> None:
    """Carry out what the upcasters say of renamed models and m2m fields; no query where they say nothing."""
    for former, present in upcasting.moves().items():
        _follow_move(former, present, using)
    for (label, former_link), present_link in upcasting.link_renames().items():
        if present_link is not None:
            _follow_link(label, former_link, present_link, using)


def _follow_move(former: str, present: str, using: str) -> None:
    references = Reference.objects.using(using).filter(model=former)
    known = Reference.objects.using(using).filter(model=present, object_id=OuterRef("object_id"))
    if references.exists():
        _delete(
            Reference,
            list(references.filter(object_id=Subquery(known.values("object_id")[:1])).values_list("pk", flat=True)),
            using,
        )
        references.update(model=present)
    rows = Version.objects.using(using).filter(root=former)
    if rows.exists():
        twin = Version.objects.using(using).filter(root=present, pk_text=OuterRef("pk_text"), link=OuterRef("link"))
        both = rows.annotate(twin=Subquery(twin.values("pk")[:1]), twin_date=Subquery(twin.values("date")[:1]))
        pairs = both.filter(twin__isnull=False).values_list("pk", "twin", "date", "twin_date")
        _delete(Version, [pk if date < other else twin_ for pk, twin_, date, other in pairs], using)
        rows.update(root=present)
    merged = MergedRow.objects.using(using).filter(root=former)
    if merged.exists():
        kept = MergedRow.objects.using(using).filter(root=present, pk_text=OuterRef("pk_text"))
        _delete(MergedRow, list(merged.filter(Exists(kept)).values_list("pk", flat=True)), using)
        merged.update(root=present)
    remote = RemoteReference.objects.using(using).filter(model=former)
    if remote.exists():
        same = {"remote": OuterRef("remote"), "pk_text": OuterRef("pk_text")}
        twins = RemoteReference.objects.using(using).filter(model=present, **same)
        _delete(RemoteReference, list(remote.filter(Exists(twins)).values_list("pk", flat=True)), using)
        remote.update(model=present)
    conflicts = Conflict.objects.using(using).filter(model=former)
    if conflicts.exists():
        conflicts.update(model=present)
    logged = ChangeLog.objects.using(using).filter(root=former)
    if logged.exists():
        logged.update(root=present)


def _follow_link(label: str, former: str, present: str, using: str) -> None:
    named = {"link__startswith": f"{former}:"}
    for model, rows in (
        (Version, Version.objects.using(using).filter(root=label, **named)),
        (Conflict, Conflict.objects.using(using).filter(model=label, **named)),
    ):
        renamed = [(f"{present}:{link.partition(':')[2]}", pk) for pk, link in rows.values_list("pk", "link")]
        tables.update_many(model, tables.columns(model, "link"), [model._meta.pk], renamed, using)


def _delete(model: type[Model], pks: list[int], using: str) -> None:
    for part in serialize.chunks(pks):
        model._default_manager.using(using).filter(pk__in=part).delete()
