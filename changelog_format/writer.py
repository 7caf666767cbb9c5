"""Writing a bundle: to a file that appears whole or not at all, or to a stream."""

from __future__ import annotations

import contextlib
import errno
import hashlib
import os
import secrets
from collections import deque
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO, Self

from .container import compress_frame, raw_frame
from .encryption import EncryptingStream, overhead
from .errors import BundleError, LimitError, LineError, WriterStateError
from .jsonl import format_line
from .limits import FRAME_SIZE, LINE_SIZE
from .records import Change, FilePiece, Header, ObjectRecord, Trailer, check_change, check_object_record, check_piece
from .rules import BundleRules

if TYPE_CHECKING:
    from collections.abc import Sequence
    from types import TracebackType

    from .encryption import Recipients
    from .signing import Signer

__all__ = ["AtomicFile", "BundleWriter"]

_MAX_LEVEL = 22
# What a system says that cannot fsync a folder, or, as Windows, not even open one.
_NO_FOLDER_SYNC = frozenset({errno.EINVAL, errno.ENOTSUP, errno.EBADF, errno.EACCES, errno.EPERM})


class BundleWriter:
    """Writes one bundle; the same header and records give the same bytes (with the same zstd library).

    It is *open* from the start; `close` makes it *closed*, `abort` or a failure to store makes it *failed*. As a
    context manager it closes at the end of the block and aborts when the block raises. A record that the reader would
    refuse is refused with the same error, and the writer stays open.

    With a path, all goes to a temporary file in the same folder; `close` makes it durable and renames it, and until
    then a file of that name stays as it was. With a stream, frames are written as they fill; it is left open.
    """

    def __init__(
        self,
        target: str | os.PathLike[str] | BinaryIO,
        header: Header,
        *,
        level: int = 3,
        frame_size: int = FRAME_SIZE,
        threads: int = 0,
        signer: Signer | None = None,
        recipients: Recipients | None = None,
    ) -> None:
        """Begin the bundle. Raises BundleError where the header is not in order, OSError where nothing can be written.

        `level` is zstd's, from 1 to 22. `frame_size` is how many bytes of lines a frame holds at most, unless one line
        alone is longer. So many `threads` compress frames while the next are written. `signer` signs it. With
        `recipients` the file is encrypted to these.
        """
        if not 1 <= level <= _MAX_LEVEL:
            message = f"level is {level}, not between 1 and {_MAX_LEVEL}"
            raise ValueError(message)
        if threads < 0:
            message = f"threads is {threads}, not a number from 0 up"
            raise ValueError(message)
        if not 1 <= frame_size <= FRAME_SIZE:
            message = f"frame_size is {frame_size}, not between 1 and {FRAME_SIZE}"
            raise ValueError(message)
        self.header = header
        self._level = level
        self._threads = threads
        self._pool: ThreadPoolExecutor | None = None
        self._compressing: deque[Future[bytes]] = deque()
        self._frame_size = frame_size
        self._signer = signer
        # Joined at once: a line as orjson gives it takes several KiB of memory, however short it is.
        self._pending = bytearray()
        self._line = 0
        self._sha256 = hashlib.sha256()
        self._stored_sha256 = hashlib.sha256()
        self._trailer: Trailer | None = None
        self._state = "open"
        self.bytes_written = 0  # so far, to the file or stream
        self.text_size = 0  # bytes of all lines so far, uncompressed
        line = _header_line(header)
        self._rules = BundleRules(header)
        self._file = AtomicFile(Path(target)) if isinstance(target, (str, os.PathLike)) else None
        self._stream: BinaryIO = target if self._file is None else self._file.stream  # type: ignore[assignment]
        self._recipients = 0 if recipients is None else len(recipients.texts)
        self._encrypting = None if recipients is None else EncryptingStream(self._stream, recipients)
        self._add(line)

    @property
    def records(self) -> int:
        """How many records were written."""
        return self._rules.records

    def measure(self) -> int:
        """How many bytes the file would have if it were closed now. Compresses what is pending, so ask seldom."""
        self._store_frames()
        waiting = len(compress_frame(bytes(self._pending), self._level)) if self._pending else 0
        trailer = self._trailer_with(sha256="0" * 64, stored_sha256="0" * 64)
        size = self.bytes_written + waiting + len(raw_frame(format_line(trailer.to_dict()) + b"\n"))
        return size + (0 if self._encrypting is None else overhead(size, self._recipients))

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        if kind is not None:
            self.abort()
        elif self._state == "open":
            self.close()

    def write(self, record: Change | ObjectRecord | FilePiece) -> None:
        """Write the next record. Raises BundleError where the reader would refuse it, OSError when storing fails."""
        self._check_open()
        try:
            data = record.to_dict()
            if type(record) is Change:
                check_change(data)
            elif type(record) is FilePiece:
                check_piece(data)
            else:
                check_object_record(data)
            line = format_line(data)
            if len(line) > LINE_SIZE:
                raise LimitError(f"a line of {len(line)} bytes, where at most {LINE_SIZE} are taken", rule="R10")
            self._rules.accept(record)
        except BundleError as error:
            raise error.at(self._line + 1)  # noqa: B904  (the same error, with its line)
        self._add(line)

    def write_lines(self, lines: Sequence[str], *, first: int, last_date: str) -> None:
        """Write the next changes of a history, from position `first` on, as lines for which the caller answers.

        That is for who has such lines from what was checked before: nothing in them is looked at but their size. Each
        is what `write` makes of a change of this header's models, without its LF. `last_date` is the date of the last
        one. Raises OrderError where they are not the next changes, LineError, LimitError, OSError.
        """
        self._check_open()
        if not lines:
            return
        try:
            block = "\n".join(lines).encode()
        except UnicodeEncodeError:
            raise LineError("a string has a lone surrogate", rule="R16", line=self._line + 1) from None
        if block.count(b"\n") != len(lines) - 1:
            raise LineError("a line has a line break inside", rule="R12", line=self._line + 1)
        # A character has up to four bytes.
        if 4 * max(map(len, lines)) > LINE_SIZE and max(map(len, block.split(b"\n"))) > LINE_SIZE:
            message = f"a line of more than {LINE_SIZE} bytes"
            raise LimitError(message, rule="R10", line=self._line + 1)
        try:
            self._rules.accept_run(first, first + len(lines) - 1, last_date)
        except BundleError as error:
            raise error.at(self._line + 1)  # noqa: B904  (the same error, with its line)
        block += b"\n"
        start = 0
        while len(self._pending) + len(block) - start > self._frame_size:
            # As many lines as still fit; or one that is longer than a frame, alone.
            end = block.rfind(b"\n", start, start + max(self._frame_size - len(self._pending), 0)) + 1
            if not end and not self._pending:
                end = block.index(b"\n", start) + 1
            if end:
                self._pending += memoryview(block)[start:end]
                start = end
                if start == len(block):
                    break
            self._flush_or_abort()
        self._pending += memoryview(block)[start:]
        self.text_size += len(block)
        self._line += len(lines)

    def close(self) -> Trailer:
        """Write the trailer and make the file durable; return the trailer. Closing twice does nothing.

        Raises OrderError where records are missing that the header announces, OSError when storing fails. Either way
        the writer has failed then, and what stood at the path stands there still; only where the last step fails,
        which makes the rename durable, the new file is there and whole.
        """
        if self._trailer is not None and self._state == "closed":
            return self._trailer
        self._check_open()
        try:
            self._rules.finish(self._rules.records)
            self._flush()
            self._store_frames()
            self._stop()
            trailer = self._trailer_with(sha256=self._sha256.hexdigest(), stored_sha256=self._stored_sha256.hexdigest())
            self._store(raw_frame(format_line(trailer.to_dict()) + b"\n"))
            if self._encrypting is not None:
                self._encrypting.finish()
                self.bytes_written = self._encrypting.size
            if self._file is not None:
                self._file.commit()
            else:
                self._stream.flush()
        except BaseException as error:
            self.abort()
            if isinstance(error, BundleError):
                error.at(self._line + 1)
            raise
        self._state = "closed"
        self._trailer = trailer
        return trailer

    def abort(self) -> None:
        """Give up: the temporary file is removed. What went to a stream stays there, without a trailer."""
        if self._state != "open":
            return
        self._state = "failed"
        self._pending = bytearray()
        self._stop()
        if self._encrypting is not None:
            self._encrypting.abort()
        if self._file is not None:
            self._file.discard()

    def _trailer_with(self, *, sha256: str, stored_sha256: str) -> Trailer:
        records = self._rules.records
        signature = None
        if self._signer is not None:
            signature = self._signer.signature(self.header, records=records, sha256=sha256)
        return Trailer(records=records, sha256=sha256, stored_sha256=stored_sha256, signature=signature)

    def _check_open(self) -> None:
        if self._state != "open":
            raise WriterStateError(f"the writer is {self._state}")

    def _add(self, line: bytes) -> None:
        if self._pending and len(self._pending) + len(line) + 1 > self._frame_size:
            self._flush_or_abort()
        self._pending += line
        self._pending += b"\n"
        self.text_size += len(line) + 1
        self._line += 1

    def _flush_or_abort(self) -> None:
        try:
            self._flush()
        except BaseException:
            self.abort()
            raise

    def _flush(self) -> None:
        """Store the pending lines as a frame, now or when it is compressed."""
        content = bytes(self._pending)
        self._pending = bytearray()
        self._sha256.update(content)
        if not self._threads:
            self._store_frame(compress_frame(content, self._level))
            return
        if self._pool is None:
            self._pool = ThreadPoolExecutor(self._threads)
        self._store_frames(self._threads - 1)  # of what waits here is one frame a thread, whatever is quicker
        self._compressing.append(self._pool.submit(compress_frame, content, self._level))

    def _store_frames(self, leave: int = 0) -> None:
        """Store what is being compressed, in its order, but for the last so many."""
        while len(self._compressing) > leave:
            self._store_frame(self._compressing.popleft().result())

    def _store_frame(self, frame: bytes) -> None:
        self._stored_sha256.update(frame)
        self._store(frame)

    def _stop(self) -> None:
        """End the threads."""
        self._compressing.clear()
        if self._pool is not None:
            self._pool.shutdown(cancel_futures=True)
            self._pool = None

    def _store(self, data: bytes) -> None:
        view = memoryview(data)
        while view:
            # A raw stream may take less than it is given; many file-like objects take all and return None.
            count: Any = (self._encrypting or self._stream).write(view)
            view = view[len(view) if count is None else count :]
        self.bytes_written += len(data)


def _header_line(header: Header) -> bytes:
    try:
        data = header.to_dict()
        Header.from_dict(data)
        line = format_line(data)
        if len(line) > LINE_SIZE:
            raise LimitError(f"a line of {len(line)} bytes, where at most {LINE_SIZE} are taken", rule="R10")
    except BundleError as error:
        raise error.at(1)  # noqa: B904  (the same error, with its line)
    return line


class AtomicFile:
    """A temporary file beside its target, which takes the target's place by `commit`."""

    def __init__(self, target: Path) -> None:
        # A symbolic link stays, its target is replaced.
        self._target = Path(os.path.realpath(target))
        if self._target.exists() and not self._target.is_file():
            # A rename would put a file in the place of the device or folder.
            code = errno.EISDIR if self._target.is_dir() else errno.EINVAL
            raise OSError(code, "not a regular file", str(target))
        self._temporary = self._target.with_name(f".{self._target.name[:100]}.{secrets.token_hex(6)}.tmp")
        # Not tempfile, whose files only the owner can read: this one is to have the usual permissions.
        self.stream = open(self._temporary, "xb")  # noqa: PTH123, SIM115  (closed by commit and discard)

    def commit(self) -> None:
        """Make it durable under the target's name."""
        self.stream.flush()
        os.fsync(self.stream.fileno())
        self.stream.close()
        self._temporary.replace(self._target)
        _sync_folder(self._target.parent)

    def discard(self) -> None:
        """Remove the temporary file; the target stays as it was."""
        with contextlib.suppress(OSError):
            self.stream.close()
        self._temporary.unlink(missing_ok=True)


def _sync_folder(folder: Path) -> None:
    """Make a rename in `folder` durable, where the system can."""
    try:
        descriptor = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
    except OSError as error:
        if error.errno not in _NO_FOLDER_SYNC:
            raise
