"""Filters of the log, which never read the table to find out what could be chosen."""

from __future__ import annotations

import datetime as dt
from collections.abc import Iterator
from typing import Any

from django.contrib import admin
from django.db.models import Q, QuerySet, Value
from django.db.models.functions import Coalesce
from django.db.models.lookups import Exact
from django.http import HttpRequest
from django.utils import timezone
from django.utils.dateparse import parse_date
from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy

from synchro import registry
from synchro.admin.display import model_name
from synchro.models import Conflict, Destination, Node

_DIGITS = 19  # of the largest primary key
_EPOCH = dt.datetime(1970, 1, 1, tzinfo=dt.UTC)


class ModelFilter(admin.SimpleListFilter):
    """The models that are tracked now."""

    title = gettext_lazy("model")
    parameter_name = "model"

    def lookups(self, request: HttpRequest, model_admin: Any) -> list[tuple[str, str]]:
        return sorted(((label, model_name(label)) for label in registry.tracked_labels()), key=lambda each: each[1])

    def queryset(self, request: HttpRequest, queryset: QuerySet[Any]) -> QuerySet[Any]:
        return queryset.filter(model=self.value()) if self.value() else queryset


class OriginFilter(admin.SimpleListFilter):
    """The node that made the change."""

    title = gettext_lazy("place")
    parameter_name = "node"

    def lookups(self, request: HttpRequest, model_admin: Any) -> list[tuple[str, str]]:
        nodes = Node.objects.order_by("-own", "ident").values_list("pk", "ident", "current")
        return [(str(pk), _("here (%(node)s)") % {"node": ident} if current else ident) for pk, ident, current in nodes]

    def number(self) -> int | None:
        """The node that was chosen, where there can be such."""
        chosen = str(self.value() or "")
        return int(chosen) if chosen.isdecimal() and len(chosen) < _DIGITS else None

    def queryset(self, request: HttpRequest, queryset: QuerySet[Any]) -> QuerySet[Any]:
        chosen = self.number()
        if chosen is None:
            return queryset
        # What nobody has numbered yet is of the current node. An expression, so that no database takes the index of the
        # origins, which may find most of the table, instead of the slice of primary keys.
        current = Node.objects.filter(current=True).values_list("pk", flat=True).first()
        made_by: Any = Coalesce("origin_id", Value(current or 0))
        return queryset.filter(Exact(made_by, chosen))


class WriterFilter(OriginFilter):
    """The node that wrote the bundle."""

    title = gettext_lazy("writer")

    def queryset(self, request: HttpRequest, queryset: QuerySet[Any]) -> QuerySet[Any]:
        chosen = self.number()
        return queryset if chosen is None else queryset.filter(node=chosen)


class DestinationFilter(admin.SimpleListFilter):
    """The destinations that are known."""

    title = gettext_lazy("destination")
    parameter_name = "destination"

    def lookups(self, request: HttpRequest, model_admin: Any) -> list[tuple[str, str]]:
        names = Destination.objects.order_by("name").values_list("name", flat=True).distinct()
        return [(name, name) for name in names]

    def queryset(self, request: HttpRequest, queryset: QuerySet[Any]) -> QuerySet[Any]:
        return queryset.filter(destination=self.value()) if self.value() else queryset


class InputFilter(admin.SimpleListFilter):
    """A filter with fields to fill in; a form without scripts."""

    template = "synchro/admin/input_filter.html"
    inputs: tuple[tuple[str, Any, str], ...] = ()
    """Parameter, label and type of each field; the first is ``parameter_name``."""

    def __init__(self, request: HttpRequest, params: dict[str, Any], model: Any, model_admin: Any) -> None:
        self.given = {}
        for name, _label, _type in self.inputs[1:]:
            if name in params:
                self.given[name] = _last(params.pop(name))
        super().__init__(request, params, model, model_admin)
        self.given[self.inputs[0][0]] = self.value() or ""

    def lookups(self, request: HttpRequest, model_admin: Any) -> list[tuple[str, str]]:
        return [("", "")]  # without any it would not be shown

    def expected_parameters(self) -> list[str | None]:
        return [name for name, _label, _type in self.inputs]

    def choices(self, changelist: Any) -> Iterator[Any]:
        own = {name for name, _label, _type in self.inputs}
        others = [
            (name, value)
            for name, values in changelist.filter_params.items()
            if name not in own
            for value in (values if isinstance(values, list) else [values])
        ]
        if changelist.query:
            others.append(("q", changelist.query))
        fields = [(name, label, kind, self.given.get(name, "")) for name, label, kind in self.inputs]
        yield {
            "fields": fields,
            "others": others,
            "set": any(self.given.values()),
            "without": changelist.get_query_string(remove=sorted(own)),
        }


class ActorFilter(InputFilter):
    """Who did it, by the whole name."""

    title = gettext_lazy("person")
    parameter_name = "who"
    inputs = (("who", gettext_lazy("Name"), "text"),)

    def queryset(self, request: HttpRequest, queryset: QuerySet[Any]) -> QuerySet[Any]:
        name = (self.value() or "").strip()
        return queryset.filter(actor=name) if name else queryset


class DateFilter(InputFilter):
    """When it was made, by days."""

    title = gettext_lazy("date")
    parameter_name = "from"
    inputs = (("from", gettext_lazy("From"), "date"), ("to", gettext_lazy("To"), "date"))

    def queryset(self, request: HttpRequest, queryset: QuerySet[Any]) -> QuerySet[Any]:
        first, last = _day(self.given.get("from")), _day(self.given.get("to"))
        if first is not None:
            begin = _microseconds(first)
            queryset = queryset.filter(Q(date__gte=begin) | Q(date=None, captured__gte=begin))
        if last is not None and last < dt.date.max:
            end = _microseconds(last + dt.timedelta(days=1))
            queryset = queryset.filter(Q(date__lt=end) | Q(date=None, captured__lt=end))
        return queryset


class WaitingFilter(admin.SimpleListFilter):
    """Conflicts: at first those that wait for somebody."""

    title = gettext_lazy("state")
    parameter_name = "state"

    def lookups(self, request: HttpRequest, model_admin: Any) -> list[tuple[str, str]]:
        return [("decided", _("Decided")), ("all", _("All"))]

    def choices(self, changelist: Any) -> Iterator[Any]:
        yield {
            "selected": self.value() is None,
            "query_string": changelist.get_query_string(remove=[self.parameter_name]),
            "display": _("Waiting for a decision"),
        }
        yield from list(super().choices(changelist))[1:]

    def queryset(self, request: HttpRequest, queryset: QuerySet[Conflict]) -> QuerySet[Conflict]:
        if self.value() == "all":
            return queryset
        return queryset.filter(held=self.value() != "decided")


def _last(given: Any) -> str:
    return str(given[-1] if isinstance(given, list) else given)


def _day(text: str | None) -> dt.date | None:
    try:
        return parse_date(text or "")
    except ValueError:
        return None


def _microseconds(day: dt.date) -> int:
    """The beginning of *day* where the reader is."""
    begin = timezone.make_aware(dt.datetime.combine(day, dt.time()), timezone.get_current_timezone())
    return (begin - _EPOCH) // dt.timedelta(microseconds=1)
