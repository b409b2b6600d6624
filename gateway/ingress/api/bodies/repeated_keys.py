"""Keys that stand twice in an object of a JSON text, which decoders take for the last one. Pure.

Looking for them costs a message more than reading it, so it is found out first whether there can be
any: each key of a text has a colon, and so has each that was kept once what was decoded is written
again. Where a text has no more colons than that, no key of it is given twice. An escape may hide a
colon (`\\u003a`), and a null may stand in the text or not; then it is looked for in earnest.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterator
from typing import Any

import msgspec

Path = tuple[str | int, ...]
_Container = dict[str, Any] | list[Any]

_encode = msgspec.json.Encoder().encode


def surely_none(raw: bytes, decoded: object) -> bool:
    """Whether no object of a text has a key twice, as far as is found out at little cost.

    `decoded` is what was read from it. What is null in it may have been left out of the text."""
    written = _encode(decoded)
    return _colons(raw, written.count(b":") - written.count(b":null"))


def _colons(raw: bytes, kept: int) -> bool:
    """Whether the text has only the colons of what was kept of it."""
    return raw.count(b":") == kept and (b"\\" not in raw or b"\\u003" not in raw)


def paths(raw: bytes, decoded: object, most: int = 1) -> tuple[list[Path], int]:
    """Where a key is given more than once, each place once: the first places in the text, and how
    many there are. `decoded` is all that a decoder finds in the text, nulls too."""
    if _colons(raw, _encode(decoded).count(b":")):
        return [], 0
    repeating: list[_Repeating] = []

    def keep(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        table = dict(pairs)
        if len(table) == len(pairs):
            return table
        counts = Counter(key for key, _ in pairs)
        found = _Repeating(table, [key for key, count in counts.items() if count > 1])
        repeating.append(found)
        return found

    document = json.loads(raw, object_pairs_hook=keep)
    return _places(document, most) if repeating else ([], 0)


class _Repeating(dict[str, Any]):
    """An object in which `twice` are given more than once."""

    def __init__(self, table: dict[str, Any], twice: list[str]) -> None:
        super().__init__(table)
        self.twice = twice


def _places(document: object, most: int) -> tuple[list[Path], int]:
    """One path is kept while it is walked along: of 2 MB that are nested 900 deep, one for each of
    200,000 keys took 4 s and 1.5 GB (2026-11-30)."""
    found: list[Path] = []
    total = 0
    path: list[str | int] = []
    inside = [_nested(document)] if isinstance(document, dict | list) else []
    value = document
    while inside:
        if isinstance(value, _Repeating):
            found += ((*path, key) for key in value.twice[: most - len(found)])
            total += len(value.twice)
        while inside and (nested := next(inside[-1], None)) is None:
            inside.pop()
            if path:
                path.pop()
        if inside and nested is not None:
            key, value = nested
            path.append(key)
            inside.append(_nested(value))
    return found, total


def _nested(value: _Container) -> Iterator[tuple[str | int, _Container]]:
    """The objects and arrays that stand in one, with their keys."""
    members = value.items() if isinstance(value, dict) else enumerate(value)
    return ((key, inner) for key, inner in members if isinstance(inner, dict | list))
