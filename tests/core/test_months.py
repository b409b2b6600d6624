"""Which month is which, and what is late for one that is closed."""

from __future__ import annotations

import datetime

import pytest

from gateway.core.ids import new_id
from gateway.core.money.days import UTC_DAYS, Days
from gateway.core.money.months import NONE_CLOSED, ClosedMonths, Month

DECEMBER = 1_796_083_200_000  # 2026-12-01T00:00:00Z
HOUR = 3_600_000


@pytest.mark.parametrize(
    ("name", "last"), [("2026-11", 30), ("2026-12", 31), ("2028-02", 29), ("2026-02", 28)]
)
def test_a_month_ends_with_its_last_day(name: str, last: int) -> None:
    month = Month.named(name)
    assert month is not None
    assert (month.first.day, month.last.day) == (1, last)
    assert month.first.strftime("%Y-%m") == month.last.strftime("%Y-%m") == name


@pytest.mark.parametrize("name", ["2026-13", "2026-1", "november", "2026-11-01", ""])
def test_what_is_no_month_is_none(name: str) -> None:
    assert Month.named(name) is None


def test_a_month_is_over_by_its_own_clock() -> None:
    month = Month("2026-11", datetime.date(2026, 11, 1), datetime.date(2026, 11, 30))
    assert month.over_ms(UTC_DAYS) == DECEMBER
    assert month.over_ms(Days("Europe/Moscow")) == DECEMBER - 3 * HOUR


def test_what_is_booked_after_the_closing_for_a_message_of_the_month_is_late() -> None:
    closed = ClosedMonths({"2026-11": DECEMBER + HOUR})
    november, december = new_id(DECEMBER - 1, 0, 7), new_id(DECEMBER, 0, 7)
    assert closed.late(november, DECEMBER + HOUR) == "late:2026-11"
    assert closed.late(november, DECEMBER + HOUR - 1) is None
    assert closed.late(december, DECEMBER + HOUR) is None
    assert closed.late(None, DECEMBER + HOUR) is None
    assert closed.late("nothing of ours", DECEMBER + HOUR) is None
    assert NONE_CLOSED.late(november, DECEMBER + HOUR) is None


def test_the_month_of_a_message_is_that_of_the_zone() -> None:
    closed = ClosedMonths({"2026-12": DECEMBER + HOUR}, Days("Europe/Moscow"))
    assert closed.late(new_id(DECEMBER - HOUR, 0, 7), DECEMBER + HOUR) == "late:2026-12"
