"""The commands about keys: ``keygen`` and ``sign``; and what the other commands are told of keys."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO

from .container import raw_frame
from .encryption import Identities
from .errors import EncryptionError, SignatureError
from .jsonl import format_line
from .keys import TrustedKeys, UnusableKeyError, public_text, refuse_exchangeable, write_secret_file
from .reader import Summary, verify
from .signing import Signer, check_signature, generate_key, signing_key_of, unvouched
from .writer import AtomicFile

if TYPE_CHECKING:
    import argparse
    from collections.abc import Callable

    from .limits import Limits

__all__ = ["add_commands", "add_key_options", "identities_of", "said_of_signature", "trusted_of"]

VARIABLE = "SYNCHRO_SIGNING_KEY"
_COPIED = 1 << 20
_NAMED = 5


def add_commands(
    commands: argparse._SubParsersAction[argparse.ArgumentParser], output: Callable[[str], None], epilog: str
) -> None:
    """Add ``keygen`` and ``sign``; *output* prints a line."""

    def keygen(options: argparse.Namespace) -> int:
        output(make_key(options.key_file))
        return 0

    def sign(options: argparse.Namespace) -> int:
        key = sign_file(options.bundle, options.key, options.output)
        output(f"{options.output or options.bundle}: signed with {key}")
        return 0

    text = "make a key to sign with: a file that only you can read; print its public half"
    command = commands.add_parser("keygen", help=text, description=text, epilog=epilog)
    command.add_argument("key_file", metavar="FILE", help="the file to make; one that is there is never overwritten")
    command.set_defaults(run=keygen)
    text = "sign a bundle, after verifying it; a signature that it has is replaced"
    command = commands.add_parser("sign", help=text, description=text, epilog=epilog)
    command.add_argument("bundle", metavar="FILE", help="a bundle")
    command.add_argument(
        "--key", metavar="KEY", default=f"env:{VARIABLE}",
        help=f"the file of the secret key, or env:NAME (default: env:{VARIABLE})",
    )  # fmt: skip
    command.add_argument("-o", "--output", metavar="FILE", help="where to write it, if not in the bundle's place")
    command.set_defaults(run=sign)


def add_key_options(command: argparse.ArgumentParser, *, trusted: bool) -> None:
    """Add ``--identity``, and ``--trusted`` to a command that verifies."""
    command.add_argument(
        "--identity", metavar="FILE", action="append", default=[],
        help="read encrypted bundles with the identity in this file of age-keygen (or env:NAME); several may be given",
    )  # fmt: skip
    if trusted:
        command.add_argument(
            "--trusted", metavar="FILE",
            help="require signatures by the keys in this list: a line for each, NAME ed25519:KEY and options",
        )  # fmt: skip


def identities_of(options: argparse.Namespace) -> Identities | None:
    """What ``--identity`` names. Raises UnusableKeyError."""
    return Identities(options.identity) if options.identity else None


def trusted_of(options: argparse.Namespace) -> TrustedKeys | None:
    """What ``--trusted`` names. Raises UnusableKeyError."""
    return None if options.trusted is None else TrustedKeys.read(options.trusted)


def said_of_signature(summary: Summary, trusted: TrustedKeys | None) -> str:
    """What is known of who wrote a bundle. Raises SignatureError where that is not what *trusted* asks for."""
    if trusted is not None:
        key = check_signature(summary.header, summary.trailer, trusted)
        hearsay = unvouched(summary.header, summary.relayed, key)
        others = ", ".join(sorted(hearsay)[:_NAMED])
        more = f"; it passes on {sum(hearsay.values())} changes of {others}: these are not proven" if hearsay else ""
        return f"signed with {key}, which is trusted{more}"
    try:
        claimed = signing_key_of(summary.trailer)
    except SignatureError:
        return "with a signature of another kind, which was not checked"
    return "not signed" if claimed is None else f"says that it is signed with {claimed}, which was not checked"


def make_key(path: str) -> str:
    """Make a key file; what to say of it. Raises UnusableKeyError and OSError."""
    refuse_exchangeable(Path(path))
    secret, public = generate_key()
    try:
        write_secret_file(path, ["# A key to sign bundles with. Keep it secret.", f"# public key: {public}", secret])
    except FileExistsError:
        raise UnusableKeyError(f"{path} is there already; nothing was overwritten") from None
    return f"public key: {public}"


def sign_file(path: str, key: str, target: str | None = None, *, limits: Limits | None = None) -> str:
    """Sign the bundle at *path*, in its place or to *target*; the public key. Raises BundleError, OSError and the like.

    Only the trailer is written anew, so the bundle stays the one that its successor names.
    """
    signer = Signer.load(key)
    with open(path, "rb") as source:  # noqa: PTH123
        summary = _verified(source, path, limits)
        trailer = replace(
            summary.trailer,
            signature=signer.signature(summary.header, records=summary.trailer.records, sha256=summary.trailer.sha256),
        )
        file = AtomicFile(Path(target or path))
        try:
            source.seek(0)
            _copy(source, file.stream, summary.trailer_at)
            file.stream.write(raw_frame(format_line(trailer.to_dict()) + b"\n"))
            file.commit()
        except BaseException:
            file.discard()
            raise
    return public_text(signer.public)


def _verified(source: BinaryIO, path: str, limits: Limits | None) -> Summary:
    try:
        return verify(source, limits=limits)
    except EncryptionError:
        raise EncryptionError(
            f"{Path(path).name[:80]} is encrypted; sign it before that",
            rule="R78",
        ) from None


def _copy(source: BinaryIO, target: BinaryIO, count: int) -> None:
    while count:
        data = source.read(min(count, _COPIED))
        if not data:
            raise OSError("the bundle changed while it was being signed")
        target.write(data)
        count -= len(data)
