"""App configuration."""

from django.apps import AppConfig


class OddConfig(AppConfig):
    name = "tests.project.odd"
