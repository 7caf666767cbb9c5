"""The admin in a real browser, Chromium, without scripts: the main ways, and that nothing is wider than the window.

`SYNCHRO_SCREENSHOTS` names a folder for pictures of every page.
"""

import os
import shutil
from pathlib import Path

import pytest
from django.contrib import admin
from django.contrib.auth.models import User
from django.contrib.staticfiles.views import serve
from django.urls import path, re_path, reverse

from synchro import acting
from synchro.models import Bundle, Conflict
from tests.app.deploy import carry, take, write
from tests.project.shop.models import City, Country, Note, Person, Tag

webdriver = pytest.importorskip("selenium.webdriver", reason="needs selenium")
pytest.importorskip("selenium.webdriver.support.ui", reason="needs selenium")

pytestmark = [
    pytest.mark.slow,
    pytest.mark.django_db(databases=["default", "hq", "ship"], transaction=True),
    pytest.mark.urls(__name__),
    pytest.mark.skipif(
        not (shutil.which("chromium") and shutil.which("chromedriver")), reason="needs chromium and chromedriver"
    ),
    # Its own threads and sockets are closed when they are collected.
    pytest.mark.filterwarnings("ignore::ResourceWarning", "ignore::pytest.PytestUnraisableExceptionWarning"),
]

urlpatterns = [
    path("admin/", admin.site.urls),
    re_path(r"^styles/(?P<path>.*)$", serve, {"insecure": True}),
]

SCREENS = {"desktop": (1280, 900), "phone": (390, 844)}


@pytest.fixture
def driver(tmp_path):
    options = webdriver.ChromeOptions()
    options.binary_location = shutil.which("chromium")
    for argument in ("--headless=new", "--no-sandbox", "--disable-dev-shm-usage", f"--user-data-dir={tmp_path / 'c'}"):
        options.add_argument(argument)
    options.add_experimental_option(
        "prefs",
        {"download.default_directory": str(tmp_path), "profile.managed_default_content_settings.javascript": 2},
    )
    made = webdriver.Chrome(options=options, service=webdriver.ChromeService(shutil.which("chromedriver")))
    yield made
    made.quit()


@pytest.fixture
def browser(driver, client, live_server, settings):
    settings.STATIC_URL = "/styles/"  # at the other address the server looks for collected files
    boss = User.objects.create_superuser("a.long.name.of.somebody@hospital-of-the-southern-islands.example")
    client.force_login(boss)
    driver.get(f"{live_server.url}/styles/admin/css/base.css")
    driver.add_cookie({"name": "sessionid", "value": client.cookies["sessionid"].value, "path": "/"})
    return driver


@pytest.fixture(autouse=True)
def folder(settings, tmp_path):
    settings.SYNCHRO_ADMIN_FOLDER = tmp_path / "private"


@pytest.fixture
def filled():
    """A log with long values, a conflict that waits, bundles both ways; the page of each kind."""
    with acting("ann", reason="round on ward 3, told by telephone from the other side of the island"):
        poland = Country.objects.create(code="PL", name="Poland")
        City.objects.create(name="Wrocław", country=poland, population=5, extra={"long": ["value"] * 30})
        note = Note.objects.create(char="x" * 200, text="A long text. " * 60, done=False)
        note.text, note.done, note.integer = "Another long text. " * 60, True, 7
        note.save()
        Person.objects.create(name="Ola").tags.add(Tag.objects.create(name="blue"))
    carry("default", "hq")
    theirs = Note.objects.using("hq").get()
    theirs.text, theirs.char, theirs.email = "What they wrote. " * 40, "y" * 150, "b@example.org"
    with acting("ben", reason="spelling"):
        theirs.save()
    note.text, note.integer = "What we wrote. " * 40, 8
    with acting("ann"):
        note.save()
    take(write("hq")[0], "default", on_conflict="hold")
    conflict = Conflict.objects.get()
    return {
        "index": "/admin/",
        "synchronization": "/admin/synchro/destination/synchronization/",
        "log": "/admin/synchro/changelog/",
        "change": f"/admin/synchro/changelog/{note.pk}/change/",
        "history": reverse("admin:synchro_history", args=("shop.note", note.pk)),
        "bundles": "/admin/synchro/bundle/",
        "bundle": f"/admin/synchro/bundle/{Bundle.objects.first().pk}/change/",
        "conflicts": "/admin/synchro/conflict/",
        "conflict": f"/admin/synchro/conflict/{conflict.pk}/change/",
        "nodes": "/admin/synchro/node/",
        "destinations": "/admin/synchro/destination/",
        "held": "/admin/synchro/held/",
        "export": "/admin/synchro/destination/export/",
        "import": "/admin/synchro/destination/import/",
    }


def seen(browser, text):
    """Waits for the next page."""
    webdriver.support.ui.WebDriverWait(browser, 10).until(lambda _: text in browser.page_source, f"no {text!r}")


def look(browser, name):
    """Too wide is what has to be scrolled sideways; tables in a box of their own may be."""
    wide, window = browser.execute_cdp_cmd(
        "Runtime.evaluate",
        {
            "expression": "[document.documentElement.scrollWidth, document.documentElement.clientWidth]",
            "returnByValue": True,
        },
    )["result"]["value"]
    if "SYNCHRO_SCREENSHOTS" in os.environ:
        target = Path(os.environ["SYNCHRO_SCREENSHOTS"])
        target.mkdir(parents=True, exist_ok=True)
        browser.save_screenshot(str(target / f"{name}.png"))
    return wide <= window + 1


@pytest.mark.parametrize(
    ("screen", "scheme", "language"),
    [("desktop", "light", "en"), ("desktop", "dark", "de"), ("phone", "light", "de"), ("phone", "dark", "en")],
)
def test_every_page_fits_its_window(browser, live_server, filled, settings, screen, scheme, language):
    settings.LANGUAGE_CODE = language
    width, height = SCREENS[screen]
    browser.execute_cdp_cmd(
        "Emulation.setDeviceMetricsOverride",
        {"width": width, "height": height, "deviceScaleFactor": 1, "mobile": screen == "phone"},
    )
    browser.execute_cdp_cmd(
        "Emulation.setEmulatedMedia", {"features": [{"name": "prefers-color-scheme", "value": scheme}]}
    )
    too_wide = []
    for name, address in filled.items():
        browser.get(live_server.url + address)
        assert "Error" not in browser.title, browser.page_source[:2000]
        if not look(browser, f"{screen}-{scheme}-{language}-{name}"):
            too_wide.append(name)
    assert too_wide == []


def test_a_bundle_goes_out_and_comes_in(browser, live_server, tmp_path):
    by = webdriver.common.by.By
    Tag.objects.create(name="red")
    browser.get(f"{live_server.url}/admin/synchro/destination/export/")
    browser.find_element(by.CSS_SELECTOR, "input.default").click()
    seen(browser, "was written for default")
    data, _ = write(to="default", since=0)
    Tag.objects.using("hq").create(name="theirs")
    file = tmp_path / "stick.jsonl.zst"
    file.write_bytes(write("hq", to="office")[0])
    assert data
    browser.get(f"{live_server.url}/admin/synchro/destination/import/")
    browser.find_element(by.NAME, "file").send_keys(str(file))
    browser.find_element(by.CSS_SELECTOR, "input.default").click()
    seen(browser, "complete and undamaged")
    look(browser, "preview")
    assert not Tag.objects.filter(name="theirs").exists()
    browser.find_element(by.NAME, "confirm").click()
    seen(browser, "was imported")
    assert Tag.objects.filter(name="theirs").exists()


def test_a_conflict_is_decided_by_keyboard(browser, live_server, filled):
    by, keys = webdriver.common.by.By, webdriver.common.keys.Keys
    browser.get(live_server.url + filled["conflict"])
    browser.find_element(by.CSS_SELECTOR, "button[value=take]").send_keys(keys.ENTER)
    seen(browser, "Are you sure?")
    look(browser, "confirm")
    browser.find_element(by.NAME, "confirm").send_keys(keys.ENTER)
    seen(browser, "It is decided.")
    assert Note.objects.get().char == "y" * 150
