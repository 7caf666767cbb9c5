"""Deployments with processes of their own: for databases that are copied, and for processes that are killed."""

import os
import subprocess
import sys
import tempfile
from pathlib import Path

ROOT = Path(__file__).parent.parent.parent
SETUP = "import django\ndjango.setup()\nfrom tests.project.shop.models import *\n"


class Deployment:
    """A folder in which commands run; the database is an SQLite file in it, or *server*, a database on the server.

    The tables are made, unless *ready* says that they are there (or *copied*, another SQLite file, brings them).
    """

    def __init__(self, folder, name, *, copied=None, server=None, ready=False):
        folder.mkdir(exist_ok=True)
        self.folder = folder
        self.database = folder / "deployment.sqlite3"
        self.environment = {
            **os.environ,
            "DJANGO_SETTINGS_MODULE": "tests.app.process_settings",
            "PYTHONPATH": str(ROOT),
            "SYNCHRO_TEST_FOLDER": str(folder),
            "SYNCHRO_TEST_NODE": name,
        }
        if server is not None:
            self.environment["SYNCHRO_TEST_SERVER_NAME"] = server
        else:
            self.environment["SYNCHRO_TEST_DB"] = "sqlite"
        if copied is not None:
            self.database.write_bytes(copied.read_bytes())
        elif not ready:
            self.manage("migrate", "-v0")

    def start(self, *arguments):
        """A Python process that runs by itself."""
        return subprocess.Popen(
            [sys.executable, *arguments],
            cwd=self.folder,
            env=self.environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )

    def ended(self, *arguments, code=0):
        """What a process said that ended with *code*."""
        process = self.start(*arguments)
        told, _ = process.communicate(timeout=120)
        assert process.returncode == code, told
        return told.strip()

    def manage(self, *arguments, code=0):
        return self.ended("-m", "django", *arguments, code=code)

    def run(self, code):
        """What Python code prints that sees the models of the shop."""
        return self.ended("-c", SETUP + code)

    def export(self, *arguments, to="default"):
        """The file that an export writes."""
        folder = Path(tempfile.mkdtemp(dir=self.folder))
        self.manage("synchro_export", "--to", to, "-o", str(folder), *arguments)
        (file,) = folder.iterdir()
        return file

    def take(self, *files, code=0):
        return self.manage("synchro_import", *map(str, files), code=code)

    def tags(self):
        """The names of all tags, sorted."""
        return self.run("print(*sorted(Tag.objects.values_list('name', flat=True)))").split()
