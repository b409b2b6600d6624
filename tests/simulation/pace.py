"""Real dispatchers in virtual time: a memory for Redis, and one provider whose answers take their
time.

Each call to Redis takes a millisecond and each answer of the provider as long as it is told to, so
what is measured is the design's and not the machine's.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence
from typing import Any

import trio

from gateway import telemetry
from gateway.dispatch.deps import DispatchDeps
from gateway.dispatch.dispatcher import dispatch
from gateway.dispatch.metrics import DispatchMetrics
from gateway.settings.tables import Lanes
from gateway.store.store import Store
from providers.contract import Outcome, Submission, Submitted
from tests.simulation.memory_client import MemoryClient, Weather
from tests.simulation.memory_redis import MemoryRedis
from tests.worlds.cascade_world import T0, policy
from tests.worlds.dispatch_world import ScriptedProvider, sends_to
from tests.worlds.virtual_clock import VirtualClock

REDIS_S = 0.0005  # each way


class Pace:
    """A world with one provider; `arrived` is (seconds, category, message id) in order."""

    def __init__(self, answer_s: float, **provider: Any) -> None:
        self.provider = ScriptedProvider("viber", **provider)
        self.provider.otherwise = self._answer
        self.answer_s = answer_s
        self.arrived: list[tuple[float, str, str]] = []
        self.open: list[tuple[float, int]] = [(0.0, 0)]
        self.metrics = DispatchMetrics(telemetry.new_registries())
        self._people = iter(range(79_160_000_000, 79_170_000_000))
        server = MemoryRedis(lambda: T0 * 1_000 + round(trio.current_time() * 1e6))
        self.weather = Weather(server, random.Random(1), lambda _s, _work: None, REDIS_S)
        self.store = Store(MemoryClient(self.weather), policy())

    def clock(self) -> int:
        return T0 + round(trio.current_time() * 1000)

    async def _answer(self, batch: Sequence[Submission]) -> list[Outcome]:
        now = trio.current_time()
        self.arrived += [(now, s.category, s.ref.partition(".")[0]) for s in batch]
        self._opened(+1)
        await trio.sleep(self.answer_s)
        self._opened(-1)
        return [Submitted(s.ref) for s in batch]

    def _opened(self, more: int) -> None:
        self.open.append((trio.current_time(), self.open[-1][1] + more))

    def deps(self, name: str) -> DispatchDeps:
        return DispatchDeps(
            store=self.store,
            wake_up_link=MemoryClient(self.weather),
            providers={"viber": self.provider},
            clock=self.clock,
            consumer=name,
            metrics=self.metrics,
            terms=Lanes(),
            stopping=trio.Event(),
        )

    async def admit(self, count: int, **changes: Any) -> list[str]:
        sends = sends_to(self.store, self._people, count, self.clock(), **changes)
        await self.store.admit(sends, self.clock())
        return [send.id for send in sends]

    async def dispatch(
        self, name: str, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED
    ) -> None:
        """A dispatcher, until cancelled."""
        await dispatch(self.deps(name), task_status=task_status)

    def run(self, work: Callable[[], Any], dispatchers: int = 1) -> None:
        async def main() -> None:
            async with trio.open_nursery() as nursery:
                for number in range(dispatchers):
                    await nursery.start(self.dispatch, f"d{number}")
                await work()
                nursery.cancel_scope.cancel()

        VirtualClock().run(main)

    def in_flight(self, begin: float, end: float) -> float:
        """Requests open on average between two moments."""
        spans = zip(self.open, [*self.open[1:], (end, 0)], strict=True)
        shares = (
            count * max(min(until, end) - max(at, begin), 0.0) for (at, count), (until, _) in spans
        )
        return sum(shares) / (end - begin)
