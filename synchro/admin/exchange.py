"""Exporting and importing in the browser, by the functions that the commands call."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from django import forms
from django.contrib import admin, messages
from django.http import HttpRequest, HttpResponse, HttpResponseRedirect
from django.urls import path
from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy, ngettext
from django.views.decorators.csrf import csrf_exempt, csrf_protect
from django.views.decorators.http import require_http_methods

from synchro import conf, export_bundle, import_bundle, nodes, reasons
from synchro.admin import display, permissions, uploads
from synchro.admin.base import address, outside_transactions, page
from synchro.admin.bundles import OUT
from synchro.admin.folder import folder
from synchro.admin.saying import errors_as_messages
from synchro.errors import ImportRefusedError, RestoredError
from synchro.exporting import DEFAULT_DESTINATION
from synchro.import_report import ImportReport
from synchro.models import NODE_LENGTH, Bundle, Destination
from synchro.naming import key_text

EXPORT_URL, IMPORT_URL, SYNCHRONIZATION_URL = "synchro_export", "synchro_import", "synchro_synchronization"
SHOWN = 100
"""Objects that a preview lists of each kind."""

_View = Callable[..., HttpResponse]


def urls(site: admin.AdminSite, synchronization: _View) -> list[Any]:
    """The pages below the admin of destinations in *site*; *synchronization* is the page with the buttons."""

    def export(request: HttpRequest) -> HttpResponse:
        return export_page(request, site)

    def import_(request: HttpRequest) -> HttpResponse:
        return import_page(request, site)

    # The size of an upload is looked at before anything of it is read: whatever checks the CSRF token reads it all.
    import_ = csrf_exempt(outside_transactions(import_))
    return [
        path("synchronization/", site.admin_view(synchronization), name=SYNCHRONIZATION_URL),
        path("export/", site.admin_view(outside_transactions(export)), name=EXPORT_URL),
        path("import/", site.admin_view(import_), name=IMPORT_URL),
    ]


# --- exporting --------------------------------------------------------------------------------------------------------


class ExportForm(forms.Form):
    """What is to be written for whom."""

    to = forms.ChoiceField(
        label=gettext_lazy("Destination"),
        help_text=gettext_lazy("Each place that gets bundles has a name, and is sent what it has not got yet."),
    )
    other = forms.CharField(
        label=gettext_lazy("Name of the new destination"), required=False, max_length=NODE_LENGTH, strip=True
    )
    scan = forms.BooleanField(
        label=gettext_lazy("Look for changes that were not recorded, first"),
        help_text=gettext_lazy("Takes longer: all tables are compared with the log."),
        required=False,
    )
    with_files = forms.BooleanField(label=gettext_lazy("Take the contents of files along"), required=False)

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        node = nodes.own("default")
        known = [] if node is None else list(Destination.objects.filter(log=node).order_by("name"))
        names = [each.name for each in known if each.name != conf.configured_remote()]
        if not names:
            names = [DEFAULT_DESTINATION]
        choices = [(name, name) for name in names]
        self.fields["to"].choices = [*choices, ("", _("a new destination"))]  # type: ignore[attr-defined]
        self.fields["to"].required = False
        self.fields["to"].initial = names[0]

    def clean(self) -> dict[str, Any]:
        """A destination is chosen or named."""
        data = super().clean() or {}
        if not data.get("to") and not data.get("other"):
            self.add_error("other", _("Write the name of the destination."))
        data["destination"] = data.get("to") or data.get("other")
        return data


@require_http_methods(["GET", "HEAD", "POST"])
def export_page(request: HttpRequest, site: admin.AdminSite) -> HttpResponse:
    """Write a bundle of what a destination has not got, and offer it for download."""
    permissions.require(request, permissions.EXPORT)
    form = ExportForm(request.POST if request.method == "POST" else None)
    if request.method == "POST" and form.is_valid():
        with errors_as_messages(request):
            report = export_bundle(
                folder(OUT),
                to=form.cleaned_data["destination"],
                scan=form.cleaned_data["scan"],
                with_files=form.cleaned_data["with_files"],
            )
            if report is None:
                messages.info(request, _("Nothing changed since the last export for this destination."))
                return HttpResponseRedirect(address(site, SYNCHRONIZATION_URL))
            messages.success(
                request,
                ngettext(
                    "A bundle with %(number)d record was written for %(name)s. Download it now and take it there.",
                    "A bundle with %(number)d records was written for %(name)s. Download it now and take it there.",
                    report.records,
                )
                % {"number": report.records, "name": report.destination},
            )
            for missing in report.missing_files:
                messages.warning(request, _("A file is missing: %(name)s") % {"name": missing})
            bundle = Bundle.objects.filter(sha256=report.sha256, file=report.file[-255:]).latest("pk")
            return HttpResponseRedirect(address(site, "synchro_bundle_change", bundle.pk))
    return page(
        site,
        request,
        "synchro/admin/export.html",
        {"title": _("Export"), "form": form, "up_url": address(site, SYNCHRONIZATION_URL)},
    )


# --- importing --------------------------------------------------------------------------------------------------------


class ImportForm(forms.Form):
    """A bundle, and how it is to be imported."""

    file = forms.FileField(
        label=gettext_lazy("Bundle"),
        help_text=gettext_lazy(
            "A file from another place (its name ends in .jsonl.zst). It is checked first; then you "
            "see what would happen, before anything is changed."
        ),
    )
    on_conflict = forms.ChoiceField(
        label=gettext_lazy("If both places changed the same thing"),
        required=False,
        choices=[
            ("", gettext_lazy("decide as this deployment is set up")),
            ("newest", gettext_lazy("the later change wins")),
            ("merge", gettext_lazy("combine changes of different fields; else the later wins")),
            ("hold", gettext_lazy("keep what is here, and ask somebody")),
            ("local", gettext_lazy("what is here wins")),
            ("incoming", gettext_lazy("what comes wins")),
            ("fail", gettext_lazy("import nothing at all")),
        ],
    )
    strict = forms.BooleanField(
        label=gettext_lazy("Import nothing if something cannot be applied"),
        help_text=gettext_lazy("Otherwise such changes are kept and tried again with each import."),
        required=False,
    )
    allow_gap = forms.BooleanField(
        label=gettext_lazy("Import although an earlier bundle is missing"),
        help_text=gettext_lazy("What was in it stays missing until it is imported."),
        required=False,
    )
    any_destination = forms.BooleanField(
        label=gettext_lazy("Import although it was written for another place"), required=False
    )

    def options(self) -> dict[str, Any]:
        """The options of ``import_bundle``."""
        data = self.cleaned_data
        names = ("strict", "allow_gap", "any_destination")
        return {"on_conflict": data["on_conflict"] or None, **{name: data[name] for name in names}}


@require_http_methods(["GET", "HEAD", "POST"])
def import_page(request: HttpRequest, site: admin.AdminSite) -> HttpResponse:
    """Take an upload, show what would become of it, and import it when that is confirmed."""
    permissions.require(request, permissions.IMPORT)
    length, limit = request.META.get("CONTENT_LENGTH") or "0", conf.upload_limit()
    if request.method == "POST" and (not length.isdecimal() or int(length) > limit + 100_000):
        messages.error(request, _sentence(uploads.too_large(limit)))
        return HttpResponseRedirect(address(site, IMPORT_URL))

    @csrf_protect
    def read(request: HttpRequest) -> HttpResponse:
        if "note" in request.POST:
            return _confirmed(request, site)
        form = ImportForm(request.POST, request.FILES) if request.method == "POST" else ImportForm()
        if request.method == "POST" and form.is_valid():
            with errors_as_messages(request):
                return _preview(request, site, form)
        return page(
            site,
            request,
            "synchro/admin/import.html",
            {"title": _("Import"), "form": form, "up_url": address(site, SYNCHRONIZATION_URL)},
        )

    return read(request)


def _preview(request: HttpRequest, site: admin.AdminSite, form: ImportForm) -> HttpResponse:
    upload = uploads.kept(form.cleaned_data["file"], request.user, form.options())
    around = {
        "title": _("Import this bundle?"),
        "name": upload.name,
        "note": upload.note(),
        "up_url": address(site, SYNCHRONIZATION_URL),
        "again_url": address(site, IMPORT_URL),
    }
    differences: list[str] = []
    try:
        with upload.opened() as stream:
            report = import_bundle(
                stream, dry_run=True, notify=lambda each: differences.append(str(each)), **upload.options
            )
    except RestoredError as error:
        return page(site, request, "synchro/admin/import_restored.html", {**around, "told": str(error)})
    except BaseException:
        upload.forget()
        raise
    return page(
        site,
        request,
        "synchro/admin/import_preview.html",
        {
            **around,
            "report": report,
            "counts": [(label, number) for name, label in counts() if (number := getattr(report, name))],
            "details": _details(report),
            "differences": differences,
        },
    )


def _confirmed(request: HttpRequest, site: admin.AdminSite) -> HttpResponse:
    done = HttpResponseRedirect(address(site, SYNCHRONIZATION_URL))
    with errors_as_messages(request):
        upload = uploads.found(request.POST["note"], request.user)
        if "cancel" in request.POST:
            upload.forget()
            messages.info(request, _("Nothing was imported."))
            return done

        def unmoved() -> None:
            if uploads.state() != upload.state:
                raise uploads.moved()

        try:
            with upload.opened() as stream:
                report = import_bundle(stream, guard=unmoved, **upload.options)
        finally:
            upload.forget()
        _tell(request, report, upload.name)
        return done
    return HttpResponseRedirect(address(site, IMPORT_URL))


def _tell(request: HttpRequest, report: ImportReport, name: str) -> None:
    if report.own:
        messages.info(request, _("%(file)s was written here; there was nothing to do.") % {"file": name})
        return
    told = ", ".join(f"{label}: {number}" for each, label in counts() if (number := getattr(report, each)))
    messages.success(
        request,
        # Django begins messages with a capital letter, and a name of a file is to stay as it is.
        _("The file %(file)s was imported. %(numbers)s") % {"file": name, "numbers": told or _("It had nothing new.")},
    )
    if report.new_id is not None:
        messages.warning(
            request,
            _("This database was restored from a backup. It goes on under a new id, %(node)s.")
            % {"node": report.new_id},
        )
    if report.withheld:
        fields = ", ".join(report.withheld)
        text = _("%(node)s does not tell this deployment %(fields)s. What it has there goes to nobody.")
        messages.warning(request, text % {"node": report.node, "fields": fields})
    for missing in report.missing_files:
        messages.warning(request, _("A file is missing: %(name)s") % {"name": missing})


def counts() -> list[tuple[str, str]]:
    """The numbers of an import, with their names."""
    return [
        ("added", _("Added")),
        ("changed", _("Changed")),
        ("deleted", _("Deleted")),
        ("m2m", _("Links")),
        ("merged", _("Two entries joined into one")),
        ("unchanged", _("Equal already")),
        ("already_known", _("Known already")),
        ("stale", _("Older than what is here")),
        ("conflicts", _("Conflicts")),
        ("held", _("Cannot be applied yet")),
        ("objects", _("Entries that come along")),
        ("files", _("Files")),
    ]


def _details(report: ImportReport) -> list[dict[str, Any]]:
    """What would happen to which objects, the first of each kind."""
    kinds = {
        "added": _("Added"),
        "changed": _("Changed"),
        "deleted": _("Deleted"),
        "m2m": _("Links"),
        "conflict": _("Conflicts"),
        "merged": _("Merged with what is here"),
        "held": _("Cannot be applied yet"),
        "stale": _("Older than what is here"),
    }
    whys = {(each.model, each.id): reasons.told(each.reason) for each in report.held_changes}
    found: dict[str, list[dict[str, str]]] = {kind: [] for kind in kinds}
    totals = dict.fromkeys(kinds, 0)
    for kind, model, ident in dict.fromkeys(report.details):
        if kind in found:
            totals[kind] += 1
            if len(found[kind]) < SHOWN:
                key = report.keys.get((model, ident))
                name = ident if key is None else key_text(key)
                told = {"model": display.model_name(model), "name": name, "reason": ""}
                if kind == "held":
                    told["reason"] = whys.get((model, ident), "")
                found[kind].append(told)
    return [
        {
            "kind": kinds[kind],
            "objects": objects,
            "more": totals[kind] - len(objects),
            "open": kind in ("conflict", "held"),
        }
        for kind, objects in found.items()
        if objects
    ]


def _sentence(error: ImportRefusedError) -> str:
    return f"{reasons.told(str(error))} {error.hint}"
