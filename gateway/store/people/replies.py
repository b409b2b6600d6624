"""What people write back: kept for 7 days with the message it answers, and told to its app.

A reply answers the newest message that was sent to its person by the provider it came through: the
index is looked through backwards for it, in bounds, and then what the person holds. Replies are one
stream of the installation: they are few, and only the newest are kept. An app is told of one
through its events, which name it and do not repeat it, so that it goes where its person is erased.

A provider may say the same twice: the second is passed over once all was done for the first.
Raises RedisUnavailable.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Collection, Iterable, Mapping, Sequence
from contextlib import aclosing, suppress
from typing import NamedTuple

from gateway.core.records.codec import NewerRecordError, UnreadableRecordError
from gateway.core.records.entries import StatusChange
from gateway.core.records.message import MESSAGE_NAMES, Message
from gateway.core.records.person import unpack_person
from gateway.core.records.reply import KeptReply, reply_codec
from gateway.core.records.webhook import WebhookEvent
from gateway.core.webhooks import REPLY
from gateway.redis.client import Command, RedisClient
from gateway.store import shared_keys
from gateway.store.compression import pack, unpack
from gateway.store.events import outbox
from gateway.store.former_shards import shards_ever
from gateway.store.keys import keys_of
from gateway.store.messages import person_index, reads
from gateway.store.messages.person_index import bucket_of
from gateway.store.messages.reads import EventEntry
from gateway.store.people.people import read_records
from gateway.store.shared_keys import REPLIES, reply_token
from gateway.store.store import Store
from gateway.store.writes import BLOB_FIELD, event_commands
from providers.contract import PersonReply

KEPT_MS = 7 * 86_400_000
KEPT_MAX = 100_000
TEXT_CHARS_MAX = 1_600  # of a text that is kept
INDEXED_MAX = 20_000  # messages of the index that are looked at for the replies of one callback
PAGE = 200


class IdentifiedReply(NamedTuple):
    """A reply and its id."""

    id: str
    reply: KeptReply

    @property
    def written_ms(self) -> int:
        """When somebody wrote it: by the provider's clock, and not after it was told."""
        return min(self.reply.at_ms, int(self.id.partition("-")[0]))


async def unknown(store: Store, provider: str, replies: Sequence[PersonReply]) -> list[PersonReply]:
    """Those of a provider's replies that were not taken yet, each once."""
    once = list({reply.id: reply for reply in replies}.values())
    seen = await store.redis.call([("GET", reply_token(provider, reply.id)) for reply in once])
    return [reply for reply, value in zip(once, seen, strict=True) if value is None]


async def answered(
    store: Store, identities: Collection[str], fits: Callable[[Message], bool]
) -> dict[str, Message]:
    """By identity of who wrote, the newest message for it that fits."""
    found = await _newest_in_index(store, fits, identities)
    missing = [identity for identity in identities if identity not in found]
    records = await read_records(store.redis, store.shards, missing)
    for identity, record in records.items():
        with suppress(NewerRecordError, UnreadableRecordError):
            person = unpack_person(record)
            held = [slot.message for slot in person.slots]
            held += [claim.message for claim in person.claims.values()]
            messages = await _fitting(store, fits, dict.fromkeys(held))
            own = [m for m in messages if identity in m.identities]
            if own:
                found[identity] = max(own, key=lambda m: m.created_ms)
    return found


async def keep(store: Store, taken: Sequence[KeptReply]) -> list[IdentifiedReply]:
    """Keeps replies, in order."""
    commands: list[Command] = [("MULTI",)]
    for reply in taken:
        entry = pack(reply_codec.encode(reply))
        commands.append(("XADD", REPLIES, "MAXLEN", "~", KEPT_MAX, "*", BLOB_FIELD, entry))
    commands += [("PEXPIRE", REPLIES, KEPT_MS), ("EXEC",)]
    *ids, _ = (await store.redis.call(commands))[-1]
    return [IdentifiedReply(id_.decode(), reply) for id_, reply in zip(ids, taken, strict=True)]


async def note_taken(store: Store, provider: str, replies: Iterable[PersonReply]) -> None:
    """From now on `unknown` passes them over."""
    commands: list[Command] = [
        ("SET", reply_token(provider, reply.id), 1, "PX", KEPT_MS) for reply in replies
    ]
    await store.redis.call(commands)


async def tell(
    store: Store, kept: Sequence[IdentifiedReply], messages: Mapping[str, Message]
) -> None:
    """Tells the apps of replies to their messages, through their events and webhooks; of what
    answers no message all webhooks that want replies."""
    commands: list[Command] = []
    for id_, reply in kept:
        message = messages.get(reply.message)
        box = keys_of(store.shard_of_message(message.id)).outbox if message else shared_keys.OUTBOX
        if store.webhooks.now.wants(reply.app, REPLY):
            commands += outbox.commands(box, [event_of(id_, reply.at_ms, reply.app)])
        if message is None:
            continue
        status = MESSAGE_NAMES[message.status]
        change = StatusChange(
            reply.app,
            reply.message,
            message.campaign,
            status,
            reply.channel,
            None,
            reply.at_ms,
            reply=id_,
        )
        of_shard = keys_of(store.shard_of_message(message.id))
        commands += event_commands(of_shard, reply.app, [change], store.retention)
    if commands:
        await store.redis.call(commands)


def event_of(id_: str, at_ms: int, app: str) -> WebhookEvent:
    """What webhooks are told of a reply: by reference, and always under one id."""
    return WebhookEvent(f"evt_{id_}", REPLY, at_ms, app, reply=id_)


async def to_nobody(
    redis: RedisClient, entry: str, most: int
) -> list[tuple[str, list[WebhookEvent]]]:
    """What was told of replies that answer no message, by the reply's id, from one on as a range
    begins. Of `most` replies at most, of which the others tell nothing here."""
    (page,) = await redis.call([("XRANGE", REPLIES, entry, "+", "COUNT", most)])
    told = {
        kept.id: [event_of(kept.id, kept.reply.at_ms, "")]
        for kept in _kept(page)
        if not kept.reply.app
    }
    return [(id_.decode(), told.get(id_.decode(), [])) for id_, _ in page]


async def find(store: Store, ids: Sequence[str]) -> dict[str, KeptReply]:
    """Those of the replies that are still kept."""
    if not ids:
        return {}
    found = await store.redis.call([("XRANGE", REPLIES, id_, id_) for id_ in ids])
    return {kept.id: kept.reply for page in found for kept in _kept(page)}


async def add(store: Store, entries: Sequence[EventEntry]) -> None:
    """Adds the replies that event entries tell of."""
    named = [(entry, change.reply) for entry in entries for change in entry.changes if change.reply]
    found = await find(store, [id_ for _, id_ in named])
    for entry, id_ in named:
        if id_ in found:
            entry.replies[id_] = found[id_]


async def newest(
    store: Store, apps: Collection[str], limit: int, oldest_ms: int, before: str = ""
) -> tuple[list[IdentifiedReply], str | None]:
    """Replies to these apps' messages, "" for those to nobody's, the newest first; and the id
    before which there may be more."""
    found: list[IdentifiedReply] = []
    end = f"({before}" if before else "+"
    while True:
        (page,) = await store.redis.call(
            [("XREVRANGE", REPLIES, end, max(oldest_ms, 0), "COUNT", PAGE)]
        )
        for kept in _kept(page):
            if kept.reply.app in apps:
                if len(found) == limit:
                    return found, found[-1].id
                found.append(kept)
        if len(page) < PAGE:
            return found, None
        end = "(" + page[-1][0].decode()


async def cut(redis: RedisClient, oldest_ms: int) -> None:
    """Drops what came before that moment."""
    await redis.call([("XTRIM", REPLIES, "MINID", max(oldest_ms, 0))])


async def forget(store: Store, identities: Collection[str], app: str | None) -> None:
    """Drops what these wrote; with `app` to that app alone."""
    async for page in pages(store):
        theirs = [
            kept.id
            for kept in page
            if kept.reply.identity in identities and app in (None, kept.reply.app)
        ]
        if theirs:
            await store.redis.call([("XDEL", REPLIES, *theirs)])


async def pages(store: Store, since_ms: int = 0) -> AsyncIterator[list[IdentifiedReply]]:
    """What is kept that was told since a moment, the oldest first."""
    start = str(max(since_ms, 0))
    while True:
        (page,) = await store.redis.call([("XRANGE", REPLIES, start, "+", "COUNT", PAGE)])
        yield _kept(page)
        if len(page) < PAGE:
            return
        start = "(" + page[-1][0].decode()


def _kept(page: list[tuple[bytes, list[bytes]]]) -> list[IdentifiedReply]:
    """What can be read of a page."""
    found = []
    for id_, fields in page:
        with suppress(NewerRecordError, UnreadableRecordError):
            found.append(IdentifiedReply(id_.decode(), reply_codec.decode(unpack(fields[1]))))
    return found


async def _newest_in_index(
    store: Store, fits: Callable[[Message], bool], identities: Collection[str]
) -> dict[str, Message]:
    wanted = set(map(bucket_of, identities))
    waiting: dict[str, None] = {}
    found: dict[str, Message] = {}
    looked_at = 0
    shards = await shards_ever(store.redis, store.shards)
    async with aclosing(person_index.newest(store.redis, shards)) as entries:
        async for _, items in entries:
            looked_at += len(items)
            waiting |= {i.message: None for i in items if not wanted.isdisjoint(i.buckets)}
            over = looked_at >= INDEXED_MAX
            if len(waiting) >= PAGE or over:
                await _take(store, fits, identities, waiting, found)
                waiting = {}
            if over or len(found) == len(identities):
                break
    await _take(store, fits, identities, waiting, found)
    return found


async def _take(
    store: Store,
    fits: Callable[[Message], bool],
    identities: Collection[str],
    ids: Collection[str],
    found: dict[str, Message],
) -> None:
    for message in await _fitting(store, fits, ids):
        for identity in message.identities:
            if identity in identities:
                before = found.get(identity)
                if before is None or before.created_ms < message.created_ms:
                    found[identity] = message


async def _fitting(
    store: Store, fits: Callable[[Message], bool], ids: Collection[str]
) -> list[Message]:
    return [message for message in await reads.readable_messages(store, ids) if fits(message)]
