"""``changelog_format verify FOLDER`` of what exports write: overlapping ranges, parts, encrypted files, forgeries."""

import os
import shutil
from pathlib import Path

import pytest
from django.test import override_settings

from changelog_format import Identities, Signer, TrustedKeys, check_archive
from changelog_format.archive import described
from changelog_format.keys import public_text, secret_text
from synchro import export_bundle
from synchro.splitting import export_parts
from tests.app.deploy import forged
from tests.project.shop.models import Note, Tag

pyrage = pytest.importorskip("pyrage")
pytestmark = pytest.mark.django_db(databases=["default", "hq"])
SECRET = {name: secret_text(bytes([number]) * 32) for number, name in enumerate(("office", "eve"), 1)}
TRUSTED = TrustedKeys.of_mapping({"office": public_text(Signer.load(SECRET["office"]).public)})
IDENTITY = str(pyrage.x25519.Identity.generate())
RECIPIENT = str(pyrage.x25519.Identity.from_str(IDENTITY).to_public())


@pytest.fixture(autouse=True)
def signing():
    with override_settings(SYNCHRO_SIGNING_KEY=SECRET["office"]):
        yield


def work(folder, *, times, **options):
    """So many exports, each of two new tags; the files in order."""
    files = []
    for number in range(times):
        for each in "ab":
            Tag.objects.create(name=f"{Tag.objects.count()} {number}{each}")
        files.append(Path(export_bundle(folder, to="archive", **options).file))
    return files


def missing(folder, **options):
    """The ranges that are missing, after the rest of the report was looked at."""
    report = check_archive(folder, trusted=TRUSTED, **options)
    (stream,) = report.streams
    assert report.in_order is (not stream.missing)
    assert len(report.problems) == len(stream.missing)
    assert report.proven == stream.bundles == len(list(folder.iterdir()))
    assert len(described(report)) <= 8
    return stream.missing


def test_with_an_overlap_as_many_files_may_be_lost_as_were_asked_for(tmp_path):
    files = work(tmp_path, times=7, overlap=2)
    assert missing(tmp_path) == ()
    for lost, found in ((2, ()), (3, ()), (4, ((5, 6),))):
        shutil.move(files[lost], tmp_path.parent)
        assert missing(tmp_path) == found
    shutil.move(tmp_path.parent / files[3].name, files[3])
    assert missing(tmp_path) == ()


def test_of_a_set_that_was_split_each_part_is_missed(tmp_path):
    for number in range(40):
        Note.objects.create(text=os.urandom(1500).hex(), char=str(number))
    reports = list(export_parts(tmp_path, to="archive", max_size=30_000))
    assert len(reports) > 2
    assert missing(tmp_path) == ()
    for report in reports[1:-1]:
        file = Path(report.file)
        shutil.move(file, tmp_path.parent)
        assert missing(tmp_path) == ((report.from_seq + 1, report.to_seq),)
        shutil.move(tmp_path.parent / file.name, file)


def test_an_encrypted_archive_is_proven_to_who_can_read_it(tmp_path):
    with override_settings(SYNCHRO_RECIPIENTS=[RECIPIENT]):
        files = work(tmp_path, times=3)
    identities = Identities([IDENTITY])
    assert missing(tmp_path, identities=identities) == ()
    files[1].unlink()
    assert missing(tmp_path, identities=identities) == ((3, 4),)
    report = check_archive(tmp_path, trusted=TRUSTED)
    assert (report.in_order, report.streams, len(report.closed)) == (False, (), 2)
    assert described(report)[-1] == "Nothing is proven."


def test_what_somebody_slips_in_is_named(tmp_path):
    files = work(tmp_path, times=2)
    with override_settings(SYNCHRO_SIGNING_KEY=SECRET["eve"]):
        by_eve = work(tmp_path, times=1)[0]
    with override_settings(SYNCHRO_SIGNING_KEY=None):
        unsigned = work(tmp_path, times=1)[0]
    shutil.copy(files[0], tmp_path / "copy.jsonl.zst")
    (tmp_path / "stranger.jsonl.zst").write_bytes(b"no bundle")
    (tmp_path / "photo.jpg").touch()
    changed = tmp_path / "changed.jsonl.zst"
    edited = forged(files[1].read_bytes(), lambda header, found: found[0]["fields"].update(name="forged"))
    changed.write_bytes(edited)
    report = check_archive(tmp_path, trusted=TRUSTED)
    said = "\n".join(report.problems)
    assert len(report.problems) == 4
    assert f"{by_eve}: the bundle of office" in said
    assert f"{unsigned}: the bundle of office" in said
    assert f"{changed}: the bundle of office" in said
    assert f"{tmp_path / 'stranger.jsonl.zst'}: byte 0: not a zstd frame" in said
    assert (len(report.copies), report.proven, report.streams[0].bundles) == (1, 2, 5)
    shown = described(report)
    assert shown[0] == "7 files, 1 of them copies of others; not looked at, by their names: 1, as photo.jpg"
    assert "Signed by the node that each says it is of, with a key that is trusted: 2 of 5." in shown
    assert not any(line.startswith("Every file is whole") for line in shown)
