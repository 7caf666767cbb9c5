"""Bundles that only their recipients can read; age itself reads and writes them, too."""

import base64
import contextlib
import io
import os
import shutil
import subprocess
import sys
import time

import pytest

from changelog_format import (
    BundleWriter,
    EncryptionError,
    Identities,
    NoIdentityError,
    Recipients,
    UnusableKeyError,
    check_archive,
    open_bundle,
    verify,
)
from changelog_format.__main__ import main
from changelog_format.encryption import EncryptingStream, decrypted
from tests.format.samples import ROOT, VECTORS, bundle, change, header, small
from tests.format.test_vectors import Pipe

pyrage = pytest.importorskip("pyrage")
needs_age = pytest.mark.skipif(shutil.which("age") is None, reason="the program age is not installed")

IDENTITY = VECTORS / "encrypted" / "identity.txt"
EXAMPLE = VECTORS / "encrypted" / "example.jsonl.zst.age"


@pytest.fixture(autouse=True)
def private_identity():
    IDENTITY.chmod(0o600)  # version control keeps no permissions


def pair():
    identity = pyrage.x25519.Identity.generate()
    return str(identity), str(identity.to_public())


def encrypted_small(*recipients, count=3):
    return small(count, recipients=Recipients(recipients))


def test_the_vector(capsys):
    assert verify(EXAMPLE, identities=Identities([IDENTITY])).records == 2
    for command in ("verify", "info", "cat"):
        assert main([command, str(EXAMPLE), "--identity", str(IDENTITY)]) == 0
        capsys.readouterr()
        assert main([command, str(EXAMPLE)]) == 1
        assert "is encrypted with age, and no identity was given" in capsys.readouterr().err


def test_each_recipient_reads_it_by_himself(monkeypatch):
    pairs = [pair() for _ in range(3)]
    data = encrypted_small(*(public for _, public in pairs))
    for secret, _ in pairs:
        assert verify(io.BytesIO(data), identities=Identities([secret])).records == 3
    monkeypatch.setenv("AGE", pairs[1][0])
    assert verify(io.BytesIO(data), identities=Identities([pair()[0], "env:AGE"])).records == 3
    with pytest.raises(EncryptionError, match="no identity fits"):
        verify(io.BytesIO(data), identities=Identities([pair()[0]]))


def test_what_is_not_encrypted_is_read_with_an_identity_too():
    identities = Identities([pair()[0]])
    assert verify(io.BytesIO(small()), identities=identities) == verify(io.BytesIO(small()))


def test_every_truncation_and_every_flipped_byte_is_refused():
    secret, public = pair()
    data, identities = encrypted_small(public, count=1), Identities([secret])
    for end in range(len(data)):
        with pytest.raises(Exception) as caught:
            verify(io.BytesIO(data[:end]), identities=identities)
        assert type(caught.value).__name__ in {"EncryptionError", "NoIdentityError", "ContainerError"}, end
    for place in range(len(data)):
        damaged = bytearray(data)
        damaged[place] ^= 1
        with pytest.raises(Exception) as caught:
            verify(io.BytesIO(bytes(damaged)), identities=identities)
        assert type(caught.value).__name__ in {"EncryptionError", "NoIdentityError", "ContainerError"}, place
    with pytest.raises(EncryptionError):
        verify(io.BytesIO(data + b"x"), identities=identities)


def test_what_was_cut_between_chunks_is_refused():
    """Each chunk of 64 KiB is authenticated by itself; that it was the last one is, too."""
    secret, public = pair()
    target = io.BytesIO()
    stream = EncryptingStream(target, Recipients([public]))
    stream.write(bytes(200_000))
    stream.finish()
    data = target.getvalue()
    body = len(data) - (200_000 + 16 * 4)
    cut = decrypted(io.BytesIO(data[: body + 2 * (65536 + 16)]), Identities([secret]), close=True)
    with contextlib.closing(cut), pytest.raises(EncryptionError, match="cut or changed"):
        list(iter(lambda: cut.read(65536), b""))


@needs_age
def test_age_reads_what_is_written_here(tmp_path):
    subprocess.run(["age-keygen", "-o", tmp_path / "key"], check=True, capture_output=True)
    public = subprocess.run(["age-keygen", "-y", tmp_path / "key"], check=True, capture_output=True, text=True).stdout
    (tmp_path / "recipients").write_text(f"# all\n{public}\n{pair()[1]}\n")
    file = tmp_path / "one.jsonl.zst.age"
    with BundleWriter(file, header(1), recipients=Recipients([str(tmp_path / "recipients")])) as writer:
        writer.write(change(1))
    done = subprocess.run(["age", "-d", "-i", tmp_path / "key", file], check=True, capture_output=True)
    assert done.stdout == small(1)
    assert main(["verify", str(file), "--identity", str(tmp_path / "key")]) == 0


@needs_age
@pytest.mark.parametrize("armor", [[], ["-a"]])
def test_what_age_writes_is_read_here(armor):
    secret, public = pair()
    done = subprocess.run(["age", *armor, "-r", public], input=small(), check=True, capture_output=True)
    for source in (io.BytesIO(done.stdout), Pipe(done.stdout, 7)):
        assert verify(source, identities=Identities([secret])).records == 3


X25519 = f"-> X25519 {'A' * 43}\n{'A' * 43}\n".encode()
HEADERS = {
    "one recipient without end": b"-> grease x\n" + (b"A" * 64 + b"\n") * 40_000,
    "recipients without end": X25519 * 25_000,
    "a line without end": b"-> " + b"a" * 2_500_000,
    "a header that is whole": X25519 * 25_000 + f"--- {'A' * 43}\n".encode() + bytes(100),
}


@pytest.mark.parametrize("armored", [False, True])
@pytest.mark.parametrize("header", HEADERS.values(), ids=HEADERS)
def test_f2_a_header_without_end_takes_neither_time_nor_memory(header, armored):
    """The library would read 2 MB for minutes."""
    data = b"age-encryption.org/v1\n" + header
    if armored:
        text = base64.b64encode(data).decode()
        lines = [text[at : at + 64] for at in range(0, len(text), 64)]
        data = "\n".join(
            ["-----BEGIN AGE ENCRYPTED FILE-----", *lines, "-----END AGE ENCRYPTED FILE-----", ""]
        ).encode()
    stream = io.BytesIO(data)
    begun = time.process_time()
    with pytest.raises(EncryptionError):
        verify(stream, identities=Identities([pair()[0]]))
    assert stream.tell() < 400_000
    assert time.process_time() - begun < 15


@pytest.mark.parametrize("armor", [[], ["-a"]])
@needs_age
def test_as_many_recipients_as_there_may_be(armor):
    secret, public = pair()
    others = [pair()[1] for _ in range(99)]
    data = small(count=2000, recipients=Recipients([*others, public]))
    assert verify(io.BytesIO(data), identities=Identities([secret])).records == 2000
    options = [option for each in [*others, public] for option in ("-r", each)]
    data = subprocess.run(["age", *armor, *options], input=small(2000), check=True, capture_output=True).stdout
    assert verify(io.BytesIO(data), identities=Identities([secret])).records == 2000
    with pytest.raises(UnusableKeyError, match="101 recipients, and a file has 100 at most"):
        Recipients([*others, public, pair()[1]])


def test_memory_is_bounded(tmp_path):
    """96 MiB there and back, with less than a third of that more than the process began with."""
    secret, public = pair()
    program = f"""
import resource
from changelog_format import Identities, Recipients
from changelog_format.encryption import EncryptingStream, decrypted
recipients, identities = Recipients(["{public}"]), Identities(["{secret}"])
begun = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
with open("{tmp_path}/big", "wb") as target:
    stream = EncryptingStream(target, recipients)
    for _ in range(96):
        stream.write(bytes(1 << 20))
    stream.finish()
total = 0
stream = decrypted(open("{tmp_path}/big", "rb"), identities, close=True)
while data := stream.read(1 << 16):
    total += len(data)
stream.close()
print(total, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - begun)
"""
    done = subprocess.run([sys.executable, "-c", program], cwd=ROOT, check=True, capture_output=True, text=True)
    total, grown = map(int, done.stdout.split())
    assert total == 96 << 20
    assert grown < 32 * 1024 * (1 if sys.platform != "darwin" else 1024)


class Full(io.RawIOBase):
    """A stream that takes a hundred bytes, as a full disk does."""

    room = 100

    def writable(self):
        return True

    def write(self, data):
        if len(data) > self.room:
            raise OSError(28, "No space left on device")
        self.room -= len(data)
        return len(data)


@pytest.mark.parametrize("count", [1, 3000])
def test_a_full_disk_is_noticed(count):
    with pytest.raises(OSError, match="No space left"):
        bundle_to(Full(), count)


def bundle_to(stream, count):
    with BundleWriter(stream, header(count), recipients=Recipients([pair()[1]]), level=1) as writer:
        for seq in range(1, count + 1):
            writer.write(change(seq, fields={"name": os.urandom(500).hex(), "size": 1}))


def test_nothing_is_left_of_what_was_given_up(tmp_path):
    file = tmp_path / "one.jsonl.zst.age"
    writer = BundleWriter(file, header(1), recipients=Recipients([pair()[1]]))
    writer.abort()
    assert list(tmp_path.iterdir()) == []


def test_a_source_that_fails_says_so():
    secret, public = pair()

    class Broken(io.BytesIO):
        def read(self, size=-1):
            data = super().read(size)
            if not data:
                raise OSError(5, "Input/output error")
            return data

    with pytest.raises(OSError, match="Input/output error"):
        verify(Broken(encrypted_small(public)), identities=Identities([secret]))


def test_a_reader_that_is_closed_early_leaves_nothing_running():
    secret, public = pair()
    many = bundle(header(3000), [change(seq, context={"noise": os.urandom(300).hex()}) for seq in range(1, 3001)],
                  recipients=Recipients([public]))  # fmt: skip
    with open_bundle(io.BytesIO(many), identities=Identities([secret])) as reader:
        next(iter(reader))
    assert reader.header.end.seq == 3000


def test_whom_nobody_can_encrypt_to(tmp_path):
    for texts in ([], ["age1nobody"], [str(tmp_path / "none")], ["ssh-ed25519 AAAA"]):
        with pytest.raises(UnusableKeyError):
            Recipients(texts)
    (tmp_path / "key").write_text("AGE-SECRET-KEY-1NONE\n")
    (tmp_path / "key").chmod(0o600)
    with pytest.raises(UnusableKeyError, match="no identity of age"):
        Identities([tmp_path / "key"])


def test_an_identity_behind_a_passphrase_is_refused_by_what_it_is(tmp_path):
    """As ``age-keygen | age -p`` makes one; nobody is asked for the passphrase, and nothing waits for it."""
    path = tmp_path / "key"
    path.touch(mode=0o600)
    for armored in (False, True):
        data = pyrage.passphrase.encrypt(pair()[0].encode(), "correct horse", armored=armored)
        path.write_bytes(data)
        with pytest.raises(UnusableKeyError, match=f"what {path} holds is protected by a passphrase.*`age -d` it"):
            Identities([path])


@pytest.mark.parametrize("text", ["-----BEGIN OPENSSH PRIVATE KEY-----\nabc\n", "AGE-PLUGIN-YUBIKEY-1QQQ\n"])
def test_identities_that_only_age_itself_can_use_are_named(tmp_path, text):
    path = tmp_path / "key"
    path.touch(mode=0o600)
    path.write_text(text)
    with pytest.raises(UnusableKeyError, match=r"a key of ssh or of a plugin.*make one with age-keygen"):
        Identities([path])


def test_a_bundle_behind_a_passphrase_is_refused():
    data = pyrage.passphrase.encrypt(small(), "correct horse")
    with pytest.raises(NoIdentityError, match="no identity fits"):
        verify(io.BytesIO(data), identities=Identities([pair()[0]]))


def test_an_archive_of_encrypted_bundles(tmp_path):
    secret, public = pair()
    (tmp_path / "a.jsonl.zst.age").write_bytes(encrypted_small(public))
    assert "no identity was given" in check_archive(tmp_path).problems[0]
    assert check_archive(tmp_path, identities=Identities([secret])).in_order


def test_of_what_nobody_could_look_into_an_archive_says_nothing_else(tmp_path, capsys):
    secret, public = pair()
    for name in "abcdef":
        (tmp_path / f"{name}.jsonl.zst.age").write_bytes(encrypted_small(public))
    (tmp_path / "key").touch(mode=0o600)
    (tmp_path / "key").write_text(pair()[0])
    for options, why in (
        ([], "no identity was given"),
        (["--identity", str(tmp_path / "key")], "no identity fits (or their beginnings were changed)"),
    ):
        assert main(["verify", str(tmp_path), *options]) == 1
        assert capsys.readouterr().out.splitlines() == [
            "6 files; not looked at, by their names: 1, as key",
            f"PROBLEM: 6 of 6 files are encrypted, and {why}: what is in them was not looked at (--identity FILE)",
            "Nothing is proven.",
        ]
    (tmp_path / "plain.jsonl.zst").write_bytes(small())
    report = check_archive(tmp_path)
    assert (len(report.closed), len(report.streams), len(report.problems)) == (6, 1, 1)
    assert report.to_dict()["closed"][0] == str(tmp_path / "a.jsonl.zst.age")
    damaged = tmp_path / "a.jsonl.zst.age"
    damaged.write_bytes(damaged.read_bytes()[:-1])
    report = check_archive(tmp_path, identities=Identities([secret]))
    assert report.closed == ()
    assert report.problems == (f"{damaged}: the encrypted file was cut or changed (SPEC R78)",)


def test_without_the_library():
    program = "import sys; sys.modules['pyrage'] = None; from changelog_format import Recipients; Recipients(['age1x'])"
    done = subprocess.run([sys.executable, "-c", program], cwd=ROOT, capture_output=True, check=False, text=True)
    assert "MissingExtraError: encryption needs the library pyrage: run `pip install django-synchro[encryption]`" in (
        done.stderr
    )
