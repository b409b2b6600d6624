"""How many bytes a worker holds for its callers before it can work on them, all together.

A limit a connection is none for ten thousand of them. What is counted: what was read of a
connection behind requests that are not answered yet, bodies whose end has not come, and the lines
and answers of streams. Where there is no room a request is refused, and a stream waits.
"""

from __future__ import annotations


class WaitingBytes:
    """One worker's; `limit` in bytes."""

    def __init__(self, limit: int) -> None:
        self.limit = limit
        self.held = 0

    @property
    def full(self) -> bool:
        return self.held >= self.limit

    def has_room(self, count: int) -> bool:
        return self.held + count <= self.limit

    def take(self, count: int) -> bool:
        """Counts bytes as held, unless they are more than there is room for."""
        if not self.has_room(count):
            return False
        self.held += count
        return True

    def add(self, count: int) -> None:
        """So many more are held, room or not; less than 0: so many fewer."""
        self.held += count
