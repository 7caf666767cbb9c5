"""System checks: every misuse of the settings and of models that can be told beforehand, each with an id."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

from django.conf import settings
from django.core.checks import CheckMessage, Error, Warning  # noqa: A004  Django's name
from django.core.exceptions import FieldDoesNotExist, ImproperlyConfigured
from django.db import DEFAULT_DB_ALIAS, models
from django.utils.translation import gettext as _
from django.utils.translation import ngettext

from synchro import (
    conf,
    embedded,
    keychecks,
    naturalkeys,
    reasons,
    redacting,
    registry,
    tables,
    triggers,
    trust,
    upcasting,
)
from synchro.errors import KeySettingError
from synchro.models import LABEL_LENGTH, PK_LENGTH, Touch

_SAVE_TABLE = ("self", "raw", "cls", "force_insert", "force_update", "using", "update_fields")


def check_synchro(**_kwargs: Any) -> list[CheckMessage]:
    """All checks of this app; those of the models only when the settings make sense."""
    found = [*_settings_messages()]
    if not any(message.is_serious() for message in found):
        found += [*_model_messages()]
    return found


def check_triggers(databases: Sequence[str] | None = None, **_kwargs: Any) -> list[CheckMessage]:
    """Whether the touch triggers are as the settings and models ask; run by ``check --database`` and ``migrate``."""
    found: list[CheckMessage] = []
    for using in databases or ():
        if not tables.exists(Touch, using):
            continue
        try:
            state = triggers.check(using)
        except ImproperlyConfigured:
            continue  # the other checks say so
        if not conf.triggers() and state.stale:
            found.append(
                Warning(
                    _(
                        "The database %(alias)r has touch triggers, and SYNCHRO_TRIGGERS is not set: they only cost "
                        "time."
                    )
                    % {"alias": using},
                    hint=_("Run `manage.py synchro_triggers remove --database %(alias)s`.") % {"alias": using},
                    id="synchro.W007",
                )
            )
        elif not state.in_line:
            found.append(
                Warning(
                    ngettext(
                        "In the database %(alias)r %(missing)d touch trigger is missing and %(stale)d are stale: not "
                        "every "
                        "write is noted.",
                        "In the database %(alias)r %(missing)d touch triggers are missing and %(stale)d are stale: not "
                        "every write is noted.",
                        len(state.missing),
                    )
                    % {"alias": using, "missing": len(state.missing), "stale": len(state.stale)},
                    hint=_(
                        "Run `manage.py synchro_triggers install --database %(alias)s`, then `manage.py synchro_scan`."
                    )
                    % {"alias": using},
                    id="synchro.W006",
                )
            )
    return found


def _settings_messages() -> Iterator[CheckMessage]:
    readers: tuple[tuple[str, Callable[[], object]], ...] = (
        ("synchro.E001", registry.tracked),
        ("synchro.E002", conf.node_name),
        ("synchro.E003", conf.conflict_policies),
        ("synchro.E004", conf.skip_fields),
        ("synchro.E005", conf.natural_keys),
        ("synchro.E006", conf.apply_modes),
        ("synchro.E022", conf.model_versions),
        ("synchro.E030", registry.accepted),
        ("synchro.E053", registry.check_declared),
        ("synchro.E060", conf.admin_folder),
        ("synchro.E061", conf.upload_limit),
        ("synchro.E040", trust.signer),
        ("synchro.E041", trust.trusted),
        ("synchro.E042", _recipients),
        ("synchro.E043", trust.identities),
        ("synchro.E032", redacting.check_setting),
    )
    for ident, read in readers:
        try:
            read()
        except (ImproperlyConfigured, KeySettingError) as error:
            yield Error(str(error), id=ident)
    if not getattr(settings, "SYNCHRO_NODE", None):
        yield Warning(
            _("SYNCHRO_NODE is not set."),
            hint=_("Name each deployment differently in its settings: a copied database is recognised by it."),
            id="synchro.W001",
        )
    # That it names a database is asked when the app starts: an ImproperlyConfigured, as of old.
    remote = getattr(settings, "SYNCHRO_REMOTE", None)
    if remote == DEFAULT_DB_ALIAS:
        yield Error(
            _("SYNCHRO_REMOTE is %(remote)r, the database that this deployment works on itself.") % {"remote": remote},
            hint=_("Name the other database, or None."),
            id="synchro.E031",
        )
    if not getattr(settings, "SYNCHRO_MODELS", None):
        yield Warning(_("SYNCHRO_MODELS is empty: nothing is tracked."), id="synchro.W002")
    by_label: tuple[tuple[str, Callable[[], Mapping[str, object]]], ...] = (
        ("SYNCHRO_SKIP_FIELDS", conf.skip_fields),
        ("SYNCHRO_NATURAL_KEYS", conf.natural_keys),
        ("SYNCHRO_VERSIONS", conf.model_versions),
        ("SYNCHRO_CONFLICT", conf.conflict_policies),
        ("SYNCHRO_APPLY", conf.apply_modes),
    )
    for name, labels in by_label:
        try:
            unknown = [label for label in labels() if label and registry.by_label(label) is None]
        except ImproperlyConfigured:
            continue
        for label in unknown:
            yield Error(
                _("%(name)s names %(label)r, which is no installed model (write 'app_label.model').")
                % {"name": name, "label": label},
                id="synchro.E009",
            )
    # What synchro.capture wraps; the stubs leave it out.
    save_table: Callable[..., object] = models.Model._save_table  # type: ignore[attr-defined]  # noqa: SLF001
    if tuple(inspect.signature(save_table).parameters) != _SAVE_TABLE:
        yield Error(
            _(
                "This version of Django saves objects in a way that synchro does not know, so changes would go "
                "unlogged."
            ),
            hint=_("Use a supported version of Django, or a newer django-synchro."),
            id="synchro.E010",
        )


def _redacted() -> Iterator[CheckMessage]:
    for label in redacting.unknown_models():
        yield Warning(
            _("%(name)s names %(label)r, which is no installed model (write 'app_label.model').")
            % {"name": "SYNCHRO_REDACT", "label": label},
            hint=_("Only records of it that are passed on are concerned."),
            id="synchro.W034",
        )
    for label in redacting.computed_keys():
        yield Warning(
            _(
                "The natural key of %(label)s is what its own methods make of it, and SYNCHRO_REDACT withholds fields "
                "of "
                "it or of what it points to."
            )
            % {"label": label},
            hint=_("Be sure that natural_key() uses none of these fields: keys travel."),
            id="synchro.W035",
        )


def _recipients() -> None:
    for destination in conf.recipients_by_destination():
        trust.recipients(destination)


def _model_messages() -> Iterator[CheckMessage]:
    for model in sorted(registry.tracked(), key=lambda each: each._meta.label_lower):
        yield from _of_model(model)
    yield from _redacted()
    yield from _natural_keys()
    yield from keychecks.messages()
    yield from _unmanaged()
    yield from _embedded_keys()
    yield from _versions()


def _of_model(model: type[models.Model]) -> Iterator[CheckMessage]:
    options = model._meta
    if len(options.label_lower) > LABEL_LENGTH:
        yield Error(
            _("%(model)s: a tracked model's label has at most %(length)d characters.")
            % {"model": options.label, "length": LABEL_LENGTH},
            obj=model,
            id="synchro.E011",
        )
    for field in options.pk_fields:
        if isinstance(field, models.CharField) and (field.max_length or 0) > PK_LENGTH:
            yield Warning(
                _("%(model)s: a primary key longer than %(length)d characters cannot be logged.")
                % {"model": options.label, "length": PK_LENGTH},
                obj=model,
                id="synchro.W004",
            )
    for name in registry.spec(model).skipped:
        try:
            options.get_field(name)
        except FieldDoesNotExist:
            if not any(field.attname == name for field in options.concrete_fields):
                yield Error(
                    _("%(model)s has no field %(name)r to skip.") % {"model": options.label, "name": name},
                    obj=model,
                    id="synchro.E012",
                )
    yield from _skipped_in_vain(model)


def _skipped_in_vain(model: type[models.Model]) -> Iterator[CheckMessage]:
    """Fields without which no object arrives as itself."""
    spec = registry.spec(model)
    key = {path.partition("__")[0] for path in naturalkeys.key_paths(model) or ()}
    for field in model._meta.concrete_fields:
        if not spec.skipped & {field.name, field.attname}:
            continue
        names = {"model": model._meta.label, "field": field.name}
        if field.primary_key or field.name in key:
            yield Warning(
                _("%(model)s skips %(field)r, which tells its objects apart.") % names,
                hint=_("Without it other deployments cannot recognise them: let it travel."),
                obj=model,
                id="synchro.W031",
            )
        elif not field.null and field.remote_field is not None and not field.has_default():
            yield Warning(
                _("%(model)s skips %(field)r, which each of its objects needs and which has no default.") % names,
                hint=_("New objects cannot be created elsewhere: give it a default, allow NULL, or let it travel."),
                obj=model,
                id="synchro.W032",
            )
        elif field.unique and not field.null:
            yield Warning(
                _("%(model)s skips %(field)r, which is unique.") % names,
                hint=_(
                    "New objects all get its default elsewhere, only one can have it: allow NULL, or let it travel."
                ),
                obj=model,
                id="synchro.W033",
            )


def _natural_keys() -> Iterator[CheckMessage]:
    for label, names in conf.natural_keys().items():
        model = registry.by_label(label)
        if model is not None and names and naturalkeys.key_paths(model) is None:
            reason = naturalkeys.key_spec(model).reason
            yield Error(
                _("SYNCHRO_NATURAL_KEYS: %(reason)s.") % {"reason": reasons.told(reason)}, obj=model, id="synchro.E013"
            )


def _versions() -> Iterator[CheckMessage]:
    for model in sorted(registry.tracked(), key=lambda each: each._meta.label_lower):
        spec = registry.spec(model)
        if spec.version > 1 and not any(
            upcasting.way(step.model, step.from_version).model == spec.label for step in upcasting.steps().values()
        ):
            yield Warning(
                _("%(model)s is of version %(version)d, and no upcaster takes older records to it.")
                % {"model": model._meta.label, "version": spec.version},
                hint=_("Register upcasters in a module `upcasters` of an app; older records are held until then."),
                obj=model,
                id="synchro.W020",
            )
    gaps = {upcasting.way(*place).gap for place in upcasting.steps()}
    for gap in sorted(gap for gap in gaps if gap is not None):
        text = reasons.told(gap)
        yield Error(f"{text[0].upper()}{text[1:]}.", hint=_("Register one; such records are held."), id="synchro.E020")
    for problem in sorted(set(_upcaster_problems())):
        yield Error(problem, id="synchro.E021")


def _upcaster_problems() -> Iterator[str]:
    sources: dict[str, str] = {}
    for (label, version), step in sorted(upcasting.steps().items()):
        of = upcasting.way(label, version)
        installed = registry.by_label(label)
        here = None if installed is None else registry.spec(installed).version
        if here is not None and here <= version:
            if step.moved_to is not None:
                yield _(
                    "Upcasters: %(label)s is still installed with version %(here)d, but that of version %(version)d "
                    "moves it."
                ) % {"label": label, "here": here, "version": version}
            else:
                yield _("Upcasters: %(label)s is of version %(here)d, so nothing is lifted from %(version)d.") % {
                    "label": label,
                    "here": here,
                    "version": version,
                }
            continue
        model = registry.by_label(of.model)
        if model is None:
            if of.steps and of.steps[-1].function is None:
                yield _(
                    "Upcasters: that of %(label)s from version %(version)d leads to %(model)s, which is not installed."
                ) % {"label": label, "version": version, "model": of.model}
            continue
        if step.moved_to is not None:
            other = sources.setdefault(step.moved_to, label)
            if other != label:
                yield _("Upcasters: %(other)s and %(label)s cannot both become %(target)s.") % {
                    "other": other,
                    "label": label,
                    "target": step.moved_to,
                }
        if len(of.steps) == 1 and step.function is None:
            names = {f.name for f in model._meta.get_fields()}
            for name in sorted({*step.renamed.values(), *step.added} - names):
                yield _(
                    "Upcasters: %(model)s has no field %(name)r, which that of %(label)s from version %(version)d "
                    "makes."
                ) % {"model": of.model, "name": name, "label": label, "version": version}


def _embedded_keys() -> Iterator[CheckMessage]:
    for label, name in embedded.registered():
        model = registry.by_label(label)
        if model is None or name not in {field.name for field in model._meta.concrete_fields}:
            yield Error(
                _("embedded_keys() names %(label)s.%(name)s, which is no field.") % {"label": label, "name": name},
                id="synchro.E033",
            )


def _unmanaged() -> Iterator[CheckMessage]:
    for entry in conf.models():
        if not isinstance(entry, str):
            continue
        for model in registry.app_config(entry).get_models():
            if not model._meta.managed and not model._meta.proxy:
                yield Warning(
                    _("%(model)s is not managed by Django (a view, perhaps), so it is not tracked.")
                    % {"model": model._meta.label},
                    hint=_("Name it in SYNCHRO_MODELS by itself if its table can be written."),
                    obj=model,
                    id="synchro.W005",
                )
