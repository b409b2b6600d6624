"""The clock of the simulations moves time as trio's own does."""

from __future__ import annotations

import trio
from hypothesis import given
from hypothesis import strategies as st
from trio.testing import MockClock

from tests.worlds.virtual_clock import VirtualClock

# In quarters, which add up without rounding. No timeout ends at the very moment of its sleep: which
# of the two is first then nobody promises.
SLEEPS_S = st.sampled_from([0.0, 0.5, 1.0, 7.0, 7_200.0])
TIMEOUTS_S = st.sampled_from([0.25, 0.75, 1.25, 3_600.25])
LIVES = st.lists(st.lists(st.tuples(SLEEPS_S, TIMEOUTS_S), max_size=4), min_size=1, max_size=5)
Log = list[tuple[float, int, str]]


async def live(lives: list[list[tuple[float, float]]], log: Log) -> None:
    """Each sleeps again and again for a while, but no longer than a timeout, and then as long once
    more; the last one ends them all."""

    async def one(number: int, naps: list[tuple[float, float]]) -> None:
        for nap_s, timeout_s in naps:
            with trio.move_on_after(timeout_s) as scope:
                await trio.sleep(nap_s)
            log.append((trio.current_time(), number, f"slept, {scope.cancelled_caught}"))
            await trio.sleep_until(trio.current_time() + nap_s)
            log.append((trio.current_time(), number, "slept on"))
        if number == len(lives) - 1:
            nursery.cancel_scope.cancel()

    async with trio.open_nursery() as nursery:
        for number, naps in enumerate(lives):
            nursery.start_soon(one, number, naps)
        nursery.start_soon(trio.sleep_forever)


@given(LIVES)
def test_everybody_wakes_at_the_same_moments_as_by_trios_clock(
    lives: list[list[tuple[float, float]]],
) -> None:
    ours, trios = Log(), Log()
    VirtualClock().run(live, lives, ours)
    trio.run(live, lives, trios, clock=MockClock(autojump_threshold=0))
    end = max((at for at, *_ in ours), default=0.0)
    # At the moment of the end some were still awake, and others not.
    assert sorted(e for e in ours if e[0] < end) == sorted(e for e in trios if e[0] < end)
    assert max((at for at, *_ in trios), default=0.0) == end


def test_who_is_due_when_time_is_moved_on_wakes_late_and_the_others_in_time() -> None:
    clock, woke = VirtualClock(), list[tuple[float, float]]()

    async def sleep(seconds: float) -> None:
        await trio.sleep(seconds)
        woke.append((seconds, trio.current_time()))

    async def main() -> None:
        async with trio.open_nursery() as nursery:
            for seconds in (3.0, 1.0, 60.0, 2.0):
                nursery.start_soon(sleep, seconds)
            await trio.sleep(1.5)
            clock.jump(50.0)

    clock.run(main)
    assert woke[0] == (1.0, 1.0)
    assert sorted(woke) == [(1.0, 1.0), (2.0, 51.5), (3.0, 51.5), (60.0, 60.0)]


def test_who_is_cancelled_asleep_moves_no_time() -> None:
    clock = VirtualClock()

    async def main() -> None:
        with trio.move_on_after(1.0):
            await trio.sleep(3_600.0)

    clock.run(main)
    assert clock.current_time() == 1.0
