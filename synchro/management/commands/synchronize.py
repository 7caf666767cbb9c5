"""manage.py synchronize: bring what changed here to the REMOTE database."""

from __future__ import annotations

from argparse import ArgumentParser
from typing import Any

from django.core.exceptions import ImproperlyConfigured
from django.core.management.base import CommandError

from synchro.management.commanding import SpokenCommand, add_database, reported
from synchro.synchronizing import synchronize


class Command(SpokenCommand):
    help = "Brings everything that changed in this database since the last time to the one that SYNCHRO_REMOTE names."

    def add_arguments(self, parser: ArgumentParser) -> None:
        add_database(parser)

    def handle(self, *_args: Any, **options: Any) -> None:
        with reported(options["database"], interrupted="Interrupted. Both databases are as they were."):
            try:
                report = synchronize(options["database"])
            except ImproperlyConfigured as error:
                raise CommandError(str(error)) from error
        if report is None:
            self.stdout.write("No changes since last synchronization.")
            return
        self.stdout.write("Synchronization performed successfully.")
        if options["verbosity"] > 1:
            self.stdout.write(
                f"{report.added} added, {report.changed} changed, {report.deleted} deleted, {report.m2m} m2m links, "
                f"{report.conflicts} conflicts, {report.stale} older than what REMOTE has"
            )
        for held in report.held_changes:
            self.stdout.write(self.style.WARNING(f"  held at REMOTE: {held.model} {held.id}: {held.reason}"))
