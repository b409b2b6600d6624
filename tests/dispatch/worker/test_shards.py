"""Which shards may be used: those for which nothing is held up, on a virtual clock."""

from __future__ import annotations

import pytest
import trio
import trio.testing

from gateway.dispatch.redis_retry import RedisRetry
from gateway.dispatch.worker.shards import Shards
from gateway.redis.errors import RedisUnavailable
from tests.worlds.reading import now

UNAVAILABLE = RedisUnavailable("The master is unavailable.")


def three() -> Shards:
    return Shards(3, lambda: RedisRetry("worker", lambda loop: None))


class Work:
    """Fails until it is told that Redis is back."""

    def __init__(self) -> None:
        self.tries = 0
        self.back = False

    async def __call__(self) -> str:
        await trio.lowlevel.checkpoint()
        self.tries += 1
        if not self.back:
            raise UNAVAILABLE
        return "done"


@pytest.mark.trio
async def test_a_shard_is_closed_while_its_work_is_held_up_and_no_other_is(
    autojump_clock: trio.testing.MockClock,
) -> None:
    shards, works = three(), [Work(), Work()]
    async with trio.open_nursery() as nursery:
        for work in works:
            nursery.start_soon(shards.until_done, 1, work)
        await trio.sleep(10)
        assert now(shards.open) == (0, 2)
        works[0].back = True
        await trio.sleep(5)
        assert now(shards.open) == (0, 2), "the other work is still held up"
        works[1].back = True
        with trio.fail_after(5):
            await shards.wait_open(1)
    assert now(shards.open) == (0, 1, 2)
    assert all(1 < work.tries < 40 for work in works)


@pytest.mark.trio
async def test_work_that_is_taken_at_once_closes_nothing(
    autojump_clock: trio.testing.MockClock,
) -> None:
    shards, work = three(), Work()
    work.back = True
    assert await shards.until_done(0, work) == "done"
    assert (work.tries, shards.open) == (1, (0, 1, 2))
    assert await shards.until_done(0, work, failed=UNAVAILABLE) == "done"
    assert trio.current_time() > 0.02, "it failed before, so it waits first"


@pytest.mark.trio
async def test_work_that_is_given_up_holds_nothing_up(
    autojump_clock: trio.testing.MockClock,
) -> None:
    shards = three()
    with trio.move_on_after(3):
        await shards.until_done(2, Work())
    assert shards.open == (0, 1, 2)


@pytest.mark.trio
async def test_of_several_suspects_each_is_open_again_once_its_own_check_went_through(
    autojump_clock: trio.testing.MockClock,
) -> None:
    shards, well, checked = three(), {0}, list[int]()
    changes: list[tuple[int, ...]] = []

    async def check(shard: int) -> None:
        await trio.lowlevel.checkpoint()
        if shard not in well:
            raise UNAVAILABLE
        checked.append(shard)

    def on_change() -> None:
        changes.append(shards.open)

    async with trio.open_nursery() as nursery:
        nursery.start_soon(shards.run, check, on_change)
        await trio.sleep(1)
        shards.suspect([0, 1], UNAVAILABLE)
        shards.suspect([1, 0], UNAVAILABLE)
        assert shards.open == (2,)
        await trio.sleep(10)
        assert (checked, changes) == ([0], [(1, 2), (2,), (0, 2)])
        well.add(1)
        await trio.sleep(3)
        assert (checked, changes[3:]) == ([0, 1], [(0, 1, 2)])
        shards.suspect([2])
        well.add(2)
        await trio.sleep(1)
        assert checked == [0, 1, 2], "it can be suspect again"
        nursery.cancel_scope.cancel()
