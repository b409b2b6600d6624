"""A dispatcher that stood still for longer than its lease, in virtual time: others may have taken
over what it had claimed, so it sends nothing of that."""

from __future__ import annotations

from collections.abc import Sequence

import trio

from providers.contract import BadRequest, Outcome, Submission
from tests.simulation.pace import Pace
from tests.worlds.virtual_clock import VirtualClock


def test_what_was_claimed_before_is_not_sent_though_the_proof_stands_again() -> None:
    """A batch that is refused as a whole goes in parts. What stood still and has proved again that
    it lives took the parts for just claimed."""
    pace = Pace(0.005, rate=1_000, batch=10, timeout_ms=30_000)
    well = pace.provider.otherwise

    async def refused(batch: Sequence[Submission]) -> list[Outcome]:
        pace.provider.otherwise = well
        clock = trio.lowlevel.current_clock()
        assert isinstance(clock, VirtualClock)
        clock.jump(15.0)
        await trio.sleep(0.1)
        raise BadRequest("http_400", "One of them is wrong.")

    async def work() -> None:
        ids = await pace.admit(400)
        pace.provider.otherwise = refused
        for _ in range(2):
            await trio.sleep(5.0)
        assert sorted(id_ for _, _, id_ in pace.arrived) == sorted(ids)

    pace.run(work)
    counted = {"provider": "viber", "outcome": "put_back"}
    found = pace.metrics.registries.own.get_sample_value("kaskad_dispatch_outcomes_total", counted)
    assert found is not None
    assert found >= 10
