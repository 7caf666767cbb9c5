"""The README: its examples run, its commands are understood, and everything that there is stands in it."""

import argparse
import contextlib
import importlib
import io
import re
import shlex
import sys
import types
import warnings
from contextlib import nullcontext
from unittest import mock

import django
import pytest
from django.core.management import CommandError, get_commands, load_command_class
from django.db import connections
from django.db.models.signals import post_save
from django.dispatch import Signal
from django.test.utils import isolate_apps

import synchro
from changelog_format.__main__ import _parser as format_parser
from synchro import embedded, export_bundle, signals, upcasting
from synchro.models import options as operator_options
from synchro.settingchecks import known_settings
from synchro.signals import bundle_imported
from tests.app.processes import Deployment
from tests.project.shop.models import City, Country, Person, Tag
from tests.readme import README, blocks

pytestmark = pytest.mark.django_db(databases=["default", "hq", "ship"])
COMMANDS = sorted(name for name, app in get_commands().items() if app == "synchro")
TESTED_ELSEWHERE = ("Bundles are data",)
BUNDLE = re.compile(r"\b(?:office|hq)-[0-9a-f]{8}-\d{6}-\d{6}\.jsonl\.zst")


def ids(found):
    return [f"line {block.line}" for block in found]


# --- Python -----------------------------------------------------------------------------------------------------------

PYTHON = [block for block in blocks() if block.language == "python" and block.chapter not in TESTED_ELSEWHERE]


@pytest.fixture
def stick(tmp_path):
    """Bundles of both sides, in the folders of the examples."""
    Tag.objects.create(name="a")
    for name in ("stick", "back"):
        (tmp_path / name).mkdir()
    export_bundle(tmp_path / "stick", to="first")
    Tag.objects.using("hq").create(name="b")
    export_bundle(tmp_path / "back", to="office", using="hq")
    return tmp_path


@pytest.fixture
def names():
    """What the examples take for granted."""
    city = City.objects.create(name="Wrocław", country=Country.objects.create(code="PL"))
    shared = types.ModuleType("celery")
    shared.shared_task = _task
    patched = {"celery": shared} if "celery" not in sys.modules else {}
    with mock.patch.dict(sys.modules, patched):
        from datetime import UTC, datetime, timedelta

        from django.db import models
        from django.db.models import F
        from django.db.models.signals import post_save as saved
        from django.dispatch import receiver

        yield {
            "F": F, "MIDDLEWARE": (), "STORAGES": {}, "MyManager": models.Manager, "acting": synchro.acting,
            "Patient": mock.MagicMock(), "VisitQuerySet": models.QuerySet,
            "city": city, "datetime": datetime, "disable_synchro_log": synchro.disable_synchro_log,
            "export_bundle": export_bundle, "load_results": lambda: None, "mail_admins": lambda *_args: None,
            "models": models, "patient": Person.objects.create(name="p"), "post_save": saved, "receiver": receiver,
            "request": mock.Mock(**{"user.get_username.return_value": "ann"}), "shared_task": _task,
            "yesterday": datetime.now(UTC) - timedelta(days=1),
        }  # fmt: skip


def _task(function):
    function.delay = function.enqueue = lambda *_args: None
    return function


@pytest.mark.parametrize("block", PYTHON, ids=ids(PYTHON))
def test_python(block, names, tmp_path, monkeypatch, request):
    if "django.tasks" in block.text and django.VERSION < (6, 0):
        pytest.skip("Django's own tasks are there since 6.0")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(upcasting, "_steps", dict(upcasting.steps()))
    monkeypatch.setattr(embedded, "_functions", dict(embedded._functions))
    before = list(post_save.receivers), list(bundle_imported.receivers)
    text = block.text.replace("/media/", f"{tmp_path}/")
    if text != block.text or BUNDLE.search(text):
        folder = request.getfixturevalue("stick")
        text = BUNDLE.sub(str(next((folder / "stick").iterdir())), text)
    if "signal handlers" in block.chapter.lower():
        names |= {"A": City, "X": Tag}
    # A class body of the examples may be nothing but its models; the same name stands for one model twice.
    of_models = "models.Model)" in text or "NaturalKeyModel)" in text
    with warnings.catch_warnings(), contextlib.redirect_stdout(io.StringIO()):
        warnings.filterwarnings("ignore", message="Model .* was already registered", category=RuntimeWarning)
        with isolate_apps("tests.project.shop") if of_models else nullcontext():
            namespace = {**names, "__name__": "tests.project.shop.readme"}
            if "@task" in text:
                text = text.replace(".enqueue(", ".call(")
            exec(compile(text, f"README.md line {block.line}", "exec"), namespace)  # noqa: S102
    post_save.receivers, bundle_imported.receivers = before
    post_save.sender_receivers_cache.clear()
    operator_options.last_check = None


# --- the terminal -----------------------------------------------------------------------------------------------------

CONSOLE = [block for block in blocks() if block.language == "console" and block.chapter not in TESTED_ELSEWHERE]


def _arguments(command):
    return shlex.split(command, comments=True)


@pytest.mark.parametrize("block", CONSOLE, ids=ids(CONSOLE))
def test_commands_are_understood(block):
    """Whether or not they can be run here: each is one that there is, with options that it has."""
    seen = 0
    for command in block.commands:
        words = _arguments(command)
        if words[:2] == ["python", "manage.py"]:
            parser = load_command_class(get_commands()[words[2]], words[2]).create_parser("manage.py", words[2])
            _understood(parser, words[3:])
        elif words[:3] == ["python", "-m", "changelog_format"]:
            _understood(format_parser(), words[3:])
        elif words[0] not in ("pip", "python3", "zstd", "age", "age-keygen"):
            continue
        seen += 1
    assert seen, block.text


def _understood(parser, arguments):
    try:
        parser.parse_args(arguments)
    except (SystemExit, CommandError) as error:
        pytest.fail(f"{arguments}: {error}")


@pytest.mark.slow
@pytest.mark.skipif(connections["default"].vendor != "sqlite", reason="SQLite files of their own")
@pytest.mark.parametrize("chapter", ["An air gap, step by step", "Offices that work both ways", ""])
def test_the_stories_come_out_as_told(chapter, tmp_path):
    office, hq = (Deployment(tmp_path / name, name) for name in ("office", "hq"))
    sites = {"office": office, "hq": hq, "gap": office}
    for name in ("stick", "back"):
        (tmp_path / name).mkdir()
    office.run("Country.objects.create(code='PL')")
    printed = ""
    for block in CONSOLE:
        if block.chapter != chapter:
            continue
        for line in block.text.splitlines():
            match = re.match(r"(\w+)\$ (.*)", line)
            if match is None:
                continue
            command = match[2].replace("/media/", f"{tmp_path}/")
            # The README's file is the one that was written last.
            command = BUNDLE.sub(lambda _name: str(max(office.folder.glob("*.zst"))), command)
            words = _arguments(command)
            module = ["-m", "django", *words[2:]] if words[1] == "manage.py" else words[1:]
            printed += sites[match[1]].ended(*module) + "\n"
            if "--snapshot" in words:
                office.run("Country.objects.create(code='DE')")
    assert "added" in printed
    assert hq.run("print(Country.objects.count())") == ("2" if "gap" in chapter else "1")


# --- nothing is left out ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", COMMANDS)
def test_every_command_and_option_is_documented(name):
    assert f"manage.py {name}" in README
    parser = load_command_class("synchro", name).create_parser("manage.py", name)
    common = {option for action in argparse.ArgumentParser()._actions for option in action.option_strings}
    django_s = load_command_class("django.core", "check").create_parser("manage.py", "check")
    common |= {"--skip-checks"} | {
        option for action in django_s._actions for option in action.option_strings if action.dest != "database"
    }
    for action in parser._actions:
        assert action.help or action.dest in ("action", "version"), action
        options = [option for option in action.option_strings if option not in common]
        if options:
            assert any(f"`{option}" in README or f" {option}" in README for option in options), options


def test_every_command_of_the_format_and_its_options_are_documented():
    (commands,) = (action for action in format_parser()._actions if isinstance(action, argparse._SubParsersAction))
    for name, parser in commands.choices.items():
        assert f"changelog_format {name}" in README, name
        for action in parser._actions:
            assert action.help, (name, action.dest)


@pytest.mark.parametrize("name", sorted(known_settings()))
def test_every_setting_is_documented(name):
    assert re.search(rf"^\| `{name}` \|", README, re.MULTILINE)


@pytest.mark.parametrize("name", synchro.__all__)
def test_every_public_name_is_documented(name):
    assert f"`{name}" in README


def test_every_signal_is_documented():
    names = [name for name, value in vars(signals).items() if isinstance(value, Signal)]
    assert {"bundle_exported", "bundle_imported"} <= set(names)
    extending = README.partition("\n## Extending\n")[2].partition("\n## ")[0]
    assert [name for name in names if name not in extending] == []


def test_every_documented_setting_is_there():
    assert set(re.findall(r"\bSYNCHRO_[A-Z_]+[A-Z]\b", README)) <= known_settings() | {
        "SYNCHRO_SKIP",
        "SYNCHRO_VERSION",
    }


def _anchor(title):
    return re.sub(r"[^\w -]", "", title.lower()).replace(" ", "-")


def test_the_contents_name_every_chapter_and_every_link_leads_somewhere():
    titles = re.findall(r"^## (.*)$", README, re.MULTILINE)
    contents = README.partition("**Contents**")[2].partition("\n\n")[0]
    assert [title for title in titles if f"[{title}](#{_anchor(title)})" not in contents] == []
    anchors = {_anchor(title) for title in re.findall(r"^#+ (.*)$", README, re.MULTILINE)}
    assert set(re.findall(r"\]\(#([^)]*)\)", README)) <= anchors


def test_modules_that_are_named_exist():
    for module, name in re.findall(r"`(synchro\.[a-z]+)\.([a-z_]+)\(\)`", README):
        assert callable(getattr(importlib.import_module(module), name))
