"""Whatever is done with models of every kind: the bundles, replayed elsewhere, give the same data.

Both receivers have had rows before, so that their numbers are others; and all three deployments have some rows that
their migrations made and nobody logged. Set SYNCHRO_SLOW=1 for many more examples, and SYNCHRO_TEST_DB=mixed for three
databases at once.
"""

import os
import uuid
from unittest import mock

import pytest
from django.apps import apps
from django.contrib.contenttypes.models import ContentType
from django.db import connections, models, transaction
from django.db.models import QuerySet
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from synchro import DisableSynchroLog, serialize
from tests.app.deploy import assert_same, brought, carry, listening, rolled_back, take, write
from tests.app.logged import tracking
from tests.app.test_replay_property import NAMES, Office
from tests.project.zoo import models as zoo

pytestmark = pytest.mark.django_db(databases=["default", "hq", "ship"])

SLOW = bool(os.environ.get("SYNCHRO_SLOW"))
EXAMPLES = 600 if SLOW else 12
STEPS = 60 if SLOW else 40
DEFERRED = all(connections[alias].features.can_defer_constraint_checks for alias in ("default", "hq", "ship"))
TARGETS = (zoo.Keeper, zoo.Creature, zoo.Animal, zoo.Dog, zoo.Crate, zoo.Order, zoo.Question)


class Zoo(Office):
    def kind(self, model):
        with DisableSynchroLog():
            return ContentType.objects.db_manager(self.using).get_for_model(model, for_concrete_model=False)

    def rows(self, model, **lookup):
        return QuerySet(model, using=self.using).filter(**lookup)

    # --- foreign keys -------------------------------------------------------------------------------------------------

    def add_keeper(self, a, b, c):
        self.save(zoo.Keeper(badge=f"b{a}", name=NAMES[b % 3], chief=self.pick(zoo.Keeper, c) if c % 2 else None))

    def change_keeper(self, a, b, c):
        self.change(zoo.Keeper, a, name=NAMES[b % 3], chief=self.pick(zoo.Keeper, c) if c % 2 else None)

    def rename_badge(self, a, b, c):
        keeper = self.pick(zoo.Keeper, a)
        if keeper and not (self.rows(zoo.Keeper, chief=keeper) or self.rows(zoo.Locker, keeper=keeper)):
            keeper.badge = f"b{b}"
            self.save(keeper)

    def lock_up(self, a, b, c):
        keeper = self.pick(zoo.Keeper, a)
        if keeper:
            self.save(zoo.Locker(keeper=keeper, content=NAMES[b % 3]))

    def team_up(self, a, b, c):
        team = zoo.Team(name=NAMES[a % 3])
        self.save(team)
        player = zoo.Player(team=team, name=NAMES[b % 3])
        self.save(player)
        team.captain = player
        self.save(team, update_fields=["captain"] if c % 2 else None)

    def change_team(self, a, b, c):
        self.change(zoo.Player, a, team=self.pick(zoo.Team, b)) if self.pick(zoo.Team, b) else None
        self.change(zoo.Team, c, captain=self.pick(zoo.Player, a))

    def cast_shadow(self, a, b, c):
        self.save(zoo.Shadow(keeper=self.pick(zoo.Keeper, a)))

    # --- generic foreign keys -----------------------------------------------------------------------------------------

    def comment(self, a, b, c):
        model = [each for each in TARGETS if each is not zoo.Crate][a % 6]
        target = self.pick(model, b)
        if target:
            self.save(zoo.Comment(content_type=self.kind(model), object_id=target.pk, text=NAMES[c % 3]))

    def remark(self, a, b, c):
        model = (*TARGETS, zoo.Puppy)[a % 8]
        target = self.pick(model, b)
        if target:
            self.rows(zoo.Remark).update_or_create(
                kind=self.kind(model), key=str(target.pk), defaults={}
            ) if c % 2 else self.save(zoo.Remark(kind=self.kind(model), key=str(target.pk)))

    def move_comment(self, a, b, c):
        comment, target = self.pick(zoo.Comment, a), self.pick(zoo.Keeper, b)
        if comment and target:
            comment.about = target
            self.save(comment)

    # --- inheritance --------------------------------------------------------------------------------------------------

    def add_creature(self, a, b, c):
        keeper = self.pick(zoo.Keeper, b) if b % 2 else None
        kind = (zoo.Creature, zoo.Animal, zoo.Dog)[c % 3]
        self.save(kind(name=f"n{a}", keeper=keeper, **({"chip": f"c{b}"} if c % 3 == 2 else {})))

    def change_creature(self, a, b, c):
        model = (zoo.Creature, zoo.Animal, zoo.Dog, zoo.Puppy)[a % 4]
        self.change(model, b, name=f"n{c}", **({"legs": c} if a % 4 else {}))

    def rechip(self, a, b, c):
        self.change(zoo.Dog, a, chip=f"c{b}")

    def promote(self, a, b, c):
        creature = self.pick(zoo.Creature, a)
        if creature and not self.rows(zoo.Animal, pk=creature.pk):
            animal = zoo.Animal(creature_ptr=creature, legs=b)
            if c % 2:
                animal.save_base(raw=True, using=self.using)
            else:
                animal.__dict__.update(name=creature.name, keeper_id=creature.keeper_id)
                self.save(animal)

    def like(self, a, b, c):
        self.links(self.pick(zoo.Dog if c % 2 else zoo.Creature, a), "likes", self.some(zoo.Creature, b), c)

    def liked(self, a, b, c):
        self.links(self.pick(zoo.Creature, a), "liked_by", self.some(zoo.Creature, b), c)

    def demote(self, a, b, c):
        dog = self.pick((zoo.Dog, zoo.Animal)[b % 2], a)
        if dog:
            dog.delete(using=self.using, keep_parents=True)

    def van(self, a, b, c):
        self.rows(zoo.Van).update_or_create(plate=f"p{a}", defaults={"wheels": b})

    # --- primary keys -------------------------------------------------------------------------------------------------

    def order(self, a, b, c):
        self.save(zoo.Order(number=f"o{a}"))

    def line(self, a, b, c):
        order = self.pick(zoo.Order, a)
        if order:
            self.save(zoo.Line(order=order, position=b, text=NAMES[c % 3]))

    def stall(self, a, b, c):
        crate, _ = self.rows(zoo.Crate).get_or_create(id=uuid.UUID(int=a % 3), defaults={"name": NAMES[b % 3]})
        self.save(zoo.Stall(crate=crate, row=str(b % 3), note=NAMES[c % 3]))

    def small(self, a, b, c):
        self.save(zoo.Small(name=NAMES[a % 3]))

    # --- managers and options -----------------------------------------------------------------------------------------

    def hide(self, a, b, c):
        self.save(zoo.Hidden(name=f"h{a}", hidden=b % 2))

    def unhide(self, a, b, c):
        hidden = self.rows(zoo.Hidden, hidden=False).first()
        if hidden:
            hidden.hidden, hidden.name = b % 2, f"h{c}"
            self.save(hidden)

    def scope(self, a, b, c):
        self.save(zoo.Scoped(name=NAMES[a % 3], hidden=self.pick(zoo.Hidden, b)))

    def ask(self, a, b, c):
        question = self.pick(zoo.Question, a) if b % 2 else None
        if question is None:
            question = zoo.Question(text=NAMES[a % 3])
            self.save(question)
        self.save(zoo.Answer(question=question, text=NAMES[c % 3]))

    def keep_pet(self, a, b, c):
        pet = zoo.OwnPet(name=NAMES[a % 3], size=b)
        self.save(pet)
        self.save(zoo.Basket(pet=pet))

    # --- what migrations made -----------------------------------------------------------------------------------------

    def translate(self, a, b, c):
        language, _ = self.rows(zoo.Language).get_or_create(code=("en", "de", "fr")[a % 3])
        self.rows(zoo.Translation).update_or_create(
            language=language, source=("cat", "dog")[b % 2], defaults={"text": NAMES[c % 3]}
        )

    def label(self, a, b, c):
        self.change(zoo.Language, a, label=NAMES[b % 3])

    # --- values -------------------------------------------------------------------------------------------------------

    def specimen(self, a, b, c):
        specimen = self.pick(zoo.Specimen, a) if b % 2 else None
        if specimen is None:
            specimen = zoo.Specimen(tiny=c)
        for name, value in [
            ("point", zoo.Point(a, b)), ("words", f" {a}  {b} "), ("shout", NAMES[c % 3]), ("level", models.F("tiny")),
            ("data", {"$int": a}), ("money", "1.005"), ("number", str(c)), ("secret", 7),
        ][c : c + 3]:  # fmt: skip
            if name != "level" or specimen.pk:
                setattr(specimen, name, value)
        self.save(specimen)

    def part_of_specimen(self, a, b, c):
        specimen = self.rows(zoo.Specimen).only("name", "tiny").first()
        if specimen:
            specimen.tiny, specimen.text = c, "not saved"
            self.save(specimen, update_fields=["tiny"])

    # --- deletions, and what comes to nothing -------------------------------------------------------------------------

    def delete(self, a, b, c):
        kinds = (
            zoo.Keeper, zoo.Locker, zoo.Team, zoo.Player, zoo.Shadow, zoo.Comment, zoo.Remark, zoo.Creature, zoo.Animal,
            zoo.Dog, zoo.Order, zoo.Line, zoo.Crate, zoo.Stall, zoo.Question, zoo.Answer, zoo.Small, zoo.Specimen,
        )  # fmt: skip
        instance = self.pick(kinds[(a * 8 + c) % len(kinds)], b)
        if instance is not None:
            instance.delete(using=self.using)

    def delete_many(self, a, b, c):
        model = (zoo.Creature, zoo.Comment, zoo.Line, zoo.Player)[a % 4]
        self.rows(model, pk__in=[row.pk for row in self.some(model, b)]).delete()

    def think_better_of_it(self, a, b, c):
        with transaction.atomic(using=self.using):
            self.add_keeper(a, b, c)
            with transaction.atomic(using=self.using):
                self.comment(a, b, c)
                self.delete(a, b, c)
                transaction.set_rollback(True, using=self.using)
            self.change_keeper(c, b, a)
            if c % 2:
                transaction.set_rollback(True, using=self.using)


DEEDS = [
    name
    for name in vars(Zoo)
    if not name.startswith("_") and name not in {"kind", "rows"} and (DEFERRED or name != "change_team")
]
EXPORT = "export"
numbers = st.integers(0, 7)
steps = st.tuples(st.sampled_from([*DEEDS, EXPORT]), numbers, numbers, numbers)


@settings(max_examples=EXAMPLES, suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow])
@given(st.lists(steps, min_size=5, max_size=STEPS), st.sampled_from((1000, 7, 1)), st.booleans())
@example([("add_creature", 7, 7, 2), ("demote", 6, 7, 4), ("liked", 4, 3, 5)], 1000, False)
@example([("add_creature", 0, 0, 2), ("like", 0, 1, 0), ("demote", 0, 0, 0)], 1000, False)
def test_replayed_on_deployments_with_rows_of_their_own_the_bundles_give_the_same_data(script, chunk, handlers):
    replay(script, chunk, handlers=handlers)


def replay(script, chunk, *, handlers):
    heard = [model for model in apps.get_app_config("zoo").get_models() if model._meta.managed] if handlers else ()
    with (
        tracking("zoo"),
        rolled_back(),
        mock.patch.object(serialize, "CHUNK", chunk),
        listening(*heard),
    ):
        for number, alias in enumerate(("default", "hq", "ship")):
            before(alias, number)
        office = Zoo()
        for name, *each in script:
            if name != EXPORT:
                office.do(name, *each)
            else:
                report = carry("default", "hq")  # in pieces
                assert report is None or smooth(report)
        report = carry("default", "hq")
        assert report is None or smooth(report)
        data, _ = write(to="ship")  # all at once
        if data is not None:
            assert smooth(take(data, "ship"))
        assert_same("default", "hq", "ship")
        if data is not None:
            echo = carry("hq", "default")
            assert set(brought(echo)) <= {"already_known"}


def smooth(report):
    """Nothing was held or merged. What migrations made is kept as a conflict where it is overwritten."""
    assert report.held_changes == ()
    return not (report.held or report.merged)


def before(alias, number):
    """What there was: other numbers, and the same rows of the migrations' in another order."""
    with DisableSynchroLog():
        ContentType.objects.clear_cache()
        for model in TARGETS:
            ContentType.objects.db_manager(alias).get_for_model(model, for_concrete_model=False)
        ContentType.objects.db_manager(alias).get_for_model(zoo.Puppy, for_concrete_model=False)
        for model in (zoo.Keeper, zoo.Team, zoo.Order, zoo.Question, zoo.Vehicle, zoo.Comment, zoo.Language):
            for place in range(number):
                given = {zoo.Keeper: {"badge": place}, zoo.Comment: {"object_id": 0}, zoo.Language: {"code": place}}
                extra = given.get(model, {})
                if model is zoo.Comment:
                    extra["content_type"] = ContentType.objects.using(alias).first()
                QuerySet(model, using=alias).create(**extra)
            QuerySet(model, using=alias).delete()
        for code in ("en", "de") if number % 2 else ("de", "en"):
            language = QuerySet(zoo.Language, using=alias).create(code=code, label=code)
            QuerySet(zoo.Translation, using=alias).create(language=language, source="cat", text=code)
