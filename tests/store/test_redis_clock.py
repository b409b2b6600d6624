"""The time by Redis' clock: whatever a machine's own clock says, and whenever it steps."""

from __future__ import annotations

import time
from typing import Any

import pytest
import trio
from hypothesis import given
from hypothesis import strategies as st

from gateway.redis.errors import RedisUnavailable
from gateway.redis.trio_driver import open_client
from gateway.store import redis_clock
from gateway.store.redis_clock import LOOK_S, RedisClock

HOUR_S = 3_600


class Machine:
    """A machine whose clocks are moved by hand, and a Redis that tells `redis_s`."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, wall_s: float, redis_s: float) -> None:
        self.steady_s, self.wall_s, self.redis_s = 100.0, wall_s, redis_s
        self.out_s = self.back_s = 0.0  # how long a question and its answer take
        self.away = False
        monkeypatch.setattr(redis_clock, "passing_s", lambda: self.steady_s)
        monkeypatch.setattr("time.time", lambda: self.wall_s)

    def passes(self, seconds: float) -> None:
        self.steady_s += seconds
        self.wall_s += seconds
        self.redis_s += seconds

    async def call(self, _commands: Any) -> list[Any]:
        await trio.lowlevel.checkpoint()
        if self.away:
            raise RedisUnavailable("away")
        self.passes(self.out_s)
        told = divmod(round(self.redis_s * 1_000_000), 1_000_000)
        self.passes(self.back_s)
        return [[str(part).encode() for part in told]]


@pytest.mark.trio
async def test_it_is_the_machines_until_redis_was_asked(monkeypatch: pytest.MonkeyPatch) -> None:
    machine = Machine(monkeypatch, 5_000.0, 9_000.0)
    clock = RedisClock()
    assert clock.now_ms() == 5_000_000
    machine.passes(1.5)
    assert clock.now_ms() == 5_001_500
    machine.away = True
    await clock.try_to_look(machine)
    assert clock.now_ms() == 5_001_500
    with pytest.raises(RedisUnavailable):
        await clock.look(machine)
    machine.away = False
    await clock.look(machine)
    assert clock.now_ms() == 9_001_500


@pytest.mark.trio
@pytest.mark.parametrize("step_s", [HOUR_S, -HOUR_S])
async def test_a_step_of_the_machines_clock_moves_nothing(
    monkeypatch: pytest.MonkeyPatch, step_s: int
) -> None:
    machine = Machine(monkeypatch, 9_000.0, 9_000.0)
    clock = RedisClock()
    await clock.look(machine)
    machine.wall_s += step_s
    assert clock.now_ms() == 9_000_000
    await clock.look(machine)
    machine.passes(2.0)
    assert clock.now_ms() == 9_002_000


@pytest.mark.trio
async def test_a_slow_answer_moves_nothing_that_it_does_not_refute(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    machine = Machine(monkeypatch, 9_000.0, 9_000.0)
    clock = RedisClock()
    await clock.look(machine)
    for machine.out_s, machine.back_s in ((3.0, 0.0), (0.0, 3.0), (1.0, 2.0)):
        await clock.look(machine)
        assert clock.now_ms() == round(machine.redis_s * 1_000)


@given(
    ahead_s=st.floats(-1e6, 1e6),
    looks=st.lists(st.tuples(st.floats(0, 10), st.floats(0, 10)), min_size=1, max_size=8),
)
def test_it_is_never_farther_from_redis_than_the_quickest_question_took(
    ahead_s: float, looks: list[tuple[float, float]]
) -> None:
    async def work() -> None:
        with pytest.MonkeyPatch.context() as patched:
            machine = Machine(patched, 2_000_000.0, 2_000_000.0 + ahead_s)
            clock = RedisClock()
            for machine.out_s, machine.back_s in looks:
                await clock.look(machine)
            off_s = abs(clock.now_ms() / 1000 - machine.redis_s)
            assert off_s <= min(map(sum, looks)) + 0.002

    trio.run(work)


@pytest.mark.trio
async def test_a_real_redis_is_asked_again_and_again(
    redis_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    slept: list[float] = []

    async def sleep(seconds: float) -> None:
        slept.append(seconds)
        if len(slept) > 1:  # it has looked in between
            nursery.cancel_scope.cancel()
        await trio.lowlevel.checkpoint()

    wall_s = time.time()
    monkeypatch.setattr("time.time", lambda: wall_s + HOUR_S)
    clock = RedisClock()
    assert clock.now_ms() > (wall_s + HOUR_S - 60) * 1_000
    async with open_client(redis_url) as redis:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(clock.keep_looking, redis, sleep)
        told_ms = await redis_clock.now_ms(redis)
    assert abs(clock.now_ms() - told_ms) < 10_000
    assert slept == [LOOK_S, LOOK_S]
