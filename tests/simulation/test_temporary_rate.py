"""An operator's rate under load, in virtual time: it holds within two seconds, and ends."""

from __future__ import annotations

import pytest
import trio

from gateway.store.providers import temporary_rates
from tests.simulation.pace import Pace

BATCH = 5
WITHIN_S = 2.0
LOOKED_AT_S = 5.0


@pytest.mark.parametrize(("configured", "given"), [(4, 20), (20, 2)])
def test_an_operators_rate_holds_within_two_seconds_and_ends_by_itself(
    configured: int, given: int
) -> None:
    world = Pace(0.05, rate=configured, batch=BATCH)
    begun = ended = 0.0

    async def work() -> None:
        nonlocal begun, ended
        await world.admit(400)
        await trio.sleep(WITHIN_S)
        begun = trio.current_time()
        lasts_ms = round((WITHIN_S + LOOKED_AT_S) * 1000)
        redis, now_ms = world.store.redis, world.clock()
        await temporary_rates.begin(redis, "viber", given, lasts_ms, "ann", now_ms)
        await trio.sleep(WITHIN_S + LOOKED_AT_S)
        ended = trio.current_time()
        await trio.sleep(WITHIN_S + LOOKED_AT_S)

    world.run(work, dispatchers=2)

    def sent_after(since: float) -> int:
        begin = since + WITHIN_S
        return sum(begin <= at < begin + LOOKED_AT_S for at, _, _ in world.arrived)

    for rate, since in ((given, begun), (configured, ended)):
        wanted = rate * LOOKED_AT_S
        assert 0.9 * wanted <= sent_after(since) <= wanted + BATCH
