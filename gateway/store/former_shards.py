"""Numbers of shards that there were before a copy with another one.

Ledger, totals, events and quarantine stay in the shard in which they were written: sums are the
same over any number of shards, and a client's place in an event stream stays what it was. So who
reads those looks into as many shards as there ever were. Raises RedisUnavailable.
"""

from __future__ import annotations

from gateway.redis.client import RedisClient
from gateway.store.keys import META, SHARDS_BEFORE_FIELD


async def shards_before(redis: RedisClient) -> list[int]:
    """The numbers of shards there were before the present one."""
    (found,) = await redis.call([("HGET", META, SHARDS_BEFORE_FIELD)])
    return numbers_in(found) if isinstance(found, bytes) else []


async def shards_ever(redis: RedisClient, shards: int) -> range:
    """Every shard there ever was; `shards` is how many there are now."""
    return range(max([shards, *await shards_before(redis)]))


def numbers_in(field: bytes) -> list[int]:
    return [int(number) for number in field.split(b",")]
