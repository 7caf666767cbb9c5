"""The contents of files: each once, written before the row that names it, never over another file."""

import base64
import hashlib
import io
import os
import tracemalloc
from dataclasses import replace

import pytest
from django.core.files.base import ContentFile
from django.core.files.storage import FileSystemStorage, InMemoryStorage, default_storage
from django.db.models import signals

from changelog_format import (
    BundleError,
    BundleWriter,
    Change,
    FilePiece,
    Header,
    ObjectRecord,
    UnsupportedError,
    open_bundle,
)
from changelog_format import header as format_header
from synchro import conflicts, export_bundle, import_bundle, registry, retry_held, scan, upcasting
from synchro.errors import HeldError, ImportRefusedError
from synchro.filing import HELD_FOLDER, alternative
from synchro.models import HeldFile, SentFile
from tests.app.deploy import at, brought, carry, lines, records, take, unchanged, write
from tests.project.shop.models import Note, Tag

pytestmark = pytest.mark.django_db(databases=["default", "hq", "ship"])


class Places(dict):
    """The storage of each deployment: the field's storage is that of the one that is at work."""

    def __init__(self, kind, folder, monkeypatch):
        super().__init__(
            {
                alias: FileSystemStorage(location=folder / alias) if kind == "folder" else InMemoryStorage()
                for alias in ("default", "hq", "ship")
            }
        )
        self._patch = monkeypatch

    def at(self, alias):
        self._patch.setattr(Note._meta.get_field("file"), "storage", self[alias])

    def files(self, alias, folder="notes"):
        try:
            names = self[alias].listdir(folder)[1]
        except FileNotFoundError:
            return {}
        return {f"{folder}/{name}": contents(self[alias], f"{folder}/{name}") for name in names}


def contents(storage, name):
    with storage.open(name) as file:
        return file.read()


@pytest.fixture(params=["folder", "memory"])
def places(request, tmp_path, monkeypatch, settings):
    settings.MEDIA_ROOT = tmp_path / "default_storage"
    found = Places(request.param, tmp_path, monkeypatch)
    found.at("default")
    return found


def note(name, content, **values):
    created = Note(**values)
    created.file.save(name, ContentFile(content))
    return created


def export(places, source="default", **options):
    places.at(source)
    return write(source, with_files=True, **options)


def bring(places, data, target="hq", **options):
    places.at(target)
    try:
        return take(data, target, **options)
    finally:
        places.at("default")


def pieces(data):
    return [record for record in records(data) if record["type"] == "file"]


def rewritten(data, change):
    """The bundle after *change* was called with the list of its records."""
    head, *found = lines(data)[:-1]
    kinds = {"object": ObjectRecord, "file": FilePiece, "change": Change}
    stream = io.BytesIO()
    with BundleWriter(stream, Header.from_dict(head)) as writer:
        for record in change(found):
            writer.write(kinds[record["type"]].from_dict(record))
    return stream.getvalue()


def test_contents_travel_once_and_come_before_their_rows(places):
    big = bytes(range(256)) * 5000
    note("a.txt", b"hello")
    note("b.txt", b"hello")
    note("big.bin", big)
    note("empty", b"")
    Note.objects.create(char="no file")
    data, report = export(places)
    assert (report.files, report.file_bytes, report.missing_files) == (3, 5 + len(big), ())
    assert lines(data)[0]["requires"] == ["files"]
    kinds = [record["type"] for record in records(data)]
    assert kinds == ["file", "change", "change", "file", "file", "change", "file", "change", "change"]
    assert max(len(base64.b64decode(piece["data"])) for piece in pieces(data)) <= 1024 * 1024
    taken = bring(places, data)
    assert brought(taken) == {"added": 5}
    assert (taken.files, taken.missing_files) == (4, ())
    assert places.files("hq") == places.files("default")
    assert sorted(at(Note).values_list("file", flat=True)) == sorted(Note.objects.values_list("file", flat=True))


def test_without_the_option_only_names_travel(places):
    note("a.txt", b"hello")
    data, _ = write()
    assert lines(data)[0]["requires"] == []
    assert "files" not in records(data)[0]
    assert bring(places, data).files == 0
    assert places.files("hq") == {}


def test_the_file_is_there_when_the_row_is_saved(places):
    note("a.txt", b"hello")
    data, _ = export(places)
    seen = []

    def handler(instance, **_kwargs):
        seen.append(places["hq"].exists(instance.file.name))

    signals.pre_save.connect(handler, sender=Note)
    try:
        bring(places, data)
    finally:
        signals.pre_save.disconnect(handler, sender=Note)
    assert seen == [True]


def test_what_was_sent_before_does_not_travel_again(places):
    first = note("a.txt", b"hello")
    bring(places, export(places, to="hq")[0])
    first.char = "changed"
    first.save()
    note("copy.txt", b"hello")
    data, report = export(places, to="hq")
    assert (report.files, pieces(data)) == (0, [])
    taken = bring(places, data)
    assert brought(taken) == {"added": 1, "changed": 1}
    assert taken.missing_files == ()
    assert places.files("hq") == {"notes/a.txt": b"hello", "notes/copy.txt": b"hello"}
    assert export(places, to="ship")[1].files == 1  # another destination knows nothing of it


def test_a_lost_file_is_written_again_with_its_contents(places):
    note("a.txt", b"hello")
    data, _ = export(places, to="hq")
    assert SentFile.objects.count() == 1
    again, _ = export(places, to="hq", since=0)
    assert again == data


def test_the_same_name_and_content_is_left_alone(places):
    note("a.txt", b"hello")
    places["hq"].save("notes/a.txt", ContentFile(b"hello"))
    taken = bring(places, export(places)[0])
    assert (taken.files, taken.missing_files) == (0, ())
    assert places.files("hq") == {"notes/a.txt": b"hello"}


def test_no_file_is_overwritten_with_other_content(places):
    """Both sides have a file of this name: each row keeps its own content."""
    note("a.txt", b"theirs")
    places.at("hq")
    mine = Note(char="mine")
    mine.file.save("a.txt", ContentFile(b"mine"), save=False)
    mine.save(using="hq")
    data, _ = export(places)
    bring(places, data)
    name = alternative("notes/a.txt", hashlib.sha256(b"theirs").hexdigest(), 100)
    assert places.files("hq") == {"notes/a.txt": b"mine", name: b"theirs"}
    assert at(Note).exclude(char="mine").get().file.name == name
    assert bring(places, data).already_known == 1
    # Everyone who has to gives it the same name, and a relay finds the content under it.
    places.at("hq")
    relay, report = export(places, "hq")
    assert (report.files, report.missing_files) == (2, ())
    bring(places, relay, "ship")
    name = alternative("notes/a.txt", hashlib.sha256(b"theirs").hexdigest(), 100)
    assert places.files("ship") == {"notes/a.txt": b"mine", name: b"theirs"}


@pytest.mark.parametrize("mode", ["squash", "snapshot"])
def test_folded_bundles_carry_contents_too(places, mode):
    changed = note("a.txt", b"hello")
    changed.char = "b"
    changed.save()
    data, report = export(places, to=mode, mode=mode)
    assert (report.records, report.objects, report.files) == (2, 0, 1)
    taken = bring(places, data, any_destination=True)
    assert (taken.added, taken.files, taken.missing_files) == (1, 1, ())
    assert places.files("hq") == {"notes/a.txt": b"hello"}


def test_a_row_keeps_its_own_file_whatever_name_it_has_elsewhere(places):
    """Also in bundles without contents, which say a name only, and on the way back."""
    theirs = note("a.txt", b"theirs")
    places["hq"].save("notes/a.txt", ContentFile(b"mine"))
    bring(places, export(places, to="hq")[0])
    name = at(Note).get().file.name
    assert name != "notes/a.txt"
    theirs.char = "changed"
    theirs.save()
    bring(places, write(to="hq")[0])
    assert (at(Note).get().file.name, at(Note).get().char) == (name, "changed")
    places.at("hq")
    assert scan(using="hq").total == 0
    back = at(Note).get()
    back.char = "changed back"
    back.save(using="hq")
    data, _ = write("hq")
    places.at("default")
    assert brought(take(data, "default")) == {"already_known": 2, "changed": 1}
    theirs.refresh_from_db()
    assert (theirs.file.name, theirs.char) == ("notes/a.txt", "changed back")
    # Another content under the old name is another file.
    theirs.file.storage.delete("notes/a.txt")
    theirs.file.save("a.txt", ContentFile(b"new"))
    bring(places, export(places, to="hq")[0])
    assert contents(places["hq"], at(Note).get().file.name) == b"new"


def test_a_name_of_its_own_fits_the_column():
    digest = "ab" * 32
    assert alternative("x/" + "n" * 200 + ".jpeg", digest, 100) == "x/" + "n" * 80 + "-abababababab.jpeg"
    assert alternative("plain", digest, None) == "plain-abababababab"


def test_files_that_are_missing_at_the_sender_are_named(places):
    gone = note("a.txt", b"hello", char="x")
    gone.file.storage.delete(gone.file.name)
    data, report = export(places)
    assert report.files == 0
    assert report.missing_files[0].endswith(": notes/a.txt")
    taken = bring(places, data)
    assert (brought(taken), at(Note).get().file.name) == ({"added": 1}, "notes/a.txt")


def test_what_is_named_and_did_not_come_is_told_and_strict_refuses_it(places):
    note("a.txt", b"hello")
    data = rewritten(export(places)[0], lambda found: [record for record in found if record["type"] != "file"])
    with (
        unchanged(),
        pytest.raises(HeldError, match=r"the contents of 1 file are missing: shop\.note .*: notes/a\.txt"),
    ):
        bring(places, data, strict=True)
    assert bring(places, data).missing_files[0].endswith("notes/a.txt")


def test_a_preview_writes_nothing(places):
    note("a.txt", b"hello")
    data, _ = export(places)
    with unchanged():
        assert bring(places, data, dry_run=True).files == 1
    assert places.files("hq") == {}


def test_files_of_an_import_that_is_not_taken_are_removed(places):
    note("a.txt", b"hello")
    Tag.objects.create(name="t")
    data, _ = export(places)

    def refuse(**_kwargs):
        raise KeyboardInterrupt

    signals.post_save.connect(refuse, sender=Tag)
    try:
        with unchanged(), pytest.raises(KeyboardInterrupt):
            bring(places, data)
    finally:
        signals.post_save.disconnect(refuse, sender=Tag)
    assert places.files("hq") == {}
    assert bring(places, data).files == 1


def test_a_storage_that_cannot_write_refuses_the_import(places, monkeypatch):
    note("a.txt", b"hello")
    data, _ = export(places)

    def full(*_args, **_kwargs):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(places["hq"], "_save", full)
    with unchanged(), pytest.raises(ImportRefusedError, match=r"notes/a.txt could not be written: .*No space left"):
        bring(places, data)


@pytest.mark.parametrize("name", ["../a.txt", "/etc/a.txt", "notes/../../a.txt"])
def test_f5_a_path_that_leaves_the_storage_is_refused(places, name, tmp_path):
    note("a.txt", b"hello")

    def elsewhere(found):
        for record in found:
            if record["type"] == "change":
                record["fields"]["file"] = name
        return found

    before = sorted(tmp_path.rglob("*"))
    taken = bring(places, rewritten(export(places)[0], elsewhere))
    assert brought(taken) == {"held": 1}
    assert "shop.note.file cannot hold" in taken.held_changes[0].reason
    kept = [path for path in sorted(tmp_path.rglob("*")) if path not in before and path.is_file()]
    assert all(path.parent.name == HELD_FOLDER for path in kept)


def test_a_wrong_digest_and_a_missing_piece_are_refused(places):
    note("a.txt", b"x" * (1024 * 1024 + 1))
    data, _ = export(places)
    with pytest.raises(BundleError, match="R68"):
        rewritten(data, lambda found: found[:1] + found[2:])
    with pytest.raises(BundleError, match="R69"):
        rewritten(data, lambda found: [found[0], {**found[1], "data": "eQ=="}, *found[2:]])


def test_a_reader_that_does_not_know_contents_refuses_by_name(places, monkeypatch):
    note("a.txt", b"hello")
    data, _ = export(places)
    monkeypatch.setattr(format_header, "SUPPORTED_FEATURES", frozenset())
    with unchanged(), pytest.raises(UnsupportedError, match="does not know: 'files'"):
        bring(places, data)


def test_contents_of_held_changes_are_kept_until_they_go_in(places, monkeypatch):
    note("a.txt", b"hello")
    data, _ = export(places)

    def newer(found):
        return [{**record, "version": 2} if record["type"] == "change" else record for record in found]

    head, *found = lines(data)[:-1]
    head["models"]["shop.note"]["versions"] = {
        "2": {k: v for k, v in head["models"]["shop.note"].items() if k != "version"}
    }
    stream = io.BytesIO()
    with BundleWriter(stream, Header.from_dict(head)) as writer:
        for record in newer(found):
            writer.write((FilePiece if record["type"] == "file" else Change).from_dict(record))
    assert brought(bring(places, stream.getvalue())) == {"held": 1}
    kept = HeldFile.objects.using("hq").get()
    assert contents(default_storage, kept.name) == b"hello"
    _, report = export(places, "hq")
    assert (report.files, report.missing_files) == (1, ())
    monkeypatch.setattr(Note, "SYNCHRO_VERSION", 2, raising=False)
    monkeypatch.setattr(upcasting, "_steps", {})
    registry.clear_caches()
    upcasting.clear_caches()
    try:
        places.at("hq")
        assert brought(retry_held(using="hq")) == {"added": 1}
    finally:
        monkeypatch.undo()
        registry.clear_caches()
        upcasting.clear_caches()
    assert places.files("hq") == {"notes/a.txt": b"hello"}
    assert not HeldFile.objects.using("hq").exists()


@pytest.fixture
def waiting(places):
    """A conflict about a file, in hq, that waits for a decision."""
    one = note("a.txt", b"old", char="x")
    bring(places, export(places)[0])
    export(places, "hq")
    one.file.save("b.txt", ContentFile(b"new at the office"))
    data, _ = export(places)
    places.at("hq")
    row = at(Note).get()
    row.char = "hq"
    row.save()
    assert bring(places, data, on_conflict="hold").conflicts == 1
    (found,) = conflicts.conflicts(using="hq")
    Tag.objects.create(name="of a later bundle")
    bring(places, export(places)[0])
    return found


@pytest.mark.parametrize("how", ["take", "merge"])
def test_contents_about_which_somebody_has_to_decide_are_kept_until_then(places, waiting, how):
    kept = HeldFile.objects.using("hq").get()
    assert contents(default_storage, kept.name) == b"new at the office"
    places.at("hq")
    if how == "take":
        conflicts.take(waiting.id, using="hq")
    else:
        conflicts.merge(waiting.id, incoming=["file"], using="hq")
    row = at(Note).get()
    assert (row.char, contents(places["hq"], row.file.name)) == ("x" if how == "take" else "hq", b"new at the office")
    assert not HeldFile.objects.using("hq").exists()


def test_contents_that_were_decided_against_are_let_go(places, waiting):
    places.at("hq")
    conflicts.keep(waiting.id, using="hq")
    assert places.files("hq") == {"notes/a.txt": b"old"}
    assert not HeldFile.objects.using("hq").exists()


def test_of_a_version_that_lost_the_record_has_the_digest_and_its_maker_the_content(places):
    one = note("a.txt", b"old", char="x")
    bring(places, export(places)[0])
    one.file.save("b.txt", ContentFile(b"new at the office"))
    data, _ = export(places)
    places.at("hq")
    row = at(Note).get()
    row.file.save("c.txt", ContentFile(b"later, at hq"))
    assert bring(places, data).conflicts == 1
    (found,) = conflicts.conflicts(held=False, using="hq")
    sha256 = hashlib.sha256(b"new at the office").hexdigest()
    assert (found.winner, found.incoming["fields"]["file"]) == ("local", "notes/b.txt")
    assert found.incoming["files"]["file"] == {"sha256": sha256, "size": 17}
    assert set(places.files("hq").values()) == {b"old", b"later, at hq"}
    bring(places, export(places, "hq")[0], "default")
    assert b"new at the office" in places.files("default").values()


def test_a_decision_that_fails_writes_no_file(places, waiting, monkeypatch):
    places.at("hq")
    monkeypatch.setattr(conflicts.Recorder, "log_decisions", fail)
    with pytest.raises(RuntimeError):
        conflicts.take(waiting.id, using="hq")
    assert places.files("hq") == {"notes/a.txt": b"old"}
    assert HeldFile.objects.using("hq").exists()


def fail(*_args):
    raise RuntimeError("no")


def test_a_stale_change_writes_no_file(places):
    first = note("a.txt", b"old")
    old, _ = export(places, to="hq")
    first.file.save("b.txt", ContentFile(b"new"))
    new, _ = export(places, since=1)
    bring(places, new, allow_gap=True)
    assert bring(places, old, allow_gap=True).stale == 1
    assert places.files("hq") == {"notes/b.txt": b"new"}


def test_relayed_records_say_nothing_of_contents_in_a_bundle_without_them(places):
    note("a.txt", b"hello")
    bring(places, export(places)[0])
    data, _ = write("hq")
    assert "files" not in records(data)[0]
    assert carry("hq", "ship").added == 1


def test_memory_does_not_grow_with_the_contents(places, tmp_path):
    if not isinstance(places["hq"], FileSystemStorage):
        pytest.skip("this storage itself holds files in memory")
    note("a.bin", b"")
    path = tmp_path / "default" / "notes" / "a.bin"
    with path.open("wb") as file:
        for _ in range(40):
            file.write(os.urandom(1024 * 1024))
    tracemalloc.start()
    try:
        report = export_bundle(tmp_path / "b.jsonl.zst", with_files=True)
        places.at("hq")
        taken = import_bundle(tmp_path / "b.jsonl.zst", using="hq")
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert (report.file_bytes, taken.files) == (40 * 1024 * 1024, 1)
    assert (tmp_path / "hq" / "notes" / "a.bin").read_bytes() == path.read_bytes()
    assert peak < 25 * 1024 * 1024


def test_records_of_a_version_that_is_not_known_here_say_nothing_of_contents_either(places):
    places.at("default")
    note = Note(integer=1)
    note.file.save("a.bin", ContentFile(b"abc"), save=False)
    note.save()
    data, _ = write(with_files=True)
    with open_bundle(io.BytesIO(data)) as reader:
        found = list(reader)
        info = reader.header.models["shop.note"]
        models = {**reader.header.models, "shop.note": replace(info, versions={2: replace(info, version=2)})}
        header = replace(reader.header, models=models)
    stream = io.BytesIO()
    with BundleWriter(stream, header) as writer:
        for record in found:
            writer.write(replace(record, version=2) if isinstance(record, Change) else record)
    places.at("hq")
    assert brought(take(stream.getvalue())) == {"held": 1}
    onward, _ = write("hq")
    (record,) = records(onward)
    assert (record["version"], "files" in record) == (2, False)
