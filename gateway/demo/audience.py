"""What is known about the demo's messages while they travel: answers of the API, and events.

Safe for several threads.
"""

from __future__ import annotations

import threading
from collections import Counter
from typing import Any

import msgspec

ARRIVED = frozenset(("delivered", "seen", "clicked"))
FINAL = ARRIVED | {"undelivered", "suppressed", "expired", "cancelled"}


class CampaignFigures(msgspec.Struct, frozen=True):
    """`answered` requests, by outcome; messages `delivered`, by channel; `final` messages."""

    answered: int
    accepted: int
    duplicates: int
    capped: int
    opted_out: int
    rejected: int
    delivered: dict[str, int]
    final: int


class Audience:
    """Takes answers and events in any order."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._outcomes: Counter[str] = Counter()
        self._arrived: dict[str, str] = {}
        self._final: set[str] = set()
        self.rejection: dict[str, Any] | None = None  # the first one, to be shown

    def answer(self, shape: dict[str, Any]) -> None:
        """What the API said to one request."""
        outcome = shape["outcome"]
        with self._lock:
            self._outcomes[shape["reason"] if outcome == "suppressed" else outcome] += 1
            if outcome == "rejected" and self.rejection is None:
                self.rejection = shape

    def event(self, shape: dict[str, Any]) -> None:
        """One status change of a message."""
        status = shape["status"]
        with self._lock:
            if status in ARRIVED:
                self._arrived.setdefault(shape["id"], shape["channel"])
            if status in FINAL:
                self._final.add(shape["id"])

    def figures(self) -> CampaignFigures:
        with self._lock:
            outcomes, channels = self._outcomes, Counter(self._arrived.values())
            return CampaignFigures(
                answered=outcomes.total(),
                accepted=outcomes["accepted"],
                duplicates=outcomes["duplicate"],
                capped=outcomes["frequency_cap"],
                opted_out=outcomes["opted_out"],
                rejected=outcomes["rejected"],
                delivered=dict(channels),
                final=len(self._final),
            )
