"""Ends what waits outside its campaign's queues once that campaign is over.

What waits for a budget or for a time zone stands in queues of all campaigns, and has its timer at
the end it was accepted with; where the campaign's end came nearer since, nobody else meets it in
time. So those queues are gone through once after each campaign's end, a page at a time, while the
shard is fed by this dispatcher. How far that came stands in Redis; begun anew after a death, it
ends what is left. It begins when every process surely knows of the end, so that nothing is accepted
behind it. Where no such queue is, nothing is asked.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial

import structlog

from gateway.core.events import Released
from gateway.dispatch.apart import Apart
from gateway.dispatch.deps import DispatchDeps
from gateway.store.campaigns.declarations import KNOWN_EVERYWHERE_MS
from gateway.store.messages import reads
from gateway.store.messages.apply import Item
from gateway.store.waiting import queues

LOOK_S = 1.0

_log = structlog.get_logger("dispatch")


async def run(deps: DispatchDeps, shard: int) -> None:
    """Ends in one shard until cancelled."""
    through: dict[str, int] = {}  # by queue, the ends up to which it was gone through
    apart = Apart("ending")

    async def go_through(name: str, ends: Mapping[str, int], last_ms: int) -> None:
        through[name] = await queues.asked_ms(deps.redis, shard, name)
        over = {each for each, ended_ms in ends.items() if ended_ms > through[name]}
        if over and await end(deps, shard, name, over):
            await queues.note_asked(deps.redis, shard, name, last_ms)
            through[name] = last_ms

    async def turn() -> float:
        names = [name for name in deps.store.queues.names if queues.is_of_all(name)]
        ends = _ends(deps) if names else {}
        last_ms = max(ends.values(), default=0)
        for name in names:
            if through.get(name, 0) >= last_ms:
                continue
            if not await queues.may_feed(deps.redis, shard, deps.consumer):
                break
            await apart.take(name, partial(go_through, name, ends, last_ms), None)
        return LOOK_S

    await deps.redis_retry("ending").for_ever(turn)


def _ends(deps: DispatchDeps) -> dict[str, int]:
    """The campaigns that every process knows to be over, and since when: an end that was moved into
    the past came when it was moved."""
    known_ms = deps.clock() - KNOWN_EVERYWHERE_MS
    ends = {
        name: max(campaign.end_ms, campaign.moved_ms)
        for name, campaign in deps.store.policy.declared.campaigns.items()
        if campaign.end_ms
    }
    return {name: ended_ms for name, ended_ms in ends.items() if ended_ms <= known_ms}


async def end(deps: DispatchDeps, shard: int, name: str, over: set[str]) -> bool:
    """Ends what waits in a queue of campaigns that are over; False where another dispatcher feeds
    the shard by now. Raises RedisUnavailable."""
    ended, cursor = 0, 0
    while True:
        cursor, ids = await queues.page(deps.redis, shard, name, cursor)
        found = await reads.messages(deps.store, shard, ids)
        items = [
            Item(id_, Released(), shard=shard)
            for id_, message in found.items()
            if message is not None and message.campaign in over
        ]
        applied = await deps.store.apply(items, deps.clock())
        ended += sum(each.effects.changed for each in applied)
        if not cursor:
            break
        if not await queues.may_feed(deps.redis, shard, deps.consumer):
            return False
    if ended:
        _log.info("campaigns over", shard=shard, campaigns=sorted(over), n=ended)
    return True
