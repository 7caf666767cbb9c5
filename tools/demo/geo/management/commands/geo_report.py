"""What a deployment holds, in a form that can be compared with another's."""

import hashlib
import json

from django.apps import apps
from django.core.management.base import BaseCommand
from django.core.serializers.json import DjangoJSONEncoder
from django.db.models import Sum

from geo.models import City
from synchro.models import Conflict


class Command(BaseCommand):
    help = "Count the objects and links of each model and digest their values, leaving automatic pks out of it."

    def add_arguments(self, parser):
        parser.add_argument("--json", action="store_true", dest="as_json", help="print the report as JSON")

    def handle(self, *, as_json, **_options):
        report = {
            "models": models_report(),
            "visits": City.objects.aggregate(sum=Sum("visits"))["sum"],
            "conflicts": list(
                Conflict.objects.order_by("id").values(
                    "model", "object_id", "key", "kind", "local", "incoming", "winner"
                )
            ),
        }
        if as_json:
            self.stdout.write(json.dumps(report))
            return
        for label, (count, digest) in report["models"].items():
            self.stdout.write(f"{label:<24}{count:>9}  {digest}")


def models_report():
    """`{name: [count, digest]}` for each model, and for each m2m's links."""
    report = {}
    for model in sorted(apps.get_app_config("geo").get_models(), key=lambda model: model.__name__):
        rows = {}
        for instance in model.objects.select_related().iterator(chunk_size=2000):
            rows[instance.pk] = values(instance)
        report[model.__name__] = summary(rows.values())
        for field in model._meta.many_to_many:
            report[f"{model.__name__}.{field.name}"] = summary(links(model, field))
    return report


def summary(rows):
    lines = sorted(json.dumps(row, cls=DjangoJSONEncoder, ensure_ascii=False, sort_keys=True) for row in rows)
    return [len(lines), hashlib.sha256("\n".join(lines).encode()).hexdigest()[:12]]


def values(instance):
    """The fields of an object, without its automatic pk and skipped fields, foreign keys by what they mean."""
    skipped = getattr(instance, "SYNCHRO_SKIP", ())
    result = {}
    for field in instance._meta.concrete_fields:
        if field.primary_key or field.name in skipped:
            continue
        value = getattr(instance, field.name)
        result[field.name] = value.natural_key() if field.is_relation and value is not None else value
    return result


def links(model, field):
    """The links of an m2m as pairs of natural keys."""
    sources, targets = (
        {instance.pk: instance.natural_key() for instance in each.objects.select_related().iterator(chunk_size=2000)}
        for each in (model, field.related_model)
    )
    through = field.remote_field.through.objects
    columns = (field.m2m_column_name(), field.m2m_reverse_name())
    return [(sources[source], targets[target]) for source, target in through.values_list(*columns)]
