"""Deployments to play with: each database alias is one. Carrying bundles between them, and comparing what they hold.

Rows are compared without their automatic primary keys. A row is what it holds, what it points to and what points to it:
every row gets a colour from its own values, which is then refined by the colours of its neighbours until no two rows
can be told apart any better. Two deployments hold the same when they have the same colours equally often. Nothing of
this asks synchro.
"""

import datetime as dt
import decimal
import hashlib
import io
import json
from collections import Counter, defaultdict
from contextlib import ExitStack, contextmanager

import orjson
import pytest
from django.apps import apps
from django.contrib.contenttypes.fields import GenericForeignKey
from django.contrib.contenttypes.models import ContentType
from django.core.cache import cache
from django.db import connections, models, transaction
from django.db.models import QuerySet, signals
from django.test.utils import CaptureQueriesContext

from changelog_format import open_bundle
from synchro import export_bundle, import_bundle, registry

ALIASES = ("default", "hq", "ship")
# For what needs rows that point to each other to be written one after the other.
checked_later = pytest.mark.skipif(
    not connections["default"].features.can_defer_constraint_checks, reason="this database checks foreign keys at once"
)
MISSING = "a row that is not there"
# Rights are given where they are used; no bundle carries them.
ACCOUNT_FIELDS = {"password", "last_login", "is_superuser", "is_staff"}


@contextmanager
def rolled_back(*aliases):
    """Everything done inside is undone afterwards: much quicker than emptying the tables between examples.

    Code that insists on the outermost transaction may run inside, as in Django's own TestCase.
    """
    with ExitStack() as stack:
        for alias in aliases or ALIASES:
            block = transaction.atomic(using=alias)
            block._from_testcase = True
            stack.enter_context(block)
            stack.callback(transaction.set_rollback, True, using=alias)  # called before the block is left
        cache.clear()
        yield
    cache.clear()


# --- bundles ----------------------------------------------------------------------------------------------------------


def write(source="default", **options):
    """An export as bytes, and its report; ``(None, None)`` when there is nothing to export."""
    stream = io.BytesIO()
    report = export_bundle(stream, using=source, **options)
    return (None, None) if report is None else (stream.getvalue(), report)


def take(data, target="hq", **options):
    """Import *data*; unlike the command, whoever it was written for."""
    options.setdefault("any_destination", True)
    return import_bundle(io.BytesIO(data), using=target, **options)


def carry(source="default", target="hq", **options):
    """Export what *source* has for *target* and import it there: the import's report, None when there was nothing."""
    data, report = write(source, to=target)
    return None if report is None else take(data, target, **options)


def lines(data):
    """The lines of a bundle, each as a dict."""
    found = []
    with open_bundle(io.BytesIO(data)) as reader:
        found.append(reader.header.to_dict())
        found += [record.to_dict() for record in reader]
        found.append(reader.trailer.to_dict())
    return found


def records(data):
    """The records of a bundle, each as a dict."""
    return lines(data)[1:-1]


def brought(report):
    """The counts in an import's report that are not zero."""
    names = (
        "added", "changed", "deleted", "m2m", "merged", "unchanged", "already_known", "stale", "conflicts", "held",
        "objects",
    )  # fmt: skip
    return {name: number for name in names if (number := getattr(report, name))}


def forged(data, change):
    """The bundle *data* after *change* was called with the list of its lines (as dicts); written again, valid."""
    from changelog_format import BundleWriter, Change, Header, ObjectRecord

    header, *found = lines(data)[:-1]
    found = change(header, found) or found
    stream = io.BytesIO()
    with BundleWriter(stream, Header.from_dict(header)) as writer:
        for record in found:
            kind = ObjectRecord if record["type"] == "object" else Change
            writer.write(kind.from_dict(record))
    return stream.getvalue()


def queries(using, call):
    """How many queries *call* makes on *using*, and what it returns."""
    with CaptureQueriesContext(connections[using]) as captured:
        result = call()
    return len(captured), result


# --- comparing --------------------------------------------------------------------------------------------------------


def dump(using):
    """What *using* holds, as a sorted list of readable lines that end in the row's colour."""
    rows, edges = _read(using)
    colours = _refined({place: _digest(place[0], values) for place, values in rows.items()}, edges)
    shown = {place: f"{place[0]} {_short(values)}" for place, values in rows.items()}
    pointed = defaultdict(list)
    for source, name, target in edges:
        pointed[source].append(f"{name} → {shown.get(target, MISSING)}")
    tracked = {model._meta.label_lower for model in registry.tracked()}
    return sorted(
        f"{place[0]} {json.dumps(values, ensure_ascii=False)} {sorted(pointed[place])} #{colours[place]}"
        for place, values in rows.items()
        if place[0] in tracked
    )


def assert_same(*aliases):
    """All of *aliases* hold the same, automatic primary keys and fields that do not travel apart."""
    first, *others = aliases
    expected = dump(first)
    plain = [line.rpartition(" #")[0] for line in expected]
    for other in others:
        found = dump(other)
        # Without colours first: that shows the rows that differ, and not all their neighbours too.
        theirs = [line.rpartition(" #")[0] for line in found]
        lacks, extra = Counter(plain) - Counter(theirs), Counter(theirs) - Counter(plain)
        assert (sorted(lacks), sorted(extra)) == ([], []), f"{other} against {first}: lacks, and has too much"
        assert found == expected


def _read(using):
    """Every row's own values, and what points where: ``{(label, pk): {field: text}}``, ``[(row, field, row)]``."""
    rows, edges = {}, []
    waiting = sorted(registry.tracked(), key=lambda model: model._meta.label_lower)
    seen = set(waiting)
    for model in waiting:  # grows by the models that are pointed to
        relations = _read_model(model, using, rows, edges)
        for field in [*relations, *model._meta.local_many_to_many]:
            target = field.related_model._meta.concrete_model
            if target not in seen:
                seen.add(target)
                waiting.append(target)
        for field in model._meta.local_many_to_many:
            _read_links(model, field, using, edges)
    return rows, edges


def _read_model(model, using, rows, edges):
    label = model._meta.label_lower
    skipped = registry.spec(model).skipped | ACCOUNT_FIELDS
    generics = [field for field in model._meta.private_fields if isinstance(field, GenericForeignKey)]
    _read_generics(model, generics, using, edges)
    skipped |= {field.fk_field for field in generics}
    columns = [field for field in model._meta.local_concrete_fields if field.name not in skipped]
    relations = [field for field in columns if isinstance(field, models.ForeignKey)]
    plain = [f for f in columns if f not in relations and not isinstance(f, models.AutoField)]
    every = QuerySet(model, using=using)
    nulls = {
        field: set(every.filter(**{f"{field.name}__isnull": True}).values_list("pk", flat=True))
        for field in plain
        if isinstance(field, models.JSONField)
    }
    for pk, *found in every.values_list("pk", *(f.attname for f in (*plain, *relations))):
        values = {f.name: _text(f, value, nulls, pk) for f, value in zip(plain, found, strict=False)}
        rows[label, pk] = values
        for field, value in zip(relations, found[len(plain) :], strict=True):
            if value is None:
                values[field.name] = "None"
            else:
                edges.append(((label, pk), field.name, (field.related_model._meta.label_lower, value)))
    return relations


def _read_generics(model, generics, using, edges):
    if not generics:
        return
    models_of = {pk: kind.model_class() for pk, kind in QuerySet(ContentType, using=using).in_bulk().items()}
    for field in generics:
        kind = model._meta.get_field(field.ct_field)
        rows = QuerySet(model, using=using).exclude(**{field.fk_field: None}).exclude(**{kind.attname: None})
        for pk, of_kind, value in rows.values_list("pk", kind.attname, field.fk_field):
            target = models_of[of_kind]
            place = value
            if target is not None:
                target = target._meta.concrete_model
                place = (target._meta.label_lower, target._meta.pk.to_python(value))
            edges.append(((model._meta.label_lower, pk), field.name, place))


def _read_links(model, field, using, edges):
    through = field.remote_field.through
    if not through._meta.auto_created:
        return
    source, target = (through._meta.get_field(name()) for name in (field.m2m_field_name, field.m2m_reverse_field_name))
    for mine, theirs in QuerySet(through, using=using).values_list(source.attname, target.attname):
        edges.append(
            ((model._meta.label_lower, mine), f"{field.name}[]", (field.related_model._meta.label_lower, theirs))
        )


def _text(field, value, nulls, pk):
    if field in nulls:
        return "NULL" if pk in nulls[field] else json.dumps(value, sort_keys=True)
    if isinstance(value, memoryview):
        value = bytes(value)
    if isinstance(value, (str, dt.datetime, dt.date, dt.time, decimal.Decimal)):
        return f"{type(value).__name__}:{value}"
    return repr(value)


def _short(values):
    return " ".join(value for value in list(values.values())[:2] if value != "None")


def _digest(*parts):
    return hashlib.sha256(repr(parts).encode("utf-8", "surrogatepass")).hexdigest()[:16]


def _refined(colours, edges):
    """Colours that also tell rows apart by what they point to and what points to them."""
    kinds = len(set(colours.values()))
    while True:
        around = defaultdict(list)
        for source, name, target in edges:
            around[source].append((">", name, colours.get(target, MISSING)))
            if target in colours:
                around[target].append(("<", name, colours[source]))
        colours = {place: _digest(colour, sorted(around[place])) for place, colour in colours.items()}
        before, kinds = kinds, len(set(colours.values()))
        if kinds == before:
            return colours


def loads(text):
    return orjson.loads(text)


def log(using="default"):
    """The log of *using* as ``(action, model, pk, link)``, oldest first."""
    entries = apps.get_model("synchro", "ChangeLog").objects.using(using).order_by("pk")
    return list(entries.values_list("action", "model", "pk_text", "link"))


# --- looking on -------------------------------------------------------------------------------------------------------


def at(model, using="hq"):
    return model.objects.using(using)


def everything(using="hq"):
    """All rows of all tables, also synchro's own: what must not change where nothing is done."""
    connection = connections[using]
    with connection.cursor() as cursor:
        found = {}
        for table in connection.introspection.table_names(cursor):
            cursor.execute(f"SELECT * FROM {connection.ops.quote_name(table)}")
            found[table] = sorted(cursor.fetchall(), key=repr)
    return found


@contextmanager
def unchanged(using="hq"):
    before = everything(using)
    yield
    assert everything(using) == before


@contextmanager
def listening(*models):
    """A receiver of the project on the signals of *models*: what it was told."""
    told = []

    def handler(signal, sender, instance, **kwargs):
        kind = {signals.pre_save: "pre_save", signals.post_save: "save", signals.post_delete: "delete"}[signal]
        told.append((kind, sender._meta.label_lower, instance.pk, kwargs.get("raw"), kwargs.get("using")))

    kinds = (signals.pre_save, signals.post_save, signals.post_delete)
    for model in models:
        for signal in kinds:
            signal.connect(handler, sender=model)
    try:
        yield told
    finally:
        for model in models:
            for signal in kinds:
                signal.disconnect(handler, sender=model)
