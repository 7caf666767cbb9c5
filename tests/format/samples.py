"""Small bundles to test with."""

import io
import json
from pathlib import Path

from changelog_format import BundleWriter, Change, Header, ModelInfo, NodeInfo, ObjectRecord, Origin, Position

ROOT = Path(__file__).resolve().parents[2]
VECTORS = ROOT / "tests" / "vectors"
INDEX = json.loads((VECTORS / "vectors.json").read_text(encoding="utf-8"))
GOOD = [vector for vector in INDEX["vectors"] if "error" not in vector]
BAD = [vector for vector in INDEX["vectors"] if "error" in vector]

OFFICE, HQ = "office-7f3a9c21", "hq-11aa22bb"
BUNDLE = "0b6f3d3e-5a53-4c0b-9a43-6d1b1f0e8a55"
CITY = ModelInfo(fields={"name": "CharField", "size": "IntegerField"}, links={"tags": "geo.tag"})


def day(number):
    return f"2026-11-{1 + number // 86400:02}T{number // 3600 % 24:02}:{number // 60 % 60:02}:{number % 60:02}.000001Z"


def header(end, **values):
    settings = {
        "bundle": BUNDLE,
        "created": day(0),
        "node": NodeInfo(id=OFFICE, name="Office"),
        "destination": "default",
        "start": Position(seq=0, date=None),
        "end": Position(seq=end, date=day(end) if end else None),
        "mode": "history",
        "models": {"geo.city": CITY, "geo.tag": ModelInfo()},
    }
    return Header(**settings | values)


def change(seq, **values):
    settings = {
        "seq": seq,
        "date": day(seq),
        "base": None,
        "action": "add",
        "model": "geo.city",
        "id": f"{OFFICE}/{seq}",
        "key": None,
        "fields": {"name": f"City {seq}", "size": seq},
        "refs": {},
    }
    return Change(**settings | values)


def object_record(**values):
    return ObjectRecord(**{"model": "geo.tag", "id": f"{HQ}/9", "key": ["a"], "fields": {}, "refs": {}} | values)


def relayed(seq, **values):
    return change(seq, **{"origin": Origin(node=HQ, seq=seq + 100)} | values)


def bundle(head, records, **options):
    """The bytes of a bundle."""
    stream = io.BytesIO()
    with BundleWriter(stream, head, **options) as writer:
        for record in records:
            writer.write(record)
    return stream.getvalue()


def small(count=3, **options):
    return bundle(header(count), [change(seq) for seq in range(1, count + 1)], **options)
