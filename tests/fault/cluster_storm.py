"""A storm over Kaskad on a Redis Cluster: slots move, masters change, hang and die, roles are
killed and stopped, while messages flow.

    .venv/bin/python tests/fault/cluster_storm.py --seconds 120 --seed 3

Prints each fault as it comes and how the messages ended; exit code 0 when nothing was lost,
nothing was sent twice and the ledger is the provider's bill. A master is killed when its replica
has everything, because what Redis answered and had not copied is lost with it (docs/scaling.md).
"""

from __future__ import annotations

import argparse
import random
import signal
import sys
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from http.client import HTTPException
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[2]

from bench.redis_cluster import Node, RedisCluster  # noqa: E402
from bench.waiting import until as until_redis  # noqa: E402
from gateway.store.keys import keys_of  # noqa: E402
from tests.worlds.stack import Process, Stack, phone, stack, until  # noqa: E402

SHARDS = 16
SENDERS = 3
BATCH = 8
REST_S = 0.05  # of a sender between two batches
AGAIN_S = 0.2  # ... and before it repeats one that was not taken
STUCK_S = 60.0
FAULTS_MIN = 3  # of any storm, however slow the machine is
PAUSE_MS = 20_000
LEASE_S = 2.0
# Failures enough that a short storm has some, whatever ids its messages drew.
KNOBS: dict[str, Any] = {
    "viber_share": 0.7,
    "sms_delivered": 0.5,
    "sms_undelivered": 0.5,
    "answer_ms_min": 5,
    "answer_ms_max": 30,
}
CONFIG: dict[str, Any] = {
    "redis": {"shards": SHARDS},
    "providers": {"infobip-viber": {"rate": "200/s", "batch": 10}},
    "categories": {name: {"route": "patient"} for name in ("otp", "transactional", "marketing")},
}


class Senders:
    """Clients that obey: what is not taken is sent again with the same key."""

    def __init__(self, kaskad: Stack, seed: int) -> None:
        self.ids: list[str] = []
        self.repeats = 0
        self.fault: BaseException | None = None
        self._kaskad = kaskad
        self._stopping = threading.Event()
        self._numbers = threading.Lock()
        self._threads = [
            threading.Thread(target=self._send, args=(random.Random(f"{seed} {n}"), n))
            for n in range(SENDERS)
        ]

    def __enter__(self) -> Senders:
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stopping.set()
        for thread in self._threads:
            thread.join(STUCK_S)

    def _send(self, draw: random.Random, sender: int) -> None:
        number = 0
        try:
            while not self._stopping.is_set():
                number += 1
                bodies = [self._body(draw) for _ in range(BATCH)]
                while (ids := self._taken(bodies, f"{sender}-{number}")) is None:
                    self.repeats += 1
                    time.sleep(AGAIN_S)
                self.ids += ids
                time.sleep(REST_S)
        except BaseException as fault:
            self.fault = fault

    def _body(self, draw: random.Random) -> dict[str, str]:
        with self._numbers:
            to = phone()
        known = {"user": f"user {to}"} if draw.random() < 0.5 else {}
        return {"to": to, "category": "otp", "text": "Code 17", **known}

    def _taken(self, bodies: list[dict[str, str]], key: str) -> list[str] | None:
        try:
            with self._kaskad.client() as client:
                answer = client.post("/v1/messages", bodies, {"Idempotency-Key": key})
        except (OSError, HTTPException):
            return None  # ingress is being replaced
        if answer.status in (429, 503):
            return None
        assert answer.status == 200, answer
        outcomes = {item["outcome"] for item in answer.json}
        assert outcomes <= {"accepted", "error"}, answer.json
        return [item["id"] for item in answer.json] if outcomes == {"accepted"} else None


class Faults:
    """What can happen; each method begins one fault and ends it."""

    def __init__(self, kaskad: Stack, cluster: RedisCluster, draw: random.Random) -> None:
        self._kaskad = kaskad
        self._cluster = cluster
        self._draw = draw
        self._ingress = kaskad.start_ingress()
        self._dispatchers = [kaskad.start_dispatcher() for _ in range(2)]
        for process in (self._ingress, *self._dispatchers):
            process.wait_ready()

    def every(self) -> list[Callable[[], None]]:
        return [
            self.slot_moves,
            self.slot_stays_half_moved,
            self.masters_change,
            self.master_dies,
            self.master_hangs,
            self.dispatcher_dies,
            self.dispatcher_sleeps,
            self.ingress_dies,
        ]

    def slot_moves(self) -> None:
        key = self._draw.choice([self._shard(), "{kaskad}", "{limit:infobip-viber}"])
        self._cluster.move(key, self._cluster.other_master(self._cluster.master_of(key)))

    def slot_stays_half_moved(self) -> None:
        key = self._shard()
        target = self._cluster.other_master(self._cluster.master_of(key))
        with self._cluster.half_moved(key, target) as move_keys:
            time.sleep(self._draw.uniform(0.2, 3.5))
            move_keys()
            time.sleep(self._draw.uniform(0.0, 0.5))

    def masters_change(self) -> None:
        _, replica = self._pair()
        replica.client.cluster("FAILOVER")
        until_redis("the replica is the master", replica.is_master)

    def master_dies(self) -> None:
        master, replica = self._pair()
        master.client.client_pause(PAUSE_MS, all=False)
        until_redis("its replica has everything", master.is_copied)
        master.kill()
        until_redis("the replica is the master", replica.is_master)
        time.sleep(self._draw.uniform(0.0, 2.0))
        master.revive()
        self._cluster.await_well()

    def master_hangs(self) -> None:
        master, _ = self._pair()
        master.stand_still()
        time.sleep(self._draw.uniform(0.1, 0.6))
        master.go_on()

    def dispatcher_dies(self) -> None:
        which = self._draw.randrange(2)
        self._dispatchers[which] = replaced(self._dispatchers[which], self._kaskad.start_dispatcher)

    def dispatcher_sleeps(self) -> None:
        """Past its lease: another takes over what it held."""
        asleep = self._draw.choice(self._dispatchers)
        asleep.signal(signal.SIGSTOP)
        time.sleep(1.5 * LEASE_S)
        asleep.signal(signal.SIGCONT)

    def ingress_dies(self) -> None:
        self._ingress = replaced(self._ingress, self._kaskad.start_ingress)

    def _shard(self) -> str:
        return keys_of(self._draw.randrange(SHARDS)).tag

    def _pair(self) -> tuple[Node, Node]:
        """A master of some shard, and its replica."""
        self._cluster.await_well()
        master = self._cluster.master_of(self._shard())
        return master, self._cluster.replicas_of(master)[0]


def replaced(process: Process, start: Callable[[], Process]) -> Process:
    process.kill()
    successor = start()
    successor.wait_ready()
    return successor


def storm(
    cluster: RedisCluster, seconds: float, seed: int, tell: Callable[[str], object]
) -> Counter[str]:
    """How many messages ended in which status. Raises AssertionError when something is wrong."""
    draw = random.Random(f"cluster {seed}")
    with stack(ingress=0, dispatchers=0, config=CONFIG, knobs=KNOBS, own_redis=False) as kaskad:
        kaskad.env["KASKAD_REDIS_URL"] = cluster.url
        faults = Faults(kaskad, cluster, draw)
        with Senders(kaskad, seed) as senders:
            for fault in to_come(faults, draw, seconds):
                tell(f"{len(senders.ids):6} accepted: {fault.__name__.replace('_', ' ')}")
                fault()
        assert senders.fault is None, senders.fault
        assert len(set(senders.ids)) == len(senders.ids)
        messages = kaskad.when_all_final(senders.ids)
        until("a report is answered", lambda: kaskad.get("/v1/reports/cost").status == 200)
        assert kaskad.cost()["total"]["accepted"] == len(senders.ids)
        kaskad.ledger_equals_bill()
        kaskad.nothing_was_sent_twice()
        kaskad.books_agree()
        ended = Counter(message["status"] for message in messages.values())
        tell(f"{len(messages)} messages, {senders.repeats} batches repeated: {dict(ended)}")
        return ended


def to_come(faults: Faults, draw: random.Random, seconds: float) -> Iterator[Callable[[], None]]:
    """All faults in a drawn order, again and again."""
    end = time.monotonic() + seconds
    came = 0
    while True:
        for fault in draw.sample(faults.every(), len(faults.every())):
            time.sleep(draw.uniform(0.2, 1.0))
            if came >= FAULTS_MIN and time.monotonic() > end:
                return
            came += 1
            yield fault


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--seconds", type=float, default=60.0)
    parser.add_argument("--seed", type=int, default=1)
    options = parser.parse_args()
    with (
        tempfile.TemporaryDirectory(prefix="kaskad-") as folder,
        RedisCluster(Path(folder) / "cluster", replicas=1) as cluster,
    ):
        storm(cluster, options.seconds, options.seed, print)
    return 0


if __name__ == "__main__":
    sys.exit(main())
