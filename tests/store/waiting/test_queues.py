"""What a process knows of the names of queues."""

from __future__ import annotations

from gateway.store.shared_keys import QUEUES
from gateway.store.waiting.queues import CONFIRM_MS, Queues
from tests.worlds.cascade_world import T0
from tests.worlds.dispatch_world import under_trio, world

CAMPAIGNS = 50


@under_trio
async def test_a_name_that_was_said_is_forgotten_after_a_minute_or_two(url: str) -> None:
    async with world(url) as w:
        queues = Queues()
        for minute in range(10):
            names = [f"campaign:{minute}:{number}" for number in range(CAMPAIGNS)]
            await queues.learn(w.redis, names, T0 + minute * CONFIRM_MS)
            assert len(queues._confirmed) <= 2 * CAMPAIGNS
        (count,) = await w.redis.call([("ZCARD", QUEUES)])
        assert count == 10 * CAMPAIGNS


@under_trio
async def test_a_name_is_said_once_a_minute(url: str) -> None:
    async with world(url) as w:
        queues = Queues()
        for second in (0, 30, 59):
            await queues.learn(w.redis, ["zones"], T0 + second * 1_000)
            (said,) = await w.redis.call([("ZSCORE", QUEUES, "zones")])
            assert int(said) == T0
        for minute in (1, 2, 3):
            await queues.learn(w.redis, ["zones"], T0 + minute * CONFIRM_MS)
            (said,) = await w.redis.call([("ZSCORE", QUEUES, "zones")])
            assert int(said) == T0 + minute * CONFIRM_MS
