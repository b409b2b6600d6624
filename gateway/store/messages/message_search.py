"""An app's messages by whom they went to or by campaign, the newest first.

The index of messages is read backwards, all shards together, and of what may fit the records; where
it ends because the rest was archived, the search goes on there. That is bounded: a search that has
looked at enough says how far it came, and is gone on with from there. What is accepted meanwhile is
newer than any place that was told, and a message has one place wherever that is kept, so pages
neither shift nor repeat. A message that was erased names nobody, so it is not found by what was
erased; the archive has hashes of whom its messages named, so there it is asked who was. Nor is one
found that was accepted before there was an index. Raises RedisUnavailable, and what the archive
raises.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from contextlib import aclosing
from typing import NamedTuple, Protocol

import msgspec

from gateway.core.records.message import MESSAGE_NAMES, Message
from gateway.store.archive import archived_index
from gateway.store.former_shards import shards_ever
from gateway.store.messages import person_index, reads
from gateway.store.messages.person_index import IndexPlace, bucket_of
from gateway.store.people import forgotten
from gateway.store.store import Store

# Messages of the index that one search looks at: 0.1 s of CPU, of single posts 0.5 (2026-11-28).
INDEXED_MAX = 100_000
RECORDS_MAX = 2_000  # of which it reads the records
RECORDS_A_BATCH = 100


class Wanted(Protocol):
    """What a search looks for: of which identities and campaign a message must be to be read at
    all, and whether its record then fits."""

    @property
    def identities(self) -> tuple[str, ...]: ...

    @property
    def campaign(self) -> str | None: ...

    def fits(self, message: Message) -> bool:
        """Whom the message names was seen to."""


class Sought(msgspec.Struct, frozen=True):
    """All of it holds for what is found. `app` None: of every app. `identities`: everybody a
    message must name."""

    app: str | None
    identities: tuple[str, ...] = ()
    campaign: str | None = None
    status: str | None = None

    def fits(self, message: Message) -> bool:
        return (
            self.app in (None, message.app)
            and self.campaign in (None, message.campaign)
            and self.status in (None, MESSAGE_NAMES[message.status])
        )


class ArchivedMessage(NamedTuple):
    """An archived place, its message, and the latest record of that; None: it is not closed."""

    place: IndexPlace
    message: str
    record: bytes | None


class ArchivedIndex(Protocol):
    """The part of the index that the archive has."""

    async def accepted(
        self, identities: Iterable[str], campaign: str | None, before: IndexPlace, count: int
    ) -> tuple[list[ArchivedMessage], IndexPlace | None]:
        """At most `count` messages that named all of these when they were archived, before a place,
        the newest first, and before which place to go on; None: there is no more."""


class FoundPage(msgspec.Struct, frozen=True):
    """`next`: the place before which to go on; None: there is no more."""

    messages: list[Message]
    next: IndexPlace | None


FoundMessages = list[tuple[IndexPlace, Message]]


async def search(
    store: Store,
    sought: Wanted,
    limit: int,
    before: IndexPlace | None = None,
    archived: ArchivedIndex | None = None,
) -> FoundPage:
    """At most `limit` messages, before a place."""
    found, after = await _in_redis(store, sought, limit, before)
    if archived is not None:
        # Asked last: what was read of an older moment may have been cut meanwhile.
        border = IndexPlace(await archived_index.whole_from(store.redis), 0, 0, 0)
        if border.at_ms and (after is None or after < border):
            found = [(place, message) for place, message in found if place >= border]
            after = border
            if room := limit - len(found):
                start = border if before is None else min(before, border)
                rest, after = await _in_archive(store, sought, room, start, archived)
                found += rest
    return FoundPage([message for _, message in found], after)


async def _in_redis(
    store: Store, sought: Wanted, limit: int, before: IndexPlace | None
) -> tuple[FoundMessages, IndexPlace | None]:
    found: FoundMessages = []
    waiting: dict[str, IndexPlace] = {}
    looked_at = records = 0
    buckets, campaign = frozenset(map(bucket_of, sought.identities)), sought.campaign
    shards = await shards_ever(store.redis, store.shards)
    async with aclosing(person_index.newest(store.redis, shards, before, anew=False)) as entries:
        async for place, items in entries:
            looked_at += len(items)
            for number in range(len(items) - 1, -1, -1):
                item = items[number]
                if campaign in (None, item.campaign) and buckets.issubset(item.buckets):
                    waiting[item.message] = place._replace(item=number)
            over = looked_at >= INDEXED_MAX or records + len(waiting) >= RECORDS_MAX
            if len(waiting) < RECORDS_A_BATCH and not over:
                continue
            records += len(waiting)
            found += await _fitting(store, sought, waiting)
            waiting = {}
            if over and len(found) <= limit:
                return found, place
            if len(found) > limit:
                break
    found += await _fitting(store, sought, waiting)
    return _cut(found, limit, None)


async def _in_archive(
    store: Store, sought: Wanted, limit: int, before: IndexPlace, archived: ArchivedIndex
) -> tuple[FoundMessages, IndexPlace | None]:
    count = max(limit + 1, RECORDS_A_BATCH)
    accepted, after = await archived.accepted(sought.identities, sought.campaign, before, count)
    here = await reads.messages_anywhere(store, [each.message for each in accepted])
    found: FoundMessages = []
    for each in accepted:
        message = here.get(each.message) or reads.readable(store, each.message, each.record)
        if isinstance(message, Message) and sought.fits(message):
            found.append((each.place, message))
    if sought.identities:
        apps = {message.app for _, message in found}
        since = await forgotten.since(store.redis, sought.identities, apps)
        found = [
            (place, message) for place, message in found if place.at_ms >= since.get(message.app, 0)
        ]
    return _cut(found, limit, after)


def _cut(
    found: FoundMessages, limit: int, after: IndexPlace | None
) -> tuple[FoundMessages, IndexPlace | None]:
    """As many as are asked for, and before which place to go on."""
    return found[:limit], found[limit - 1][0] if len(found) > limit else after


async def _fitting(store: Store, sought: Wanted, places: Mapping[str, IndexPlace]) -> FoundMessages:
    """Those of the messages in Redis that are what is sought, in their order."""
    messages = await reads.readable_messages(store, places)
    return [
        (places[message.id], message)
        for message in messages
        if set(sought.identities).issubset(message.identities) and sought.fits(message)
    ]
