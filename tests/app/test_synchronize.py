"""Synchronizing LOCAL with REMOTE, both with synchro's tables."""

import datetime as dt
from unittest import mock

import pytest
from django.core.exceptions import ImproperlyConfigured, MultipleObjectsReturned
from django.core.management import CommandError, call_command
from django.db import DatabaseError, transaction
from django.db.models.signals import post_save
from django.test import override_settings
from django.utils import timezone

from synchro import DisableSynchroLog, export_bundle, import_bundle, reset_synchro
from synchro.errors import SynchronizeError
from synchro.models import ChangeLog, Conflict, options
from synchro.synchronizing import outcome, synchronize
from tests.app.deploy import carry, listening
from tests.project.plain.models import Color
from tests.project.shop.models import Car, City, Country, Person, Restaurant, Tag

REMOTE = "hq"
pytestmark = [pytest.mark.django_db(databases=["default", "hq", "ship"])]


@pytest.fixture(autouse=True)
def remote(settings):
    settings.SYNCHRO_REMOTE = "hq"


def run():
    from io import StringIO

    out = StringIO()
    call_command("synchronize", stdout=out)
    return out.getvalue().strip()


def test_it_says_what_the_predecessor_said():
    assert run() == "No changes since last synchronization."
    Tag.objects.create(name="a")
    assert run() == "Synchronization performed successfully."
    assert Tag.objects.using("hq").get().name == "a"
    assert run() == "No changes since last synchronization."


@pytest.mark.parametrize("value", [None, "absent"])
def test_without_a_remote_it_refuses(settings, value):
    settings.SYNCHRO_REMOTE = None
    if value == "absent":
        del settings.SYNCHRO_REMOTE
        with pytest.warns(RuntimeWarning, match="SYNCHRO_REMOTE is not set"), pytest.raises(CommandError):
            run()
        return
    with pytest.raises(CommandError, match="No REMOTE database specified in settings"):
        run()


def test_a_remote_that_is_no_database(settings):
    settings.SYNCHRO_REMOTE = "nowhere"
    with pytest.raises(ImproperlyConfigured, match="nowhere"):
        synchronize()
    with pytest.raises(ImproperlyConfigured, match="nowhere"):
        run()


def test_one_record_an_object_with_its_newest_actual_values():
    poland = Country.objects.create(code="PL", name="a")
    for name in ("b", "c"):
        poland.name = name
        poland.save()
    Country.objects.update(name="d")  # unlogged, but actual
    report = synchronize()
    assert (report.added, report.changed) == (1, 0)
    assert Country.objects.using("hq").get().name == "d"
    assert ChangeLog.objects.using("hq").count() == 1


def test_added_then_deleted_is_no_action():
    Tag.objects.create(name="kept")
    Tag.objects.create(name="gone").delete()
    report = synchronize()
    assert (report.added, report.deleted) == (1, 0)
    assert [tag.name for tag in Tag.objects.using("hq").all()] == ["kept"]


def test_changed_then_deleted_is_one_deletion():
    tag = Tag.objects.create(name="a")
    synchronize()
    tag.name = "b"
    tag.save()
    tag.delete()
    report = synchronize()
    assert (report.changed, report.deleted) == (0, 1)
    assert not Tag.objects.using("hq").exists()


def test_the_later_change_on_remote_stays():
    tag = Tag.objects.create(name="a")
    synchronize()
    tag.name = "local"
    tag.save()
    other = Tag.objects.using("hq").get()
    other.name = "remote"
    other.save()
    synchronize()
    assert Tag.objects.using("hq").get().name == "remote"
    assert Conflict.objects.using("hq").count() == 1


def test_a_later_deletion_on_remote_stays():
    tag = Tag.objects.create(name="a")
    synchronize()
    tag.name = "local"
    tag.save()
    Tag.objects.using("hq").get().delete()
    synchronize()
    assert not Tag.objects.using("hq").exists()


def test_relations_links_and_untracked_targets_come_along():
    city = City.objects.create(name="Wrocław", country=Country.objects.create(code="PL"))
    person = Person.objects.create(name="p", city=city, boss=Person.objects.create(name="boss"))
    person.tags.add(Tag.objects.create(name="t"))
    Car.objects.create(plate="1", color=Color.objects.create(name="red"))
    Restaurant.objects.create(name="r", city=city, stars=2)
    with DisableSynchroLog():
        Person.objects.create(name="never logged")
    synchronize()
    there = Person.objects.using("hq").get(name="p")
    assert (there.boss.name, there.city.country.code, [tag.name for tag in there.tags.all()]) == ("boss", "PL", ["t"])
    assert Car.objects.using("hq").get().color.name == "red"
    assert Restaurant.objects.using("hq").get().stars == 2
    assert not Person.objects.using("hq").filter(name="never logged").exists()


def test_children_changed_before_their_parents_were_added():
    person = Person.objects.create(name="p")
    person.boss = Person.objects.create(name="boss")
    person.save()
    report = synchronize()
    assert report.held == 0
    assert Person.objects.using("hq").get(name="p").boss.name == "boss"


def test_setting_the_checkpoint_back_sends_again_what_came_after():
    Tag.objects.create(name="a")
    before = timezone.now()
    Tag.objects.create(name="b")
    synchronize()
    assert options.last_check >= before
    Tag.objects.using("hq").all().delete()
    options.last_check = before
    assert run() == "Synchronization performed successfully."
    options.last_check = timezone.now() + dt.timedelta(seconds=1)
    Tag.objects.create(name="c")
    options.last_check = timezone.now() + dt.timedelta(seconds=1)
    assert run() == "No changes since last synchronization."


def test_taking_the_checkpoint_away_sends_everything_that_is_logged_again():
    Tag.objects.create(name="forgotten")
    reset_synchro()
    Tag.objects.create(name="a")
    synchronize()
    Tag.objects.using("hq").update(name="changed past the log")
    options.last_check = None
    assert run() == "Synchronization performed successfully."
    assert [tag.name for tag in Tag.objects.using("hq").all()] == ["a"]
    assert options.last_check is not None


def test_reset_makes_everything_count_as_synchronized():
    Tag.objects.create(name="a")
    reset_synchro()
    assert run() == "No changes since last synchronization."
    Tag.objects.create(name="b")
    synchronize()
    assert [tag.name for tag in Tag.objects.using("hq").all()] == ["b"]


def test_a_crash_between_the_two_commits_is_made_good_by_running_it_again():
    from synchro.models import Destination

    Person.objects.create(name="no natural key")
    synchronize()
    Destination.objects.update(seq=0)  # REMOTE has committed, LOCAL has not
    synchronize()
    assert Person.objects.using("hq").count() == 1


def test_remote_does_not_send_back_what_it_got(tmp_path):
    Tag.objects.create(name="a").delete()
    Tag.objects.create(name="b")
    synchronize()
    report = import_bundle(export_bundle(tmp_path, using="hq").file)
    assert (report.added, report.changed, report.already_known) == (0, 0, 1)
    # As a file, too: new is only what came and went in between.
    report = import_bundle(export_bundle(tmp_path).file, using="hq")
    assert (report.added, report.deleted, report.held, report.conflicts) == (1, 1, 0, 0)
    assert [tag.name for tag in Tag.objects.using("hq").all()] == ["b"]


def test_resetting_another_database_leaves_the_checkpoint_alone():
    Tag.objects.create(name="a")
    before = options.last_check
    reset_synchro("ship")
    assert options.last_check == before
    assert synchronize().added == 1


def test_setting_the_checkpoint_skips_nothing_that_was_captured_later():
    Tag.objects.create(name="a")
    Tag.objects.create(name="b")
    moment = timezone.now() - dt.timedelta(minutes=10)
    second = dt.timedelta(seconds=1)
    # As of two transactions of which the one that began earlier ended later.
    for name, captured in (("a", moment + second), ("b", moment - second)):
        pk = Tag.objects.get(name=name).pk
        rows = ChangeLog.objects.filter(model="shop.tag", pk_text=str(pk))
        rows.update(captured=round(captured.timestamp() * 1_000_000))
    options.last_check = moment
    synchronize()
    assert Tag.objects.using("hq").filter(name="a").exists()


def test_what_a_row_merely_points_to_overwrites_nothing():
    for using in ("default", REMOTE):
        Country.objects.using(using).bulk_create([Country(code="PL", name="as it was")])
    edited = Country.objects.using(REMOTE).get()
    edited.name = "edited on REMOTE"
    edited.save()
    City.objects.create(name="Wrocław", country=Country.objects.get())
    synchronize()
    assert Country.objects.using(REMOTE).get().name == "edited on REMOTE"
    assert City.objects.using(REMOTE).get().country == Country.objects.using(REMOTE).get()


def test_what_a_row_merely_points_to_reaches_a_file_all_the_same():
    Country.objects.bulk_create([Country(code="PL", name="never logged")])
    City.objects.create(name="Wrocław", country=Country.objects.get())
    synchronize()
    assert carry("default", "ship").held == 0
    assert City.objects.using("ship").get().country.name == "never logged"
    assert synchronize() is None


def test_handlers_on_remote_are_told_of_a_save_that_changes_nothing():
    tag = Tag.objects.create(name="a")
    synchronize()
    with listening(Tag) as told:
        tag.save()
        synchronize()
    assert [(kind, using) for kind, *_, using in told if using == REMOTE] == [("pre_save", REMOTE), ("save", REMOTE)]


def test_what_is_held_at_remote_is_tried_again_without_new_changes():
    tag = Tag.objects.create(name="a")
    synchronize()
    in_the_way = Car.objects.using(REMOTE).create(plate="1", color=Color.objects.using(REMOTE).create(name="red"))
    Car.objects.create(plate="1")
    assert synchronize().held == 1
    when = options.last_check
    still = synchronize()
    assert (still.held, outcome(still)) == (1, "No changes since last synchronization.")
    assert still.held_changes[0].model == "shop.car"
    assert options.last_check == when
    Tag.objects.create(name="b")
    assert [each.model for each in synchronize().held_changes] == ["shop.car"]
    in_the_way.delete()
    assert synchronize().held == 0
    assert Car.objects.using(REMOTE).get().color is None
    assert tag.pk


def test_a_key_of_many_that_nobody_said_to_be_one_of_many_fails():
    with override_settings(SYNCHRO_NATURAL_KEYS={"shop.person": ["name"]}):
        for _ in range(2):
            Person.objects.using(REMOTE).create(name="twin")
        Person.objects.create(name="twin")
        with pytest.raises(MultipleObjectsReturned, match="2 objects have the natural key"):
            synchronize()
        with (
            pytest.raises(CommandError, match="2 objects have the natural key"),
            override_settings(SYNCHRO_REMOTE=REMOTE),
        ):
            call_command("synchronize")
    assert Person.objects.using(REMOTE).count() == 2


@pytest.mark.django_db(databases=["default", "hq", "ship"], transaction=True)
def test_inside_a_transaction():
    Tag.objects.create(name="a")
    with transaction.atomic():
        with pytest.raises(SynchronizeError, match="cannot be part of a transaction"):
            synchronize()
        reset_synchro()
    assert synchronize() is None


def test_with_synchro_debug_what_a_handler_raises_ends_the_synchronization(settings):
    def handler(using, **kwargs):
        if using == REMOTE:
            raise ValueError("boom")

    Tag.objects.create(name="a")
    post_save.connect(handler, sender=Tag)
    try:
        settings.DEBUG = settings.SYNCHRO_DEBUG = True
        with pytest.raises(ValueError, match="boom"):
            synchronize()
        assert not Tag.objects.using(REMOTE).exists()
        settings.SYNCHRO_DEBUG = False
        assert "boom" in synchronize().held_changes[0].reason
    finally:
        post_save.disconnect(handler, sender=Tag)
    Tag.objects.create(name="b")
    assert synchronize().held == 0
    assert Tag.objects.using(REMOTE).count() == 2


def test_a_refusal_of_the_database_promises_nothing():
    failing = mock.patch("synchro.management.commands.synchronize.synchronize", side_effect=DatabaseError("crash"))
    with failing, pytest.raises(CommandError, match="The database refused: crash\nRun the command again"):
        call_command("synchronize")
