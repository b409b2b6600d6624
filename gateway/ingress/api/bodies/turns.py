"""Much that is read at a stretch gives everybody else a turn now and then.

It goes by time, because a message of 100 bytes may take as long as one of 500 KiB: where its
campaign says much, all of that is filled in. A thousand of them in an array held a worker for 5 s
(2026-11-30).
"""

from __future__ import annotations

import asyncio
import time

TURN_S = 0.01


class LoopTurns:
    """Of one request."""

    def __init__(self) -> None:
        self._since = time.monotonic()

    async def give(self) -> None:
        """Called between one thing and the next."""
        if time.monotonic() - self._since >= TURN_S:
            await asyncio.sleep(0)
            self._since = time.monotonic()
