"""How many searches a worker makes at once: each reads the index of messages.

One more is a 503, and can be asked again when one of them is over.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from gateway.ingress.http.problems import refuse


class Searches:
    """Counts what is under way of one kind; `what` is its plural."""

    def __init__(self, most: int, what: str) -> None:
        self._most = most
        self._what = what
        self._under_way = 0

    @contextmanager
    def one(self) -> Iterator[None]:
        """For the time of one. Raises Refusal."""
        if self._under_way >= self._most:
            detail = f"{self._most} {self._what} are looked for here already: ask again later."
            raise refuse("unavailable", detail)
        self._under_way += 1
        try:
            yield
        finally:
            self._under_way -= 1
