"""A provider that is away for minutes, in virtual time: how long a code takes to reach its person.

Real dispatchers, two providers, a Redis that takes a millisecond. On 71d19bd, before a step's time
ran whether it was sent or not: of 360 codes 360 expired while Viber had no credit, and 567 of 600
never reached SMS while its connections were refused.
"""

from __future__ import annotations

import random
from collections.abc import Awaitable, Callable, Sequence
from typing import Any

import pytest
import trio
from trio.testing import MockClock

from gateway import telemetry
from gateway.core.events import Reported
from gateway.core.ids import read_ref
from gateway.core.policy import RouteStep
from gateway.core.records.message import MESSAGE_NAMES, Message, unpack_message
from gateway.dispatch.deps import DispatchDeps
from gateway.dispatch.dispatcher import dispatch
from gateway.dispatch.metrics import Metrics
from gateway.settings.tables import Lanes
from gateway.store.apply import Item
from gateway.store.store import Store
from providers.contract import (
    AccountFault,
    NotSent,
    Outcome,
    Receipt,
    SendFault,
    Submission,
    Submitted,
    Unknown,
)
from tests.simulation.memory_client import MemoryClient, Weather
from tests.simulation.memory_redis import MemoryRedis
from tests.worlds.cascade_world import T0, policy
from tests.worlds.dispatch_world import ScriptedProvider, sends_to

NO_CREDIT = AccountFault("E402", "No credit.")
REFUSED = NotSent("connect_failed", "Connection refused.")
BUSY = Unknown("http_503", "Service unavailable.")


class AwayProvider(ScriptedProvider):
    """It can say as little as it can send while it is gone; else it knows nothing it lost."""

    def __init__(self, name: str, world: Away, rate: int) -> None:
        super().__init__(name, rate=rate, batch=20)
        self._gone = world.gone

    async def look_up(self, refs: Sequence[str]) -> list[Receipt]:
        await trio.sleep(0.02)
        if self.config.name in self._gone:
            raise self._gone[self.config.name]
        return []


class Away:
    """`gone`: the fault of each provider that is away. What is accepted is delivered at once."""

    def __init__(self, rate: int = 100, **rules: Any) -> None:
        self.gone: dict[str, SendFault] = {}
        self.providers = {name: AwayProvider(name, self, rate) for name in ("viber", "sms")}
        for name, provider in self.providers.items():
            provider.otherwise = self._answering(name)
        self.asked: dict[str, float] = {}
        self.messages: list[Message] = []  # at the end
        self.stopping, self.stopped = trio.Event(), trio.Event()
        self.reached: dict[str, tuple[str, float]] = {}
        self._people = iter(range(79_160_000_000, 79_170_000_000))
        self.server = MemoryRedis(lambda: T0 * 1_000 + round(trio.current_time() * 1e6))
        self.weather = Weather(self.server, random.Random(1), lambda _s, _work: None, 0.0005)
        self.store = Store(MemoryClient(self.weather), policy(**rules))

    def clock(self) -> int:
        return T0 + round(trio.current_time() * 1000)

    def _answering(self, name: str) -> Callable[[Sequence[Submission]], Awaitable[list[Outcome]]]:
        async def answer(batch: Sequence[Submission]) -> list[Outcome]:
            await trio.sleep(0.02)
            if name in self.gone:
                raise self.gone[name]
            for submission in batch:
                ref = read_ref(submission.ref)
                assert ref is not None
                assert ref.message_id not in self.reached, "nobody gets it twice"
                self.reached[ref.message_id] = name, trio.current_time()
                self._tasks.start_soon(self._deliver, ref.message_id, ref.step, submission.ref)
            return [Submitted(submission.ref) for submission in batch]

        return answer

    async def _deliver(self, id_: str, step: int, ref: str) -> None:
        await trio.sleep(1.0)
        name = self.reached[id_][0]
        receipt = Receipt("delivered", ref=ref)
        await self.store.apply([Item(id_, Reported(step, receipt, name))], self.clock())

    async def admit(self, count: int = 1, **changes: Any) -> list[str]:
        sends = sends_to(self.store, self._people, count, self.clock(), **changes)
        await self.store.admit(sends, self.clock())
        self.asked |= dict.fromkeys((send.id for send in sends), trio.current_time())
        return [send.id for send in sends]

    async def codes(self, count: int, every_s: float = 0.2) -> None:
        for _ in range(count):
            await self.admit(category="otp", campaign=None, route="fast")
            await trio.sleep(every_s)

    def waits(self) -> list[float]:
        """How long each message took to be with a provider, in seconds."""
        return sorted(at - self.asked[id_] for id_, (_, at) in self.reached.items())

    def _messages(self) -> list[Message]:
        found = self.server.names()
        keys = {id_.decode(): key for key in found if (id_ := key.partition(b"}m:")[2])}
        return [unpack_message(id_, self.server.data[key]) for id_, key in keys.items()]

    def ends(self) -> set[str]:
        return {MESSAGE_NAMES[message.status] for message in self.messages}

    def run(self, work: Callable[[], Awaitable[None]], dispatchers: int = 1) -> None:
        async def main() -> None:
            async with trio.open_nursery() as self._tasks:
                for number in range(dispatchers):
                    await self._tasks.start(self._dispatch, f"d{number}")
                await work()
                self.messages = self._messages()
                self._tasks.cancel_scope.cancel()

        trio.run(main, clock=MockClock(autojump_threshold=0))

    async def _dispatch(self, name: str, *, task_status: trio.TaskStatus[None]) -> None:
        await dispatch(self._deps(name), task_status=task_status)
        self.stopped.set()

    def _deps(self, name: str) -> DispatchDeps:
        return DispatchDeps(
            store=self.store,
            wake_up_link=MemoryClient(self.weather),
            providers=dict(self.providers),
            clock=self.clock,
            consumer=name,
            metrics=Metrics(telemetry.new_registries()),
            terms=Lanes(),
            stopping=self.stopping,
        )


@pytest.mark.parametrize("dispatchers", [1, 2])
def test_no_code_waits_for_a_provider_without_credit(dispatchers: int) -> None:
    away = Away()

    async def work() -> None:
        away.gone["viber"] = NO_CREDIT
        await away.codes(360)
        await trio.sleep(30.0)

    away.run(work, dispatchers)
    assert len(away.reached) == 360
    assert {name for name, _ in away.reached.values()} == {"sms"}
    assert away.ends() == {"delivered"}
    waits = away.waits()
    assert waits[324] < 0.1, "nine of ten go on within a few commits"
    assert waits[-1] < 2.0, "those, too, with which the pause was found or probed"


def test_every_code_is_with_sms_in_time_while_connections_are_refused() -> None:
    away = Away()

    async def work() -> None:
        away.gone["viber"] = REFUSED
        await away.codes(100, every_s=1.5)
        await trio.sleep(70.0)

    away.run(work)
    assert len(away.reached) == 100
    assert away.ends() == {"delivered"}
    assert away.waits()[-1] <= 65.0


def test_what_the_last_provider_lost_for_four_minutes_is_sent_when_it_is_back() -> None:
    away = Away()

    async def work() -> None:
        away.gone["sms"] = BUSY
        for _ in range(30):
            await away.admit(category="transactional", campaign=None, route="sms-only")
            await trio.sleep(2.0)
        await trio.sleep(180.0)
        del away.gone["sms"]
        await trio.sleep(330.0)

    away.run(work)
    assert len(away.reached) == 30
    assert away.ends() == {"delivered"}


def test_a_campaign_longer_than_its_wait_is_not_sent_as_sms_at_four_times_the_price() -> None:
    away = Away(steps=STEPS, rate=10)

    async def work() -> None:
        await away.admit(400)
        await trio.sleep(45.0)

    away.run(work)
    assert {name for name, _ in away.reached.values()} == {"viber"}
    assert (len(away.reached), away.ends()) == (400, {"delivered"})
    assert away.waits()[-1] > 30.0


STEPS = RouteStep(("viber",), 20_000, 1_000), RouteStep(("sms",), 60_000, 1_000)


def test_a_campaign_is_held_until_its_provider_is_back() -> None:
    away = Away(steps=STEPS)

    async def work() -> None:
        away.gone["viber"] = NO_CREDIT
        await away.admit(20)
        await trio.sleep(60.0)
        del away.gone["viber"]
        await trio.sleep(100.0)

    away.run(work)
    assert {name for name, _ in away.reached.values()} == {"viber"}
    assert (len(away.reached), away.ends()) == (20, {"delivered"})


def test_a_payment_waits_for_a_provider_that_is_away_as_long_as_its_step_may() -> None:
    away = Away(steps=STEPS)

    async def work() -> None:
        away.gone["viber"] = NO_CREDIT
        await away.admit(20, category="transactional", campaign=None)
        await trio.sleep(30.0)

    away.run(work)
    assert {name for name, _ in away.reached.values()} == {"sms"}
    assert len(away.reached) == 20
    assert 20.0 <= away.waits()[0] <= away.waits()[-1] < 21.0


@pytest.mark.parametrize("fault", [NO_CREDIT, REFUSED])
def test_a_provider_that_is_back_is_found_behind_what_was_over_meanwhile(fault: SendFault) -> None:
    """Steps that fell back leave dead entries at the head of a lane that nobody read."""
    away = Away(steps=STEPS)

    async def work() -> None:
        away.gone["viber"] = fault
        for second in range(0, 400, 2):
            await away.admit(category="transactional", campaign=None)
            await trio.sleep(2.0)
            if second == 100:
                del away.gone["viber"]

    away.run(work)
    back = min(at for name, at in away.reached.values() if name == "viber")
    assert back < 200.0, "by the first probe after its return"
    late = [name for name, at in away.reached.values() if at > back + 30.0]
    assert len(late) > 50
    assert set(late) == {"viber"}


def test_a_code_whose_only_provider_is_away_is_sent_within_seconds_of_its_return() -> None:
    away = Away()

    async def work() -> None:
        away.gone["sms"] = NO_CREDIT
        for _ in range(20):
            await away.admit(category="otp", campaign=None, route="sms-only")
        await trio.sleep(60.0)
        del away.gone["sms"]
        await trio.sleep(100.0)

    away.run(work)
    assert (len(away.reached), away.ends()) == (20, {"delivered"})
    back = min(at for _, at in away.reached.values())  # the probe that found it
    assert max(at for _, at in away.reached.values()) - back < 13.0


def test_a_dispatcher_stops_in_order_while_its_provider_is_away() -> None:
    away = Away()

    async def work() -> None:
        away.gone["viber"] = NO_CREDIT
        await away.codes(3)
        away.stopping.set()
        await away.admit(5, category="otp", campaign=None, route="fast")
        with trio.fail_after(10.0):
            await away.stopped.wait()

    away.run(work)
