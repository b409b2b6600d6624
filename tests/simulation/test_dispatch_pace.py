"""The pace of real dispatchers in virtual time: limits held, connections busy, otp first.

Each call to Redis takes a millisecond and each answer of the provider its time, exactly, so what is
measured here is the design's and not the machine's. On 2026-11-22, before messages and tokens met
in one queue and after: an otp behind a campaign 17.6 and 5.8 ms at the 99th percentile (alone 7.5
and 5.0), requests at a provider of single messages with 50 connections 41.7 and 49.5, with 2,910
and 2,213 calls to Redis for 3,000 messages.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence
from typing import Any

import pytest
import trio
from prometheus_client import CollectorRegistry
from trio.testing import MockClock

from gateway.core.records.request import MessageRequest
from gateway.dispatch.deps import DispatchDeps
from gateway.dispatch.dispatcher import dispatch
from gateway.dispatch.metrics import Metrics
from gateway.settings.tables import Lanes
from gateway.store.store import Store
from providers.contract import Outcome, Submission, Submitted
from tests.simulation.memory_client import MemoryClient, Weather
from tests.simulation.memory_redis import MemoryRedis
from tests.worlds.cascade_world import T0, policy, request
from tests.worlds.dispatch_limiter import most_in_a_second
from tests.worlds.dispatch_world import ScriptedProvider

REDIS_S = 0.0005  # each way


class Pace:
    """A world with one provider; `arrived` is (seconds, category, message id) in order."""

    def __init__(self, answer_s: float, **provider: Any) -> None:
        self.provider = ScriptedProvider("viber", **provider)
        self.provider.otherwise = self._answer
        self.answer_s = answer_s
        self.arrived: list[tuple[float, str, str]] = []
        self.open: list[tuple[float, int]] = [(0.0, 0)]
        self.metrics = Metrics(CollectorRegistry())
        self._people = iter(range(79_160_000_000, 79_170_000_000))
        server = MemoryRedis(lambda: T0 * 1_000 + round(trio.current_time() * 1e6))
        self.weather = Weather(server, random.Random(1), lambda _s, _work: None)
        self.weather.latency_s = lambda: REDIS_S  # type: ignore[method-assign]
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
        sends: list[MessageRequest] = []
        for _ in range(count):
            to = str(next(self._people))
            id_ = self.store.new_message_id(to, self.clock())
            sends.append(request(**({"id": id_, "to": to} | changes)))
        await self.store.admit(sends, self.clock())
        return [send.id for send in sends]

    def run(self, work: Callable[[], Any], dispatchers: int = 1) -> None:
        async def main() -> None:
            async with trio.open_nursery() as nursery:
                for number in range(dispatchers):
                    await nursery.start(dispatch, self.deps(f"d{number}"))
                await work()
                nursery.cancel_scope.cancel()

        trio.run(main, clock=MockClock(autojump_threshold=0))

    def in_flight(self, begin: float, end: float) -> float:
        """Requests open on average between two moments."""
        spans = zip(self.open, [*self.open[1:], (end, 0)], strict=True)
        shares = (
            count * max(min(until, end) - max(at, begin), 0.0) for (at, count), (until, _) in spans
        )
        return sum(shares) / (end - begin)


@pytest.mark.parametrize("dispatchers", [1, 4])
@pytest.mark.parametrize("rate", [7, 100, 1_000])
def test_the_limit_is_used_and_never_exceeded(rate: int, dispatchers: int) -> None:
    pace = Pace(0.005, rate=rate, batch=100)

    async def work() -> None:
        await pace.admit(min(6 * rate, 8_000))
        await trio.sleep(4.0)

    pace.run(work, dispatchers)
    assert most_in_a_second([(round(at * 1e6), 1) for at, _, _ in pace.arrived]) <= rate
    used = sum(1.0 <= at < 3.0 for at, _, _ in pace.arrived) / (2 * rate)
    assert used >= 0.965 - 0.5 / rate


def test_a_provider_of_single_messages_is_kept_busy_on_every_connection() -> None:
    pace = Pace(0.04, rate=100_000, batch=1, connections=50)

    async def work() -> None:
        await pace.admit(3_000)
        await trio.sleep(2.0)

    pace.run(work)
    assert max(count for _, count in pace.open) == 50
    assert pace.in_flight(0.5, 1.5) >= 47.5


def test_an_answer_that_outstays_its_time_is_lost_whatever_the_provider_promised() -> None:
    pace = Pace(60.0, timeout_ms=5_000)

    async def work() -> None:
        await pace.admit(1)
        await trio.sleep(7.0)

    pace.run(work)
    named = {"provider": "viber", "outcome": "unknown"}
    found = pace.metrics.registry.get_sample_value("kaskad_dispatch_outcomes_total", named)
    assert (found, len(pace.arrived)) == (1, 1)


def test_an_otp_behind_a_campaign_waits_hardly_longer_than_alone() -> None:
    pace = Pace(0.005, rate=2_500, batch=100)
    chance = random.Random(2)
    asked: dict[str, float] = {}

    async def otp(count: int) -> list[float]:
        ids = []
        for _ in range(count):
            ids += await pace.admit(1, category="otp", campaign=None)
            asked[ids[-1]] = trio.current_time()
            await trio.sleep(chance.uniform(0.01, 0.03))
        await trio.sleep(0.5)
        came = {id_: at for at, _, id_ in pace.arrived}
        return sorted(came[id_] - asked[id_] for id_ in ids)

    async def work() -> None:
        alone = await otp(100)
        await pace.admit(8_000)
        await trio.sleep(0.3)
        behind = await otp(100)
        assert len(pace.arrived) < 8_000, "the campaign was still going on"
        assert behind[98] <= 3 * alone[98]
        assert behind[50] <= 2 * alone[50]

    pace.run(work)
