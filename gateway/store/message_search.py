"""An app's messages by whom they went to or by campaign, the newest first.

The index of messages is read backwards, all shards together, and of what may fit the records. That
is bounded: a search that has looked at enough says how far it came, and is gone on with from there.
What is accepted meanwhile is newer than any place that was told, so pages neither shift nor repeat.
A message that was erased names nobody, so it is not found by what was erased; nor is one accepted
before there was an index. Raises RedisUnavailable.
"""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import aclosing
from typing import Protocol

import msgspec

from gateway.core.records.message import MESSAGE_NAMES, Message
from gateway.store import person_index, reads
from gateway.store.former_shards import shards_ever
from gateway.store.person_index import Place, bucket_of
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

    def fits(self, message: Message) -> bool: ...


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
            and set(self.identities).issubset(message.identities)
        )


class Page(msgspec.Struct, frozen=True):
    """`next`: the place before which to go on; None: there is no more."""

    messages: list[Message]
    next: Place | None


async def search(store: Store, sought: Wanted, limit: int, before: Place | None = None) -> Page:
    """At most `limit` messages, before a place."""
    found: list[tuple[Place, Message]] = []
    waiting: dict[str, Place] = {}
    looked_at = records = 0
    buckets, campaign = frozenset(map(bucket_of, sought.identities)), sought.campaign
    shards = await shards_ever(store.redis, store.shards)
    async with aclosing(person_index.newest(store.redis, shards, before)) as entries:
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
                return Page([message for _, message in found], place)
            if len(found) > limit:
                break
    found += await _fitting(store, sought, waiting)
    more = found[limit - 1][0] if len(found) > limit else None
    return Page([message for _, message in found[:limit]], more)


async def _fitting(
    store: Store, sought: Wanted, places: Mapping[str, Place]
) -> list[tuple[Place, Message]]:
    """Those of the messages that are what is sought, in their order."""
    messages = await reads.readable_messages(store, places)
    return [(places[message.id], message) for message in messages if sought.fits(message)]
