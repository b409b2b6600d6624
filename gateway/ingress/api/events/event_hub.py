"""One reader of event streams a worker, and what it hands to many clients.

All apps that have clients are read together, in a round trip a shard, again at once while there is
more and every POLL_S otherwise. Each client has a bounded queue. One that is too slow for its queue
loses the queue, not events: it is told to read for itself from where it is. While a shard's Redis
is unavailable nothing comes from there, and reading goes on by itself.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Collection
from typing import NamedTuple

import structlog

from gateway.redis.errors import RedisError
from gateway.store.former_shards import ever, shards_before
from gateway.store.messages import reads
from gateway.store.messages.reads import EVENT_ENTRIES_MAX, EventEntry
from gateway.store.people import replies
from gateway.store.store import Store

POLL_S = 0.1
QUEUE_ENTRIES_MAX = 256  # a client; an entry is what one transaction changed for the app
QUEUE_CHANGES_MAX = 4_096  # of these entries together, but for the last

_log = structlog.get_logger("ingress")


class Position(NamedTuple):
    """How far one shard's stream was told: entry (milliseconds, sequence), and event in it."""

    ms: int
    sequence: int
    nth: int

    @property
    def entry(self) -> str:
        return f"{self.ms}-{self.sequence}"


def position_at(entry: str, index: int) -> Position:
    ms, _, sequence = entry.partition("-")
    return Position(int(ms), int(sequence), index)


class EventSubscription:
    """One client's queue. `overflowed`: entries are missing, read from Redis and go on."""

    def __init__(self, app: str, joined_at: list[str], lengths: Collection[int]) -> None:
        self.app = app
        self.joined_at = joined_at  # entry ids a shard: everything after them is queued
        self.lengths = lengths  # how many shards an event's id may name
        self.overflowed = False
        self.closing = False
        self.news = asyncio.Event()
        self._entries: deque[EventEntry] = deque()
        self._changes = 0

    def add(self, entry: EventEntry) -> None:
        if len(self._entries) >= QUEUE_ENTRIES_MAX or self._changes >= QUEUE_CHANGES_MAX:
            self._entries.clear()
            self._changes = 0
            self.overflowed = True
        self._entries.append(entry)
        self._changes += len(entry.changes)
        self.news.set()

    def close(self) -> None:
        """Tells the client to end."""
        self.closing = True
        self.news.set()

    def take(self) -> list[EventEntry]:
        """All that came since the last call."""
        entries = list(self._entries)
        self._entries.clear()
        self._changes = 0
        self.news.clear()
        return entries


class _Feed:
    """One app's stream, in each shard, and who listens."""

    def __init__(self, positions: list[str], shards_before: list[int]) -> None:
        self.positions = positions
        self.lengths = {len(positions), *shards_before}
        self.subscriptions: set[EventSubscription] = set()


class EventHub:
    """Reads for all clients of this worker; `run` must run beside it."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self._feeds: dict[str, _Feed] = {}
        self._wanted = asyncio.Event()
        self._closing = False

    async def join(self, app: str) -> EventSubscription:
        """A queue of all that comes from now on. Raises RedisUnavailable."""
        if app not in self._feeds:
            before = await shards_before(self._store.redis)
            shards = ever(self._store.shards, before)
            positions = await reads.last_event_entry(self._store.redis, app, shards)
            # Another client of the app may have joined meanwhile: then its feed is the one.
            self._feeds.setdefault(app, _Feed(positions, before))
        feed = self._feeds[app]
        subscription = EventSubscription(app, list(feed.positions), feed.lengths)
        subscription.closing = self._closing
        feed.subscriptions.add(subscription)
        self._wanted.set()
        return subscription

    def leave(self, subscription: EventSubscription) -> None:
        feed = self._feeds[subscription.app]
        feed.subscriptions.discard(subscription)
        if not feed.subscriptions:
            del self._feeds[subscription.app]

    def close(self) -> None:
        """Tells every client to end: the worker is about to stop."""
        self._closing = True
        for feed in self._feeds.values():
            for subscription in feed.subscriptions:
                subscription.close()

    async def run(self) -> None:
        """Reads until it is cancelled."""
        while True:
            if not self._feeds:
                self._wanted.clear()
                await self._wanted.wait()
            shards = range(max(len(feed.positions) for feed in self._feeds.values()))
            full = await asyncio.gather(*map(self._read_once, shards))
            if not any(full):
                await asyncio.sleep(POLL_S)

    async def _read_once(self, shard: int) -> bool:
        """Hands out what is new in a shard; returns whether a stream may have more already. One
        whose Redis is away has nothing, and costs the others what it takes to find that out."""
        asked = dict(self._feeds)
        positions = {app: feed.positions[shard] for app, feed in asked.items()}
        full = False
        try:
            news = await reads.events_after(self._store.redis, shard, positions)
            for app, entries in news.items():
                feed = asked[app]
                await reads.add_metadata(self._store, entries)
                await replies.add(self._store, entries)
                for entry in entries:
                    feed.positions[shard] = entry.entry
                    for subscription in feed.subscriptions:
                        subscription.add(entry)
                full = full or len(entries) >= EVENT_ENTRIES_MAX
        except RedisError as error:
            _log.debug("events_not_read", shard=shard, reason=str(error))
        return full
