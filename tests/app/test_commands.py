"""The commands: what they print and their exit codes; a preview leaves a database file byte for byte as it was."""

import errno
import io
import json
import os
import re
import subprocess
import sys
from pathlib import Path
from unittest import mock

import pytest
from django.core.management import CommandError, call_command
from django.db import connections

from changelog_format import verify
from synchro.errors import ClockError
from synchro.management.commanding import reported
from synchro.models import Bundle, Destination, Held
from tests.app.deploy import assert_same, forged, write
from tests.project.plain.models import Color
from tests.project.shop.models import Car, Country, Person, Tag

pytestmark = pytest.mark.django_db(databases=["default", "hq", "ship"])
ROOT = Path(__file__).parents[2]
IMPORT_KEYS = {
    "bundle", "records", "added", "changed", "deleted", "m2m", "merged", "already_known", "stale", "conflicts", "held",
}  # fmt: skip


def run(*args, **options):
    """What a command prints on standard output."""
    out = io.StringIO()
    call_command(*map(str, args), stdout=out, no_color=True, **options)
    return out.getvalue()


def refused(*args, **options):
    """The error text of a command that fails, and its exit code."""
    with pytest.raises(CommandError) as caught:
        run(*args, **options)
    return str(caught.value), caught.value.returncode


def exported(*args, **options):
    return json.loads(run("synchro_export", "--json", *args, **options))


def imported(*args, **options):
    return [
        json.loads(line) for line in run("synchro_import", "--json", "--database=hq", *args, **options).splitlines()
    ]


@pytest.fixture(autouse=True)
def folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.fixture
def bundles(folder):
    """Three bundles that join on to each other, the last first in the alphabet."""
    files = []
    for number, name in enumerate("abc"):
        Tag.objects.create(name=name)
        files.append(Path(exported("-o", folder / f"{9 - number}.jsonl.zst")["file"]))
    return files


# --- export -----------------------------------------------------------------------------------------------------------


def test_export_says_what_it_wrote_and_where(folder):
    assert run("synchro_export") == "No changes since last export.\n"
    assert list(folder.iterdir()) == []
    Tag.objects.create(name="a")
    Tag.objects.create(name="b")
    said = run("synchro_export")
    (file,) = folder.iterdir()
    assert said.startswith(f"{file.name}: 2 records, positions 1 to 2 of office-")
    assert run("synchro_export") == "No changes since last export.\n"


def test_export_as_json(folder):
    assert exported() == {"bundle": None, "records": 0}
    Tag.objects.create(name="a")
    report = exported()
    assert set(report) == {
        "bundle", "file", "node", "destination", "from_seq", "to_seq", "records", "objects", "bytes", "sha256",
        "moved", "files", "file_bytes", "missing_files", "new_id", "medium",
    }  # fmt: skip
    assert report["bundle"] == verify(report["file"]).header.bundle
    assert (report["records"], report["from_seq"], report["to_seq"]) == (1, 0, 1)


def test_export_into_a_file_a_folder_or_a_stream(folder):
    Tag.objects.create(name="a")
    assert exported("-o", folder / "mine.zst", to="1")["file"] == str(folder / "mine.zst")
    (folder / "stick").mkdir()
    assert Path(exported("-o", folder / "stick", to="2")["file"]).parent == folder / "stick"
    told = io.StringIO()
    with mock.patch("sys.stdout") as stdout:
        stdout.buffer = io.BytesIO()
        call_command("synchro_export", "-o", "-", "--to=3", "--json", stderr=told)
    assert verify(io.BytesIO(stdout.buffer.getvalue())).records == 1
    assert json.loads(told.getvalue())["file"] == "-"


def test_export_to_names_with_positions_of_their_own():
    Tag.objects.create(name="a")
    run("synchro_export", "--to=hq")
    Tag.objects.create(name="b")
    assert exported("--to=hq")["from_seq"] == 1
    assert exported("--to=archive")["from_seq"] == 0
    assert dict(Destination.objects.values_list("name", "seq")) == {"hq": 2, "archive": 2}


def test_export_of_a_range_leaves_the_position_alone():
    for name in "abc":
        Tag.objects.create(name=name)
    report = exported("--since=1", "--until=2")
    assert (report["from_seq"], report["to_seq"]) == (1, 2)
    assert exported("--until=1")["to_seq"] == 1
    assert exported()["from_seq"] == 0


def test_export_refuses_with_one_sentence_and_exit_code_1(folder):
    text, code = refused("synchro_export", "--since=5")
    assert (text.startswith("There is no position 5"), code) == (True, 1)
    Tag.objects.create(name="a")
    text, code = refused("synchro_export", "-o", folder / "no" / "where.zst")
    assert "could not be written: No such file or directory.\nNothing was marked as exported" in text
    assert code == 1
    with mock.patch("synchro.exporting.seal", side_effect=ClockError("the clock is wrong", hint="Set it.")):
        assert refused("synchro_export") == ("the clock is wrong\nSet it.", 1)
    with mock.patch("synchro.exporting.seal", side_effect=KeyboardInterrupt):
        text, code = refused("synchro_export")
    assert (text, code) == ("Interrupted. No bundle was written and nothing was marked as exported.", 130)


# --- import -----------------------------------------------------------------------------------------------------------


def test_import_says_what_it_did(bundles):
    said = run("synchro_import", bundles[0], "--database=hq")
    assert said.startswith(f"{bundles[0]}: 1 record of office-")
    assert said.rstrip().endswith("positions 1 to 1: 1 added.")
    assert run("synchro_import", bundles[0], "--database=hq").rstrip().endswith("1 known already.")
    assert "written by this deployment itself" in run("synchro_import", bundles[0])


def test_import_as_json_has_the_promised_keys(bundles):
    (report,) = imported(bundles[0])
    assert set(report) >= IMPORT_KEYS
    assert (report["records"], report["added"], report["dry_run"]) == (1, 1, False)
    assert all(isinstance(report[name], int) for name in IMPORT_KEYS - {"bundle"})


def test_import_puts_several_files_in_order(bundles):
    assert [report["to_seq"] for report in imported(*bundles[::-1])] == [1, 2, 3]
    assert_same("default", "hq")


def test_import_takes_folders_and_files_together(bundles, folder):
    (folder / "stick").mkdir()
    for file in bundles[1:]:
        file.rename(folder / "stick" / file.name)
    assert [report["to_seq"] for report in imported(folder / "stick", bundles[0])] == [1, 2, 3]


def test_import_of_a_folder_leaves_alone_what_is_for_others(folder):
    for name, destination in (("a", "clinic"), ("b", "hq"), ("c", "clinic"), ("d", "hq")):
        Tag.objects.create(name=name)
        run("synchro_export", f"--to={destination}", "-o", folder)
    told = io.StringIO()
    said = run("synchro_import", folder, "--database=hq", stderr=told)
    assert said.count(" added") == 2
    assert told.getvalue().count("left alone. This bundle was written for 'clinic'") == 2
    assert {tag.name for tag in Tag.objects.using("hq")} == set("abcd")
    others = [path for path in folder.iterdir() if verify(path).header.destination == "clinic"]
    text, code = refused("synchro_import", others[0], "--database=hq")  # whoever names it means it
    assert ("written for 'clinic'" in text, code) == (True, 1)
    for path in set(folder.iterdir()) - set(others):
        path.unlink()
    assert "written for 'clinic'" in refused("synchro_import", folder, "--database=hq")[0]  # nothing was done
    assert imported(folder, "--any-destination")


def test_import_of_several_files_stops_at_the_first_that_is_refused(bundles):
    bundles[1].write_bytes(bundles[1].read_bytes()[:-1])
    text, code = refused("synchro_import", *bundles, "--database=hq")
    assert "damaged" in text
    assert code == 1
    bundles[1].unlink()
    text, code = refused("synchro_import", bundles[0], bundles[2], "--database=hq")
    assert "The changes 2 to 2 of office-" in text
    assert "--since 1 --until 2" in text
    assert [tag.name for tag in Tag.objects.using("hq")] == ["a"]
    assert imported(bundles[2], "--allow-gap")[0]["added"] == 1


def test_import_reads_standard_input():
    Tag.objects.create(name="a")
    data, _ = write()
    with mock.patch("sys.stdin") as stdin:
        stdin.buffer = io.BytesIO(data)
        assert imported("-")[0]["added"] == 1


def test_import_preview_and_details(bundles):
    said = run("synchro_import", bundles[0], "--database=hq", "--dry-run", "--verbosity=2")
    assert "1 would be added" in said
    assert re.search(r'added      shop\.tag \["a"\] \(office-\w{8}/\d+\)', said)
    assert not Tag.objects.using("hq").exists()
    assert imported("--dry-run", *bundles)[2]["added"] == 1


def test_import_names_what_is_held_and_strict_refuses(folder):
    Car.objects.create(plate="1")
    Car.objects.using("hq").create(plate="1", color=Color.objects.using("hq").create(name="another"))
    file = folder / "b.zst"
    file.write_bytes(write()[0])
    text, code = refused("synchro_import", file, "--database=hq", "--strict")
    assert "1 change cannot be applied: shop.car office-" in text
    assert "Without --strict they are held, and the rest goes in." in text
    assert code == 1
    said = run("synchro_import", file, "--database=hq")
    assert "1 held" in said
    assert "  held: shop.car office-" in said
    assert "is unique, and another row here has its value" in said
    assert Held.objects.using("hq").count() == 1


def test_import_policy_fail_is_exit_code_1(folder):
    country = Country.objects.create(code="PL", name="old")
    first, second = folder / "1.zst", folder / "2.zst"
    first.write_bytes(write()[0])
    run("synchro_import", first, "--database=hq")
    for each in (country, Country.objects.using("hq").get()):
        each.name = f"new {each._state.db}"
        each.save()
    second.write_bytes(write()[0])
    text, code = refused("synchro_import", second, "--database=hq", "--on-conflict=fail")
    assert "conflict at shop.country ['PL']" in text
    assert code == 1
    assert imported(second, "--on-conflict=incoming")[0]["conflicts"] == 1
    assert Country.objects.using("hq").get().name == "new default"
    with pytest.raises(CommandError, match="invalid choice"):
        run("synchro_import", second, "--on-conflict=maybe")


def test_import_errors_are_one_clear_sentence(folder):
    text, code = refused("synchro_import", folder / "none.zst", "--database=hq")
    assert (text, code) == (f"{folder / 'none.zst'}: No such file or directory", 1)
    (folder / "text.zst").write_text("no bundle at all")
    text, code = refused("synchro_import", folder / "text.zst", "--database=hq")
    assert " is damaged or no bundle: " in text
    assert text.endswith("Nothing was imported.")
    assert code == 1
    Person.objects.create(name="p")

    def postdate(header, found):
        found[0]["date"] = header["range"]["to"]["date"] = "2099-01-01T00:00:00.000000Z"

    future = forged(write()[0], postdate)
    (folder / "future.zst").write_bytes(future)
    text, _ = refused("synchro_import", folder / "future.zst", "--database=hq")
    assert "is dated 2099-01-01T00:00:00.000000Z" in text
    assert "Set the clocks right. Nothing was imported." in text


def test_what_is_refused_among_several_is_named_and_what_was_imported_before_it(folder):
    files = []
    for name in "abc":
        Person.objects.create(name=name)
        files.append(write()[0])
    (folder / "1.jsonl.zst").write_bytes(files[0])
    (folder / "2.jsonl.zst").write_bytes(files[2])
    text, code = refused("synchro_import", folder, "--database=hq")
    assert text.startswith(f"{folder / '2.jsonl.zst'}: The changes 2 to 2 of ")
    told = f"That is about this file alone. 1 was imported before it and stays: {folder / '1.jsonl.zst'}."
    assert text.endswith(told)
    assert (code, Person.objects.using("hq").count()) == (1, 1)
    with mock.patch("synchro.taking.Taking.take", side_effect=KeyboardInterrupt):
        text, code = refused("synchro_import", folder, "--database=hq")
    assert (text, code) == ("Interrupted. The bundle at hand was not taken; import it again.", 130)
    text, _ = refused("synchro_import", folder, "--dry-run", "--database=hq")
    assert "imported before" not in text


def test_import_interrupted_says_so(bundles):
    with mock.patch("synchro.importing._verified", side_effect=KeyboardInterrupt):
        text, code = refused("synchro_import", bundles[0], "--database=hq")
    assert (text, code) == ("Interrupted. The bundle at hand was not taken; import it again.", 130)


# --- status -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("trouble", [errno.EPIPE, errno.ENOSPC])
def test_what_cannot_be_said_stops_nothing(bundles, trouble, monkeypatch):
    class Deaf(io.StringIO):
        descriptor = os.open(os.devnull, os.O_WRONLY)

        def write(self, text):
            raise OSError(trouble, os.strerror(trouble))

        def fileno(self):
            return self.descriptor

    monkeypatch.setattr(sys, "stdout", Deaf())
    if trouble == errno.EPIPE:
        call_command("synchro_import", *bundles, database="hq")
    else:
        with pytest.raises(CommandError, match="It was done, but the output could not be written: No space") as refused:
            call_command("synchro_import", *bundles, database="hq")
        assert refused.value.returncode == 3
    os.close(Deaf.descriptor)
    assert Tag.objects.using("hq").count() == Tag.objects.count()
    assert Bundle.objects.using("hq").count() == len(bundles)


def test_status_before_anything_happened():
    said = run("synchro_status")
    assert "office (gets its id with the first change" in said
    assert "0 changes sealed, 0 pending" in said
    assert "Nothing was logged so far" in said
    assert json.loads(run("synchro_status", "--json"))["node"] is None


def test_status_of_both_ends(bundles):
    Tag.objects.create(name="pending")
    said = run("synchro_status")
    assert "3 changes sealed, 1 pending" in said
    assert ["default", "3", "1"] in [line.split()[:3] for line in said.splitlines()]
    Car.objects.using("hq").create(plate="1", color=Color.objects.using("hq").create(name="another"))
    Car.objects.create(plate="1")
    exported("-o", "4.zst")
    imported(*bundles, "4.zst")
    said = run("synchro_status", "--database=hq")
    assert ["5", "0", "6", "today"] in [line.split()[1:] for line in said.splitlines()]
    assert "1 change could not be applied yet" in said
    found = json.loads(run("synchro_status", "--json", "--database=hq"))
    assert (found["held"], found["bundles_received"], found["peers"][0]["taken"]) == (1, 4, 5)


# --- real files, real processes ---------------------------------------------------------------------------------------


class Site:
    """A deployment in a folder, with an SQLite file of its own, worked on by processes of its own."""

    def __init__(self, folder, name):
        folder.mkdir()
        self.folder, self.name = folder, name
        self.file = folder / "synchro_default.sqlite3"
        self.run("migrate", "--verbosity=0")

    def run(self, *args, code=0, given=None):
        environment = {
            **os.environ,
            "PYTHONPATH": str(ROOT),
            "DJANGO_SETTINGS_MODULE": "tests.app.site_settings",
            "SYNCHRO_TEST_SQLITE_DIR": str(self.folder),
            "SYNCHRO_TEST_NODE": self.name,
        }
        command = [sys.executable, "-m", "django", *map(str, args)]
        done = subprocess.run(command, cwd=self.folder, env=environment, capture_output=True, input=given, check=False)
        assert done.returncode == code, done.stderr.decode()
        return done

    def python(self, code):
        return self.run(
            "shell", "--verbosity=0", "-c", f"from tests.project.shop.models import *\n{code}"
        ).stdout.decode()

    def content(self):
        return {path.name: path.read_bytes() for path in self.folder.iterdir() if "sqlite3" in path.name}


@pytest.mark.skipif(connections["default"].vendor != "sqlite", reason="looks at SQLite's files")
def test_two_sites_with_files_of_their_own(folder):
    office, hq = Site(folder / "office", "office"), Site(folder / "hq", "hq")
    office.python("p = Person.objects.create(name='p'); p.tags.add(Tag.objects.create(name='t'))")
    done = office.run("synchro_export", "-o", "-", "--json")
    assert json.loads(done.stderr)["records"] == 3
    before = hq.content()
    preview = hq.run("synchro_import", "-", "--dry-run", "--json", given=done.stdout)
    assert json.loads(preview.stdout)["added"] == 2
    # Since 6.1 Django's checks open every database, which makes empty files of the other two.
    assert {name: content for name, content in hq.content().items() if content} == before
    hq.python("Tag.objects.create(name='pending')")
    before = hq.content()
    hq.run("synchro_import", "-", "--dry-run", given=done.stdout)
    assert hq.content() == before
    assert json.loads(hq.run("synchro_import", "-", "--json", given=done.stdout).stdout)["m2m"] == 1
    assert hq.python("print(Person.objects.get().tags.get().name)").strip() == "t"
    before = hq.content()
    broken = hq.run("synchro_import", "-", given=done.stdout[:-1], code=1)
    assert b" is damaged or no bundle: " in broken.stderr
    assert hq.content() == before
    hq.run("synchro_import", code=2)
    assert b"No changes since last export." in office.run("synchro_export").stdout


@pytest.mark.parametrize("using", ["default", "hq"])
def test_a_lost_connection_is_one_sentence_also_where_only_the_driver_says_so(using):
    """Closing a cursor of the server's raises what Django does not translate."""
    error = connections[using].Database.OperationalError("server closed the connection")
    with pytest.raises(CommandError, match="The database refused: server closed"), reported(using, interrupted=""):
        raise error
