"""Which day and hour a moment counts in, by the clock of one zone. Pure."""

from __future__ import annotations

import datetime
import functools
from zoneinfo import ZoneInfo

DAY_MS = 86_400_000
HOUR_MS = 3_600_000
HOURS = 24
EPOCH_ORDINAL = datetime.date(1970, 1, 1).toordinal()

FirstAndLast = tuple[datetime.date, datetime.date]

_DAY = datetime.timedelta(days=1)


class Days:
    """The days of a zone (an IANA name, which must exist); those of UTC cost no look at a clock
    change. The newest day is remembered: most questions are about it."""

    def __init__(self, zone: str = "UTC") -> None:
        self.zone = zone
        self._info = None if zone == "UTC" else ZoneInfo(zone)
        self._known = (0, 0, datetime.date.min)  # from when to when it is which day

    def of(self, at_ms: int) -> datetime.date:
        """The day that a moment belongs to."""
        if self._info is None:
            return day_of(at_ms)
        begins_ms, ends_ms, day = self._known
        if not begins_ms <= at_ms < ends_ms:
            day = datetime.datetime.fromtimestamp(at_ms // 1_000, self._info).date()
            self._known = self.begins_ms(day), self.begins_ms(day + _DAY), day
        return day

    def hour_of(self, at_ms: int) -> int:
        """The hour of the day at a moment, by the zone's clock."""
        if self._info is None:
            return at_ms // HOUR_MS % HOURS
        return datetime.datetime.fromtimestamp(at_ms // 1_000, self._info).hour

    def begins_ms(self, day: datetime.date) -> int:
        """The first moment of a day. Where clocks skip midnight it is the moment they do."""
        if self._info is None:
            return (day.toordinal() - EPOCH_ORDINAL) * DAY_MS
        return self.at_ms(day, datetime.time.min)

    def at_ms(self, day: datetime.date, time: datetime.time) -> int:
        """When clocks show a time on a day: the first time they do, and where they skip it as long
        after the skip."""
        moment = datetime.datetime.combine(day, time, self._info or datetime.UTC)
        return int(moment.timestamp()) * 1_000


UTC_DAYS = Days()


def span_text(days: FirstAndLast) -> str:
    """As records and keys have them: "2026-11-01 2026-11-30"."""
    return f"{days[0]} {days[1]}"


def span_in(text: str) -> FirstAndLast:
    """The days in what `span_text` gave."""
    first, last = map(datetime.date.fromisoformat, text.split(" "))
    return first, last


def day_of(now_ms: int) -> datetime.date:
    """The UTC day by which a moment is priced and booked."""
    return _day(now_ms // DAY_MS)


@functools.lru_cache(maxsize=4)
def _day(days: int) -> datetime.date:
    return datetime.date.fromordinal(EPOCH_ORDINAL + days)
