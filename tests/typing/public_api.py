"""What a type checker knows of the public interface. Not run: mypy reads it (test_packaging.py).

A wrong use stands with the error that it must give; mypy complains where it gives none.
"""

import datetime as dt
from collections.abc import Iterator
from pathlib import Path
from typing import Any, BinaryIO, ClassVar, assert_type

from django.db import models

from changelog_format import BundleReader, Change, Header, Summary, open_bundle, verify
from changelog_format.reader import Record
from synchro import (
    DisableSynchroLog,
    ExportReport,
    ImportReport,
    LoggedManager,
    NaturalKeyModel,
    NaturalManager,
    ScanReport,
    VersionedRecord,
    acting,
    disable_synchro_log,
    export_bundle,
    import_bundle,
    import_bundles,
    retry_held,
    scan,
    upcaster,
)
from synchro.conflicts import ConflictInfo, conflicts, take
from synchro.errors import ImportRefusedError, SynchroError
from synchro.progress import Stage, watched
from synchro.status import Status, status
from synchro.timeline import Step, from_log


def exporting(path: Path, stream: BinaryIO) -> None:
    assert_type(export_bundle(), ExportReport | None)
    report = export_bundle(path, to="hq", since=1, until=2, mode="squash", models=["shop"], using="default")
    if report is not None:
        assert_type(report.records, int)
        assert_type(report.missing_files, tuple[str, ...])
        report.records = 3  # type: ignore[misc]
    export_bundle(stream)
    export_bundle("storage:backups/")
    export_bundle(mode="everything")  # type: ignore[arg-type]
    export_bundle(since="1")  # type: ignore[arg-type]


def importing(path: Path) -> None:
    assert_type(import_bundle(path, on_conflict="merge", strict=True), ImportReport)
    assert_type(import_bundles([path, "a"]), Iterator[ImportReport])
    assert_type(retry_held(dry_run=True), ImportReport)
    import_bundle(path, on_conflict="mine")  # type: ignore[arg-type]
    import_bundle()  # type: ignore[call-arg]


def others() -> None:
    assert_type(scan(["shop"], dry_run=True), ScanReport)
    assert_type(status("default"), Status)
    assert_type(conflicts(), list[ConflictInfo])
    assert_type(take(1, by="ann"), ConflictInfo)
    assert_type(from_log("shop.item", ["x"]), list[Step])
    take("1")  # type: ignore[arg-type]


def errors() -> None:
    try:
        import_bundle("x")
    except ImportRefusedError as error:
        assert_type(error.hint, str)
    assert issubclass(ImportRefusedError, SynchroError)


def blocks() -> None:
    with DisableSynchroLog():
        pass
    with acting("ann", reason="typo", ward=3):
        pass

    def show(stage: Stage, done: int, total: int | None) -> None:
        print(stage, done, total)

    with watched(show):
        pass
    with watched(print), watched(None):
        pass
    watched(lambda: None)  # type: ignore[arg-type, misc]


@disable_synchro_log
def count(number: int) -> str:
    return str(number)


@acting("nightly import")
def run(number: int) -> str:
    return str(number)


def decorated() -> None:
    assert_type(count(1), str)
    assert_type(run(1), str)
    count("1")  # type: ignore[arg-type]
    run("1")  # type: ignore[arg-type]


@upcaster("shop.customer", from_version=2, added={"rank": 0})
def lift(record: VersionedRecord) -> VersionedRecord | None:
    return record.without("name").having(first_name=record.value("name", ""))


class Country(NaturalKeyModel):
    _natural_key = ("code",)
    code = models.CharField(max_length=2)

    class Meta:
        app_label = "shop"


class Visit(models.Model):
    day = models.DateField(default=dt.date.today)
    objects = LoggedManager()
    logged: ClassVar[LoggedManager["Visit"]] = LoggedManager()
    by_day = NaturalManager["Visit"]("day")

    class Meta:
        app_label = "shop"


def the_format(path: Path) -> None:
    assert_type(verify(path), Summary)
    with open_bundle(path) as bundle:
        assert_type(bundle, BundleReader)
        assert_type(bundle.header, Header)
        for record in bundle:
            assert_type(record, Record)
            if isinstance(record, Change):
                assert_type(record.key, list[Any] | None)
                record.nonsense  # type: ignore[attr-defined]  # noqa: B018
