"""Two deployments as processes of their own, on real SQLite files, with ATOMIC_REQUESTS, USE_TZ on and off.

REMOTE is once a database with synchro's tables, and once one that never had them.
"""

import os
import sqlite3
import subprocess
import sys
import textwrap
from contextlib import closing
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]

SETTINGS = """
from tests.project.settings import *
def file(name):
    return {"ENGINE": "django.db.backends.sqlite3", "NAME": FOLDER + "/" + name, "ATOMIC_REQUESTS": True}
import os
FOLDER = os.path.dirname(__file__)
DATABASES = {"default": file("local"), "remote": file("remote")}
DATABASE_ROUTERS = ["pair_settings.Router"]
USE_TZ, TIME_ZONE = os.environ["PAIR_TZ"] == "1", "Europe/Warsaw"
SYNCHRO_NODE, SYNCHRO_REMOTE = "local", "remote"
SYNCHRO_MODELS = (("office", "note", "town"),)
ROOT_URLCONF = "pair_urls"
class Router:
    def allow_migrate(self, db, app_label, **hints):
        return not (db == "remote" and app_label == "synchro" and os.environ["PAIR_TABLES"] == "0")
"""

URLS = """
from django.contrib import admin
from django.urls import include, path, re_path
urlpatterns = [
    path("admin/", admin.site.urls),
    re_path(r"^synchro/", include("synchro.urls", "synchro")),
    path("settings/", include("dbsettings.urls")),
]
"""

BEFORE = """
import django; django.setup()
from django.core.management import call_command
from django.test.utils import setup_test_environment; setup_test_environment()
from tests.project.office.models import *
"""


class Pair:
    def __init__(self, folder, tables, use_tz):
        (folder / "pair_settings.py").write_text(SETTINGS)
        (folder / "pair_urls.py").write_text(URLS)
        self.folder = folder
        self.environ = {
            **os.environ,
            "PYTHONPATH": os.pathsep.join([str(folder), str(ROOT)]),
            "DJANGO_SETTINGS_MODULE": "pair_settings",
            "SYNCHRO_TEST_DB": "sqlite",  # some apps are there for one database only
            "PAIR_TABLES": str(int(tables)),
            "PAIR_TZ": str(int(use_tz)),
        }

    def run(self, code, status=0):
        """What *code* prints, in a process of its own that must end with *status*."""
        ended = subprocess.run(
            [sys.executable, "-W", "error", "-c", BEFORE + textwrap.dedent(code)],
            env=self.environ,
            check=False,
            capture_output=True,
            text=True,
        )
        assert ended.returncode == status, ended.stderr
        return ended.stdout.split("\n")[:-1]

    def remote(self, sql):
        with closing(sqlite3.connect(self.folder / "remote")) as connection, connection:
            return connection.execute(sql).fetchall()


@pytest.fixture(
    params=[
        pytest.param((True, True), id="tables, USE_TZ"),
        pytest.param((False, False), id="neither"),
        pytest.param((True, False), id="tables", marks=pytest.mark.slow),
        pytest.param((False, True), id="USE_TZ", marks=pytest.mark.slow),
    ]
)
def pair(request, tmp_path):
    tables, use_tz = request.param
    made = Pair(tmp_path, tables, use_tz)
    made.run("call_command('migrate', verbosity=0); call_command('migrate', verbosity=0, database='remote')")
    yield made
    found = {name for (name,) in made.remote("SELECT name FROM sqlite_master") if name.startswith("synchro_")}
    assert bool(found) == tables  # nothing of ours is left where nothing was


def test_a_whole_story(pair):
    assert pair.run("""
        note = Note.objects.create(name="a", cash=1)
        Town.objects.create(name="T")
        call_command("synchronize")
        call_command("synchronize")
    """) == ["Synchronization performed successfully.", "No changes since last synchronization."]
    assert pair.remote("SELECT id, name, cash FROM office_note") == [(1, "a", 1)]
    pair.run("""
        Note.objects.using("remote").create(name="theirs")
        note = Note.objects.get()
        note.cash = 2
        note.save()
        Town.objects.get().delete()
    """)
    # Through the page, inside the transactions of requests.
    assert pair.run("""
        from django.contrib.auth.models import User
        from django.test import Client
        from synchro.models import options
        User.objects.create_superuser("ann", password="x")
        browser = Client()
        browser.force_login(User.objects.get())
        before = options.last_check
        for button in ("synchro", "synchro", "reset"):
            page = browser.post("/synchro/", {button: "x"}, follow=True)
            print(*page.context["messages"])
        print(options.last_check > before, page.status_code)
    """) == [
        "Synchronization performed successfully.",
        "No changes since last synchronization.",
        "Synchronization has been reset.",
        "True 200",
    ]
    assert pair.remote("SELECT id, name, cash FROM office_note ORDER BY id") == [(1, "a", 2), (2, "theirs", 0)]
    assert pair.remote("SELECT * FROM office_town") == []
    # The checkpoint, read, compared and set as the project has its moments, and through dbsettings' own page.
    assert (
        pair.run("""
        import datetime as dt
        from django.contrib.auth.models import User
        from django.test import Client
        from django.utils import timezone, translation
        from synchro.models import options
        Note.objects.create(name="b")
        assert options.last_check < timezone.now()
        options.last_check = timezone.now()
        call_command("synchronize")
        browser = Client()
        browser.force_login(User.objects.get())
        page = "/settings/synchro/"
        for language in ("de", "es", "en"):
            Note.objects.filter(name="b").first().save()
            with translation.override(language):
                form = browser.get(page).context["form"]
                shown = {field.html_name: field.value() for field in form}
                browser.post(page, shown)
                call_command("synchronize", verbosity=0)
                shown["synchro.options____last_check"] = (timezone.now() + dt.timedelta(1)).strftime("%Y-%m-%d %H:%M")
                Note.objects.filter(name="b").first().save()
                browser.post(page, shown)
                call_command("synchronize", verbosity=0)
            call_command("synchronize")
    """)
        == ["No changes since last synchronization."] * 4
    )
    assert pair.remote("SELECT name FROM office_note ORDER BY id") == [("a",), ("theirs",), ("b",)]


def test_a_crash_between_the_two_commits_is_made_good_by_running_it_again(pair):
    """Objects without natural key are not there twice, and what else was to be sent is."""
    pair.run("""
        Note.objects.create(name="first")
        call_command("synchronize", verbosity=0)
        Note.objects.create(name="second")
        Note.objects.get(name="first").delete()
    """)
    pair.run(
        """
        import os
        from django.db import connections
        from synchro.synchronizing import synchronize

        class Fatal:
            # Ends the process when the first of the two has committed and the second is about to.
            done = 0
            def __init__(self, connection):
                self.connection, self.commit = connection, connection.commit
            def __call__(self):
                if Fatal.done:
                    os._exit(9)
                if self.connection.in_atomic_block or not self.connection.get_autocommit():
                    Fatal.done += 1
                self.commit()
        for connection in connections.all():
            connection.ensure_connection()
            connection.commit = Fatal(connection)
        synchronize()
        """,
        status=9,
    )
    pair.run("""
        Note.objects.create(name="third")
        call_command("synchronize", verbosity=0)
        note = Note.objects.get(name="second")
        note.cash = 5
        note.save()
        call_command("synchronize", verbosity=0)
    """)
    assert pair.remote("SELECT name, cash FROM office_note ORDER BY name") == [("second", 5), ("third", 0)]


def test_what_remote_cannot_take(pair):
    pair.remote("CREATE UNIQUE INDEX one_name ON office_note (name)")
    pair.remote("INSERT INTO office_note (name, cash) VALUES ('taken', 1)")
    told = pair.run("""
        Note.objects.create(name="taken")
        Note.objects.create(name="free")
        call_command("synchronize")
    """)
    names = [name for (name,) in pair.remote("SELECT name FROM office_note ORDER BY name")]
    assert told[0] == "Synchronization performed successfully."
    assert "not applied to REMOTE yet: office.note" in told[1]
    assert names == ["free", "taken"]
    pair.remote("DELETE FROM office_note WHERE name = 'taken'")
    pair.run("Note.objects.create(name='later'); call_command('synchronize', verbosity=0)")
    assert pair.remote("SELECT name FROM office_note ORDER BY name") == [("free",), ("later",), ("taken",)]
