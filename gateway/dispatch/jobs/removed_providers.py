"""Ends what waits for providers that nothing is sent to any more: removed ones and retired ones.

No worker reads their lanes, so what waits there would wait for its time to be over. Where a step
has another provider, that takes it over. A provider is removed once no process has it
(`gateway.store.providers.providers`), and who just began to look, or could not for a while, waits
for as long before it says so: after Redis was away nobody has said anything lately, and others that
start with it are a moment later. A retired one is known as such at once. A step that is being sent
is looked at again, or has lost its answer, as in `recovery`. While a shard is unavailable, it is
tried again.
"""

from __future__ import annotations

import random
from collections.abc import Sequence

import structlog
import trio

from gateway.core.effects import Effects
from gateway.core.events import ProviderGone
from gateway.dispatch.deps import CATEGORIES, DispatchDeps
from gateway.dispatch.worker import claim
from gateway.dispatch.worker.claim import Entry
from gateway.store.keys import keys_of
from gateway.store.messages.apply import Item
from gateway.store.providers import pauses, providers
from gateway.store.waiting import lanes
from gateway.store.waiting.lanes import WaitingEntry
from providers.contract import Category

LOOK_S = 1.0  # between two looks, give or take a quarter: dispatchers share the work
SURE_S = providers.GONE_AFTER_MS / 1000
UNBROKEN_S = 10.0  # between two looks, at most, of who has looked all the time
READ_COUNT = 200  # entries of a lane at once

_log = structlog.get_logger("dispatch")


class Lookout:
    """Since when this process has looked without a break."""

    def __init__(self, now: float) -> None:
        self._since = self._last = now

    def is_sure(self, now: float) -> bool:
        """Whether it has looked for long enough to say who is gone."""
        if now - self._last > UNBROKEN_S:
            self._since = now
        return now - self._since >= SURE_S

    def looked(self, now: float) -> None:
        """Redis answered what was asked at this moment."""
        self._last = now


async def run(deps: DispatchDeps) -> None:
    """Says which providers this dispatcher has and looks after the lanes of the others, until
    cancelled."""
    removed: set[str] = set()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(_keep_looking, deps, removed)
        for shard in range(deps.store.shards):
            nursery.start_soon(_keep_ending, deps, shard, removed)


async def find(deps: DispatchDeps, *, sure: bool) -> list[str]:
    """The providers that nobody sends for; of removed ones only who is `sure` says so. Raises
    RedisUnavailable."""
    policy, now_ms = deps.store.policy, deps.clock()
    await providers.announce(deps.redis, (*policy.providers, *policy.former), now_ms)
    removed = await providers.gone(deps.redis, now_ms) if sure else []
    for name in removed:
        await pauses.delete(deps.redis, name)
    return removed + [name for name, rule in policy.providers.items() if rule.retired]


async def end(deps: DispatchDeps, shard: int, provider: str) -> bool:
    """Ends what waits for a provider in a shard; whether there may be more. Raises
    RedisUnavailable."""
    keys = keys_of(shard)
    lines = range(deps.store.lines.count)
    places = {
        keys.lane(name, category, line): (name, category)
        for name in deps.store.policy.names_of(provider)
        for category in CATEGORIES
        for line in lines
    }
    states = await lanes.states(deps.redis, list(places), deps.clock())
    filled = [lane for lane, state in zip(places, states, strict=True) if state.length]
    if not filled:
        return False
    await lanes.ensure_groups(deps.redis, shard, [places[lane] for lane in filled], lines)
    ours = await lanes.held(deps.redis, deps.consumer, filled)
    if len(ours) < READ_COUNT:
        found = await lanes.read(deps.redis, deps.consumer, [(n, READ_COUNT) for n in filled])
        ours += [waiting for waitings in found.values() for waiting in waitings]
    deads = [w for lane in filled for w in await lanes.take_over(deps.redis, deps.consumer, lane)]
    category_of = {lane: category for lane, (_, category) in places.items()}
    done = await _end(deps, provider, _entries(ours, category_of, shard), dead=False)
    done += await _end(deps, provider, _entries(deads, category_of, shard), dead=True)
    moved = sum(effects.lane is not None and effects.fallback is None for effects in done)
    if ended := len(done) - moved:
        _log.warning("ended what waited for a provider that is gone", provider=provider, n=ended)
        deps.metrics.provider_removed.inc(ended)
    if moved:
        _log.info("another has what waited for a provider that is gone", provider=provider, n=moved)
    return bool(done)


async def _end(
    deps: DispatchDeps, provider: str, entries: Sequence[Entry], *, dead: bool
) -> list[Effects]:
    """What became of those that waited."""
    if not entries:
        return []
    now_ms = deps.clock()
    resolved = await claim.resolve(deps.store, provider, entries, now_ms, dead=dead)
    gone = ProviderGone(provider)
    items = [Item(entry.message_id, gone, entry.at) for entry in resolved.queued]
    applied = await deps.store.apply(items, now_ms)
    return [done.effects for done in applied if done.effects.changed]


async def _keep_looking(deps: DispatchDeps, removed: set[str]) -> None:
    lookout = Lookout(trio.current_time())

    async def turn() -> float:
        now = trio.current_time()
        found = await find(deps, sure=lookout.is_sure(now))
        lookout.looked(now)
        removed.clear()
        removed.update(found)
        return LOOK_S * (0.75 + random.random() / 2)

    await deps.redis_retry("removed providers").for_ever(turn)


async def _keep_ending(deps: DispatchDeps, shard: int, removed: set[str]) -> None:
    async def turn() -> float:
        more = [await end(deps, shard, provider) for provider in sorted(removed)]
        return 0.0 if any(more) else LOOK_S * (0.75 + random.random() / 2)

    await deps.redis_retry("removed providers").for_ever(turn)


def _entries(
    waitings: Sequence[WaitingEntry], category_of: dict[str, Category], shard: int
) -> list[Entry]:
    """One entry a message; another of the same message is looked at next time."""
    by_id = {w.message_id: w for w in reversed(waitings)}
    return [Entry(id_, w.at, category_of[w.at.lane], shard) for id_, w in by_id.items()]
