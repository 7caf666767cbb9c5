"""What is written, exported and imported: authors, tags, books with Decimal, date and JSON fields, links, reviews."""

from django.conf import settings
from django.db import models


class ByKey(models.Manager):
    def get_by_natural_key(self, *key):
        return self.get(**dict(zip(self.model.KEY, key, strict=True)))


def tracked(model):
    """With pghistory, a model is tracked by a decorator."""
    if settings.BENCH_WITH != "pghistory":
        return model
    import pghistory

    return pghistory.track(pghistory.InsertEvent(), pghistory.UpdateEvent(), pghistory.DeleteEvent())(model)


class Keyed(models.Model):
    KEY = ()
    objects = ByKey()

    class Meta:
        abstract = True

    def __str__(self):
        return str(self.pk)

    if settings.BENCH_WITH == "simple_history":
        from simple_history.models import HistoricalRecords

        history = HistoricalRecords(inherit=True)


@tracked
class Author(Keyed):
    KEY = ("name",)
    name = models.CharField(max_length=100, unique=True)
    born = models.DateField(null=True)
    note = models.CharField(max_length=100, default="")

    def natural_key(self):
        return (self.name,)


@tracked
class Tag(Keyed):
    KEY = ("slug",)
    slug = models.CharField(max_length=50, unique=True)
    label = models.CharField(max_length=100, default="")

    def natural_key(self):
        return (self.slug,)


@tracked
class Book(Keyed):
    KEY = ("isbn",)
    isbn = models.CharField(max_length=13, unique=True)
    title = models.CharField(max_length=200)
    author = models.ForeignKey(Author, models.CASCADE)
    price = models.DecimalField(max_digits=8, decimal_places=2)
    published = models.DateField()
    data = models.JSONField(default=dict)
    tags = models.ManyToManyField(Tag)

    def natural_key(self):
        return (self.isbn,)

    natural_key.dependencies = ["library.author", "library.tag"]


@tracked
class Review(Keyed):
    KEY = ("code",)
    code = models.CharField(max_length=40, unique=True)
    book = models.ForeignKey(Book, models.CASCADE)
    stars = models.PositiveSmallIntegerField()
    written = models.DateTimeField()
    text = models.TextField()

    def natural_key(self):
        return (self.code,)

    natural_key.dependencies = ["library.book"]
