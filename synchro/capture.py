"""Noticing what the ORM writes: each change of a tracked object becomes one row of the log, in the same transaction.

Saves are captured inside ``Model._save_table``: ``post_save`` fires after the save's own transaction has closed, so in
autocommit a crash or another receiver's exception would leave a row without its log entry. Deletions and m2m changes
are captured by signals, which fire inside. Nothing is connected for models that are not tracked.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from functools import wraps
from typing import Any, cast

from django.apps import apps
from django.core.exceptions import ImproperlyConfigured
from django.db import connections, models, router, transaction
from django.db.models import signals
from django.db.models.signals import ModelSignal

from synchro import cascades, changelog, deletions, links, muting, registry, serialize
from synchro.models import Action
from synchro.registry import ModelSpec, spec

ModelClass = type[models.Model]
_SEEN = "_synchro_seen"

# The instance that an import is saving: its values are the sender's and are written as they are (no auto_now).
_verbatim: ContextVar[models.Model | None] = ContextVar("synchro_verbatim", default=None)


@contextmanager
def written_verbatim(instance: models.Model) -> Iterator[None]:
    """Save *instance* inside this block with exactly the values that it holds.

    ``pre_save`` of its fields is not called.
    """
    token = _verbatim.set(instance)
    try:
        yield
    finally:
        _verbatim.reset(token)


_Receiver = Callable[..., None]
_connected: list[tuple[ModelSignal, ModelClass | None, str]] = []
_wrapped: dict[ModelClass, Any] = {}  # with the method of its own that each had, mostly none
# The tracked models without tracked children: a row in the table of one of them is an object.
_plain: dict[ModelClass, ModelSpec] = {}


def connect() -> None:
    """Capture what the settings say is tracked, and nothing else; called when the app registry is ready.

    Where the settings make no sense, nobody knows what would have to be logged: every save and deletion is refused
    until they do, rather than going unlogged. The system checks say what is wrong.
    """
    disconnect()
    try:
        wanted = list(_receivers())
        written = [*registry.written(), *registry.tracked_links()]
    except ImproperlyConfigured as error:
        _refuse(error)
        return
    for signal, sender, receiver, uid in wanted:
        _connect(signal, sender, receiver, uid)
    for model in written:
        _wrap(model)
    _plain.update((model, spec(model)) for model in registry.tracked() if not registry.descendants(model))


def disconnect() -> None:
    """Stop capturing: no receiver is left, and the models save as Django made them."""
    for signal, sender, uid in _connected:
        signal.disconnect(sender=sender, dispatch_uid=uid)
    _connected.clear()
    _plain.clear()
    for model, own in _wrapped.items():
        if own is None:
            del model._save_table  # type: ignore[attr-defined]  # noqa: SLF001  see _wrap
        else:
            model._save_table = own  # type: ignore[attr-defined]  # noqa: SLF001
    _wrapped.clear()


def _receivers() -> Iterator[tuple[ModelSignal, ModelClass, _Receiver, str]]:
    parents = registry.written() - {model for model in registry.tracked() if not registry.descendants(model)}
    for model in apps.get_models():  # proxies send signals of their own
        concrete = model._meta.concrete_model
        if registry.is_tracked(model):
            yield signals.post_save, model, _announced, "synchro"
        if registry.is_tracked(model) or concrete in parents:
            yield signals.post_delete, model, deletions.deleted, "synchro"
        if concrete in parents:
            yield signals.pre_delete, model, deletions.parent_dies, "synchro"
        if registry.nulled_by(model):
            yield signals.pre_delete, model, deletions.before_nulling, "synchro-null"
            yield signals.post_delete, model, deletions.after_nulling, "synchro-null"
        if registry.carries_away(model):
            yield signals.pre_delete, model, cascades.before, "synchro-cascade"
            yield signals.post_delete, model, cascades.after, "synchro-cascade"
        if registry.linked_by(model):
            yield signals.pre_delete, model, links.target_dies, "synchro-links"
    for through in [*registry.tracked_links(), *registry.intermediaries()]:
        yield signals.m2m_changed, through, links.links_changed, "synchro"


def _connect(signal: ModelSignal, sender: ModelClass | None, receiver: _Receiver, uid: str) -> None:
    signal.connect(receiver, sender=sender, weak=False, dispatch_uid=uid)
    _connected.append((signal, sender, uid))


def _refuse(error: ImproperlyConfigured) -> None:
    text = str(error)

    def refuse(**_kwargs: Any) -> None:
        raise ImproperlyConfigured(text)

    for signal in (signals.pre_save, signals.pre_delete, signals.m2m_changed):
        _connect(signal, None, refuse, "synchro-refuse")


# --- saves ------------------------------------------------------------------------------------------------------------


def _wrap(model: ModelClass) -> None:
    if any(base in _wrapped for base in model.__mro__):
        return
    _wrapped[model] = vars(model).get("_save_table")
    # Signals come too late (see above), and nothing that is public lies between.
    model._save_table = _capturing(model._save_table)  # type: ignore[attr-defined]  # noqa: SLF001


def _capturing(save_table: Callable[..., bool]) -> Callable[..., bool]:
    @wraps(save_table)
    def _save_table(
        self: models.Model,
        raw: bool = False,
        cls: Any = None,
        force_insert: Any = False,
        force_update: bool = False,
        using: str | None = None,
        update_fields: Any = None,
    ) -> bool:
        alias = using or router.db_for_write(type(self), instance=self)
        verbatim = _verbatim.get() is self
        connection: Any = connections[alias]
        if verbatim or not changelog.logs_at(connection):
            with muting.atomic_if_paused(alias):
                return save_table(self, raw or verbatim, cls, force_insert, force_update, alias, update_fields)
        if not connection.in_atomic_block:
            with transaction.atomic(using=alias, savepoint=False):
                updated = save_table(self, raw, cls, force_insert, force_update, alias, update_fields)
                _saved(self, cls, added=not updated, partial=raw or bool(update_fields), connection=connection)
            return updated
        try:
            updated = save_table(self, raw, cls, force_insert, force_update, alias, update_fields)
            _saved(self, cls, added=not updated, partial=raw or bool(update_fields), connection=connection)
        except BaseException:
            # All that an atomic block without a savepoint does inside of another; it would cost a tenth of a save.
            connection.needs_rollback = True
            raise
        return updated

    return _save_table


def _saved(instance: models.Model, table: ModelClass, *, added: bool, partial: bool, connection: Any) -> None:
    """Log the object of which the row in *table* was just written, once all the tables of a multi-table object are."""
    concrete = cast("ModelClass", type(instance)._meta.concrete_model)
    plain = _plain.get(table)
    if plain is not None and concrete is table:  # nearly all; the rest of this function would come to the same
        seen = vars(instance)
        seen[_SEEN] = seen.get(_SEEN, 0) + 1
        action = Action.ADD if added else Action.CHANGE
        _log_saved(plain, instance, instance.pk, action, partial=partial, connection=connection)
        return
    using = connection.alias
    link = registry.tracked_links().get(table)
    if link is not None:
        links.row_saved(link, instance, using)
        return
    if concrete is table and registry.is_tracked(table):
        vars(instance)[_SEEN] = vars(instance).get(_SEEN, 0) + 1
    action = Action.ADD if added else Action.CHANGE
    # A parent's row by itself may be part of a child, which a fixture may even have loaded before it.
    lone = concrete is table and bool(registry.descendants(table)) and (partial or not added)
    if lone and changelog.log_objects(spec(table), [instance.pk], action, using):
        return
    if not registry.is_tracked(table):
        return
    if any(issubclass(concrete, child) for child in registry.descendants(table)):
        return  # a more derived tracked class has its turn when its own table is written
    model_spec = spec(table)
    # A parent saved with its child's instance has its own primary key: in a chain of one-to-one links they are equal.
    pk = instance.pk if concrete is table else getattr(instance, table._meta.pk.attname)
    _log_saved(model_spec, instance, pk, action, partial=partial, connection=connection)


def _log_saved(
    model_spec: ModelSpec, instance: models.Model, pk: Any, action: Action, *, partial: bool, connection: Any
) -> None:
    state = None if partial else serialize.instance_state(model_spec, instance)
    if state is None:
        changelog.log_rows(model_spec, [pk], action, connection.alias)
    else:
        changelog.append(changelog.state_entry(model_spec, pk, action, state), connection.alias, connection)


def _announced(
    sender: ModelClass, instance: models.Model, created: bool = False, using: str | None = None, **kwargs: Any
) -> None:
    """Log a ``post_save`` that was sent by hand, from the row; a save has been logged before it sends this."""
    seen = vars(instance).pop(_SEEN, 0)
    if seen > 1:
        vars(instance)[_SEEN] = seen - 1
    # Only Django says `raw`. What a save noted may be still there although its signal never came this far.
    if seen and "raw" in kwargs:
        return
    alias = using or instance._state.db or router.db_for_write(sender, instance=instance)
    if _verbatim.get() is not instance and changelog.logs(alias):
        changelog.log_objects(spec(sender), [instance.pk], Action.ADD if created else Action.CHANGE, alias)
