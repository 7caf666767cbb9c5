"""System checks of settings that nobody reads, are of another type, or do not go together."""

import os
import subprocess
import sys

import pytest
from django.core.checks import run_checks
from django.test import override_settings

from changelog_format.keys import public_text, secret_text, write_secret_file
from synchro import registry
from synchro.apps import NEEDED
from synchro.settingchecks import ACTOR, SWITCHES, known_settings
from tests.project.shop.models import Tag
from tests.readme import ROOT

# Checks of Django's own ask each database what it can do.
pytestmark = pytest.mark.django_db(databases=["default", "hq", "ship"])
SECRET, PUBLIC = secret_text(bytes([1]) * 32), public_text(bytes(32))
SESSION_USER = "django.contrib.auth.middleware.AuthenticationMiddleware"


def found(*, deploy=False):
    messages = run_checks(include_deployment_checks=deploy)
    return {message.id: message for message in messages if message.id.startswith("synchro.")}


def test_a_setting_that_there_is_not_is_named_with_what_is_near():
    with override_settings(SYNCHRO_MODEL=["shop"]):
        message = found()["synchro.W050"]
    assert message.msg == "There is no setting SYNCHRO_MODEL."
    assert message.hint == "Did you mean SYNCHRO_MODELS?"
    with override_settings(SYNCHRO_QQQQ=1):
        assert "SYNCHRO_NODE" in found()["synchro.W050"].hint
    with override_settings(SYNCHRO_SKIP=["x"]):
        assert "synchro.W050" in found()
    assert "synchro.W050" not in found()


def test_all_settings_are_known():
    assert {"SYNCHRO_NODE", "SYNCHRO_MODELS", "SYNCHRO_REMOTE", *SWITCHES} <= known_settings()


@pytest.mark.parametrize("name", SWITCHES)
@pytest.mark.parametrize("value", ["False", 0, None])
def test_a_switch_is_true_or_false(name, value):
    with override_settings(**{name: value}):
        assert found()["synchro.E050"].msg == f"{name} is {value!r}: write True or False."


@pytest.mark.parametrize("name", sorted(known_settings() - set(SWITCHES)))
def test_what_says_nothing_is_named(name):
    for value in ("", False):
        with override_settings(**{name: value}):
            ids = {ident for ident, message in found().items() if name in message.msg}
            assert ids & {"synchro.W059", "synchro.W001", "synchro.W002"} or any(
                ident.startswith("synchro.E") for ident in ids
            )
    with override_settings(**{name: None}):
        assert "synchro.W059" not in found()


WRONG = (
    3, -1, 1.5, b"x", object(), [3], ["x"], [["x"]], [[]], [None], {3: 4}, {"x": 3}, {"x": None}, {"x": ["y"]},
    {"shop.tag": 3}, {"shop.tag": "x"}, {"shop.tag": ["x"]}, {"shop.tag": {"x": 1}}, {"hq": {"shop.tag": {"x": 1}}},
    {"hq": {"shop.tag": 3}}, {"*": 3}, {"*": "x"}, {"shop.nothing": 1}, "x", "/dev/null", "env:NOTHING",
)  # fmt: skip


@pytest.mark.slow
@pytest.mark.parametrize("name", sorted(known_settings()))
def test_whatever_a_setting_is_the_checks_say_it_and_do_not_fail(name):
    told = 0
    for value in WRONG:
        with override_settings(**{name: value}):
            told += any(ident.startswith("synchro.E") for ident in found())
    assert told >= len(WRONG) / 2


@pytest.mark.skipif(os.name != "posix", reason="permissions are those of POSIX")
def test_the_folder_for_what_goes_through_the_browser(tmp_path, monkeypatch):
    def told(path):
        with override_settings(SYNCHRO_ADMIN_FOLDER=path):
            message = found().get("synchro.W060")
        return "" if message is None else f"{message.msg} {message.hint}"

    assert told(tmp_path / "made when it is needed") == ""
    assert not list(tmp_path.iterdir())
    assert "cannot be used" in told(tmp_path / "missing" / "below")
    (tmp_path / "file").touch(0o600)
    assert "not private" in told(tmp_path / "file")
    assert "cannot be used" in told(tmp_path / "file" / "below")
    (tmp_path / "open").mkdir()
    (tmp_path / "open").chmod(0o755)
    assert "not private" in told(str(tmp_path / "open"))
    (tmp_path / "open").chmod(0o700)
    assert told(tmp_path / "open") == ""
    monkeypatch.setattr(os, "access", lambda *_args, **_kwargs: False)
    assert "in which this server can write" in told(tmp_path / "open")


def test_the_type_of_remote():
    with override_settings(SYNCHRO_REMOTE=3):
        assert "write the alias of a database" in found()["synchro.E051"].msg


@pytest.mark.parametrize("entry", ["synchro", ("synchro", "node"), "dbsettings"])
def test_synchro_s_own_tables_are_never_tracked(entry):
    with override_settings(SYNCHRO_MODELS=["shop", entry]):
        assert "synchro.W056" in found()


def test_what_belongs_to_one_deployment():
    with override_settings(SYNCHRO_MODELS=["shop", "contenttypes"]):
        assert "contenttypes.contenttype" in found()["synchro.W055"].msg
    assert not {"synchro.W056", "synchro.W055"} & found().keys()


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("SYNCHRO_SKIP", 5),
        ("SYNCHRO_SKIP", [5]),
        ("SYNCHRO_VERSION", "x"),
        ("SYNCHRO_VERSION", 0),
        ("SYNCHRO_VERSION", True),
    ],
)
def test_what_a_model_declares(name, value, monkeypatch):
    monkeypatch.setattr(Tag, name, value, raising=False)
    registry.clear_caches()
    try:
        message = found()["synchro.E053"].msg
    finally:
        monkeypatch.undo()
        registry.clear_caches()
    assert message.startswith(("Tag.SYNCHRO_SKIP is ", "shop.Tag.SYNCHRO_VERSION is "))
    assert repr(value) in message


@pytest.mark.parametrize("apply", ["save", {"shop.tag": "save"}])
def test_handlers_that_would_do_it_twice(apply):
    with override_settings(SYNCHRO_TRIGGERS=True, SYNCHRO_APPLY=apply):
        assert "synchro.W051" in found()
    with override_settings(SYNCHRO_APPLY=apply):
        assert "synchro.W051" not in found()
    with override_settings(SYNCHRO_TRIGGERS=True, SYNCHRO_APPLY="nonsense"):
        assert {"synchro.E006"} == {ident for ident in found() if ident in ("synchro.E006", "synchro.W051")}


def test_the_middleware():
    with override_settings(MIDDLEWARE=[SESSION_USER]):
        assert "synchro.W053" in found(deploy=True)
        assert "synchro.W053" not in found()
    with override_settings(MIDDLEWARE=[SESSION_USER, ACTOR]):
        assert not {"synchro.W052", "synchro.W053", "synchro.E052"} & found(deploy=True).keys()
    with override_settings(MIDDLEWARE=[ACTOR, SESSION_USER, ACTOR]):
        assert "synchro.W052" in found()
    with override_settings(MIDDLEWARE=["synchro.middleware.ActorMiddelware"]):
        assert found()["synchro.E052"].hint == f"Did you mean {ACTOR!r}?"


def test_sqlite_that_does_not_lock(monkeypatch):
    from django.db import connection

    monkeypatch.setattr(connection, "vendor", "sqlite")
    monkeypatch.setitem(connection.settings_dict, "OPTIONS", {})
    assert "synchro.W054" in found(deploy=True)


def test_who_trusts_nobody_is_told(tmp_path):
    (tmp_path / "empty").write_text("# nobody yet\n")
    key = tmp_path / "key"
    write_secret_file(key, [SECRET])
    for value in ({}, tmp_path / "empty", {"hq": []}):
        # The own key is trusted for the own bundles, which helps nobody else.
        for own in (None, key):
            with override_settings(SYNCHRO_TRUSTED_KEYS=value, SYNCHRO_SIGNING_KEY=own):
                assert found()["synchro.W057"].msg.startswith("SYNCHRO_TRUSTED_KEYS names nobody")
    for value in (None, {"hq": PUBLIC}):
        with override_settings(SYNCHRO_TRUSTED_KEYS=value):
            assert "synchro.W057" not in found()


def test_who_requires_signatures_and_signs_nothing_is_told_at_deployment():
    with override_settings(SYNCHRO_TRUSTED_KEYS={"hq": PUBLIC}, SYNCHRO_SIGNING_KEY=None):
        assert "synchro.W058" in found(deploy=True)
        assert "synchro.W058" not in found()
    for trusted, key in ((None, None), (None, SECRET), ({"hq": PUBLIC}, SECRET)):
        with override_settings(SYNCHRO_TRUSTED_KEYS=trusted, SYNCHRO_SIGNING_KEY=key):
            assert "synchro.W058" not in found(deploy=True)


@pytest.mark.skipif(os.name != "posix", reason="permissions are those of POSIX")
@pytest.mark.parametrize(
    ("setting", "ident", "text"),
    [
        ("SYNCHRO_SIGNING_KEY", "E040", SECRET),
        ("SYNCHRO_TRUSTED_KEYS", "E041", f"hq {PUBLIC}"),
        ("SYNCHRO_RECIPIENTS", "E042", "age1nobody"),
        ("SYNCHRO_IDENTITY", "E043", "AGE-SECRET-KEY-1NONE"),
    ],
)
def test_files_of_keys_that_are_open_to_others(setting, ident, text, tmp_path):
    path = tmp_path / "file"
    path.write_text(text)
    path.chmod(0o606)
    with override_settings(**{setting: [str(path)] if setting == "SYNCHRO_RECIPIENTS" else str(path)}):
        assert "chmod" in found()[f"synchro.{ident}"].msg
        path.chmod(0o600)
        tmp_path.chmod(0o777)
        assert f"chmod o-w {tmp_path}" in found()[f"synchro.{ident}"].msg


@pytest.mark.parametrize("missing", NEEDED)
def test_a_missing_app_is_named(missing, tmp_path):
    apps = [name for name in ("synchro", *NEEDED) if name != missing]
    program = (
        "from django.conf import settings; import django; "
        f"settings.configure(INSTALLED_APPS={apps!r}, SYNCHRO_REMOTE=None); django.setup()"
    )
    environment = {name: value for name, value in os.environ.items() if name != "DJANGO_SETTINGS_MODULE"}
    done = subprocess.run(
        [sys.executable, "-c", program], cwd=ROOT, env=environment, capture_output=True, text=True, check=False
    )
    assert f"ImproperlyConfigured: synchro needs '{missing}' in INSTALLED_APPS" in done.stderr


def test_the_order_of_the_apps_does_not_matter():
    program = (
        "from django.conf import settings; import django; settings.configure(DEFAULT_AUTO_FIELD='django.db.models."
        f"BigAutoField', INSTALLED_APPS={['synchro', *NEEDED]!r}, SYNCHRO_REMOTE=None); django.setup()"
    )
    environment = {name: value for name, value in os.environ.items() if name != "DJANGO_SETTINGS_MODULE"}
    subprocess.run([sys.executable, "-c", program], cwd=ROOT, env=environment, check=True)
