"""Whether a webhook is called now: it rests after failures in a row, and as long as it wishes.

After FAILURES_MAX of them one call is made at a time, and between two a pause that grows; the first
that succeeds ends that. Pure but for chance: moments are the caller's, in seconds.
"""

from __future__ import annotations

from gateway.backoff import Backoff

FAILURES_MAX = 5
REST_S_MIN, REST_S_MAX = 1.0, 60.0
WISH_S_MAX = 3_600.0
BUSY = frozenset((429, 502, 503, 504))  # said of the receiver as a whole


class Resting:
    def __init__(self) -> None:
        self.until = 0.0
        self._failures = 0
        self._backoff = Backoff(REST_S_MIN, REST_S_MAX)

    def allowed(self, now: float, most: int) -> int:
        """How many calls may be open at once."""
        if now < self.until:
            return 0
        return 1 if self._failures >= FAILURES_MAX else most

    def succeeded(self) -> None:
        self._failures = 0
        self._backoff.reset()

    def failed(self, began: float, now: float, status: int, wish_s: float) -> None:
        """A call failed that began then. One of several that were open at once says no more than
        the first of them did."""
        if status in BUSY and wish_s:
            self.until = max(self.until, now + min(wish_s, WISH_S_MAX))
        if began < self.until and self._failures >= FAILURES_MAX:
            return
        self._failures += 1
        if self._failures >= FAILURES_MAX:
            self.until = max(self.until, now + self._backoff.next_s())
