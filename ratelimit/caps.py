"""Frequency caps: how often a person may be reached, as pure functions over the slots they hold.

A slot is one message's reservation in a rolling window: taken at acceptance for the first channel,
moved when the cascade moves, given back when nothing was delivered; a message that goes on because
nobody reacted takes a further one. It counts from its moment for the length of a window, and one
that waits counts in any: the person is yet to be reached. A cap is full while as many slots as its
limit count. Nothing here reads a clock or knows where slots are kept.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import msgspec


class Cap(msgspec.Struct, frozen=True):
    """`limit` messages in a rolling window of `window_ms`; `category` and `channel` None match
    every one."""

    name: str
    limit: int
    window_ms: int
    window: str  # as configured ("1d"): what a refusal quotes
    category: str | None = None
    channel: str | None = None

    def counts(self, category: str, channel: str) -> bool:
        return (self.category is None or self.category == category) and (
            self.channel is None or self.channel == channel
        )


class Slot(msgspec.Struct, omit_defaults=True, gc=False):
    """One message's reservation: `at_ms` is when the person was (or is to be) reached on
    `channel`. `waits`: as far as is known here the message is not sent yet. Kept with a person, so
    its fields are short."""

    message: str = msgspec.field(name="m")
    at_ms: int = msgspec.field(name="t")
    category: str = msgspec.field(name="c")
    channel: str = msgspec.field(name="h")
    waits: bool = msgspec.field(name="w", default=False)
    leg: int = msgspec.field(name="l", default=0)  # a message that goes on has one for each


class Full(msgspec.Struct, frozen=True):
    """A cap, above all one that refuses: `count` slots count against it, and the first moment one
    more fits is `retry_at_ms`."""

    cap: Cap
    count: int
    retry_at_ms: int


def check(
    caps: Iterable[Cap],
    slots: Sequence[Slot],
    category: str,
    channel: str,
    now_ms: int,
    *,
    but: str | None = None,
    leg: int = 0,
) -> Full | None:
    """Returns the strictest full cap for one more message, or None when it fits.

    The strictest is the one whose next free moment is furthest away; where that hangs on a slot
    that waits, it is the earliest that it can be. `but` names a message whose own slot of this
    `leg` does not count, as it is being moved to another channel, nor any of its slots where a cap
    is for every channel.
    """
    worst: Full | None = None
    for cap in caps:
        if not cap.counts(category, channel):
            continue
        others = [
            slot
            for slot in slots
            if slot.message != but or (cap.channel is not None and slot.leg != leg)
        ]
        state = used(cap, others, now_ms)
        if state.count >= cap.limit and (worst is None or state.retry_at_ms > worst.retry_at_ms):
            worst = state
    return worst


def used(cap: Cap, slots: Iterable[Slot], now_ms: int) -> Full:
    """How many slots count against a cap, and the first moment one more fits: now, unless it is
    full. A cap for every channel counts a message once, by its last slot."""
    since = now_ms - cap.window_ms
    counted = [
        slot
        for slot in slots
        if (slot.at_ms > since or slot.waits) and cap.counts(slot.category, slot.channel)
    ]
    if cap.channel is None:
        counted = list({slot.message: slot for slot in counted}.values())
    inside = sorted(slot.at_ms if slot.at_ms > since else now_ms for slot in counted)
    count = len(inside)
    free_ms = inside[count - cap.limit] + cap.window_ms if count >= cap.limit else now_ms
    return Full(cap=cap, count=count, retry_at_ms=free_ms)


def window_max_ms(caps: Iterable[Cap], category: str) -> int:
    """The longest window that could ever count a slot of this category; 0 when no cap would."""
    return max((c.window_ms for c in caps if c.category in (None, category)), default=0)
