"""How a worker behaves after a provider did not take a request: it rests, and comes back carefully.

Two delays grow with each failure in a row and end with the first request that went well: one after
requests that never left us (the provider cannot be reached), one after being told to slow down.
Other dispatchers hear of the second through the rate limit, of the first by trying.
"""

from __future__ import annotations

import trio

from gateway.backoff import Backoff

UNREACHABLE_MIN_S, UNREACHABLE_MAX_S = 0.2, 15.0
THROTTLED_MIN_S, THROTTLED_MAX_S = 0.5, 30.0
RETRY_AFTER_MAX_S = 600.0  # no wish of a provider silences it for longer


class Breaker:
    def __init__(self) -> None:
        self._unreachable = Backoff(UNREACHABLE_MIN_S, UNREACHABLE_MAX_S)
        self._throttled = Backoff(THROTTLED_MIN_S, THROTTLED_MAX_S)
        self._until = -1.0

    @property
    def careful(self) -> bool:
        """Whether one request at a time is enough until one goes well."""
        return bool(self._unreachable.failures or self._throttled.failures)

    @property
    def rest_s(self) -> float:
        """How much longer nothing should be sent; 0 is now."""
        return max(self._until - trio.current_time(), 0.0)

    def went_well(self) -> None:
        self._unreachable.reset()
        self._throttled.reset()

    def unreachable(self) -> None:
        """A request did not leave us. Those that were on their way together count once."""
        if self.rest_s == 0.0:
            self._until = trio.current_time() + self._unreachable.next_s()

    def slowed_down(self, retry_after_ms: int | None) -> int:
        """The provider asked for a pause, or for slower; returns the pause in milliseconds."""
        if retry_after_ms is not None:
            self._throttled.failures += 1
            pause_s = min(retry_after_ms / 1000, RETRY_AFTER_MAX_S)
        elif self.rest_s > 0.0:
            pause_s = self.rest_s
        else:
            pause_s = self._throttled.next_s()
        self._until = max(self._until, trio.current_time() + pause_s)
        return max(round(pause_s * 1000), 1)
