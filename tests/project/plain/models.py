"""An app that is not tracked, to whose rows tracked ones point."""

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
