"""What a provider's sends came to of late, from counts that only grow. Pure: times are
arguments.
"""

from __future__ import annotations

from collections import deque
from typing import NamedTuple

RATE_S = 10.0  # what "a second" is an average of
FAILED_S = 60.0  # in which failures and what others took over are counted


class Mark(NamedTuple):
    """How many had been sent, how many of them had failed, and how many steps others had taken
    over, at a moment in seconds."""

    at: float
    sent: float
    failed: float
    handed_over: float = 0.0


class Recent:
    def __init__(self) -> None:
        self._marks: deque[Mark] = deque()

    def note(self, mark: Mark) -> None:
        """What was counted so far; noted again and again, in order."""
        self._marks.append(mark)
        while len(self._marks) > 2 and self._marks[1].at <= mark.at - FAILED_S:
            self._marks.popleft()

    def per_second(self) -> float:
        """Sends a second."""
        last = self._marks[-1]
        first = next(mark for mark in self._marks if mark.at >= last.at - RATE_S)
        return (last.sent - first.sent) / (last.at - first.at) if last.at > first.at else 0.0

    def failed(self) -> float:
        """How many failed."""
        return self._marks[-1].failed - self._marks[0].failed

    def handed_over(self) -> float:
        """How many others took over."""
        return self._marks[-1].handed_over - self._marks[0].handed_over
