"""SYNCHRO_ACCEPT: what the changes of a node may be about."""

import pytest
from django.test import override_settings

from synchro.errors import HeldError
from tests.app.deploy import at, brought, carry, take, write
from tests.project.plain.models import Color
from tests.project.shop.models import Car, Country, Tag

pytestmark = pytest.mark.django_db(databases=["default", "hq", "ship"])
HQ = "hq"


@pytest.fixture
def bundle():
    """A tag and a country of the office."""
    Tag.objects.create(name="a")
    Country.objects.create(code="PL")
    return write(to=HQ)[0]


def test_everything_is_accepted_from_everybody_unless_it_is_set(bundle):
    assert brought(take(bundle)) == {"added": 2}


def test_what_is_not_accepted_is_held_by_name_and_refused_when_strict(bundle):
    with override_settings(SYNCHRO_ACCEPT={"office": [("shop", "tag")]}):
        with pytest.raises(HeldError, match=r"shop\.country is not accepted from office-[0-9a-f]{8}: SYNCHRO_ACCEPT"):
            take(bundle, strict=True)
        report = take(bundle)
        assert brought(report) == {"added": 1, "held": 1}
        assert "not accepted" in report.held_changes[0].reason
    assert at(Tag).exists()
    assert not at(Country).exists()


def test_what_was_held_goes_in_once_it_is_accepted(bundle):
    with override_settings(SYNCHRO_ACCEPT={"office": []}):
        assert brought(take(bundle)) == {"held": 2}
    Tag.objects.create(name="b")
    with override_settings(SYNCHRO_ACCEPT={"office": ["shop"]}):
        assert brought(carry()) == {"added": 3}


def test_a_star_is_everybody_else(bundle):
    with override_settings(SYNCHRO_ACCEPT={"ship": ["shop"], "*": [("shop", "country")]}):
        assert brought(take(bundle)) == {"added": 1, "held": 1}
    assert at(Country).exists()


def test_a_relayed_change_is_accepted_by_who_made_it(bundle):
    take(bundle)
    onward, _ = write(HQ, to="ship")
    with override_settings(SYNCHRO_ACCEPT={HQ: ["shop"]}):
        assert brought(take(onward, "ship")) == {"held": 2}
    with override_settings(SYNCHRO_ACCEPT={"office": ["shop"]}):
        Tag.objects.using(HQ).create(name="of hq")
        assert brought(carry(HQ, "ship")) == {"added": 2, "held": 1}


def test_rows_of_models_that_are_not_tracked_come_only_with_what_points_to_them():
    Car.objects.create(plate="1", color=Color.objects.create(name="red"))
    Tag.objects.create(name="a")
    data, _ = write()
    with override_settings(SYNCHRO_ACCEPT={"office": [("shop", "tag")]}):
        assert brought(take(data)) == {"added": 1, "held": 1}
    assert not at(Color).exists()
    with override_settings(SYNCHRO_ACCEPT={"office": [("shop", "car")]}):
        assert brought(take(data, "ship")) == {"added": 1, "held": 1, "objects": 1}
    assert at(Color, "ship").exists()
