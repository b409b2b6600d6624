"""What waits under the names of providers that a configuration does not have. Changes nothing."""

from __future__ import annotations

from collections.abc import Container

from gateway.redis.client import Command, RedisClient
from gateway.store import shared_keys
from gateway.store.keys import keys_of
from gateway.store.waiting.lanes import LANES_A_CALL
from gateway.store.waiting.lines import Lines

CATEGORIES = ("otp", "transactional", "marketing")


async def waiting(redis: RedisClient, shards: int, known: Container[str]) -> dict[str, int]:
    """Messages in the lanes of each provider that some process had and `known` does not; those
    without any are left out. Raises RedisUnavailable."""
    (had,) = await redis.call([("ZRANGE", shared_keys.PROVIDERS, 0, -1)])
    assert isinstance(had, list)
    lines = range(await Lines().in_use(redis))
    counts: dict[str, int] = {}
    for name in (each.decode(errors="replace") for each in had):
        if name in known:
            continue
        lanes: list[Command] = [
            ("XLEN", keys_of(shard).lane(name, category, line))
            for shard in range(shards)
            for category in CATEGORIES
            for line in lines
        ]
        counts[name] = 0
        for start in range(0, len(lanes), LANES_A_CALL):
            lengths = await redis.call(lanes[start : start + LANES_A_CALL])
            counts[name] += sum(map(int, lengths))
    return {name: count for name, count in counts.items() if count}
