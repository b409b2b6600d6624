"""Whether new messages are refused because an operator has the installation drain.

A worker looks every LOOK_S, and a send costs one attribute. While Redis is unavailable what is
known stands.
"""

from __future__ import annotations

import asyncio

from gateway.ingress.http.problems import Problem, problem
from gateway.redis.client import RedisClient
from gateway.redis.errors import RedisError
from gateway.store.installation import drains
from gateway.store.installation.drains import Drain

LOOK_S = 1.0
REFUSED = "No new messages are taken for now: an operator has Kaskad drain. Send it again later."


class Draining:
    """One worker's; `keep_looking` must run beside it."""

    def __init__(self, redis: RedisClient) -> None:
        self._redis = redis
        self.drain: Drain | None = None
        self.refusal: Problem | None = None  # of every new message

    async def look(self) -> None:
        """Looks once. Raises RedisUnavailable."""
        self.drain = await drains.read(self._redis)
        self.refusal = None if self.drain is None else problem("draining", REFUSED)

    async def try_to_look(self) -> None:
        """The same where Redis is there."""
        try:
            await self.look()
        except RedisError:
            return  # nothing is accepted meanwhile either

    async def keep_looking(self) -> None:
        """Looks until it is cancelled."""
        while True:
            await asyncio.sleep(LOOK_S)
            await self.try_to_look()
