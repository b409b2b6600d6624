"""Moments as callers write and read them (RFC 3339), and as they are kept."""

from __future__ import annotations

import datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.core.views.words import epoch_ms, rfc3339


@given(st.datetimes(timezones=st.timezones()))
def test_a_moment_reads_as_it_was_written_to_the_millisecond(at: datetime.datetime) -> None:
    shown = rfc3339(epoch_ms(at))
    assert len(shown) == len("2026-11-21T10:00:00.123Z")
    apart = at - datetime.datetime.fromisoformat(shown)
    edges = ("0001-01-01T00:00:00.000Z", "9999-12-31T23:59:59.999Z")
    assert shown in edges or datetime.timedelta() <= apart < datetime.timedelta(milliseconds=1)


@pytest.mark.parametrize(
    ("written", "shown"),
    [
        ("9999-12-31T23:59:59.999999+00:00", "9999-12-31T23:59:59.999Z"),
        ("9999-12-31T23:59:59-23:59", "9999-12-31T23:59:59.999Z"),
        ("0001-01-01T00:00:00+23:59", "0001-01-01T00:00:00.000Z"),
        ("0987-06-05T04:03:02.001+00:00", "0987-06-05T04:03:02.001Z"),
        ("1969-12-31T23:59:59.999+00:00", "1969-12-31T23:59:59.999Z"),
        ("2026-11-30T01:02:03.123999+03:00", "2026-11-29T22:02:03.123Z"),
    ],
)
def test_what_lies_beyond_four_digits_of_a_year_counts_as_the_last_of_them(
    written: str, shown: str
) -> None:
    assert rfc3339(epoch_ms(datetime.datetime.fromisoformat(written))) == shown


def test_what_is_kept_beyond_them_can_be_shown() -> None:
    assert rfc3339(253_402_300_800_000) == "9999-12-31T23:59:59.000Z"
    assert rfc3339(-62_135_596_800_001) == "0001-01-01T00:00:00.999Z"
