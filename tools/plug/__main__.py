#!/usr/bin/env python3
"""Pulls the plug: kills what synchro does at random moments, does it again, and looks at what is there then.

    python3 tools/plug                                 100 rounds on SQLite
    python3 tools/plug --rounds 500 --database postgres
    python3 tools/plug --rounds 9999                   until Ctrl-C
    python3 tools/plug --seed 7                        the same moments again, as far as the machine keeps time

In each round, between three deployments: an application writes and is killed (SIGKILL); an export, an import, a
synchronization from database to database and a pruning are killed, then run again; the medium is full, or cannot be
written, or is pulled out half-way; the disk of the database is full; the server ends the connections (PostgreSQL); two
imports of the same file run at once; the application writes the same rows as an import. Afterwards the log must tell
what the tables hold, without a gap; all that was committed must be there; every file must be whole; what was refused
must have moved no position; and the three must hold the same. Exit status: 0 if it was always so, otherwise 1. Needs
Python 3.11 or newer and pip.
"""

import argparse
import collections
import contextlib
import json
import os
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path

HERE = Path(__file__).resolve().parent
BENCH = HERE.parent / "bench"
sys.path[:0] = [str(HERE.parent), str(BENCH)]

from environment import ROOT, EnvironmentFailedError, clean_environ, ensure  # noqa: E402
from stores import store  # noqa: E402

KIB = 1024


class WrongError(Exception):
    """Something is not as it must be; the text says what."""


class Deployment:
    """One deployment in a process of its own (see deployment.py)."""

    def __init__(self, name, python, folder, databases):
        self.name = name
        self.folder = folder
        self.log = folder / f"{name}.log"
        self.journal = folder / f"{name}.journal"
        environ = clean_environ(
            BENCH_WITH="synchro",
            BENCH_NODE=name,
            BENCH_DATABASES=json.dumps(databases),
            DJANGO_SETTINGS_MODULE="settings",
            PYTHONPATH=f"{BENCH}{os.pathsep}{ROOT}",
        )
        self.process = subprocess.Popen(
            [str(python), "-W", "ignore", str(HERE / "deployment.py")],
            env=environ,
            cwd=BENCH,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            start_new_session=True,  # Ctrl-C is for the driver, which tells what it found; these end when it does
        )

    def start(self, do, **how):
        """Begin to do something; the process id of the child."""
        self.process.stdin.write(json.dumps({"do": do, "log": str(self.log), **how}) + "\n")
        self.process.stdin.flush()
        return json.loads(self.process.stdout.readline())["pid"]

    def wait(self):
        return json.loads(self.process.stdout.readline())["status"]

    def do(self, do, **how):
        """Do something whole. Raises WrongError where it fails."""
        self.start(do, **how)
        if self.wait():
            raise WrongError(f"{self.name}: {do} {how} failed: {self.said()}")

    def command(self, *words, **how):
        self.do("command", name=words[0], args=list(words[1:]), **how)

    def killed(self, do, after, **how):
        """Do something and kill it *after* so many seconds; whether it was still at it then."""
        pid = self.start(do, **how)
        timer = threading.Timer(after, self._kill, [pid])
        timer.start()
        status = self.wait()
        timer.cancel()
        if status not in (0, -signal.SIGKILL):
            raise WrongError(f"{self.name}: {do} {how} ended with {status} and was not killed: {self.said()}")
        return status != 0

    @staticmethod
    def _kill(pid):
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)

    def said(self):
        return self.log.read_text()[-2000:] if self.log.exists() else "(nothing)"

    def answer(self, do, **how):
        path = self.folder / f"{self.name}.answer"
        self.do(do, answer=str(path), **how)
        return json.loads(path.read_text())

    def close(self):
        self.process.stdin.close()
        self.process.wait()


class Experiment:
    """Rounds of pulled plugs between `sea` and `shore` (by files) and `quay` (by `synchronize`)."""

    def __init__(self, python, folder, kind, rng):
        self.rng = rng
        self.kind = kind
        self.folder = folder
        self.stick = folder / "stick"
        self.stick.mkdir()
        self.store = store(kind, folder, python)
        self.names = ("sea", "shore", "quay")
        for name in self.names:
            self.store.create(name)
        settings = {name: self.store.settings(name) for name in self.names}
        self.sea = Deployment("sea", python, folder, {"default": settings["sea"], "remote": settings["quay"]})
        self.shore = Deployment("shore", python, folder, {"default": settings["shore"]})
        self.second = Deployment("shore-again", python, folder, {"default": settings["shore"]})
        self.second_node()
        self.quay = Deployment("quay", python, folder, {"default": settings["quay"]})
        self.typical = collections.defaultdict(lambda: 0.2)
        self.figures = collections.Counter()
        for each in (self.sea, self.shore, self.quay):
            each.command("migrate", "auth", "--verbosity", "0")
            each.command("migrate", "--run-syncdb", "--verbosity", "0")

    def second_node(self):
        """A second process of the same deployment: it has the same name."""
        self.second.close()
        python = self.second.process.args[0]
        settings = self.store.settings("shore")
        self.second = Deployment("shore", python, self.folder, {"default": settings})
        self.second.log = self.folder / "shore-again.log"

    def run(self, number):
        self.capture(number)
        self.sea.do("add", seed=number)
        self.export()
        self.full_disk()
        self.locked_medium()
        self.pulled_out()
        self.full_database()
        self.cut_files()
        self.take()
        self.lost_connections()
        self.at_once(number)
        self.rivals(number)
        self.synchronize()
        self.compare()
        self.prune()

    def capture(self, number):
        self.sea.killed("write", self.rng.uniform(0.02, 0.5), seed=number, journal=str(self.sea.journal))
        self.figures["writers killed"] += 1
        self.sound(self.sea, journal=str(self.sea.journal))

    def interrupted(self, what, deployment, *words):
        """Kill a command at a random moment, then run it whole."""
        asked = {"name": words[0], "args": list(words[1:])}
        if deployment.killed("command", self.rng.uniform(0, self.typical[what] * 1.1), **asked):
            self.figures[f"{what}s killed"] += 1
        else:
            self.figures[f"{what}s that were quicker"] += 1
        begun = time.monotonic()
        deployment.command(*words)
        self.typical[what] = 0.7 * self.typical[what] + 0.3 * (time.monotonic() - begun)

    def export(self):
        self.interrupted("export", self.sea, "synchro_export", "-o", str(self.stick))
        self.whole()

    def whole(self):
        """Every file on the stick is a bundle from its first byte to its last."""
        from changelog_format import verify

        for path in self.stick.glob("*.jsonl.zst"):
            verify(path)
            self.figures["files verified"] += 1

    def full_disk(self):
        """A medium that does not take the whole bundle: no file, no position moved, and the same command again."""
        self.sea.do("add", number=120, seed=self.rng.random())
        with self._small_medium() as medium:
            if medium is None:
                self.figures["disks that could not be made small"] += 1
            else:
                status = self._limited(self.sea, "synchro_export", "-o", str(medium), "--level", "1")
                left = list(medium.iterdir())
                if status == 1 and left:
                    raise WrongError(f"an export to a full disk left {left}")
                if status == 0:
                    for path in left:
                        shutil.copy(path, self.stick)
                self.figures["bundles that fitted" if status == 0 else "disks full at an export"] += 1
        self.sea.command("synchro_export", "-o", str(self.stick))
        self.whole()

    @contextlib.contextmanager
    def _small_medium(self, size=None):
        """A file system of *size* KiB (a few unless given), None where none can be mounted."""
        medium = self.folder / "small"
        medium.mkdir(exist_ok=True)
        size = size or 4 * self.rng.randrange(1, 4)
        command = ["mount", "-t", "tmpfs", "-o", f"size={size}k", "tmpfs", str(medium)]
        try:
            mounted = subprocess.run(command, check=False, capture_output=True).returncode == 0
        except FileNotFoundError:
            mounted = False
        try:
            yield medium if mounted else None
        finally:
            if mounted:
                subprocess.run(["umount", str(medium)], check=True)  # noqa: S607

    def locked_medium(self):
        """A medium that cannot be written: nothing moves; it can be read all the same."""
        with self._small_medium(size=4096) as medium:
            if medium is None:
                return
            for path in self.stick.glob("*.jsonl.zst"):
                shutil.copy(path, medium)
            subprocess.run(["mount", "-o", "remount,ro", str(medium)], check=True)  # noqa: S607
            before = self.sea.answer("positions")
            self.sea.do("add", number=3, seed=self.rng.random())
            if self._limited(self.sea, "synchro_export", "-o", str(medium)) != 1:
                raise WrongError("an export to a medium that cannot be written was not refused")
            if self.sea.answer("positions") != before:
                raise WrongError("an export that was refused moved a position")
            self.shore.command("synchro_import", str(medium))
            self.figures["media that could not be written"] += 1
        self.sea.command("synchro_export", "-o", str(self.stick))

    def pulled_out(self):
        """The folder is gone at a random moment of an export."""
        medium = self.folder / "pulled"
        medium.mkdir()
        before = self.sea.answer("positions").get("gone", 0)
        self.sea.do("add", number=30, seed=self.rng.random())
        self.sea.start("command", name="synchro_export", args=["--to", "gone", "-o", str(medium)])
        time.sleep(self.rng.uniform(0, self.typical["export"]))
        shutil.rmtree(medium, ignore_errors=True)
        status = self.sea.wait()
        if medium.is_file():
            raise WrongError("an export to a medium that was pulled out made a file of its name")
        shutil.rmtree(medium, ignore_errors=True)
        if status not in (0, 1):
            raise WrongError(f"an export to a medium that was pulled out ended with {status}: {self.sea.said()}")
        if status and self.sea.answer("positions").get("gone", 0) != before:
            raise WrongError("an export to a medium that was pulled out failed and moved its position")
        self.figures["media pulled out too early" if status else "media pulled out when all was done"] += 1
        self.sea.command("synchro_export", "-o", str(self.stick))

    def cut_files(self):
        """The files end in the middle, from a random moment of an import on."""
        medium = self.folder / "cut"
        shutil.copytree(self.stick, medium)
        self.shore.start("command", name="synchro_import", args=[str(medium)])
        time.sleep(self.rng.uniform(0, self.typical["import"]))
        for path in medium.glob("*.jsonl.zst"):
            os.truncate(path, path.stat().st_size // 2)
        status = self.shore.wait()
        shutil.rmtree(medium)
        if status not in (0, 1):
            raise WrongError(f"an import of files that were cut ended with {status}: {self.shore.said()}")
        self.figures["imports of files that were cut" if status else "files cut when all was done"] += 1
        self.sound(self.shore)

    def lost_connections(self):
        """The server ends all connections to a database at a random moment."""
        if self.kind != "postgres":
            return
        self.sea.do("add", number=40, seed=self.rng.random())
        for what, deployment, name, words in (
            ("export", self.sea, "sea", ["synchro_export", "-o", str(self.stick)]),
            ("import", self.shore, "shore", ["synchro_import", str(self.stick)]),
            ("synchronization", self.sea, self.rng.choice(("sea", "quay")), ["synchronize"]),
        ):
            deployment.start("command", name=words[0], args=words[1:])
            time.sleep(self.rng.uniform(0, self.typical[what]))
            self._end_connections(name)
            status = deployment.wait()
            if status not in (0, 1):
                raise WrongError(f"{words} that lost its connection ended with {status}: {deployment.said()}")
            self.figures[f"{what}s that lost the database" if status else f"{what}s done before the database went"] += 1
            deployment.command(*words)
        self.whole()
        self.sound(self.shore)
        self.sound(self.sea)

    def _end_connections(self, name):
        import psycopg

        settings = self.store.settings(name)
        with psycopg.connect(
            host=settings["HOST"], port=settings["PORT"], user=settings["USER"],
            password=settings.get("PASSWORD") or None,
            dbname="postgres", autocommit=True,
        ) as connection:  # fmt: skip
            connection.execute(
                "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = %s", [settings["NAME"]]
            )

    def rivals(self, number):
        """The application of the receiver edits the same rows as an import, in the opposite order."""
        self.sea.do("edit", number=60, seed=f"s{number}")
        self.sea.command("synchro_export", "-o", str(self.stick))
        self.shore.start("command", name="synchro_import", args=[str(self.stick)])
        self.second.start("rival", number=60, seed=number)
        for each, allowed in ((self.shore, (0, 1)), (self.second, (0, 1))):
            status = each.wait()
            if status not in allowed:
                raise WrongError(f"an import beside an application that writes ended with {status}: {each.said()}")
            if status:
                self.figures[
                    "imports refused beside an application" if each is self.shore else "applications refused"
                ] += 1
        self.figures["imports beside an application"] += 1
        self.shore.command("synchro_import", str(self.stick))
        self.sound(self.shore)
        back = self.folder / "back"
        back.mkdir(exist_ok=True)
        self.shore.command("synchro_export", "--to", "sea", "-o", str(back))
        self.sea.command("synchro_import", str(back))
        shutil.rmtree(back)
        self.sea.command("synchro_export", "-o", str(self.stick))
        self.shore.command("synchro_import", str(self.stick))

    def prune(self):
        ignored = ["--ignore", "gone"] if "gone" in self.sea.answer("positions") else []
        self.interrupted("pruning", self.sea, "synchro_prune", *ignored)
        self.sound(self.sea)
        self.sea.command("synchro_export", "-o", str(self.stick))

    def full_database(self):
        """A database file that cannot grow: the import is refused, and the same command does it later."""
        if self.kind != "sqlite":
            return
        size = Path(self.store.settings("shore")["NAME"]).stat().st_size
        limit = size + self.rng.randrange(1, 40) * 4 * KIB
        status = self._limited(self.shore, "synchro_import", str(self.stick), log=os.devnull, file_limit=limit)
        self.figures["databases full at an import" if status else "imports that fitted"] += 1
        self.sound(self.shore)

    def _limited(self, deployment, *words, **how):
        """Run a command where there may be no room; its exit status, which is 0 or 1."""
        deployment.start("command", name=words[0], args=list(words[1:]), **how)
        status = deployment.wait()
        if status not in (0, 1):
            raise WrongError(f"{words} without room ended with {status}: {deployment.said()}")
        return status

    def take(self):
        self.interrupted("import", self.shore, "synchro_import", str(self.stick))
        self.sound(self.shore)

    def at_once(self, number):
        """Two imports of the same files at once, while the application writes at the sender."""
        self.sea.do("edit", number=50, seed=number)
        self.sea.command("synchro_export", "-o", str(self.stick))
        for each in (self.shore, self.second):
            each.start("command", name="synchro_import", args=[str(self.stick)])
        for each in (self.shore, self.second):
            status = each.wait()
            if status == 1:
                self.figures["imports refused beside another"] += 1
            elif status:
                raise WrongError(f"two imports at once: one ended with {status}: {each.said()}")
        self.shore.command("synchro_import", str(self.stick))
        self.figures["pairs of imports"] += 1

    def synchronize(self):
        self.interrupted("synchronization", self.sea, "synchronize")

    def sound(self, deployment, **how):
        problems = deployment.answer("check", **{"journal": "", **how})
        if problems:
            raise WrongError(f"{deployment.name}: {len(problems)} problems, the first: {problems[:3]}")
        self.figures["logs compared with their tables"] += 1

    def compare(self):
        expected = self.sea.answer("dump")
        for other in (self.shore, self.quay):
            found = other.answer("dump")
            for table, rows in expected.items():
                if rows != found[table]:
                    lacks = [row for row in rows if row not in found[table]][:3]
                    extra = [row for row in found[table] if row not in rows][:3]
                    raise WrongError(f"{other.name} differs in {table}: lacks {lacks}, and has {extra}")
            self.figures["deployments compared"] += 1
        for path in sorted(self.stick.glob("*.jsonl.zst"))[:-3]:  # the stick is emptied now and then
            path.unlink()

    def close(self):
        for each in (self.sea, self.shore, self.second, self.quay):
            each.close()
        for name in self.names:
            self.store.drop(name)


def options():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=100)
    parser.add_argument("--database", choices=["sqlite", "postgres", "mariadb"], default="sqlite")
    parser.add_argument("--seed", type=int, default=1)
    return parser.parse_args()


def main():
    asked = options()
    extra = {"sqlite": "postgres", "postgres": "postgres", "mariadb": "mysql"}[asked.database]
    try:
        python = ensure(ROOT / ".venv-test" / f"plug-{extra}", [f"{ROOT}[{extra}]"])
    except EnvironmentFailedError as error:
        print(f"tools/plug: {error}", file=sys.stderr)
        return 1
    if Path(sys.prefix).resolve() != python.parent.parent.resolve():  # changelog_format is needed here, too
        os.execv(python, [str(python), str(HERE), *sys.argv[1:]])  # noqa: S606 - no shell is wanted
    begun = time.monotonic()
    with tempfile.TemporaryDirectory(prefix="synchro-plug-") as folder:
        experiment = Experiment(python, Path(folder), asked.database, random.Random(asked.seed))  # noqa: S311
        number = 0
        try:
            for number in range(1, asked.rounds + 1):
                experiment.run(number)
            wrong = None
        except WrongError as error:
            wrong = error
        except KeyboardInterrupt:  # what was found until then is told, too
            wrong = None
            number -= 1
        finally:
            signal.signal(signal.SIGINT, signal.SIG_IGN)  # once is enough; timeout(1) sends it twice
            experiment.close()
    print(f"{number} rounds on {asked.database} in {time.monotonic() - begun:.0f} s:")
    for name, count in sorted(experiment.figures.items()):
        print(f"  {count:6,} {name}")
    print(f"WRONG in round {number} (--seed {asked.seed}): {wrong}" if wrong else "Nothing was lost, nothing doubled.")
    return 1 if wrong else 0


if __name__ == "__main__":
    try:
        sys.exit(main())
    except KeyboardInterrupt:
        sys.exit(130)
