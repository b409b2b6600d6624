"""What waits for one webhook, what its tries came to, and how it is.

Nobody but the dispatcher that has the webhook takes from its queue, so nothing is marked as taken:
what was being told when a dispatcher died stands there still. What tries came to is written many at
once, in one transaction. Raises RedisUnavailable.
"""

from __future__ import annotations

import zlib
from collections.abc import Collection, Sequence
from contextlib import suppress
from typing import NamedTuple

import msgspec

from gateway.core.records.codec import NewerRecordError, UnreadableRecordError
from gateway.core.records.webhook import (
    WebhookEvent,
    WebhookTries,
    WebhookTry,
    event_codec,
    tries_codec,
)
from gateway.redis.client import Command, RedisClient, Session
from gateway.redis.replies import as_list, pairs, whole
from gateway.store import quarantine, shared_keys
from gateway.store.compression import pack, unpack
from gateway.store.events.outbox import (
    KEEP_MS,
    LOST_FIELD,
    LostEvents,
    change_state,
    lost_of,
    readable,
)

TRIES_KEPT_MS = 3 * 86_400_000
ENTRIES_MAX = 5_000  # of tries; one holds those that ended together
PAGE = 100  # entries that are looked through at once
_FIELD = b"d"
FAILING_FIELD, RECOVER_FIELD = "failing", "recover"


class Due(NamedTuple):
    """An event whose time has come, as it stands in its queue, and how often it was tried."""

    event: WebhookEvent
    member: bytes
    tries: int


class WebhookBacklog(NamedTuple):
    """How a webhook is: how many events wait, when the one that is tried next was (None: nobody
    here can read it), since when no try succeeded, what was lost, and what is to be recovered."""

    waiting: int
    first_ms: int | None
    failing_ms: int | None
    lost: LostEvents | None
    recovery: Recovery | None


# Numbers of streams in a recovery that are no shard's: what is no message's, and replies to none.
OF_INSTALLATION, OF_REPLIES = -1, -2


class Recovery(msgspec.Struct, frozen=True):
    """What is to be told once more: what streams tell, of the app in each shard and two more. It is
    over at that moment."""

    since_ms: int
    until_ms: int
    # Where the range begins in which a stream goes on, by the shard's number; "": it is through.
    done: dict[int, str] = {}


class TryResults(NamedTuple):
    """What tries came to: `done` leaves the queue, `later` is tried again then."""

    tries: Sequence[WebhookTry]
    done: Sequence[Due]
    later: Sequence[tuple[Due, int]]


async def due(redis: RedisClient, id_: str, now_ms: int, count: int) -> list[Due]:
    """The events whose time has come, the longest due first. One that cannot be read is set aside;
    what a newer Kaskad put there is left to it, out of the way of those behind it."""
    queue, tries = shared_keys.webhook(id_, "queue"), shared_keys.webhook(id_, "tries")
    members, tried = await redis.call(
        [("ZRANGEBYSCORE", queue, "-inf", now_ms, "LIMIT", 0, count), ("HLEN", tries)]
    )
    found, later = [], list[int | bytes]()
    for member in as_list(members):
        try:
            found.append((event_codec.decode(member), member))
        except NewerRecordError:
            later += (now_ms + quarantine.LATER_MS, member)
        except UnreadableRecordError as error:
            # A webhook's keys are of no shard, so what cannot be read leaves once it is listed.
            what = {f"{queue} {zlib.crc32(member):08x}": member}
            if await quarantine.set_aside(redis, 0, what, error, now_ms):
                await redis.call([("ZREM", queue, member)])
            else:
                later += (now_ms + quarantine.LATER_MS, member)
    if later:
        await redis.call([("ZADD", queue, "XX", *later)])
    if not tried or not found:
        return [Due(event, member, 0) for event, member in found]
    (counts,) = await redis.call([("HMGET", tries, *(event.id for event, _ in found))])
    return [
        Due(event, member, whole(count) or 0)
        for (event, member), count in zip(found, as_list(counts), strict=True)
    ]


async def note(redis: RedisClient, id_: str, told: TryResults, failing_ms: int | None) -> None:
    """Writes down what tries came to. `failing_ms`: since when none succeeded, where that is new;
    0: one did."""
    queue, tries, state = (shared_keys.webhook(id_, what) for what in ("queue", "tries", "state"))
    commands: list[Command] = []
    if told.done:
        commands.append(("ZREM", queue, *(each.member for each in told.done)))
        if tried := [each.event.id for each in told.done if each.tries]:
            commands.append(("HDEL", tries, *tried))
    if told.later:
        moments = [part for each, at_ms in told.later for part in (at_ms, each.member)]
        commands.append(("ZADD", queue, "XX", *moments))
        counts = [part for each, _ in told.later for part in (each.event.id, each.tries + 1)]
        commands += [("HSET", tries, *counts), ("PEXPIRE", tries, KEEP_MS)]
    if told.tries:
        attempts = shared_keys.webhook(id_, "attempts")
        entry = pack(tries_codec.encode(WebhookTries(list(told.tries))))
        commands.append(("XADD", attempts, "MAXLEN", "~", ENTRIES_MAX, "*", _FIELD, entry))
        commands.append(("PEXPIRE", attempts, TRIES_KEPT_MS))
    if failing_ms:
        commands += [("HSETNX", state, FAILING_FIELD, failing_ms), ("PEXPIRE", state, KEEP_MS)]
    elif failing_ms is not None:
        commands.append(("HDEL", state, FAILING_FIELD))
    if commands:
        await redis.call([("MULTI",), *commands, ("EXEC",)])


async def put_off(redis: RedisClient, id_: str, events: Collection[Due], at_ms: int) -> None:
    """Events are told later, and that is no try."""
    moments = [part for each in events for part in (at_ms, each.member)]
    await redis.call([("ZADD", shared_keys.webhook(id_, "queue"), "XX", *moments)])


async def cut_tries(redis: RedisClient, id_: str, now_ms: int) -> None:
    """Drops what is older than what is kept."""
    oldest_ms = max(now_ms - TRIES_KEPT_MS, 0)
    await redis.call([("XTRIM", shared_keys.webhook(id_, "attempts"), "MINID", oldest_ms)])


async def states(redis: RedisClient, ids: Sequence[str]) -> list[WebhookBacklog]:
    """How webhooks are, in their order."""
    commands: list[Command] = []
    for id_ in ids:
        queue = shared_keys.webhook(id_, "queue")
        commands += [
            ("ZCARD", queue),
            ("ZRANGEBYSCORE", queue, "-inf", "+inf", "LIMIT", 0, 1),
            ("HGETALL", shared_keys.webhook(id_, "state")),
        ]
    if not commands:
        return []
    replies = await redis.call(commands)
    return [
        _state(replies[at], as_list(replies[at + 1]), as_list(replies[at + 2]))
        for at in range(0, len(replies), 3)
    ]


def _state(waiting: object, first: list[bytes], said: list[bytes]) -> WebhookBacklog:
    assert isinstance(waiting, int)
    told = dict(pairs(said))
    failing = told.get(FAILING_FIELD.encode())
    event = readable(first[0]) if first else None
    return WebhookBacklog(
        waiting,
        event.at_ms if event is not None else None,
        whole(failing),
        lost_of(told.get(LOST_FIELD.encode())),
        recovery_of(told.get(RECOVER_FIELD.encode())),
    )


def recovery_of(said: object) -> Recovery | None:
    """What cannot be read says nothing."""
    with suppress(msgspec.DecodeError):
        return msgspec.json.decode(said, type=Recovery) if isinstance(said, bytes) else None
    return None


async def recover(redis: RedisClient, id_: str, recovery: Recovery) -> None:
    """What is to be recovered from now on, in the place of what was."""
    await redis.call(_recovers(id_, recovery))


async def recovered(redis: RedisClient, id_: str, before: Recovery, after: Recovery | None) -> bool:
    """A recovery that stood so has come so far; None: it is over. False where it stands otherwise:
    another was asked for meanwhile, or another dispatcher goes on with it."""
    state = shared_keys.webhook(id_, "state")

    async def attempt(session: Session) -> tuple[list[Command], bool]:
        (said,) = await session.call([("HGET", state, RECOVER_FIELD)])
        if recovery_of(said) != before:
            return [], False
        gone: list[Command] = [("HDEL", state, RECOVER_FIELD)]
        return gone if after is None else _recovers(id_, after), True

    return await change_state(redis, id_, attempt)


def _recovers(id_: str, recovery: Recovery) -> list[Command]:
    state, said = shared_keys.webhook(id_, "state"), msgspec.json.encode(recovery)
    return [("HSET", state, RECOVER_FIELD, said), ("PEXPIRE", state, KEEP_MS)]


class TriesPage(NamedTuple):
    """Tries, the newest first; `next` is the cursor of the page after it."""

    tries: list[WebhookTry]
    next: str | None


async def read_tries(redis: RedisClient, id_: str, count: int, cursor: str = "") -> TriesPage:
    """So many of a webhook's tries. `cursor` is an entry and how many tries of it were shown."""
    entry, _, shown = cursor.partition(".")
    end, skip = entry or "+", int(shown or 0)
    found: list[WebhookTry] = []
    while True:
        (page,) = await redis.call(
            [("XREVRANGE", shared_keys.webhook(id_, "attempts"), end, "-", "COUNT", PAGE)]
        )
        for name, fields in as_list(page):
            tries = _tries(fields[1])[::-1]
            for nth, each in enumerate(tries):
                if nth < skip:
                    continue
                if len(found) == count:
                    return TriesPage(found, f"{name.decode()}.{nth}")
                found.append(each)
            skip = 0
        if len(page) < PAGE:
            return TriesPage(found, None)
        end = "(" + page[-1][0].decode()


def _tries(entry: bytes) -> list[WebhookTry]:
    """None of an entry that cannot be read."""
    try:
        return tries_codec.decode(unpack(entry)).tries
    except (NewerRecordError, msgspec.DecodeError):
        return []
