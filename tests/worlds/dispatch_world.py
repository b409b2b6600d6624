"""A dispatcher with scripted providers on a real Redis, and ways to look at what became."""

from __future__ import annotations

import itertools
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Sequence
from contextlib import asynccontextmanager
from typing import Any

import trio

from gateway import telemetry
from gateway.core.policy import Policy
from gateway.core.records.message import MESSAGE_NAMES, Message, StepStatus, names_of
from gateway.core.records.request import MessageRequest
from gateway.dispatch.deps import DispatchDeps
from gateway.dispatch.dispatcher import dispatch
from gateway.dispatch.metrics import DispatchMetrics
from gateway.redis.client import RedisClient
from gateway.redis.trio_driver import open_client
from gateway.settings.tables import Lanes
from gateway.store.keys import keys_of
from gateway.store.messages import reads
from gateway.store.store import Store
from providers.contract import (
    Outcome,
    Provider,
    ProviderConfig,
    Receipt,
    Receive,
    SendFault,
    Submission,
    Submitted,
    TellTaken,
)
from tests.worlds.cascade_world import T0, policy, request
from tests.worlds.patience import PATIENCE_S

Reply = Callable[[Sequence[Submission]], Awaitable[list[Outcome]]]


async def accept(batch: Sequence[Submission]) -> list[Outcome]:
    return [Submitted(s.ref) for s in batch]


def fail(fault: SendFault) -> Reply:
    async def reply(batch: Sequence[Submission]) -> list[Outcome]:
        raise fault

    return reply


def sends_to(
    store: Store, people: Iterator[int], count: int, now_ms: int, **changes: Any
) -> list[MessageRequest]:
    """Requests to as many of the people, in turn, with ids of the store's."""
    sends = []
    for to in map(str, itertools.islice(people, count)):
        id_ = store.new_message_id(to, now_ms)
        sends.append(request(**({"id": id_, "to": to} | changes)))
    return sends


class ScriptedProvider:
    """Answers with the script's replies in turn, then with `otherwise`; keeps what it was sent.
    A reply may call `tell_taken` of what was taken, before it waits for anything."""

    def __init__(self, name: str, rate: int = 1_000, batch: int = 100, **changes: Any) -> None:
        fields: dict[str, Any] = {
            "name": name,
            "kind": "scripted",
            "sender": "Shop",
            "rate_per_s": rate,
            "timeout_ms": 5_000,
        }
        self.config = ProviderConfig(**(fields | changes))
        self.can_look_up = True
        self.look_up_max = 100
        self.batch_max = batch
        self.script: list[Reply] = []
        self.otherwise: Reply = accept
        self.batches: list[list[Submission]] = []
        self.tell_taken: TellTaken = lambda taken: None
        self.asked: list[str] = []
        self.knows: dict[str, Receipt] = {}
        self.look_up_fault: SendFault | None = None

    def tokens(self, batch: Sequence[Submission]) -> int:
        return len(batch)

    async def deliver(
        self, batch: Sequence[Submission], tell_taken: TellTaken | None = None
    ) -> list[Outcome]:
        self.batches.append(list(batch))
        reply = self.script.pop(0) if self.script else self.otherwise
        await trio.lowlevel.checkpoint()
        self.tell_taken = tell_taken or self.tell_taken
        return await reply(batch)

    async def look_up(self, refs: Sequence[str]) -> list[Receipt]:
        self.asked += refs
        if self.look_up_fault is not None:
            raise self.look_up_fault
        return [self.knows[ref] for ref in refs if ref in self.knows]

    async def run(self, receive: Receive) -> None:
        """Its receipts are put into the store by the tests."""

    async def aclose(self) -> None: ...

    @property
    def refs(self) -> list[str]:
        return [s.ref for batch in self.batches for s in batch]

    @property
    def sent(self) -> Counter[str]:
        """How often each message was put on the wire."""
        return Counter(ref.split(".")[0] for ref in self.refs)


class DispatchWorld:
    """`now_ms` moves with trio's clock, and ahead when told."""

    consumers = itertools.count()

    def __init__(
        self, redis: RedisClient, url: str, rules: Policy, shards: int, wait_s: float = PATIENCE_S
    ) -> None:
        self.url = url
        self.redis = redis
        self.store = Store(redis, rules, shards=shards)
        self.viber = ScriptedProvider("viber")
        self.sms = ScriptedProvider("sms")
        self.terms = Lanes()
        self._began = trio.current_time()
        self._ahead_ms = 0
        self._wait_s = wait_s
        self._people = itertools.count(79_160_000_000)

    def clock(self) -> int:
        return T0 + round((trio.current_time() - self._began) * 1000) + self._ahead_ms

    def go_ahead(self, ms: int) -> None:
        self._ahead_ms += ms

    def deps(self, **changes: Any) -> DispatchDeps:
        providers: dict[str, Provider] = {"viber": self.viber, "sms": self.sms}
        fields: dict[str, Any] = {
            "store": self.store,
            "wake_up_link": self.redis,
            "providers": providers,
            "clock": self.clock,
            "consumer": f"dispatch-{next(self.consumers)}",
            "metrics": DispatchMetrics(telemetry.new_registries()),
            "terms": self.terms,
            "stopping": trio.Event(),
        }
        return DispatchDeps(**(fields | changes))

    async def admit(self, count: int = 1, **changes: Any) -> list[str]:
        """Accepts messages to as many people; returns their ids."""
        sends = sends_to(self.store, self._people, count, self.clock(), **changes)
        answers = await self.store.admit(sends, self.clock())
        assert {a.outcome for a in answers} <= {"accepted"}, answers
        return [send.id for send in sends]

    async def message(self, id_: str) -> Message:
        message = await reads.message(self.store, id_)
        assert message is not None
        return message

    async def steps(self, id_: str) -> list[str]:
        return [names_of(StepStatus)[s.status] for s in (await self.message(id_)).steps]

    async def until(self, ids: Sequence[str], *statuses: str) -> None:
        """Waits until the messages' steps have these statuses."""
        for id_ in ids:

            async def arrived(id_: str = id_) -> bool:
                return await self.steps(id_) == list(statuses)

            await self.until_asked(arrived)

    async def until_true(self, what: Callable[[], bool]) -> None:
        async def ask() -> bool:
            return what()

        await self.until_asked(ask)

    async def until_asked(self, ask: Callable[[], Awaitable[bool]]) -> None:
        """Asks again and again, because Redis and a dispatcher at work tell nobody."""
        with trio.fail_after(self._wait_s):
            while not await ask():  # noqa: ASYNC110
                await trio.sleep(0.003)

    async def status(self, id_: str) -> str:
        return MESSAGE_NAMES[(await self.message(id_)).status]

    async def lane_entries(self, provider: str = "viber") -> int:
        """Entries of the provider's lanes, sent or not, whose outcome is not recorded."""
        total = 0
        for shard in range(self.store.shards):
            for category in ("otp", "transactional", "marketing"):
                lane = keys_of(shard).lane(provider, category)
                (length,) = await self.redis.call([("XLEN", lane)])
                total += length
        return total


@asynccontextmanager
async def world(url: str, *, shards: int = 1, **rules: Any) -> AsyncIterator[DispatchWorld]:
    async with open_client(url) as redis:
        yield DispatchWorld(redis, url, policy(**rules), shards)


@asynccontextmanager
async def dispatching(world: DispatchWorld, **changes: Any) -> AsyncIterator[DispatchDeps]:
    """A dispatcher that works for the length of the block and is stopped in order at its end."""
    deps = world.deps(**changes)
    async with trio.open_nursery() as nursery:
        await nursery.start(dispatch, deps)
        yield deps
        deps.stopping.set()


class SetClock:
    """Stands in for trio's clock in a module that only reads it; `now`, in seconds, is set."""

    def __init__(self) -> None:
        self.now = 0.0

    def current_time(self) -> float:
        return self.now


def under_trio(test: Callable[..., Awaitable[None]]) -> Callable[[str], None]:
    """Runs an async test under trio; it gets the URL of an empty Redis."""

    def run(redis_url: str) -> None:
        trio.run(test, redis_url)

    run.__name__ = test.__name__
    run.__doc__ = test.__doc__
    return run
