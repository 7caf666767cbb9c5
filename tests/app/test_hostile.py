"""Well-formed bundles that ask for more than they may, or say what no row can hold."""

import pytest
from django.contrib.auth.models import User
from django.db import connections
from django.db.models import signals
from django.test import override_settings

from changelog_format import BundleError
from synchro import serialize
from synchro.errors import ForkError, HeldError
from synchro.models import Version
from synchro.signals import bundle_imported
from tests.app.deploy import assert_same, brought, carry, forged, take, unchanged, write
from tests.format.wrong_types import bundle_with, places
from tests.project.plain.models import Color
from tests.project.shop.models import Car, Device, Note, Parcel, Person, Place, Profile, Restaurant, Stamp, Tag

pytestmark = pytest.mark.django_db(databases=["default", "hq", "ship"])
HQ = "hq"


def at(model, using=HQ):
    return model._base_manager.using(using)


@pytest.fixture
def listened():
    """Somebody listens to parcels and devices, so that they are saved one by one."""

    def receiver(**kwargs):
        pass

    for model in (Parcel, Device):
        signals.post_save.connect(receiver, sender=model)
    yield
    for model in (Parcel, Device):
        signals.post_save.disconnect(receiver, sender=model)


def test_handlers_keep_primary_keys_that_are_not_automatic(listened):
    for code in "abc":
        Parcel.objects.create(code=code)
    devices = {Device.objects.create(name=name).pk for name in "ab"}
    carry()
    assert sorted(at(Parcel).values_list("code", flat=True)) == ["a", "b", "c"]
    assert set(at(Device).values_list("pk", flat=True)) == devices
    assert_same("default", HQ)


def test_an_account_that_is_pointed_to_gets_neither_password_nor_rights():
    with override_settings(SYNCHRO_MODELS=[("admin", "logentry")]):
        from django.contrib.admin.models import LogEntry

        user = User.objects.create_user("eve")
        LogEntry.objects.create(user=user, action_flag=1, object_repr="x")
        data, _ = write()

        def edit(header, found):
            header["models"]["auth.user"]["fields"].update(
                password="CharField", is_superuser="BooleanField", is_staff="BooleanField"
            )
            account = next(record for record in found if record["type"] == "object" and record["model"] == "auth.user")
            account["fields"].update(password=user.password, is_superuser=True, is_staff=True)

        take(forged(data, edit))
    eve = at(User).get(username="eve")
    assert (eve.is_superuser, eve.is_staff, eve.has_usable_password()) == (False, False, False)


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("integer", {"$int": str(2**70)}),
        ("big", {"$int": str(-(2**70))}),
        ("price", "99999999999999999999"),
        ("price", "1E+400"),
        ("moment", "9999-12-31T23:59:59-23:59"),
        ("day", "2026-02-30"),
        ("uid", "no uuid"),
        ("ip", "zzz"),
        ("file", "../../etc/passwd"),
        ("file", "/etc/passwd"),
        ("char", {"$utf16": "2AA="}),
        ("length", 5),
        ("done", "yes"),
        ("blob", "text"),
    ],
)
def test_a_value_that_no_row_can_hold_holds_its_record_alone(field, value):
    Note.objects.create(char="good")
    Note.objects.create(char="bad")
    data, _ = write()

    def edit(header, found):
        found[1]["fields"][field] = value

    report = take(forged(data, edit))
    if field == "ip" and not report.held:  # SQLite keeps any text
        assert at(Note).count() == 2
        return
    assert (report.added, report.held) == (1, 1)
    assert "shop.note" in report.held_changes[0].reason
    assert [note.char for note in at(Note).all()] == ["good"]


def test_a_squash_that_claims_every_position_makes_nothing_known():
    Tag.objects.create(name="a")
    data, _ = write()

    def edit(header, found):
        header["mode"] = "squash"
        header["range"]["to"]["seq"] = 2**62

    take(forged(data, edit))
    Tag.objects.create(name="b")
    assert take(write()[0]).added == 1


def test_a_bundle_does_not_choose_our_next_primary_key():
    Tag.objects.using(HQ).create(name="ours")
    carry(HQ, "default")
    Person.objects.create(name="theirs")
    data, _ = write()
    ident = Version.objects.using(HQ).get(link="", root="shop.tag").node.ident

    def edit(header, found):
        person = next(record for record in found if record["model"] == "shop.person")
        person["id"] = f"{ident}/{2**63 - 1}"

    report = take(forged(data, edit))
    assert "does not know" in report.held_changes[0].reason
    Person.objects.using(HQ).create(name="next")
    assert at(Person).get().pk < 2**62


def test_strict_does_not_mind_what_was_held_before():
    Tag.objects.create(name="a")
    data, _ = write()

    def edit(header, found):
        header["models"]["shop.nosuch"] = header["models"]["shop.tag"]
        found[0]["model"] = "shop.nosuch"

    bad = forged(data, edit)
    with pytest.raises(HeldError):
        take(bad, strict=True)
    take(bad)
    Tag.objects.create(name="b")
    report = take(write()[0], strict=True)
    assert (report.added, report.held) == (1, 1)


def test_a_row_that_is_overwritten_by_a_revived_one_is_kept_in_a_conflict():
    tag = Tag.objects.create(name="a")
    carry()
    tag.delete()
    carry()
    Tag.objects.create(name="a", pk=tag.pk)
    from synchro import DisableSynchroLog

    with DisableSynchroLog():
        Tag.objects.using(HQ).create(name="a")
    report = carry()
    assert (report.held, at(Tag).count()) == (0, 1)


def test_a_link_between_two_new_people_is_named_as_we_name_it():
    with override_settings(SYNCHRO_MODELS=[("shop", "person")]):
        Person.objects.using(HQ).create(name="takes the first number")
        second = Person.objects.create(name="b")
        first = Person.objects.create(name="a")
        first.friends.add(second)
        carry()
        mine = at(Person).get(name="a")
        mine.friends.remove(at(Person).get(name="b"))
        report = carry(HQ, "default")
    assert brought(report).get("conflicts", 0) == 0
    assert not first.friends.exists()


def test_an_object_record_of_a_model_that_is_tracked_here_gets_a_history():
    Car.objects.create(plate="1", color=Color.objects.create(name="red"))
    data, _ = write()
    with override_settings(SYNCHRO_MODELS=["shop", "plain"]):
        take(data)
        carry(HQ, "ship")
    assert at(Car, "ship").get().color.name == "red"


def test_a_multi_table_parent_that_is_not_tracked_is_not_written():
    place = Place.objects.create(name="theirs")
    data, _ = write()
    with override_settings(SYNCHRO_MODELS=[("shop", "restaurant")]):
        report = take(data)
        assert (report.added, report.held) == (0, 1)
    assert place.name == "theirs"
    assert not at(Place).exists()
    assert not at(Restaurant).exists()


def test_a_receiver_that_fails_does_not_make_an_import_look_undone(caplog):
    def receiver(**kwargs):
        raise RuntimeError("mine")

    Stamp.objects.create(name="a")
    data, _ = write()
    bundle_imported.connect(receiver)
    try:
        assert take(data).added == 1
    finally:
        bundle_imported.disconnect(receiver)
    assert "receiver" in caplog.text


@pytest.mark.skipif(connections[HQ].vendor != "sqlite", reason="it ends before the database is asked: one will do")
def test_nothing_of_a_wrong_type_in_any_place_reaches_the_database():
    Tag.objects.create(name="a")
    carry()
    tried = 0
    with unchanged(HQ):
        for path, value in places():
            with pytest.raises(BundleError):
                take(bundle_with(path, value))
            tried += 1
    assert tried > 800


# Found by tools/fuzz importer.


def test_a_new_object_whose_primary_key_is_missing_is_held():
    person = Person.objects.create(name="p")
    Profile.objects.create(person=person, bio="b")
    data, _ = write()

    def edit(header, found):
        record = next(record for record in found if record["model"] == "shop.profile")
        del record["fields"]["person"]
        record["id"] = f"{header['node']['id']}/77"
        record["key"] = None

    report = take(forged(data, edit))
    assert report.held == 1
    assert "person, its primary key" in report.held_changes[0].reason
    assert not at(Profile).exists()


@pytest.mark.parametrize("chunk", [500, 1])
def test_one_position_with_two_dates_in_one_bundle_is_a_fork(chunk, monkeypatch):
    monkeypatch.setattr(serialize, "CHUNK", chunk)
    Tag.objects.using("ship").create(name="a")
    Tag.objects.using("ship").create(name="b")
    carry("ship", "default")
    data, _ = write()

    def edit(header, found):
        found[1]["origin"] = found[0]["origin"]

    with unchanged(HQ), pytest.raises(ForkError, match="two different changes claim one position"):
        take(forged(data, edit))
