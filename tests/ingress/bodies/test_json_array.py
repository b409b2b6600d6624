"""Cutting an array into its objects without reading them."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.ingress.api.bodies.json_array import TOKENS_AT_ONCE, DamagedArray, split_array

# What could be taken for the end of something: of a text, an object or the array.
TEXTS = st.text('"\\{}[],: \n1é\u2028\U0001f600', max_size=6)
ANY_JSON: Any = st.recursive(
    st.none() | st.booleans() | st.integers() | TEXTS,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(TEXTS, inner, max_size=3),
    max_leaves=8,
)


@pytest.mark.no_cover  # the texts below take every way through it
@given(
    st.lists(st.dictionaries(TEXTS, ANY_JSON, max_size=3), max_size=5),
    st.sampled_from([None, 1]),
    st.booleans(),
)
def test_every_object_is_found_as_it_stands(
    items: list[Any], indent: int | None, escaped: bool
) -> None:
    (found,) = split_array(json.dumps(items, indent=indent, ensure_ascii=escaped).encode())
    assert [json.loads(item) for item in found] == items


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"[",
        b'[{"a":1}',
        b'[{"a":1},]',
        b"[,{}]",
        b"[{}{}]",
        b"[{}, x {}]",
        b'[{"a":1]}',
        b'["x"]',
        b"[1]",
        b"[{}] x",
        b'[{"a":"x}]',
    ],
)
def test_what_is_damaged_outside_its_objects_has_no_items(body: bytes) -> None:
    with pytest.raises(DamagedArray):
        list(split_array(body))


def test_a_text_that_never_ends_is_read_once() -> None:
    with pytest.raises(DamagedArray):
        list(split_array(b"[{" + rb"\"" * 2_000_000 + b"}]"))


def test_many_objects_are_cut_in_pieces() -> None:
    many = TOKENS_AT_ONCE * 2 + 1
    pieces = list(split_array(b"[" + b",".join([b"{}"] * many) + b"]"))
    assert len(pieces) == 5
    assert sum(map(len, pieces)) == many
