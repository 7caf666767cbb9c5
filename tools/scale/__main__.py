#!/usr/bin/env python3
"""How what synchro does grows with its log: the same work beside 10,000, 100,000 and 1,000,000 changes.

    python3 tools/scale                                     on SQLite; some minutes
    python3 tools/scale --database postgres --sizes 10000,10000000
    python3 tools/scale --plans                             how the database goes about it, too

Logs are filled by copying, objects and versions with the changes. Then 1,000 changes are captured, sealed, exported,
and 1,000 of another node imported; the status is asked for, and the admin's first page of the log. Shown are the
milliseconds of each (the best of three, of the import the only one). Needs Python 3.11 or newer, pip and, for
PostgreSQL, a server at 127.0.0.1.
"""

import argparse
import json
import os
import signal
import subprocess
import sys
import tempfile
from pathlib import Path

HERE = Path(__file__).resolve().parent
BENCH = HERE.parent / "bench"
sys.path[:0] = [str(HERE.parent), str(BENCH)]

from environment import ROOT, EnvironmentFailedError, clean_environ, ensure  # noqa: E402
from stores import store, terminated  # noqa: E402


def run(python, folder, databases, name, *words):
    environ = clean_environ(
        BENCH_WITH="synchro",
        BENCH_NODE=name,
        BENCH_DATABASES=json.dumps({"default": databases.settings(f"scale_{name}")}),
        DJANGO_SETTINGS_MODULE="scale_settings",
        PYTHONPATH=os.pathsep.join(map(str, (HERE, BENCH, ROOT))),
    )
    command = [str(python), "-W", "ignore", str(HERE / "worker.py"), *map(str, words)]
    done = subprocess.run(command, env=environ, cwd=folder, check=False, capture_output=True, text=True)
    if done.returncode:
        raise SystemExit(f"{' '.join(map(str, words))} failed:\n{done.stderr[-3000:]}")
    return done.stdout


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--database", choices=("sqlite", "postgres", "mariadb"), default="sqlite")
    parser.add_argument("--sizes", default="10000,100000,1000000", help="changes in the log (default: %(default)s)")
    parser.add_argument("--plans", action="store_true", help="show the plans of the queries at the last size")
    parser.add_argument("--no-venv", action="store_true", help="use this Python, which has what is needed")
    asked = parser.parse_args()
    extra = {"sqlite": "test", "postgres": "postgres", "mariadb": "mysql"}[asked.database]
    try:
        python = Path(sys.executable)
        if not asked.no_venv:
            python = ensure(ROOT / ".venv-test" / f"scale-{extra}", [f"{ROOT}[{extra}]"])
    except EnvironmentFailedError as error:
        print(f"tools/scale: {error}", file=sys.stderr)
        return 1
    found = {}
    with tempfile.TemporaryDirectory(prefix="synchro-scale-") as folder:
        databases = store(asked.database, Path(folder), python)
        names = ("large", "other")
        try:
            for name in names:
                databases.create(f"scale_{name}")
                run(python, folder, databases, name, "begin")
            for size in map(int, asked.sizes.split(",")):
                bundle = Path(folder) / f"{size}.jsonl.zst"
                run(python, folder, databases, "other", "bundle", bundle)
                run(python, folder, databases, "large", "fill", size)
                found[size] = json.loads(run(python, folder, databases, "large", "measure", bundle).splitlines()[-1])
            if asked.plans:
                print(run(python, folder, databases, "large", "plans"))
        finally:
            for name in names:
                databases.drop(f"scale_{name}")
    print(f"{asked.database}, ms".ljust(28), *(f"{size:>12,}" for size in found))
    for what in next(iter(found.values())):
        print(what.ljust(28), *(f"{each[what]:>12.1f}" for each in found.values()))
    return 0


if __name__ == "__main__":
    signal.signal(signal.SIGTERM, terminated)
    try:
        sys.exit(main())
    except KeyboardInterrupt:
        sys.exit(130)
