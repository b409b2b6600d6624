"""Shares webhooks and outboxes among the dispatchers that are there, and works on ours.

Each dispatcher says every second that it is there, and all reckon alike who has what: each thing
goes to the one whose draw for it is highest, so a dispatcher that comes or goes moves its share and
nothing else. What one has it keeps by a lease, so two never send to the same receiver for longer
than a lease. While an installation never had a webhook nothing is read but what all processes read;
what stands in an outbox when the last one is deleted leaves it all the same.
"""

from __future__ import annotations

import zlib
from collections.abc import Sequence
from contextlib import suppress
from functools import partial

import structlog
import trio

from gateway.core.records.webhook import Webhook
from gateway.core.webhooks import DEAD_MS, Webhooks
from gateway.dispatch.apart import Apart
from gateway.dispatch.deps import DispatchDeps
from gateway.dispatch.redis_retry import RETRYABLE
from gateway.dispatch.webhooks.posting import OpenPosting, opens
from gateway.dispatch.webhooks.sender import FAREWELL_S, WebhookSender
from gateway.store.events import outbox, sharing
from gateway.store.former_shards import shards_ever

TURN_S = 1.0
MOVE_S = 0.2  # between two looks at outboxes that hold nothing
RESTART_S = 30.0  # until what failed begins anew

_log = structlog.get_logger("dispatch")


async def run(deps: DispatchDeps, open_posting: OpenPosting | None = None) -> None:
    """Works until cancelled. Where the dispatcher stops in order, others have it at once; else
    when its leases lapse."""
    try:
        async with trio.open_nursery() as nursery:
            desk = Desk(deps, open_posting or opens(deps.webhook_hosts), nursery)
            nursery.start_soon(desk.keep_moving)
            await deps.redis_retry("webhooks").for_ever(desk.turn)
    finally:
        if deps.stopping.is_set():
            with trio.CancelScope(shield=True, deadline=trio.current_time() + FAREWELL_S):
                await desk.leave()


def chosen(name: str, peers: Sequence[str]) -> str:
    """Who of several has what is called so. Pure."""
    return max(peers, key=lambda peer: (zlib.crc32(f"{peer} {name}".encode()), peer))


class Desk:
    def __init__(
        self, deps: DispatchDeps, open_posting: OpenPosting, nursery: trio.Nursery
    ) -> None:
        self._deps = deps
        self._open_posting = open_posting
        self._nursery = nursery
        self._outboxes: set[str] = set()  # those that are ours to move
        self._apart = Apart("outbox")
        self._senders: dict[str, WebhookSender] = {}  # by webhook id

    async def turn(self) -> float:
        """Takes what is ours now and leaves the rest. Raises RedisUnavailable."""
        deps, every = self._deps, self._deps.store.webhooks.now.every
        enabled = {w.id: (app, name, w) for (app, name), w in every.items() if w.enabled}
        if not deps.store.webhooks.ever:
            self._outboxes = set()
            self._keep({})
            return TURN_S
        peers = await sharing.announce(deps.redis, deps.consumer, deps.clock())
        boxes = outbox.names(await shards_ever(deps.redis, deps.store.shards))
        ours = {
            name
            for name in (*boxes, *enabled)
            if chosen(name, peers) == deps.consumer
            and await sharing.hold(deps.redis, name, deps.consumer)
        }
        self._outboxes = ours.intersection(boxes)
        self._keep({id_: enabled[id_] for id_ in ours.intersection(enabled)})
        now_ms = deps.clock()
        dead = sum(sender.failed_ms(now_ms) >= DEAD_MS for sender in self._senders.values())
        deps.metrics.webhooks.set(len(self._senders))
        deps.metrics.webhooks_dead.set(dead)
        behind = sum(sender.waiting >= outbox.BEHIND for sender in self._senders.values())
        deps.metrics.webhooks_behind.set(behind)
        return TURN_S

    async def leave(self) -> None:
        """Leaves what is ours to others. While Redis is unavailable it lapses."""
        if held := [*self._outboxes, *self._senders]:
            with suppress(*RETRYABLE):
                await sharing.leave(self._deps.redis, held, self._deps.consumer)

    def _keep(self, ours: dict[str, tuple[str, str, Webhook]]) -> None:
        """Has exactly these told."""
        for id_, sender in list(self._senders.items()):
            if id_ not in ours or ours[id_][2].url != sender.webhook.url:
                sender.scope.cancel()
                del self._senders[id_]
        for id_, (app, name, webhook) in ours.items():
            if id_ not in self._senders:
                sender = WebhookSender(self._deps, app, name, webhook, self._open_posting)
                self._senders[id_] = sender
                self._nursery.start_soon(self._run, sender)

    async def _run(self, sender: WebhookSender) -> None:
        """One that fails for a reason nobody foresaw costs nobody else anything: it begins anew."""
        try:
            await sender.run()
        except Exception:
            _log.exception("what tells a webhook failed", webhook=sender.webhook.id)
            await trio.sleep(RESTART_S)
            if self._senders.get(sender.webhook.id) is sender:
                del self._senders[sender.webhook.id]

    async def keep_moving(self) -> None:
        """Moves what stands in our outboxes into the queues, until cancelled."""
        retry = self._deps.redis_retry("outbox")
        await retry.for_ever(self._move)

    async def _move(self) -> float:
        """Raises RedisUnavailable where an outbox is away; the others were moved all the same."""
        if not self._outboxes:
            return TURN_S
        full, away = list[bool](), list[Exception]()

        async def move(name: str) -> None:
            try:
                full.append(await self._apart.take(name, partial(self._move_one, name), False))
            except RETRYABLE as error:
                away.append(error)

        async with trio.open_nursery() as nursery:
            for name in self._outboxes:
                nursery.start_soon(move, name)
        if away:
            raise away[0]
        return 0.0 if any(full) else MOVE_S

    async def _move_one(self, name: str) -> bool:
        """Whether there may be more. Raises RedisUnavailable."""
        moved, given = await outbox.move(self._deps.redis, name, self._known)
        for id_ in given:
            if id_ in self._senders:
                self._senders[id_].wake()
        return moved >= outbox.ENTRIES_MAX

    async def _known(self) -> Webhooks:
        """Those that there are. Raises RedisUnavailable."""
        store = self._deps.store
        await store.know_campaigns(self._deps.clock())
        return store.webhooks.now
