"""The models of a project that was written for django-synchro 0.5: what its documentation shows, in one app.

Not tracked, unless a test sets SYNCHRO_MODELS.
"""

from django.db import models

from synchro import NaturalKeyModel, NaturalManager


class Note(models.Model):
    """Neither a natural key nor a primary key that means something elsewhere."""

    name = models.CharField(max_length=20)
    cash = models.IntegerField(default=0)


class Agent(models.Model):
    """A primary key that is given by hand, and a balance that each deployment computes by itself."""

    SYNCHRO_SKIP = ("balance",)

    code = models.CharField(max_length=20, primary_key=True)
    cash = models.IntegerField(default=0)
    balance = models.IntegerField(default=0)


class Parcel(models.Model):
    name = models.CharField(max_length=20)
    left = models.IntegerField(default=0)
    agent = models.ForeignKey(Agent, models.CASCADE, related_name="parcels")


class LoudManager(models.Manager):
    def shout(self):
        return "HEY"


class TownManager(NaturalManager, LoudManager):
    fields = ("name",)


class Town(NaturalKeyModel):
    SYNCHRO_SKIP = ("visits",)
    _natural_key = ("name",)

    name = models.CharField(max_length=20)
    cash = models.IntegerField(default=0)
    visits = models.IntegerField(default=0)

    objects = LoudManager()
    others = TownManager()


class Street(models.Model):
    name = models.CharField(max_length=20)
    town = models.ForeignKey(Town, models.CASCADE, related_name="streets")


class Guest(NaturalKeyModel):
    """A natural key that is not unique."""

    _natural_key = ("first", "last")
    _natural_manager_kwargs = {"allow_many": True}

    first = models.CharField(max_length=20)
    last = models.CharField(max_length=20)
    room = models.IntegerField(default=0)


class Skill(models.Model):
    level = models.IntegerField(default=1)

    objects = NaturalManager("level")

    def natural_key(self):
        return (self.level,)


class Worker(models.Model):
    number = models.IntegerField(default=1)
    skills = models.ManyToManyField(Skill, related_name="workers")
    friends = models.ManyToManyField("self")


class Place(models.Model):
    """Never listed in SYNCHRO_MODELS."""

    number = models.IntegerField(default=1)


class Team(models.Model):
    number = models.IntegerField(default=1)
    skills = models.ManyToManyField(Skill, related_name="teams", through="Need")


class Need(models.Model):
    """Not listed in SYNCHRO_MODELS either: what links a team with a skill, and where."""

    skill = models.ForeignKey(Skill, models.CASCADE)
    team = models.ForeignKey(Team, models.CASCADE)
    place = models.ForeignKey(Place, models.CASCADE)
    cash = models.IntegerField(default=0)


class Account(models.Model):
    foo = models.IntegerField(default=1)
    bar = models.IntegerField(default=1)


class Sale(models.Model):
    name = models.CharField(max_length=20)
