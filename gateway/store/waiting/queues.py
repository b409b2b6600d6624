"""Where held messages wait: outside the lanes, in queues that cost nothing while nothing is due.

A queue of a shard is a sorted set, id -> the moment from which it may be released. What waits for a
moment waits apart for each lane it will go into and each app, so that a slow provider's release
keeps nobody else's waiting, nor another app's; those of one moment are released in the order of
their ids, which is that of their acceptance. What is counted for a declared campaign waits in the
campaign's own queues, so that it is found when the campaign is changed; so does all that waits for
a campaign to go on. Its first steps, which go out at its pace, wait apart from those that follow.
What waits for a budget waits in the budget's queue. What waits for the time zone of its user has a
mark of the user for a moment, and is released by who learns the zone; what names no user waits
there for nothing but its end.

`{kaskad}queues` says which queues there are, by name. A process says so before it first puts
something into one, and again each minute in which it does; a name that nobody used for an hour and
that holds nothing in any shard is dropped. So where nothing is held nothing is looked at.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from hashlib import blake2b
from typing import NamedTuple

from gateway.core.holding import ZONE_UNKNOWN, is_first
from gateway.core.records.message import Message
from gateway.redis.client import Command, CommandRefused, ErrorReply, RedisClient, Session
from gateway.redis.replies import as_list, whole
from gateway.store import leases, quarantine, randomness, shared_keys
from gateway.store.keys import keys_of
from gateway.store.shared_keys import QUEUES
from gateway.store.transaction import CommitCounts, commit

CONFIRM_MS = 60_000
UNUSED_MS = 3_600_000
DROPPED_MAX = 200  # names at a time, so that it is a moment's work
PAGE = 1_000
QUEUES_A_CALL = 1_000  # looked at together; there are apps times lanes
LOOKED_AT = 200  # messages whose records are read together
FEEDER_MS = 3_000  # how long a shard is one dispatcher's to feed, unless it says so again
# Of queues, one more with each version that has another: 2 since apps have queues of their own.
KINDS = 2


class HeldPlace(NamedTuple):
    """Where a held message waits: the queue's name, and from when it may be released."""

    queue: str
    moment_ms: int


class CampaignQueue(NamedTuple):
    """Whose queue it is; of its first steps, or of those that follow."""

    campaign: str
    of_first: bool


class AppLane(NamedTuple):
    """One app's part of a lane; of every app's where that is empty."""

    provider: str
    category: str
    app: str


ANY_TIME = 1  # a moment long ago: those that wait for no moment are released in the order of ids
FIRST, FOLLOWING = "campaign:", "following:"
ZONES = "zones"
NOBODY = -1  # for the mark of a user
LANE, BUDGET = "lane:", "budget:"


def campaign_queue(campaign: str, *, of_first: bool = True) -> str:
    return (FIRST if of_first else FOLLOWING) + campaign


def campaign_of(name: str) -> CampaignQueue | None:
    """None of any other queue."""
    kind, _, campaign = name.partition(":")
    if kind + ":" not in (FIRST, FOLLOWING):
        return None
    return CampaignQueue(campaign, kind + ":" == FIRST)


def lane_queue(provider: str, category: str, app: str) -> str:
    return f"{LANE}{provider}:{category}:{app}"


def lane_of(name: str) -> AppLane | None:
    """What a lane's queue is released into; None of any other queue. Before apps had queues of
    their own there was one a lane, which is of no app. An app may be called anything."""
    provider, _, rest = name.removeprefix(LANE).partition(":")
    category, _, app = rest.partition(":")
    if not name.startswith(LANE) or not category:
        return None
    return AppLane(provider, category, app)


def budget_of(name: str) -> str | None:
    """The budget whose queue it is; None of any other queue."""
    return name.removeprefix(BUDGET) if name.startswith(BUDGET) else None


def is_of_all(name: str) -> bool:
    """Whether messages of every campaign wait in that queue, for something other than a moment."""
    return name == ZONES or name.startswith(BUDGET)


def place_of(message: Message) -> HeldPlace | None:
    """None where it waits in no queue: it is not held, or its timer alone brings it back."""
    held = message.held
    if held is None or not held.stops_clock:
        return None
    if held.reason == "budget":
        return HeldPlace(BUDGET + held.budget, ANY_TIME)
    goes_on = held.has_no_moment
    if held == ZONE_UNKNOWN and message.tz is None:
        user = message.named_user
        return HeldPlace(ZONES, _mark_of(user) if user is not None else NOBODY)
    if not goes_on and not held.until_ms:
        return None
    if goes_on or message.counted:
        assert message.campaign is not None
        queue = campaign_queue(message.campaign, of_first=is_first(message))
        return HeldPlace(queue, ANY_TIME if goes_on else held.until_ms)
    provider = message.step.candidate.provider
    return HeldPlace(lane_queue(provider, message.category, message.app), held.until_ms)


class Queues:
    """What one process knows of the queues' names."""

    def __init__(self) -> None:
        self._confirmed: dict[str, int] = {}
        self._cut_ms = 0  # when what was confirmed long ago was dropped last
        self.names: list[str] = []  # as `look` found them last

    async def learn(self, redis: RedisClient, names: Iterable[str], now_ms: int) -> None:
        """To be called before something goes into them; without a round trip where they were
        confirmed lately."""
        known = self._confirmed
        fresh = [name for name in names if known.get(name, 0) + CONFIRM_MS <= now_ms]
        if fresh:
            pairs = [part for name in fresh for part in (now_ms, name)]
            await redis.call([("ZADD", QUEUES, *pairs)])
            known.update(dict.fromkeys(fresh, now_ms))
        if now_ms - self._cut_ms >= CONFIRM_MS:  # those of a minute or two are left
            self._cut_ms = now_ms
            self._confirmed = {n: at for n, at in known.items() if at + CONFIRM_MS > now_ms}

    async def look(self, redis: RedisClient, now_ms: int) -> None:
        """Reads which there are; what is no name is set aside. Raises RedisUnavailable."""
        (found,) = await redis.call([("ZRANGEBYSCORE", QUEUES, "-inf", "+inf")])
        names = []
        for name in as_list(found):
            try:
                names.append(name.decode())
            except UnicodeDecodeError as error:
                what = {f"{QUEUES} {name.decode(errors='replace')}": name}
                await quarantine.set_aside(redis, 0, what, error, now_ms)
                await redis.call([("ZREM", QUEUES, name)])
        self.names = names

    async def forget(self, redis: RedisClient, shards: int, now_ms: int) -> None:
        """Drops the names of queues that nobody used for long and that hold nothing. One that a
        process says meanwhile is not one of those any more, and stays. Raises RedisUnavailable."""
        unused: Command = ("ZRANGEBYSCORE", QUEUES, "-inf", now_ms - UNUSED_MS)
        (found,) = await redis.call([unused])
        empty = set(sorted(await _empty(redis, shards, as_list(found)))[:DROPPED_MAX])
        if not empty:
            return
        token = shared_keys.installation_token(randomness.token())

        async def attempt(session: Session) -> tuple[list[Command], None]:
            """With nothing between its reads and its drops: where many apps hold messages somebody
            says a name every few milliseconds."""
            _, found = await session.call([("WATCH", token, QUEUES), unused])
            drops: list[Command] = []
            for name in empty.intersection(as_list(found)):
                asked = (f"{shard}:{name.decode(errors='replace')}" for shard in range(shards))
                drops += [("ZREM", QUEUES, name), ("HDEL", shared_keys.ASKED_AGAIN, *asked)]
            return drops, None

        await commit(redis, token, attempt, CommitCounts())


async def _empty(redis: RedisClient, shards: int, names: Sequence[bytes]) -> set[bytes]:
    """Those that hold nothing in any shard."""
    held = set[bytes]()
    asked = [(name, shard) for name in names for shard in range(shards)]
    for start in range(0, len(asked), QUEUES_A_CALL):
        part = asked[start : start + QUEUES_A_CALL]
        keys = [keys_of(shard).held(name.decode(errors="replace")) for name, shard in part]
        replies = await redis.call([("EXISTS", key) for key in keys])
        held.update(name for (name, _), exists in zip(part, replies, strict=True) if exists)
    return set(names) - held


async def may_feed(redis: RedisClient, shard: int, consumer: str) -> bool:
    """Whether the shard's queues are this dispatcher's to release from. For a moment two may think
    so, and then the second finds little to do. Beside one of a version that knows fewer kinds, and
    leaves those of others alone, somebody feeds them all."""
    return await leases.hold(redis, keys_of(shard).feeder(KINDS), consumer, FEEDER_MS)


async def waiting_for_zone(
    redis: RedisClient, shards: range, users: Sequence[str]
) -> dict[str, list[str]]:
    """By user, the messages that wait for the user's zone, or for that of another with the same
    mark."""
    asked = [(user, shard) for user in users for shard in shards]
    replies = await redis.call(
        [
            ("ZRANGEBYSCORE", keys_of(shard).held(ZONES), _mark_of(user), _mark_of(user))
            for user, shard in asked
        ]
    )
    found: defaultdict[str, list[str]] = defaultdict(list)
    for (user, _), ids in zip(asked, replies, strict=True):
        found[user] += [id_.decode(errors="replace") for id_ in as_list(ids)]
    return found


def _mark_of(user: str) -> int:
    """48 bits, which a sorted set's score holds exactly; not 0, which is no moment."""
    return int.from_bytes(blake2b(user.encode(), digest_size=6).digest()) or 1


async def due(redis: RedisClient, shard: int, name: str, now_ms: int, count: int) -> list[str]:
    """The first messages of a queue that may be released now."""
    key = keys_of(shard).held(name)
    (found,) = await redis.call([("ZRANGEBYSCORE", key, "-inf", now_ms, "LIMIT", 0, count)])
    return [id_.decode(errors="replace") for id_ in as_list(found)]


async def due_of_each(
    redis: RedisClient, shard: int, names: Sequence[str], now_ms: int, count: int
) -> dict[str, list[str]]:
    """The same of several queues, up to so many of each, in one round trip for QUEUES_A_CALL. What
    has nothing is left out; of what is no queue none are found."""
    found: dict[str, list[str]] = {}
    for start in range(0, len(names), QUEUES_A_CALL):
        part = names[start : start + QUEUES_A_CALL]
        asked = [keys_of(shard).held(name) for name in part]
        try:
            replies = await redis.call(
                [("ZRANGEBYSCORE", key, "-inf", now_ms, "LIMIT", 0, count) for key in asked]
            )
        except CommandRefused as refused:
            replies = refused.replies
        for name, reply in zip(part, replies, strict=True):
            if isinstance(reply, ErrorReply):
                found[name] = []
            elif ids := [id_.decode(errors="replace") for id_ in as_list(reply)]:
                found[name] = ids
    return found


async def page(redis: RedisClient, shard: int, name: str, cursor: int) -> tuple[int, list[str]]:
    """The next messages of a queue, in no order, and where to go on; 0: there are no more."""
    (found,) = await redis.call([("ZSCAN", keys_of(shard).held(name), cursor, "COUNT", LOOKED_AT)])
    after, members = as_list(found)
    return int(after), [id_.decode(errors="replace") for id_ in as_list(members)[::2]]


async def ask_again(redis: RedisClient, shard: int, name: str, now_ms: int) -> None:
    """All of a queue that waits for a moment may be released now."""
    key = keys_of(shard).held(name)
    while True:
        (found,) = await redis.call([("ZRANGEBYSCORE", key, now_ms + 1, "+inf", "LIMIT", 0, PAGE)])
        ids = as_list(found)
        if ids:
            pairs = [part for id_ in ids for part in (ANY_TIME, id_)]
            await redis.call([("ZADD", key, "XX", *pairs)])
        if len(ids) < PAGE:
            return


async def asked_ms(redis: RedisClient, shard: int, name: str) -> int:
    """Which change of its campaign a queue was asked again after last; 0: none, or what cannot be
    read."""
    (moment,) = await redis.call([("HGET", shared_keys.ASKED_AGAIN, f"{shard}:{name}")])
    return whole(moment) or 0


async def note_asked(redis: RedisClient, shard: int, name: str, changed_ms: int) -> None:
    """A queue was asked again after that change of its campaign."""
    await redis.call([("HSET", shared_keys.ASKED_AGAIN, f"{shard}:{name}", changed_ms)])


async def drop(redis: RedisClient, shard: int, name: str, ids: Sequence[str]) -> None:
    """Messages that do not wait there any more, or are gone."""
    if ids:
        await redis.call([("ZREM", keys_of(shard).held(name), *ids)])


async def put_off(redis: RedisClient, shard: int, name: str, moments: Mapping[str, int]) -> None:
    """Messages that are not to be released yet are looked at again from their moment on."""
    if moments:
        pairs = [part for id_, at_ms in moments.items() for part in (at_ms, id_)]
        await redis.call([("ZADD", keys_of(shard).held(name), "XX", *pairs)])
