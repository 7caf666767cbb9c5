"""What is not told to everybody: fields that are left out of the bundles for a destination, or have other values there.

``SYNCHRO_REDACT`` says which, by destination. A field that is left out is absent from the record, as one that is
skipped; one that is replaced has what stands for its value. A record of an older version of a redacted model is lifted
first, since only fields of the present version are named; so nothing travels that was called otherwise once.
"""

from __future__ import annotations

import difflib
import re
from collections.abc import Callable, Collection, Iterator, Mapping
from dataclasses import dataclass, field, replace
from typing import Any, TypeAlias, TypeVar

from django.apps import apps
from django.core.exceptions import FieldDoesNotExist, ImproperlyConfigured, ValidationError
from django.db import models
from django.utils.module_loading import import_string

from changelog_format import Change, ObjectRecord, decode_value, encode_value
from synchro import conf, naturalkeys, registry, upcasting, values
from synchro.conf import EVERYBODY, WITHHELD
from synchro.conf import early_gettext as _
from synchro.errors import ExportError

Rules: TypeAlias = Mapping[str, Mapping[str, Any]]
"""Present label of a model → field → ``WITHHELD``, a value, or a callable."""
Record = TypeVar("Record", bound=Change | ObjectRecord)

_DOTTED = re.compile(r"[A-Za-z_]\w*(?:\.[A-Za-z_]\w*)+\Z")
_FAILURES = (ValueError, TypeError, AttributeError, ArithmeticError, LookupError, ValidationError)


# --- the setting ------------------------------------------------------------------------------------------------------


def rules_for(destination: str) -> Rules:
    """What ``SYNCHRO_REDACT`` says of *destination*: its own entry, and that of ``"*"``.

    Raises ``ImproperlyConfigured``.
    """
    wanted = conf.redactions()
    found: dict[str, dict[str, Any]] = {}
    for name in (EVERYBODY, destination):
        for label, fields in wanted.get(name, {}).items():
            for bearer, borne in _bearers(label, fields):
                found.setdefault(bearer, {}).update((each, _resolved(value)) for each, value in borne.items())
    return found


def _bearers(label: str, fields: Mapping[str, Any]) -> Iterator[tuple[str, Mapping[str, Any]]]:
    """The models whose records carry *fields* of *label*: multi-table children and parents have them as well."""
    model = registry.by_label(label)
    if model is None:
        yield label, fields  # records of models that are not here may be passed on
        return
    for name, value in fields.items():
        owner = _field(model, name).model
        for each in apps.get_models():
            if issubclass(each, owner) and not each._meta.proxy:
                yield each._meta.label_lower, {name: value}


def _field(model: registry.ModelClass, name: str) -> registry.AnyField:
    try:
        found = model._meta.get_field(name)
    except FieldDoesNotExist:
        names = [each.name for each in model._meta.get_fields()]
        near = difflib.get_close_matches(name, names, n=1)
        text = _("SYNCHRO_REDACT: %(model)s has no field %(field)r.") % {"model": model._meta.label, "field": name}
        if near:
            text = f"{text} {_('Did you mean %(name)r?') % {'name': near[0]}}"
        raise ImproperlyConfigured(text) from None
    if registry.is_link_field(found):
        raise ImproperlyConfigured(
            _(
                "SYNCHRO_REDACT: %(field)s is a many-to-many field. Each of its links is a change with a position of "
                "its "
                "own, and a history has all positions."
            )
            % {"field": f"{model._meta.label}.{name}"}
        )
    if not isinstance(found, models.Field) or not found.concrete or found.name != name:
        text = _("SYNCHRO_REDACT: %(field)s is no field with a value.")
        raise ImproperlyConfigured(text % {"field": f"{model._meta.label}.{name}"})
    return found


def _resolved(value: Any) -> Any:
    """A dotted path is the callable that it names."""
    if not isinstance(value, str) or not _DOTTED.match(value):
        return value
    try:
        found = import_string(value)
    except ImportError as error:
        raise ImproperlyConfigured(
            _(
                "SYNCHRO_REDACT has %(value)r, which looks like the path of a callable and is none (%(error)s). Where "
                "this "
                "text itself is meant, name a callable that returns it."
            )
            % {"value": value, "error": error}
        ) from error
    if not callable(found):
        raise ImproperlyConfigured(_("SYNCHRO_REDACT has %(value)r, which cannot be called.") % {"value": value})
    return found


def check_setting() -> None:
    """Raise ``ImproperlyConfigured`` where ``SYNCHRO_REDACT`` names what there is not, or cannot be left out."""
    for destination in conf.redactions():
        for label, fields in rules_for(destination).items():
            model = registry.by_label(label)
            for name, value in () if model is None else fields.items():
                if model is not None and (problem := _problem(model, label, name, value)) is not None:
                    raise ImproperlyConfigured(problem)


def unknown_models() -> list[str]:
    """The models in ``SYNCHRO_REDACT`` that are not installed here."""
    labels = {label for entry in conf.redactions().values() for label in entry}
    return sorted(label for label in labels if registry.by_label(label) is None)


def computed_keys() -> list[str]:
    """Models that are redacted, or point to such, whose natural key only their own methods know: it may tell more."""
    labels = {label for destination in conf.redactions() for label in rules_for(destination)}
    named = {model for label in labels if (model := registry.by_label(label)) is not None}
    found = set()
    for model in apps.get_models():
        near = {model, *(f.related_model for f in registry.spec(model).relations.values())}
        if named & near and naturalkeys.key_spec(model).opaque:
            found.add(model._meta.label_lower)
    return sorted(found)


def _problem(model: registry.ModelClass, label: str, name: str, value: Any) -> str | None:
    """Why the field cannot be redacted so; None where it can."""
    column, spec = _field(model, name), registry.spec(model)
    field = {"field": f"{label}.{name}"}
    if column.primary_key or column not in spec.fields:
        text = _("SYNCHRO_REDACT: %(field)s tells objects apart or does not travel, so it cannot be redacted.")
        return text % field
    if (keyed := _in_natural_keys(column)) is not None:
        text = _("SYNCHRO_REDACT: %(field)s is part of the natural key of %(model)s, by which others know its objects.")
        return text % {**field, "model": keyed}
    shared = (
        _("SYNCHRO_REDACT: %(field)s is unique, and all objects would have the same value: replace it by a callable.")
        % field
    )
    if value is WITHHELD:
        lone = not column.null or column.has_default()
        return _needed(column, field) or (shared if column.unique and lone else None)
    if column.remote_field is not None or name in {*spec.generics, *spec.generics.values()}:
        return _("SYNCHRO_REDACT: %(field)s points to an object, so it can only be WITHHELD.") % field
    if callable(value):
        return None
    return _unfit(column, field, value) or (shared if column.unique and value is not None else None)


def _needed(column: registry.AnyField, field: Mapping[str, str]) -> str | None:
    empty = column.remote_field is None and column.empty_strings_allowed
    if column.null or column.has_default() or empty:
        return None
    text = _(
        "SYNCHRO_REDACT: %(field)s is needed by each object and has no default, so that objects could not be created "
        "without it."
    )
    return text % field


def _unfit(column: registry.AnyField, field: Mapping[str, str], value: Any) -> str | None:
    try:
        values.encode(column, column.to_python(value))
    except _FAILURES:
        return _("SYNCHRO_REDACT: %(field)s cannot hold %(value)r.") % {**field, "value": value}
    if value is None and not column.null:
        return _("SYNCHRO_REDACT: %(field)s cannot be NULL.") % field
    return None


def _in_natural_keys(column: registry.AnyField) -> str | None:
    """The model whose natural key says what *column* holds."""
    for model in apps.get_models():
        key = naturalkeys.key_spec(model)
        heads = {path.partition("__")[0] for path in key.paths or ()}
        mine = issubclass(model, column.model) and column.name in heads
        if mine or any((leaf.model, leaf.name) == (column.model, column.name) for leaf in key.leaves):
            return model._meta.label_lower
    return None


# --- carrying it out --------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Redaction:
    """What one bundle does not tell.

    ``rules`` hold for all changes in it; ``own`` are fields (by present label of the model) that this deployment's own
    changes go without, since it was not told their values itself.
    """

    rules: Rules
    own: Mapping[str, frozenset[str]] = field(default_factory=dict)

    def __bool__(self) -> bool:
        return bool(self.rules or self.own)

    def concerns(self, label: str, *, own: bool) -> bool:
        """Whether records of the model *label*, which may be what it was called once, are not as they are in the log.

        *own*: those of changes that this deployment made.
        """
        now = upcasting.current_label(label)
        return now in self.rules or (own and now in self.own)

    def header(self) -> dict[str, tuple[str, ...]]:
        """What the header says of it."""
        labels = sorted({*self.rules, *self.own})
        return {label: tuple(sorted({*self.rules.get(label, ()), *self.own.get(label, ())})) for label in labels}

    def _values(self, label: str, *, own: bool) -> dict[str, Any]:
        found = dict(self.rules.get(label, {}))
        if own:
            found.update(dict.fromkeys(self.own.get(label, ()), WITHHELD))
        model = registry.by_label(label)
        for key, kind in registry.spec(model).generics.items() if model is not None else ():
            if key in found or kind in found:  # neither half means anything without the other
                found[key] = found[kind] = WITHHELD
        return found

    def state(self, label: str, state: Mapping[str, Any], *, own: bool) -> dict[str, Any]:
        """*state* of a model in its present version, JSON forms by field, as it is told.

        What the model does not have here stays out: nobody can say what it is.
        """
        changed = self._values(label, own=own)
        if not changed:
            return dict(state)
        model = registry.by_label(label)
        known = None if model is None else {f.name: f for f in registry.spec(model).fields}
        told: dict[str, Any] = {}
        for name, value in state.items():
            if known is not None and name not in known:
                continue
            if name not in changed:
                told[name] = value
            elif changed[name] is not WITHHELD:
                told[name] = _replaced(label, name, None if known is None else known[name], value, changed[name])
        return told

    def record(self, record: Record, version: int, *, own: bool) -> tuple[Record, int]:
        """*record*, which is in *version* of its model, as it is told, and the version in which it is then.

        Raises ``ExportError`` where that cannot be known.
        """
        if not self.concerns(record.model, own=own):
            return record, version
        of = upcasting.way(record.model, version)
        model = registry.by_label(of.model)
        here = None if model is None else registry.spec(model).version
        if here is None or version == here or not (record.fields or of.steps):
            return self._told(record, own=own), version
        if version > here:
            raise ExportError(
                _("%(model)s %(id)s is of version %(version)d, which is not known here, and some of it is redacted.")
                % {"model": record.model, "id": record.id, "version": version},
                hint=_("Nothing was marked as exported. Upgrade this deployment first."),
            )
        try:
            lifted = upcasting.lift(record, version)
        except upcasting.UpcastError as error:
            raise ExportError(
                _("%(model)s %(id)s is redacted, and cannot be lifted: %(reason)s.")
                % {"model": record.model, "id": record.id, "reason": error},
                hint=_("Nothing was marked as exported."),
            ) from error
        if lifted.record is None:  # there is nothing like it any more
            emptied: Any = {} if record.fields is not None else None
            return replace(record, key=None, fields=emptied, refs=emptied, files=None), version
        told: Any = lifted.record
        # A key of then may say what is not told now.
        key = None if told.fields is None or model is None else upcasting.natural_key(model, told.fields)
        return self._told(replace(told, key=key), own=own), lifted.version

    def _told(self, record: Record, *, own: bool) -> Record:
        if record.fields is None:
            return record
        fields = self.state(record.model, record.fields, own=own)
        changed = self._values(record.model, own=own)
        kept = {name for name in fields if name not in changed}
        files = {name: ref for name, ref in (record.files or {}).items() if name in kept}
        refs = {name: each for name, each in (record.refs or {}).items() if name in kept}
        told = replace(record, fields=fields, refs=refs, files=files or None)
        return _naming(told, self.withheld(record.model, record.fields, own=own))

    def withheld(self, label: str, names: Collection[str], *, own: bool) -> set[str]:
        """Those of the fields *names* of a change that it has, and that are not told as it has them.

        Of what this deployment is not told its *own* changes have nothing, whatever its row says.
        """
        lacking = self.own.get(label, frozenset()) if own else frozenset()
        return (self._values(label, own=own).keys() & names) - lacking

    def without(self, record: Record, version: int) -> Record:
        """*record*, which came from somebody who is not told these fields, without what it says of them."""
        now = upcasting.current_label(record.model)
        of = upcasting.way(record.model, version)
        changed = self._values(of.model if of.model in self.rules else now, own=False)
        if not changed or not record.fields:
            return record
        fields = {
            name: value
            for name, value in record.fields.items()
            if name not in changed and upcasting.current_field(record.model, version, name) not in changed
        }
        if len(fields) == len(record.fields):
            return record
        refs = {name: each for name, each in (record.refs or {}).items() if name in fields}
        files = {name: ref for name, ref in (record.files or {}).items() if name in fields}
        return replace(record, fields=fields, refs=refs, files=files or None)

    def but_for(self, other: Redaction | None) -> Redaction:
        """This one without the fields that *other* has."""
        if other is None:
            return self
        rules = {
            label: kept
            for label, fields in self.rules.items()
            if (kept := {name: by for name, by in fields.items() if name not in other.rules.get(label, {})})
        }
        return Redaction(rules)

    def without_passed_on(self, record: Record, version: int) -> Record:
        """*record*, which somebody passes on who is not told these fields, and who made it may be.

        Without what it says of them; it says that they are withheld, even if who passes it on does not.
        """
        if record.fields is None:
            return record
        now = upcasting.current_label(record.model)
        changed = self._values(now, own=False)
        model = registry.by_label(now)
        here = None if model is None else registry.spec(model).version
        names = changed.keys() if version == here else changed.keys() & record.fields.keys()
        return _naming(self.without(record, version), names)


def _naming(record: Record, names: Collection[str]) -> Record:
    """*record*, saying that *names* were withheld on the way."""
    if not names or not isinstance(record, Change):
        return record
    return replace(record, withheld=tuple(sorted({*record.withheld, *names})))


def _replaced(label: str, name: str, column: registry.AnyField | None, value: Any, by: Any) -> Any:
    """The JSON form of what stands for *value*. Raises ``ExportError``, which does not say the value."""
    given: Any = by
    try:
        if callable(by):
            function: Callable[[Any], Any] = by
            given = function(decode_value(value) if column is None else values.decode(column, value))
        return encode_value(given) if column is None else values.encode(column, column.to_python(given))
    except (*_FAILURES, values.UndecodableValueError) as error:
        raise ExportError(
            _("What is to stand for a value of %(model)s.%(field)s cannot be made: %(error)s.")
            % {"model": label, "field": name, "error": type(error).__name__},
            hint=_("See SYNCHRO_REDACT. Nothing was marked as exported."),
        ) from None


def is_decided(destination: str) -> bool:
    """Whether ``SYNCHRO_REDACT`` says what *destination* is told, or nobody is redacted."""
    wanted = conf.redactions()
    return not any(wanted.values()) or EVERYBODY in wanted or destination in wanted


def for_destination(destination: str, own: Mapping[str, frozenset[str]], *, named: bool) -> Redaction | None:
    """What is not told to *destination*; None for nothing. *own*: see :class:`Redaction`.

    *named*: somebody said for whom the bundle is. Where a destination is redacted, a bundle for nobody in particular is
    not written unless the setting says what it tells (``ExportError``): it might be carried there. Raises
    ``ImproperlyConfigured``.
    """
    wanted = conf.redactions()
    if not named and not is_decided(destination):
        raise ExportError(
            _("SYNCHRO_REDACT withholds fields from %(names)s, and this bundle is for nobody in particular.")
            % {"names": ", ".join(sorted(name for name, entry in wanted.items() if entry))},
            hint=_('Say for whom it is with --to, or what everybody may have with an entry for "*".'),
        )
    check_setting()
    return Redaction(rules_for(destination), own) or None


def defence() -> Callable[[str], Redaction | None]:
    """By the name of a node: what it is not told, and so has no say about."""
    names = conf.redactions()
    found: dict[str, Redaction | None] = {}

    def of(name: str) -> Redaction | None:
        if name not in found:
            found[name] = Redaction(rules_for(name)) or None
        return found[name]

    return of if any(names.values()) else lambda _name: None


def withheld_from_somebody() -> dict[str, frozenset[str]]:
    """Present label of a model → its fields that somebody is not told by this deployment."""
    found: dict[str, set[str]] = {}
    for destination in conf.redactions():
        for label, fields in rules_for(destination).items():
            found.setdefault(label, set()).update(fields)
    return {label: frozenset(names) for label, names in found.items()}
