"""The fault bench in its shortest form: a storm, an exact kill, and an audit that can fail."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgspec
import pytest

from bench.chaos import audience, faults, matrix, storm
from bench.chaos.audit import Audit
from bench.chaos.stage import Plan, Stage

WAIT_S = 2
CONTENT, TO, STEPS, LEG = "n", "t", "s", "l"  # their names in a message record
SHORT = (
    "clock jumps forwards, and back",
    "failover to a replica, in order",
    "kill -9 dispatcher",
    "kill -9 ingress",
    "kill -9 provider",
    "kill -9 Redis",
    "receipts hours late",
)
CLAIMED, TAKEN = (
    next(case for case in matrix.CASES if case.point == point)
    for point in ("claimed", "clicks_taken")
)


@pytest.fixture
def folder() -> Iterator[Path]:
    """Not pytest's own: its path can be too long for a socket."""
    with tempfile.TemporaryDirectory(prefix="kaskad-chaos-") as directory:
        yield Path(directory) / "run"


def test_a_short_storm_loses_nothing_sends_nothing_twice_and_keeps_the_books_true(
    folder: Path,
) -> None:
    order = storm.Order(
        messages=500,
        seconds=7.0,
        seed=11,
        only=SHORT,
        plan=Plan(wait_s=WAIT_S, skew_ms=1_000),
        routes=audience.ROUTES,
        lively=True,
        follows=True,
    )
    outcome = storm.run(order, folder, print)
    assert outcome.faults == []
    assert len(outcome.injected) >= 3
    assert outcome.counts["accepted"] > 300
    for what in (
        "people who reacted",
        "second legs billed",
        "cancelled with their campaign",
        "clicks counted",
        "refused by a full budget",
        "people who opted out",
        "held: paused",
        "held: pace",
        "held: scheduled",
        "provider has: push",
        "provider has: email",
        "provider has: sms, over SMPP",
        "provider has: sms, over SMPP in parts",
    ):
        assert outcome.counts[what] > 0
    assert outcome.counts["people who turned out to be one"] == 500 // audience.TWINS_EVERY


def test_a_kill_at_an_exact_moment_loses_nothing_and_the_audit_would_have_seen_it(
    folder: Path,
) -> None:
    with Stage(folder, Plan(wait_s=WAIT_S, machines=1)) as stage:
        order = storm.Order(messages=40, seconds=0.5, seed=1)
        told = matrix.play(stage, CLAIMED, order)
        assert storm.calm(stage) == []
        assert len(told["accepted"]) > 20
        assert audited(stage, told, order) == ""

        lost, kept = sorted(told["accepted"])[:2]
        redis: Any = stage.redis  # the stubs cannot say that it answers in bytes
        redis.delete("{k0}m:" + lost)
        change(redis, kept, **{CONTENT: b"what was said"})
        first, second, third = delivered_marketing(redis)
        to, steps = record_of(redis, second)[TO], record_of(redis, third)[STEPS]
        change(redis, first, **{TO: to})
        change(redis, third, **{STEPS: [step | {LEG: 1} for step in steps]})
        told["reacted"] = {first: 0.0}
        told["merged"] = {}
        redis.set("{k0}z", b"nobody knows this kind")
        redis.xadd("{k0}ledger", redis.xrange("{k0}ledger")[-1][1])
        found = audited(stage, told, order)
    assert f"promised messages are gone: ['{lost}']" in found
    assert "1 contents are left" in found
    assert "1 kinds of keys are not documented: [('z'" in found
    assert "The totals are not the sum of the ledger" in found
    assert "1 people got a campaign twice" in found
    assert "1 people got more than a cap allows" in found
    assert "cap slots are missing" in found
    assert f"1 people who reacted got a further step: [('{first}'" in found
    assert f"1 reactions that were taken are forgotten: [('{first}'" in found


def test_a_killed_worker_loses_the_clicks_it_has_not_recorded_and_no_others(folder: Path) -> None:
    with Stage(folder, Plan(wait_s=WAIT_S, machines=1)) as stage:
        order = storm.Order(messages=10, seconds=0.5, seed=1, follows=True)
        told = matrix.play(stage, TAKEN, order)
        found = storm.followed(stage, told)
    assert found.faults == []
    counts = found.counts
    assert counts["clicks lost by a kill"] > 0
    assert counts["clicks counted"] >= counts["clicks answered"] - counts["clicks lost by a kill"]


def record_of(redis: Any, id_: str) -> dict[str, Any]:
    record: dict[str, Any] = msgspec.msgpack.decode(redis.get("{k0}m:" + id_)[1:])
    return record


def change(redis: Any, id_: str, **fields: Any) -> None:
    key = "{k0}m:" + id_
    schema = redis.get(key)[:1]
    redis.set(key, schema + msgspec.msgpack.encode(record_of(redis, id_) | fields))


def delivered_marketing(redis: Any) -> list[str]:
    """Three messages of the campaign that reached somebody who did not react."""
    ids = sorted(key.decode().partition("}m:")[2] for key in redis.keys("{k0}m:*"))
    records = {id_: record_of(redis, id_) for id_ in ids}
    return [i for i, r in records.items() if "g" in r and "v" in r and "R" not in r][-3:]


def audited(stage: Stage, told: dict[str, Any], order: storm.Order) -> str:
    audit = Audit(stage, told, storm.invalid(order), set())
    audit.run()
    return "\n".join(audit.faults)


def test_faults_of_one_name_are_at_different_places() -> None:
    every = [(fault.name, fault.place) for fault in faults.every()]
    assert len(set(every)) == len(every)
    assert all(0 < fault.lasts_s[0] <= fault.lasts_s[1] for fault in faults.every())
