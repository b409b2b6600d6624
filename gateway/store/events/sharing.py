"""Which dispatchers are there to tell webhooks, and the leases on what each has.

Raises RedisUnavailable.
"""

from __future__ import annotations

from collections.abc import Sequence

from gateway.redis.client import Command, RedisClient
from gateway.redis.replies import as_list
from gateway.store import leases, shared_keys

LEASE_MS = 5_000
THERE_MS = 3_500  # since it said so last; less than a lease, so that what it has is free soon after


async def hold(redis: RedisClient, name: str, consumer: str) -> bool:
    """Takes or keeps the lease on a webhook or an outbox; whether it is this dispatcher's now."""
    return await leases.hold(redis, shared_keys.sends(name), consumer, LEASE_MS)


async def announce(redis: RedisClient, consumer: str, now_ms: int) -> list[str]:
    """A dispatcher is there: all that are, itself among them."""
    gone_ms = now_ms - THERE_MS
    *_, found = await redis.call(
        [
            ("ZADD", shared_keys.SENDERS, now_ms, consumer),
            ("ZREMRANGEBYSCORE", shared_keys.SENDERS, "-inf", gone_ms),
            ("ZRANGEBYSCORE", shared_keys.SENDERS, "-inf", "+inf"),
        ]
    )
    return [name.decode(errors="replace") for name in as_list(found)]


async def leave(redis: RedisClient, names: Sequence[str], consumer: str) -> None:
    """A dispatcher stops: what it has of these is others' at once."""
    keys = [shared_keys.sends(name) for name in names]
    gone: Command = ("ZREM", shared_keys.SENDERS, consumer)
    _, *owners = await redis.call([gone, *(("GET", key) for key in keys)])
    held = [key for key, owner in zip(keys, owners, strict=True) if owner == consumer.encode()]
    if held:
        await redis.call([("DEL", *held)])
