"""System checks of natural keys that would take one row for another, or find none.

The models live in an app registry of their own, unseen by other tests.
"""

import sys

import pytest
from django.apps import AppConfig
from django.apps.registry import Apps
from django.core.checks import run_checks
from django.db import models
from django.db.models.functions import Lower
from django.test import override_settings

from synchro import keychecks
from synchro.managers import NaturalKeyModel, NaturalManager

pytestmark = pytest.mark.django_db(databases=["default", "hq", "ship"])  # some of Django's own checks look at it
LABEL = "keychecks"
own_apps = Apps([AppConfig(LABEL, sys.modules[__name__])])
KINDS = {"synchro.W040", "synchro.W041", "synchro.W042", "synchro.W043", "synchro.W044"}


class Meta:
    apps = own_apps
    app_label = LABEL


class Base(models.Model):
    class Meta(Meta):
        abstract = True


class ByName(models.Manager):
    def get_by_natural_key(self, name):
        return self.get(name=name)


class Named(Base):
    name = models.CharField(max_length=20)

    objects = ByName()

    class Meta(Meta):
        abstract = True

    def natural_key(self):
        return (self.name,)


# --- good ones --------------------------------------------------------------------------------------------------------


class Country(NaturalKeyModel):
    _natural_key = ("code",)
    code = models.CharField(max_length=2, unique=True)
    name = models.CharField(max_length=20, default="")

    class Meta(Meta):
        pass


class City(NaturalKeyModel):
    """Unique with its country, which is known by its code."""

    _natural_key = ("name", "country")
    name = models.CharField(max_length=20)
    country = models.ForeignKey(Country, models.CASCADE)

    class Meta(Meta):
        constraints = [models.UniqueConstraint(fields=["name", "country"], name="city_name")]


class Street(NaturalKeyModel):
    """A key of more than has to be unique, through two foreign keys."""

    _natural_key = ("name", "city__name", "city__country__code", "kind")
    name = models.CharField(max_length=20)
    kind = models.CharField(max_length=20)
    city = models.ForeignKey(City, models.CASCADE)

    class Meta(Meta):
        unique_together = [("name", "city")]


class Folded(Named):
    """Unique whatever the letter case."""

    class Meta(Meta):
        constraints = [models.UniqueConstraint(Lower("name"), name="folded_name")]


class Slugged(Base):
    name = models.SlugField(primary_key=True)
    objects = ByName()

    class Meta(Meta):
        pass

    def natural_key(self):
        return (self.name,)


class Loose(Base):
    """Need not be unique, and says so."""

    name = models.CharField(max_length=20)
    objects = NaturalManager("name", allow_many=True)

    class Meta(Meta):
        pass

    def natural_key(self):
        return (self.name,)


class Shop(Base):
    name = models.CharField(max_length=20, unique=True)
    objects = ByName()

    class Meta(Meta):
        pass

    def natural_key(self):
        return (self.name,)


class Bakery(Shop):
    """Its parent's key and manager fit it as well."""

    class Meta(Meta):
        pass


class ComputedManager(models.Manager):
    def get_by_natural_key(self, name):
        return self.get(name=name.upper())


class Computed(Named):
    """Known to its methods only; nothing says that it is bad."""

    objects = ComputedManager()

    class Meta(Meta):
        pass

    def natural_key(self):
        return (self.name.lower(),)


class Keyless(Base):
    name = models.CharField(max_length=20)

    class Meta(Meta):
        pass


GOOD = (Country, City, Street, Folded, Slugged, Loose, Shop, Bakery, Computed, Keyless)

# --- bad ones ---------------------------------------------------------------------------------------------------------


class Twin(Named):
    class Meta(Meta):
        pass


class LiveTwin(Named):
    """Unique among those that are not deleted, which is not enough."""

    deleted = models.BooleanField(default=False)

    class Meta(Meta):
        constraints = [models.UniqueConstraint(fields=["name"], condition=models.Q(deleted=False), name="live")]


class Namesake(NaturalKeyModel):
    """The name of the city alone says not which city."""

    _natural_key = ("name", "city__name")
    name = models.CharField(max_length=20)
    city = models.ForeignKey(City, models.CASCADE)

    class Meta(Meta):
        unique_together = [("name", "city")]


class NoCaseManager(models.Manager):
    def get_by_natural_key(self, name):
        return self.get(name__iexact=name)


class NoCase(Named):
    objects = NoCaseManager()

    class Meta(Meta):
        pass


class RoomManager(models.Manager):
    def get_by_natural_key(self, shop, number):
        return self.get(shop=shop, number=number)


class Room(Base):
    shop = models.ForeignKey(Shop, models.CASCADE)
    number = models.IntegerField()
    objects = RoomManager()

    class Meta(Meta):
        unique_together = [("shop", "number")]

    def natural_key(self):
        return self.shop, self.number


class FolderManager(models.Manager):
    def get_by_natural_key(self, *names):
        found = None
        for name in names:
            found = self.get(parent=found, name=name)
        return found


class Folder(Base):
    name = models.CharField(max_length=20)
    parent = models.ForeignKey("self", models.CASCADE, null=True)
    objects = FolderManager()

    class Meta(Meta):
        unique_together = [("parent", "name")]

    def natural_key(self):
        if self.parent:
            return (*self.parent.natural_key(), self.name)
        return (self.name,)


class PathManager(models.Manager):
    def get_by_natural_key(self, path):
        return next(each for each in self.all() if each.full_path == path)


class Branch(Base):
    """The way up is hidden in a property."""

    name = models.CharField(max_length=20)
    parent = models.ForeignKey("self", models.CASCADE, null=True)
    objects = PathManager()

    class Meta(Meta):
        pass

    @property
    def full_path(self):
        return f"{self.parent.full_path}/{self.name}" if self.parent else self.name

    def natural_key(self):
        return (self.full_path,)


class Leafy(Base):
    name = models.CharField(max_length=20)
    objects = PathManager()

    class Meta(Meta):
        pass

    def natural_key(self):
        return tuple(each.name for each in self.get_ancestors(include_self=True))

    def get_ancestors(self, include_self):
        raise NotImplementedError


class Treebeard(Base):
    path = models.CharField(max_length=200, unique=True)
    steplen = 4
    objects = NaturalManager("path")

    class Meta(Meta):
        pass

    def natural_key(self):
        return (self.path,)


class Tree(NaturalKeyModel):
    _natural_key = ("name", "parent")
    name = models.CharField(max_length=20)
    parent = models.ForeignKey("self", models.CASCADE, null=True)

    class Meta(Meta):
        unique_together = [("parent", "name")]


class ShopByName(models.Manager):
    def get_by_natural_key(self, name):
        return Shop.objects.get(name=name)


class Grocery(Shop):
    """Looks its parent up."""

    objects = ShopByName()

    class Meta(Meta):
        pass


class Kiosk(Shop):
    """Looks nothing up."""

    objects = models.Manager()

    class Meta(Meta):
        pass


class Unfound(Base):
    name = models.CharField(max_length=20, unique=True)

    class Meta(Meta):
        pass

    def natural_key(self):
        return (self.name,)


class Automatic(NaturalKeyModel):
    _natural_key = ("keyless", "name")
    keyless = models.ForeignKey(Keyless, models.CASCADE)
    name = models.CharField(max_length=20)

    class Meta(Meta):
        unique_together = [("keyless", "name")]


class Miscounted(Base):
    name = models.CharField(max_length=20)
    day = models.DateField()
    objects = ByName()

    class Meta(Meta):
        unique_together = [("name", "day")]

    def natural_key(self):
        return self.name, self.day


def said(model):
    return list(keychecks.of_model(model))


@pytest.mark.parametrize("model", GOOD)
def test_nothing_is_said_of_a_good_key(model):
    assert said(model) == []


@pytest.mark.parametrize("model", [Twin, LiveTwin, Namesake, NoCase])
def test_w040_a_key_that_is_not_unique(model):
    (message,) = said(model)
    assert message.id == "synchro.W040"
    assert message.obj is model
    assert "no unique constraint covers it" in message.msg
    if model is Namesake:
        assert message.msg.startswith(
            f"Several rows of {LABEL}.Namesake may have the same natural key (name, city__name)"
        )


@pytest.mark.parametrize(
    ("model", "ident", "text"),
    [
        (Room, "synchro.W041", "contains objects (shop) and not their keys"),
        (Folder, "synchro.W042", "computed from its ancestors (parent)"),
        (Branch, "synchro.W042", "computed from its ancestors (parent)"),
        (Leafy, "synchro.W042", "computed from its ancestors (get_ancestors)"),
        (Treebeard, "synchro.W042", "computed from its ancestors (path)"),
        (Tree, "synchro.W042", "computed from its ancestors (parent)"),
        (
            Grocery,
            "synchro.W043",
            f"inherits natural_key() from {LABEL}.Shop, but its default manager does not look up",
        ),
        (Kiosk, "synchro.W043", "inherits natural_key() from keychecks.Shop, but its default manager does not"),
        (Unfound, "synchro.W044", "is not used: the default manager of keychecks.Unfound has no get_by_natural_key()"),
        (Automatic, "synchro.W044", "keyless_id ends at the automatic primary key of keychecks.Keyless"),
        (Miscounted, "synchro.W044", "gives 2 values, which get_by_natural_key() does not take"),
    ],
)
def test_a_key_that_is_badly_defined(model, ident, text):
    (message,) = said(model)
    assert message.id == ident
    assert text in message.msg
    assert model._meta.label in message.msg
    assert message.obj is model


@pytest.mark.parametrize("model", [Twin, Room, Folder, Kiosk, Unfound])
def test_the_setting_that_overrides_it_is_named(model):
    (message,) = said(model)
    assert f"SYNCHRO_NATURAL_KEYS names other fields for {model._meta.label}, or None for no key." in message.hint


def found():
    return {message.id for message in run_checks()} & KINDS


def test_the_models_of_django_and_natural_managers_are_good():
    contrib = ("auth", "contenttypes", "sites", "admin", "sessions")
    with override_settings(SYNCHRO_MODELS=(*contrib, "shop", "zoo", "plain")):
        assert found() == set()


def test_a_model_that_is_tracked_is_checked_and_the_setting_silences(monkeypatch):
    from tests.project.shop import models as shop

    monkeypatch.setattr(shop.City._meta, "unique_together", [])
    assert found() == {"synchro.W040"}
    for key in (None, ["name", "country"], "name"):
        with override_settings(SYNCHRO_NATURAL_KEYS={"shop.City": key}):
            assert found() == set()


def test_a_model_that_tracked_rows_point_to_is_checked(monkeypatch):
    from tests.project.shop import models as shop

    monkeypatch.setattr(shop.Country._meta.get_field("code"), "unique", False)
    with override_settings(SYNCHRO_MODELS=(("shop", "City"),)):
        assert found() == {"synchro.W040"}
