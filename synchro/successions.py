"""Deployments that go on under another id: what they logged twice under the earlier one is known by the new one.

A database that was set back to a backup gives positions away that others know with other changes. Once it has
recognised itself it goes on under a new id (see :mod:`synchro.restoring`), and what it logged after the backup is the
new node's. That is told in the headers of bundles, its own and those of all who heard of it. Whoever took such changes
under the earlier id renames them, so that the changes that had these positions first can be taken, too.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from typing import Any

import orjson
from django.db.models import Q

from changelog_format import Change, Moved, Succession
from changelog_format.dates import format_date, parse_date
from synchro import nodes, references, registry, serialize, tables, upcasting
from synchro.intervals import Intervals
from synchro.models import Action, ChangeLog, KnownRange, Node, Reference, Version
from synchro.plan import Incoming
from synchro.resolving import unborn_text
from synchro.versions import Stamp


def known(using: str) -> tuple[Succession, ...]:
    """Every succession that this database knows of, as headers tell them."""
    rows = Node.objects.using(using).exclude(succession="").order_by("ident").values_list("succession", flat=True)
    return tuple(Succession.from_dict(orjson.loads(text)) for text in rows)


def moved(positions: Iterable[tuple[int, int, int]]) -> tuple[Moved, ...]:
    """*positions* (before, now, date), ascending, as runs."""
    runs: list[list[int]] = []
    for before, now, date in positions:
        if runs and before == runs[-1][1] + 1 and now == runs[-1][2] + before - runs[-1][0]:
            runs[-1][1], runs[-1][4] = before, date
        else:
            runs.append([before, before, now, date, date])
    return tuple(
        Moved(first=first, last=last, at=at, start=format_date(start), end=format_date(end))
        for first, last, at, start, end in runs
    )


def note(told: Iterable[Succession], using: str) -> None:
    """Remember what a header tells and is not known here yet, and rename what was taken under the earlier ids.

    What is said of this deployment's own ids it knows better.
    """
    own = nodes.own_idents(using)
    before = {each.node for each in known(using)}
    for each in told:
        if each.node in before or each.node in own or each.of in own:
            continue
        found = nodes.by_ident([each.node, each.of], using)
        node, earlier = found[each.node], found[each.of]
        node.predecessor, node.succession = earlier, orjson.dumps(each.to_dict()).decode()
        node.save(using=using, update_fields=["predecessor", "succession"])
        for run in each.moved:
            _rename(run, earlier, node, using)


def _rename(run: Moved, earlier: Node, node: Node, using: str) -> None:
    logged = ChangeLog.objects.using(using)
    dates = parse_date(run.start), parse_date(run.end)
    rows = logged.filter(origin=earlier, origin_seq__range=(run.first, run.last), date__range=dates)
    wanted = ("pk", "origin_seq", "date", "payload", "imported")
    found: list[tuple[Any, ...]] = list(rows.order_by("origin_seq").values_list(*wanted))
    here = set(logged.filter(origin=node).values_list("origin_seq", flat=True)) if found else set()
    found = [row for row in found if row[1] - run.first + run.at not in here]
    renamed = []
    for pk, seq, _, payload, imported in found:
        at = seq - run.first + run.at
        renamed.append((node.pk, at, _with_origin(payload, node.ident, at) if imported else payload, pk))
    columns = tables.columns(ChangeLog, "origin", "origin_seq", "payload")
    tables.update_many(ChangeLog, columns, [ChangeLog._meta.pk], renamed, using)
    for part in serialize.chunks([pk for pk, *_ in found]):
        Version.objects.using(using).filter(node=earlier, change_id__in=part).update(node=node, seq=None)
    for part in serialize.chunks([date for _, _, date, *_ in found]):
        based = logged.filter(base_node=earlier, base__in=part)
        texts = [
            (node.pk, _with_base(payload, origin, node.ident), pk) if imported else (node.pk, payload, pk)
            for pk, payload, imported, origin in based.values_list("pk", "payload", "imported", "origin__ident")
        ]
        columns = tables.columns(ChangeLog, "base_node", "payload")
        tables.update_many(ChangeLog, columns, [ChangeLog._meta.pk], texts, using)
    _rename_births([row[0] for row in found], earlier, node, using)
    gone = {seq for _, seq, *_ in found}
    for of, added, removed in (
        (earlier, (), gone),
        (node, [seq - run.first + run.at for seq in sorted(gone)], frozenset()),
    ):
        _set_known(of, added, removed, using)


def _rename_births(pks: Sequence[int], earlier: Node, node: Node, using: str) -> None:
    """What came to be by the changes *pks*, renamed by now, was born at *node*.

    In the lost future the same primary keys were given to other objects, and these are called by the earlier id.
    """
    logged = ChangeLog.objects.using(using)
    births: dict[tuple[str, str], str] = {}
    for part in serialize.chunks(pks):
        added = logged.filter(pk__in=part, action=Action.ADD, base__isnull=True, imported=True)
        for label, payload in added.values_list("model", "payload"):
            object_id = orjson.loads(payload)["id"]
            if references.birth_node(object_id) == earlier.ident:
                births[_identity(label), object_id] = f"{node.ident}/{references.birth_pk(object_id)}"
    if not births:
        return
    others = Reference.objects.using(using).filter(object_id__in=births.values())
    taken = set(others.values_list("model", "object_id"))
    rows = [(now, label, before) for (label, before), now in births.items() if (label, now) not in taken]
    column, label_column = tables.columns(Reference, "object_id", "model")
    tables.update_many(Reference, [column], [label_column, column], rows, using)
    for model in (ChangeLog, Version):
        columns = tables.columns(model, "pk_text")
        unborn = [(unborn_text(now), unborn_text(before)) for (_, before), now in births.items()]
        tables.update_many(model, columns, columns, unborn, using)
    naming = logged.filter(pk__gte=pks[0], imported=True, payload__contains=f'"{earlier.ident}/').order_by("pk")
    payload_column = tables.columns(ChangeLog, "payload")
    for chunk in references.by_chunk(naming, "pk", "model", "payload"):
        renamed = [(_with_births(payload, label, births), pk) for pk, label, payload in chunk]
        tables.update_many(ChangeLog, payload_column, [ChangeLog._meta.pk], renamed, using)


def _identity(label: str) -> str:
    """The label under which objects of the model *label* have their ids."""
    model = registry.by_label(upcasting.current_label(label))
    return label if model is None else registry.spec(model).identity_label


def _with_births(payload: str, label: str, births: Mapping[tuple[str, str], str]) -> str:
    record = Change.from_dict({**orjson.loads(payload), "seq": 1})
    data = _renamed_ids(record, label, births).to_dict()
    del data["seq"]
    return orjson.dumps(data).decode()


def _renamed_ids(record: Change, label: str, births: Mapping[tuple[str, str], str]) -> Change:
    """*record*, of the model *label*, with the ids that its objects have by now."""
    model = registry.by_label(upcasting.current_label(label))
    relations = {} if model is None else registry.spec(model).relations
    own = _identity(label)

    def now(where: str, object_id: str) -> str:
        return births.get((where, object_id), object_id)

    changed: dict[str, Any] = {"id": now(own, record.id)}
    if record.refs is not None:
        changed["refs"] = {
            name: now(_identity(relations[name].related_model._meta.label_lower), each) if name in relations else each
            for name, each in record.refs.items()
        }
    if record.target is not None:
        target = record.target
        changed["target"] = replace(target, id=now(_identity(target.model), target.id))
    if record.same is not None:
        changed["same"] = tuple(sorted(now(own, each) for each in record.same))
        changed["id"] = min(changed["same"])
    return replace(record, **changed)


def _with_origin(payload: str, ident: str, seq: int) -> str:
    data = orjson.loads(payload)
    data["origin"] = {"node": ident, "seq": seq}
    if data.get("base_node") == ident:
        del data["base_node"]
    return orjson.dumps(data).decode()


def _with_base(payload: str, origin: str, ident: str) -> str:
    data: dict[str, Any] = orjson.loads(payload)
    data.pop("base_node", None)
    if origin != ident:
        data["base_node"] = ident
    return orjson.dumps(data).decode()


def _set_known(node: Node, added: Iterable[int], removed: Iterable[int], using: str) -> None:
    rows = KnownRange.objects.using(using).filter(origin=node)
    ranges = list(rows.values_list("first", "last"))
    for seq in sorted(removed):
        ranges = [
            part
            for first, last in ranges
            for part in ([(first, seq - 1), (seq + 1, last)] if first <= seq <= last else [(first, last)])
            if part[0] <= part[1]
        ]
    kept = Intervals(ranges)
    for seq in added:
        kept.add(seq)
    rows.delete()
    KnownRange.objects.using(using).bulk_create(KnownRange(origin=node, first=a, last=b) for a, b in kept)


class Renamed:
    """What the changes of one bundle are to be called that were given away under ids of before.

    Who wrote it may not have heard of a succession: then the ids of objects mean what they mean in the line of changes
    that it has taken.
    """

    def __init__(self, told: Iterable[Succession], using: str) -> None:
        """*told* are the successions that the header names."""
        self._using = using
        self._heard = {each.node for each in told}
        self._runs: dict[str, list[tuple[Moved, int, int, str]]] = {}
        self._births: dict[tuple[str, str], str] = {}
        self._met: set[str] = set()
        for each in known(using):
            runs = self._runs.setdefault(each.of, [])
            runs += [(run, parse_date(run.start), parse_date(run.end), each.node) for run in each.moved]

    def __bool__(self) -> bool:
        """Whether there is any such node."""
        return bool(self._runs)

    def __call__(self, change: Incoming) -> Incoming:
        """*change* as the node's that made it, by now."""
        if not self._runs or not isinstance(change.arrived, Change):
            return change
        stamp, seq, base = change.stamp, change.origin_seq, change.base
        for run, start, end, node in self._runs.get(stamp.node, ()):
            if start <= stamp.date <= end and run.first <= seq <= run.last:
                self._meet(stamp.node, node)
                stamp, seq = Stamp(stamp.date, node), seq - run.first + run.at
                break
        for _, start, end, node in self._runs.get(base.node, ()) if base is not None else ():
            if base is not None and start <= base.date <= end:
                self._meet(base.node, node)
                base = Stamp(base.date, node)
                break
        if stamp is change.stamp and base is change.base and not self._births:
            return change
        arrived, record = change.arrived, change.record
        if base is not change.base and base is not None:
            arrived = replace(arrived, base_node=None if base.node == stamp.node else base.node)
        if self._births and isinstance(record, Change):
            arrived = _renamed_ids(arrived, arrived.model, self._births)
            record = _renamed_ids(record, record.model, self._births)
        return replace(change, stamp=stamp, origin_seq=seq, base=base, arrived=arrived, record=record)

    def _meet(self, of: str, node: str) -> None:
        """The writer has the line of *of* that is *node*'s, and does not know that."""
        if node in self._heard or node in self._met:
            return
        self._met.add(node)
        born = Reference.objects.using(self._using).filter(object_id__startswith=f"{node}/")
        for label, object_id in born.values_list("model", "object_id"):
            self._births[label, f"{of}/{references.birth_pk(object_id)}"] = object_id


def successor(ident: str, using: str) -> str | None:
    """The id under which the node *ident* goes on by now, as far as it is known here; None where it does not."""
    after = dict(Node.objects.using(using).exclude(predecessor=None).values_list("predecessor__ident", "ident"))
    found: str | None = None
    while (ident := after.pop(ident, "")) != "":
        found = ident
    return found


def earlier(node: Node, using: str) -> list[str]:
    """The ids under which *node* went before it was restored from a backup, the last one first."""
    found: list[str] = []
    before = node.predecessor_id
    while before is not None:
        row = Node.objects.using(using).get(pk=before)
        found.append(row.ident)
        before = row.predecessor_id
    return found


def succeeded(using: str) -> Q:
    """The nodes that go on under another id."""
    taken = Node.objects.using(using).exclude(predecessor=None).values("predecessor")
    return Q(pk__in=taken)
