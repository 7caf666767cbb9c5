"""Why something cannot be done with a change: kept in English, told in the language of whoever reads it.

Such a text is stored with what is held, compared with what was stored before, counted, and printed as JSON, none of
which may depend on a language. So each has its form here, ``reasons.NOT_INSTALLED(model="shop.item")`` is the English
text, and :func:`told` finds the form of a text again and gives the same in the active language. What databases and the
project's own code say stays as they say it.
"""

from __future__ import annotations

import re
from functools import cached_property

from django.utils.translation import gettext, ngettext

_PLACE = re.compile(r"%\((\w+)\)s")
_FORMS: list[Reason] = []


class Reason:
    """One form. ``many`` is its plural, where there is one, for what is called ``number``.

    What stands in the place ``why`` may be such a text itself.
    """

    def __init__(self, one: str, many: str = "") -> None:
        self.one, self.many = one, many
        _FORMS.append(self)

    def __call__(self, **values: object) -> str:
        """The English text."""
        return (self.many if self.many and values["number"] != 1 else self.one) % values

    @cached_property
    def fixed(self) -> int:
        """How many characters are always the same."""
        return len(_PLACE.sub("", self.one))

    @cached_property
    def _patterns(self) -> list[re.Pattern[str]]:
        return [_pattern(text) for text in (self.one, self.many) if text]

    def told(self, text: str) -> str | None:
        """*text* in the active language; None where it has another form."""
        for pattern in self._patterns:
            match = pattern.fullmatch(text)
            if match is not None:
                values = match.groupdict()
                if "why" in values:
                    values["why"] = told(values["why"])
                if not self.many:
                    return gettext(self.one) % values
                return ngettext(self.one, self.many, int(values["number"])) % values
        return None


def _pattern(text: str) -> re.Pattern[str]:
    found, seen = "", set[str]()
    for part, name in zip(*[iter([*_PLACE.split(text), ""])] * 2, strict=True):
        kind = r"\d+" if name == "number" else ".+?"
        again = f"(?P={name})" if name in seen else f"(?P<{name}>{kind})"
        found += re.escape(part) + (again if name else "")
        seen.add(name)
    return re.compile(found, re.DOTALL)


def told(text: str) -> str:
    """A reason as it was stored, in the active language; as it is where it is none of these."""
    for form in sorted(_FORMS, key=lambda each: -each.fixed):
        found = form.told(text)
        if found is not None:
            return found
    return text


# --- what a record is about -------------------------------------------------------------------------------------------

NOT_TRACKED = Reason("%(model)s is not tracked here: SYNCHRO_MODELS does not name it")
NOT_ACCEPTED = Reason("%(model)s is not accepted from %(node)s: SYNCHRO_ACCEPT does not name it")
ACCOUNTS = Reason("%(model)s is not tracked, and rights hang on its rows: no bundle makes two of them one")
NOT_INSTALLED = Reason("%(model)s is not installed here")
NEWER = Reason("%(model)s is of version %(there)s at the sender, and %(here)s here")
NO_FIELD = Reason("%(model)s has no field %(field)s here")
NO_LINK_FIELD = Reason("%(model)s has no m2m field %(field)s here")
NO_PRIMARY_KEY = Reason("%(model)s has no %(field)s, its primary key")
NEEDS_VALUE = Reason("%(model)s needs a value for %(field)s, which the record does not have")
UNKNOWN_OWN = Reason("%(id)s names an object of this deployment that it does not know")
NOTHING_POINTS = Reason("nothing that is tracked here points to %(model)s")

NO_UPCASTER = Reason(
    "%(model)s is of version %(here)s here, and no upcaster takes records of version %(version)s further"
)
UPCASTER_FAILED = Reason("the upcaster of %(model)s from version %(version)s failed: %(error)s")
UPCASTER_STRAYED = Reason("the upcaster of %(model)s from version %(version)s gave no record of the same object")
EMBEDDED_FAILED = Reason("%(model)s.%(field)s: its function for embedded keys fails: %(error)s")

# --- what it points to ------------------------------------------------------------------------------------------------

WITHOUT_ID = Reason("%(field)s names %(model)s %(key)s without an id")
TARGET_ABSENT = Reason("%(field)s points to %(model)s %(id)s, which is not here")
TARGET_NOT_MADE = Reason(
    "%(field)s points to %(model)s %(id)s, which is not here, and no bundle makes one, since rights hang on it and "
    "%(model)s is not tracked"
)
TARGET_DELETED = Reason("%(field)s points to %(model)s %(id)s, which is deleted here")
TARGET_NOT_INSTALLED = Reason("%(field)s points to a model that is not installed here: %(model)s")
TARGET_LATER = Reason("%(model)s: the target of %(field)s is not here yet")
TARGET_POINTS_BACK = Reason("%(model)s: %(field)s points to an object that points back, and cannot be NULL")
OBJECT_NOT_MADE = Reason(
    "%(model)s %(id)s is not here, and no bundle makes one, since rights hang on it and %(model)s is not tracked"
)
LINK_ABSENT = Reason("the link names %(model)s %(id)s, which is not here")
LINK_NOT_MADE = Reason(
    "the link names %(model)s %(id)s, which is not here, and no bundle makes one, since rights hang on it and "
    "%(model)s is not tracked"
)

# --- two objects that clash, or are one -------------------------------------------------------------------------------

WANTED_TWICE = Reason("%(field)s is unique, and two changes want the same value")
TAKEN = Reason("%(field)s is unique, and another row here has its value: %(key)s")
TAKEN_BY_WAITING = Reason("%(field)s is unique, and another row here has its value: %(key)s, which waits itself")
KEY_TAKEN = Reason("its natural key is that of another object")
TWO_ROWS = Reason("it is about two rows that are one object")
TWO_KINDS = Reason("%(one)s and %(other)s are one object and rows of different kinds here")
OWNER_CHANGED = Reason("%(model)s: the object that it belongs to is another one now")
POINTS_TO_ONE_OF_TWO = Reason("%(field)s points to one of two rows that are one object")
ONLY_ONE_MAY = Reason("two rows of %(model)s point to what is one object, and only one may")

# --- values -----------------------------------------------------------------------------------------------------------

CANNOT_HOLD = Reason("%(place)s cannot hold %(value)s: %(why)s")
CANNOT_HOLD_A_VALUE = Reason("%(place)s cannot hold a value: %(why)s")
FILES_CLASH = Reason("there are other files called %(one)s and %(other)s already")

NEEDS_INTEGER = Reason("a whole number is needed, not %(value)s")
NEEDS_BOOLEAN = Reason("true or false is needed, not %(value)s")
NEEDS_TEXT = Reason("text is needed, not %(value)s")
NEEDS_BYTES = Reason("bytes are needed")
NEEDS_LIST = Reason("a list is needed, not %(value)s")
NEEDS_TEXTS = Reason("an object of texts is needed, not %(value)s")
NEEDS_RANGE = Reason("a range is needed, not %(value)s")
NO_DATE = Reason("%(value)s is no date")
NO_TIME = Reason("%(value)s is no time")
NO_DATE_AND_TIME = Reason("%(value)s is no date and time")
NO_DURATION = Reason("%(value)s is no duration")
NO_DECIMAL = Reason("%(value)s is no decimal number")
NO_KEY = Reason("%(model)s: %(value)s is no primary key")
NO_COMPOSITE_KEY = Reason("%(model)s: %(value)s is no composite primary key")
EMPTY_PART = Reason("%(model)s: %(value)s has an empty part")
TOO_MANY_BITS = Reason("it has more than 64 bits")
TOO_MANY_MICROSECONDS = Reason("it has more microseconds than fit into 64 bits")
TOO_MANY_DIGITS = Reason(
    "there is room for %(number)s digit before the point", "there is room for %(number)s digits before the point"
)
TOO_MANY_PLACES = Reason("there is room for %(number)s decimal place", "there is room for %(number)s decimal places")
TOO_LONG = Reason(
    "there is room for %(number)s character, and these are %(length)s",
    "there is room for %(number)s characters, and these are %(length)s",
)
OUT_OF_RANGE = Reason("the column holds %(low)s to %(high)s")
KEEPS_NO_NUL = Reason("%(database)s keeps no NUL character")
KEEPS_NO_SURROGATE = Reason("%(database)s keeps no lone surrogate")
KEEPS_NO_SUCH_NUMBER = Reason("%(database)s keeps no %(value)s in JSON")
KEEPS_NULL = Reason("%(database)s keeps NULL instead")
KEEPS_FINITE = Reason("%(database)s keeps finite numbers only")
KEEPS_DIGITS = Reason(
    "%(database)s keeps %(number)s digit of a decimal number",
    "%(database)s keeps %(number)s digits of a decimal number",
)

# --- what no record can carry -----------------------------------------------------------------------------------------

UNLOGGABLE = Reason("%(object)s cannot be logged: %(why)s")
UNLOGGABLE_FIELD = Reason("%(object)s cannot be logged: %(field)s: %(why)s")
UNREADABLE = Reason("the row cannot be read back (%(error)s)")
EMPTY_KEY = Reason("%(model)s cannot be logged: its primary key is empty, and nothing can be called by it")
LONG_KEY = Reason(
    "%(object)s cannot be logged: its primary key is longer than %(number)s character",
    "%(object)s cannot be logged: its primary key is longer than %(number)s characters",
)
COMPUTED_KEYS = Reason("%(model)s: an update of primary keys to computed values cannot be logged")

# --- schemas ----------------------------------------------------------------------------------------------------------

HELD = Reason("held, for %(why)s")
HELD_NOT_INSTALLED = Reason("held, for it is not installed here (version %(there)s there)")
HELD_UNTIL_UPGRADED = Reason("held until this deployment is upgraded: version %(there)s there, %(here)s here")
HELD_FOR_FIELDS = Reason("held, for this deployment lacks fields of it")
LIFTED = Reason("lifted from version %(there)s to %(here)s")
WITH_UNKNOWN_FIELDS = Reason("%(why)s (not known here: %(fields)s)")

# --- natural keys that cannot be used ---------------------------------------------------------------------------------

KEY_GOES_ROUND = Reason("%(model)s: its key leads back to itself, or to one that is computed")
KEY_WITHOUT_METHODS = Reason("%(model)s has no natural_key() and get_by_natural_key() to go by")
KEY_TAKEN_AWAY = Reason("SYNCHRO_NATURAL_KEYS says that %(model)s has no natural key")
KEY_WITHOUT_METHOD = Reason("%(model)s has no natural_key()")
KEY_NOT_LOOKED_UP = Reason("the default manager of %(model)s has no get_by_natural_key()")
KEY_LEADS_NOWHERE = Reason("%(model)s.%(step)s is no foreign key, so %(path)s leads nowhere")
KEY_WITHOUT_FIELD = Reason("%(model)s has no field %(field)s")
KEY_WITHOUT_COLUMN = Reason("%(model)s.%(field)s has no column")
KEY_IS_GENERIC = Reason(
    "%(model)s: %(path)s is the object of a generic foreign key, whose primary key differs between deployments"
)
KEY_IS_AUTOMATIC = Reason(
    "%(model)s: %(path)s ends at the automatic primary key of %(target)s, which differs between deployments"
)
KEY_IS_COMPOSITE = Reason("%(model)s: %(path)s is a composite primary key; name its fields instead")
