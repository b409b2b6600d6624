"""Keys that stand twice in an object of a JSON text, which decoders take for the last one. Pure.

Looking for them costs a message more than reading it, so it is found out first whether there can be
any: each key of a text has a colon, and so has each that was kept once what was decoded is written
again. Where a text has no more colons than that, no key of it is given twice. An escape may hide a
colon (`\\u003a`), and a null may stand in the text or not; then it is looked at more closely.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from itertools import islice
from typing import Any

import msgspec

# Of a longer text only the whole is told: 512 KiB of small objects take 160 ms to be searched, and
# to be counted 20 (2026-11-30).
SEARCHED_BYTES_MAX = 128 * 1024

Path = tuple[str | int, ...]
_Container = dict[str, Any] | list[Any]

_encode = msgspec.json.Encoder().encode
_escapes = re.compile(rb"\\(?:(u003[aA])|.)", re.DOTALL).findall


def surely_none(raw: bytes, decoded: object) -> bool:
    """Whether no object of a text has a key twice, as far as is found out at little cost.

    `decoded` is what was read from it. What is null in it may have been left out of the text."""
    written = _encode(decoded)
    return _colons(raw) == written.count(b":") - written.count(b":null")


def _colons(raw: bytes) -> int:
    """How many there are in what the text says, those that are escaped with them."""
    plain = raw.count(b":")
    if b"\\u003" not in raw:  # as almost always
        return plain
    escaped = _escapes(raw)
    return plain + len(escaped) - escaped.count(b"")


def paths(raw: bytes, decoded: object, most: int = 1) -> tuple[list[Path], int]:
    """Where a key is given more than once, each place once: the first places in the text, and how
    many there are. `decoded` is all that a decoder finds in the text, nulls too."""
    if _colons(raw) == _encode(decoded).count(b":"):
        return [], 0
    if len(raw) > SEARCHED_BYTES_MAX:
        return [()], 1
    total = 0

    def keep(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        nonlocal total
        table = dict(pairs)
        if len(table) == len(pairs):
            return table
        found = _Repeating(table)
        found.twice = _twice(pairs)
        total += len(found.twice)
        return found

    document = json.loads(raw, object_pairs_hook=keep)
    return _places(document, min(most, total)), total


def _twice(pairs: list[tuple[str, Any]]) -> set[str]:
    met: set[str] = set()
    twice: set[str] = set()
    for key, _ in pairs:
        (twice if key in met else met).add(key)
    return twice


class _Repeating(dict[str, Any]):
    """An object in which a key is given more than once."""

    __slots__ = ("twice",)
    twice: set[str]


def _places(value: _Container, most: int) -> list[Path]:
    """One path is kept while it is walked along: of 2 MB that are nested 900 deep, one for each of
    200,000 keys took 4 s and 1.5 GB (2026-11-30)."""
    found: list[Path] = []
    path: list[str | int] = []
    inside: list[Iterator[tuple[str | int, _Container]]] = []
    while True:
        if isinstance(value, _Repeating):
            names = (name for name in value if name in value.twice)
            found += ((*path, name) for name in islice(names, most - len(found)))
            if len(found) == most:
                return found
        inside.append(_nested(value))
        while (nested := next(inside[-1], None)) is None:
            inside.pop()
            if not inside:
                return found
            path.pop()
        key, value = nested
        path.append(key)


def _nested(value: _Container) -> Iterator[tuple[str | int, _Container]]:
    """The objects and arrays that stand in one, with their keys."""
    members = value.items() if isinstance(value, dict) else enumerate(value)
    return ((key, inner) for key, inner in members if isinstance(inner, dict | list))
