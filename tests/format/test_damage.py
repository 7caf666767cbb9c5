"""F1 and F2: a file that is cut, flipped or made to swell is refused with one clear error; memory stays bounded."""

import io
import random
import subprocess
import sys

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from changelog_format import BundleError, DigestError, LimitError, Limits, open_bundle, verify
from changelog_format.container import compress_frame, raw_frame
from tests.format.samples import ROOT, VECTORS, bundle, change, header, small


@pytest.fixture(scope="module")
def whole():
    """Three frames of compressed blocks, and the trailer's."""
    data = small(12, frame_size=1024)
    assert verify(io.BytesIO(data)).frames >= 4
    return data


def refused(data):
    """The error; anything else than a BundleError fails the test."""
    with pytest.raises(BundleError) as caught:
        verify(io.BytesIO(data))
    assert str(caught.value)
    return caught.value


def test_f1_cut_at_every_byte(whole):
    for length in range(len(whole)):
        error = refused(whole[:length])
        assert error.rule == "R6"
        assert error.byte == length


def test_f1_every_single_bit_flipped(whole):
    for at in range(len(whole)):
        for bit in range(8):
            damaged = bytearray(whole)
            damaged[at] ^= 1 << bit
            refused(damaged)


def test_f1_bytes_after_the_end(whole):
    for tail in (b"\0", b"\n", whole, raw_frame(b"{}\n"), b"\x50\x2a\x4d\x18\0\0\0\0"):
        assert refused(whole + tail).rule == "R9"


def test_f1_a_stretch_is_missing_twice_or_zero(whole):
    chance = random.Random(7)
    for _ in range(500):
        start, length = chance.randrange(len(whole) - 1), chance.randrange(1, 60)
        part = whole[start : start + length]
        refused(whole[:start] + whole[start + length :])
        refused(whole[:start] + part + part + whole[start + length :])
        if any(part):
            refused(whole[:start] + bytes(len(part)) + whole[start + length :])


def test_f1_frames_in_another_order():
    one, two = small(3, frame_size=64), small(4, frame_size=64)
    assert one != two
    refused(one[:400] + two[400:])


def test_another_compression_of_the_same_lines_is_noticed():
    """Some bits of a zstd block do not change what it decodes to; the digest of the stored bytes does see them."""
    data = small(3)
    with open_bundle(io.BytesIO(data)) as reader:
        content = b"".join(line + b"\n" for line in [reader.raw_line, *(reader.raw_line for _ in reader)])
        trailer = reader.raw_line + b"\n"
    assert data == compress_frame(content, 3) + raw_frame(trailer)
    with pytest.raises(DigestError, match="stored_sha256"):
        verify(io.BytesIO(raw_frame(content) + raw_frame(trailer)))


@given(st.binary(max_size=300))
def test_any_bytes(data):
    refused(data)
    refused(b"\x28\xb5\x2f\xfd" + data)
    refused(b"\x28\xb5\x2f\xfd\x24" + data)


@given(st.binary(min_size=1, max_size=200), st.booleans())
def test_any_lines(data, compressed):
    content = data if data.endswith(b"\n") else data + b"\n"
    refused(compress_frame(content, 3) if compressed else raw_frame(content))


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=8,
)


@given(st.data())
def test_any_value_in_any_place(data):
    """One value of a good bundle is replaced by something else: nothing but a BundleError comes of it."""
    name = data.draw(st.sampled_from(["actions", "relayed", "values", "snapshot", "only", "signature"]))
    with open_bundle(VECTORS / "good" / f"{name}.jsonl.zst") as reader:
        lines = [orjson.loads(reader.raw_line), *(orjson.loads(reader.raw_line) for _ in reader)]
        lines.append(orjson.loads(reader.raw_line))
    at = data.draw(st.sampled_from(lines))
    while True:
        key = data.draw(st.sampled_from(sorted(at) if isinstance(at, dict) else range(len(at))))
        if not isinstance(at[key], dict | list) or not at[key] or data.draw(st.booleans()):
            break
        at = at[key]
    at[key] = data.draw(JSON)
    try:
        *body, last = [orjson.dumps(line) + b"\n" for line in lines]
    except TypeError:
        return
    try:
        verify(io.BytesIO(raw_frame(b"".join(body)) + raw_frame(last)))
    except BundleError as error:
        assert str(error)  # noqa: PT017


def test_f2_small_files_that_swell(tmp_path):
    """Each of these is small; the process that reads it, Python included, stays below 400 MB."""
    bombs = [
        VECTORS / "bad" / f"{name}.jsonl.zst" for name in ("R10-endless-line", "R3-too-many-lines", "R17-very-deep")
    ]
    repeated = b"".join((131072 << 3 | 2).to_bytes(3, "little") + b"x" for _ in range(512))
    endless = tmp_path / "endless.zst"
    # Says that it holds 68 MiB, and goes on for a hundred times as long.
    endless.write_bytes(b"\x28\xb5\x2f\xfd\xa4" + (68 << 20).to_bytes(4, "little") + repeated * 100)
    lines = tmp_path / "lines.zst"
    content = b"".join(b"%d" % n for n in range(1000)) * 4000 + b"\n"
    lines.write_bytes(compress_frame(content, 3) * 20)
    for bomb in [*bombs, endless, lines]:
        assert bomb.stat().st_size < 2_000_000
        assert peak_while_verifying(bomb, refused=True) < 400_000


def test_f2_memory_does_not_grow_with_the_file(tmp_path):
    peaks = []
    for count in (2_000, 30_000):
        path = tmp_path / f"{count}.jsonl.zst"
        path.write_bytes(bundle(header(count), (change(seq) for seq in range(1, count + 1)), frame_size=1 << 16))
        peaks.append(peak_while_verifying(path))
    assert peaks[1] < peaks[0] + 8_000


def peak_while_verifying(path, *, refused=False):
    """The greatest resident size of a process that verifies it, in KB."""
    # A process begins with the peak of the one that starts it: that must be a small one, not this one.
    program = (
        "import resource, subprocess, sys\n"
        "command = [sys.executable, '-m', 'changelog_format', 'verify', sys.argv[1]]\n"
        "status = subprocess.run(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL).returncode\n"
        "print(status, resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss)\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", program, str(path)], cwd=ROOT, capture_output=True, text=True, check=True
    )
    status, peak = done.stdout.split()
    assert int(status) == int(refused)
    return int(peak)


def test_limits_can_be_lowered():
    data = small(5, frame_size=512)
    assert verify(io.BytesIO(data), limits=Limits(frame=512, line=1024, records=5)).records == 5
    for limits, rule in (
        (Limits(line=100), "R10"),
        (Limits(frame=100, line=200), "R3"),
        (Limits(records=4), "R60"),
        (Limits(size=600), "R60"),
    ):
        with pytest.raises(LimitError) as caught:
            verify(io.BytesIO(data), limits=limits)
        assert caught.value.rule == rule


def test_limits_can_be_raised():
    long = "x" * (65 << 20)
    line = f'{{"type":"header","x":"{long}"}}\n'.encode()
    frame = compress_frame(line, 1)
    with pytest.raises(LimitError):
        verify(io.BytesIO(frame))
    with pytest.raises(BundleError) as caught:
        verify(io.BytesIO(frame), limits=Limits(line=1 << 28))
    assert caught.value.rule == "R29"  # it is no header, but it was read
