"""The settings' forms, and a system check for each way of getting them wrong."""

import os
import subprocess
import sys

import pytest
from django.apps import apps
from django.conf import settings
from django.core.checks import run_checks
from django.core.exceptions import ImproperlyConfigured
from django.db import OperationalError, connections, models, transaction
from django.db.models.signals import m2m_changed, post_save, pre_save
from django.test import override_settings

from synchro import capture, checks, conf, registry
from tests.app.logged import ALIASES, log
from tests.project.odd.models import Leaf, Middle, Ticket, Worker
from tests.project.plain.models import Color
from tests.project.shop.models import City, Country, Membership, Restaurant, Tag

PLAIN = {"Clerk", "Color", "Room"}
pytestmark = pytest.mark.django_db(databases=ALIASES)
SHOP = {
    "Car", "City", "Club", "Country", "Device", "Membership", "Note", "Parcel", "Person", "Place", "Profile",
    "Restaurant", "Stamp", "Tag",
}  # fmt: skip


@pytest.fixture(autouse=True)
def what_was_read_is_forgotten():
    """Set up before monkeypatch, so this comes after it has put things back."""
    yield
    registry.clear_caches()
    capture.connect()


def found():
    return {message.id: message for message in run_checks() if message.id.startswith("synchro.")}


def tracked():
    return {model.__name__ for model in registry.tracked()}


# --- SYNCHRO_MODELS ---------------------------------------------------------------------------------------------------


@pytest.fixture(autouse=True)
def nothing_remembered():
    """Set up before `monkeypatch`, so torn down after it: what was read from patched models is forgotten."""
    yield
    registry.clear_caches()
    capture.connect()


@pytest.mark.parametrize(
    ("entries", "expected"),
    [
        (("shop",), SHOP),
        (["shop"], SHOP),
        ("shop", SHOP),
        (("SHOP",), SHOP),
        (("tests.project.shop",), SHOP),
        (("Tests.Project.Shop",), SHOP),
        ((("shop",),), SHOP),
        ((("shop", "City"),), {"City"}),
        ((("shop", "city", "COUNTRY"),), {"City", "Country"}),
        ([["shop", "City"]], {"City"}),
        ((("tests.project.shop", "City"), "plain"), {"City", *PLAIN}),
        (("shop", ("shop", "City")), SHOP),
        ((("odd", "Worker"),), {"Person"}),
        (("django.contrib.auth",), {"User", "Group", "Permission"}),
        (("synchro", "dbsettings", "plain"), PLAIN),
        ((), set()),
        (None, set()),
    ],
)
def test_the_forms_of_synchro_models(entries, expected):
    with override_settings(SYNCHRO_MODELS=entries):
        assert tracked() == expected
        assert "synchro.E001" not in found()
    assert tracked() == SHOP


def test_unmanaged_and_proxy_models_are_left_out():
    with override_settings(SYNCHRO_MODELS=("odd",)):
        assert "Worker" not in tracked()
        assert "Person" not in tracked()


@pytest.mark.parametrize(
    ("entries", "text"),
    [
        (("nosuch",), "names the app 'nosuch', which is not in INSTALLED_APPS"),
        ((("shop", "Nosuch"),), "names the model 'Nosuch', which the app 'shop' does not have"),
        (("shop", "City"), "names the app 'City'"),
        ((5,), "SYNCHRO_MODELS has 5"),
        (((),), r"SYNCHRO_MODELS has \(\)"),
        ((("shop", 5),), "write an app, or a tuple"),
        (5, "SYNCHRO_MODELS is 5"),
        ({"shop": 1}, "SYNCHRO_MODELS is"),
    ],
)
def test_e001_models_that_make_no_sense(entries, text):
    with override_settings(SYNCHRO_MODELS=entries):
        assert set(found()) == {"synchro.E001"}
        with pytest.raises(ImproperlyConfigured, match=text):
            registry.tracked()


def test_while_the_settings_make_no_sense_nothing_can_be_written():
    """Nobody knows what would have to be logged; and not every server runs the checks."""
    country = Country.objects.create(code="PL")
    with override_settings(SYNCHRO_MODELS=("nosuch",)):
        with pytest.raises(ImproperlyConfigured, match="nosuch"), transaction.atomic():
            country.save()
        with pytest.raises(ImproperlyConfigured, match="nosuch"), transaction.atomic():
            country.delete()
        with pytest.raises(ImproperlyConfigured, match="nosuch"), transaction.atomic():
            Color.objects.create(name="red")
    country.save()
    assert [each.action for each in log()] == ["add", "change"]
    assert not pre_save.has_listeners(Color)
    assert not m2m_changed.has_listeners(Color)


def test_capture_follows_the_settings():
    with override_settings(SYNCHRO_MODELS=("plain",)):
        Color.objects.create(name="red")
        Tag.objects.create(name="t")
        assert [each.model for each in log()] == ["plain.color"]
        assert not post_save.has_listeners(Tag)
    Tag.objects.create(name="u")
    Color.objects.create(name="blue")
    assert [each.model for each in log()] == ["plain.color", "shop.tag"]


# --- what is skipped --------------------------------------------------------------------------------------------------


def fields(model):
    return {field.name for field in registry.spec(model).fields}


def test_the_forms_of_synchro_skip(monkeypatch):
    assert "visits" not in fields(City)
    assert registry.spec(City).skipped == {"visits"}
    for value in ("population", ("population",), ["population"]):
        with override_settings(SYNCHRO_SKIP_FIELDS={"Shop.City": value}):
            assert "population" not in fields(City)
            assert registry.spec(City).skipped == {"visits", "population"}
    monkeypatch.setattr(City, "SYNCHRO_SKIP", "population", raising=False)
    with override_settings(SYNCHRO_SKIP_FIELDS={"shop.city": ("country_id",), "shop.person": ("tags",)}):
        assert registry.spec(City).skipped == {"population", "country_id"}
        assert "country" not in fields(City)
        assert "country" not in registry.spec(City).relations
        assert set(registry.spec(registry.by_label("shop.person")).links) == {"friends"}


def test_skipping_is_inherited(monkeypatch):
    with override_settings(SYNCHRO_MODELS=("odd",)):
        assert "size" in fields(Leaf)
        monkeypatch.setattr(Middle, "SYNCHRO_SKIP", ("size",), raising=False)
        registry.clear_caches()
        assert "size" not in fields(Leaf)


# --- the checks -------------------------------------------------------------------------------------------------------


def test_the_test_project_is_in_order():
    assert found() == {}


@pytest.mark.parametrize(
    ("changed", "ident"),
    [
        ({"SYNCHRO_NODE": "a/b"}, "synchro.E002"),
        ({"SYNCHRO_NODE": "-a"}, "synchro.E002"),
        ({"SYNCHRO_NODE": "a" * 56}, "synchro.E002"),
        ({"SYNCHRO_NODE": 5}, "synchro.E002"),
        ({"SYNCHRO_CONFLICT": "oldest"}, "synchro.E003"),
        ({"SYNCHRO_ACCEPT": ["shop"]}, "synchro.E030"),
        ({"SYNCHRO_ACCEPT": {"hq": "shop"}}, "synchro.E030"),
        ({"SYNCHRO_ACCEPT": {"hq": ["nosuch"]}}, "synchro.E030"),
        ({"SYNCHRO_ACCEPT": {"hq": [("shop", "nosuch")]}}, "synchro.E030"),
        ({"SYNCHRO_CONFLICT": {"shop.city": "oldest"}}, "synchro.E003"),
        ({"SYNCHRO_CONFLICT": 5}, "synchro.E003"),
        ({"SYNCHRO_CONFLICT": ["newest"]}, "synchro.E003"),
        ({"SYNCHRO_SKIP_FIELDS": ["shop.city"]}, "synchro.E004"),
        ({"SYNCHRO_SKIP_FIELDS": {"shop.city": 5}}, "synchro.E004"),
        ({"SYNCHRO_SKIP_FIELDS": {"shop.city": [5]}}, "synchro.E004"),
        ({"SYNCHRO_NATURAL_KEYS": ["shop.city"]}, "synchro.E005"),
        ({"SYNCHRO_NATURAL_KEYS": {"shop.city": 5}}, "synchro.E005"),
        ({"SYNCHRO_APPLY": "bulk"}, "synchro.E006"),
        ({"SYNCHRO_APPLY": {"shop.city": "bulk"}}, "synchro.E006"),
        ({"SYNCHRO_APPLY": ["raw"]}, "synchro.E006"),
        ({"SYNCHRO_SKIP_FIELDS": {"shop.nosuch": "a"}}, "synchro.E009"),
        ({"SYNCHRO_SKIP_FIELDS": {"City": "a"}}, "synchro.E009"),
        ({"SYNCHRO_NATURAL_KEYS": {"shop.nosuch": "a"}}, "synchro.E009"),
        ({"SYNCHRO_CONFLICT": {"shop.nosuch": "local"}}, "synchro.E009"),
        ({"SYNCHRO_APPLY": {"shop.nosuch": "raw"}}, "synchro.E009"),
        ({"SYNCHRO_SKIP_FIELDS": {"shop.city": "nosuch"}}, "synchro.E012"),
        ({"SYNCHRO_NATURAL_KEYS": {"shop.person": ("nosuch",)}}, "synchro.E013"),
        ({"SYNCHRO_NATURAL_KEYS": {"shop.person": ("name", "boss_id")}}, "synchro.E013"),
        ({"SYNCHRO_NODE": None}, "synchro.W001"),
        ({"SYNCHRO_NODE": ""}, "synchro.W001"),
        ({"SYNCHRO_MODELS": ()}, "synchro.W002"),
    ],
)
def test_settings_that_make_no_sense(changed, ident):
    with override_settings(**changed):
        messages = found()
    assert set(messages) == {ident}
    assert next(iter(messages.values())).msg
    assert found() == {}


@pytest.mark.parametrize(
    "changed",
    [
        {"SYNCHRO_CONFLICT": "local"},
        {"SYNCHRO_CONFLICT": {"*": "local", "Shop.City": "incoming"}},
        {"SYNCHRO_APPLY": "raw"},
        {"SYNCHRO_APPLY": {"*": "raw", "Shop.City": "save"}},
        {"SYNCHRO_NATURAL_KEYS": {"Shop.Person": "name", "shop.tag": None, "shop.city": ("name", "country__code")}},
        {"SYNCHRO_REMOTE": "hq"},
    ],
)
def test_settings_that_make_sense(changed):
    with override_settings(**changed):
        assert found() == {}


def test_policies_and_modes_by_model():
    with override_settings(SYNCHRO_CONFLICT={"*": "local", "Shop.City": "incoming"}):
        assert conf.conflict_policies() == {"": "local", "shop.city": "incoming"}
    with override_settings(SYNCHRO_APPLY={"*": "raw", "Shop.City": "save"}):
        assert (conf.apply_mode("shop.city"), conf.apply_mode("shop.tag")) == ("save", "raw")
    with override_settings(SYNCHRO_APPLY={"shop.city": "raw"}):
        assert (conf.apply_mode("shop.city"), conf.apply_mode("shop.tag")) == ("raw", "save")


def test_the_name_of_the_node():
    assert conf.node_name() == "office"
    assert conf.node_name("hq") == "hq"
    assert conf.node_name("_a b/c") == "a-b-c"
    with override_settings(SYNCHRO_NODE=None):
        assert conf.node_name() == "node"
    with override_settings(SYNCHRO_NODE="Ship_2.north-1"):
        assert conf.node_name() == "Ship_2.north-1"


def test_remote():
    assert conf.remote() is None
    with override_settings(SYNCHRO_REMOTE="hq"):
        assert conf.remote() == "hq"
    with override_settings(SYNCHRO_REMOTE="nosuch"), pytest.raises(ImproperlyConfigured, match="nosuch"):
        conf.remote()
    with override_settings():
        del settings.SYNCHRO_REMOTE
        with pytest.warns(RuntimeWarning, match="SYNCHRO_REMOTE is not set"):
            assert conf.remote() is None


def test_e010_a_django_that_saves_in_another_way(monkeypatch):
    def save_table(self, raw=False, cls=None):
        raise AssertionError

    monkeypatch.setattr(models.Model, "_save_table", save_table)
    assert set(found()) == {"synchro.E010"}


def test_e011_a_label_that_is_too_long(monkeypatch):
    monkeypatch.setattr(checks, "LABEL_LENGTH", len("shop.membership") - 1)
    messages = found()
    assert set(messages) == {"synchro.E011"}
    assert messages["synchro.E011"].obj in (Membership, Restaurant)


def test_w004_a_primary_key_that_may_be_too_long():
    with override_settings(SYNCHRO_MODELS=("odd",)):
        messages = found()
    assert set(messages) == {"synchro.W004", "synchro.W044"}  # and a key that nobody can look up
    assert messages["synchro.W004"].obj is Ticket


def test_w005_a_model_that_django_does_not_manage(monkeypatch):
    monkeypatch.setattr(City._meta, "managed", False)
    registry.clear_caches()
    messages = found()
    assert set(messages) == {"synchro.W005"}
    assert messages["synchro.W005"].obj is City
    assert "City" not in tracked()
    with override_settings(SYNCHRO_MODELS=("plain", ("shop", "City"))):
        assert tracked() == {"City", *PLAIN}
        assert found() == {}


def test_a_proxy_has_no_table_to_be_managed(monkeypatch):
    monkeypatch.setattr(Worker._meta, "managed", False)
    with override_settings(SYNCHRO_MODELS=("odd",)):
        assert "synchro.W005" not in found()


def test_the_checks_are_what_a_wrong_project_sees(tmp_path):
    (tmp_path / "wrong_settings.py").write_text(
        "from tests.project.settings import *\nSYNCHRO_MODELS = ('nosuch',)\nSYNCHRO_NODE = 'a b'\n"
    )
    ended = subprocess.run(
        [sys.executable, "-m", "django", "check"],
        env={
            **os.environ,
            "DJANGO_SETTINGS_MODULE": "wrong_settings",
            "SYNCHRO_TEST_DB": "sqlite",  # some of Django's own checks ask a server for its version
            "PYTHONPATH": os.pathsep.join([str(tmp_path), *sys.path]),
        },
        check=False,
        capture_output=True,
        text=True,
    )
    assert ended.returncode == 1
    assert "(synchro.E001) SYNCHRO_MODELS names the app 'nosuch'" in ended.stderr
    assert "(synchro.E002) SYNCHRO_NODE is 'a b'" in ended.stderr
    assert "Traceback" not in ended.stderr


@pytest.mark.parametrize(
    ("skipped", "ident"),
    [
        ({"shop.tag": ["name"]}, "synchro.W031"),
        ({"shop.city": ["country"]}, "synchro.W031"),
        ({"shop.parcel": ["code"]}, "synchro.W031"),
        ({"shop.membership": ["club"]}, "synchro.W032"),
        ({"shop.car": ["plate"]}, "synchro.W033"),
    ],
)
def test_a_field_that_is_skipped_in_vain(skipped, ident):
    with override_settings(SYNCHRO_SKIP_FIELDS=skipped):
        assert ident in found()
    assert ident not in found()


def test_e013_says_why_a_key_that_leads_back_to_itself_is_none():
    with override_settings(SYNCHRO_NATURAL_KEYS={"shop.person": ["name", "boss"]}):
        (message,) = [each for each in run_checks() if each.id == "synchro.E013"]
    assert message.msg == "SYNCHRO_NATURAL_KEYS: shop.Person: its key leads back to itself, or to one that is computed."


def test_e031_remote_is_this_deployments_own_database():
    with override_settings(SYNCHRO_REMOTE="default"):
        assert "synchro.E031" in found()


def test_a_database_that_cannot_be_reached_keeps_no_command_from_starting(monkeypatch):
    """Django 6.1 checks every model against every database before each command, and before the server starts."""

    def down(*_args, **_kwargs):
        raise OperationalError("down")

    remote = connections["hq"]
    monkeypatch.delitem(vars(remote.features), "supports_json_field", raising=False)
    monkeypatch.setattr(remote, "cursor", down)
    for model in apps.get_app_config("synchro").get_models():
        assert model.check(databases=["hq"]) == [], model
