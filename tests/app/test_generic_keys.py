"""Generic foreign keys point to the same objects elsewhere, whatever numbers those have there (case I11)."""

import pytest
from django.contrib.auth.models import Group
from django.contrib.contenttypes.models import ContentType
from django.db.models import QuerySet

from synchro import DisableSynchroLog
from tests.app.deploy import ALIASES, assert_same, at, brought, carry, listening, records, rolled_back, take, write
from tests.app.logged import tracking
from tests.project.shop.models import Device, Person, Tag
from tests.project.zoo.models import Animal, Comment, Crate, Creature, Dog, Keeper, Puppy, Remark

pytestmark = pytest.mark.django_db(databases=ALIASES)


@pytest.fixture(autouse=True)
def apart():
    """Numbers differ: HQ has had rows before, and other content types."""
    with tracking("zoo", "shop"), rolled_back():
        with DisableSynchroLog():
            for model in (Keeper, Person, Tag, Creature):
                for _ in range(3):
                    at(model).create(**({"badge": f"old{_}"} if model is Keeper else {"name": f"old{_}"}))
                at(model).all().delete()
            at(ContentType).filter(app_label__in=["zoo", "shop"]).delete()
            at(ContentType).bulk_create(
                ContentType(app_label=label, model=name)
                for label, name in [
                    ("zoo", "puppy"), ("shop", "tag"), ("zoo", "keeper"), ("shop", "device"), ("zoo", "dog"),
                    ("shop", "person"), ("zoo", "creature"), ("zoo", "animal"), ("zoo", "crate"), ("zoo", "comment"),
                ]
            )  # fmt: skip
        ContentType.objects.clear_cache()
        yield
        ContentType.objects.clear_cache()


def kind(model, using="default", **options):
    return ContentType.objects.db_manager(using).get_for_model(model, **options)


def comment(target, text=""):
    return Comment.objects.create(content_type=kind(type(target)), object_id=target.pk, text=text)


def remark(target):
    return Remark.objects.create(kind=kind(type(target), for_concrete_model=False), key=str(target.pk))


def arrived(model=Comment, **lookup):
    """What the one row of *model* at HQ points to."""
    row = at(model).get(**lookup)
    label, key = (row.content_type_id, row.object_id) if model is Comment else (row.kind_id, row.key)
    pointed = at(ContentType).get(pk=label).model_class()
    return QuerySet(pointed, using="hq").filter(pk=key).first()


def test_i11_it_points_to_the_same_object():
    ann = Person.objects.create(name="ann")
    comment(ann)
    remark(ann)
    assert carry().held == 0
    assert arrived().name == arrived(Remark).name == "ann"
    assert arrived().pk != ann.pk
    assert_same("default", "hq")


def test_the_record_names_the_object():
    tag = Tag.objects.create(name="red")
    comment(tag)
    *_, first, _, record = records(write()[0])  # between them the content type, which is not tracked
    assert record["refs"]["object_id"] == first["id"]
    assert record["fields"]["object_id"] == ["red"]
    assert record["fields"]["content_type"] == ["shop", "tag"]


def test_primary_keys_that_are_no_numbers():
    crate, device = Crate.objects.create(name="c"), Device.objects.create(name="d")
    remark(crate)
    Remark.objects.create(kind=kind(Device), key=device.pk.hex)  # as somebody wrote it
    assert carry().held == 0
    assert set(at(Remark).values_list("key", flat=True)) == {str(crate.pk), device.pk.hex}


def test_children_and_proxies():
    dog = Dog.objects.create(name="rex", chip="1")
    Comment.objects.create(content_type=kind(Animal), object_id=dog.pk, text="as an animal")
    comment(dog, "as a dog")
    remark(Puppy.objects.get(pk=dog.pk))
    assert carry().held == 0
    assert isinstance(arrived(text="as an animal"), Animal)
    assert arrived(text="as a dog").chip == "1"
    assert isinstance(arrived(Remark), Puppy)


def test_it_follows_the_object_when_both_were_one_all_along():
    with DisableSynchroLog():
        red = at(Tag).create(name="red")
    comment(Tag.objects.create(name="red"))
    carry()
    assert arrived() == red


def test_it_is_moved():
    ann, bob = Person.objects.create(name="ann"), Person.objects.create(name="bob")
    first = comment(ann)
    carry()
    first.object_id = bob.pk
    first.save()
    carry()
    assert arrived().name == "bob"


def test_a_row_that_was_never_logged_comes_along():
    with DisableSynchroLog():
        ann = Person.objects.create(name="ann")
    comment(ann)
    assert carry().held == 0
    assert arrived().name == "ann"


@pytest.mark.parametrize("handlers", [False, True])
def test_what_it_points_to_is_gone(handlers):
    with listening(*([Comment, Person] if handlers else [])):
        ann = Person.objects.create(name="ann")
        comment(ann)
        ann.delete()
        with DisableSynchroLog():
            at(Person).create(pk=ann.pk, name="somebody else")
        assert carry().held == 0
        assert arrived() is None
        at(Person).create(name="next")
        assert arrived() is None


def test_what_it_points_to_was_never_there():
    Comment.objects.create(content_type=kind(Person), object_id=77)
    with DisableSynchroLog():
        at(Person).create(pk=77, name="somebody else")
    assert carry().held == 0
    assert arrived() is None
    Person.objects.create(pk=77, name="the one")
    carry()
    assert arrived().name == "the one"


def test_what_it_points_to_is_not_tracked():
    """It is found where both have it by a natural key, and nothing is created."""
    group, other = Group.objects.create(name="staff"), Group.objects.create(name="other")
    at(Group).create(name="before")
    theirs = at(Group).create(name="staff")
    comment(group, "here")
    comment(other, "there")
    assert carry().held == 0
    assert arrived(text="here") == theirs
    assert arrived(text="there") is None


def test_a_model_that_is_not_installed_is_held():
    ContentType.objects.create(app_label="gone", model="away")
    kind_ = ContentType.objects.get(app_label="gone")
    Comment.objects.create(content_type=kind_, object_id=5)
    assert carry().held == 0  # neither here nor there: a value like any other
    assert at(Comment).get().object_id == 5


def test_a_generic_relation_is_deleted_with_its_object():
    keeper = Keeper.objects.create(badge="1")
    keeper.comments.create(object_id=keeper.pk, content_type=kind(Keeper), text="a")
    carry()
    keeper.delete()
    assert brought(carry())["deleted"] == 2
    assert not at(Comment).exists()


def test_unique_together_with_it():
    ann = Person.objects.create(name="ann")
    remark(ann)
    carry()
    assert arrived(Remark).name == "ann"
    Remark.objects.all().delete()
    remark(ann)
    assert carry().held == 0
    assert_same("default", "hq")


def test_it_comes_back():
    ann = at(Person).create(name="ann")
    at(Comment).create(content_type_id=kind(Person, "hq").pk, object_id=ann.pk, text="x")
    carry("hq", "default")
    data, _ = write(to="ship")
    take(data, "ship")
    assert_same("hq", "default", "ship")


def test_what_arrived_is_changed_again_without_a_conflict():
    first = comment(Person.objects.create(name="ann"))
    carry()
    first.text = "changed"
    first.save()
    assert brought(carry()) == {"changed": 1}
    first.delete()
    assert brought(carry()) == {"deleted": 1}
