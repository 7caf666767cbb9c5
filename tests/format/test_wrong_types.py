"""Nothing of a wrong type is taken, in whatever place of a bundle it stands, and nothing may be missing."""

import io

import pytest

from changelog_format import BundleError, Header, SignatureError, Trailer, TrustedKeys, check_signature, verify
from changelog_format.errors import DigestError
from changelog_format.signing import Signer
from tests.format.wrong_types import KINDS, TABLES, bundle_with, packed, places, whole


def test_without_anything_wrong_it_is_taken():
    summary = verify(io.BytesIO(packed(whole())))
    assert summary.records == 6


def test_every_key_of_every_table_is_there_to_be_wrong():
    kinds = {number: line["type"] for number, line in enumerate(whole())} | {"trailer": "trailer"}
    reached = {(kinds[path[0]], path[1]) for path, _ in places()}
    for kind, keys in TABLES.items():
        if kind == "actions":
            assert {key for action in keys.values() for key in action} <= {key for of, key in reached if of == "change"}
        elif kind == "model":
            inside = {path[3] for path, _ in places() if path[:2] == (0, "models") and len(path) > 3}
            assert inside == keys.keys()
        else:
            assert keys.keys() <= {key for of, key in reached if of == kind}, kind


def named(path, value):
    return f"{'.'.join(map(str, path))}-{value if isinstance(value, (int, float, str)) else type(value).__name__}"


def refusal(data):
    """The BundleError that a bundle gives, None without; every other exception is raised."""
    try:
        verify(io.BytesIO(data))
    except BundleError as error:
        return error
    return None


@pytest.mark.parametrize("record", [*range(len(whole())), "trailer"])
def test_what_is_of_a_wrong_type_is_refused_where_it_stands(record):
    tried = 0
    for path, value in places():
        if path[0] != record:
            continue
        tried += 1
        error = refusal(bundle_with(path, value))
        assert error is not None, f"taken: {named(path, value)}"
        assert not isinstance(error, DigestError), named(path, value)
        assert error.rule, named(path, value)
        assert error.line == (record + 1 if record != "trailer" else len(whole()) + 1), named(path, value)
        assert len(str(error)) < 500
    assert tried > 20


def test_a_signature_whose_members_are_of_a_wrong_type_is_none():
    signer = Signer(bytes([1]) * 32)
    header = Header.from_dict(whole()[0])
    digests = {"records": 6, "sha256": "0" * 64}
    signature = signer.signature(header, **digests)
    trusted = TrustedKeys.of_mapping({"office": "ed25519:" + signature["key"]})
    trailer = {"stored_sha256": "0" * 64, **digests}
    check_signature(header, Trailer(**trailer, signature=signature), trusted)
    for name in signature:
        for value in KINDS.values():
            with pytest.raises(SignatureError) as caught:
                check_signature(header, Trailer(**trailer, signature={**signature, name: value}), trusted)
            assert caught.value.rule == "R72"
        without = {key: value for key, value in signature.items() if key != name}
        with pytest.raises(SignatureError):
            check_signature(header, Trailer(**trailer, signature=without), trusted)
    with pytest.raises(SignatureError):
        check_signature(header, Trailer(**trailer, signature={**signature, "more": 1}), trusted)
