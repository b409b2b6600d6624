"""The proof of life: when it stands, and that everybody who waits for it goes on."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, cast

import pytest
import trio
import trio.testing

from gateway.dispatch.heartbeat import Heartbeat, keep_beating
from gateway.dispatch.redis_retry import RedisRetry
from gateway.redis.client import RedisClient
from tests.worlds.reading import now

LEASE_MS, EVERY_MS = 1_000, 200
WAITERS = 3


class GoodClient:
    """A Redis that takes every proof."""

    async def call(self, commands: list[Any]) -> list[Any]:
        await trio.lowlevel.checkpoint()
        return ["OK" for _ in commands]


def heartbeat(slept_s: Callable[[], float] = lambda: 0.0) -> Heartbeat:
    return Heartbeat(
        cast("RedisClient", GoodClient()),
        "dispatch-1",
        lease_ms=LEASE_MS,
        every_ms=EVERY_MS,
        retry=RedisRetry("heartbeat", lambda loop: None),
        slept_s=slept_s,
    )


@pytest.mark.trio
async def test_a_proof_stands_for_the_lease_less_a_margin(
    autojump_clock: trio.testing.MockClock,
) -> None:
    life = heartbeat()
    assert not now(life.fresh)
    await life.beat()
    assert now(life.fresh)
    await trio.sleep(0.79)
    assert now(life.fresh)
    await trio.sleep(0.02)
    assert not now(life.fresh)


@pytest.mark.trio
async def test_a_proof_is_stale_when_the_machine_has_slept(
    autojump_clock: trio.testing.MockClock,
) -> None:
    """Trio's clock stands still meanwhile, and the lease is over for all others."""
    slept = [100.0]
    life = heartbeat(lambda: slept[-1])
    await life.beat()
    began = trio.current_time()
    assert now(life.fresh_since) == began
    slept.append(100.79)
    assert now(life.fresh)
    slept.append(160.0)
    assert not now(life.fresh)
    await trio.sleep(0.1)
    await life.beat()
    assert now(life.fresh)
    assert now(life.fresh_since) > began


@pytest.mark.trio
async def test_everybody_who_waits_for_the_proof_goes_on_when_it_stands_again(
    autojump_clock: trio.testing.MockClock,
) -> None:
    """As after an outage of Redis, for which every worker of a dispatcher waits."""
    life = heartbeat()
    woken: list[int] = []

    async def wait(number: int) -> None:
        await life.wait_fresh()
        woken.append(number)

    with trio.fail_after(5):
        async with trio.open_nursery() as nursery:
            for number in range(WAITERS):
                nursery.start_soon(wait, number)
            await trio.testing.wait_all_tasks_blocked()
            assert woken == []
            await life.beat()
    assert sorted(woken) == list(range(WAITERS))


@pytest.mark.trio
async def test_a_dispatcher_says_that_it_works_once_a_second(
    autojump_clock: trio.testing.MockClock,
) -> None:
    beats: list[float] = []
    with trio.move_on_after(3.5):
        await keep_beating(lambda: beats.append(trio.current_time()))
    assert [round(at - beats[0], 6) for at in beats] == [0, 1, 2, 3]
