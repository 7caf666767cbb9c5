"""A model for each field type and each kind of relation that has to travel. Not tracked, unless a test says so."""

import uuid

from django.contrib.contenttypes.fields import GenericForeignKey, GenericRelation
from django.contrib.contenttypes.models import ContentType
from django.core.serializers.json import DjangoJSONEncoder
from django.db import models
from django.db.models.functions import Now

from synchro import NaturalManager

# --- fields of somebody else's ----------------------------------------------------------------------------------------


class Point:
    def __init__(self, x, y):
        self.x, self.y = x, y

    def __eq__(self, other):
        return isinstance(other, Point) and (self.x, self.y) == (other.x, other.y)

    def __hash__(self):
        return hash((self.x, self.y))

    def __repr__(self):
        return f"Point({self.x}, {self.y})"


class PointField(models.Field):
    """An object of its own in Python, a text in the database, another text in fixtures."""

    def db_type(self, connection):
        return "varchar(50)"

    def from_db_value(self, value, expression, connection):
        return None if value is None else Point(*map(int, value.split(",")))

    def to_python(self, value):
        return value if value is None or isinstance(value, Point) else Point(*map(int, value.strip("()").split(";")))

    def get_prep_value(self, value):
        return None if value is None else f"{value.x},{value.y}"

    def value_to_string(self, obj):
        value = self.value_from_object(obj)
        return None if value is None else f"({value.x};{value.y})"


class WordsField(models.TextField):
    """A list in Python; extends one of Django's own fields."""

    def from_db_value(self, value, expression, connection):
        return None if value is None else value.split()

    def to_python(self, value):
        return value.split() if isinstance(value, str) else value

    def get_prep_value(self, value):
        return " ".join(value) if isinstance(value, (list, tuple)) else value

    def value_to_string(self, obj):
        return self.get_prep_value(self.value_from_object(obj)) or ""


class SecretField(models.CharField):
    """Stored otherwise than it is read."""

    def from_db_value(self, value, expression, connection):
        return None if value is None else value[::-1]

    def get_prep_value(self, value):
        value = super().get_prep_value(value)
        return None if value is None else value[::-1]


class CountingField(models.IntegerField):
    """One more at each save; the instance is told."""

    def pre_save(self, model_instance, add):
        value = (getattr(model_instance, self.attname) or 0) + 1
        setattr(model_instance, self.attname, value)
        return value


class ShoutField(models.CharField):
    """Reads back another text than was assigned, and only from the database."""

    def get_db_prep_save(self, value, connection):
        value = super().get_db_prep_save(value, connection)
        return None if value is None else value.upper()


class Specimen(models.Model):
    """A field of every type that the shop's notes do not have, and the awkward ones of those that they have."""

    name = models.CharField(max_length=50, default="")
    tiny = models.SmallIntegerField(default=0)
    positive = models.PositiveIntegerField(default=0)
    large = models.PositiveBigIntegerField(default=0)
    number = models.BigIntegerField(null=True)
    real = models.FloatField(null=True)
    money = models.DecimalField(max_digits=15, decimal_places=2, null=True)
    wide = models.DecimalField(max_digits=40, decimal_places=20, null=True)
    short = models.CharField(max_length=5, blank=True, default="")
    text = models.TextField(null=True)
    moment = models.DateTimeField(null=True)
    day = models.DateField(null=True)
    hour = models.TimeField(null=True)
    length = models.DurationField(null=True)
    uid = models.UUIDField(null=True)
    blob = models.BinaryField(null=True)
    data = models.JSONField(null=True)
    coded = models.JSONField(null=True, encoder=DjangoJSONEncoder)
    ip = models.GenericIPAddressField(null=True)
    mapped = models.GenericIPAddressField(null=True, unpack_ipv4=True)
    path = models.FilePathField(path="/", blank=True)
    listed = models.CharField(max_length=50, default="", db_column="Ünusual column")
    point = PointField(null=True)
    words = WordsField(null=True)
    secret = SecretField(max_length=50, default="")
    saves = CountingField(default=0)
    shout = ShoutField(max_length=50, default="")
    twice = models.GeneratedField(
        expression=models.F("tiny") * 2, output_field=models.BigIntegerField(), db_persist=True
    )
    made = models.DateTimeField(db_default=Now())
    level = models.IntegerField(db_default=7)


# --- foreign keys -----------------------------------------------------------------------------------------------------


class Keeper(models.Model):
    """Pointed to by a column that is no primary key, and by generic foreign keys."""

    badge = models.CharField(max_length=20, unique=True)
    name = models.CharField(max_length=20, default="")
    chief = models.ForeignKey("self", models.SET_NULL, null=True, to_field="badge")
    comments = GenericRelation("Comment")


class Locker(models.Model):
    keeper = models.OneToOneField(Keeper, models.CASCADE, to_field="badge", primary_key=True)
    content = models.CharField(max_length=20, default="")


class Team(models.Model):
    name = models.CharField(max_length=20)
    captain = models.ForeignKey("Player", models.SET_NULL, null=True, related_name="+")


class Player(models.Model):
    """Points to what points back."""

    team = models.ForeignKey(Team, models.CASCADE)
    name = models.CharField(max_length=20, default="")


class Shadow(models.Model):
    """Points to rows that need not be there."""

    keeper = models.ForeignKey(Keeper, models.DO_NOTHING, null=True, db_constraint=False)


# --- generic foreign keys ---------------------------------------------------------------------------------------------


class Comment(models.Model):
    content_type = models.ForeignKey(ContentType, models.CASCADE)
    object_id = models.PositiveBigIntegerField()
    about = GenericForeignKey()
    text = models.CharField(max_length=50, default="")


class Remark(models.Model):
    """Any primary key, as text; of the model itself, also where it is a proxy."""

    kind = models.ForeignKey(ContentType, models.SET_NULL, null=True)
    key = models.CharField(max_length=100, null=True)
    about = GenericForeignKey("kind", "key", for_concrete_model=False)

    class Meta:
        unique_together = [("kind", "key")]


# --- inheritance ------------------------------------------------------------------------------------------------------


class Creature(models.Model):
    """The natural key is the root's."""

    _natural_key = ("name",)
    name = models.CharField(max_length=20, unique=True)
    keeper = models.ForeignKey(Keeper, models.SET_NULL, null=True)
    likes = models.ManyToManyField("self", symmetrical=False, related_name="liked_by")

    objects = NaturalManager("name")

    def natural_key(self):
        return (self.name,)


class Animal(Creature):
    legs = models.IntegerField(default=4)


class Dog(Animal):
    """Three levels down, with a natural key of its own."""

    chip = models.CharField(max_length=20, unique=True)

    objects = NaturalManager("chip")

    def natural_key(self):
        return (self.chip,)


class Puppy(Dog):
    class Meta:
        proxy = True


class Vehicle(models.Model):
    """No natural key; a child has one."""

    wheels = models.IntegerField(default=4)


class Van(Vehicle):
    plate = models.CharField(max_length=20, unique=True)

    objects = NaturalManager("plate")

    def natural_key(self):
        return (self.plate,)


# --- primary keys -----------------------------------------------------------------------------------------------------


class Order(models.Model):
    number = models.CharField(max_length=20, default="")


class Line(models.Model):
    """A primary key of two parts, one of which is a foreign key to an automatic one."""

    pk = models.CompositePrimaryKey("order", "position")
    order = models.ForeignKey(Order, models.CASCADE)
    position = models.IntegerField()
    text = models.CharField(max_length=20, default="")


class Crate(models.Model):
    id = models.UUIDField(primary_key=True, default=uuid.uuid4)
    name = models.CharField(max_length=20, default="")


class Stall(models.Model):
    """A composite key that is the same everywhere, with a part that is a foreign key."""

    pk = models.CompositePrimaryKey("crate", "row")
    crate = models.ForeignKey(Crate, models.CASCADE)
    row = models.CharField(max_length=10)
    note = models.CharField(max_length=20, default="")


class Small(models.Model):
    id = models.SmallAutoField(primary_key=True)
    name = models.CharField(max_length=20, default="")


# --- managers and options ---------------------------------------------------------------------------------------------


class HidingManager(models.Manager):
    def get_queryset(self):
        return super().get_queryset().filter(hidden=False)

    def get_by_natural_key(self, name):
        return self.get(name=name)


class Hidden(models.Model):
    name = models.CharField(max_length=20, unique=True)
    hidden = models.BooleanField(default=False)

    things = HidingManager()

    class Meta:
        base_manager_name = "things"

    def natural_key(self):
        return (self.name,)


class RaisingManager(models.Manager):
    def get_queryset(self):
        raise RuntimeError("outside of a scope")


class Scoped(models.Model):
    """Its manager works within a scope only; no other is there."""

    name = models.CharField(max_length=20, default="")
    hidden = models.ForeignKey(Hidden, models.CASCADE, null=True)
    tenants = RaisingManager()


class Question(models.Model):
    text = models.CharField(max_length=20, default="")


class Answer(models.Model):
    question = models.ForeignKey(Question, models.CASCADE)
    text = models.CharField(max_length=20, default="")

    class Meta:
        order_with_respect_to = "question"


class Pet(models.Model):
    name = models.CharField(max_length=20)

    class Meta:
        swappable = "ZOO_PET_MODEL"


class OwnPet(models.Model):
    """What the project has instead of a pet."""

    name = models.CharField(max_length=20)
    size = models.IntegerField(default=1)


class Basket(models.Model):
    pet = models.ForeignKey("zoo.OwnPet", models.CASCADE)


class Overview(models.Model):
    """A view, perhaps."""

    total = models.IntegerField()

    class Meta:
        managed = False


# --- rows that are there already --------------------------------------------------------------------------------------


class Language(models.Model):
    """Neither natural key nor fixed number, but there can be one of each code only."""

    code = models.CharField(max_length=10, unique=True)
    label = models.CharField(max_length=20, default="")


class Translation(models.Model):
    language = models.ForeignKey(Language, models.CASCADE)
    source = models.CharField(max_length=20)
    text = models.CharField(max_length=20, default="")

    class Meta:
        constraints = [models.UniqueConstraint(fields=["language", "source"], name="zoo_one_translation")]


class Workflow(models.Model):
    """Nothing at all says which is which."""

    name = models.CharField(max_length=20)
    active = models.BooleanField(default=True)


class Step(models.Model):
    workflow = models.ForeignKey(Workflow, models.CASCADE)
    name = models.CharField(max_length=20)


# --- values of which there is one each --------------------------------------------------------------------------------


class Peg(models.Model):
    """Something unique of every type that can be, none of which may be NULL."""

    keeper = models.OneToOneField(Keeper, models.CASCADE)
    small = models.SmallIntegerField(unique=True)
    money = models.DecimalField(max_digits=6, decimal_places=2, unique=True)
    real = models.FloatField(unique=True)
    moment = models.DateTimeField(unique=True)
    day = models.DateField(unique=True)
    hour = models.TimeField(unique=True)
    length = models.DurationField(unique=True)
    uid = models.UUIDField(unique=True)
    ip = models.GenericIPAddressField(unique=True)
    ipv4 = models.GenericIPAddressField(unique=True, protocol="IPv4")
    letter = models.CharField(max_length=1, unique=True)
    file = models.FileField(max_length=50, unique=True)
