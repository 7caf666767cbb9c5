"""Records every change of the tracked models, and carries the changes to other deployments of the same project.

A map, in the order in which one change travels::

    capture     notices what the ORM writes (with deletions, cascades, links) ─┐
    changelog   one row a change, in the same transaction
    reconciling what was written past the ORM, rows and links against the log (digests: where its states are gone):
      scanning      whole tables (walking; restating: what the log has lost); bulk: what a logged queryset does
      touches       the rows that triggers noted; muting keeps these still in paused code
    seal        gives pending changes their position and date
    portable    local primary keys → ids and natural keys
    exporting   a range of the log → a bundle (a file; see changelog_format and SPEC.md)
      assembling    the usual change, straight to its line
      media         … to a folder that is there, and on its medium
      splitting     … or several of a bounded size
      pruning       … and what need not be kept of the log
      redating      … and what a clock far ahead has dated, as long as nobody has it
      packing       how it is compressed
      requests      what an importer lacks, written down, and the answer
      trust         … signed, and encrypted to whom the settings name
      redacting     … without what the destination is not told
    importing   a bundle, verified (trust: who wrote it, and may speak for whom), chunk by chunk:
      checkpoints   what is known here already; gaps and forks
      replaying     an archive up to a moment
      restoring     a database set back to a backup recognises itself, and goes on under a new id
      successions   … and what others make of that
      express       what is plain goes past all of the following but recording (express_models, express_writing)
      resolving     ids and natural keys → our rows (locking: which nobody else may write meanwhile)
      alike         rows without either that both sides have had from the start
      planner       what to write; writes nothing (plan: its words; plan_links, plan_merges, plan_parents: its parts)
      reviving      what a deleted parent was, that comes back for a living child
      deciding      who wins (ancestry: what was made on what; combining: both sides; unlogged: what was written past
                    the log is kept)
      merging       two rows that turn out to be one object (merging_rows, merging_registers)
      settling      primary keys inside texts and JSON, as they are here
      apply         writes; decides nothing (removing: what is deleted along; parking: unique values
                    exchanged; claims: who has to wait for one)
      numbering     keeps primary keys as they were at their birthplace, where that is wanted
      recording     records verbatim, references, versions, conflicts, what is held
      entitlement   … and of which fields this deployment is not told the values
      unseen        … and which values it is told, and did not get yet (completing: takes them when they come)

Below them: registry (what is tracked), ordering, serialize and values (what a state looks like; pgvalues for
PostgreSQL's fields, storable for what a database cannot hold, embedded for keys inside values), naturalkeys,
references, versions, pks, tables (bulk SQL), nodes, models, moments, conf; reasons (why something cannot be done with a
change: kept in English, told in the language of whoever reads it). For schemas that differ: upcasting (what projects
say of older versions of their models), schemas (what those looked like), relabelling (models that were renamed), drift
(what a bundle's header tells). For the contents of files: sending_files and filing. Bundles in Django's storages:
stored. What to do about signatures and keys: hints. What is wrong with settings and models: checks, settingchecks,
keychecks. Who makes a change, and why: actors, with middleware for requests; around (and pause) run functions inside
blocks. How far something long has got: progress.

For who looks back: timeline tells what happened to one object, naming what people call it.

Straight from database to database: synchronizing, with folding (one change an object) and guest (a REMOTE without our
tables). core, utility and settings hold the names that 0.2 to 0.7 had there.

The names below can be imported from here before the app registry is ready.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from synchro.actors import acting
    from synchro.conf import WITHHELD
    from synchro.embedded import embedded_keys
    from synchro.exporting import ExportReport, export_bundle
    from synchro.importing import ImportReport, PassedOver, import_bundle, import_bundles, retry_held
    from synchro.logged import LoggedManager, LoggedQuerySet
    from synchro.managers import NaturalKeyModel, NaturalManager
    from synchro.pause import DisableSynchroLog, disable_synchro_log
    from synchro.reset import reset_synchro
    from synchro.scanning import ScanReport, scan
    from synchro.synchronizing import call_synchronize
    from synchro.upcasting import VersionedRecord, upcaster

_WHERE = {
    "WITHHELD": "synchro.conf",
    "DisableSynchroLog": "synchro.pause",
    "ExportReport": "synchro.exporting",
    "ImportReport": "synchro.importing",
    "PassedOver": "synchro.importing",
    "LoggedManager": "synchro.logged",
    "LoggedQuerySet": "synchro.logged",
    "NaturalKeyModel": "synchro.managers",
    "NaturalManager": "synchro.managers",
    "VersionedRecord": "synchro.upcasting",
    "acting": "synchro.actors",
    "call_synchronize": "synchro.synchronizing",
    "embedded_keys": "synchro.embedded",
    "disable_synchro_log": "synchro.pause",
    "export_bundle": "synchro.exporting",
    "import_bundle": "synchro.importing",
    "import_bundles": "synchro.importing",
    "reset_synchro": "synchro.reset",
    "ScanReport": "synchro.scanning",
    "scan": "synchro.scanning",
    "retry_held": "synchro.importing",
    "upcaster": "synchro.upcasting",
}

__all__ = [
    "WITHHELD",
    "DisableSynchroLog",
    "ExportReport",
    "ImportReport",
    "LoggedManager",
    "LoggedQuerySet",
    "NaturalKeyModel",
    "NaturalManager",
    "PassedOver",
    "ScanReport",
    "VersionedRecord",
    "acting",
    "call_synchronize",
    "disable_synchro_log",
    "embedded_keys",
    "export_bundle",
    "import_bundle",
    "import_bundles",
    "reset_synchro",
    "retry_held",
    "scan",
    "upcaster",
]


def __getattr__(name: str) -> Any:
    if name in _WHERE:
        return getattr(import_module(_WHERE[name]), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted([*globals(), *__all__])
