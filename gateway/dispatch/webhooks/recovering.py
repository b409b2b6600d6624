"""Tells a webhook once more what its app's events tell of: what it missed, and what arrived too.

The events stream of the app is read from the moment that was asked for to the one when it was
asked, shard after shard, a page at a time and no faster than the queue empties. An event keeps its
id, so what stands in the queue already is not there twice, and a receiver knows what it has. How
far it came is kept with the webhook: who takes it over goes on there.
"""

from __future__ import annotations

import structlog
from msgspec.structs import replace

from gateway.core.records.entries import StatusChange
from gateway.core.records.webhook import WebhookEvent
from gateway.core.webhooks import REPLY
from gateway.dispatch.deps import DispatchDeps
from gateway.store import outbox, reads, webhook_queues
from gateway.store.base import BATCH_MAX
from gateway.store.former_shards import shards_ever
from gateway.store.reads import EventEntry
from gateway.store.webhook_queues import Recovery, State
from gateway.store.writes import event_of

# Entries of a page: an entry has a change for each message of a batch, or a few, and a page of them
# fits into the half of a queue.
ENTRIES_MAX = outbox.WAITING_MAX // 2 // BATCH_MAX

_log = structlog.get_logger("dispatch")


class Recovering:
    """Of one webhook."""

    def __init__(self, deps: DispatchDeps, app: str, webhook_id: str) -> None:
        self._deps = deps
        self._app = app
        self._id = webhook_id
        self._recovery: Recovery | None = None
        self._waiting = 0

    def take(self, state: State) -> None:
        """How the webhook is: what is to be recovered, and how much waits."""
        self._recovery = state.recovery
        self._waiting = state.waiting

    async def go_on(self, wanted: tuple[str, ...]) -> None:
        """A page, of events of the types that are wanted, where there is room for it. Raises
        RedisUnavailable."""
        recovery, redis = self._recovery, self._deps.redis
        if recovery is None or self._waiting > outbox.WAITING_MAX // 2:
            return
        for shard in await shards_ever(redis, self._deps.store.shards):
            after = recovery.done.get(shard, f"{recovery.since_ms}-0")
            if not after:
                continue
            entries = await reads.events_from(redis, self._app, shard, after, ENTRIES_MAX)
            changes = [change for entry in entries for change in entry.changes]
            events = [event for change in changes if (event := _event(change, recovery, wanted))]
            if events:
                await outbox.give(redis, [(self._id, events)])
            self._waiting += len(events)
            end = _end(entries, recovery)
            self._recovery = replace(recovery, done={**recovery.done, shard: end})
            await webhook_queues.recover(redis, self._id, self._recovery)
            return
        self._recovery = None
        await webhook_queues.recover(redis, self._id, None)
        _log.info("webhook recovered", app=self._app, webhook=self._id, since=recovery.since_ms)


def _end(entries: list[EventEntry], recovery: Recovery) -> str:
    """After which entry a shard goes on, as a range begins; "": it is through."""
    last = entries[-1].entry if len(entries) == ENTRIES_MAX else ""
    return f"({last}" if last and int(last.partition("-")[0]) <= recovery.until_ms else ""


def _event(
    change: StatusChange, recovery: Recovery, wanted: tuple[str, ...]
) -> WebhookEvent | None:
    """What the webhook was, or would have been, told of a change."""
    if not recovery.since_ms <= change.at_ms <= recovery.until_ms:
        return None
    if change.reply:
        event = WebhookEvent(f"evt_{change.reply}", REPLY, change.at_ms, change.app)
        event = replace(event, reply=change.reply)
    else:
        event = event_of(change)
    return event if event.type in wanted else None
