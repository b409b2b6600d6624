"""What an app does beside sending: it declares, pauses, resumes and cancels campaigns, stores
users, and tells of reactions. One thread of the client, and it behaves as well: what was not
decided is asked again.

It remembers when each was answered, by the true clock, for the audit. An answer that it does not
expect is a fault of the load's.
"""

from __future__ import annotations

import http.client
import itertools
import json
import time
from collections import deque
from collections.abc import Callable, Iterable, Sequence
from functools import partial
from typing import Any

from bench.chaos import audience
from bench.chaos.audience import CANCELLED, OPENS, PACED, PAUSED
from bench.chaos.load import Load

TIMEOUT_S = 6.0
AGAIN_S = 0.3
TURN_S = 0.25
TOGETHER = 200
PACED_SHARE = 0.8  # the pace of a campaign, of what the load brings of it
DECLARED: dict[str, dict[str, str]] = {
    PAUSED: {"state": "running"},
    CANCELLED: {"state": "running"},
    OPENS: {"send_window": "opens"},
}
# When, as a share of the load.
PAUSE_AT, CANCEL_AT, MERGE_AT, RESUME_AT = 0.15, 0.4, (0.45, 0.9), 0.6
MERGED_TOGETHER = 20
REACTS_EVERY = 10  # messages of which the person of one reacts
REACTS_AFTER_S = 1.5
LOOKS_MAX = 4  # whether it was delivered, before nothing is told of it
ARRIVED = ("delivered", "seen", "clicked")


class Manager:
    """`begin` is over before the load begins; `run` is its thread."""

    def __init__(self, load: Load, orders: dict[str, Any]) -> None:
        self._load = load
        self._messages, self._first = orders["messages"], orders["first"]
        self._seconds: float = orders["seconds"]
        self._ports = itertools.cycle(orders["ports"])
        self._taken = 0
        self._waiting: deque[tuple[float, str, int]] = deque()  # when, id, looks so far
        self.campaigns: dict[str, float] = {}  # what was done: epoch milliseconds of the answer
        self.reacted: dict[str, float] = {}
        self.merged: dict[int, float] = {}

    def begin(self) -> None:
        """Declares campaigns and stores users."""
        a_minute = round(
            60 * PACED_SHARE * self._messages * audience.share_of(PACED) / self._seconds
        )
        paced = {PACED: {"pace": f"{max(a_minute, 1)}/m"}}
        for name, says in (DECLARED | paced).items():
            self._declare(name, says, f"{name} is declared")
        for page in _pages(audience.stored(self._messages, self._first), TOGETHER):
            self._store(page)

    def run(self) -> None:
        began = time.monotonic()
        steps: list[tuple[float, Callable[[], None]]] = [
            (PAUSE_AT, lambda: self._declare(PAUSED, {"state": "paused"}, "paused")),
            (CANCEL_AT, lambda: self._declare(CANCELLED, {"state": "cancelled"}, "cancelled")),
            (RESUME_AT, self._resume),
        ]
        twins = audience.twins(self._messages, self._first)
        pages = list(_pages(twins, MERGED_TOGETHER))
        first, last = MERGE_AT
        for number, people in enumerate(pages):
            share = first + (last - first) * number / len(pages)
            steps.append((share, partial(self._merge, {each: twins[each] for each in people})))
        for share, step in sorted(steps, key=lambda step: step[0]):
            while time.monotonic() < began + share * self._seconds:
                self._react()
            step()
        while not self._load.is_over() or self._waiting:
            self._react()

    def _resume(self) -> None:
        self.campaigns["resumes"] = _now_ms()
        self._declare(PAUSED, {"state": "running"}, "resumed")

    def _declare(self, name: str, says: dict[str, str], what: str) -> None:
        told = self._ask("PUT", f"/v1/campaigns/{name}", json.dumps(says).encode())
        if told is not None:
            self.campaigns[what] = _now_ms()

    def _store(self, users: Iterable[dict[str, str]]) -> None:
        """Sends lines until each was answered."""
        left = list(users)
        while left:
            data = b"".join(json.dumps(each).encode() + b"\n" for each in left)
            told = self._ask("POST", "/v1/users", data, "application/x-ndjson")
            if told is None:
                return
            answered = {each["user"] for each in told if each.get("outcome") == "stored"}
            refused = [each for each in told if each.get("outcome") == "rejected"]
            if refused:
                self._load.fault(f"a user was refused: {refused[0]}")
                return
            left = [each for each in left if each["user"] not in answered]

    def _merge(self, twins: dict[int, dict[str, str]]) -> None:
        self._store(twins.values())
        self.merged |= dict.fromkeys(twins, _now_ms())

    # --- reactions

    def _react(self) -> None:
        """Looks whether some messages were delivered, and tells that their people reacted."""
        now = time.monotonic()
        with self._load.lock:
            fresh = list(itertools.islice(self._load.accepted, self._taken, None))
        for number, id_ in enumerate(fresh, self._taken):
            if number % REACTS_EVERY == 0:
                self._waiting.append((now + REACTS_AFTER_S, id_, 0))
        self._taken += len(fresh)
        arrived: list[str] = []
        while self._waiting and self._waiting[0][0] <= now and len(arrived) < TOGETHER:
            _, id_, looks = self._waiting.popleft()
            told = self._ask("GET", f"/v1/messages/{id_}")
            if told is None:
                return
            if told["status"] in ARRIVED:
                arrived.append(id_)
            elif looks < LOOKS_MAX:
                self._waiting.append((now + REACTS_AFTER_S, id_, looks + 1))
        if arrived:
            self._tell_of(arrived)
        time.sleep(TURN_S)  # the load's shape: an app looks now and then

    def _tell_of(self, ids: Sequence[str]) -> None:
        at = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())
        kinds = itertools.cycle(("seen", "clicked"))
        items = [{"message": id_, "kind": next(kinds), "at": at} for id_ in ids]
        while items:
            told = self._ask("POST", "/v1/reactions", json.dumps(items).encode())
            if told is None:
                return
            left = []
            for item, result in zip(items, told, strict=True):
                if result["outcome"] == "error":
                    left.append(item)
                elif result["outcome"] == "rejected":
                    self._load.fault(f"a reaction was refused: {item} {result}")
                else:
                    self.reacted[item["message"]] = _now_ms()
            items = left

    # --- asking

    def _ask(
        self, method: str, path: str, data: bytes | None = None, kind: str = "application/json"
    ) -> Any:
        """What the answer says, of several lines each; None where there was none in all the time
        there is, or a faulty one."""
        while time.monotonic() < self._load.give_up_s:
            try:
                status, body = self._once(method, path, data, kind)
                told = [json.loads(line) for line in body.splitlines()]
            except (OSError, http.client.HTTPException, ValueError):
                status, told = 0, []
            if status == 200:  # a stream that broke off has fewer lines
                return told if kind.endswith("ndjson") else told[0]
            if status not in (0, 429, 503):
                self._load.fault(f"{method} {path}: {status} {told}")
                return None
            time.sleep(AGAIN_S)  # the load's shape: an app asks again after a moment
        self._load.fault(f"{method} {path} was never answered")
        return None

    def _once(self, method: str, path: str, data: bytes | None, kind: str) -> tuple[int, bytes]:
        link = http.client.HTTPConnection("127.0.0.1", next(self._ports), timeout=TIMEOUT_S)
        try:
            headers = {"Authorization": f"Bearer {self._load.key}", "Content-Type": kind}
            link.request(method, path, data, headers)
            reply = link.getresponse()
            try:
                return reply.status, reply.read()
            except http.client.IncompleteRead as broken:
                if not kind.endswith("ndjson"):
                    raise
                return reply.status, broken.partial.rpartition(b"\n")[0]
        finally:
            link.close()


def _pages(every: Iterable[Any], size: int) -> Iterable[list[Any]]:
    rest = iter(every)
    while page := list(itertools.islice(rest, size)):
        yield page


def _now_ms() -> float:
    return time.time() * 1_000
