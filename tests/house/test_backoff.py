"""The one back-off: delays double up to their limit, with and without a count of failures."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from gateway.backoff import Backoff, delay_by_age_ms, delay_s


def test_delays_double_up_to_their_limit() -> None:
    assert [delay_s(n, 0.5, 3.0) for n in range(5)] == [0.5, 1.0, 2.0, 3.0, 3.0]
    assert delay_s(10**6, 0.5, 30.0) == 30.0


@given(st.integers(0, 100), st.floats(0.001, 1.0), st.floats(1.0, 100.0))
def test_a_drawn_delay_is_at_least_half_and_within_its_limits(
    failures: int, least: float, most: float
) -> None:
    backoff = Backoff(least, most)
    backoff.failures = failures
    full = delay_s(failures, least, most)
    assert least <= full <= most
    assert full / 2 <= backoff.next_s() <= full
    assert backoff.failures == failures + 1


def test_a_delay_by_age_is_about_doubled_with_each_try() -> None:
    at_ms, tries = 0, []
    while at_ms < 1_000_000:
        tries.append(delay_by_age_ms(at_ms, 900, 60_000))
        at_ms += tries[-1]
    assert tries[:6] == [900, 900, 1_800, 3_600, 7_200, 14_400]
    assert max(tries) == 60_000
