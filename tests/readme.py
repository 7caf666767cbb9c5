"""The code blocks of the README, so that tests can run them."""

import importlib
import os
import re
import shutil
from dataclasses import dataclass
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
README = (ROOT / "README.md").read_text(encoding="utf-8")
_BLOCK = re.compile(r"^( *)```(\w+)\n(.*?)^ *```$", re.MULTILINE | re.DOTALL)


@dataclass(frozen=True)
class Block:
    """A fenced block: its language, text without indentation, and the headings that it stands below."""

    language: str
    text: str
    line: int
    chapter: str

    @property
    def commands(self):
        """The commands of a console block: without prompts, comments and what they print."""
        lines = self.text.splitlines()
        prompted = [match[1] for line in lines if (match := re.match(r"\w*\$ (.*)", line))]
        return prompted or [line for line in lines if line.strip()]


def blocks():
    found = []
    for match in _BLOCK.finditer(README):
        before = README[: match.start()]
        text = re.sub(rf"^{match[1]}", "", match[3], flags=re.MULTILINE)
        chapter = re.findall(r"^## (.*)$", before, re.MULTILINE)
        found.append(Block(match[2], text, before.count("\n") + 1, chapter[-1] if chapter else ""))
    return found


def needs(module, extra):
    """Import *module*, or skip the test. Where everything is to be run, as in .ci/run, a lack is a failure."""
    if os.environ.get("SYNCHRO_TEST_COMPLETE"):
        return importlib.import_module(module)
    return pytest.importorskip(module, reason=f"needs {module}: pip install django-synchro[{extra}]")


def needs_programs(*names):
    """The same for programs on the PATH."""
    missing = [name for name in names if shutil.which(name) is None]
    if missing and not os.environ.get("SYNCHRO_TEST_COMPLETE"):
        pytest.skip(f"needs {' and '.join(missing)}")
    assert not missing


def of_chapter(title, language=None):
    return [block for block in blocks() if block.chapter == title and language in (None, block.language)]
