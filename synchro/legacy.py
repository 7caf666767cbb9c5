"""Taking over what 0.5 to 0.7 left in the database: references, and what was logged and not synchronized yet.

Those versions had no migrations; their tables are recognised by their names, after ``migrate`` has brought everything
else up to date. What was taken over is kept under other names (``synchro_old_…``), so that it is taken over once and
nothing is lost.
"""

from __future__ import annotations

import ast
import datetime as dt
import decimal
import logging
import re
import uuid
from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping
from typing import Any, NamedTuple, cast

from django.apps.registry import Apps
from django.core.exceptions import ImproperlyConfigured, ValidationError
from django.db import DEFAULT_DB_ALIAS, DatabaseError, connections, models, transaction
from django.utils.dateparse import parse_datetime

from synchro import changelog, conf, moments, naturalkeys, pks, registry, serialize, tables, values
from synchro.guest import Place
from synchro.links import through_columns
from synchro.models import Action, RemoteReference, options
from synchro.registry import ModelSpec

LOG, KEYS, REFERENCES = "synchro_changelog", "synchro_deletekey", "synchro_reference"
ADDITION, DELETION, M2M_CHANGE = 1, 3, 4
# What dbsettings wrote by the active language: English, Polish and German, French and Spanish.
FORMATS = ("%Y-%m-%d %H:%M:%S", "%d.%m.%Y %H:%M:%S", "%d/%m/%Y %H:%M:%S")

logger = logging.getLogger(__name__)


# --- the old tables ---------------------------------------------------------------------------------------------------

_old = Apps()


def _table(name: str, **fields: Any) -> type[models.Model]:
    """A model for reading the table *name*, apart from the models of today."""
    meta = type("Meta", (), {"app_label": "synchro", "db_table": name, "managed": False, "apps": _old})
    members = {"__module__": __name__, "Meta": meta, **fields}
    metaclass: Any = type(models.Model)
    return cast("type[models.Model]", metaclass(name.title().replace("_", ""), (models.Model,), members))


OldReference = _table(
    REFERENCES,
    content_type_id=models.IntegerField(),
    local_object_id=models.CharField(max_length=20),
    remote_object_id=models.CharField(max_length=20),
)
OldChange = _table(
    LOG,
    content_type_id=models.IntegerField(),
    object_id=models.CharField(max_length=20),
    date=models.DateTimeField(),
    action=models.PositiveSmallIntegerField(),
)
OldKey = _table(KEYS, changelog_id=models.IntegerField(), key=models.CharField(max_length=200))
OldOption = _table(
    "dbsettings_setting",
    module_name=models.CharField(max_length=255),
    attribute_name=models.CharField(max_length=255),
    value=models.CharField(max_length=255),
)
OldContentType = _table(
    "django_content_type", app_label=models.CharField(max_length=100), model=models.CharField(max_length=100)
)


def _rows(model: Any, using: str) -> models.QuerySet[Any, Any]:
    return models.QuerySet(model, using=using)


# --- taking over ------------------------------------------------------------------------------------------------------


def take_over(*, using: str = DEFAULT_DB_ALIAS, verbosity: int = 1, stdout: Any = None, **_kwargs: Any) -> None:
    """Receiver of ``post_migrate``: take over what an old version left in database *using*, if there is something.

    Where that is not possible yet (the settings make no sense, tables of tracked models are not up to date) the old
    tables stay as they are, and the next ``migrate`` tries again.
    """
    connection = connections[using]
    with connection.cursor() as cursor:
        there = set(connection.introspection.table_names(cursor))
    if not there & {LOG, REFERENCES} or not changelog.available(using) or "django_content_type" not in there:
        return
    say: Callable[[str], Any] = stdout.write if stdout is not None and hasattr(stdout, "write") else print
    try:
        with transaction.atomic(using=using):
            told = list(_take_over(there, using))
    except (DatabaseError, ImproperlyConfigured, LookupError) as error:
        logger.warning("The tables of an earlier version of synchro in %r were not taken over", using, exc_info=error)
        if verbosity:
            say(f"synchro: the tables of an earlier version in {using!r} were not taken over yet: {error}\n")
        return
    for line in told if verbosity else ():
        say(f"synchro: {line}\n")


def _take_over(there: set[str], using: str) -> Iterator[str]:
    types = _models(using)
    renamed = []
    remote = conf.configured_remote() if using == DEFAULT_DB_ALIAS else None
    known: dict[Place, str] = {}
    if REFERENCES in there:
        known = _references(types, using)
        if remote is not None:
            _keep_references(known, remote, using)
            yield f"took over {len(known)} references to rows of {remote!r}"
        if remote is not None or not known:
            renamed.append(REFERENCES)
        else:
            yield f"left {len(known)} references in {REFERENCES}: SYNCHRO_REMOTE names no database"
    if LOG in there:
        since = _last_check(using) if "dbsettings_setting" in there else None
        yield f"took over {_log(types, known, since, there, using)} changes that were not synchronized yet"
        renamed += [LOG] if KEYS not in there else [KEYS, LOG]
        if since is not None and using == DEFAULT_DB_ALIAS and options.last_check is None:
            _remember_last_check(since)
    _rename(renamed, using)


def _models(using: str) -> dict[int, type[models.Model]]:
    """Content type → installed model."""
    found = {}
    for pk, app, model in _rows(OldContentType, using).values_list("pk", "app_label", "model"):
        installed = registry.by_label(f"{app}.{model}")
        if installed is not None:
            found[pk] = installed
    return found


def _pk_text(model: type[models.Model], text: str) -> str | None:
    """The present text of a primary key that an old version wrote as a string."""
    try:
        return pks.to_text(model, pks.converted(model, text))
    except (ValidationError, ValueError, TypeError):
        return None


def _references(types: Mapping[int, type[models.Model]], using: str) -> dict[Place, str]:
    found: dict[Place, str] = {}
    rows = _rows(OldReference, using).order_by("pk")
    for content_type, local, remote in rows.values_list("content_type_id", "local_object_id", "remote_object_id"):
        model = types.get(content_type)
        if model is not None:
            ours, theirs = _pk_text(model, local), _pk_text(model, remote)
            if ours is not None and theirs is not None:
                found[registry.spec(model).identity_label, ours] = theirs
    return found


def _keep_references(found: Mapping[Place, str], remote: str, using: str) -> None:
    fields = tables.columns(RemoteReference, "remote", "model", "pk_text", "remote_pk_text", "confirmed")
    kept = tables.rows(RemoteReference, using).filter(remote=remote).values_list("model", "pk_text")
    known = set(kept)
    rows = ((remote, *place, there, True) for place, there in found.items() if place not in known)
    tables.insert_many(RemoteReference, fields, rows, using)


def _last_check(using: str) -> dt.datetime | None:
    rows = _rows(OldOption, using).filter(module_name="synchro.models", attribute_name="last_check")
    text = rows.values_list("value", flat=True).first() or ""
    try:
        moment = parse_datetime(text)
    except ValueError:
        moment = None
    for written in FORMATS:
        if moment is None:
            try:
                moment = dt.datetime.strptime(text, written)  # noqa: DTZ007  in local time, as it was written
            except ValueError:
                continue
    return None if moment is None else moments.as_project_has_it(moment)


def _remember_last_check(moment: dt.datetime) -> None:
    from synchro.synchronizing import not_followed

    with not_followed():
        options.last_check = moment


def _rename(names: list[str], using: str) -> None:
    connection = connections[using]
    quote = connection.ops.quote_name
    pairs = [(quote(name), quote(name.replace("synchro_", "synchro_old_", 1))) for name in names]
    with connection.cursor() as cursor:
        if connection.vendor == "mysql" and pairs:  # not undone with the transaction: all of them or none
            cursor.execute("RENAME TABLE " + ", ".join(f"{old} TO {new}" for old, new in pairs))
        elif connection.vendor != "mysql":
            for old, new in pairs:
                cursor.execute(f"ALTER TABLE {old} RENAME TO {new}")


# --- the log ----------------------------------------------------------------------------------------------------------


class _Logged(NamedTuple):
    """What was logged of one object since the last synchronization."""

    first: int
    last: int
    date: dt.datetime
    linked: bool
    key: str | None


def _log(
    types: Mapping[int, type[models.Model]],
    known: Mapping[Place, str],
    since: dt.datetime | None,
    there: set[str],
    using: str,
) -> int:
    """Log anew, with present values and the old dates, what was logged after *since*; how many changes that are."""
    by_spec: dict[ModelSpec, dict[str, _Logged]] = defaultdict(dict)
    rows = _rows(OldChange, using).order_by("date", "pk")
    if since is not None:
        rows = rows.filter(date__gt=since)
    keys = dict(_rows(OldKey, using).values_list("changelog_id", "key")) if KEYS in there else {}
    for pk, content_type, object_id, date, action in rows.values_list(
        "pk", "content_type_id", "object_id", "date", "action"
    ):
        model = types.get(content_type)
        text = None if model is None else _pk_text(model, object_id)
        if model is None or text is None or not registry.is_tracked(model):
            continue
        spec = registry.spec(model)
        before = by_spec[spec].get(text)
        by_spec[spec][text] = _Logged(
            action if before is None else before.first,
            action,
            date,
            action == M2M_CHANGE or (before is not None and before.linked),
            keys.get(pk) or (before.key if before else None),
        )
    return sum(_log_anew(spec, logged, known, using) for spec, logged in by_spec.items())


def _log_anew(spec: ModelSpec, logged: Mapping[str, _Logged], known: Mapping[Place, str], using: str) -> int:
    pk_of = {text: pks.from_text(spec.model, text) for text in logged}
    entries: list[changelog.Entry] = []
    states = serialize.row_states(spec, pk_of.values(), using)
    linked = []
    for text, each in logged.items():
        captured = round(moments.aware(each.date).timestamp() * 1_000_000)
        state = states.get(pk_of[text])
        if state is not None:
            action = Action.ADD if each.first == ADDITION else Action.CHANGE
            entries.append(changelog.state_entry(spec, pk_of[text], action, state)._replace(captured=captured))
            linked += [pk_of[text]] if each.linked else []
        elif each.last == DELETION and (each.first != ADDITION or (spec.identity_label, text) in known):
            held = _key_state(spec, each.key)
            entries.append(changelog.state_entry(spec, pk_of[text], Action.DELETE, held)._replace(captured=captured))
    changelog.append_many(entries, using)
    return len(entries) + sum(_log_links(spec, field, linked, using) for field in spec.links.values())


def _log_links(spec: ModelSpec, field: models.ManyToManyField[Any, Any], pk_values: list[Any], using: str) -> int:
    """Log the links that there are of *pk_values*: what an old version noted is that they changed, not how."""
    source, target = through_columns(field)
    logged = 0
    for part in serialize.chunks(pk_values):
        rows = tables.rows(registry.through(field), using).filter(**{f"{source.attname}__in": part}).order_by("pk")
        entries = [
            changelog.link_entry(spec, mine, field, theirs, Action.LINK)
            for mine, theirs in rows.values_list(source.attname, target.attname)
        ]
        changelog.append_many(entries, using)
        logged += len(entries)
    return logged


# What the values of fields look like in Python's own writing, besides literals. Nothing else is ever called.
_MADE: dict[str, Callable[..., Any]] = {
    "datetime.date": dt.date,
    "datetime.datetime": dt.datetime,
    "datetime.time": dt.time,
    "datetime.timedelta": dt.timedelta,
    "Decimal": decimal.Decimal,
    "UUID": uuid.UUID,
}


def _key(text: str) -> Any:
    """The natural key that an old version wrote as ``repr()``, of Python 2 or 3. Raises what bad input makes raise."""
    text = re.sub(r"(?<=\d)L(?=[,)])", "", text)  # Python 2 marked long integers
    text = re.sub(r"tzinfo=<UTC>|tzinfo=datetime\.timezone\.utc", "tzinfo='UTC'", text)
    return _value(ast.parse(text, mode="eval").body)


def _value(node: ast.expr) -> Any:
    if isinstance(node, (ast.Tuple, ast.List)):
        return tuple(_value(each) for each in node.elts)
    if not isinstance(node, ast.Call):
        return ast.literal_eval(node)
    make = _MADE.get(ast.unparse(node.func))
    if make is None:
        raise ValueError(f"{ast.unparse(node.func)} is no value of a field")
    named = {str(each.arg): _value(each.value) for each in node.keywords}
    if named.get("tzinfo") == "UTC":
        named["tzinfo"] = dt.UTC
    return make(*(_value(each) for each in node.args), **named)


def _key_state(spec: ModelSpec, text: str | None) -> serialize.State:
    """The fields of the natural key of an object that is gone, as far as its old ``repr()`` tells them."""
    paths = naturalkeys.key_paths(spec.model)
    if text is None or paths is None or any("__" in path for path in paths):
        return {}
    try:
        key = _key(text)
        columns = [cast("registry.AnyField", spec.model._meta.get_field(path)) for path in paths]
        state = {
            column.name: values.encode(column, column.to_python(part))
            for column, part in zip(columns, key, strict=True)
        }
    except (ValueError, SyntaxError, TypeError, ArithmeticError, ValidationError):
        logger.warning("%s: the natural key of a deleted object cannot be read: %s", spec.label, text)
        return {}
    return state
