"""Natural keys in bulk, and what can be found out about those written by hand.

The models live in an app registry of their own, unseen by other tests.
"""

import contextlib
import datetime as dt
import decimal
import logging
import sys
import uuid

import pytest
from django.apps import AppConfig
from django.apps.registry import Apps
from django.contrib.auth.models import Group, Permission, User
from django.contrib.contenttypes.models import ContentType
from django.contrib.sites.models import Site
from django.db import connection, connections, models
from django.test.utils import CaptureQueriesContext
from hypothesis import given
from hypothesis import strategies as st

from synchro import keyprobe, naturalkeys
from synchro.managers import NaturalKeyModel, NaturalManager
from tests.project.shop.models import City, Country, Device, Membership, Parcel, Profile, Restaurant

LABEL = "naturalapp"
keys_apps = Apps([AppConfig(LABEL, sys.modules[__name__])])
pytestmark = pytest.mark.django_db(databases=["default", "hq"])


class Meta:
    apps = keys_apps
    app_label = LABEL


def by_hand(*, key=None, lookup=None, manager=models.Manager, class_name="ByHand", **fields):
    """A model with these fields, and the two methods as given."""
    if lookup is not None:
        manager = type("HandManager", (manager,), {"get_by_natural_key": lookup})
    namespace = {"__module__": __name__, "objects": manager(), **fields}
    namespace["Meta"] = type("Meta", (), {"apps": Apps(), "app_label": LABEL})
    if key is not None:
        namespace["natural_key"] = key
    return type(models.Model)(class_name, (models.Model,), namespace)


def char(**options):
    return models.CharField(max_length=20, **options)


class Maker(NaturalKeyModel):
    _natural_key = ("name", "born")

    name = models.CharField(max_length=20)
    born = models.DateField(null=True)

    Meta = Meta


class Thing(NaturalKeyModel):
    _natural_key = ("name", "maker")

    name = models.CharField(max_length=20)
    maker = models.ForeignKey(Maker, models.CASCADE, null=True, related_name="+")

    Meta = Meta


class Part(models.Model):
    """Its key is known through two foreign keys."""

    code = models.IntegerField()
    thing = models.ForeignKey(Thing, models.CASCADE, related_name="+")

    objects = NaturalManager("code", "thing")

    Meta = Meta


class Visible(models.Manager):
    def get_queryset(self):
        return super().get_queryset().filter(deleted=False)


class Soft(models.Model):
    name = models.CharField(max_length=20)
    deleted = models.BooleanField(default=False)

    objects = NaturalManager("name", manager=Visible)

    Meta = Meta


class SlicedManager(models.Manager):
    def get_queryset(self):
        return super().get_queryset()[:1]


class Sliced(models.Model):
    name = models.CharField(max_length=20)

    objects = NaturalManager("name", manager=SlicedManager)

    Meta = Meta


class BrokenManager(models.Manager):
    def get_queryset(self):
        raise LookupError("no tenant is set")


class Broken(models.Model):
    name = models.CharField(max_length=20)

    objects = NaturalManager("name", manager=BrokenManager)

    Meta = Meta


class Folder(NaturalKeyModel):
    """A tree: its key is as long as the way to the root, so only its methods know it."""

    _natural_key = ("name", "parent")

    name = models.CharField(max_length=20)
    parent = models.ForeignKey("self", models.CASCADE, null=True, related_name="+")

    Meta = Meta


class ComputedManager(Visible):
    def get_by_natural_key(self, code, maker=None):
        rows = self.filter(maker=maker)
        return rows.get(name=code.lower())


class Computed(models.Model):
    """An opaque key that contains an instance."""

    name = models.CharField(max_length=20)
    maker = models.ForeignKey(Maker, models.CASCADE, null=True, related_name="+")
    deleted = models.BooleanField(default=False)

    objects = ComputedManager()

    Meta = Meta

    def natural_key(self):
        if self.name == "broken":
            raise LookupError("this one has none")
        return self.name.upper(), self.maker


class Typed(models.Model):
    day = models.DateField(null=True)
    price = models.DecimalField(max_digits=6, decimal_places=2)
    uid = models.UUIDField()
    small = models.SmallIntegerField()

    objects = NaturalManager("day", "price", "uid", "small")

    Meta = Meta


class Line(models.Model):
    """A composite primary key."""

    pk = models.CompositePrimaryKey("order", "position")
    order = models.IntegerField()
    position = models.IntegerField()
    name = models.CharField(max_length=20)

    objects = NaturalManager("name")

    Meta = Meta


class NoCase(models.Model):
    name = models.CharField(max_length=20)
    number = models.IntegerField(default=0)

    objects = NaturalManager("name")

    Meta = Meta


class Place(NaturalKeyModel):
    _natural_key = ("name",)

    name = models.CharField(max_length=20)

    Meta = Meta


class Cafe(Place):
    stars = models.IntegerField(default=0)

    Meta = Meta


TABLES = [Maker, Thing, Part, Soft, Sliced, Broken, Folder, Computed, Typed, Line, NoCase, Place, Cafe]


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


def find(model, *keys, using="default"):
    return naturalkeys.find(model, keys, using)


def keys_of(model, *rows, using="default"):
    return naturalkeys.keys_of(model, [getattr(row, "pk", row) for row in rows], using)


# --- probing ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("model", "paths"),
    [
        (User, ("username",)),
        (Group, ("name",)),
        (Permission, ("codename", "content_type__app_label", "content_type__model")),
        (ContentType, ("app_label", "model")),
        (Site, ("domain",)),
        (Country, ("code",)),
        (City, ("name", "country__code")),
    ],
)
def test_probing_real_models_without_a_query(model, paths, django_assert_num_queries):
    naturalkeys.clear_caches()
    with django_assert_num_queries(0):
        assert keyprobe.confirmed_paths(model) == paths
        assert naturalkeys.key_paths(model) == paths


def get_name(self, name):
    return self.get(name=name)


@pytest.mark.parametrize(
    "lookup",
    [
        get_name,
        lambda self, name: self.get(name__exact=name),
        lambda self, name: self.get_queryset().get(name=name),
        lambda self, name: self.all().select_related().get(name=name),
        lambda self, name: self.filter(name=name).get(),
        lambda self, name: self.db_manager(self.db).using("default").get(name=name),
        lambda self, *args: self.get(**dict(zip(("name",), args, strict=True))),
        lambda self, name: self.get(**{self.model.KEY_FIELD: name}),
    ],
)
def test_lookups_that_are_understood(lookup):
    model = by_hand(name=char(), KEY_FIELD="name", key=lambda self: (self.name,), lookup=lookup)
    assert keyprobe.confirmed_paths(model) == ("name",)


@pytest.mark.parametrize(
    "lookup",
    [
        lambda self, name: self.get(name__iexact=name),
        lambda self, name: self.get(name=name.lower()),
        lambda self, name: self.get(name=name, live=True),
        lambda self, name: self.filter(name=name).first(),
        lambda self, name: self.filter(live=True).get(name=name),
        lambda self, name: self.get(models.Q(name=name)),
        lambda self, name: self.exclude(live=False).get(name=name),
        lambda self, name: self.get_or_create(name=name)[0],
        lambda self, name: self.model.objects.get(name=name),
        lambda self, name: self.get(live=name),
        lambda self, name: self.get(other__thing=name),
        lambda self, name: User.objects.get(username="x"),
        lambda self, name: None,
        lambda self, name: 1 / 0,
        lambda self: self.get(),
        lambda self, name: self.get(name=name) if name else None,
    ],
)
def test_lookups_that_are_opaque(lookup, django_assert_num_queries):
    model = by_hand(name=char(), live=models.BooleanField(default=True), key=lambda self: (self.name,), lookup=lookup)
    with django_assert_num_queries(0):
        assert keyprobe.confirmed_paths(model) is None
    assert naturalkeys.key_spec(model).opaque


@pytest.mark.parametrize(
    "key",
    [
        lambda self: (self.name.upper(),),
        lambda self: (str(self.name),),
        lambda self: (f"{self.name}",),
        lambda self: (self.name or "",),
        lambda self: (self.name + "x",),
        lambda self: ((self.name,),),
        lambda self: self.name,
        lambda self: (),
        lambda self: None,
        lambda self: ("constant",),
        lambda self: (self.name,) if self.name == "x" else (self.name, 1),
        lambda self: (self.name,) if self.name else (),
        lambda self: (self.parent,),
        lambda self: (self.save(),),
        lambda self: (self.missing,),
        lambda self: (self.children,),
        lambda self: (User.objects.count(),),
        lambda self: (connection.cursor(),),
        lambda self: (1 / 0,),
        lambda self: (self.parent.natural_key(),),
        lambda self: (self.name, *self.parent.natural_key()) if self.parent is not None else (self.name,),
        lambda self: (self.name,) if self.parent_id is not None else (self.parent_id,),
    ],
)
def test_keys_that_are_opaque(key, django_assert_num_queries):
    model = by_hand(
        name=char(), parent=models.ForeignKey("self", models.CASCADE, null=True, related_name="children"), key=key
    )
    with django_assert_num_queries(0):
        assert keyprobe.natural_key_paths(model) is None


def test_swallowed_errors_do_not_hide_a_query():
    def key(self):
        with contextlib.suppress(Exception):
            User.objects.count()
        return (self.name,)

    assert keyprobe.natural_key_paths(by_hand(name=char(), key=key)) is None


@pytest.mark.parametrize(
    ("key", "paths"),
    [
        (lambda self: (self.name, self.maker.name), ("name", "maker__name")),
        (lambda self: (self.name, *self.maker.natural_key()), ("name", "maker__name", "maker__born")),
        (lambda self: (*self.maker.natural_key(), self.name), ("maker__name", "maker__born", "name")),
        (lambda self: [self.name, self.maker_id], ("name", "maker_id")),
        (lambda self: (self.pk,), ("id",)),
        (lambda self: (getattr(self, self.KEY_FIELD),), ("name",)),
        (
            lambda self: (self.name, None if self.maker is None else self.maker.name),
            ("name", "maker__name"),
        ),
    ],
)
def test_keys_that_are_understood(key, paths):
    model = by_hand(name=char(), maker=models.ForeignKey(Maker, models.CASCADE, null=True), KEY_FIELD="name", key=key)
    assert keyprobe.natural_key_paths(model) == paths


@pytest.mark.parametrize(
    ("lookup", "understood"),
    [
        (lambda self, name, maker: self.get(name=name, maker__name=maker), True),
        (
            lambda self, name, maker: (
                self.get(name=name, maker=None) if maker is None else self.get(name=name, maker__name=maker)
            ),
            True,
        ),
        (
            lambda self, name, maker: (
                self.get(name=name, maker__isnull=True) if maker is None else self.get(name=name, maker__name=maker)
            ),
            True,
        ),
        (
            lambda self, name, maker=None: (
                self.get(name=name) if maker is None else self.get(name=name, maker__name=maker)
            ),
            False,
        ),
        (
            lambda self, name, maker: (
                self.get(name=name, maker=0) if maker is None else self.get(name=name, maker__name=maker)
            ),
            False,
        ),
    ],
)
def test_lookups_of_null(lookup, understood):
    model = by_hand(
        name=char(),
        maker=models.ForeignKey(Maker, models.CASCADE, null=True),
        key=lambda self: (self.name, None if self.maker is None else self.maker.name),
        lookup=lookup,
    )
    assert (keyprobe.confirmed_paths(model) is not None) is understood


def test_super_calls_and_queryset_methods():
    class Rows(models.QuerySet):
        def get_by_natural_key(self, name):
            return self.get(name=name)

    class Mixin(models.Model):
        name = char()

        class Meta:
            abstract = True
            apps = Apps()
            app_label = LABEL

        def natural_key(self):
            return (self.name,)

    class Own(models.Manager.from_queryset(Rows)):
        def get_by_natural_key(self, name):
            return super().get_by_natural_key(name)

    class Heir(Mixin):
        objects = Own()

        class Meta:
            apps = Apps()
            app_label = LABEL

        def natural_key(self):
            return super().natural_key()

    assert keyprobe.confirmed_paths(Heir) == ("name",)


def test_a_manager_whose_get_is_its_own_is_opaque():
    class Own(models.Manager):
        def get(self, *args, **kwargs):
            return super().get(*args, **kwargs, live=True)

    model = by_hand(name=char(), manager=Own, key=lambda self: (self.name,), lookup=get_name)
    assert keyprobe.confirmed_paths(model) is None


def test_probing_leaves_connections_as_they_were():
    before = dict(vars(connection))
    by_hand(name=char(), key=lambda self: (User.objects.count(),), lookup=get_name)
    assert "ensure_connection" not in vars(connection) or "ensure_connection" in before
    assert User.objects.count() == 0


# --- which key a model has --------------------------------------------------------------------------------------------


def test_key_paths_of_natural_managers():
    assert naturalkeys.key_paths(Maker) == ("name", "born")
    assert naturalkeys.key_paths(Thing) == ("name", "maker__name", "maker__born")
    assert naturalkeys.key_paths(Part) == ("code", "thing__name", "thing__maker__name", "thing__maker__born")
    assert naturalkeys.key_paths(Cafe) == ("name",)
    assert [field.name for field in naturalkeys.key_spec(Thing).leaves] == ["name", "name", "born"]


def test_opaque_keys():
    for model in (Folder, Computed):
        assert naturalkeys.key_paths(model) is None
        assert naturalkeys.has_natural_key(model)


@pytest.mark.parametrize("model", [Profile, Membership, Device])
def test_models_without_a_key(model):
    assert naturalkeys.key_paths(model) is None
    assert not naturalkeys.has_natural_key(model)
    assert naturalkeys.key_spec(model).reason == f"{model._meta.label} has no natural_key()"
    assert keys_of(model, 1) == {}
    assert find(model, ("x",)) == {}


def test_a_key_with_another_tables_automatic_number_is_not_used():
    model = by_hand(
        name=char(),
        owner=models.ForeignKey(User, models.CASCADE),
        key=lambda self: (self.name, self.owner_id),
        lookup=lambda self, name, owner: self.get(name=name, owner_id=owner),
    )
    assert not naturalkeys.has_natural_key(model)
    assert naturalkeys.key_spec(model).reason == (
        "naturalapp.ByHand: owner_id ends at the automatic primary key of auth.User, which differs between deployments"
    )


def test_a_column_that_is_portable():
    target = by_hand(class_name="Target", code=models.SlugField(unique=True), slug=models.SlugField(primary_key=True))
    model = by_hand(
        manager=lambda: NaturalManager("by_pk", "by_code"),
        by_pk=models.ForeignKey(target, models.CASCADE, related_name="+"),
        by_code=models.ForeignKey(target, models.CASCADE, to_field="code", related_name="+"),
    )
    spec = naturalkeys.key_spec(model)
    assert spec.paths == ("by_pk", "by_code")
    assert [field.name for field in spec.leaves] == ["slug", "code"]


def test_both_methods_are_needed():
    assert not naturalkeys.has_natural_key(by_hand(name=char(), key=lambda self: (self.name,)))
    assert not naturalkeys.has_natural_key(by_hand(name=char(), lookup=get_name))


def test_the_setting_gives_and_takes_keys(settings):
    settings.SYNCHRO_NATURAL_KEYS = {
        "Shop.Membership": ("role", "club__name"),
        "shop.country": None,
        "shop.Parcel": ("code",),
        "shop.device": ("owner", "name"),
        "shop.profile": ("bio", "person__city"),
        "shop.restaurant": ("nothing",),
    }
    assert naturalkeys.key_paths(Membership) == ("role", "club__name")
    assert naturalkeys.key_paths(Parcel) == ("code",)
    assert not naturalkeys.has_natural_key(Country)
    assert "shop.Country has no natural key" in naturalkeys.key_spec(Country).reason
    # The key of a city goes through its country's code, and does so still: its methods say so.
    assert naturalkeys.key_paths(City) == ("name", "country__code")
    assert naturalkeys.key_paths(Profile) == ("bio", "person__city__name", "person__city__country__code")
    assert "owner_id ends at the automatic primary key of shop.Person" in naturalkeys.key_spec(Device).reason
    assert naturalkeys.key_spec(Restaurant).reason == "shop.Restaurant has no field 'nothing'"


def test_the_setting_is_followed_when_it_changes(settings):
    assert naturalkeys.has_natural_key(Country)
    settings.SYNCHRO_NATURAL_KEYS = {"shop.country": None}
    assert not naturalkeys.has_natural_key(Country)
    settings.SYNCHRO_NATURAL_KEYS = {}
    assert naturalkeys.has_natural_key(Country)


def test_allows_many():
    assert not naturalkeys.allows_many(Maker)
    assert not naturalkeys.allows_many(Country)
    assert naturalkeys.allows_many(by_hand(manager=lambda: NaturalManager("name", allow_many=True), name=char()))


@pytest.mark.parametrize(
    ("model", "portable"),
    [(Device, True), (Parcel, True), (Country, False), (Profile, False), (Restaurant, False), (Line, True)],
)
def test_portable_pk(model, portable):
    assert naturalkeys.portable_pk(model) is portable


def test_a_composite_pk_with_a_foreign_key():
    model = by_hand(
        pk=models.CompositePrimaryKey("user", "position"),
        user=models.ForeignKey(User, models.CASCADE),
        position=models.IntegerField(),
    )
    assert not naturalkeys.portable_pk(model)


# --- keys of rows -----------------------------------------------------------------------------------------------------


def test_keys_of_rows():
    maker = Maker.objects.create(name="M", born=dt.date(1999, 12, 31))
    with_maker, without = Thing.objects.create(name="a", maker=maker), Thing.objects.create(name="b")
    part = Part.objects.create(code=7, thing=with_maker)
    assert keys_of(Thing, with_maker, without, -1) == {
        with_maker.pk: ["a", "M", "1999-12-31"],
        without.pk: ["b", None, None],
    }
    assert keys_of(Part, part) == {part.pk: [7, "a", "M", "1999-12-31"]}
    assert keys_of(Part) == {}


def test_keys_of_hidden_rows_and_of_other_databases():
    hidden = Soft.objects.using("hq").create(name="x", deleted=True)
    broken = Broken(name="y")
    broken.save_base(using="hq")
    assert keys_of(Soft, hidden, using="hq") == {hidden.pk: ["x"]}
    assert keys_of(Broken, broken, using="hq") == {broken.pk: ["y"]}
    assert keys_of(Soft, hidden) == {}


def test_keys_of_composite_rows():
    line = Line.objects.create(order=1, position=2, name="x")
    assert keys_of(Line, line) == {(1, 2): ["x"]}
    assert find(Line, ("x",)) == {("x",): [(1, 2)]}


def test_keys_of_opaque_rows(caplog):
    maker = Maker.objects.create(name="M", born=dt.date(1999, 12, 31))
    root = Folder.objects.create(name="root")
    leaf = Folder.objects.create(name="leaf", parent=root)
    assert keys_of(Folder, root, leaf) == {root.pk: ["root", None], leaf.pk: ["leaf", "root", None]}
    plain, made = Computed.objects.create(name="a"), Computed.objects.create(name="b", maker=maker)
    broken = Computed.objects.create(name="broken")
    with caplog.at_level(logging.WARNING):
        keys = keys_of(Computed, plain, made, broken)
    assert keys == {
        plain.pk: ["A", None],
        made.pk: ["B", {"key": ["M", "1999-12-31"], "model": "naturalapp.maker"}],
    }
    assert "naturalapp.Computed" in caplog.text
    assert "this one has none" in caplog.text


@pytest.mark.parametrize(("model", "queries"), [(Thing, 1), (Computed, 1)])
def test_the_number_of_queries_does_not_grow_with_rows(model, queries):
    makers = [Maker.objects.create(name=f"m{n}") for n in range(60)]
    rows = [model.objects.create(name=f"n{n}", maker=maker) for n, maker in enumerate(makers)]
    for size in (3, 60):
        with CaptureQueriesContext(connection) as context:
            keys = keys_of(model, *rows[:size])
        assert (len(context), len(keys)) == (queries, size)


# --- rows of keys -----------------------------------------------------------------------------------------------------


def test_find_by_one_field():
    a, b, b2 = (Soft.objects.create(name=name) for name in "abb")
    assert find(Soft, ("a",), ("b",), ("c",)) == {("a",): [a.pk], ("b",): [b.pk, b2.pk]}


def test_find_by_several_fields():
    maker = Maker.objects.create(name="M", born=dt.date(1999, 12, 31))
    a = Thing.objects.create(name="a", maker=maker)
    b = Thing.objects.create(name="b")
    found = find(Thing, ("a", "M", "1999-12-31"), ("b", None, None), ("a", None, None), ("a", "M", None))
    assert found == {("a", "M", "1999-12-31"): [a.pk], ("b", None, None): [b.pk]}


def test_null_is_found_as_get_by_natural_key_finds_it():
    model_row = Typed.objects.create(day=None, price="1.50", uid=uuid.UUID(int=1), small=3)
    key = keys_of(Typed, model_row)[model_row.pk]
    assert find(Typed, key) == {naturalkeys.freeze(key): [model_row.pk]}
    assert Typed.objects.get_by_natural_key(None, "1.50", uuid.UUID(int=1), 3) == model_row


def test_values_in_another_spelling():
    row = Typed.objects.create(day=dt.date(2026, 1, 2), price=decimal.Decimal("1.50"), uid=uuid.UUID(int=1), small=3)
    other = ("2026-01-02", "1.5", str(uuid.UUID(int=1)).upper(), 3)
    same = ("2026-01-02", "1.50", str(uuid.UUID(int=1)), 3)
    assert find(Typed, other, same) == {other: [row.pk], same: [row.pk]}


@pytest.mark.parametrize(
    "key",
    [
        ("nonsense", "1.50", str(uuid.UUID(int=1)), 3),
        ("2026-01-02", "nonsense", str(uuid.UUID(int=1)), 3),
        ("2026-01-02", "1.50", "nonsense", 3),
        ("2026-01-02", "1.50", 17, 3),
        ("2026-01-02", "1.50", str(uuid.UUID(int=1)), "three"),
        ("2026-01-02", "1.50", str(uuid.UUID(int=1)), 10**30),
        ("2026-01-02", "1.50", str(uuid.UUID(int=1)), 2**40),
        ("2026-01-02", ["a", {"b": 1}], str(uuid.UUID(int=1)), 3),
        ("2026-01-02", "1.50", str(uuid.UUID(int=1))),
        (),
        "2026",
        None,
    ],
)
def test_keys_that_no_row_can_have(key):
    row = Typed.objects.create(day=dt.date(2026, 1, 2), price="1.50", uid=uuid.UUID(int=1), small=3)
    good = naturalkeys.freeze(keys_of(Typed, row)[row.pk])
    assert find(Typed, key, good) == {good: [row.pk]}


@pytest.mark.parametrize("name", ["a\0b", "x" * 1000, "\ud800", "", "Ä"])
def test_texts_that_a_database_may_refuse(name):
    row = Soft.objects.create(name="there")
    assert find(Soft, (name,), ("there",)) == {("there",): [row.pk]}


def test_hidden_rows_are_found_after_the_visible_ones():
    hidden_twin = Soft.objects.create(name="twin", deleted=True)
    visible_twin = Soft.objects.create(name="twin")
    hidden = Soft.objects.create(name="hidden", deleted=True)
    assert find(Soft, ("twin",), ("hidden",)) == {("twin",): [visible_twin.pk], ("hidden",): [hidden.pk]}
    assert hidden_twin.pk < visible_twin.pk


@pytest.mark.parametrize("model", [Sliced, Broken])
def test_managers_that_cannot_be_searched(model):
    rows = [model(name=name) for name in "ab"]
    for row in rows:
        row.save_base()
    assert find(model, ("a",), ("b",)) == {(row.name,): [row.pk] for row in rows}


def test_what_only_the_database_takes_for_equal():
    """A collation that ignores case: what the key says and what the row says differ, and still are one."""
    with connection.cursor() as cursor:
        table = connection.ops.quote_name(NoCase._meta.db_table)
        if connection.vendor != "sqlite":
            pytest.skip("the collation below is SQLite's")
        cursor.execute(f"DROP TABLE {table}")
        cursor.execute(f"CREATE TABLE {table} (id integer PRIMARY KEY, name text COLLATE NOCASE, number integer)")
    row, other = NoCase.objects.create(name="Ab"), NoCase.objects.create(name="other")
    assert find(NoCase, ("AB",), ("other",)) == {("AB",): [row.pk], ("other",): [other.pk]}
    assert NoCase.objects.get_by_natural_key("AB") == row


def test_find_opaque(caplog):
    maker = Maker.objects.create(name="M", born=dt.date(1999, 12, 31))
    root = Folder.objects.create(name="root")
    leaf = Folder.objects.create(name="leaf", parent=root)
    assert find(Folder, ("leaf", "root", None), ("root", None), ("root", "leaf", None)) == {
        ("leaf", "root", None): [leaf.pk],
        ("root", None): [root.pk],
    }
    rows = [
        Computed.objects.create(name="a"),
        Computed.objects.create(name="b", maker=maker),
        Computed.objects.create(name="c", deleted=True),
        Computed.objects.create(name="d", deleted=True),
        Computed.objects.create(name="d"),
        Computed.objects.create(name="e"),
        Computed.objects.create(name="e"),
    ]
    keys = keys_of(Computed, *rows)
    a, b, c, d, d2, e, e2 = (row.pk for row in rows)
    frozen = {pk: naturalkeys.freeze(key) for pk, key in keys.items()}
    nobody = ("B", {"key": ["nobody", None], "model": "naturalapp.maker"})
    with caplog.at_level(logging.WARNING):
        found = find(Computed, *keys.values(), nobody, (1, 2), ("A", None, "more"))
    assert found == {frozen[a]: [a], frozen[b]: [b], frozen[c]: [c], frozen[d]: [d2], frozen[e]: [e, e2]}
    assert "no row found by natural key" in caplog.text
    assert d < d2


def test_a_lookup_that_gives_rows_of_another_model():
    model = by_hand(
        name=char(), key=lambda self: (self.name.upper(),), lookup=lambda self, name: Place.objects.get(name=name)
    )
    Place.objects.create(name="a")
    assert find(model, ("a",)) == {}


def test_children():
    cafe = Cafe.objects.create(name="a")
    Place.objects.create(name="b")
    assert find(Cafe, ("a",), ("b",)) == {("a",): [cafe.pk]}


def test_find_on_another_database():
    there = Soft.objects.using("hq").create(name="x")
    leaf = Folder.objects.using("hq").create(name="leaf")
    assert find(Soft, ("x",), using="hq") == {("x",): [there.pk]}
    assert find(Folder, ("leaf", None), using="hq") == {("leaf", None): [leaf.pk]}
    assert find(Soft, ("x",)) == find(Folder, ("leaf", None)) == {}


@pytest.mark.parametrize("model", [Thing, Soft])
def test_many_keys_at_once(model):
    model.objects.bulk_create(model(name=f"n{number}") for number in range(1500))
    pks = model.objects.values_list("pk", flat=True)
    keys = {pk: naturalkeys.freeze(key) for pk, key in keys_of(model, *pks).items()}
    assert len(keys) == 1500
    with CaptureQueriesContext(connection) as context:
        assert find(model, *keys.values()) == {key: [pk] for pk, key in keys.items()}
    assert len(context) <= 8
    assert find(model) == {}


# --- frozen keys ------------------------------------------------------------------------------------------------------

json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
    max_leaves=10,
)


@given(st.lists(json_values))
def test_frozen_keys_are_hashable_and_thaw(key):
    frozen = naturalkeys.freeze(key)
    hash(frozen)
    assert naturalkeys.freeze(frozen) == frozen
    assert naturalkeys.thaw(frozen) == key
