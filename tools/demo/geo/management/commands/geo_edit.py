"""The edits of the demo: what people do on both sides while no file travels."""

import datetime as dt
import json

from django.core.management.base import BaseCommand
from django.db import transaction

from geo.models import City, Country, County, Language, State, Tag, Visit

DAY = dt.date(2026, 3, 1)


def by_size(start, stop):
    """Cities outside the United Kingdom, from the `start`-th largest to the `stop`-th, the same ones on both sides."""
    return City.objects.exclude(country__code="GB").order_by("-population", "geonameid")[start:stop]


class Command(BaseCommand):
    help = "Edit, rename, link and delete, as one of the two deployments does in the demo."

    def add_arguments(self, parser):
        parser.add_argument("side", choices=["office", "hq"])
        parser.add_argument("--json", action="store_true", dest="as_json", help="print what was done as JSON")

    def handle(self, *, side, as_json, **_options):
        with transaction.atomic():
            done = office() if side == "office" else hq()
        self.stdout.write(json.dumps(done) if as_json else "\n".join(done))


def office():
    largest = by_size(0, 1).get()
    rekeyed = by_size(9, 10).get()
    linked = list(by_size(10, 30))
    counted = list(by_size(30, 230))
    smallest = list(City.objects.order_by("population", "-geonameid")[:5])

    for city in counted:
        city.population += city.population // 100
        city.save()

    largest.population += 1000
    largest.save()

    country = Country.objects.get(code="GB")
    country.code = "UK"
    country.save()

    old = rekeyed.geonameid
    rekeyed.geonameid = 90_000_000
    rekeyed.save()

    harbour = Tag.objects.create(name="harbour")
    for city in linked:
        city.tags.add(harbour)
    capital = Tag.objects.get(name="capital").cities.order_by("-population").first()
    if capital:
        capital.tags.remove(Tag.objects.get(name="capital"))

    for city in linked[:3]:
        Visit.objects.create(city=city, day=DAY, remark="seen by the office")

    for city in smallest:
        city.delete()

    return [
        f"{len(counted)} cities have a new population",
        f"{largest}: population {largest.population - 1000} → {largest.population}",
        f"{country}: code GB → UK, to which {country.cities.count()} cities point",
        f"{rekeyed}: geonameid {old} → {rekeyed.geonameid}",
        f"new tag {harbour} on {len(linked)} cities" + (f"; {capital} is no longer tagged capital" if capital else ""),
        "3 visits",
        f"{len(smallest)} cities deleted",
    ]


def hq():
    largest = by_size(0, 1).get()
    british = Country.objects.get(code="GB").cities.order_by("-population").first()
    renamed = list(by_size(10, 30))
    linked = list(by_size(25, 45))
    state = State.objects.get(code="AL")
    counties = County.objects.filter(state=state).count()
    language = Language.objects.get(code="haw")
    speakers = language.countries.count()
    ireland, iceland = Country.objects.get(code="IE"), Country.objects.get(code="IS")

    for city in renamed:
        city.alternate_names = [*city.alternate_names, city.name.upper()]
        city.save()

    largest.name = f"{largest.name} (surveyed)"
    largest.save()

    if british:
        british.timezone = "Europe/Greenwich"
        british.save()

    harbour = Tag.objects.create(name="harbour")
    for city in linked:
        city.tags.add(harbour)
    ireland.neighbours.add(iceland)
    ireland.neighbours.remove(Country.objects.get(code="GB"))

    for city in linked[:2]:
        Visit.objects.create(city=city, day=DAY, remark="seen by headquarters")

    state.delete()
    language.delete()

    return [
        f"{len(renamed)} cities have another name among their alternate names",
        f"{largest}: name (the office changed its population: a conflict)",
        *([f"{british}: timezone, while the office renames its country"] if british else []),
        f"new tag {harbour} too, on {len(linked)} cities: born on both sides, it has to become one",
        f"{ireland} and {iceland} are neighbours, {ireland} and GB no longer",
        "2 visits",
        f"{state} deleted, and {counties} counties with it",
        f"language {language} deleted, and {speakers} link with it",
    ]
