"""Models that do what most models do not. Not tracked, unless a test sets SYNCHRO_MODELS."""

import uuid

from django.db import models
from django.db.models.functions import Now

from synchro import LoggedManager, LoggedQuerySet
from tests.project.shop.models import Person


class Worker(Person):
    """Another face of a tracked model."""

    class Meta:
        proxy = True


class Loud(models.Model):
    """Its own code fails whenever somebody asks it for anything."""

    name = models.CharField(max_length=50)

    def __str__(self):
        raise RuntimeError("__str__ was called")

    def __repr__(self):
        raise RuntimeError("__repr__ was called")

    @property
    def title(self):
        raise RuntimeError("a property was read")

    def natural_key(self):
        raise RuntimeError("natural_key was called")


class Seat(models.Model):
    pk = models.CompositePrimaryKey("hall", "number")
    hall = models.IntegerField()
    number = models.CharField(max_length=10)
    taken = models.BooleanField(default=False)


class Ticket(models.Model):
    """A primary key that is long, and that may look like anything."""

    code = models.CharField(max_length=300, primary_key=True)
    price = models.IntegerField(default=0)
    follows = models.ForeignKey("self", on_delete=models.CASCADE, null=True)


class UpperField(models.CharField):
    """What is stored is not what was assigned."""

    def get_prep_value(self, value):
        value = super().get_prep_value(value)
        return "NONE" if value is None else value.upper()


class DraftField(models.CharField):
    """What is stored is decided on saving, and the instance is not told."""

    def pre_save(self, model_instance, add):
        return super().pre_save(model_instance, add) + "!"


class Mood(models.TextChoices):
    GOOD = "good"
    BAD = "bad"


class Measure(models.Model):
    """Columns whose content the database or the field decides."""

    width = models.IntegerField(default=1)
    area = models.GeneratedField(
        expression=models.F("width") * models.F("width"), output_field=models.IntegerField(), db_persist=True
    )
    made = models.DateTimeField(db_default=Now())
    upper = UpperField(max_length=20, default="x")
    draft = DraftField(max_length=20, default="d")
    mood = models.CharField(max_length=4, choices=Mood, default=Mood.GOOD)
    wide = models.DecimalField(max_digits=30, decimal_places=10, default=0)


class Label(models.Model):
    name = models.CharField(max_length=20, unique=True)


class Sticker(models.Model):
    label = models.ForeignKey(Label, on_delete=models.CASCADE, to_field="name")


class Base(models.Model):
    name = models.CharField(max_length=20)
    friends = models.ManyToManyField("self")
    owner = models.ForeignKey(Label, on_delete=models.SET_NULL, null=True)


class Middle(Base):
    size = models.IntegerField(default=0)


class Leaf(Middle):
    color = models.CharField(max_length=20, default="green")


class Errand(models.Model):
    """Deleting what it points to changes it, and the ORM tells nobody."""

    base = models.ForeignKey(Base, on_delete=models.SET_DEFAULT, null=True, default=None)
    label = models.ForeignKey(Label, on_delete=models.SET(None), null=True)


class Thing(models.Model):
    """Symmetrical links between primary keys that are no numbers."""

    id = models.UUIDField(primary_key=True)
    near = models.ManyToManyField("self")


class VisitQuerySet(LoggedQuerySet):
    def early(self):
        return self.filter(hour__lt=12)


class Visit(models.Model):
    """Its manager logs its own bulk operations."""

    code = models.CharField(max_length=20, unique=True, null=True)
    hour = models.IntegerField(default=0)
    label = models.ForeignKey(Label, on_delete=models.SET_NULL, null=True, related_name="visits")

    objects = LoggedManager.from_queryset(VisitQuerySet)()


class Slot(models.Model):
    id = models.UUIDField(primary_key=True, default=uuid.uuid4)
    name = models.CharField(max_length=20, unique=True)

    objects = LoggedQuerySet.as_manager()


if hasattr(models, "DB_CASCADE"):  # Django 6.1

    class Wing(models.Model):
        """Goes with its label, by the database alone."""

        label = models.ForeignKey(Label, on_delete=models.DB_CASCADE)

    class Feather(models.Model):
        wing = models.ForeignKey(Wing, on_delete=models.DB_CASCADE)
        spare = models.ForeignKey(Wing, on_delete=models.DB_SET_NULL, null=True, related_name="+")
