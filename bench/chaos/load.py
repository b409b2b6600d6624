"""What is still to be sent, and what became of what was: shared by all who send, under one lock."""

from __future__ import annotations

import datetime
import queue
import random
import threading
import time
from collections import Counter
from typing import Any

from bench.chaos.audience import HELD, bodies, phone_in

SIZES = (1, 1, 1, 10, 25, 50)
FAULTS_KEPT = 50
DECIDED = ("accepted", "duplicate", "suppressed", "rejected")

Body = dict[str, Any]


class Load:
    """Shared by the connections, under one lock."""

    def __init__(self, orders: dict[str, Any]) -> None:
        self.ports: list[int] = orders["ports"]
        self.key: str = orders["key"]
        self.give_up_s = time.monotonic() + orders["seconds"] + orders["patience_s"]
        self.work: queue.SimpleQueue[tuple[float, str, list[Body]]] = queue.SimpleQueue()
        self.lock = threading.Lock()
        self.accepted: dict[str, list[Any]] = {}
        self.duplicates: list[list[Any]] = []
        self.counts: Counter[str] = Counter()
        self.faults: list[str] = []
        draw = random.Random(f"client {orders['seed']}")
        chosen = (orders[name] for name in ("messages", "seed", "first", "routes"))
        self._every = list(bodies(*chosen, lively=orders["lively"]))
        self._rate = len(self._every) / orders["seconds"]
        self._draw = draw

    def begin(self) -> None:
        """From now on messages are due."""
        start, began, began_s = 0, time.monotonic(), time.time()
        while start < len(self._every):
            size = self._draw.choice(SIZES)
            form = "one" if size == 1 else self._draw.choice(("array", "stream"))
            chunk = self._every[start : start + size]
            for body in chunk:
                if (in_s := body.pop("send_in_s", None)) is not None:
                    body["send_at"] = _moment(began_s + start / self._rate + in_s)
            self.work.put((began + start / self._rate, form, chunk))
            start += size

    def is_over(self) -> bool:
        """Whether every message is decided, or given up."""
        with self.lock:
            decided = sum(self.counts[name] for name in (*DECIDED, "undecided"))
        return decided >= len(self._every)

    def decided(self, body: Body, result: dict[str, Any]) -> bool:
        """Takes one result; False when the message must be sent again."""
        outcome = result.get("outcome", "rejected")
        if outcome == "error":
            return False
        with self.lock:
            self.counts[outcome] += 1
            self.counts["refused by a full budget"] += result.get("reason") == "budget"
            about = [phone_in(body.get("to"))]
            about += [body.get(key) for key in ("user", "campaign", "category")]
            if outcome == "accepted":
                if result["id"] in self.accepted:
                    self.faults.append(f"id {result['id']} was given twice")
                self.accepted[result["id"]] = about
                if held := result.get("held"):
                    self.counts[f"{HELD}{held['reason']}"] += 1
            elif outcome == "duplicate":
                self.duplicates.append([result["id"], *about])
        return True

    def fault(self, what: str) -> None:
        with self.lock:
            self.counts["faulty answers"] += 1
            if len(self.faults) < FAULTS_KEPT:
                self.faults.append(what)


def _moment(at_s: float) -> str:
    at = datetime.datetime.fromtimestamp(at_s, datetime.UTC)
    return at.isoformat(timespec="milliseconds")
