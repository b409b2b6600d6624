"""The body of each call: the event, with what it speaks of as that is now.

A message that is forgotten is named by its id and status; a reply that is forgotten is not told any
more, because its person may be. What a newer Kaskad wrote waits for that, and what is in a shard
that is away for the shard. Raises RedisUnavailable.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Sequence
from contextlib import suppress
from typing import NamedTuple

import msgspec
import trio

from gateway.core.ids import shard_of_id
from gateway.core.records.message import Message
from gateway.core.records.reply import KeptReply
from gateway.core.records.webhook import WebhookEvent
from gateway.core.views.message import view_of
from gateway.core.views.reply import view_of as reply_view
from gateway.core.views.words import rfc3339
from gateway.core.webhooks import LOST
from gateway.dispatch.redis_retry import RETRYABLE
from gateway.store.events.outbox import LostEvents
from gateway.store.messages import reads
from gateway.store.people import replies
from gateway.store.store import Store

_to_json = msgspec.json.Encoder().encode


class Bodies(NamedTuple):
    """The bodies by the events' ids; what is not to be told any more; what cannot be read by this
    process, or not now; and what the messages that are traced carry, by the events' ids."""

    ready: dict[str, bytes]
    forgotten: set[str]
    unread: set[str]
    away: set[str]
    traced: dict[str, str]


async def bodies(store: Store, events: Sequence[WebhookEvent], lost: LostEvents | None) -> Bodies:
    """The bodies of events; `lost` is what `events.lost` tells."""
    ids = dict.fromkeys(event.message for event in events if event.message)
    messages, away = await _messages(store, ids)
    answered = await replies.find(store, [event.reply for event in events if event.reply])
    found = Bodies({}, set(), set(), set(), {})
    for event in events:
        if event.message in away:
            found.away.add(event.id)
            continue
        if event.message:
            message = messages.get(event.message)
            if isinstance(message, Exception):
                found.unread.add(event.id)
                continue
            if message is not None and message.trace:
                found.traced[event.id] = message.trace
            data = _of_message(event, message, store.policy.currency)
        elif event.reply:
            data = _of_reply(event.reply, answered)
        elif event.type == LOST:
            data = _of_lost(lost)
        else:
            data = event.data
        if data:
            moment = rfc3339(event.at_ms).encode()
            body = b'{"type":"%b","timestamp":"%b","data":%b}' % (event.type.encode(), moment, data)
            found.ready[event.id] = body
        else:
            found.forgotten.add(event.id)
    return found


async def _messages(
    store: Store, ids: Iterable[str]
) -> tuple[dict[str, Message | Exception], set[str]]:
    """Those that there are, and of which it is not known: of a cluster one master may be away."""
    with suppress(*RETRYABLE):
        return await reads.messages_anywhere(store, ids), set()
    found, away = dict[str, Message | Exception](), set[str]()
    of_shards = defaultdict[int | None, list[str]](list)
    for id_ in ids:
        of_shards[shard_of_id(id_)].append(id_)

    async def read(of_shard: list[str]) -> None:
        try:
            found.update(await reads.messages_anywhere(store, of_shard))
        except RETRYABLE:
            away.update(of_shard)

    async with trio.open_nursery() as nursery:
        for of_shard in of_shards.values():
            nursery.start_soon(read, of_shard)
    return found, away


def _of_message(event: WebhookEvent, message: Message | None, currency: str) -> bytes:
    """What `GET /v1/messages/{id}` answers, and the sequence."""
    if message is None:
        status = event.type.partition(".")[2]
        return _to_json({"id": event.message, "status": status, "sequence": event.sequence})
    return b'%b,"sequence":%d}' % (_to_json(view_of(message, currency))[:-1], event.sequence)


def _of_reply(id_: str, answered: dict[str, KeptReply]) -> bytes:
    reply = answered.get(id_)
    return b"" if reply is None else _to_json(reply_view(id_, reply))


def _of_lost(lost: LostEvents | None) -> bytes:
    if lost is None:
        return b""
    ends = {"from": rfc3339(lost.from_ms), "to": rfc3339(lost.to_ms)}
    return _to_json({"count": lost.count, **ends})
