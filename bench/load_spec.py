"""What a load generator is asked for, what it answers, and what it counts on the way.

Shared by the generator and by whoever starts one. Plain values; nothing here does I/O.
"""

from __future__ import annotations

import time
from array import array
from collections.abc import Sequence
from typing import Literal

import msgspec

TEXT = (
    "Осень дарит скидки: минус 20% на всё до воскресенья, код ЛИСТ"  # one SMS part, 61 UCS-2 units
)


class LoadFailed(Exception):
    """The load could not be generated as asked; the sentence says what happened."""


class Spec(msgspec.Struct, frozen=True, kw_only=True):
    """One load.

    `first` numbers the persons: message n goes to the phone number `first + n`, so two loads with
    disjoint ranges never meet a duplicate or a cap; with `devices` to a device
    instead, with `mailboxes` to an e-mail address. `rate` is arrivals a second (0: closed model).
    `window` is how many lines of a stream may be unanswered on one connection, `lines` how many go
    into one write. `samples` answers, evenly spread, are kept with their time. For receipts:
    `refs` names a file with one JSON array [reference, phone] a line, `per_request` go into a POST.
    To follow a link `path` is its.
    """

    mode: Literal["single", "stream", "receipts", "follow"]
    port: int
    path: str = "/v1/messages"
    key: str = ""
    messages: int = 1_000
    first: int = 0
    connections: int = 32
    rate: float = 0.0
    window: int = 2_000
    lines: int = 100
    category: str = "marketing"
    campaign: str = "bench"
    users: bool = False
    devices: bool = False
    mailboxes: bool = False
    route: str = ""
    text: str = TEXT
    samples: int = 1_000
    refs: str = ""
    per_request: int = 1
    price: str = "0.0100"
    seconds_max: float = 600.0


class Result(msgspec.Struct, frozen=True, kw_only=True):
    """What came of it: answers by outcome, seconds from first byte to last answer, latencies from
    due (or written) to answered, and samples [message id, epoch ms of its answer].
    """

    messages: int
    outcomes: dict[str, int]
    seconds: float
    p50_ms: float
    p99_ms: float
    max_ms: float
    samples: list[tuple[str, float]]
    cpu_s: float


class Tally:
    """Counts answers while they come in."""

    def __init__(self, spec: Spec) -> None:
        self.answered = 0
        self.outcomes: dict[str, int] = {}
        self.latencies_s = array("d")
        self.samples: list[tuple[str, float]] = []
        self._every = max(1, spec.messages // max(1, spec.samples)) if spec.samples else 0

    def count(self, outcome: str, latency_s: float, body: bytes, messages: int = 1) -> None:
        """Takes one answer; `body` holds the message's id when it was accepted."""
        self.outcomes[outcome] = self.outcomes.get(outcome, 0) + messages
        self.latencies_s.append(latency_s)
        if self._every and self.answered % self._every == 0:
            start = body.find(b'"id":"') + 6
            if start > 5:
                found = body[start : body.find(b'"', start)].decode()
                self.samples.append((found, time.time() * 1000))
        self.answered += messages


def percentile(ordered: Sequence[float], percent: float) -> float:
    """The smallest value that `percent` of all are not above; 0 of none. `ordered` ascends."""
    if not ordered:
        return 0.0
    rank = -(-len(ordered) * percent // 100)  # rounded up
    return ordered[max(0, min(len(ordered), int(rank)) - 1)]
