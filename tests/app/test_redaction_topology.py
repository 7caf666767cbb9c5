"""Whoever is told what, whoever edits, and whatever arrives first: values are not lost among those that are told them.

Three deployments exchange bundles with each other, in any order. Of each of two fields any of them may not be told. Who
is not told a field never sees a value of it; those who are have the same in the end, and what somebody entered there is
what they have, was overwritten by somebody who saw it, or is in a conflict record.
"""

import itertools
import json
from contextlib import suppress
from unittest import mock

import pytest
from django.test import override_settings
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from synchro import WITHHELD, changelog
from synchro.conflicts import conflicts, keep
from synchro.errors import ExportError, GapError, PruneError
from synchro.models import ChangeLog, Conflict, HeldObject, Unseen
from synchro.pruning import prune
from tests.app.deploy import at, lines, rolled_back, take, write
from tests.app.simulation import START
from tests.app.test_replay_property import SLOW
from tests.project.shop.models import Note

pytestmark = pytest.mark.django_db(databases=["default", "hq", "ship"])

NAMES = {"default": "office", "hq": "hq", "ship": "ship"}
FIELDS = ("text", "char")
WAYS = list(itertools.permutations(NAMES, 2))
POLICIES = (None, None, "newest", "merge", "local", "incoming", "hold")
ROUNDS = 14


class Exchange:
    """The deployments; *told* are those that are told each of the fields."""

    def __init__(self, told, policies):
        self.told = told
        self.policies = dict(zip(NAMES, policies, strict=True))
        self.clock = START
        self.numbers = itertools.count()
        # Value → field and object, until somebody who sees it enters another one, or somebody deletes the object.
        self.live = {}
        self.entered = {field: set() for field in FIELDS}

    def settings_of(self, alias):
        mine = [field for field in FIELDS if alias in self.told[field]]
        rules = {
            NAMES[other]: {"shop.note": {field: WITHHELD for field in mine if other not in self.told[field]}}
            for other in NAMES
            if other != alias
        }
        rules = {name: entry for name, entry in rules.items() if entry["shop.note"]}
        return override_settings(SYNCHRO_REDACT={**rules, "*": {}} if rules else {})

    def now(self):
        self.clock += 1
        return mock.patch.object(changelog, "now", return_value=self.clock)

    # --- what people do -----------------------------------------------------------------------------------------------

    def enter(self, alias, row, field):
        value = f"<{field} {alias} {next(self.numbers)}>"
        self.forget(getattr(row, field))
        setattr(row, field, value)
        if alias in self.told[field]:
            self.live[value] = field, row.big
            self.entered[field].add(value)

    def forget(self, value):
        self.live.pop(value, None)

    def add(self, alias, number):
        row = Note(integer=number, big=next(self.numbers))
        for field in FIELDS:
            self.enter(alias, row, field)
        row.save(using=alias)

    def edit(self, alias, number):
        rows = list(at(Note, alias).order_by("pk"))
        if rows:
            row = rows[number % len(rows)]
            field = (*FIELDS, "integer", "integer")[number % 4]
            if field in FIELDS:
                self.enter(alias, row, field)
            else:
                row.integer = next(self.numbers)
            row.save(using=alias)

    def delete(self, alias, number):
        rows = list(at(Note, alias).order_by("pk"))
        if rows:
            row = rows[number % len(rows)]
            self.live = {value: each for value, each in self.live.items() if each[1] != row.big}
            row.delete(using=alias)

    def compact(self, alias, _number):
        with suppress(PruneError):
            prune(using=alias)

    def do(self, deed, alias, number):
        with self.now():
            getattr(self, deed)(alias, number)

    # --- what is carried ----------------------------------------------------------------------------------------------

    def carry(self, way, mode="history"):
        """Whether there was anything to carry."""
        source, target = WAYS[way % len(WAYS)]
        with self.now(), self.settings_of(source):
            try:
                data, _report = write(source, to=NAMES[target], mode=mode, acknowledge=True)
            except ExportError:  # beyond what was pruned
                data, _report = write(source, to=NAMES[target], mode="snapshot")
        told = lines(data)
        self.assert_untold(json.dumps(told), target)
        with self.now(), self.settings_of(target), suppress(GapError):
            take(data, target, on_conflict=self.policies[target])
        return len(told) > 2

    def assert_untold(self, text, alias):
        for field in FIELDS:
            if alias not in self.told[field]:
                assert not [value for value in self.entered[field] if value in text], (field, alias, text)

    def settle(self):
        for _ in range(ROUNDS):
            for alias in NAMES:
                with self.now(), self.settings_of(alias):
                    for each in list(conflicts(using=alias)):
                        keep(each.id, by="somebody", using=alias)
            if not sum([self.carry(way) for way in range(len(WAYS))]):
                return
        raise AssertionError("they never come to an end")

    # --- what has to hold ---------------------------------------------------------------------------------------------

    def check(self):
        for alias in NAMES:
            self.assert_untold(kept(alias), alias)
        public = [sorted(at(Note, alias).values_list("integer", flat=True)) for alias in NAMES]
        assert public[0] == public[1] == public[2]
        for field in FIELDS:
            rows = [sorted(at(Note, alias).values_list("big", field)) for alias in self.told[field]]
            assert all(each == rows[0] for each in rows), (field, rows)
            recorded = "".join(recorded_by(alias) for alias in self.told[field])
            there = {value for each in rows for _, value in each}
            lost = [
                value for value, of in self.live.items() if of == field and value not in there and value not in recorded
            ]
            assert not lost, (field, rows, recorded)
        for alias in NAMES:
            left = [each for each in Unseen.objects.using(alias) if alias in self.told[each.field]]
            assert not left, left


def recorded_by(alias):
    return str(list(Conflict.objects.using(alias).values_list("local", "incoming")))


def kept(alias):
    """Everything that is in the tables of *alias*."""
    rows = [list(at(Note, alias).values_list(*FIELDS)), recorded_by(alias)]
    rows += [list(ChangeLog.objects.using(alias).values_list("payload", flat=True))]
    rows += [list(HeldObject.objects.using(alias).values_list("payload", flat=True))]
    rows += [list(Unseen.objects.using(alias).values_list("before", flat=True))]
    return str(rows)


aliases = st.sampled_from(sorted(NAMES))
numbers = st.integers(0, 11)
deeds = st.tuples(st.sampled_from(["add", "edit", "edit", "edit", "edit", "delete"]), aliases, numbers)
carried = st.tuples(st.just("carry"), numbers, st.sampled_from(["history", "history", "history", "squash", "snapshot"]))
compacting = st.tuples(st.just("compact"), aliases, st.just(0))
topologies = st.fixed_dictionaries(
    {field: st.sets(aliases, min_size=2, max_size=3).map(sorted).map(tuple) for field in FIELDS}
)


def simulate(told, schedule, policies=(None,) * 3):
    with rolled_back():
        exchange = Exchange(told, policies)
        for name, first, second in schedule:
            if name == "carry":
                exchange.carry(first, second)
            else:
                exchange.do(name, first, second)
        exchange.settle()
        exchange.check()


@settings(max_examples=400 if SLOW else 25, suppress_health_check=[HealthCheck.too_slow])
@given(
    topologies,
    st.lists(st.one_of(deeds, deeds, carried, carried, compacting), min_size=3, max_size=20),
    st.tuples(*[st.sampled_from(POLICIES)] * 3),
)
def whatever_comes_first(told, schedule, policies):
    simulate(told, schedule, policies)


def test_values_are_not_lost_among_those_that_are_told_them():
    whatever_comes_first()
