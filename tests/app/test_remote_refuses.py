"""What a REMOTE without synchro's tables cannot take: it is named and waits in LOCAL, and everything else arrives."""

import io

import pytest
from django.core.management import call_command

from synchro import changelog, reset_synchro
from synchro.models import RemoteHeld
from synchro.synchronizing import synchronize
from tests.project.plain.models import Color
from tests.project.shop.models import Car, Tag

REMOTE = "ship"
pytestmark = pytest.mark.django_db(databases=["default", "hq", "ship"])


@pytest.fixture(autouse=True)
def without_tables(settings, monkeypatch):
    settings.SYNCHRO_REMOTE = REMOTE
    there = changelog.available
    with monkeypatch.context() as patch:
        patch.setattr(changelog, "available", lambda using: using != REMOTE and there(using))
        yield patch


def run(**options):
    out = io.StringIO()
    call_command("synchronize", stdout=out, **options)
    return out.getvalue().strip().splitlines()


@pytest.fixture
def clash():
    """A car gets a plate here that another one got at REMOTE."""
    car = Car.objects.create(plate="1", color=Color.objects.create(name="red"))
    Car.objects.create(plate="2", color=Color.objects.create(name="blue"))
    run()
    Car.objects.using(REMOTE).filter(plate="2").update(plate="3")
    other = Car.objects.using(REMOTE).get(plate="3")
    car.plate = "3"
    car.save()
    Tag.objects.create(name="a")
    first = run()
    return car, other, first


def plates():
    return dict(Car.objects.using(REMOTE).values_list("color__name", "plate"))


def test_everything_else_arrives_and_it_is_named(clash):
    _, _, told = clash
    assert told[0] == "Synchronization performed successfully."
    assert told[1].startswith("  not applied to REMOTE yet: shop.car office-")
    assert len(told) == 2
    assert Tag.objects.using(REMOTE).get().name == "a"
    assert plates() == {"red": "1", "blue": "3"}
    assert RemoteHeld.objects.count() == 1


def test_it_is_tried_again_each_time_without_new_changes(clash):
    _, other, first = clash
    assert run() == ["No changes since last synchronization.", *first[1:]]
    assert plates() == {"red": "1", "blue": "3"}
    other.delete()
    assert run() == ["Synchronization performed successfully."]
    assert plates() == {"red": "3"}
    assert not RemoteHeld.objects.exists()
    assert run() == ["No changes since last synchronization."]


def test_what_was_taken_is_not_brought_again(clash):
    _, other, _ = clash
    Tag.objects.using(REMOTE).update(name="changed there")
    Tag.objects.create(name="b")
    run()
    other.delete()
    run()
    assert sorted(Tag.objects.using(REMOTE).values_list("name", flat=True)) == ["b", "changed there"]
    assert plates() == {"red": "3"}


def test_it_arrives_with_its_newest_values(clash):
    car, _, _ = clash
    Car.objects.filter(pk=car.pk).update(plate="4")
    assert run() == ["Synchronization performed successfully."]
    assert plates() == {"red": "4", "blue": "3"}
    assert not RemoteHeld.objects.exists()


def test_a_change_that_mends_it_brings_it(clash):
    car, _, _ = clash
    car.plate = "4"
    car.save()
    assert run() == ["Synchronization performed successfully."]
    assert plates() == {"red": "4", "blue": "3"}
    assert not RemoteHeld.objects.exists()


def test_what_was_deleted_meanwhile_does_not_wait_any_more(clash):
    car, _, _ = clash
    car.delete()
    assert run() == ["Synchronization performed successfully."]
    assert plates() == {"blue": "3"}
    assert not RemoteHeld.objects.exists()


def test_a_reset_forgets_it(clash):
    _, other, _ = clash
    reset_synchro()
    assert not RemoteHeld.objects.exists()
    other.delete()
    assert run() == ["No changes since last synchronization."]


def test_it_goes_to_the_tables_that_remote_gets(clash, without_tables):
    _, other, _ = clash
    without_tables.undo()
    report = synchronize()
    assert report.held == 1
    assert not RemoteHeld.objects.exists()
    other.delete()
    assert run() == ["Synchronization performed successfully."]
    assert plates() == {"red": "3"}


def test_a_crash_between_the_two_commits_loses_nothing(clash, monkeypatch):
    _, other, _ = clash
    other.delete()
    with monkeypatch.context() as patch:
        patch.setattr("synchro.synchronizing.confirm_references", lambda *_args: 1 / 0)
        with pytest.raises(ZeroDivisionError):
            synchronize()
    assert plates() == {"red": "3"}
    run()
    assert plates() == {"red": "3"}
    assert not RemoteHeld.objects.exists()
