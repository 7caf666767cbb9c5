"""synchro in the Django admin: everything that can be seen, and what can be done without a shell.

    synchronization  the page with the buttons (index: its link; synchro.views: the address that the original gave it)
    exchange         exporting, importing: upload, preview, confirmation (uploads, folder: files in between)
    log              every change, and the history of one object (change_link: from the object's own page)
    bundles          what was sent and received
    conflicts        side by side, and deciding them
    places           nodes, destinations, and what is held

The pages call what the commands call. Below them: base (read-only), leafing (through tables of any size), filters,
display and saying (words for people), permissions.
"""

from __future__ import annotations

from typing import Any

from django.contrib import admin
from django.db import models

from synchro.admin import exchange, synchronization
from synchro.admin.bundles import BundleAdmin
from synchro.admin.change_link import SynchroHistoryMixin, add_links
from synchro.admin.conflicts import ConflictAdmin
from synchro.admin.index import add_link
from synchro.admin.log import ChangeLogAdmin
from synchro.admin.places import DestinationAdmin, HeldAdmin, NodeAdmin
from synchro.models import Bundle, ChangeLog, Conflict, Destination, Held, Node

__all__ = ["SynchroHistoryMixin", "add_link", "register"]


class _DestinationAdmin(DestinationAdmin):
    """Destinations; the pages for exporting and importing lie below them."""

    def get_urls(self) -> list[Any]:
        return [*exchange.urls(self.admin_site, synchronization.page_of(self.admin_site)), *super().get_urls()]


def register(site: admin.AdminSite) -> None:
    """Put all of it into *site*, but for what is registered there already; the default site has it."""
    for model, shown in _ADMINS.items():
        if not site.is_registered(model):
            site.register(model, shown)
    add_link(site)


_ADMINS: dict[type[models.Model], type[admin.ModelAdmin[Any]]] = {
    ChangeLog: ChangeLogAdmin,
    Bundle: BundleAdmin,
    Conflict: ConflictAdmin,
    Destination: _DestinationAdmin,
    Held: HeldAdmin,
    Node: NodeAdmin,
}


register(admin.site)
add_links()
