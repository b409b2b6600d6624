"""Reports that are made by the clock: of which period, when, and under which name. Pure.

A report covers the last day, week (Monday to Sunday) or month that is over, by the days of the
reports' zone, and is due at its time on the day after. Periods are made one after the other, each
once; of those that nobody was there to make, the newest MISSED_MAX.
"""

from __future__ import annotations

import datetime
from collections.abc import Mapping
from typing import Literal

import msgspec

from gateway.core.money.days import Days
from gateway.core.money.months import FORM
from gateway.finance.question import Query, parse_query

Every = Literal["day", "week", "month"]
ReportForm = Literal["csv", "xlsx", "html"]

MISSED_MAX = 31
SETTLED_MS = 600_000  # after a day's end: clocks differ, and commits take their time

_DAY = datetime.timedelta(days=1)


class Period(msgspec.Struct, frozen=True):
    """A day, week or month by its name, such as 2026-11-28, 2026-W48 or 2026-11; both days
    count."""

    name: str
    first: datetime.date
    last: datetime.date


class ReportSchedule(msgspec.Struct, frozen=True, kw_only=True):
    """One report: what is asked, how often, at what time of the day, and as what it is written. It
    goes to a folder, or by webhook to a `url`, signed with a secret."""

    name: str
    every: Every
    at: datetime.time
    group_by: tuple[str, ...] = ()
    filters: Mapping[str, tuple[str, ...]] = {}
    form: ReportForm = "csv"
    folder: str = ""
    url: str = ""
    secret: str = ""

    def query(self, period: Period) -> Query:
        """What is asked of a period. Raises ReportFault."""
        return query_of(period, self.group_by, self.filters)

    def file_name(self, period: Period) -> str:
        return f"{self.name}-{period.name}.{self.form}"

    def due_ms(self, period: Period, days: Days) -> int:
        """When a period's report is made: never before what was booked in it has settled."""
        after = period.last + _DAY
        return max(days.at_ms(after, self.at), days.begins_ms(after) + SETTLED_MS)

    def next_due(self, through: datetime.date | None, days: Days, now_ms: int) -> Period | None:
        """The oldest period that is to be made now, when those up to a day were; None: there is
        none. One that was never made begins with the newest."""
        newest = before(self.every, period_of(self.every, days.of(now_ms)))
        if self.due_ms(newest, days) > now_ms:
            newest = before(self.every, newest)
        if through is None:
            return newest
        found, period = None, newest
        for _ in range(MISSED_MAX):
            if period.last <= through:
                break
            found, period = period, before(self.every, period)
        return found

    def coming(self, through: datetime.date | None, days: Days, now_ms: int) -> Period:
        """The one that is made next: one that is due, or else the first that will be."""
        due = self.next_due(through, days, now_ms)
        if due is not None:
            return due
        period = period_of(self.every, days.of(now_ms))
        last = before(self.every, period)
        return last if self.due_ms(last, days) > now_ms else period


def query_of(
    period: Period, group_by: tuple[str, ...], filters: Mapping[str, tuple[str, ...]]
) -> Query:
    """Raises ReportFault."""
    pairs = [("from", period.first.isoformat()), ("to", period.last.isoformat())]
    pairs += [("group_by", key) for key in group_by]
    pairs += [(key, value) for key, values in filters.items() for value in values]
    return parse_query(pairs, period.last)


def period_of(every: Every, day: datetime.date) -> Period:
    """The period that a day belongs to."""
    if every == "day":
        return Period(day.isoformat(), day, day)
    if every == "week":
        first = day - day.weekday() * _DAY
        year, week, _ = day.isocalendar()
        return Period(f"{year}-W{week:02}", first, first + 6 * _DAY)
    first = day.replace(day=1)
    after = (first + 31 * _DAY).replace(day=1)
    return Period(first.strftime(FORM), first, after - _DAY)


def before(every: Every, period: Period) -> Period:
    return period_of(every, period.first - _DAY)
