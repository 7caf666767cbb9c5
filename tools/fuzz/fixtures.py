"""The importer's surroundings: the three deployments of the tests' project, and bundles with all kinds of records."""

import io
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal

from changelog_format import BundleError
from synchro.errors import SynchroError

ERRORS = (SynchroError, BundleError)


def scene():
    """What is done inside is undone afterwards. Inside, `hq` has data of its own, and some of the office's."""
    from contextlib import contextmanager

    from tests.app.deploy import rolled_back

    @contextmanager
    def prepared():
        with rolled_back():
            _life_at_hq()
            yield

    return prepared()


def everything(using):
    from tests.app.deploy import everything as all_rows

    return all_rows(using)


def exported(using):
    from synchro import export_bundle

    stream = io.BytesIO()
    return stream.getvalue() if export_bundle(stream, using=using, to="onward") else None


def taken(data, using):
    from synchro import import_bundle

    return import_bundle(io.BytesIO(data), any_destination=True, using=using)


def histories():
    """Bundles of the office: its first days, its later ones, what a third node wrote and the office passed on.

    And one with contents of files, and one with decisions about conflicts.
    """
    from tests.app.deploy import carry, rolled_back

    with rolled_back():
        _life("default", "a")
        first, _ = _written("default")
        _later("default")
        second, _ = _written("default", since=0)
        yield first
        yield second
    with rolled_back():
        _life("ship", "s")
        carry("ship", "default")
        _later("default")
        yield _written("default")[0]
    with rolled_back():
        _life("default", "f")
        _files("default")
        yield _written("default", with_files=True)[0]
    with rolled_back():
        _life("default", "c")
        carry("default", "ship")
        _edited("ship", "theirs")
        _edited("default", "ours")
        carry("ship", "default", on_conflict="local")
        yield _written("default", since=0)[0]


def _written(using, **options):
    from tests.app.deploy import write

    return write(using, **options)


def memory():
    """Files are kept in memory, and forgotten by whoever asks for this again."""
    from django.core.files.storage import InMemoryStorage
    from django.test.utils import override_settings

    from tests.project.shop.models import Note

    Note._meta.get_field("file").storage = InMemoryStorage()
    return override_settings(STORAGES={"default": {"BACKEND": "django.core.files.storage.InMemoryStorage"}})


def _files(using):
    from django.core.files.base import ContentFile

    from tests.project.shop.models import Note

    for number, content in enumerate((b"", b"short", bytes(range(256)))):
        note = Note(integer=number)
        note.file.save(f"{number}.bin", ContentFile(content), save=False)
        note.save(using=using)


def _edited(using, name):
    from tests.project.shop.models import Person

    person = Person.objects.using(using).get(name="person")
    person.name = name
    person.save(using=using)


def _life_at_hq():
    from tests.project.shop.models import Country, Tag

    Country.objects.using("hq").create(code="PL", name="Poland")
    Tag.objects.using("hq").create(name="a-1")


def _life(using, prefix):
    from tests.project.plain.models import Color
    from tests.project.shop import models as shop

    def make(model, **values):
        return model.objects.using(using).create(**values)

    poland = make(shop.Country, code="PL", name=prefix)
    city = make(
        shop.City, name=f"{prefix} town", country=poland, latitude=Decimal("51.1"), founded=date(1242, 1, 1),
        extra={"mayor": None, "n": [1, 2.5, {"$ref": 1}]},
    )  # fmt: skip
    tags = [make(shop.Tag, name=f"{prefix}-{n}") for n in range(3)]
    boss = make(shop.Person, name="boss", city=city)
    person = make(shop.Person, name="person", boss=boss, city=city)
    person.tags.add(*tags)
    person.friends.add(boss)
    make(shop.Profile, person=person, bio="ä\U0001f600")
    make(shop.Device, name="device", owner=person)
    make(shop.Parcel, code=f"{prefix}-parcel", sender=person, weight="1.250")
    club = make(shop.Club, name="club")
    make(shop.Membership, person=person, club=club, role="chair")
    make(
        shop.Note, integer=-5, big=2**62, real=0.1, price=Decimal("-1.5000"), done=True, char="x", text="long",
        day=date(2026, 2, 28), moment=datetime(2026, 1, 1, tzinfo=UTC), length=timedelta(days=-1, microseconds=1),
        blob=b"\x00\xff", data={"a": [None, "b"]}, ip="::1", file="notes/x.txt",
    )  # fmt: skip
    make(shop.Stamp, name="stamp")
    make(shop.Restaurant, name="place", city=city, stars=3)
    make(shop.Car, plate=f"{prefix} 1", color=make(Color, name="red"))


def _later(using):
    from tests.project.shop import models as shop

    person = shop.Person.objects.using(using).get(name="person")
    person.tags.remove(person.tags.order_by("pk").first())
    person.name = "someone"
    person.save(using=using)
    country = shop.Country.objects.using(using).get(code="PL")
    country.code = "DE"
    country.save(using=using)
    shop.Parcel.objects.using(using).first().delete(using=using)
    shop.Restaurant.objects.using(using).first().delete(using=using)
    shop.Person.objects.using(using).get(name="boss").delete(using=using)
