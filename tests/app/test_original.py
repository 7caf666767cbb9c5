"""What the documentation of django-synchro 0.5.2 promises, each as its reader would try it, on LOCAL and REMOTE.

REMOTE is once a database with synchro's tables, and once one without.
"""

import datetime as dt
import io
import os
import subprocess
import sys

import pytest
from django.core.exceptions import ValidationError
from django.core.management import call_command
from django.db import models
from django.db.models import F
from django.db.models.signals import post_delete, post_save, pre_save
from django.utils import timezone

from synchro import (
    DisableSynchroLog,
    NaturalManager,
    disable_synchro_log,
    export_bundle,
    import_bundle,
    reset_synchro,
    tables,
)
from synchro.models import ChangeLog, Conflict, Reference, options
from synchro.status import status
from tests.app.deploy import everything
from tests.project.office.models import (
    Account,
    Agent,
    Guest,
    LoudManager,
    Need,
    Note,
    Parcel,
    Place,
    Sale,
    Skill,
    Street,
    Team,
    Town,
    TownManager,
    Worker,
)

pytestmark = pytest.mark.django_db(databases=["default", "hq", "ship"])

DONE = "Synchronization performed successfully."
NOTHING = "No changes since last synchronization."


@pytest.fixture(autouse=True)
def project(settings):
    settings.SYNCHRO_MODELS = (
        ("office", "note", "Agent", "PARCEL", "Town", "Street", "Guest", "Skill", "Worker", "Team", "Account", "Sale"),
    )
    settings.SYNCHRO_REMOTE = "hq"


@pytest.fixture(params=["with tables", "without"])
def remote(request, settings, monkeypatch):
    """The alias of REMOTE. Without tables it looks as if they were not there, and what is there must stay as it is."""
    if request.param == "with tables":
        yield "hq"
        return
    settings.SYNCHRO_REMOTE = "ship"
    without_tables(monkeypatch, "ship")
    before = own_tables("ship")
    yield "ship"
    assert own_tables("ship") == before


def without_tables(monkeypatch, alias):
    """Database *alias* looks as if the log's table were not there."""
    there = tables.is_there

    def is_there(model, connection):
        return (model is not ChangeLog or connection.alias != alias) and there(model, connection)

    monkeypatch.setattr(tables, "is_there", is_there)


def own_tables(using):
    return {table: rows for table, rows in everything(using).items() if table.startswith("synchro_")}


def synchronize():
    out = io.StringIO()
    call_command("synchronize", stdout=out)
    return out.getvalue().strip()


def at(model, using):
    return model.objects.db_manager(using)


class Listening:
    """Counts what REMOTE is made to do with objects of a model."""

    def __init__(self, model, using):
        self.model, self.using, self.told = model, using, []

    def __enter__(self):
        post_save.connect(self._saved, sender=self.model)
        post_delete.connect(self._deleted, sender=self.model)
        return self.told

    def __exit__(self, *_error):
        post_save.disconnect(self._saved, sender=self.model)
        post_delete.disconnect(self._deleted, sender=self.model)

    def _saved(self, using, **_kwargs):
        self.told.append(("save", using))

    def _deleted(self, using, **_kwargs):
        self.told.append(("delete", using))


# --- adding, changing, deleting ---------------------------------------------------------------------------------------


def test_an_object_is_added(remote):
    before = timezone.now()
    Note.objects.create(name="James", cash=7)
    assert not at(Note, remote).exists()
    assert synchronize() == DONE
    there = at(Note, remote).get()
    assert (there.name, there.cash) == ("James", 7)
    assert options.last_check >= before
    assert synchronize() == NOTHING


def test_an_automatic_primary_key_of_remote_is_not_overwritten(remote):
    some = at(Note, remote).create(name="theirs", cash=77)
    mine = Note.objects.create(pk=some.pk, name="mine", cash=7)
    synchronize()
    assert sorted(at(Note, remote).values_list("name", flat=True)) == ["mine", "theirs"]
    mine.cash = 8
    mine.save()
    synchronize()
    assert sorted(at(Note, remote).values_list("name", "cash")) == [("mine", 8), ("theirs", 77)]


def test_an_addition_overwrites_a_row_of_the_same_explicit_primary_key_wholly(remote):
    at(Agent, remote).create(code="J", cash=77, balance=5)
    Agent.objects.create(code="J", cash=7, balance=42)
    synchronize()
    there = at(Agent, remote).get()
    assert (there.cash, there.balance) == (7, 0)


def test_a_change_arrives_at_the_same_object(remote):
    note = Note.objects.create(name="a", cash=7)
    synchronize()
    pk = at(Note, remote).get().pk
    note.name = "b"
    note.save()
    assert synchronize() == DONE
    assert at(Note, remote).get(pk=pk).name == "b"
    assert at(Note, remote).count() == 1


def test_a_skipped_field_has_its_default_on_creation_and_keeps_its_value_on_change(remote):
    agent = Agent.objects.create(code="J", cash=7, balance=42)
    synchronize()
    assert at(Agent, remote).get().balance == 0
    at(Agent, remote).update(balance=5)
    agent.cash, agent.balance = 8, 43
    agent.save()
    synchronize()
    there = at(Agent, remote).get()
    assert (there.cash, there.balance) == (8, 5)
    assert Agent.objects.get().balance == 43


def test_a_deletion_arrives(remote):
    note = Note.objects.create(name="a")
    synchronize()
    note.delete()
    synchronize()
    assert not at(Note, remote).exists()


def test_a_deletion_without_reference_or_key_is_not_performed(remote):
    at(Note, remote).create(name="a", cash=7)
    note = Note.objects.create(name="a", cash=7)
    reset_synchro()
    note.delete()
    synchronize()
    assert at(Note, remote).count() == 1


def test_what_was_added_and_deleted_is_no_action(remote):
    Note.objects.create(name="a").delete()
    with Listening(Note, remote) as told:
        synchronize()
    assert told == []


def test_what_was_added_and_deleted_leaves_a_namesake_alone(remote):
    at(Town, remote).create(name="A")
    Town.objects.create(name="A").delete()
    synchronize()
    assert at(Town, remote).count() == 1


def test_what_was_changed_and_deleted_is_one_deletion(remote):
    note = Note.objects.create(name="a")
    synchronize()
    note.name = "b"
    note.save()
    note.delete()
    with Listening(Note, remote) as told:
        synchronize()
    assert told == [("delete", remote)]


def test_a_mixture(remote):
    note = Note.objects.create(name="a", cash=7)
    note.name = "b"
    note.save()
    note.delete()
    note = Note.objects.create(name="c", cash=7)
    note.cash = 77
    note.save()
    synchronize()
    assert list(at(Note, remote).values_list("name", "cash")) == [("c", 77)]


def test_values_are_the_newest_and_each_object_is_saved_once(remote):
    note = Note.objects.create(name="a")
    for number in range(5):
        note.cash = number
        note.save()
    Note.objects.update(name="actual")
    with Listening(Note, remote) as told:
        synchronize()
    assert told == [("save", remote)]
    assert list(at(Note, remote).values_list("name", "cash")) == [("actual", 4)]


def test_updates_are_not_synchronized_unless_post_save_is_sent(remote):
    note = Note.objects.create(name="a")
    synchronize()
    Note.objects.update(name="b")
    assert synchronize() == NOTHING
    post_save.send(sender=Note, instance=note, created=False, using="default")
    assert synchronize() == DONE
    assert at(Note, remote).get().name == "b"


# --- natural keys -----------------------------------------------------------------------------------------------------


def test_an_object_of_the_same_natural_key_is_the_same(remote):
    theirs = at(Town, remote).create(name="A", cash=77, visits=5)
    Town.objects.create(pk=theirs.pk + 1, name="A", cash=7, visits=42)
    synchronize()
    there = at(Town, remote).get()
    assert (there.pk, there.cash, there.visits) == (theirs.pk, 7, 5)


def test_a_deletion_finds_its_object_by_natural_key(remote):
    at(Town, remote).create(name="A", cash=77, visits=5)
    town = Town.objects.create(pk=50, name="A")
    reset_synchro()
    town.delete()
    synchronize()
    assert not at(Town, remote).exists()


def test_what_was_found_by_natural_key_is_referenced(remote):
    at(Town, remote).create(name="A")
    town = Town.objects.create(name="A")
    Street.objects.create(name="s", town=town)
    synchronize()
    assert (at(Town, remote).count(), at(Street, remote).get().town.name) == (1, "A")
    town.name = "B"  # from now on it is known, whatever it is called
    town.save()
    synchronize()
    assert at(Town, remote).get().name == "B"


def test_a_key_that_is_not_unique_takes_the_first(remote):
    for room in (1, 2):
        at(Guest, remote).create(first="A", last="B", room=room)
    Guest.objects.create(first="A", last="B", room=3)
    synchronize()
    assert sorted(at(Guest, remote).values_list("room", flat=True)) == [2, 3]


def test_managers():
    for manager in (Town.objects, Town.others):
        assert isinstance(manager, NaturalManager)
        assert isinstance(manager, LoudManager)
        assert manager.shout() == "HEY"
        assert list(manager.all()) == []
        assert isinstance(type(manager)(), NaturalManager)  # related managers are made so
    town = Town.objects.create(name="A")
    assert Town.objects.get_by_natural_key("A") == Town.others.get_by_natural_key("A") == town
    assert town.natural_key() == ("A",)
    assert isinstance(Town.others, TownManager)
    skill = Skill.objects.create(level=3)
    worker = Worker.objects.create()
    worker.skills.add(skill)
    assert worker.skills.get_by_natural_key(3) == skill


@pytest.mark.parametrize("error", [TypeError, ValidationError])
def test_a_class_that_is_no_manager_is_refused(error):
    class NoManager:
        pass

    with pytest.raises(error, match="Manager"):
        NaturalManager("x", manager=NoManager)


@pytest.mark.parametrize("error", [TypeError, AssertionError])
def test_a_natural_manager_needs_fields(error):
    with pytest.raises(error):
        NaturalManager()


def test_a_natural_manager_does_not_disturb_migrations(tmp_path):
    out = io.StringIO()
    call_command("makemigrations", "office", check=True, dry_run=True, stdout=out)
    assert "No changes" in out.getvalue()
    assert models.Manager is type(Note.objects)


# --- foreign keys -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("how", ["reset", "disabled", "checkpoint"])
def test_foreign_keys_are_ensured_though_the_parent_is_not_in_the_log(remote, how):
    if how == "disabled":
        with DisableSynchroLog():
            agent = Agent.objects.create(code="J", cash=7)
            town = Town.objects.create(name="T")
    else:
        agent, town = Agent.objects.create(code="J", cash=7), Town.objects.create(name="T")
        if how == "reset":
            reset_synchro()
        else:
            options.last_check = timezone.now()
    Parcel.objects.create(name="1", agent=agent)
    Parcel.objects.create(name="2", agent=agent)
    Street.objects.create(name="s", town=town)
    assert synchronize() == DONE
    there = at(Agent, remote).get()
    assert there.cash == 7
    assert sorted(there.parcels.values_list("name", flat=True)) == ["1", "2"]
    assert all(parcel._state.db == remote for parcel in there.parcels.all())
    assert at(Street, remote).get().town.name == "T"


def test_an_ensured_parent_that_is_there_is_not_overwritten(remote):
    at(Agent, remote).create(code="J", cash=77)
    at(Town, remote).create(name="T", cash=77)
    agent, town = Agent.objects.create(code="J", cash=7), Town.objects.create(name="T", cash=7)
    reset_synchro()
    Parcel.objects.create(name="1", agent=agent)
    Street.objects.create(name="s", town=town)
    synchronize()
    assert (at(Agent, remote).get().cash, at(Town, remote).get().cash) == (77, 77)
    assert (at(Parcel, remote).count(), at(Street, remote).count()) == (1, 1)


def test_an_ensured_parent_is_later_changed_and_deleted_as_any_other(remote):
    town = Town.objects.create(name="T", cash=7)
    reset_synchro()
    street = Street.objects.create(name="s", town=town)
    synchronize()
    town.name = "U"
    town.save()
    synchronize()
    assert list(at(Town, remote).values_list("name", flat=True)) == ["U"]
    street.delete()
    town.delete()
    synchronize()
    assert not at(Town, remote).exists()
    assert not at(Street, remote).exists()


def test_an_ensured_parent_that_remote_deleted_comes_back(remote):
    town = Town.objects.create(name="T", cash=7)
    synchronize()
    at(Town, remote).get().delete()
    Street.objects.create(name="s", town=town)
    synchronize()
    assert at(Street, remote).get().town.cash == 7
    town.cash = 8
    town.save()
    synchronize()
    assert at(Town, remote).get().cash == 8


# --- many to many -----------------------------------------------------------------------------------------------------


def test_links(remote):
    skill, worker = Skill.objects.create(), Worker.objects.create()
    worker.skills.add(skill)
    synchronize()
    there = at(Worker, remote).get()
    assert [each.level for each in there.skills.all()] == [1]
    worker.skills.clear()
    synchronize()
    assert there.skills.count() == 0
    second = Worker.objects.create(number=2)
    skill.workers.add(worker, second)
    synchronize()
    theirs = at(Skill, remote).get()
    assert sorted(each.number for each in theirs.workers.all()) == [1, 2]
    skill.workers.remove(worker)
    synchronize()
    assert [each.number for each in theirs.workers.all()] == [2]
    skill.workers.clear()
    synchronize()
    assert theirs.workers.count() == 0
    assert (at(Worker, remote).count(), at(Skill, remote).count()) == (2, 1)


def test_a_link_brings_both_ends_though_neither_is_in_the_log(remote):
    skill, worker = Skill.objects.create(level=4), Worker.objects.create(number=5)
    reset_synchro()
    worker.skills.add(skill)
    synchronize()
    assert [each.level for each in at(Worker, remote).get(number=5).skills.all()] == [4]


def test_symmetrical_links(remote):
    first, second = Worker.objects.create(number=1), Worker.objects.create(number=2)
    first.friends.add(second)
    synchronize()
    one, two = (at(Worker, remote).get(number=number) for number in (1, 2))
    assert (list(one.friends.all()), list(two.friends.all())) == ([two], [one])
    second.friends.clear()
    synchronize()
    assert (one.friends.count(), two.friends.count()) == (0, 0)


def test_an_intermediary_comes_along_with_its_own_foreign_keys(remote):
    place = Place.objects.create(number=77)
    skill, team = Skill.objects.create(), Team.objects.create()
    Need.objects.create(skill=skill, team=team, place=place, cash=42)
    synchronize()
    there = at(Team, remote).get()
    assert [each.level for each in there.skills.all()] == [1]
    need = at(Need, remote).get()
    assert (need.cash, need.place.number, at(Place, remote).count()) == (42, 77, 1)
    other = Skill.objects.create(level=42)
    team.skills.clear()
    need = Need.objects.create(skill=other, team=team, place=place, cash=77)
    synchronize()
    assert [each.level for each in there.skills.all()] == [42]
    need.cash = 1
    need.save()
    synchronize()
    assert at(Need, remote).get().cash == 1
    team.skills.add(skill, through_defaults={"place": place, "cash": 3})
    synchronize()
    assert sorted(at(Need, remote).values_list("cash", flat=True)) == [1, 3]
    other.teams.clear()  # from the other side
    team.skills.remove(skill)
    synchronize()
    assert not at(Need, remote).exists()
    assert (at(Place, remote).count(), at(Skill, remote).count(), at(Team, remote).count()) == (1, 2, 1)


# --- leaving changes out ----------------------------------------------------------------------------------------------


def test_disabling(remote):
    with DisableSynchroLog():
        Note.objects.create(name="a")

    @disable_synchro_log
    def make():
        Agent.objects.create(code="J")

    make()
    assert synchronize() == NOTHING
    assert not at(Note, remote).exists()
    assert not at(Agent, remote).exists()


@pytest.mark.parametrize(("handler", "foo"), [("bad", 1), ("wrapped", 42), ("decorated", 42), ("update", 42)])
def test_the_scenarios_of_signal_handlers(handler, foo):
    """As the original's README tells them: the bad one ends badly, here too."""

    def bad(sender, using, **_kwargs):
        account = Account.objects.db_manager(using).get()
        account.bar += 1
        account.save()

    def wrapped(sender, using, **kwargs):
        with DisableSynchroLog():
            bad(sender, using, **kwargs)

    def update(sender, using, **_kwargs):
        Account.objects.db_manager(using).update(bar=F("bar") + 1)

    handlers = {"bad": bad, "wrapped": wrapped, "decorated": disable_synchro_log(bad), "update": update}
    Account.objects.create()
    synchronize()
    theirs = Account.objects.using("hq").get()
    theirs.foo = 42
    theirs.save()
    post_save.connect(handlers[handler], sender=Sale, weak=False, dispatch_uid="test")
    try:
        Sale.objects.create(name="X")
        synchronize()
    finally:
        post_save.disconnect(sender=Sale, dispatch_uid="test")
    mine, theirs = Account.objects.get(), Account.objects.using("hq").get()
    assert (mine.foo, mine.bar) == (1, 2)
    assert (theirs.foo, theirs.bar) == (foo, 2)


def test_handlers_that_keep_a_balance_in_a_skipped_field(remote):
    def remember(sender, instance, **_kwargs):
        instance.before = sender.objects.db_manager(instance._state.db).filter(pk=instance.pk).first()

    @disable_synchro_log
    def add_up(sender, instance, created, **_kwargs):
        agent = instance.agent
        agent.balance += instance.left - (0 if created else instance.before.left)
        agent.save()

    agent = Agent.objects.create(code="J", cash=7)
    synchronize()
    theirs = at(Agent, remote).get()
    theirs.cash, theirs.balance = 77, 10
    theirs.save()
    pre_save.connect(remember, sender=Parcel)
    post_save.connect(add_up, sender=Parcel)
    try:
        Parcel.objects.create(name="1", agent=agent, left=30)
        Parcel.objects.create(name="2", agent=agent, left=2)
        synchronize()
        assert (Agent.objects.get().balance, at(Agent, remote).get().balance) == (32, 42)
        second = Parcel.objects.get(name="2")
        second.left = 37
        second.save()
        synchronize()
    finally:
        pre_save.disconnect(remember, sender=Parcel)
        post_save.disconnect(add_up, sender=Parcel)
    theirs = at(Agent, remote).get()
    assert (Agent.objects.get().balance, theirs.balance, theirs.cash) == (67, 77, 77)


# --- comparing times --------------------------------------------------------------------------------------------------


def test_a_later_change_on_remote_is_kept_and_not_even_saved():
    note = Note.objects.create(name="a", cash=7)
    synchronize()
    note.cash = 42
    note.save()
    theirs = Note.objects.using("hq").get()
    theirs.cash = 77
    theirs.save()
    with Listening(Note, "hq") as told:
        assert synchronize() == DONE
    assert told == []
    assert Note.objects.using("hq").get().cash == 77
    assert Conflict.objects.using("hq").count() == 1


@pytest.mark.parametrize("make", [lambda using: Town.objects.using(using).create(name="A", cash=77)])
def test_a_later_addition_on_remote_is_kept(make):
    Town.objects.create(name="A", cash=7)
    make("hq")
    synchronize()
    assert Town.objects.using("hq").get().cash == 77


def test_a_later_addition_of_the_same_explicit_primary_key_is_kept():
    Agent.objects.create(code="J", cash=7)
    Agent.objects.using("hq").create(code="J", cash=77, balance=5)
    synchronize()
    there = Agent.objects.using("hq").get()
    assert (there.cash, there.balance) == (77, 5)


def test_a_deletion_older_than_remote_s_change_is_not_performed():
    note = Note.objects.create(name="a")
    synchronize()
    note.delete()
    theirs = Note.objects.using("hq").get()
    theirs.cash = 77
    theirs.save()
    synchronize()
    assert Note.objects.using("hq").get().cash == 77


def test_a_later_deletion_on_remote_is_kept():
    note = Note.objects.create(name="a")
    synchronize()
    note.name = "b"
    note.save()
    Note.objects.using("hq").get().delete()
    synchronize()
    assert not Note.objects.using("hq").exists()


def test_an_older_change_on_remote_gives_way():
    note = Note.objects.create(name="a", cash=7)
    synchronize()
    theirs = Note.objects.using("hq").get()
    theirs.name = "discarded"
    theirs.save()
    note.cash = 42
    note.save()
    synchronize()
    there = Note.objects.using("hq").get()
    assert (there.name, there.cash) == ("a", 42)


def test_changes_made_on_remote_by_this_process_are_logged_there():
    Note.objects.using("hq").create(name="a")
    assert (ChangeLog.objects.count(), ChangeLog.objects.using("hq").count()) == (0, 1)


def test_without_tables_nothing_is_compared_and_nothing_breaks(settings, monkeypatch):
    settings.SYNCHRO_REMOTE = "ship"
    without_tables(monkeypatch, "ship")
    note = Note.objects.create(name="a", cash=7)
    synchronize()
    note.cash = 42
    note.save()
    theirs = Note.objects.using("ship").get()
    theirs.cash = 77
    theirs.save()
    synchronize()
    assert Note.objects.using("ship").get().cash == 42
    theirs.delete()
    note.cash = 43
    note.save()
    synchronize()  # there is no reference to follow any more
    assert Note.objects.using("ship").get().cash == 43


def test_without_time_zones_files_travel_too(settings, tmp_path):
    settings.USE_TZ = False
    Note.objects.create(name="a")
    export_bundle(tmp_path)
    report = import_bundle(export_bundle(tmp_path, since=0).file, using="hq")
    assert report.added == 1
    assert status("hq").peers[0].taken == 1
    settings.USE_TZ = True
    assert status("hq").peers[0].heard is not None


def test_a_project_without_the_setting_is_warned_when_it_starts(tmp_path):
    (tmp_path / "bare_settings.py").write_text(
        "from tests.project.settings import *\nSYNCHRO_NODE = 'x'\ndel SYNCHRO_REMOTE\n"
    )
    ended = subprocess.run(
        [sys.executable, "-c", "import django; django.setup()"],
        env={
            **os.environ,
            "DJANGO_SETTINGS_MODULE": "bare_settings",
            "PYTHONPATH": os.pathsep.join([str(tmp_path), *sys.path]),
        },
        check=True,
        capture_output=True,
        text=True,
    )
    assert "RuntimeWarning: SYNCHRO_REMOTE is not set" in ended.stderr


# --- checkpoints ------------------------------------------------------------------------------------------------------


def test_resetting(remote):
    note = Note.objects.create(name="a")
    synchronize()
    note.name = "b"
    note.save()
    reset_synchro()
    assert not ChangeLog.objects.exists()
    assert synchronize() == NOTHING
    assert at(Note, remote).get().name == "a"
    note.name = "c"
    note.save()
    synchronize()
    assert list(at(Note, remote).values_list("name", flat=True)) == ["c"]


@pytest.mark.parametrize("use_tz", [True, False])
def test_the_checkpoint_is_set_back(remote, settings, use_tz):
    settings.USE_TZ = use_tz
    Note.objects.create(name="before")
    moment = timezone.now()
    Note.objects.create(name="after")
    synchronize()
    with DisableSynchroLog():
        at(Note, remote).all().delete()
    options.last_check = moment
    assert options.last_check == moment
    assert synchronize() == DONE
    assert list(at(Note, remote).values_list("name", flat=True)) == ["after"]
    assert options.last_check > moment


@pytest.mark.parametrize("use_tz", [True, False])
def test_the_checkpoint_is_set_as_the_readme_says(settings, use_tz):
    settings.USE_TZ, settings.TIME_ZONE = use_tz, "Europe/Warsaw"
    Note.objects.create(name="a")
    options.last_check = dt.datetime.now()  # noqa: DTZ005  as it stands there
    assert synchronize() == NOTHING
    options.last_check = dt.datetime.now() - dt.timedelta(hours=1)  # noqa: DTZ005
    assert synchronize() == DONE
    assert timezone.is_aware(options.last_check) == use_tz


def test_what_is_set_back_does_not_win_over_later_changes_of_remote():
    note = Note.objects.create(name="a")
    synchronize()
    theirs = Note.objects.using("hq").get()
    theirs.name = "later"
    theirs.save()
    options.last_check = timezone.now() - dt.timedelta(days=1)
    assert synchronize() == DONE
    assert Note.objects.using("hq").get().name == "later"
    assert Note.objects.get(pk=note.pk).name == "a"


def test_references_are_kept_in_local_for_a_remote_without_tables(settings, monkeypatch):
    """And handed over once it gets its tables."""
    with monkeypatch.context() as patch:
        without_tables(patch, "hq")
        at(Note, "hq").create(name="theirs")
        note = Note.objects.create(name="mine")
        synchronize()
    assert not Reference.objects.using("hq").exists()
    note.name = "changed"
    note.save()
    synchronize()
    assert sorted(at(Note, "hq").values_list("name", flat=True)) == ["changed", "theirs"]
