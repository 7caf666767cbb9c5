"""How a bundle's schema differs from this deployment's, as its header says: known before anything is written."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping
from dataclasses import asdict, dataclass
from typing import Any

from changelog_format import Header, ModelInfo
from synchro import reasons, registry, upcasting
from synchro.registry import ModelSpec


@dataclass(frozen=True, slots=True, kw_only=True)
class Difference:
    """How one model differs between the sender and this deployment.

    ``there`` and ``here`` are versions of the model (None: it is not installed here). ``fields``: fields and m2m
    fields of
    the sender that are not known here. ``held``: its changes will be held, because of ``reason``; otherwise they are
    lifted.
    """

    model: str
    there: int
    here: int | None
    fields: tuple[str, ...]
    held: bool
    reason: str

    def as_dict(self) -> dict[str, Any]:
        """As ``--json`` prints it."""
        return asdict(self)

    def __str__(self) -> str:
        return f"{self.model}: {reasons.told(self.reason)}"


def differences(header: Header, versions: Mapping[str, Collection[int]]) -> tuple[Difference, ...]:
    """Where the schemas in *header* and the ones here differ; *versions*: label → the versions that have records."""
    found: list[Difference] = []
    for label, info in sorted(header.models.items()):
        for version, each in ((info.version, info), *sorted(info.versions.items())):
            if version in versions.get(label, ()):
                found += _of_version(label, version, each)
    return tuple(found)


def _of_version(label: str, version: int, info: ModelInfo) -> Iterator[Difference]:
    of = upcasting.way(label, version)
    model = registry.by_label(of.model)
    here = None if model is None else registry.spec(model).version
    unknown = () if model is None else _unknown(registry.spec(model), of, info)
    held, reason = True, ""
    if of.gap is not None:
        reason = reasons.HELD(why=of.gap)
    elif model is None or here is None:
        if of.steps and of.steps[-1].function is not None:
            return  # the upcaster may well say that its records are to be ignored
        reason = reasons.HELD_NOT_INSTALLED(there=version)
    elif of.version > here:
        reason = reasons.HELD_UNTIL_UPGRADED(there=version, here=here)
    elif unknown:
        reason = reasons.HELD_FOR_FIELDS()
    elif of.steps:
        held, reason = False, reasons.LIFTED(there=version, here=here)
    else:
        return
    if unknown:
        reason = reasons.WITH_UNKNOWN_FIELDS(why=reason, fields=", ".join(unknown))
    yield Difference(model=label, there=version, here=here, fields=unknown, held=held, reason=reason)


def _unknown(spec: ModelSpec, of: upcasting.Way, info: ModelInfo) -> tuple[str, ...]:
    """The sender's fields that this deployment lacks, after what the upcasters say of their names."""
    names = {*info.fields, *info.links}
    for step in of.steps:
        if step.function is not None:
            return ()  # what it makes of them only the records show
        names = {step.renamed.get(name, name) for name in names - step.dropped}
    mine = {f.name for f in spec.model._meta.get_fields()} | spec.skipped
    return tuple(sorted(names - mine))
