"""Whatever people do, and in whatever forms it is carried: what is withheld never arrives, and its values stay true.

``office`` and ``hq`` are told everything, ``ship`` is not told the text of notes, the bio of profiles and the names of
places; all three edit everything. Texts say who entered them.
"""

import itertools
import json
from contextlib import suppress
from unittest import mock

import pytest
from django.db import IntegrityError, models, transaction
from django.test import override_settings
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from synchro import WITHHELD, changelog, registry
from synchro.conflicts import conflicts, keep
from synchro.conflicts import take as take_incoming
from synchro.errors import ExportError, GapError, PruneError
from synchro.pruning import prune
from tests.app.deploy import dump, lines, rolled_back, take, write
from tests.app.simulation import START
from tests.app.test_replay_property import SLOW
from tests.project.shop.models import Note, Person, Place, Profile, Restaurant

pytestmark = pytest.mark.django_db(databases=["default", "hq", "ship"])

NAMES = {"default": "office", "hq": "hq", "ship": "ship"}
RULES = {"ship": {"shop.note": {"text": WITHHELD}, "shop.profile": {"bio": WITHHELD}, "shop.place": {"name": WITHHELD}}}
SECRET_FIELDS = {Note: "text", Profile: "bio", Place: "name", Restaurant: "name"}
PUBLIC_FIELDS = {Note: "char", Restaurant: "stars"}
WAYS = [("default", "hq"), ("hq", "default"), ("hq", "ship"), ("ship", "hq")]
POLICIES = (None, "newest", "merge", "local", "incoming", "hold")
ENTERED = "secret of "
ROUNDS = 12


class Three:
    """The deployments, the clock, and what was written for whom."""

    def __init__(self, policies):
        self.policies = dict(zip(NAMES, policies, strict=True))
        self.clock = START
        self.numbers = itertools.count()

    def settings_of(self, alias):
        return override_settings(SYNCHRO_REDACT={} if alias == "ship" else RULES)

    def now(self):
        self.clock += 1
        return mock.patch.object(changelog, "now", return_value=self.clock)

    def do(self, alias, deed, which, number):
        with self.now(), suppress(IntegrityError, models.ProtectedError), transaction.atomic(using=alias):
            getattr(self, deed)(alias, sorted(SECRET_FIELDS, key=lambda model: model.__name__)[which % 4], number)

    def secret(self, alias):
        return f"{ENTERED}{alias} {next(self.numbers)}"

    def chosen(self, alias, model, number):
        rows = list(model.objects.using(alias).order_by("pk"))
        return rows[number % len(rows)] if rows else None

    def add(self, alias, model, number):
        values = {SECRET_FIELDS[model]: self.secret(alias)}
        if model is Profile:
            values["person"] = Person.objects.using(alias).create(name=f"{alias} {number}")
        model.objects.using(alias).create(**values)

    def edit_secret(self, alias, model, number):
        row = self.chosen(alias, model, number)
        if row is not None:
            setattr(row, SECRET_FIELDS[model], self.secret(alias))
            row.save(using=alias)

    def edit_public(self, alias, model, number):
        model = model if model in PUBLIC_FIELDS else Note
        row = self.chosen(alias, model, number)
        if row is not None:
            setattr(row, PUBLIC_FIELDS[model], number)
            row.save(using=alias)

    def delete(self, alias, model, number):
        row = self.chosen(alias, model, number)
        if row is not None:
            row.delete(using=alias)

    def carry(self, way, mode="history"):
        """Whether there was anything to carry."""
        source, target = WAYS[way % len(WAYS)]
        with self.now(), self.settings_of(source):
            try:
                data, _report = write(source, to=NAMES[target], mode=mode, acknowledge=True)
            except ExportError:  # beyond what was pruned
                data, _report = write(source, to=NAMES[target], mode="snapshot")
        if data is None:
            return False
        told = lines(data)
        if target == "ship":
            told_text = json.dumps(told)
            assert f"{ENTERED}default" not in told_text
            assert f"{ENTERED}hq" not in told_text
        with self.now(), self.settings_of(target), suppress(GapError):
            take(data, target, on_conflict=self.policies[target])
        return len(told) > 2

    def decide(self, alias, number):
        with self.now(), self.settings_of(alias):
            for each in list(conflicts(using=alias)):
                (keep if number % 2 else take_incoming)(each.id, by="somebody", using=alias)

    def compact(self, alias):
        with self.now(), suppress(PruneError):
            prune(using=alias)

    def settle(self):
        for _ in range(ROUNDS):
            for alias in NAMES:
                self.decide(alias, 1)
            if not sum(self.carry(way) for way in range(len(WAYS))):
                return
        raise AssertionError("they never come to an end")

    def check(self):
        assert dump("default") == dump("hq")
        for model, field in SECRET_FIELDS.items():
            for alias in ("default", "hq"):
                told = set(model.objects.using(alias).values_list(field, flat=True))
                assert not [text for text in told if "ship" in text], f"{alias} has what the ship entered in {model}"
            there = set(model.objects.using("ship").values_list(field, flat=True))
            assert all(text == "" or text.startswith(f"{ENTERED}ship") for text in there), there
        assert public("ship") == public("hq")


def public(alias):
    """What everybody is told."""
    found = []
    for model in sorted(registry.tracked(), key=lambda each: each.__name__):
        spec = registry.spec(model)
        hidden = {SECRET_FIELDS.get(model), *(SECRET_FIELDS.get(each) for each in model._meta.get_parent_list())}
        names = [f.name for f in spec.fields if f.name not in hidden and f.name not in spec.relations]
        rows = model.objects.using(alias).values(*names) if names else [None] * model.objects.using(alias).count()
        found += sorted((model.__name__, repr(row)) for row in rows)
    return found


numbers = st.integers(0, 11)
deeds = st.tuples(
    st.sampled_from(["add", "edit_secret", "edit_secret", "edit_public", "edit_public", "delete"]),
    st.sampled_from(sorted(NAMES)), numbers, numbers,
)  # fmt: skip
carried = st.tuples(
    st.just("carry"), numbers, st.sampled_from(["history", "history", "squash", "snapshot"]), st.just(0)
)
others = st.tuples(st.sampled_from(["decide", "compact"]), st.sampled_from(sorted(NAMES)), numbers, st.just(0))


@settings(max_examples=300 if SLOW else 25, suppress_health_check=[HealthCheck.too_slow])
@given(
    st.lists(st.one_of(deeds, deeds, carried, carried, others), min_size=4, max_size=25),
    st.tuples(*[st.sampled_from(POLICIES)] * 3),
)
def whatever_happens(schedule, policies):
    simulate(schedule, policies)


def simulate(schedule, policies=(None,) * 3):
    with rolled_back():
        three = Three(policies)
        for way in range(len(WAYS)):  # everybody has heard of everybody
            three.carry(way)
        for name, first, second, third in schedule:
            if name == "carry":
                three.carry(first, second)
            elif name == "decide":
                three.decide(first, second)
            elif name == "compact":
                three.compact(first)
            else:
                three.do(first, name, second, third)
        three.settle()
        three.check()


def test_what_is_withheld_never_arrives_and_stays_true():
    whatever_happens()
