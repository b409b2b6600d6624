"""Whose messages are released next into a lane: the apps that stand in one of its lines take turns.

A line's turn goes on behind whoever had the last one, so that where it has room for few all apps
come to it one after the other. Pure.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TypeVar

T = TypeVar("T")


def whose_turn(
    by_line: Mapping[int, Sequence[str]],
    rooms: Mapping[int, int],
    last: Mapping[int, str],
    count: int,
) -> list[str]:
    """Up to so many of the lines' queues, of each line no more than it has room for."""
    rows = [_rotated(names, last[line]) for line, names in by_line.items()]
    bounds = [max(rooms[line], 0) for line in by_line]
    return _across([row[:room] for row, room in zip(rows, bounds, strict=True)], count)


def in_turn(
    by_line: Mapping[int, Sequence[str]],
    found: Mapping[str, Sequence[str]],
    rooms: Mapping[int, int],
    last: Mapping[int, str],
    count: int,
) -> dict[str, str]:
    """Up to so many of the messages that were found in queues, one of each queue in turn, and no
    more than their lines have room for; each with its queue."""
    rows = []
    for line, names in by_line.items():
        queues = [name for name in _rotated(names, last[line]) if name in found]
        pairs = [[(id_, name) for id_ in found[name]] for name in queues]
        rows.append(_across(pairs, max(rooms[line], 0)))
    return dict(_across(rows, count))


def _rotated(names: Sequence[str], last: str) -> list[str]:
    return sorted(names, key=lambda name: (name <= last, name))


def _across(rows: Sequence[Sequence[T]], count: int) -> list[T]:
    """The first of each row, then the second of each, up to so many."""
    longest = max(map(len, rows), default=0)
    return [row[n] for n in range(longest) for row in rows if n < len(row)][:count]
