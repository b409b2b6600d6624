"""A provider that is out for minutes, and dead entries at the head of a lane, in virtual time."""

from __future__ import annotations

from collections.abc import Sequence

import pytest
import trio

from gateway.core.events import Cancelled
from gateway.store.messages.apply import Item
from gateway.store.providers import pauses
from providers.contract import NotSent, Outcome, SendFault, Submission, Unknown
from tests.simulation.pace import Pace
from tests.worlds.virtual_clock import VirtualClock

REFUSED = NotSent("connect_failed", "Connection refused.")
BROKEN = Unknown("http_503", "The answer was HTTP 503.")
SILENT = Unknown("answer_timeout", "The answer did not come in time.")


class Outage:
    """A provider that fails from `begin` to `end`, after `takes` seconds each time."""

    def __init__(
        self, pace: Pace, fault: SendFault, begin: float, end: float, takes: float = 0.01
    ) -> None:
        self.tried: list[tuple[float, list[str]]] = []
        self._pace, self._fault, self._takes = pace, fault, takes
        self._begin, self._end = begin, end
        self._well = pace.provider.otherwise
        pace.provider.otherwise = self._reply

    async def _reply(self, batch: Sequence[Submission]) -> list[Outcome]:
        now = trio.current_time()
        if not self._begin <= now < self._end:
            return await self._well(batch)
        self.tried.append((now, [s.category for s in batch]))
        await trio.sleep(self._takes)
        raise self._fault


@pytest.mark.parametrize(
    ("fault", "takes", "dispatchers"), [(REFUSED, 0.0, 1), (BROKEN, 0.01, 3), (SILENT, 2.0, 2)]
)
def test_while_a_provider_is_out_hardly_anything_is_burnt_and_all_goes_on_by_itself(
    fault: SendFault, takes: float, dispatchers: int
) -> None:
    """Before the breaker was shared and heard of lost answers, 503 lost every message of the lane
    within seconds."""
    pace = Pace(0.005, rate=100, batch=10, connections=4)
    outage = Outage(pace, fault, 1.0, 41.0, takes)

    async def work() -> None:
        await pace.admit(400)
        await trio.sleep(40.0)
        (pause,) = (await pauses.read(pace.store.redis)).values()
        assert (pause.kind, pause.code) == ("outage", fault.code)
        assert pause.since < pace.clock() - 30_000
        await trio.sleep(40.0)
        assert await pauses.read(pace.store.redis) == {}

    pace.run(work, dispatchers)
    late = [at for at, _ in outage.tried if at > 1.0 + takes + 2.5]
    assert 3 <= len(late) <= 8, "one probe after each delay, whoever makes it"
    assert all(len(batch) == 1 for at, batch in outage.tried if at in late)
    burnt = sum(len(batch) for _, batch in outage.tried)
    assert burnt <= 8 + dispatchers * 5 * 10
    arrived = {id_ for _, _, id_ in pace.arrived}
    assert len(arrived) >= 400 - burnt, "what was not tried is sent afterwards"
    counted = {"provider": "viber", "kind": "outage"}
    found = pace.metrics.registries.own.get_sample_value("kaskad_dispatch_pauses_total", counted)
    assert found == 1, "it opened once, whoever found it"
    assert pace.metrics.registries.shared.get_sample_value("kaskad_dispatch_paused", counted) == 0


def test_half_of_the_answers_lost_opens_the_breaker() -> None:
    pace = Pace(0.005, rate=1_000, batch=10)
    well, requests = pace.provider.otherwise, 0

    async def reply(batch: Sequence[Submission]) -> list[Outcome]:
        nonlocal requests
        requests += 1
        if requests % 2:
            raise BROKEN
        return await well(batch)

    pace.provider.otherwise = reply

    async def work() -> None:
        await pace.admit(1_000)
        await trio.sleep(0.9)
        (pause,) = (await pauses.read(pace.store.redis)).values()
        assert pause.kind == "outage"
        assert 20 <= requests <= 40

    pace.run(work)


def test_a_provider_that_answers_nothing_of_single_messages_is_out_with_a_reason() -> None:
    """As an SMSC whose sessions stand; its pause had no words on `/readyz` and in the log."""
    pace = Pace(0.005, rate=100, batch=10)

    async def reply(batch: Sequence[Submission]) -> list[Outcome]:
        return []

    pace.provider.otherwise = reply

    async def work() -> None:
        await pace.admit(100)
        await trio.sleep(1.0)
        (pause,) = (await pauses.read(pace.store.redis)).values()
        assert (pause.kind, pause.code) == ("outage", "answer_incomplete")
        assert pause.detail == "What was sent has no answer."

    pace.run(work)


def test_a_failure_that_asks_for_time_is_given_it_by_everybody() -> None:
    pace = Pace(0.005, rate=100, batch=10)
    wish = Unknown("http_503", "Maintenance.", retry_after_ms=20_000)
    outage = Outage(pace, wish, 0.0, 15.0)

    async def work() -> None:
        await pace.admit(100)
        await trio.sleep(22.0)

    pace.run(work, dispatchers=2)
    assert max(at for at, _ in outage.tried) < 1.5, "each heard it within a second"
    assert min(at for at, _, _ in pace.arrived) >= 20.0


def test_a_dispatcher_that_starts_while_a_provider_is_out_sends_nothing() -> None:
    pace = Pace(0.005, rate=100, batch=10)

    async def work() -> None:
        now = pace.clock()
        known = pauses.Pause("http_503", "", now, now + 5_000, kind=pauses.OUTAGE)
        await pauses.change(pace.store.redis, "viber", lambda _: known)
        async with trio.open_nursery() as nursery:
            await nursery.start(pace.dispatch, "second")
            await pace.admit(100)
            await trio.sleep(4.5)
            assert pace.arrived == []
            await trio.sleep(3.0)
            assert len(pace.arrived) == 100
            nursery.cancel_scope.cancel()

    pace.run(work, dispatchers=0)


def test_a_dispatcher_that_stood_still_takes_no_provider_for_one_that_is_out() -> None:
    """What was under way when it was stopped is over its deadline when it goes on. It paused the
    provider for all dispatchers, and their codes went by the next channel."""
    pace = Pace(0.005, rate=100, batch=10, connections=10)
    well = pace.provider.otherwise

    async def unheard(batch: Sequence[Submission]) -> list[Outcome]:
        await trio.sleep(600.0)
        return await well(batch)

    async def work() -> None:
        clock = trio.lowlevel.current_clock()
        assert isinstance(clock, VirtualClock)
        pace.provider.otherwise = unheard
        await pace.admit(100)
        await trio.sleep(2.0)
        pace.provider.otherwise = well
        clock.jump(60.0)
        await pace.admit(100)
        await trio.sleep(5.0)
        assert len(pace.arrived) >= 100

    pace.run(work)
    counted = {"provider": "viber", "kind": "outage"}
    found = pace.metrics.registries.own.get_sample_value("kaskad_dispatch_pauses_total", counted)
    assert found is None


def test_while_redis_is_away_an_outage_stands() -> None:
    pace = Pace(0.005, rate=100, batch=10)
    outage = Outage(pace, BROKEN, 0.0, 1_000.0)

    async def work() -> None:
        await pace.admit(100)
        await trio.sleep(3.0)
        before = len(outage.tried)
        pace.weather.down = True
        await trio.sleep(10.0)
        assert len(outage.tried) <= before + 1
        pace.weather.down = False
        await trio.sleep(10.0)
        assert (await pauses.read(pace.store.redis))["viber"].kind == "outage"

    pace.run(work)


@pytest.mark.parametrize("rate", [20, 1_000])
def test_an_otp_behind_four_hundred_dead_entries_goes_at_once(rate: int) -> None:
    """At 20 a second each dead entry cost a token: 20 s."""
    pace = Pace(0.005, rate=rate, batch=100)
    waited: list[float] = []

    async def work() -> None:
        held = pauses.Pause("E402", "", pace.clock(), pace.clock() + 600_000)
        await pauses.change(pace.store.redis, "viber", lambda _: held)
        async with trio.open_nursery() as nursery:
            dead = await pace.admit(400, category="otp", campaign=None)
            await pace.store.apply([Item(id_, Cancelled()) for id_ in dead], pace.clock())
            (fresh,) = await pace.admit(1, category="otp", campaign=None)
            await pauses.delete(pace.store.redis, "viber")
            began = trio.current_time()
            await nursery.start(pace.dispatch, "d")
            await trio.sleep(1.0)
            assert [id_ for _, _, id_ in pace.arrived] == [fresh]
            waited.append(pace.arrived[0][0] - began)
            nursery.cancel_scope.cancel()

    pace.run(work, dispatchers=0)
    assert waited[0] < 0.25
