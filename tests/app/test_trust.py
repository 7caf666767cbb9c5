"""Signed and encrypted bundles: who is believed what, and who can read what."""

import hashlib
import io
import shutil
import subprocess
from dataclasses import replace
from pathlib import Path

import orjson
import pytest
from django.core.management import CommandError, call_command
from django.test import override_settings

from changelog_format import (
    BundleError,
    BundleWriter,
    EncryptionError,
    ExpiredKeyError,
    Moved,
    NodeInfo,
    NoIdentityError,
    Origin,
    RelayError,
    SignatureError,
    Signer,
    Succession,
    UnsignedError,
    UntrustedKeyError,
    open_bundle,
    verify,
)
from changelog_format.dates import format_date
from changelog_format.keys import public_text, secret_text
from synchro import WITHHELD, export_bundle, import_bundle, import_bundles
from synchro.checks import check_synchro
from synchro.errors import KeySettingError, RequestError
from synchro.models import ChangeLog, Destination, Node
from synchro.replaying import replay
from synchro.requests import answer, everything_since, read_request, write_request
from synchro.splitting import export_parts
from tests.app.deploy import assert_same, at, brought, carry, rolled_back, take, unchanged, write
from tests.project.shop.models import Country, Note, Tag

pyrage = pytest.importorskip("pyrage")
pytestmark = pytest.mark.django_db(databases=["default", "hq", "ship"])
HQ = "hq"

SECRET = {name: secret_text(bytes([number]) * 32) for number, name in enumerate(("office", "hq", "ship", "eve"), 1)}
PUBLIC = {name: public_text(Signer.load(secret).public) for name, secret in SECRET.items()}
IDENTITY = {name: str(pyrage.x25519.Identity.generate()) for name in SECRET}
RECIPIENT = {name: str(pyrage.x25519.Identity.from_str(text).to_public()) for name, text in IDENTITY.items()}


def signing(name):
    return override_settings(SYNCHRO_SIGNING_KEY=SECRET[name])


def trusting(**keys):
    return override_settings(SYNCHRO_TRUSTED_KEYS=keys, SYNCHRO_SIGNING_KEY=None)


def signed(source="default", by="office", **options):
    with signing(by):
        return write(source, **options)[0]


@pytest.fixture
def bundle():
    Tag.objects.create(name="a")
    return signed(to=HQ)


# --- signatures -------------------------------------------------------------------------------------------------------


def test_a_bundle_of_a_trusted_key_is_taken(bundle):
    with trusting(office=PUBLIC["office"]):
        assert brought(take(bundle)) == {"added": 1}


def test_a_signed_bundle_is_taken_where_signatures_are_not_required(bundle):
    assert brought(take(bundle)) == {"added": 1}


def test_nobody_is_trusted_where_the_list_is_empty(bundle):
    with trusting(), unchanged(), pytest.raises(UntrustedKeyError):
        take(bundle)


def stripped(data):
    """The bundle without its signature, as whoever carries it could make it."""
    with open_bundle(io.BytesIO(data)) as reader:
        records = list(reader)
        header = reader.header
    from changelog_format import BundleWriter

    stream = io.BytesIO()
    with BundleWriter(stream, header) as writer:
        for record in records:
            writer.write(record)
    return stream.getvalue()


def test_a_bundle_that_lost_its_signature_is_refused(bundle):
    bare = stripped(bundle)
    assert verify(io.BytesIO(bare)).trailer.sha256 == verify(io.BytesIO(bundle)).trailer.sha256
    with trusting(office=PUBLIC["office"]), unchanged(), pytest.raises(UnsignedError):
        take(bare)


@pytest.mark.parametrize("dry_run", [True, False])
def test_one_node_cannot_speak_for_another(dry_run):
    Tag.objects.create(name="forged")
    data = signed(by="eve")
    for keys in ({"office": PUBLIC["office"], "eve": PUBLIC["eve"]}, {"eve": PUBLIC["eve"]}):
        with trusting(**keys), unchanged(), pytest.raises(UntrustedKeyError):
            take(data, dry_run=dry_run)


def test_rotation_both_keys_are_trusted_for_a_while():
    Tag.objects.create(name="a")
    first = signed(to=HQ)
    Tag.objects.create(name="b")
    second = signed(by="eve", to=HQ)  # the office's new key
    with trusting(office=[f"{PUBLIC['office']} not-after=2999-12-31", PUBLIC["eve"]]):
        assert brought(take(first)) == {"added": 1}
        assert brought(take(second)) == {"added": 1}


@pytest.mark.parametrize("bounds", ["not-after=2020-01-01", "not-before=2999-01-01"])
def test_a_key_that_has_expired_or_is_not_valid_yet(bundle, bounds):
    with trusting(office=f"{PUBLIC['office']} {bounds}"), unchanged(), pytest.raises(ExpiredKeyError):
        take(bundle)


def test_the_list_may_be_a_file(bundle, tmp_path):
    path = tmp_path / "trusted"
    path.write_text(f"# who writes to us\noffice {PUBLIC['office']}\n")
    with override_settings(SYNCHRO_TRUSTED_KEYS=path):
        assert brought(take(bundle)) == {"added": 1}


def test_a_relayed_change_is_taken_only_from_whom_may_relay_it(bundle):
    take(bundle)
    Tag.objects.using(HQ).create(name="of hq")
    onward = signed(HQ, by="hq", to="ship")
    for keys in (
        {"hq": PUBLIC["hq"]},
        {"hq": PUBLIC["hq"], "office": PUBLIC["office"]},
        {"hq": f"{PUBLIC['hq']} relays=quay"},
    ):
        for dry_run in (True, False):
            with (
                trusting(**keys),
                unchanged("ship"),
                pytest.raises(RelayError, match="not trusted to relay for office"),
            ):
                take(onward, "ship", dry_run=dry_run)
    for relays in ("office", "quay,office", "*"):
        with trusting(hq=f"{PUBLIC['hq']} relays={relays}"):
            assert brought(take(onward, "ship", dry_run=True)) == {"added": 2}
    with trusting(hq=f"{PUBLIC['hq']} relays=office"):
        assert brought(take(onward, "ship")) == {"added": 2}
    assert_same(HQ, "ship")


def test_what_is_known_already_needs_nobody_to_relay_it(bundle):
    """Two nodes that exchange bundles send each other's changes back; these have no effect."""
    take(bundle)
    Tag.objects.using(HQ).create(name="of hq")
    back = signed(HQ, by="hq", to="office")
    with trusting(hq=PUBLIC["hq"]):
        assert brought(take(back, "default")) == {"added": 1, "already_known": 1}
    with trusting(office=PUBLIC["office"]):
        take(bundle, "ship")
    with trusting(hq=PUBLIC["hq"]):
        assert brought(take(back, "ship")) == {"added": 1, "already_known": 1}


def test_a_relay_cannot_make_a_node_believe_that_it_was_restored(bundle):
    """Changes of this very node that it does not have, made up by one who may not relay."""
    take(bundle)
    tag = Tag.objects.using(HQ).create(name="of hq")
    ident = Node.objects.get(current=True).ident
    with override_settings(SYNCHRO_SIGNING_KEY=SECRET["hq"]):
        data, _ = write(HQ, to="office")
    assert ident in str(list(open_bundle(io.BytesIO(data))))
    made_up = forged_signed(data, ident, by="hq")
    with trusting(hq=PUBLIC["hq"]), unchanged("default"), pytest.raises(RelayError):
        take(made_up, "default")
    assert tag.pk


def test_who_may_not_relay_for_a_node_cannot_say_that_it_goes_on_as_another(bundle):
    """By that it would take from us what we know of that node, and nobody would wait for it any more."""
    take(bundle)
    take(bundle, "ship")
    ident = Node.objects.get(current=True).ident
    change = ChangeLog.objects.using("ship").get(origin__ident=ident)
    Tag.objects.using(HQ).create(name="of hq")
    told = Succession(
        node=f"{ident[:-8]}ffffffff",
        of=ident,
        after=0,
        moved=(Moved(first=1, last=1, at=1, start=format_date(change.date), end=format_date(change.date)),),
    )
    data = signed_with(signed(HQ, by="hq", to="ship"), by="hq", successions=(told,))
    for keys, believed in (({"hq": PUBLIC["hq"]}, False), ({"hq": f"{PUBLIC['hq']} relays=office"}, True)):
        with rolled_back("ship"), trusting(**keys):
            take(data, "ship")
            assert ChangeLog.objects.using("ship").get(pk=change.pk).origin.ident == (told.node if believed else ident)
            assert Node.objects.using("ship").filter(predecessor__ident=ident).exists() is believed


def signed_with(data, by, **changed):
    """The bundle with another header, signed anew."""
    with open_bundle(io.BytesIO(data)) as reader:
        records = list(reader)
        header = replace(reader.header, **changed)
    stream = io.BytesIO()
    with BundleWriter(stream, header, signer=Signer.load(SECRET[by])) as writer:
        for record in records:
            writer.write(record)
    return stream.getvalue()


def forged_signed(data, ident, by):
    """The bundle, in which the last change is said to have been made by *ident*, at a position that it never had."""
    with open_bundle(io.BytesIO(data)) as reader:
        *records, last = list(reader)
        header = reader.header
    stream = io.BytesIO()
    with BundleWriter(stream, header, signer=Signer.load(SECRET[by])) as writer:
        for record in [*records, replace(last, origin=Origin(node=ident, seq=77))]:
            writer.write(record)
    return stream.getvalue()


def test_a_value_that_is_waited_for_is_taken_only_from_whom_may_relay_it():
    rules = override_settings(SYNCHRO_REDACT={"ship": {"shop.note": {"text": WITHHELD}}})
    with rules:
        Note.objects.create(char="x", text="of the office")
        to_ship, whole = signed(to="ship"), signed(to=HQ)
    take(to_ship, "ship")
    onward = signed("ship", by="ship", to=HQ)
    with rules, trusting(ship=f"{PUBLIC['ship']} relays=office"):
        take(onward)
    with open_bundle(io.BytesIO(whole)) as reader:
        header, [change] = reader.header, list(reader)
    fields = {**change.fields, "text": "invented"}
    stream = io.BytesIO()
    by_eve = replace(header, node=NodeInfo(id="eve-00000001", name="eve"))
    with BundleWriter(stream, by_eve, signer=Signer.load(SECRET["eve"])) as writer:
        writer.write(replace(change, fields=fields, origin=Origin(node=header.node.id, seq=change.seq)))
    with rules, trusting(eve=PUBLIC["eve"]):
        assert brought(take(stream.getvalue())) == {"already_known": 1}
    assert at(Note, HQ).get().text == ""
    with rules, trusting(office=PUBLIC["office"]):
        assert brought(take(whole)) == {"changed": 1, "already_known": 1}
    assert at(Note, HQ).get().text == "of the office"


def test_own_bundles_come_back_from_an_archive_by_the_own_key(bundle):
    with override_settings(SYNCHRO_SIGNING_KEY=SECRET["office"], SYNCHRO_TRUSTED_KEYS={"hq": PUBLIC["hq"]}):
        assert take(bundle, "default").own


def test_snapshots_and_squashes_are_signed_too():
    Country.objects.create(code="PL")
    for mode in ("snapshot", "squash"):
        data = signed(mode=mode, to=mode)
        with trusting(office=PUBLIC["office"]):
            take(data)
        with trusting(office=PUBLIC["eve"]), pytest.raises(UntrustedKeyError):
            take(data)


def test_an_archive_is_replayed_only_if_each_of_its_bundles_is_signed(tmp_path):
    Tag.objects.create(name="a")
    with signing("office"):
        export_bundle(tmp_path, to="archive")
    Tag.objects.create(name="b")
    with signing("eve"):
        export_bundle(tmp_path, to="archive")
    with trusting(office=PUBLIC["office"]), unchanged(), pytest.raises(UntrustedKeyError):
        list(replay([tmp_path], 2, using=HQ))
    with trusting(office=[PUBLIC["office"], PUBLIC["eve"]]):
        list(replay([tmp_path], 2, using=HQ))
    assert_same("default", HQ)


def test_parts_are_signed_and_bounded(tmp_path):
    for number in range(200):
        Tag.objects.create(name=hashlib.sha256(str(number).encode()).hexdigest()[:40])
    with signing("office"), override_settings(SYNCHRO_RECIPIENTS=[RECIPIENT["hq"]]):
        reports = list(export_parts(tmp_path, max_size=9000))
    assert len(reports) > 1
    for report in reports:
        assert Path(report.file).stat().st_size == report.bytes <= 9000
    with trusting(office=PUBLIC["office"]):
        list(import_bundles([tmp_path], identity=[IDENTITY["hq"]], using=HQ))
    assert_same("default", HQ)


def test_the_same_range_again_is_the_same_signed_file():
    Tag.objects.create(name="a")
    first = signed(to=HQ)
    assert signed(since=0, to=HQ) == first


def test_the_command_says_what_to_do(bundle, tmp_path):
    path = tmp_path / "office.jsonl.zst"
    for data, keys, said in (
        (stripped(bundle), {"office": PUBLIC["office"]}, "is not signed, and signatures are required"),
        (bundle, {"office": PUBLIC["eve"]}, "add it to SYNCHRO_TRUSTED_KEYS"),
        (bundle, {"office": f"{PUBLIC['office']} not-after=2020-01-01"}, "is trusted from ever to 2020-01-01"),
    ):
        path.write_bytes(data)
        with trusting(**keys), unchanged(), pytest.raises(CommandError, match=said) as caught:
            call_command("synchro_import", str(path), "--database", HQ, "--any-destination")
        assert str(caught.value).startswith(str(path))
        assert "Nothing was imported." in str(caught.value)


# --- settings ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("setting", "value", "ident"),
    [
        ("SYNCHRO_SIGNING_KEY", 5, "E040"),
        ("SYNCHRO_SIGNING_KEY", "/nowhere", "E040"),
        ("SYNCHRO_SIGNING_KEY", "env:SYNCHRO_NOWHERE", "E040"),
        ("SYNCHRO_TRUSTED_KEYS", 5, "E041"),
        ("SYNCHRO_TRUSTED_KEYS", "/nowhere", "E041"),
        ("SYNCHRO_TRUSTED_KEYS", {"office": "x"}, "E041"),
        ("SYNCHRO_TRUSTED_KEYS", {"office": 5}, "E041"),
        ("SYNCHRO_TRUSTED_KEYS", {"office": [5]}, "E041"),
        ("SYNCHRO_TRUSTED_KEYS", {"of fice": "x"}, "E041"),
        ("SYNCHRO_RECIPIENTS", 5, "E042"),
        ("SYNCHRO_RECIPIENTS", ["age1x"], "E042"),
        ("SYNCHRO_RECIPIENTS", {"hq": 5}, "E042"),
        ("SYNCHRO_IDENTITY", 5, "E043"),
        ("SYNCHRO_IDENTITY", "/nowhere", "E043"),
    ],
)
def test_settings_that_cannot_be_used(setting, value, ident):
    assert check_synchro() == []
    with override_settings(**{setting: value}):
        assert [message.id for message in check_synchro()] == [f"synchro.{ident}"]


def test_nothing_is_written_with_a_key_that_cannot_be_used(tmp_path):
    Tag.objects.create(name="a")
    with (
        override_settings(SYNCHRO_SIGNING_KEY=tmp_path / "none"),
        pytest.raises(KeySettingError, match=r"SYNCHRO_SIGNING_KEY: the key file .* cannot be read"),
    ):
        export_bundle(tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_where_a_library_is_missing(monkeypatch, bundle):
    import sys

    monkeypatch.setitem(sys.modules, "pyrage", None)
    with pytest.raises(KeySettingError, match=r"pip install django-synchro\[encryption\]"):
        export_bundle(io.BytesIO(), since=0, encrypt_to=[RECIPIENT["hq"]])
    monkeypatch.setitem(sys.modules, "cryptography.hazmat.primitives.asymmetric", None)
    said = r"pip install django-synchro\[signing\]"
    with trusting(office=PUBLIC["office"]), unchanged(), pytest.raises(KeySettingError, match=said):
        take(bundle)


# --- encryption -------------------------------------------------------------------------------------------------------


def test_an_encrypted_bundle_travels(tmp_path):
    Tag.objects.create(name="secret")
    with signing("office"), override_settings(SYNCHRO_RECIPIENTS=[RECIPIENT["hq"], RECIPIENT["eve"]]):
        report = export_bundle(tmp_path, to=HQ)
    path = Path(report.file)
    assert path.name.endswith(".jsonl.zst.age")
    assert path.stat().st_size == report.bytes
    assert b"secret" not in path.read_bytes()
    with unchanged(), pytest.raises(EncryptionError, match="no identity was given"):
        import_bundle(path, using=HQ)
    with override_settings(SYNCHRO_IDENTITY=IDENTITY["ship"]), unchanged(), pytest.raises(EncryptionError):
        import_bundle(path, using=HQ)
    key = tmp_path / "identity"
    key.touch(mode=0o600)
    key.write_text(f"# age\n{IDENTITY['hq']}\n")
    with trusting(office=PUBLIC["office"]), override_settings(SYNCHRO_IDENTITY=[IDENTITY["ship"], str(key)]):
        assert brought(import_bundle(path, using=HQ)) == {"added": 1}


def test_each_destination_has_recipients_of_its_own():
    Tag.objects.create(name="a")
    with override_settings(SYNCHRO_RECIPIENTS={"hq": [RECIPIENT["hq"]], "*": RECIPIENT["ship"], "open": []}):
        for destination, reader in (("hq", "hq"), ("archive", "ship"), ("open", None)):
            data, _ = write(to=destination)
            for name, identity in IDENTITY.items():
                if reader in (None, name):
                    assert brought(take(data, "ship", identity=[identity], dry_run=True)) == {"added": 1}
                else:
                    with pytest.raises(EncryptionError):
                        take(data, "ship", identity=[identity], dry_run=True)


@pytest.mark.parametrize("to", ["archve", "default"])
def test_a_destination_that_was_forgotten_or_mistyped_is_not_written_for_everybody(to, tmp_path):
    Tag.objects.create(name="a")
    carry()  # so that hq knows whom to ask
    Tag.objects.create(name="b")
    with override_settings(SYNCHRO_RECIPIENTS={"archive": [RECIPIENT["hq"]]}):
        with pytest.raises(KeySettingError, match=f"SYNCHRO_RECIPIENTS says nothing of '{to}'") as refused:
            export_bundle(tmp_path, to=to)
        assert '"*": []' in refused.value.hint
        with pytest.raises(KeySettingError, match="says nothing of"):
            list(export_parts(tmp_path, max_size=10**6, to=to))
        with pytest.raises(KeySettingError, match="says nothing of 'office'"):
            write_request(everything_since("office", HQ), tmp_path)
        assert list(tmp_path.iterdir()) == []
        assert not Destination.objects.filter(name=to).exists()
        assert export_bundle(tmp_path, to=to, encrypt_to=[RECIPIENT["ship"]]).file.endswith(".age")
    with override_settings(SYNCHRO_RECIPIENTS={"archive": [RECIPIENT["hq"]], "*": []}):
        assert export_bundle(tmp_path, to=to, since=0).file.endswith(".zst")


def test_a_pipe_of_an_encrypted_bundle():
    """Standard input cannot be read twice; what is kept meanwhile is still encrypted."""
    Tag.objects.create(name="a")
    data, _ = write(encrypt_to=[RECIPIENT["hq"]])

    class Pipe(io.BytesIO):
        def seekable(self):
            return False

    report = import_bundle(Pipe(data), identity=[IDENTITY["hq"]], any_destination=True, using=HQ)
    assert brought(report) == {"added": 1}


def test_what_was_cut_or_changed_is_refused():
    Tag.objects.create(name="a")
    data, _ = write(encrypt_to=[RECIPIENT["hq"]])
    changed = bytearray(data)
    changed[-30] ^= 4
    for damaged in (data[:-1], data[:-100], bytes(changed), data + b"\0"):
        with unchanged(), pytest.raises(BundleError):
            take(damaged, identity=[IDENTITY["hq"]])


def test_an_encrypted_bundle_never_takes_the_place_of_another(tmp_path):
    """A crash after the file and before the position moved: the same range is written once more, beside the first."""
    Tag.objects.create(name="a")
    with override_settings(SYNCHRO_RECIPIENTS=[RECIPIENT["hq"]]):
        first = export_bundle(tmp_path, since=0)
        second = export_bundle(tmp_path, since=0)
    assert second.file == first.file.replace(".jsonl", "-2.jsonl")
    reports = list(import_bundles([tmp_path], identity=[IDENTITY["hq"]], using=HQ, any_destination=True))
    assert [brought(report) for report in reports] == [{"added": 1}, {"already_known": 1}]


def test_what_is_encrypted_for_others_is_left_alone_in_a_folder(tmp_path):
    Tag.objects.create(name="a")
    for to, key in (("ship", "ship"), ("hq", "hq")):
        export_bundle(tmp_path, to=to, encrypt_to=[RECIPIENT[key]])
    over = []
    (report,) = import_bundles([tmp_path], identity=[IDENTITY["hq"]], passed_over=over.append, using=HQ)
    assert report.added == 1
    assert [type(each.why) for each in over] == [NoIdentityError]
    with pytest.raises(NoIdentityError):
        list(import_bundles([over[0].file], identity=[IDENTITY["hq"]], using=HQ))


def test_commands(tmp_path):
    Tag.objects.create(name="a")
    (tmp_path / "identity").touch(mode=0o600)
    (tmp_path / "identity").write_text(IDENTITY["hq"])
    call_command("synchro_export", "-o", str(tmp_path), "--encrypt-to", RECIPIENT["hq"], stdout=io.StringIO())
    (path,) = tmp_path.glob("*.age")
    with pytest.raises(CommandError, match="SYNCHRO_IDENTITY or --identity"):
        call_command("synchro_import", str(path), "--database", HQ)
    out = io.StringIO()
    call_command("synchro_import", str(path), "--database", HQ, "--identity", str(tmp_path / "identity"), stdout=out)
    assert "1 added" in out.getvalue()


# --- requests ---------------------------------------------------------------------------------------------------------


@pytest.fixture
def asked(bundle, tmp_path):
    """HQ asks the office for what it lacks, signed and encrypted."""
    take(bundle)
    write(HQ)
    Tag.objects.create(name="b")
    with override_settings(SYNCHRO_RECIPIENTS={"office": [RECIPIENT["office"]]}), signing("hq"):
        return write_request(everything_since("office", using=HQ), tmp_path)


def test_requests_and_answers_are_signed_and_encrypted(asked, tmp_path):
    assert asked.name.endswith(".request.json.age")
    with pytest.raises(EncryptionError):
        read_request(asked)
    with pytest.raises(EncryptionError):
        read_request(asked, identity=[IDENTITY["hq"]])
    with trusting(hq=PUBLIC["eve"]), pytest.raises(UntrustedKeyError, match="request of hq"):
        read_request(asked, identity=[IDENTITY["office"]])
    with override_settings(
        SYNCHRO_IDENTITY=IDENTITY["office"],
        SYNCHRO_TRUSTED_KEYS={"hq": PUBLIC["hq"]},
        SYNCHRO_SIGNING_KEY=SECRET["office"],
        SYNCHRO_RECIPIENTS={"hq": [RECIPIENT["hq"]]},
    ):
        (report,) = answer(asked, tmp_path)
    with trusting(office=PUBLIC["office"]):
        assert brought(import_bundle(report.file, identity=[IDENTITY["hq"]], using=HQ)) == {"added": 1}


def test_a_request_is_answered_to_who_signed_it_whatever_it_calls_itself(bundle, tmp_path):
    take(bundle)
    write(HQ)
    with signing("hq"):
        request = replace(everything_since("office", using=HQ), name="archive")
        path = write_request(request, tmp_path)
    Tag.objects.create(name="b")
    with override_settings(SYNCHRO_TRUSTED_KEYS={"hq": PUBLIC["hq"]}, SYNCHRO_SIGNING_KEY=None):
        (report,) = answer(path, tmp_path)
    assert report.destination == "hq"


def test_a_request_that_somebody_changed_is_not_answered(bundle, tmp_path):
    take(bundle)
    write(HQ)
    with signing("hq"):
        path = write_request(everything_since("office", using=HQ), tmp_path)
    data = orjson.loads(path.read_bytes())
    with trusting(hq=PUBLIC["hq"]):
        read_request(path)
        for change in ({"missing": [{"since": 0, "until": None, "date": None}]}, {"signature": None}, {"by": "x"}):
            path.write_bytes(orjson.dumps({**data, **change}))
            with pytest.raises(SignatureError):
                read_request(path)
        del data["signature"]
        path.write_bytes(orjson.dumps(data))
        with pytest.raises(UnsignedError):
            read_request(path)
    read_request(path)  # nobody asked for signatures


def test_what_is_no_request_within(tmp_path):
    from changelog_format import Recipients
    from changelog_format.encryption import encrypt

    path = tmp_path / "request"
    path.write_bytes(encrypt(b" " * 1_000_100, Recipients([RECIPIENT["hq"]])))
    with pytest.raises(RequestError, match="longer"):
        read_request(path, identity=[IDENTITY["hq"]])


def test_age_itself_reads_a_bundle(tmp_path):
    if shutil.which("age") is None:
        pytest.skip("the program age is not installed")
    Tag.objects.create(name="a")
    report = export_bundle(tmp_path, encrypt_to=[RECIPIENT["hq"]])
    key = tmp_path / "identity"
    key.write_text(IDENTITY["hq"])
    plain = subprocess.run(["age", "-d", "-i", key, report.file], check=True, capture_output=True).stdout
    assert brought(take(plain)) == {"added": 1}
    assert ChangeLog.objects.using(HQ).count() == 1
    assert at(Tag).exists()
    assert carry() is not None
