"""Bundles that were uploaded and wait for somebody to confirm what was planned.

The file lies in a private folder under a name that nobody can guess. What the browser gets is a signed note: which file
with which digest, whose it is, how it is to be imported, and where this deployment stood when the plan was made.
"""

from __future__ import annotations

import contextlib
import hashlib
import io
import os
import secrets
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, BinaryIO

from django.core import signing
from django.core.files.uploadedfile import UploadedFile
from django.db.models import Max
from django.utils.translation import gettext as _

from synchro import conf, nodes
from synchro.admin.folder import folder, sweep
from synchro.admin.saying import file_name
from synchro.errors import ImportRefusedError
from synchro.models import Bundle, ChangeLog, Conflict, Held, Node, Touch

IN = "in"
KEPT_SECONDS = 3600
_SALT = "synchro.upload"
_SUFFIX = ".bundle"


@dataclass(frozen=True, slots=True, kw_only=True)
class Upload:
    """A file that waits. ``options`` are those of ``import_bundle``; ``state`` is what :func:`state` said."""

    token: str
    user: str
    name: str
    sha256: str
    options: Mapping[str, Any]
    state: str

    def note(self) -> str:
        """What the browser brings back."""
        return signing.dumps(asdict(self), salt=_SALT, compress=True)

    @contextlib.contextmanager
    def opened(self) -> Any:
        """The file, by the name that it had at the user's. Raises ``ImportRefusedError`` if it is gone or another."""
        try:
            stream = _path(self.token).open("rb")
        except OSError as error:
            raise _gone() from error
        with stream:
            if hashlib.file_digest(stream, "sha256").hexdigest() != self.sha256:
                raise _gone()
            stream.seek(0)
            yield _Named(stream, self.name)

    def forget(self) -> None:
        """Remove the file."""
        with contextlib.suppress(OSError):
            _path(self.token).unlink()


def kept(given: UploadedFile[Any], user: Any, options: Mapping[str, Any]) -> Upload:
    """Keep what *user* uploaded, and remove what else he has waiting. Raises ``ImportRefusedError``, ``OSError``."""
    limit = conf.upload_limit()
    if given.size is None or given.size > limit:
        raise too_large(limit)
    owner = _owner(user)
    place = folder(IN)
    sweep(place, KEPT_SECONDS)
    sweep(place, -1, f"{owner}-*")
    token = f"{owner}-{secrets.token_hex(16)}"
    digest = hashlib.sha256()
    # Made for us alone, and not where anything is yet.
    with os.fdopen(os.open(_path(token), os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb") as stream:
        for part in given.chunks():
            digest.update(part)
            stream.write(part)
    name = file_name(str(given.name or ""))[-200:]
    return Upload(token=token, user=owner, name=name, sha256=digest.hexdigest(), options=dict(options), state=state())


def found(note: str, user: Any) -> Upload:
    """The upload that *note* speaks of. Raises ``ImportRefusedError`` if it is another's, forged, or too old."""
    try:
        upload = Upload(**signing.loads(note, salt=_SALT, max_age=KEPT_SECONDS))
    except (signing.BadSignature, TypeError) as error:
        raise _gone() from error
    if upload.user != _owner(user):
        raise _gone()
    return upload


def state(using: str = "default") -> str:
    """Where this deployment stands: whatever is changed, imported or decided makes it another."""
    node = nodes.own(using)
    taken = Node.objects.using(using).filter(own=False).order_by("pk").values_list("pk", "taken_seq", "acked_seq")
    waiting = Conflict.objects.using(using).filter(held=True).order_by("pk").values_list("pk", flat=True)
    numbers = [
        model._default_manager.using(using).aggregate(last=Max("pk"))["last"]
        for model in (ChangeLog, Bundle, Held, Conflict, *([Touch] if conf.triggers() else []))
    ]
    # The first import makes the node: that moves nothing.
    own = (node.ident, node.seq, node.reset_seq, node.pruned_seq) if node is not None and node.seq else None
    told = repr((own, list(taken), list(waiting), numbers))
    return hashlib.sha256(told.encode()).hexdigest()


def too_large(limit: int) -> ImportRefusedError:
    """The refusal of a file beyond *limit* bytes."""
    return ImportRefusedError(
        _("The file is too large: at most %(size)s can be uploaded.") % {"size": f"{limit / 1e6:g} MB"},
        hint=_("Import it with “manage.py synchro_import”, or raise SYNCHRO_UPLOAD_LIMIT."),
    )


def moved() -> ImportRefusedError:
    """The refusal of a plan that is not true any more."""
    return ImportRefusedError(
        _("Something changed here since the preview was made, so it may not be true any more."),
        hint=_("Nothing was imported. Upload the file again."),
    )


def _gone() -> ImportRefusedError:
    return ImportRefusedError(_("The uploaded file is not there any more."), hint=_("Upload it again."))


def _owner(user: Any) -> str:
    return hashlib.sha256(f"{user._meta.label_lower} {user.pk}".encode()).hexdigest()[:16]


def _path(token: str) -> Path:
    return folder(IN) / f"{token}{_SUFFIX}"


class _Named(io.BufferedReader):
    """*stream*, by another name: messages and the table of bundles say what the user called it."""

    def __init__(self, stream: BinaryIO, name: str) -> None:
        super().__init__(stream)  # type: ignore[arg-type]  # it reads from whatever reads
        self._name = name

    @property
    def name(self) -> str:
        return self._name
