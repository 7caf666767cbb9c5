"""A project's own code, for its type checker. Not run: mypy reads it (test_packaging.py)."""

from pathlib import Path

from changelog_format import open_bundle, verify
from synchro import WITHHELD, ExportReport, acting, disable_synchro_log, export_bundle, import_bundles, scan
from synchro.progress import Stage, watched

REDACT = {"clinic": {"shop.patient": {"ssn": WITHHELD}}}


def send(folder: Path) -> ExportReport | None:
    def show(stage: Stage, done: int, total: int | None) -> None:
        print(stage, done, total)

    with watched(show), acting("ann", reason="night"):
        return export_bundle(folder, to="hq")


@disable_synchro_log
def take(folder: Path) -> int:
    return sum(report.added for report in import_bundles([folder]))


def look(path: Path) -> int:
    verify(path)
    with open_bundle(path) as bundle:
        return sum(1 for _ in bundle) + scan(dry_run=True).total
