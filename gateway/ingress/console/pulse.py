"""How many messages a second are accepted, sent and delivered, over all processes; and whose
callbacks are refused.

It is read from the processes' snapshots, and only while somebody looks. Without two looks that are
far enough apart nothing is known yet.
"""

from __future__ import annotations

from collections import Counter, deque
from collections.abc import Iterable, Mapping
from itertools import pairwise
from typing import NamedTuple

from gateway.telemetry import PREFIX, Figure

WINDOW_MS = 120_000
APART_MS = 900  # of two looks; processes publish once a second
OVER_MS = 10_000  # what the shown rate is over
_COUNTED = {
    "accepted": (f"{PREFIX}_ingress_messages_total", "outcome", "accepted"),
    "sent": (f"{PREFIX}_message_seconds_count", "status", "sent"),
    "delivered": (f"{PREFIX}_message_seconds_count", "status", "delivered"),
}
NAMES = tuple(_COUNTED)
_REFUSED = f"{PREFIX}_ingress_callbacks_refused_total"


class Look(NamedTuple):
    """What was counted until a moment, in the order of NAMES, and refused callbacks by provider."""

    at_ms: int
    counts: tuple[float, ...]
    refused: Mapping[str, int]


class Beat(NamedTuple):
    """One of NAMES: a second now, and in the last two minutes, the oldest first."""

    name: str
    now: float | None
    course: list[float]


def counted(figures: Iterable[Figure], at_ms: int) -> Look:
    """The counts that processes tell of."""
    sums, refused = dict.fromkeys(NAMES, 0.0), Counter[str]()
    for figure in figures:
        if figure.name == _REFUSED:
            refused[figure.labels.get("provider", "")] += int(figure.value)
        for name, (metric, label, value) in _COUNTED.items():
            if figure.name == metric and figure.labels.get(label) == value:
                sums[name] += figure.value
    return Look(at_ms, tuple(sums.values()), refused)


class Pulse:
    """One worker's looks of the last two minutes."""

    def __init__(self) -> None:
        self._looks: deque[Look] = deque()

    def note(self, look: Look) -> None:
        if self._looks and look.at_ms - self._looks[-1].at_ms < APART_MS:
            return
        self._looks.append(look)
        while self._looks[0].at_ms < look.at_ms - WINDOW_MS:
            self._looks.popleft()

    def alarms(self) -> list[str]:
        """What to look at of what was counted since the first look, in sentences."""
        if not self._looks:
            return []
        first, last = self._looks[0].refused, self._looks[-1].refused
        return [
            f"{count - first.get(name, 0)} callbacks of {name} were refused lately: its receipts "
            "are lost where it does not repeat them."
            for name, count in sorted(last.items())
            if count > first.get(name, 0)
        ]

    def beats(self) -> list[Beat]:
        """A process that ended takes its counts along: less than nothing is nothing."""
        looks = list(self._looks)
        pairs = list(pairwise(looks))
        recent = [look for look in looks if looks and look.at_ms >= looks[-1].at_ms - OVER_MS]
        found = []
        for place, name in enumerate(NAMES):
            course = [_rate(before, after, place) for before, after in pairs]
            now = _rate(recent[0], recent[-1], place) if len(recent) > 1 else None
            found.append(Beat(name, now, course))
        return found


def _rate(before: Look, after: Look, place: int) -> float:
    counted_more = after.counts[place] - before.counts[place]
    return max(counted_more * 1000 / (after.at_ms - before.at_ms), 0.0)
