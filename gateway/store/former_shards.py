"""Numbers of shards that there were before a copy with another one.

Ledger, totals and other counts, events, the index and quarantine stay in the shard in which they
were written: sums are the same over any number of shards, and a client's place in an event stream
stays what it was. So who reads those looks into as many shards as there ever were. Raises
RedisUnavailable.
"""

from __future__ import annotations

from collections.abc import Iterable

from gateway.redis.client import RedisClient
from gateway.store.shared_keys import META, SHARDS_BEFORE_FIELD


async def shards_before(redis: RedisClient) -> list[int]:
    """The numbers of shards there were before the present one."""
    (found,) = await redis.call([("HGET", META, SHARDS_BEFORE_FIELD)])
    return numbers_in(found)


async def shards_ever(redis: RedisClient, shards: int) -> range:
    """Every shard there ever was; `shards` is how many there are now."""
    return ever(shards, await shards_before(redis))


def ever(shards: int, before: Iterable[int]) -> range:
    """Every shard of the present number and the former ones."""
    return range(max([shards, *before]))


def numbers_in(field: object) -> list[int]:
    """What the installation's record says of the former numbers; None: there are none."""
    return [int(number) for number in field.split(b",")] if isinstance(field, bytes) else []
