"""Lines of a file that was verified: the records in them, made only where they are needed."""

from __future__ import annotations

from typing import Any, NamedTuple

from changelog_format import Change, FilePiece, ObjectRecord


class Line(NamedTuple):
    """A record of a file that was verified before, as it stands there, and the object in it."""

    text: bytes
    data: dict[str, Any]

    def record(self) -> Change | ObjectRecord | FilePiece:
        """The record itself."""
        kind = self.data["type"]
        if kind == "file":
            return FilePiece.from_dict(self.data)
        return Change.of_checked(self.data) if kind == "change" else ObjectRecord.of_checked(self.data)
