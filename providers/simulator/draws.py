"""Numbers drawn from a seed and a name: the same every time, whatever else is drawn. Pure."""

from __future__ import annotations

import struct
from hashlib import blake2b
from typing import Final

_WORD: Final = 2**32
_WORDS: Final = struct.Struct("<14I")


def drawn(seed: int, what: str, key: str) -> tuple[int, ...]:
    """Fourteen words of 32 bits, so that each use has one of its own."""
    data = f"{what}\n{key}".encode("utf-8", "surrogatepass")
    digest = blake2b(data, digest_size=_WORDS.size, key=seed.to_bytes(8, "little")).digest()
    return _WORDS.unpack(digest)


def happens(word: int, share: float) -> bool:
    """Whether what happens to this share of all happens here."""
    return word < share * _WORD


def between(word: int, low: int, high: int) -> int:
    """A whole number from `low` to `high`."""
    return low + (word * (high - low + 1) >> 32)
