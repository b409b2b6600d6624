"""Message ids: they name their moment and shard, sort by time, and stay in one alphabet."""

from __future__ import annotations

import re

from hypothesis import given
from hypothesis import strategies as st

from gateway.core.ids import SHARDS_MAX, new_id, shard_of_id

MOMENTS = st.integers(0, 2**45 - 1)
SHARDS = st.integers(0, SHARDS_MAX - 1)
NOISE = st.integers(0, 2**45 - 1)
ALPHABET = "0123456789ABCDEFGHJKMNPQRSTVWXYZ"
ID = re.compile(r"[0-9A-HJKMNP-TV-Z]{20}")


@given(MOMENTS, SHARDS, NOISE)
def test_an_id_names_its_moment_and_its_shard(now_ms: int, shard: int, noise: int) -> None:
    id_ = new_id(now_ms, shard, noise)
    assert ID.fullmatch(id_)
    moment = 0
    for letter in id_[:9]:
        moment = moment << 5 | ALPHABET.index(letter)
    assert (moment, shard_of_id(id_)) == (now_ms, shard)


@given(st.lists(st.tuples(MOMENTS, SHARDS, NOISE), min_size=2))
def test_ids_are_as_different_and_sort_as_what_they_are_made_of(
    parts: list[tuple[int, int, int]],
) -> None:
    ids = {new_id(*part): part for part in parts}
    assert len(ids) == len(set(parts))
    assert [ids[id_] for id_ in sorted(ids)] == sorted(set(parts))
