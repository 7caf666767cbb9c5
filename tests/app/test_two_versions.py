"""Deployments of one project in two versions, in processes of their own, upgraded by its migrations one by one."""

import json
import os
import subprocess
import sys
from pathlib import Path
from textwrap import dedent

import pytest

ROOT = Path(__file__).parents[2]
pytestmark = pytest.mark.slow

OLD_MODELS = """
    from django.db import models
    from synchro import NaturalManager

    class Ward(models.Model):
        code = models.CharField(max_length=9, unique=True)
        objects = NaturalManager("code")

    class Label(models.Model):
        name = models.CharField(max_length=20)

    class Patient(models.Model):
        name = models.CharField(max_length=50)
        ward = models.ForeignKey(Ward, models.PROTECT, null=True)
        tags = models.ManyToManyField(Label)
        fax = models.CharField(max_length=20, blank=True)
"""
NEW_MODELS = """
    from django.db import models
    from synchro import NaturalManager

    class Ward(models.Model):
        SYNCHRO_VERSION = 2
        code = models.IntegerField(unique=True)
        objects = NaturalManager("code")

    class Label(models.Model):
        name = models.CharField(max_length=20)

    class Person(models.Model):
        SYNCHRO_VERSION = 3
        first = models.CharField(max_length=50)
        last = models.CharField(max_length=50)
        station = models.ForeignKey(Ward, models.PROTECT, null=True)
        marks = models.ManyToManyField(Label)
        rank = models.IntegerField()
"""
UPCASTERS = """
    from synchro import upcaster

    upcaster(
        "clinic.patient", from_version=1, moved_to="clinic.person", renamed={"ward": "station", "tags": "marks"},
        dropped=["fax"],
    )

    @upcaster("clinic.person", from_version=2, added={"rank": 1})
    def split(record):
        first, _, last = record.value("name", "").partition(" ")
        return record.without("name").having(first=first, last=last)

    @upcaster("clinic.ward", from_version=1)
    def number(record):
        key = None if record.key is None else [int(record.key[0])]
        if record.has_state:
            record = record.having(code=int(record.value("code")))
        from dataclasses import replace
        return replace(record, key=key)
"""
FIRST_MIGRATION = """
    from django.db import migrations, models

    class Migration(migrations.Migration):
        initial = True
        operations = [
            migrations.CreateModel("Ward", [
                ("id", models.BigAutoField(primary_key=True)),
                ("code", models.CharField(max_length=9, unique=True)),
            ]),
            migrations.CreateModel("Label", [
                ("id", models.BigAutoField(primary_key=True)),
                ("name", models.CharField(max_length=20)),
            ]),
            migrations.CreateModel("Patient", [
                ("id", models.BigAutoField(primary_key=True)),
                ("name", models.CharField(max_length=50)),
                ("ward", models.ForeignKey("clinic.ward", models.PROTECT, null=True)),
                ("tags", models.ManyToManyField("clinic.label")),
                ("fax", models.CharField(max_length=20, blank=True)),
            ]),
        ]
"""
SECOND_MIGRATION = """
    from django.db import migrations, models

    def split(apps, schema_editor):
        for person in apps.get_model("clinic", "person").objects.all():
            person.first, _, person.last = person.name.partition(" ")
            person.save()

    class Migration(migrations.Migration):
        dependencies = [("clinic", "0001_first")]
        operations = [
            migrations.RenameModel("Patient", "Person"),
            migrations.RenameField("Person", "ward", "station"),
            migrations.RenameField("Person", "tags", "marks"),
            migrations.RemoveField("Person", "fax"),
            migrations.AddField("Person", "first", models.CharField(max_length=50, default=""), preserve_default=False),
            migrations.AddField("Person", "last", models.CharField(max_length=50, default=""), preserve_default=False),
            migrations.AddField("Person", "rank", models.IntegerField(default=1), preserve_default=False),
            migrations.RunPython(split),
            migrations.RemoveField("Person", "name"),
            migrations.AlterField("Ward", "code", models.IntegerField(unique=True)),
        ]
"""
SETTINGS = """
    from tests.app.site_settings import *
    INSTALLED_APPS = [name for name in INSTALLED_APPS if not name.startswith("tests.project.")] + [
        "tests.project.apps.DBSettingsConfig", "clinic"
    ]
    ROOT_URLCONF = "tests.project.urls"
    SYNCHRO_MODELS = ["clinic"]
"""
DUMP = """
    people = [
        (each.first, each.last, each.rank, each.station and each.station.code, sorted(m.name for m in each.marks.all()))
        for each in Person.objects.all()
    ]
    print(json.dumps([sorted(people, key=str), sorted(ward.code for ward in Ward.objects.all())]))
"""


class Site:
    """A deployment: its own database, and the code of one version of the project."""

    def __init__(self, folder, name):
        self.folder, self.name = folder / name, name
        app = self.folder / "clinic"
        (app / "migrations").mkdir(parents=True)
        for file in (app / "__init__.py", app / "migrations" / "__init__.py"):
            file.touch()
        self._write("clinic_settings.py", SETTINGS)
        self._write("clinic/models.py", OLD_MODELS)
        self._write("clinic/migrations/0001_first.py", FIRST_MIGRATION)
        self.run("call_command('migrate', verbosity=0)", models="")

    def upgrade(self):
        self._write("clinic/models.py", NEW_MODELS)
        self._write("clinic/upcasters.py", UPCASTERS)
        self._write("clinic/migrations/0002_second.py", SECOND_MIGRATION)
        self.run("call_command('migrate', verbosity=0)", "call_command('check', fail_level='WARNING')", models="")

    def _write(self, name, text):
        (self.folder / name).write_text(dedent(text))

    def run(self, *code, models="from clinic.models import *"):
        """Runs lines of Python in this deployment: what they print."""
        script = "\n".join(
            [
                "import json, django",
                "django.setup()",
                "from django.core.management import call_command",
                models,
                *map(dedent, code),
            ]
        )
        environment = {
            **os.environ,
            "PYTHONPATH": f"{self.folder}{os.pathsep}{ROOT}",
            "DJANGO_SETTINGS_MODULE": "clinic_settings",
            "PYTHONDONTWRITEBYTECODE": "1",
            "SYNCHRO_TEST_DB": "sqlite",
            "SYNCHRO_TEST_SQLITE_DIR": str(self.folder),
            "SYNCHRO_TEST_NODE": self.name,
        }
        done = subprocess.run(
            [sys.executable, "-c", script],
            env=environment,
            cwd=self.folder,
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == 0, done.stderr
        return done.stdout

    def holds(self):
        return json.loads(self.run(DUMP))


def report(output):
    return json.loads(output.splitlines()[-1])


def test_t6_three_deployments_are_upgraded_one_after_the_other(tmp_path):
    a, b, c = (Site(tmp_path, name) for name in ("a", "b", "c"))
    one, two, three, four = (str(tmp_path / f"{number}.jsonl.zst") for number in range(1, 5))
    b.upgrade()
    a.run(
        """
        ward = Ward.objects.create(code="07")
        ann = Patient.objects.create(name="Ann Smith", ward=ward, fax="1")
        ann.tags.add(Label.objects.create(name="red"))
        Patient.objects.create(name="Bob Jones")
        """,
        f"call_command('synchro_export', output={one!r}, verbosity=0)",
    )
    # The new one takes what the old one wrote, changes it, and passes it on to another old one.
    taken = report(
        b.run(
            f"call_command('synchro_import', {one!r}, json=True)",
            """
            ann = Person.objects.get(first="Ann", last="Smith")
            assert ann.station.code == 7 and ann.rank == 1 and [m.name for m in ann.marks.all()] == ["red"]
            ann.last = "Miller"
            ann.rank = 3
            ann.save()
            Person.objects.create(first="Eve", last="New", station=ann.station, rank=9)
            """,
            f"call_command('synchro_export', output={two!r}, verbosity=0)",
            "print(json.dumps({'people': Person.objects.count()}))",
        )
    )
    assert taken == {"people": 3}
    taken = report(c.run(f"call_command('synchro_import', {two!r}, json=True)"))
    assert (taken["added"], taken["m2m"], taken["held"]) == (4, 1, 2)
    assert {each["model"] for each in taken["schema"] if each["held"]} == {"clinic.person"}
    # The old one goes on, and is upgraded before it has exported what it made.
    c.run(
        """
        ward, cid = Ward.objects.get(), Patient.objects.create(name="Cid Old", ward=Ward.objects.get())
        cid.tags.add(Label.objects.get())
        Patient.objects.get(name="Bob Jones").delete()
        Patient.objects.get(name="Ann Smith").tags.clear()
        """
    )
    c.upgrade()
    done = report(c.run("call_command('synchro_import', retry_held=True, json=True)"))
    assert (done["records"], done["held"]) == (2, 0)
    c.run(f"call_command('synchro_export', output={three!r}, verbosity=0)")
    taken = report(b.run(f"call_command('synchro_import', {three!r}, json=True)"))
    assert (taken["added"], taken["deleted"], taken["m2m"], taken["held"]) == (1, 1, 2, 0)
    b.run(f"call_command('synchro_export', output={four!r}, verbosity=0)")
    # The first one takes all of it while it is still old, and holds what is new; then it is upgraded, too.
    taken = report(a.run(f"call_command('synchro_import', {two!r}, {four!r}, json=True)"))
    assert taken["held"] >= 2
    a.upgrade()
    assert report(a.run("call_command('synchro_import', retry_held=True, json=True)"))["held"] == 0
    people, wards = b.holds()
    assert wards == [7]
    assert [person[:3] for person in people] == [["Ann", "Miller", 3], ["Cid", "Old", 1], ["Eve", "New", 9]]
    assert people[1][3:] == [7, ["red"]]
    assert a.holds() == b.holds() == c.holds()
    # What the migrations changed is no change: nothing was written past the log.
    assert "No changes" in c.run("call_command('synchro_export', output='.')")
    assert "The log says what the tables hold." in c.run("call_command('synchro_scan', dry_run=True, verbosity=2)")
