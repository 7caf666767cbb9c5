"""What was logged, or arrives, under another schema than this deployment's."""

import re

import orjson
import pytest
from django.contrib.auth import get_user_model

from synchro import export_bundle, registry
from synchro.models import ChangeLog, Held
from synchro.seal import seal
from tests.app.deploy import brought, carry, forged, lines, records, take, write
from tests.project.shop.models import Country, Note, Parcel, Person, Tag

pytestmark = pytest.mark.django_db(databases=["default", "hq", "ship"])

UUID = "11111111-1111-1111-1111-111111111111"


def of_version_2(header, _found):
    header["models"]["shop.note"]["version"] = 2


@pytest.fixture
def newer():
    """A bundle with a note of version 2, where this project has version 1."""
    Note.objects.create(char="means something else by now")
    return forged(write()[0], of_version_2)


def test_a_held_change_of_a_newer_version_waits_whoever_sends_next(newer):
    assert brought(take(newer)) == {"held": 1}
    Tag.objects.using("ship").create(name="other")
    assert brought(carry("ship", "hq")) == {"added": 1, "held": 1}
    assert not Note.objects.using("hq").exists()
    assert "version 2" in Held.objects.using("hq").get().reason


def test_it_goes_in_when_this_deployment_has_that_version(newer, monkeypatch):
    take(newer)
    monkeypatch.setattr(Note, "SYNCHRO_VERSION", 2, raising=False)
    registry.clear_caches()
    try:
        Tag.objects.using("ship").create(name="other")
        assert not brought(carry("ship", "hq")).get("held")
    finally:
        monkeypatch.undo()
        registry.clear_caches()
    assert Note.objects.using("hq").count() == 1


def test_a_relay_says_of_which_version_it_is(newer):
    take(newer)
    data, _ = write("hq")
    assert lines(data)[0]["models"]["shop.note"]["versions"].keys() == {"2"}
    assert records(data)[0]["version"] == 2
    assert brought(take(data, "ship")) == {"held": 1}
    assert records(write("ship")[0])[0]["version"] == 2


def test_a_range_without_such_changes_is_of_our_version(newer):
    take(newer)
    Note.objects.using("hq").create(char="ours")
    data, _ = write("hq", since=1)
    assert lines(data)[0]["models"]["shop.note"]["version"] == 1


def test_a_version_far_beyond_ours_is_a_newer_one():
    Note.objects.create(char="a")

    def beyond(header, _found):
        header["models"]["shop.note"]["version"] = 2**40

    assert brought(take(forged(write()[0], beyond))) == {"held": 1}


def logged_with_another_kind_of_key():
    """A parcel whose sender was logged when senders still had UUIDs."""
    Parcel.objects.create(code="a", sender=Person.objects.create(name="x"))
    entry = ChangeLog.objects.get(model="shop.parcel")
    entry.payload = re.sub(r'"sender":\d+', f'"sender":"{UUID}"', entry.payload)
    assert UUID in entry.payload
    entry.save()


def test_a_foreign_key_that_no_longer_fits_its_field_does_not_stop_sealing():
    logged_with_another_kind_of_key()
    assert seal("default").seq == 2


def test_it_is_carried_as_it_is():
    logged_with_another_kind_of_key()
    parcel = next(r for r in records(write()[0]) if r["model"] == "shop.parcel")
    assert parcel["fields"]["sender"] == UUID
    assert "sender" not in parcel["refs"]


# --- what was logged before the project changed -----------------------------------------------------------------------


def logged_with(label="shop.country", **more):
    """The only change of a country is logged with *more* fields than its model has now, under *label*."""
    Country.objects.create(code="PL", name="Poland")
    row = ChangeLog.objects.get()
    row.model = row.root = label
    row.payload = orjson.dumps({**orjson.loads(row.payload), **more}).decode()
    row.save()


@pytest.mark.parametrize("as_file", [True, False])
def test_a_field_that_is_gone_is_carried_and_named_in_the_header(as_file, tmp_path):
    logged_with(capital="Warszawa")
    data = (tmp_path / "b.zst").read_bytes() if as_file and export_bundle(tmp_path / "b.zst") else write()[0]
    header, record, _ = lines(data)
    assert record["fields"]["capital"] == "Warszawa"
    assert header["models"]["shop.country"]["fields"]["capital"] == "unknown"
    assert "capital" in take(data).held_changes[0].reason
    assert write(since=0)[0] == data  # the same range is the same file


def test_a_model_that_is_gone_is_carried():
    logged_with("shop.land")
    data, _ = write()
    assert records(data)[0]["fields"] == {"code": "PL", "name": "Poland"}
    assert take(data).held == 1


def test_a_link_field_that_is_gone_is_carried():
    person, tag = Person.objects.create(name="Ann"), Tag.objects.create(name="t")
    person.tags.add(tag)
    ChangeLog.objects.filter(action="link").update(link=f"marks:{tag.pk}")
    data, _ = write()
    assert [record["field"] for record in records(data) if record["action"] == "link"] == ["marks"]
    assert brought(take(data)) == {"added": 2, "held": 1}


def test_a_field_that_is_skipped_by_now_stays_here(settings):
    Country.objects.create(code="PL", name="Poland")
    settings.SYNCHRO_SKIP_FIELDS = {"shop.country": ["name"]}
    data, _ = write()
    assert records(data)[0]["fields"] == {"code": "PL"}
    assert brought(take(data)) == {"added": 1}


def test_the_rights_of_users_that_are_not_tracked_any_more_stay_here(settings):
    settings.SYNCHRO_MODELS = ("shop", ("auth", "user"))
    get_user_model().objects.create_user("ann", password="secret")
    settings.SYNCHRO_MODELS = ("shop",)
    (record,) = records(write()[0])
    assert record["fields"]["username"] == "ann"
    assert not {"password", "is_staff", "is_superuser", "last_login"} & set(record["fields"])
