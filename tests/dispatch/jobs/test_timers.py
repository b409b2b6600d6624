"""Which of many due timers fire first."""

from __future__ import annotations

from gateway.dispatch.jobs import timers
from gateway.store.waiting.lanes import TIMERS_COUNT
from tests.worlds.dispatch_world import DispatchWorld, under_trio, world

LONG_AFTER_MS = 4 * 86_400_000


async def fire(w: DispatchWorld) -> bool:
    return await timers.fire(w.deps(), 0, lambda _: None, {})


@under_trio
async def test_a_timer_does_not_wait_for_all_that_came_due_at_one_moment_before_it(
    redis_url: str,
) -> None:
    async with world(redis_url) as w:
        many = await w.admit(3 * TIMERS_COUNT)
        w.go_ahead(1)
        (late,) = await w.admit()
        w.go_ahead(LONG_AFTER_MS)
        assert await fire(w)
        assert await w.status(late) == "expired"
        assert await w.status(min(many)) == "expired", "nor those for all that come after them"
        while await fire(w):
            pass
        assert {await w.status(id_) for id_ in many} == {"expired"}
