"""How many messages came within any one second, now and at most. Reads no clock; never fails."""

from __future__ import annotations

from collections import deque
from typing import Final

SECOND_MS: Final = 1_000


class SlidingSecond:
    """Counts over the second that ends now: two requests 1,000 ms apart are never together."""

    def __init__(self) -> None:
        self._arrivals: deque[tuple[int, int]] = deque()
        self._sum = 0
        self.peak = 0

    def within(self, now_ms: int) -> int:
        """Messages of the second up to `now_ms`."""
        arrivals = self._arrivals
        while arrivals and arrivals[0][0] <= now_ms - SECOND_MS:
            self._sum -= arrivals.popleft()[1]
        return self._sum

    def add(self, now_ms: int, messages: int) -> None:
        self._arrivals.append((now_ms, messages))
        self._sum += messages
        self.peak = max(self.peak, self.within(now_ms))
