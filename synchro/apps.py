"""The app: starts capturing when the models are ready."""

from __future__ import annotations

from collections.abc import Callable
from importlib import import_module
from typing import Any

from django.apps import AppConfig, apps
from django.core.exceptions import ImproperlyConfigured
from django.utils.text import get_text_list
from django.utils.translation import gettext_lazy as _

NEEDED = ("django.contrib.contenttypes", "dbsettings")


class SynchroConfig(AppConfig):
    """Connects what captures changes, and the checks, once the models are ready."""

    name = "synchro"
    verbose_name = _("Synchro")
    default_auto_field = "django.db.models.BigAutoField"

    def import_models(self) -> None:
        """As Django's; says which app is missing before a model of it does, in many words."""
        missing = [name for name in NEEDED if not apps.is_installed(name)]
        if missing:
            from synchro.conf import early_gettext

            apps_ = get_text_list(list(map(repr, missing)), early_gettext("and"))
            text = early_gettext("synchro needs %(apps)s in INSTALLED_APPS; in which order does not matter.")
            raise ImproperlyConfigured(text % {"apps": apps_})
        super().import_models()

    def ready(self) -> None:
        from dbsettings.signals import setting_changed as option_changed
        from django.core.checks import Tags, register
        from django.core.signals import setting_changed
        from django.db.backends.signals import connection_created
        from django.db.models.signals import post_migrate
        from django.utils.module_loading import autodiscover_modules

        # synchro.settings raises or warns where SYNCHRO_REMOTE makes no sense.
        from synchro import capture, muting, settings, tables

        register(_later("checks", "check_synchro"), Tags.models)
        register(_later("checks", "check_triggers"), Tags.database)
        register(_later("settingchecks", "check_settings"), Tags.models)
        register(_later("settingchecks", "check_deployment"), Tags.compatibility, deploy=True)

        def settings_changed(*, setting: str, **_kwargs: Any) -> None:
            if setting.startswith("SYNCHRO_") or setting == "INSTALLED_APPS":
                settings.follow(setting)
                read_again()

        setting_changed.connect(settings_changed, weak=False, dispatch_uid="synchro-settings")
        post_migrate.connect(tables.forget_existing, dispatch_uid="synchro-tables")
        post_migrate.connect(
            _later("migrating", "after_migrate"), weak=False, sender=self, dispatch_uid="synchro-schemas"
        )
        post_migrate.connect(
            _later("triggers", "after_migrate"), weak=False, sender=self, dispatch_uid="synchro-triggers"
        )
        connection_created.connect(muting.connected, dispatch_uid="synchro-muting")
        post_migrate.connect(_later("legacy", "take_over"), weak=False, sender=self, dispatch_uid="synchro-legacy")
        last_check_changed = _later("synchronizing", "last_check_changed")
        option_changed.connect(last_check_changed, weak=False, dispatch_uid="synchro-last-check")
        capture.connect()
        # What each app says of older versions of its models.
        autodiscover_modules("upcasters")
        # … and of where it has primary keys inside values.
        autodiscover_modules("embedded_keys")


def _later(module: str, name: str) -> Callable[..., Any]:
    """A function of ``synchro.<module>``, loaded when it is called.

    What only commands need takes two thirds of the time that all of synchro needs to be loaded.
    """

    def called(*args: Any, **kwargs: Any) -> Any:
        return getattr(import_module(f"synchro.{module}"), name)(*args, **kwargs)

    return called


def read_again() -> None:
    """The settings have changed (in tests): forget what was read from them, and capture what they say now."""
    from synchro import capture, embedded, muting, registry, upcasting

    registry.clear_caches()
    embedded.clear_caches()
    upcasting.clear_caches()
    capture.connect()
    muting.follow_settings()
