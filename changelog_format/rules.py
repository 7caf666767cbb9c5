"""What holds between the lines of a bundle: reader and writer ask the same object (SPEC R36, R45, R46, R51 to R57)."""

from __future__ import annotations

from typing import Any

from .dates import is_date
from .errors import OrderError, RecordError
from .forms import check_key, check_values, shown
from .limits import INT64_MAX
from .names import is_object_id
from .pieces import FILES, ContentRules
from .records import Change, FilePiece, Header, ObjectRecord

__all__ = ["BundleRules"]

# The keys of the usual changes as every writer of this package orders them, and the actions that have these.
_START = ("type", "seq", "date", "base", "action", "model", "id", "key")
_STATE, _LINK, _DELETE = frozenset({"add", "change"}), frozenset({"link", "unlink"}), frozenset({"delete"})
_USUAL = {
    (*_START, *body, *end): (actions, bool(end))
    for body, actions in ((("fields", "refs"), _STATE), (("field", "target"), _LINK), ((), _DELETE))
    for end in ((), ("actor",))
}
_TARGET = ("model", "id", "key")


class BundleRules:
    """Follows one bundle: `accept` each record in its order, then `finish`.

    A record that `accept` refuses is not counted, and the next one is judged as if it had not been.
    """

    def __init__(self, header: Header) -> None:
        self._node = header.node.id
        self._last = header.start.seq
        self._first, self._end = header.start.seq + 1, header.end.seq
        self._end_date = header.end.date
        self._only = None if header.only is None else frozenset(header.only)
        self._history = header.mode == "history"
        self._gapless = self._history and header.only is None
        self._fields = {label: frozenset({*info.fields, *info.relations}) for label, info in header.models.items()}
        self._links = {label: frozenset(info.links) for label, info in header.models.items()}
        self._versions = {label: frozenset(info.versions) for label, info in header.models.items()}
        self._contents = ContentRules(allowed=FILES in header.requires)
        self.records = 0

    def accept(self, record: Change | ObjectRecord | FilePiece) -> None:
        """Take the next record. Raises OrderError, RecordError, DigestError or LimitError."""
        if isinstance(record, FilePiece):
            self._contents.accept(record)
            self.records += 1
            return
        self._contents.interrupt()
        if record.files is not None:
            self._contents.check_allowed()
        fields = self._fields.get(record.model)
        if fields is None:
            raise RecordError(f"the model {shown(record.model)} is not in the header", rule="R51")
        if record.version is not None and record.version not in self._versions[record.model]:
            message = f"the version {record.version} of {shown(record.model)} is not among the header's versions"
            raise RecordError(message, rule="R66")
        if type(record) is Change:
            self._check_origin(record)
            if record.origin is None and record.version is None:
                # A relayed change may carry fields that the relaying node itself does not know. What the models of
                # earlier versions had, a node need not remember.
                self._check_names(record, fields)
            self._check_position(record)
            self._last = record.seq
        elif record.version is None:
            self._check_names(record, fields)
        self.records += 1

    def accept_usual(self, data: dict[str, Any]) -> bool:  # noqa: PLR0911  (one rule after the other)
        """Take the next record, *data*, if it is a change as nearly all are, and in order; False: look closer.

        The same rules as those of `check_change` and `accept`, in a quarter of their time: what the header has, and
        was checked there, is looked up. Raises RecordError and LineError for values, as `check_change` does.
        """
        usual = _USUAL.get(tuple(data))
        if usual is None or not self._gapless:
            return False
        actions, acted = usual
        seq, date, base, model, key = data["seq"], data["date"], data["base"], data["model"], data["key"]
        if (
            data["type"] != "change"
            or type(seq) is not int
            or seq != self._last + 1
            or not self._first <= seq <= min(self._end, INT64_MAX)
            or not is_date(date)
            or not (base is None or is_date(base))
            or type(model) is not str
            or model not in self._fields
            or not is_object_id(data["id"])
            or (seq == self._end and date != self._end_date)
            or type(data["action"]) is not str
            or data["action"] not in actions
            or (acted and type(data["actor"]) is not str)
        ):
            return False
        if type(key) is not list or len(key) != 1 or type(key[0]) is not str:
            check_key("key", key)
        if actions is _STATE:
            fields, refs, names = data["fields"], data["refs"], self._fields[model]
            # The header's names were checked with it.
            if type(fields) is not dict or not fields.keys() <= names or type(refs) is not dict:
                return False
            if refs and not (refs.keys() <= names and all(map(is_object_id, refs.values()))):
                return False
            check_values(fields)
        elif actions is _LINK:
            field, target = data["field"], data["target"]
            if type(field) is not str or field not in self._links[model]:
                return False
            if type(target) is not dict or tuple(target) != _TARGET or type(target["model"]) is not str:
                return False
            if target["model"] not in self._fields or not is_object_id(target["id"]):
                return False
            check_key("target.key", target["key"])
        self._contents.interrupt()
        self._last = seq
        self.records += 1
        return True

    def accept_run(self, first: int, last: int, last_date: str) -> None:
        """Take the changes of a history from position *first* to *last*, which are known to be in order by themselves.

        Raises OrderError where they are not the next ones.
        """
        self._contents.interrupt()
        if not self._gapless or first != self._last + 1 or last > self._end:
            raise OrderError(f"the changes {first} to {last} do not come after {self._last}", rule="R53")
        if last == self._end and last_date != self._end_date:
            raise OrderError(f"the last change is of {last_date}, the header says {self._end_date}", rule="R56")
        self._last = last
        self.records += last - first + 1

    def finish(self, records: int) -> None:
        """Check at the end that everything came that was announced; `records` is the trailer's. Raises OrderError."""
        self._contents.interrupt()
        if self._gapless and self._last != self._end:
            raise OrderError(f"the changes end at {self._last}, the header says {self._end}", rule="R53")
        if records != self.records:
            raise OrderError(f"the number of records is {self.records}, the trailer says {records}", rule="R57")

    def _check_origin(self, change: Change) -> None:
        origin = change.origin
        if origin is not None and origin.node == self._node:
            raise RecordError("a change of the node itself has an origin", rule="R45")
        if change.base_node is not None and change.base_node == (self._node if origin is None else origin.node):
            raise RecordError("base_node is the node of the change itself", rule="R46")

    def _check_names(self, record: Change | ObjectRecord, fields: frozenset[str]) -> None:
        if record.fields is not None and not record.fields.keys() <= fields:
            name = min(record.fields.keys() - fields)
            raise RecordError(f"the field {shown(name)} of {shown(record.model)} is not in the header", rule="R52")
        if record.refs and not record.refs.keys() <= fields:
            name = min(record.refs.keys() - fields)
            raise RecordError(f"the reference {shown(name)} of {shown(record.model)} is not in the header", rule="R52")
        link = record.field if type(record) is Change else None
        if link is not None and link not in self._links[record.model]:
            raise RecordError(f"the link {shown(link)} of {shown(record.model)} is not in the header", rule="R52")

    def _check_position(self, change: Change) -> None:
        seq = change.seq
        if self._only is not None and change.model not in self._only:
            raise OrderError(f"the model {shown(change.model)} is not in only", rule="R54")
        if self._gapless:
            if seq != self._last + 1:
                raise OrderError(f"seq is {seq}, expected {self._last + 1}", rule="R53")
        elif self._history and seq <= self._last:
            raise OrderError(f"seq is {seq} after {self._last}, not ascending", rule="R54")
        if not self._first <= seq <= self._end:
            rule = "R53" if self._gapless else "R54" if self._history else "R55"
            raise OrderError(f"seq is {seq}, outside the range {self._first} to {self._end}", rule=rule)
        if self._gapless and seq == self._end and change.date != self._end_date:
            raise OrderError(f"the last change is of {change.date}, the header says {self._end_date}", rule="R56")
