"""The texts in Polish, German, French and Spanish: all of them, as they are compiled, where they are shown."""

import gettext
import importlib.util
import io
from pathlib import Path

import pytest
from django.core.management import call_command
from django.utils import translation

from synchro.core import call_synchronize
from synchro.models import ChangeLog
from synchro.options import SynchroSettings
from tests.project.shop.models import Tag

TOOL = Path(__file__).parents[2] / "tools" / "translations.py"
LANGUAGES = ["de", "es", "fr", "pl"]


@pytest.fixture(scope="module")
def tool():
    found = importlib.util.spec_from_file_location("translations", TOOL)
    module = importlib.util.module_from_spec(found)
    found.loader.exec_module(module)
    return module


@pytest.mark.xfail(reason="new messages are being translated")
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


@pytest.mark.xfail(reason="new messages are being translated")
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
