"""Real dispatchers and their providers in virtual time, some of which are away for minutes.

A call to Redis takes no time, an answer 20 ms. A provider is away in one of three ways: it is
`gone` (each request fails), `slow` (it takes a request, and answers, after tens of seconds, whether
or not anybody waits for that; like Infobip it takes a reference once), or `silent` (it delivers,
and its receipts come when the silence ends).
"""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Awaitable, Callable, Sequence
from typing import Any
from unittest import mock

import trio

from gateway import telemetry
from gateway.core.events import Reported
from gateway.core.ids import read_ref
from gateway.core.policy import Policy
from gateway.core.records.message import MESSAGE_NAMES, Message
from gateway.core.records.message_codec import unpack_message
from gateway.dispatch.deps import DispatchDeps
from gateway.dispatch.dispatcher import dispatch
from gateway.dispatch.metrics import DispatchMetrics
from gateway.settings.tables import Lanes
from gateway.store.messages.apply import Item
from gateway.store.store import Store
from providers.contract import (
    Outcome,
    Provider,
    Receipt,
    SendFault,
    Submission,
    Submitted,
)
from tests.simulation.memory_client import MemoryClient, Weather
from tests.simulation.memory_redis import MemoryRedis
from tests.worlds.cascade_world import T0, policy
from tests.worlds.dispatch_world import ScriptedProvider, sends_to
from tests.worlds.virtual_clock import VirtualClock

ANSWER_S = 0.02
SLOW_S = (20.0, 40.0)
RECEIPT_S = 1.0  # after the person has it
# Nothing here asks what is measured, which took 9 % of a wait of minutes.
MEASURED_EVERY_S = 10.0


class AwayProvider(ScriptedProvider):
    """What it was sent it takes once, and knows from then on."""

    def __init__(self, name: str, world: Away, rate: int) -> None:
        super().__init__(name, rate=rate, batch=20)
        self._world = world
        self._taken: set[str] = set()
        self._draw = random.Random(f"slow {name}")
        self.otherwise = self._answer

    async def look_up(self, refs: Sequence[str]) -> list[Receipt]:
        await trio.sleep(self._patience_s())
        self._fail_if_gone()
        return [Receipt("delivered", ref=ref) for ref in refs if ref in self._taken]

    async def _answer(self, batch: Sequence[Submission]) -> list[Outcome]:
        refs, wait_s = [submission.ref for submission in batch], self._patience_s()
        if self.config.name in self._world.slow:
            self._world.later(self._take, refs, wait_s)
            await trio.sleep(wait_s)
        else:
            await trio.sleep(wait_s)
            self._fail_if_gone()
            await self._take(refs, 0.0)
        return [Submitted(ref) for ref in refs]

    async def _take(self, refs: Sequence[str], after_s: float) -> None:
        await trio.sleep(after_s)
        for ref in refs:
            if ref not in self._taken:
                self._taken.add(ref)
                self._world.reach(self.config.name, ref)

    def _patience_s(self) -> float:
        slow = self.config.name in self._world.slow
        return self._draw.uniform(*SLOW_S) if slow else ANSWER_S

    def _fail_if_gone(self) -> None:
        if self.config.name in self._world.gone:
            raise self._world.gone[self.config.name]


class Away:
    """`reached` says through whom each message came first, and when; `twice` are those that came
    over both, which must not be where no provider will be slow or silent (`sure`)."""

    def __init__(self, rules: Policy | None = None, *, rate: int = 100, sure: bool = True) -> None:
        rules = rules or policy()
        self._sure = sure
        self.gone: dict[str, SendFault] = {}
        self.slow: set[str] = set()
        self.silent: dict[str, trio.Event] = {}  # each is set when the silence ends
        self.providers = {name: AwayProvider(name, self, rate) for name in rules.providers}
        self.ports: dict[str, Provider] = dict(self.providers)  # what dispatchers send by
        self.asked: dict[str, float] = {}
        self.messages: list[Message] = []  # at the end
        self.stopping, self.stopped = trio.Event(), trio.Event()
        self.reached: dict[str, tuple[str, float]] = {}
        self.twice: set[str] = set()
        self._people = iter(range(79_160_000_000, 79_170_000_000))
        self.server = MemoryRedis(lambda: T0 * 1_000 + round(trio.current_time() * 1e6))
        self.weather = Weather(self.server, random.Random(1), lambda _s, _work: None, 0.0)
        self.store = Store(MemoryClient(self.weather), rules)

    def clock(self) -> int:
        return T0 + round(trio.current_time() * 1000)

    # --- what providers do

    def later(self, work: Callable[..., Awaitable[None]], *arguments: Any) -> None:
        self._tasks.start_soon(work, *arguments)

    def reach(self, name: str, text: str) -> None:
        """The provider has given this reference to its person; its receipt follows."""
        ref = read_ref(text)
        assert ref is not None
        if ref.message_id in self.reached:
            assert not self._sure, "nobody gets it twice"
            self.twice.add(ref.message_id)
        else:
            self.reached[ref.message_id] = name, trio.current_time()
        self.later(self._deliver, name, text)

    async def _deliver(self, name: str, text: str) -> None:
        await trio.sleep(RECEIPT_S)
        if name in self.silent:
            await self.silent[name].wait()
        ref = read_ref(text)
        assert ref is not None
        receipt = Receipt("delivered", ref=text)
        reported = Reported(ref.step, receipt, name, ref.series)
        await self.store.apply([Item(ref.message_id, reported)], self.clock())

    # --- what callers do

    async def admit(self, count: int = 1, **changes: Any) -> list[str]:
        sends = sends_to(self.store, self._people, count, self.clock(), **changes)
        await self.store.admit(sends, self.clock())
        self.asked |= dict.fromkeys((send.id for send in sends), trio.current_time())
        return [send.id for send in sends]

    async def codes(self, count: int, every_s: float = 0.2) -> list[str]:
        ids = []
        for _ in range(count):
            ids += await self.admit(category="otp", campaign=None, route="fast")
            await trio.sleep(every_s)
        return ids

    # --- what came of it

    def waits(self, ids: Sequence[str] | None = None) -> list[float]:
        """How long each message took to be with its person, in seconds; those that never were are
        left out."""
        chosen = self.asked if ids is None else ids
        reached = (id_ for id_ in chosen if id_ in self.reached)
        return sorted(self.reached[id_][1] - self.asked[id_] for id_ in reached)

    def ends(self) -> set[str]:
        return {MESSAGE_NAMES[message.status] for message in self.messages}

    def outcomes(self, ids: Sequence[str]) -> Counter[tuple[str, str | None]]:
        """How many of them ended so, and for what reason."""
        chosen = set(ids)
        return Counter(
            (MESSAGE_NAMES[message.status], message.reason)
            for message in self.messages
            if message.id in chosen
        )

    def _messages(self) -> list[Message]:
        found = self.server.names()
        keys = {id_.decode(): key for key in found if (id_ := key.partition(b"}m:")[2])}
        return [unpack_message(id_, self.server.data[key]) for id_, key in keys.items()]

    # --- running

    def run(self, work: Callable[[], Awaitable[None]], dispatchers: int = 1) -> None:
        async def main() -> None:
            async with trio.open_nursery() as self._tasks:
                for number in range(dispatchers):
                    await self._tasks.start(self._dispatch, f"d{number}")
                await work()
                self.messages = self._messages()
                self._tasks.cancel_scope.cancel()

        with mock.patch.object(telemetry, "PUBLISH_EVERY_S", MEASURED_EVERY_S):
            VirtualClock().run(main)

    async def _dispatch(self, name: str, *, task_status: trio.TaskStatus[None]) -> None:
        await dispatch(self._deps(name), task_status=task_status)
        self.stopped.set()

    def _deps(self, name: str) -> DispatchDeps:
        return DispatchDeps(
            store=self.store,
            wake_up_link=MemoryClient(self.weather),
            providers=dict(self.ports),
            clock=self.clock,
            consumer=name,
            metrics=DispatchMetrics(telemetry.new_registries()),
            terms=Lanes(),
            stopping=self.stopping,
        )
