"""Rows that tracked ones point to: of models that are not tracked, and rows that were never logged."""

import pytest

from synchro import DisableSynchroLog, export_bundle, import_bundle
from tests.project.plain.models import Color
from tests.project.shop.models import Car, Person, Restaurant, Tag

pytestmark = pytest.mark.django_db(databases=["default", "hq", "ship"])


def carry(folder, source, target):
    report = import_bundle(export_bundle(folder, using=source).file, using=target)
    assert report.held == 0, report.held_changes
    return report


def test_the_target_of_a_foreign_key_is_relayed_with_what_points_to_it(tmp_path):
    Car.objects.create(plate="1", color=Color.objects.create(name="red"))
    carry(tmp_path, "default", "hq")
    carry(tmp_path, "hq", "ship")
    assert Car.objects.using("ship").get().color.name == "red"


def test_the_target_of_a_link_comes_along_and_is_relayed(settings, tmp_path):
    settings.SYNCHRO_MODELS = [("shop", "person")]
    Person.objects.create(name="p").tags.add(Tag.objects.create(name="t"))
    carry(tmp_path, "default", "hq")
    carry(tmp_path, "hq", "ship")
    assert [tag.name for tag in Person.objects.using("ship").get().tags.all()] == ["t"]


def test_both_ends_of_a_link_are_logged_before_it(tmp_path):
    with DisableSynchroLog():
        person, tag = Person.objects.create(name="p"), Tag.objects.create(name="t")
    person.tags.add(tag)
    carry(tmp_path, "default", "hq")
    assert [tag.name for tag in Person.objects.using("hq").get().tags.all()] == ["t"]


def test_a_multi_table_child_that_was_never_logged_comes_whole(tmp_path):
    with DisableSynchroLog():
        Restaurant.objects.create(name="r", stars=2)
    restaurant = Restaurant.objects.get()
    restaurant.save()
    carry(tmp_path, "default", "hq")
    assert Restaurant.objects.using("hq").get().stars == 2


def test_the_links_of_a_row_that_is_not_tracked_go_with_it_everywhere(settings, tmp_path):
    settings.SYNCHRO_MODELS = [("shop", "person")]
    person, tag = Person.objects.create(name="p"), Tag.objects.create(name="t")
    person.tags.add(tag, Tag.objects.create(name="stays"))
    carry(tmp_path, "default", "hq")
    Tag.objects.filter(name="t").delete()
    carry(tmp_path, "default", "hq")
    assert [tag.name for tag in Person.objects.using("hq").get().tags.all()] == ["stays"]
    assert (
        Tag.objects.using("hq").filter(name="t").exists()
    )  # as with foreign keys: the row itself is nobody's to delete
