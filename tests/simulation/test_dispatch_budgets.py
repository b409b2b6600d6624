"""What waits for a budget goes on by itself, in order, and costs nothing while it waits."""

from __future__ import annotations

from typing import Any

import pytest
import trio
from msgspec.structs import replace

from gateway.core.money.budgets import Budget
from gateway.dispatch.jobs.feeder import STUCK_MS
from gateway.redis.replies import as_list
from gateway.store.keys import keys_of
from gateway.store.messages import reads
from gateway.store.money import budgets
from gateway.store.money.budgets import Budgets
from gateway.store.shared_keys import QUEUES
from tests.simulation.pace import Pace
from tests.worlds.cascade_world import policy

ONE = 5_000  # a Viber
LOOK_S = 2.0  # within which it is seen that there is room
SPRING = Budget("spring", 10 * ONE, 60_000, "1m", campaign="autumn")
ROUTE = "viber-only"


def world(budget: Budget = SPRING) -> Pace:
    pace = Pace(0.005, rate=200, batch=100)
    pace.store.policy = replace(policy(), budgets=(budget,))
    return pace


async def admit(pace: Pace, count: int) -> list[str]:
    return await pace.admit(count, route=ROUTE, campaign="autumn")


async def spent(pace: Pace) -> int:
    found = await budgets.read(pace.store.redis, [SPRING], 1, pace.clock())
    return found["spring"].spent


def test_the_first_in_line_go_on_when_the_limit_is_raised() -> None:
    pace = world()

    async def work() -> None:
        ids = sorted(await admit(pace, 25))
        await trio.sleep(LOOK_S)
        assert len(pace.arrived) == 10
        waiting = sorted({*ids} - {id_ for _, _, id_ in pace.arrived})
        pace.store.policy = replace(policy(), budgets=(replace(SPRING, limit=20 * ONE),))
        await trio.sleep(LOOK_S)
        assert sorted(id_ for _, _, id_ in pace.arrived[10:]) == waiting[:10]
        assert await spent(pace) == 20 * ONE

    pace.run(work, 2)


def test_who_is_first_and_needs_most_is_not_passed_by_those_behind() -> None:
    """Three that needed less went out with each look, so that it never had its turn."""
    pace = world()

    async def work() -> None:
        await admit(pace, 10)
        (dearest,) = await pace.admit(1, route="viber-then-sms", campaign="autumn")
        await trio.sleep(0.01)  # ids of one millisecond are in no order
        await admit(pace, 12)
        await trio.sleep(LOOK_S)
        for more in (3, 6, 9):  # of which it needs nine
            assert len(pace.arrived) == 10
            limit = (10 + more) * ONE
            pace.store.policy = replace(policy(), budgets=(replace(SPRING, limit=limit),))
            await trio.sleep(LOOK_S)
        assert [id_ for _, _, id_ in pace.arrived[10:]] == [dearest]

    pace.run(work)


def test_all_go_on_when_the_budget_is_gone() -> None:
    pace = world()

    async def work() -> None:
        ids = await admit(pace, 300)
        await trio.sleep(LOOK_S)
        pace.store.policy = policy()
        await trio.sleep(3 * LOOK_S)
        assert sorted(id_ for _, _, id_ in pace.arrived) == sorted(ids)

    pace.run(work)


def test_they_go_on_when_others_are_final_and_when_the_window_moves() -> None:
    """Viber is charged when it is sent here, so that it is used at once."""
    pace = world()
    rules = policy(charged_on="sent")
    pace.store.policy = replace(rules, budgets=(SPRING,))

    async def work() -> None:
        await admit(pace, 15)
        await trio.sleep(LOOK_S)
        assert len(pace.arrived) == 10
        await trio.sleep(60 - 2 * LOOK_S)
        assert len(pace.arrived) == 10
        await trio.sleep(3 * LOOK_S)
        assert len(pace.arrived) == 15
        assert await spent(pace) <= SPRING.limit

    pace.run(work)


def test_nothing_is_read_for_what_waits_for_a_budget() -> None:
    """A few looks a second, however many wait."""
    pace = world()
    calls: dict[int, int] = {}

    async def count(more: int) -> None:
        await admit(pace, more)
        await trio.sleep(LOOK_S)
        before = pace.weather.calls
        await trio.sleep(3.0)
        calls[more] = pace.weather.calls - before

    async def work() -> None:
        await admit(pace, 10)
        await count(1)
        await count(2_000)

    pace.run(work)
    assert calls[2_000] < 1.2 * calls[1]


def test_one_that_does_not_fit_is_not_tried_again_before_there_is_more_room() -> None:
    pace = world(replace(SPRING, limit=10 * ONE + 1))

    async def work() -> None:
        await admit(pace, 12)
        await trio.sleep(LOOK_S)
        commits = pace.store.counts.commits
        await trio.sleep(LOOK_S)
        assert pace.store.counts.commits == commits
        (names,) = await pace.store.redis.call([("ZRANGEBYSCORE", QUEUES, "-inf", "+inf")])
        assert b"budget:spring" in as_list(names)
        key = keys_of(0).held("budget:spring")
        (waiting,) = await pace.store.redis.call([("ZRANGEBYSCORE", key, "-inf", "+inf")])
        assert len(as_list(waiting)) == 2

    pace.run(work)


def test_what_another_process_had_for_a_moment_is_tried_again(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """No more may ever be free than was then."""
    pace = world()
    lease, turns = Budgets.lease, iter([True])

    async def taken(self: Budgets, *asked: Any) -> frozenset[str]:
        return frozenset({"spring"}) if next(turns, False) else await lease(self, *asked)

    async def work() -> None:
        await admit(pace, 11)
        await trio.sleep(LOOK_S)
        monkeypatch.setattr(Budgets, "lease", taken)
        pace.store.policy = replace(policy(), budgets=(replace(SPRING, limit=11 * ONE),))
        await trio.sleep(LOOK_S)
        assert len(pace.arrived) == 10
        await trio.sleep(STUCK_MS / 1000)
        assert len(pace.arrived) == 11

    pace.run(work)


def test_at_its_ttl_it_expires_for_its_budget() -> None:
    pace = world()

    async def work() -> None:
        ids = await pace.admit(12, route=ROUTE, campaign="autumn", ttl_ms=30_000)
        await trio.sleep(35)
        found = await reads.messages(pace.store, 0, ids)
        ended = [m for m in found.values() if m is not None and m.reason == "budget"]
        assert len(ended) == 2
        assert await spent(pace) == 10 * ONE

    pace.run(work)
