"""A database that was copied goes on under an id of its own; what it inherited keeps the ids that it was born with."""

import pytest
from django.core.management import call_command
from django.test import override_settings

from synchro import DisableSynchroLog, reset_synchro
from synchro.models import Node, Reference
from synchro.requests import missing_before, read_request, write_request
from synchro.seal import seal
from synchro.status import status
from tests.app.deploy import carry, queries, records, rolled_back, take, write
from tests.project.plain.models import Color
from tests.project.shop.models import Car, Person, Restaurant, Tag

pytestmark = pytest.mark.django_db(databases=["default", "hq", "ship"])


def ident():
    return Node.objects.get(current=True).ident


def test_a_row_that_was_never_logged_keeps_its_id_in_the_copy():
    with DisableSynchroLog():
        person = Person.objects.create(name="from before synchro")
    Tag.objects.create(name="t")
    seal("default")
    old = ident()
    with override_settings(SYNCHRO_NODE="copy"):
        person.name = "edited in the copy"
        person.save()
        data, _ = write()
        assert ident() != old
    assert [r["id"] for r in records(data) if r["model"] == "shop.person"] == [f"{old}/{person.pk}"]


def test_the_status_of_a_copy_says_that_it_is_one(capsys):
    Tag.objects.create(name="t")
    seal("default")
    told = "a copy of it: copy gets its own id with the next bundle"
    call_command("synchro_status")
    assert told not in capsys.readouterr().out
    with override_settings(SYNCHRO_NODE="copy"):
        assert status().copied
        call_command("synchro_status")
        assert told in capsys.readouterr().out
        seal("default")
        call_command("synchro_status")
        assert told not in capsys.readouterr().out


def test_what_each_adds_after_the_copy_is_its_own_whatever_primary_keys_they_are_given():
    Person.objects.create(name="shared")
    carry()
    with rolled_back("default"):
        first = Person.objects.create(name="of the original")
        of_original, _ = write(to="hq")
    with override_settings(SYNCHRO_NODE="copy"):
        second = Person.objects.create(pk=first.pk, name="of the copy")
        take(write(to="hq")[0])
        assert Reference.objects.get(model="shop.person", pk_text=str(second.pk)).object_id.startswith("copy-")
    take(of_original)
    names = Person.objects.using("hq").values_list("name", flat=True)
    assert sorted(names) == ["of the copy", "of the original", "shared"]


def test_the_original_and_the_copy_mean_the_same_row():
    with DisableSynchroLog():
        person = Person.objects.create(name="a")
    Tag.objects.create(name="t")
    carry()
    person.name = "b"
    person.save()
    carry()
    with override_settings(SYNCHRO_NODE="copy"):
        person.name = "c"
        person.save()
        data, _ = write(to="hq")
        take(data, allow_gap=True)
    assert list(Person.objects.using("hq").values_list("name", flat=True)) == ["c"]


def test_what_is_not_tracked_and_pointed_to_keeps_its_id_too():
    color = Color.objects.create(name="red")
    Tag.objects.create(name="t")
    seal("default")
    old = ident()
    with override_settings(SYNCHRO_NODE="copy"):
        Car.objects.create(plate="1", color=color)
        data, _ = write()
    assert [r["id"] for r in records(data) if r["type"] == "object"] == [f"{old}/{color.pk}"]


def test_every_row_and_tombstone_has_one_reference():
    with DisableSynchroLog():
        restaurant = Restaurant.objects.create(name="r")
    gone = Person.objects.create(name="gone")
    pk = gone.pk
    gone.delete()
    seal("default")
    old = ident()
    with override_settings(SYNCHRO_NODE="copy"):
        seal("default")
    rows = Reference.objects.filter(model="shop.person", pk_text=str(pk))
    assert list(rows.values_list("object_id", flat=True)) == [f"{old}/{pk}"]
    of_restaurant = Reference.objects.filter(model="shop.place", pk_text=str(restaurant.pk))
    assert list(of_restaurant.values_list("object_id", flat=True)) == [f"{old}/{restaurant.pk}"]


def test_others_have_nothing_of_the_new_log():
    Tag.objects.create(name="a")
    carry()
    Tag.objects.using("hq").create(name="b")
    carry("hq", "default")
    assert Node.objects.get(own=False).acked_seq
    with override_settings(SYNCHRO_NODE="copy"):
        seal("default")
    assert set(Node.objects.values_list("acked_seq", flat=True)) == {0}


def test_a_copy_made_after_a_reset_knows_the_date_of_what_it_has_of_the_original(tmp_path):
    Person.objects.create(name="p")
    carry()
    reset_synchro("default")
    old = Node.objects.get(current=True)
    with rolled_back("default"):
        Person.objects.create(name="of the original")
        write(to="copy")
        Person.objects.create(name="more of the original")
        (tmp_path / "second.jsonl.zst").write_bytes(write(to="copy")[0])
    with override_settings(SYNCHRO_NODE="copy"):
        write(to="x")
        assert Node.objects.get(ident=old.ident).taken_date == old.reset_date
        (request,) = missing_before([tmp_path / "second.jsonl.zst"])
        path = write_request(request, tmp_path)
        assert read_request(path) == request


def test_what_was_sealed_and_not_sent_goes_on_under_another_name():
    Person.objects.create(name="sent")
    carry()
    Person.objects.create(name="sealed")
    write(to="archive")
    with override_settings(SYNCHRO_NODE="renamed"):
        Person.objects.create(name="later")
        carry()
        assert list(Node.objects.get(current=True).destinations.values_list("name", "seq")) == [("hq", 2)]
    assert sorted(Person.objects.using("hq").values_list("name", flat=True)) == ["later", "sealed", "sent"]


@pytest.mark.parametrize("first", ["original", "copy"])
def test_what_the_original_and_the_copy_both_send_is_taken_once(first):
    Person.objects.create(name="sent")
    carry()
    Person.objects.create(name="sealed")
    seal("default")
    with rolled_back("default"):
        of_original, _ = write(to="hq")
    with override_settings(SYNCHRO_NODE="copy"):
        of_copy, _ = write(to="hq")
    both = [of_original, of_copy] if first == "original" else [of_copy, of_original]
    reports = [take(data) for data in both]
    assert [(each.added, each.already_known, each.conflicts) for each in reports] == [(1, 0, 0), (0, 1, 0)]
    assert sorted(Person.objects.using("hq").values_list("name", flat=True)) == ["sealed", "sent"]


def test_the_number_of_queries_does_not_grow_with_the_rows():
    counted = []
    Tag.objects.create(name="t")
    seal("default")
    for name, number in (("first", 2), ("second", 50)):
        with DisableSynchroLog():
            Person.objects.bulk_create(Person(name=str(n)) for n in range(number))
        with override_settings(SYNCHRO_NODE=name):
            counted.append(queries("default", lambda: seal("default"))[0])
    assert counted[1] <= counted[0]  # the first one also writes the tag's
    assert Reference.objects.filter(model="shop.person").count() == 52


def test_more_rows_than_one_chunk_holds(monkeypatch):
    monkeypatch.setattr("synchro.serialize.CHUNK", 3)
    with DisableSynchroLog():
        Person.objects.bulk_create(Person(name=str(n)) for n in range(10))
    Tag.objects.create(name="t")
    seal("default")
    with override_settings(SYNCHRO_NODE="copy"):
        seal("default")
    assert Reference.objects.filter(model="shop.person").count() == 10
