"""A key that says whose something is, and lapses unless its holder says so again.

For a moment after an outage, or when one lapses while it is confirmed, two may think that it is
theirs. A full Redis gives them as well: whoever makes room needs one. Raises RedisUnavailable.
"""

from __future__ import annotations

from gateway.redis.allow_oom import call_allowing_oom
from gateway.redis.client import RedisClient


async def hold(redis: RedisClient, key: str, holder: str, lease_ms: int) -> bool:
    """Takes a lease that is nobody's, or keeps it; whether it is the holder's now."""
    (owner,) = await redis.call([("GET", key)])
    if owner is None:
        take = ("SET", key, holder, "NX", "PX", lease_ms)
        (taken,) = await call_allowing_oom(redis, [take])
        return taken is not None
    if owner != holder.encode():
        return False
    await redis.call([("PEXPIRE", key, lease_ms)])
    return True


async def give_back(redis: RedisClient, key: str, holder: str) -> None:
    """Leaves a lease to others at once, where it is the holder's."""
    (owner,) = await redis.call([("GET", key)])
    if owner == holder.encode():
        await redis.call([("DEL", key)])
