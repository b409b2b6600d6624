"""The codes of links: eight characters of base 62, which cannot be guessed. Pure.

Links have numbers, and a number becomes a code by a permutation under a key of the installation: a
Feistel network over two halves of four characters each, whose round function is keyed BLAKE2. So
codes never clash, nothing is looked up to make one, and who knows some codes and not the key cannot
tell the next. 62^8 codes and 10^8 links that live: one of two million guesses is a link.

A number names where its link is kept: shard, range, the message's place in the range, and which of
the message's links it is. A message with more than LINKS_A_PLACE takes places in a row, so that the
number of its n-th link is that of its first and n.
"""

from __future__ import annotations

import re
from functools import lru_cache
from hashlib import blake2b
from typing import NamedTuple

from gateway.core.ids import SHARDS_MAX

CODE_CHARS = 8
PLACES = 256  # of messages in a range
LINKS_A_PLACE = 16
ROUNDS = 6
CODES_KNOWN = 4096  # of which the number is remembered: a storm follows few
NUMBERS: int = 62**CODE_CHARS
RANGES: int = NUMBERS // (SHARDS_MAX * PLACES * LINKS_A_PLACE)  # a shard

_ROUNDS = [bytes((number,)) for number in range(ROUNDS)]
_HALF: int = 62 ** (CODE_CHARS // 2)
_ALPHABET = "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz"
_PAIRS = [a + b for a in _ALPHABET for b in _ALPHABET]
_VALUE = {pair: value for value, pair in enumerate(_PAIRS)}
_is_code = re.compile(r"[0-9A-Za-z]{8}").fullmatch


class LinkPlace(NamedTuple):
    """Where a link is kept."""

    shard: int
    range: int
    place: int
    link: int


def number_at(place: LinkPlace) -> int:
    ranges = place.range % RANGES * SHARDS_MAX + place.shard
    return (ranges * PLACES + place.place) * LINKS_A_PLACE + place.link


def place_of(number: int) -> LinkPlace:
    rest, link = divmod(number, LINKS_A_PLACE)
    rest, place = divmod(rest, PLACES)
    range_, shard = divmod(rest, SHARDS_MAX)
    return LinkPlace(shard, range_, place, link)


def places_for(links: int) -> int:
    """How many places a message with so many links takes."""
    return -(-links // LINKS_A_PLACE)


def code_of(number: int, key: bytes) -> str:
    left, right = divmod(number, _HALF)
    for round_ in range(ROUNDS):
        left, right = right, (left + _mixed(right, round_, key)) % _HALF
    return _written(left) + _written(right)


@lru_cache(maxsize=CODES_KNOWN)
def number_of(code: str, key: bytes) -> int | None:
    """What `code_of` made a code of; None: it is none."""
    if _is_code(code) is None:
        return None
    left, right = _read(code[:4]), _read(code[4:])
    for round_ in reversed(range(ROUNDS)):
        left, right = (right - _mixed(left, round_, key)) % _HALF, left
    return left * _HALF + right


def _mixed(half: int, round_: int, key: bytes) -> int:
    # The key goes in front of what is hashed: as BLAKE2's own key it would be a block more.
    return int.from_bytes(blake2b(key + _ROUNDS[round_] + half.to_bytes(4), digest_size=8).digest())


def _written(half: int) -> str:
    return _PAIRS[half // 3844] + _PAIRS[half % 3844]


def _read(letters: str) -> int:
    return _VALUE[letters[:2]] * 3844 + _VALUE[letters[2:]]
