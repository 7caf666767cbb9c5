"""Passwords and rights travel only with models that are tracked themselves."""

import pytest
from django.contrib.auth.models import Group, Permission, User
from django.test import override_settings

from synchro import registry
from synchro.errors import HeldError
from tests.app.deploy import at, brought, carry, forged, records, take, write
from tests.project.plain.models import Clerk, Room
from tests.project.shop.models import Person

pytestmark = pytest.mark.django_db(databases=["default", "hq", "ship"])
HQ = "hq"


def tracking(*models):
    return override_settings(SYNCHRO_MODELS=[*models])


def boss(kind=User, **values):
    user = kind.objects.create_user("boss", password="secret", is_superuser=True, is_staff=True, **values)
    user.groups.add(Group.objects.create(name="admins"))
    user.user_permissions.add(Permission.objects.first())
    return user


def test_an_account_that_is_tracked_travels_whole():
    with tracking(("auth", "user", "group", "permission")):
        boss()
        carry()
    there = at(User).get()
    assert (there.is_superuser, there.is_staff, there.check_password("secret")) == (True, True, True)
    assert there.groups.get().name == "admins"
    assert there.user_permissions.count() == 1


def test_what_a_tracked_child_has_from_an_account_that_is_not_tracked_stays_at_home():
    with tracking(("plain", "clerk")):
        clerk = boss(Clerk, desk="7", first_name="Ann")
        found, _ = write()
        carry()
        there = at(Clerk).get()
        assert (there.username, there.first_name, there.desk) == ("boss", "Ann", "7")
        assert (there.is_superuser, there.is_staff, there.has_usable_password()) == (False, False, False)
        assert (there.groups.count(), there.user_permissions.count()) == (0, 0)
        assert not {"password", "is_superuser"} & {name for record in records(found) for name in record["fields"]}
        assert {record["action"] for record in records(found)} <= {"add", "change"}
        # What the receiver gave stays with it.
        there.set_password("of hq")
        there.is_staff = True
        there.save(using=HQ)
        clerk.first_name = "Anna"
        clerk.save()
        carry()
    there = at(Clerk).get()
    assert (there.first_name, there.is_staff, there.check_password("of hq")) == ("Anna", True, True)


def test_what_somebody_else_says_of_it_all_the_same_has_no_effect():
    """A bundle of a sender that tracks accounts, or of one who makes it say so."""
    with tracking(("plain", "clerk")):
        boss(Clerk)
        data, _ = write()

        def edit(header, found):
            for record in found:
                record["fields"].update(is_superuser=True, is_staff=True, password="x")
            for name in ("is_superuser", "is_staff", "password"):
                header["models"]["plain.clerk"]["fields"][name] = "Field"
                header["models"]["plain.clerk"]["skipped"] = []

        take(forged(data, edit))
    there = at(Clerk).get()
    assert (there.is_superuser, there.is_staff, there.has_usable_password()) == (False, False, False)


@pytest.mark.parametrize("label", ["plain.clerk", "auth.user"])
def test_nobody_joins_a_group_by_a_link_of_an_account_that_is_not_tracked(label):
    Group.objects.using(HQ).create(name="admins")
    with tracking(("plain", "clerk"), ("shop", "person")):
        boss(Clerk)
        person = Person.objects.create(name="p")
        person.tags.create(name="t")
        data, _ = write()

        def edit(header, found):
            account = next(record for record in found if record["model"] == "plain.clerk")
            link = next(record for record in found if record.get("action") == "link")
            header["models"][label] = {**header["models"]["plain.clerk"], "links": {"groups": "auth.group"}}
            target = {"model": "auth.group", "id": f"{header['node']['id']}/1", "key": ["admins"]}
            link.update(model=label, id=account["id"], key=None, field="groups", target=target)

        report = take(forged(data, edit))
    assert brought(report)["added"] >= 2
    assert at(Clerk).get().groups.count() == 0


def test_groups_and_permissions_are_found_and_never_made():
    with tracking(("plain", "room")):
        room = Room.objects.create(name="r", group=Group.objects.create(name="doctors"))
        room.permissions.add(Permission.objects.get(codename="add_user"))
        data, _ = write()
        with pytest.raises(HeldError, match=r"auth\.group .* is not here, and no bundle makes one"):
            take(data, strict=True)
        report = take(data)
        assert "since rights hang on it and auth.group is not tracked" in report.held_changes[0].reason
        assert not at(Group).exists()
        Group.objects.using(HQ).create(name="doctors")
        Room.objects.create(name="other")
        carry()
    there = at(Room).get(name="r")
    assert there.group.name == "doctors"
    assert there.permissions.get().codename == "add_user"


def test_a_permission_that_somebody_makes_up_is_not_made():
    before = set(at(Permission).values_list("codename", flat=True))
    with tracking(("plain", "room")):
        room = Room.objects.create(name="r")
        room.permissions.add(Permission.objects.get(codename="add_user"))
        data, _ = write()

        def edit(header, found):
            for record in found:
                if record["model"] == "auth.permission":
                    record["fields"]["codename"] = "become_god"
                    record["key"] = ["become_god", *record["key"][1:]]
                elif record.get("field") == "permissions":
                    record["target"]["key"] = None

        report = take(forged(data, edit))
    assert report.held == 1
    assert set(at(Permission).values_list("codename", flat=True)) == before


def test_what_rights_hang_on_is_tracked_where_it_is_named():
    with tracking("auth", ("plain", "room")):
        assert not registry.gives_rights(Group)
        Room.objects.create(name="r", group=Group.objects.create(name="doctors"))
        carry()
    assert at(Room).get().group.name == "doctors"
