"""The fault bench's own parts: what it injects is real, and it cannot pass without it."""

from __future__ import annotations

import os
import random
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import redis
from redis.backoff import NoBackoff
from redis.retry import Retry

from bench.chaos import faults, happenings, page, still
from bench.chaos.__main__ import verdict
from bench.chaos.audience import CANCELLED, OPENS, PAUSED
from bench.chaos.audit import sent_again_max
from bench.chaos.busy import BUSY_MAX, Busy
from bench.chaos.clocks import Clocks
from bench.chaos.faults import Fault
from bench.chaos.long_faults import LongOutcome
from bench.chaos.records import Record, Step
from bench.chaos.redis_nodes import RedisNodes
from bench.chaos.script import PARTS, Script
from bench.chaos.storm import Outcome
from bench.waiting import until

ROUNDED_S = 1e-5  # a float holds the seconds of these years to a quarter of a microsecond
NAMES = {fault.name for fault in faults.every()}


@pytest.fixture
def nodes() -> Iterator[RedisNodes]:
    """Not in pytest's own folder: its path can be too long for a socket."""
    with tempfile.TemporaryDirectory(prefix="kaskad-chaos-") as directory:
        started = RedisNodes(Path(directory), dict(os.environ))
        try:
            started.begin()
            yield started
        finally:
            started.stop()


class Writer:
    """Counts up in Redis and knows how far it was told that it had come."""

    def __init__(self, nodes: RedisNodes) -> None:
        self.answered = 0
        self._nodes = nodes
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._run)
        self._thread.start()

    def _run(self) -> None:
        while not self._over.is_set():
            path = str(self._nodes.socket)
            try:
                with redis.Redis(
                    unix_socket_path=path, socket_timeout=2, retry=Retry(NoBackoff(), 0)
                ) as client:
                    while not self._over.is_set():
                        self.answered = max(self.answered, int(client.incr("n")))
            except redis.RedisError:
                continue  # connects again, wherever the address leads then

    def stop(self) -> int:
        self._over.set()
        self._thread.join()
        return self.answered


@pytest.mark.parametrize("how", ["order", "kill", "hang"])
def test_a_failover_keeps_every_write_that_was_answered(nodes: RedisNodes, how: str) -> None:
    nodes.client.set("before", "kept")
    nodes.follow()
    writer = Writer(nodes)
    try:
        until("it writes", lambda: writer.answered > 100, 20)
        nodes.take_over(how)
        then = writer.answered
        nodes.end_former()
        until("it writes again", lambda: writer.answered > then + 100, 20)
    finally:
        answered = writer.stop()
    assert nodes.client.info("replication")["role"] == "master"
    assert int(nodes.client.get("n") or 0) >= answered
    nodes.kill()
    nodes.start()  # on the replica's own append-only file
    assert nodes.client.get("before") == b"kept"
    assert int(nodes.client.get("n") or 0) >= answered


@pytest.mark.parametrize("own_file_system", [True, False])
def test_a_full_disk_stops_redis_and_what_it_had_answered_is_there_afterwards(
    nodes: RedisNodes, own_file_system: bool
) -> None:
    if own_file_system and not nodes.small_disk:
        pytest.skip("This system allows no file system of its own without root.")
    nodes.small_disk = own_file_system
    nodes.kill()
    nodes.start()
    nodes.client.set("before", "x" * 10_000)
    nodes.fill_disk(8_192)
    nodes._await_serving()
    answered = -1

    def refused() -> bool:
        nonlocal answered
        try:
            nodes.client.set(f"k{answered + 1}", "x" * 100)
        except redis.RedisError:
            return True
        answered += 1
        return False

    until("the disk is full", refused, 20)
    assert nodes.disk_was_full()
    assert 10 < answered < 100
    until("Redis has ended", lambda: not nodes.runs, 10)
    nodes.start()
    assert nodes.client.exists("before", *(f"k{n}" for n in range(answered + 1))) == answered + 2
    nodes.client.set("after", "x" * 100_000)  # there is room again


@pytest.mark.parametrize(
    ("category", "lost", "look_ups", "again"),
    [
        ("marketing", 0, 0, 0),
        ("marketing", 1, 1, 0),
        ("marketing", 1, 2, 1),
        ("marketing", 2, 0, 1),
        ("marketing", 2, 2, 2),
        ("otp", 1, 0, 1),
        ("otp", 0, 0, 0),
    ],
)
def test_the_audit_allows_a_step_to_be_sent_again_once_a_lost_answer(
    category: str, lost: int, look_ups: int, again: int
) -> None:
    step = Step("infobip-sms", "sms", 0, again + 1, look_ups, lost, 0, 0)
    assert sent_again_max(category, step) == again


NOW = 1_000_000
LATE = NOW + still.KNOWN_MS + still.LEFT_MS + 1


def sent_message(campaign: str, **changes: Any) -> Record:
    step = Step("v", "viber", 50, 1, 0, 0, NOW, 0)
    fields: dict[str, Any] = dict.fromkeys(Record._fields) | {
        "id": "m", "steps": [step], "campaign": campaign, "reaction": 0
    }  # fmt: skip
    return Record(**(fields | changes))


@pytest.mark.parametrize(
    ("message", "sent_ms", "what"),
    [
        (sent_message(CANCELLED), LATE, "messages of a cancelled campaign were sent"),
        (sent_message(PAUSED), LATE, "messages of a paused campaign were sent"),
        (sent_message(OPENS), LATE, "messages were sent before their window opened"),
        (sent_message("storm", reaction=1), LATE, "people who reacted got a further step"),
        (sent_message("storm"), NOW, "reactions that were taken are forgotten"),
        (sent_message(CANCELLED, reaction=1), LATE - 1, None),
        (sent_message(PAUSED, reaction=1), 2 * LATE + 1, None),
        (
            sent_message("storm", reaction=1, steps=[Step("s", "sms", 1, 0, 0, 0, 0, 0)]),
            NOW,
            "people who reacted have a step to come",
        ),
    ],
)
def test_the_audit_notices_what_was_not_to_be_sent_any_more(
    message: Record, sent_ms: int, what: str | None
) -> None:
    reacted = {"m": float(NOW)} if message.campaign == "storm" else {}
    campaigns = {"cancelled": NOW, "paused": NOW, "resumes": 2 * LATE, f"{OPENS} is declared": NOW}
    found = still.found({"m": message}, {"m": [sent_ms]}, reacted, campaigns, 2 * LATE)
    assert [name for name, those in found if those] == ([what] if what else [])


def test_a_clock_jumps_while_a_process_runs(tmp_path: Path) -> None:
    clocks = Clocks(tmp_path, [0, 3_000])
    code = """import time, sys
from gateway.store import redis_clock
for _ in sys.stdin:
    print(time.time_ns(), time.time(), redis_clock.told_in([b"7", b"5"]), flush=True)"""

    def are_ahead(*by_s: int, passed_s: int = 0) -> None:
        """What each machine says lies, its lead taken off, between two looks at our clock."""
        for process, ahead_s in zip(machines, by_s, strict=True):
            assert process.stdin is not None
            assert process.stdout is not None
            before_s = time.time()
            process.stdin.write("\n")
            process.stdin.flush()
            told_ns, told_s, redis_s = process.stdout.readline().split()
            for told in (int(told_ns) / 1e9, float(told_s)):
                assert before_s - ROUNDED_S <= told - ahead_s <= time.time() + ROUNDED_S
            assert float(redis_s) == pytest.approx(7.000005 + passed_s, abs=1e-9)

    machines = [
        subprocess.Popen(
            [sys.executable, "-c", code],
            env=os.environ | clocks.environment(machine),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        for machine in (0, 1)
    ]
    try:
        are_ahead(0, 3)
        clocks.jump(0, -5_000)
        clocks.jump(1, 14_400_000)
        are_ahead(-5, 14_403)
        clocks.pass_by(3_600_000)
        clocks.jump(0, 5_000)
        are_ahead(0, 14_403, passed_s=3_600)
    finally:
        for process in machines:
            process.communicate()
        clocks.close()


# --- every fault comes, or the bench fails ---


def played(seed: int, count: int) -> list[str]:
    script = Script(faults.every(), seed, random.Random(seed))
    found = (script.next(set()) for _ in range(count))
    return [fault.name for fault in found if fault is not None]


@pytest.mark.parametrize("seed", range(4))
def test_every_name_comes_once_before_any_comes_twice(seed: int) -> None:
    assert sorted(played(seed, len(NAMES))) == sorted(NAMES)
    assert played(seed, 200) == played(seed, 200)


@pytest.mark.parametrize("seed", range(4))
def test_three_short_runs_one_after_another_have_had_all_names(seed: int) -> None:
    third = -(-len(NAMES) // PARTS)
    assert {name for n in range(PARTS) for name in played(seed + n, third)} == NAMES


def test_a_fault_whose_place_is_taken_waits_and_one_that_came_to_nothing_is_next() -> None:
    def nothing(_: object) -> None:
        return

    first = Fault("a", "place", (1, 1), nothing, nothing)
    second = Fault("b", "elsewhere", (1, 1), nothing, nothing)
    script = Script([first, second], 0, random.Random(0))
    assert script.next({"place", "elsewhere"}) is None
    assert script.next({"place"}) is second
    script.again(second)
    assert script.next(set()) is second
    assert script.next(set()) is first


CAME = {"accepted": 1} | {name: 1 for name, _ in happenings.ASKED}


NO_PAUSE = CAME | {happenings.PAUSED: 0}


def outcome(
    *injected: str,
    load_s: float = 60,
    asked: tuple[str, ...] = ("a", "b"),
    counts: dict[str, int] = CAME,
) -> Outcome:
    return Outcome(
        messages=1,
        seed=1,
        seconds=1,
        load_s=load_s,
        skew_ms=0,
        injected=dict.fromkeys(injected, 1),
        asked=list(asked),
        disk_full_by="limit",
        counts=counts,
        faults=[],
    )


@pytest.mark.parametrize(
    ("runs", "missing"),
    [
        ([outcome("a"), outcome("b")], []),
        ([outcome("a"), outcome("a")], ["b"]),
        ([outcome("a", "b", load_s=240)], []),
        # A long run must have them all by itself.
        ([outcome("a", load_s=240), outcome("b", load_s=240)], ["a", "b"]),
        # People and apps are asked for as well.
        ([outcome("a", "b", counts=NO_PAUSE)], ["held when accepted: their campaign was paused"]),
        ([outcome("a", "b", counts=NO_PAUSE), outcome("a", "b")], []),
    ],
)
def test_what_did_not_come_makes_the_bench_unbelievable_and_stands_on_the_page(
    runs: list[Outcome], missing: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    assert verdict(runs, [], [], strict=True) == (3 if missing else 0)
    assert ("did not come" in capsys.readouterr().out) == bool(missing)
    assert verdict(runs, [], [], strict=False) == 0
    assert ("did not come" in capsys.readouterr().out) == bool(missing)
    written = page.text(runs, [], [], "A machine.")
    assert ("**These did not come" in written) == bool(missing)
    assert all(f"must**: {', '.join(missing)}" in written for _ in missing)


# --- a machine that is too busy for times ---


@pytest.mark.parametrize(
    ("busy", "late", "faults", "code"),
    [
        (0.5, [], [], 0),
        (0.5, ["slow"], [], 1),
        (0.95, ["slow"], [], 3),
        (0.95, ["slow"], ["lost"], 1),
        (1.0, [], [], 0),
    ],
)
def test_what_took_too_long_on_a_busy_machine_says_nothing(
    busy: float, late: list[str], faults: list[str], code: int, capsys: pytest.CaptureFixture[str]
) -> None:
    long = LongOutcome(
        seed=1,
        seconds=1,
        lasted_s={},
        groups=[],
        changes={},
        counts={"accepted": 1},
        faults=faults,
        late=late,
        busy=busy,
    )
    assert verdict([], [], [long], strict=True) == code
    assert ("which says nothing" in capsys.readouterr().out) == bool(late and busy > BUSY_MAX)


def test_the_busiest_window_counts(tmp_path: Path) -> None:
    stat = tmp_path / "stat"
    idle = work = 100

    def passes(idles: int, works: int) -> float:
        nonlocal idle, work
        idle, work = idle + idles, work + works
        stat.write_text(f"cpu  {work} 0 0 {idle} 0 0 0 0 0 0\ncpu0 1 2 3\n")
        busy.close()
        return busy.worst

    stat.write_text(f"cpu  {work} 0 0 {idle} 0 0 0 0 0 0\n")
    busy = Busy(stat)
    assert [passes(1, 3), passes(3, 1), passes(0, 2)] == [0.75, 0.75, 1.0]
