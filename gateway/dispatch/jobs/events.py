"""Cuts streams to what is kept: the apps' status changes (`retention.events_max`), and the index of
messages; and what people wrote back.

How is in `gateway.store.events.event_marks` and `gateway.store.messages.person_index`. While a
shard is unavailable, it is tried again.
"""

from __future__ import annotations

from gateway.core.policy import TTL_MAX_MS
from gateway.dispatch.deps import DispatchDeps
from gateway.store.events.event_marks import cut_events
from gateway.store.keys import keys_of
from gateway.store.messages import person_index
from gateway.store.people import replies

LOOK_S = 5.0


async def run(deps: DispatchDeps, shard: int) -> None:
    """Looks after one shard's streams until cancelled."""
    # An app's persons are spread over all shards.
    changes_max = -(-deps.store.retention.events_max // deps.store.shards)

    async def turn() -> float:
        await cut_events(deps.redis, keys_of(shard), changes_max)
        # Until nothing of a message is kept any more, a claim neither.
        kept_ms = max(deps.store.retention.message_ms, deps.store.policy.dedupe_ms)
        oldest_ms = deps.clock() - TTL_MAX_MS - kept_ms
        await person_index.cut(deps.redis, keys_of(shard), oldest_ms)
        if shard == 0:
            await replies.cut(deps.redis, deps.clock() - replies.KEPT_MS)
        return LOOK_S

    await deps.redis_retry("events").for_ever(turn)
