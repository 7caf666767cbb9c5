"""Registers the models with the program that is measured, as its documentation says."""

from django.apps import AppConfig
from django.conf import settings


class LibraryConfig(AppConfig):
    name = "library"

    def ready(self):
        models = [self.get_model(name) for name in ("Author", "Tag", "Book", "Review")]
        if settings.BENCH_WITH == "auditlog":
            from auditlog.registry import auditlog

            for model in models:
                auditlog.register(model, m2m_fields={"tags"} if model.__name__ == "Book" else set())
        elif settings.BENCH_WITH == "reversion":
            import reversion

            for model in models:
                reversion.register(model)
