"""Releases what is held into the lanes when its moment has come, no more than they bear.

One dispatcher at a time feeds a shard; another goes on within seconds where that one died. A
message that is released asks again whether it may start, so nothing is lost or sent too early by
two that feed at once. A lane gets of each app what its provider sends within seconds: a million
that open at nine do not stand before what comes in at one past, and what waits of one app keeps
none of another's back. A campaign's own queues are left alone while it is paused; its first steps
are released at its pace, which is one schedule for all shards. Where its start, end or send window
was changed all that waits for a moment is asked again, when every process surely knows; when it is
over all that waits is released, to end. What waits for a budget is released as far as that has
room. Queues of a kind that a later version made are left to it, and one that fails keeps no other
waiting. While a shard is unavailable, it is
tried again.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from functools import partial
from typing import NamedTuple

import structlog

from gateway.core.events import Released
from gateway.dispatch.apart import Apart
from gateway.dispatch.deps import DispatchDeps
from gateway.store import quarantine, shared_keys
from gateway.store.campaigns.declarations import KNOWN_EVERYWHERE_MS
from gateway.store.keys import keys_of
from gateway.store.messages.apply import Item
from gateway.store.waiting import lanes, queues
from gateway.store.waiting.queues import AppLane, CampaignQueue, place_of
from ratelimit.limiter import RunScript, pace_of, take_in_pace

LOOK_S = 0.5
FORGET_MS = 60_000
LATELY_MS = 60_000
TOGETHER = 200  # released by one commit
COMMITS_MAX = 50  # of one queue, before the others have their turn
AHEAD_S = 5  # how much of what its provider sends a lane is filled with
LANE_MIN = 200

STUCK_MS = 10_000


class Stuck(NamedTuple):
    """What did not fit into how much of a budget, and until when that is not tried again."""

    first: str
    left: int
    until_ms: int


_NOT_STUCK = Stuck("", 0, 0)

_log = structlog.get_logger("dispatch")


async def run(deps: DispatchDeps, shard: int, run_script: RunScript) -> None:
    """Feeds one shard's lanes until cancelled."""
    fed: defaultdict[str, dict[AppLane, int]] = defaultdict(dict)  # by queue, and when last
    asked: dict[str, int] = {}  # by queue, after which change of its campaign
    stuck: dict[str, Stuck] = {}  # by queue
    apart = Apart("feeder")

    async def feed_any(name: str) -> float:
        if (queue := queues.campaign_of(name)) is not None:
            await ask_again(deps, shard, name, queue.campaign, asked)
            return await feed_campaign(deps, shard, name, queue, run_script, fed[name])
        if (lane := queues.lane_of(name)) is not None:
            return await feed(deps, shard, name, lane)
        if (budget := queues.budget_of(name)) is not None:
            return await feed_budget(deps, shard, name, budget, fed[name], stuck)
        return LOOK_S

    async def turn() -> float:
        pause_s = LOOK_S
        if deps.store.queues.names and await queues.may_feed(deps.redis, shard, deps.consumer):
            for name in deps.store.queues.names:
                pause_s = min(pause_s, await apart.take(name, partial(feed_any, name), LOOK_S))
        return pause_s

    await deps.redis_retry("feeder").for_ever(turn)


async def look(deps: DispatchDeps) -> None:
    """Learns which queues there are, and what is declared of campaigns, until cancelled, and gives
    back what was leased of budgets in vain. Once a minute it drops the names of queues that are
    used no more."""
    forget_ms = 0

    async def turn() -> float:
        nonlocal forget_ms
        now_ms = deps.clock()
        await deps.store.look_at_campaigns(now_ms)
        await deps.store.queues.look(deps.redis, now_ms)
        await deps.store.give_back_leases(now_ms)
        if now_ms >= forget_ms:
            await deps.store.queues.forget(deps.redis, deps.store.shards, now_ms)
            forget_ms = now_ms + FORGET_MS
        return LOOK_S

    await deps.redis_retry("queues").for_ever(turn)


async def ask_again(
    deps: DispatchDeps, shard: int, name: str, campaign: str, asked: dict[str, int]
) -> None:
    """Has a campaign's queue asked again, once after each change of the moments that it waits for.
    `asked` says after which that was done, as far as this process knows. Raises
    RedisUnavailable."""
    declared, now_ms = deps.store.policy.declared.of(campaign), deps.clock()
    changed_ms = declared.moved_ms if declared is not None else 0
    if changed_ms == asked.get(name, 0) or changed_ms + KNOWN_EVERYWHERE_MS > now_ms:
        return
    if await queues.asked_ms(deps.redis, shard, name) != changed_ms:
        await queues.ask_again(deps.redis, shard, name, now_ms)
        await queues.note_asked(deps.redis, shard, name, changed_ms)
    asked[name] = changed_ms


async def feed(deps: DispatchDeps, shard: int, name: str, lane: AppLane) -> float:
    """Releases what is due in one queue, as long as the lane it goes into has room; in how
    many seconds there may be more. Raises RedisUnavailable."""
    for _ in range(COMMITS_MAX):
        now_ms = deps.clock()
        ids = await queues.due(deps.redis, shard, name, now_ms, TOGETHER)
        room = await _room(deps, shard, [lane]) if ids else 0
        if room <= 0:
            return LOOK_S
        await _release(deps, shard, name, ids[:room], now_ms)
        if len(ids) < TOGETHER:
            return LOOK_S
    return 0.0


async def feed_campaign(
    deps: DispatchDeps,
    shard: int,
    name: str,
    queue: CampaignQueue,
    run_script: RunScript,
    fed: dict[AppLane, int],
) -> float:
    """Releases what waits of one campaign, unless it is paused: first steps at its pace, and as
    long as the lanes it went into lately have room. `fed` says which and when, from turn to turn.
    Returns in how many seconds there may be more. Raises RedisUnavailable."""
    for _ in range(COMMITS_MAX):
        declared, now_ms = deps.store.policy.declared.of(queue.campaign), deps.clock()
        is_over = declared is not None and declared.is_over(now_ms)
        if declared is not None and declared.state == "paused" and not is_over:
            return LOOK_S
        found = await queues.due(deps.redis, shard, name, now_ms, TOGETHER)
        room = await _room(deps, shard, _lately(fed, now_ms)) if found else 0
        if room <= 0:
            return LOOK_S
        ids, next_ms = found[:room], 0
        if queue.of_first and declared is not None and declared.pace_per_min and not is_over:
            pace = pace_of(declared.pace_per_min)
            places = await take_in_pace(
                run_script, shared_keys.pace(queue.campaign), pace, len(ids)
            )
            if places.granted < len(ids):
                next_ms = now_ms + places.wait_us // 1000 + 1
            ids = ids[: places.granted]
        released = await _release(deps, shard, name, ids, now_ms, in_pace=True)
        fed.update(dict.fromkeys(released, now_ms))
        if next_ms:
            return max(next_ms - deps.clock(), 0) / 1000
        if len(ids) == len(found) < TOGETHER:
            return LOOK_S
    return 0.0


async def feed_budget(
    deps: DispatchDeps,
    shard: int,
    name: str,
    budget: str,
    fed: dict[AppLane, int],
    stuck: dict[str, Stuck],
) -> float:
    """Releases what waits for a budget, in order and as far as it has room, one to begin with. The
    first that does not fit is not tried again before more is free, or STUCK_MS have passed: another
    process may have had it all for that moment. What waits for a budget that is gone waits no more.
    Returns in how many seconds there may be more. Raises RedisUnavailable."""
    store, count = deps.store, 1
    before: Sequence[str] = ()
    for _ in range(COMMITS_MAX):
        now_ms = deps.clock()
        ids = await queues.due(deps.redis, shard, name, now_ms, TOGETHER)
        room = await _room(deps, shard, _lately(fed, now_ms)) if ids else 0
        if room <= 0:
            return LOOK_S
        known = [each for each in store.policy.budgets if each.name == budget]
        free = await store.budgets.free(deps.redis, known, store.shards, now_ms)
        left = free.get(budget, 1)
        last = stuck.get(name, _NOT_STUCK)
        again = ids[0] == last.first and now_ms < last.until_ms
        if left <= (last.left if again else 0):
            return LOOK_S
        stuck[name] = Stuck(ids[0], left, now_ms + STUCK_MS)
        count = 1 if ids[0] in before else min(4 * count, room)
        before = ids[:count]
        released = await _release(deps, shard, name, before, now_ms)
        fed.update(dict.fromkeys(released, now_ms))
    return 0.0


def _lately(fed: Mapping[AppLane, int], now_ms: int) -> list[AppLane]:
    """The lanes to which a campaign's messages go; after a while it is tried whether they still do,
    so that a lane that stays full does not stop what goes elsewhere for good."""
    return [lane for lane, at_ms in fed.items() if now_ms < at_ms + LATELY_MS]


async def _room(deps: DispatchDeps, shard: int, fed: Iterable[AppLane]) -> int:
    """How many more messages the fullest of these lanes is to have of its app; enough of one that
    nobody reads."""
    room, store, now_ms = TOGETHER, deps.store, deps.clock()
    lanes_of = list(fed)
    await store.lines.learn(deps.redis, now_ms, {lane.app for lane in lanes_of if lane.app})
    for provider, category, app in lanes_of:
        sending = deps.providers.get(store.policy.present(provider))
        if sending is None:
            continue
        bears = max(sending.config.rate_per_s * AHEAD_S // store.shards, LANE_MIN)
        lines = [store.lines.of(app, now_ms)] if app else range(store.lines.count)
        names = [keys_of(shard).lane(provider, category, line) for line in lines]
        states = await lanes.states(deps.redis, names, now_ms)
        room = min(room, bears - sum(state.length for state in states))
    return room


async def _release(
    deps: DispatchDeps,
    shard: int,
    name: str,
    ids: Sequence[str],
    now_ms: int,
    *,
    in_pace: bool = False,
) -> set[AppLane]:
    """Releases messages; the lanes they went into. What an earlier version put into another queue
    than this one would is taken from it."""
    stale, later, fed = list[str](), dict[str, int](), set[AppLane]()
    items = [Item(id_, Released(in_pace), shard=shard) for id_ in ids]
    newer = 0
    for applied in await deps.store.apply(items, now_ms):
        id_, message = applied.item.message_id, applied.message
        place = place_of(message) if message is not None else None
        if applied.newer or applied.postponed:
            newer += 1
            later[id_] = now_ms + quarantine.LATER_MS
        elif place is not None and place.queue == name:
            later[id_] = place.moment_ms  # its commit says so only where its record changed
        elif place is not None or not applied.effects.changed:
            stale.append(id_)
        elif applied.effects.lane is not None and message is not None:
            fed.add(AppLane(*applied.effects.lane, message.app))
    await queues.drop(deps.redis, shard, name, stale)
    await queues.put_off(deps.redis, shard, name, later)
    if newer:
        _log.info("held messages are left to a newer Kaskad", shard=shard, n=newer)
    return fed
