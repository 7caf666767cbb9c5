"""Which models are tracked, and what of each travels. Read from the settings once; nothing here touches a database."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache, lru_cache
from typing import TYPE_CHECKING, Any, TypeAlias, cast

from django.apps import AppConfig, apps
from django.contrib.auth.base_user import AbstractBaseUser
from django.core.exceptions import ImproperlyConfigured
from django.db import models

from synchro import conf, generic
from synchro.conf import early_gettext as _

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

ModelClass = type[models.Model]
AnyField: TypeAlias = "models.Field[Any, Any]"

# What of the deletions of what a foreign key points to is left to the database, since Django 6.1.
DATABASE_CASCADE = getattr(models, "DB_CASCADE", None)
DATABASE_CASCADES = tuple(
    getattr(models, name) for name in ("DB_CASCADE", "DB_SET_NULL", "DB_SET_DEFAULT") if hasattr(models, name)
)


_ACCOUNT_FIELDS = frozenset({"password", "last_login", "is_superuser", "is_staff"})
_ACCOUNT_LINKS = frozenset({"groups", "user_permissions"})
_RIGHTS = frozenset({"auth.group", "auth.permission"})


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class ModelSpec:
    """What of one concrete model travels.

    ``root``: the topmost multi-table parent; its rows and those of its children are one object with one history.
    ``identity``: the model whose primary key numbers the objects, found by following foreign primary keys. Their labels
    are asked for at each change, and stand here because ``_meta.label_lower`` makes its text anew each time.
    ``fields``: the concrete fields of a record: neither generated nor skipped, no automatic number, no parent link.
    ``relations``: those of them that are foreign keys, by name.
    ``generics``: those that are the object's half of a generic foreign key, with the name of the other half.
    ``links``: the m2m fields with a through table of Django's.
    ``skipped``: the names that ``SYNCHRO_SKIP`` and ``SYNCHRO_SKIP_FIELDS`` leave out.
    ``version``: that of ``SYNCHRO_VERSIONS``, or ``SYNCHRO_VERSION``.
    """

    model: ModelClass
    label: str
    root: ModelClass
    root_label: str
    identity: ModelClass
    identity_label: str
    fields: tuple[AnyField, ...]
    relations: Mapping[str, models.ForeignKey[Any, Any]]
    generics: Mapping[str, str]
    links: Mapping[str, models.ManyToManyField[Any, Any]]
    skipped: frozenset[str]
    version: int

    @property
    def loose(self) -> Iterator[str]:
        """The names of the foreign keys, generic or not, that may point to what is not there."""
        yield from self.generics
        for name, relation in self.relations.items():
            if not getattr(relation, "db_constraint", True) and relation.target_field.primary_key:
                yield name

    @property
    def borrows_identity(self) -> bool:
        """Whether the primary key is a foreign key to another object, whose id then names this one too (a profile)."""
        return self.identity is not self.root


def _concrete(model: ModelClass) -> ModelClass:
    return model._meta.concrete_model or model


def _root(model: ModelClass) -> ModelClass:
    while model._meta.parents:
        parent = next(iter(model._meta.parents))
        if parent._meta.proxy or parent is model:
            break
        model = parent
    return model


def _identity(model: ModelClass) -> ModelClass:
    seen = {model}
    while isinstance(pk := model._meta.pk, models.ForeignKey):
        target = _concrete(pk.related_model)
        if target in seen or pk.target_field != target._meta.pk:
            break
        seen.add(target)
        model = target
    return model


def _skipped(model: ModelClass) -> frozenset[str]:
    names = {*conf.skip_fields().get(model._meta.label_lower, ()), *_declared_skip(model)}
    return frozenset(names | _rights_not_asked_for(model))


def _declared_skip(model: ModelClass) -> set[str]:
    names: set[str] = set()
    for base in model.__mro__:
        own = vars(base).get("SYNCHRO_SKIP", ())
        if not isinstance(own, (str, tuple, list, set, frozenset)) or not all(isinstance(name, str) for name in own):
            message = _("%(model)s.SYNCHRO_SKIP is %(own)r: write the names of fields.") % {
                "model": base.__name__,
                "own": own,
            }
            raise ImproperlyConfigured(message)
        names.update((own,) if isinstance(own, str) else own)
    return names


def _declared_version(model: ModelClass) -> int:
    version: Any = getattr(model, "SYNCHRO_VERSION", 1)
    if type(version) is not int or version < 1:
        message = _("%(model)s.SYNCHRO_VERSION is %(version)r: write a whole number from 1 up.") % {
            "model": model._meta.label,
            "version": version,
        }
        raise ImproperlyConfigured(message)
    return version


def check_declared() -> None:
    """Raise ``ImproperlyConfigured`` where a tracked model declares ``SYNCHRO_SKIP`` or ``SYNCHRO_VERSION`` wrongly."""
    try:
        found = tracked()
    except ImproperlyConfigured:
        return  # what is tracked is another question
    for model in found:
        _declared_skip(model)
        _declared_version(model)


def _is_account(model: ModelClass) -> bool:
    """Whether the rows of *model* are accounts of which only who they are is to travel: it is not tracked itself."""
    return issubclass(model, AbstractBaseUser) and not is_tracked(model)


def _rights_not_asked_for(model: ModelClass) -> set[str]:
    """What *model* has from an account that is not tracked: its password and rights, which its child does not carry."""
    accounts = {parent for parent in model._meta.get_parent_list() if _is_account(parent)}
    names = {f.name for f in model._meta.concrete_fields if f.model in accounts and f.name in _ACCOUNT_FIELDS}
    if _is_account(model):
        accounts.add(model)
    return names | {f.name for f in model._meta.many_to_many if f.model in accounts and f.name in _ACCOUNT_LINKS}


def gives_rights(model: ModelClass) -> bool:
    """Whether rights hang on rows of *model*, and it is not tracked: then it is for people here to make them."""
    family = [model, *model._meta.get_parent_list()]
    return not is_tracked(model) and any(each._meta.label_lower in _RIGHTS for each in family)


def is_for_people(model: ModelClass) -> bool:
    """Whether rows of *model* are accounts, or rights hang on them, and it is not tracked: no bundle merges two."""
    return _is_account(model) or gives_rights(model)


def _travels(field: AnyField, skipped: frozenset[str]) -> bool:
    if field.name in skipped or field.attname in skipped or getattr(field, "generated", False):
        return False
    if isinstance(field, models.AutoField):
        return False
    return not (field.remote_field is not None and getattr(field.remote_field, "parent_link", False))


def is_link_field(field: Any) -> bool:
    """Whether *field* is an m2m field, and does not only look like one, as the managers of tag libraries do."""
    return isinstance(field, models.ManyToManyField)


def through(field: models.ManyToManyField[Any, Any]) -> ModelClass:
    """The model whose rows are the links of *field*; a loaded field always has one."""
    return cast("ModelClass", field.remote_field.through)


@cache
def spec(model: ModelClass) -> ModelSpec:
    """What travels of *model* (of its concrete model, if it is a proxy)."""
    model = _concrete(model)
    options = model._meta
    skipped = _skipped(model)
    fields = tuple(field for field in options.concrete_fields if _travels(field, skipped))
    root, identity = _root(model), _identity(model)
    return ModelSpec(
        model=model,
        label=options.label_lower,
        root=root,
        root_label=root._meta.label_lower,
        identity=identity,
        identity_label=identity._meta.label_lower,
        fields=fields,
        relations={field.name: field for field in fields if isinstance(field, models.ForeignKey)},
        generics={key: kind for key, kind in generic.pairs(model).items() if {key, kind} <= {f.name for f in fields}},
        links={
            field.name: field
            for field in options.many_to_many
            if is_link_field(field) and field.name not in skipped and through(field)._meta.auto_created
        },
        skipped=skipped,
        version=conf.model_versions().get(options.label_lower, _declared_version(model)),
    )


def object_fields(model_spec: ModelSpec) -> tuple[AnyField, ...]:
    """The fields that travel, and are taken, of a row that is not tracked but pointed to.

    Of an account only who it is: its password and what it may do are decided where it is used.
    """
    if _is_account(model_spec.model):
        return tuple(field for field in model_spec.fields if field.name not in _ACCOUNT_FIELDS)
    return model_spec.fields


def stays_here(model_spec: ModelSpec) -> frozenset[str]:
    """The fields that an older state in the log may hold and that do not travel (any more)."""
    return model_spec.skipped | _ACCOUNT_FIELDS if _is_account(model_spec.model) else model_spec.skipped


# --- what is tracked --------------------------------------------------------------------------------------------------


def app_config(name: str, setting: str = "SYNCHRO_MODELS") -> AppConfig:
    """The installed app called *name*: its label, or its dotted name (both are tried, letter case does not matter)."""
    lowered = name.lower()
    for config in apps.get_app_configs():
        if lowered in (config.label.lower(), config.name.lower()):
            return config
    message = _("%(setting)s names the app %(name)r, which is not in INSTALLED_APPS.") % {
        "setting": setting,
        "name": name,
    }
    raise ImproperlyConfigured(message)


def _app_models(config: AppConfig) -> Iterator[ModelClass]:
    """Every model of an app with rows of its own that can be written: neither proxies nor unmanaged or swapped ones."""
    for model in config.get_models():
        options = model._meta
        if options.managed and not options.proxy and not options.swapped:
            yield model


def _entry_models(entry: Any, setting: str = "SYNCHRO_MODELS") -> Iterator[ModelClass]:
    if isinstance(entry, str):
        yield from _app_models(app_config(entry, setting))
        return
    if not isinstance(entry, (tuple, list)) or not entry or not all(isinstance(part, str) for part in entry):
        message = _("%(setting)s has %(entry)r: write an app, or a tuple of an app and its models.") % {
            "setting": setting,
            "entry": entry,
        }
        raise ImproperlyConfigured(message)
    config = app_config(entry[0], setting)
    if len(entry) == 1:
        yield from _app_models(config)
    for name in entry[1:]:
        try:
            yield _concrete(config.get_model(name))
        except LookupError as error:
            message = _("%(setting)s names the model %(name)r, which the app %(app)r does not have.") % {
                "setting": setting,
                "name": name,
                "app": config.label,
            }
            raise ImproperlyConfigured(message) from error


@lru_cache(maxsize=1)
def tracked() -> frozenset[ModelClass]:
    """The tracked concrete models: those that ``SYNCHRO_MODELS`` names, and the through models of their m2m fields.

    Raises ``ImproperlyConfigured`` where ``SYNCHRO_MODELS`` makes no sense.
    """
    if (assigned := conf.assigned("MODELS")) is not None:
        found = {_concrete(model) for model in assigned}
    else:
        found = {model for entry in conf.models() for model in _entry_models(entry)}
    # The project's own through models of their m2m fields hold the links, and are objects with values of their own.
    found |= {_concrete(through(field)) for model in found for field in model._meta.many_to_many if _is_own(field)}
    return frozenset(model for model in found if model._meta.app_label not in ("synchro", "dbsettings"))


def _is_own(field: Any) -> bool:
    """Whether the links of *field* are rows of a model that the project wrote, and that can be written."""
    if not is_link_field(field):
        return False
    options = through(field)._meta
    return not options.auto_created and options.managed and not options.swapped


@lru_cache(maxsize=1)
def tracked_labels() -> frozenset[str]:
    """The labels (lower case) of the tracked models."""
    return frozenset(model._meta.label_lower for model in tracked())


def is_tracked(model: ModelClass) -> bool:
    """Whether *model*, or the concrete model of a proxy, is tracked."""
    return _concrete(model) in tracked()


@lru_cache(maxsize=1)
def accepted() -> Mapping[str, frozenset[ModelClass]] | None:
    """``SYNCHRO_ACCEPT`` as concrete models, None where it is absent. Raises ``ImproperlyConfigured``."""
    wanted = conf.accept()
    if wanted is None:
        return None
    return {
        name: frozenset(model for entry in entries for model in _entry_models(entry, "SYNCHRO_ACCEPT"))
        for name, entries in wanted.items()
    }


def accepts(node: str, model: ModelClass) -> bool:
    """Whether a change of *model* that *node* (its id) made may be applied here, as far as ``SYNCHRO_ACCEPT`` says."""
    allowed = accepted()
    if allowed is None:
        return True
    return _concrete(model) in _allowed(node, allowed)


def accepts_object(node: str, model: ModelClass) -> bool:
    """The same for a row that is not tracked: whether something points to it that *node* may send."""
    allowed = accepted()
    return allowed is None or _concrete(model) in reachable(_allowed(node, allowed))


def _allowed(node: str, allowed: Mapping[str, frozenset[ModelClass]]) -> frozenset[ModelClass]:
    return allowed.get(node.rpartition("-")[0], allowed.get("*", frozenset()))


@cache
def reachable(models_: frozenset[ModelClass]) -> frozenset[ModelClass]:
    """*models_*, and those that their records may point to, directly or through each other."""
    found: set[ModelClass] = set()
    waiting = list(models_)
    while waiting:
        model = _concrete(waiting.pop())
        if model not in found:
            found.add(model)
            waiting += [f.related_model for f in (*spec(model).relations.values(), *spec(model).links.values())]
    return frozenset(found)


@lru_cache(maxsize=1)
def written() -> frozenset[ModelClass]:
    """The tracked models and their multi-table parents: the tables whose rows a tracked object consists of."""
    return tracked() | {parent for model in tracked() for parent in model._meta.get_parent_list()}


@cache
def descendants(model: ModelClass) -> tuple[ModelClass, ...]:
    """The tracked multi-table children of *model*, the most derived ones first."""
    children = [child for child in tracked() if model in child._meta.get_parent_list()]
    return tuple(sorted(children, key=lambda child: (-len(child._meta.get_parent_list()), child._meta.label_lower)))


@lru_cache(maxsize=1)
def tracked_links() -> Mapping[ModelClass, models.ManyToManyField[Any, Any]]:
    """Through model → m2m field, for each link table of Django's own between tracked objects."""
    return {through(field): field for model in tracked() for field in spec(model).links.values()}


@lru_cache(maxsize=1)
def _linked() -> Mapping[ModelClass, list[models.ManyToManyField[Any, Any]]]:
    found: dict[ModelClass, list[models.ManyToManyField[Any, Any]]] = {}
    for field in tracked_links().values():
        if not is_tracked(field.related_model):
            found.setdefault(_concrete(field.related_model), []).append(field)
    return found


def linked_by(target: ModelClass) -> Sequence[models.ManyToManyField[Any, Any]]:
    """The tracked m2m fields whose links go with a row of *target*, which is not tracked itself."""
    return _linked().get(_concrete(target), ())


@lru_cache(maxsize=1)
def intermediaries() -> Mapping[ModelClass, models.ManyToManyField[Any, Any]]:
    """Tracked through model of the project's own → its m2m field: rows that ``add()`` makes without a signal."""
    assigned = conf.assigned("INTER_MODELS")
    if isinstance(assigned, Mapping):
        return assigned
    found = {}
    for model in apps.get_models():
        for field in model._meta.local_many_to_many:
            if not is_link_field(field):
                continue
            link_model = through(field)
            if not link_model._meta.auto_created and _concrete(link_model) in tracked():
                found[_concrete(link_model)] = field
    return found


@lru_cache(maxsize=1)
def _nulled() -> Mapping[ModelClass, list[tuple[ModelClass, models.ForeignKey[Any, Any]]]]:
    silent = (models.CASCADE, models.PROTECT, models.RESTRICT, models.DO_NOTHING, DATABASE_CASCADE)
    found: dict[ModelClass, list[tuple[ModelClass, models.ForeignKey[Any, Any]]]] = {}
    for model in sorted(tracked(), key=lambda each: each._meta.label_lower):
        for field in model._meta.concrete_fields:
            if field.model is not model and is_tracked(field.model):
                continue  # inherited: the parent's to tell
            if isinstance(field, models.ForeignKey) and field.remote_field.on_delete not in silent:
                found.setdefault(_concrete(field.related_model), []).append((model, field))
    return found


def nulled_by(target: ModelClass) -> Sequence[tuple[ModelClass, models.ForeignKey[Any, Any]]]:
    """The tracked models and foreign keys that a deletion in *target* sets to another value (``SET_NULL``, …)."""
    return _nulled().get(_concrete(target), ())


def pointing_to(target: ModelClass, kinds: Sequence[Any]) -> list[models.ForeignKey[Any, Any]]:
    """The foreign keys of installed models to *target* whose ``on_delete`` is one of *kinds*, in a fixed order."""
    found = [
        field
        for model in apps.get_models(include_auto_created=True)
        for field in model._meta.local_concrete_fields
        if isinstance(field, models.ForeignKey)
        and field.remote_field.on_delete in kinds
        and _concrete(field.related_model) is target
        and not model._meta.proxy
    ]
    return sorted(found, key=lambda field: (field.model._meta.label_lower, field.name))


def database_targets(kinds: Sequence[Any]) -> list[ModelClass]:
    """The models that foreign keys of *kinds* point to, in a fixed order."""
    found = {
        _concrete(field.related_model)
        for model in apps.get_models(include_auto_created=True)
        for field in model._meta.local_concrete_fields
        if isinstance(field, models.ForeignKey) and field.remote_field.on_delete in kinds
    }
    return sorted(found, key=lambda model: model._meta.label_lower)


@cache
def carries_away(target: ModelClass) -> bool:
    """Whether a deletion in *target* takes tracked rows along in the database, or rows that these point to."""
    seen, waiting = {_concrete(target)}, [_concrete(target)]
    while waiting:
        for column in pointing_to(waiting.pop(), (DATABASE_CASCADE,)):
            if is_tracked(column.model):
                return True
            if column.model not in seen:
                seen.add(column.model)
                waiting.append(column.model)
    return False


def by_label(label: str) -> ModelClass | None:
    """The installed model that *label* names, or None."""
    try:
        return _concrete(apps.get_model(label))
    except (LookupError, ValueError):
        return None


def clear_caches() -> None:
    """Forget what was read from the settings; called when they change (in tests)."""
    for cached in (
        spec,
        tracked,
        tracked_labels,
        accepted,
        reachable,
        written,
        descendants,
        tracked_links,
        intermediaries,
        carries_away,
        _nulled,
        _linked,
    ):
        cached.cache_clear()
