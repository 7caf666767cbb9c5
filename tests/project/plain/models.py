"""An app that is not tracked, to whose rows tracked ones point."""

from django.contrib.auth.models import Group, Permission, User
from django.db import models


class ColorManager(models.Manager):
    def get_by_natural_key(self, name):
        return self.get(name=name)


class Color(models.Model):
    name = models.CharField(max_length=40, unique=True)
    rgb = models.CharField(max_length=7, blank=True)

    objects = ColorManager()

    def natural_key(self):
        return (self.name,)


class Clerk(User):
    """An account with something more."""

    desk = models.CharField(max_length=20, blank=True)


class Room(models.Model):
    """Something that points to what rights hang on."""

    name = models.CharField(max_length=40, unique=True)
    group = models.ForeignKey(Group, models.CASCADE, null=True)
    permissions = models.ManyToManyField(Permission)
