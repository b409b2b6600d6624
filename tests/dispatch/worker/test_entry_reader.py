"""What a dispatcher holds without having heard of it: it is found, and its messages are sent."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from gateway.dispatch.deps import DispatchDeps
from gateway.dispatch.worker.entry_reader import EntryReader
from gateway.dispatch.worker.shards import Shards
from gateway.redis.client import Command, RedisClient, RedisReply
from gateway.redis.errors import RedisUnavailable
from gateway.store.keys import GROUP, keys_of
from gateway.store.store import Store
from gateway.store.waiting.lanes import ensure_groups
from tests.worlds.dispatch_world import under_trio, world

LANES = [("viber", c) for c in ("otp", "transactional", "marketing")]


class CutAfterFirstClaim:
    """A Redis client that goes away once the first entries of a dead dispatcher were taken over."""

    def __init__(self, redis: RedisClient) -> None:
        self._redis = redis
        self.cut = False

    async def call(self, commands: Sequence[Command]) -> list[RedisReply]:
        if self.cut:
            raise RedisUnavailable("Redis is unavailable.")
        replies = await self._redis.call(commands)
        self.cut = commands[0][0] == "XCLAIM"
        return replies


def reader_of(deps: DispatchDeps) -> EntryReader:
    shards = Shards(deps.store.shards, lambda: deps.redis_retry("worker"))
    return EntryReader(deps, "viber", shards)


async def read_by(redis: RedisClient, consumer: str, category: str) -> None:
    lane = keys_of(0).lane("viber", category)
    await redis.call([("XREADGROUP", "GROUP", GROUP, consumer, "COUNT", 10, "STREAMS", lane, ">")])


@under_trio
async def test_a_read_that_was_done_after_the_recount_is_found(url: str) -> None:
    async with world(url) as w:
        await ensure_groups(w.redis, 0, LANES)
        (id_,) = await w.admit()
        deps = w.deps()
        reader = reader_of(deps)
        await read_by(w.redis, deps.consumer, "marketing")  # its connection was cut long ago
        await reader.fill(1)
        assert not any(reader.waiting())
        assert await reader.take_over(0) == []  # the look at the dead, every few seconds
        await reader.fill(1)
        assert [entry.message_id for entry in reader.select((0, 0, 1))] == [id_]


@under_trio
async def test_what_was_taken_over_before_redis_went_down_is_not_forgotten(url: str) -> None:
    async with world(url) as w:
        await ensure_groups(w.redis, 0, LANES)
        (otp,) = await w.admit(category="otp", campaign=None)
        (offer,) = await w.admit()
        for category in ("otp", "marketing"):
            await read_by(w.redis, "dead", category)
        cutting: Any = CutAfterFirstClaim(w.redis)
        reader = reader_of(w.deps(store=Store(cutting, w.store.policy)))
        assert [entry.message_id for entry in await reader.take_over(0)] == [otp]
        cutting.cut = False
        assert [entry.message_id for entry in await reader.take_over(0)] == [offer]


@under_trio
async def test_a_claim_that_was_not_heard_of_is_found(url: str) -> None:
    async with world(url) as w:
        await ensure_groups(w.redis, 0, LANES)
        (id_,) = await w.admit()
        await read_by(w.redis, "dead", "marketing")
        deps = w.deps()
        lane = keys_of(0).lane("viber", "marketing")
        ((_, ((entry, _),)),) = (await w.redis.call([("XREAD", "STREAMS", lane, "0")]))[0]
        await w.redis.call([("XCLAIM", lane, GROUP, deps.consumer, 0, entry)])
        reader = reader_of(deps)
        assert await reader.take_over(0) == []
        await reader.fill(1)
        assert [found.message_id for found in reader.select((0, 0, 1))] == [id_]


@under_trio
async def test_what_one_shard_has_is_selected_before_the_next_ones_and_each_is_first_in_turn(
    url: str,
) -> None:
    async with world(url, shards=3) as w:
        ids = await w.admit(60)
        deps = w.deps()
        shards = Shards(3, lambda: deps.redis_retry("worker"))
        reader = EntryReader(deps, "viber", shards)
        for shard in range(3):
            await ensure_groups(w.redis, shard, LANES)
        await reader.fill(30)
        assert sum(reader.waiting()) == 60
        first, second = reader.select((0, 0, 10)), reader.select((0, 0, 10))
        assert [{e.shard for e in found} for found in (first, second)] == [{0}, {1}]
        shards.suspect([2], RedisUnavailable("Redis is unavailable."))
        rest = reader.select((0, 0, 100))
        assert {entry.shard for entry in rest} == {0, 1}, "the third shard's stay where they are"
        assert sum(reader.waiting()) == 0
        found = [*first, *second, *rest]
        assert len({entry.message_id for entry in found}) == len(found) < len(ids)
