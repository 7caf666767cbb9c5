"""Bundles that were sent and received, with download."""

from __future__ import annotations

import os
import stat
from pathlib import Path
from typing import Any, BinaryIO, ClassVar

import orjson
from django.contrib import admin, messages
from django.core.exceptions import PermissionDenied
from django.http import FileResponse, Http404, HttpRequest, HttpResponse, HttpResponseRedirect
from django.urls import path
from django.utils.html import format_html
from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy

from changelog_format import BundleError, verify
from synchro import export_bundle
from synchro.admin import display, permissions
from synchro.admin.base import ReadOnlyAdmin, outside_transactions
from synchro.admin.filters import DestinationFilter, WriterFilter
from synchro.admin.folder import FolderError, folder
from synchro.admin.saying import errors_as_messages, file_name
from synchro.models import Bundle

OUT = "out"
DOWNLOAD = "synchro_bundle_download"
AGAIN = "synchro_bundle_again"
_STREAMS = ("", "-")


class BundleAdmin(ReadOnlyAdmin):
    """Bundles that were sent and received."""

    list_display = ("name", "direction", "node", "destination", "range", "records", "when")
    list_filter = ("direction", DestinationFilter, WriterFilter)
    list_select_related = ("node",)
    search_fields: ClassVar[Any] = ["file", "node__ident"]
    explanation = gettext_lazy("The bundles that were written here and those that were imported.")
    empty = gettext_lazy("No bundle was written or imported yet.")
    change_form_template = "synchro/admin/bundle.html"

    @admin.display(description=gettext_lazy("file"))
    def name(self, bundle: Bundle) -> str:
        """Without its folder."""
        return _("(no file)") if bundle.file in _STREAMS else file_name(bundle.file)

    @admin.display(description=gettext_lazy("positions"))
    def range(self, bundle: Bundle) -> str:
        """The range in the log of who wrote it."""
        return f"{bundle.first_seq + 1}-{bundle.last_seq}"

    @admin.display(description=gettext_lazy("handled"))
    def when(self, bundle: Bundle) -> str:
        """When it was written or imported."""
        return display.moment_text(bundle.handled)

    def get_urls(self) -> list[Any]:
        wrap = self.admin_site.admin_view
        return [
            path("<int:pk>/download/", wrap(self.download), name=DOWNLOAD),
            path("<int:pk>/again/", wrap(outside_transactions(_again(self))), name=AGAIN),
            *super().get_urls(),
        ]

    def called(self, obj: Bundle) -> str:
        return self.name(obj)

    def facts(self, obj: Bundle) -> list[tuple[str, Any]]:
        header = orjson.loads(obj.header)
        numbers = [
            f"{label}: {obj.report[name]}"
            for name, label in _numbers()
            if isinstance(obj.report.get(name), int) and obj.report[name]
        ]
        return [
            (_("File"), self.name(obj)),
            (_("Direction"), obj.get_direction_display()),
            (_("Written by"), obj.node.ident),
            (_("For"), obj.destination),
            (_("Positions"), self.range(obj)),
            (_("Records"), obj.records),
            (_("Written"), display.moment_text(obj.created)),
            (_("Handled"), self.when(obj)),
            (_("What came of it"), ", ".join(numbers) or display.NOTHING),
            (_("Models"), ", ".join(sorted(display.model_name(label) for label in header.get("models", ())))),
            (_("Digest"), format_html("<code>{}</code>", obj.sha256)),
        ]

    def render_change_form(self, request: HttpRequest, context: Any, *args: Any, **kwargs: Any) -> Any:
        bundle: Bundle = kwargs["obj"]
        stream = _stream(bundle)
        if stream is not None:
            stream.close()
        context.update(
            bundle=bundle,
            may_download=request.user.has_perm(permissions.EXPORT),
            there=stream is not None,
            sent=bundle.direction == Bundle.Direction.SENT,
            download_url=self.address(DOWNLOAD, bundle.pk),
            again_url=self.address(AGAIN, bundle.pk),
        )
        return super().render_change_form(request, context, *args, **kwargs)

    def download(self, request: HttpRequest, pk: int) -> HttpResponse | FileResponse:
        """The file, where it is still there."""
        bundle = self._bundle(request, pk)
        stream = _stream(bundle)
        if stream is None:
            messages.error(request, _("The file is not there any more."))
            return HttpResponseRedirect(self.address("synchro_bundle_change", pk))
        return FileResponse(
            stream, as_attachment=True, filename=file_name(bundle.file), content_type="application/octet-stream"
        )

    def write_again(self, request: HttpRequest, pk: int) -> HttpResponse:
        """Write the same range again, as ``synchro_export --since … --until …`` does."""
        bundle = self._bundle(request, pk)
        shown = bundle.pk
        if request.method != "POST" or bundle.direction != Bundle.Direction.SENT:
            raise Http404
        with errors_as_messages(request):
            header = orjson.loads(bundle.header)
            whole = header.get("mode", "history")
            report = export_bundle(
                folder(OUT),
                to=bundle.destination,
                since=None if whole == "snapshot" else bundle.first_seq,
                until=bundle.last_seq,
                mode=whole,
                models=header.get("only"),
                with_files="files" in header.get("requires", ()),
            )
            if report is None:
                messages.error(request, _("There is nothing in that range any more."))
            else:
                shown = Bundle.objects.filter(sha256=report.sha256, file=report.file[-255:]).latest("pk").pk
                messages.success(request, _("The bundle was written again. You can download it now."))
        return HttpResponseRedirect(self.address("synchro_bundle_change", shown))

    def _bundle(self, request: HttpRequest, pk: int) -> Bundle:
        if not self.has_view_permission(request):
            raise PermissionDenied
        permissions.require(request, permissions.EXPORT)
        bundle: Bundle | None = self.get_queryset(request).filter(pk=pk).first()
        if bundle is None:
            raise Http404
        return bundle


def _again(model_admin: BundleAdmin) -> Any:
    def again(request: HttpRequest, pk: int) -> HttpResponse:
        return model_admin.write_again(request, pk)

    return again


def _numbers() -> list[tuple[str, str]]:
    return [
        ("added", _("added")),
        ("changed", _("changed")),
        ("deleted", _("deleted")),
        ("m2m", _("links")),
        ("merged", _("merged")),
        ("already_known", _("known already")),
        ("stale", _("older than what is here")),
        ("conflicts", _("conflicts")),
        ("held", _("held")),
        ("files", _("files")),
    ]


def _stream(bundle: Bundle) -> BinaryIO | None:
    """The file of *bundle*, opened; None where it is gone.

    Its path is what somebody once typed, and whatever lies there by now is not to be given away: it is the bundle if it
    lies in the private folder, or if its content has the digest that was noted.
    """
    if bundle.file in _STREAMS:
        return None
    try:
        fd = os.open(bundle.file, os.O_RDONLY | getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_BINARY", 0))
    except (OSError, ValueError):
        return None
    stream = os.fdopen(fd, "rb")
    try:
        if stat.S_ISREG(os.fstat(fd).st_mode) and (_is_ours(bundle.file) or _is_bundle(stream, bundle)):
            stream.seek(0)
            return stream
    except OSError:
        pass
    stream.close()
    return None


def _is_ours(name: str) -> bool:
    try:
        return Path(name).parent == folder(OUT)
    except FolderError:
        return False


def _is_bundle(stream: BinaryIO, bundle: Bundle) -> bool:
    try:
        return verify(stream).trailer.sha256 == bundle.sha256
    except BundleError:
        return False
