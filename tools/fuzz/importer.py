"""Structure-aware fuzzing of the importer: valid bundles are mutated record by record, packed anew, and imported.

Whatever they say, an import ends with a report or with one of the documented errors; in the latter case the database is
as it was; in the former it imports again as known already, passes Django's checks of foreign keys, and what it exports
can be imported by a third deployment. Runs on SQLite in memory, in the project of the tests.

    importer.py --seconds 60 --seed 1 --failures FOLDER
"""

import argparse
import base64
import copy
import os
import random
import sys
import time
import traceback
from pathlib import Path

import orjson

ROOT = Path(__file__).resolve().parent.parent.parent
ODD = (
    None, True, False, 0, -1, 1, 2**31, 2**63 - 1, -(2**63), 0.5, 1e308, "", "x", "NaN", "\u0000", "😀", "a" * 300,
    [], {}, [None], {"$json": None}, {"$int": "99999999999999999999"}, {"$float": "NaN"}, {"$bytes": "AAH/"},
    {"$utf16": "2AA="}, {"$duration": "-P999999999DT00H00M00S"}, {"$range": "empty"}, {"$$ref": 1},
    "0001-01-01T00:00:00.000000Z", "9999-12-31T23:59:59.999999Z", "2026-02-30", "../../etc/passwd", "🏴‍☠️",
)  # fmt: skip


def setup():
    os.environ.setdefault("DJANGO_SETTINGS_MODULE", "tests.project.settings")
    os.environ["SYNCHRO_TEST_DB"] = "sqlite"
    sys.path.insert(0, str(ROOT))
    import django

    django.setup()
    from django.test.utils import setup_databases, setup_test_environment

    setup_test_environment()
    setup_databases(verbosity=0, interactive=False)


def seeds():
    """Bundles with every kind of record, as lists of lines: of an office that has worked for a while."""
    from fixtures import histories, memory
    from packing import unpacked

    with memory():
        return [in_pieces([orjson.loads(line) for line in unpacked(data)]) for data in histories()]


def in_pieces(lines):
    """The bundle, the contents of its files in pieces of a hundred bytes."""
    found = []
    for line in lines:
        if line["type"] == "file" and line["size"]:
            data = base64.b64decode(line["data"])
            found += [
                {**line, "at": at, "data": base64.b64encode(data[at : at + 100]).decode()}
                for at in range(0, len(data), 100)
            ]
        else:
            found.append(line)
    return found


class Mutator:
    """Changes bundles at random, most of them so that they stay well-formed."""

    header = None

    def __init__(self, rng, corpus):
        self.rng = rng
        self.corpus = corpus

    def mutated(self):
        lines = copy.deepcopy(self.rng.choice(self.corpus))
        header, *records, trailer = lines
        self.header = header
        for _ in range(self.rng.choice((1, 1, 2, 3, 8))):
            if records:
                self.rng.choice(self.STEPS)(self, records)
        self._number(header, records, trailer)
        return [header, *records, trailer]

    def two(self, records):
        """Two records about objects (or the same one twice)."""
        about = [record for record in records if "id" in record] or [{"id": "office-00000000/1", "model": "shop.tag"}]
        return self.rng.choice(about), self.rng.choice(about)

    def content(self, records):
        """Pieces of files, and what records say of them."""
        pieces = [record for record in records if record["type"] == "file"]
        named = [record for record in records if record.get("files") and "fields" in record]
        if pieces and self.rng.randrange(2):
            piece = self.rng.choice(pieces)
            name = self.rng.choice(("sha256", "size", "at", "data"))
            piece[name] = self.rng.choice(
                {
                    "sha256": ("0" * 64, self.rng.choice(pieces)["sha256"]),
                    "size": (0, 1, piece["size"] + 1, 2**62),
                    "at": (0, 1, piece["at"] + 1),
                    "data": ("", "AAH/", self.rng.choice(pieces)["data"]),
                }[name]
            )
        elif named:
            record = self.rng.choice(named)
            field = self.rng.choice(list(record["files"]))
            if self.rng.randrange(2):
                record["fields"][field] = self.rng.choice(
                    (
                        "",
                        "../../etc/passwd",
                        "/etc/passwd",
                        "notes/x.txt",
                        "a\\b",
                        "a" * 300,
                        "synchro-held/x",
                        ".",
                        "ä/\U0001f600",
                    )
                )
            else:
                record["files"][field] = self.rng.choice(
                    (
                        {"sha256": "0" * 64, "size": 3},
                        {"sha256": "0" * 64, "size": 2**62},
                        *({"sha256": piece["sha256"], "size": piece["size"]} for piece in pieces),
                    )
                )

    def version(self, records):
        """Records of other versions of their models, also of those that the header does not know."""
        record = self.rng.choice(records)
        if "id" in record:
            record["version"] = self.rng.choice((1, 2, 3, 2**63 - 1))
            self.header["models"].get(record["model"], {}).setdefault("versions", {})[str(record["version"])] = {
                name: value
                for name, value in self.header["models"].get(record["model"], {}).items()
                if name not in ("version", "versions")
            }

    def decision(self, records):
        """Decisions, bases and merges: what conflicts are made of."""
        record, other = self.two(records)
        if record.get("type") != "change":
            return
        step = self.rng.choice(("resolution", "base", "node", "same"))
        if step == "resolution":
            record["resolution"] = True
        elif step == "base":
            record["base"] = self.rng.choice((None, "2020-01-01T00:00:00.000000Z", other.get("date")))
            record.pop("base_node", None)
        elif step == "node" and record["base"] is not None:
            record["base_node"] = self.rng.choice(("hq-00000000", "ship-11111111"))
        elif record["id"] != other["id"]:
            for name in ("fields", "refs", "files", "field", "target"):
                record.pop(name, None)
            both = sorted([record["id"], other["id"]])
            record.update(action="same", id=both[0], key=None, same=both)

    def drop(self, records):
        records.pop(self.rng.randrange(len(records)))

    def double(self, records):
        place = self.rng.randrange(len(records))
        records.insert(self.rng.randrange(len(records) + 1), copy.deepcopy(records[place]))

    def swap(self, records):
        one, other = self.rng.randrange(len(records)), self.rng.randrange(len(records))
        records[one], records[other] = records[other], records[one]

    def borrow(self, records):
        """Take a record, or a part of one, from somewhere else."""
        stranger = self.rng.choice(self.rng.choice(self.corpus)[1:-1])
        record = self.rng.choice(records)
        name = self.rng.choice(list(stranger))
        if name in record and name not in ("type", "seq"):
            record[name] = copy.deepcopy(stranger[name])

    def value(self, records):
        record = self.rng.choice(records)
        fields = record.get("fields")
        if fields:
            fields[self.rng.choice(list(fields))] = copy.deepcopy(self.rng.choice(ODD))

    def field(self, records):
        fields = self.rng.choice(records).get("fields")
        if fields:
            if self.rng.randrange(2):
                fields.pop(self.rng.choice(list(fields)))
            else:
                fields[self.rng.choice(("unknown", "id", "password", "pk", "is_superuser"))] = self.rng.choice(ODD)

    def identity(self, records):
        record, other = self.two(records)
        record["id"] = other["id"] if self.rng.randrange(2) else f"{other['id'].partition('/')[0]}/{self.pk()}"

    def pk(self):
        return self.rng.choice(("1", "2", "0", "-1", "99999999999999999999", "x", "[1,2]", "a/b", "😀", "1.5", "null"))

    def reference(self, records):
        record, other = self.two(records)
        refs = record.get("refs")
        if refs:
            refs[self.rng.choice(list(refs))] = other["id"]

    def key(self, records):
        record, other = self.two(records)
        if "key" in record:
            choices = (None, [], copy.deepcopy(other.get("key")), [self.rng.choice(ODD)])
            record["key"] = self.rng.choice(choices)

    def action(self, records):
        record = self.rng.choice(records)
        if record.get("action") in ("add", "change"):
            record["action"] = self.rng.choice(("add", "change", "delete"))
            if record["action"] == "delete":
                record.pop("fields", None)
                record.pop("refs", None)
        elif record.get("action") in ("link", "unlink"):
            record["action"] = self.rng.choice(("link", "unlink"))

    def model(self, records):
        record, other = self.two(records)
        record["model"] = self.rng.choice((other["model"], "auth.user", "contenttypes.contenttype", "synchro.node"))

    def date(self, records):
        record, other = self.rng.choice(records), self.rng.choice(records)
        for name in ("date", "base"):
            if name in record and other.get("date") and self.rng.randrange(2):
                record[name] = other["date"]

    def redacted(self, _records):
        """Fields that the sender does not tell, or says that it does not."""
        label = self.rng.choice([*self.header["models"], "shop.note", "lab.result"])
        names = [*self.header["models"].get(label, {}).get("fields", ()), "text", "unknown"]
        self.header["redacted"] = {label: sorted(set(self.rng.choices(names, k=3)))}

    STEPS = (
        redacted, drop, double, swap, borrow, value, value, value, field, identity, identity, reference, reference,
        key, key, action, model, date, content, content, version, decision, decision,
    )  # fmt: skip

    @staticmethod
    def _number(header, records, trailer):
        """Positions, range and count as the rules want them."""
        seq = header["range"]["from"]["seq"]
        for record in records:
            if record["type"] == "change":
                seq += 1
                record["seq"] = seq
        changes = [record for record in records if record["type"] == "change"]
        header["range"]["to"]["seq"] = seq
        if changes:
            header["range"]["to"]["date"] = changes[-1]["date"]
        trailer["records"] = len(records)


def tried(lines):
    """Import a bundle of *lines* into a deployment that has its own data already; what became of it.

    Raises AssertionError, or whatever came that should not.
    """
    from django.db import DatabaseError, connections
    from django.test import override_settings
    from fixtures import ERRORS, everything, exported, memory, scene, taken
    from packing import packed

    from synchro import WITHHELD

    data = packed([orjson.dumps(line) for line in lines])
    # Where it says that it does not tell these, it is this deployment that withholds them from the sender.
    withheld = {"shop.note": {"text": WITHHELD, "file": WITHHELD}, "shop.person": {"city": WITHHELD}}
    ours = not withheld.keys().isdisjoint(lines[0].get("redacted", ()))
    name = lines[0]["node"]["id"].rpartition("-")[0]
    with memory(), scene(), override_settings(SYNCHRO_REDACT={name: withheld, "*": {}} if ours else {}):
        before = everything("hq")
        try:
            report = taken(data, "hq")
        except ERRORS as error:
            if everything("hq") != before:
                raise AssertionError("it was refused, and the database is not as it was") from error
            return type(error).__name__
        connections["hq"].check_constraints()
        again = taken(data, "hq")
        # What was held may have been overtaken by what the first import decided, and is a conflict then.
        conflicts = again.conflicts > report.conflicts and again.held >= report.held
        if again.added or again.changed or again.deleted or again.m2m or conflicts:
            raise AssertionError(f"importing it again did something: {again}")
        onward = exported("hq")
        if onward is not None:
            try:
                taken(onward, "ship")
            except ERRORS as error:
                raise AssertionError(f"what was taken cannot be passed on: {error}") from error
            try:
                connections["ship"].check_constraints()
            except DatabaseError as error:
                raise AssertionError(f"foreign keys dangle after it was passed on: {error}") from error
        return "held" if report.held else "taken"


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seconds", type=float, default=60)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--failures", type=Path, default=Path("fuzz-failures"))
    parser.add_argument("files", nargs="*", type=Path, help="try these once more (JSON lines) instead")
    asked = parser.parse_args()
    setup()
    if asked.files:
        for path in asked.files:
            print(path, tried([orjson.loads(line) for line in path.read_bytes().splitlines()]))
        return 0
    mutator = Mutator(random.Random(asked.seed), seeds())  # noqa: S311 - mutations that can be repeated
    outcomes, failures, seen = {}, 0, set()
    until = time.monotonic() + asked.seconds
    while time.monotonic() < until:
        lines = mutator.mutated()
        try:
            outcome = tried(lines)
        except Exception as error:  # noqa: BLE001 - whatever it is, it is what is looked for
            outcome = f"FAILED: {type(error).__name__}"
            place = traceback.extract_tb(error.__traceback__)[-1]
            kind = (type(error).__name__, place.filename, place.lineno, str(error)[:40])
            if kind not in seen:
                seen.add(kind)
                failures += 1
                asked.failures.mkdir(exist_ok=True)
                path = asked.failures / f"{asked.seed}-{failures}.jsonl"
                path.write_bytes(b"".join(orjson.dumps(line) + b"\n" for line in lines))
                print(f"{path}: {''.join(traceback.format_exception(error))[-1500:]}", flush=True)
        outcomes[outcome] = outcomes.get(outcome, 0) + 1
    print(f"{sum(outcomes.values()):,} bundles: {', '.join(f'{n:,} {name}' for name, n in sorted(outcomes.items()))}")
    return 1 if failures else 0


if __name__ == "__main__":
    sys.exit(main())
