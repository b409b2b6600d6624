"""Waits grow, within bounds, and begin anew when it went well."""

from __future__ import annotations

from unittest import mock

from hypothesis import given
from hypothesis import strategies as st

from gateway.backoff import Backoff
from gateway.redis.client import MOVE_DELAY_MAX_S, MOVE_DELAY_MIN_S, MOVES_MAX, move_delay_s


@given(
    failures=st.integers(0, 10_000),
    fraction=st.floats(0, 1, exclude_max=True),
    bounds=st.sampled_from([(0.05, 2.0), (0.5, 60.0)]),
)
def test_delays_grow_and_are_bounded(
    failures: int, fraction: float, bounds: tuple[float, float]
) -> None:
    least_s, most_s = bounds
    backoff = Backoff(least_s, most_s)
    backoff.failures = failures
    with mock.patch("random.random", return_value=fraction):
        delay = backoff.next_s()
        assert least_s / 2 <= delay <= most_s
        assert delay <= backoff.next_s()


def test_a_reset_begins_with_the_shortest_delay() -> None:
    backoff = Backoff(1.0, 64.0)
    delays = [backoff.next_s() for _ in range(8)]
    assert all(2.0**n / 2 <= delay <= 2.0**n for n, delay in enumerate(delays[:7]))
    assert 32.0 <= delays[7] <= 64.0
    backoff.reset()
    assert backoff.failures == 0
    assert backoff.next_s() <= 1.0


def test_the_first_try_after_a_move_is_immediate_and_the_others_take_their_time() -> None:
    delays = [move_delay_s(tries) for tries in range(1, MOVES_MAX + 1)]
    assert delays[:2] == [0.0, MOVE_DELAY_MIN_S]
    assert delays == sorted(delays)
    assert delays[-1] == MOVE_DELAY_MAX_S
