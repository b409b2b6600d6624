"""What months of messages cost: growth of Redis by kind of key, names of campaigns, one number that
gets thousands, and what a wide report does to the worker that makes it.

    python -m bench.months                     about four minutes on two cores
    python -m bench.months --messages 5000     does it still run?

Each part is a world of its own: one ingress worker, one dispatcher, Redis and the simulator, whole
lives with claims, caps, receipts and ledger. One line a figure, Markdown; docs/scaling.md has them.
Bytes are Redis' own (MEMORY USAGE of every key), traffic is what Redis read and wrote, without what
dispatchers wait with. Knobs: --messages (of the growth and of the names), --to-one (messages to one
number). A world that does not settle is a BenchFailed, exit code 1.
"""

from __future__ import annotations

import argparse
import http.client
import json
import sys
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

from bench.processes import BenchFailed
from bench.stack import APP_KEY
from bench.world import Plan, World

MESSAGES = 50_000
TO_ONE = 12_000
TOGETHER = 500  # messages in a request
PAGE = 1_000
A_DAY = 5_000_000  # messages, of the load the growth is told for
PING_S = 0.005
REPORTS = 5
KINDS = {
    "ledger": "ledger, kept for ever",
    "totals": "totals, kept for ever",
    "m": "closed messages, 30 days",
    "c": "claims, 30 days",
    "p": "people, as long as something is held",
}

Body = dict[str, Any]


class Caller:
    """One connection of an app."""

    def __init__(self, world: World) -> None:
        self._http = http.client.HTTPConnection("127.0.0.1", world.port, timeout=60)

    def accept(self, bodies: Sequence[Body]) -> None:
        """Posts an array. Raises BenchFailed unless all were accepted."""
        data = json.dumps(bodies).encode()
        headers = {"Authorization": f"Bearer {APP_KEY}", "Content-Type": "application/json"}
        self._http.request("POST", "/v1/messages", data, headers)
        told = json.loads(self._http.getresponse().read())
        refused = [one for one in told if one.get("outcome") != "accepted"]
        if refused:
            raise BenchFailed(f"{len(refused)} messages were not accepted: {refused[0]}")

    def read(self, path: str) -> bytes:
        self._http.request("GET", path, headers={"Authorization": f"Bearer {APP_KEY}"})
        return self._http.getresponse().read()


def campaign(messages: int, name: Callable[[int], str]) -> Iterator[list[Body]]:
    """Requests of a campaign's messages, each to a person of its own."""
    bodies = [
        {
            "to": f"+7916{1_000_000 + number}",
            "category": "marketing",
            "text": "Your order is on its way.",
            "campaign": name(number),
        }
        for number in range(messages)
    ]
    return (bodies[start : start + TOGETHER] for start in range(0, messages, TOGETHER))


def play(world: World, requests: Iterator[list[Body]]) -> int:
    """Sends them, and waits until their receipts are in; how many messages it were."""
    caller, count = Caller(world), 0
    for request in requests:
        caller.accept(request)
        count += len(request)
    world.await_provider(count)
    return count


def bytes_by_kind(world: World) -> Counter[str]:
    """Bytes of every key, by kind: what stands after its tag."""
    client, found = world.redis.client, Counter[str]()
    keys = list(client.scan_iter(count=PAGE))
    for start in range(0, len(keys), PAGE):
        page = keys[start : start + PAGE]
        with client.pipeline(transaction=False) as pipe:
            for key in page:
                pipe.memory_usage(key, samples=0)
            for key, size in zip(page, pipe.execute(), strict=True):
                found[key.partition("}")[2].partition(":")[0]] += size or 0
    return found


def growth(world: World, messages: int) -> list[tuple[str, str]]:
    """Bytes a message by kind, and what 5 million a day come to."""
    count = play(world, campaign(messages, lambda _: "autumn"))
    found = bytes_by_kind(world)
    return [
        (words, f"{found[kind] / count:,.0f} bytes a message, {_gib(found[kind] / count)}")
        for kind, words in KINDS.items()
    ]


def names(one: World, many: World, messages: int) -> list[tuple[str, str]]:
    """A name for all against a name for each: bytes of ledger and totals, CPU of Redis."""
    told = []
    for what, world, name in (
        ("one campaign", one, lambda _: "autumn"),
        ("a campaign for each message", many, lambda number: f"order-{number}-shipped"),
    ):
        before = world.cpu()
        count = play(world, campaign(messages, name))
        cpu_s, found = world.cpu().redis - before.redis, bytes_by_kind(world)
        figure = (
            f"ledger {found['ledger'] / count:,.0f}, totals {found['totals'] / count:,.1f} "
            f"bytes a message; Redis {1e6 * cpu_s / count:,.0f} µs a message"
        )
        told.append((f"{count:,} messages, {what}", figure))
    return told


def to_one(world: World, messages: int) -> list[tuple[str, str]]:
    """One number that gets them one after the other: time and traffic of each."""
    caller, took_s = Caller(world), []
    before = _traffic(world)
    for number in range(messages):
        body = {"to": "+79161234567", "category": "transactional", "text": f"Check {number}."}
        began = time.perf_counter()
        caller.accept([body])
        took_s.append(time.perf_counter() - began)
    world.await_provider(messages)
    traffic = _traffic(world) - before
    tenth = max(messages // 10, 1)
    first_ms, last_ms = (1e3 * sum(part) / tenth for part in (took_s[:tenth], took_s[-tenth:]))
    figure = (
        f"Redis traffic {traffic / 1e6:,.0f} MB, {traffic / messages / 1e3:,.1f} kB a message; "
        f"accepted in {first_ms:.1f} ms each at the beginning, {last_ms:.1f} ms at the end"
    )
    return [(f"{messages:,} messages to one number", figure)]


def report(world: World) -> list[tuple[str, str]]:
    """How long the worker answers nobody else while it makes a wide report, and as long without."""
    caller = Caller(world)
    took_s, rows = [], 0

    def make() -> None:
        nonlocal rows
        for _ in range(REPORTS):
            began = time.perf_counter()
            wide = json.loads(caller.read("/v1/reports/cost?group_by=campaign,channel,category"))
            took_s.append(time.perf_counter() - began)
            rows = len(wide["rows"])

    beside_s = _longest_wait_s(world, make)
    # The same while nothing is made, for as long: a figure to hold the other against.
    alone_s = _longest_wait_s(world, lambda: time.sleep(sum(took_s)))
    figure = (
        f"{max(took_s):.2f} s at the most; another caller of the same worker waited "
        f"{1e3 * beside_s:.0f} ms at the most, {1e3 * alone_s:.0f} ms without a report"
    )
    return [(f"a report of {rows:,} rows, {REPORTS} times", figure)]


def _longest_wait_s(world: World, work: Callable[[], None]) -> float:
    """The longest that another caller of the worker waited for an answer during `work`."""
    over, waits_s = threading.Event(), [0.0]

    def ping() -> None:
        caller = Caller(world)
        while not over.wait(PING_S):
            began = time.perf_counter()
            caller.read("/healthz")
            waits_s.append(time.perf_counter() - began)

    pings = threading.Thread(target=ping)
    pings.start()
    try:
        work()
    finally:
        over.set()
        pings.join()
    return max(waits_s)


def _traffic(world: World) -> int:
    stats = world.redis.client.info("stats")
    return int(stats["total_net_input_bytes"]) + int(stats["total_net_output_bytes"])


def _gib(bytes_each: float) -> str:
    return f"{bytes_each * A_DAY / 2**30:,.2f} GiB a day of {A_DAY:,}"


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="bench.months", description=__doc__.split("\n")[0])
    parser.add_argument("--messages", type=int, default=MESSAGES)
    parser.add_argument("--to-one", type=int, default=TO_ONE)
    options = parser.parse_args(arguments)

    def tell(figures: list[tuple[str, str]]) -> None:
        for what, figure in figures:
            sys.stdout.write(f"| {what} | {figure} |\n")
        sys.stdout.flush()

    try:
        with tempfile.TemporaryDirectory(prefix="kaskad-months-") as folder:
            parent = Path(folder)
            with World(parent / "one", Plan()) as one:
                tell(growth(one, options.messages))
            with (
                World(parent / "names-one", Plan()) as one,
                World(parent / "names-many", Plan()) as many,
            ):
                tell(names(one, many, options.messages))
                tell(report(many))
            with World(parent / "number", Plan()) as world:
                tell(to_one(world, options.to_one))
    except BenchFailed as fault:
        sys.stderr.write(f"The measurement failed: {fault}\n")
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
