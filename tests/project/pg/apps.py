"""App configuration."""

from django.apps import AppConfig


class PgConfig(AppConfig):
    name = "tests.project.pg"
