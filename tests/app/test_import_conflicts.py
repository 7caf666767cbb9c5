"""Two versions of one object: who wins, and what is written down about it."""

import datetime as dt
import json

import pytest
from django.test import override_settings

from synchro import reset_synchro
from synchro.errors import ConflictError
from synchro.models import Conflict
from tests.app.deploy import (
    assert_same,
    at,
    brought,
    carry,
    rolled_back,
    take,
    unchanged,
    write,
)
from tests.project.shop.models import (
    Country,
    Note,
    Parcel,
    Person,
    Tag,
)

pytestmark = pytest.mark.django_db(databases=["default", "hq", "ship"])
HQ = "hq"
MOMENT = dt.datetime(2026, 1, 2, 3, 4, 5, 678, tzinfo=dt.UTC)


def edited_on_both_sides():
    """The same tag, edited first here at the office, then at hq: hq's edit is the newer one."""
    country = Country.objects.create(code="PL", name="old")
    carry()
    country.name = "office"
    country.save()
    data, _ = write(to=HQ)
    mine = at(Country).get()
    mine.name = "hq"
    mine.save()
    return data


@pytest.mark.parametrize(
    ("policy", "winner"), [(None, "hq"), ("newest", "hq"), ("local", "hq"), ("incoming", "office")]
)
def test_a_conflict_is_decided_by_the_policy_and_recorded_with_both_versions(policy, winner):
    report = take(edited_on_both_sides(), on_conflict=policy)
    assert at(Country).get().name == winner
    assert (report.conflicts, report.stale, report.held) == (1, 0, 0)
    found = Conflict.objects.using(HQ).get()
    assert (found.model, found.kind, found.winner, found.policy, found.key) == (
        "shop.country",
        "object",
        "incoming" if winner == "office" else "local",
        policy or "newest",
        '["PL"]',
    )
    local, incoming = json.loads(found.local), json.loads(found.incoming)
    assert (local["fields"]["name"], incoming["fields"]["name"]) == ("hq", "office")
    assert local["node"].startswith("hq-")
    assert incoming["node"].startswith("office-")
    assert local["date"] > incoming["date"]


def test_fail_refuses_with_the_object_named():
    data = edited_on_both_sides()
    with unchanged(), pytest.raises(ConflictError, match=r"conflict at shop\.country \['PL'\]"):
        take(data, on_conflict="fail")
    with unchanged(), pytest.raises(ConflictError):
        take(data, on_conflict="fail", dry_run=True)
    assert take(data).conflicts == 1


def test_the_policy_of_the_settings_and_of_the_options():
    with rolled_back(), override_settings(SYNCHRO_CONFLICT={"shop.country": "incoming", "*": "fail"}):
        take(edited_on_both_sides())
        assert at(Country).get().name == "office"
    with rolled_back(), override_settings(SYNCHRO_CONFLICT="fail"), pytest.raises(ConflictError):
        take(edited_on_both_sides())


def test_a_change_made_on_top_of_ours_is_no_conflict():
    country = Country.objects.create(code="PL", name="1")
    carry()
    mine = at(Country).get()
    mine.name = "2"
    mine.save()
    carry(HQ, "default")
    country.refresh_from_db()
    country.name = "3"
    country.save()
    assert brought(carry()) == {"already_known": 1, "changed": 1} | {}
    assert not Conflict.objects.using(HQ).exists()


def test_the_same_edit_on_both_sides_is_no_conflict():
    country = Country.objects.create(code="PL", name="1")
    carry()
    for each in (country, at(Country).get()):
        each.name = "same"
        each.save()
    assert brought(carry()) in ({"unchanged": 1}, {"stale": 1})
    assert not Conflict.objects.using(HQ).exists()


def test_a_row_written_past_the_log_is_kept_in_a_conflict_when_it_is_overwritten():
    at(Parcel).bulk_create([Parcel(code="x", weight=1)])
    Parcel.objects.create(code="x", weight=2)
    carry()
    found = Conflict.objects.using(HQ).get()
    assert (found.kind, found.winner) == ("unlogged", "incoming")
    assert json.loads(found.local)["fields"]["weight"] == "1.000"


@pytest.mark.parametrize("then", ["changed", "deleted"])
def test_what_was_written_past_the_log_after_a_reset_is_kept_in_a_conflict(then):
    for code in ("DE", "PL"):
        Country.objects.create(code=code, name="a")
    carry()
    reset_synchro(HQ)
    at(Country).filter(code="PL").update(name="past the log")
    for row in Country.objects.all():
        row.name = "b"
        row.save() if then == "changed" else row.delete()
    assert carry().conflicts == 1
    (found,) = Conflict.objects.using(HQ).all()
    assert (found.kind, found.winner) == ("unlogged", "incoming")
    assert "past the log" in found.local


@pytest.mark.parametrize("logged_by", ["here", "there"])
@pytest.mark.parametrize("then", ["edited", "deleted"])
def test_what_was_written_past_the_log_of_a_logged_row_is_kept_in_a_conflict(logged_by, then):
    person = Person.objects.create(name="p")
    Parcel.objects.create(code="x", weight=1, sender=person)
    carry()
    if logged_by == "here":
        mine = at(Parcel).get()
        mine.weight = 2
        mine.save()
        carry(HQ, "default")
    at(Parcel).update(weight=5)  # past the log, and so without a date
    parcel = Parcel.objects.get()
    if then == "edited":
        parcel.weight = 3
        parcel.save()
    else:
        parcel.delete()
    report = carry()
    assert report.conflicts == 1
    found = Conflict.objects.using(HQ).get()
    assert (found.kind, found.winner) == ("unlogged", "incoming")
    assert json.loads(found.local)["fields"]["weight"] == "5.000"
    carry(HQ, "default")
    assert_same("default", "hq")  # it gained no date by that


def test_rows_that_are_as_they_were_logged_make_no_conflict_when_they_are_overwritten():
    note = Note.objects.create(integer=1, real=0.1, price="1.5", data={"b": [1, None], "a": 1e22}, moment=MOMENT)
    parcel = Parcel.objects.create(code="x", sender=Person.objects.create(name="p"))
    carry()
    note.integer, parcel.weight = 2, 2
    note.save()
    parcel.save()
    assert brought(carry()) == {"changed": 2}


@pytest.mark.parametrize("chunk", [1000, 1])
def test_local_stays_local_against_several_changes_of_one_bundle(monkeypatch, chunk):
    monkeypatch.setattr("synchro.serialize.CHUNK", chunk)
    person = Person.objects.create(name="old")
    tag = Tag.objects.create(name="t")
    person.tags.add(tag)
    carry()
    mine = at(Person).get()
    mine.name = "hq"
    mine.save()
    for name in ("office 1", "office 2"):
        person.name = name
        person.save()
    carry(on_conflict="local")
    assert at(Person).get().name == "hq"
    carry(HQ, "default")
    assert_same("default", "hq")
    assert Person.objects.get().name == "hq"
