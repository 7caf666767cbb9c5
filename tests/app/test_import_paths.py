"""Through save() with handlers, or in bulk: the same rows; and what both cost."""

import os
import tracemalloc
from unittest import mock

import pytest
from django.db.models import signals
from django.test import override_settings

from synchro import export_bundle, import_bundle
from synchro.models import ChangeLog
from synchro.seal import seal
from tests.app.deploy import (
    assert_same,
    carry,
    listening,
    queries,
    rolled_back,
    take,
    write,
)
from tests.project.plain.models import Color
from tests.project.shop.models import (
    Car,
    City,
    Club,
    Country,
    Device,
    Membership,
    Note,
    Parcel,
    Person,
    Place,
    Profile,
    Restaurant,
    Stamp,
    Tag,
)

pytestmark = pytest.mark.django_db(databases=["default", "hq", "ship"])
HQ = "hq"


# --- through save() or in bulk ----------------------------------------------------------------------------------------


def a_bit_of_everything():
    country = Country.objects.create(code="PL")
    city = City.objects.create(name="a", country=country, extra={"x": [1, None]})
    boss = Person.objects.create(name="boss", city=city)
    person = Person.objects.create(name="p", boss=boss)
    tags = [Tag.objects.create(name=name) for name in "abc"]
    person.tags.add(*tags)
    person.friends.add(boss)
    Profile.objects.create(person=person, bio="b")
    Device.objects.create(name="d", owner=person)
    Parcel.objects.create(code="x", sender=person)
    club = Club.objects.create(name="c")
    club.members.add(person, boss)
    Note.objects.create(data={"x": 1}, blob=b"\0\xff", char="c")
    Note.objects.create(data=None)
    Stamp.objects.create(name="s")
    Restaurant.objects.create(name="r", city=city, stars=3)
    Car.objects.create(plate="1", color=Color.objects.create(name="red"))
    return person, boss, tags


def more_of_everything(person, boss, tags):
    person.tags.remove(tags[0])
    person.boss = None
    person.save()
    boss.delete()
    tags[1].name = "renamed"
    tags[1].save()
    Restaurant.objects.all().delete()
    club = Club.objects.get()
    club.members.clear()
    note = Note.objects.first()
    note.integer = 7
    note.save()
    stamp = Stamp.objects.get()
    stamp.save()


ALL = (Country, City, Tag, Person, Profile, Device, Parcel, Club, Membership, Note, Stamp, Place, Restaurant, Car)


def test_both_paths_leave_the_same_rows_and_the_same_log():
    people = a_bit_of_everything()
    first, _ = write()
    more_of_everything(*people)
    second, _ = write()
    take(first, HQ)
    take(second, HQ)
    with listening(*ALL) as told:
        take(first, "ship")
        take(second, "ship")
    assert {kind for kind, *_ in told} == {"pre_save", "save", "delete"}
    assert_same("default", "hq", "ship")
    columns = ("action", "origin_seq", "date", "payload")
    assert list(ChangeLog.objects.using(HQ).order_by("seq").values_list(*columns)) == list(
        ChangeLog.objects.using("ship").order_by("seq").values_list(*columns)
    )
    assert not ChangeLog.objects.using("ship").filter(imported=False).exists()


def test_a_model_with_a_save_of_its_own_is_saved_through_it(monkeypatch):
    def save(self, *args, **kwargs):
        saved.append((self.name, kwargs.get("using")))
        super(Tag, self).save(*args, **kwargs)

    saved = []
    monkeypatch.setattr(Tag, "save", save)
    Tag.objects.create(name="a")
    saved.clear()
    data, _ = write()
    take(data)
    assert saved == [("a", HQ)]
    with override_settings(SYNCHRO_APPLY="raw"):
        take(data, "ship")
    assert len(saved) == 1
    assert_same("default", "hq", "ship")


def test_link_handlers_are_told():
    told = []

    def handler(action, using, pk_set, **kwargs):
        told.append((action, using, len(pk_set)))

    person, tag = Person.objects.create(name="p"), Tag.objects.create(name="t")
    person.tags.add(tag)
    signals.m2m_changed.connect(handler, sender=Person.tags.through)
    try:
        carry()
        person.tags.remove(tag)
        told_here = len(told)
        carry()
    finally:
        signals.m2m_changed.disconnect(handler, sender=Person.tags.through)
    assert [each for each in told if each[1] == HQ] == [
        ("pre_add", HQ, 1),
        ("post_add", HQ, 1),
        ("pre_remove", HQ, 1),
        ("post_remove", HQ, 1),
    ]
    assert told_here
    assert_same("default", "hq")


# --- how much it costs ------------------------------------------------------------------------------------------------


def fill(number):
    color = Color.objects.create(name="red")
    country = Country.objects.create(code="PL")
    tags = [Tag.objects.create(name=f"t{n}") for n in range(number)]
    for n in range(number):
        city = City.objects.create(name=f"c{n}", country=country)
        person = Person.objects.create(name=f"p{n}", city=city)
        person.tags.add(tags[n])
        Device.objects.create(name=f"d{n}", owner=person)
        Parcel.objects.create(code=f"x{n}", sender=person)
        Car.objects.create(plate=str(n), color=color)
        Restaurant.objects.create(name=f"r{n}", stars=n)


def change_all():
    for model in (City, Person, Device, Restaurant):
        for instance in model.objects.all():
            instance.name = f"changed {instance.pk}"
            instance.save()
    for parcel in Parcel.objects.all():
        parcel.weight += 1
        parcel.save()
    for tag, person in zip(Tag.objects.all(), Person.objects.order_by("-pk"), strict=True):
        tag.name += " renamed"
        tag.save()
        person.tags.set([tag])


def delete_all():
    Parcel.objects.all().delete()
    Device.objects.all().delete()
    Person.objects.all().delete()
    for model in (Tag, City, Restaurant, Car):
        model.objects.all().delete()


def costs(number):
    """The queries of importing additions, changes and links, deletions, and what is known, each within one chunk."""
    found = {}
    with rolled_back(), mock.patch("synchro.serialize.CHUNK", 100_000):
        fill(number)
        first, _ = write()
        found["empty"], _ = queries(HQ, lambda: take(first))
        change_all()
        second, _ = write()
        found["changing"], report = queries(HQ, lambda: take(second))
        assert report.changed == 6 * number
        found["known"], _ = queries(HQ, lambda: take(second))
        delete_all()
        third, _ = write()
        found["deleting"], report = queries(HQ, lambda: take(third))
        assert (report.deleted, report.held) == (7 * number, 0)
        assert_same("default", "hq")
        found["again"], _ = queries(HQ, lambda: take(first))
    return found


def test_the_queries_of_an_import_do_not_grow_with_the_rows():
    few, many = costs(20), costs(120)
    assert few == many
    assert max(many.values()) < (250 if os.environ.get("SYNCHRO_TEST_DB") == "mariadb" else 150)


def peaks(number, folder):
    """The most memory that an export and an import of *number* rows take: 3 KiB each, in several frames."""
    with rolled_back(), mock.patch("synchro.serialize.CHUNK", 200):
        Note.objects.bulk_create(Note(integer=n, text=f"note {n} " * 350) for n in range(number))
        for note in Note.objects.all().iterator():
            note.save()
        seal("default")
        found = []
        for call in (
            lambda: export_bundle(folder / f"{number}.zst"),
            lambda: import_bundle(folder / f"{number}.zst", using=HQ),
        ):
            tracemalloc.start()
            report = call()
            found.append(tracemalloc.get_traced_memory()[1])
            tracemalloc.stop()
            assert report.records == number
    return found


@pytest.mark.slow
def test_memory_does_not_grow_with_the_file(tmp_path):
    peaks(300, tmp_path)  # fills caches
    few, many = peaks(3000, tmp_path), peaks(6000, tmp_path)
    for before, after in zip(few, many, strict=True):
        assert after - before < 2_000_000, (few, many)  # of 9 MB more that pass through
