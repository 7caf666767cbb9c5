"""Several deployments in one process, and what may happen to them and to the files between them.

A schedule is a list of steps: what people do at a deployment, and what becomes of the files that they carry: late,
lost, twice, out of order, folded, in part, through others. Databases are copied, set back to backups, and pruned.
Afterwards everything is exchanged and decided, and :meth:`World.check` says whether the promises were kept: one state
everywhere, nothing lost unseen, nothing back from the dead, nothing that a second import would change, and an end.
"""

import io
import json
import tempfile
from collections import defaultdict
from contextlib import contextmanager, suppress
from pathlib import Path
from unittest import mock

from django.db import IntegrityError, connections, models, transaction
from django.db.models import Count, Q, QuerySet

from changelog_format.dates import format_date
from synchro import changelog, nodes, references, registry
from synchro.conflicts import conflicts, keep, merge
from synchro.conflicts import take as take_incoming
from synchro.errors import ConflictError, ExportError, ForkError, GapError, ResolveError
from synchro.models import ChangeLog, Conflict, Held, Node, Version
from synchro.pruning import prune
from synchro.requests import answer, missing_before, write_request
from synchro.reset import reset_synchro
from synchro.seal import seal
from tests.app.deploy import ALIASES, dump, lines, rolled_back, take, write
from tests.app.test_replay_property import Office
from tests.project.shop.models import City, Club, Country, Membership, Person, Tag

OFFICE, HQ, SHIP = ALIASES
ANNEX, DEPOT = FURTHER = ("annex", "depot")
NODES = (*ALIASES, *FURTHER)
TOPOLOGIES = ("pair", "star", "ring", "mesh")
FILES = ("export", "export", "take", "take", "take", "late", "lose", "again")
FOLDS = ("squash", "squash", "snapshot", "partial", "partial", "overlap", "prune", "prune", "reset")
DISASTERS = ("backup", "restore", "join")
CARRIED = {*FILES, *FOLDS} - {"prune", "reset"}
START = 1_790_000_000_000_000
ROUNDS = 14


def ways(topology, places):
    """Who hands files to whom."""
    hub, *others = places
    if topology == "star":
        return [way for each in others for way in ((each, hub), (hub, each))]
    if topology == "ring":
        return list(zip(places, [*others, hub], strict=True))
    return [(one, other) for one in places for other in places if one != other]


@contextmanager
def more_deployments(*aliases):
    """Databases beside those of the settings, in memory, empty as SHIP's is."""
    for alias in aliases:
        connections.databases[alias] = {**connections.databases[SHIP], "NAME": ":memory:"}
        connections[alias].connect()
        connections[SHIP].ensure_connection()
        connections[SHIP].connection.backup(connections[alias].connection)
    try:
        yield
    finally:
        for alias in aliases:
            connections[alias].connection.close()
            del connections[alias]
            del connections.databases[alias]


def can_have_more():
    return all(connections[alias].vendor == "sqlite" for alias in ALIASES)


def copy_database(source, target):
    """*target* becomes what a copy of *source*'s file would be."""
    with connections[source].cursor() as there, connections[target].cursor() as here:
        for table in [*connections[source].introspection.table_names(there), "sqlite_sequence"]:
            here.execute(f"DELETE FROM {table}")
            there.execute(f"SELECT * FROM {table}")
            rows = there.fetchall()
            if rows:
                marks = ", ".join(["%s"] * len(rows[0]))
                here.executemany(f"INSERT INTO {table} VALUES ({marks})", rows)


class People(Office):
    """What they do, unless the database or Django refuses it."""

    def do(self, name, *numbers):
        with suppress(IntegrityError, models.ProtectedError), transaction.atomic(using=self.using):
            getattr(self, name)(*numbers)


class World:
    """Some deployments, the files on their way between them, and a clock that only the schedule moves."""

    def __init__(self, topology="mesh", policies=None, skews=(), size=3):
        self.nodes = list(NODES[: 2 if topology == "pair" else size])
        self.ways = ways(topology, self.nodes)
        self.policies = dict(zip(NODES, policies or (), strict=False))
        self.skews = dict(zip(NODES, skews, strict=False))
        self.clock = START
        self.waiting = defaultdict(list)
        self.taken = []
        self.backups = set()
        self.remembered = set()
        self.made_on = set()

    @contextmanager
    def at(self, alias):
        """Things happen at *alias*, by its clock."""
        with mock.patch.object(changelog, "now", return_value=self.clock + self.skews.get(alias, 0)):
            yield

    # --- what may happen ----------------------------------------------------------------------------------------------

    def run(self, schedule):
        self.found()
        for name, place, *numbers in schedule:
            self.clock += numbers[2] % 3  # two things may happen at the same moment
            if name in CARRIED:
                getattr(self, name)(self.ways[place % len(self.ways)], numbers[0])
            elif name in {"prune", "reset", "decide", *DISASTERS}:
                getattr(self, name)(self.nodes[place % len(self.nodes)], *numbers[:2])
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

    def export(self, way, _number=0, **options):
        source, target = way
        with self.at(source):
            data, report = write(source, to=target, **options)
        if report is not None:
            self.waiting[way].append((data, report))

    def squash(self, way, _number):
        with suppress(ExportError):  # beyond what was pruned
            self.export(way, mode="squash")

    def snapshot(self, way, _number):
        self.export(way, mode="snapshot")

    def partial(self, way, number):
        self.export(way, models=[("shop.person", "shop.tag", "shop.city", "shop.place", "shop.device")[number % 5]])

    def overlap(self, way, number):
        self.export(way, overlap=1 + number % 3)

    def take(self, way, number=0):
        """The first file that waits; when one before it is missing, that is asked for."""
        self.late(way, 0)

    def late(self, way, number):
        """Any of the files that wait."""
        if self.waiting[way]:
            data, _ = self.waiting[way].pop(number % len(self.waiting[way]))
            self.deliver(way, data)

    def deliver(self, way, data):
        source, target = way
        try:
            self.bring(data, target)
        except GapError:
            self.ask(way, data)
            self.bring(data, target)
        except ForkError:
            # As the error says: the sender has to hear of it, and goes on under another name.
            answered, _ = self.rewrite((target, source))
            if answered is not None:
                self.bring(answered, source)

    def ask(self, way, data):
        """Write down what is missing before *data*, and have it answered."""
        source, target = way
        with tempfile.TemporaryDirectory() as folder:
            file = Path(folder) / "bundle.jsonl.zst"
            file.write_bytes(data)
            for request in missing_before([file], target):
                asked = write_request(request, folder)
                stream = io.BytesIO()
                try:
                    with self.at(source):
                        list(answer(asked, stream, using=source))
                    self.bring(stream.getvalue(), target)
                except ExportError:  # pruned meanwhile
                    with self.at(source):
                        self.bring(write(source, to=target, mode="snapshot")[0], target)

    def rewrite(self, way):
        """All that the target has not got, when the last file may have been lost and no later one shows it."""
        source, target = way
        mine = Node.objects.using(source).filter(current=True).first()
        known = Node.objects.using(target).filter(ident=mine.ident).first() if mine else None
        since = known.taken_seq if known else 0
        if mine is None or since >= mine.seq:
            return None, None
        with self.at(source):
            try:
                return write(source, to=target, since=since)
            except ExportError:
                return write(source, to=target, mode="snapshot")

    def bring(self, data, target):
        with self.at(target):
            report = self.imported(data, target)
        self.taken.append((target, data))
        return report

    def imported(self, data, target):
        """Where *target* refuses what conflicts, nothing of the file is in, and then people let the later one win."""
        policy = self.policies.get(target)
        if policy == "fail":
            before = left_behind(target)
            try:
                return take(data, target, on_conflict=policy)
            except ConflictError:
                assert left_behind(target) == before, "a file that was refused changed something"
                policy = "newest"
        return take(data, target, on_conflict=policy)

    def prune(self, alias, *_numbers):
        with self.at(alias):
            prune(using=alias)

    def reset(self, alias, *_numbers):
        """The log is emptied; who has not got everything that was in it is given a snapshot."""
        self.remembered |= self.recorded(alias)
        with self.at(alias):
            seal(alias)  # as a reset does first: from then on it is known what each change was made on
            self.made_on |= made_on(alias)
            reset_synchro(alias)
        for way in self.ways:
            if way[0] == alias:
                self.snapshot(way, 0)

    def decide(self, alias, number, how):
        """Somebody decides one of the conflicts that wait."""
        waiting = conflicts(using=alias)
        if not waiting:
            return
        found = waiting[number % len(waiting)]
        with self.at(alias):
            if how % 3:
                with suppress(ResolveError):
                    if how % 3 == 1:
                        take_incoming(found.id, by="ann", using=alias)
                    else:
                        merge(found.id, incoming=found.differing()[:1], by="bob", using=alias)
                    return
            keep(found.id, by="eve", using=alias)

    # --- disasters ----------------------------------------------------------------------------------------------------

    def backup(self, alias, *_numbers):
        with connections[alias].cursor() as cursor:
            cursor.execute("SAVEPOINT backup")
        self.backups.add(alias)

    def restore(self, alias, *_numbers):
        """The database is set back; as its people are told, they take something in before they send anything."""
        if alias not in self.backups:
            return
        self.remembered |= self.recorded(alias)
        self.made_on |= made_on(alias)
        with connections[alias].cursor() as cursor:
            cursor.execute("ROLLBACK TO SAVEPOINT backup")
        for way in self.ways:
            if way[1] == alias:
                self.export(way)
                with self.at(way[0]):
                    data, _ = write(way[0], to=alias, mode="snapshot")
                self.bring(data, alias)

    def join(self, alias, *_numbers):
        """Another deployment begins with a copy of the database of *alias*."""
        fresh = next((each for each in FURTHER if each in connections.databases and each not in self.nodes), None)
        if fresh is None:
            return
        with self.at(alias):
            seal(alias)
        copy_database(alias, fresh)
        self.nodes.append(fresh)
        self.ways += [(fresh, alias), (alias, fresh)]
        with self.at(fresh):
            nodes.take_new_id(nodes.lock_own(fresh), fresh)  # as another SYNCHRO_NODE does at its first command

    # --- what may happen to files -------------------------------------------------------------------------------------

    def lose(self, way, number):
        if self.waiting[way]:
            self.waiting[way].pop(number % len(self.waiting[way]))

    def again(self, way, number):
        """A file that was taken before comes once more."""
        mine = [data for target, data in self.taken if target == way[1]]
        if mine:
            self.repeat([mine[number % len(mine)]], way[1])

    def repeat(self, several, target):
        with self.at(target):
            seal(target)
            before = left_behind(target)
            for data in several:
                self.imported(data, target)
            assert left_behind(target) == before, "a file that was taken before changed something"

    # --- the end ------------------------------------------------------------------------------------------------------

    def exchange(self):
        """Carry everything everywhere, until nobody has anything new."""
        for _ in range(ROUNDS):
            self.clock += 10
            before = {alias: noted(alias) for alias in self.nodes}
            for way in list(self.ways):
                self.export(way)
                while self.waiting[way]:
                    self.late(way, 0)
                data, _ = self.rewrite(way)
                if data is not None:
                    self.deliver(way, data)
            if before == {alias: noted(alias) for alias in self.nodes}:
                return
        raise AssertionError("the exchange has no end")

    def settle(self):
        """Exchange; where people have to decide something, they do; until nothing is left to decide."""
        self.exchange()
        for number in range(ROUNDS):
            # One after the other: who decides what others decide at the same time makes another conflict.
            if not any(self.decided(alias, number) for alias in self.nodes):
                return
            self.exchange()
        raise AssertionError(f"still held: {[held_reasons(alias) for alias in self.nodes]}")

    def decided(self, alias, number):
        """Whether somebody at *alias* decided something that waited for a decision."""
        found = conflicts(using=alias)
        for each in found:
            if conflicts(using=alias):
                self.decide(alias, 0, each.id + number)
        with self.at(alias):
            if not Held.objects.using(alias).exists():
                return bool(found)
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
            self.leave_clubs(alias)
            return True

    def leave_clubs(self, alias):
        """What may be there once and has no natural key, and was made in two places: one of them goes."""
        own = nodes.own(alias).ident
        for payload in (
            Held.objects.using(alias).filter(change__model="shop.membership").values_list("change__payload", flat=True)
        ):
            refs = json.loads(payload).get("refs") or {}
            ends = {
                name: references.resolve(registry.spec(model), [refs[name]], own, alias).get(refs[name])
                for name, model in (("person", Person), ("club", Club))
                if name in refs
            }
            if len(ends) == 2 and None not in ends.values():
                QuerySet(Membership, using=alias).filter(person_id=ends["person"], club_id=ends["club"]).delete()

    # --- was everything as promised? ----------------------------------------------------------------------------------

    def check(self):
        first, *others = self.nodes
        expected = dump(first)
        for alias in others:
            found = dump(alias)
            assert found == expected, f"{alias} differs from {first}: {sorted(set(found) ^ set(expected))[:6]}"
        self.nothing_lost()
        self.no_echo()
        for alias in self.nodes:
            self.repeat([data for target, data in self.taken if target == alias][-10:], alias)

    def no_echo(self):
        """Nobody has anything to say any more, and each change is in each log once."""
        for source, target in self.ways:
            with self.at(source):
                data, _ = write(source, to=target)
            assert data is None, f"{source} still has something for {target}: {lines(data)[1:4]}"
        for alias in self.nodes:
            several = Count("pk", filter=Q(log__isnull=False))
            each = ChangeLog.objects.using(alias).values_list("origin__ident", "origin_seq").annotate(times=several)
            twice = list(each.filter(times__gt=1))
            assert not twice, f"{alias} has changes more than once: {twice[:3]}"

    def recorded(self, alias):
        """The versions that are in a conflict record at *alias*."""
        found = set()
        for sides in Conflict.objects.using(alias).values_list("local", "incoming"):
            found |= {(side["date"], side["node"]) for side in map(json.loads, sides) if "date" in side}
        return found

    def nothing_lost(self):
        """Every change won, or what won was made on it, or its values are in a conflict record.

        And what lives was not deleted by somebody who knew it, unless that is in a conflict record.
        """
        changes = {}
        for _, data in self.taken:
            header, *found, _trailer = lines(data)
            for record in found:
                if record["type"] == "change" and record["action"] != "same":
                    node = record.get("origin", {"node": header["node"]["id"]})["node"]
                    changes[record["date"], node] = record
        parents = defaultdict(set)  # a squash names an earlier version than the log of who made the change
        for stamp, parent in self.made_on.union(*map(made_on, self.nodes)):
            parents[stamp].add(parent)

        def with_ancestors(stamps):
            found, waiting = set(stamps), list(stamps)
            while waiting:
                further = parents[waiting.pop()] - found
                found |= further
                waiting += further
            return found

        recorded = self.remembered.union(*map(self.recorded, self.nodes))
        versions = {
            (format_date(date), node): deleted
            for alias in self.nodes
            for date, node, deleted in Version.objects.using(alias).values_list("date", "node__ident", "deleted")
        }
        kept = with_ancestors({*versions, *recorded})
        contents = {_content(changes[stamp]) for stamp in kept & changes.keys()}
        lost = [record for stamp, record in changes.items() if stamp not in kept and _content(record) not in contents]
        assert not lost, f"lost unseen: {lost[:3]}"
        alive = {stamp for stamp, deleted in versions.items() if not deleted}
        for stamp, record in changes.items():
            if record["action"] in {"delete", "unlink"} and stamp not in with_ancestors(recorded):
                back = with_ancestors({stamp}) & alive
                assert not back, f"back from the dead: {back} although {record}"


def simulate(schedule, topology="mesh", policies=None, skews=(), size=3):
    world = World(topology, policies, skews, size)
    further = [alias for alias in FURTHER if alias in connections.databases]
    with rolled_back(*ALIASES, *further):
        world.run(schedule)
        world.check()


def noted(alias):
    """What tells quickly that something was logged, recorded, or decided."""
    tables = [QuerySet(model, using=alias) for model in (ChangeLog, Conflict, Held, Version)]
    return [rows.count() for rows in tables], changelog.pending(alias).count(), conflicts(using=alias)


def made_on(alias):
    """What each change in the log of *alias* was made on, as far as it still says so: pairs of versions.

    A fold of several changes is on the base of the first of them, so other logs may tell more.
    """
    rows = ChangeLog.objects.using(alias).filter(base__isnull=False)
    return {
        ((format_date(date), node), (format_date(base), base_node))
        for date, node, base, base_node in rows.values_list("date", "origin__ident", "base", "base_node__ident")
    }


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


__all__ = [
    "DISASTERS", "FILES", "FOLDS", "FURTHER", "NODES", "TOPOLOGIES", "Person", "World", "can_have_more",
    "more_deployments", "simulate",
]  # fmt: skip
