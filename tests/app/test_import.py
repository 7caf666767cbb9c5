"""Imports: what is known, missing, forked, damaged or from the future, and what is left where one stops midway."""

import io
import json
from unittest import mock

import pytest
from django.contrib.auth.models import User
from django.db import IntegrityError, connections, transaction
from django.test import override_settings

from changelog_format import BundleError
from synchro import export_bundle, express_writing, import_bundle, import_bundles, reset_synchro
from synchro.errors import ClockError, ForkError, GapError, ImportRefusedError
from synchro.models import Bundle, ChangeLog, KnownRange, Node, Reference, Version
from synchro.recording import Recorder
from tests.app.deploy import (
    assert_same,
    at,
    brought,
    carry,
    dump,
    forged,
    lines,
    listening,
    log,
    records,
    rolled_back,
    take,
    unchanged,
    write,
)
from tests.project.plain.models import Color
from tests.project.shop.models import (
    Car,
    Club,
    Person,
    Tag,
)

pytestmark = pytest.mark.django_db(databases=["default", "hq", "ship"])
HQ = "hq"


# --- I1: the same again -----------------------------------------------------------------------------------------------


def test_i1_the_same_file_twice_has_no_effect():
    Tag.objects.create(name="a")
    data, _ = write()
    assert brought(take(data)) == {"added": 1}
    before = dump(HQ)
    assert brought(take(data)) == {"already_known": 1}
    assert dump(HQ) == before
    assert log(HQ) == log(HQ)[:1]


def test_i1_an_overlapping_re_export_brings_only_what_is_new():
    Tag.objects.create(name="a")
    carry()
    Tag.objects.create(name="b")
    data, _ = write(since=0)
    assert brought(take(data)) == {"already_known": 1, "added": 1}
    assert_same("default", "hq")


def test_i1_files_out_of_order_are_put_in_order(tmp_path):
    files = []
    for number, name in enumerate("abc"):
        Tag.objects.create(name=name)
        (tmp_path / f"{9 - number}.zst").write_bytes(write()[0])
        files.append(tmp_path / f"{9 - number}.zst")
    reports = list(import_bundles(files[::-1], using=HQ))
    assert [report.to_seq for report in reports] == [1, 2, 3]
    assert_same("default", "hq")


def test_i1_a_folder_stands_for_its_bundles(tmp_path):
    for name in "abc":
        Tag.objects.create(name=name)
        export_bundle(tmp_path)
    assert [report.added for report in import_bundles([tmp_path], using=HQ)] == [1, 1, 1]
    (tmp_path / "empty").mkdir()
    with pytest.raises(ImportRefusedError, match="has no bundles"):
        list(import_bundles([tmp_path / "empty"], using=HQ))


def test_i1_a_bundle_of_this_deployment_is_recognised():
    Tag.objects.create(name="a")
    data, _ = write()
    with unchanged("default"):
        report = take(data, "default")
    assert report.own
    assert brought(report) == {"already_known": 1}


# --- I2: a missing file -----------------------------------------------------------------------------------------------


def test_i2_a_missing_file_is_named_and_refused():
    Tag.objects.create(name="a")
    carry()
    for name in "bcd":
        Tag.objects.create(name=name)
    write(until=3)
    data, _ = write(since=3)
    with unchanged(), pytest.raises(GapError, match=r"The changes 2 to 3 of office-\w+ are missing") as caught:
        take(data)
    assert "synchro_export --since 1 --until 3" in caught.value.hint


def test_i2_allow_gap_takes_it_and_the_lost_file_can_come_later():
    for name in "abc":
        Tag.objects.create(name=name)
    late, _ = write(since=2)
    assert brought(take(late, allow_gap=True)) == {"added": 1}
    assert set(at(Tag).values_list("name", flat=True)) == {"c"}
    assert Node.objects.using(HQ).get(own=False).taken_seq == 0
    assert brought(take(write(since=0)[0])) == {"added": 2, "already_known": 1}
    assert Node.objects.using(HQ).get(own=False).taken_seq == 3
    assert_same("default", "hq")


# --- I3: forks --------------------------------------------------------------------------------------------------------


def test_i3_a_sender_that_was_restored_from_a_backup_is_recognised():
    Tag.objects.create(name="a")
    carry()
    with rolled_back("default"):
        Tag.objects.create(name="lost")
        carry()
    Tag.objects.create(name="other")
    data, _ = write(since=1)
    with (
        unchanged(),
        pytest.raises(ForkError, match=r"Position 2 of office-\w+ is dated .* in this bundle, and .* here"),
    ):
        take(data)
    Tag.objects.create(name="another")
    data, _ = write(since=0)
    with unchanged(), pytest.raises(ForkError, match="two different changes claim one position"):
        take(data)


def test_i3_a_copied_database_gets_an_id_of_its_own():
    person = Person.objects.create(name="p")
    carry()
    with override_settings(SYNCHRO_NODE="branch"):
        person.name = "renamed at the copy"
        person.save()
        data, report = write(to="copy")
        assert (report.node.rpartition("-")[0], report.from_seq, report.to_seq) == ("branch", 0, 1)
        assert records(data)[0]["id"].startswith("office-")
        assert brought(take(data)) == {"changed": 1}
    assert at(Person).get().name == "renamed at the copy"


def test_i3_a_preview_says_that_this_database_was_restored_from_a_backup():
    Tag.objects.create(name="a")
    carry()
    with rolled_back("default"):
        Tag.objects.create(name="lost")
        carry()
    back, _ = write(HQ)
    with unchanged("default"), pytest.raises(ForkError, match="restored from a backup"):
        take(back, "default", dry_run=True)


# --- I4: stopped in the middle ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("error", [KeyboardInterrupt, SystemExit, MemoryError])
@pytest.mark.parametrize(
    ("place", "express"),
    [
        ("synchro.recording.Recorder.record", False),
        ("synchro.apply._link_bulk", False),
        ("synchro.express_writing._log", True),
        ("synchro.express_writing._link", True),
        ("synchro.checkpoints.Checkpoints.advance", True),
    ],
)
def test_i4_stopped_anywhere_nothing_is_applied_and_the_same_command_does_it(place, express, error, monkeypatch):
    monkeypatch.setattr("synchro.taking.EXPRESS", express)
    Tag.objects.create(name="before")
    carry()
    person = Person.objects.create(name="p")
    person.tags.add(Tag.objects.create(name="a"))
    data, _ = write(to=HQ)
    with unchanged(), mock.patch(place, side_effect=error), pytest.raises(error):
        take(data)
    assert brought(take(data)) == {"added": 2, "m2m": 1}
    assert_same("default", "hq")


@pytest.mark.parametrize("express", [False, True])
def test_i4_a_second_chunk_that_stops_takes_the_first_one_back(express, monkeypatch):
    monkeypatch.setattr("synchro.serialize.CHUNK", 2)
    for name in "abcde":
        Tag.objects.create(name=name)
    data, _ = write()
    monkeypatch.setattr("synchro.taking.EXPRESS", express)
    owner, name = (express_writing, "_log") if express else (Recorder, "record")
    calls = []
    original = getattr(owner, name)

    def record(*args):
        calls.append(1)
        if len(calls) == 3:
            raise KeyboardInterrupt
        return original(*args)

    with unchanged(), mock.patch.object(owner, name, record), pytest.raises(KeyboardInterrupt):
        take(data)
    assert brought(take(data)) == {"added": 5}


# --- I15: dry run -----------------------------------------------------------------------------------------------------


def test_i15_a_preview_writes_nothing_and_runs_no_handler():
    tag = Tag.objects.create(name="a")
    carry()
    at(Club).create(name="pending")
    tag.name = "b"
    tag.save()
    Person.objects.create(name="p").tags.add(tag)
    data, _ = write(to=HQ)
    with unchanged(), listening(Tag, Person) as told:
        preview = take(data, dry_run=True)
    assert told == []
    assert preview.dry_run
    assert brought(preview) == {"added": 1, "changed": 1, "m2m": 1}
    assert brought(take(data)) == brought(preview)


def test_i15_a_preview_sees_conflicts_with_what_is_not_sealed_yet():
    tag = Tag.objects.create(name="a")
    carry()
    at(Tag).get().delete()
    tag.name = "b"
    tag.save()
    data, _ = write(to=HQ)
    with unchanged():
        preview = take(data, dry_run=True)
    assert brought(preview) == brought(take(data))
    assert preview.conflicts == 1


def test_i15_a_preview_on_an_empty_deployment_creates_no_node():
    Tag.objects.create(name="a")
    data, _ = write()
    with unchanged():
        assert take(data, dry_run=True).added == 1
    assert not Node.objects.using(HQ).exists()


def test_i15_a_preview_of_several_files_in_a_row(tmp_path):
    for number, name in enumerate("abc"):
        Tag.objects.create(name=name)
        (tmp_path / f"{number}.jsonl.zst").write_bytes(write()[0])
    with unchanged():
        assert [each.added for each in import_bundles([tmp_path], dry_run=True, using=HQ)] == [1, 1, 1]


# --- T4: clocks -------------------------------------------------------------------------------------------------------


def test_t4_a_change_from_the_future_is_refused_and_nothing_is_imported():
    Tag.objects.create(name="a")
    Tag.objects.create(name="b")
    data, _ = write()

    def edit(header, found):
        found[1]["date"] = header["range"]["to"]["date"] = "2099-01-01T00:00:00.000000Z"

    with (
        unchanged(),
        pytest.raises(ClockError, match=r"the change at position 2 is dated 2099-01-01T00:00:00\.000000Z"),
    ):
        take(forged(data, edit))


def test_t4_within_the_tolerance_it_is_taken_and_later_edits_on_top_win():
    from changelog_format.dates import format_date
    from synchro import changelog

    tag = Tag.objects.create(name="a")
    data, _ = write()
    soon = format_date(changelog.now() + 200_000_000)

    def edit(header, found):
        found[0]["date"] = header["range"]["to"]["date"] = soon

    take(forged(data, edit))
    mine = at(Tag).get()
    mine.name = "edited on top"
    mine.save()
    back, _ = write(HQ)
    assert records(back)[1]["date"] > soon
    assert records(back)[1]["base"] == soon
    assert tag.pk


# --- F: the file ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("length", [0, 1, 100, -1, -40])
def test_f1_a_damaged_file_is_refused_before_anything_is_touched(length):
    Tag.objects.create(name="a")
    data, _ = write()
    with unchanged(), pytest.raises(BundleError):
        take(data[:length])


def test_f1_a_flipped_bit_is_refused():
    for number in range(50):
        Tag.objects.create(name=f"tag {number}")
    data = bytearray(write()[0])
    data[len(data) // 2] ^= 4
    with unchanged(), pytest.raises(BundleError):
        take(bytes(data))


@pytest.mark.skipif(connections["hq"].vendor != "sqlite", reason="it ends before the database is asked: one will do")
def test_f1_every_truncation_and_every_flipped_bit_is_refused_with_an_untouched_database():
    Tag.objects.create(name="a")
    data, _ = write()
    take(data, "ship")  # in order
    damaged = [data[:length] for length in range(len(data))]
    for place, byte in enumerate(data):
        damaged += [data[:place] + bytes([byte ^ 1 << bit]) + data[place + 1 :] for bit in range(8)]
    damaged += [data + bytes([byte]) for byte in (0, 10, 0x28, 255)]
    with unchanged():
        for number, each in enumerate(damaged):
            with pytest.raises(BundleError) as caught:
                take(each)
            assert caught.value.rule, number
            assert len(str(caught.value)) < 500


def test_f4_unknown_versions_and_features_are_refused_by_name_and_unknown_keys_ignored():
    Tag.objects.create(name="a")
    data, _ = write()
    with pytest.raises(BundleError, match="time-travel"):
        take(plain_edit(data, lambda header: header.update(requires=["time-travel"])))
    with pytest.raises(BundleError, match="version 2"):
        take(plain_edit(data, lambda header: header.update(version=2)))
    assert take(plain_edit(data, lambda header: header.update(mood="good"))).added == 1


def plain_edit(data, change):
    """*data* with another header, written past the writer's own checks."""
    import hashlib

    import zstandard

    from changelog_format import container

    found = lines(data)
    change(found[0])
    encode = lambda each: json.dumps(each, separators=(",", ":"), ensure_ascii=False).encode() + b"\n"  # noqa: E731
    body = b"".join(encode(each) for each in found[:-1])
    frame = container_frame(zstandard, body)
    trailer = {
        **found[-1],
        "sha256": hashlib.sha256(body).hexdigest(),
        "stored_sha256": hashlib.sha256(frame).hexdigest(),
    }
    return frame + container.raw_frame(encode(trailer))


def container_frame(zstandard, body):
    parameters = zstandard.ZstdCompressionParameters.from_level(3, write_checksum=True, write_content_size=True)
    return zstandard.ZstdCompressor(compression_params=parameters).compress(body)


def test_f5_an_untracked_model_is_not_written_even_when_the_bundle_says_so():
    Tag.objects.create(name="a")
    data, _ = write()

    def edit(header, found):
        header["models"]["auth.user"] = {**header["models"]["shop.tag"], "fields": {"username": "CharField"}}
        found[0].update(model="auth.user", fields={"username": "evil"}, key=["evil"])

    assert take(forged(data, edit)).held == 1
    assert not User.objects.using(HQ).exists()


def test_f5_an_object_record_of_a_model_that_nothing_points_to_is_ignored():
    Car.objects.create(plate="1", color=Color.objects.create(name="red"))
    data, _ = write()

    def edit(header, found):
        header["models"]["auth.group"] = {**header["models"]["plain.color"], "fields": {"name": "CharField"}}
        extra = {**found[0], "model": "auth.group", "id": found[0]["id"], "fields": {"name": "evil"}, "key": None}
        return [extra, *found]

    from django.contrib.auth.models import Group

    assert take(forged(data, edit)).objects == 1
    assert not Group.objects.using(HQ).exists()


class Changing(io.BytesIO):
    """A file that is another one when it is read a second time."""

    def __init__(self, first, second):
        super().__init__(first)
        self.second = second

    def seek(self, *args):
        if self.second is not None:
            second, self.second = self.second, None
            self.__init__(second, None)
        return super().seek(*args)


def test_a_file_that_changes_between_the_passes_is_refused():
    Tag.objects.create(name="a")
    data, _ = write(since=0)
    other = forged(data, lambda header, found: found[0]["fields"].update(name="b"))
    with unchanged(), pytest.raises(ImportRefusedError, match="changed while it was being read"):
        import_bundle(Changing(data, other), using=HQ)


def test_a_stream_that_cannot_be_rewound_is_taken():
    class Pipe(io.BytesIO):
        def seekable(self):
            return False

        def seek(self, *args):
            raise io.UnsupportedOperation

    Tag.objects.create(name="a")
    assert import_bundle(Pipe(write()[0]), using=HQ).added == 1


def test_a_file_that_is_not_there_is_an_os_error(tmp_path):
    with pytest.raises(FileNotFoundError):
        import_bundle(tmp_path / "no.zst", using=HQ)


# --- what is remembered -----------------------------------------------------------------------------------------------


def test_the_log_holds_the_records_verbatim_and_the_ranges_are_kept():
    for name in "abc":
        Tag.objects.create(name=name)
    data, report = write()
    take(data)
    stored = [
        json.loads(each) for each in ChangeLog.objects.using(HQ).order_by("seq").values_list("payload", flat=True)
    ]
    for mine, theirs in zip(stored, records(data), strict=True):
        assert mine.pop("origin") == {"node": report.node, "seq": theirs.pop("seq")}
        assert mine == theirs
    assert list(KnownRange.objects.using(HQ).values_list("origin__ident", "first", "last")) == [(report.node, 1, 3)]
    assert Reference.objects.using(HQ).count() == Version.objects.using(HQ).count() == 3
    received = Bundle.objects.using(HQ).get()
    assert (received.direction, received.sha256, received.report["added"]) == ("received", report.sha256, 3)


def test_after_a_reset_what_is_known_is_still_known():
    Tag.objects.create(name="a")
    data, _ = write()
    take(data)
    reset_synchro(HQ)
    assert brought(take(data)) == {"already_known": 1}


def test_an_import_inside_a_transaction_is_refused():
    Tag.objects.create(name="a")
    data, _ = write()
    with pytest.raises(RuntimeError, match="durable"), transaction.atomic(using=HQ):
        take(data)


@pytest.mark.parametrize("way", ["apply", "express_writing"])
def test_a_database_error_that_is_nobodys_fault_is_not_held(way, monkeypatch):
    from django.db import OperationalError

    monkeypatch.setattr("synchro.taking.EXPRESS", way != "apply")

    Tag.objects.create(name="a")
    data, _ = write()
    with (
        unchanged(),
        mock.patch(f"synchro.{way}._insert", side_effect=OperationalError("disk I/O error")),
        pytest.raises(OperationalError),
    ):
        take(data)


def test_whatever_the_database_refuses_is_held():
    Tag.objects.create(name="a")
    Club.objects.create(name="c")
    data, _ = write()
    error = IntegrityError("told so")
    with (
        mock.patch("synchro.express_writing._insert", side_effect=error),
        mock.patch("synchro.apply._insert", side_effect=error),
    ):
        report = take(data)
    assert (report.held, report.added) == (2, 0)


def test_a_stream_is_read_from_where_it_stands():
    Tag.objects.create(name="a")
    data, _ = write(to="hq")
    stream = io.BytesIO(b"before" + data)
    stream.seek(6)
    assert brought(import_bundle(stream, using="hq")) == {"added": 1}
