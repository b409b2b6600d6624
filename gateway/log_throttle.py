"""Of what happens alike one in a while has a line in the log, with how many it stands for. Pure."""

from __future__ import annotations

from collections import Counter
from collections.abc import Hashable


class LogThrottle:
    """One line in `every_ms` for each kind of thing; where the clock was set back, one at once."""

    def __init__(self, every_ms: int) -> None:
        self._every_ms = every_ms
        self._untold: Counter[Hashable] = Counter()
        self._told_ms: dict[Hashable, int] = {}

    def note(self, kind: Hashable, now_ms: int) -> int:
        """One more of a kind: of how many, since the last line, one is to tell now; 0: none is."""
        self._untold[kind] += 1
        told_ms = self._told_ms.get(kind)
        if told_ms is not None and 0 <= now_ms - told_ms < self._every_ms:
            return 0
        self._told_ms[kind] = now_ms
        return self._untold.pop(kind)
