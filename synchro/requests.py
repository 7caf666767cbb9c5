"""Asking for what is missing: a small file that an importer writes, and that the exporter answers with exactly that.

A request names the sender, the ranges of its log that are missing here, and the date at which each begins as it is
known here, so that a sender whose log was set back since notices it.
"""

from __future__ import annotations

import contextlib
from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

import orjson
from django.db import DEFAULT_DB_ALIAS
from django.utils.translation import gettext as _

from changelog_format import BundleError, EncryptionError, Identities, SignatureError, open_bundle
from changelog_format.archive import ENCRYPTED
from changelog_format.dates import format_date, parse_date
from changelog_format.encryption import decrypted, encrypt, is_encrypted
from changelog_format.keys import node_name
from synchro import changelog, conf, exporting, media, nodes, redacting, stored, trust
from synchro.errors import ExportError, ForkError, RequestError
from synchro.exporting import ExportReport, export_bundle
from synchro.models import Destination, Node
from synchro.splitting import export_parts
from synchro.successions import earlier, succeeded, successor
from synchro.trust import Sources

TYPE = "synchro-request"
VERSION = 1
SUFFIX = ".request.json"
SIZE_LIMIT = 1_000_000


@dataclass(frozen=True, slots=True, kw_only=True)
class Missing:
    """The positions after ``since`` up to ``until`` (None: to the end); ``date`` is that of ``since`` as known here."""

    since: int
    until: int | None
    date: str | None

    def __str__(self) -> str:
        if self.until is None:
            return _("%(first)d to the end") % {"first": self.since + 1}
        return _("%(first)d to %(last)d") % {"first": self.since + 1, "last": self.until}


@dataclass(frozen=True, slots=True, kw_only=True)
class Request:
    """What the node ``by`` (called ``name``) lacks of the log of the node ``of``."""

    of: str
    by: str
    name: str
    created: str
    missing: tuple[Missing, ...]

    def as_dict(self) -> dict[str, Any]:
        """As the file holds it."""
        return {
            "type": TYPE,
            "version": VERSION,
            "of": self.of,
            "by": self.by,
            "name": self.name,
            "created": self.created,
            "missing": [{"since": each.since, "until": each.until, "date": each.date} for each in self.missing],
        }


# --- the side that lacks something ------------------------------------------------------------------------------------


def missing_before(
    bundles: Iterable[str | Path], using: str = DEFAULT_DB_ALIAS, *, identity: Sources = ()
) -> list[Request]:
    """What must come before each of *bundles* can be taken: a request for each sender of which something is missing.

    Only their headers are read. Raises ``BundleError``, ``OSError``, and ``RequestError`` where nobody could answer.
    """
    identities = trust.identities(identity)
    ranges: dict[str, list[tuple[int, int, str | None]]] = defaultdict(list)
    for source in bundles:
        try:
            with stored.readable(source) as file, open_bundle(file, identities=identities) as reader:
                header = reader.header
        except BundleError as error:
            error.add_note(str(source))
            raise
        # A bundle of some models alone needs what is before it, and fills no gap itself.
        end, date = (header.end.seq, header.end.date) if header.only is None else (0, None)
        ranges[header.node.id].append((header.start.seq, end, date))
    own = nodes.own_idents(using)
    found = []
    for ident in sorted(set(ranges) - own):
        reached, date = _taken(ident, using)
        missing: list[Missing] = []
        for start, end, end_date in sorted(ranges[ident], key=lambda each: each[:2]):
            if start > reached:
                if missing and missing[-1].since == reached:
                    missing.pop()  # more is missing than before that of some models
                missing.append(Missing(since=reached, until=start, date=date))
            if end > reached:
                reached, date = end, end_date
        if missing and (now := successor(ident, using)) is not None:
            raise RequestError(
                _("%(node)s goes on as %(new)s since it was restored from a backup, and nobody has the log of then.")
                % {"node": ident, "new": now},
                hint=_(
                    "Import the bundles of %(new)s (`synchro_request %(new)s` asks for them), then the file that waits "
                    "with --allow-gap."
                )
                % {"new": now},
            )
        if missing:
            found.append(_request(ident, missing, using))
    return found


def everything_since(peer: str, using: str = DEFAULT_DB_ALIAS) -> Request:
    """A request for all that the node *peer* (its id, or its name where that is clear) has and this one has not."""
    others = Node.objects.using(using).filter(own=False).exclude(succeeded(using))
    rows = others.filter(heard__isnull=False)
    # One that is only known through others may never have written for this one.
    ways = ({"ident": peer}, {"name": peer})
    found = next((found for each in (rows, others) for way in ways if (found := list(each.filter(**way)))), [])
    if len(found) != 1:
        known = ", ".join(rows.order_by("ident").values_list("ident", flat=True))
        raise RequestError(
            (
                _("%(peer)s is more than one node that is known here.")
                if found
                else _("%(peer)s is no bundle and no node that is known here.")
            )
            % {"peer": peer},
            hint=_("Nodes that were heard of by their own bundles: %(known)s.") % {"known": known}
            if known
            else _("Nodes that were heard of by their own bundles: none."),
        )
    taken, date = _taken(found[0].ident, using)
    return _request(found[0].ident, [Missing(since=taken, until=None, date=date)], using)


def write_request(request: Request, target: str | Path | None = None, *, encrypt_to: Sequence[str] = ()) -> Path:
    """Write *request* to the file *target*, or into that folder (None: the current one); the path.

    It is signed and encrypted as a bundle for that node would be; *encrypt_to* as in ``export_bundle``. Raises
    ``KeySettingError``, ``RequestError``.
    """
    recipients = trust.recipients(node_name(request.of), encrypt_to)
    data = trust.signed_request(request.as_dict())
    text = orjson.dumps(data, option=orjson.OPT_INDENT_2 | orjson.OPT_APPEND_NEWLINE)
    if stored.parse(target) is not None:
        raise RequestError(
            _("%(target)s: a request is written to a file.") % {"target": target},
            hint=_("Name a file or a folder with -o."),
        )
    path = media.named(target, RequestError)
    if path.is_dir():
        path /= f"{request.by or request.name}-asks-{request.of}{SUFFIX}{'' if recipients is None else ENCRYPTED}"
        path.unlink(missing_ok=True)  # perhaps a link, to what somebody else chose
    path.write_bytes(text if recipients is None else encrypt(text, recipients))
    return path


def _taken(ident: str, using: str) -> tuple[int, str | None]:
    peer = Node.objects.using(using).filter(ident=ident).first()
    if peer is None or not peer.taken_seq:
        return 0, None
    return peer.taken_seq, None if peer.taken_date is None else format_date(peer.taken_date)


def _request(of: str, missing: Sequence[Missing], using: str) -> Request:
    node = nodes.own(using)
    return Request(
        of=of,
        by=node.ident if node is not None else "",
        name=nodes.name_of(node, using) if node is not None else conf.node_name(using),
        created=format_date(changelog.now()),
        missing=tuple(missing),
    )


# --- the side that has it ---------------------------------------------------------------------------------------------


def read_request(source: str | Path, *, identity: Sources = ()) -> Request:
    """The request in the file *source*; *identity* as in ``import_bundle``.

    Raises ``RequestError`` where it is none, ``changelog_format.SignatureError`` where signatures are required and its
    is not in order, ``EncryptionError`` where it is encrypted for others, ``OSError``.
    """
    identities = trust.identities(identity)
    try:
        text = _text(Path(source), identities)
        if len(text) > SIZE_LIMIT:
            raise ValueError(_("it is longer than %(size)d bytes") % {"size": SIZE_LIMIT})
        data = orjson.loads(text)
        request = _parsed(data)
    except (ValueError, KeyError, TypeError) as error:
        raise RequestError(
            _("%(source)s is no request that this version can read: %(error)s")
            % {"source": source, "error": str(error)[:200]}
        ) from error
    except EncryptionError as error:
        error.add_note(str(source))
        raise
    try:
        trust.check_request(data, request.by or request.name, request.created)
    except SignatureError as error:
        error.add_note(str(source))
        raise
    return request


def _text(path: Path, identities: Identities | None) -> bytes:
    with path.open("rb") as stream:
        if identities is None:
            text = stream.read(SIZE_LIMIT + 1)
            if is_encrypted(text):
                raise EncryptionError(_("the request is encrypted with age, and no identity was given"), rule="R78")
            return text
        with contextlib.closing(decrypted(stream, identities, close=False)) as opened:
            parts, size = [], 0
            while size <= SIZE_LIMIT and (part := opened.read(SIZE_LIMIT)):
                parts.append(part)
                size += len(part)
            return b"".join(parts)


def _parsed(data: Any) -> Request:
    if not isinstance(data, dict) or data.get("type") != TYPE or data.get("version") != VERSION:
        message = _("type and version are not %(type)r and %(version)d") % {"type": TYPE, "version": VERSION}
        raise ValueError(message)
    missing = []
    for each in data["missing"]:
        since, until, date = each["since"], each["until"], each["date"]
        if type(since) is not int or since < 0 or not (until is None or (type(until) is int and until > since)):
            message = _("from %(since)r to %(until)r is no range") % {"since": since, "until": until}
            raise ValueError(message)
        if (date is None) != (since == 0) or (date is not None and not isinstance(date, str)):
            message = _("%(date)r is no date for position %(since)d") % {"date": date, "since": since}
            raise ValueError(message)
        if date is not None:
            parse_date(date)
        missing.append(Missing(since=since, until=until, date=date))
    for name in ("of", "by", "name", "created"):
        if not isinstance(data[name], str):
            message = _("%(name)s is no text") % {"name": name}
            raise TypeError(message)
    return Request(of=data["of"], by=data["by"], name=data["name"], created=data["created"], missing=tuple(missing))


def answer(
    source: str | Path,
    target: str | Path | BinaryIO | None = None,
    *,
    max_size: int | None = None,
    level: int | None = None,
    frame_size: int | None = None,
    threads: int | None = None,
    with_files: bool = False,
    encrypt_to: Sequence[str] = (),
    identity: Sources = (),
    using: str = DEFAULT_DB_ALIAS,
) -> Iterator[ExportReport]:
    """Write the ranges that the request *source* asks for, as bundles for whoever asks; a report for each.

    No destination's position moves. Raises ``RequestError`` where it asks somebody else, ``ForkError`` where the logs
    have parted, and as ``export_bundle``.
    """
    request = read_request(source, identity=identity)
    node = nodes.own(using)
    if node is not None and request.of in earlier(node, using):
        raise RequestError(
            _(
                "%(source)s asks for the log of %(asked)s, and this deployment goes on as %(node)s since it was "
                "restored."
            )
            % {"source": source, "asked": request.of, "node": node.ident},
            hint=_(
                "Export to %(name)s as usual: the log of %(node)s begins with what somebody may lack. If %(name)s "
                "lacks more than that, `synchro_export --snapshot --to %(name)s` has everything. It takes the file "
                "that waits with --allow-gap after that."
            )
            % {"name": request.name, "node": node.ident},
        )
    if node is None or request.of != node.ident:
        raise RequestError(
            (
                _("%(source)s asks for the log of %(asked)s, and this is %(node)s.")
                if node
                else _("%(source)s asks for the log of %(asked)s, and this is a node without a log.")
            )
            % {"source": source, "asked": request.of, "node": node.ident if node else ""},
            hint=_("Only the node that is asked can answer."),
        )
    # By the id that the signature is about: what is encrypted and left out goes by the destination.
    to = node_name(request.by) or request.name or exporting.DEFAULT_DESTINATION
    if not redacting.is_decided(to) and not Destination.objects.using(using).filter(log=node, name=to).exists():
        raise RequestError(
            _(
                "%(name)s asks, to whom nothing went before, and SYNCHRO_REDACT does not say what of everything it may "
                "have."
            )
            % {"name": to},
            hint=_('Add an entry for it ({} for everything) or for "*".'),
        )
    for each in request.missing:
        if each.since > node.seq or exporting.position(node, each.since, using).date != each.date:
            raise ForkError(
                _(
                    "%(by)s has a change at position %(since)d of %(node)s that is dated %(date)s, and the log here "
                    "does not: this database was restored from a backup."
                )
                % {"by": request.by or request.name, "since": each.since, "node": request.of, "date": each.date},
                hint=_("Import a bundle of that node here: this one then takes a new id, and both go on."),
            )
        if max_size is None:
            report = export_bundle(
                target,
                to=to,
                since=each.since,
                until=each.until,
                level=level,
                frame_size=frame_size,
                threads=threads,
                with_files=with_files,
                encrypt_to=encrypt_to,
                using=using,
            )
            if report is not None:
                yield report
        elif target is None or isinstance(target, (str, Path)):
            yield from export_parts(
                target,
                max_size=max_size,
                to=to,
                since=each.since,
                until=each.until,
                level=level,
                frame_size=frame_size,
                threads=threads,
                with_files=with_files,
                encrypt_to=encrypt_to,
                using=using,
            )
        else:
            raise ExportError(_("Parts of a bounded size are written to a folder."))
