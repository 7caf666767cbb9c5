"""The tables of synchro. The words are those of the README: node, change, position, checkpoint, destination.

Dates of changes are whole microseconds since 1970 UTC: the same on every database, and exact to compare.
"""

from __future__ import annotations

from typing import ClassVar

from django.db import models
from django.utils.translation import gettext_lazy as _
from django.utils.translation import pgettext_lazy

from changelog_format.dates import format_date
from synchro import reasons
from synchro.actors import ACTOR_LENGTH, CONTEXT_LENGTH
from synchro.dbfields import ExactCharField, UncheckedJSONField
from synchro.options import SynchroSettings

__all__ = [
    "ACTIONS",
    "ADDITION",
    "CHANGE",
    "DELETION",
    "M2M_CHANGE",
    "Action",
    "Bundle",
    "ChangeLog",
    "Conflict",
    "Destination",
    "Held",
    "HeldFile",
    "HeldObject",
    "KnownRange",
    "Node",
    "RedactedField",
    "Reference",
    "RemoteHeld",
    "RemoteReference",
    "Schema",
    "SentFile",
    "Touch",
    "Version",
    "options",
]

LABEL_LENGTH = 120
NODE_LENGTH = 64
PK_LENGTH = 200
OBJECT_ID_LENGTH = NODE_LENGTH + 1 + PK_LENGTH
# An object that is known but has no row here yet goes by "?<object id>" in the place of its primary key.
PK_TEXT_LENGTH = OBJECT_ID_LENGTH + 1
LINK_LENGTH = PK_TEXT_LENGTH + 64

# Read and written by operators while the project runs: ``from synchro.models import options``.
options = SynchroSettings("Synchro")


class Action(models.TextChoices):
    """What a change did."""

    ADD = "add", _("addition")
    CHANGE = "change", pgettext_lazy("action", "change")
    DELETE = "delete", _("deletion")
    LINK = "link", _("link")
    UNLINK = "unlink", _("unlink")
    SAME = "same", _("merge")


# What 0.2 to 0.7 called them. A change of m2m links was one entry an object then; now it is one a link.
ADDITION, CHANGE, DELETION, M2M_CHANGE = Action.ADD, Action.CHANGE, Action.DELETE, Action.LINK
ACTIONS = tuple(Action.choices)


class Node(models.Model):
    """A deployment: this one (``own``), or another whose changes arrived here.

    For this node ``seq`` and ``clock`` are the last position and date of its log. ``taken_seq`` and ``taken_date`` are
    the checkpoint of what was imported from another node; ``acked_seq`` is what it is known to have of ours. A node
    that goes on for another one, whose log was set back, names that as its ``predecessor``; ``succession`` is what
    headers say of it. The row of the current own node is also the lock under which sealing and importing happen.
    """

    ident = ExactCharField(_("id"), max_length=NODE_LENGTH, unique=True)
    name = models.CharField(_("name"), max_length=NODE_LENGTH)
    own = models.BooleanField(_("this deployment"), default=False)
    # True for exactly one row, NULL for all others: the unique index lets two processes create only one own node.
    current = models.BooleanField(_("current"), null=True, unique=True, editable=False)
    seq = models.BigIntegerField(_("last position"), default=0)
    clock = models.BigIntegerField(_("clock"), default=0)
    reset_seq = models.BigIntegerField(_("log emptied up to"), default=0)
    reset_date = models.BigIntegerField(_("date there"), null=True)
    pruned_seq = models.BigIntegerField(_("log compacted up to"), default=0)
    pruned_date = models.BigIntegerField(_("date there"), null=True)
    taken_seq = models.BigIntegerField(_("imported up to"), default=0)
    taken_date = models.BigIntegerField(_("date at the checkpoint"), null=True)
    acked_seq = models.BigIntegerField(_("has of this node"), default=0)
    predecessor = models.ForeignKey("self", models.PROTECT, null=True, related_name="+", editable=False)
    succession = models.TextField(default="", blank=True, editable=False)
    heard = models.DateTimeField(_("last heard"), null=True)

    class Meta:
        verbose_name = _("node")
        verbose_name_plural = _("nodes")

    def __str__(self) -> str:
        return self.ident


class ChangeLog(models.Model):
    """One change of one object.

    A change that was made here has ``payload``: the object's whole state as JSON, with local primary keys. One that was
    imported (``imported``) has the record as it arrived. Sealing gives position (``log``, ``seq``), ``date``, ``base``
    (date and node of the version that the change was made on) and ``origin``; until then they are NULL and the change
    is pending. For links ``model`` and ``pk`` name the side that declares the field, ``link`` is ``<field>:<pk of the
    target>``. ``root`` is the model whose objects' history the change belongs to (the topmost multi-table parent).
    ``resolution``: it decides a conflict against the order of dates. ``version`` is that of ``model`` in which the
    payload is; both stay as they were logged when the model changes or is renamed, and ``root`` follows. ``actor`` is
    who made it (of an imported one as much of the name as fits), ``context`` JSON of what was noted along (of an
    imported one the record has it); empty where nobody said.
    """

    id = models.BigAutoField(primary_key=True)
    model = ExactCharField(_("model"), max_length=LABEL_LENGTH)
    root = ExactCharField(_("root model"), max_length=LABEL_LENGTH)
    pk_text = ExactCharField(_("primary key"), max_length=PK_TEXT_LENGTH)
    link = ExactCharField(_("link"), max_length=LINK_LENGTH, default="", blank=True)
    action = models.CharField(_("action"), max_length=6, choices=Action)
    captured = models.BigIntegerField(_("captured"))
    payload = models.TextField(_("values"))
    imported = models.BooleanField(_("imported"), default=False)
    log = models.ForeignKey(
        Node, models.PROTECT, null=True, related_name="changes", verbose_name=_("log"), db_index=False
    )
    seq = models.BigIntegerField(_("position"), null=True)
    date = models.BigIntegerField(_("date"), null=True)
    base = models.BigIntegerField(_("date of the base"), null=True)
    base_node = models.ForeignKey(
        Node, models.PROTECT, null=True, related_name="+", verbose_name=_("node of the base"), db_index=False
    )
    origin = models.ForeignKey(
        Node, models.PROTECT, null=True, related_name="+", verbose_name=_("origin"), db_index=False
    )
    origin_seq = models.BigIntegerField(_("position at the origin"), null=True)
    resolution = models.BooleanField(_("decides a conflict"), default=False, db_default=False)
    version = models.BigIntegerField(_("version of the model"), default=1, db_default=1)
    actor = models.CharField(_("who"), max_length=ACTOR_LENGTH, default="", db_default="", blank=True)
    context = models.CharField(_("context"), max_length=CONTEXT_LENGTH, default="", db_default="", blank=True)

    class Meta:
        # 0.5 to 0.7 had another table called synchro_changelog.
        db_table = "synchro_change"
        verbose_name = _("change")
        verbose_name_plural = _("changes")
        constraints: ClassVar = [
            # Also finds what is pending: rows with NULL in both columns.
            models.UniqueConstraint(fields=["log", "seq"], name="synchro_change_position"),
            # Also answers "is this change known, and with which date?".
            models.UniqueConstraint(fields=["origin", "origin_seq"], name="synchro_change_origin"),
        ]
        indexes: ClassVar = [models.Index(fields=["root", "pk_text"], name="synchro_change_object")]

    def __str__(self) -> str:
        when = format_date(self.captured if self.date is None else self.date)
        return f"{when} {self.action} {self.model} {self.pk_text}"


class Version(models.Model):
    """The newest change of each object, and of each m2m link (with ``link`` set).

    It is known by date, node, and whether it is a deletion.

    It outlives the log: conflicts and tombstones rest on it. ``change`` may be gone after pruning or a reset;
    ``digest`` then tells whether the row is as it was when the log was emptied. Where the row was as it was logged,
    ``seq`` is the change's position at its origin, and ``base`` and ``base_node`` what it was made on: so it can be
    said again as the change that it was.
    """

    root = ExactCharField(max_length=LABEL_LENGTH)
    pk_text = ExactCharField(max_length=PK_TEXT_LENGTH)
    link = ExactCharField(max_length=LINK_LENGTH, default="", blank=True)
    date = models.BigIntegerField()
    node = models.ForeignKey(Node, models.PROTECT, related_name="+", db_index=False)
    deleted = models.BooleanField(default=False)
    change_id = models.BigIntegerField(null=True)
    digest = models.BigIntegerField(null=True)
    seq = models.BigIntegerField(null=True)
    base = models.BigIntegerField(null=True)
    base_node = models.ForeignKey(
        Node, models.PROTECT, null=True, related_name="+", db_index=False, db_constraint=False
    )

    class Meta:
        constraints: ClassVar = [
            models.UniqueConstraint(fields=["root", "pk_text", "link"], name="synchro_version_object")
        ]

    def __str__(self) -> str:
        return f"{self.root} {self.pk_text} {self.link} {format_date(self.date)} {self.node_id}".replace("  ", " ")


class Touch(models.Model):
    """A row of a tracked table, or of a link table, that was written: noted by a trigger, removed by sealing.

    ``key`` is its primary key as text (of several parts: as a JSON array; for a link the keys of both ends), NULL where
    any row of the table may be meant. A row with the id 0 is never committed: while it is there, nothing is noted.
    """

    model = ExactCharField(max_length=LABEL_LENGTH)
    key = models.TextField(null=True)

    def __str__(self) -> str:
        return f"{self.model} {self.key}"


class Reference(models.Model):
    """The object that somebody calls ``object_id`` (``<node id>/<pk there>``) is our row ``pk_text`` of ``model``."""

    model = ExactCharField(max_length=LABEL_LENGTH)
    object_id = ExactCharField(max_length=OBJECT_ID_LENGTH)
    pk_text = ExactCharField(max_length=PK_TEXT_LENGTH)

    class Meta:
        # 0.5 to 0.7 had another table called synchro_reference.
        db_table = "synchro_objectreference"
        constraints: ClassVar = [
            models.UniqueConstraint(fields=["model", "object_id"], name="synchro_reference_object")
        ]
        indexes: ClassVar = [models.Index(fields=["model", "pk_text"], name="synchro_reference_pk")]

    def __str__(self) -> str:
        return f"{self.model} {self.object_id} = {self.pk_text}"


class MergedRow(models.Model):
    """The row ``pk_text`` of ``root`` turned out to be the object of the row ``into``, and is gone.

    States that were logged before may still point to it.
    """

    root = ExactCharField(max_length=LABEL_LENGTH)
    pk_text = ExactCharField(max_length=PK_TEXT_LENGTH)
    into = ExactCharField(max_length=PK_TEXT_LENGTH)

    class Meta:
        constraints: ClassVar = [models.UniqueConstraint(fields=["root", "pk_text"], name="synchro_mergedrow_row")]

    def __str__(self) -> str:
        return f"{self.root} {self.pk_text} = {self.into}"


class RemoteReference(models.Model):
    """Our row ``pk_text`` of ``model`` is the row ``remote_pk_text`` of the database ``remote``.

    Kept here for a REMOTE that has no tables of synchro's to keep its own :class:`Reference` in. ``confirmed``: its row
    was committed there.
    """

    remote = models.CharField(max_length=NODE_LENGTH)
    model = ExactCharField(max_length=LABEL_LENGTH)
    pk_text = ExactCharField(max_length=PK_LENGTH)
    remote_pk_text = ExactCharField(max_length=PK_LENGTH)
    confirmed = models.BooleanField(default=True)

    class Meta:
        constraints: ClassVar = [
            models.UniqueConstraint(fields=["remote", "model", "pk_text"], name="synchro_remotereference_row")
        ]

    def __str__(self) -> str:
        return f"{self.model} {self.pk_text} = {self.remote} {self.remote_pk_text}"


class RemoteHeld(models.Model):
    """The database ``remote``, which has no tables of synchro's, could not take the change ``change_id`` of our log.

    It is tried again at each synchronization. The change may have gone from the log since: a newer one took its place.
    """

    remote = models.CharField(max_length=NODE_LENGTH)
    change_id = models.BigIntegerField()
    reason = models.TextField()

    class Meta:
        constraints: ClassVar = [
            models.UniqueConstraint(fields=["remote", "change_id"], name="synchro_remoteheld_change")
        ]

    def __str__(self) -> str:
        return self.reason


class KnownRange(models.Model):
    """Positions ``first`` to ``last`` of ``origin``'s log are known here; kept for ever, also after pruning."""

    origin = models.ForeignKey(Node, models.PROTECT, related_name="known")
    first = models.BigIntegerField()
    last = models.BigIntegerField()

    def __str__(self) -> str:
        return f"{self.origin_id}: {self.first}-{self.last}"


class Destination(models.Model):
    """A named stream of exports and how far it has got in this node's log."""

    name = models.CharField(_("name"), max_length=NODE_LENGTH)
    log = models.ForeignKey(Node, models.PROTECT, related_name="destinations", verbose_name=_("log"))
    seq = models.BigIntegerField(_("exported up to"), default=0)
    previous = models.CharField(_("digest of the last bundle"), max_length=64, default="", blank=True)
    moved = models.DateTimeField(_("last export"), null=True)

    class Meta:
        verbose_name = _("destination")
        verbose_name_plural = _("destinations")
        constraints: ClassVar = [models.UniqueConstraint(fields=["log", "name"], name="synchro_destination_name")]
        # Of the page in the admin. Their names are stored as they stand here, so translating them would show nowhere.
        permissions: ClassVar = [
            ("can_synchronize", "Can synchronize"),
            ("can_reset_synchro", "Can reset synchronization"),
            ("can_export", "Can export bundles"),
            ("can_import", "Can import bundles"),
            ("can_resolve", "Can decide conflicts"),
        ]

    def __str__(self) -> str:
        return self.name


class Bundle(models.Model):
    """A bundle that was written or imported here.

    ``header`` is its header, ``report`` the numbers that the command gave.
    """

    class Direction(models.TextChoices):
        SENT = "sent", _("sent")
        RECEIVED = "received", _("received")

    direction = models.CharField(_("direction"), max_length=8, choices=Direction)
    ident = models.UUIDField(_("id"))
    node = models.ForeignKey(Node, models.PROTECT, related_name="bundles", verbose_name=_("written by"))
    destination = models.CharField(_("destination"), max_length=NODE_LENGTH)
    first_seq = models.BigIntegerField(_("after position"))
    last_seq = models.BigIntegerField(_("up to position"))
    records = models.BigIntegerField(_("records"))
    sha256 = models.CharField(_("digest"), max_length=64)
    file = models.CharField(_("file"), max_length=255)
    created = models.DateTimeField(_("created"))
    handled = models.DateTimeField(_("handled"))
    # As text: PostgreSQL reorders the keys of JSON, and the same range is to give the same file again.
    header = models.TextField(_("header"))
    report = UncheckedJSONField(_("report"))

    class Meta:
        verbose_name = _("bundle")
        verbose_name_plural = _("bundles")

    def __str__(self) -> str:
        return self.file


class Conflict(models.Model):
    """Two versions of one object that were made without knowing of each other, and which of them won.

    ``local`` and ``incoming`` are JSON: the values on both sides with date and node. ``kind``: ``"object"``,
    ``"link"``, ``"unlogged"`` (a row that was written past the log), ``"parent"`` (a deleted parent brought back for a
    living child), ``"merge"`` (two rows that turned out to be one object). ``winner`` is ``"local"``, ``"incoming"``,
    ``"merged"`` (both changed different fields) or ``"held"``; ``policy`` is what decided.

    While ``held`` is true, nobody has decided yet: the row is as the local version says, ``change_id`` is the incoming
    change in the log, and later changes of the object wait, too. ``resolution``, ``resolved_by`` and ``resolved`` say
    how that ended: ``"take"``, ``"keep"`` or ``"merge"`` here, or ``"elsewhere"``, with the node that decided.
    ``link`` is set where it is about one m2m link.
    """

    model = ExactCharField(_("model"), max_length=LABEL_LENGTH)
    object_id = ExactCharField(_("object"), max_length=OBJECT_ID_LENGTH)
    pk_text = ExactCharField(_("primary key"), max_length=PK_TEXT_LENGTH)
    key = models.TextField(_("natural key"), default="", blank=True)
    kind = models.CharField(_("kind"), max_length=10)
    local = models.TextField(_("local version"))
    incoming = models.TextField(_("incoming version"))
    winner = models.CharField(_("winner"), max_length=8)
    policy = models.CharField(_("policy"), max_length=8)
    created = models.DateTimeField(_("recorded"))
    link = ExactCharField(_("link"), max_length=LINK_LENGTH, default="", blank=True)
    change_id = models.BigIntegerField(_("incoming change"), null=True)
    held = models.BooleanField(_("waits for a decision"), default=False, db_index=True)
    resolution = models.CharField(_("resolution"), max_length=9, default="", blank=True)
    resolved_by = models.CharField(_("resolved by"), max_length=150, default="", blank=True)
    resolved = models.DateTimeField(_("resolved"), null=True)

    class Meta:
        verbose_name = _("conflict")
        verbose_name_plural = _("conflicts")

    def __str__(self) -> str:
        return f"{self.model} {self.key or self.object_id}: {self.winner}"


class Held(models.Model):
    """An imported change that could not be applied, and why. It is tried again at each import."""

    change = models.OneToOneField(ChangeLog, models.CASCADE, related_name="held", verbose_name=_("change"))
    reason = models.TextField(_("reason"))
    since = models.DateTimeField(_("since"))

    class Meta:
        verbose_name = _("held change")
        verbose_name_plural = _("held changes")

    def __str__(self) -> str:
        return reasons.told(self.reason)


class HeldObject(models.Model):
    """An imported row of a model that is not tracked, which could not be created here yet; ``payload`` is its record.

    It is tried again with the changes that are held, and relayed with those that point to it. ``node`` sent it.
    """

    model = ExactCharField(max_length=LABEL_LENGTH)
    object_id = ExactCharField(max_length=OBJECT_ID_LENGTH)
    node = ExactCharField(max_length=NODE_LENGTH)
    version = models.BigIntegerField(default=1)
    payload = models.TextField()

    class Meta:
        constraints: ClassVar = [
            models.UniqueConstraint(fields=["model", "object_id"], name="synchro_heldobject_object")
        ]

    def __str__(self) -> str:
        return f"{self.model} {self.object_id}"


class Schema(models.Model):
    """What records of one version of a model look like: here (``own``), or as a sender told.

    What was logged under a schema that is no more is exported by it. ``info`` is JSON, see :mod:`synchro.schemas`.
    """

    model = ExactCharField(max_length=LABEL_LENGTH)
    version = models.BigIntegerField()
    own = models.BooleanField()
    info = models.TextField()

    class Meta:
        constraints: ClassVar = [
            models.UniqueConstraint(fields=["model", "version", "own"], name="synchro_schema_version")
        ]

    def __str__(self) -> str:
        return f"{self.model} {self.version}"


class RedactedField(models.Model):
    """``node`` does not tell this deployment the values of ``field`` (of ``model`` in ``version``) as it has them.

    So what this deployment has there is not given to others.
    """

    node = models.ForeignKey(Node, models.CASCADE, related_name="+")
    model = ExactCharField(max_length=LABEL_LENGTH)
    version = models.BigIntegerField()
    field = ExactCharField(max_length=LABEL_LENGTH)

    class Meta:
        constraints: ClassVar = [
            models.UniqueConstraint(fields=["node", "model", "version", "field"], name="synchro_redactedfield_field")
        ]

    def __str__(self) -> str:
        return f"{self.model}.{self.field}"


class Unseen(models.Model):
    """The value that ``change`` gave to ``field`` of its object is told to this deployment, and did not come yet.

    Somebody who is not told it was quicker with the rest of the change. ``before`` is, as JSON, what the row had there
    then: as long as it has, nobody here knows better, and this deployment's own changes go without it. The change stays
    in the log until the same change comes with the value, or a later one that has one.
    """

    change = models.ForeignKey(ChangeLog, models.CASCADE, related_name="unseen")
    field = ExactCharField(max_length=LABEL_LENGTH)
    before = models.TextField()

    class Meta:
        constraints: ClassVar = [models.UniqueConstraint(fields=["change", "field"], name="synchro_unseen_field")]

    def __str__(self) -> str:
        return f"{self.change_id} {self.field}"


class HeldFile(models.Model):
    """The content of a file that came with a held change: in the default storage under ``name`` until that goes in."""

    sha256 = models.CharField(max_length=64, unique=True)
    size = models.BigIntegerField()
    name = models.CharField(max_length=255)

    def __str__(self) -> str:
        return self.name


class SentFile(models.Model):
    """A content that travelled to a destination, with a bundle that ended at the position ``seq``."""

    destination = models.ForeignKey(Destination, models.CASCADE, related_name="+")
    sha256 = models.CharField(max_length=64)
    seq = models.BigIntegerField()

    class Meta:
        constraints: ClassVar = [
            models.UniqueConstraint(fields=["destination", "sha256"], name="synchro_sentfile_content")
        ]

    def __str__(self) -> str:
        return self.sha256
