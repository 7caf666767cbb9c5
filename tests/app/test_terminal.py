"""What the commands look like on a terminal: progress, tables, one screen, colours, Ctrl-C."""

import datetime as dt
import io
import json
import os
import pty
import re
import shlex
import signal
import subprocess
import sys
import threading
import time
from contextlib import ExitStack, suppress
from pathlib import Path

import pytest
from django.core.management import CommandError, call_command, load_command_class
from django.db import connections
from django.utils import timezone

from synchro import export_bundle, import_bundle, scan
from synchro.management import progressbar
from synchro.management.progressbar import ProgressLine
from synchro.models import Conflict, Destination, Held, Node
from synchro.progress import watched
from tests.app.deploy import carry, take, unchanged, write
from tests.app.processes import Deployment
from tests.project.plain.models import Color
from tests.project.shop.models import Car, Country, Tag

pytestmark = pytest.mark.django_db(databases=["default", "hq", "ship"])
on_sqlite = pytest.mark.skipif(connections["default"].vendor != "sqlite", reason="an SQLite file of its own")
COMMANDS = ("conflicts", "export", "import", "log", "prune", "redate", "request", "scan", "status", "triggers")


def run(*args, **options):
    out = io.StringIO()
    call_command(*map(str, args), stdout=out, no_color=True, **options)
    return out.getvalue()


# --- progress ---------------------------------------------------------------------------------------------------------


def many(number=1200):
    for at in range(number):
        Tag.objects.create(name=f"tag {at}")


def told(call):
    """What *call* tells of its progress, by stage."""
    found = {}

    def watcher(stage, done, total):
        found.setdefault(stage, []).append((done, total))

    with watched(watcher):
        call()
    return found


@pytest.mark.parametrize("options", [{}, {"mode": "squash"}, {"models": ["shop"]}], ids=str)
def test_an_export_says_how_far_it_is(tmp_path, options):
    many()
    (steps,) = told(lambda: export_bundle(tmp_path, **options)).values()
    assert len(steps) > 2
    assert steps == sorted(steps, key=lambda each: each[0])
    assert steps[-1] == (1200, 1200)


def test_an_import_verifies_first_and_a_preview_plans():
    many()
    data, _ = write()
    for dry_run, stage in ((True, "planning"), (False, "importing")):
        found = told(lambda dry_run=dry_run: take(data, dry_run=dry_run))
        assert list(found) == ["verifying", stage]
        for steps in found.values():
            assert len(steps) > 1
            assert {total for _, total in steps} == {1200}
            assert [done for done, _ in steps] == sorted(done for done, _ in steps)
            assert steps[-1][0] == 1200


def test_a_scan_says_how_many_rows_it_has_looked_at():
    many(20)
    assert told(scan)["scanning"][-1][0] >= 20


def test_nobody_is_told_outside_of_the_block(tmp_path):
    found = []
    with watched(lambda *step: found.append(step)):
        pass
    many(3)
    export_bundle(tmp_path)
    assert found == []


def test_who_looks_on_can_end_it(tmp_path):
    """As Ctrl-C in the midst of it does: nothing is left behind, and nothing is marked."""

    class StopError(BaseException):
        pass

    def stop(stage, done, total):
        if done >= 512 and stage != "verifying":
            raise StopError

    many()
    data, _ = write()
    with unchanged("default"), watched(stop), pytest.raises(StopError):
        export_bundle(tmp_path, to="other")
    assert list(tmp_path.iterdir()) == []
    with unchanged("hq"), watched(stop), pytest.raises(StopError):
        take(data)
    assert take(data).added == 1200


class Terminal(io.StringIO):
    def isatty(self):
        return True


@pytest.fixture
def clock(monkeypatch):
    now = [100.0]
    monkeypatch.setattr(progressbar.time, "monotonic", lambda: now[0])
    monkeypatch.delenv("TERM", raising=False)
    monkeypatch.setenv("COLUMNS", "80")
    return now


def shown(line, terminal):
    """The text that was written last, without what steers the cursor."""
    return terminal.getvalue().rpartition("\r")[2].removesuffix("\x1b[K")


def test_the_line_has_share_rate_and_remaining_time(clock):
    terminal = Terminal()
    line = ProgressLine(terminal)
    line("importing", 0, 10_000)
    assert terminal.getvalue() == ""  # what is quick needs no line
    clock[0] += 2
    line("importing", 5_000, 10_000)
    text = shown(line, terminal)
    assert text == "importing  [##########..........]  50%  5,000 of 10,000  2,500/s  0:03 left"
    clock[0] += 0.01
    line("importing", 5_100, 10_000)
    assert shown(line, terminal) == text  # not more often than anybody can read
    line("importing", 10_000, 10_000)
    assert terminal.getvalue().endswith("\r\x1b[K")


def test_a_line_without_a_total_and_one_for_a_narrow_terminal(clock, monkeypatch):
    terminal = Terminal()
    line = ProgressLine(terminal)
    line("scanning", 0, None)
    clock[0] += 2
    line("scanning", 4_000, None)
    assert shown(line, terminal) == "scanning  4,000  2,000/s"
    monkeypatch.setenv("COLUMNS", "12")
    clock[0] += 2
    line("scanning", 4_000, None)
    assert shown(line, terminal) == "scanning  4"


def test_remaining_hours(clock):
    terminal = Terminal()
    line = ProgressLine(terminal)
    line("importing", 0, 1_000_000)
    clock[0] += 10
    line("importing", 1000, 1_000_000)
    assert shown(line, terminal).endswith("2:46:31 left")


def test_nothing_is_shown_where_there_is_no_terminal(clock, monkeypatch):
    for stream in (io.StringIO(), Terminal()):
        line = ProgressLine(stream)
        line("scanning", 0, None)
        clock[0] += 2
        line("scanning", 1, None)
        assert bool(stream.getvalue()) == stream.isatty()
    monkeypatch.setenv("TERM", "dumb")
    terminal = Terminal()
    line = ProgressLine(terminal)
    line("scanning", 0, None)
    clock[0] += 2
    line("scanning", 1, None)
    assert terminal.getvalue() == ""


# --- in a real terminal -----------------------------------------------------------------------------------------------


class Session:
    """A command on a pseudo-terminal of 80 by 24."""

    def __init__(self, deployment, *arguments, **environment):
        mine, theirs = pty.openpty()
        self.text = ""
        self._mine = mine
        self.process = subprocess.Popen(
            [sys.executable, "-m", "django", *map(str, arguments)],
            cwd=deployment.folder,
            env={**deployment.environment, "TERM": "xterm", "COLUMNS": "80", "LINES": "24"} | environment,
            stdin=theirs,
            stdout=theirs,
            stderr=theirs,
            start_new_session=True,
        )
        os.close(theirs)
        self._reader = threading.Thread(target=self._read)
        self._reader.start()

    def _read(self):
        with suppress(OSError):  # the other end is closed
            while data := os.read(self._mine, 4096):
                self.text += data.decode()

    def wait_for(self, text):
        end = time.monotonic() + 60
        while text not in self.text:
            assert time.monotonic() < end, self.text
            assert self.process.poll() is None, self.text
            time.sleep(0.01)

    def ended(self, code=0):
        assert self.process.wait(120) == code, self.text
        self._reader.join()
        os.close(self._mine)
        return self.text


@pytest.fixture
def office(tmp_path):
    return Deployment(tmp_path / "office", "office")


@on_sqlite
@pytest.mark.slow
def test_progress_colours_and_ctrl_c_in_a_real_terminal(office, tmp_path):
    slow = "import time; from synchro import progress; tell = progress.tell\n"
    slow += "progress.tell = lambda *step: (time.sleep(.8), tell(*step))\n"
    (office.folder / "slow_settings.py").write_text("from tests.app.process_settings import *\n" + slow)
    office.environment["PYTHONPATH"] += os.pathsep + str(office.folder)
    office.run("Tag.objects.bulk_create(Tag(name=f'tag {n}') for n in range(6000))")
    office.manage("synchro_scan")
    stick = tmp_path / "stick"
    stick.mkdir()

    slowly = {"DJANGO_SETTINGS_MODULE": "slow_settings"}
    session = Session(office, "synchro_export", "-o", stick, **slowly)
    session.wait_for("writing  [")
    os.killpg(session.process.pid, signal.SIGINT)
    text = session.ended(130)
    assert "Interrupted. No bundle was written and nothing was marked as exported." in text
    assert "Traceback" not in text
    assert list(stick.iterdir()) == []

    text = Session(office, "synchro_export", "-o", stick, **slowly).ended()
    assert "/s" in text
    assert "left\x1b[K" in text
    (bundle,) = stick.iterdir()

    hq = Deployment(tmp_path / "hq", "hq")
    hq.environment["PYTHONPATH"] += os.pathsep + str(office.folder)
    before = hq.database.read_bytes()
    session = Session(hq, "synchro_import", bundle, **slowly)
    session.wait_for("importing  [")
    os.killpg(session.process.pid, signal.SIGINT)
    text = session.ended(130)
    assert "Interrupted. The bundle at hand was not taken; import it again." in text
    assert "Traceback" not in text
    assert hq.run("print(Tag.objects.count())") == "0"
    assert len(hq.database.read_bytes()) >= len(before)
    for arguments, environment in ((("--no-color",), {}), ((), {"NO_COLOR": "1"})):
        assert "\x1b[3" not in Session(hq, "synchro_import", "nowhere", *arguments, **environment).ended(1)
    assert "\x1b[3" in Session(hq, "synchro_import", "nowhere").ended(1)
    assert "importing" not in Session(hq, "synchro_import", bundle, "-v0", **slowly).ended().split(":")[0]


@pytest.mark.parametrize("name", COMMANDS)
def test_ctrl_c_is_an_exit_status_and_a_sentence(name, monkeypatch, capsys):
    command = load_command_class("synchro", f"synchro_{name}")

    def interrupt(*args, **options):
        raise KeyboardInterrupt

    arguments = {"import": ["x"], "request": ["x"], "log": ["shop.tag", "x"], "triggers": ["check"]}.get(name, [])
    for where in ("synchro.changelog.available", f"{type(command).__module__}.Command.handle"):
        with monkeypatch.context() as patched:
            patched.setattr(where, interrupt)
            with pytest.raises(SystemExit) as caught:
                command.run_from_argv(["manage.py", f"synchro_{name}", "--skip-checks", *arguments])
        assert caught.value.code == 130
        said = capsys.readouterr()
        assert said.out == ""
        assert "Interrupted." in said.err
        assert said.err.count("\n") == 1


@pytest.mark.parametrize("state", ["closed", "full"])
@pytest.mark.parametrize("both", [False, True], ids=["output", "output and errors"])
@pytest.mark.parametrize("name", COMMANDS)
def test_output_that_cannot_be_written_is_an_exit_status(name, both, state, tmp_path, monkeypatch):
    """What is done is done; nobody is shown a traceback, whose exit status would be 1."""
    Tag.objects.create(name="x")
    export_bundle(tmp_path / "b.jsonl.zst", using="default")
    arguments = {
        "conflicts": ["list"],
        "export": ["--to", "hq", "-o", tmp_path / "again.jsonl.zst"],
        "import": [tmp_path / "b.jsonl.zst", "--database=hq"],
        "log": ["shop.tag", "x"],
        "redate": ["--dry-run"],
        "request": [Node.objects.get(own=True).ident, "--database=hq", "-o", tmp_path / "r.json"],
        "triggers": ["check"],
    }.get(name, [])
    if name == "request":
        import_bundle(tmp_path / "b.jsonl.zst", using="hq")
    said = io.StringIO()
    monkeypatch.setattr(connections, "close_all", lambda: None)  # as a command does at its end; this test goes on
    with ExitStack() as streams:
        for stream in ("stdout", "stderr") if both else ("stdout",):
            broken = None if state == "closed" else streams.enter_context(Path("/dev/full").open("w", buffering=1))
            monkeypatch.setattr(sys, stream, broken)
        if not both:
            monkeypatch.setattr(sys, "stderr", said)
        command = load_command_class("synchro", f"synchro_{name}")
        with pytest.raises(SystemExit) as caught:
            command.run_from_argv(["manage.py", f"synchro_{name}", "--skip-checks", *map(str, arguments)])
    assert caught.value.code == 3
    assert both or said.getvalue().count("It was done, but the output could not be written: ") == 1
    if name == "export":
        assert (tmp_path / "again.jsonl.zst").exists()
        assert Destination.objects.get(name="hq").seq == 1


@pytest.mark.parametrize(("command", "stream"), [("synchro_export -o -", "stdout"), ("synchro_import -", "stdin")])
def test_a_closed_stream_for_a_bundle_is_told(command, stream, monkeypatch):
    Tag.objects.create(name="x")
    monkeypatch.setattr(sys, stream, None)
    with pytest.raises(CommandError, match=r"^-: Bad file descriptor$"):
        call_command(*command.split(), stderr=io.StringIO())
    assert not Destination.objects.exists()


def test_no_color_is_honoured(monkeypatch):
    """Django takes the colours from the terminal; here they are forced on, as --force-color would."""
    assert "\x1b[" in _coloured(force_color=True)
    monkeypatch.setenv("NO_COLOR", "1")
    assert "\x1b[" in _coloured(force_color=True)
    assert "\x1b[" not in _coloured()


def _coloured(**options):
    Conflict.objects.get_or_create(
        pk=1, defaults={"local": "{}", "incoming": "{}", "created": timezone.now(), "held": True}
    )
    out = io.StringIO()
    call_command("synchro_status", stdout=out, **options)
    return out.getvalue()


def test_verbosity_0_leaves_what_went_well_unsaid(tmp_path):
    path = tmp_path / "b.jsonl.zst"
    assert run("synchro_export", "-o", path, verbosity=0) == ""
    many(2)
    assert run("synchro_export", "-o", path, "--to", "hq", verbosity=0) == ""
    assert run("synchro_import", path, "--dry-run", "--database=hq", verbosity=0) == ""
    assert run("synchro_import", path, "--database=hq", verbosity=0) == ""
    for command in (["synchro_scan"], ["synchro_prune"]):
        assert run(*command, verbosity=0) == ""
        assert run(*command) != ""
    assert json.loads(
        run("synchro_export", "--json", "-o", tmp_path / "c.jsonl.zst", "--to", "x", "--since", "0", verbosity=0)
    )["records"]
    assert "node" in run("synchro_status", verbosity=0)


@pytest.mark.parametrize("name", COMMANDS)
@pytest.mark.parametrize("columns", ["60", "100"])
def test_help_has_examples_that_the_command_understands(name, columns, monkeypatch):
    monkeypatch.setenv("COLUMNS", columns)
    name = f"synchro_{name}"
    command = load_command_class("synchro", name)
    parser = command.create_parser("./manage.py", name)
    shown = parser.format_help().partition("Examples:\n")[2].splitlines()
    assert shown == [f"  manage.py {name} {each}".rstrip() for each in command.examples]
    for line in shown:
        assert parser.parse_args(shlex.split(line)[2:])
    assert all(action.help for action in parser._actions)


def test_help_says_what_is_done_otherwise():
    parser = load_command_class("synchro", "synchro_export").create_parser("manage.py", "synchro_export")
    told = {action.dest: action.help for action in parser._actions}
    for name in ("output", "to", "level", "frame_size", "threads", "database"):
        assert "(default: " in told[name]


# --- one screen -------------------------------------------------------------------------------------------------------


def test_the_status_fits_one_screen(settings):
    many(3)
    export_bundle(io.BytesIO())
    node = Node.objects.get(own=True)
    node.pruned_seq = 2
    node.save()
    for number in range(30):
        Destination.objects.create(name=f"destination {number} {'x' * 40}", log=node, seq=number % 3)
        ident = f"peer-{'x' * 45}-{number:08x}"
        heard = timezone.now() - dt.timedelta(days=number)
        Node.objects.create(ident=ident, name="peer", heard=heard, acked_seq=number % 3, taken_seq=10**9)
    for number in range(12):
        _conflict(number)
        _held(node, f"a long reason {number} " + "why " * 60)
    lines = run("synchro_status").splitlines()
    assert len(lines) < 24
    assert max(map(len, lines)) <= 80
    text = "\n".join(lines)
    for words in ("… and 26 more peers", "… and 28 more destinations", "more reasons", "wait for a decision"):
        assert words in text
    everything_shown = run("synchro_status", verbosity=2)
    assert "… and" not in everything_shown
    assert everything_shown.count("peer-") == 30


def test_an_empty_deployment_fits_the_screen_too():
    assert max(map(len, run("synchro_status").splitlines())) <= 80


def test_sizes_are_told_with_a_space(tmp_path):
    Country.objects.create(code="PL")
    said = run("synchro_export", "-o", tmp_path)
    assert re.search(r", \d+ bytes$", said.strip())


def _conflict(number):
    Conflict.objects.create(local="{}", incoming="{}", created=timezone.now(), held=True, model=str(number))


def _held(node, reason):
    from synchro.models import ChangeLog

    change = ChangeLog.objects.create(model="a", root="a", pk_text="1", action="add", captured=0, payload="{}")
    Held.objects.create(change=change, reason=reason, since=timezone.now())


# --- the plan ---------------------------------------------------------------------------------------------------------


@pytest.fixture
def planned(tmp_path):
    """A bundle of which hq takes some, has some, knows some better, and cannot take one."""
    one, other = Country.objects.create(code="PL"), Country.objects.create(code="DE")
    tag = Tag.objects.create(name="gone")
    carry()
    one.name = "Polska"
    one.save()
    tag.delete()
    Country.objects.create(code="FR")
    other.name = "here"
    other.save()
    Country.objects.using("hq").filter(code="DE").get().delete()
    theirs = Country.objects.using("hq").get(code="PL")
    theirs.name = "Poland"
    theirs.save(using="hq")
    Car.objects.using("hq").create(plate="1", color=Color.objects.using("hq").create(name="another"))
    path = tmp_path / "b.jsonl.zst"
    export_bundle(path, to="hq")
    return path


def test_a_preview_is_a_table_by_model_and_lists_each_object_when_asked(planned):
    with unchanged():
        said = run("synchro_import", planned, "--dry-run", "--database=hq", "--any-destination")
    head, *rows = [line.split() for line in said.splitlines()[1:3]]
    assert head[0] == "model"
    country = dict(zip(head, next(row for row in rows if row[0] == "shop.country"), strict=True))
    assert country["added"] == "1"
    assert country["conflicts"] == "2"
    assert "shop.tag" in said
    assert "  added      shop.country" not in said
    said = run("synchro_import", planned, "--dry-run", "--database=hq", "--any-destination", verbosity=2)
    assert '  added      shop.country ["FR"] (' in said
    assert '  deleted    shop.tag ["gone"] (' in said
    told = json.loads(run("synchro_import", planned, "--dry-run", "--database=hq", "--any-destination", "--json"))
    assert told["models"]["shop.tag"] == {"deleted": 1}


def test_an_import_counts_by_model_too(planned):
    report = import_bundle(planned, using="hq", any_destination=True)
    assert report.models["shop.country"]["added"] == 1
    assert report.models["shop.tag"] == {"deleted": 1}
    assert sum(counts.get("added", 0) for counts in report.models.values()) == report.added


def test_an_error_is_one_sentence_and_a_hint(tmp_path):
    with pytest.raises(CommandError) as caught:
        run("synchro_import", tmp_path / "none.jsonl.zst")
    assert str(caught.value).count("\n") <= 1
    assert "No such file" in str(caught.value)
