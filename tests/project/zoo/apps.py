"""App configuration."""

from django.apps import AppConfig


class ZooConfig(AppConfig):
    name = "tests.project.zoo"
