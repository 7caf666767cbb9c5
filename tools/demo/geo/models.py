"""Models as a project has them that uses synchro.

There is nothing of synchro in them but natural keys, by which objects that were born on both sides are recognised as
one (both ways to give one are shown), and `SYNCHRO_SKIP`.
"""

from django.db import models

from synchro import NaturalKeyModel, NaturalManager


class Continent(NaturalKeyModel):
    _natural_key = ("code",)

    code = models.CharField(max_length=2, unique=True)
    name = models.CharField(max_length=50)
    population = models.BigIntegerField(default=0)

    def __str__(self):
        return self.name


class Language(NaturalKeyModel):
    _natural_key = ("code",)

    code = models.CharField(max_length=20, unique=True)

    def __str__(self):
        return self.code


class Country(models.Model):
    code = models.CharField(max_length=2, unique=True)
    name = models.CharField(max_length=100)
    capital = models.CharField(max_length=100, blank=True)
    area = models.DecimalField("area in km²", max_digits=12, decimal_places=2)
    population = models.BigIntegerField(default=0)
    currency = models.CharField(max_length=3, blank=True)
    continent = models.ForeignKey(Continent, on_delete=models.PROTECT, related_name="countries")
    languages = models.ManyToManyField(Language, blank=True, related_name="countries")
    neighbours = models.ManyToManyField("self", blank=True)

    objects = NaturalManager("code")

    class Meta:
        verbose_name_plural = "countries"

    def __str__(self):
        return self.name

    def natural_key(self):
        return (self.code,)


class Tag(NaturalKeyModel):
    _natural_key = ("name",)

    name = models.CharField(max_length=50, unique=True)

    def __str__(self):
        return self.name


class City(NaturalKeyModel):
    _natural_key = ("geonameid",)
    SYNCHRO_SKIP = ("visits",)  # each deployment counts its own

    geonameid = models.IntegerField(unique=True)
    name = models.CharField(max_length=200)
    country = models.ForeignKey(Country, on_delete=models.CASCADE, related_name="cities")
    latitude = models.FloatField()
    longitude = models.FloatField()
    population = models.IntegerField(default=0)
    timezone = models.CharField(max_length=50)
    alternate_names = models.JSONField(default=list, blank=True)
    tags = models.ManyToManyField(Tag, blank=True, related_name="cities")
    visits = models.IntegerField(default=0)

    class Meta:
        verbose_name_plural = "cities"

    def __str__(self):
        return self.name


class State(NaturalKeyModel):
    _natural_key = ("country", "code")  # a key may go through a foreign key

    country = models.ForeignKey(Country, on_delete=models.CASCADE, related_name="states")
    code = models.CharField(max_length=2)
    name = models.CharField(max_length=50)

    class Meta:
        unique_together = [("country", "code")]

    def __str__(self):
        return self.name


class County(NaturalKeyModel):
    _natural_key = ("fips",)

    fips = models.CharField(max_length=5, unique=True)
    name = models.CharField(max_length=100)
    state = models.ForeignKey(State, on_delete=models.CASCADE, related_name="counties")

    class Meta:
        verbose_name_plural = "counties"

    def __str__(self):
        return self.name


class Visit(models.Model):
    """No natural key: two visits with equal values are two, and only where they were born tells them apart."""

    city = models.ForeignKey(City, on_delete=models.CASCADE, related_name="visits_made")
    day = models.DateField()
    remark = models.TextField(blank=True)

    def __str__(self):
        return f"{self.city}, {self.day}"
