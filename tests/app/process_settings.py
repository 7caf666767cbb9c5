"""Settings of a deployment that runs in processes of its own, see `processes`."""

import os
from pathlib import Path

from tests.project.settings import *  # noqa: F403
from tests.project.settings import DATABASES

SYNCHRO_NODE = os.environ["SYNCHRO_TEST_NODE"]
SERVER = os.environ.get("SYNCHRO_TEST_SERVER_NAME")
DATABASES = (
    {"default": {**DATABASES["default"], "NAME": SERVER}}
    if SERVER
    else {
        "default": {
            "ENGINE": "django.db.backends.sqlite3",
            "NAME": str(Path(os.environ["SYNCHRO_TEST_FOLDER"]) / "deployment.sqlite3"),
            "OPTIONS": {"transaction_mode": "IMMEDIATE"},
        }
    }
)
