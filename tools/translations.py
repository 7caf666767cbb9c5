#!/usr/bin/env python3
"""Keep the translations of the app complete.

    tools/translations.py           brings the .po files up to date with the source, and makes the .mo files
    tools/translations.py --check   exits with 1 when a message is missing, fuzzy or obsolete, or a .mo is not its .po's

They are synchro/locale/*/LC_MESSAGES/django.po and .mo. New messages are written with an empty translation, which
--check then names. Both kinds of files are in the repository, so that installing needs no gettext. Needs Django and
nothing else.
"""

from __future__ import annotations

import argparse
import ast
import re
import struct
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

ROOT = Path(__file__).resolve().parent.parent
APP = ROOT / "synchro"
LANGUAGES = {
    "de": "nplurals=2; plural=(n != 1);",
    "es": "nplurals=2; plural=(n != 1);",
    "fr": "nplurals=2; plural=(n > 1);",
    "pl": ("nplurals=3; plural=(n==1 ? 0 : n%10>=2 && n%10<=4 && (n%100<10 || n%100>=20) ? 1 : 2);"),
}
# Function → which of its arguments are context, message, plural.
FUNCTIONS = {
    "_": (None, 0, None),
    "gettext": (None, 0, None),
    "gettext_lazy": (None, 0, None),
    "gettext_noop": (None, 0, None),
    "early_gettext": (None, 0, None),
    "ngettext": (None, 0, 1),
    "ngettext_lazy": (None, 0, 1),
    "pgettext": (0, 1, None),
    "pgettext_lazy": (0, 1, None),
    "npgettext": (0, 1, 2),
    "Reason": (None, 0, 1),
}


class Message(NamedTuple):
    """What is to be translated. ``context`` and ``plural`` are empty where there is none."""

    text: str
    context: str = ""
    plural: str = ""


# --- from the source --------------------------------------------------------------------------------------------------


def messages() -> dict[Message, list[str]]:
    """Every message of the app, and the files that have it."""
    found: dict[Message, list[str]] = {}
    for path in sorted(APP.rglob("*")):
        if path.suffix == ".py" and "migrations" not in path.parts:
            of_file = _in_python(path.read_text(encoding="utf-8"))
        elif path.suffix in (".html", ".txt") and "templates" in path.parts:
            of_file = _in_template(path.read_text(encoding="utf-8"))
        else:
            continue
        name = path.relative_to(ROOT).as_posix()
        for message in of_file:
            files = found.setdefault(message, [])
            if name not in files:
                files.append(name)
    return found


def _in_python(source: str) -> Iterator[Message]:
    for node in ast.walk(ast.parse(source)):
        if not isinstance(node, ast.Call):
            continue
        name = node.func.id if isinstance(node.func, ast.Name) else getattr(node.func, "attr", "")
        places = FUNCTIONS.get(name)
        if places is None or not node.args:
            continue
        context, text, plural = (
            "" if place is None or place >= len(node.args) else _constant(node.args[place]) for place in places
        )
        if text:
            yield Message(text, context, plural)


def _constant(node: ast.expr) -> str:
    return node.value if isinstance(node, ast.Constant) and isinstance(node.value, str) else ""


def _in_template(source: str) -> Iterator[Message]:
    from django.utils.translation.template import templatize

    # What it gives is meant for xgettext: calls, with the rest of the page blotted out between them.
    for call in re.finditer(
        r"\bn?p?gettext\((?:[^()\"']|u?\"(?:\\.|[^\"\\])*\"|u?'(?:\\.|[^'\\])*')*\)|\b_\((?:u?\"(?:\\.|[^\"\\])*\"|u?'(?:\\.|[^'\\])*')\)",
        templatize(source),
    ):
        yield from _in_python(re.sub(r",\s*count\)", ", 1)", call.group()))


# --- .po --------------------------------------------------------------------------------------------------------------


def read(path: Path) -> dict[Message, list[str]]:
    """The translations in a .po file; a fuzzy entry has none."""
    found: dict[Message, list[str]] = {}
    for block in re.split(r"\n\s*\n", path.read_text(encoding="utf-8") if path.exists() else ""):
        parts: dict[str, str] = {}
        name = ""
        lines = [line for line in block.splitlines() if not line.startswith("#~")]
        fuzzy = any(line.startswith("#,") and "fuzzy" in line for line in lines)
        for line in lines:
            match = re.fullmatch(r'(msg\w+(?:\[\d\])?)?\s*(".*")', line)
            if match is not None:
                name = match[1] or name
                parts[name] = parts.get(name, "") + ast.literal_eval(match[2])
        if parts.get("msgid"):
            message = Message(parts["msgid"], parts.get("msgctxt", ""), parts.get("msgid_plural", ""))
            forms = [text for key, text in parts.items() if key.startswith("msgstr")]
            found[message] = [""] * len(forms) if fuzzy else forms
    return found


def _header(language: str) -> str:
    return (
        f"Project-Id-Version: django-synchro\nLanguage: {language}\nMIME-Version: 1.0\n"
        f"Content-Type: text/plain; charset=UTF-8\nContent-Transfer-Encoding: 8bit\n"
        f"Plural-Forms: {LANGUAGES[language]}\n"
    )


def _quoted(text: str) -> str:
    escaped = text.replace("\\", "\\\\").replace('"', '\\"').replace("\n", '\\n"\n"').replace("\t", "\\t")
    return f'"{escaped}"' if "\n" not in escaped else f'""\n"{escaped}"'.removesuffix('\n""')


def write(language: str, source: dict[Message, list[str]], known: dict[Message, list[str]]) -> str:
    """The .po file: every message of *source* with its translation in *known*."""
    blocks = [f'msgid ""\nmsgstr {_quoted(_header(language))}']
    plurals = int(LANGUAGES[language][9])
    for message, files in sorted(source.items(), key=lambda each: (each[1][0], each[0])):
        forms = known.get(message) or []
        lines = [f"#: {' '.join(files)}"]
        if "%(" in message.text:
            lines.append("#, python-format")
        if message.context:
            lines.append(f"msgctxt {_quoted(message.context)}")
        lines.append(f"msgid {_quoted(message.text)}")
        if message.plural:
            lines.append(f"msgid_plural {_quoted(message.plural)}")
            forms = [*forms, *[""] * plurals][:plurals]
            lines += [f"msgstr[{number}] {_quoted(form)}" for number, form in enumerate(forms)]
        else:
            lines.append(f"msgstr {_quoted(forms[0] if forms else '')}")
        blocks.append("\n".join(lines))
    return "\n\n".join(blocks) + "\n"


# --- .mo --------------------------------------------------------------------------------------------------------------


def compiled(language: str, known: dict[Message, list[str]]) -> bytes:
    """The .mo file (GNU gettext's format, revision 0, little-endian, without a hash table)."""
    pairs = {b"": _header(language).encode()}
    for message, forms in known.items():
        if all(forms):
            key = f"{message.context}\4{message.text}" if message.context else message.text
            key = f"{key}\0{message.plural}" if message.plural else key
            pairs[key.encode()] = "\0".join(forms).encode()
    keys = sorted(pairs)
    start = 28 + 16 * len(keys)
    index, texts = [], b""
    for part in (keys, [pairs[key] for key in keys]):
        for text in part:
            index.append(struct.pack("<II", len(text), start + len(texts)))
            texts += text + b"\0"
    head = struct.pack("<7I", 0x950412DE, 0, len(keys), 28, 28 + 8 * len(keys), 0, start)
    return head + b"".join(index) + texts


# --- both -------------------------------------------------------------------------------------------------------------


def paths(language: str) -> tuple[Path, Path]:
    folder = APP / "locale" / language / "LC_MESSAGES"
    return folder / "django.po", folder / "django.mo"


def faults(language: str) -> list[str]:
    """What is wrong with the translation into *language*."""
    po, mo = paths(language)
    source, known = messages(), read(po)
    found = [f"{language}: not in {po.name}: {message.text!r}" for message in source if message not in known]
    found += [f"{language}: no longer in the source: {message.text!r}" for message in known if message not in source]
    for message, forms in known.items():
        if not all(forms):
            found.append(f"{language}: not translated, or fuzzy: {message.text!r}")
        wanted = set(re.findall(r"%\(\w+\)[sdr]", message.text + message.plural))
        for form in filter(None, forms):
            if not set(re.findall(r"%\(\w+\)[sdr]", form)) <= wanted or (
                not message.plural and set(re.findall(r"%\(\w+\)[sdr]", form)) != wanted
            ):
                found.append(f"{language}: other placeholders than the message has: {form!r}")
    if not mo.exists() or mo.read_bytes() != compiled(language, known):
        found.append(f"{language}: {mo.name} is not that of {po.name}")
    return found


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--check", action="store_true", help="change nothing; say what is wrong")
    if parser.parse_args().check:
        found = [fault for language in LANGUAGES for fault in faults(language)]
        print("\n".join(found) or "The translations are complete.")
        return bool(found)
    source = messages()
    for language in LANGUAGES:
        po, mo = paths(language)
        known = read(po)
        po.parent.mkdir(parents=True, exist_ok=True)
        po.write_text(write(language, source, known), encoding="utf-8")
        mo.write_bytes(compiled(language, read(po)))
        missing = sum(not all(forms) for forms in read(po).values())
        print(f"{language}: {len(source)} messages, {missing} without a translation")
    return 0


if __name__ == "__main__":
    sys.exit(main())
