"""App configuration."""

from django.apps import AppConfig


class PlainConfig(AppConfig):
    name = "tests.project.plain"
