"""Ids and fingerprints: pinned, and equal for what is equal."""

from dataclasses import dataclass
from fractions import Fraction
from pathlib import PurePosixPath

import pytest
from hypothesis import given
from hypothesis import strategies as st

from schemas.identity import ID_LENGTH, canonical_json, clip_id, fingerprint, source_id


@dataclass
class Knobs:
    threshold: float = 0.5


@dataclass
class OtherKnobs:
    threshold: float = 0.5


def test_ids_are_pinned() -> None:
    assert source_id("videos/a.mp4") == "deca7c2ad0ca8551ab11"
    assert source_id("videos/a.mp4", 1.0, 2.5) == "d238687f5b81e5ce97c2"
    assert clip_id("0" * 64, 1001, 5005, Fraction(1, 30000)) == "9783fb348858f0a52588"


def test_a_clip_is_its_bytes_and_its_exact_span() -> None:
    first = clip_id("a", 30, 60, Fraction(1, 30))
    assert first == clip_id("a", 3000, 6000, Fraction(1, 3000)), "another time base, the same span"
    others = [
        clip_id("b", 30, 60, Fraction(1, 30)),
        clip_id("a", 31, 60, Fraction(1, 30)),
        clip_id("a", 30, 60, Fraction(1001, 30000)),
    ]
    assert len({first, *others}) == 4
    assert len(first) == ID_LENGTH


@pytest.mark.parametrize(
    ("value", "text"),
    [
        pytest.param({"b": 1, "a": [1.5, None, True]}, '{"a":[1.5,null,true],"b":1}', id="sorted"),
        pytest.param(Fraction(30000, 1001), "[30000,1001]", id="fraction"),
        pytest.param({"x", "a"}, '["a","x"]', id="set"),
        pytest.param(PurePosixPath("a/b"), '"a/b"', id="path"),
        pytest.param("ü", '"\\u00fc"', id="ascii"),
        pytest.param(b"", '"e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"', id="bytes"),
        pytest.param(Knobs(), '{"__type__":"Knobs","threshold":0.5}', id="dataclass"),
    ],
)
def test_canonical_json(value: object, text: str) -> None:
    assert canonical_json(value) == text


def test_records_of_another_type_have_another_fingerprint() -> None:
    assert fingerprint(Knobs()) == fingerprint(Knobs(0.5)) != fingerprint(OtherKnobs())
    assert fingerprint("a", "b") != fingerprint("ab")


def test_what_has_no_stable_form_is_refused() -> None:
    with pytest.raises(TypeError, match="cannot fingerprint a object"):
        fingerprint(object())


@given(st.dictionaries(st.text(), st.integers() | st.floats(allow_nan=False) | st.text() | st.none()))
def test_order_of_keys_does_not_matter(value: dict) -> None:
    assert fingerprint(value) == fingerprint(dict(reversed(value.items())))


@given(st.tuples(st.text(), st.none() | st.floats(0, 1e6)), st.tuples(st.text(), st.none() | st.floats(0, 1e6)))
def test_other_inputs_have_other_ids(a: tuple, b: tuple) -> None:
    assert (source_id(*a) == source_id(*b)) == (a == b)
