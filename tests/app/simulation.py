"""Several deployments in one process, and what may happen to them and to the files between them.

A schedule is a list of steps: what people do at a deployment, and what becomes of the files that they carry: late,
lost, twice, out of order, through others. Afterwards everything is exchanged, and :meth:`World.check` says whether the
promises were kept: one state everywhere, nothing lost unseen, nothing that a second import would change, and an end.
"""

import json
from collections import defaultdict
from contextlib import contextmanager, suppress
from unittest import mock

from django.db import IntegrityError, models, transaction
from django.db.models import QuerySet

from synchro import changelog, registry
from synchro.errors import GapError
from synchro.models import ChangeLog, Conflict, Held, Node, Version
from tests.app.deploy import dump, records, rolled_back, take, write
from tests.app.test_replay_property import Office
from tests.project.shop.models import City, Country, Person, Tag

OFFICE, HQ, SHIP = NODES = ("default", "hq", "ship")
TOPOLOGIES = {
    "pair": ((OFFICE, HQ), (HQ, OFFICE)),
    "star": ((OFFICE, HQ), (HQ, OFFICE), (SHIP, HQ), (HQ, SHIP)),
    "ring": ((OFFICE, HQ), (HQ, SHIP), (SHIP, OFFICE)),
    "mesh": tuple((one, other) for one in NODES for other in NODES if one != other),
}
FILES = ("export", "export", "take", "take", "take", "late", "lose", "again")
START = 1_790_000_000_000_000
ROUNDS = 12


class People(Office):
    """What they do, unless the database or Django refuses it."""

    def do(self, name, *numbers):
        with suppress(IntegrityError, models.ProtectedError), transaction.atomic(using=self.using):
            getattr(self, name)(*numbers)


class World:
    """Some deployments, the files on their way between them, and a clock that only the schedule moves."""

    def __init__(self, topology="mesh", policies=None, skews=(0, 0, 0)):
        self.ways = TOPOLOGIES[topology]
        self.nodes = tuple(dict.fromkeys(alias for way in self.ways for alias in way))
        self.policies = dict(zip(NODES, policies or ("newest",) * 3, strict=False))
        self.skews = dict(zip(NODES, skews, strict=True))
        self.clock = START
        self.waiting = defaultdict(list)
        self.taken = []
        self.written = []

    @contextmanager
    def at(self, alias):
        """Things happen at *alias*, by its clock."""
        with mock.patch.object(changelog, "now", return_value=self.clock + self.skews[alias]):
            yield

    # --- what may happen ----------------------------------------------------------------------------------------------

    def run(self, schedule):
        self.found()
        for name, place, *numbers in schedule:
            self.clock += numbers[2] % 3  # two things may happen at the same moment
            if name in FILES:
                getattr(self, name)(self.ways[place % len(self.ways)], numbers[0])
            else:
                alias = self.nodes[place % len(self.nodes)]
                with self.at(alias):
                    People(alias).do(name, *numbers)
        self.settle()

    def found(self):
        """What everybody begins with."""
        with self.at(OFFICE):
            office = People(OFFICE)
            for number in range(2):
                office.do("add_country", number, number, 0)
                office.do("add_city", number, number, number)
                office.do("add_tag", number, 0, 0)
                office.do("add_person", number, number, number)
        self.exchange()

    def export(self, way, _number=0):
        source, target = way
        with self.at(source):
            data, report = write(source, to=target)
        if report is not None:
            self.waiting[way].append((data, report))
            self.written.append(data)

    def take(self, way, number=0):
        """The first file that waits; when one before it is missing, that is asked for."""
        self.late(way, 0)

    def late(self, way, number):
        """Any of the files that wait."""
        if not self.waiting[way]:
            return
        _source, target = way
        data, report = self.waiting[way].pop(number % len(self.waiting[way]))
        try:
            self.bring(data, target)
        except GapError:
            missing, _ = self.rewrite(way, until=report.to_seq)
            self.bring(missing, target)

    def rewrite(self, way, until=None):
        source, target = way
        with self.at(source):
            ident = Node.objects.using(source).get(current=True).ident
            known = Node.objects.using(target).filter(ident=ident).first()
            data, report = write(source, to=target, since=known.taken_seq if known else 0, until=until)
        if data is not None:
            self.written.append(data)
        return data, report

    def bring(self, data, target):
        policy = self.policies[target]
        with self.at(target):
            report = take(data, target, on_conflict=None if policy == "newest" else policy)
        self.taken.append((target, data))
        return report

    def lose(self, way, number):
        if self.waiting[way]:
            self.waiting[way].pop(number % len(self.waiting[way]))

    def again(self, way, number):
        """A file that was taken before comes once more."""
        mine = [data for target, data in self.taken if target == way[1]]
        if mine:
            self.repeat(mine[number % len(mine)], way[1])

    def repeat(self, data, target):
        with self.at(target):
            changelog_seal(target)
            before = left_behind(target)
            take(data, target, on_conflict=None if self.policies[target] == "newest" else self.policies[target])
            assert left_behind(target) == before, "a file that was taken before changed something"

    # --- the end ------------------------------------------------------------------------------------------------------

    def exchange(self):
        """Carry everything everywhere, until nobody has anything new."""
        for _ in range(ROUNDS):
            self.clock += 10
            moved = 0
            for way in self.ways:
                self.export(way)
                while self.waiting[way]:
                    self.late(way, 0)
                # The last file may have been lost, and no later one shows it.
                data, report = self.rewrite(way)
                if report is not None:
                    again = self.bring(data, way[1])
                    moved += again.records - again.already_known
            if not moved and not any(changelog.pending(alias).exists() for alias in self.nodes):
                before = {alias: left_behind(alias) for alias in self.nodes}
                for way in self.ways:
                    self.export(way)
                    while self.waiting[way]:
                        self.late(way, 0)
                if before == {alias: left_behind(alias) for alias in self.nodes}:
                    return
        raise AssertionError("the exchange has no end")

    def settle(self):
        """Exchange; where people have to decide something, they do; until nothing is left to decide."""
        self.exchange()
        for _ in range(ROUNDS):
            if not any(self.decided(alias) for alias in self.nodes):
                return
            self.exchange()
        raise AssertionError(f"still held: {[held_reasons(alias) for alias in self.nodes]}")

    def decided(self, alias):
        """Whether somebody at *alias* decided something that waited for a decision."""
        with self.at(alias):
            if not Held.objects.using(alias).exists():
                return False
            # What clashes is not one object: one of the two gets another name.
            for model, name in ((Country, "code"), (Tag, "name"), (City, "name")):
                taken = set(QuerySet(model, using=alias).values_list(name, flat=True))
                for row in QuerySet(model, using=alias).order_by("pk"):
                    held = Held.objects.using(alias).filter(change__model=model._meta.label_lower)
                    said = map(json.loads, held.values_list("change__payload", flat=True))
                    keys = {each["key"][0] for each in said if each["key"]}
                    if getattr(row, name) in keys:
                        fresh = next(f"{a}{b}" for a in "QXYZW" for b in "123456789" if f"{a}{b}" not in taken)
                        taken.add(fresh)
                        setattr(row, name, fresh)
                        row.save(using=alias)
            return True

    # --- was everything as promised? ----------------------------------------------------------------------------------

    def check(self):
        first, *others = self.nodes
        expected = dump(first)
        for alias in others:
            found = dump(alias)
            assert found == expected, f"{alias} differs from {first}: {sorted(set(found) ^ set(expected))[:6]}"
        self.nothing_lost()
        for target, data in self.taken[-30:]:
            self.repeat(data, target)

    def nothing_lost(self):
        """Every change won, or what won was made on it, or its values are in a conflict record."""
        changes = {}
        for data in self.written:
            header = _header(data)
            for record in records(data):
                if record["type"] == "change" and record["action"] != "same":
                    node = record.get("origin", {"node": header})["node"]
                    changes[record["date"], node] = record
        parents = {
            stamp: (record["base"], record.get("base_node") or stamp[1])
            for stamp, record in changes.items()
            if record["base"]
        }
        kept = set()
        for alias in self.nodes:
            for date, node in Version.objects.using(alias).values_list("date", "node__ident"):
                kept.add((_date(date), node))
            for sides in Conflict.objects.using(alias).values_list("local", "incoming"):
                for side in map(json.loads, sides):
                    if "date" in side:
                        kept.add((side["date"], side["node"]))
        waiting = list(kept)
        while waiting:
            parent = parents.get(waiting.pop())
            if parent is not None and parent not in kept:
                kept.add(parent)
                waiting.append(parent)
        contents = {_content(changes[stamp]) for stamp in kept & changes.keys()}
        lost = [record for stamp, record in changes.items() if stamp not in kept and _content(record) not in contents]
        assert not lost, f"lost unseen: {lost[:3]}"


def simulate(schedule, topology="mesh", policies=None, skews=(0, 0, 0)):
    with rolled_back():
        world = World(topology, policies, skews)
        world.run(schedule)
        world.check()


def changelog_seal(alias):
    from synchro.seal import seal

    seal(alias)


def left_behind(alias):
    """What an import must not change where it brings nothing new."""
    return (
        dump(alias),
        ChangeLog.objects.using(alias).count(),
        Conflict.objects.using(alias).count(),
        sorted(Version.objects.using(alias).values_list("root", "pk_text", "link", "date", "node__ident", "deleted")),
    )


def held_reasons(alias):
    return list(Held.objects.using(alias).values_list("change__model", "reason"))


def _header(data):
    from tests.app.deploy import lines

    return lines(data)[0]["node"]["id"]


def _date(date):
    from changelog_format.dates import format_date

    return format_date(date)


def _content(record):
    """What a change says, apart from which of several names it uses for things."""
    if record["action"] == "delete":
        return (record["model"], "deleted")
    if "field" in record:
        return (record["model"], record["field"], record["action"])
    model = registry.by_label(record["model"])
    relations = registry.spec(model).relations
    return record["model"], json.dumps(
        {name: value for name, value in record["fields"].items() if name not in relations}, sort_keys=True
    )


__all__ = ["FILES", "TOPOLOGIES", "Person", "World", "simulate"]
