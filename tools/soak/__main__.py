#!/usr/bin/env python3
"""Load: many threads and processes write at once while exports run; then every change must have been carried once.

    python3 tools/soak                                  30 seconds on PostgreSQL, 4 processes of 4 threads
    python3 tools/soak --seconds 600 --processes 8
    python3 tools/soak --database sqlite --seconds 5

Each thread makes, changes and deletes objects of its own, and changes some that all of them change; some transactions
wait before they commit, some are rolled back. Two exporters run all the while. What is committed is noted in journals.
In the end the log and the bundles of both exporters must hold just what the journals say, each object's changes in
their order, positions without a gap; and a second deployment must become the same by the bundles. Exit status: 0 if
it is so, otherwise 1. Needs Python 3.11 or newer and pip.
"""

import argparse
import collections
import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

HERE = Path(__file__).resolve().parent
BENCH = HERE.parent / "bench"
sys.path[:0] = [str(HERE.parent), str(BENCH)]

from environment import ROOT, EnvironmentFailedError, clean_environ, ensure  # noqa: E402
from stores import store  # noqa: E402

EXPORTERS = ("one", "other")


class WrongError(Exception):
    """Something is not as it must be; the text says what."""


class Soak:
    def __init__(self, python, folder, kind):
        self.python = python
        self.folder = folder
        self.store = store(kind, folder, python)
        self.names = ("soaked", "fresh")
        for name in self.names:
            self.store.create(name)

    def start(self, name, *words):
        environ = clean_environ(
            BENCH_WITH="synchro",
            BENCH_NODE=name,
            BENCH_DATABASES=json.dumps({"default": self.store.settings(name)}),
            DJANGO_SETTINGS_MODULE="settings",
            PYTHONPATH=f"{BENCH}{os.pathsep}{ROOT}",
        )
        command = [str(self.python), "-W", "ignore", str(HERE / "worker.py"), *map(str, words)]
        return subprocess.Popen(command, env=environ, cwd=BENCH, stdout=subprocess.DEVNULL)

    def run(self, name, *words):
        if self.start(name, *words).wait():
            raise WrongError(f"{name}: {' '.join(map(str, words))} failed")

    def load(self, processes, threads, seconds):
        for name in self.names:
            self.run(name, "command", "migrate", "auth", "--verbosity", "0")
            self.run(name, "command", "migrate", "--run-syncdb", "--verbosity", "0")
        self.run("soaked", "prepare", self.folder)
        exporters = [self.start("soaked", "export", self.folder, each) for each in EXPORTERS]
        writers = [self.start("soaked", "write", self.folder, number, threads, seconds) for number in range(processes)]
        failed = sum(each.wait() != 0 for each in writers)
        (self.folder / "stop").touch()
        failed += sum(each.wait() != 0 for each in exporters)
        if failed:
            raise WrongError(f"{failed} processes failed")

    def journals(self):
        """What was committed: by object its changes in order (of the shared ones as they are numbered)."""
        found = collections.defaultdict(list)
        for path in self.folder.glob("*.journal"):
            for line in path.read_text().splitlines():
                action, model, key, value = json.loads(line)
                found[model, key].append((action, value))
        for (model, _), changes in found.items():
            if model == "library.author":
                changes.sort(key=lambda change: int(change[1]))
        return found

    def compare(self, what, expected, found):
        if found != expected:
            wrong = [key for key in expected.keys() | found.keys() if expected.get(key) != found.get(key)]
            first = min(wrong)
            raise WrongError(
                f"{what}: {len(wrong)} objects differ, as {first}: committed {expected.get(first)}, "
                f"and there is {found.get(first)}"
            )

    def check(self):
        expected = self.journals()
        shared = {key: changes for key, changes in expected.items() if key[0] == "library.author"}
        for (_, key), changes in shared.items():
            if [value for _, value in changes] != [str(number) for number in range(1, len(changes) + 1)]:
                raise WrongError(f"the journals themselves have a gap at {key}")
        for number in range(8):  # which were made before
            expected.setdefault(("library.author", f"shared {number}"), []).insert(0, ("add", "0"))
        self.compare("log", expected, self.log())
        carried = {each: self.carried(each) for each in EXPORTERS}
        for each, (found, _) in carried.items():
            self.compare(f"bundles of {each}", expected, found)
        self.run(
            "fresh", "command", "synchro_import", self.folder / EXPORTERS[0], "--any-destination", "--verbosity", "0"
        )
        for name in self.names:
            self.run(name, "dump", self.folder, name)
        if (self.folder / "soaked.json").read_text() != (self.folder / "fresh.json").read_text():
            raise WrongError("the second deployment is not the same")
        changes = sum(map(len, expected.values()))
        return changes, len(expected), [bundles for _, bundles in carried.values()]

    def log(self):
        self.run("soaked", "logged", self.folder)
        log = json.loads((self.folder / "log.json").read_text())
        if (self.folder / "pending.json").read_text() != "0":
            raise WrongError("something is pending after the last export")
        if [row[0] for row in log["rows"]] != list(range(1, log["seq"] + 1)):
            raise WrongError("the positions have a gap")
        found, keys = collections.defaultdict(list), {}
        for _, action, model, pk, state in log["rows"]:
            field, value = {"library.author": ("name", "note"), "library.tag": ("slug", "label")}[model]
            if action == "add":
                keys[model, pk] = state[field]
            found[model, keys[model, pk]].append((action, None if action == "delete" else state[value]))
        return found

    def carried(self, destination):
        from changelog_format import check_archive, open_bundle

        folder = self.folder / destination
        report = check_archive(folder)
        if not report.in_order:
            raise WrongError(f"the bundles of {destination}: {report.problems[:3]}")
        found, seq = collections.defaultdict(list), 0
        paths = sorted(folder.glob("*.jsonl.zst"), key=lambda path: int(path.name.split("-")[2]))
        for path in paths:
            with open_bundle(path) as bundle:
                for record in bundle:
                    seq += 1
                    if record.seq != seq:
                        raise WrongError(f"{path.name}: position {record.seq}, where {seq} is expected")
                    value = {"library.author": "note", "library.tag": "label"}[record.model]
                    found[record.model, record.key[0]].append(
                        (record.action, None if record.fields is None else record.fields[value])
                    )
        return found, len(paths)

    def close(self):
        for name in self.names:
            self.store.drop(name)


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seconds", type=float, default=30)
    parser.add_argument("--processes", type=int, default=4)
    parser.add_argument("--threads", type=int, default=4)
    parser.add_argument("--database", choices=["sqlite", "postgres", "mariadb"], default="postgres")
    asked = parser.parse_args()
    extra = {"sqlite": "postgres", "postgres": "postgres", "mariadb": "mysql"}[asked.database]
    try:
        python = ensure(ROOT / ".venv-test" / f"plug-{extra}", [f"{ROOT}[{extra}]"])
    except EnvironmentFailedError as error:
        print(f"tools/soak: {error}", file=sys.stderr)
        return 1
    if Path(sys.prefix).resolve() != python.parent.parent.resolve():  # changelog_format is needed here, too
        os.execv(python, [str(python), str(HERE), *sys.argv[1:]])  # noqa: S606 - no shell is wanted
    begun = time.monotonic()
    with tempfile.TemporaryDirectory(prefix="synchro-soak-") as folder:
        soak = Soak(python, Path(folder), asked.database)
        try:
            soak.load(asked.processes, asked.threads, asked.seconds)
            changes, objects, bundles = soak.check()
        except WrongError as error:
            print(f"WRONG: {error}")
            return 1
        finally:
            soak.close()
    print(
        f"{asked.processes} processes of {asked.threads} threads on {asked.database}, {asked.seconds:.0f} s of "
        f"writing, {time.monotonic() - begun:.0f} s in all: {changes:,} changes of {objects:,} objects, in "
        f"{' and '.join(map(str, bundles))} bundles. Nothing was lost, nothing doubled; no gap."
    )
    return 0


if __name__ == "__main__":
    try:
        sys.exit(main())
    except KeyboardInterrupt:
        sys.exit(130)
