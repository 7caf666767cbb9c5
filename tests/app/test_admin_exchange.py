"""Exporting and importing in the admin: what is asked, shown, done and refused, and what is left behind."""

import re

import pytest
from django.contrib import admin
from django.contrib.auth.models import Permission, User
from django.core.files.uploadedfile import SimpleUploadedFile
from django.test import Client
from django.urls import path

from changelog_format import open_bundle
from synchro import conflicts
from synchro.models import Bundle, ChangeLog, Destination, Node
from tests.app.deploy import carry, rolled_back, take, write
from tests.project.shop.models import Country, Tag

urlpatterns = [path("admin/", admin.site.urls)]

pytestmark = [pytest.mark.django_db(databases=["default", "hq", "ship"]), pytest.mark.urls(__name__)]

EXPORT, IMPORT = "/admin/synchro/destination/export/", "/admin/synchro/destination/import/"
PAGE = "/admin/synchro/destination/synchronization/"


def person(name, *permissions, **kwargs):
    made = User.objects.create_user(name, password="x", **{"is_staff": True, **kwargs})
    made.user_permissions.set(Permission.objects.filter(codename__in=permissions, content_type__app_label="synchro"))
    browser = Client()
    browser.force_login(made)
    return browser


@pytest.fixture
def nurse():
    return person("nurse", "can_export", "can_import", "view_bundle")


@pytest.fixture(autouse=True)
def folder(settings, tmp_path):
    settings.SYNCHRO_ADMIN_FOLDER = tmp_path / "private"
    return tmp_path / "private"


def text(response):
    assert response.status_code == 200, response
    return re.sub(r"\s+", " ", re.sub(r"<[^>]+>", " ", response.content.decode()))


def waiting(folder):
    return list((folder / "in").glob("*"))


def upload(browser, data, name="stick.jsonl.zst", **options):
    return browser.post(IMPORT, {"file": SimpleUploadedFile(name, data), **options}, follow=True)


def note(response):
    return re.search(r'name="note" value="([^"]+)"', response.content.decode()).group(1)


def confirm(browser, preview, how="confirm"):
    return browser.post(IMPORT, {"note": note(preview), how: "x"}, follow=True)


@pytest.fixture
def theirs():
    Tag.objects.using("hq").create(name="theirs")
    return write("hq", to="office")[0]


# --- who gets in ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("page", "permission"), [(EXPORT, "can_export"), (IMPORT, "can_import")])
def test_each_page_has_a_permission_of_its_own(page, permission, theirs):
    others = {"can_export", "can_import", "can_resolve", "can_synchronize", "can_reset_synchro"} - {permission}
    browser = person("other", *others)
    assert browser.get(page).status_code == 403
    assert browser.post(page, {"to": "default", "file": SimpleUploadedFile("x", theirs)}).status_code == 403
    assert not Destination.objects.exists()
    assert person("right", permission).get(page).status_code == 200
    assert Client().get(page).url.startswith("/admin/login/")
    assert person("no staff", permission, is_staff=False).get(page).status_code == 302


def test_the_page_offers_what_one_may_do():
    assert "Export…" in text(person("one", "can_export").get(PAGE))
    page = text(person("two", "can_import").get(PAGE))
    assert "Import…" in page
    assert "Export…" not in page
    assert "Synchronize" not in page.partition("Bundles")[2]


def test_forgery_is_refused(theirs):
    browser = Client(enforce_csrf_checks=True)
    person("nurse", "can_export", "can_import")
    browser.force_login(User.objects.get())
    assert browser.post(EXPORT, {"to": "default"}).status_code == 403
    assert browser.post(IMPORT, {"file": SimpleUploadedFile("x", theirs)}).status_code == 403
    assert not Bundle.objects.exists()


# --- exporting --------------------------------------------------------------------------------------------------------


def test_an_export_is_written_and_downloaded(nurse):
    Tag.objects.create(name="red")
    done = nurse.post(EXPORT, {"to": "", "other": "hq"}, follow=True)
    assert "A bundle with 1 record was written for hq." in text(done)
    bundle = Bundle.objects.get()
    response = nurse.get(f"/admin/synchro/bundle/{bundle.pk}/download/")
    data = b"".join(response.streaming_content)
    assert take(data, "hq").added == 1
    assert Destination.objects.get().name == "hq"
    assert "Nothing changed since the last export" in text(nurse.post(EXPORT, {"to": "hq"}, follow=True))


def test_an_export_looks_for_what_was_not_recorded(nurse):
    Tag.objects.bulk_create([Tag(name="silent")])
    assert "Nothing changed" in text(nurse.post(EXPORT, {"to": "default"}, follow=True))
    assert "1 record" in text(nurse.post(EXPORT, {"to": "default", "scan": "on"}, follow=True))


def test_an_export_needs_a_destination_that_can_be_one(nurse):
    Tag.objects.create(name="red")
    assert "Write the name of the destination." in text(nurse.post(EXPORT, {"to": "", "other": ""}))
    assert "is no name for a destination" in text(nurse.post(EXPORT, {"to": "", "other": "a\u200bb"}))
    assert not Bundle.objects.exists()


def test_a_folder_that_others_can_read_is_not_used(nurse, folder):
    Tag.objects.create(name="red")
    folder.mkdir(mode=0o755)
    assert "is not private" in text(nurse.post(EXPORT, {"to": "default"}, follow=True))
    assert not Bundle.objects.exists()


# --- importing --------------------------------------------------------------------------------------------------------


def test_an_import_is_shown_and_then_done(nurse, theirs, folder):
    preview = upload(nurse, theirs)
    page = text(preview)
    assert "complete and undamaged" in page
    assert "Added 1" in page
    assert not Tag.objects.exists()
    assert len(waiting(folder)) == 1
    assert "was imported. Added: 1" in text(confirm(nurse, preview))
    assert Tag.objects.get().name == "theirs"
    assert Bundle.objects.get().file == "stick.jsonl.zst"
    assert waiting(folder) == []


def test_an_import_can_be_called_off(nurse, theirs, folder):
    assert "Nothing was imported." in text(confirm(nurse, upload(nurse, theirs), "cancel"))
    assert not Tag.objects.exists()
    assert waiting(folder) == []


def test_a_plan_is_refused_when_something_moved(nurse, theirs, folder):
    preview = upload(nurse, theirs)
    Tag.objects.create(name="meanwhile")
    assert "Something changed here since the preview" in text(confirm(nurse, preview))
    assert [tag.name for tag in Tag.objects.all()] == ["meanwhile"]
    assert waiting(folder) == []


def test_a_plan_is_carried_out_once(nurse, theirs):
    preview = upload(nurse, theirs)
    confirm(nurse, preview)
    number = ChangeLog.objects.count()
    assert "not there any more" in text(confirm(nurse, preview))
    assert ChangeLog.objects.count() == number


def test_what_lies_there_by_now_must_be_what_was_shown(nurse, theirs, folder):
    preview = upload(nurse, theirs)
    (file,) = waiting(folder)
    Tag.objects.using("hq").create(name="exchanged")
    file.write_bytes(write("hq", to="office", since=0)[0])
    assert "not there any more" in text(confirm(nurse, preview))
    assert not Tag.objects.exists()


def test_a_note_is_its_owners_and_cannot_be_made(nurse, theirs):
    preview = upload(nurse, theirs)
    other = person("other", "can_import")
    assert "not there any more" in text(confirm(other, preview))
    assert "not there any more" in text(nurse.post(IMPORT, {"note": "x:y:z", "confirm": "x"}, follow=True))
    assert not Tag.objects.exists()
    assert "was imported" in text(confirm(nurse, preview))  # it was not taken away


def test_a_second_upload_replaces_the_first(nurse, theirs, folder):
    upload(nurse, theirs)
    upload(nurse, theirs)
    assert len(waiting(folder)) == 1


@pytest.mark.parametrize("damage", [lambda data: data[:-7], lambda data: b"no bundle", lambda data: data + b"x"])
def test_a_broken_file_is_refused_in_one_sentence(nurse, theirs, folder, damage):
    assert "The file was refused:" in text(upload(nurse, damage(theirs)))
    assert not Tag.objects.exists()
    assert waiting(folder) == []


def test_an_empty_or_missing_file_is_told(nurse):
    assert "The submitted file is empty." in text(upload(nurse, b""))
    assert "This field is required." in text(nurse.post(IMPORT, {}))


def test_a_large_file_is_refused(nurse, theirs, settings, folder):
    settings.SYNCHRO_UPLOAD_LIMIT = 10
    assert "too large" in text(upload(nurse, theirs))
    assert "too large" in text(upload(nurse, b"x" * 200_000))
    assert not folder.exists() or waiting(folder) == []


def test_a_gap_is_told_and_can_be_allowed(nurse):
    Tag.objects.using("hq").create(name="lost")
    write("hq", to="office")
    Tag.objects.using("hq").create(name="theirs")
    data = write("hq", to="office")[0]
    assert "missing" in text(upload(nurse, data))
    assert "was imported" in text(confirm(nurse, upload(nurse, data, allow_gap="on")))
    assert [tag.name for tag in Tag.objects.all()] == ["theirs"]


@pytest.mark.parametrize(
    ("options", "told"),
    [({}, "This one can be taken without them"), ({"allow_gap": "on", "on_conflict": "fail"}, "other ways to decide")],
)
def test_what_is_to_be_done_is_told_in_the_words_of_the_page(nurse, options, told):
    tag = Country.objects.using("hq").create(code="PL", name="Poland")
    carry("hq", "default")
    write("hq", to="default")
    tag.name = "Polska"
    tag.save()
    write("hq", to="office")
    tag.name = "RP"
    tag.save()
    ours = Country.objects.get()
    ours.name = "ours"
    ours.save()
    page = text(upload(nurse, write("hq", to="office")[0], **options))
    assert told in page
    assert "--" not in page


def test_whom_a_bundle_is_for_is_told_in_the_words_of_the_page(nurse):
    Tag.objects.using("hq").create(name="red")
    page = text(upload(nurse, write("hq", to="ship")[0]))
    assert "If it is meant for this place all the same" in page
    assert "--" not in page


def test_the_policy_is_that_of_the_form(nurse):
    poland = Country.objects.create(code="PL", name="Poland")
    carry("default", "hq")
    Country.objects.using("hq").update(name="Polska")
    theirs = Country.objects.using("hq").get()
    theirs.save()
    poland.name = "Rzeczpospolita"
    poland.save()
    preview = upload(nurse, write("hq", to="office")[0], on_conflict="hold")
    assert "Conflicts 1" in text(preview)
    assert not conflicts.conflicts()
    confirm(nurse, preview)
    assert len(conflicts.conflicts()) == 1
    assert "Conflicts that wait for a decision 1" in text(nurse.get(PAGE))


def test_an_own_bundle_does_nothing(nurse):
    Tag.objects.create(name="red")
    data = write(to="hq")[0]
    preview = upload(nurse, data)
    assert "there is nothing to do" in text(preview)
    assert "there was nothing to do" in text(confirm(nurse, preview))


def test_a_name_with_a_path_is_only_a_name(nurse, theirs):
    confirm(nurse, upload(nurse, theirs, name="../../etc/passwd"))
    assert Bundle.objects.get().file == "passwd"


def test_what_is_exported_is_a_whole_bundle(nurse, folder):
    Tag.objects.create(name="red")
    nurse.post(EXPORT, {"to": "default"})
    (file,) = (folder / "out").glob("*")
    with open_bundle(file) as reader:
        assert len(list(reader)) == 1
    assert file.stat().st_mode & 0o077 == 0 or (folder.stat().st_mode & 0o077) == 0


def test_a_destination_that_is_known_is_chosen_at_first(nurse):
    Tag.objects.create(name="red")
    write(to="hq")
    assert '<option value="hq" selected>' in nurse.get(EXPORT).content.decode()


def test_a_restored_backup_is_imported_and_says_its_new_id(nurse):
    Tag.objects.create(name="before")
    carry()
    carry("hq", "default")
    with rolled_back("default"):
        Tag.objects.create(name="lost")
        carry()
    old = Node.objects.get(current=True).ident
    Tag.objects.create(name="after")
    preview = upload(nurse, write("hq", to="office")[0])
    assert "was restored from a backup" in text(preview)
    assert Node.objects.get(current=True).ident == old
    page = text(confirm(nurse, preview))
    new = Node.objects.get(current=True).ident
    assert new != old
    assert f"under a new id, {new}." in page
    assert {tag.name for tag in Tag.objects.all()} == {"before", "lost", "after"}
