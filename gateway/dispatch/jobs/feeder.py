"""Releases what is held into the lanes when its moment has come, no more than they bear.

One dispatcher at a time feeds a shard; another goes on within seconds where that one died. A
message that is released asks again whether it may start, so nothing is lost or sent too early by
two that feed at once. A lane gets what its provider sends within seconds: a million that open at
nine do not stand before what comes in at one past. While a shard is unavailable, it is tried again.
"""

from __future__ import annotations

import structlog

from gateway.core.events import Released
from gateway.dispatch.deps import DispatchDeps
from gateway.store import lanes, quarantine, queues
from gateway.store.apply import Item
from gateway.store.keys import keys_of

LOOK_S = 0.5
TOGETHER = 200  # released by one commit
AHEAD_S = 5  # how much of what its provider sends a lane is filled with
LANE_MIN = 200

_log = structlog.get_logger("dispatch")


async def run(deps: DispatchDeps, shard: int) -> None:
    """Feeds one shard's lanes until cancelled."""

    async def turn() -> float:
        if deps.store.queues.names and await queues.may_feed(deps.redis, shard, deps.consumer):
            for name in deps.store.queues.names:
                await feed(deps, shard, name)
        return LOOK_S

    await deps.redis_retry("feeder").for_ever(turn)


async def look(deps: DispatchDeps) -> None:
    """Learns which queues there are until cancelled."""

    async def turn() -> float:
        await deps.store.queues.look(deps.redis)
        await deps.store.queues.forget(deps.redis, deps.store.shards, deps.clock())
        return LOOK_S

    await deps.redis_retry("queues").for_ever(turn)


async def feed(deps: DispatchDeps, shard: int, name: str) -> None:
    """Releases what is due in one queue, as long as the lane it goes into has room. Raises
    RedisUnavailable."""
    while (room := await _room(deps, shard, name)) > 0:
        now_ms = deps.clock()
        ids = await queues.due(deps.redis, shard, name, now_ms, min(room, TOGETHER))
        if ids:
            await _release(deps, shard, name, ids, now_ms)
        if len(ids) < TOGETHER:
            return


async def _room(deps: DispatchDeps, shard: int, name: str) -> int:
    """How many more messages the queue's lane is to have; enough of one that nobody reads."""
    _, provider, category = name.split(":")
    sending = deps.providers.get(deps.store.policy.present(provider))
    if sending is None:
        return TOGETHER
    bears = max(sending.config.rate_per_s * AHEAD_S // deps.store.shards, LANE_MIN)
    lines = range(deps.store.lines.count)
    names = [keys_of(shard).lane(provider, category, line) for line in lines]
    states = await lanes.states(deps.redis, names, deps.clock())
    return bears - sum(state.length for state in states)


async def _release(deps: DispatchDeps, shard: int, name: str, ids: list[str], now_ms: int) -> None:
    items = [Item(id_, Released(), shard=shard) for id_ in ids]
    stale, later = [], []
    for applied in await deps.store.apply(items, now_ms):
        if applied.newer or applied.postponed:
            later.append(applied.item.message_id)
        elif applied.message is None or not applied.effects.changed:
            stale.append(applied.item.message_id)
    await queues.drop(deps.redis, shard, name, stale)
    await queues.put_off(deps.redis, shard, name, later, now_ms + quarantine.LATER_MS)
    if later:
        _log.info("held messages are left to a newer Kaskad", shard=shard, n=len(later))
