"""Fires due timers: a retry's delay is over, a step's time is up, a look-up is due.

What a timer means is the cascade's. Several dispatchers look at the same timers: the first one's
commit moves the timer, the others find nothing to do, and a spread of the waits keeps them apart. A
timer whose message is gone is forgotten; that of a newer Kaskad's message is left to it, and that
of one which cannot be decided was set aside or put off. While its shard is unavailable, it is tried
again.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Mapping

import structlog

from gateway.core.events import TimerDue
from gateway.core.records.message import Message
from gateway.dispatch.deps import DispatchDeps
from gateway.dispatch.pauses import Pauses
from gateway.failpoints import failpoint
from gateway.store.messages.apply import Item
from gateway.store.waiting import lanes

LOOK_S = 0.2  # at most, between two looks at a shard that has nothing due

_log = structlog.get_logger("dispatch")


async def run(
    deps: DispatchDeps, shard: int, ask: Callable[[Message], None], pauses: Pauses
) -> None:
    """Looks after one shard's timers until cancelled. `ask` is given messages whose current step
    is to be looked up; it must not wait."""

    async def turn() -> float:
        full = await fire(deps, shard, ask, away_of(deps, pauses))
        return 0.0 if full else LOOK_S * (1.0 - random.random() / 2)

    await deps.redis_retry("timers").for_ever(turn)


def away_of(deps: DispatchDeps, pauses: Pauses) -> dict[str, int]:
    """The providers that are away, and since when."""
    found = {name: pauses.of(name) for name in deps.providers}
    return {name: pause.since for name, pause in found.items() if pause is not None}


async def fire(
    deps: DispatchDeps, shard: int, ask: Callable[[Message], None], away: Mapping[str, int]
) -> bool:
    """Fires what is due now; whether there may be more. `away` is what `away_of` says. Raises
    RedisUnavailable."""
    now_ms, event = deps.clock(), TimerDue(away)
    changed = left = 0
    while due := await lanes.due_timers(deps.redis, shard, now_ms, left):
        failpoint("timer_due")
        fired, newer = await _fire(deps, shard, due, event, now_ms, ask)
        changed += fired
        left += newer
        if fired or not newer or len(due) < lanes.TIMERS_COUNT:
            break
    deps.metrics.timers.inc(changed)
    return changed > 0 and len(due) >= lanes.TIMERS_COUNT


async def _fire(
    deps: DispatchDeps,
    shard: int,
    due: list[str],
    event: TimerDue,
    now_ms: int,
    ask: Callable[[Message], None],
) -> tuple[int, int]:
    """How many of these timers changed a message, and how many were left alone."""
    changed = newer = 0
    for applied in await deps.store.apply([Item(id_, event, shard=shard) for id_ in due], now_ms):
        if applied.newer:
            newer += 1
            continue
        if applied.set_aside or applied.postponed:
            changed += 1
            continue
        if applied.message is None:
            await lanes.drop_timer(deps.redis, shard, applied.item.message_id)
            _log.warning("a timer's message is gone", message=applied.item.message_id)
            continue
        changed += applied.effects.changed
        if applied.effects.look_up:
            ask(applied.message)
        if applied.effects.lane is not None:
            failpoint("fallback_queued")
    if newer:
        _log.info("timers of a newer Kaskad are left to it", shard=shard, n=newer)
    return changed, newer
