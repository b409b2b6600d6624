"""How busy the machine was: whether a time that was too long says anything of the product.

Whoever waits looks now and then; what counts is the busiest window, whoever's processes it was. The
kernel's own count is read, so other programs' work is in it, and the bench's own as well.
"""

from __future__ import annotations

import time
from pathlib import Path

WINDOW_S = 20.0
BUSY_MAX = 0.9  # of the machine's time; beyond, processes wait for a processor
STAT = Path("/proc/stat")
IDLE, WAITING = 3, 4  # places of a processor's idle times


class Busy:
    """`worst` is the share of its time that the machine had work in the busiest window so far."""

    def __init__(self, stat: Path = STAT) -> None:
        self.worst = 0.0
        self._stat = stat
        self._since_s = time.monotonic()
        self._idle, self._all = self._read()

    def look(self) -> None:
        """Called more often than a window is long."""
        if time.monotonic() - self._since_s >= WINDOW_S:
            self.close()

    def close(self) -> None:
        """Ends a window."""
        idle, all_ = self._read()
        if all_ > self._all:
            self.worst = max(self.worst, 1 - (idle - self._idle) / (all_ - self._all))
        self._since_s, self._idle, self._all = time.monotonic(), idle, all_

    def _read(self) -> tuple[int, int]:
        ticks = [int(each) for each in self._stat.read_text().split("\n", 1)[0].split()[1:9]]
        return ticks[IDLE] + ticks[WAITING], sum(ticks)
