"""Has the workers read every line of their lanes that an app stands in.

Each dispatcher looks once a second how many lines there are; what a new one holds is read from its
beginning. The groups of new lines are made before anybody reads them. While Redis is unavailable,
it is tried again, and the lines that are known are read.
"""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import suppress

from gateway.dispatch.deps import CATEGORIES, DispatchDeps
from gateway.dispatch.redis_retry import RETRYABLE
from gateway.dispatch.worker.worker import ProviderWorker
from gateway.store.waiting import lanes

LOOK_S = 1.0


async def run(deps: DispatchDeps, workers: Sequence[ProviderWorker]) -> None:
    """Looks until cancelled."""

    async def turn() -> float:
        await look(deps, workers)
        return LOOK_S

    await deps.redis_retry("lines").for_ever(turn)


async def look(deps: DispatchDeps, workers: Sequence[ProviderWorker]) -> None:
    """One look. Raises RedisUnavailable."""
    policy, lines = deps.store.policy, deps.store.lines
    count = await lines.announce(deps.redis)
    if count > lines.count:
        names = [name for worker in workers for name in policy.names_of(worker.name)]
        every = [(name, category) for name in names for category in CATEGORIES]
        for shard in range(deps.store.shards):
            # A shard that is away has no groups of them: its readers make them when they find none.
            with suppress(*RETRYABLE):
                await lanes.ensure_groups(deps.redis, shard, every, range(lines.count, count))
        lines.count = count
    for worker in workers:
        worker.reader.read_lines()
