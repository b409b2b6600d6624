"""What is measured of a provider's sends, and what dispatchers say of one another's rates."""

from __future__ import annotations

from structlog.testing import capture_logs

from gateway import telemetry
from gateway.dispatch.jobs.measuring import RateWatch
from gateway.dispatch.metrics import DispatchMetrics
from gateway.dispatch.recent import FAILED_S, Mark, Recent
from gateway.store.installation import snapshots
from tests.worlds.dispatch_world import DispatchWorld, under_trio, world


def recent(*marks: tuple[float, int, int]) -> Recent:
    found = Recent()
    for mark in marks:
        found.note(Mark(*mark))
    return found


def test_sends_a_second_are_those_of_the_last_ten() -> None:
    assert recent((0.0, 5, 0)).per_second() == 0.0
    assert recent((0.0, 0, 0), (4.0, 40, 0)).per_second() == 10.0
    steady = [(float(at), 100 * at, 0) for at in range(30)]
    assert recent(*steady).per_second() == 100.0
    assert recent(*steady, *((30.0 + at, 2_900, 0) for at in range(11))).per_second() == 0.0


def test_failures_are_those_of_the_last_minute() -> None:
    grows = [(float(at), at, at) for at in range(200)]
    assert recent(*grows).failed() == FAILED_S
    assert recent((0.0, 9, 9)).failed() == 0


def test_what_others_took_over_is_that_of_the_last_minute_and_counted_once() -> None:
    found = Recent()
    for at in range(200):
        found.note(Mark(float(at), 0, 0, 2 * at))
    assert found.handed_over() == 2 * FAILED_S
    metrics = DispatchMetrics(telemetry.new_registries())
    for count in (3, 3, 5):
        metrics.count_handed_over({"viber": count, "sms": 0})
    own = metrics.registries.own
    for name, total in (("viber", 5), ("sms", 0)):
        named = {"provider": name}
        assert own.get_sample_value("kaskad_dispatch_handed_over_total", named) == total


async def tell(w: DispatchWorld, process: str, rate: int) -> None:
    """A dispatcher publishes that it has this rate for viber."""
    registries = telemetry.new_registries()
    DispatchMetrics(registries).rate.labels("viber").set(rate)
    await snapshots.publish(w.redis, process, telemetry.snapshot(registries, process), w.clock())


@under_trio
async def test_dispatchers_with_different_rates_are_told_once_and_shown(redis_url: str) -> None:
    async with world(redis_url) as w:
        deps = w.deps()
        await tell(w, "dispatch-a-1", 500)
        await tell(w, "dispatch-b-1", 500)
        watch = RateWatch(deps, ["viber", "sms"])

        async def compare() -> list[str]:
            with capture_logs() as lines:
                await watch.look()
            return [f"{line['provider']} {sorted(line['rates'].items())}" for line in lines]

        def shown() -> float | None:
            own = deps.metrics.registries.own
            return own.get_sample_value("kaskad_dispatch_rates_differ", {"provider": "viber"})

        assert (await compare(), shown()) == ([], 0)
        await tell(w, "dispatch-b-1", 300)
        assert await compare() == ["viber [('dispatch-a-1', 500), ('dispatch-b-1', 300)]"]
        assert (await compare(), shown()) == ([], 1)
        await tell(w, "dispatch-a-1", 300)
        assert (await compare(), shown()) == ([], 0)
