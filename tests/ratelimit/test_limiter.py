"""The limiter's scripts in a real Redis: the decisions of their twin, under one shared clock.

The clock is a list in Redis that stands where TIME does, so that no machine is too slow for a test.
"""

from __future__ import annotations

import heapq
from collections.abc import Awaitable, Callable, Sequence
from typing import Any

import pytest
import trio

from gateway.redis.client import RedisClient
from gateway.redis.script import Script
from gateway.redis.trio_driver import open_client
from gateway.store.shared_keys import limit
from ratelimit.limiter import (
    HORIZON_US,
    PACE_LATE_US,
    PACE_QUANTUM_US,
    SCRIPTS,
    Limiter,
    Pace,
    RunScript,
    Schedule,
    pace_of,
    take_in_pace,
)
from tests.worlds.dispatch_limiter import SECOND, most_in_a_second

KEY = limit("sms")
CLOCK = KEY + "clock"
TIME = "redis.call('TIME')"
START_US = 1_800_000_000 * SECOND


async def set_clock(redis: RedisClient, us: int) -> None:
    await redis.call([("DEL", CLOCK), ("RPUSH", CLOCK, us // SECOND, us % SECOND)])


def runner(redis: RedisClient) -> RunScript:
    clock = f"redis.call('LRANGE', '{CLOCK}', 0, 1)"
    scripts = {name: Script(source.replace(TIME, clock)) for name, source in SCRIPTS.items()}

    async def run(name: str, keys: Sequence[str], args: Sequence[int]) -> Any:
        return await scripts[name].call(redis, keys, args)

    return run


def with_redis(url: str, work: Callable[[RedisClient], Awaitable[None]]) -> None:
    async def main() -> None:
        async with open_client(url) as redis:
            await set_clock(redis, START_US)
            await work(redis)

    trio.run(main)


@pytest.mark.parametrize(("rate", "batch"), [(1, 1), (7, 5), (39, 100), (333, 100), (90_000, 999)])
def test_the_script_grants_what_its_twin_grants(redis_url: str, rate: int, batch: int) -> None:
    async def work(redis: RedisClient) -> None:
        limiter = Limiter(runner(redis), KEY, rate_per_s=rate, batch=batch)
        twin = Schedule(rate, batch)
        for wanted in (1, 2, 100, 3, 1_000, 1, 1):
            grant = await limiter.take(wanted)
            if not grant.tokens:
                assert grant.wait_us > 0
                continue
            # Redis's clock at the grant, in which the twin is asked the same.
            (free,) = await redis.call([("HGET", KEY, "free_us")])
            assert int(free) == grant.end_us
            start_us = twin_start(twin, grant.end_us, grant.tokens)
            assert twin.take(wanted, start_us).tokens == grant.tokens
            assert twin.free_us == grant.end_us

    def twin_start(twin: Schedule, end_us: int, granted: int) -> int:
        fresh = Schedule(rate, batch)
        return end_us - fresh.take(granted, 0).end_us

    with_redis(redis_url, work)


def test_unused_tokens_are_given_back_once_and_only_by_the_latest_grant(redis_url: str) -> None:
    async def work(redis: RedisClient) -> None:
        limiter = Limiter(runner(redis), KEY, rate_per_s=1_000, batch=10)
        first = await limiter.take(10)
        second = await limiter.take(10)
        assert not await limiter.give_back(first, 10)
        assert await limiter.give_back(second, 10)
        assert not await limiter.give_back(second, 10)
        third = await limiter.take(10)
        assert abs(third.end_us - second.end_us) <= 1

    with_redis(redis_url, work)


def test_held_off_nobody_gets_a_token(redis_url: str) -> None:
    async def work(redis: RedisClient) -> None:
        limiter = Limiter(runner(redis), KEY, rate_per_s=1_000, batch=10)
        other = Limiter(runner(redis), KEY, rate_per_s=1_000, batch=10)
        await limiter.take(1)
        await limiter.hold_off(60_000)
        grant = await other.take(1)
        assert grant.tokens == 0
        assert grant.wait_us == 60_000_000 - HORIZON_US
        await limiter.hold_off(1_000)
        assert (await other.take(1)).wait_us == grant.wait_us, "a shorter one does not shorten it"

    with_redis(redis_url, work)


def test_a_grant_starts_no_sooner_than_its_caller_is_ready(redis_url: str) -> None:
    async def work(redis: RedisClient) -> None:
        limiter = Limiter(runner(redis), KEY, rate_per_s=1_000, batch=10)
        assert (await limiter.take(10, 30_000)).wait_us == 30_000
        assert (await limiter.take(10)).wait_us == 40_257
        assert (await limiter.take(1, 10**9)).wait_us == HORIZON_US

    with_redis(redis_url, work)


def test_what_is_left_is_what_can_be_granted_at_once(redis_url: str) -> None:
    async def work(redis: RedisClient) -> None:
        limiter = Limiter(runner(redis), KEY, rate_per_s=1_000, batch=10)
        assert await limiter.left() == 98
        for _ in range(5):
            await limiter.take(10)
        assert await limiter.left() == 48
        while (await limiter.take(10)).tokens:
            pass
        assert await limiter.left() == 0
        await limiter.hold_off(60_000)
        assert await limiter.left() == 0

    with_redis(redis_url, work)


def test_a_limit_that_is_not_used_leaves_nothing_behind(redis_url: str) -> None:
    async def work(redis: RedisClient) -> None:
        await Limiter(runner(redis), KEY, rate_per_s=10, batch=10).take(1)
        (ms,) = await redis.call([("PTTL", KEY)])
        assert 0 < ms < 2_000

    with_redis(redis_url, work)


def test_four_dispatchers_together_use_the_rate_and_never_more(redis_url: str) -> None:
    rate, seconds = 400, 1.5
    sends: list[tuple[int, int]] = []

    async def work(redis: RedisClient) -> None:
        dispatchers = [Limiter(runner(redis), KEY, rate_per_s=rate, batch=100) for _ in range(4)]
        waking = [(START_US, number) for number in range(4)]
        while True:
            now_us, number = heapq.heappop(waking)
            if now_us - START_US > seconds * SECOND:
                return
            await set_clock(redis, now_us)
            grant = await dispatchers[number].take(100)
            if grant.tokens:
                sends.append((now_us + grant.wait_us, grant.tokens))
            heapq.heappush(waking, (now_us + max(grant.wait_us, 1), number))

    with_redis(redis_url, work)
    assert most_in_a_second(sends) <= rate
    assert sum(count for _, count in sends) >= 0.97 * rate * seconds - 6


def test_a_changed_rate_counts_from_the_next_grant_and_no_older_one_is_given_back(
    redis_url: str,
) -> None:
    async def work(redis: RedisClient) -> None:
        limiter = Limiter(runner(redis), KEY, rate_per_s=1_000, batch=10)
        before = await limiter.take(10)
        limiter.set_rate(10)
        assert limiter.quantum == 1
        # Ten tokens at the new speed are a second, and took a hundredth.
        assert not await limiter.give_back(before, 10)
        after = await limiter.take(10)
        assert (after.tokens, after.end_us - before.end_us > SECOND // 10) == (1, True)
        assert await limiter.give_back(after, 1)

    with_redis(redis_url, work)


def twin_of(pace: Pace) -> Schedule:
    twin = Schedule(1, 1)
    twin._speed, twin.quantum = pace
    return twin


@pytest.mark.parametrize("per_min", [1, 60, 120, 180, 240, 600, 6_000])
def test_a_pace_at_rest_begins_with_a_seconds_worth_at_most(redis_url: str, per_min: int) -> None:
    """Nobody was late for what nobody waited for: in no time more than it says and one second's."""
    pace = pace_of(per_min)
    twin, taken = twin_of(pace), list[tuple[int, int]]()

    async def work(redis: RedisClient) -> None:
        run, now_us = runner(redis), START_US
        while now_us < START_US + 5 * SECOND:
            await set_clock(redis, now_us)
            places = await take_in_pace(run, KEY, pace, 10**6)
            assert places.granted == twin.take(10**6, now_us, -PACE_LATE_US, 0).tokens
            taken.append((now_us, places.granted))
            now_us += places.wait_us

    with_redis(redis_url, work)
    for number, (until_us, _) in enumerate(taken):
        told = sum(count for _, count in taken[: number + 1])
        assert told <= max(per_min / 60, 1) + (until_us - START_US) * per_min / 60 / SECOND


def test_who_waits_for_a_place_waits_no_longer_than_the_pace_of_now_says(redis_url: str) -> None:
    slow, quick = pace_of(1), pace_of(6_000)
    twin = twin_of(slow)

    async def work(redis: RedisClient) -> None:
        run, now_us = runner(redis), START_US
        await set_clock(redis, now_us)
        first = await take_in_pace(run, KEY, slow, 3)
        assert (first.granted, twin.take(3, now_us, -PACE_LATE_US, 0).tokens) == (1, 1)
        twin._speed, twin.quantum = quick
        for span_us in (SECOND, PACE_QUANTUM_US * 61 // 60 + 2):
            await set_clock(redis, now_us := now_us + span_us)
            told = await take_in_pace(run, KEY, quick, 3)
            assert told.granted == twin.take(3, now_us, -PACE_LATE_US, 0).tokens
        assert told.granted == 3

    with_redis(redis_url, work)


@pytest.mark.parametrize("per_min", [1, 59, 600, 6_000, 99_999])
def test_who_asks_late_for_places_in_a_pace_loses_none_and_gets_no_more(
    redis_url: str, per_min: int
) -> None:
    pace = pace_of(per_min)
    twin, taken = twin_of(pace), list[tuple[int, int]]()

    async def work(redis: RedisClient) -> None:
        run, now_us = runner(redis), START_US
        for number in range(400):
            await set_clock(redis, now_us)
            places = await take_in_pace(run, KEY, pace, 10**6)
            assert places.granted == twin.take(10**6, now_us, -PACE_LATE_US, 0).tokens
            taken.append((now_us, places.granted))
            now_us += places.wait_us + (number % 4) * 240_000

    with_redis(redis_url, work)
    for number, (began_us, at_once) in enumerate(taken):
        assert at_once <= max(per_min / 60, 1)
        minute = [n for at_us, n in taken[number:] if at_us < began_us + 60 * SECOND]
        assert sum(minute) <= per_min
    span_s = (taken[-1][0] - START_US) / SECOND
    assert sum(count for _, count in taken) >= 0.98 * per_min * span_s / 60
