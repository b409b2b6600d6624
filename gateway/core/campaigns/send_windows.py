"""Send windows: at which hours, by the recipient's clock, sending is open. Pure.

A window is a set of wall times, and it is open at a moment where the recipient's clock then shows
one of them. So a time that the clock skips opens when the clock goes on, and one that it shows
twice is open twice. Where the recipient's zone is not sure, the window is open when it is open in
every zone that it may be.

What is open is counted a UTC day at a time and kept: recipients of a campaign share few zones.
"""

from __future__ import annotations

import datetime
import functools
import re
from collections.abc import Mapping, Sequence
from typing import Literal
from zoneinfo import ZoneInfo

import msgspec

from gateway.core import phones

UnknownZone = Literal["intersect", "default", "hold", "send"]

RECIPIENT = "recipient"
ZONE_CHARS_MAX = 64
_LAST_S = 253_370_764_800  # no zone has a moment of its own for what comes after the year 9999
# What a machine keeps beside the zones: its own, and copies that count in leap seconds.
_no_zone = re.compile(r"localtime|posixrules|(posix|right)/.*").fullmatch
DAY_MS = 86_400_000
MINUTE_MS = 60_000
# No opening within so long: there is none. A message lives no longer after its first moment.
SEARCH_DAYS = 31

Span = tuple[int, int]  # from and to, `to` not in it


class Hours(msgspec.Struct, frozen=True):
    """Wall times: from and to in milliseconds of the day, `to_ms` beyond a day's where they pass
    midnight, which belongs to the day of `from_ms`. `days`: 0 is Monday."""

    from_ms: int
    to_ms: int
    days: frozenset[int]


class SendWindow(msgspec.Struct, frozen=True):
    """`zone` is "recipient", or whose clock it goes by. `country_zones` and then `unknown_zone` say
    what holds for a number that may be in several."""

    hours: Hours
    zone: str = RECIPIENT
    unknown_zone: UnknownZone = "intersect"
    default_zone: str = "UTC"
    country_zones: Mapping[str, str] = {}


def opening_ms(
    window: SendWindow, tz: str | None, phone: str | None, country: str, at_ms: int
) -> int | None:
    """The first moment from `at_ms` on at which it is open; None where none is known. `tz` is the
    recipient's zone where it is known; `phone` are digits."""
    zones = zones_of(window, tz, phone, country, at_ms)
    if zones is None:
        return at_ms if window.unknown_zone == "send" else None
    return first_open_ms(window.hours, zones, at_ms)


def zones_of(
    window: SendWindow, tz: str | None, phone: str | None, country: str, at_ms: int
) -> tuple[str, ...] | None:
    """By whose clocks the window must be open, the surest known; None where no zone is to be
    guessed."""
    if window.zone != RECIPIENT:
        return (window.zone,)
    if tz is not None and zone_named(tz) is not None:
        return (tz,)
    if phone is None:
        return (window.default_zone,)
    candidates = phones.zones_of(phone)
    if candidates and _share_offset(candidates, at_ms):
        return candidates[:1]
    if (zone := window.country_zones.get(country)) is not None:
        return (zone,)
    if window.unknown_zone == "default" or (window.unknown_zone == "intersect" and not candidates):
        return (window.default_zone,)
    return candidates if window.unknown_zone == "intersect" else None


def first_open_ms(hours: Hours, zones: tuple[str, ...], at_ms: int) -> int | None:
    """The first moment from `at_ms` on that is open in all the zones; None: there is none."""
    today = at_ms // DAY_MS
    for day in range(today, today + SEARCH_DAYS):
        for since_ms, until_ms in open_spans(hours, zones, day):
            if until_ms > at_ms:
                return max(since_ms, at_ms)
    return None


@functools.lru_cache(maxsize=1024)
def open_spans(hours: Hours, zones: tuple[str, ...], day: int) -> tuple[Span, ...]:
    """When it is open in all the zones within one UTC day (since 1970), in order."""
    begin_ms = day * DAY_MS
    spans: Sequence[Span] = ((begin_ms, begin_ms + DAY_MS),)
    for zone in zones:
        spans = _both(spans, _spans_in(hours, zone, begin_ms))
    return tuple(spans)


@functools.lru_cache(maxsize=1024)
def zone_named(name: str) -> ZoneInfo | None:
    """An IANA zone; None where there is none of that name."""
    if not name or len(name) > ZONE_CHARS_MAX or _no_zone(name):
        return None
    try:
        return ZoneInfo(name)
    except (KeyError, ValueError, OSError):  # not known; no name; a folder of names
        return None


def offset_ms(zone: str, at_ms: int) -> int:
    """How far its clock is ahead of UTC at a moment; from the year 9999 on as when that began."""
    info = zone_named(zone)
    assert info is not None, f"no such zone: {zone!r}"
    moment = datetime.datetime.fromtimestamp(min(at_ms // 1000, _LAST_S), info)
    offset = moment.utcoffset()
    assert offset is not None
    return round(offset.total_seconds() * 1000)


def _share_offset(zones: Sequence[str], at_ms: int) -> bool:
    return len({offset_ms(zone, at_ms) for zone in zones}) == 1


def _spans_in(hours: Hours, zone: str, begin_ms: int) -> list[Span]:
    """When it is open in a zone within the day that begins then."""
    spans: list[Span] = []
    for since_ms, until_ms, ahead_ms in _offsets(zone, begin_ms, begin_ms + DAY_MS):
        first = (since_ms + ahead_ms) // DAY_MS
        for day in range(first - 1, (until_ms - 1 + ahead_ms) // DAY_MS + 1):
            if (day + 3) % 7 not in hours.days:  # 1970 began with a Thursday
                continue
            opens_ms = day * DAY_MS + hours.from_ms - ahead_ms
            closes_ms = day * DAY_MS + hours.to_ms - ahead_ms
            span = max(opens_ms, since_ms), min(closes_ms, until_ms)
            if span[0] < span[1]:
                spans.append(span)
    return spans


def _offsets(zone: str, since_ms: int, until_ms: int) -> list[tuple[int, int, int]]:
    """Parts of a day in which the clock runs evenly: from, to, and how far it is ahead of UTC. A
    clock is set once a day at most, and to the second."""
    first, last = offset_ms(zone, since_ms), offset_ms(zone, until_ms - 1000)
    if first == last:
        return [(since_ms, until_ms, first)]
    low, high = since_ms // 1000, until_ms // 1000 - 1
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (middle, high) if offset_ms(zone, middle * 1000) == first else (low, middle)
    return [(since_ms, high * 1000, first), (high * 1000, until_ms, last)]


def _both(these: Sequence[Span], those: Sequence[Span]) -> list[Span]:
    """What two lists of spans have in common."""
    common = [(max(a, c), min(b, d)) for a, b in these for c, d in those if max(a, c) < min(b, d)]
    return sorted(common)
