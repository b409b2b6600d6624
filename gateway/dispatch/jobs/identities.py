"""Finishes copying what is known of persons to the shards of their other identities.

A commit that changed a person does it at once; this does it for a process that died in between.
What is copied is said in `gateway.store.cross_shard`. While Redis is unavailable, it is tried
again.
"""

from __future__ import annotations

from gateway.dispatch.deps import DispatchDeps
from gateway.store import cross_shard as reserve

LOOK_S = 5.0


async def run(deps: DispatchDeps, shard: int) -> None:
    """Looks after one shard's notes until cancelled; with one shard there are never any."""

    async def turn() -> float:
        copied = await reserve.copy_states(deps.store, shard, deps.clock())
        return 0.0 if copied >= reserve.SYNC_COUNT else LOOK_S

    await deps.redis_retry("identities").for_ever(turn)
