"""An invoice of a line a part, as SMSCs write theirs: which lines are of one message. Pure.

A message of ours stands there as often as it has parts, under an id each where its provider named
them, else under its one id. Parts match as messages do, each with one line; then the lines of a
message are one again, whose amount is their sum and whose parts are as many as there are. So a
part that is missing, or billed twice, is found, and our cost is compared whole. Lines that cost
nothing are no parts beyond those that cost us something: of a text that failed some may arrive.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence

import msgspec
from msgspec.structs import replace

from gateway.core.money.reconciliation import Ours, Pair, Theirs, joined


class PartLine(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """A line of theirs that is a part of the message of ours with this `place`."""

    place: str
    line: Theirs


def place_of(ours: Ours) -> str:
    """By what the parts of a line of ours are known to be its."""
    return f"{ours.message}.{ours.step}.{ours.attempt}"


def parts_of(ours: Ours) -> Iterator[Ours]:
    """A line of ours for each of its parts."""
    ids = (ours.id, *ours.further_ids)
    count = len(ids) if len(ids) > 1 else max(ours.parts, 1)
    for number in range(count):
        yield replace(ours, id=ids[number % len(ids)], further_ids=(), parts=1, part=number)


def whole(ours: Iterable[Ours], parts: Iterable[PartLine]) -> Iterator[Pair]:
    """Both sides by place, as they are sorted: each line of ours with what its parts come to."""
    for _, mine, lines in joined(ours, parts, place_of, lambda part: part.place):
        theirs = [part.line for part in lines]
        yield Pair(mine[0], _together(theirs, mine[0]) if theirs else None)


def _together(lines: Sequence[Theirs], ours: Ours) -> Theirs:
    free = sum(line.amount == 0 for line in lines)
    named = [line.network for line in lines if line.network is not None]
    other = (network for network in named if network != ours.network)
    return replace(
        lines[0],
        amount=sum(line.amount for line in lines),
        parts=len(lines) - min(free, max(len(lines) - ours.parts, 0)),
        network=next(other, named[0] if named else None),
        failed=any(line.failed and line.amount > 0 for line in lines),
        lines=len(lines),
    )
