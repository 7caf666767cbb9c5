"""SYNCHRO_REDACT where the one who is not told meets two who are, and is quicker than they are."""

import pytest
from django.test import override_settings

from synchro import WITHHELD
from synchro.models import Conflict
from tests.app.deploy import at, take, write
from tests.project.shop.models import Note

pytestmark = pytest.mark.django_db(databases=["default", "hq", "ship"])
SECRET = "SENTINEL-7f3a"
NAMES = {"default": "office", "hq": "hq", "ship": "ship"}


def carry(source, target, **options):
    """A bundle from *source*, for *target*; *office* and *hq* both withhold the text of notes from *ship*."""
    with override_settings(SYNCHRO_REDACT={} if source == "ship" else {"ship": {"shop.note": {"text": WITHHELD}}}):
        data, _report = write(source, to=NAMES[target], **options)
    if data is not None:
        with override_settings(SYNCHRO_REDACT={} if target == "ship" else {"ship": {"shop.note": {"text": WITHHELD}}}):
            take(data, target)


def everywhere():
    for _ in range(2):
        for source, target in (
            ("default", "hq"),
            ("hq", "default"),
            ("default", "ship"),
            ("ship", "hq"),
            ("hq", "ship"),
        ):
            carry(source, target, acknowledge=True)


def survives(value):
    kept = [at(Note, alias).get().text for alias in ("default", "hq")]
    recorded = [
        each for alias in ("default", "hq") for each in Conflict.objects.using(alias).values_list("local", "incoming")
    ]
    assert kept == [value, value] or value in str(recorded), (kept, recorded)


def test_an_object_that_comes_through_the_redacted_one_first_is_not_emptied_where_it_was_made():
    at(Note, "default").create(char="x", text=SECRET)
    carry("default", "ship")
    carry("ship", "hq")  # before the bundle of the office gets there
    everywhere()
    survives(SECRET)


def test_an_edit_that_comes_through_the_redacted_one_first_is_not_taken_back():
    at(Note, "default").create(char="x", text="old")
    everywhere()
    note = at(Note, "default").get()
    note.text = SECRET
    note.save(using="default")
    carry("default", "ship")
    carry("ship", "hq")
    everywhere()
    survives(SECRET)


def test_an_edit_by_the_redacted_one_of_what_is_not_there_yet_does_not_empty_it():
    at(Note, "default").create(char="x", text=SECRET)
    carry("default", "ship")
    note = at(Note, "ship").get()
    note.char = "edited"
    note.save(using="ship")
    carry("ship", "hq")
    everywhere()
    survives(SECRET)
