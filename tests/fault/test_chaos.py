"""The fault bench in its shortest form: a storm, an exact kill, and an audit that can fail."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgspec
import pytest

from bench.chaos import faults, matrix, storm
from bench.chaos.audit import Audit
from bench.chaos.stage import Plan, Stage

WAIT_S = 3
CONTENT = "n"  # its name in a message record
SHORT = (
    "clock jumps forwards, and back",
    "failover to a replica, in order",
    "kill -9 dispatcher",
    "kill -9 provider",
    "kill -9 Redis",
    "receipts hours late",
)
CLAIMED = next(case for case in matrix.CASES if case.point == "claimed")


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
        seconds=8.0,
        seed=11,
        only=SHORT,
        plan=Plan(wait_s=WAIT_S, skew_ms=1_000),
    )
    outcome = storm.run(order, folder, print)
    assert outcome.faults == []
    assert len(outcome.injected) >= 3
    assert outcome.counts["accepted"] > 300


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
        blob = redis.get("{k0}m:" + kept)
        record = msgspec.msgpack.decode(blob[1:]) | {CONTENT: b"what was said"}
        redis.set("{k0}m:" + kept, blob[:1] + msgspec.msgpack.encode(record))
        redis.set("{k0}z", b"nobody knows this kind")
        redis.xadd("{k0}ledger", redis.xrange("{k0}ledger")[-1][1])
        found = audited(stage, told, order)
    assert f"promised messages are gone: ['{lost}']" in found
    assert "1 contents are left" in found
    assert "1 kinds of keys are not documented: [('z'" in found
    assert "The totals are not the sum of the ledger" in found


def audited(stage: Stage, told: dict[str, Any], order: storm.Order) -> str:
    audit = Audit(stage, told, storm.invalid(order), set())
    audit.run()
    return "\n".join(audit.faults)


def test_faults_of_one_name_are_at_different_places() -> None:
    every = [(fault.name, fault.place) for fault in faults.every()]
    assert len(set(every)) == len(every)
    assert all(0 < fault.lasts_s[0] <= fault.lasts_s[1] for fault in faults.every())
