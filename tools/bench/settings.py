"""Django settings of one worker. What differs between the contestants comes from the environment, set by the driver."""

import json
import os

BENCH_WITH = os.environ["BENCH_WITH"]  # which program listens: "none", "synchro", "auditlog", …

DATABASES = json.loads(os.environ["BENCH_DATABASES"])
DEFAULT_AUTO_FIELD = "django.db.models.BigAutoField"

_APPS = {
    "none": [],
    "synchro": ["dbsettings", "synchro"],
    "triggers": ["dbsettings", "synchro"],
    "auditlog": ["auditlog"],
    "simple_history": ["simple_history"],
    "reversion": ["reversion"],
    "pghistory": ["pgtrigger", "pghistory"],
}
INSTALLED_APPS = ["django.contrib.contenttypes", "django.contrib.auth", *_APPS[BENCH_WITH], "library"]

SYNCHRO_NODE = os.environ.get("BENCH_NODE", "bench")
SYNCHRO_MODELS = ("library",)
SYNCHRO_REMOTE = "remote" if "remote" in DATABASES else None
SYNCHRO_TRIGGERS = BENCH_WITH == "triggers"

CACHES = {"default": {"BACKEND": "django.core.cache.backends.locmem.LocMemCache"}}
DEBUG = False
SECRET_KEY = "benchmarks keep no secrets"  # noqa: S105 - they really do not
USE_TZ = True
SILENCED_SYSTEM_CHECKS = ["models.W042"]
