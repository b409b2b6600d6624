"""Cancels what is under way of campaigns that were cancelled, in batches.

From the moment on at which the processes know of it no step of such a campaign starts: whoever
claims or releases one cancels it. This job does the same for all the others: it goes through the
timers of a shard, where every live message stands, a page at a time, while the shard is fed by this
dispatcher. Which shards are through stands in Redis; begun anew after a death, it cancels
what is left. It goes through them as soon as it knows, and once more when every process surely
does, so that nothing is accepted behind it: a shard is through after that.
"""

from __future__ import annotations

from collections.abc import Set

import structlog

from gateway.core.campaigns import campaigns
from gateway.core.events import Cancelled
from gateway.dispatch.deps import DispatchDeps
from gateway.store.campaigns import cancelling
from gateway.store.campaigns.declarations import KNOWN_EVERYWHERE_MS
from gateway.store.messages import reads
from gateway.store.messages.apply import Item
from gateway.store.waiting import queues

LOOK_S = 1.0

_log = structlog.get_logger("dispatch")


async def run(deps: DispatchDeps, shard: int) -> None:
    """Cancels in one shard until cancelled itself."""
    early: set[str] = set()  # gone through before every process knew

    async def turn() -> float:
        known_ms = deps.clock() - KNOWN_EVERYWHERE_MS
        declared = deps.store.policy.declared
        known = {n for n in declared.cancelled if declared.campaigns[n].cancelled_ms <= known_ms}
        fresh = declared.cancelled - known - early
        if (known or fresh) and await queues.may_feed(deps.redis, shard, deps.consumer):
            if fresh and await cancel(deps, shard, fresh):
                early.update(fresh)
            if known and (through := await cancel(deps, shard, known)):
                await cancelling.finish(deps.redis, shard, through)
        early.intersection_update(declared.cancelled - known)
        return LOOK_S

    await deps.redis_retry("cancelling").for_ever(turn)


async def cancel(deps: DispatchDeps, shard: int, names: Set[str]) -> Set[str]:
    """Cancels what there is of campaigns in one shard, once, and returns of which; of none where
    the shard is fed by another meanwhile. Raises RedisUnavailable."""
    left = await cancelling.unfinished(deps.redis, shard, names)
    if not left:
        return left
    cancelled, cursor = 0, 0
    while True:
        cursor, ids = await cancelling.page(deps.redis, shard, cursor)
        found = await reads.messages(deps.store, shard, ids)
        event = Cancelled(reason=campaigns.CANCELLED)
        items = [
            Item(id_, event, shard=shard)
            for id_, message in found.items()
            if message is not None and message.campaign in left and not message.finished
        ]
        applied = await deps.store.apply(items, deps.clock())
        cancelled += sum(each.effects.changed for each in applied)
        if not cursor:
            break
        if not await queues.may_feed(deps.redis, shard, deps.consumer):
            return frozenset()
    _log.info("campaigns cancelled", shard=shard, campaigns=sorted(left), n=cancelled)
    return left
