"""The page for operators at `synchro:synchro`, and the link to it in the admin."""

import datetime as dt
import re
import warnings
from unittest import mock

import pytest
from django.contrib import admin
from django.contrib.auth.models import Permission, User
from django.contrib.messages import get_messages
from django.core.cache import cache
from django.core.exceptions import ImproperlyConfigured
from django.db import DatabaseError, connections, transaction
from django.test import Client, RequestFactory, override_settings
from django.urls import include, path, reverse
from django.utils import timezone

from synchro import changelog, reset_synchro
from synchro.admin import add_link
from synchro.errors import SynchroError
from synchro.exporting import export_bundle
from synchro.import_report import HeldChange
from synchro.models import ChangeLog, Destination, Held, options
from tests.project.plain.models import Color
from tests.project.shop.models import Car, Tag

urlpatterns = [path("admin/", admin.site.urls), path("synchro/", include("synchro.urls", "synchro"))]

NOTHING = "No changes since last synchronization."
PAGE = "/synchro/"
INDEX = "/admin/"

pytestmark = [pytest.mark.django_db(databases=["default", "hq", "ship"]), pytest.mark.urls(__name__)]


@pytest.fixture(autouse=True)
def _fresh_options():
    """dbsettings goes on caching what a test wrote and rolled back."""
    cache.clear()


@pytest.fixture
def run():
    with mock.patch(
        "synchro.admin.synchronization.synchronize", return_value=mock.Mock(held=0, held_changes=())
    ) as function:
        yield function


@pytest.fixture
def remote(settings):
    settings.SYNCHRO_REMOTE = "hq"


def user(*permissions, **kwargs):
    made = User.objects.create_user("ann", password="x", **{"is_staff": True, **kwargs})
    wanted = Permission.objects.filter(codename__in=permissions, content_type__app_label="synchro")
    assert len(wanted) == len(permissions)
    made.user_permissions.set(wanted)
    return made


@pytest.fixture
def browser():
    return client(user("can_synchronize", "can_reset_synchro"))


def client(someone, **kwargs):
    made = Client(**kwargs)
    made.force_login(someone)
    return made


def text(response):
    return re.sub(r"\s+", " ", response.content.decode())


def buttons(response):
    return re.findall(r'<input type="submit" name="(\w+)"', response.content.decode())


def told(response):
    """The messages that the next page shows, each with its level."""
    return [(message.level_tag, str(message)) for message in get_messages(response.wsgi_request)]


def facts(response):
    rows = re.findall(r'<th scope="row">(.*?)</th> <td>(.*?)</td>', text(response))
    return {name: re.sub(r"<.*?>", "", value) for name, value in rows}


# --- who gets in ------------------------------------------------------------------------------------------------------


def test_strangers_are_sent_to_the_login_of_the_admin(run):
    for method in ("get", "post"):
        response = getattr(Client(), method)(PAGE, {"synchro": "x"} if method == "post" else {})
        assert response.status_code == 302
        assert response.url == f"/admin/login/?next={PAGE}"
    run.assert_not_called()


def test_no_one_but_staff_is_let_in_whatever_the_permissions(run):
    browser = client(user("can_synchronize", "can_reset_synchro", is_staff=False))
    assert browser.get(PAGE).url.startswith("/admin/login/")
    assert browser.post(PAGE, {"synchro": "x"}).url.startswith("/admin/login/")
    run.assert_not_called()


def test_staff_without_permission_is_refused(run):
    browser = client(user("change_node"))
    assert browser.get(PAGE).status_code == 403
    assert browser.post(PAGE, {"synchro": "x"}).status_code == 403
    assert browser.post(PAGE, {"reset": "x"}).status_code == 403
    run.assert_not_called()


def test_each_button_has_a_permission_of_its_own(run, remote):
    browser = client(user("can_synchronize"))
    assert buttons(browser.get(PAGE)) == ["synchro"]
    Tag.objects.create(name="kept")
    assert browser.post(PAGE, {"reset": "x"}).status_code == 403
    assert ChangeLog.objects.count() == 1
    assert browser.post(PAGE, {"synchro": "x"}).status_code == 302
    run.assert_called_once_with(using="default")


def test_the_permission_to_reset_does_not_let_one_synchronize(run, remote):
    browser = client(user("can_reset_synchro"))
    page = browser.get(PAGE)
    assert buttons(page) == ["reset"]
    assert "You do not have the permission to synchronize." in text(page)
    assert browser.post(PAGE, {"synchro": "x"}).status_code == 403
    run.assert_not_called()
    Tag.objects.create(name="forgotten")
    assert browser.post(PAGE, {"reset": "x"}).status_code == 302
    assert not ChangeLog.objects.exists()


def test_superusers_may_do_both(remote):
    assert buttons(client(user(is_superuser=True)).get(PAGE)) == ["synchro", "reset"]


# --- how it is asked --------------------------------------------------------------------------------------------------


def test_getting_the_page_does_nothing(run, remote, browser):
    Tag.objects.create(name="x")
    for method in (browser.get, browser.head):
        assert method(PAGE, {"synchro": "x", "reset": "x"}).status_code == 200
    run.assert_not_called()
    assert list(ChangeLog.objects.values_list("seq", flat=True)) == [None]


@pytest.mark.parametrize("method", ["put", "patch", "delete"])
def test_other_methods_are_not_allowed(run, browser, method):
    assert getattr(browser, method)(PAGE).status_code == 405
    run.assert_not_called()


def test_a_post_needs_the_token_of_the_form(run, remote):
    browser = client(user("can_synchronize"), enforce_csrf_checks=True)
    assert browser.post(PAGE, {"synchro": "x"}).status_code == 403
    run.assert_not_called()
    token = re.search(r'name="csrfmiddlewaretoken" value="(\w+)"', browser.get(PAGE).content.decode())[1]
    assert browser.post(PAGE, {"synchro": "x", "csrfmiddlewaretoken": token}).status_code == 302
    run.assert_called_once()


def test_a_post_that_asks_for_nothing_known_is_a_bad_request(run, browser):
    assert browser.post(PAGE, {"delete": "x"}).status_code == 400
    run.assert_not_called()


def test_the_page_is_not_kept_by_caches(browser):
    assert "no-cache" in browser.get(PAGE)["Cache-Control"]


# --- synchronizing ----------------------------------------------------------------------------------------------------


def test_synchronizing_comes_back_with_a_message(run, remote, browser):
    response = browser.post(PAGE, {"synchro": "Synchronize"})
    assert (response.status_code, response.url) == (302, PAGE)
    assert told(response) == [("success", "Synchronization performed successfully.")]
    assert '<li class="success">Synchronization performed successfully.</li>' in text(browser.get(PAGE))
    assert "successfully" not in text(browser.get(PAGE))


def test_what_remote_could_not_take_is_said(run, remote, browser):
    held = HeldChange(model="shop.car", id="office-1/1", reason="<b>clash</b>")
    run.return_value = mock.Mock(held=2, held_changes=(held,))
    _, second, third = told(browser.post(PAGE, {"synchro": "x"}))
    assert second == ("warning", "2 changes could not be applied to REMOTE yet; they will be tried again each time.")
    assert third == ("warning", "Not applied to REMOTE yet: shop.car office-1/1: <b>clash</b>")
    assert "&lt;b&gt;clash&lt;/b&gt;" in text(browser.get(PAGE))


def test_what_remote_still_cannot_take_is_said_without_new_changes(remote, browser):
    Car.objects.using("hq").create(plate="1", color=Color.objects.using("hq").create(name="red"))
    Car.objects.create(plate="1")
    for level, first in (("success", "Synchronization performed successfully."), ("info", NOTHING)):
        said = told(browser.post(PAGE, {"synchro": "x"}))
        assert said[0] == (level, first)
        assert [level for level, _ in said[1:]] == ["warning", "warning"]
        browser.get(PAGE)  # shows them, once


def test_synchronizing_without_changes_says_so(run, remote, browser):
    run.return_value = None
    assert told(browser.post(PAGE, {"synchro": "x"})) == [("info", "No changes since last synchronization.")]


@pytest.mark.parametrize(
    ("error", "sentence"),
    [
        (SynchroError("The clock is wrong.", hint="Set it right."), "The clock is wrong. Set it right."),
        (ImproperlyConfigured("There is no REMOTE."), "There is no REMOTE."),
        (DatabaseError("disk full"), "An error occurred: disk full (DatabaseError)"),
        (ValueError("a handler of the project"), "An error occurred: a handler of the project (ValueError)"),
    ],
    ids=lambda value: type(value).__name__,
)
def test_errors_become_messages_and_go_to_the_log(run, remote, browser, caplog, error, sentence):
    run.side_effect = error
    response = browser.post(PAGE, {"synchro": "x"})
    assert (response.status_code, response.url) == (302, PAGE)
    assert told(response) == [("error", sentence)]
    (record,) = caplog.records
    assert record.exc_info[1] is error


def test_what_errors_say_is_escaped(run, remote, browser):
    run.side_effect = SynchroError("<script>")
    assert '<li class="error">&lt;script&gt;</li>' in text(browser.post(PAGE, {"synchro": "x"}, follow=True))


@pytest.mark.parametrize(("debug", "synchro_debug"), [(True, True), (True, False), (False, True)])
def test_errors_are_raised_with_both_debug_settings(run, remote, browser, settings, debug, synchro_debug):
    settings.DEBUG, settings.SYNCHRO_DEBUG = debug, synchro_debug
    run.side_effect = ValueError("a handler")
    if debug and synchro_debug:
        with pytest.raises(ValueError, match="a handler"):
            browser.post(PAGE, {"synchro": "x"})
    else:
        assert browser.post(PAGE, {"synchro": "x"}).status_code == 302


# --- resetting --------------------------------------------------------------------------------------------------------


def test_resetting_empties_the_log_and_comes_back_with_a_message(browser):
    Tag.objects.create(name="x")
    response = browser.post(PAGE, {"reset": "Reset synchronization"})
    assert (response.status_code, response.url) == (302, PAGE)
    assert told(response) == [("success", "Synchronization has been reset.")]
    assert not ChangeLog.objects.exists()
    assert facts(browser.get(PAGE))["Changes waiting"] == "0"


def test_resetting_can_be_forbidden(browser, settings):
    settings.SYNCHRO_ALLOW_RESET = False
    Tag.objects.create(name="x")
    page = browser.get(PAGE)
    assert buttons(page) == []
    assert "Reset" not in text(page)
    assert browser.post(PAGE, {"reset": "x"}).status_code == 403
    assert ChangeLog.objects.count() == 1


def test_an_error_while_resetting_becomes_a_message(browser):
    with mock.patch("synchro.admin.synchronization.reset_synchro", side_effect=SynchroError("The clock is wrong.")):
        assert told(browser.post(PAGE, {"reset": "x"})) == [("error", "The clock is wrong.")]


# --- what is shown ----------------------------------------------------------------------------------------------------


def test_before_the_first_synchronization(remote, browser):
    page = browser.get(PAGE)
    assert facts(page) == {"Last synchronization": "never", "Remote database": "hq", "Changes waiting": "0"}
    assert buttons(page) == ["synchro", "reset"]
    assert "<title>Synchronization | Django site admin</title>" in text(page)


@pytest.mark.parametrize("use_tz", [True, False])
def test_the_last_synchronization_is_shown_in_local_time(browser, settings, use_tz):
    settings.USE_TZ, settings.TIME_ZONE = use_tz, "Europe/Warsaw"
    options.last_check = dt.datetime(2026, 7, 1, 22, 30, tzinfo=dt.UTC)
    assert facts(browser.get(PAGE))["Last synchronization"] == "July 2, 2026, 12:30 a.m."


def test_dates_are_shown_in_the_reader_s_language(browser, settings):
    settings.LANGUAGE_CODE = "de"
    options.last_check = dt.datetime(2026, 7, 1, 22, 30, tzinfo=dt.UTC)
    assert "1. Juli 2026 22:30" in text(browser.get(PAGE))


def test_what_waits_for_remote(remote, browser, tmp_path):
    Tag.objects.create(name="a")
    Tag.objects.create(name="b")
    assert facts(browser.get(PAGE))["Changes waiting"] == "2"
    export_bundle(tmp_path, to="archive")
    assert facts(browser.get(PAGE))["Changes waiting"] == "2"
    Destination.objects.update_or_create(log_id=ChangeLog.objects.first().log_id, name="hq", defaults={"seq": 1})
    Tag.objects.create(name="c")
    assert facts(browser.get(PAGE))["Changes waiting"] == "2"


def test_without_remote_each_destination_is_shown(browser, tmp_path):
    Tag.objects.create(name="a")
    export_bundle(tmp_path, to="archive")
    Tag.objects.create(name="b")
    shown = facts(browser.get(PAGE))
    assert shown["Remote database"] == "none"
    assert shown["Changes waiting for archive"] == "1"
    assert "Changes waiting" not in shown


def test_nothing_waits_after_a_reset(remote, browser, tmp_path):
    Tag.objects.create(name="a")
    export_bundle(tmp_path)
    reset_synchro()
    assert facts(browser.get(PAGE))["Changes waiting"] == "0"


def test_without_remote_a_sentence_says_why(browser, settings):
    settings.SYNCHRO_REMOTE = None
    page = browser.get(PAGE)
    assert buttons(page) == ["reset"]
    assert "There is no database to synchronize with: SYNCHRO_REMOTE is None." in text(page)


def test_without_the_setting_a_sentence_says_why(browser, settings):
    del settings.SYNCHRO_REMOTE
    with warnings.catch_warnings(action="error"):
        page = browser.get(PAGE)
    assert buttons(page) == ["reset"]
    assert "There is no database to synchronize with: SYNCHRO_REMOTE is not set." in text(page)


def test_with_an_unknown_remote_a_sentence_says_why(browser, settings):
    settings.SYNCHRO_REMOTE = "nowhere"
    page = browser.get(PAGE)
    assert buttons(page) == ["reset"]
    assert "SYNCHRO_REMOTE is &#x27;nowhere&#x27;, but DATABASES has no such alias." in text(page)


def test_without_tables_a_sentence_says_why(browser):
    with mock.patch.object(changelog, "available", return_value=False):
        page = browser.get(PAGE)
    assert page.status_code == 200
    assert "Run “manage.py migrate” first." in text(page)
    assert buttons(page) == []


def test_that_nothing_is_tracked_is_said(browser, settings):
    sentence = "Nothing is tracked: SYNCHRO_MODELS is empty."
    assert sentence not in text(browser.get(PAGE))
    settings.SYNCHRO_MODELS = ()
    assert sentence in text(browser.get(PAGE))


def test_held_changes_are_shown_where_there_are_some(browser):
    assert "Held changes" not in facts(browser.get(PAGE))
    Tag.objects.create(name="x")
    Held.objects.create(change=ChangeLog.objects.get(), reason="A unique clash.", since=timezone.now())
    assert facts(browser.get(PAGE))["Held changes"] == "1"


def test_the_buttons_need_no_script_and_are_described(remote, browser):
    page = browser.get(PAGE).content.decode()
    content = page[page.index('id="content-main"') : page.index("<footer")]
    assert "<script" not in content
    assert " on" not in re.sub(r">[^<]*<", "><", content)
    described = re.findall(r'aria-describedby="([\w-]+)"', content)
    assert len(described) == 2
    assert all(f'id="{each}"' in content for each in described)


# --- transactions -----------------------------------------------------------------------------------------------------


@pytest.mark.django_db(databases=["default", "hq", "ship"], transaction=True)
def test_it_runs_outside_the_transactions_of_requests(run, remote, browser):
    """As with `ATOMIC_REQUESTS` on all databases: sealing refuses to run inside a caller's transaction."""
    seen = {}

    def look(using):
        seen.update((alias, connections[alias].in_atomic_block) for alias in connections)
        with transaction.atomic(using=using, durable=True):
            return mock.Mock(held=0, held_changes=())

    run.side_effect = look
    for alias in connections:
        connections[alias].settings_dict["ATOMIC_REQUESTS"] = True
    try:
        browser.post(PAGE, {"synchro": "x"})
        Tag.objects.create(name="x")
        response = browser.post(PAGE, {"reset": "x"})
    finally:
        for alias in connections:
            connections[alias].settings_dict["ATOMIC_REQUESTS"] = False
    assert [level for level, _ in told(response)] == ["success", "success"]
    assert seen == dict.fromkeys(connections, False)
    assert not ChangeLog.objects.exists()


# --- the admin --------------------------------------------------------------------------------------------------------


def links(response):
    return re.findall(rf'<a href="{PAGE}"[^>]*>([^<]*)</a>', response.content.decode())


@pytest.mark.parametrize("permission", ["can_synchronize", "can_reset_synchro"])
def test_the_index_of_the_admin_links_to_the_page(permission):
    browser = client(user(permission))
    index = browser.get(INDEX)
    assert links(index) == ["Synchro", "Synchronization", "View"]
    assert browser.get(PAGE).status_code == 200


def test_the_sidebar_marks_the_page_as_the_current_one(browser):
    assert 'aria-current="page">Synchronization</a>' in text(browser.get(PAGE))


def test_those_who_may_not_open_the_page_get_no_link():
    assert links(client(user("view_node")).get(INDEX)) == []
    assert links(Client().get("/admin/login/")) == []


@pytest.mark.urls("tests.project.urls")
def test_where_the_page_is_not_included_the_link_leads_below_the_admin():
    browser = client(user(is_superuser=True))
    page = "/admin/synchro/destination/synchronization/"
    assert f'<a href="{page}"' in text(browser.get(INDEX))
    assert "Synchronization" in text(browser.get(page))


def test_the_page_of_another_app_is_left_alone(browser, rf):
    request = rf.get("/")
    request.user = User(is_superuser=True, is_staff=True)
    assert "synchro" not in [app["app_label"] for app in admin.site.get_app_list(request, "auth")]
    assert "synchro" not in [app["app_label"] for app in admin.site.get_app_list(request, app_label="auth")]
    assert [app["app_label"] for app in admin.site.get_app_list(request, "synchro")] == ["synchro"]


class Backwards(admin.AdminSite):
    """Sorts as the admin does not, and has the signature of before Django 4.1."""

    def get_app_list(self, request):
        return sorted(super().get_app_list(request), key=lambda app: app["name"], reverse=True)


@pytest.fixture
def further():
    site = Backwards(name="further")
    for model, model_admin in admin.site._registry.items():
        if model._meta.app_label == "synchro":
            continue
        site.register(model, type(model_admin))
    return site


def listed(site):
    request = RequestFactory().get("/")
    request.user = User(is_superuser=True, is_staff=True)
    with override_settings(ROOT_URLCONF=(path("further/", site.urls), *urlpatterns)):
        return [
            (app["app_label"], [each["object_name"] for each in app["models"]]) for app in site.get_app_list(request)
        ]


def test_a_further_site_gets_the_link_and_keeps_its_order(further):
    before = listed(further)
    assert [app for app, _ in before] == ["sites", "auth"]
    add_link(further)
    assert listed(further) == [*before, ("synchro", ["Synchronization"])]


def test_the_link_stands_among_models_of_synchro_that_a_project_registers(further):
    further.register(ChangeLog)
    before = listed(further)
    assert before[0] == ("synchro", ["ChangeLog"])
    add_link(further)
    assert listed(further) == [("synchro", ["Synchronization", "ChangeLog"]), *before[1:]]


def test_it_works_wherever_things_are_mounted(run, remote, settings, browser):
    settings.ROOT_URLCONF = (
        path("secret/office/", admin.site.urls),
        path("tools/carry/", include("synchro.urls", "carry")),
    )
    page = reverse("synchro:synchro")
    assert page == "/tools/carry/"
    assert Client().get(page).url == f"/secret/office/login/?next={page}"
    assert 'href="/secret/office/"' in text(browser.get(page))
    assert browser.post(page, {"synchro": "x"}).url == page
    assert f'<a href="{page}"' in text(browser.get("/secret/office/"))
