"""What a database holds when a contestant begins. Each state is made once and copied."""

import json
import os
from importlib.util import find_spec

from contestants import FOLDER, in_batches, save_new, stored, touch
from imports import take

# What each state is made from.
NEEDS = {
    "full": "empty",
    "logged": "empty",
    "exported": "logged",
    "changed": "exported",
    "taken": "empty",
    "edited": "taken",
}
# Files that come to be with a state: whoever reads them needs it.
MAKES = {
    "full": ("natural.json", "pk.json", "tuned.json"),
    "exported": ("first.jsonl.zst",),
    "changed": ("second.jsonl.zst",),
}
NODES = {"taken": "target", "edited": "target"}


def build(state, size):
    import data
    from django.core.management import call_command

    if state == "empty":
        call_command("migrate", "auth", verbosity=0)  # tables made without migrations come first, and some point there
        call_command("migrate", run_syncdb=True, verbosity=0)
    elif state == "full":
        data.fill(size)
        if os.environ["BENCH_WITH"] == "none":
            _fixtures()
    elif state == "logged":
        found, links = data.objects(size)
        in_batches(found, save_new)
        in_batches(links, lambda pair: pair[0].tags.add(*pair[1]))
    elif state == "exported":
        _export("first.jsonl.zst")
    elif state == "changed":
        _change("!")
        _export("second.jsonl.zst")
    elif state == "taken":
        take("first.jsonl.zst")()
    elif state == "edited":
        _change("?")


def _change(suffix):
    found = stored()
    for each in found:
        touch(each, suffix)
    in_batches(found, lambda each: each.save())


def _export(name):
    from synchro import export_bundle

    export_bundle(FOLDER / name)


def _fixtures():
    """Dumps of the objects, and of what becomes of them when all are changed."""
    from django.core.management import call_command
    from django.db import transaction

    def write(prefix):
        call_command(
            "dumpdata", "library", "--natural-foreign", "--natural-primary",
            output=str(FOLDER / f"{prefix}natural.json"), verbosity=0,
        )  # fmt: skip
        call_command("dumpdata", "library", output=str(FOLDER / f"{prefix}pk.json"), verbosity=0)
        if find_spec("import_export") is not None:
            from resources import ALL

            parts = [json.loads(resource().export(resource.tuned()).json) for resource in ALL]
            (FOLDER / f"{prefix}tuned.json").write_text(json.dumps(parts))

    write("")
    with transaction.atomic():
        found = stored()
        for each in found:
            touch(each, "!")
            each.save()
        write("changed-")
        transaction.set_rollback(True)
