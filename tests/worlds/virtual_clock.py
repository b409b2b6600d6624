"""The virtual time of a simulation: it stands still while anybody has something to do, and is at
the next deadline as soon as nobody has.

For worlds that are all in memory. trio's own `MockClock` looks first whether something comes from
outside (a socket, a thread), which here nothing does: that is one more turn of its loop for each
moment at which something happens.
"""

from __future__ import annotations

import math

import trio


class VirtualClock(trio.abc.Clock):
    def __init__(self) -> None:
        self._now = 0.0

    def start_clock(self) -> None:
        """Nothing to do: time begins at 0."""

    def current_time(self) -> float:
        return self._now

    def deadline_to_sleep_time(self, deadline: float) -> float:
        """Asked by trio when no task can go on. Where nothing will ever be due, it waits."""
        if deadline == math.inf:
            return math.inf
        self._now = max(self._now, deadline)
        return 0.0

    def jump(self, seconds: float) -> None:
        """Moves time on past what is due meanwhile, which is late then."""
        self._now += seconds
