"""Waiting that grows: how long to leave something alone that does not work."""

from __future__ import annotations

import random

DOUBLINGS_MAX = 30


def delay_s(failures: int, least_s: float, most_s: float, fraction: float = 0.0) -> float:
    """How long to wait after so many failures in a row: twice as long after each, within bounds.

    After none there is no wait. `fraction`, a random number in [0, 1), shortens it by up to a half,
    so that many who failed together do not come back together.
    """
    if failures == 0:
        return 0.0
    full = min(least_s * 2.0 ** min(failures - 1, DOUBLINGS_MAX), most_s)
    return full * (1.0 - fraction / 2.0)


class Backoff:
    """The waits of one thing that is tried again; `failures` counts those since the last reset."""

    def __init__(self, least_s: float, most_s: float) -> None:
        self._least_s = least_s
        self.most_s = most_s
        self.failures = 0

    def next_s(self) -> float:
        """Counts a failure and draws the wait after it."""
        self.failures += 1
        return delay_s(self.failures, self._least_s, self.most_s, random.random())

    def reset(self) -> None:
        self.failures = 0
