"""A worker looks again and again at what is declared of campaigns."""

from __future__ import annotations

import asyncio

from gateway.redis.errors import RedisError
from gateway.store.store import Store

LOOK_S = 0.5


async def keep_looking(store: Store) -> None:
    """Looks until it is cancelled. While Redis is unavailable what is known stands."""
    while True:
        try:
            await store.look_at_campaigns()
        except RedisError:
            pass  # nothing is accepted meanwhile either
        await asyncio.sleep(LOOK_S)
