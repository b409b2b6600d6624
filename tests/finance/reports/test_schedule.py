"""Which period a scheduled report is of, when it is due, and in which order periods are made."""

from __future__ import annotations

import datetime
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.core.money.days import DAY_MS, Days
from gateway.finance.reports.schedule import (
    MISSED_MAX,
    SETTLED_MS,
    Every,
    ReportSchedule,
    before,
    period_of,
)

UTC = Days()
SIX = datetime.time(6)
ZONES = ("UTC", "Europe/Moscow", "America/Havana", "Europe/Berlin")
EVERY: tuple[Every, ...] = ("day", "week", "month")


def schedule(every: Every = "day", at: datetime.time = SIX, **more: Any) -> ReportSchedule:
    return ReportSchedule(name="cost", every=every, at=at, **more)


def ms(text: str) -> int:
    return int(datetime.datetime.fromisoformat(text).timestamp() * 1000)


@pytest.mark.parametrize(
    ("every", "day", "name", "first", "last"),
    [
        ("day", "2026-11-28", "2026-11-28", "2026-11-28", "2026-11-28"),
        ("week", "2026-11-28", "2026-W48", "2026-11-23", "2026-11-29"),
        ("week", "2027-01-01", "2026-W53", "2026-12-28", "2027-01-03"),
        ("month", "2026-11-28", "2026-11", "2026-11-01", "2026-11-30"),
        ("month", "2028-02-29", "2028-02", "2028-02-01", "2028-02-29"),
    ],
)
def test_a_day_belongs_to_a_period(
    every: Every, day: str, name: str, first: str, last: str
) -> None:
    period = period_of(every, datetime.date.fromisoformat(day))
    assert (period.name, period.first.isoformat(), period.last.isoformat()) == (name, first, last)


@given(
    every=st.sampled_from(EVERY), day=st.dates(datetime.date(2001, 1, 1), datetime.date(2900, 1, 1))
)
def test_periods_lie_side_by_side(every: Every, day: datetime.date) -> None:
    period = period_of(every, day)
    assert period.first <= day <= period.last
    assert before(every, period).last == period.first - datetime.timedelta(days=1)
    assert {period_of(every, end) for end in (period.first, period.last)} == {period}


@pytest.mark.parametrize(
    ("every", "zone", "now", "name"),
    [
        ("day", "UTC", "2026-11-29T05:59:59.999+00:00", "2026-11-27"),
        ("day", "UTC", "2026-11-29T06:00:00+00:00", "2026-11-28"),
        ("day", "Europe/Moscow", "2026-11-29T03:00:00+00:00", "2026-11-28"),
        ("day", "Europe/Moscow", "2026-11-29T02:59:59+00:00", "2026-11-27"),
        ("week", "UTC", "2026-11-30T05:59:59+00:00", "2026-W47"),
        ("week", "UTC", "2026-11-30T06:00:00+00:00", "2026-W48"),
        ("month", "UTC", "2026-12-01T05:59:59+00:00", "2026-10"),
        ("month", "UTC", "2026-12-01T06:00:00+00:00", "2026-11"),
        ("day", "Europe/Berlin", "2026-03-29T04:00:00+00:00", "2026-03-28"),  # clocks went ahead
    ],
)
def test_it_is_due_at_its_time_on_the_day_after(
    every: Every, zone: str, now: str, name: str
) -> None:
    found = schedule(every).next_due(None, Days(zone), ms(now))
    assert found is not None
    assert found.name == name


def test_what_was_booked_last_has_settled_before_a_report_is_made() -> None:
    period = period_of("day", datetime.date(2026, 11, 28))
    over_ms = ms("2026-11-29T00:00:00+00:00")
    assert schedule(at=datetime.time(0)).due_ms(period, UTC) == over_ms + SETTLED_MS


@given(
    every=st.sampled_from(EVERY),
    zone=st.sampled_from(ZONES),
    at=st.times().map(lambda time: time.replace(second=0, microsecond=0)),
    now_ms=st.integers(1_500_000_000_000, 2_500_000_000_000),
    missed=st.integers(0, 40),
)
def test_missed_periods_are_made_in_their_order_each_once(
    every: Every, zone: str, at: datetime.time, now_ms: int, missed: int
) -> None:
    days, asked = Days(zone), schedule(every, at)
    newest = asked.next_due(None, days, now_ms)
    assert newest is not None
    last = newest
    for _ in range(missed):
        last = before(every, last)
    through: datetime.date | None = last.last
    made = []
    while (period := asked.next_due(through, days, now_ms)) is not None:
        assert asked.coming(through, days, now_ms) == period
        assert asked.due_ms(period, days) <= now_ms
        made.append(period)
        through = period.last
    assert len(made) == min(missed, MISSED_MAX)
    assert made == sorted(made, key=lambda period: period.first)
    assert not made or made[-1] == newest
    assert asked.due_ms(newest, days) > now_ms - 33 * DAY_MS
    coming = asked.coming(through, days, now_ms)
    assert before(every, coming) == newest
    assert asked.due_ms(coming, days) > now_ms


def test_a_name_says_schedule_and_period() -> None:
    period = period_of("week", datetime.date(2026, 11, 28))
    assert schedule("week", form="xlsx").file_name(period) == "cost-2026-W48.xlsx"


def test_the_question_is_that_of_the_report() -> None:
    period = period_of("month", datetime.date(2026, 11, 28))
    query = schedule(group_by=("app", "channel"), filters={"app": ("shop", "bank")}).query(period)
    assert dict(query.parameters())["group_by"] == "app,channel"
    assert query.filters == (("app", "shop"), ("app", "bank"))
    assert (query.from_day, query.to_day) == (period.first, period.last)
