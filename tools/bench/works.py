"""All contestants, in the order in which they are shown."""

import capturing
import exports
import idle
import imports
import others
from contestants import CONTESTANTS, find

CONTESTANTS.sort(
    key=lambda each: ("capture", "touch", "idle", "export", "import", "verify", "synchronize", "scan").index(
        each.work_kind
    )
)

__all__ = ["CONTESTANTS", "capturing", "exports", "find", "idle", "imports", "others"]
