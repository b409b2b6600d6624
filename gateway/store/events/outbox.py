"""What webhooks are to be told, from the transactions that bring it to the queue of each webhook.

An outbox is a stream in each shard, and one of the installation: an entry is what one commit has
to tell, written by it. A dispatcher moves entries: first the events stand in the queues, then the
entry goes, so a death in between moves them again, to where they stand already. An event is its own
member of a queue, which is ordered by when it is tried.

What is no message's stands in a list of its own as well, of the newest HAPPENED_MAX, to be told
once more from there: of messages the apps' streams of events tell, and of replies the replies.

A queue holds WAITING_MAX events. Where more wait, the oldest leave it, and one event tells from
when to when they were; they can be recovered. An entry that cannot be read is set aside. Raises
RedisUnavailable.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Awaitable, Callable, Iterable, Sequence
from contextlib import suppress
from typing import TypeVar

import msgspec
from msgspec.structs import replace

from gateway.core.records.codec import NewerRecordError, UnreadableRecordError
from gateway.core.records.webhook import (
    WebhookEvent,
    WebhookEvents,
    event_codec,
    outbox_codec,
)
from gateway.core.webhooks import LOST, Webhooks
from gateway.redis.client import Command, RedisClient, RedisReply, Session
from gateway.redis.replies import as_list
from gateway.store import quarantine, randomness, shared_keys
from gateway.store.compression import pack, unpack
from gateway.store.events.webhooks import KnownWebhooks
from gateway.store.keys import keys_of, shard_in
from gateway.store.transaction import CommitCounts, MakeCommands, commit

WAITING_MAX = 10_000
BEHIND = WAITING_MAX // 2  # that wait: somebody should look at it before the oldest leave
MAKE_ROOM = 1_000  # how many leave at once, so that it is not done for each
ENTRIES_MAX = 100  # of an outbox in one read
HAPPENED_MAX = 10_000
KEEP_MS = 30 * 86_400_000  # a queue that nobody adds to or takes from, and what happened last
LOST_FIELD = "lost"
_FIELD = b"d"

T = TypeVar("T")


class LostEvents(msgspec.Struct, frozen=True):
    """Events that left a queue untold: how many, and from when to when they were. `id` and `at_ms`
    are those of the event that tells it."""

    id: str
    at_ms: int
    count: int
    from_ms: int
    to_ms: int


def commands(key: str, events: Sequence[WebhookEvent]) -> list[Command]:
    """What puts events into an outbox, to go along with what they tell of."""
    if not events:
        return []
    entry = pack(outbox_codec.encode(WebhookEvents(list(events))))
    return [("XADD", key, "*", _FIELD, entry)]


async def about(redis: RedisClient, type_: str, at_ms: int, data: object) -> list[Command]:
    """What tells every app of something that is no message's, and keeps it to be told once more. It
    is seldom, so whether one wants it is asked. Raises RedisUnavailable."""
    event = WebhookEvent(new_id(), type_, at_ms, data=msgspec.json.encode(data))
    entry = pack(outbox_codec.encode(WebhookEvents([event])))
    kept: list[Command] = [
        ("XADD", shared_keys.HAPPENED, "MAXLEN", "~", HAPPENED_MAX, "*", _FIELD, entry),
        ("PEXPIRE", shared_keys.HAPPENED, KEEP_MS),
    ]
    known = KnownWebhooks()
    await known.look(redis)
    if known.now.wants("", type_):
        kept += commands(shared_keys.OUTBOX, [event])
    return kept


async def happened(
    redis: RedisClient, entry: str, most: int
) -> list[tuple[str, list[WebhookEvent]]]:
    """What `about` told, by entry, from one on as a range begins; at most so many. One that cannot
    be read here tells nothing."""
    (page,) = await redis.call([("XRANGE", shared_keys.HAPPENED, entry, "+", "COUNT", most)])
    found = []
    for name, fields in as_list(page):
        events: list[WebhookEvent] = []
        with suppress(NewerRecordError, msgspec.DecodeError):
            events = outbox_codec.decode(unpack(fields[1])).events
        found.append((name.decode(), events))
    return found


def new_id() -> str:
    """The id of an event that is no change of a message."""
    return "evt_" + randomness.token()


def names(shards: Iterable[int]) -> list[str]:
    """Every outbox."""
    return [*(keys_of(shard).outbox for shard in shards), shared_keys.OUTBOX]


async def move(
    redis: RedisClient, outbox: str, known: Callable[[], Awaitable[Webhooks]]
) -> tuple[int, set[str]]:
    """Moves what stands first in an outbox: how many entries, and the webhooks that were given
    something, by id. `known` is asked which there are once the entries are read: by what was known
    before, a process that stood still would drop those of a webhook that was made meanwhile."""
    (found,) = await redis.call([("XRANGE", outbox, "-", "+", "COUNT", ENTRIES_MAX)])
    assert isinstance(found, list)
    if not found:
        return 0, set()
    webhooks = await known()
    given: defaultdict[str, list[WebhookEvent]] = defaultdict(list)
    moved = []
    for entry, fields in found:
        try:
            events = outbox_codec.decode(unpack(fields[1])).events
        except NewerRecordError:
            continue
        except Exception as error:
            what = {f"{outbox} {entry.decode()}": b" ".join(fields)}
            shard = 0 if outbox == shared_keys.OUTBOX else shard_in(outbox)
            at_ms = int(entry.partition(b"-")[0])
            await quarantine.set_aside(redis, shard, what, error, at_ms)
            events = []
        moved.append(entry)
        for event in events:
            for (app, _), webhook in webhooks.every.items():
                if webhook.enabled and event.app in ("", app) and event.type in webhook.events:
                    given[webhook.id].append(event)
    await give(redis, given.items())
    if moved:
        await redis.call([("XDEL", outbox, *moved)])
    return len(moved), set(given)


async def give(redis: RedisClient, given: Iterable[tuple[str, Sequence[WebhookEvent]]]) -> None:
    """Puts events into webhooks' queues, where they do not stand there already."""
    wanted: list[Command] = []
    ids = []
    for id_, events in given:
        key = shared_keys.webhook(id_, "queue")
        members = [part for e in events for part in (e.at_ms, event_codec.encode(e))]
        wanted += [("ZADD", key, "NX", *members), ("PEXPIRE", key, KEEP_MS), ("ZCARD", key)]
        ids.append(id_)
    if not wanted:
        return
    replies = await redis.call(wanted)
    for id_, count in zip(ids, replies[2::3], strict=True):
        if count > WAITING_MAX:
            await _lose(redis, id_, count - WAITING_MAX + MAKE_ROOM)


async def _lose(redis: RedisClient, id_: str, count: int) -> None:
    """The oldest leave the queue, and an event tells of them; what cannot be read here stays."""
    queue, state = shared_keys.webhook(id_, "queue"), shared_keys.webhook(id_, "state")
    fresh = new_id()

    async def attempt(session: Session) -> tuple[list[Command], None]:
        members = as_list(await _only(session, ("ZRANGEBYSCORE", queue, "-inf", "+inf")))
        said = await _only(session, ("HGET", state, LOST_FIELD))
        waiting = [(event, each) for each in members if (event := readable(each)) is not None]
        waiting = [each for each in waiting if each[0].type != LOST]
        waiting.sort(key=lambda each: each[0].at_ms)
        oldest = waiting[:count]
        if not oldest:
            return [], None
        first, last = oldest[0][0].at_ms, oldest[-1][0].at_ms
        before = lost_of(said) or LostEvents(fresh, first, 0, first, last)
        lost = replace(
            before,
            count=before.count + len(oldest),
            from_ms=min(before.from_ms, first),
            to_ms=max(before.to_ms, last),
        )
        leaving: list[Command] = [
            ("ZREM", queue, *(member for _, member in oldest)),
            ("HDEL", shared_keys.webhook(id_, "tries"), *(event.id for event, _ in oldest)),
        ]
        return [*leaving, *_tells_of(id_, lost)], None

    await change_state(redis, id_, attempt)


async def lost_is_told(redis: RedisClient, id_: str, lost: LostEvents) -> None:
    """What was lost is told; what was lost since is told by an event of its own."""
    state, fresh = shared_keys.webhook(id_, "state"), new_id()

    async def attempt(session: Session) -> tuple[list[Command], None]:
        now = lost_of(await _only(session, ("HGET", state, LOST_FIELD)))
        if now is None or now.count <= lost.count:
            return [("HDEL", state, LOST_FIELD)], None
        count = now.count - lost.count
        return _tells_of(id_, replace(now, id=fresh, count=count, from_ms=lost.to_ms)), None

    await change_state(redis, id_, attempt)


async def change_state(redis: RedisClient, id_: str, attempt: MakeCommands[T]) -> T:
    """Changes how a webhook stands, whoever else does meanwhile: its outboxes are of several."""
    token = shared_keys.webhook(id_, f"t:{randomness.token()}")

    async def watching(session: Session) -> tuple[list[Command], T]:
        await session.call([("WATCH", token, shared_keys.webhook(id_, "state"))])
        return await attempt(session)

    return await commit(redis, token, watching, CommitCounts())


async def _only(session: Session, command: Command) -> RedisReply:
    (reply,) = await session.call([command])
    return reply


def _tells_of(id_: str, lost: LostEvents) -> list[Command]:
    queue, state = shared_keys.webhook(id_, "queue"), shared_keys.webhook(id_, "state")
    told = WebhookEvent(lost.id, LOST, lost.at_ms)
    return [
        ("HSET", state, LOST_FIELD, msgspec.json.encode(lost)),
        ("PEXPIRE", state, KEEP_MS),
        ("ZADD", queue, "NX", told.at_ms, event_codec.encode(told)),
    ]


def readable(member: bytes) -> WebhookEvent | None:
    """An event as it stands in a queue; None: only a newer Kaskad can read it, or nobody."""
    try:
        return event_codec.decode(member)
    except (NewerRecordError, UnreadableRecordError):
        return None


def lost_of(said: object) -> LostEvents | None:
    """What a webhook's state says of it; what cannot be read says nothing."""
    with suppress(msgspec.DecodeError):
        return msgspec.json.decode(said, type=LostEvents) if isinstance(said, bytes) else None
    return None
