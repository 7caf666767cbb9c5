"""What can go wrong, apart from a broken file (``changelog_format.BundleError``).

::

SynchroError
├── ClockError            a clock is set wrong, here or at a sender
├── KeySettingError       a key that the settings name, to sign, to trust, to encrypt to, cannot be used
├── ExportError           a bundle could not be written
│   └── RequestError      a request for missing changes cannot be written, read or answered
├── PruneError            the log cannot be compacted as asked for
├── StorageError          a storage of Django's that cannot be used, or holds something else under a name
├── ScanError             what was to be scanned is not tracked
├── TriggerError          the touch triggers could not be installed
├── TimelineError         the history of an object was asked for that is not known, or not named clearly
├── ResolveError          a conflict could not be decided as somebody asked
├── SynchronizeError      LOCAL could not be synchronized with REMOTE
│   └── AmbiguousKeyError several objects have one natural key; also Django's MultipleObjectsReturned
├── EmbeddedKeyError      the project's own function that finds keys inside values fails
├── UnloggableValueError  an object holds a value that no record can carry; also a ValueError
└── ImportRefusedError    a bundle was not taken; nothing was changed
    ├── GapError          a bundle in between is missing
    ├── DestinationError  a bundle is meant for another node
    ├── ForkError         two different changes claim one position
    │   └── RestoredError an import would go on from here, but cannot be shown before
    ├── ConflictError     a conflict, where the policy is to fail
    ├── ReplayError       the state of a moment cannot be had from these bundles, or not in this database
    ├── DanglingError     a foreign key that points nowhere would be left behind
    └── HeldError         a change could not be applied, in a strict import
"""

from __future__ import annotations

from django.core.exceptions import MultipleObjectsReturned


class SynchroError(Exception):
    """Base of all errors of this app. ``hint`` says what to do next, if there is something."""

    def __init__(self, message: str, *, hint: str = "") -> None:
        super().__init__(message)
        self.hint = hint


class ClockError(SynchroError):
    """A clock is further in the future than the tolerance allows."""


class KeySettingError(SynchroError):
    """A key that the settings or a command name cannot be used. Nothing was written."""


class ExportError(SynchroError):
    """A bundle could not be written."""


class RequestError(ExportError):
    """A request for missing changes that cannot be written, read or answered."""


class PruneError(SynchroError):
    """The log cannot be compacted as asked for; nothing was dropped."""


class StorageError(SynchroError):
    """A storage of Django's cannot be used as asked for, or holds something else under that name."""


class ScanError(SynchroError):
    """What was to be scanned is not tracked."""


class TriggerError(SynchroError):
    """The touch triggers could not be installed; nothing was changed."""


class ResolveError(SynchroError):
    """A conflict could not be decided as somebody asked. Nothing was changed."""


class TimelineError(SynchroError):
    """The history was asked for of an object that is not known, or that is not named clearly."""


class UnloggableValueError(SynchroError, ValueError):
    """An object holds a value that no record can carry; the text says which. The object's save fails as a whole."""


class EmbeddedKeyError(SynchroError):
    """The function that a project registered for the keys inside a field's values fails; the text says which."""


class SynchronizeError(SynchroError):
    """LOCAL could not be synchronized with REMOTE. Both databases are as they were."""


class AmbiguousKeyError(SynchronizeError, MultipleObjectsReturned):
    """Several objects of REMOTE have the natural key of one here, and the model does not say that this is meant."""


class ImportRefusedError(SynchroError):
    """A bundle was not taken. The database is as it was."""


class GapError(ImportRefusedError):
    """Changes between what was imported and what the bundle begins with are missing.

    If the bundle shows that this database was restored from a backup, that is not lost: it has a new id then.
    """


class DestinationError(ImportRefusedError):
    """A bundle that names another destination than this node."""


class ForkError(ImportRefusedError):
    """A position that is known here with another date: the sender was restored from a backup or copied."""


class RestoredError(ForkError):
    """This database was set back to a backup. An import gives it a new id and goes on; a preview cannot."""


class ReplayError(ImportRefusedError):
    """The state of a moment cannot be had from these bundles, or not in this database."""


class ConflictError(ImportRefusedError):
    """There are conflicts, and the policy is to fail."""


class DanglingError(ImportRefusedError):
    """A foreign key that points nowhere would be left behind."""


class HeldError(ImportRefusedError):
    """Changes that cannot be applied, in a strict import."""
