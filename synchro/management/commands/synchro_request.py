"""manage.py synchro_request: ask a sender for the changes that are missing here."""

from __future__ import annotations

from argparse import ArgumentParser
from pathlib import Path
from typing import Any

import orjson
from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy

from synchro import stored
from synchro.importing import bundle_files
from synchro.management.commanding import SpokenCommand, add_database
from synchro.requests import everything_since, missing_before, write_request


class Command(SpokenCommand):
    help = gettext_lazy(
        "Writes a small file that asks for missing changes; the sender answers it with synchro_export --answer."
    )
    examples = (
        "office",
        "/media/stick -o /media/stick",
    )

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument(
            "sources",
            nargs="+",
            metavar="FILE|NODE",
            help=_(
                "Bundles (or folders of them) that could not be taken because others are missing; or a node's id or "
                "name, for everything that it has and this deployment has not."
            ),
        )
        parser.add_argument(
            "-o", "--output", metavar="FILE", help=_("File or folder to write to (default: this folder).")
        )
        parser.add_argument(
            "--encrypt-to",
            action="append",
            default=[],
            metavar="RECIPIENT",
            help=_("Encrypt the request with age to this recipient instead of those of the settings."),
        )
        parser.add_argument(
            "--identity",
            action="append",
            default=[],
            metavar="FILE",
            help=_("Read encrypted bundles with the identities in this file instead of those of the settings."),
        )
        parser.add_argument("--json", action="store_true", help=_("Print each request as one JSON object."))
        add_database(parser)

    def handle(self, *_args: Any, **options: Any) -> None:
        using = options["database"]
        with self.working(options, interrupted=_("Interrupted.")):
            files = [name for name in options["sources"] if stored.parse(name) or Path(name).exists()]
            requests = [everything_since(name, using) for name in options["sources"] if name not in files]
            requests += missing_before(bundle_files(files), using, identity=options["identity"])
            for request in requests:
                path = write_request(request, options["output"], encrypt_to=options["encrypt_to"])
                if options["json"]:
                    self.stdout.write(orjson.dumps({"file": str(path), **request.as_dict()}).decode())
                else:
                    ranges = ", ".join(map(str, request.missing))
                    self.say(
                        _("%(path)s: asks %(node)s for positions %(ranges)s.")
                        % {"path": path, "node": request.of, "ranges": ranges}
                    )
        if not requests:
            if options["json"]:
                self.stdout.write("{}")
            else:
                self.say(_("Nothing is missing before these bundles."))
