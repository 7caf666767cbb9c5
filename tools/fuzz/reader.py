"""Coverage-guided fuzzing of the reader with atheris: whatever the bytes, nothing but a BundleError may come of them.

Half of the inputs are files as they are; of the others the lines are packed into frames with digests that match, so
that what lies behind these is reached. What the reader takes must come out the same when it is written and read again.
Arguments are libFuzzer's.
"""

import io
import sys

import atheris

with atheris.instrument_imports(include=["changelog_format"]):
    from changelog_format import BundleError, BundleWriter, Limits, open_bundle, verify

from packing import packed

# Small ones, so that the search does not spend its time on size.
LIMITS = Limits(frame=1 << 16, line=1 << 16, records=1000, size=1 << 20)
PACKED = 1


def read(data):
    with open_bundle(io.BytesIO(data), limits=LIMITS) as reader:
        return reader.header, list(reader)


def one(data):
    if not data:
        return
    body = data[1:]
    if data[0] & PACKED:
        try:
            body = packed(body.split(b"\n"))
        except (ValueError, OverflowError):  # no frame can be made of it
            return
    try:
        verify(io.BytesIO(body), limits=LIMITS)
    except BundleError as error:
        str(error)
        return
    header, records = read(body)
    stream = io.BytesIO()
    try:
        with BundleWriter(stream, header) as writer:
            for record in records:
                writer.write(record)
    except BundleError as error:
        raise AssertionError(f"it was read, and cannot be written: {error}") from error
    if read(stream.getvalue()) != (header, records):
        raise AssertionError("it was read, written and read again, and is not the same")


if __name__ == "__main__":
    atheris.Setup(sys.argv, one)
    atheris.Fuzz()
