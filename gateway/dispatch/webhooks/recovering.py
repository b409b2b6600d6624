"""Tells a webhook once more what it was told of, or would have been: what it missed, and the rest.

Three kinds of streams are read from the moment that was asked for to the one when it was asked: the
app's events in each shard, what happened that is no message's, and replies that answer none. It is
a page at a time and no faster than the queue empties. An event keeps its id, so what stands in the
queue already is not there twice, and a receiver knows what it has. How far it came is kept with the
webhook: who takes it over goes on there.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from functools import partial

import structlog
from msgspec.structs import replace

from gateway.core.records.entries import StatusChange
from gateway.core.records.webhook import WebhookEvent
from gateway.dispatch.deps import DispatchDeps
from gateway.redis.client import RedisClient
from gateway.store.base import BATCH_MAX
from gateway.store.events import outbox, webhook_queues
from gateway.store.events.webhook_queues import (
    OF_INSTALLATION,
    OF_REPLIES,
    Recovery,
    WebhookBacklog,
)
from gateway.store.former_shards import shards_ever
from gateway.store.messages import reads
from gateway.store.people import replies
from gateway.store.writes import event_of

# Entries of a page: an entry has a change for each message of a batch, or a few, and a page of them
# fits into the half of a queue. Of the other streams an entry is one event.
ENTRIES_MAX = outbox.WAITING_MAX // 2 // BATCH_MAX
SINGLES_MAX = 500

_log = structlog.get_logger("dispatch")

# What stands in a stream, by entry, from one on as a range begins; at most so many.
ReadEvents = Callable[[str, int], Awaitable[list[tuple[str, list[WebhookEvent]]]]]


class Recovering:
    """Of one webhook."""

    def __init__(self, deps: DispatchDeps, app: str, webhook_id: str) -> None:
        self._deps = deps
        self._app = app
        self._id = webhook_id
        self._recovery: Recovery | None = None
        self._waiting = 0

    def take(self, state: WebhookBacklog) -> None:
        """How the webhook is: what is to be recovered, and how much waits."""
        self._recovery = state.recovery
        self._waiting = state.waiting

    async def go_on(self, wanted: tuple[str, ...]) -> bool:
        """A page, of events of the types that are wanted, where there is room for it; whether there
        was one. Raises RedisUnavailable."""
        recovery, redis = self._recovery, self._deps.redis
        if recovery is None or self._waiting > outbox.WAITING_MAX // 2:
            return False
        for number, read, most in await self._streams():
            after = recovery.done.get(number, f"{recovery.since_ms}-0")
            if not after:
                continue
            entries = await read(after, most)
            told = [event for _, events in entries for event in events]
            events = [event for event in told if _is_asked(event, recovery, wanted)]
            if events:
                await outbox.give(redis, [(self._id, events)])
            self._waiting += len(events)
            last = entries[-1][0] if len(entries) == most else ""
            done = {**recovery.done, number: _next(last, recovery)}
            return await self._come_to(recovery, replace(recovery, done=done))
        if await self._come_to(recovery, None):
            _log.info("webhook recovered", app=self._app, webhook=self._id, since=recovery.since_ms)
        return False

    async def _come_to(self, before: Recovery, after: Recovery | None) -> bool:
        """Notes how far it came; False where something else is to be recovered by now, of which the
        next look tells."""
        stands = await webhook_queues.recovered(self._deps.redis, self._id, before, after)
        self._recovery = after if stands else None
        return stands

    async def _streams(self) -> list[tuple[int, ReadEvents, int]]:
        """All that are read: their numbers in a recovery, and how many entries are a page."""
        redis = self._deps.redis
        shards = await shards_ever(redis, self._deps.store.shards)
        return [
            *(
                (shard, partial(_of_shard, redis, self._app, shard), ENTRIES_MAX)
                for shard in shards
            ),
            (OF_INSTALLATION, partial(outbox.happened, redis), SINGLES_MAX),
            (OF_REPLIES, partial(replies.to_nobody, redis), SINGLES_MAX),
        ]


def _next(last: str, recovery: Recovery) -> str:
    """After which entry a stream goes on, as a range begins; "": it is through."""
    return f"({last}" if last and int(last.partition("-")[0]) <= recovery.until_ms else ""


def _is_asked(event: WebhookEvent, recovery: Recovery, wanted: tuple[str, ...]) -> bool:
    return recovery.since_ms <= event.at_ms <= recovery.until_ms and event.type in wanted


async def _of_shard(
    redis: RedisClient, app: str, shard: int, entry: str, most: int
) -> list[tuple[str, list[WebhookEvent]]]:
    entries = await reads.events_from(redis, app, shard, entry, most)
    return [(each.entry, [_of_change(change) for change in each.changes]) for each in entries]


def _of_change(change: StatusChange) -> WebhookEvent:
    if change.reply:
        return replies.event_of(change.reply, change.at_ms, change.app)
    return event_of(change)
