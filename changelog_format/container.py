"""The zstd frames of a bundle: read one by one within bounds, and written (SPEC R1 to R9, R63; RFC 8878, 3.1.1).

Frames and blocks are walked here and handed to the decompressor block by block. So no length that a file states is
allocated before it is checked, a block yields at most 128 KiB, and where a file breaks off is known to the byte.
"""

from __future__ import annotations

import hashlib
import re
from dataclasses import dataclass
from typing import BinaryIO, Protocol

import zstandard

from .errors import BundleError, ContainerError, LimitError, NoIdentityError
from .limits import BLOCK_SIZE, FRAME_BLOCKS, Limits

__all__ = ["Frame", "FrameReader", "compress_frame", "raw_frame"]

_MAGIC = b"\x28\xb5\x2f\xfd"
_ENCRYPTED = re.compile(rb"age-|----").match
_SKIPPABLE = range(0x184D2A50, 0x184D2A60)
# Frame header descriptor: size flag (2 bits), single segment, unused, reserved, checksum, dictionary id (2 bits).
_DESCRIPTOR_MASK = 0b0011_1111
_DESCRIPTOR = 0b0010_0100
_CHECKSUM_SIZE = 4
_RAW, _RLE, _COMPRESSED, _RESERVED = range(4)
_READ_SIZE = 256 * 1024
# Windows of zstd: the least is 2**10 bytes; 128 MiB is what decoders take unasked, 2 GiB what they take at all.
_LEAST_WINDOW = 10
_USUAL_WINDOW = 1 << 27
_GREATEST_WINDOW = 1 << 31


class _Digest(Protocol):
    def update(self, data: bytes, /) -> None: ...

    def hexdigest(self) -> str: ...


@dataclass(frozen=True, slots=True, kw_only=True)
class Frame:
    """One frame: its uncompressed `content`, at which byte of the file it begins, how it was stored."""

    content: bytes
    start: int
    raw: bool  # one raw block holds it all
    stored_before: _Digest  # SHA-256 of every byte of the file before this frame


class FrameReader:
    """Takes frames from a stream, which need not be seekable. Raises ContainerError and LimitError.

    What is read is hashed as it passes.
    """

    def __init__(self, stream: BinaryIO, limits: Limits) -> None:
        self._stream = stream
        self._limits = limits
        self._buffer = b""
        self._at = 0
        self._sha256 = hashlib.sha256()
        # zstd's own bound on windows has to let through what the limits do.
        window = max(_USUAL_WINDOW, 1 << (limits.frame + limits.line).bit_length())
        self._decompressor = zstandard.ZstdDecompressor(max_window_size=min(window, _GREATEST_WINDOW))
        self.frames = 0
        self.size = 0  # bytes of the file that were taken

    def next(self) -> Frame | None:
        """Return the next frame, or None at the end of the file."""
        start = self.size
        if self.at_end():
            return None
        before = self._sha256.copy()
        header, size = self._header()
        # The window of a single segment is its content (RFC 8878, 3.1.1.1.2), which bounds its blocks.
        block_limit = min(size, BLOCK_SIZE)
        decode = self._decompressor.decompressobj(write_size=BLOCK_SIZE).decompress
        # Joined at once: a block may be a single byte, which as an object would take many times that.
        content = bytearray()
        blocks = 0
        last = raw = False
        kind, at = _RAW, start
        try:
            decode(header)
            while not last:
                at = self.size
                block = self._take(3)
                head = int.from_bytes(block, "little")
                last, kind, block_size = bool(head & 1), head >> 1 & 3, head >> 3
                if kind == _RESERVED:
                    raise ContainerError("a block is of the reserved type", rule="R4", byte=at)
                if block_size > block_limit:
                    raise ContainerError(
                        f"a block of {block_size} bytes, where at most {block_limit} can be", rule="R4", byte=at
                    )
                # The checksum goes with the last block, for the decompressor compares it.
                stored = 1 if kind == _RLE else block_size
                part = decode(block + self._take(stored + (_CHECKSUM_SIZE if last else 0)))
                content += part
                if len(content) > size:
                    raise ContainerError(
                        f"the frame holds more than the {size} bytes of its header", rule="R5", byte=start
                    )
                blocks += 1
                # Otherwise a frame could go on for ever. Compressors that do not know where the end is end empty.
                if not last and (not part or blocks == FRAME_BLOCKS):
                    what = f"a frame of more than {FRAME_BLOCKS} blocks" if part else "an empty block before the last"
                    raise ContainerError(what, rule="R63", byte=at)
                raw = kind == _RAW
        except zstandard.ZstdError as error:
            if "memory" in str(error):
                raise MemoryError from None
            if "checksum" in str(error):
                raise ContainerError("the checksum of the frame does not match", rule="R5", byte=start) from None
            if kind == _COMPRESSED:
                raise ContainerError("a block does not decode", rule="R4", byte=at) from None
            # Raw and repeated blocks always decode: it is their sum that is wrong.
            raise _refuse_sum(size, start) from None
        if len(content) != size:
            raise _refuse_sum(size, start)
        self.frames += 1
        return Frame(content=bytes(content), start=start, raw=raw and blocks == 1, stored_before=before)

    def _header(self) -> tuple[bytes, int]:
        """Read a frame's header; return it and the size of the content."""
        start = self.size
        magic = self._take(4)
        if magic != _MAGIC:
            if int.from_bytes(magic, "little") in _SKIPPABLE:
                raise ContainerError("a skippable frame", rule="R1", byte=start)
            if start == 0 and _ENCRYPTED(magic):
                raise NoIdentityError("the file is encrypted with age, and no identity was given", rule="R78")
            raise ContainerError("not a zstd frame", rule="R1", byte=start)
        descriptor = self._take(1)
        flags = descriptor[0]
        if flags & _DESCRIPTOR_MASK != _DESCRIPTOR:
            raise ContainerError(
                f"the frame header descriptor is {flags:#04x}: not a single segment with a checksum and nothing else",
                rule="R2",
                byte=start,
            )
        field = self._take(1 << (flags >> 6))
        size = int.from_bytes(field, "little") + (256 if len(field) == 2 else 0)  # noqa: PLR2004  (RFC 8878, 3.1.1.1.4)
        most = self._limits.frame + self._limits.line + 1
        if size > most:
            raise LimitError(f"a frame of {size} bytes, where at most {most} are taken", rule="R3", byte=start)
        return magic + descriptor + field, size

    def at_end(self) -> bool:
        """Whether the file ends here."""
        if self._at < len(self._buffer):
            return False
        data = self._stream.read(_READ_SIZE) or b""
        if not isinstance(data, bytes):
            raise TypeError(f"the stream gives {type(data).__name__}, not bytes: it has to be a binary one")
        self._buffer, self._at = data, 0
        return not data

    def _take(self, count: int) -> bytes:
        """Return exactly `count` bytes, which the caller has bounded."""
        data = self._buffer[self._at : self._at + count]
        self._at += len(data)
        while len(data) < count:
            if self.at_end():
                raise ContainerError("the file ends within a frame", rule="R6", byte=self.size + len(data))
            more = self._buffer[: count - len(data)]
            self._at = len(more)
            data += more
        self.size += count
        self._sha256.update(data)
        return data


def _refuse_sum(size: int, start: int) -> ContainerError:
    return ContainerError(f"the frame does not hold the {size} bytes of its header", rule="R5", byte=start)


def compress_frame(content: bytes, level: int) -> bytes:
    """Return `content` as one zstd frame: single segment, content size, checksum."""
    # A window that takes in the whole content makes it a single segment.
    window = max(_LEAST_WINDOW, (len(content) - 1).bit_length())
    parameters = zstandard.ZstdCompressionParameters.from_level(
        level, window_log=window, write_content_size=True, write_checksum=True, write_dict_id=False
    )
    return zstandard.ZstdCompressor(compression_params=parameters).compress(content)


def raw_frame(content: bytes) -> bytes:
    """Return `content`, at most 128 KiB, as a frame of one raw block, of which no bit is without meaning."""
    size = len(content)
    if size > BLOCK_SIZE:
        raise BundleError(f"the trailer has {size} bytes, where at most {BLOCK_SIZE} can be", rule="R8")
    if size < 256:  # noqa: PLR2004  (RFC 8878, 3.1.1.1.4: sizes from 256 on take two bytes less 256, or four)
        field = b"\x24" + size.to_bytes(1, "little")
    elif size < 65536 + 256:
        field = b"\x64" + (size - 256).to_bytes(2, "little")
    else:
        field = b"\xa4" + size.to_bytes(4, "little")
    block = (size << 3 | _RAW << 1 | 1).to_bytes(3, "little")
    # XXH64 of the content stands at the end of every frame of that content.
    checksum = compress_frame(content, 1)[-_CHECKSUM_SIZE:]
    return _MAGIC + field + block + content + checksum
