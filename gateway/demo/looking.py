"""Looking again until something has come, or time is over: who waits for processes is not told."""

from __future__ import annotations

import math
import time
from collections.abc import Iterator

LOOK_EVERY_S = 0.1


def looks(within_s: float = math.inf) -> Iterator[bool]:
    """A turn for each look, of which the first is at once; true for those when time is over."""
    deadline = time.monotonic() + within_s
    while True:
        yield time.monotonic() > deadline
        time.sleep(LOOK_EVERY_S)
