"""Cancels what is under way of campaigns that were cancelled, in batches.

From the moment on at which the processes know of it no step of such a campaign starts: whoever
claims or releases one cancels it. This job does the same for all the others: it goes through the
timers of a shard, where every live message stands, a page at a time, while the shard is fed by this
dispatcher. Which shards are through stands in Redis; begun anew after a death, it cancels
what is left. It begins when every process surely knows, so that nothing is accepted behind
it.
"""

from __future__ import annotations

import structlog

from gateway.core import campaigns
from gateway.core.events import Cancelled
from gateway.dispatch.deps import DispatchDeps
from gateway.store import cancelling, queues, reads
from gateway.store.apply import Item
from gateway.store.declarations import KNOWN_EVERYWHERE_MS

LOOK_S = 1.0

_log = structlog.get_logger("dispatch")


async def run(deps: DispatchDeps, shard: int) -> None:
    """Cancels in one shard until cancelled itself."""

    async def turn() -> float:
        declared = deps.store.policy.declared.campaigns
        begun_ms = deps.clock() - KNOWN_EVERYWHERE_MS
        names = {
            name
            for name, campaign in declared.items()
            if campaign.state == "cancelled" and campaign.cancelled_ms <= begun_ms
        }
        if names and await queues.may_feed(deps.redis, shard, deps.consumer):
            await cancel(deps, shard, names)
        return LOOK_S

    await deps.redis_retry("cancelling").for_ever(turn)


async def cancel(deps: DispatchDeps, shard: int, names: set[str]) -> None:
    """Cancels what there is of campaigns in one shard, once. Raises RedisUnavailable."""
    left = await cancelling.unfinished(deps.redis, shard, names)
    if not left:
        return
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
            return
    await cancelling.finish(deps.redis, shard, left)
    _log.info("campaigns cancelled", shard=shard, campaigns=sorted(left), n=cancelled)
