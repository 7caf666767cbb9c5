"""The admin in a real browser, Chromium, without scripts: the main ways, and that nothing is wider than the window.

What is shown is hard: long words, long texts, texts that are written from right to left, HTML.

`SYNCHRO_SCREENSHOTS` names a folder for pictures of every page.
"""

import base64
import os
import shutil
from pathlib import Path

import pytest
from django.contrib import admin
from django.contrib.auth.models import Permission, User
from django.contrib.staticfiles.views import serve
from django.urls import path, re_path, reverse
from django.utils import timezone

from changelog_format import Signer
from changelog_format.keys import public_text, secret_text
from synchro import acting, conflicts, export_bundle
from synchro.admin import register
from synchro.models import Bundle, ChangeLog, Conflict, Destination, Held, Node
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

SITE = admin.AdminSite()
register(SITE)
SITE.register(Person)
urlpatterns = [
    path("admin/", SITE.urls),
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


HTML = "<b onclick=alert(1)>bold</b><script>document.title = 'hacked'</script>"
ARABIC = "مستشفى الجزر الجنوبية، القسم الثالث"


@pytest.fixture
def filled(tmp_path):
    """A log with long values, a conflict that waits, one that does not, bundles both ways; the page of each kind."""
    with acting("ann", reason="round on ward 3, told by telephone from the other side of the island", html=HTML):
        poland = Country.objects.create(code="PL", name="Poland")
        City.objects.create(name="Wrocław", country=poland, population=5, extra={"long": ["value"] * 30})
        City.objects.create(name="W" * 100, country=poland, extra={"html": HTML})
        City.objects.create(name=ARABIC, country=poland)
        note = Note.objects.create(char="x" * 200, text="A long text. " * 60, done=False)
        note.text, note.done, note.integer = "Another long text. " * 60, True, 7
        note.save()
        ola = Person.objects.create(name=HTML)
        ola.tags.add(Tag.objects.create(name=HTML[:50]), Tag.objects.create(name=ARABIC))
    with acting(ARABIC, reason=ARABIC):
        ola.name = ARABIC * 2
        ola.save()
        ola.tags.clear()
    carry("default", "hq")
    theirs = Note.objects.using("hq").get()
    theirs.text, theirs.char, theirs.email = "What they wrote. " * 40, "y" * 150, "b@example.org"
    with acting("ben", reason="spelling"):
        theirs.save()
        City.objects.using("hq").get(name="Wrocław").delete()
        Country.objects.using("hq").create(code="DE", name=HTML)
        Person.objects.using("hq").update(name=HTML)
        Person.objects.using("hq").get().save()
        Person.objects.using("hq").create(name=ARABIC)
    note.text, note.integer = "What we wrote. " * 40, 8
    with acting("ann"):
        note.save()
        City.objects.filter(name="Wrocław").update(population=6)
        City.objects.get(name="Wrocław").save()
        ola.name = "Ola"
        ola.save()
    take(write("hq", to="office-of-the-southern-islands")[0], "default", on_conflict="hold")
    arrived = ChangeLog.objects.filter(imported=True).last()
    Held.objects.create(change=arrived, reason=f"{'long' * 40}: {HTML}", since=timezone.now())
    with acting("boss"):
        conflicts.keep(Conflict.objects.get(model="shop.person").pk, by="boss")
    export_bundle(tmp_path / f"{'long-name-' * 10}.jsonl.zst", to="hq")
    export_bundle(tmp_path / "again.jsonl.zst", to="hq", since=0)
    sent = Bundle.objects.get(file=str(tmp_path / "again.jsonl.zst"))
    gone, received = Bundle.objects.filter(destination="hq").first(), Bundle.objects.get(direction="received")
    waiting = {each.model: each.pk for each in Conflict.objects.filter(held=True)}
    return {
        "index": "/admin/",
        "app": "/admin/synchro/",
        "synchronization": "/admin/synchro/destination/synchronization/",
        "log": "/admin/synchro/changelog/",
        "log-filtered": "/admin/synchro/changelog/?who=ann&q=PL&from=2000-01-01&to=2099-12-31",
        "log-none": "/admin/synchro/changelog/?who=nobody",
        "change": f"/admin/synchro/changelog/{ChangeLog.objects.filter(model='shop.note').first().pk}/change/",
        "object": f"/admin/shop/person/{ola.pk}/change/",
        "history": reverse("admin:synchro_history", args=("shop.note", note.pk)),
        "history-person": reverse("admin:synchro_history", args=("shop.person", ola.pk)),
        "history-none": reverse("admin:synchro_history", args=("shop.person", 987)),
        "bundles": "/admin/synchro/bundle/",
        "bundle": f"/admin/synchro/bundle/{sent.pk}/change/",
        "bundle-gone": f"/admin/synchro/bundle/{gone.pk}/change/",
        "bundle-received": f"/admin/synchro/bundle/{received.pk}/change/",
        "conflicts": "/admin/synchro/conflict/",
        "conflicts-all": "/admin/synchro/conflict/?state=all",
        "conflict": f"/admin/synchro/conflict/{waiting['shop.note']}/change/",
        "conflict-deleted": f"/admin/synchro/conflict/{waiting['shop.city']}/change/",
        "conflict-decided": f"/admin/synchro/conflict/{Conflict.objects.get(model='shop.person').pk}/change/",
        "nodes": "/admin/synchro/node/",
        "node": f"/admin/synchro/node/{sent.node_id}/change/",
        "destinations": "/admin/synchro/destination/",
        "destination": f"/admin/synchro/destination/{Destination.objects.get(name='hq').pk}/change/",
        "held": "/admin/synchro/held/",
        "held-one": f"/admin/synchro/held/{Held.objects.get().pk}/change/",
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
        picture = browser.execute_cdp_cmd("Page.captureScreenshot", {"captureBeyondViewport": True})
        (target / f"{name}.png").write_bytes(base64.b64decode(picture["data"]))
    return wide <= window + 1


@pytest.mark.parametrize(
    ("screen", "scheme", "language"),
    [("desktop", "light", "en"), ("desktop", "dark", "de"), ("phone", "light", "de"), ("phone", "dark", "en")],
)
def test_every_page_fits_its_window(browser, live_server, filled, settings, screen, scheme, language):
    settings.LANGUAGE_CODE = language
    shown(browser, screen, scheme)
    too_wide = []
    for name, address in filled.items():
        browser.get(live_server.url + address)
        assert "Error" not in browser.title, browser.page_source[:2000]
        assert "<b onclick" not in browser.page_source
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


def shown(browser, screen="desktop", scheme="light"):
    width, height = SCREENS[screen]
    metrics = {"width": width, "height": height, "deviceScaleFactor": 1, "mobile": screen == "phone"}
    browser.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", metrics)
    features = [{"name": "prefers-color-scheme", "value": scheme}]
    browser.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": features})


def focused(browser):
    """What has the focus: its name or text, and whether one sees that it has it."""
    script = (
        "(() => { const it = document.activeElement, style = getComputedStyle(it);"
        " return [it.name || it.innerText || it.tagName, it.value || '',"
        " style.outlineStyle !== 'none' || style.boxShadow !== 'none' || it.matches(':focus-visible')] })()"
    )
    asked = {"expression": script, "returnByValue": True}
    return browser.execute_cdp_cmd("Runtime.evaluate", asked)["result"]["value"]


def tabbed(browser, wanted, most=80):
    """Goes on by the tabulator until *wanted* (name, value) has the focus."""
    body = browser.find_element(webdriver.common.by.By.TAG_NAME, "body")
    for _number in range(most):
        (browser.switch_to.active_element or body).send_keys(webdriver.common.keys.Keys.TAB)
        name, value, visible = focused(browser)
        assert visible, name
        if wanted in ((name, value), name):
            return browser.switch_to.active_element
    pytest.fail(f"no {wanted} in {most} steps")


@pytest.mark.parametrize(("screen", "scheme"), [("desktop", "light"), ("desktop", "dark"), ("phone", "dark")])
def test_what_seldom_is_seen(browser, live_server, settings, screen, scheme):
    """Lists that are empty, two rows that were one object, what is for those who only look, a database to go to."""
    shown(browser, screen, scheme)

    def fits(name, address):
        browser.get(live_server.url + address)
        assert "Error" not in browser.title
        assert look(browser, f"{screen}-{scheme}-seldom-{name}"), name

    lists = ("changelog", "bundle", "conflict", "node", "destination", "held")
    for name in lists:
        fits(f"empty-{name}", f"/admin/synchro/{name}/")
    fits("empty-synchronization", "/admin/synchro/destination/synchronization/")
    fits("empty-export", "/admin/synchro/destination/export/")
    with acting("ann"):
        ours = Country.objects.create(code="PL", name="Polska")
    with acting("ben"):
        Country.objects.using("hq").create(code="PL", name="Poland")
    carry("hq", "default")
    fits("merged", reverse("admin:synchro_history", args=("shop.country", ours.pk)))
    fits("merge", f"/admin/synchro/conflict/{Conflict.objects.get().pk}/change/")
    fits("conflicts", "/admin/synchro/conflict/?state=all")
    settings.SYNCHRO_REMOTE = "ship"
    fits("remote", "/admin/synchro/destination/synchronization/")
    looker = User.objects.get()
    looker.is_superuser = False
    looker.save()
    names = [f"view_{name}" for name in lists]
    looker.user_permissions.set(Permission.objects.filter(codename__in=names, content_type__app_label="synchro"))
    fits("looker-index", "/admin/")
    fits("looker-conflict", f"/admin/synchro/conflict/{Conflict.objects.get().pk}/change/")
    fits("looker-bundle", f"/admin/synchro/bundle/{Bundle.objects.get().pk}/change/")
    looker.user_permissions.set(
        Permission.objects.filter(codename="can_synchronize", content_type__app_label="synchro")
    )
    fits("synchronizer", "/admin/synchro/destination/synchronization/")


@pytest.mark.parametrize("screen", ["desktop", "phone"])
def test_a_database_that_was_set_back(browser, live_server, tmp_path, screen):
    by = webdriver.common.by.By
    shown(browser, screen)
    Tag.objects.create(name="before")
    carry()
    carry("hq", "default")
    lost = Tag.objects.create(name="lost")
    before = list(Node.objects.values())
    carry()
    # Back to what it was before the last export.
    ChangeLog.objects.filter(pk_text=str(lost.pk)).delete()
    Destination.objects.all().delete()
    Bundle.objects.all().delete()
    Tag.objects.filter(name="lost")._raw_delete("default")
    for node in before:
        Node.objects.filter(pk=node["id"]).update(seq=node["seq"])
    sent(browser, live_server, tmp_path / "stick.jsonl.zst", write("hq", to="office")[0])
    seen(browser, "was restored from a backup")
    assert look(browser, f"{screen}-restored")
    browser.find_element(by.NAME, "confirm").click()
    seen(browser, "under a new id")
    assert look(browser, f"{screen}-restored-done")


def test_a_conflict_is_merged_by_tabulator_and_keys_alone(browser, live_server, filled):
    keys = webdriver.common.keys.Keys
    shown(browser)
    browser.get(live_server.url + filled["conflict"])
    tabbed(browser, ("choice-integer", "here")).send_keys(keys.ARROW_RIGHT, keys.ARROW_RIGHT)
    assert focused(browser)[:2] == ["choice-integer", "other"]
    tabbed(browser, "value-integer").send_keys("many")
    tabbed(browser, ("how", "merge")).send_keys(keys.ENTER)
    seen(browser, "Enter a whole number")
    assert look(browser, "merge-refused")
    tabbed(browser, "value-integer").send_keys(keys.BACKSPACE * 4, "12")
    tabbed(browser, ("how", "merge")).send_keys(keys.ENTER)
    seen(browser, "Are you sure?")
    assert look(browser, "merge-confirm")
    browser.find_element(webdriver.common.by.By.NAME, "confirm").send_keys(keys.ENTER)
    seen(browser, "It is decided.")
    assert Note.objects.get().integer == 12


def sent(browser, live_server, file, data):
    by = webdriver.common.by.By
    file.write_bytes(data)
    browser.get(f"{live_server.url}/admin/synchro/destination/import/")
    browser.find_element(by.NAME, "file").send_keys(str(file))
    browser.find_element(by.CSS_SELECTOR, "input.default").click()


def test_what_is_refused_says_why(browser, live_server, tmp_path, settings):
    by = webdriver.common.by.By
    shown(browser, "phone")
    file = tmp_path / f"{'stick-' * 20}.jsonl.zst"
    Tag.objects.using("hq").create(name="lost")
    lost = write("hq", to="office")[0]
    Tag.objects.using("hq").create(name="theirs")
    data = write("hq", to="office")[0]

    def refused(name, data, sentence):
        sent(browser, live_server, file, data)
        seen(browser, sentence)
        assert look(browser, f"refused-{name}")
        assert not Tag.objects.exists()

    refused("damaged", data[:-9], "The file was refused")
    refused("text", b"This is a letter.", "The file was refused")
    refused("gap", data, "missing")
    refused("elsewhere", write("hq", to="ship", since=0)[0], "ship")
    settings.SYNCHRO_TRUSTED_KEYS = {"hq": public_text(Signer.load(secret_text(b"k" * 32)).public)}
    refused("unsigned", lost, "sign")
    del settings.SYNCHRO_TRUSTED_KEYS
    sent(browser, live_server, file, lost)
    seen(browser, "complete and undamaged")
    City.objects.create(name="meanwhile", country=Country.objects.create(code="PL"))
    browser.find_element(by.NAME, "confirm").click()
    seen(browser, "Something changed here since the preview")
    assert look(browser, "refused-moved")
    assert not Tag.objects.exists()


def test_a_conflict_is_decided_by_keyboard(browser, live_server, filled):
    by, keys = webdriver.common.by.By, webdriver.common.keys.Keys
    browser.get(live_server.url + filled["conflict"])
    browser.find_element(by.CSS_SELECTOR, "button[value=take]").send_keys(keys.ENTER)
    seen(browser, "Are you sure?")
    look(browser, "confirm")
    browser.find_element(by.NAME, "confirm").send_keys(keys.ENTER)
    seen(browser, "It is decided.")
    assert Note.objects.get().char == "y" * 150
