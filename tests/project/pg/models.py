"""The fields of django.contrib.postgres. Installed only where the tests run on PostgreSQL."""

from django.contrib.postgres.fields import (
    ArrayField,
    BigIntegerRangeField,
    DateRangeField,
    DateTimeRangeField,
    DecimalRangeField,
    HStoreField,
    IntegerRangeField,
)
from django.contrib.postgres.search import SearchVector, SearchVectorField
from django.db import models

from tests.project.zoo.models import PointField


class Fossil(models.Model):
    name = models.CharField(max_length=50, default="")
    numbers = ArrayField(models.IntegerField(null=True), null=True)
    texts = ArrayField(models.CharField(max_length=20, null=True), default=list)
    days = ArrayField(models.DateField(null=True), null=True)
    moments = ArrayField(models.DateTimeField(), null=True)
    prices = ArrayField(models.DecimalField(max_digits=30, decimal_places=10), null=True, size=4)
    grid = ArrayField(ArrayField(models.FloatField(null=True)), null=True)
    blobs = ArrayField(models.BinaryField(), null=True)
    uids = ArrayField(models.UUIDField(), null=True)
    datas = ArrayField(models.JSONField(), null=True)
    points = ArrayField(PointField(null=True), null=True)
    store = HStoreField(null=True)
    stores = ArrayField(HStoreField(), null=True)
    whole = IntegerRangeField(null=True)
    big = BigIntegerRangeField(null=True)
    exact = DecimalRangeField(null=True)
    period = DateTimeRangeField(null=True)
    stay = DateRangeField(null=True)
    closed = DateTimeRangeField(null=True, default_bounds="[]")
    spans = ArrayField(IntegerRangeField(), null=True)
    search = SearchVectorField(null=True)
    found = models.GeneratedField(
        expression=SearchVector("name", config="simple"), output_field=SearchVectorField(), db_persist=True
    )
