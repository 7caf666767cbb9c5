"""Settings of the test project.

`SYNCHRO_TEST_DB` chooses the database: `sqlite` (the default, in memory), `postgres` or `mariadb`; with the latter two,
`SYNCHRO_TEST_HOST`, `_PORT`, `_USER` and `_PASSWORD` say where it is. `mixed` takes each of the three once.
`SYNCHRO_TEST_PREFIX` begins the names of the databases, so that several runs can share a server.
`SYNCHRO_TEST_SQLITE_DIR` puts SQLite's databases into files of that folder.

`default`, `hq` and `ship` are three databases, so that tests can play three deployments.
"""

import os
from pathlib import Path
from typing import Any

ALIASES = ("default", "hq", "ship")
MIXED = {"default": "sqlite", "hq": "postgres", "ship": "mariadb"}

SERVERS: dict[str, dict[str, Any]] = {
    "postgres": {"ENGINE": "django.db.backends.postgresql", "HOST": "127.0.0.1", "PORT": "5432", "USER": "postgres"},
    "mariadb": {
        "ENGINE": "django.db.backends.mysql",
        "HOST": "127.0.0.1",
        "PORT": "3306",
        "USER": "root",
        "OPTIONS": {"charset": "utf8mb4"},
        "TEST": {"CHARSET": "utf8mb4", "COLLATION": "utf8mb4_bin"},
    },
}


def database(alias: str) -> dict[str, Any]:
    """The settings of one database, by the environment."""
    kind = os.environ.get("SYNCHRO_TEST_DB", "sqlite")
    if kind == "mixed":
        kind = MIXED[alias]
    name = f"{os.environ.get('SYNCHRO_TEST_PREFIX', 'synchro')}_{alias}"
    if kind == "sqlite":
        folder = os.environ.get("SYNCHRO_TEST_SQLITE_DIR")
        file = str(Path(folder) / f"{name}.sqlite3") if folder else None
        return {"ENGINE": "django.db.backends.sqlite3", "NAME": file or ":memory:", "TEST": {"NAME": file}}
    if kind not in SERVERS:
        raise ValueError(f"SYNCHRO_TEST_DB is {kind!r}; it can be sqlite, {', '.join(SERVERS)}, mixed")
    server = SERVERS[kind]
    given = {
        key: os.environ[f"SYNCHRO_TEST_{key}"]
        for key in ("HOST", "PORT", "USER", "PASSWORD")
        if f"SYNCHRO_TEST_{key}" in os.environ
    }
    return {**server, **given, "NAME": name, "TEST": {**server.get("TEST", {}), "NAME": f"test_{name}"}}


DATABASES = {alias: database(alias) for alias in ALIASES}
DEFAULT_AUTO_FIELD = "django.db.models.BigAutoField"

SECRET_KEY = "for tests only"
USE_TZ = True
TIME_ZONE = "UTC"
LANGUAGE_CODE = "en"
SITE_ID = 1
ROOT_URLCONF = "tests.project.urls"
STATIC_URL = "/static/"
CACHES = {"default": {"BACKEND": "django.core.cache.backends.locmem.LocMemCache"}}
PASSWORD_HASHERS = ["django.contrib.auth.hashers.MD5PasswordHasher"]  # quick

INSTALLED_APPS = [
    "django.contrib.contenttypes",
    "django.contrib.auth",
    "django.contrib.sessions",
    "django.contrib.messages",
    "django.contrib.admin",
    "django.contrib.sites",
    "tests.project.apps.DBSettingsConfig",
    "synchro",
    "tests.project.shop",
    "tests.project.plain",
    "tests.project.odd",
    "tests.project.zoo",
    "tests.project.office",
]
if os.environ.get("SYNCHRO_TEST_DB") == "postgres":
    INSTALLED_APPS += ["django.contrib.postgres", "tests.project.pg"]
MIDDLEWARE = [
    "django.contrib.sessions.middleware.SessionMiddleware",
    "django.contrib.auth.middleware.AuthenticationMiddleware",
    "django.contrib.messages.middleware.MessageMiddleware",
    "synchro.middleware.ActorMiddleware",
]
TEMPLATES = [
    {
        "BACKEND": "django.template.backends.django.DjangoTemplates",
        "APP_DIRS": True,
        "OPTIONS": {
            "context_processors": [
                "django.template.context_processors.request",
                "django.contrib.auth.context_processors.auth",
                "django.contrib.messages.context_processors.messages",
            ],
        },
    },
]

SYNCHRO_NODE = "office"
SYNCHRO_REMOTE = None
SYNCHRO_MODELS = ("shop",)
ZOO_PET_MODEL = "zoo.OwnPet"
