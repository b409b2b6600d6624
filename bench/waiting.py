"""Waiting for what other processes do. They tell nobody, so it is polled, with a deadline."""

from __future__ import annotations

import time
from collections.abc import Callable

from bench.processes import BenchFailed

POLL_S = 0.02
WITHIN_S = 30.0


def until(what: str, look: Callable[[], object], within_s: float = WITHIN_S) -> None:
    """Polls until `look` is true. Raises BenchFailed at the deadline."""
    deadline = time.monotonic() + within_s
    while not look():
        if time.monotonic() > deadline:
            raise BenchFailed(f"Not within {within_s:.0f} s: {what}.")
        time.sleep(POLL_S)


def left_over(look: Callable[[], str], within_s: float, every_s: float) -> str:
    """Polls until `look` finds nothing; what it still finds at the deadline."""
    deadline = time.monotonic() + within_s
    while (left := look()) and time.monotonic() <= deadline:
        time.sleep(every_s)
    return left
