"""Requests become batches: whatever arrived during the last round trip is decided as one.

There is one queue a shard, between many requests and few transactions. It is self-clocking: a
request that finds its shard idle goes at the end of the loop's turn, with all that came in that
turn; while a transaction is under way the next batch gathers. It never waits for more. A second
transaction of a shard starts early only when half a full batch is waiting, because two that touch
the same person make each other decide again.

Failures reach each item's `done` as an exception: RedisUnavailable while Redis is unavailable,
anything else is a bug. An item whose decision is a bug must not fail its neighbours, so such a
batch is decided once more item by item; not so after CommandRefused, where part of it may be
written.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Awaitable, Callable, Sequence
from functools import partial
from typing import Generic, TypeVar

import structlog

from gateway.redis.errors import RedisError, RedisUnavailable
from gateway.store.transaction import ConflictError

QUEUE_MAX = 8_192  # items waiting a shard: about two seconds of a full load
IN_FLIGHT_MAX = 2  # transactions a shard

ItemT = TypeVar("ItemT")
ResultT = TypeVar("ResultT")
TakeResult = Callable[[ResultT | Exception], None]
DecideBatch = Callable[[int, Sequence[ItemT]], Awaitable[Sequence[ResultT | Exception]]]

_log = structlog.get_logger("ingress")


class QueueFull(Exception):
    """The queue of this shard is full: the caller must be told to come again."""


class Batcher(Generic[ItemT, ResultT]):
    """Gathers items a shard and has `decide(shard, items)` answer them, one result an item."""

    def __init__(
        self,
        shards: int,
        decide: DecideBatch[ItemT, ResultT],
        *,
        batch_max: int,
        queue_max: int = QUEUE_MAX,
        in_flight_max: int = IN_FLIGHT_MAX,
    ) -> None:
        self.batches = 0
        self.items = 0
        self._decide = decide
        self._batch_max = batch_max
        self._queue_max = queue_max
        self._in_flight_max = in_flight_max
        self._shards = [_Shard[ItemT, ResultT]() for _ in range(shards)]
        self._tasks: set[asyncio.Task[None]] = set()
        self._loop = asyncio.get_running_loop()

    def submit(self, shard: int, item: ItemT, done: TakeResult[ResultT]) -> None:
        """Queues one item; `done` is called once, from the loop. Raises QueueFull."""
        if len(self._shards[shard].queue) >= self._queue_max:
            raise QueueFull
        self._append(shard, item, done)

    def _append(self, shard: int, item: ItemT, done: TakeResult[ResultT]) -> None:
        state = self._shards[shard]
        state.queue.append((item, done))
        if not state.woken and state.in_flight == 0:
            state.woken = True
            self._loop.call_soon(self._pump, shard)
        elif state.in_flight and 2 * len(state.queue) >= self._batch_max:
            self._pump(shard)

    async def ask(self, shard: int, item: ItemT) -> ResultT:
        """Queues one item and waits for its result. Raises QueueFull, RedisUnavailable and bugs."""
        answered: asyncio.Future[ResultT | Exception] = self._loop.create_future()

        def done(result: ResultT | Exception) -> None:
            if not answered.done():
                answered.set_result(result)

        self.submit(shard, item, done)
        result = await answered
        if isinstance(result, Exception):
            raise result
        return result

    async def ask_all(self, shard: int, items: Sequence[ItemT]) -> list[ResultT | Exception]:
        """Queues items and waits for all results, in order. Raises QueueFull, and none is queued.

        Items that are more than a queue holds are taken all the same while it is half empty, for
        they are in memory already.
        """
        if not items:
            return []
        waiting = len(self._shards[shard].queue)
        if waiting + len(items) > self._queue_max and 2 * waiting > self._queue_max:
            raise QueueFull
        results: dict[int, ResultT | Exception] = {}
        answered: asyncio.Future[None] = self._loop.create_future()

        def done(index: int, result: ResultT | Exception) -> None:
            results[index] = result
            if len(results) == len(items) and not answered.done():
                answered.set_result(None)

        for index, item in enumerate(items):
            self._append(shard, item, partial(done, index))
        await answered
        return [results[index] for index in range(len(items))]

    def waiting(self) -> int:
        """Items that no transaction has taken yet."""
        return sum(len(state.queue) for state in self._shards)

    async def drained(self) -> None:
        """Returns once nothing is queued or under way; the caller sees to it that nothing comes."""
        while self._tasks or any(state.woken for state in self._shards):
            if self._tasks:
                await asyncio.wait(set(self._tasks))
            else:
                await asyncio.sleep(0)

    def _pump(self, shard: int) -> None:
        state = self._shards[shard]
        state.woken = False
        queue = state.queue
        while queue and state.in_flight < self._in_flight_max:
            if state.in_flight and 2 * len(queue) < self._batch_max:
                return
            count = min(len(queue), self._batch_max)
            batch = [queue.popleft() for _ in range(count)]
            state.in_flight += 1
            task = self._loop.create_task(self._run(shard, batch))
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)

    async def _run(self, shard: int, batch: list[tuple[ItemT, TakeResult[ResultT]]]) -> None:
        self.batches += 1
        self.items += len(batch)
        try:
            results = await self._outcomes(shard, [item for item, _ in batch])
        finally:
            # Before the answers are told: telling them may bring the next items.
            self._shards[shard].in_flight -= 1
            self._pump(shard)
        for (_, done), result in zip(batch, results, strict=True):
            try:
                done(result)
            except Exception:
                _log.exception("answer_not_told")

    async def _outcomes(self, shard: int, items: list[ItemT]) -> Sequence[ResultT | Exception]:
        try:
            return await self._decide(shard, items)
        except (RedisError, ConflictError) as error:
            return [_passing(error)] * len(items)
        except Exception as error:
            if len(items) == 1:
                return [error]
            _log.exception("batch_failed", items=len(items))
        return [(await self._outcomes(shard, [item]))[0] for item in items]


class _Shard(Generic[ItemT, ResultT]):
    __slots__ = ("in_flight", "queue", "woken")

    def __init__(self) -> None:
        self.queue: deque[tuple[ItemT, TakeResult[ResultT]]] = deque()
        self.in_flight = 0
        self.woken = False


def _passing(error: RedisError | ConflictError) -> Exception:
    """A person's record that everybody changes at once is like a store that is unavailable."""
    if isinstance(error, ConflictError):
        return RedisUnavailable("One record is changed by too many requests at once.")
    return error
