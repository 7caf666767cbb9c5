"""Who wrote a bundle: keys, signatures, and who may speak for whom."""

import io
import json
import os
import subprocess
import sys

import pytest

import changelog_format
from changelog_format import (
    BundleError,
    MissingExtraError,
    SignatureError,
    Signer,
    TrustedKeys,
    UnsignedError,
    UnusableKeyError,
    check_relayed,
    check_signature,
    open_bundle,
    verify,
)
from changelog_format.__main__ import main
from changelog_format.keys import public_text, read_secrets, secret_text, write_secret_file
from changelog_format.signing import generate_key
from tests.format.samples import INDEX, ROOT, VECTORS, bundle, change, header, relayed, small

SIGNED = INDEX["signed"]
TRUSTED = TrustedKeys.read(VECTORS / "signed" / "trusted.txt")
OFFICE = Signer(bytes([1]) * 32)


def judge(source, trusted=TRUSTED):
    """The key by which a bundle is in order. Raises BundleError."""
    with open_bundle(source) as reader:
        records = list(reader)
        key = check_signature(reader.header, reader.trailer, trusted)
        for record in records:
            if getattr(record, "origin", None) is not None:
                check_relayed(reader.header, key, record.origin.node)
        return key


@pytest.mark.parametrize("vector", SIGNED, ids=lambda vector: vector["file"])
def test_vectors(vector):
    path = VECTORS / vector["file"]
    verify(path)  # whoever does not check signatures finds nothing wrong
    if "error" not in vector:
        judge(path)
        return
    with pytest.raises(SignatureError) as caught:
        judge(path)
    assert (type(caught.value), caught.value.rule) == (getattr(changelog_format, vector["error"]), vector["rule"])
    assert str(caught.value) == vector["message"]


def test_each_kind_of_refusal_has_a_vector():
    assert {vector.get("rule") for vector in SIGNED} == {None, *(f"R{number}" for number in range(72, 78))}


@pytest.mark.parametrize("vector", [v for v in SIGNED if v.get("rule") != "R77"], ids=lambda vector: vector["file"])
def test_vectors_on_the_command_line(vector, capsys):
    path, trusted = str(VECTORS / vector["file"]), str(VECTORS / "signed" / "trusted.txt")
    assert main(["verify", path]) == 0
    capsys.readouterr()
    assert main(["verify", path, "--trusted", trusted]) == (1 if "error" in vector else 0)
    printed = capsys.readouterr()
    if "error" in vector:
        assert printed.err == f"{path}: {vector['message']}\n"
    else:
        assert "which is trusted" in printed.out


def test_what_is_only_passed_on_is_said_not_to_be_proven(capsys):
    path, trusted = VECTORS / "signed" / "R77-relay.jsonl.zst", VECTORS / "signed" / "trusted.txt"
    assert main(["verify", str(path), "--trusted", str(trusted)]) == 0
    assert "it passes on 1 changes of hq-11aa22bb: these are not proven" in capsys.readouterr().out


def test_signing_does_not_change_what_the_bundle_is():
    plain, signed = verify(io.BytesIO(small())), verify(io.BytesIO(small(signer=OFFICE)))
    assert plain.trailer.sha256 == signed.trailer.sha256
    assert plain.trailer.stored_sha256 == signed.trailer.stored_sha256


def test_no_single_bit_of_a_signed_bundle_can_change():
    data = small(1, signer=OFFICE)
    judge(io.BytesIO(data))
    for place in range(len(data)):
        for bit in range(8):
            damaged = bytearray(data)
            damaged[place] ^= 1 << bit
            with pytest.raises(BundleError):
                judge(io.BytesIO(bytes(damaged)))


def test_a_measured_size_takes_in_the_signature():
    stream = io.BytesIO()
    with changelog_format.BundleWriter(stream, header(1), signer=OFFICE) as writer:
        writer.write(change(1))
        measured = writer.measure()
    assert measured == len(stream.getvalue())


def test_keys_on_the_command_line(tmp_path, capsys, monkeypatch):
    key, file, trusted = tmp_path / "key", tmp_path / "one.jsonl.zst", tmp_path / "trusted"
    file.write_bytes(small())
    assert main(["keygen", str(key)]) == 0
    public = capsys.readouterr().out.removeprefix("public key: ").strip()
    assert key.stat().st_mode & 0o777 == 0o600
    assert public in key.read_text()
    trusted.write_text(f"office {public}\n")
    assert main(["sign", str(file), "--key", str(key)]) == 0
    assert str(judge(file, TrustedKeys.read(trusted))) == public
    assert main(["verify", str(file), "--trusted", str(trusted)]) == 0
    other = tmp_path / "other.jsonl.zst"
    monkeypatch.setenv("SYNCHRO_SIGNING_KEY", secret_text(bytes([1]) * 32))
    assert main(["sign", str(file), "-o", str(other)]) == 0
    judge(other)
    with pytest.raises(SignatureError):
        judge(file)
    assert main(["keygen", str(key)]) == 3
    assert "nothing was overwritten" in capsys.readouterr().err
    assert public in key.read_text()


def test_what_is_damaged_is_not_signed(tmp_path, capsys, monkeypatch):
    monkeypatch.setenv("SYNCHRO_SIGNING_KEY", secret_text(bytes([1]) * 32))
    file = tmp_path / "one.jsonl.zst"
    file.write_bytes(small()[:-5])
    assert main(["sign", str(file)]) == 1
    assert file.read_bytes() == small()[:-5]
    assert [each.name for each in tmp_path.iterdir()] == ["one.jsonl.zst"]


@pytest.mark.skipif(os.name != "posix", reason="permissions are those of POSIX")
@pytest.mark.parametrize("mode", [0o644, 0o604, 0o660, 0o666, 0o602])
def test_a_secret_that_is_open_to_others_is_refused(tmp_path, mode):
    path = tmp_path / "key"
    write_secret_file(path, [secret_text(bytes(32))])
    Signer.load(path)
    path.chmod(0o640)
    Signer.load(path)
    path.chmod(mode)
    with pytest.raises(UnusableKeyError, match="open to others"):
        Signer.load(path)


@pytest.mark.skipif(os.name != "posix", reason="permissions are those of POSIX")
def test_what_says_whom_to_trust_is_not_for_others_to_change(tmp_path):
    folder = tmp_path / "etc"
    folder.mkdir()
    secret, trusted = folder / "key", folder / "trusted"
    write_secret_file(secret, [secret_text(bytes(32))])
    trusted.write_text(f"office {KEY}\n")
    link = tmp_path / "link"
    link.symlink_to(trusted)
    for mode in (0o755, 0o775, 0o1777):
        folder.chmod(mode)
        Signer.load(secret)
        assert TrustedKeys.read(trusted) == TrustedKeys.read(link) != TrustedKeys({})
    for mode in (0o777, 0o757):
        folder.chmod(mode)
        for path, read in ((secret, Signer.load), (trusted, TrustedKeys.read), (link, TrustedKeys.read)):
            with pytest.raises(UnusableKeyError, match=f"{path} can be exchanged by everybody.*chmod o-w {folder}"):
                read(path)
    folder.chmod(0o777)
    assert main(["keygen", str(folder / "new")]) == 3
    assert not (folder / "new").exists()
    folder.chmod(0o755)
    assert main(["keygen", str(folder / "new")]) == 0
    assert main(["keygen", str(tmp_path / "none" / "new")]) == 3
    for mode in (0o666, 0o602):
        trusted.chmod(mode)
        with pytest.raises(UnusableKeyError, match=r"can be changed by everybody.*chmod o-w"):
            TrustedKeys.read(trusted)


def test_secrets_are_never_repeated(tmp_path, monkeypatch):
    secret = secret_text(bytes(32))[:-3] + "!!!"
    path = tmp_path / "key"
    write_secret_file(path, [secret])
    monkeypatch.setenv("KEY", secret)
    for source in (secret, path, "env:KEY"):
        with pytest.raises(UnusableKeyError) as caught:
            Signer.load(source)
        assert "AAAA" not in str(caught.value)


def test_where_there_is_no_key(tmp_path, monkeypatch):
    monkeypatch.delenv("NONE", raising=False)
    (tmp_path / "empty").touch(mode=0o600)
    write_secret_file(tmp_path / "two", [generate_key()[0], generate_key()[0]])
    for source, said in (
        ("env:NONE", "NONE"),
        (tmp_path / "none", "cannot be read"),
        (tmp_path / "empty", "holds no key"),
        (tmp_path / "two", "2 keys"),
        (tmp_path, "cannot be read"),
    ):
        with pytest.raises(UnusableKeyError, match=said):
            Signer.load(source)
    assert read_secrets(tmp_path / "two", "x")[1].startswith("synchro-secret-ed25519:")


KEY = public_text(bytes(32))


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("office", "no public key"),
        ("office x", "no public key"),
        (f"of/fice {KEY}", "no name of a node"),
        (f"office {KEY[:-4]}", "no public key"),
        (f"office {KEY} after=2027-01-01", "is none of"),
        (f"office {KEY} not-after=", "is none of"),
        (f"office {KEY} not-after=2027-01-01 not-after=2028-01-01", "is none of"),
        (f"office {KEY} not-after=2027-02-30", "is no day"),
        (f"office {KEY} relays=a/b", "no name of a node to relay for"),
        (f"office {secret_text(bytes(32))}", "no public key"),
    ],
)
def test_lists_of_trusted_keys_that_are_wrong(text, said):
    with pytest.raises(UnusableKeyError, match=said) as caught:
        TrustedKeys.parse(f"# first\n{text}\n")
    assert "line 2" in str(caught.value)


def test_a_key_for_a_time():
    (key,) = TrustedKeys.of_mapping({"office": f"{KEY} not-before=2026-03-01 not-after=2026-03-31"}).of("office")
    assert key.covers("2026-03-01T00:00:00.000000Z")
    assert key.covers("2026-03-31T23:59:59.999999Z")
    assert not key.covers("2026-02-28T23:59:59.999999Z")
    assert not key.covers("2026-04-01T00:00:00.000000Z")


def test_names_are_compared_exactly():
    trusted = TrustedKeys.of_mapping({"Office": public_text(OFFICE.public)})
    with pytest.raises(SignatureError, match="no key of office but one of Office"):
        judge(io.BytesIO(small(signer=OFFICE)), trusted)


def test_a_star_relays_for_all():
    signed = bundle(header(1), [relayed(1)], signer=OFFICE)
    for relays, refused in (("hq", False), ("*", False), ("quay", True), (None, True)):
        text = public_text(OFFICE.public) + (f" relays={relays}" if relays else "")
        trusted = TrustedKeys.of_mapping({"office": [text]})
        if refused:
            with pytest.raises(SignatureError):
                judge(io.BytesIO(signed), trusted)
        else:
            judge(io.BytesIO(signed), trusted)


def test_an_archive(tmp_path, capsys):
    trusted = tmp_path / "trusted.txt"
    trusted.write_text(f"office {public_text(OFFICE.public)}\n")
    (tmp_path / "a.jsonl.zst").write_bytes(
        bundle(header(2), [change(1), relayed(2, date=change(2).date)], signer=OFFICE)
    )
    assert main(["verify", str(tmp_path), "--trusted", str(trusted)]) == 0
    said = capsys.readouterr().out
    assert "with a key that is trusted: 1 of 1." in said
    assert "NOT PROVEN: 1 changes of hq-11aa22bb" in said
    (tmp_path / "b.jsonl.zst").write_bytes(small(2))
    assert main(["verify", str(tmp_path), "--trusted", str(trusted)]) == 1
    said = capsys.readouterr().out
    assert "PROBLEM" in said
    assert "is not signed, and signatures are required (SPEC R73)" in said
    assert main(["verify", str(tmp_path), "--trusted", str(trusted), "--json"]) == 1
    found = json.loads(capsys.readouterr().out)
    assert (found["checked"], found["proven"], found["streams"][0]["hearsay"]) == (True, 1, {"hq-11aa22bb": 1})


def test_without_the_library():
    program = "import sys; sys.modules['cryptography'] = None; from changelog_format import Signer; Signer(bytes(32))"
    done = subprocess.run([sys.executable, "-c", program], cwd=ROOT, capture_output=True, check=False, text=True)
    assert "MissingExtraError: signatures need the library cryptography: run `pip install django-synchro[signing]`" in (
        done.stderr
    )
    assert issubclass(MissingExtraError, ImportError)
    assert issubclass(UnsignedError, BundleError)
