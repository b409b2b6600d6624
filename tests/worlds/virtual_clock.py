"""The virtual time of a simulation: it stands still while anybody has something to do, and is at
the next moment that somebody waits for as soon as nobody has.

For worlds that are all in memory. trio's own `MockClock` looks first whether something comes from
outside (a socket, a thread), which here nothing does: that is one more turn of its loop for each
moment at which something happens. And whoever sleeps waits in the clock itself: to trio a sleep is
a scope that is cancelled at its end, which was a fifth of what dispatchers with nothing to do cost.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Awaitable, Callable
from heapq import heappop, heappush
from typing import TypeVar
from unittest import mock

import trio

T = TypeVar("T")


class VirtualClock(trio.abc.Clock):
    def __init__(self) -> None:
        self._now = 0.0
        self._count = itertools.count()
        self._sleepers: list[tuple[float, int]] = []  # those that were cancelled are there as well
        self._tasks: dict[int, trio.lowlevel.Task] = {}  # who sleeps, by number

    def run(self, work: Callable[..., Awaitable[T]], *arguments: object) -> T:
        """As `trio.run`, by this clock."""
        with (
            mock.patch.object(trio, "sleep", self._sleep),
            mock.patch.object(trio, "sleep_until", self._sleep_until),
        ):
            return trio.run(work, *arguments, clock=self)

    def start_clock(self) -> None:
        """Nothing to do: time begins at 0."""

    def current_time(self) -> float:
        return self._now

    def deadline_to_sleep_time(self, deadline: float) -> float:
        """Asked by trio when no task can go on. Where nothing will ever be due, it waits."""
        until = min(deadline, self._next_end())
        if until == math.inf:
            return math.inf
        self._move_to(max(until, self._now))
        return 0.0

    def jump(self, seconds: float) -> None:
        """Moves time on past what is due meanwhile, which is late then."""
        self._move_to(self._now + seconds)

    def _move_to(self, now: float) -> None:
        self._now = now
        while self._next_end() <= now:
            trio.lowlevel.reschedule(self._tasks.pop(heappop(self._sleepers)[1]))

    def _next_end(self) -> float:
        while self._sleepers and self._sleepers[0][1] not in self._tasks:
            heappop(self._sleepers)
        return self._sleepers[0][0] if self._sleepers else math.inf

    async def _sleep(self, seconds: float) -> None:
        if seconds < 0:
            raise ValueError("`seconds` must be non-negative")
        await self._sleep_until(self._now + seconds)

    async def _sleep_until(self, end: float) -> None:
        if end <= self._now:
            await trio.lowlevel.checkpoint()
            return
        number = next(self._count)

        def cancelled(_: trio.lowlevel.RaiseCancelT) -> trio.lowlevel.Abort:
            del self._tasks[number]
            return trio.lowlevel.Abort.SUCCEEDED

        self._tasks[number] = trio.lowlevel.current_task()
        heappush(self._sleepers, (end, number))
        await trio.lowlevel.wait_task_rescheduled(cancelled)
