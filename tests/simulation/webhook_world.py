"""Webhooks in virtual time: desks of dispatchers on a Redis in memory, and scripted receivers."""

from __future__ import annotations

import json
from collections.abc import Awaitable, Callable
from typing import Any, NamedTuple

import trio

from gateway.core.records.webhook import Secret, Webhook
from gateway.dispatch.webhooks import desk
from gateway.dispatch.webhooks.posting import CallAnswer, Posting
from gateway.store.events import webhooks
from gateway.store.installation.audit import Deed
from tests.simulation.pace import Pace
from tests.worlds.virtual_clock import VirtualClock

SECRET = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"
OK = CallAnswer(200, "ok")
EVERY_STATUS = ("message.queued", "message.sent", "message.delivered")


class Call(NamedTuple):
    at: float
    url: str
    id: str
    body: dict[str, Any]
    secrets: list[str]


class Receivers:
    """`answer` is asked what a call comes to; `open` counts those that are under way."""

    def __init__(self) -> None:
        self.calls: list[Call] = []
        self.answer: Callable[[Call], Awaitable[CallAnswer]] = self.take
        self.open = self.most_open = 0

    async def take(self, _call: Call) -> CallAnswer:
        return OK

    def told(self, url: str = "") -> list[Call]:
        return [call for call in self.calls if url in ("", call.url)]

    def posting(self, url: str) -> Posting:
        return Scripted(self, url)


class Scripted(Posting):
    def __init__(self, receivers: Receivers, url: str) -> None:
        self.url = url
        self._receivers = receivers

    async def call(self, webhook: Webhook, event_id: str, now_ms: int, body: bytes) -> CallAnswer:
        theirs = self._receivers
        call = Call(
            trio.current_time(), self.url, event_id, json.loads(body), webhook.signs_with(now_ms)
        )
        theirs.calls.append(call)
        theirs.open += 1
        theirs.most_open = max(theirs.open, theirs.most_open)
        try:
            return await theirs.answer(call)
        finally:
            theirs.open -= 1

    def close(self) -> None:
        pass


class WebhookWorld(Pace):
    """Messages of the app `shop`, told to webhooks by `desks` dispatchers."""

    def __init__(self) -> None:
        super().__init__(answer_s=0.1)
        self.receivers = Receivers()

    async def declare(self, name: str, *events: str, **changes: Any) -> Webhook:
        keys = {"url": f"https://{name}.example/", "secrets": (Secret(SECRET),)} | changes
        made = Webhook(name, events=events or EVERY_STATUS, **keys)
        deed = Deed(self.clock(), "test", "webhook.put", name)
        await webhooks.change(self.store.redis, "shop", name, lambda _before, _count: made, deed)
        await self.store.look_at_campaigns(self.clock())
        return made

    async def desk(self, name: str) -> None:
        """A dispatcher's, until cancelled."""
        await desk.run(self.deps(name), self.receivers.posting)

    def begin_desk(self, nursery: trio.Nursery, name: str) -> trio.CancelScope:
        """A dispatcher's as well; to cancel it is to kill it."""
        scope = trio.CancelScope()

        async def killed() -> None:
            with scope:
                await self.desk(name)

        nursery.start_soon(killed)
        return scope

    def begin_leaving(self, nursery: trio.Nursery, name: str) -> Callable[[], None]:
        """A dispatcher's as well; what is given back has it stop in order."""
        deps, scope = self.deps(name), trio.CancelScope()

        async def run() -> None:
            with scope:
                await desk.run(deps, self.receivers.posting)

        def stop() -> None:
            deps.stopping.set()
            scope.cancel()

        nursery.start_soon(run)
        return stop

    async def keep_looking(self) -> None:
        while True:
            await self.store.look_at_campaigns(self.clock())
            await trio.sleep(desk.TURN_S)

    def tell(self, work: Callable[[trio.Nursery], Awaitable[None]], desks: int = 1) -> None:
        """Does the work beside so many desks, in virtual time; it is given their nursery."""

        async def main() -> None:
            async with trio.open_nursery() as nursery:
                nursery.start_soon(self.keep_looking)
                for number in range(desks):
                    nursery.start_soon(self.desk, f"d{number}")
                await work(nursery)
                nursery.cancel_scope.cancel()

        VirtualClock().run(main)
