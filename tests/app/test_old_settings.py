"""`synchro.settings` as 0.2 to 0.7 had it: read, assigned, patched, reloaded; and a REMOTE that is no database."""

import importlib
import io
import os
import subprocess
import sys
from unittest import mock

import pytest
from django.contrib import admin
from django.core.exceptions import ImproperlyConfigured
from django.core.management import CommandError, call_command
from django.test import override_settings
from django.urls import include, path

from synchro import call_synchronize, settings, synchronizing
from synchro.models import ChangeLog
from tests.project.plain.models import Color
from tests.project.shop.models import Club, Membership, Person, Tag

urlpatterns = [path("admin/", admin.site.urls), path("synchro/", include("synchro.urls", "synchro"))]
pytestmark = [pytest.mark.django_db(databases=["default", "hq", "ship"]), pytest.mark.urls(__name__)]


@pytest.fixture(autouse=True)
def nothing_stays_assigned():
    yield
    for name in settings.__all__:
        if name in vars(settings):
            delattr(settings, name)


def says(**options):
    out = io.StringIO()
    call_command("synchronize", stdout=out, **options)
    return out.getvalue().strip()


# --- a REMOTE that is no database -------------------------------------------------------------------------------------


@override_settings(SYNCHRO_REMOTE="nowhere")
@pytest.mark.parametrize("act", [lambda: settings.REMOTE, says, call_synchronize, lambda: says(skip_checks=False)])
def test_a_remote_that_is_no_database_is_improperly_configured(act):
    with pytest.raises(ImproperlyConfigured, match="SYNCHRO_REMOTE is 'nowhere', but DATABASES has no such alias"):
        act()


def test_reloading_says_what_the_settings_are():
    with override_settings(SYNCHRO_REMOTE="nowhere"), pytest.raises(ImproperlyConfigured, match="nowhere"):
        importlib.reload(settings)
    with override_settings(SYNCHRO_REMOTE="hq"):
        assert importlib.reload(settings).REMOTE == "hq"
    with override_settings():
        del importlib.import_module("django.conf").settings.SYNCHRO_REMOTE
        with pytest.warns(RuntimeWarning, match="SYNCHRO_REMOTE is not set"):
            importlib.reload(settings)
    settings.REMOTE = "ship"
    assert importlib.reload(settings).REMOTE is None


@pytest.mark.parametrize("arguments", [["check"], ["synchronize"], ["synchro_status"]])
def test_a_project_whose_remote_is_no_database_does_not_start(tmp_path, arguments):
    (tmp_path / "wrong_settings.py").write_text("from tests.project.settings import *\nSYNCHRO_REMOTE = 'nowhere'\n")
    ended = subprocess.run(
        [sys.executable, "-m", "django", *arguments],
        env={
            **os.environ,
            "DJANGO_SETTINGS_MODULE": "wrong_settings",
            "PYTHONPATH": os.pathsep.join([str(tmp_path), *sys.path]),
        },
        check=False,
        capture_output=True,
        text=True,
    )
    assert ended.returncode == 1
    assert ended.stderr.rstrip().endswith(
        "django.core.exceptions.ImproperlyConfigured: SYNCHRO_REMOTE is 'nowhere', but DATABASES has no such alias."
    )


# --- assigned ---------------------------------------------------------------------------------------------------------


def test_remote_can_be_assigned():
    Tag.objects.create(name="a")
    settings.REMOTE = "hq"
    assert settings.REMOTE == "hq"
    assert says() == "Synchronization performed successfully."
    assert Tag.objects.using("hq").exists()
    settings.REMOTE = "ship"
    assert says() == "Synchronization performed successfully."
    assert Tag.objects.using("ship").exists()
    settings.REMOTE = "nowhere"
    with pytest.raises(ImproperlyConfigured, match="nowhere"):
        says()


@override_settings(SYNCHRO_REMOTE="hq")
def test_remote_can_be_taken_away():
    settings.REMOTE = None
    assert settings.REMOTE is None
    with pytest.raises(CommandError, match="No REMOTE database specified in settings"):
        says()
    del settings.REMOTE
    assert settings.REMOTE == "hq"
    assert says() == "No changes since last synchronization."


def test_patches_are_undone(monkeypatch):
    with mock.patch.object(settings, "REMOTE", "hq"):
        assert settings.REMOTE == "hq"
        with mock.patch("synchro.settings.REMOTE", "ship"):
            assert settings.REMOTE == "ship"
        assert settings.REMOTE == "hq"
    with monkeypatch.context() as patch:
        patch.setattr(settings, "REMOTE", "hq")
        assert settings.REMOTE == "hq"
    before = settings.REMOTE
    settings.REMOTE = "hq"
    settings.REMOTE = before
    with override_settings(SYNCHRO_REMOTE="hq"):
        assert settings.REMOTE == "hq"


def test_a_setting_that_changes_later_counts():
    settings.REMOTE = "hq"
    with override_settings(SYNCHRO_REMOTE="ship"):
        assert settings.REMOTE == "ship"
    assert settings.REMOTE is None


def test_the_buttons_of_the_page(client, admin_user):
    client.force_login(admin_user)
    settings.REMOTE, settings.ALLOW_RESET = "hq", False
    text = client.get("/synchro/").content.decode()
    assert 'name="synchro"' in text
    assert 'name="reset"' not in text
    settings.REMOTE, settings.ALLOW_RESET = None, True
    text = client.get("/synchro/").content.decode()
    assert 'name="synchro"' not in text
    assert 'name="reset"' in text


def test_debug_can_be_assigned(client, admin_user, monkeypatch):
    def fail(**kwargs):
        raise ValueError("broken")

    client.force_login(admin_user)
    monkeypatch.setattr("synchro.admin.synchronization.synchronize", fail)
    assert client.post("/synchro/", {"synchro": ""}).status_code == 302
    settings.DEBUG = True
    with pytest.raises(ValueError, match="broken"):
        client.post("/synchro/", {"synchro": ""})


def test_models_can_be_assigned():
    settings.MODELS = [Color]
    assert [Color] == settings.MODELS
    Tag.objects.create(name="a")
    color = Color.objects.create(name="red")
    assert [(each.model, each.pk_text) for each in ChangeLog.objects.all()] == [("plain.color", str(color.pk))]
    del settings.MODELS
    assert Tag in settings.MODELS
    Tag.objects.create(name="b")
    assert ChangeLog.objects.filter(model="shop.tag").count() == 1


def test_intermediaries_can_be_assigned():
    club, person = Club.objects.create(name="c"), Person.objects.create(name="p")
    settings.INTER_MODELS = {}
    club.members.add(person)
    assert not ChangeLog.objects.filter(model="shop.membership").exists()
    del settings.INTER_MODELS
    assert Membership in settings.INTER_MODELS
    club.members.add(Person.objects.create(name="q"))
    assert ChangeLog.objects.filter(model="shop.membership").count() == 1


def test_local_can_be_assigned():
    Tag.objects.using("ship").create(name="of the ship")
    settings.REMOTE, settings.LOCAL = "hq", "ship"
    assert call_synchronize() == "Synchronization performed successfully."
    assert says() == "No changes since last synchronization."
    assert Tag.objects.using("hq").get().name == "of the ship"
    assert not Tag.objects.exists()
    assert synchronizing.synchronize() is None


def test_the_actions():
    from synchro.models import ACTIONS, ADDITION, CHANGE, DELETION, M2M_CHANGE

    tag = Tag.objects.create(name="a")
    tag.save()
    person = Person.objects.create(name="p")
    person.tags.add(tag)
    person.tags.clear()
    tag.delete()
    of_tags = ChangeLog.objects.filter(model="shop.tag").order_by("pk")
    assert [each.action for each in of_tags] == [ADDITION, CHANGE, DELETION]
    assert ChangeLog.objects.get(action=M2M_CHANGE).model == "shop.person"
    assert {ADDITION, CHANGE, DELETION, M2M_CHANGE} <= dict(ACTIONS).keys()
