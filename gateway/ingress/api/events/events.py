"""`GET /v1/events`: an app's status changes as Server-Sent Events, resumable.

A stream catches up after `Last-Event-ID`, or after having been too slow, and sends a heartbeat
while nothing happens. An event's id is the position after it in every shard there ever was,
`<entry>.<index>` joined by commas, so that any worker can resume it. Events that the retention has
dropped meanwhile are gone.

The stream ends when its key opens nothing any more. A client that takes nothing for
`request_timeout` is disconnected; beyond `sse_clients_max` clients a worker refuses with 503, and
beyond half of them one app, where several send. While Redis is unavailable a stream stays open and
brings heartbeats.
"""

from __future__ import annotations

import asyncio
import re
from collections import Counter

import msgspec

from gateway.core.channels import ChannelName
from gateway.core.records.entries import StatusChange
from gateway.core.records.words import ReactionName
from gateway.core.views.reply import view_of as reply_view
from gateway.core.views.words import Status, Time, rfc3339
from gateway.ingress.api.events.event_hub import EventHub, EventSubscription, Position, position_at
from gateway.ingress.http.asgi import ClientGone, to_json
from gateway.ingress.http.key_watch import KeyWatch
from gateway.ingress.http.problems import refuse
from gateway.ingress.http.request import Request
from gateway.ingress.metrics import QuotaMetrics
from gateway.redis.errors import RedisError
from gateway.settings.tables import Server
from gateway.store.messages import reads
from gateway.store.messages.reads import EVENT_ENTRIES_MAX, EventEntry
from gateway.store.people import replies
from gateway.store.store import Store

HEARTBEAT_S = 15.0
RECONNECT_MS = 2_000  # what a browser is told to wait
RETRY_S = 1.0  # until catching up is tried again
EVENT_BYTES_MAX = 64 * 1024  # of events in one write
# Changes that are read together of what a client missed, but for those of one transaction.
MISSED_TOGETHER = 250

_HEADERS = (
    (b"content-type", b"text/event-stream"),
    (b"cache-control", b"no-store"),
    (b"x-accel-buffering", b"no"),
)
_HELLO = b"retry: %d\nid: %s\n: status changes follow\n\n"
_HEARTBEAT = b": still here\n\n"
_LAST_EVENT_ID_BYTES_MAX = 48 * 1024
_position = re.compile(r"([0-9]{1,18})-([0-9]{1,18})\.([0-9]{1,6})").fullmatch


class EventData(msgspec.Struct, frozen=True, omit_defaults=True):
    """One status change, or news of a message beside its status: it became `final`, or the person
    reacted. `metadata` only where the message has some."""

    id: str
    campaign: str | None
    status: Status
    channel: ChannelName | None
    reason: str | None
    at: Time
    final: bool
    reaction: ReactionName | None
    metadata: dict[str, str] | msgspec.UnsetType = msgspec.UNSET


class EventsEndpoint:
    """Answers every client of this worker."""

    def __init__(
        self,
        store: Store,
        hub: EventHub,
        limits: Server,
        keys: KeyWatch,
        metrics: QuotaMetrics,
    ) -> None:
        self.clients = 0
        self._of_app: Counter[str] = Counter()
        self._lines = store.lines
        self._metrics = metrics
        self._store = store
        self._hub = hub
        self._keys = keys
        self._clients_max = limits.sse_clients_max
        self._timeout_s = limits.request_timeout_ms / 1000

    async def follow(self, request: Request) -> None:
        if self.clients >= self._clients_max:
            raise refuse("unavailable", "Too many event streams are open here: try again later.")
        app = request.principal.app
        share = self._lines.share_of(self._clients_max)
        if self._of_app[app] >= share:
            self._metrics.refused.labels(app, "event_streams").inc()
            raise refuse(
                "unavailable",
                f"Of the {self._clients_max} event streams here an app may have {share}, and yours "
                "has: close one, or try again later.",
            )
        # Counted before anything is waited for: after a restart all of them come at once.
        self.clients += 1
        self._of_app[app] += 1
        try:
            await self._tell(request, app)
        finally:
            self.clients -= 1
            self._of_app[app] -= 1

    async def _tell(self, request: Request, app: str) -> None:
        resumed = request.header(b"last-event-id")
        subscription = await self._hub.join(app)
        try:
            positions = _start_at(resumed, subscription)
            stream = _EventStream(
                request, self._store, subscription, positions, self._timeout_s, behind=bool(resumed)
            )
            with self._keys.watching(request.principal, "read", subscription.close):
                async with asyncio.TaskGroup() as tasks:
                    watcher = tasks.create_task(request.until_gone())
                    await stream.run()
                    watcher.cancel()
        except* (TimeoutError, ClientGone):
            request.abort()
        finally:
            self._hub.leave(subscription)


def _start_at(resumed: bytes | None, subscription: EventSubscription) -> list[Position]:
    """The position in each shard. Raises Refusal for an id that is none of ours."""
    if not resumed:
        # A whole entry was told when no index of it can follow.
        return [position_at(entry, 999_999) for entry in subscription.joined_at]
    parts = resumed[: _LAST_EVENT_ID_BYTES_MAX + 1].decode("latin-1").split(",")
    found = [_position(part.strip()) for part in parts]
    positions = [Position(*map(int, match.groups())) for match in found if match is not None]
    whole = len(resumed) <= _LAST_EVENT_ID_BYTES_MAX and len(positions) == len(found)
    if not whole or len(positions) not in subscription.lengths:
        raise refuse("malformed", "The header Last-Event-ID is not an id of this stream.")
    # An id from before there were so many shards: the later ones had told nothing then.
    return positions + [Position(0, 0, 0)] * (len(subscription.joined_at) - len(positions))


class _EventStream:
    def __init__(
        self,
        request: Request,
        store: Store,
        subscription: EventSubscription,
        positions: list[Position],
        timeout_s: float,
        *,
        behind: bool,
    ) -> None:
        # Shards of which something is missing, and from when on it is read from Redis.
        self._behind = list(range(len(positions))) if behind else []
        self._read_at = 0.0
        self._request = request
        self._store = store
        self._subscription = subscription
        self._positions = positions
        self._timeout_s = timeout_s
        self._unsent: list[bytes] = []
        self._unsent_bytes = 0

    async def run(self) -> None:
        """Writes events until told to close. Raises TimeoutError when nobody takes them."""
        await self._request.begin(200, _HEADERS)
        # With an id, so that who is cut off before the first event resumes from here as well.
        await self._write(_HELLO % (RECONNECT_MS, self._id()))
        now = asyncio.get_running_loop().time
        while not self._subscription.closing:
            if self._subscription.overflowed:
                self._subscription.overflowed = False
                self._behind, self._read_at = list(range(len(self._positions))), 0.0
            if self._behind and now() >= self._read_at:
                await self._catch_up()
            if self._subscription.overflowed:  # what was queued may have come after what is missing
                continue
            for entry in self._subscription.take():
                if entry.shard not in self._behind:
                    await self._tell(entry)
            await self._flush()
            wait_s = max(self._read_at - now(), 0.0) if self._behind else HEARTBEAT_S
            try:
                async with asyncio.timeout(wait_s):
                    await self._subscription.news.wait()
            except TimeoutError:
                await self._write(_HEARTBEAT)
        await self._request.end()

    async def _catch_up(self) -> None:
        """Reads each shard that is behind from where this client stands to its end. What is queued
        meanwhile and was read here too is skipped by its position. One that is away comes last the
        next time, and is told nothing of until then."""
        for shard in list(self._behind):
            self._behind.remove(shard)
            try:
                await self._read_missed(shard)
            except RedisError:
                self._behind.append(shard)
                self._read_at = asyncio.get_running_loop().time() + RETRY_S
                return

    async def _read_missed(self, shard: int) -> None:
        """Reads one shard, no more at once than a client that takes its time may hold: 60 that took
        nothing held 2.9 GB, and the worker answered nobody for 0.8 s (2026-11-30)."""
        app, redis = self._subscription.app, self._store.redis
        most = 2  # where it stands, and the next
        while True:
            told = self._positions[shard]
            found = await reads.events_from(redis, app, shard, told.entry, most, MISSED_TOGETHER)
            missed = [each for each in found if _end_of(each) > told]
            await reads.add_metadata(self._store, missed)
            await replies.add(self._store, missed)
            for entry in missed:
                await self._tell(entry)
            full = sum(len(entry.changes) for entry in found) >= MISSED_TOGETHER
            if len(found) < (2 if full else most):
                return
            most = len(found) if full else min(2 * most, EVENT_ENTRIES_MAX)

    async def _tell(self, entry: EventEntry) -> None:
        if not entry.changes:  # it is not for this process to read
            self._positions[entry.shard] = max(self._positions[entry.shard], _end_of(entry))
        for index, change in enumerate(entry.changes):
            position = position_at(entry.entry, index)
            if position <= self._positions[entry.shard]:
                continue
            self._positions[entry.shard] = position
            if change.fallback:  # it is told to webhooks alone
                continue
            if change.reply:
                reply = entry.replies.get(change.reply)
                if reply is None:  # it is forgotten
                    continue
                kind, data = b"inbound", to_json(reply_view(change.reply, reply))
            else:
                kind, data = b"status", to_json(_data(change))
            event = b"event: %s\nid: %s\ndata: %s\n\n" % (kind, self._id(), data)
            self._unsent.append(event)
            self._unsent_bytes += len(event)
            if self._unsent_bytes >= EVENT_BYTES_MAX:
                await self._flush()

    def _id(self) -> bytes:
        """Of the last event that was told: where to resume."""
        return ",".join(f"{p.entry}.{p.nth}" for p in self._positions).encode()

    async def _flush(self) -> None:
        if self._unsent:
            body, self._unsent, self._unsent_bytes = b"".join(self._unsent), [], 0
            await self._write(body)

    async def _write(self, body: bytes) -> None:
        async with asyncio.timeout(self._timeout_s):
            await self._request.write(body)


def _end_of(entry: EventEntry) -> Position:
    """The position of its last event."""
    return position_at(entry.entry, max(len(entry.changes) - 1, 0))


def _data(change: StatusChange) -> EventData:
    return EventData(
        id=change.id,
        campaign=change.campaign,
        status=change.status,  # type: ignore[arg-type]  # the same names
        channel=change.channel,
        reason=change.reason,
        at=rfc3339(change.at_ms),
        final=change.final,
        reaction=change.reaction,
        metadata=change.metadata or msgspec.UNSET,
    )
