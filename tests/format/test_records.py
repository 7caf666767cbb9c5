"""Records survive writing and reading, and errors of `from_dict` name key and rule."""

import io
import pickle
from dataclasses import FrozenInstanceError, fields

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from changelog_format import (
    BundleError,
    Change,
    Header,
    ModelInfo,
    NodeInfo,
    ObjectRecord,
    Origin,
    Position,
    RecordError,
    Target,
    Trailer,
    encode_value,
    format_date,
    open_bundle,
    verify,
)
from changelog_format.records import check_change
from tests.format.samples import BUNDLE, HQ, OFFICE, bundle, change, header
from tests.format.test_values import VALUES

DATES = st.integers(0, 4 * 10**15).map(format_date)
NODES = st.sampled_from(["a-00000000", HQ, "x.y_z-deadbeef"])
PKS = st.integers(0, 10**6).map(str) | st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=20)
IDS = st.builds(lambda node, pk: f"{node}/{pk}", NODES, PKS)
ENCODED = VALUES.map(encode_value)
KEYS = st.none() | st.lists(ENCODED, min_size=1, max_size=3)
NAMES = st.sampled_from(["name", "size", "größe", "_x"])
FIELDS = st.dictionaries(NAMES, ENCODED, max_size=4)
REFS = st.dictionaries(NAMES, IDS, max_size=2)
PLAIN = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**63), 2**63 - 1) | st.floats(allow_nan=False, allow_infinity=False),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(["a", "$int"]), inner),
    max_leaves=5,
)
EXTRA = st.dictionaries(st.sampled_from(["later", "x", "$new"]), PLAIN, max_size=2)
MODELS = st.sampled_from(["geo.city", "geo.größe", "a_b.c9"])
HEADER_MODELS = {
    label: ModelInfo(fields=dict.fromkeys(["name", "size", "größe", "_x"], "Field"), links={"tags": "geo.tag"})
    for label in ("geo.city", "geo.größe", "a_b.c9")
}


@st.composite
def changes(draw):
    action = draw(st.sampled_from(["add", "change", "delete", "link", "unlink", "same"]))
    base = draw(st.none() | DATES)
    body = {}
    object_id = draw(IDS)
    if action in {"add", "change"}:
        withheld = draw(st.sampled_from([(), (), ("name",), ("name", "x")]))
        body = {"fields": draw(FIELDS), "refs": draw(REFS), "withheld": withheld}
    elif action in {"link", "unlink"}:
        body = {"field": "tags", "target": Target(model=draw(MODELS), id=draw(IDS), key=draw(KEYS))}
    elif action == "same":
        pair = draw(st.lists(IDS, min_size=2, max_size=2, unique=True))
        body, object_id = {"same": tuple(pair)}, min(pair)
    return Change(
        seq=draw(st.integers(1, 100)),
        origin=draw(st.none() | st.builds(Origin, node=NODES, seq=st.integers(1, 2**63 - 1))),
        date=draw(DATES),
        base=base,
        base_node=None if base is None else draw(st.none() | st.just("other-12345678")),
        action=action,
        model=draw(MODELS),
        id=object_id,
        key=draw(KEYS),
        actor=draw(st.none() | st.text(st.characters(exclude_categories=["Cs"]))),
        context=draw(st.none() | st.dictionaries(st.sampled_from(["a", "$b"]), PLAIN)),
        resolution=draw(st.booleans()),
        extra=draw(EXTRA),
        **body,
    )


OBJECTS = st.builds(ObjectRecord, model=MODELS, id=IDS, key=KEYS, fields=FIELDS, refs=REFS, extra=EXTRA)


@settings(max_examples=50)
@given(st.lists(changes() | OBJECTS, max_size=5), EXTRA, st.integers(1, 22), st.sampled_from([1, 700, 2**22]))
def test_what_is_read_is_what_was_written(records, extra, level, frame_size):
    head = header(100, mode="squash", models=HEADER_MODELS, extra=extra)
    data = bundle(head, records, level=min(level, 6), frame_size=frame_size)
    with open_bundle(io.BytesIO(data)) as reader:
        assert reader.header == head
        assert list(reader) == records
    assert bundle(head, records, level=min(level, 6), frame_size=frame_size) == data


@settings(max_examples=50)
@given(changes())
def test_the_order_of_the_keys_is_fixed(record):
    order = [
        "type", "seq", "origin", "date", "base", "base_node", "action", "model", "id", "key", "fields", "refs",
        "withheld", "field", "target", "same", "actor", "context", "resolution",
    ]  # fmt: skip
    keys = list(record.to_dict())
    known = [key for key in keys if key in order]
    assert known == [key for key in order if key in keys]
    assert keys[len(known) :] == sorted(record.extra)


@settings(max_examples=50)
@given(changes(), st.data())
def test_without_any_one_key_a_change_is_another_or_refused(record, data):
    line = record.to_dict()
    key = data.draw(st.sampled_from(sorted(line.keys() - {"type"})))
    del line[key]
    try:
        check_change(line)
    except RecordError as error:
        assert error.rule in {"R29", "R46", "R48"}  # noqa: PT017
    else:
        assert key in {"origin", "base_node", "withheld", "actor", "context", "resolution"} | record.extra.keys()


def test_header_round_trip_with_everything():
    head = Header(
        bundle=BUNDLE,
        created="2026-11-23T10:11:12.000123Z",
        node=NodeInfo(id=OFFICE, name="Das Büro \u2028"),
        destination="hq",
        start=Position(seq=3, date="2026-11-23T10:11:12.000123Z"),
        end=Position(seq=3, date="2026-11-23T10:11:12.000123Z"),
        mode="squash",
        only=("geo.city",),
        acks={HQ: 0, "b-00000001": 2**63 - 1},
        previous="ab" * 32,
        models={
            "geo.city": ModelInfo(
                version=7,
                key=("country", "name"),
                fields={"name": "CharField", "country": "ForeignKey"},
                skipped=("visits",),
                relations={"country": "geo.country", "content_object": "contenttypes.contenttype"},
                links={"tags": "geo.tag"},
                extra={"later": {}},
            )
        },
        extra={"later": [1]},
    )
    assert Header.from_dict(head.to_dict()) == head
    assert list(head.to_dict())[8:] == ["mode", "only", "acks", "previous", "requires", "models", "later"]


def test_records_are_frozen_and_can_be_pickled():
    for record in (change(1, origin=Origin(node=HQ, seq=1)), Trailer(records=0, sha256="a", stored_sha256="b")):
        with pytest.raises(FrozenInstanceError):
            setattr(record, fields(record)[0].name, 2)
        assert pickle.loads(pickle.dumps(record)) == record  # noqa: S301
        assert not hasattr(record, "__dict__")
    error = RecordError("x", rule="R29", line=3)
    assert str(pickle.loads(pickle.dumps(error))) == "line 3: x (SPEC R29)"  # noqa: S301


@given(st.dictionaries(st.sampled_from(sorted(change(1).to_dict())), PLAIN | st.text(max_size=3)))
def test_from_dict_raises_nothing_but_bundle_errors(data):
    for kind in (Change, ObjectRecord, Header, Trailer):
        with pytest.raises(BundleError):
            kind.from_dict(data)


def test_empty_bundles():
    assert verify(io.BytesIO(bundle(header(0), []))).records == 0
