"""What is kept of somebody's following a link: when, with which sort of device, and who it was by
what `gateway.core.reactions.clickers` says. Pure. No address of anybody is kept.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable
from functools import lru_cache
from typing import Literal

import msgspec

from gateway.core.money.days import HOUR_MS
from gateway.core.reactions.clickers import USER_AGENTS_MAX

DeviceClass = Literal["phone", "tablet", "desktop", "other"]
PERSON, BY_QR = "person", "qr"  # who it was; else the reason why it was nobody

_tablet = re.compile(rb"ipad|tablet|kindle|silk/|android(?!.*mobile)", re.IGNORECASE).search
_phone = re.compile(rb"iphone|ipod|android|mobile|midp|windows phone", re.IGNORECASE).search
_desktop = re.compile(rb"windows|macintosh|x11|linux|cros", re.IGNORECASE).search


@lru_cache(maxsize=USER_AGENTS_MAX)
def device_of(user_agent: bytes) -> DeviceClass:
    if _tablet(user_agent) is not None:
        return "tablet"
    if _phone(user_agent) is not None:
        return "phone"
    return "desktop" if _desktop(user_agent) is not None else "other"


def counter_of(at_ms: int, device: DeviceClass, who: str) -> str:
    """The name under which clicks of an hour, a sort of device and a sort of visitor count."""
    return f"{at_ms // HOUR_MS}:{device}:{who}"


class ClickCounts(msgspec.Struct):
    """Clicks of one link. `by_hour` has hours by their begin in epoch milliseconds; both it and
    `by_device` are of people alone, as `clicks` is, of which `qr` came by the picture."""

    clicks: int = 0
    qr: int = 0
    bots: int = 0
    by_hour: Counter[int] = msgspec.field(default_factory=Counter)
    by_device: Counter[str] = msgspec.field(default_factory=Counter)
    by_reason: Counter[str] = msgspec.field(default_factory=Counter)


def counted(counters: Iterable[tuple[str, int]]) -> ClickCounts:
    """What counters that `counter_of` named come to."""
    counts = ClickCounts()
    for name, count in counters:
        hour, device, who = name.split(":", 2)
        if who not in (PERSON, BY_QR):
            counts.bots += count
            counts.by_reason[who] += count
            continue
        counts.clicks += count
        counts.qr += count if who == BY_QR else 0
        counts.by_hour[int(hour) * HOUR_MS] += count
        counts.by_device[device] += count
    return counts
