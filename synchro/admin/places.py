"""Nodes, destinations, and what waits because it could not be applied here."""

from __future__ import annotations

from typing import Any, ClassVar

from django.contrib import admin
from django.contrib.admin.views.main import ChangeList
from django.db.models import QuerySet
from django.http import HttpRequest
from django.utils.html import format_html
from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy

from synchro import naming, nodes, reasons
from synchro.admin import display
from synchro.admin.base import ReadOnlyAdmin
from synchro.admin.log import history_url
from synchro.models import Destination, Held, Node


@admin.display(description=gettext_lazy("last heard"))
def heard(node: Node) -> str:
    """When something came from it."""
    return _("this deployment") if node.own else display.moment_text(node.heard)


@admin.display(description=gettext_lazy("its log"))
def taken(node: Node) -> str:
    """How far its log goes, as far as it is known here."""
    if node.own:
        return _("up to %(seq)d") % {"seq": node.seq}
    return _("imported up to %(seq)d") % {"seq": node.taken_seq}


@admin.display(description=gettext_lazy("has of this deployment"))
def acked(node: Node) -> str:
    """How far it is known to have our log."""
    return display.NOTHING if node.own else _("up to %(seq)d") % {"seq": node.acked_seq}


class NodeAdmin(ReadOnlyAdmin):
    """The deployments that are known here."""

    list_display = ("ident", "name", heard, taken, acked)
    ordering: ClassVar[Any] = ["-own", "ident"]
    explanation = gettext_lazy("The deployments that are known here, and how far each has got.")
    empty = gettext_lazy("Nothing was exported or imported yet.")

    def get_changelist(self, request: HttpRequest, **kwargs: Any) -> type[ChangeList]:
        return ChangeList  # a few, in an order of their own

    def facts(self, obj: Node) -> list[tuple[str, Any]]:
        found: list[tuple[str, Any]] = [(_("Id"), obj.ident), (_("Name"), obj.name)]
        if obj.own:
            state = _("this deployment") if obj.current else _("this deployment, under an earlier id")
            return [*found, (_("This is"), state), (_("Last position"), obj.seq)]
        return [
            *found,
            (_("Last heard"), heard(obj)),
            (_("Imported up to"), obj.taken_seq),
            (_("Date there"), display.moment_text(obj.taken_date)),
            (_("Has of this deployment up to"), obj.acked_seq),
        ]


class DestinationAdmin(ReadOnlyAdmin):
    """Where bundles go."""

    list_display = ("name", "log", "exported", "waiting", "last")
    list_select_related = ("log",)
    ordering: ClassVar[Any] = ["name"]
    explanation = gettext_lazy("Where bundles go, and what each place has not been sent yet.")
    empty = gettext_lazy("Nothing was exported yet.")

    def get_changelist(self, request: HttpRequest, **kwargs: Any) -> type[ChangeList]:
        return ChangeList  # likewise

    @admin.display(description=gettext_lazy("exported up to"))
    def exported(self, destination: Destination) -> int:
        """The position; as a method, since admin formats columns of numbers with separators."""
        return destination.seq

    @admin.display(description=gettext_lazy("changes waiting"))
    def waiting(self, destination: Destination) -> int:
        """Sealed changes that were not sent."""
        return max(destination.log.seq - destination.seq, 0)

    @admin.display(description=gettext_lazy("last export"))
    def last(self, destination: Destination) -> str:
        """When it was sent something."""
        return display.moment_text(destination.moved)

    def get_queryset(self, request: HttpRequest) -> QuerySet[Any]:
        return super().get_queryset(request).select_related("log")

    def facts(self, obj: Destination) -> list[tuple[str, Any]]:
        return [
            (_("Name"), obj.name),
            (_("Log"), obj.log.ident),
            (_("Exported up to"), obj.seq),
            (_("Changes waiting"), self.waiting(obj)),
            (_("Last export"), self.last(obj)),
            (_("Digest of the last bundle"), obj.previous or display.NOTHING),
        ]


class HeldAdmin(ReadOnlyAdmin):
    """Changes that arrived and wait."""

    list_display = ("made", "action", "of_model", "object", "why", "since")
    list_select_related = ("change", "change__origin")
    in_lines = True
    explanation = gettext_lazy(
        "These changes arrived, but could not be applied here yet. Nothing is lost: each is tried again with every "
        "import. If one stays here, its reason says what is in the way."
    )
    empty = gettext_lazy("Nothing is held. Everything that arrived was applied.")

    @admin.display(description=gettext_lazy("made"))
    def made(self, held: Held) -> str:
        """When the change was made."""
        return display.moment_text(held.change.date)

    @admin.display(description=gettext_lazy("action"))
    def action(self, held: Held) -> str:
        """What the change does."""
        return held.change.get_action_display()

    @admin.display(description=gettext_lazy("model"))
    def of_model(self, held: Held) -> str:
        """The model's name."""
        return display.model_name(held.change.model)

    @admin.display(description=gettext_lazy("object"))
    def object(self, held: Held) -> str:
        """What the change calls the object: it may not be here."""
        return naming.names_of([held.change])[held.change.pk]

    @admin.display(description=gettext_lazy("reason"), ordering="reason")
    def why(self, held: Held) -> str:
        """Why it waits."""
        return reasons.told(held.reason)

    def called(self, obj: Held) -> str:
        return self.object(obj)

    def facts(self, obj: Held) -> list[tuple[str, Any]]:
        change = obj.change
        origin = change.origin.ident if change.origin is not None else nodes.own_idents("default")
        return [
            (_("Reason"), self.why(obj)),
            (_("Since"), display.moment_text(obj.since)),
            (_("What"), self.action(obj)),
            (_("Model"), self.of_model(obj)),
            (
                _("Object"),
                format_html(
                    '<a href="{}">{}</a>', history_url(self.admin_site, change.model, change.pk_text), self.object(obj)
                ),
            ),
            (_("Made"), self.made(obj)),
            (_("Who"), change.actor or display.NOTHING),
            (_("Where"), origin),
        ]
