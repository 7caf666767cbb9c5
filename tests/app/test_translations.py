"""The texts in Polish, German, French and Spanish: all of them, as they are compiled, where they are shown."""

import ast
import gettext
import importlib.util
import io
import re
import subprocess
import sys
from pathlib import Path

import pytest
from django.core.management import call_command, load_command_class
from django.utils import translation

from synchro import errors
from synchro.core import call_synchronize
from synchro.management.commands import synchro_status
from synchro.models import ChangeLog
from synchro.options import SynchroSettings
from tests.project.shop.models import Tag

TOOL = Path(__file__).parents[2] / "tools" / "translations.py"
COMMANDS = TOOL.parents[1] / "synchro" / "management" / "commands"
LANGUAGES = ["de", "es", "fr", "pl"]


@pytest.fixture(scope="module")
def tool():
    found = importlib.util.spec_from_file_location("translations", TOOL)
    module = importlib.util.module_from_spec(found)
    found.loader.exec_module(module)
    return module


@pytest.mark.parametrize("language", LANGUAGES)
def test_every_message_is_translated_and_compiled(tool, language):
    """If this fails: run tools/translations.py, fill in what is empty in the .po files, and run it again."""
    assert tool.faults(language) == []


def test_messages_are_found_wherever_they_are(tool):
    found = {message.text for message in tool.messages()}
    assert {
        "Synchronize",  # a template
        "Changes waiting for %(destination)s",  # in it, with a variable
        "none",  # in it, in a filter
        "Synchronization",  # a view
        "Last synchronization",  # an option
        "No changes since last synchronization.",  # what the command says
        "natural key",  # a model
    } <= found
    assert tool.Message("change", context="action") in tool.messages()
    assert any(message.plural for message in tool.messages())


def test_faults_are_found(tool, monkeypatch, tmp_path):
    def broken(text):
        po, mo = tmp_path / "django.po", tmp_path / "django.mo"
        po.write_text(text)
        mo.write_bytes(tool.compiled("de", tool.read(po)))
        monkeypatch.setattr(tool, "paths", lambda language: (po, mo))
        monkeypatch.setattr(tool, "messages", lambda: {tool.Message("a %(b)s"): ["x.py"]})
        return [fault.partition(": ")[2] for fault in tool.faults("de")]

    assert broken('msgid "a %(b)s"\nmsgstr "c %(b)s"\n') == []
    assert broken('msgid "other"\nmsgstr "c"\n') == [
        "not in django.po: 'a %(b)s'",
        "no longer in the source: 'other'",
    ]
    assert broken('msgid "a %(b)s"\nmsgstr ""\n') == ["not translated, or fuzzy: 'a %(b)s'"]
    assert broken('#, fuzzy\nmsgid "a %(b)s"\nmsgstr "c %(b)s"\n') == ["not translated, or fuzzy: 'a %(b)s'"]
    assert broken('msgid "a %(b)s"\nmsgstr "c %(d)s"\n') == ["other placeholders than the message has: 'c %(d)s'"]
    (tmp_path / "django.mo").write_bytes(b"")
    assert tool.faults("de")[-1] == "de: django.mo is not that of django.po"


# --- what has to be translatable --------------------------------------------------------------------------------------
#
# Everything that somebody reads who runs, looks after or uses a deployment. In English stay what only programmers meet,
# log messages, and what is stored, compared or printed as JSON: for the reasons among these see synchro.reasons.

TRANSLATING = {
    "_", "gettext", "gettext_lazy", "gettext_noop", "ngettext", "ngettext_lazy", "pgettext", "pgettext_lazy",
    "npgettext", "early_gettext", "Reason",
}  # fmt: skip
SPOKEN = {
    *(name for name in vars(errors) if name.endswith("Error")),
    *("HoldError", "DeadTargetError", "UndecodableValueError", "UpcastError", "_UnusableError", "_WrongValueError"),
    *("CommandError", "ArgumentTypeError", "ImproperlyConfigured", "BadRequest"),
    *("CheckMessage", "Error", "Warning", "Info"),
    *("write", "say", "_say", "_warn"),
    *("success", "info", "warning", "error"),
}
"""Calls whose arguments somebody reads."""
OPTIONS = {"help", "hint", "verbose_name", "verbose_name_plural", "description", "label", "help_text"}
LOGGERS = {"logger", "logging"}
PROGRAMMERS = {
    "TypeError", "ValueError", "RuntimeError", "AttributeError", "KeyError", "ObjectDoesNotExist", "DoesNotExist",
}  # fmt: skip
"""What is raised where code calls us wrongly, or as Django and Python say it."""
WORDS = re.compile(r"[a-z]{2,}[,.:;]? [a-z]{2,}")
MACHINES = re.compile(r"(SELECT|INSERT|UPDATE|DELETE|CREATE|DROP|/\*|<)")
ENGLISH = {
    "models.py": {"synchronize", "bundles", "conflicts", "synchronization"},  # Django stores names of permissions
    "legacy.py": {"synchro:", "took over", "left"},  # said by migrate, which runs with translations switched off
    "pruning.py": {"destination", "node"},  # printed as JSON; the command has a sentence for each
    "trust.py": {"request of"},  # inserted into a sentence of changelog_format, which stays English
    "managers.py": {"needs the fields", "must be a subclass", "the natural key"},  # for whoever writes a model
}
"""Module → words in those of its texts that stay as they are."""


def called(node):
    return node.func.id if isinstance(node.func, ast.Name) else getattr(node.func, "attr", "")


def parts(node):
    """The children of *node*, without docstrings and without what only names something: keys, indices, comparisons."""
    if isinstance(node, ast.Dict):
        return node.values
    if isinstance(node, ast.Subscript):
        return [node.value]
    if isinstance(node, ast.Compare) or (isinstance(node, ast.Call) and called(node) in TRANSLATING):
        return []
    return [
        child
        for child in ast.iter_child_nodes(node)
        if not (isinstance(child, ast.Expr) and isinstance(child.value, ast.Constant))
    ]


def literals(node, within=()):
    """`(text, line, calls and assignments that it is in)` of each literal that is not translated."""
    match node:
        case ast.Call(func=func):
            owner = getattr(getattr(func, "value", None), "id", "")
            within = (*within, "logger" if owner in LOGGERS else called(node))
        case ast.keyword(arg=name) | ast.Assign(targets=[ast.Name(id=name)]):
            within = (*within, f"{name}=")
        case ast.FunctionDef() | ast.AsyncFunctionDef() | ast.ClassDef():
            within = ()
        case ast.Constant(value=str() as value):
            yield value, node.lineno, within
        case ast.JoinedStr(values=values):
            text = "".join(part.value if isinstance(part, ast.Constant) else "…" for part in values)
            yield text, node.lineno, within
            for part in values:
                yield from literals(part, within) if not isinstance(part, ast.Constant) else ()
            return
    for child in parts(node):
        yield from literals(child, within)


def untranslated(source, allowed=frozenset()):
    """`(line, text)` of what should be translatable in *source*."""
    for text, line, within in literals(ast.parse(source)):
        innermost = within[-1] if within else ""
        # Examples are what is typed.
        if {"logger", "examples=", *PROGRAMMERS} & set(within) or any(words in text for words in allowed):
            continue
        if MACHINES.match(text):
            continue
        spoken = innermost in SPOKEN or innermost in {f"{name}=" for name in OPTIONS}
        if WORDS.search(text) or (spoken and re.search(r"[a-z]{2}", re.sub(r"…|\{[^}]*\}", "", text))):
            yield line, text


@pytest.mark.parametrize("path", sorted((TOOL.parent.parent / "synchro").rglob("*.py")), ids=lambda path: path.name)
def test_every_text_can_be_translated(path):
    """If this fails: put the text into gettext(), or what is stored or compared into synchro/reasons.py."""
    if "migrations" not in path.parts:
        assert list(untranslated(path.read_text(), ENGLISH.get(path.name, frozenset()))) == []


def test_untranslated_texts_are_found():
    def found(source):
        return [text for _line, text in untranslated(source)]

    assert found('"""A docstring of some words."""\nx = "app_label"; y = f"{a}__in"; z = "SELECT seq FROM x"') == []
    assert found('self.stdout.write("done")') == ["done"]
    assert found('self.stdout.write(_("done") + f": {x}")') == []
    assert found('raise ExportError(f"no {x}", hint="run it")') == ["no …", "run it"]
    assert found('parser.add_argument("--x", help="some")') == ["some"]
    assert found('message = "it is here"\nraise ExportError(message)') == ["it is here"]
    assert found('raise ExportError(_("it is") % {"x": "at all times"})') == ["at all times"]
    assert found('logger.warning("it is here")\nraise TypeError(f"it is {x}")') == []
    assert found('class A:\n    help = "some"') == ["some"]


@pytest.mark.parametrize("path", sorted((TOOL.parent.parent / "synchro").rglob("*.py")), ids=lambda path: path.name)
def test_messages_are_whole_literals(path):
    """A message that is put together before it is looked up is found in no catalogue."""
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Call) and called(node) in TRANSLATING - {"early_gettext"}:
            for part in node.args[: 3 if called(node).startswith("np") else 2]:
                assert not isinstance(part, (ast.JoinedStr, ast.BinOp)), f"{path.name}:{node.lineno}"


@pytest.mark.parametrize("language", LANGUAGES)
def test_gettext_reads_what_was_compiled(tool, language):
    po, mo = tool.paths(language)
    with mo.open("rb") as file:
        catalog = gettext.GNUTranslations(file)
    known = tool.read(po)
    for message, forms in known.items():
        if message.plural:
            assert {catalog.ngettext(message.text, message.plural, number) for number in range(30)} <= set(forms)
        elif message.context:
            assert catalog.pgettext(message.context, message.text) == forms[0]
        else:
            assert catalog.gettext(message.text) == forms[0]
    assert len(known) == len(tool.messages())


@pytest.mark.django_db(databases=["default", "hq"])
def test_what_a_synchronization_says(settings):
    settings.SYNCHRO_REMOTE = "hq"
    said = {False: set(), True: set()}
    for language in ["en", *LANGUAGES]:
        with translation.override(language):
            said[False].add(call_synchronize())
            Tag.objects.create(name=language)
            out = io.StringIO()
            call_command("synchronize", stdout=out)
            said[True].add(out.getvalue())
    assert len(said[False]) == len(said[True]) == 5


def test_names():
    with translation.override("de"):
        assert str(ChangeLog._meta.verbose_name) == "Änderung"
        assert str(SynchroSettings.__dict__["last_check"].description) == "Letzte Synchronisierung"


def test_a_wrong_setting_is_told_before_there_are_translations():
    """Django refuses to translate until the apps are loaded; that must not hide what is wrong."""
    code = (
        "from django.conf import settings\n"
        "settings.configure(SYNCHRO_NODE='?', LANGUAGE_CODE='de', DATABASES={'default': {}})\n"
        "from synchro import conf\n"
        "try:\n    conf.node_name()\n"
        "except Exception as error:\n    print(type(error).__name__, error)\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=TOOL.parents[1])
    assert done.stdout.startswith("ImproperlyConfigured SYNCHRO_NODE is '?': use 1 to 55 letters")


@pytest.mark.parametrize("language", LANGUAGES)
def test_labels_of_the_status_fit(tool, language):
    known = tool.read(tool.paths(language)[0])
    labels = ("node", "log", "tracked", "paused", "destination", "bundles", "conflicts", "held")
    found = [known[tool.Message(label, context="status")][0] for label in labels]
    assert max(map(len, found)) < synchro_status._LABEL
    assert len(set(found)) == len(labels)


@pytest.mark.parametrize(("number", "wanted"), [(1, "dodany"), (2, "dodane"), (5, "dodanych"), (22, "dodane")])
def test_django_chooses_the_polish_plural(number, wanted):
    with translation.override("pl"):
        text = translation.ngettext("%(number)d added", "%(number)d added", number) % {"number": number}
        assert text == f"{number} {wanted}"


@pytest.mark.django_db
@pytest.mark.parametrize("language", LANGUAGES)
def test_json_does_not_depend_on_the_language(language):
    Tag.objects.create(name="a")
    said = set()
    for each in ("en", language):
        with translation.override(each):
            out = io.StringIO()
            call_command("synchro_status", "--json", stdout=out)
            said.add(out.getvalue())
    assert len(said) == 1


@pytest.mark.parametrize("language", LANGUAGES)
def test_help_texts_are_translated(language):
    for name in sorted(path.stem for path in COMMANDS.glob("sync*.py")):
        with translation.override(None):
            english = load_command_class("synchro", name)
            plain = english.create_parser("manage.py", name).format_help()
        with translation.override(language):
            command = load_command_class("synchro", name)
            said = command.create_parser("manage.py", name).format_help()
        assert command.help != english.help
        assert said != plain
