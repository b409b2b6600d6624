"""Which providers the processes of this installation have in their configuration.

Each process says again and again which names it has. A name that nobody has said for GONE_AFTER_MS
was removed: one that only some processes have yet, because a change goes round, was not. Names are
kept for KEPT_MS, longer than a message of theirs can wait.

Loop-neutral; every call may raise RedisUnavailable.
"""

from __future__ import annotations

from collections.abc import Iterable

from gateway.redis.client import RedisClient
from gateway.store import shared_keys

GONE_AFTER_MS = 30_000
KEPT_MS = 90 * 86_400_000


async def announce(redis: RedisClient, names: Iterable[str], now_ms: int) -> None:
    """This process has these names, present and former ones."""
    said = [part for name in names for part in (now_ms, name)]
    forget = ("ZREMRANGEBYSCORE", shared_keys.PROVIDERS, "-inf", now_ms - KEPT_MS)
    await redis.call([("ZADD", shared_keys.PROVIDERS, *said), forget] if said else [forget])


async def gone(redis: RedisClient, now_ms: int) -> list[str]:
    """The names that nobody has any more."""
    (names,) = await redis.call(
        [("ZRANGEBYSCORE", shared_keys.PROVIDERS, "-inf", now_ms - GONE_AFTER_MS)]
    )
    assert isinstance(names, list)
    return [name.decode(errors="replace") for name in names]
