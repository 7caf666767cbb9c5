"""`NaturalManager` and `NaturalKeyModel`: natural keys without writing the two methods.

class Book(models.Model):
    objects = NaturalManager("title", "author")     # get_by_natural_key()

class Book(NaturalKeyModel):
    _natural_key = ("title", "author")              # natural_key() too
"""
# ruff: noqa: SLF001 - the documented _natural_key and _natural_manager_kwargs, and this module's own marks on classes

from __future__ import annotations

import copy
import types
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, ClassVar, TypeVar, cast

from django.core.exceptions import FieldDoesNotExist, ValidationError
from django.db import models
from django.db.models.manager import BaseManager

__all__ = ["NaturalKeyModel", "NaturalManager"]

_M_co = TypeVar("_M_co", bound=models.Model, covariant=True)


class NotAManagerError(ValidationError, TypeError):
    """``manager=`` is no manager class. Earlier versions raised ValidationError."""

    def __str__(self) -> str:
        return str(self.message)


class NoFieldsError(TypeError, AssertionError):
    """A natural key without fields. Earlier versions raised AssertionError."""


class _NaturalManagerType(type):
    """Calling a NaturalManager class that has no fields yet makes a subclass that has them, and an instance of that.

    Classes and not instances know the fields because Django makes related managers from the default manager's class.
    A metaclass, so that no ``__new__`` or ``__init__`` of a user's manager ever sees the field names.
    """

    fields: tuple[str, ...]

    def __call__(cls, *args: Any, **kwargs: Any) -> Any:
        natural: dict[str, Any] = {name: kwargs.pop(name) for name in ("manager", "allow_many") if name in kwargs}
        if cls.fields and not natural:
            return super().__call__(*args, **kwargs)
        if cls.fields:
            return cast("Any", _specialize(cls, cls.fields, called_with=((), natural), **natural))(*args, **kwargs)
        if not args:
            raise NoFieldsError(f"{cls.__name__} needs the fields of the natural key: {cls.__name__}('code', 'day')")
        return cast("Any", _specialize(cls, args, called_with=(args, natural), **natural))(**kwargs)


def _field_names(fields: Any, where: str) -> tuple[str, ...]:
    if isinstance(fields, str) or not isinstance(fields, Sequence) or not all(isinstance(f, str) for f in fields):
        raise TypeError(f"{where} must be a tuple of field names, as in ('code',), not {fields!r}")
    return tuple(fields)


def _specialize(
    called: type[Any],
    fields: Sequence[str],
    *,
    called_with: tuple[tuple[Any, ...], dict[str, Any]],
    manager: Any = models.Manager,
    allow_many: bool = False,
) -> type[NaturalManager[Any]]:
    """A subclass of ``called`` and ``manager`` for these fields. TypeError if ``manager`` is no manager class."""
    if not isinstance(manager, type) or not issubclass(manager, BaseManager):
        raise NotAManagerError(f"manager= must be a subclass of django.db.models.Manager, not {manager!r}")
    bases: tuple[type, ...] = (called, manager)
    if issubclass(called, manager):
        bases = (called,)
    elif issubclass(manager, called):
        bases = (manager,)
    meta: type = _NaturalManagerType
    if not issubclass(meta, type(manager)):
        meta = type("_NaturalManagerType", (_NaturalManagerType, type(manager)), {})
    namespace = {
        "__module__": (called if manager is models.Manager else manager).__module__,
        "__doc__": manager.__doc__,
        "fields": _field_names(fields, "the natural key"),
        "allow_many": bool(allow_many),
        "_called": called,
        "_called_with": called_with,
        "_extended": manager,
        "_by_model": False,
    }
    name = f"Natural{manager.__name__.removeprefix('Natural')}"
    return types.new_class(name, bases, {"metaclass": meta}, lambda body: body.update(namespace))


class NaturalManager(models.Manager[_M_co], metaclass=_NaturalManagerType):
    """A manager with ``get_by_natural_key()`` for the fields named.

    ``NaturalManager("code", "day", manager=MyManager, allow_many=False)`` gives an instance of a new class that extends
    NaturalManager and ``manager`` (a class; TypeError if it is none). It can be subclassed: with ``fields`` (and
    ``allow_many``) as class attributes the subclass takes no arguments, without them it takes those of NaturalManager.

    A field may be a path (``"author__email"``) or a foreign key. The latter stands for its target's natural key, whose
    components take its place in the key, or for its raw value where the target has none.

    With ``allow_many`` the key need not be unique, and the row with the lowest primary key is taken.
    """

    fields: ClassVar[tuple[str, ...]] = ()
    allow_many: ClassVar[bool] = False
    _called: ClassVar[type[Any] | None] = None
    _called_with: ClassVar[tuple[tuple[Any, ...], dict[str, Any]]]
    _extended: ClassVar[type[Any]]
    _by_model: ClassVar[bool] = False

    if TYPE_CHECKING:

        def __init__(self, *fields: str, manager: type[BaseManager[Any]] = ..., allow_many: bool = ...) -> None: ...

    def __init_subclass__(cls, **kwargs: Any) -> None:
        super().__init_subclass__(**kwargs)
        cls.fields = _field_names(cls.fields, f"{cls.__name__}.fields")

    def get_by_natural_key(self, *args: Any) -> _M_co:
        """The row with this key: one value a field, or for a foreign key its target's key, flattened.

        A foreign key may also be given as an instance, or its key as a list. Raises DoesNotExist,
        MultipleObjectsReturned unless ``allow_many``, and TypeError if the number of values is not that of the key.
        """
        lookups = self._lookups(args)
        if not self.allow_many:
            return self.get(**lookups)
        first = self.filter(**lookups).order_by("pk").first()
        if first is None:
            raise cast("Any", self.model).DoesNotExist(f"{self.model._meta.object_name} matching query does not exist.")
        return first

    def _lookups(self, args: Sequence[Any]) -> dict[str, Any]:
        from synchro.naturalkeys import declared_paths  # which needs this module to know the fields of managers

        lookups: dict[str, Any] = {}
        left = list(args)
        parts = [(name, declared_paths(self.model, name)) for name in self.fields]
        for position, (name, paths) in enumerate(parts):
            if left and isinstance(left[0], models.Model):
                lookups[name] = left.pop(0)
            elif left and isinstance(left[0], (list, tuple)) and paths != (name,):
                lookups.update(self._part(name, paths, list(left.pop(0)), args))
            else:
                # The length of a computed key is not known: it has what the fields after it leave.
                after = sum(len(later) for _, later in parts[position + 1 :] if later is not None)
                size = len(paths) if paths is not None else max(len(left) - after, 1)
                taken, left = left[:size], left[size:]
                lookups.update(self._part(name, paths, taken, args))
        if left:
            raise self._miscounted(args)
        return lookups

    def _part(self, name: str, paths: tuple[str, ...] | None, key: list[Any], args: Sequence[Any]) -> dict[str, Any]:
        """The lookups for one field, given its part of the key."""
        if paths is not None:
            if len(key) != len(paths):
                raise self._miscounted(args)
            return dict(zip(paths, key, strict=True))
        if not key:
            raise self._miscounted(args)
        if all(component is None for component in key):
            return {name: None}
        field = _related_field(self.model, name)
        target: Any = field.remote_field.model
        try:
            return {name: target._default_manager.db_manager(self.db).get_by_natural_key(*key)}
        except target.DoesNotExist as error:
            raise cast("Any", self.model).DoesNotExist(
                f"{self.model._meta.object_name}.{name} matching query: {error}"
            ) from error

    def _miscounted(self, args: Sequence[Any]) -> TypeError:
        names = ", ".join(self.fields)
        return TypeError(f"the natural key of {self.model._meta.label} is ({names}); {len(args)} values do not fit it")

    def deconstruct(self) -> Any:
        """As the manager that was extended: migrations need its methods, and no natural keys.

        A subclass that was called with field names is written as that call.
        """
        if self._called is None:
            return super().deconstruct()
        written = copy.copy(self)
        written.__class__ = self._extended if self._called is NaturalManager else self._called
        as_manager, path, queryset, args, kwargs = written.deconstruct()
        if self._called is not NaturalManager and not as_manager:
            args, kwargs = (*self._called_with[0], *args), {**self._called_with[1], **kwargs}
        return as_manager, path, queryset, args, kwargs

    def __eq__(self, other: object) -> bool:
        # makemigrations compares with what deconstruct() gave, which may be a manager of the extended class.
        if self._called is NaturalManager and self._extended is not models.Manager:
            same_class = isinstance(other, self._extended)
        else:
            same_class = (
                isinstance(other, NaturalManager)
                and (other._called or type(other)) is (self._called or type(self))
                and (other.fields, other.allow_many) == (self.fields, self.allow_many)
            )
        return same_class and cast("Any", self)._constructor_args == cast("Any", other)._constructor_args

    __hash__ = BaseManager.__hash__


def _related_field(model: type[models.Model], path: str) -> models.ForeignKey[Any, Any]:
    *through, name = path.split("__")
    for step in through:
        model = cast("Any", model._meta.get_field(step)).remote_field.model
    return cast("models.ForeignKey[Any, Any]", model._meta.get_field(name))


# --- models -----------------------------------------------------------------------------------------------------------


def _natural_key(self: Any) -> tuple[Any, ...]:
    """The values of the key's fields; of a foreign key its target's natural key, in place."""
    return tuple(component for name in self._natural_key for component in _components(self, name))


def _components(instance: Any, name: str) -> tuple[Any, ...]:
    from synchro.naturalkeys import declared_paths  # as above

    paths = declared_paths(instance._meta.model, name)
    if paths is not None:
        return tuple(_follow(instance, path) for path in paths)
    target = _follow(instance, name)
    return (None,) if target is None else tuple(target.natural_key())


def _follow(instance: Any, path: str) -> Any:
    for step in path.split("__"):
        if instance is None:
            return None
        instance = getattr(instance, step)
    return instance


class _NaturalKeyMethod:
    """``natural_key()``; asked on the class it has the ``dependencies`` that dumpdata sorts models by."""

    def __get__(self, instance: Any, owner: type[Any]) -> Any:
        if instance is not None:
            return types.MethodType(_natural_key, instance)

        def natural_key(self: Any) -> tuple[Any, ...]:
            return _natural_key(self)

        natural_key.__doc__ = _natural_key.__doc__
        if not owner._meta.abstract and owner._meta.apps.models_ready:
            vars(natural_key)["dependencies"] = _dependencies(owner)
        return natural_key


def _dependencies(model: type[Any]) -> list[str]:
    """The labels of the models that the key's foreign keys lead to, without ``model`` itself."""
    labels: dict[str, None] = {}
    for path in model._natural_key:
        holder = model
        for step in path.split("__"):
            try:
                field = holder._meta.get_field(step)
            except FieldDoesNotExist:
                break
            if not isinstance(field, models.ForeignKey):
                break
            holder = field.remote_field.model
            if holder._meta.concrete_model is not model._meta.concrete_model:
                labels[holder._meta.label_lower] = None
    return list(labels)


class NaturalKeyModel(models.Model):
    """Abstract model with ``natural_key()``, and ``get_by_natural_key()`` on its ``objects`` and default manager.

    ``_natural_key`` names the fields (see `NaturalManager`), ``_natural_manager_kwargs`` holds further arguments of
    NaturalManager. Both are inherited. Managers declared by the model, or by what it extends, are kept with their
    names, arguments and order, and extended. TypeError for a model that is not abstract and has no ``_natural_key``.
    """

    _natural_key: ClassVar[tuple[str, ...]] = ()
    _natural_manager_kwargs: ClassVar[dict[str, Any]] = {}

    if TYPE_CHECKING:

        def natural_key(self) -> tuple[Any, ...]:
            """The values of the key's fields; of a foreign key its target's natural key, in place."""

    else:
        natural_key = _NaturalKeyMethod()

    class Meta:
        abstract = True

    @classmethod
    def _prepare(cls) -> None:
        # Django's hook between collecting the fields and sending class_prepared; abstract models do not come here.
        # It is found on the class before the metaclass, which therefore need not be one of ours: models of libraries
        # that have theirs can be extended too.
        _extend_managers(cls)
        cast("Any", type(cls))._prepare(cls)


def _extend_managers(model: type[NaturalKeyModel]) -> None:
    fields = _field_names(model._natural_key, f"{model.__name__}._natural_key")
    if not fields:
        raise TypeError(f"{model.__name__} extends NaturalKeyModel and must name its fields in _natural_key")
    meta: Any = model._meta
    default = meta.default_manager
    given = meta.managers_map
    if "objects" not in given and not meta.proxy and not any(field.name == "objects" for field in meta.fields):
        model.add_to_class("objects", _by_model(NaturalManager, fields, model._natural_manager_kwargs)())
    for name in {"objects", default.name if default is not None else "objects"} & given.keys():
        extended = _extended(given[name], fields, model._natural_manager_kwargs)
        if extended is not given[name]:
            meta.local_managers[:] = [manager for manager in meta.local_managers if manager.name != name]
            model.add_to_class(name, extended)
    if default is not None and meta.default_manager.name != default.name:
        # A manager that was inherited is the model's own now, which would put it first.
        meta.default_manager_name = default.name
        meta._expire_cache()


def _by_model(called: Any, fields: tuple[str, ...], options: dict[str, Any]) -> Any:
    natural = _specialize(called, fields, called_with=(fields, options), **options)
    natural._by_model = True
    return natural


def _extended(given: Any, fields: tuple[str, ...], options: dict[str, Any]) -> Any:
    """The manager ``given``, or a copy of it for this key: same arguments, same place in the order of managers."""
    extends = type(given)
    if isinstance(given, NaturalManager):
        if not given._by_model:
            options = {"allow_many": given.allow_many, **options}
        same_key = given.fields == fields and given.allow_many == options.get("allow_many", False)
        if same_key and isinstance(given, options.get("manager", BaseManager)):
            return given
        while getattr(extends, "_called", None) is NaturalManager:
            extends = extends._extended
    wanted = options.get("manager", extends)
    if isinstance(wanted, type) and issubclass(extends, wanted):
        extended = copy.copy(given)
        extended.__class__ = _by_model(NaturalManager, fields, {**options, "manager": extends})
    else:
        extended = _by_model(NaturalManager, fields, options)()
        extended.creation_counter = given.creation_counter
    return extended
