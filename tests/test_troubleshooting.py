"""TROUBLESHOOTING.md has every message that somebody may meet, and none that there is not."""

import ast
import re
from functools import cache

import pytest

from tests.readme import ROOT

TEXT = (ROOT / "TROUBLESHOOTING.md").read_text(encoding="utf-8")


def errors():
    tree = ast.parse((ROOT / "synchro" / "errors.py").read_text())
    return {node.name for node in tree.body if isinstance(node, ast.ClassDef)} | {"CommandError", "Reason"}


def words(node):
    """The text of a message, with … for what is different each time; None for what is no text."""
    match node:
        case ast.Constant(value=str() as value):
            return re.sub(r"%\(\w+\)[sdr]", "…", value)
        case ast.JoinedStr(values=values):
            return "".join(words(value) or "…" for value in values)
        case ast.BinOp(left=left):
            return words(left)
        case ast.Call(func=ast.Name(id="ngettext" | "Reason"), args=[_, plural, *_]):
            return words(plural)
        case ast.Call(args=[first, *_]):
            return words(first)
        case _:
            return None


@cache
def messages():
    """`(file:line, text)` of each message that is raised, or kept as the reason for which a change is held."""
    found = []
    for path in sorted((ROOT / "synchro").rglob("*.py")):
        for node in ast.walk(ast.parse(path.read_text())):
            if not (isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.args):
                continue
            text = words(node if node.func.id == "Reason" else node.args[0])
            if node.func.id in errors() and text and not text.startswith("…\n"):
                found.append((f"{path.relative_to(ROOT)}:{node.lineno}", text.replace("`", "")))
    return tuple(found)


def phrases():
    """The phrases of the first column of all tables."""
    for line in TEXT.splitlines():
        if line.startswith("| `"):
            cell = re.split(r"(?<!\\) \| ", line[2:])[0]
            yield from re.findall(r"`([^`]+)`", cell)


@cache
def patterns():
    return tuple(
        (phrase, re.compile(".*".join(map(re.escape, phrase.split("…"))), re.DOTALL))
        for phrase in phrases()
        if phrase.replace("…", "").strip(": .")
    )


def test_there_are_some():
    assert len(messages()) > 90
    assert len(patterns()) > 80


@pytest.mark.parametrize(("where", "text"), messages(), ids=[where for where, _ in messages()])
def test_every_message_is_explained(where, text):
    if not re.search(r"\w{3}", text.replace("…", "")):
        pytest.skip("its words come from elsewhere")
    assert any(pattern.search(text) for _, pattern in patterns()), f"TROUBLESHOOTING.md does not explain: {text}"


@cache
def sources():
    """All texts in the code, whatever they are for."""
    found = []
    for package in ("synchro", "changelog_format"):
        for path in sorted((ROOT / package).rglob("*.py")):
            found += [words(node) or "" for node in ast.walk(ast.parse(path.read_text()))]
    return "\n".join(text.replace("`", "") for text in found)


BEYOND = {"foreign key", "No such file or directory"}
"""What the system or the database says."""


def test_every_explained_message_is_there():
    everything = sources()
    gone = []
    for phrase, _ in patterns():
        pieces = [piece.strip(" :.") for piece in phrase.split("…") if len(piece.strip(" :.")) > 3]
        if phrase not in BEYOND and not phrase.startswith(("synchro.", "E0", "W0")):
            gone += [phrase for piece in pieces if piece not in everything]
    assert gone == []


def test_every_check_is_explained():
    section = TEXT.partition("## System checks")[2]
    told = set()
    for kind, first, last in re.findall(r"`(?:synchro\.)?([EW])(\d{3})`(?: to `[EW](\d{3})`)?", section):
        told |= {f"{kind}{number:03}" for number in range(int(first), int(last or first) + 1)}
    there = set()
    for path in (ROOT / "synchro").rglob("*.py"):
        there |= set(re.findall(r'"synchro\.([EWI]\d{3})"', path.read_text()))
    assert there <= told


def test_its_links_lead_somewhere():
    for page, text in (("README.md", TEXT), ("", TEXT)):
        target = (ROOT / page).read_text() if page else TEXT
        anchors = {
            re.sub(r"[^\w -]", "", title.lower()).replace(" ", "-")
            for title in re.findall(r"^#+ (.*)$", target, re.MULTILINE)
        }
        assert set(re.findall(rf"\]\({re.escape(page)}#([^)]*)\)", text)) <= anchors


def test_its_contents_name_every_chapter():
    titles = re.findall(r"^## (.*)$", TEXT, re.MULTILINE)
    contents = TEXT.partition("\n## ")[0]
    assert [title for title in titles if f"[{title}](#" not in contents] == []
