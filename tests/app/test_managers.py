"""NaturalManager and NaturalKeyModel. The models live in an app registry of their own, unseen by other tests."""

import copy
import sys

import pytest
from django.apps import AppConfig
from django.apps.registry import Apps
from django.core import serializers
from django.db import connections, models
from django.db.migrations.autodetector import MigrationAutodetector
from django.db.migrations.state import ModelState, ProjectState
from django.db.migrations.writer import MigrationWriter

from synchro.managers import NaturalKeyModel, NaturalManager

keys_apps = Apps([AppConfig("keysapp", sys.modules[__name__])])


class Titled(models.Manager):
    """A manager of a project, with a method, an argument and a filter."""

    use_in_migrations = True

    def __init__(self, prefix=""):
        super().__init__()
        self.prefix = prefix

    def titled(self):
        return self.filter(title__startswith=self.prefix)


class Short(models.Manager):
    def get_queryset(self):
        return super().get_queryset().filter(title__lt="m")


class Rows(models.QuerySet):
    def loud(self):
        return [row.title.upper() for row in self]


class ByTitle(NaturalManager):
    fields = ("title",)
    use_in_migrations = True

    def first_title(self):
        return self.order_by("title").first().title


class WithExtra(NaturalManager):
    use_in_migrations = True

    def extra_method(self):
        return self.count()


class Base(models.Model):
    class Meta:
        abstract = True
        apps = keys_apps
        app_label = "keysapp"


class Author(Base, NaturalKeyModel):
    _natural_key = ("first", "last")

    first = models.CharField(max_length=20)
    last = models.CharField(max_length=20)

    class Meta(Base.Meta):
        pass


class Country(Base):
    """No natural key; its primary key is given by hand."""

    code = models.CharField(max_length=2, primary_key=True)

    class Meta(Base.Meta):
        pass


class Book(Base, NaturalKeyModel):
    _natural_key = ("title", "author", "country")

    title = models.CharField(max_length=20)
    author = models.ForeignKey(Author, models.CASCADE, null=True, related_name="books")
    country = models.ForeignKey(Country, models.CASCADE, null=True)
    tags = models.ManyToManyField("Tag", related_name="books")

    objects = Titled("a")

    class Meta(Base.Meta):
        pass


class Tag(Base):
    title = models.CharField(max_length=20)
    number = models.IntegerField(default=0)

    objects = NaturalManager("title", "number", manager=Titled)

    class Meta(Base.Meta):
        pass

    def natural_key(self):
        return self.title, self.number


class Person(Base, NaturalKeyModel):
    _natural_key = ("title",)
    _natural_manager_kwargs = {"allow_many": True}

    title = models.CharField(max_length=20)

    class Meta(Base.Meta):
        pass


class Node(Base, NaturalKeyModel):
    """A tree, whose keys are as long as the way to the root."""

    _natural_key = ("title", "parent")

    title = models.CharField(max_length=20)
    parent = models.ForeignKey("self", models.CASCADE, null=True)

    class Meta(Base.Meta):
        pass


class Entry(Base):
    title = models.CharField(max_length=20)

    objects = ByTitle()

    class Meta(Base.Meta):
        pass


class AbstractTitle(NaturalKeyModel):
    """An intermediate class that names the key, and managers in an order that matters."""

    _natural_key = ("title",)

    title = models.CharField(max_length=20)

    short = Short()
    objects = Titled("x")

    class Meta:
        abstract = True


class Concrete(Base, AbstractTitle):
    class Meta(Base.Meta):
        pass


class Child(Concrete):
    """Multi-table."""

    extra = models.IntegerField(default=0)

    class Meta(Base.Meta):
        pass


class OtherKeyChild(Concrete):
    _natural_key = ("extra",)

    extra = models.IntegerField(default=0)

    class Meta(Base.Meta):
        pass


class ProxyTitle(Concrete):
    class Meta(Base.Meta):
        proxy = True


class ProxyWithManager(Concrete):
    recent = Short()

    class Meta(Base.Meta):
        proxy = True


TABLES = [Author, Country, Tag, Book, Person, Node, Entry, Concrete, Child, OtherKeyChild]


@pytest.fixture(scope="module", autouse=True)
def tables(django_db_setup, django_db_blocker):
    with django_db_blocker.unblock():
        for alias in ("default", "hq"):
            with connections[alias].schema_editor() as editor:
                for model in TABLES:
                    editor.create_model(model)
        yield
        for alias in ("default", "hq"):
            with connections[alias].schema_editor() as editor:
                for model in reversed(TABLES):
                    editor.delete_model(model)


pytestmark = pytest.mark.django_db(databases=["default", "hq"])


# --- NaturalManager ---------------------------------------------------------------------------------------------------


def test_an_instance_is_of_a_new_class():
    manager = NaturalManager("code", "day", manager=Titled, allow_many=True)
    assert isinstance(manager, NaturalManager)
    assert isinstance(manager, Titled)
    assert type(manager) not in (NaturalManager, Titled)
    assert (manager.fields, manager.allow_many) == (("code", "day"), True)
    assert (NaturalManager.fields, NaturalManager.allow_many) == ((), False)


def test_constructor_arguments_reach_the_extended_manager():
    assert NaturalManager("code", manager=Titled, prefix="p").prefix == "p"


@pytest.mark.parametrize("wrong", [object, Titled(), models.QuerySet, "Titled"])
def test_what_is_no_manager_class_is_refused(wrong):
    with pytest.raises(TypeError, match=r"manager= must be a subclass of django.db.models.Manager"):
        NaturalManager("code", manager=wrong)


def test_fields_are_needed_and_are_names():
    with pytest.raises(TypeError, match=r"needs the fields of the natural key: NaturalManager\('code', 'day'\)"):
        NaturalManager()
    with pytest.raises(TypeError, match="must be a tuple of field names"):
        NaturalManager(("code", "day"))
    with pytest.raises(TypeError, match=r"Wrong.fields must be a tuple of field names, as in \('code',\), not 'code'"):
        type("Wrong", (NaturalManager,), {"fields": "code"})


def test_lookup():
    Tag.objects.create(title="a", number=1)
    tag = Tag.objects.create(title="a", number=2)
    assert Tag.objects.get_by_natural_key("a", 2) == tag
    assert Tag.objects.get_by_natural_key(*tag.natural_key()) == tag
    with pytest.raises(Tag.DoesNotExist):
        Tag.objects.get_by_natural_key("a", 3)
    with pytest.raises(TypeError, match=r"natural key of keysapp.Tag is \(title, number\); 1 values do not fit it"):
        Tag.objects.get_by_natural_key("a")
    with pytest.raises(TypeError, match="3 values"):
        Tag.objects.get_by_natural_key("a", 1, 2)
    Tag.objects.create(title="a", number=2)
    with pytest.raises(Tag.MultipleObjectsReturned):
        Tag.objects.get_by_natural_key("a", 2)


def test_allow_many_takes_the_lowest_primary_key():
    first = Person.objects.create(title="x")
    Person.objects.create(title="x")
    assert Person.objects.get_by_natural_key("x") == first
    with pytest.raises(Person.DoesNotExist, match="Person matching query does not exist"):
        Person.objects.get_by_natural_key("y")


def test_other_databases():
    there = Tag.objects.using("hq").create(title="t", number=1)
    assert Tag.objects.db_manager("hq").get_by_natural_key("t", 1) == there
    with pytest.raises(Tag.DoesNotExist):
        Tag.objects.get_by_natural_key("t", 1)
    assert Tag.objects.db_manager("hq").prefix == ""


def test_related_managers():
    author = Author.objects.create(first="A", last="B")
    book = Book.objects.create(title="t", author=author)
    tag = book.tags.create(title="tag", number=1)
    Tag.objects.create(title="tag", number=2)
    assert author.books.get_by_natural_key("t", "A", "B", None) == book
    assert book.tags.get_by_natural_key("tag", 1) == tag
    with pytest.raises(Tag.DoesNotExist):
        book.tags.get_by_natural_key("tag", 2)
    assert tag.books.titled().count() == 1
    assert Book.objects.prefetch_related("tags").get().tags.all()[0] == tag


def test_subclass_with_fields():
    entry = Entry.objects.create(title="e")
    assert type(Entry.objects) is ByTitle
    assert Entry.objects.get_by_natural_key("e") == entry
    assert Entry.objects.first_title() == "e"
    assert ByTitle(allow_many=True).allow_many
    assert isinstance(ByTitle(manager=Titled, prefix="p"), Titled)


def test_subclass_without_fields():
    manager = WithExtra("title")
    assert isinstance(manager, WithExtra)
    assert manager.fields == ("title",)
    assert WithExtra.fields == ()


def test_a_natural_manager_can_extend_another():
    manager = NaturalManager("title", "number", manager=ByTitle)
    assert isinstance(manager, ByTitle)
    assert manager.fields == ("title", "number")


def test_querysets_and_metaclasses_of_others():
    class Meta(type):
        pass

    class Strange(models.Manager, metaclass=Meta):
        pass

    assert hasattr(NaturalManager("title", manager=models.Manager.from_queryset(Rows)), "loud")
    assert hasattr(NaturalManager.from_queryset(Rows)("title"), "loud")
    assert isinstance(NaturalManager("title", manager=Strange), Strange)


def test_copies_are_equal():
    assert copy.copy(Tag.objects) == Tag.objects
    assert NaturalManager("a") == NaturalManager("a")
    assert NaturalManager("a") != NaturalManager("b")
    assert NaturalManager("a") != NaturalManager("a", allow_many=True)
    assert NaturalManager("a", manager=Titled) != NaturalManager("a", manager=Titled, prefix="p")
    assert len({Tag.objects, Tag.objects}) == 1


# --- foreign keys in keys ---------------------------------------------------------------------------------------------


def test_a_foreign_key_is_its_targets_key_in_place():
    author = Author.objects.create(first="A", last="B")
    Country.objects.create(code="pl")
    book = Book.objects.create(title="t", author=author, country_id="pl")
    assert book.natural_key() == ("t", "A", "B", "pl")
    for key in [("t", "A", "B", "pl"), ("t", author, "pl"), ("t", ["A", "B"], ("pl",)), ("t", author, book.country)]:
        assert Book.objects.get_by_natural_key(*key) == book
    with pytest.raises(TypeError, match=r"\(title, author, country\); 3 values"):
        Book.objects.get_by_natural_key("t", ["A"], "pl")


def test_no_target():
    book = Book.objects.create(title="t")
    assert book.natural_key() == ("t", None, None, None)
    assert Book.objects.get_by_natural_key("t", None, None, None) == book


def test_a_key_that_contains_its_own_kind():
    root = Node.objects.create(title="root")
    branch = Node.objects.create(title="branch", parent=root)
    twig = Node.objects.create(title="twig", parent=branch)
    assert root.natural_key() == ("root", None)
    assert twig.natural_key() == ("twig", "branch", "root", None)
    for node in (root, branch, twig):
        assert Node.objects.get_by_natural_key(*node.natural_key()) == node
    assert Node.objects.get_by_natural_key("twig", branch) == twig
    assert Node.objects.get_by_natural_key("twig", ["branch", "root", None]) == twig
    with pytest.raises(Node.DoesNotExist):
        Node.objects.get_by_natural_key("twig", "branch", "other", None)
    with pytest.raises(TypeError):
        Node.objects.get_by_natural_key("twig")


def test_dependencies_for_dumpdata(monkeypatch):
    assert Book.natural_key.dependencies == ["keysapp.author", "keysapp.country"]
    assert Author.natural_key.dependencies == []
    assert Node.natural_key.dependencies == []
    assert not hasattr(AbstractTitle.natural_key, "dependencies")
    monkeypatch.setattr("django.core.serializers.apps", keys_apps)
    assert serializers.sort_dependencies([("keysapp", [Book, Country, Author])])[-1] is Book


# --- NaturalKeyModel --------------------------------------------------------------------------------------------------


def test_its_objects_are_extended():
    assert isinstance(Author.objects, NaturalManager)
    assert isinstance(Book.objects, NaturalManager)
    assert isinstance(Book.objects, Titled)
    assert Book.objects.prefix == "a"
    assert Book.objects.model is Book
    Book.objects.create(title="abc")
    Book.objects.create(title="xyz")
    assert [book.title for book in Book.objects.titled()] == ["abc"]


def test_key_and_lookup_of_one_field():
    concrete = Concrete.objects.create(title="a")
    assert concrete.natural_key() == ("a",)
    assert Concrete.objects.get_by_natural_key("a") == concrete


def test_inherited_managers_keep_their_order():
    assert Concrete._default_manager.name == "short"
    assert isinstance(Concrete._default_manager, NaturalManager)
    assert isinstance(Concrete.objects, NaturalManager)
    assert Concrete.objects.prefix == "x"
    assert [manager.name for manager in Concrete._meta.managers] == ["short", "objects"]


def test_children_and_proxies():
    child = Child.objects.create(title="b")
    assert Child.objects.get_by_natural_key("b") == child
    assert child.natural_key() == ("b",)
    assert Child._default_manager.name == ProxyTitle._default_manager.name == "short"
    assert ProxyTitle.objects.get_by_natural_key("b").pk == child.pk
    assert isinstance(ProxyTitle.objects.get_by_natural_key("b"), ProxyTitle)
    assert ProxyWithManager._default_manager.name == "recent"
    assert ProxyWithManager._default_manager.get_by_natural_key("b").pk == child.pk


def test_a_child_with_a_key_of_its_own():
    child = OtherKeyChild.objects.create(title="c", extra=7)
    assert OtherKeyChild.objects.fields == ("extra",)
    assert child.natural_key() == (7,)
    assert OtherKeyChild.objects.get_by_natural_key(7) == child
    assert Concrete.objects.fields == ("title",)
    assert isinstance(OtherKeyChild.objects, Titled)


def registry_model(**attributes):
    meta = type("Meta", (), {"apps": Apps(), "app_label": "keysapp", **attributes.pop("meta", {})})
    namespace = {"__module__": __name__, "Meta": meta, "title": models.CharField(max_length=9), **attributes}
    return type(models.Model)("Dynamic", (NaturalKeyModel,), namespace)


def test_misuse_is_told_at_the_class():
    with pytest.raises(TypeError, match="Dynamic extends NaturalKeyModel and must name its fields in _natural_key"):
        registry_model()
    with pytest.raises(TypeError, match=r"Dynamic._natural_key must be a tuple of field names, as in \('code',\)"):
        registry_model(_natural_key="title")
    with pytest.raises(TypeError, match="manager= must be a subclass"):
        registry_model(_natural_key=("title",), _natural_manager_kwargs={"manager": object})


def test_objects_is_added_beside_other_managers():
    model = registry_model(_natural_key=("title",), published=Short())
    assert isinstance(model.objects, NaturalManager)
    assert model._default_manager.name == "published"
    assert isinstance(model._default_manager, NaturalManager)
    assert isinstance(model._default_manager, Short)


def test_a_second_manager_does_not_become_the_default():
    model = registry_model(_natural_key=("title",), objects=Titled(), published=Short())
    assert model._default_manager.name == "objects"
    assert not isinstance(model.published, NaturalManager)


def test_a_named_default_manager():
    model = registry_model(
        _natural_key=("title",), objects=Titled(), published=Short(), meta={"default_manager_name": "published"}
    )
    assert model._default_manager.name == "published"
    assert isinstance(model._default_manager, NaturalManager)


def test_a_natural_manager_as_objects():
    model = registry_model(_natural_key=("title",), objects=NaturalManager("title", manager=Titled, allow_many=True))
    assert model.objects.allow_many
    assert isinstance(model.objects, Titled)
    model = registry_model(_natural_key=("title",), objects=NaturalManager("pk"))
    assert model.objects.fields == ("title",)


def test_manager_among_the_arguments():
    model = registry_model(_natural_key=("title",), _natural_manager_kwargs={"manager": Titled})
    assert isinstance(model.objects, Titled)
    model = registry_model(_natural_key=("title",), _natural_manager_kwargs={"manager": Titled}, objects=Short())
    assert isinstance(model.objects, Titled)
    assert not isinstance(model.objects, Short)


def test_as_manager():
    model = registry_model(_natural_key=("title",), objects=Rows.as_manager())
    assert hasattr(model.objects.all(), "loud")
    assert isinstance(model.objects, NaturalManager)


def test_an_own_natural_key_can_call_the_inherited_one():
    def natural_key(self):
        return (*super(model, self).natural_key(), "more")

    model = registry_model(_natural_key=("title",), natural_key=natural_key)
    assert model(title="x").natural_key() == ("x", "more")


def test_a_field_named_objects():
    model = registry_model(_natural_key=("title",), objects=models.IntegerField(default=1), others=models.Manager())
    assert model(title="x").objects == 1
    assert isinstance(model._default_manager, NaturalManager)


# --- migrations -------------------------------------------------------------------------------------------------------


def managers_of(model):
    return dict(ModelState.from_model(model).managers)


def test_deconstruct_names_the_extended_manager():
    assert Book.objects.deconstruct() == (False, f"{__name__}.Titled", None, ("a",), {})
    assert Tag.objects.deconstruct() == (False, f"{__name__}.Titled", None, (), {})
    assert Entry.objects.deconstruct() == (False, f"{__name__}.ByTitle", None, (), {})
    assert WithExtra("a", manager=Titled).deconstruct() == (
        *(False, f"{__name__}.WithExtra", None),
        *(("a",), {"manager": Titled}),
    )
    model = registry_model(_natural_key=("title",), objects=Rows.as_manager())
    assert model.objects.deconstruct()[:3] == (True, None, f"{__name__}.Rows")


def test_plain_natural_managers_stay_out_of_migrations():
    assert managers_of(Author) == {}
    assert managers_of(Person) == {}


@pytest.mark.parametrize("model", [Book, Tag, Entry, Concrete])
def test_migrations_are_written_once(model, monkeypatch):
    """What was written, read back and compared with the model shows no change."""
    state = ProjectState()
    state.add_model(ModelState.from_model(model))
    written = ProjectState()
    written.add_model(ModelState.from_model(model).clone())
    written.models["keysapp", model._meta.model_name].managers = list(
        ModelState.from_model(model).clone().construct_managers()
    )
    assert "Titled" in str(managers_of(model)) or model is Entry
    assert MigrationAutodetector(written, state)._detect_changes() == {}
    for _, manager in state.models["keysapp", model._meta.model_name].managers:
        MigrationWriter.serialize(manager)
