"""Of which fields this deployment is not told the values: it has no say about them, and gives its own to nobody.

Bundles name them in their headers (``redacted``), and what was named once is remembered. Where the settings of this
deployment withhold a field from the very node that says so, it is the other way round.
"""

from __future__ import annotations

from collections import defaultdict

from django.core.exceptions import ImproperlyConfigured
from django.db import DEFAULT_DB_ALIAS
from django.utils.translation import gettext as _

from changelog_format import Change, Header
from changelog_format.keys import node_name
from synchro import nodes, redacting, registry, upcasting
from synchro.errors import ExportError
from synchro.models import RedactedField
from synchro.redacting import Record, Redaction


def note(header: Header, using: str, *, direct: bool = False) -> tuple[str, ...]:
    """Remember what the bundle with *header* does not tell; what of it is new, as ``app.model.field``.

    *direct*: the settings of this process are the writer's.
    """
    told = None if direct else _own_rules(header.node.id)
    wanted = set()
    for label, names in header.redacted.items():
        info = header.models.get(label)
        model = registry.by_label(label)
        version = info.version if info is not None else 1 if model is None else registry.spec(model).version
        wanted |= {(label, version, name) for name in names if not _is_own(told, label, version, name)}
    if not wanted:
        return ()
    peer = nodes.by_ident([header.node.id], using)[header.node.id]
    rows = RedactedField.objects.using(using)
    fresh = wanted - set(rows.filter(node=peer).values_list("model", "version", "field"))
    before = set(not_told(using))
    rows.bulk_create(
        RedactedField(node=peer, model=label, version=version, field=name) for label, version, name in sorted(fresh)
    )
    return tuple(each for each in not_told(using) if each not in before)


def lacking(using: str) -> dict[str, frozenset[str]]:
    """Present label of a model → the fields whose values this deployment is not told."""
    found: dict[str, set[str]] = defaultdict(set)
    rows = RedactedField.objects.using(using).values_list("node__ident", "model", "version", "field")
    rules: dict[str, Redaction | None] = {}
    for ident, label, version, name in rows:
        if ident not in rules:
            rules[ident] = _own_rules(ident)
        if not _is_own(rules[ident], label, version, name):
            found[_now(label, version)].add(upcasting.current_field(label, version, name))
    return {label: frozenset(names) for label, names in sorted(found.items())}


def not_told(using: str) -> tuple[str, ...]:
    """The same as ``app.model.field``."""
    return tuple(f"{label}.{name}" for label, names in lacking(using).items() for name in sorted(names))


def redaction_for(destination: str, using: str, *, named: bool = True) -> Redaction | None:
    """What a bundle for *destination* does not tell; None for nothing. Raises ``ExportError``; *named*: see there."""
    try:
        return redacting.for_destination(destination, lacking(using), named=named)
    except ImproperlyConfigured as error:
        raise ExportError(str(error), hint=_("Nothing was exported. See `manage.py check`.")) from error


def owned(using: str) -> dict[str, frozenset[str]]:
    """Present label of a model → the fields that this deployment withholds from somebody, and is told itself."""
    withheld = redacting.withheld_from_somebody()
    unknown = lacking(using) if withheld else {}
    return {label: kept for label, names in withheld.items() if (kept := names - unknown.get(label, frozenset()))}


class NotHeeded:
    """Takes from records what their makers have no say about, since this deployment does not tell it to them."""

    def __init__(self, using: str) -> None:
        self._using = using
        self._rules = redacting.defence()
        self._own: frozenset[str] | None = None

    def without(self, record: Record, sender: str, version: int) -> Record:
        """*record*, in *version* of its model, of a bundle of *sender*."""
        origin = record.origin if isinstance(record, Change) else None
        maker = sender if origin is None else origin.node
        rules = self._rules(node_name(maker))
        passing = None if origin is None else self._rules(node_name(sender))
        if rules is None and passing is None:
            return record
        if self._own is None:
            self._own = nodes.own_idents(self._using)
        if maker in self._own:
            return record
        if sender in self._own:  # it was held here, as it was heeded then
            passing = None
        if rules is not None:
            record = rules.without(record, version)
        # What the maker is not told either nobody has from him.
        return record if passing is None else passing.but_for(rules).without_passed_on(record, version)


def restore(label: str, field: str, using: str = DEFAULT_DB_ALIAS) -> int:
    """This deployment is told *field* of *label* again, and has its values: it may give them to others.

    How many nodes it was that had withheld it.
    """
    rows = RedactedField.objects.using(using)
    wanted = label.lower(), field
    ended = [
        pk
        for pk, model, version, name in rows.values_list("pk", "model", "version", "field")
        if (_now(model, version), upcasting.current_field(model, version, name)) == wanted
    ]
    return rows.filter(pk__in=ended).delete()[0]


def _now(label: str, version: int) -> str:
    return upcasting.way(label, version).model


def _own_rules(ident: str) -> Redaction | None:
    return redacting.defence()(node_name(ident))


def _is_own(rules: Redaction | None, label: str, version: int, name: str) -> bool:
    """Whether it is this deployment that withholds the field, by *rules*."""
    if rules is None:
        return False
    return upcasting.current_field(label, version, name) in rules.rules.get(_now(label, version), {})
