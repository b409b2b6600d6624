"""The lanes and timers as dispatch uses them: read, wait, recover, look at. No rule is decided
here.

A lane is one Redis Stream or a few (its lines) a provider and category in each shard, read through
one consumer group.
What a dispatcher has read stays pending under its name until the outcome's transaction acknowledges
it. A dispatcher proves that it is alive by a key that lapses; whatever a dead one holds is taken
over by another. An entry or a timer that names no message is set aside.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Sequence
from typing import Any

import msgspec

from gateway.core.ids import shard_of_id
from gateway.redis.client import Command, ErrorReply, RedisClient, RedisReply
from gateway.redis.errors import CommandRefused
from gateway.redis.replies import as_list, pairs
from gateway.store import quarantine
from gateway.store.keys import GROUP, keys_of, shard_in
from gateway.store.messages.apply import LaneEntry
from gateway.store.shared_keys import alive
from gateway.store.writes import LANE_FIELD

RECOVER_COUNT = 200  # entries taken over at once
TIMERS_COUNT = 200
TIMERS_LATEST = 100  # of those, where more are due
LANES_A_CALL = 1_000  # looked at together; there are lanes times shards times lines
GIVE_BACK_TOGETHER = 200
HELD_COUNT = 10_000  # above what one dispatcher can hold of a lane
FORGET_AFTER_MS = 3_600_000
WAIT_MS = 1_000  # how long one wait for work may block; below the Redis client's timeout


class WaitingEntry(msgspec.Struct, frozen=True):
    """One claimed entry of a lane: which message, and where it stands."""

    message_id: str
    at: LaneEntry


class LaneState(msgspec.Struct, frozen=True):
    """A lane's backlog over all shards: entries, and the age of the oldest in milliseconds."""

    length: int
    age_ms: int


class Survey(msgspec.Struct, frozen=True):
    """How many entries of a lane a consumer holds, and whether `take_over` could find something
    among the others."""

    mine: int
    others: bool


async def ensure_groups(
    redis: RedisClient, shard: int, lanes: Sequence[tuple[str, str]], lines: Sequence[int] = (0,)
) -> None:
    """Creates the consumer group in these lines of every (provider, category) lane of a shard; one
    that exists is left as it is."""
    keys = keys_of(shard)
    names = [keys.lane(*lane, line) for lane in lanes for line in lines]
    for start in range(0, len(names), LANES_A_CALL):
        part = names[start : start + LANES_A_CALL]
        try:
            await redis.call([("XGROUP", "CREATE", name, GROUP, "0", "MKSTREAM") for name in part])
        except CommandRefused as error:
            refused = [reply for reply in error.replies if isinstance(reply, ErrorReply)]
            if {error.code, *(reply.code for reply in refused)} != {"BUSYGROUP"}:
                raise


def is_group_missing(error: CommandRefused) -> bool:
    """Whether a lane or its group is not there: Redis is new, or lost its data."""
    return error.code == "NOGROUP" or "no such key" in error.message


async def read(
    redis: RedisClient, consumer: str, wanted: Sequence[tuple[str, int]]
) -> dict[str, list[WaitingEntry]]:
    """Claims up to `count` new entries of each (lane key, count), in one round trip; empty lanes
    are absent. Lanes of a shard that are read to the same count are one command."""
    together: defaultdict[tuple[int, int], list[str]] = defaultdict(list)
    for lane, count in wanted:
        if count > 0:
            together[shard_in(lane), count].append(lane)
    commands: list[Command] = [
        (
            "XREADGROUP",
            "GROUP",
            GROUP,
            consumer,
            "COUNT",
            count,
            "STREAMS",
            *names,
            *">" * len(names),
        )
        for (_, count), names in together.items()
    ]
    if not commands:
        return {}
    found: dict[str, list[WaitingEntry]] = {}
    for reply in await redis.call(commands):
        for lane, entries in _streams(reply):
            found[lane] = await _waiting(redis, lane, entries)
    return found


async def held(redis: RedisClient, consumer: str, names: Sequence[str]) -> list[WaitingEntry]:
    """All that the consumer has read of lanes and not acknowledged, in one round trip; the oldest
    of each first, at most HELD_COUNT: for one that does not know what it holds, because a read's
    answer was lost."""
    commands: list[Command] = [
        ("XREADGROUP", "GROUP", GROUP, consumer, "COUNT", HELD_COUNT, "STREAMS", lane, "0")
        for lane in names
    ]
    return [
        waiting
        for reply in await redis.call(commands)
        for lane, entries in _streams(reply)
        for waiting in await _waiting(redis, lane, entries)
    ]


async def give_back(redis: RedisClient, held: Iterable[WaitingEntry]) -> None:
    """Entries that were read and not claimed go to the end of their lanes, where somebody reads
    them at once, and are no longer pending. May be repeated: an entry too many claims nothing."""
    by_shard: defaultdict[int, list[WaitingEntry]] = defaultdict(list)
    for waiting in held:
        by_shard[shard_in(waiting.at.lane)].append(waiting)
    for each in by_shard.values():
        for first in range(0, len(each), GIVE_BACK_TOGETHER):
            moves: list[Command] = []
            for waiting in each[first : first + GIVE_BACK_TOGETHER]:
                lane, entry = waiting.at.lane, waiting.at.entry
                moves.append(("XADD", lane, "*", LANE_FIELD, waiting.message_id))
                moves += [("XACK", lane, GROUP, entry), ("XDEL", lane, entry)]
            await redis.call([("MULTI",), *moves, ("EXEC",)])


async def survey(redis: RedisClient, consumer: str, names: Sequence[str]) -> list[Survey]:
    """Who holds what of lanes, in one round trip for all of them."""
    surveys = []
    for reply in await redis.call([("XINFO", "CONSUMERS", lane, GROUP) for lane in names]):
        assert isinstance(reply, list)
        mine, others = 0, False
        for found in map(_pairs, reply):
            if _text(found[b"name"]) == consumer:
                mine = int(found[b"pending"])
            elif int(found[b"pending"]) or int(found[b"idle"]) >= FORGET_AFTER_MS:
                others = True
        surveys.append(Survey(mine, others))
    return surveys


async def wait_for_work(redis: RedisClient, lanes: Sequence[tuple[str, bytes]]) -> bool:
    """Blocks until a lane of one shard has an entry newer than the given id, or WAIT_MS passed.

    Claims nothing: it only says that reading is worthwhile.
    """
    names, newest = zip(*lanes, strict=True)
    async with redis.session(names[0]) as session:
        (reply,) = await session.call(
            [("XREAD", "COUNT", 1, "BLOCK", WAIT_MS, "STREAMS", *names, *newest)]
        )
    return reply is not None


async def newest(redis: RedisClient, lanes: Sequence[str]) -> list[bytes]:
    """The last id each lane gave out (0-0 for a new one): what `wait_for_work` starts from."""
    replies = await redis.call([("XINFO", "STREAM", lane) for lane in lanes])
    return [_pairs(reply)[b"last-generated-id"] for reply in replies]


async def prove_alive(redis: RedisClient, consumer: str, lease_ms: int) -> None:
    await redis.call([("SET", alive(consumer), 1, "PX", lease_ms)])


async def retire(redis: RedisClient, consumer: str) -> None:
    """The dispatcher stops: what it still holds, if anything, may be taken over at once."""
    await redis.call([("DEL", alive(consumer))])


async def take_over(redis: RedisClient, consumer: str, lane: str) -> list[WaitingEntry]:
    """Takes over what dead dispatchers hold of a lane, at most RECOVER_COUNT entries at a time.

    Two takers cannot both get an entry for long: what matters is decided by the claim's
    transaction, and an entry is only ever given to a living consumer. Consumers that are dead and
    hold nothing are forgotten after FORGET_AFTER_MS: one that merely stood still could wake and
    read at this very moment, and forgetting it then would lose what it read.
    """
    (reply,) = await redis.call([("XINFO", "CONSUMERS", lane, GROUP)])
    assert isinstance(reply, list)
    others = [
        (_text(c[b"name"]), int(c[b"pending"]), int(c[b"idle"]))
        for r in reply
        if (c := _pairs(r)) and _text(c[b"name"]) != consumer
    ]
    if not others:
        return []
    proofs = await redis.call([("EXISTS", alive(name)) for name, *_ in others])
    taken: list[WaitingEntry] = []
    for (name, pending, idle_ms), lives in zip(others, proofs, strict=True):
        if lives:
            continue
        if not pending:
            if idle_ms < FORGET_AFTER_MS:
                continue
            await redis.call([("XGROUP", "DELCONSUMER", lane, GROUP, name)])
            continue
        (entries,) = await redis.call(
            [("XPENDING", lane, GROUP, "-", "+", RECOVER_COUNT - len(taken), name)]
        )
        assert isinstance(entries, list)
        if not entries:
            continue
        ids = [entry[0] for entry in entries]
        (claimed,) = await redis.call([("XCLAIM", lane, GROUP, consumer, 0, *ids)])
        assert isinstance(claimed, list)
        taken += await _waiting(redis, lane, claimed)
        if len(taken) >= RECOVER_COUNT:
            break
    return taken


async def _waiting(redis: RedisClient, lane: str, entries: Sequence[Any]) -> list[WaitingEntry]:
    """Entries as waiting messages. One that is gone from the stream is left out; one that names no
    message leaves the lane and is set aside."""
    shard = shard_in(lane)
    found: list[WaitingEntry] = []
    for entry in entries:
        if entry is None or entry[1] is None:
            continue
        id_, fields = entry
        message_id = _message_id(fields)
        if shard_of_id(message_id) is not None:
            found.append(WaitingEntry(message_id, LaneEntry(lane, id_, shard)))
            continue
        await quarantine.set_aside(
            redis,
            shard,
            {f"{lane} {_text(id_)}": b" ".join(fields)},
            "The entry names no message.",
            int(id_.partition(b"-")[0]),
            [("XACK", lane, GROUP, id_), ("XDEL", lane, id_)],
        )
    return found


async def states(redis: RedisClient, lanes: Sequence[str], now_ms: int) -> list[LaneState]:
    """Length and age of lanes, a round trip for each LANES_A_CALL. Entries being sent count until
    their outcome is recorded."""
    replies: list[Any] = []
    for start in range(0, len(lanes), LANES_A_CALL):
        commands: list[Command] = []
        for lane in lanes[start : start + LANES_A_CALL]:
            commands += [("XLEN", lane), ("XRANGE", lane, "-", "+", "COUNT", 1)]
        replies += await redis.call(commands)
    out = []
    for length, first in zip(replies[::2], replies[1::2], strict=True):
        assert isinstance(length, int)
        assert isinstance(first, list)
        born_ms = int(first[0][0].partition(b"-")[0]) if first else now_ms
        out.append(LaneState(length, max(now_ms - born_ms, 0)))
    return out


async def lengths(redis: RedisClient, names: Sequence[str]) -> list[int]:
    """How many entries lanes have, in one round trip."""
    found = await redis.call([("XLEN", name) for name in names])
    return [length if isinstance(length, int) else 0 for length in found]


async def due_timers(redis: RedisClient, shard: int, now_ms: int, after: int = 0) -> list[str]:
    """Message ids whose timer is due, the earliest first but for `after` of them, at most
    TIMERS_COUNT. Of more the latest come too, so that what is due now does not stand behind very
    many that were due at one moment: a code's next step started 31 s late after 150,000 messages
    had expired together (2026-12-01). Stopping one is the commit's work."""
    key = keys_of(shard).timers
    (reply,) = await redis.call(
        [("ZRANGEBYSCORE", key, "-inf", now_ms, "LIMIT", after, TIMERS_COUNT)]
    )
    assert isinstance(reply, list)
    if len(reply) == TIMERS_COUNT and not after:
        (latest,) = await redis.call(
            [("ZREVRANGEBYSCORE", key, now_ms, "-inf", "LIMIT", 0, TIMERS_LATEST)]
        )
        assert isinstance(latest, list)
        reply = list(dict.fromkeys([*latest, *reply]))[:TIMERS_COUNT]
    due = [_text(member) for member in reply]
    for member in (m for m, id_ in zip(reply, due, strict=True) if shard_of_id(id_) is None):
        await quarantine.set_aside(
            redis,
            shard,
            {f"{key} {_text(member)}": member},
            "The timer names no message.",
            now_ms,
            [("ZREM", key, member)],
        )
    return [id_ for id_ in due if shard_of_id(id_) is not None]


async def drop_timer(redis: RedisClient, shard: int, message_id: str) -> None:
    """Forgets the timer of a message that no longer exists."""
    await redis.call([("ZREM", keys_of(shard).timers, message_id)])


def _streams(reply: RedisReply) -> list[tuple[str, list[tuple[bytes, list[bytes]]]]]:
    if reply is None:
        return []
    assert isinstance(reply, list)
    return [(_text(name), entries) for name, entries in reply]


def _message_id(fields: list[bytes]) -> str:
    return _text(fields[1]) if fields[0] == LANE_FIELD else ""


def _pairs(reply: RedisReply) -> dict[bytes, bytes]:
    return dict(pairs(as_list(reply)))


def _text(value: bytes) -> str:
    return value.decode(errors="replace")
