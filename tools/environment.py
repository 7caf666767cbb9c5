"""Virtualenvs for the programs of this folder: made with nothing but Python and pip, reused while they fit.

A stamp in the virtualenv says what it was made from. When that has changed (another pyproject.toml, another Python,
a moved checkout), it is made anew; when something is asked for that it merely lacks, that is installed in addition.
"""

import hashlib
import json
import os
import shutil
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
PIP = ("-m", "pip", "--disable-pip-version-check", "--no-input")

# What a user's shell may have set that would reach into the virtualenv.
FOREIGN = ("PYTHONPATH", "PYTHONHOME", "VIRTUAL_ENV", "DJANGO_SETTINGS_MODULE", "PIP_TARGET", "PIP_USER", "PIP_PREFIX")


class EnvironmentFailedError(Exception):
    """A virtualenv could not be made; the text says why and what helps."""


def clean_environ(**extra: str) -> dict[str, str]:
    """The environment variables for programs that run in a virtualenv."""
    kept = {name: value for name, value in os.environ.items() if name not in FOREIGN}
    return {**kept, "PYTHONNOUSERSITE": "1", **extra}


def ensure(folder: Path, requirements: Sequence[str]) -> Path:
    """Make or reuse the virtualenv `folder`, holding `requirements` (as pip takes them), and return its interpreter.

    Raises EnvironmentFailedError.
    """
    python = folder / "bin" / "python"
    stamp = folder / "synchro-stamp.json"
    made_from = {
        "python": sys.version,
        "folder": str(folder),
        "pyproject": hashlib.sha256((ROOT / "pyproject.toml").read_bytes()).hexdigest(),
    }
    held = _read(stamp)
    if held is None or held["made_from"] != made_from or not python.exists():
        print(f"Making a virtualenv in {shown(folder)} (Python {sys.version.split()[0]}) …", flush=True)
        _create(folder)
        held = {"made_from": made_from, "requirements": []}
    missing = [requirement for requirement in requirements if requirement not in held["requirements"]]
    if missing:
        print(f"Installing {', '.join(shown(item) for item in missing)} …", flush=True)
        stamp.unlink(missing_ok=True)  # an interrupted installation is no reusable one
        install(python, requirements)
        held["requirements"] = sorted({*held["requirements"], *requirements})
        stamp.write_text(json.dumps(held))
    return python


def install(python: Path, requirements: Sequence[str], *options: str) -> None:
    """Have pip install `requirements` for the interpreter `python`."""
    editable = f"{ROOT}["
    arguments = [part for item in requirements for part in (("-e", item) if item.startswith(editable) else (item,))]
    command = [str(python), *PIP, "install", "-qq", *options, *arguments]
    if not _has_pip(python):
        command = [sys.executable, "-m", "pip", "--python", str(python), *command[3:]]
    if subprocess.run(command, env=clean_environ(), check=False).returncode:
        raise EnvironmentFailedError(
            "pip could not install what is needed (its own message is above). "
            "It needs a package index: the network, or one named in pip's configuration.",
        )


def shown(path: Path | str) -> str:
    """A path below the checkout as it is written from there; anything else as it is."""
    return str(path).replace(f"{ROOT}{os.sep}", "").replace(str(ROOT), ".")


def _create(folder: Path) -> None:
    if folder.exists():
        if not (folder / "pyvenv.cfg").exists():
            raise EnvironmentFailedError(f"{folder} is in the way: it is no virtualenv. Move it, then try again.")
        shutil.rmtree(folder)
    folder.parent.mkdir(parents=True, exist_ok=True)
    command = [sys.executable, "-m", "venv", str(folder)]
    done = subprocess.run(command, env=clean_environ(), check=False, capture_output=True, text=True)
    if done.returncode:
        # Debian keeps `ensurepip` in a package of its own; without it, this Python's pip can do the work from outside.
        shutil.rmtree(folder, ignore_errors=True)
        command.append("--without-pip")
        done = subprocess.run(command, env=clean_environ(), check=False, capture_output=True, text=True)
    if done.returncode:
        raise EnvironmentFailedError(
            f"{sys.executable} -m venv failed:\n{done.stdout}{done.stderr}"
            "On Debian and Ubuntu, the package python3-venv is what it lacks.",
        )


def _has_pip(python: Path) -> bool:
    command = [str(python), "-c", "import pip"]
    return not subprocess.run(command, env=clean_environ(), check=False, capture_output=True).returncode


def _read(stamp: Path) -> dict | None:
    try:
        return json.loads(stamp.read_text())
    except (OSError, ValueError):
        return None
