"""SPEC.md, the code and the vectors say the same."""

import hashlib
import io
import json
import re
from pathlib import Path

import pytest

import changelog_format
from changelog_format import BundleError, header, names, open_bundle, pieces, records, values, verify
from changelog_format.container import raw_frame
from tests.format import samples
from tests.format.samples import BAD, ROOT, VECTORS

SPEC = (ROOT / "SPEC.md").read_text(encoding="utf-8")
RULES = re.findall(r"^\*\*(R\d+)\*\* ", SPEC, flags=re.MULTILINE)
CLASSES = {
    rule: name
    for name, rules in re.findall(r"^\| `(\w+Error)` \| (.*) \|$", SPEC, flags=re.MULTILINE)
    for rule in rules.split(", ")
}
# R71: such a file would be of hundreds of megabytes; it is tested by itself.
NOT_BY_A_FILE = {"R60", "R61", "R62", "R71"}
# These depend on whom the reader trusts and what keys it has: see test_signing.py and test_encryption.py.
NOT_BY_A_FILE |= {f"R{number}" for number in range(72, 79)}
# Kinds of the errors that the table has, for who handles them apart.
KINDS = {"NoIdentityError": "EncryptionError"}
SOURCES = [path.read_text(encoding="utf-8") for path in Path(changelog_format.__file__).parent.glob("*.py")]


def test_rules_are_numbered_without_gaps():
    assert sorted(RULES, key=lambda rule: int(rule[1:])) == [f"R{number}" for number in range(1, len(RULES) + 1)]


def test_every_rule_that_a_file_can_break_has_a_vector_of_its_error():
    assert CLASSES.keys() == set(RULES) - {"R61", "R62"}
    assert {vector["rule"] for vector in BAD} == set(RULES) - NOT_BY_A_FILE
    for vector in BAD:
        assert vector["error"] == CLASSES[vector["rule"]], vector["file"]


def test_the_code_raises_the_rules_of_the_spec():
    raised = {rule for source in SOURCES for rule in re.findall(r'"(R\d+)"', source)}
    assert raised == CLASSES.keys()
    for kind, rule in re.findall(r"raise (\w+)\((?:[^()]|\([^()]*\))*?rule=\"(R\d+)\"", "\n".join(SOURCES)):
        if kind not in {"ValueFormError", "BundleError"}:
            assert CLASSES[rule] == KINDS.get(kind, kind)


def test_every_error_is_in_the_tree():
    for name in set(CLASSES.values()):
        assert issubclass(getattr(changelog_format, name), changelog_format.BundleError)
        assert f"── {name} " in changelog_format.errors.__doc__


def tables():
    """The first columns of the tables whose first line is `key | type`."""
    for table in re.findall(r"^\| key \| type \| \|\n\| --- .*\n((?:\|.*\n)+)", SPEC, flags=re.MULTILINE):
        yield set(re.findall(r"^\| `(\w+)` \|", table, flags=re.MULTILINE))


def test_the_tables_have_the_keys_of_the_code():
    assert list(tables()) == [
        header._KEYS,
        header._MODEL_KEYS,
        records._COMMON,
        records._OBJECT_KEYS,
        records._TRAILER_KEYS,
        pieces._KEYS,
    ]
    for actions, keys in re.findall(r"^\| ((?:`\w+`(?:, )?)+) \| [^|]* \|(.*)\|$", SPEC, flags=re.MULTILINE):
        for action in re.findall(r"`(\w+)`", actions):
            if action in records._BODY:
                assert set(re.findall(r"`(\w+)`:", keys)) == records._BODY[action]


def test_the_example_has_not_drifted():
    path = VECTORS / "good" / "example.jsonl.zst"
    data = path.read_bytes()
    example = SPEC.partition("## 15 A worked example")[2]
    lines, last = re.findall(r"```json\n(.*?)```", example, flags=re.DOTALL)
    (dump,) = re.findall(r"```text\n(.*?)```", example, flags=re.DOTALL)
    assert bytes.fromhex(dump) == data[1025:]
    assert data[10:1021] == lines.encode()
    assert data[1025 + 9 : -4] == last.encode()
    for shown in re.findall(r"`((?:[0-9a-f]{2} ){3,}[0-9a-f]{2})`", example):
        assert bytes.fromhex(shown) in data
    with open_bundle(io.BytesIO(data)) as reader:
        assert len(list(reader)) == 2


def null_breaks():
    """Each place of a bundle, and the rule that a null there breaks by the text on wrong types (None: it may be)."""
    own = {"type": "R28", "date": "R35", "action": "R47", "model": "R33", "id": "R32", "base": None, "key": None}
    first, second = samples.header(1).to_dict(), samples.change(1).to_dict()
    for name in second:
        yield name, own.get(name, "R29"), first, second | {name: None}
    for name, rule in (
        ("origin", "R29"),
        ("base_node", "R31"),
        ("withheld", "R29"),
        ("actor", "R29"),
        ("context", "R29"),
        ("resolution", "R50"),
    ):
        yield name, rule, first, second | {name: None}
    own = {"type": "R36", "format": "R37", "bundle": "R39", "created": "R35", "mode": "R41", "previous": None}
    for name in first:
        yield f"header {name}", own.get(name, "R29"), first | {name: None}, second
    yield "only", "R29", first | {"only": None}, second
    yield "only", "R33", first | {"only": [None]}, second
    yield "acks", "R42", first | {"acks": {samples.HQ: None}}, second
    yield "node.id", "R31", first | {"node": {"id": None, "name": ""}}, second
    yield "tag", "R22", first, second | {"fields": {"name": {"$bytes": None}}}


@pytest.mark.parametrize(
    ("rule", "lines"), [pytest.param(rule, lines, id=name) for name, rule, *lines in null_breaks()]
)
def test_which_rule_a_wrong_type_breaks(rule, lines):
    body = b"".join(json.dumps(line).encode() + b"\n" for line in lines)
    digests = {"sha256": hashlib.sha256(body).hexdigest(), "stored_sha256": hashlib.sha256(raw_frame(body)).hexdigest()}
    trailer = {"type": "trailer", "records": 1, **digests}
    data = raw_frame(body) + raw_frame(json.dumps(trailer).encode() + b"\n")
    if rule is None:
        verify(io.BytesIO(data))
        return
    with pytest.raises(BundleError) as caught:
        verify(io.BytesIO(data))
    assert caught.value.rule == rule


@pytest.mark.parametrize("anchor", re.findall(r"\]\(#([^)]*)\)", SPEC))
def test_the_table_of_contents_leads_somewhere(anchor):
    titles = re.findall(r"^## (.*)$", SPEC, flags=re.MULTILINE)
    assert anchor in {re.sub(r"[^\w -]", "", title.lower()).replace(" ", "-") for title in titles}


def test_names_are_those_of_the_spec():
    """The table of what is left out, against the code, character by character; and every identifier is a name."""
    section = SPEC.partition("**R34**")[2].partition("**R35**")[0]
    spans = re.findall(r"U\+([0-9A-F]+)(?: to U\+([0-9A-F]+))?", section)
    (first, last), *out = [(int(low, 16), int(high or low, 16)) for low, high in spans]
    left_out = {code for low, high in out for code in range(low, high + 1)}
    wrong = [
        hex(code)
        for code in range(0x110000)
        if names.is_field_name("a" + chr(code))
        != (first <= code <= last and code not in left_out if code > 0x7F else chr(code).isalnum() or code == 0x5F)
        or (("a" + chr(code)).isidentifier() and not names.is_field_name("a" + chr(code)))
    ]
    assert wrong == []


def test_each_tag_is_in_the_spec():
    section = SPEC.partition("## 4 Values")[2].partition("## 5")[0]
    assert set(re.findall(r"^\| `\{\"(\$\w+)\"", section, flags=re.MULTILINE)) == values._DECODERS.keys()
