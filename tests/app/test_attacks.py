"""Somebody who may send something tries to get what is none of his business."""

import os

import pytest
from django.contrib.admin.models import LogEntry
from django.contrib.auth.models import User
from django.core.management import CommandError, call_command
from django.test import override_settings

from changelog_format import RecordError
from synchro.importing import import_bundles
from synchro.models import Node
from synchro.requests import everything_since, write_request
from tests.app.deploy import at, carry, forged, rolled_back, take, write
from tests.project.shop.models import City, Country, Parcel, Place, Restaurant, Tag

pytestmark = pytest.mark.django_db(databases=["default", "hq", "ship"])
HQ = "hq"


def same(first, second, model="auth.user"):
    """An edit for ``forged``: the last change says that these ids are one object."""

    def edit(header, found):
        record = found[-1]
        kept = {name: record[name] for name in ("type", "seq", "date", "base") if name in record}
        low, high = sorted([first, second])
        found[-1] = {**kept, "action": "same", "model": model, "id": low, "key": None, "same": [low, high]}
        header["models"].setdefault(model, {**header["models"]["admin.logentry"], "fields": {}, "relations": {}})

    return edit


def test_accounts_that_are_not_tracked_are_not_merged_by_somebody_else():
    with override_settings(SYNCHRO_MODELS=[("admin", "logentry")]):
        root = User.objects.db_manager(HQ).create_superuser("root", password="x")
        at(LogEntry).create(user=root, action_flag=1, object_repr="by root")
        take(write(HQ)[0], "default")
        own, eve = Node.objects.using(HQ).get(own=True).ident, User.objects.create_user("eve")
        LogEntry.objects.create(user=eve, action_flag=1, object_repr="by eve")
        take(write()[0])
        LogEntry.objects.create(user=eve, action_flag=1, object_repr="more")
        data, _ = write()
        report = take(forged(data, same(f"{own}/{root.pk}", f"{Node.objects.get(own=True).ident}/{eve.pk}")))
        assert "no bundle makes two of them one" in report.held_changes[0].reason
        assert set(at(User).values_list("username", "is_superuser")) == {("root", True), ("eve", False)}
        assert set(at(LogEntry).values_list("user__username", "object_repr")) == {
            ("root", "by root"), ("eve", "by eve"),
        }  # fmt: skip


def test_what_a_file_says_cannot_steer_the_terminal(tmp_path, capsys):
    Parcel.objects.create(code="x")
    data, _ = write()

    def edit(header, found):
        found[0]["id"] = found[0]["id"] + "\x1b[2J"
        found[0]["fields"]["code"] = "x\x1b]0;pwned\x07"
        found[0]["key"] = None
        found[0]["fields"]["weight"] = "no\x1b[31mnumber"
        header["node"]["name"] = "of\x1b[2Jfice"

    path = tmp_path / "bad\x1b[2J.jsonl.zst"
    path.write_bytes(forged(data, edit))
    for options in ({"dry_run": True, "verbosity": 2}, {"verbosity": 2}):
        call_command("synchro_import", str(path), database=HQ, any_destination=True, **options)
    call_command("synchro_status", database=HQ, verbosity=2)
    call_command("synchro_conflicts", "list", all=True, database=HQ)
    told = capsys.readouterr()
    assert "held" in told.out
    assert "\x1b" not in told.out + told.err


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="this system has no named pipes")
def test_a_folder_may_hold_what_is_no_file(tmp_path):
    Tag.objects.create(name="a")
    (tmp_path / "good.jsonl.zst").write_bytes(write()[0])
    os.mkfifo(tmp_path / "pipe.jsonl.zst")
    (tmp_path / "zero.jsonl.zst").symlink_to("/dev/zero")
    (tmp_path / "folder.jsonl.zst").mkdir()
    (report,) = import_bundles([tmp_path], any_destination=True, using=HQ)
    assert report.added == 1


def test_a_request_is_not_written_through_a_link_on_the_medium(tmp_path):
    carry()
    Tag.objects.create(name="a")
    carry()
    request = everything_since("office", HQ)
    precious = tmp_path / "precious"
    precious.write_text("keep me")
    stick = tmp_path / "stick"
    stick.mkdir()
    (stick / f"{request.by}-asks-{request.of}.request.json").symlink_to(precious)
    path = write_request(request, stick)
    assert precious.read_text() == "keep me"
    assert path.is_file()
    assert not path.is_symlink()


def test_an_export_is_not_written_through_a_link_on_the_medium(tmp_path):
    Tag.objects.create(name="a")
    stick = tmp_path / "stick"
    stick.mkdir()
    _data, report = write(to=HQ)
    precious = tmp_path / "precious"
    (stick / f"{report.node}-000001-000001.jsonl.zst").symlink_to(precious)
    with pytest.raises(CommandError, match="is another bundle or something else"):
        call_command("synchro_export", "-o", str(stick), "--to", "other", verbosity=0)
    assert not precious.exists()


def test_errors_that_quote_a_file_cannot_steer_the_terminal(tmp_path):
    Parcel.objects.create(code="x")

    def edit(header, found):
        found[0]["id"] += "\x1b[2J"
        found[0]["fields"]["weight"] = "no\x1b[31mnumber"

    path = tmp_path / "bad.jsonl.zst"
    path.write_bytes(forged(write()[0], edit))
    with pytest.raises(CommandError) as refused:
        call_command("synchro_import", str(path), database=HQ, any_destination=True, strict=True)
    assert "shop.parcel" in str(refused.value)
    assert "\x1b" not in str(refused.value)


def accepting(*models):
    return override_settings(SYNCHRO_ACCEPT={"office": list(models)})


def test_a_child_that_is_accepted_does_not_open_its_parents_rows():
    place = at(Place).create(name="ours")
    carry(HQ, "default")
    Restaurant.objects.create(name="theirs", stars=1)
    data, _ = write()
    own = Node.objects.using(HQ).get(own=True).ident

    def edit(header, found):
        found[-1]["id"] = f"{own}/{place.pk}"

    with accepting(("shop", "restaurant")):
        report = take(forged(data, edit))
    assert report.held == 1
    assert "shop.place is not accepted from office" in report.held_changes[0].reason
    place.refresh_from_db()
    assert place.name == "ours"


def test_merges_of_what_is_not_accepted_are_held():
    for name in "ab":
        at(Tag).create(name=name)
    carry(HQ, "default")
    Tag.objects.create(name="c")
    data, _ = write()
    own = Node.objects.using(HQ).get(own=True).ident
    first, second = sorted(f"{own}/{tag.pk}" for tag in at(Tag))

    def edit(header, found):
        kept = {name: found[-1][name] for name in ("type", "seq", "date", "base")}
        found[-1] = {**kept, "action": "same", "model": "shop.tag", "id": first, "key": None, "same": [first, second]}

    with accepting(("shop", "country")):
        assert take(forged(data, edit)).held == 1
    assert at(Tag).count() == 2


def test_a_deletion_does_not_take_along_what_its_maker_may_not_touch():
    city = at(City).create(name="ours", country=at(Country).create(code="PL"))
    carry(HQ, "default")
    Country.objects.get().delete()
    data, _ = write()
    with accepting(("shop", "country")):
        take(data)
    assert at(City).filter(pk=city.pk).exists()
    assert at(Country).count() == 1


def test_a_name_that_looks_alike_is_another_name():
    Tag.objects.create(name="a")
    data, _ = write()

    def named(name):
        def edit(header, found):
            header["node"]["id"] = name + header["node"]["id"][len("office") :]

        return edit

    for name in ("Office", "OFFICE", "office.", "office-1"):
        with rolled_back(HQ), accepting(("shop", "tag")):
            assert take(forged(data, named(name))).held == 1
    with pytest.raises(RecordError):  # of another alphabet
        take(forged(data, named("\u043effice")))
