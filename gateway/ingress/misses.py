"""How often each peer asked for what there is not: who guesses is told to wait.

By whole minutes, in the memory of one worker; nothing of an address is kept longer. Pure but for
its own state.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable

MISSES_MAX = 120  # a minute and peer: people behind one address mistype less
# Of all who come by one connection's peer, where what it says of them is not believed: a caller may
# invent many.
TOGETHER_MAX = 50 * MISSES_MAX
PEERS_MAX = 10_000  # of whom it counts; beyond them nobody new is refused
MINUTE_MS = 60_000


class Misses:
    def __init__(self, now_ms: Callable[[], int], most: int = MISSES_MAX) -> None:
        self._now_ms = now_ms
        self._most = most
        self._minute = 0
        self._counts: Counter[str] = Counter()

    def note(self, peer: str) -> None:
        counts = self._of_now()
        if peer in counts or len(counts) < PEERS_MAX:
            counts[peer] += 1

    def __bool__(self) -> bool:
        """Whether any is counted: as a rule none is."""
        return bool(self._counts)

    def too_many(self, peer: str) -> bool:
        return self._of_now()[peer] >= self._most

    def _of_now(self) -> Counter[str]:
        minute = self._now_ms() // MINUTE_MS
        if minute != self._minute:
            self._minute = minute
            self._counts = Counter()
        return self._counts
