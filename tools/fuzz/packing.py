"""Files around given lines: frames, checksums and digests in order, so that a fuzzer gets past them."""

import hashlib

import orjson

from changelog_format.container import compress_frame, raw_frame


def packed(lines):
    """A bundle of *lines* (bytes without LF; the last one is the trailer), its digests made to match where they can."""
    *body, last = lines
    content = b"".join(line + b"\n" for line in body)
    frame = compress_frame(content, 1) if content else b""
    trailer = last
    try:
        found = orjson.loads(last)
    except orjson.JSONDecodeError:
        found = None
    if isinstance(found, dict) and found.get("type") == "trailer":
        found["sha256"] = hashlib.sha256(content).hexdigest()
        found["stored_sha256"] = hashlib.sha256(frame).hexdigest()
        trailer = orjson.dumps(found)
    return frame + raw_frame(trailer + b"\n")


def unpacked(data):
    """The lines of a good bundle."""
    import io

    from changelog_format import open_bundle

    with open_bundle(io.BytesIO(data)) as reader:
        lines = [reader.raw_line]
        lines += [reader.raw_line for _ in reader]
        lines.append(reader.raw_line)
    return [line.rstrip(b"\n") for line in lines]
