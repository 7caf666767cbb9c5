"""Carrying out a plan. What is written is what the plan says; nothing is decided here.

Models without handlers of their own are written in bulk: one statement run for all rows of a kind. Where the project
listens to signals of a model, or overrides its ``save()`` or ``delete()``, its objects are saved and deleted one by
one, in the sender's order, so that handlers reproduce what they do (``SYNCHRO_APPLY = "raw"`` turns that off). Both
leave the same rows behind.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace
from typing import Any, TypeAlias

from django.contrib.auth.base_user import AbstractBaseUser
from django.contrib.auth.hashers import make_password
from django.db import DatabaseError, IntegrityError, InterfaceError, connections, models, transaction

from synchro import (
    capture,
    conf,
    handlers,
    numbering,
    parking,
    pks,
    reasons,
    references,
    registry,
    removing,
    serialize,
    tables,
    values,
)
from synchro.links import through_columns
from synchro.plan import HoldError, Link, Operation, Remove, Write, table_models
from synchro.registry import ModelSpec
from synchro.resolving import Slot, foreign_value

AnyField: TypeAlias = "models.Field[Any, Any]"
ModelClass = type[models.Model]


def apply_operations(operations: Sequence[Operation], using: str) -> None:
    """Write *operations* in their order. Slots of created objects get their primary keys.

    Raises what the database or the project's own code raises; the caller's savepoint undoes everything then.
    """
    for alone, run in _runs(operations):
        if alone:
            created = [op for op in run if isinstance(op, Write) and op.created]
            _set_aside([op for op in run if isinstance(op, Write)], using)
            # They point to themselves or to each other, or their numbers are given.
            if conf.keep_pks() or not all(_ready(op) for op in created):
                _number_new(created, using)
            _apply_one_by_one(run, using)
        else:
            _apply_bulk(run, using)


def touched_tables(operations: Iterable[Operation]) -> set[str]:
    """The tables in which *operations* may leave a foreign key that points nowhere."""
    found: set[str] = set()
    removed: dict[ModelClass, None] = {}
    for operation in operations:
        if isinstance(operation, Link):
            found.add(registry.through(operation.field)._meta.db_table)
        else:
            found.update(model._meta.db_table for model in table_models(operation.spec))
            pointing = (each for field in operation.spec.fields for each in tables.pointed_to_by(field))
            found.update(column.model._meta.db_table for column in pointing if column.model._meta.managed)
        if isinstance(operation, Remove):
            removed.update(dict.fromkeys(operation.tables))
    found.update(column.model._meta.db_table for column in relations_to(list(removed)) if column.model._meta.managed)
    return found


def _runs(operations: Sequence[Operation]) -> Iterator[tuple[bool, list[Operation]]]:
    run: list[Operation] = []
    before = False
    asked: dict[Any, bool] = {}
    for operation in operations:
        kind = operation.field if isinstance(operation, Link) else operation.spec
        alone = asked.get(kind)
        if alone is None:
            alone = asked[kind] = _needs_handlers(operation)
        if run and alone != before:
            yield before, run
            run = []
        run.append(operation)
        before = alone
    if run:
        yield before, run


def _needs_handlers(operation: Operation) -> bool:
    if isinstance(operation, Link):
        return handlers.has_link_handlers(operation.field)
    return handlers.has_handlers(operation.spec.model)


def _assigned(spec: ModelSpec, given: dict[str, Any]) -> dict[AnyField, Any]:
    """Field → python value of planned *given*. ``HoldError`` while a foreign key's target has no primary key yet."""
    result: dict[AnyField, Any] = {}
    for column in spec.fields:
        if column.name in given:
            value = given[column.name]
            if isinstance(value, Slot):
                try:
                    value = foreign_value(value, spec, column.name)
                except KeyError as error:
                    raise HoldError(reasons.TARGET_LATER(model=spec.label, field=column.name)) from error
            result[column] = values.decode(column, value)
    return result


def _overwritten(operation: Write) -> dict[AnyField, Any]:
    """As :func:`_assigned`, for a row that is there: with defaults for its skipped fields where it is to have them."""
    spec = operation.spec
    assigned = _assigned(spec, operation.values)
    if operation.wholly:
        for column in spec.model._meta.concrete_fields:
            given = column.primary_key or getattr(column, "generated", False)
            if not given and (column.name in spec.skipped or column.attname in spec.skipped):
                value = default_of(column, spec)
                if not hasattr(value, "resolve_expression"):  # which a row that is there cannot be given in bulk
                    assigned[column] = value
    return assigned


def default_of(column: AnyField, spec: ModelSpec) -> Any:
    """What a created object has in a field that the record does not give.

    Such a field is a skipped one, or one that the sender lacks.
    """
    if column.name == "password" and issubclass(spec.model, AbstractBaseUser):
        return make_password(None)  # an account that nobody can log in to until somebody here sets its password
    if column.db_default is not models.NOT_PROVIDED and not column.has_default():
        return column.db_default
    value = column.get_default()
    if value is None and not column.null and not column.primary_key:
        raise HoldError(reasons.NEEDS_VALUE(model=spec.label, field=repr(column.name)))
    return value


# --- one by one -------------------------------------------------------------------------------------------------------


def _apply_one_by_one(run: Sequence[Operation], using: str) -> None:
    changed = [op for op in run if isinstance(op, Write) and not op.created]
    rows = _Rows(using)
    if len(changed) > 1:
        try:
            with transaction.atomic(using=using):
                for operation in run:
                    _apply_alone(operation, rows, using)
        except IntegrityError:  # they may be exchanging unique values
            parking.park(changed, using)
        else:
            return
    for operation in run:
        _apply_alone(operation, rows, using)


def _apply_alone(operation: Operation, rows: _Rows, using: str) -> None:
    """Save, delete or link through the model. Whatever the project's own code raises becomes a ``HoldError``."""
    try:
        _through_model(operation, rows, using)
    except (DatabaseError, InterfaceError, HoldError):
        raise
    except Exception as error:
        if conf.debug():  # whoever looks for the cause wants to see it
            raise
        raise HoldError(f"{type(error).__name__}: {' '.join(str(error).split())}") from error


def _through_model(operation: Operation, rows: _Rows, using: str) -> None:
    if isinstance(operation, Link):
        _link_alone(operation, rows, using)
    elif isinstance(operation, Remove):
        if not operation.tables:  # it comes back: what is left to do is to unlink it
            _remove_rows(operation.spec, [], [operation.slot.text], using)
            return
        # Where a parent stays, what goes is deleted from its topmost table on, which takes the derived ones along.
        spec = operation.spec if operation.kept is None else registry.spec(operation.tables[-1])
        instance = rows.instance(spec, operation.slot)
        if instance is not None:
            if spec.model.delete is models.Model.delete:
                removing.delete([instance], using, keep_parents=operation.kept is not None)
            elif operation.kept is not None:
                instance.delete(keep_parents=True)
            else:
                instance.delete()  # not every delete() of somebody else's takes arguments
    else:
        _save_alone(operation, rows, using)


class _Rows:
    """Reads rows of one database one by one, with statements that are made once a model.

    A third of the time that ``filter(pk=…).first()`` takes.
    """

    def __init__(self, using: str) -> None:
        self._using = using
        self._statements: dict[ModelClass, tuple[str, Any, Any]] = {}

    def instance(self, spec: ModelSpec, slot: Slot) -> models.Model | None:
        """The object as its row is now."""
        if slot.text is None:
            return None
        pk, model, using = pks.from_text(spec.model, slot.text), spec.model, self._using
        if isinstance(pk, tuple):
            return serialize.rows(spec, using).filter(pk=pk).first()
        connection = connections[using]
        if model not in self._statements:
            self._statements[model] = self._statement(model)
        sql, compiler, converters = self._statements[model]
        with connection.cursor() as cursor:
            cursor.execute(sql, [model._meta.pk.get_db_prep_value(pk, connection)])
            found = cursor.fetchall()
        if not found:
            return None
        (row,) = compiler.apply_converters(found, converters)
        return model.from_db(using, [field.attname for field in model._meta.concrete_fields], row)

    def _statement(self, model: ModelClass) -> tuple[str, Any, Any]:
        compiler: Any = tables.rows(model, self._using).order_by().query.get_compiler(self._using)
        sql, _ = compiler.as_sql()
        table = connections[self._using].ops.quote_name(model._meta.db_table)
        sql = f"{sql} WHERE {table}.{tables.quoted(model._meta.pk, self._using)} = %s"
        return sql, compiler, compiler.get_converters([expression for expression, *_ in compiler.select])


def _save_alone(operation: Write, rows: _Rows, using: str) -> None:
    spec, slot = operation.spec, operation.slot
    # Pointing to itself: on a database that numbers rows only when they are inserted, that follows.
    itself = [name for name, value in operation.values.items() if value is slot and slot.text is None]
    follows = replace(operation, created=False, present=frozenset({spec.label})) if itself else None
    assigned = _overwritten(replace(operation, values={**operation.values, **dict.fromkeys(itself)}))
    instance = None if operation.created else rows.instance(spec, slot)
    if instance is not None and not _savable(instance, using):
        _update([operation], using)
        return
    if instance is None:
        instance = spec.model()
        instance._state.db = using
        if slot.text is not None:
            instance.pk = pks.from_text(spec.model, slot.text)
            _copy_parents(spec, instance, using)
        for column in spec.model._meta.concrete_fields:
            if column not in assigned and column.name == "password":
                setattr(instance, column.attname, default_of(column, spec))
    for column, value in assigned.items():
        if not (column.primary_key and slot.text is not None and not column.remote_field):
            setattr(instance, column.attname, value)
            if isinstance(column, models.ForeignKey) and column.is_cached(instance):
                column.delete_cached_value(instance)
    with capture.written_verbatim(instance), tables.unchecked(assigned, using):
        instance.save(using=using, force_insert=operation.created and not operation.present)
    order = next((column for column in assigned if column.name == "_order"), None)
    if order is not None and operation.created:
        # Django numbers an inserted row of a model with order_with_respect_to by itself.
        serialize.rows(spec, using).filter(pk=instance.pk).update(_order=assigned[order])
    slot.pk_text = pks.to_text(spec.model, instance.pk) if slot.target is None else slot.pk_text
    _remember(spec, slot)
    if follows is not None:
        _update([follows], using)


def _savable(instance: models.Model, using: str) -> bool:
    """Whether Django can save *instance*, which has a row. It looks for that through the base manager.

    One that hides the row, or works in some scope only, makes it insert a second one; no handler has ever seen that.
    """
    for model in (type(instance), *type(instance)._meta.get_parent_list()):
        if type(model._base_manager) is not models.Manager:
            try:
                if not model._base_manager.using(using).filter(pk=instance.pk).exists():
                    return False
            except Exception:  # noqa: BLE001 - user code
                return False
    return True


def _copy_parents(spec: ModelSpec, instance: models.Model, using: str) -> None:
    """A child row for a parent that is here already: the parent's skipped fields keep their values."""
    for parent in spec.model._meta.get_parent_list():
        row = tables.rows(parent, using).filter(pk=instance.pk).first()
        if row is not None:
            for column in parent._meta.concrete_fields:
                setattr(instance, column.attname, getattr(row, column.attname))


def _link_alone(operation: Link, rows: _Rows, using: str) -> None:
    source = rows.instance(operation.spec, operation.source)
    target = operation.target
    if source is None or target.text is None:
        return
    manager = getattr(source, operation.field.name)
    pk = pks.from_text(target.spec.model, target.text)
    if operation.present:
        manager.add(pk)
    else:
        other = serialize.rows(registry.spec(operation.field.related_model), using).filter(pk=pk).first()
        if other is not None:
            manager.remove(other)


# --- in bulk ----------------------------------------------------------------------------------------------------------


def _apply_bulk(operations: Sequence[Operation], using: str) -> None:
    """The net effect of *operations*: removals, then new and changed rows, then links."""
    writes: dict[Slot, dict[ModelSpec, Write]] = defaultdict(dict)
    removes: dict[Slot, Remove] = {}
    links: dict[tuple[Any, Slot, Slot], Link] = {}
    linked: dict[Slot, list[tuple[Any, Slot, Slot]]] = defaultdict(list)
    for operation in operations:
        if isinstance(operation, Link):
            link = (operation.field, operation.source, operation.target)
            links[link] = operation
            linked[operation.source].append(link)
            linked[operation.target].append(link)
        elif isinstance(operation, Remove):
            for link in linked.pop(operation.slot, ()):
                links.pop(link, None)
            first = next(iter(writes.pop(operation.slot, {}).values()), None)
            if first is None or not first.created or first.present:
                earlier = removes.get(operation.slot)
                derived = earlier is not None and issubclass(earlier.spec.model, operation.spec.model)
                removes[operation.slot] = replace(operation, spec=earlier.spec) if earlier and derived else operation
        else:
            of_slot = writes[operation.slot]
            before = of_slot.get(operation.spec)
            of_slot[operation.spec] = operation if before is None else _merged(before, operation)
    _carry_out_net([op for of_slot in writes.values() for op in of_slot.values()], list(removes.values()), using)
    _link_bulk(list(links.values()), using)


def _merged(earlier: Write, later: Write) -> Write:
    given = {**earlier.values, **later.values}
    wholly = earlier.wholly or later.wholly
    return replace(later, values=given, created=earlier.created, present=earlier.present, wholly=wholly)


def _carry_out_net(writes: Sequence[Write], removes: Sequence[Remove], using: str) -> None:
    """Carry out all of it, also where rows exchange unique values, with rows that come and go as well."""
    if any(not op.created for op in writes) and len(writes) + len(removes) > 1:
        try:
            with transaction.atomic(using=using):
                _write_and_remove(writes, removes, using)
        except IntegrityError:
            parking.park([op for op in writes if not op.created], using, removes)
        else:
            return
    _write_and_remove(writes, removes, using)


def _write_and_remove(writes: Sequence[Write], removes: Sequence[Remove], using: str) -> None:
    created = [op for op in writes if op.created]
    _set_aside(writes, using)
    changed = [op for op in writes if not op.created]
    _number_new(created, using)
    # What may have pointed to something that goes is changed first,
    # everything else when there is room for its unique values.
    left = {model for op in removes for model in op.tables}
    early: list[Write] = []
    late: list[Write] = []
    for op in changed:
        lets_go = any(column.related_model in left for column in op.spec.relations.values())
        (early if lets_go and _ready(op) else late).append(op)
    _update(early, using)
    _remove_bulk(removes, using)
    before = [op for op in late if _ready(op)]
    after = [op for op in late if not _ready(op)]
    _update(before, using)
    _insert_in_waves(created, using)
    _update(after, using)


def _by_spec(operations: Iterable[Any]) -> dict[ModelSpec, list[Any]]:
    grouped: dict[ModelSpec, list[Any]] = defaultdict(list)
    for operation in operations:
        grouped[operation.spec].append(operation)
    return grouped


# removals


def _remove_bulk(removes: Sequence[Remove], using: str) -> None:
    grouped: dict[ModelSpec, dict[ModelSpec | None, list[Remove]]] = defaultdict(lambda: defaultdict(list))
    for operation in removes:
        grouped[operation.spec][operation.kept].append(operation)
    for spec in _children_first(grouped):
        for of_kind in grouped[spec].values():
            _remove_rows(spec, of_kind[0].tables, [op.slot.text for op in of_kind], using)


def _remove_rows(spec: ModelSpec, models_: Sequence[ModelClass], texts: Sequence[str | None], using: str) -> None:
    """Delete the rows of *spec*'s objects *texts* in the tables of *models_*, and their links."""
    pk_values = [pks.from_text(spec.model, text) for text in texts if text is not None]
    if _has_dependants(models_, pk_values, using):
        kept = len(models_) < len(table_models(spec))
        top = registry.spec(models_[-1]) if kept else spec  # its derived rows go with it
        instances = [instance for rows in serialize.by_pk(top, pk_values, using) for instance in rows]
        removing.delete(instances, using, keep_parents=kept)
        return
    for through, column in _own_link_columns(table_models(spec)):
        tables.delete_many(through, [column], [[pk] for pk in pk_values], using)
    for model in models_:
        key: Any = model._meta.pk_fields
        rows = [pk if isinstance(pk, tuple) else (pk,) for pk in pk_values]
        tables.delete_many(model, key, rows, using)


def _children_first(specs: Iterable[ModelSpec]) -> list[ModelSpec]:
    """*specs* in an order in which what points to others goes first, as far as there are no cycles."""
    waiting = {spec.model: spec for spec in specs}
    ordered: list[ModelSpec] = []

    def visit(spec: ModelSpec) -> None:
        if waiting.pop(spec.model, None) is not None:
            targets = [relation.related_model for relation in spec.relations.values()]
            for model in [*targets, *spec.model._meta.get_parent_list()]:
                if model in waiting:
                    visit(waiting[model])
            ordered.append(spec)

    for spec in list(waiting.values()):
        visit(spec)
    return ordered[::-1]


def relations_to(models_: Sequence[ModelClass]) -> Iterator[models.ForeignKey[Any, Any]]:
    """Every foreign key that points to one of *models_*, those of m2m tables too."""
    for model in models_:
        for relation in model._meta.get_fields(include_hidden=True):
            column = getattr(relation, "field", None)
            if relation.auto_created and not relation.concrete and isinstance(column, models.ForeignKey):
                yield column


def _own_link_columns(models_: Sequence[ModelClass]) -> list[tuple[ModelClass, AnyField]]:
    return [(column.model, column) for column in relations_to(models_) if column.model._meta.auto_created]


def _has_dependants(models_: Sequence[ModelClass], pk_values: Sequence[Any], using: str) -> bool:
    """Whether rows of other models point to these: then Django's own collector says what becomes of them."""
    if any(hasattr(each, "bulk_related_objects") for model in models_ for each in model._meta.private_fields):
        return True
    for column in relations_to(models_):
        if column.model._meta.auto_created or column.remote_field.on_delete is models.DO_NOTHING:
            continue
        if column.model in models_ and getattr(column.remote_field, "parent_link", False):
            continue
        path = column.attname if column.target_field.primary_key else f"{column.name}__pk"
        for part in serialize.chunks(list(pk_values)):
            if tables.rows(column.model, using).filter(**{f"{path}__in": part}).exists():
                return True
    return False


# new and changed rows


def _ready(operation: Write) -> bool:
    return not any(isinstance(value, Slot) and value.text is None for value in operation.values.values())


def _number_new(created: Sequence[Write], using: str) -> None:
    """Give new objects their primary keys beforehand where the database can, so that they may point to each other."""
    by_model: dict[ModelSpec, dict[Slot, None]] = defaultdict(dict)
    for operation in created:
        slot, spec = operation.slot, operation.spec
        root = registry.spec(spec.root)
        if slot.target is not None or slot.pk_text is not None:
            continue
        pk: Any = root.model._meta.pk
        if isinstance(pk, models.AutoField):
            by_model[root][slot] = None
        else:
            _portable_pk(operation)
    for root, of_root in by_model.items():
        numbering.keep_births(root, of_root, using)
        slots = [slot for slot in of_root if slot.pk_text is None]
        numbers = tables.allocate(root.model, len(slots), using)
        for slot, number in zip(slots, numbers or (), strict=False):
            slot.pk_text = pks.to_text(root.model, number)


def _set_aside(writes: Sequence[Write], using: str) -> None:
    """Give primary keys to objects that are not here and that foreign keys of *writes* which may dangle point to.

    No other row will have these, so the foreign keys point nowhere until the objects come.
    """
    coming = {op.slot for op in writes if op.created}
    missing: dict[ModelSpec, dict[Slot, None]] = defaultdict(dict)
    for operation in writes:
        for name in operation.spec.loose:
            value = operation.values.get(name)
            while isinstance(value, Slot) and value.target is not None:
                value = value.target
            if isinstance(value, Slot) and value.text is None and value not in coming:
                missing[registry.spec(value.spec.root)][value] = None
    for root, slots in missing.items():
        if isinstance(root.model._meta.pk, models.AutoField):
            if tables.can_advance(using):
                numbering.keep_births(root, slots, using)
            rest = [slot for slot in slots if slot.pk_text is None]
            taken = references.highest(root, using)
            for slot, number in zip(rest, tables.set_aside(root.model, len(rest), taken, using), strict=True):
                slot.pk_text = pks.to_text(root.model, number)
        else:
            for slot in slots:
                slot.pk_text = references.birth_pk(min(slot.ids))


def _portable_pk(operation: Write) -> None:
    """The primary key of a new object whose key is not automatic: it is among its own values, or in its id."""
    spec, slot = operation.spec, operation.slot
    fields = spec.root._meta.pk_fields
    try:
        assigned = _assigned(spec, operation.values)
        parts = [assigned[column] for column in fields]
    except (KeyError, HoldError):
        if len(fields) > 1:
            return  # a composite key of a foreign key whose target is still to be created
        parts = [pks.from_text(spec.root, references.birth_pk(min(slot.ids)))]
    slot.pk_text = pks.to_text(spec.root, tuple(parts) if len(fields) > 1 else parts[0])


def _insert_in_waves(created: Sequence[Write], using: str) -> None:
    """Insert what can be inserted, until nothing is left.

    A row waits until the rows that it points to have their keys.
    """
    waiting = list(created)
    patches: list[Write] = []
    while waiting:
        wave = [op for op in waiting if _ready(op) and _identified(op)]
        if not wave:  # a cycle, on a database that numbers rows only when they are inserted
            wave = [_without_unready(op, patches) for op in waiting]
            waiting = []
        taken = {id(op) for op in wave}
        waiting = [op for op in waiting if id(op) not in taken]
        _insert(wave, using)
    _update(patches, using)


def _identified(operation: Write) -> bool:
    slot = operation.slot
    if slot.target is not None:
        return slot.target.text is not None
    if slot.pk_text is None and not isinstance(operation.spec.root._meta.pk, models.AutoField):
        _portable_pk(operation)
    return True


def _without_unready(operation: Write, patches: list[Write]) -> Write:
    given = dict(operation.values)
    for name, value in operation.values.items():
        if isinstance(value, Slot) and value.text is None and name in operation.spec.generics:
            given[name] = "0"
        elif isinstance(value, Slot) and value.text is None:
            if not operation.spec.relations[name].null:
                raise HoldError(reasons.TARGET_POINTS_BACK(model=operation.spec.label, field=name))
            given[name] = None
    patches.append(replace(operation, created=False))
    return replace(operation, values=given)


def _insert(writes: Sequence[Write], using: str) -> None:
    grouped = _by_spec(writes)
    # A multi-table parent may have been created by itself before it became a child.
    for spec in sorted(grouped, key=lambda each: len(each.model._meta.get_parent_list())):
        of_spec = grouped[spec]
        assigned = [_assigned(spec, op.values) for op in of_spec]
        for model in table_models(spec):
            missing = [
                (op, row)
                for op, row in zip(of_spec, assigned, strict=True)
                if model._meta.label_lower not in op.present
            ]
            _insert_table(spec, model, missing, using)
        _update([op for op in of_spec if op.present], using)
        for operation in of_spec:
            _remember(spec, operation.slot)


def _insert_table(
    spec: ModelSpec, model: ModelClass, writes: Sequence[tuple[Write, dict[AnyField, Any]]], using: str
) -> None:
    """Insert the part of each object that is in *model*'s own table; rows that are numbered by the database last."""
    numbers_rows = isinstance(model._meta.pk, models.AutoField)
    # Fields that take the database's own default are left out of the statement: one statement a set of columns.
    numbered: dict[tuple[AnyField, ...], list[list[Any]]] = defaultdict(list)
    unnumbered: dict[tuple[AnyField, ...], list[tuple[Slot, list[Any]]]] = defaultdict(list)
    defaults: dict[AnyField, Any] = {}
    for operation, row in writes:
        given = _inserted(spec, model, operation.slot.text, row, defaults)
        used = tuple(given)
        if operation.slot.text is None and numbers_rows:
            unnumbered[used].append((operation.slot, list(given.values())))
        else:
            numbered[used].append(list(given.values()))
    for used, rows in numbered.items():
        tables.insert_many(model, used, rows, using)
    for used, pairs in unnumbered.items():
        numbers = tables.insert_returning(model, used, [values_ for _, values_ in pairs], using)
        for (slot, _), number in zip(pairs, numbers, strict=True):
            slot.pk_text = pks.to_text(model, number)


def _inserted(
    spec: ModelSpec, model: ModelClass, text: str | None, row: dict[AnyField, Any], defaults: dict[AnyField, Any]
) -> dict[AnyField, Any]:
    """What one row of *model*'s table gets by the statement: all but what the database fills in by itself.

    *text* is that of the object's primary key, None where it has none yet. *defaults* keeps those that fit every row.
    """
    given: dict[AnyField, Any] = {}
    for column in model._meta.local_concrete_fields:
        if getattr(column, "generated", False):
            continue
        if column.primary_key or getattr(column.remote_field, "parent_link", False):
            if text is not None:
                given[column] = pks.from_text(model, text)
            elif not isinstance(column, models.AutoField):
                given[column] = row[column]
        elif column in row:
            given[column] = row[column]
        else:
            if column not in defaults or callable(column.default):
                defaults[column] = default_of(column, spec)
            if not hasattr(defaults[column], "resolve_expression"):
                given[column] = defaults[column]
    return given


def _remember(spec: ModelSpec, slot: Slot) -> None:
    slot.rows.update(model._meta.label_lower for model in table_models(spec))


def _update(writes: Sequence[Write], using: str) -> None:
    """Overwrite rows table by table; skipped fields and those that the sender lacks keep their values.

    Of a created child of a parent that was here already, the parent's row.
    """
    for spec, of_spec in _by_spec(writes).items():
        groups: dict[tuple[Any, ...], list[tuple[Slot, dict[AnyField, Any]]]] = defaultdict(list)
        for operation in of_spec:
            assigned = _overwritten(operation)
            used = tuple(
                column for column in assigned if not column.primary_key and column not in spec.model._meta.pk_fields
            )
            groups[used, operation.present if operation.created else None].append((operation.slot, assigned))
        for (used, labels), pairs in groups.items():
            for model in table_models(spec):
                columns = [column for column in used if column.model._meta.concrete_model is model]
                if columns and (labels is None or model._meta.label_lower in labels):
                    rows = [
                        [*(assigned[column] for column in columns), *_key_parts(model, slot)]
                        for slot, assigned in pairs
                    ]
                    tables.update_many(model, columns, model._meta.pk_fields, rows, using)


def _key_parts(model: ModelClass, slot: Slot) -> Sequence[Any]:
    pk = pks.from_text(model, slot.text or "")
    return pk if isinstance(pk, tuple) else (pk,)


# links


def _link_bulk(links: Sequence[Link], using: str) -> None:
    by_field: dict[Any, list[Link]] = defaultdict(list)
    for operation in links:
        by_field[operation.field].append(operation)
    for field, of_field in by_field.items():
        through = field.remote_field.through
        columns = list(through_columns(field))
        wanted: dict[bool, list[tuple[Any, Any]]] = {True: [], False: []}
        for operation in of_field:
            source, target = (_link_pk(slot) for slot in (operation.source, operation.target))
            pairs = [(source, target)]
            if getattr(field.remote_field, "symmetrical", False) and source != target:
                pairs.append((target, source))
            wanted[operation.present] += pairs
        tables.delete_many(through, columns, wanted[False], using)
        present = present_pairs(through, columns, wanted[True], using)
        fresh = [pair for pair in dict.fromkeys(wanted[True]) if pair not in present]
        tables.insert_many(through, columns, fresh, using)


def _link_pk(slot: Slot) -> Any:
    return pks.from_text(slot.spec.model, slot.text or "")


def present_pairs(
    through: ModelClass, columns: Sequence[AnyField], pairs: Sequence[tuple[Any, Any]], using: str
) -> set[tuple[Any, Any]]:
    """Those of *pairs*, and others of the same objects, that are in the table of *through*."""
    source, target = columns
    found: set[tuple[Any, Any]] = set()
    others = {pair[1] for pair in pairs}
    for part in serialize.chunks(sorted({pair[0] for pair in pairs}, key=str)):
        rows = tables.rows(through, using).filter(**{f"{source.attname}__in": part})
        if len(others) <= serialize.CHUNK:
            rows = rows.filter(**{f"{target.attname}__in": others})
        found.update(rows.order_by().values_list(source.attname, target.attname))
    return found
