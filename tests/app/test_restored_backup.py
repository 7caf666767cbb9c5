"""A database that was restored from a backup meets what it wrote before."""

import io

import pytest

from synchro import export_bundle, import_bundle, serialize
from synchro.errors import ForkError
from synchro.models import ChangeLog, Node, Version
from tests.app.deploy import carry, take, write
from tests.project.shop.models import Note, Tag

pytestmark = pytest.mark.django_db(databases=["default", "hq", "ship"])


def exported(**options):
    stream = io.BytesIO()
    export_bundle(stream, **options)
    stream.seek(0)
    return stream


@pytest.fixture
def lost():
    """A bundle with the second change of a log that then went back to the first."""
    Tag.objects.create(name="a")
    exported()
    Tag.objects.create(name="b")
    bundle = exported()
    change = ChangeLog.objects.get(seq=2)
    Version.objects.filter(change_id=change.pk).delete()
    change.delete()
    Node.objects.filter(current=True).update(seq=1)
    return bundle


def test_its_own_later_bundle_is_not_called_known(lost):
    for dry_run in (True, False):
        with pytest.raises(ForkError, match="restored from a backup"):
            import_bundle(lost, dry_run=dry_run)
        lost.seek(0)


def test_nor_when_it_has_gone_on_since(lost):
    Tag.objects.create(name="c")
    exported(since=1)
    with pytest.raises(ForkError, match="restored from a backup"):
        import_bundle(lost)


def test_its_peers_notice_that_a_position_was_used_twice(lost):
    import_bundle(exported(since=0, until=1), using="hq")
    import_bundle(lost, using="hq")
    Tag.objects.create(name="c")
    with pytest.raises(ForkError, match="two different changes"):
        import_bundle(exported(since=1), using="hq")


def test_an_own_bundle_is_known():
    Tag.objects.create(name="a")
    report = import_bundle(exported())
    assert report.own
    assert report.already_known == 1


def test_what_comes_before_in_a_long_bundle_does_not_make_its_own_change_known(monkeypatch):
    Tag.objects.create(name="a")
    carry()
    Tag.objects.create(name="b")
    data, _ = write(to="hq")
    for number in range(8):
        Note.objects.using("hq").create(integer=number)
    take(data)
    back, _ = write("hq", to="default")
    change = ChangeLog.objects.get(seq=2)
    Version.objects.filter(change_id=change.pk).delete()
    change.delete()
    Node.objects.filter(current=True).update(seq=1)
    monkeypatch.setattr(serialize, "CHUNK", 3)
    with pytest.raises(ForkError, match="made at its position 2"):
        take(back, "default")
