"""SYNCHRO_APPLY: whether the project's handlers run when changes arrive, model by model."""

from contextlib import contextmanager

import pytest
from django.core.management import call_command
from django.db import models
from django.db.models import signals
from django.test import override_settings

from tests.app.deploy import assert_same, at, brought, carry
from tests.project.shop.models import Device, Person, Profile, Tag

pytestmark = pytest.mark.django_db(databases=["default", "hq", "ship"])
KINDS = (signals.pre_save, signals.post_save, signals.pre_delete, signals.post_delete)


@contextmanager
def handlers(*models, refuse=False):
    """What a project's handlers are told; with *refuse* they raise, as those of closed records do."""
    told = []

    def handler(sender, instance, using, signal, **_kwargs):
        if using == "hq":
            told.append((KINDS.index(signal), sender._meta.model_name))
            if refuse:
                raise RuntimeError("this is closed")

    for model in models:
        for kind in KINDS:
            kind.connect(handler, sender=model)
    signals.m2m_changed.connect(handler, sender=Person.tags.through)
    try:
        yield told
    finally:
        for model in models:
            for kind in KINDS:
                kind.disconnect(handler, sender=model)
        signals.m2m_changed.disconnect(handler, sender=Person.tags.through)


def test_a6_with_raw_no_handler_runs_also_where_a_deletion_takes_other_rows_along():
    with override_settings(SYNCHRO_APPLY="raw"), handlers(Person, Profile, Device, refuse=True) as told:
        person = Person.objects.create(name="a")
        Profile.objects.create(person=person)
        person.tags.add(Tag.objects.create(name="t"))
        carry()
        person.name = "b"
        person.save()
        person.tags.clear()
        carry()
        at(Person).bulk_create([Person(name="only here", boss=at(Person).get())])
        told.clear()
        person.delete()
        assert brought(carry()).get("held") is None
        assert told == []
        assert at(Person).get().boss is None


def test_a6_handlers_of_one_model_stay_still_and_those_of_another_run():
    modes = {"shop.person": "raw", "*": "save"}
    with override_settings(SYNCHRO_APPLY=modes), handlers(Person, Profile, Device) as told:
        person = Person.objects.create(name="a")
        Profile.objects.create(person=person, bio="x")
        carry()
        assert {name for _, name in told} == {"profile"}
        told.clear()
        Profile.objects.all().delete()
        person.delete()
        carry()
        assert {name for _, name in told} == {"profile"}
        assert_same("default", "hq")


def test_a6_a_model_applied_by_save_takes_raw_rows_along_in_silence():
    modes = {"shop.device": "raw", "*": "save"}
    with override_settings(SYNCHRO_APPLY=modes), handlers(Person, Device) as told:
        person = Person.objects.create(name="a")
        Device.objects.create(name="d", owner=person)
        carry()
        told.clear()
        Device.objects.update(owner=None)
        person.delete()
        carry()
        assert {name for _, name in told} <= {"person"}


def test_save_is_what_runs_them():
    with handlers(Tag) as told:
        Tag.objects.create(name="t")
        carry()
        assert told == [(0, "tag"), (1, "tag")]


def test_a_delete_that_takes_no_arguments(monkeypatch):
    """As that of some tree libraries."""
    told = []

    def delete(self):
        told.append(self.name)
        return models.Model.delete(self)

    monkeypatch.setattr(Person, "delete", delete)
    person = Person.objects.create(name="a")
    carry()
    person.delete()
    assert carry().held == 0
    assert told == ["a", "a"]
    assert not at(Person).exists()


def test_an_export_with_a_scan_says_whose_handlers_would_do_their_work_twice(tmp_path, capsys):
    def told(*options):
        Person.objects.create(name="a")
        call_command("synchro_export", *options, output=str(tmp_path))
        return capsys.readouterr().err

    assert told("--scan") == ""
    with handlers(Person):
        assert told() == ""
        message = told("--scan")
        assert "those of shop.Person do it again" in message
        assert 'SYNCHRO_APPLY = "raw"' in message
        for setting in (
            {"SYNCHRO_APPLY": "save"},
            {"SYNCHRO_APPLY": {"shop.person": "raw"}},
            {"SYNCHRO_TRIGGERS": True},
        ):
            with override_settings(**setting):
                assert told("--scan") == ""
