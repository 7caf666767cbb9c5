"""Changes from a clock that was years ahead: what has not left gets another date, and what has left keeps it."""

import time

import pytest
from django.core.management import CommandError, call_command

from synchro import changelog, conflicts, export_bundle, import_bundle, reset_synchro, synchronizing
from synchro.errors import ClockError
from synchro.models import ChangeLog, Node, Version, options
from synchro.redating import redate
from synchro.seal import seal
from tests.app.deploy import assert_same, at, brought, carry, everything, rolled_back, take, unchanged, write
from tests.project.shop.models import Note, Person, Tag

pytestmark = pytest.mark.django_db(databases=["default", "hq", "ship"])
YEARS = 10 * 365 * 24 * 3600 * 1_000_000


@pytest.fixture
def clock(monkeypatch):
    """The machine's clock; `clock.ahead()` sets it wrong, `clock.right()` right."""

    class Clock:
        off = 0

        @classmethod
        def ahead(cls):
            cls.off = YEARS

        @classmethod
        def right(cls):
            cls.off = 0

    monkeypatch.setattr(changelog, "now", lambda: time.time_ns() // 1000 + Clock.off)
    return Clock


def dates(using="default"):
    return list(ChangeLog.objects.using(using).filter(log__isnull=False).order_by("seq").values_list("date", flat=True))


def edit(note, text):
    note.char = text
    note.save()


def test_the_status_says_that_nothing_can_be_sealed(clock, capsys):
    def said():
        call_command("synchro_status", no_color=True)
        return [line for line in capsys.readouterr().out.splitlines() if "synchro_redate" in line]

    Note.objects.create(char="before")
    seal("default")
    assert said() == []
    clock.ahead()
    Note.objects.create(char="from the future")
    clock.right()
    (line,) = said()
    assert line.split()[:5] == ["clock", "too", "far", "ahead,", "at"]
    clock.ahead()
    seal("default")
    assert said() == []
    clock.right()
    assert said() == [line]
    redate()
    assert said() == []


def test_what_is_pending_goes_out_after_it_was_dated_anew(clock):
    note = Note.objects.create(char="before")
    carry()
    clock.ahead()
    edit(note, "from the future")
    Tag.objects.create(name="too")
    clock.right()
    edit(note, "after")
    with pytest.raises(ClockError) as caught:
        write(to="hq")
    assert "synchro_redate" in caught.value.hint
    report = redate()
    assert (report.pending, report.sealed) == (2, 0)
    assert report.earliest > "2030"
    assert brought(carry()) == {"changed": 2, "added": 1}
    assert_same("default", "hq")
    assert dates() == sorted(dates())
    assert dates()[-1] < changelog.now()


def test_what_was_sealed_and_not_exported_too_with_everything_that_rests_on_its_date(clock):
    """An import seals; so the changes have positions and dates by the time at which somebody looks at the clock."""
    note, person = Note.objects.create(char="before"), Person.objects.create(name="p")
    carry()
    theirs = at(Note).get()
    edit(theirs, "of hq")
    clock.ahead()
    edit(note, "from the future")
    person.tags.add(Tag.objects.create(name="t"))
    edit(note, "from the future, again")
    carry("hq", "default")
    assert Note.objects.get().char == "from the future, again"
    clock.right()
    edit(note, "after")
    person.tags.clear()
    with pytest.raises(ClockError):
        write(to="hq")
    report = redate()
    assert (report.pending, report.sealed) == (0, 4)
    assert max(dates()) <= changelog.now()
    seal("default")
    made = ChangeLog.objects.filter(imported=False).order_by("seq")
    known = set(dates())
    assert all(each.base is None or each.base in known for each in made)
    assert set(Version.objects.values_list("date", flat=True)) <= known
    assert dates() == sorted(dates()) or ChangeLog.objects.filter(imported=True).exists()
    assert brought(carry()) == {"changed": 3, "added": 1, "m2m": 2, "conflicts": 1, "already_known": 1}
    carry("hq", "default")
    assert_same("default", "hq")
    assert at(Note).get().char == "after"
    assert not at(Person).get().tags.exists()


def test_an_edit_elsewhere_made_later_wins_over_it(clock):
    note = Note.objects.create(char="before")
    carry()
    clock.ahead()
    edit(note, "from the future")
    seal("default")
    clock.right()
    redate()
    theirs = at(Note).get()
    edit(theirs, "of hq, later")
    carry()
    carry("hq", "default")
    assert_same("default", "hq")
    assert Note.objects.get().char == "of hq, later"


def test_a_decision_made_meanwhile_stands(clock):
    note = Note.objects.create(char="before")
    carry()
    edit(at(Note).get(), "of hq")
    edit(note, "of the office")
    clock.ahead()
    take(write("hq", to="default")[0], "default", on_conflict="hold")
    conflicts.keep(conflicts.conflicts()[0].id)
    clock.right()
    assert redate().pending == 1
    carry()
    assert_same("default", "hq")
    assert at(Note).get().char == "of the office"


@pytest.mark.parametrize("way", ["to a destination", "as a part", "again", "to remote"])
def test_what_was_exported_keeps_its_date(clock, way, settings):
    Note.objects.create(char="before")
    write(to="hq")
    clock.ahead()
    Tag.objects.create(name="from the future")
    if way == "to remote":
        settings.SYNCHRO_REMOTE = "hq"
        synchronizing.synchronize(remote="hq")
    else:
        write(**{"to a destination": {"to": "hq"}, "as a part": {"models": ["shop.tag"]}, "again": {"since": 1}}[way])
    clock.right()
    Tag.objects.create(name="after")
    before = everything("default")
    with pytest.raises(ClockError, match="was exported, or is another deployment's") as caught:
        redate()
    assert "clock_tolerance" in caught.value.hint
    assert everything("default")["synchro_change"] == before["synchro_change"]


def test_so_does_what_others_made_and_what_a_reset_let_go(clock):
    clock.ahead()
    at(Tag).create(name="of hq")
    carry("hq", "default")
    clock.right()
    with pytest.raises(ClockError):
        redate()
    clock.ahead()
    at(Note, "ship").create(char="x")
    reset_synchro("ship")
    clock.right()
    with pytest.raises(ClockError):
        redate(using="ship")


def test_what_goes_on_under_a_new_id_keeps_what_others_know_by_its_date(clock):
    Tag.objects.create(name="before")
    carry()
    carry("hq", "default")
    with rolled_back("default"):
        Tag.objects.create(name="lost")
        carry()
    clock.ahead()
    Tag.objects.create(name="went out under a position of before")
    seal("default")
    assert take(write("hq")[0], "default").new_id
    Tag.objects.create(name="pending")
    clock.right()
    with pytest.raises(ClockError):
        redate()


def test_with_a_tolerance_that_reaches_so_far_everybody_goes_on(clock):
    """What to do once it was exported."""
    note = Note.objects.create(char="before")
    carry()
    clock.ahead()
    edit(note, "from the future")
    late, _ = write(to="hq")
    clock.right()
    with pytest.raises(ClockError):
        take(late)
    options.clock_tolerance = 2 * YEARS // 1_000_000
    try:
        take(late)
        edit(at(Note).get(), "of hq, on top of it")
        carry("hq", "default")
        edit(Note.objects.get(), "of the office, on top of that")
        carry()
    finally:
        options.clock_tolerance = 300
    assert_same("default", "hq")
    assert at(Note).get().char == "of the office, on top of that"


def test_nothing_to_do_changes_nothing(clock):
    Tag.objects.create(name="a")
    seal("default")
    with unchanged("default"):
        report = redate()
    assert (report.pending, report.sealed, report.earliest) == (0, 0, None)


def test_the_command(clock, capsys, tmp_path):
    call_command("synchro_redate")
    assert "No change here is dated later" in capsys.readouterr().out
    clock.ahead()
    Tag.objects.create(name="a")
    Tag.objects.create(name="b")
    clock.right()
    with pytest.raises(CommandError, match="synchro_redate"):
        call_command("synchro_export", output=str(tmp_path))
    with unchanged("default"):
        call_command("synchro_redate", dry_run=True)
    assert capsys.readouterr().out.startswith("2 changes, dated ")
    call_command("synchro_redate", json=True)
    assert '"pending":2,"sealed":0' in capsys.readouterr().out
    report = export_bundle(tmp_path, to="hq")
    assert import_bundle(report.file, using="hq").added == 2
    assert Node.objects.get(current=True).clock <= changelog.now()
