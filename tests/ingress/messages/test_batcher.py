"""The batcher's clock is the transactions: what goes together, and what fails together."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence

import pytest

from gateway.ingress.intake.batcher import Batcher, QueueFull
from gateway.redis.errors import CommandRefused, RedisUnavailable
from gateway.store.transaction import ConflictError


class Transactions:
    """Stands for the store: each batch waits until the test lets it through."""

    def __init__(self, *, held: bool = False) -> None:
        self.batches: list[tuple[int, list[int]]] = []
        self.open = asyncio.Event()
        if not held:
            self.open.set()

    async def __call__(self, shard: int, items: Sequence[int]) -> Sequence[int]:
        self.batches.append((shard, list(items)))
        await self.open.wait()
        return [10 * item for item in items]


def on_a_loop(test: Callable[[], Awaitable[None]]) -> Callable[[], None]:
    def run() -> None:
        asyncio.run(asyncio.wait_for(test(), 10))

    run.__name__, run.__doc__ = test.__name__, test.__doc__
    return run


async def turns() -> None:
    for _ in range(10):
        await asyncio.sleep(0)


@on_a_loop
async def test_what_comes_in_one_turn_goes_together() -> None:
    store = Transactions()
    batcher = Batcher(2, store, batch_max=8)
    results = await asyncio.gather(*(batcher.ask(n % 2, n) for n in range(6)))
    assert results == [0, 10, 20, 30, 40, 50]
    assert store.batches == [(0, [0, 2, 4]), (1, [1, 3, 5])]


@on_a_loop
async def test_what_comes_during_a_transaction_waits_for_its_end() -> None:
    store = Transactions(held=True)
    batcher = Batcher(1, store, batch_max=8)
    first = asyncio.ensure_future(batcher.ask(0, 1))
    await turns()
    rest = [asyncio.ensure_future(batcher.ask(0, n)) for n in (2, 3)]
    await turns()
    assert store.batches == [(0, [1])]
    store.open.set()
    assert await asyncio.gather(first, *rest) == [10, 20, 30]
    assert store.batches == [(0, [1]), (0, [2, 3])]


@on_a_loop
async def test_a_second_transaction_starts_early_when_half_a_batch_waits() -> None:
    store = Transactions(held=True)
    batcher = Batcher(1, store, batch_max=8)
    asks = [asyncio.ensure_future(batcher.ask(0, 0))]
    await turns()
    asks += [asyncio.ensure_future(batcher.ask(0, n)) for n in range(1, 20)]
    await turns()
    # Never more than two under way, and never more than batch_max in one.
    assert [len(items) for _, items in store.batches] == [1, 4]
    store.open.set()
    assert await asyncio.gather(*asks) == [10 * n for n in range(20)]
    assert max(len(items) for _, items in store.batches) == 8
    assert batcher.items == 20


@on_a_loop
async def test_a_full_queue_refuses() -> None:
    store = Transactions(held=True)
    batcher = Batcher(1, store, batch_max=8, queue_max=3)
    asks = [asyncio.ensure_future(batcher.ask(0, 0))]
    await turns()
    asks += [asyncio.ensure_future(batcher.ask(0, n)) for n in range(3)]
    await turns()
    assert batcher.waiting() == 3
    with pytest.raises(QueueFull):
        await batcher.ask(0, 9)
    with pytest.raises(QueueFull):
        await batcher.ask_all(0, [9])
    store.open.set()
    await asyncio.gather(*asks)
    assert await batcher.ask_all(0, [1, 2, 3, 4, 5]) == [10, 20, 30, 40, 50]
    assert await batcher.ask_all(0, []) == []


@on_a_loop
async def test_an_item_that_cannot_be_decided_fails_alone() -> None:
    async def decide(_shard: int, items: Sequence[int]) -> Sequence[int]:
        if 2 in items:
            raise ValueError("two")
        return items

    batcher = Batcher(1, decide, batch_max=8)
    results = await batcher.ask_all(0, [1, 2, 3])
    assert results[::2] == [1, 3]
    assert isinstance(results[1], ValueError)


@pytest.mark.parametrize(
    ("raised", "told"),
    [
        (RedisUnavailable("away"), RedisUnavailable),
        (ConflictError(), RedisUnavailable),
        (CommandRefused("SET", "WRONGTYPE"), CommandRefused),
    ],
)
def test_a_failure_of_the_store_is_told_to_all_and_not_tried_again(
    raised: Exception, told: type[Exception]
) -> None:
    calls = []

    async def decide(_shard: int, items: Sequence[int]) -> Sequence[int]:
        calls.append(items)
        raise raised

    async def main() -> None:
        batcher = Batcher(1, decide, batch_max=8)
        results = await batcher.ask_all(0, [1, 2, 3])
        assert [type(result) for result in results] == [told] * 3

    asyncio.run(main())
    assert len(calls) == 1


@on_a_loop
async def test_draining_waits_for_all_that_was_queued() -> None:
    store = Transactions(held=True)
    batcher = Batcher(1, store, batch_max=2)
    told: list[int | Exception] = []
    for n in range(5):
        batcher.submit(0, n, told.append)
    drained = asyncio.ensure_future(batcher.drained())
    await turns()
    assert not drained.done()
    store.open.set()
    await drained
    assert told == [0, 10, 20, 30, 40]


@on_a_loop
async def test_a_caller_that_went_away_does_not_disturb_the_others() -> None:
    store = Transactions(held=True)
    batcher = Batcher(1, store, batch_max=8)
    gone = asyncio.ensure_future(batcher.ask(0, 1))
    stays = asyncio.ensure_future(batcher.ask(0, 2))
    await turns()
    gone.cancel()
    store.open.set()
    assert await stays == 20
