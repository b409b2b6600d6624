"""Cuts the apps' streams of status changes to what `retention.events_max` keeps.

How is in `gateway.store.event_marks`. While a shard is unavailable, it is tried again.
"""

from __future__ import annotations

from gateway.dispatch.deps import DispatchDeps
from gateway.store.event_marks import cut_events
from gateway.store.keys import keys_of

LOOK_S = 5.0


async def run(deps: DispatchDeps, shard: int) -> None:
    """Looks after one shard's streams until cancelled."""
    # An app's persons are spread over all shards.
    changes_max = -(-deps.store.retention.events_max // deps.store.shards)

    async def turn() -> float:
        await cut_events(deps.redis, keys_of(shard), changes_max)
        return LOOK_S

    await deps.redis_retry("events").for_ever(turn)
