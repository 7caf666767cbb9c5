#!/usr/bin/env python3
"""What synchro costs, beside other programs that do such work, and beside the least that the work can cost.

    python3 tools/bench                             everything, on SQLite and PostgreSQL; about an hour
    python3 tools/bench --size 2000 --rounds 3      in a few minutes
    python3 tools/bench --only export --databases sqlite
    python3 tools/bench --json figures.json
    python3 tools/bench --no-venv --size 100        with this Python, beside what it has of the other programs

Each contestant of each work runs in a process of its own on a fresh copy of its database; the contestants take turns,
round after round, so that what the machine does besides meets all alike. Medians are shown, as times of the first
contestant of the work (for imports "2.0" is half its time). Needs Python 3.11 or newer, pip and, for the servers, the
databases at 127.0.0.1; makes a virtualenv with the other programs.
"""

import argparse
import json
import os
import signal
import statistics
import subprocess
import sys
import tempfile
from collections import defaultdict
from pathlib import Path

HERE = Path(__file__).resolve().parent
sys.path[:0] = [str(HERE), str(HERE.parent)]

from environment import ROOT, EnvironmentFailedError, clean_environ, ensure  # noqa: E402
from states import MAKES, NEEDS, NODES  # noqa: E402
from stores import store, terminated  # noqa: E402
from table import shown  # noqa: E402
from works import CONTESTANTS  # noqa: E402

PEERS = (
    "django-auditlog==3.4.1", "django-simple-history==3.13.0", "django-reversion==6.4.0", "django-pghistory==3.9.2",
    "django-import-export==4.4.3",
)  # fmt: skip


def options():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--size", type=int, default=20_000, help="objects (default: %(default)s)")
    parser.add_argument("--rounds", type=int, default=5, help="how often each runs (default: %(default)s)")
    parser.add_argument(
        "--databases", default="sqlite,postgres", help="sqlite, postgres, mariadb (default: %(default)s)"
    )
    parser.add_argument("--only", default="", help="only works and contestants that begin so, comma-separated")
    parser.add_argument("--django", default="5.2", help="the version of Django (default: %(default)s)")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write all figures there")
    parser.add_argument(
        "--no-venv", action="store_true", help="use this Python, and leave out the programs that it does not have"
    )
    return parser.parse_args()


class Bench:
    """The runs on one kind of database."""

    def __init__(self, kind, python, folder, size):
        self.kind = kind
        self.python = python
        self.folder = folder / kind
        self.folder.mkdir()
        self.size = size
        self.store = store(kind, self.folder, python)
        self.made = {}
        self.names = {"run", "remote"}

    def worker(self, what, names, *, listener, node, databases):
        environ = clean_environ(
            BENCH_WITH=listener,
            BENCH_NODE=node,
            BENCH_FOLDER=str(self.folder),
            DJANGO_SETTINGS_MODULE="settings",
            PYTHONDONTWRITEBYTECODE="",  # what is installed is compiled once, not at each start
            PYTHONPATH=os.pathsep.join(map(str, (HERE, ROOT))),
            BENCH_DATABASES=json.dumps({alias: self.store.settings(name) for alias, name in databases.items()}),
        )
        command = [str(self.python), "-W", "ignore", str(HERE / "worker.py"), what, *names, "--size", str(self.size)]
        done = subprocess.run(command, env=environ, cwd=HERE, check=False, capture_output=True, text=True)
        if done.returncode:
            raise SystemExit(f"{' '.join(names)} failed on {self.kind}:\n{done.stderr[-3000:]}")
        return json.loads(done.stdout.splitlines()[-1]) if what != "build" else None

    def template(self, listener, state):
        """The name of a database in *state*, made from the one before it where it is not there yet."""
        if (listener, state) in self.made:
            return self.made[listener, state]
        name = f"{listener}_{state}"
        before = NEEDS.get(state)
        self.names.add(name)
        if before is None:
            self.store.create(name)
        else:
            self.store.copy(self.template(listener, before), name)
        self.worker("build", [state], listener=listener, node=NODES.get(state, "bench"), databases={"default": name})
        self.made[listener, state] = name
        return name

    def files(self):
        """Make the files that contestants read."""
        for state, names in MAKES.items():
            listener = "none" if names[0].endswith("json") else "synchro"
            self.template(listener, state)

    def run(self, each, what="run"):
        source = self.template(each.listener, each.state)
        databases = {"default": "run"}
        self.store.copy(source, "run")
        if each.remote:
            self.store.copy(self.template(each.listener, each.remote), "remote")
            databases["remote"] = "remote"
        return self.worker(what, [each.work, each.name], listener=each.listener, node=each.node, databases=databases)

    def close(self):
        for name in sorted(self.names):
            self.store.drop(name)


def chosen(kind, only, *, no_venv=False):
    words = [word.strip() for word in only.split(",") if word.strip()]
    found = [each for each in CONTESTANTS if kind in each.databases and (not no_venv or each.is_possible)]
    if not words:
        return found
    wanted = [each for each in found if any(each.work.startswith(word) or each.name.startswith(word) for word in words)]
    works = {each.work for each in wanted}
    first = {}
    for each in found:
        first.setdefault(each.work, each)
    return [each for each in found if each in wanted or (each.work in works and first[each.work] is each)]


def tell(text):
    """What is under way, on one line of a terminal."""
    if sys.stderr.isatty():
        print(f"\r{text.ljust(100)}", end="" if text else "\r", file=sys.stderr)


def version(python):
    """The version of Django that was measured."""
    command = [str(python), "-W", "ignore", "-c", "import django; print(django.__version__)"]
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout.strip()


def figures(bench, contestants, rounds):
    """`{(work, name): {figure: value}}`: medians of all rounds, and the queries of one run more."""
    runs = defaultdict(list)
    if any(each.work_kind in ("import", "verify") for each in contestants):
        bench.files()
    for number in range(rounds):
        for each in contestants:
            tell(f"{bench.kind}, round {number + 1} of {rounds}: {each.work} / {each.name}")
            runs[each.work, each.name].append(bench.run(each))
    found = {}
    for each in contestants:
        of_each = runs[each.work, each.name]
        names = sorted({name for run in of_each for name in run})
        found[each.work, each.name] = {name: statistics.median(run[name] for run in of_each) for name in names}
        found[each.work, each.name] |= {
            "walls": [run["wall"] for run in of_each],
            "cpus": [run["cpu"] for run in of_each],
        }
        found[each.work, each.name] |= bench.run(each, "queries")
    tell("")
    return found


def main():
    asked = options()
    kinds = [kind.strip() for kind in asked.databases.split(",")]
    extras = "postgres,mysql" if "mariadb" in kinds else "postgres"
    requirements = [f"{ROOT}[{extras}]", f"Django=={asked.django}.*", *PEERS]
    try:
        python = Path(sys.executable)
        if not asked.no_venv:
            python = ensure(ROOT / ".venv-test" / f"bench-django{asked.django}", requirements)
    except EnvironmentFailedError as error:
        print(f"tools/bench: {error}", file=sys.stderr)
        return 1
    everything = {}
    with tempfile.TemporaryDirectory(prefix="synchro-bench-") as folder:
        for kind in kinds:
            bench = Bench(kind, python, Path(folder), asked.size)
            try:
                found = figures(bench, chosen(kind, asked.only, no_venv=asked.no_venv), asked.rounds)
            finally:
                bench.close()
            everything[kind] = [{"work": work, "name": name, **values} for (work, name), values in found.items()]
            print(shown(kind, found, asked.size))
    if asked.json:
        data = {"size": asked.size, "rounds": asked.rounds, "django": version(python), "python": sys.version.split()[0]}
        asked.json.write_text(json.dumps({**data, "databases": everything}, indent=1) + "\n")
    return 0


if __name__ == "__main__":
    os.environ.setdefault("BENCH_FOLDER", ".")
    signal.signal(signal.SIGTERM, terminated)
    try:
        sys.exit(main())
    except KeyboardInterrupt:
        sys.exit(130)
