"""Settings of the demo's deployments. What differs between them comes from their manage.py, by the environment."""

import os
from pathlib import Path

FOLDER = Path(os.environ["DEMO_FOLDER"])

SYNCHRO_NODE = os.environ["DEMO_NODE"]  # "office" or "hq"
SYNCHRO_MODELS = ("geo",)
SYNCHRO_REMOTE = None  # changes travel by files

DATABASES = {
    "default": {
        "ENGINE": "django.db.backends.sqlite3",
        "NAME": FOLDER / "db.sqlite3",
        "OPTIONS": {"transaction_mode": "IMMEDIATE", "timeout": 30},
    },
}
DEFAULT_AUTO_FIELD = "django.db.models.BigAutoField"

INSTALLED_APPS = [
    "django.contrib.admin",
    "django.contrib.auth",
    "django.contrib.contenttypes",
    "django.contrib.messages",
    "django.contrib.sessions",
    "django.contrib.staticfiles",
    "deployment.apps.DBSettingsConfig",
    "synchro",
    "geo",
]
MIDDLEWARE = [
    "django.contrib.sessions.middleware.SessionMiddleware",
    "django.middleware.common.CommonMiddleware",
    "django.middleware.csrf.CsrfViewMiddleware",
    "django.contrib.auth.middleware.AuthenticationMiddleware",
    "django.contrib.messages.middleware.MessageMiddleware",
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

DEBUG = False  # with True, Django keeps and formats every query: the figures would say nothing
SECRET_KEY = "the demo keeps no secrets"  # noqa: S105 - it really does not
ALLOWED_HOSTS = ["localhost", "127.0.0.1"]
ROOT_URLCONF = "deployment.urls"
STATIC_URL = "/static/"
USE_TZ = True
