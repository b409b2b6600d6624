"""The notations that all views share: moments, statuses, and why something is held."""

from __future__ import annotations

import datetime
from functools import lru_cache
from typing import Annotated, Literal

import msgspec

from gateway.core.records.held import Held, HeldReason

Time = Annotated[
    str,
    msgspec.Meta(
        description="RFC 3339, UTC, with milliseconds.",
        extra_json_schema={"format": "date-time", "examples": ["2026-11-21T10:00:00.000Z"]},
    ),
]
Status = Literal[
    "queued",
    "sent",
    "delivered",
    "seen",
    "clicked",
    "undelivered",
    "suppressed",
    "expired",
    "cancelled",
]


class HeldView(msgspec.Struct, frozen=True):
    """What its step waits for outside the lanes; `until` is null where that is not known."""

    until: Time | None
    reason: HeldReason


def held_view(held: Held | None) -> HeldView | None:
    if held is None:
        return None
    until_ms = 0 if held.reason == "away" else held.until_ms  # then it is only looked at again
    return HeldView(rfc3339(until_ms) if until_ms else None, held.reason)


def rfc3339(at_ms: int) -> str:
    """Epoch milliseconds as "2026-11-21T10:00:00.123Z"."""
    return f"{_second(at_ms // 1000)}.{at_ms % 1000:03d}Z"


@lru_cache(maxsize=1024)  # moments of a message, and of messages that are shown together, are near
def _second(at_s: int) -> str:
    return f"{datetime.datetime.fromtimestamp(at_s, datetime.UTC):%Y-%m-%dT%H:%M:%S}"
