"""A store on a test's Redis, for as long as some work with it takes."""

from __future__ import annotations

from collections.abc import Awaitable, Callable

import trio

from gateway.core.policy import Policy
from gateway.redis.trio_driver import open_client
from gateway.store.store import Store
from tests.worlds.cascade_world import policy

Work = Callable[[Store], Awaitable[None]]


def in_store(url: str, work: Work, rules: Policy | None = None, *, shards: int = 1) -> None:
    """Does the work with a store whose rules are the usual ones, or those given."""

    async def main() -> None:
        async with open_client(url) as redis:
            await work(Store(redis, rules or policy(), shards=shards))

    trio.run(main)
