"""Exports: what is in the file, where the destination stands afterwards, and what a failed export leaves."""

import io
import itertools
import os
from pathlib import Path
from unittest import mock

import pytest
from django.contrib.admin.models import ADDITION, LogEntry
from django.contrib.auth.models import User
from django.contrib.contenttypes.models import ContentType
from django.core.management import call_command
from django.test import override_settings

from changelog_format import open_bundle, verify
from synchro import export_bundle, reset_synchro
from synchro.errors import ExportError
from synchro.models import Bundle, ChangeLog, Destination, Node
from synchro.splitting import export_parts
from tests.app.deploy import assert_same, carry, lines, queries, records, rolled_back, take, write
from tests.project.plain.models import Color
from tests.project.shop.models import Car, City, Club, Country, Note, Parcel, Person, Place, Profile, Tag

pytestmark = pytest.mark.django_db(databases=["default", "hq", "ship"])


def position(name="default"):
    found = Destination.objects.filter(name=name).first()
    return found.seq if found else 0


# --- ranges and positions ---------------------------------------------------------------------------------------------


def test_nothing_to_export_gives_no_file(tmp_path):
    assert export_bundle(tmp_path) is None
    assert list(tmp_path.iterdir()) == []
    Tag.objects.create(name="a")
    assert export_bundle(tmp_path).records == 1
    assert export_bundle(tmp_path) is None
    assert len(list(tmp_path.iterdir())) == 1


def test_a_file_in_a_folder_is_named_by_node_and_range(tmp_path):
    Tag.objects.create(name="a")
    Tag.objects.create(name="b")
    report = export_bundle(tmp_path)
    assert Path(report.file) == tmp_path / f"{report.node}-000001-000002.jsonl.zst"
    assert (report.from_seq, report.to_seq, report.records) == (0, 2, 2)
    assert report.bytes == Path(report.file).stat().st_size
    assert verify(report.file).trailer.sha256 == report.sha256
    assert report.node.startswith("office-")


def test_without_a_target_the_file_is_in_the_current_folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    Tag.objects.create(name="a")
    assert (tmp_path / export_bundle().file).exists()


def test_another_file_is_not_overwritten_and_the_same_range_is(tmp_path):
    Tag.objects.create(name="a")
    Tag.objects.create(name="b")
    path = tmp_path / "changes.jsonl.zst"
    export_bundle(path)
    before = path.read_bytes()
    export_bundle(path, since=0)
    assert path.read_bytes() == before
    for options in ({"since": 0, "until": 1}, {"to": "hq", "since": 1}):
        with pytest.raises(ExportError, match="exists, and is another bundle"):
            export_bundle(path, **options)
    other = tmp_path / "letter.txt"
    other.write_text("not a bundle")
    with pytest.raises(ExportError, match="or something else"):
        export_bundle(other, to="hq")
    assert (path.read_bytes(), other.read_text(), position("hq")) == (before, "not a bundle", 0)
    empty = tmp_path / "empty"
    empty.touch()  # as mktemp makes it
    assert export_bundle(empty, to="hq").to_seq == 2


def test_the_same_range_for_two_destinations_is_two_files_in_one_folder(tmp_path):
    Tag.objects.create(name="a")
    for destination in ("hq", "clinic 7", "hq", "clinic 7"):  # twice: a repeated export finds its own file
        export_bundle(tmp_path, to=destination, since=0)
    named = {path.name.partition("-000001")[2]: verify(path).header.destination for path in tmp_path.iterdir()}
    assert named == {"-000001.jsonl.zst": "hq", "-000001-for-clinic_7.jsonl.zst": "clinic 7"}
    export_bundle(tmp_path / "a.zst", to="hq", since=0)
    with pytest.raises(ExportError, match="exists, and is another bundle"):
        export_bundle(tmp_path / "a.zst", to="clinic 7", since=0)
    assert verify(tmp_path / "a.zst").header.destination == "hq"


def test_what_a_killed_export_left_is_swept_away_once_it_is_old(tmp_path):
    Tag.objects.create(name="a")
    node = export_bundle(tmp_path, since=0).node
    old, young, foreign = (
        tmp_path / f".{name}-000001-000009.jsonl.zst.0123456789ab.tmp" for name in (node, f"{node}-2", "hq-11aa22bb")
    )
    for path in (old, young, foreign):
        path.write_bytes(b"half")
    for path in (old, foreign):
        os.utime(path, (1, 1))
    export_bundle(tmp_path, since=0)
    assert (old.exists(), young.exists(), foreign.exists()) == (False, True, True)


@pytest.mark.parametrize("name", ["../x\n", " hq", "\x1b[31m"])
def test_names_of_destinations_that_nobody_could_read(name):
    Tag.objects.create(name="a")
    with pytest.raises(ExportError, match="is no name for a destination"):
        export_bundle(io.BytesIO(), to=name)


def test_each_destination_has_a_position_of_its_own():
    Tag.objects.create(name="a")
    assert write(to="hq")[1].to_seq == 1
    Tag.objects.create(name="b")
    assert [r["seq"] for r in records(write(to="ship")[0])] == [1, 2]
    assert [r["seq"] for r in records(write(to="hq")[0])] == [2]
    assert (position("hq"), position("ship"), position("default")) == (2, 2, 0)


def test_since_and_until_leave_the_position_alone():
    for name in "abcd":
        Tag.objects.create(name=name)
    data, _ = write(since=1, until=3)
    assert [r["seq"] for r in records(data)] == [2, 3]
    assert position() == 0
    assert [r["seq"] for r in records(write(until=2)[0])] == [1, 2]
    assert position() == 0
    write()
    assert write(since=2)[1].to_seq == 4
    assert position() == 4
    assert write() == (None, None)


def test_until_beyond_the_log_ends_at_the_log():
    Tag.objects.create(name="a")
    assert write(until=99)[1].to_seq == 1
    assert write(since=1) == (None, None)


@pytest.mark.parametrize("since", [-1, 2])
def test_a_position_that_is_not_there_is_refused(since):
    Tag.objects.create(name="a")
    with pytest.raises(ExportError, match=rf"There is no position {since}: the log of office-\w+ ends at 1\."):
        write(since=since)


@pytest.mark.parametrize("name", ["", "x" * 65])
def test_a_destination_needs_a_name_that_fits(name):
    with pytest.raises(ExportError, match="A destination's name has 1 to 64 characters"):
        write(to=name)


@pytest.mark.parametrize("level", [0, 20])
def test_a_compression_level_that_zstd_lacks_is_refused(level):
    Tag.objects.create(name="a")
    with pytest.raises(ExportError, match=f"The compression level is {level}"):
        write(level=level)


@pytest.mark.parametrize(
    ("packing", "told"),
    [
        ({"frame_size": 0}, "The size of frames is 0 bytes; it can be 1 to 4194304."),
        ({"frame_size": 4194305}, "The size of frames is 4194305 bytes"),
        ({"threads": -1}, "The number of threads is -1; it can be 0 to 64."),
    ],
)
def test_frames_and_threads_that_there_are_not_are_refused(packing, told):
    Tag.objects.create(name="a")
    with pytest.raises(ExportError, match=told):
        write(**packing)


def test_frames_and_threads_change_nothing_but_the_frames(tmp_path):
    for number in range(200):
        Club.objects.create(name=f"club number {number}")
    found = []
    for number, options in enumerate([(), ("--threads", "0"), ("--frame-size", "4KiB", "--threads", "3")]):
        path = tmp_path / f"{number}.jsonl.zst"
        call_command("synchro_export", "-o", path, "--since", "0", "--to", f"d{number}", *options, verbosity=0)
        with open_bundle(path) as reader:
            lines = list(reader)
        found.append((lines, path.read_bytes().count(b"\x28\xb5\x2f\xfd")))
    assert found[0][0] == found[1][0] == found[2][0]
    assert found[0][1] == found[1][1] == 2  # one and the trailer's
    assert found[2][1] > 10


def test_the_level_changes_the_size_and_not_the_lines():
    for number in range(500):
        Club.objects.create(name=f"club number {number}")
    fast, small = write(since=0, level=1)[0], write(since=0, level=19)[0]
    assert len(small) < len(fast)
    assert records(small) == records(fast)


# --- L2: what goes wrong ----------------------------------------------------------------------------------------------


def left_behind(folder):
    return sorted(path.name for path in folder.iterdir())


def test_l2_a_full_disk_leaves_neither_a_file_nor_a_new_position(tmp_path):
    Tag.objects.create(name="a")
    export_bundle(tmp_path)
    before = left_behind(tmp_path)
    Tag.objects.create(name="b")
    with (
        mock.patch("os.fsync", side_effect=OSError(28, "No space left on device")),
        pytest.raises(ExportError, match=r"could not be written: No space left on device\."),
    ):
        export_bundle(tmp_path)
    assert left_behind(tmp_path) == before
    assert (position(), Bundle.objects.count()) == (1, 1)
    report = export_bundle(tmp_path)
    assert (report.from_seq, report.to_seq) == (1, 2)


def test_l2_an_interrupt_in_the_middle_leaves_neither(tmp_path):
    Tag.objects.create(name="a")
    with (
        mock.patch("synchro.assembling.Assembler.parts", side_effect=KeyboardInterrupt),
        pytest.raises(KeyboardInterrupt),
    ):
        export_bundle(tmp_path)
    assert left_behind(tmp_path) == []
    assert position() == 0
    assert export_bundle(tmp_path).records == 1


def test_l2_a_crash_after_the_file_and_before_the_position_gives_the_range_again(tmp_path):
    Tag.objects.create(name="a")
    with mock.patch("synchro.exporting._record", side_effect=KeyboardInterrupt), pytest.raises(KeyboardInterrupt):
        export_bundle(tmp_path)
    (name,) = left_behind(tmp_path)
    assert position() == 0
    take((tmp_path / name).read_bytes())
    Tag.objects.create(name="b")
    report = carry()
    assert (report.already_known, report.added) == (1, 1)
    assert_same("default", "hq")


def test_l2_a_folder_that_is_not_there_is_named(tmp_path):
    Tag.objects.create(name="a")
    with pytest.raises(ExportError, match=r"no/such/file\.zst could not be written: No such file or directory"):
        export_bundle(tmp_path / "no" / "such" / "file.zst")
    assert position() == 0


@pytest.mark.parametrize("name", ["stick", "stick/", "a.b/", "no/such/stick"])
def test_a_folder_that_is_gone_does_not_become_a_file(tmp_path, name):
    Tag.objects.create(name="a")
    with pytest.raises(ExportError, match=rf"{name} is no folder that is there") as refused:
        export_bundle(f"{tmp_path}/{name}")
    assert "Is the medium in its place?" in refused.value.hint
    assert list(tmp_path.iterdir()) == []
    assert position() == 0


def test_a_medium_that_is_not_mounted_is_not_taken_for_the_folder_below_it(tmp_path):
    stick = tmp_path / "stick"
    stick.mkdir()
    is_mount = Path.is_mount
    Tag.objects.create(name="a")
    with mock.patch.object(Path, "is_mount", lambda self: self == stick or is_mount(self)):
        assert export_bundle(stick).medium == str(stick)
        Tag.objects.create(name="b")
        assert export_bundle(stick).medium == str(stick)
    written, before = sorted(stick.iterdir()), position()
    Tag.objects.create(name="c")
    with pytest.raises(ExportError, match=f"{stick} is not mounted"):
        export_bundle(stick)
    with pytest.raises(ExportError, match=f"{stick} is not mounted"):
        list(export_parts(stick, max_size=10_000))
    assert (sorted(stick.iterdir()), position()) == (written, before)
    export_bundle(stick / "meant.jsonl.zst")
    Tag.objects.create(name="d")
    assert export_bundle(stick) is not None


def test_l2_an_existing_file_is_replaced_whole_or_kept(tmp_path):
    Tag.objects.create(name="a")
    target = tmp_path / "bundle.zst"
    export_bundle(target)
    precious = target.read_bytes()
    with mock.patch("os.replace", side_effect=OSError(5, "Input/output error")), pytest.raises(ExportError):
        export_bundle(target, since=0, level=19)
    assert target.read_bytes() == precious
    assert left_behind(tmp_path) == ["bundle.zst"]
    export_bundle(target, since=0, level=19)
    assert target.read_bytes() != precious
    assert verify(target).records == 1


# --- L3: again --------------------------------------------------------------------------------------------------------


def test_l3_a_lost_file_is_written_again_byte_for_byte():
    country = Country.objects.create(code="PL")
    city = City.objects.create(name="a", country=country)
    first, _ = write()
    Tag.objects.create(name="b")
    second, _ = write()
    country.name = "Polska"
    country.save()
    city.delete()
    Tag.objects.all().delete()
    carry("default", "hq")
    assert write(since=0, until=2)[0] == first
    assert write(since=2, until=3)[0] == second


def test_l3_after_a_rename_it_says_the_same_with_the_key_of_today():
    country = Country.objects.create(code="PL")
    City.objects.create(name="a", country=country)
    first, _ = write()
    country.code = "DE"
    country.save()
    write()
    again, _ = write(since=0, until=2)
    old, new = records(first)[1], records(again)[1]
    assert (old["fields"]["country"], new["fields"]["country"]) == (["PL"], ["DE"])
    for name in ("seq", "date", "base", "id", "refs"):
        assert old[name] == new[name]
    take(first)
    assert take(again).already_known == 2


def test_l3_also_when_the_model_was_deleted_or_untracked_rows_changed_meanwhile():
    car = Car.objects.create(plate="1", color=Color.objects.create(name="red", rgb="#f00"))
    first, _ = write()
    Color.objects.update(rgb="#fff")
    assert write(since=0, until=1)[0] != first  # an object record says what is there now
    car.delete()
    write()
    assert lines(write(since=0, until=1)[0])[0] == lines(first)[0]


# --- the header -------------------------------------------------------------------------------------------------------


def test_the_header_says_who_from_where_to_where_and_what():
    country = Country.objects.create(code="PL")
    first, report = write(to="hq")
    City.objects.create(name="a", country=country)
    data, _ = write(to="hq")
    header = lines(data)[0]
    assert header["node"] == {"id": report.node, "name": "office"}
    assert header["destination"] == "hq"
    assert header["mode"] == "history"
    assert header["range"]["from"] == {"seq": 1, "date": records(first)[0]["date"]}
    assert header["range"]["to"] == {"seq": 2, "date": records(data)[0]["date"]}
    assert header["previous"] == report.sha256
    assert header["requires"] == []
    city = header["models"]["shop.city"]
    assert city["key"] == ["name", "country__code"]
    assert city["skipped"] == ["visits"]
    assert "visits" not in city["fields"]
    assert city["relations"] == {"country": "shop.country"}
    assert lines(first)[0]["previous"] is None


def test_the_header_acknowledges_what_was_taken():
    Tag.objects.create(name="a")
    carry("default", "hq")
    Tag.objects.using("hq").create(name="b")
    data, _ = write("hq")
    office = Node.objects.get(own=True)
    assert lines(data)[0]["acks"] == {office.ident: 1}
    take(data, "default")
    assert Node.objects.get(own=False).acked_seq == 1


# --- records ----------------------------------------------------------------------------------------------------------


def test_skipped_fields_do_not_travel():
    City.objects.create(name="a", country=Country.objects.create(code="PL"), visits=7)
    assert "visits" not in records(write()[0])[1]["fields"]


def test_a_record_has_the_key_of_its_moment_and_refs_that_outlive_renames():
    country = Country.objects.create(code="PL")
    city = City.objects.create(name="a", country=country)
    city.name = "b"
    city.save()
    country.code = "DE"
    country.save()
    found = records(write()[0])
    assert [r["key"] for r in found if r["model"] == "shop.country"] == [["PL"], ["DE"]]
    assert [r["key"][0] for r in found if r["model"] == "shop.city"] == ["a", "b"]
    assert {r["refs"]["country"] for r in found if r["model"] == "shop.city"} == {found[0]["id"]}


def test_a_target_that_was_deleted_since_is_named_by_its_last_state():
    tag = Tag.objects.create(name="gone")
    person = Person.objects.create(name="p")
    person.tags.add(tag)
    tag.delete()
    link = next(r for r in records(write()[0]) if r["action"] == "link")
    assert link["target"]["key"] == ["gone"]


def test_a_profile_goes_by_the_id_of_its_person():
    person = Person.objects.create(name="p")
    Profile.objects.create(person=person)
    one, other = records(write()[0])
    assert other["id"] == one["id"] == other["refs"]["person"]


def test_rows_that_were_never_logged_go_first():
    Country.objects.bulk_create([Country(code="PL")])
    City.objects.bulk_create([City(name="a", country=Country.objects.get())])
    Place.objects.create(name="p", city=City.objects.get())
    assert [r["model"] for r in records(write()[0])] == ["shop.country", "shop.city", "shop.place"]


def test_an_untracked_target_gets_an_object_record_once():
    color = Color.objects.create(name="red", rgb="#f00")
    for plate in "abc":
        Car.objects.create(plate=plate, color=color)
    data, report = write()
    assert [r["type"] for r in records(data)] == ["object", "change", "change", "change"]
    assert (report.records, report.objects) == (4, 1)


def test_an_account_is_carried_without_password_and_rights():
    user = User.objects.create_superuser("ann", "ann@example.org", "secret")
    with override_settings(SYNCHRO_MODELS=("shop", ("admin", "logentry"))):
        LogEntry.objects.create(user=user, content_type=ContentType.objects.get_for_model(Tag), action_flag=ADDITION)
        data, _ = write()
    account = next(r for r in records(data) if r["type"] == "object" and r["model"] == "auth.user")
    assert account["fields"]["username"] == "ann"
    assert not {"password", "last_login", "is_superuser", "is_staff"} & set(account["fields"])
    assert "pbkdf2" not in str(lines(data))
    assert "secret" not in str(lines(data))
    assert "password" not in str(lines(data)[0]["models"]["auth.user"])


# --- the log's end ----------------------------------------------------------------------------------------------------


def test_after_a_reset_the_positions_go_on_and_the_past_is_refused():
    Tag.objects.create(name="a")
    write()
    reset_synchro()
    assert not ChangeLog.objects.exists()
    Tag.objects.create(name="b")
    data, report = write()
    assert (report.from_seq, report.to_seq) == (1, 2)
    assert lines(data)[0]["range"]["from"]["seq"] == 1
    with pytest.raises(ExportError, match="no longer holds"):
        write(since=0)


def test_a_new_destination_after_a_reset_begins_there():
    Tag.objects.create(name="a")
    write()
    reset_synchro()
    Tag.objects.create(name="b")
    assert write(to="new")[1].from_seq == 1


# --- queries ----------------------------------------------------------------------------------------------------------


def work(number):
    """*number* rows of every kind of identity and relation, and links."""
    country = Country.objects.create(code="PL")
    color = Color.objects.create(name="red")
    tags = [Tag(name=f"tag {n}") for n in range(number)]
    for tag in tags:
        tag.save()
    for n, tag in zip(range(number), itertools.cycle(tags), strict=False):
        city = City.objects.create(name=f"city {n}", country=country)
        person = Person.objects.create(name=f"person {n}", city=city)
        person.tags.add(tag)
        Profile.objects.create(person=person)
        Parcel.objects.create(code=f"p{n}", sender=person)
        Car.objects.create(plate=str(n), color=color)
        Note.objects.create(integer=n)


def test_the_queries_of_an_export_do_not_grow_with_the_rows():
    counts = []
    for number in (10, 110):
        with rolled_back():
            work(number)
            write(to="first")  # sealing has queries of its own, which other tests count
            count, (_, report) = queries("default", lambda: write(to="second"))
            assert report.records > 8 * number
            counts.append(count)
    assert counts[0] == counts[1]


def test_a_stream_is_not_closed():
    Tag.objects.create(name="a")
    stream = io.BytesIO()
    assert export_bundle(stream).file == "-"
    assert not stream.closed
