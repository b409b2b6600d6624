"""Days of a zone: every moment belongs to one, and each begins where the one before ends."""

from __future__ import annotations

import datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.core.money.days import DAY_MS, Days

ZONES = ("UTC", "Europe/Moscow", "America/Sao_Paulo", "America/Havana", "Pacific/Apia")
DAY = datetime.timedelta(days=1)
FIRST_MS, LAST_MS = 1_000_000_000_000, 2_000_000_000_000


@given(zone=st.sampled_from(ZONES), at_ms=st.integers(FIRST_MS, LAST_MS))
def test_a_moment_lies_between_its_days_beginning_and_the_nexts(zone: str, at_ms: int) -> None:
    days = Days(zone)
    day = days.of(at_ms)
    assert days.begins_ms(day) <= at_ms < days.begins_ms(day + DAY)
    assert days.of(at_ms) == day  # remembered
    assert Days(zone).of(days.begins_ms(day) - 1) < day


@pytest.mark.parametrize(
    ("zone", "hour"),
    [("UTC", 21), ("Europe/Moscow", 0), ("Asia/Kolkata", 3), ("Europe/Berlin", 22)],
)
def test_the_hour_is_that_of_the_zone(zone: str, hour: int) -> None:
    moment = datetime.datetime(2026, 11, 21, 21, 59, 59, tzinfo=datetime.UTC)
    assert Days(zone).hour_of(int(moment.timestamp() * 1000)) == hour


@pytest.mark.parametrize(
    ("zone", "day", "hours"),
    [
        ("UTC", datetime.date(2026, 3, 29), 24),
        ("Europe/Berlin", datetime.date(2026, 3, 29), 23),
        ("Europe/Berlin", datetime.date(2026, 10, 25), 25),
        ("America/Sao_Paulo", datetime.date(2018, 11, 4), 23),  # its midnight is skipped
        ("Europe/Moscow", datetime.date(2026, 3, 29), 24),
    ],
)
def test_a_day_is_as_long_as_the_clocks_make_it(zone: str, day: datetime.date, hours: int) -> None:
    days = Days(zone)
    assert (days.begins_ms(day + DAY) - days.begins_ms(day)) * 24 == hours * DAY_MS
