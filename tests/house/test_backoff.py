"""Waits grow, within bounds, and begin anew when it went well."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from gateway.backoff import Backoff, delay_s


@given(
    failures=st.integers(1, 10_000),
    fraction=st.floats(0, 1, exclude_max=True),
    bounds=st.sampled_from([(0.05, 2.0), (0.5, 60.0)]),
)
def test_delays_grow_and_are_bounded(
    failures: int, fraction: float, bounds: tuple[float, float]
) -> None:
    least_s, most_s = bounds
    delay = delay_s(failures, least_s, most_s, fraction)
    assert least_s / 2 <= delay <= most_s
    assert delay <= delay_s(failures + 1, least_s, most_s, fraction)


def test_the_first_try_is_immediate() -> None:
    assert delay_s(0, 0.05, 2.0, 0.9) == 0.0


def test_a_reset_begins_with_the_shortest_delay() -> None:
    backoff = Backoff(1.0, 64.0)
    delays = [backoff.next_s() for _ in range(8)]
    assert all(2.0**n / 2 <= delay <= 2.0**n for n, delay in enumerate(delays[:7]))
    assert 32.0 <= delays[7] <= 64.0
    backoff.reset()
    assert backoff.failures == 0
    assert backoff.next_s() <= 1.0
