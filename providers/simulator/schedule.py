"""What is due when: a timer wheel of one-millisecond buckets.

One heap entry a bucket rather than one an item, since at 10,000 messages a second many items share
a millisecond. Reads no clock. Items of one bucket come out in the order they went in.
"""

from __future__ import annotations

import heapq
from typing import Generic, TypeVar

T = TypeVar("T")


class Schedule(Generic[T]):
    def __init__(self) -> None:
        self._buckets: dict[int, list[T]] = {}
        self._heap: list[int] = []
        self._size = 0

    def __len__(self) -> int:
        return self._size

    def add(self, at_ms: int, item: T) -> None:
        bucket = self._buckets.get(at_ms)
        if bucket is None:
            self._buckets[at_ms] = bucket = []
            heapq.heappush(self._heap, at_ms)
        bucket.append(item)
        self._size += 1

    def next_ms(self) -> int | None:
        """When the earliest item is due, epoch milliseconds; None when nothing is scheduled."""
        return self._heap[0] if self._heap else None

    def last_ms(self) -> int | None:
        """When the latest item is due; looks at every bucket."""
        return max(self._heap, default=None)

    def take(self, until_ms: int | None) -> list[T]:
        """Removes and returns what is due at `until_ms` (None: everything), earliest first."""
        taken: list[T] = []
        while self._heap and (until_ms is None or self._heap[0] <= until_ms):
            taken += self._buckets.pop(heapq.heappop(self._heap))
        self._size -= len(taken)
        return taken
