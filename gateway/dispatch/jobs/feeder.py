"""Releases what is held into the lanes when its moment has come, no more than they bear.

One dispatcher at a time feeds a shard; another goes on within seconds where that one died. A
message that is released asks again whether it may start, so nothing is lost or sent too early by
two that feed at once. A lane gets of each app what its provider sends within seconds: a million
that open at nine do not stand before what comes in at one past, and what waits of one app keeps
none of another's back, as they take turns. Which queues have something due is asked at once of all:
of 1,500 queues of 500 apps a round trip each took 10 % of a core and shard while nothing was due,
and 1 % together (2026-11-30). A campaign's own queues are left alone while it is paused; its first
steps are released at its pace, which is one schedule for all shards. Where its start, end or send
window was changed all that waits for a moment is asked again, when every process surely knows; when
it is over all that waits is released, to end. What waits for a budget is released as far as that
has room. Queues of a kind that a later version made are left to it, and one that fails keeps no
other waiting. While a shard is unavailable, it is tried again.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from functools import partial
from typing import Any, NamedTuple

import structlog

from gateway.core.events import Released
from gateway.dispatch.apart import Apart
from gateway.dispatch.deps import DispatchDeps
from gateway.dispatch.jobs.app_turns import in_turn, whose_turn
from gateway.store import quarantine, shared_keys
from gateway.store.campaigns.declarations import KNOWN_EVERYWHERE_MS
from gateway.store.keys import keys_of
from gateway.store.messages.apply import Item
from gateway.store.waiting import lanes, queues
from gateway.store.waiting.queues import AppLane, CampaignQueue, place_of
from providers.contract import Provider
from ratelimit.limiter import RunScript, pace_of, take_in_pace

LOOK_S = 0.5
FORGET_MS = 60_000
LATELY_MS = 60_000
TOGETHER = 200  # released by one commit
COMMITS_MAX = 50  # of one queue, before the others have their turn
AHEAD_S = 5  # how much of what its provider sends a lane is filled with
LANE_MIN = 200

STUCK_MS = 10_000


LineOfLane = tuple[str, str, int]  # provider, category, line


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
    turns: dict[LineOfLane, str] = {}
    apart = Apart("feeder")

    async def feed_any(name: str) -> float:
        if (queue := queues.campaign_of(name)) is not None:
            return await feed_campaign(deps, shard, name, queue, run_script, fed[name])
        if (lane := queues.lane_of(name)) is not None:
            return await feed(deps, shard, name, lane)
        if (budget := queues.budget_of(name)) is not None:
            return await feed_budget(deps, shard, name, budget, fed[name], stuck)
        return LOOK_S

    async def turn() -> float:
        names = deps.store.queues.names
        forget_gone(names, fed, asked, stuck)
        if not names or not await queues.may_feed(deps.redis, shard, deps.consumer):
            return LOOK_S
        for name in names:
            if (queue := queues.campaign_of(name)) is not None:
                ask = partial(ask_again, deps, shard, name, queue.campaign, asked)
                await apart.take(name, ask, None)
        pause_s = LOOK_S
        in_lanes: defaultdict[tuple[str, str], dict[str, AppLane]] = defaultdict(dict)
        found = await queues.due_of_each(deps.redis, shard, names, deps.clock(), 1)
        for name, ids in found.items():
            lane = queues.lane_of(name)
            if lane is not None and lane.app and ids:
                in_lanes[lane.provider, lane.category][name] = lane
            else:
                pause_s = min(pause_s, await apart.take(name, partial(feed_any, name), LOOK_S))
        for lane_of_apps, apps in in_lanes.items():
            work = partial(feed_lane, deps, shard, apps, turns)
            pause_s = min(pause_s, await apart.take(":".join(lane_of_apps), work, LOOK_S))
        return pause_s

    await deps.redis_retry("feeder").for_ever(turn)


def forget_gone(names: Sequence[str], *by_queue: dict[str, Any]) -> None:
    """Drops what is known of queues that are there no more, once it is of more than there are."""
    for known in by_queue:
        if len(known) > len(names):
            for name in known.keys() - names:
                del known[name]


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


async def feed_lane(
    deps: DispatchDeps, shard: int, apps: Mapping[str, AppLane], turns: dict[LineOfLane, str]
) -> float:
    """Releases what is due in the queues of a lane's apps, by name, which take turns: what one has
    a lot of keeps nobody's waiting, also where several stand in one line. `turns` says whose was
    last, by line. Returns in how many seconds there may be more. Raises RedisUnavailable."""
    provider, category, _ = next(iter(apps.values()))
    left = set(apps)
    for _ in range(COMMITS_MAX):
        now_ms = deps.clock()
        by_line = await _by_line(deps, {name: apps[name] for name in left}, now_ms)
        rooms = await _rooms(deps, shard, (provider, category), by_line)
        last = {line: turns.get((provider, category, line), "") for line in by_line}
        asked = whose_turn(by_line, rooms, last, TOGETHER)
        if not asked:
            return LOOK_S
        each = -(-TOGETHER // len(asked))
        found = await queues.due_of_each(deps.redis, shard, asked, now_ms, each)
        left -= {name for name in asked if len(found.get(name, ())) < each}
        chosen = in_turn(by_line, found, rooms, last, TOGETHER)
        if chosen:
            await _release(deps, shard, chosen, now_ms)
        line_of = {name: line for line, names in by_line.items() for name in names}
        turns.update(((provider, category, line_of[name]), name) for name in chosen.values())
        if not left:
            return LOOK_S
    return 0.0


async def _by_line(
    deps: DispatchDeps, apps: Mapping[str, AppLane], now_ms: int
) -> dict[int, list[str]]:
    """Queues by the line that their app stands in."""
    lines = deps.store.lines
    await lines.learn(deps.redis, now_ms, {lane.app for lane in apps.values()})
    found: defaultdict[int, list[str]] = defaultdict(list)
    for name, lane in apps.items():
        found[lines.of(lane.app, now_ms)].append(name)
    return found


async def _rooms(
    deps: DispatchDeps, shard: int, lane: tuple[str, str], by_line: Mapping[int, Sequence[str]]
) -> dict[int, int]:
    """How many more messages these lines of a lane are to have; enough of a lane that nobody reads.
    Where apps may share a line each has its part of what the lane sends, so that who comes next
    waits for little of another."""
    store, (provider, category) = deps.store, lane
    sending = deps.providers.get(store.policy.present(provider))
    if sending is None:
        return dict.fromkeys(by_line, TOGETHER)
    are_shared = store.lines.count >= store.lines.most
    lines = sorted({*range(store.lines.count), *by_line} if are_shared else by_line)
    names = [keys_of(shard).lane(provider, category, line) for line in lines]
    length = dict(zip(lines, await lanes.lengths(deps.redis, names), strict=True))
    bears = _bears(deps, sending)
    if are_shared:
        bears = max(bears // sum(1 for line in lines if length[line] or line in by_line), 1)
    return {line: bears - length[line] for line in by_line}


def _bears(deps: DispatchDeps, sending: Provider) -> int:
    """What a lane of one shard is filled with."""
    return max(sending.config.rate_per_s * AHEAD_S // deps.store.shards, LANE_MIN)


async def feed(deps: DispatchDeps, shard: int, name: str, lane: AppLane) -> float:
    """Releases what is due in one queue that is of no app, as an earlier version made them, as long
    as the lane it goes into has room; in how many seconds there may be more. Raises
    RedisUnavailable."""
    for _ in range(COMMITS_MAX):
        now_ms = deps.clock()
        ids = await queues.due(deps.redis, shard, name, now_ms, TOGETHER)
        room = await _room(deps, shard, [lane]) if ids else 0
        if room <= 0:
            return LOOK_S
        await _release(deps, shard, dict.fromkeys(ids[:room], name), now_ms)
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
        released = await _release(deps, shard, dict.fromkeys(ids, name), now_ms, in_pace=True)
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
        went_on = bool(before) and ids[0] not in before
        count = min(4 * count, room) if went_on else 1
        before = ids[:count]
        released = await _release(deps, shard, dict.fromkeys(before, name), now_ms)
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
        lines = [store.lines.of(app, now_ms)] if app else range(store.lines.count)
        names = [keys_of(shard).lane(provider, category, line) for line in lines]
        states = await lanes.states(deps.redis, names, now_ms)
        room = min(room, _bears(deps, sending) - sum(state.length for state in states))
    return room


async def _release(
    deps: DispatchDeps,
    shard: int,
    chosen: Mapping[str, str],
    now_ms: int,
    *,
    in_pace: bool = False,
) -> set[AppLane]:
    """Releases messages of these queues; the lanes they went into. What an earlier version put into
    another queue than this one would is taken from it."""
    fed = set[AppLane]()
    stale: defaultdict[str, list[str]] = defaultdict(list)
    later: defaultdict[str, dict[str, int]] = defaultdict(dict)
    items = [Item(id_, Released(in_pace), shard=shard) for id_ in chosen]
    newer = 0
    for applied in await deps.store.apply(items, now_ms):
        id_, message = applied.item.message_id, applied.message
        name = chosen[id_]
        place = place_of(message) if message is not None else None
        if applied.newer or applied.postponed:
            newer += 1
            later[name][id_] = now_ms + quarantine.LATER_MS
        elif place is not None and place.queue == name:
            later[name][id_] = place.moment_ms  # its commit says so only where its record changed
        elif place is not None or not applied.effects.changed:
            stale[name].append(id_)
        elif applied.effects.lane is not None and message is not None:
            fed.add(AppLane(*applied.effects.lane, message.app))
    for name, ids in stale.items():
        await queues.drop(deps.redis, shard, name, ids)
    for name, moments in later.items():
        await queues.put_off(deps.redis, shard, name, moments)
    if newer:
        _log.info("held messages are left to a newer Kaskad", shard=shard, n=newer)
    return fed
