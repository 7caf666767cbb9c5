"""What can be imported from where, and what that needs."""

import ast
import inspect
import os
import subprocess
import sys
from pathlib import Path

import pytest

import synchro
import synchro.core
import synchro.settings
import synchro.signals
import synchro.utility

OLD = [
    "DisableSynchroLog",
    "NaturalKeyModel",
    "NaturalManager",
    "call_synchronize",
    "disable_synchro_log",
    "reset_synchro",
]


def run(code, **environment):
    plain = {name: value for name, value in os.environ.items() if name != "DJANGO_SETTINGS_MODULE"}
    ended = subprocess.run(
        [sys.executable, "-c", code],
        env={**plain, "PYTHONPATH": os.pathsep.join(sys.path), **environment},
        check=False,
        capture_output=True,
        text=True,
    )
    assert ended.returncode == 0, ended.stderr
    return ended.stdout


@pytest.mark.parametrize("module", ["synchro", "synchro.core"])
def test_importing_needs_no_settings_and_no_django(module):
    code = f"import sys, {module}; print(sorted(name for name in sys.modules if name.split('.')[0] == 'django'))"
    assert run(code).strip() == "[]"


def test_the_pause_needs_no_settings():
    run("from synchro import DisableSynchroLog, disable_synchro_log\nwith DisableSynchroLog(): pass")


@pytest.mark.parametrize("module", ["synchro", "synchro.core"])
@pytest.mark.parametrize("first", [True, False])
def test_a_models_module_can_import_it(module, first, tmp_path):
    """Whether its app stands before or after synchro in INSTALLED_APPS."""
    app = tmp_path / "kennel"
    app.mkdir()
    (app / "__init__.py").touch()
    (app / "models.py").write_text(
        "from django.db import models\n"
        f"from {module} import DisableSynchroLog, NaturalKeyModel, NaturalManager, disable_synchro_log\n"
        "class Dog(NaturalKeyModel):\n"
        "    _natural_key = ('name',)\n"
        "    name = models.CharField(max_length=20)\n"
        "class Cat(models.Model):\n"
        "    name = models.CharField(max_length=20)\n"
        "    objects = NaturalManager('name')\n"
    )
    apps = ["kennel", "synchro"] if first else ["synchro", "kennel"]
    (tmp_path / "kennel_settings.py").write_text(
        f"INSTALLED_APPS = ['django.contrib.contenttypes', 'dbsettings', *{apps}]\n"
        "SYNCHRO_MODELS = ('kennel',)\nSYNCHRO_REMOTE = None\n"
        "DATABASES = {'default': {'ENGINE': 'django.db.backends.sqlite3', 'NAME': ':memory:'}}\n"
    )
    told = run(
        "import django; django.setup()\n"
        "from synchro import naturalkeys, registry, reset_synchro\n"
        "print({model.__name__: naturalkeys.key_paths(model) for model in registry.tracked()} "
        "== {'Dog': ('name',), 'Cat': ('name',)})",
        DJANGO_SETTINGS_MODULE="kennel_settings",
        PYTHONPATH=os.pathsep.join([str(tmp_path), *sys.path]),
    )
    assert told.strip() == "True"


def test_all_names_can_be_had():
    constants, others = ["WITHHELD"], [name for name in synchro.__all__ if not name.isupper()]
    assert synchro.__all__ == constants + sorted(others)
    for name in synchro.__all__:
        found = getattr(synchro, name)
        assert repr(found) == name if name in constants else found.__name__ == name
        assert inspect.getdoc(getattr(synchro, name)), name
        assert name in dir(synchro)


def test_the_names_of_the_original_are_in_both_places():
    for name in OLD:
        assert getattr(synchro, name) is getattr(synchro.core, name)
    assert sorted(synchro.core.__all__) == sorted(OLD)
    assert set(OLD) <= set(synchro.__all__)


def test_the_other_places_of_the_original():
    from synchro import settings, signals, utility
    from synchro.management.commands import synchronize

    for name in ("NaturalKeyModel", "NaturalManager", "reset_synchro"):
        assert getattr(utility, name) is getattr(synchro, name)
    assert utility.natural_manager is synchro.NaturalManager
    for name in ("DisableSynchroLog", "disable_synchro_log"):
        assert getattr(signals, name) is getattr(synchro, name)
    assert synchronize.call_synchronize is synchro.call_synchronize
    assert (settings.LOCAL, settings.REMOTE, settings.ALLOW_RESET, settings.DEBUG) == ("default", None, True, False)
    assert "shop.city" in [model._meta.label_lower for model in settings.MODELS]
    assert "shop.membership" in [model._meta.label_lower for model in settings.INTER_MODELS]


@pytest.mark.parametrize("module", [synchro, synchro.core, synchro.utility, synchro.settings, synchro.signals])
def test_a_name_that_is_not_there(module):
    with pytest.raises(AttributeError, match=f"module '{module.__name__}' has no attribute 'nosuch'"):
        module.nosuch  # noqa: B018  reading is the test


def test_no_module_hides_a_name():
    """Importing a module puts its name into the package, over what was lazily there."""
    modules = {path.stem for path in Path(synchro.__file__).parent.iterdir()}
    assert not modules & set(synchro.__all__)
    run(
        "import django; django.setup()\n"
        "import importlib, pkgutil, synchro\n"
        "for found in pkgutil.walk_packages(synchro.__path__, 'synchro.'):\n"
        "    importlib.import_module(found.name)\n"
        "assert all(getattr(getattr(synchro, name), '__name__', 'WITHHELD') == name for name in synchro.__all__)\n",
        DJANGO_SETTINGS_MODULE="tests.project.settings",
    )


def test_the_types_say_what_is_there():
    tree = ast.parse(Path(synchro.__file__).read_text())
    for_checkers = next(node for node in tree.body if isinstance(node, ast.If))
    named = {alias.name for node in for_checkers.body for alias in node.names}
    assert named == set(synchro.__all__)
    assert (Path(synchro.__file__).parent / "py.typed").exists()


def test_the_apps_public_dataclasses_are_frozen():
    for report in (synchro.ExportReport, synchro.ImportReport):
        assert report.__dataclass_params__.frozen
        assert "__slots__" in vars(report)


def test_a_process_that_only_serves_pages_loads_what_captures_changes_and_no_more():
    code = (
        "import django, sys\n"
        "from django.conf import settings\n"
        "apps = ['django.contrib.contenttypes', 'django.contrib.auth', 'dbsettings', 'synchro']\n"
        "settings.configure(INSTALLED_APPS=apps, SYNCHRO_MODELS=['auth'], SYNCHRO_REMOTE=None)\n"
        "django.setup()\n"
        "print(*sys.modules)"
    )
    loaded = set(run(code).split())
    assert {"synchro.capture", "synchro.changelog"} <= loaded
    commands_only = {"checks", "settingchecks", "exporting", "importing", "synchronizing", "legacy", "seal"}
    assert not {f"synchro.{name}" for name in commands_only} & loaded
    assert not {"changelog_format.reader", "changelog_format.writer", "zstandard", "cryptography"} & loaded
