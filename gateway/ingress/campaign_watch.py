"""A worker looks again and again at what is declared of campaigns."""

from __future__ import annotations

import asyncio
from contextlib import suppress

from gateway.redis.errors import RedisError
from gateway.store.store import Store

LOOK_S = 0.5


async def look(store: Store) -> None:
    """Looks once. While Redis is unavailable what is known stands."""
    with suppress(RedisError):  # nothing is accepted meanwhile either
        await store.look_at_campaigns()


async def keep_looking(store: Store) -> None:
    """Looks until it is cancelled."""
    while True:
        await asyncio.sleep(LOOK_S)
        await look(store)
