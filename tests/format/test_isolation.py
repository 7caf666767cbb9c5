"""The package stands by itself: standard library, orjson, zstandard."""

import ast
import subprocess
import sys
from pathlib import Path

import changelog_format
from tests.format.samples import ROOT

ALLOWED = {"orjson", "zstandard", "changelog_format"} | sys.stdlib_module_names
OPTIONAL = {"signing.py": {"cryptography"}, "encryption.py": {"pyrage"}}


def test_nothing_else_is_imported():
    for path in Path(changelog_format.__file__).parent.glob("*.py"):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            names = []
            if isinstance(node, ast.Import):
                names = [alias.name for alias in node.names]
            elif isinstance(node, ast.ImportFrom) and not node.level:
                names = [node.module]
            assert {name.partition(".")[0] for name in names} <= ALLOWED | OPTIONAL.get(path.name, set()), path.name


def test_what_is_optional_is_not_loaded_unasked():
    program = "import sys, changelog_format.__main__; sys.exit(bool({'cryptography', 'pyrage'} & sys.modules.keys()))"
    subprocess.run([sys.executable, "-c", program], cwd=ROOT, check=True)


def test_django_is_not_loaded():
    program = "import sys, changelog_format.__main__; sys.exit('django' in sys.modules)"
    subprocess.run([sys.executable, "-c", program], cwd=ROOT, check=True)


def test_everything_exported_is_there_and_documented():
    assert changelog_format.__all__ == sorted(changelog_format.__all__, key=lambda name: (not name.isupper(), name))
    for name in changelog_format.__all__:
        value = getattr(changelog_format, name)
        if callable(value):
            assert value.__doc__, name
