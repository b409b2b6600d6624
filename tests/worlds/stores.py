"""A store on a test's Redis, for as long as some work with it takes."""

from __future__ import annotations

from collections.abc import Awaitable, Callable

import trio

from gateway.core.policy import Policy
from gateway.redis.trio_driver import open_client
from gateway.store.store import Store
from tests.worlds.cascade_world import policy

Work = Callable[[Store], Awaitable[None]]
MetWork = Callable[[Store, int], Awaitable[bool]]  # whether something came between at that call


def in_store(url: str, work: Work, rules: Policy | None = None, *, shards: int = 1) -> None:
    """Does the work with a store whose rules are the usual ones, or those given."""

    async def main() -> None:
        async with open_client(url) as redis:
            await work(Store(redis, rules or policy(), shards=shards))

    trio.run(main)


def at_each_call(url: str, work: MetWork, *, shards: int, most: int = 60) -> list[int]:
    """Does the work on an empty Redis, while something is to come between at its first call, then
    at its second, until nothing does. Returns the calls at which something did, up to `most`."""
    met: list[int] = []

    async def once(store: Store) -> None:
        await store.redis.call([("FLUSHALL",)])
        if await work(store, len(met)):
            met.append(len(met))

    for at in range(most):
        in_store(url, once, shards=shards)
        if len(met) == at:
            break
    return met
