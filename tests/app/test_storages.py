"""Bundles in Django's storages, beside those in files."""

import io
import json
from contextlib import contextmanager

import pytest
from django.core.files.base import ContentFile
from django.core.files.storage import FileSystemStorage, InMemoryStorage, storages
from django.core.management import CommandError, call_command

from changelog_format import verify
from synchro import export_bundle, import_bundle, import_bundles
from synchro.errors import ImportRefusedError, RequestError, StorageError
from synchro.models import Bundle, Destination
from synchro.progress import watched
from synchro.requests import Missing, Request, write_request
from synchro.splitting import export_parts
from tests.app.deploy import at
from tests.project.shop.models import Tag

pytestmark = pytest.mark.django_db(databases=["default", "hq", "ship"])
TEMPORARY = "synchro-"


class FlakyStorage(InMemoryStorage):
    """Loses the connection in the midst of a save, and leaves what it has got so far, as some do."""

    works = False

    def _save(self, name, content):
        if self.works:
            return super()._save(name, content)
        super()._save(name, ContentFile(content.read(100)))
        message = "connection lost"
        raise ConnectionError(message)


class RacingStorage(InMemoryStorage):
    """Somebody else saves a file of the same name just before."""

    def save(self, name, content, max_length=None):
        super().save(name, ContentFile(b"theirs"), max_length)
        return super().save(name, content, max_length)


class PoorStorage(InMemoryStorage):
    def listdir(self, path):
        raise NotImplementedError


@pytest.fixture(params=["files", "memory"])
def alias(request):
    return request.param


@pytest.fixture(autouse=True)
def _storages(settings, tmp_path):
    here = f"{__name__}."
    settings.STORAGES = {
        **settings.STORAGES,
        "files": {"BACKEND": "django.core.files.storage.FileSystemStorage", "OPTIONS": {"location": tmp_path / "s"}},
        "memory": {"BACKEND": "django.core.files.storage.InMemoryStorage"},
        "flaky": {"BACKEND": f"{here}FlakyStorage"},
        "racing": {"BACKEND": f"{here}RacingStorage"},
        "poor": {"BACKEND": f"{here}PoorStorage"},
        "broken": {"BACKEND": "no.such.Storage"},
        "wrong": {"BACKEND": "django.core.files.storage.InMemoryStorage", "OPTIONS": {"nonsense": 1}},
    }


@contextmanager
def unmarked():
    """Nothing is marked as exported."""
    yield
    assert not Bundle.objects.exists()
    assert not Destination.objects.exists()


def tag(name="a"):
    return Tag.objects.create(name=name)


def test_a_bundle_goes_through_a_storage(alias):
    tag()
    report = export_bundle(f"storage:{alias}/for/hq/", to="hq")
    name = f"for/hq/{report.node}-000001-000001.jsonl.zst"
    assert report.file == f"storage:{alias}/{name}"
    with storages[alias].open(name) as found:
        assert verify(io.BytesIO(found.read())).trailer.sha256 == report.sha256
    assert isinstance(storages[alias], FileSystemStorage if alias == "files" else InMemoryStorage)
    assert import_bundle(report.file, using="hq").added == 1
    assert Bundle.objects.using("hq").get().file == report.file


def test_a_folder_in_a_storage_is_taken_in_order_and_nothing_else_in_it(alias):
    for name in "abc":
        tag(name)
        export_bundle(f"storage:{alias}/x/", to="hq")
    storages[alias].save("x/notes.txt", ContentFile(b"!"))
    assert [report.from_seq for report in import_bundles([f"storage:{alias}/x/"], using="hq")] == [0, 1, 2]
    assert at(Tag).count() == 3
    with pytest.raises(ImportRefusedError, match=r"storage:.*/nothing/ has no bundles"):
        list(import_bundles([f"storage:{alias}/nothing/"], using="hq"))


def test_the_commands_take_storages(alias, tmp_path, capsys):
    tag()
    call_command("synchro_export", "-o", f"storage:{alias}/a.jsonl.zst", "--to=hq", "--json")
    told = json.loads(capsys.readouterr().out)
    assert told["file"] == f"storage:{alias}/a.jsonl.zst"
    call_command("synchro_import", told["file"], "--dry-run", "--database=hq")
    assert "1 would be added" in capsys.readouterr().out
    tag("b")
    call_command("synchro_export", "-o", f"storage:{alias}", "--to=hq")
    capsys.readouterr()
    (name,) = (name for name in storages[alias].listdir("")[1] if name.startswith("office"))
    call_command("synchro_request", f"storage:{alias}/{name}", "-o", str(tmp_path), "--database=hq")
    assert "for positions 1" in capsys.readouterr().out
    call_command("synchro_import", f"storage:{alias}/", "--until", "2999-01-01", "--database=hq")
    assert at(Tag).count() == 2


def test_parts_of_a_bounded_size(alias):
    for number in range(300):
        tag(f"{number} {hash(str(number))}")
    reports = list(export_parts(f"storage:{alias}/", max_size=8000, to="hq"))
    assert len(reports) > 1
    assert all(storages[alias].size(report.file.partition("/")[2]) <= 8000 for report in reports)
    assert sum(report.added for report in import_bundles([f"storage:{alias}/"], using="hq")) == 300


def test_what_is_there_is_never_overwritten(alias):
    tag()
    storages[alias].save("a.jsonl.zst", ContentFile(b"something else"))
    with unmarked(), pytest.raises(StorageError, match="exists, and is another bundle") as caught:
        export_bundle(f"storage:{alias}/a.jsonl.zst", to="hq")
    assert "Nothing was overwritten" in caught.value.hint
    with storages[alias].open("a.jsonl.zst") as found:
        assert found.read() == b"something else"
    assert storages[alias].listdir("")[1] == ["a.jsonl.zst"]


def test_the_same_range_again_is_the_same_file(alias):
    tag()
    first = export_bundle(f"storage:{alias}/", to="hq")
    again = export_bundle(f"storage:{alias}/", to="hq", since=0, until=1)
    assert (again.file, again.sha256) == (first.file, first.sha256)
    assert len(storages[alias].listdir("")[1]) == 1
    Bundle.objects.all().delete()  # as after a crash between the save and the note of it
    third = export_bundle(f"storage:{alias}/", to="hq", since=0, until=1)
    assert third.file == first.file
    assert third.sha256 != first.sha256
    assert import_bundle(third.file, using="hq").added == 1


def test_a_save_that_fails_leaves_nothing_and_moves_nothing(tmp_path, monkeypatch):
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    tag()
    with unmarked(), pytest.raises(StorageError, match=r"could not be written: connection lost\."):
        export_bundle("storage:flaky/a.jsonl.zst", to="hq")
    assert storages["flaky"].listdir("")[1] == []
    assert [path.name for path in tmp_path.iterdir() if path.name.startswith(TEMPORARY)] == []


def test_the_beginning_that_somebody_left_behind_gives_way(alias):
    tag()
    first = export_bundle(f"storage:{alias}/a.jsonl.zst", to="hq")
    with storages[alias].open("a.jsonl.zst") as found:
        data = found.read()
    storages[alias].delete("a.jsonl.zst")
    storages[alias].save("a.jsonl.zst", ContentFile(data[:100]))
    export_bundle(f"storage:{alias}/a.jsonl.zst", to="hq", since=0, until=1)
    with storages[alias].open("a.jsonl.zst") as found:
        assert found.read() == data
    assert verify(io.BytesIO(data)).trailer.sha256 == first.sha256


def test_who_was_quicker_keeps_the_name():
    tag()
    with unmarked(), pytest.raises(StorageError, match="somebody else wrote a file of this name"):
        export_bundle("storage:racing/a.jsonl.zst", to="hq")
    (name,) = storages["racing"].listdir("")[1]
    with storages["racing"].open(name) as found:
        assert found.read() == b"theirs"


def test_ctrl_c_leaves_nothing(alias, tmp_path, monkeypatch):
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))

    def interrupt(*_step):
        raise KeyboardInterrupt

    for number in range(300):
        tag(str(number))
    with unmarked(), watched(interrupt), pytest.raises(KeyboardInterrupt):
        export_bundle(f"storage:{alias}/a.jsonl.zst", to="hq")
    assert not storages[alias].exists("a.jsonl.zst")
    assert [path.name for path in tmp_path.iterdir() if path.name.startswith(TEMPORARY)] == []


@pytest.mark.parametrize(
    ("target", "words"),
    [
        ("storage:nothing/x", "STORAGES has no 'nothing'; it has broken, default, "),
        ("storage:", "'storage:' names no storage"),
        ("storage:broken/x", "no.such"),
        ("storage:wrong/x", "nonsense"),
        ("storage:files/../../x", "could not be "),
    ],
)
def test_storages_that_cannot_be_used(target, words):
    tag()
    with unmarked(), pytest.raises(StorageError, match=words) as caught:
        export_bundle(target, to="hq")
    assert "\n" not in str(caught.value)
    with pytest.raises(StorageError):
        import_bundle(target, using="hq")


def test_files_that_are_not_there_and_storages_that_cannot_list(capsys):
    with pytest.raises(StorageError, match="storage:memory/none: there is no such file"):
        import_bundle("storage:memory/none", using="hq")
    with pytest.raises(StorageError, match="could not be listed: this storage cannot do that"):
        list(import_bundles(["storage:poor/"], using="hq"))
    with pytest.raises(CommandError, match="there is no such file"):
        call_command("synchro_import", "storage:files/none", "--database=hq")


def test_a_request_is_a_file():
    missing = (Missing(since=0, until=1, date=None),)
    request = Request(of="a-00000000", by="b", name="b", created="", missing=missing)
    with pytest.raises(RequestError, match="a request is written to a file"):
        write_request(request, "storage:memory/")
