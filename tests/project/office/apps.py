"""App configuration."""

from django.apps import AppConfig


class OfficeConfig(AppConfig):
    name = "tests.project.office"
