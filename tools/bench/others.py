"""Verifying a file, synchronizing two databases, and scanning."""

import io

from contestants import FOLDER, contestant
from exports import dump


@contestant("verify", "dumpdata, natural keys", state="full")
def verify_base(size):
    return dump("--natural-foreign", "--natural-primary")


@contestant("verify", "synchro")
def verify(size):
    from changelog_format import verify as verify_bundle

    def run():
        verify_bundle(FOLDER / "first.jsonl.zst")

    return run


@contestant("synchronize", "dumpdata and loaddata, natural keys", state="full", remote="empty")
def synchronize_base(size):
    from django.core.management import call_command

    path = FOLDER / "between.json"

    def run():
        call_command("dumpdata", "library", "--natural-foreign", "--natural-primary", output=str(path), verbosity=0)
        call_command("loaddata", str(path), database="remote", verbosity=0)

    return run


@contestant("synchronize", "synchro", listener="synchro", state="logged", remote="empty")
def synchronize_all(size):
    from django.core.management import call_command

    return lambda: call_command("synchronize", verbosity=0, stdout=io.StringIO())


@contestant("scan, nothing to find", "dumpdata, primary keys", state="full")
def scan_base(size):
    return dump()


@contestant("scan, nothing to find", "synchro", listener="synchro", state="exported")
def scan(size):
    from django.core.management import call_command

    return lambda: call_command("synchro_scan", verbosity=0, stdout=io.StringIO())
