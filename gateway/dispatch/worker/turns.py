"""One category's entries that were read and not selected yet: the lines take turns.

A turn takes one entry of each line that has any, so an entry that is first in its line waits for at
most one of each other line, however many stand there. Where there is one line it is taken in order.
Pure.
"""

from __future__ import annotations

from collections import defaultdict, deque
from collections.abc import Iterable, Mapping, Sequence

from gateway.dispatch.worker.claim import Entry


class Turns:
    def __init__(self, shards: int) -> None:
        # By line, and shard.
        self._lines: defaultdict[int, list[deque[Entry]]] = defaultdict(
            lambda: [deque() for _ in range(shards)]
        )
        self._last = -1  # whose turn it was

    def add(self, entry: Entry) -> None:
        self._lines[entry.line][entry.shard].append(entry)

    def put_first(self, entry: Entry) -> None:
        self._lines[entry.line][entry.shard].appendleft(entry)

    def count(self, shards: Iterable[int]) -> int:
        return sum(len(line[shard]) for line in self._lines.values() for shard in shards)

    def held(self, line: int, shard: int) -> int:
        """How many entries of one line and shard there are."""
        return len(self._lines[line][shard]) if line in self._lines else 0

    def filled(self) -> int:
        """How many lines have an entry."""
        return sum(any(line) for line in self._lines.values())

    def take(self, count: int, shards: Sequence[int], taken: Mapping[str, Entry]) -> list[Entry]:
        """Takes up to so many, none of a message that is in `taken` already or twice. Of a line,
        what one shard has goes before the next one's."""
        if count <= 0:
            return []
        found: dict[str, Entry] = {}
        again: list[Entry] = []
        waiting = self._in_turn(shards)
        while waiting and len(found) < count:
            line, buffers = waiting.popleft()
            entry = buffers[0].popleft()
            if not buffers[0]:
                buffers.popleft()
            put_back = waiting.append
            if entry.message_id in taken or entry.message_id in found:
                again.append(entry)
                put_back = waiting.appendleft  # it is still its turn
            else:
                found[entry.message_id] = entry
                self._last = line
            if buffers:
                put_back((line, buffers))
        for entry in again:
            self.add(entry)
        return list(found.values())

    def clear(self) -> list[Entry]:
        """Takes all."""
        every = [entry for line in self._lines.values() for buffer in line for entry in buffer]
        self._lines.clear()
        return every

    def _in_turn(self, shards: Sequence[int]) -> deque[tuple[int, deque[deque[Entry]]]]:
        """The lines that have something, from the one after the last one's turn on, and what they
        have by shard."""
        lines = sorted(self._lines, key=lambda line: (line <= self._last, line))
        filled = ((n, deque(b for s in shards if (b := self._lines[n][s]))) for n in lines)
        return deque((line, buffers) for line, buffers in filled if buffers)
