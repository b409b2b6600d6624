"""Cuts streams to what is kept: the apps' status changes (`retention.events_max`), and the index of
messages; and what people wrote back.

How is in `gateway.store.events.event_marks` and `gateway.store.messages.person_index`. While a
shard is unavailable, it is tried again.
"""

from __future__ import annotations

from functools import partial

from gateway.core.policy import TTL_MAX_MS
from gateway.dispatch.apart import Apart
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

    keys, apart = keys_of(shard), Apart("events")

    async def turn() -> float:
        # Until nothing of a message is kept any more, a claim neither.
        kept_ms = max(deps.store.retention.message_ms, deps.store.policy.dedupe_ms)
        oldest_ms = deps.clock() - TTL_MAX_MS - kept_ms
        cut_changes = partial(cut_events, deps.redis, keys, changes_max, oldest_ms)
        await apart.take("changes", cut_changes, None)
        await apart.take("index", partial(person_index.cut, deps.redis, keys, oldest_ms), None)
        if shard == 0:
            replied_ms = deps.clock() - replies.KEPT_MS
            await apart.take("replies", partial(replies.cut, deps.redis, replied_ms), None)
        return LOOK_S

    await deps.redis_retry("events").for_ever(turn)
