"""A worker looks again and again at what is declared of campaigns, and gives back what it leased of
budgets and did not need."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from contextlib import suppress

from gateway.redis.errors import RedisError
from gateway.store.store import Store

LOOK_S = 0.5


async def look(store: Store, now_ms: int) -> None:
    """Looks once. While Redis is unavailable what is known stands."""
    with suppress(RedisError):  # nothing is accepted meanwhile either
        await store.look_at_campaigns(now_ms)


async def keep_looking(store: Store, now_ms: Callable[[], int]) -> None:
    """Looks until it is cancelled."""
    while True:
        await asyncio.sleep(LOOK_S)
        await look(store, now_ms())
        with suppress(RedisError):  # then it counts until its epoch is over
            await store.give_back_leases(now_ms())
