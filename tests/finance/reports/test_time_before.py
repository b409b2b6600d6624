"""What a report's time is compared with."""

from __future__ import annotations

import datetime

import pytest

from gateway.finance.question import Query
from gateway.ingress.pages.reports import time_before


@pytest.mark.parametrize(
    ("first", "last", "before"),
    [
        ("2026-11-21", "2026-11-21", "2026-11-20 2026-11-20"),
        ("2026-11-15", "2026-11-21", "2026-11-08 2026-11-14"),
        ("2026-11-01", "2026-11-30", "2026-10-01 2026-10-31"),
        ("2026-01-01", "2026-02-28", "2025-11-01 2025-12-31"),
        ("2026-11-01", "2026-11-29", "2026-10-03 2026-10-31"),
    ],
)
def test_it_is_as_long_a_time_right_before(first: str, last: str, before: str) -> None:
    day = datetime.date.fromisoformat
    asked = Query(day(first), day(last), ("day",), (("app", "shop"),))
    found = time_before(asked)
    assert f"{found.from_day} {found.to_day}" == before
    assert found.filters == asked.filters
