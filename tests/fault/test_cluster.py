"""Kaskad on a Redis Cluster of three masters with a replica each, 16 shards: the main flow, slots
that move and a master that dies while messages flow.

Meanwhile senders are told to come again; afterwards nothing that was accepted is lost, nothing is
sent twice, and the ledger is the provider's bill.
"""

from __future__ import annotations

import contextlib
import itertools
import json
import re
import tempfile
import threading
import tomllib
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import trio

from bench.redis_cluster import Node, RedisCluster
from gateway.redis.address import parse_address
from gateway.redis.client import Command, RedisClient, Session
from gateway.redis.trio_driver import open_client
from gateway.store.keys import keys_of, shard_of
from gateway.store.transaction import CommitCounts, commit
from tests.fault.cluster_storm import storm
from tests.worlds.http_client import Answer
from tests.worlds.patience import PATIENCE_S
from tests.worlds.stack import Stack, phone, stack, until

SHARDS = 16
MESSAGES = 160
BATCH = 20
AWAY_S = 30.0
STORM_S, STORM_SEED = 5.0, 113
AFTER = 100  # writes before masters change, and again afterwards
INSTALLATION, LIMIT = "{kaskad}", "{limit:infobip-viber}"
KNOBS: dict[str, Any] = {"viber_share": 0.7, "answer_ms_min": 5, "answer_ms_max": 30}
SCALING = (Path(__file__).parents[2] / "docs" / "scaling.md").read_text()
CONFIG: dict[str, Any] = {
    "redis": {"shards": SHARDS},
    "providers": {"infobip-viber": {"rate": "100/s", "batch": 10}},
    "categories": {name: {"route": "patient"} for name in ("otp", "transactional", "marketing")},
}


@pytest.fixture(scope="module")
def with_replicas() -> Iterator[RedisCluster]:
    with (
        tempfile.TemporaryDirectory(prefix="kaskad-") as folder,
        RedisCluster(Path(folder) / "cluster", replicas=1, settings=advised()) as made,
    ):
        yield made


def advised() -> dict[str, str]:
    """What docs/scaling.md says every node should be set to."""
    (block,) = re.findall(r"```\n( +cluster-enabled yes\n.*?) +```", SCALING, re.DOTALL)
    return dict(line.split() for line in block.splitlines())


@pytest.fixture
def cluster(with_replicas: RedisCluster) -> RedisCluster:
    with_replicas.flush()
    return with_replicas


@contextlib.contextmanager
def kaskad_on(cluster: RedisCluster, dispatchers: int = 2) -> Iterator[Stack]:
    with stack(ingress=0, dispatchers=0, config=CONFIG, knobs=KNOBS, own_redis=False) as kaskad:
        kaskad.env["KASKAD_REDIS_URL"] = cluster.url
        started = [kaskad.start_ingress()]
        started += [kaskad.start_dispatcher() for _ in range(dispatchers)]
        for process in started:
            process.wait_ready()
        yield kaskad


def test_the_guide_s_configuration_is_understood() -> None:
    (block,) = re.findall(r"```toml\n(.*?)```", SCALING, re.DOTALL)
    shown = tomllib.loads(block)["redis"]
    address = parse_address(shown["url"])
    assert (address.cluster, len(address.endpoints), shown["shards"]) == (True, 3, SHARDS)
    assert advised()["appendfsync"] == "always"


def shard_key(shard: int) -> str:
    return keys_of(shard).tag


def send_while(kaskad: Stack, during: dict[int, Callable[[], object]]) -> list[str]:
    """Sends a campaign in batches; before a batch of the given number something is done."""
    ids: list[str] = []
    for number in range(MESSAGES // BATCH):
        if number in during:
            during[number]()
        batch = [
            {"to": phone(), "user": phone(), "category": "otp", "text": "Code 17"}
            for _ in range(BATCH)
        ]
        ids += taken(kaskad, batch, f"batch {len(kaskad.processes)}-{ids[:1]}-{number}")
    assert len(set(ids)) == MESSAGES
    return ids


def taken(kaskad: Stack, batch: list[dict[str, Any]], key: str) -> list[str]:
    """Posts an array until it is taken, as a client that obeys the answers does; the ids."""
    answers: list[Answer] = []

    def post() -> bool:
        answers.append(kaskad.post(batch, Idempotency_Key=key))
        if answers[-1].status == 503:
            assert int(answers[-1].headers["retry-after"]) > 0
            return False
        assert answers[-1].status == 200, answers[-1]
        outcomes = {item["outcome"] for item in answers[-1].json}
        return outcomes == {"accepted"}

    until("the array is taken", post, AWAY_S)
    return [item["id"] for item in answers[-1].json]


def nothing_is_lost_or_twice(kaskad: Stack, ids: list[str]) -> None:
    messages = kaskad.when_all_final(ids)
    assert len(messages) == len(ids)
    assert {message["status"] for message in messages.values()} >= {"delivered"}
    assert kaskad.cost()["total"]["accepted"] == len(ids)
    kaskad.ledger_equals_bill()
    kaskad.nothing_was_sent_twice()
    kaskad.books_agree()


def test_the_main_flow_runs_on_a_cluster_and_uses_every_master(cluster: RedisCluster) -> None:
    with kaskad_on(cluster) as kaskad:
        ids = send_while(kaskad, {})
        nothing_is_lost_or_twice(kaskad, ids)
        report = json.loads(kaskad.command("report", "cost", "--json"))
        assert report["total"] == kaskad.cost()["total"]
        assert report["total"]["accepted"] == MESSAGES
        checked = json.loads(kaskad.command("check", "--json"))
        assert checked["ok"] is True
        again = {
            "to": phone(),
            "user": "u-1",
            "category": "marketing",
            "campaign": "c",
            "text": "x",
        }
        # Certain to arrive: what reached nobody would not be a duplicate.
        kaskad.simulator.turn(sms_delivered=1, sms_undelivered=0)
        first = kaskad.post(again)
        assert (first.status, first.json["outcome"]) == (202, "accepted")
        second = kaskad.post({**again, "to": phone()})
        assert (second.status, second.json["outcome"]) == (200, "duplicate")
        assert second.json["id"] == first.json["id"]
        kaskad.when(first.json["id"])
    masters = [node for node in cluster.nodes if node.is_master()]
    assert all(any("ledger" in key for key in node.client.scan_iter()) for node in masters)


def test_slots_move_while_messages_flow(cluster: RedisCluster) -> None:
    """Four shards, the installation's own slot and a provider's limit go to another master."""
    keys = [*map(shard_key, (0, 5, 10, 15)), INSTALLATION, LIMIT]
    before = {key: cluster.master_of(key) for key in keys}

    def move() -> None:
        for key in keys:
            cluster.move(key, cluster.other_master(before[key]))

    mover = threading.Thread(target=move)

    def leave_half_moved() -> None:
        """A slot that stays half moved longer than a call waits for it."""
        key = shard_key(3)
        with cluster.half_moved(key, cluster.other_master(cluster.master_of(key))):
            message = {"to": phone_of(3), "category": "otp", "text": "Code 17"}
            assert kaskad.post(message).status == 503

    with kaskad_on(cluster) as kaskad:
        ids = send_while(kaskad, {1: mover.start, 6: leave_half_moved})
        mover.join(PATIENCE_S)
        nothing_is_lost_or_twice(kaskad, ids)
    assert all(cluster.master_of(key) is not before[key] for key in keys)


def phone_of(shard: int) -> str:
    """A new number whose person is in the shard."""
    return next(to for to in iter(phone, "") if shard_of(to.removeprefix("+"), SHARDS) == shard)


def test_a_master_dies_and_its_replica_goes_on_from_all_that_it_had(cluster: RedisCluster) -> None:
    """Killed when its replica has everything; what else can happen is shown below."""
    dead: list[Node] = []

    def kill() -> None:
        dead.append(cluster.master_of(INSTALLATION))
        dead[0].client.client_pause(int(AWAY_S) * 1000, all=False)
        until("its replica has everything", dead[0].is_copied)
        dead[0].kill()

    with kaskad_on(cluster) as kaskad:
        ids = send_while(kaskad, {3: kill})
        nothing_is_lost_or_twice(kaskad, ids)
        assert cluster.master_of(INSTALLATION) is not dead[0]
    dead[0].revive()
    cluster.await_well()
    assert not dead[0].is_master()


def test_a_short_storm_of_everything_loses_nothing(cluster: RedisCluster) -> None:
    """The long one: python tests/fault/cluster_storm.py --seconds 120 --seed 3"""
    told: list[str] = []
    ended = storm(cluster, STORM_S, STORM_SEED, told.append)
    assert len(told) >= 4, told  # three faults and the end
    assert ended["delivered"] > ended["undelivered"] > 0


def test_masters_changed_in_order_lose_nothing_that_was_answered(cluster: RedisCluster) -> None:
    """CLUSTER FAILOVER, as for every planned stop, under sixteen writers."""
    tag = shard_key(0)
    master = cluster.master_of(tag)
    (replica,) = cluster.replicas_of(master)
    answered: list[str] = []
    after: list[str] = []

    async def write(redis: RedisClient, writer: int) -> None:
        for number in itertools.count():
            key, token = f"{tag}{writer}:{number}", f"{tag}t:{writer}:{number}"

            async def attempt(
                session: Session, key: str = key, token: str = token
            ) -> tuple[list[Command], None]:
                await session.call([("WATCH", token, key)])
                return [("HINCRBY", key, "times", 1)], None

            await commit(redis, token, attempt, CommitCounts())
            answered.append(key)
            if len(answered) == AFTER:
                begun.set()
            if replica_serves.is_set():
                after.append(key)
            if len(after) > AFTER:
                return

    begun, replica_serves = trio.Event(), trio.Event()

    async def main() -> None:
        async with open_client(cluster.url) as redis, trio.open_nursery() as writers:
            for writer in range(16):
                writers.start_soon(write, redis, writer)
            await begun.wait()
            replica.client.cluster("FAILOVER")
            served = partial(until, "the replica is the master", replica.is_master)
            await trio.to_thread.run_sync(served)
            replica_serves.set()
        async with open_client(cluster.url) as redis:
            times = await redis.call([("HGET", key, "times") for key in answered])
            assert times == [b"1"] * len(answered)

    trio.run(main)
    assert len(answered) >= AFTER + len(after) > 2 * AFTER
    assert not master.is_master()


@pytest.mark.parametrize("careful", [False, True], ids=["default", "min-replicas-to-write"])
def test_what_a_dying_master_had_answered_and_not_copied_is_lost_unless_it_may_not_answer(
    cluster: RedisCluster, careful: bool
) -> None:
    master = cluster.master_of(shard_key(0))
    (replica,) = cluster.replicas_of(master)
    master.client.config_set("min-replicas-to-write", int(careful))
    number = phone_of(0)
    body = {"to": number, "category": "otp", "text": "Code 17"}
    with kaskad_on(cluster, dispatchers=1) as kaskad:
        kept = kaskad.accept(phone_of(0))
        until("the replica has everything", master.is_copied)
        replica.stand_still()
        master.client.client_kill_filter(_type="replica")
        answer = kaskad.post(body)
        master.kill()
        replica.go_on()
        until("the replica is the master", replica.is_master)
        again = until("a sender is served again", lambda: _accepted(kaskad, body), AWAY_S) or ""
        if careful:
            assert answer.status == 503
        else:
            assert answer.status == 202
            assert kaskad.get(f"/v1/messages/{answer.json['id']}").status == 404
        kaskad.when(kept)
        kaskad.when(again)
    replica.client.config_set("min-replicas-to-write", 0)
    master.revive()
    master.client.config_set("min-replicas-to-write", 0)
    cluster.await_well()


def _accepted(kaskad: Stack, body: dict[str, Any]) -> str | None:
    answer = kaskad.post(body)
    assert answer.status in (202, 503), answer
    return str(answer.json["id"]) if answer.status == 202 else None
