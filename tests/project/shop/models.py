"""Tracked models, one for each kind of identity and relation that has to travel.

Natural keys are written by hand here, with Django's own managers; the app's own NaturalManager and NaturalKeyModel have
tests of their own.
"""

import uuid

from django.db import models


class CountryManager(models.Manager):
    def get_by_natural_key(self, code):
        return self.get(code=code)


class Country(models.Model):
    """A natural key of one field."""

    code = models.CharField(max_length=2, unique=True)
    name = models.CharField(max_length=100, blank=True)

    objects = CountryManager()

    def natural_key(self):
        return (self.code,)


class CityManager(models.Manager):
    def get_by_natural_key(self, name, country):
        return self.get(name=name, country__code=country)


class City(models.Model):
    """A natural key that goes through a foreign key, and a field that stays at home."""

    SYNCHRO_SKIP = ("visits",)

    name = models.CharField(max_length=100)
    country = models.ForeignKey(Country, on_delete=models.CASCADE, related_name="cities")
    population = models.IntegerField(default=0)
    latitude = models.DecimalField(max_digits=9, decimal_places=6, null=True)
    founded = models.DateField(null=True)
    extra = models.JSONField(default=dict, blank=True)
    visits = models.IntegerField(default=0)

    objects = CityManager()

    class Meta:
        unique_together = [("name", "country")]

    def natural_key(self):
        return (self.name, *self.country.natural_key())

    natural_key.dependencies = ["shop.country"]


class TagManager(models.Manager):
    def get_by_natural_key(self, name):
        return self.get(name=name)


class Tag(models.Model):
    name = models.CharField(max_length=50, unique=True)

    objects = TagManager()

    def natural_key(self):
        return (self.name,)


class Person(models.Model):
    """No natural key and an automatic pk: only the object id tells who it is."""

    name = models.CharField(max_length=100)
    boss = models.ForeignKey("self", on_delete=models.SET_NULL, null=True, blank=True, related_name="staff")
    city = models.ForeignKey(City, on_delete=models.PROTECT, null=True, blank=True)
    tags = models.ManyToManyField(Tag, blank=True, related_name="people")
    friends = models.ManyToManyField("self", blank=True)


class Profile(models.Model):
    """Its pk is the person's."""

    person = models.OneToOneField(Person, on_delete=models.CASCADE, primary_key=True)
    bio = models.TextField(blank=True)


class Device(models.Model):
    id = models.UUIDField(primary_key=True, default=uuid.uuid4, editable=False)
    name = models.CharField(max_length=50)
    owner = models.ForeignKey(Person, on_delete=models.CASCADE, null=True, blank=True)


class Parcel(models.Model):
    """A pk given by hand."""

    code = models.SlugField(primary_key=True)
    weight = models.DecimalField(max_digits=8, decimal_places=3, default=0)
    sender = models.ForeignKey(Person, on_delete=models.SET_NULL, null=True, blank=True)


class Club(models.Model):
    name = models.CharField(max_length=50)
    members = models.ManyToManyField(Person, through="Membership", related_name="clubs")


class Membership(models.Model):
    """The rows of an m2m with a through model of its own: objects, not links."""

    person = models.ForeignKey(Person, on_delete=models.CASCADE)
    club = models.ForeignKey(Club, on_delete=models.CASCADE)
    role = models.CharField(max_length=50, default="member")

    class Meta:
        unique_together = [("person", "club")]


class Note(models.Model):
    """A field of every plain type."""

    integer = models.IntegerField(default=0)
    big = models.BigIntegerField(default=0)
    small = models.PositiveSmallIntegerField(default=0)
    real = models.FloatField(null=True)
    price = models.DecimalField(max_digits=12, decimal_places=4, null=True)
    done = models.BooleanField(null=True)
    char = models.CharField(max_length=200, blank=True)
    char_null = models.CharField(max_length=200, null=True, blank=True)
    text = models.TextField(blank=True)
    day = models.DateField(null=True)
    moment = models.DateTimeField(null=True)
    hour = models.TimeField(null=True)
    length = models.DurationField(null=True)
    uid = models.UUIDField(null=True)
    blob = models.BinaryField(null=True)
    data = models.JSONField(null=True)
    slug = models.SlugField(blank=True)
    url = models.URLField(blank=True)
    email = models.EmailField(blank=True)
    ip = models.GenericIPAddressField(null=True)
    file = models.FileField(upload_to="notes", blank=True)


class Stamp(models.Model):
    """Times that Django sets by itself on every save."""

    name = models.CharField(max_length=50, blank=True)
    created = models.DateTimeField(auto_now_add=True)
    changed = models.DateTimeField(auto_now=True)


class Place(models.Model):
    name = models.CharField(max_length=50)
    city = models.ForeignKey(City, on_delete=models.SET_NULL, null=True, blank=True)


class Restaurant(Place):
    """Multi-table inheritance: its row is in two tables."""

    stars = models.IntegerField(default=0)


class Car(models.Model):
    """Points to a row of a model that is not tracked."""

    plate = models.CharField(max_length=20, unique=True)
    color = models.ForeignKey("plain.Color", on_delete=models.PROTECT, null=True, blank=True)
