from django.apps import AppConfig
from django.db import connections
from django.db.models.signals import pre_migrate


def create_extensions(sender, using, **kwargs):
    with connections[using].cursor() as cursor:
        cursor.execute("CREATE EXTENSION IF NOT EXISTS hstore")
    # The types of the extension are looked up when a connection is made, and remembered.
    from django.contrib.postgres import signals

    signals.get_hstore_oids.cache_clear()
    connections[using].close()


class PgConfig(AppConfig):
    name = "tests.project.pg"
    label = "pg"

    def ready(self):
        pre_migrate.connect(create_extensions, sender=self)
