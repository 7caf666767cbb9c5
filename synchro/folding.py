"""The fold: of many changes of one object, the one that counts.

Per object the change with the greatest ``(date, node)`` (not the last position: an imported change may be older than
what it came after), on the earliest base; per m2m link the newest. Objects of which somebody withheld something on the
way are not folded: the newest state does not say what that is. Tombstones are kept, also of what was born within the
range: the reader may have got it in another way. What was made on top of a decision between two versions is one itself:
the reader may still be waiting for it.

They are told in an order in which each can be carried out: merges, deletions (children before parents), states (parents
before children, known objects before new ones), links.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass, replace

from django.db.models import Q

from changelog_format import Change, ModelInfo, ObjectRecord
from changelog_format.dates import format_date
from synchro import ordering, registry, serialize, upcasting
from synchro.models import Action, ChangeLog, Node, RedactedField, Unseen
from synchro.portable import PORTABLE_COLUMNS, LogRow, Missing, Translator
from synchro.redacting import Redaction
from synchro.versions import Key, Stamp


@dataclass(slots=True)
class _Folded:
    """One object or link: where it first occurs, what that was made on, and the row of the change that counts.

    ``resolution``: that change is a decision between two versions, or was made on top of one.
    """

    key: Key | None
    first_seq: int
    born: bool
    base: Stamp | None
    stamp: Stamp
    row: int
    gone: bool
    model: str
    kind: int
    resolution: bool


_MERGE, _OBJECT, _LINK = range(3)


def folded_records(
    node: Node,
    start: int,
    end: int,
    using: str,
    models: Mapping[str, ModelInfo] | None = None,
    *,
    only: Collection[str] | None = None,
    also: Collection[int] = (),
    direct: bool = False,
    redaction: Redaction | None = None,
) -> Iterator[Change | ObjectRecord]:
    """One record for each object and link that changed after *start* up to *end*, each after what it needs.

    *models* are those of the header; *only* the changes of those with these labels; *also* these of *node*'s log
    (primary keys), wherever they stand in it. For *direct* synchronization they come in the order in which they occur,
    which signal handlers expect, without what was born and died in between, and also after object records of the rows
    of tracked models that they need and that did not change. *redaction*: what is not told.
    """
    apart = set() if direct else _apart(node, start, end, using)
    found = _folded(node, start, end, using, only, also, apart=apart)
    if direct:
        found = sorted((each for each in found if not (each.born and each.gone)), key=lambda each: each.first_seq)
    folded = {each.row: each for each in found}
    changed = {(each.key.root, each.key.pk_text) for each in folded.values() if each.key and not each.key.link}
    missing: Missing | None = (lambda spec, text: (spec.root_label, text) not in changed) if direct else None
    translator = Translator(node.ident, using, models, missing, redaction)
    for part in serialize.chunks(list(folded)):
        rows = ChangeLog.objects.using(using).filter(pk__in=part).values_list(*PORTABLE_COLUMNS)
        by_pk = {row[0]: LogRow(*row) for row in rows}
        of_change = iter(part)
        for record in translator.records([by_pk[pk] for pk in part]):
            if isinstance(record, ObjectRecord):
                yield record
                continue
            yield _on_base(record, folded[next(of_change)], node)


def _on_base(record: Change, each: _Folded, node: Node) -> Change:
    maker = record.origin.node if record.origin is not None else node.ident
    action = Action.ADD.value if each.born and record.fields is not None else record.action
    record = replace(record, resolution=each.resolution)
    if each.base is None:
        return replace(record, base=None, base_node=None, action=action)
    base_node = None if each.base.node == maker else each.base.node
    return replace(record, base=format_date(each.base.date), base_node=base_node, action=action)


def _apart(node: Node, start: int, end: int, using: str) -> set[Key]:
    """The objects of which all states are told: the newest does not say what a value is, or who gave it."""
    found = set(Unseen.objects.using(using).values_list("change__root", "change__pk_text"))
    if found or RedactedField.objects.using(using).exists():
        rows = ChangeLog.objects.using(using).filter(log=node, seq__gt=start, seq__lte=end, link="", imported=True)
        found.update(rows.filter(payload__contains='"withheld":[').values_list("root", "pk_text"))
    return {Key(root, text) for root, text in found}


def _folded(
    node: Node,
    start: int,
    end: int,
    using: str,
    only: Collection[str] | None,
    also: Collection[int],
    *,
    apart: Collection[Key],
) -> list[_Folded]:
    found: dict[object, _Folded] = {}
    singly: dict[Key, list[_Folded]] = defaultdict(list)
    wanted = Q(seq__gt=start, seq__lte=end)
    if also:
        wanted |= Q(pk__in=also)
    rows = ChangeLog.objects.using(using).filter(wanted, log=node).order_by("seq")
    if only is not None:
        rows = rows.filter(model__in=only)
    columns = (
        "pk", "seq", "model", "root", "pk_text", "link", "action", "date", "origin__ident", "base", "base_node__ident",
        "version", "imported", "resolution",
    )  # fmt: skip
    for (
        pk, seq, model, root, pk_text, link, action, date, origin, base_date, base_node, version, imported, resolution,
    ) in rows.values_list(*columns).iterator(chunk_size=serialize.CHUNK):  # fmt: skip
        stamp = Stamp(date, origin)
        base = None if base_date is None else Stamp(base_date, base_node)
        gone = action in (Action.DELETE, Action.UNLINK)
        # Merges are facts of their own: each is kept.
        named = link if imported else upcasting.current_link(model, version, link)
        key = None if action == Action.SAME else Key(root, pk_text, named)
        each = found.get(key or seq)
        if each is None or key in apart:
            born = base is None and action in (Action.ADD, Action.LINK)
            kind = _MERGE if action == Action.SAME else _LINK if link else _OBJECT
            alone = _Folded(key, seq, born, base, stamp, pk, gone, model, kind, resolution)
            if key is not None and key in apart:
                singly[key].append(replace(alone))
            if each is None:
                found[key or seq] = alone
                continue
        if base is None or (each.base is not None and base < each.base):
            each.base = base
        if stamp > each.stamp:
            knew = stamp.node == each.stamp.node or (base is not None and base >= each.stamp)
            each.resolution = resolution or (each.resolution and knew)
            each.stamp, each.row, each.gone, each.model = stamp, pk, gone, model
    ranks = _ranks({each.model for each in found.values()})

    def place(each: _Folded) -> tuple[int, int, bool, int]:
        if each.kind != _OBJECT:
            return each.kind, 0, False, each.first_seq
        if each.gone:
            return _OBJECT, -ranks[each.model], False, each.first_seq
        return _OBJECT, ranks[each.model], each.born, each.first_seq

    return [
        part
        for each in sorted(found.values(), key=place)
        for part in ([each] if each.gone or each.key is None else singly.get(each.key, [each]))
    ]


def _ranks(labels: Collection[str]) -> dict[str, int]:
    """Label → its place among *labels*, from 1: after what it points to. Models that are not installed come last."""
    models = {model: label for label in labels if (model := registry.by_label(label)) is not None}
    ordered = [models[model] for model in ordering.parents_first(models)]
    ordered += sorted(set(labels) - set(ordered))
    return {label: rank for rank, label in enumerate(ordered, start=1)}
