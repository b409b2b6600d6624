"""The load: a process with several connections that behaves as a good client does.

Every message carries an idempotency key of its own. What was not decided (no answer, half an
answer, 429, 503, an `error` item) is sent again with the same keys, to the other ingress, until it
is decided or the patience is over. A `Manager` and a `Follower` of each ingress do more beside,
where the orders say so. Reads these from the file named on the command line and writes how each
message was answered to the file they name. Any other answer is written down as a fault: a 5xx other
than 503, or a decision that changed.
"""

from __future__ import annotations

import http.client
import json
import queue
import sys
import threading
import time
from pathlib import Path

from bench.chaos.follower import Follower
from bench.chaos.load import DECIDED, Body, Load
from bench.chaos.manager import Manager

TIMEOUT_S = 6.0
WAIT_S_MAX = 3.0
PROGRESS_S = 0.5


class Connection:
    """One of the client's connections; `run` is its thread."""

    def __init__(self, load: Load, number: int) -> None:
        self._load = load
        self._turn = number
        self._http: http.client.HTTPConnection | None = None

    def run(self) -> None:
        while True:
            try:
                due, form, chunk = self._load.work.get_nowait()
            except queue.Empty:
                return
            time.sleep(max(0.0, due - time.monotonic()))
            self._send(form, chunk)

    def _send(self, form: str, chunk: list[Body]) -> None:
        load, tries = self._load, 0
        while chunk:
            if time.monotonic() > load.give_up_s:
                with load.lock:
                    load.counts["undecided"] += len(chunk)
                return
            tries += 1
            wait_s = min(0.05 * 2**tries, WAIT_S_MAX)
            try:
                chunk, asked_s = self._once(form, chunk)
                wait_s = asked_s or wait_s
            except (OSError, http.client.HTTPException, ValueError):
                self._close()
                with load.lock:
                    load.counts["answers lost"] += 1
            if chunk:
                self._turn += 1
                with load.lock:
                    load.counts["sent again"] += len(chunk)
                time.sleep(min(wait_s, WAIT_S_MAX))

    def _once(self, form: str, chunk: list[Body]) -> tuple[list[Body], float]:
        """Sends once; what is still undecided, and how long the server asked to wait."""
        if self._http is None:
            port = self._load.ports[self._turn % len(self._load.ports)]
            self._http = http.client.HTTPConnection("127.0.0.1", port, timeout=TIMEOUT_S)
        kind, data = "application/json", b""
        if form == "one":
            data = json.dumps(chunk[0]).encode()
        elif form == "array":
            data = json.dumps(chunk).encode()
        else:
            kind = "application/x-ndjson"
            data = b"".join(json.dumps(body).encode() + b"\n" for body in chunk)
        headers = {"Authorization": f"Bearer {self._load.key}", "Content-Type": kind}
        self._http.request("POST", "/v1/messages", data, headers)
        reply = self._http.getresponse()
        if reply.status in (429, 503):
            reply.read()
            self._close()
            return chunk, float(reply.getheader("Retry-After", "1"))
        if form == "stream" and reply.status == 200:
            return self._lines(reply, chunk), 0.0
        told = json.loads(reply.read())
        if reply.will_close:
            self._close()
        if reply.status not in (200, 202, 422):
            self._load.fault(f"{form}: {reply.status} {told}")
            return chunk, 0.0
        results = told if isinstance(told, list) else [told]
        if isinstance(told, dict) and form != "one":
            self._load.fault(f"{form}: {reply.status} {told}")
            return chunk, 0.0
        left = [
            body
            for body, result in zip(chunk, results, strict=True)
            if not self._load.decided(body, result)
        ]
        return left, 0.0

    def _lines(self, reply: http.client.HTTPResponse, chunk: list[Body]) -> list[Body]:
        """Each line counts as soon as it is there, whatever happens to the next one."""
        left = list(chunk)
        try:
            while left and (line := reply.readline()):
                result = json.loads(line)
                if not self._load.decided(left[0], result):
                    break
                del left[0]
            reply.read()
        except (OSError, http.client.HTTPException, ValueError):
            self._close()
        if left:
            self._close()
        return left

    def _close(self) -> None:
        if self._http is not None:
            self._http.close()
            self._http = None


def main() -> None:
    orders = json.loads(Path(sys.argv[1]).read_text())
    load = Load(orders)
    manager = Manager(load, orders)
    threads = [
        threading.Thread(target=Connection(load, number).run)
        for number in range(orders["connections"])
    ]
    followers = [Follower(load, port) for port in load.ports if orders["follows"]]
    following = [threading.Thread(target=follower.run) for follower in followers]
    for thread in following:
        thread.start()
    if orders["lively"]:
        manager.begin()
        threads.append(threading.Thread(target=manager.run))
    load.begin()
    for thread in threads:
        thread.start()
    threads += following
    decided = Path(orders["decided"])
    while any(thread.is_alive() for thread in threads):
        time.sleep(PROGRESS_S)
        with load.lock:
            decided.write_text(str(sum(load.counts[name] for name in DECIDED)))
    told = {
        "accepted": load.accepted,
        "duplicates": load.duplicates,
        "counts": load.counts,
        "faults": load.faults,
        "campaigns": manager.campaigns,
        "reacted": manager.reacted,
        "merged": manager.merged,
        "followed": [link for follower in followers for link in follower.followed],
    }
    Path(orders["result"]).write_text(json.dumps(told))


if __name__ == "__main__":
    main()
