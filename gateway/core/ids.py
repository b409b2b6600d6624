"""Ids of messages, and the references that providers get for steps.

An id has 20 characters of Crockford's base 32: 9 of milliseconds, 2 of the shard, 9 of randomness.
Ids sort by time, name their shard, and stay short because every waiting message stores its own in
several keys. With 45 random bits a millisecond and shard, 10,000 messages a second clash once in
some 200 years. The last 20 of them are the id's lot, which says to which of several providers its
message goes (`gateway.core.shares`). What is no id of ours reads as None.
"""

from __future__ import annotations

import re
from functools import lru_cache
from typing import NamedTuple

_REF = re.compile(r"([^.]+)\.([0-9]{1,3})(?:\.([0-9]{1,3}))?").fullmatch


class Ref(NamedTuple):
    """What a reference of ours names. A step gets a new `series` after each refusal: a provider
    that refused an id would take the same id for a repetition. It also gets one where an answer
    was lost that may come yet."""

    message_id: str
    step: int
    series: int


def step_ref(message_id: str, index: int, series: int = 0) -> str:
    """The id a provider gets for a step, and echoes in its receipts."""
    return f"{message_id}.{index}.{series}" if series else f"{message_id}.{index}"


def read_ref(ref: str) -> Ref | None:
    """Reads a reference of ours; None when it is not one."""
    found = _REF(ref)
    if found is None:
        return None
    message_id, step, series = found.groups("0")
    return None if shard_of_id(message_id) is None else Ref(message_id, int(step), int(series))


ID_LENGTH = 20
PACKED_BYTES = 13
SHARDS_MAX = 1024
LOTS = 1 << 20
_ALPHABET = "0123456789ABCDEFGHJKMNPQRSTVWXYZ"
_PAIRS = [a + b for a in _ALPHABET for b in _ALPHABET]
_TRIPLES = [pair + c for pair in _PAIRS for c in _ALPHABET]
_PAIR_SHIFTS = tuple(range(5 * ID_LENGTH - 10, -1, -10))
_VALUE = {c: i for i, c in enumerate(_ALPHABET)}
_SHARDS = {pair: shard for shard, pair in enumerate(_PAIRS)}


def new_id(now_ms: int, shard: int, noise: int) -> str:
    """Builds a message id; `noise` is 45 random bits from the caller."""
    # Three letters at once where they are the same again and again; of those that differ each time
    # the table is too large for the processor's cache.
    two = _PAIRS
    return (
        f"{_head(now_ms, shard)}"
        f"{two[noise >> 35 & 1023]}{two[noise >> 25 & 1023]}{two[noise >> 15 & 1023]}"
        f"{two[noise >> 5 & 1023]}{_ALPHABET[noise & 31]}"
    )


@lru_cache(maxsize=64)
def _head(now_ms: int, shard: int) -> str:
    """What ids of one millisecond and shard begin with."""
    assert 0 <= shard < SHARDS_MAX
    moment, three = now_ms & (1 << 45) - 1, _TRIPLES
    head = three[moment >> 30] + three[moment >> 15 & 32767] + three[moment & 32767]
    return head + _PAIRS[shard]


def lot_of(message_id: str) -> int:
    """The lot of an id of ours, below LOTS."""
    lot = 0
    for letter in message_id[-4:]:
        lot = lot << 5 | _VALUE.get(letter, 0)
    return lot


def moment_of(message_id: str) -> int | None:
    """When a message was accepted, in ms, by its id; None when it is no id of ours."""
    letters = [_VALUE.get(letter) for letter in message_id[:9]]
    if len(message_id) != ID_LENGTH or None in letters:
        return None
    moment = 0
    for value in letters:
        moment = moment << 5 | (value or 0)
    return moment


def packed_id(message_id: str) -> bytes:
    """An id of ours in PACKED_BYTES."""
    number = 0
    for letter in message_id:
        number = number << 5 | _VALUE[letter]
    return number.to_bytes(PACKED_BYTES)


def unpacked_id(packed: bytes) -> str:
    """The id that `packed_id` packed."""
    number, pairs = int.from_bytes(packed), _PAIRS
    return "".join([pairs[number >> shift & 1023] for shift in _PAIR_SHIFTS])


def shard_of_id(message_id: str) -> int | None:
    """The shard named in an id; None when it is no id of ours."""
    return _SHARDS.get(message_id[9:11]) if len(message_id) == ID_LENGTH else None
