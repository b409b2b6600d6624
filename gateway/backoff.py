"""How long to wait before something that failed is tried again: longer each time, up to a limit.

One rule for loops that wait for Redis, for requests a provider did not take and for processes that
end. The functions are pure; `Backoff` draws how much of a delay is cut off.
"""

from __future__ import annotations

import random

DOUBLINGS_MAX = 30  # beyond it every limit is reached


def delay_s(failures: int, least: float, most: float) -> float:
    """The delay after so many failures in a row before this one: `least`, doubled with each."""
    return min(least * 2.0 ** min(failures, DOUBLINGS_MAX), most)


def delay_by_age_ms(age_ms: int, least: int, most: int) -> int:
    """As long as it has lasted already, so about doubled with each try and no try is counted."""
    return min(max(age_ms, least), most)


class Backoff:
    """Delays in seconds from `least` to `most`, each shortened by up to a half so that many who
    wait do not come back in step."""

    def __init__(self, least: float, most: float) -> None:
        self._least = least
        self._most = most
        self.failures = 0

    def next_s(self) -> float:
        full = delay_s(self.failures, self._least, self._most)
        self.failures += 1
        return full * (1.0 - random.random() / 2.0)

    def reset(self) -> None:
        self.failures = 0
