"""Stream entries: what goes in comes out, large or small, and damage is seen."""

from __future__ import annotations

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.store.compression import DEFLATE_FROM, pack, unpack

RECORDS = st.lists(st.tuples(st.text(max_size=20), st.integers(0, 2**63)), max_size=60)


@given(RECORDS)
def test_what_is_packed_is_unpacked(records: list[tuple[str, int]]) -> None:
    assert msgspec.msgpack.decode(unpack(pack(msgspec.msgpack.encode(records)))) == [
        list(r) for r in records
    ]


def test_many_like_records_become_small() -> None:
    records = [("shop", "spring-sale", "delivered", n) for n in range(100)]
    plain = msgspec.msgpack.encode(records)
    assert len(pack(plain)) * 5 < len(plain)


@pytest.mark.parametrize("at", [2, 20, -1])
def test_a_damaged_entry_is_seen(at: int) -> None:
    entry = bytearray(pack(msgspec.msgpack.encode(["spring-sale"] * DEFLATE_FROM)))
    entry[at] ^= 0x40
    with pytest.raises(msgspec.DecodeError, match="damaged"):
        unpack(bytes(entry))
