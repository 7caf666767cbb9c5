"""App configurations of the demo project."""

from django.apps import AppConfig


class DBSettingsConfig(AppConfig):
    """django-dbsettings 1.4 names no pk type, so under BigAutoField makemigrations would want to write into it."""

    name = "dbsettings"
    default_auto_field = "django.db.models.AutoField"
