"""Which dispatcher keeps which session of a provider's account, when it may have only a few.

A place is a key that lapses: who keeps it says so again and again. For a moment after an outage two
may think that one place is theirs, and then the provider refuses the session of the second. Raises
RedisUnavailable.
"""

from __future__ import annotations

from gateway.redis.client import RedisClient
from gateway.store import leases
from gateway.store.shared_keys import place

LEASE_MS = 10_000
_WANTED = "wanted"


async def take(redis: RedisClient, provider: str, number: int, consumer: str) -> bool:
    """Takes a place, or keeps it; whether it is the consumer's now."""
    return await leases.hold(redis, place(provider, str(number)), consumer, LEASE_MS)


async def give_up(redis: RedisClient, provider: str, number: int, consumer: str) -> None:
    """Leaves a place to others at once."""
    await leases.give_back(redis, place(provider, str(number)), consumer)


async def want(redis: RedisClient, provider: str) -> None:
    """Says that somebody has no place."""
    await redis.call([("SET", place(provider, _WANTED), 1, "PX", LEASE_MS)])


async def is_wanted(redis: RedisClient, provider: str) -> bool:
    """Whether somebody has none; only one who asks is told so, and gives one up."""
    (gone,) = await redis.call([("DEL", place(provider, _WANTED))])
    return bool(gone)
