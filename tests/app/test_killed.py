"""Processes that die at any moment, and disks that are full."""

import random
import shutil
import subprocess
import time

import pytest

from changelog_format import verify
from tests.app.processes import Deployment

pytestmark = pytest.mark.slow
ROUNDS = 12


def fill(deployment, name, number):
    deployment.run(
        f"from django.db import transaction\nwith transaction.atomic():\n for n in range({number}):\n"
        f"  Tag.objects.create(name=f'{name}-{{n}}')"
    )


@pytest.fixture
def office(tmp_path):
    return Deployment(tmp_path / "office", "office")


@pytest.fixture
def hq(tmp_path):
    return Deployment(tmp_path / "hq", "hq")


def killed(process, after):
    """Kill *process* after so many seconds, if it still runs; whether it did."""
    time.sleep(after)
    process.kill()
    process.communicate(timeout=60)
    return process.returncode != 0


def seconds(call):
    begin = time.monotonic()
    call()
    return time.monotonic() - begin


def test_l2_an_export_that_is_killed_at_any_moment_leaves_a_whole_file_or_none_and_nothing_is_lost(office, hq):
    fill(office, "first", 3000)
    length = seconds(lambda: office.export(to="measured"))
    moments = random.Random(5)
    kills = 0
    for number in range(ROUNDS):
        fill(office, f"round{number}", 20)
        moment = length * moments.uniform(0.5, 1.05)  # what comes before is Python that starts
        kills += killed(office.start("-m", "django", "synchro_export", "--to", "hq"), moment)
        for file in office.folder.glob("office-*.zst"):
            verify(file)
    assert kills
    last = office.manage("synchro_export", "--to", "hq")
    assert "records" in last or "No changes" in last
    files = [file for file in office.folder.glob("office-*.zst") if verify(file).header.destination == "hq"]
    hq.take(*files)
    assert hq.tags() == office.tags()


def test_i4_an_import_that_is_killed_at_any_moment_applies_nothing_and_the_same_command_does_it(office, hq):
    fill(office, "first", 3000)
    file = office.export(to="hq")
    empty = hq.folder / "empty.sqlite3"
    shutil.copy(hq.database, empty)
    length = seconds(lambda: hq.take(file))
    moments = random.Random(6)
    kills = 0
    for _ in range(ROUNDS):
        for rest in hq.folder.glob("deployment.sqlite3*"):
            rest.unlink()
        shutil.copy(empty, hq.database)
        kills += killed(hq.start("-m", "django", "synchro_import", str(file)), length * moments.uniform(0.4, 1.02))
        assert len(hq.tags()) in (0, 3000)
        hq.take(file)
        assert len(hq.tags()) == 3000
    assert kills


@pytest.fixture
def stick(tmp_path):
    """A file system of 64 KiB."""
    folder = tmp_path / "stick"
    folder.mkdir()
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=64k", "tmpfs", folder], capture_output=True, check=False
    )
    if mounted.returncode:
        pytest.skip("no file system can be mounted here")
    yield folder
    subprocess.run(["umount", folder], check=True)


def test_l2_a_disk_that_is_full_leaves_nothing_behind_and_the_next_export_has_it_all(office, hq, stick):
    office.run("import random\nfor n in range(40): Note.objects.create(text=random.Random(n).randbytes(4000).hex())")
    told = office.manage("synchro_export", "--to", "hq", "-o", str(stick), code=1)
    assert "No space left on device" in told
    assert "Nothing was marked as exported" in told
    assert list(stick.iterdir()) == []
    hq.take(office.export(to="hq"))
    assert hq.run("print(Note.objects.count())") == "40"


def test_l2_what_does_not_fit_the_stick_goes_on_several(office, hq, stick):
    office.run("import random\nfor n in range(40): Note.objects.create(text=random.Random(n).randbytes(4000).hex())")
    told = office.manage("synchro_export", "--to", "hq", "-o", str(stick), "--max-size", "60KB", code=1)
    assert "No space left on device" in told
    (first,) = stick.iterdir()
    hq.take(first)
    first.unlink()
    taken = int(hq.run("print(Note.objects.count())"))
    assert 0 < taken < 40
    hq.take(office.export(to="hq"))
    assert hq.run("print(Note.objects.count())") == "40"
