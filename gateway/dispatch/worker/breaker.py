"""When a worker stops sending to a provider that does not take its requests, and for how long.

`Breaker` is one worker's own rest: two delays that grow with each failure in a row and end with the
first request that went well, one after requests that never left us (the provider cannot be
reached), one after being told to slow down. Other dispatchers hear of the second through the rate
limit.

`OutageRule` says when failures add up to an outage. All dispatchers rest then, by a pause that is
shared (`gateway.dispatch.pauses`), and one message at a time finds out whether it is over.
"""

from __future__ import annotations

from collections import deque

import trio

from gateway.backoff import Backoff

UNREACHABLE_MIN_S, UNREACHABLE_MAX_S = 0.2, 1.0  # until so many failed that it is an outage
THROTTLED_MIN_S, THROTTLED_MAX_S = 0.5, 30.0
RETRY_AFTER_MAX_S = 600.0  # no wish of a provider silences it for longer
# One that takes nothing and only says "slower" is away after so often, which is some 8 s. It was
# never: of two that share a channel one said 429 for five minutes, and half of the codes went by
# the next channel, after 20 s each (virtual time, 2026-11-29).
THROTTLED_IN_A_ROW = 5

FAILURES_IN_A_ROW = 5  # requests, however slowly they come
WINDOW_S = 10
REQUESTS_MIN = 20  # in the window: of fewer a share says nothing
FAILED_SHARE = 0.5


class OutageRule:
    """Whether a provider is out, by how its last requests went: FAILURES_IN_A_ROW failed, or
    FAILED_SHARE of at least REQUESTS_MIN within WINDOW_S. Times are arguments, in seconds."""

    def __init__(self) -> None:
        self._row = 0
        self._seconds: deque[list[int]] = deque()  # which second, requests, failures
        self._since = -1.0

    def failed(self, failed: bool, *, began: float, now: float, since: float) -> bool:
        """Notes a request that began and ended then; whether this makes it an outage.

        What happened before `since`, when a pause began or ended, speaks of another time: it is
        forgotten, and so are requests that began before."""
        if since > self._since:
            self._since = since
            self._row = 0
            self._seconds.clear()
        if began < self._since:
            return False
        second = int(now)
        if not self._seconds or self._seconds[-1][0] != second:
            self._seconds.append([second, 0, 0])
            while self._seconds[0][0] <= second - WINDOW_S:
                self._seconds.popleft()
        self._seconds[-1][1] += 1
        if not failed:
            self._row = 0
            return False
        self._row += 1
        self._seconds[-1][2] += 1
        requests = sum(count for _, count, _ in self._seconds)
        failures = sum(count for _, _, count in self._seconds)
        often = requests >= REQUESTS_MIN and failures >= FAILED_SHARE * requests
        return often or self._row >= FAILURES_IN_A_ROW


class Breaker:
    def __init__(self) -> None:
        self.outage = OutageRule()
        self._taken_nothing = 0  # how often in a row it only asked for slower
        self._unreachable = Backoff(UNREACHABLE_MIN_S, UNREACHABLE_MAX_S)
        self._throttled = Backoff(THROTTLED_MIN_S, THROTTLED_MAX_S)
        self._until = -1.0

    @property
    def careful(self) -> bool:
        """Whether one request at a time is enough until one goes well."""
        return bool(self._unreachable.failures or self._throttled.failures)

    @property
    def is_choked(self) -> bool:
        """Whether the provider has taken nothing for so long that it is as good as away."""
        return self._taken_nothing >= THROTTLED_IN_A_ROW

    @property
    def rest_s(self) -> float:
        """How much longer nothing should be sent; 0 is now."""
        return max(self._until - trio.current_time(), 0.0)

    def went_well(self) -> None:
        self._unreachable.reset()
        self._throttled.reset()

    def took_some(self) -> None:
        self._taken_nothing = 0

    def unreachable(self) -> None:
        """A request did not leave us. Those that were on their way together count once."""
        if self.rest_s == 0.0:
            self._until = trio.current_time() + self._unreachable.next_s()

    def slowed_down(self, retry_after_ms: int | None) -> int:
        """The provider asked for a pause, or for slower; returns the pause in milliseconds. Those
        that were on their way together count once."""
        if self.rest_s == 0.0:
            self._taken_nothing += 1
        if retry_after_ms is not None:
            self._throttled.failures += 1
            pause_s = min(retry_after_ms / 1000, RETRY_AFTER_MAX_S)
        elif self.rest_s > 0.0:
            pause_s = self.rest_s
        else:
            pause_s = self._throttled.next_s()
        self._until = max(self._until, trio.current_time() + pause_s)
        return max(round(pause_s * 1000), 1)
