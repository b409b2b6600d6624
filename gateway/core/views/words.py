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


_EPOCH = datetime.datetime.fromtimestamp(0, datetime.UTC)
_MILLISECOND = datetime.timedelta(milliseconds=1)
# RFC 3339 has years of four digits: what lies beyond, as "9999-12-31T23:59:59-01:00" does in UTC,
# counts as the last of it.
_FIRST_MS, _LAST_MS = (
    (datetime.datetime.fromisoformat(f"{text}+00:00") - _EPOCH) // _MILLISECOND
    for text in ("0001-01-01T00:00:00", "9999-12-31T23:59:59.999")
)


def rfc3339(at_ms: int) -> str:
    """Epoch milliseconds as "2026-11-21T10:00:00.123Z"."""
    return f"{_second(at_ms // 1000)}.{at_ms % 1000:03d}Z"


def epoch_ms(at: datetime.datetime) -> int:
    """A moment, which names its offset, in epoch milliseconds."""
    return min(max((at - _EPOCH) // _MILLISECOND, _FIRST_MS), _LAST_MS)


@lru_cache(maxsize=1024)  # moments of a message, and of messages that are shown together, are near
def _second(at_s: int) -> str:
    at_s = min(max(at_s, _FIRST_MS // 1000), _LAST_MS // 1000)
    return datetime.datetime.fromtimestamp(at_s, datetime.UTC).isoformat()[:19]
