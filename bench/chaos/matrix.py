"""The crash matrix: a process killed exactly at each step of a message's life, and how the messages
ended.

Most moments are named failpoints of the product (KASKAD_FAULT_POINT, unset in normal runs); those
of `MARKS` are the proxy's, which kills the dispatcher once the provider has the whole request and
before a byte of the answer, or once a receipt has come and before anything is said to it. One
machine, one process a role: whoever comes to the moment is the
one that is armed. Its successor starts unarmed and has to find everything in Redis.
"""

from __future__ import annotations

import json
import signal
from collections import Counter
from pathlib import Path
from typing import Any, NamedTuple

import msgspec

from bench.chaos import audience, storm
from bench.chaos.audience import SESSION, WIDE
from bench.chaos.audit import Audit
from bench.chaos.stage import Plan, Stage
from bench.processes import BenchFailed
from bench.waiting import until

VARIABLE = "KASKAD_FAULT_POINT"
WAIT_S = 6
DIES_S = 120.0  # a process that has not come to its moment then never does
LOAD_S = 1.0
CONNECTIONS = 4


class Mark(NamedTuple):
    """What is passed on over a way when the moment has come; `down`: to the dispatcher."""

    way: str
    mark: str
    down: bool = False


# A command's id and a status of zero, as they stand in the header of a PDU.
MARKS = {
    "request written": Mark("provider-d0", "\r\n\r\n"),
    "notification written": Mark("provider-d0", "\r\n\r\n"),
    "mail written": Mark("smtp-d0", "\r\n.\r\n"),
    "window under way": Mark("smpp-d0", "\0\0\0\4" + 4 * "\0"),
    "receipt over SMPP": Mark("smpp-d0", "\0\0\0\5" + 4 * "\0", down=True),
}


class Case(NamedTuple):
    """`nth` is at which time it dies; `silent`: Viber never says anything, so timers must;
    `follows`: links are followed beside; `route`: each message's, else its category's."""

    point: str
    role: str
    nth: int = 1
    silent: bool = False
    follows: bool = False
    route: str = ""

    @property
    def name(self) -> str:
        """As it is told."""
        over = "over SMPP" if self.route == SESSION and self.point not in MARKS else ""
        return f"{self.point.replace('_', ' ')} {over}".strip()


CASES = (
    Case("accepted", "i0", 3),
    Case("claimed", "d0", 2),
    Case("request written", "d0"),
    Case("notification written", "d0", route=WIDE),
    Case("mail written", "d0", 2, route=WIDE),
    Case("window under way", "d0", 2, route=SESSION),
    Case("answer_read", "d0", 2, route=SESSION),
    Case("receipt over SMPP", "d0", 2, route=SESSION),
    Case("answer_read", "d0", 2),
    Case("committed", "d0", 2),
    Case("receipt_read", "i0", 2),
    Case("settled", "i0", 2),
    Case("clicks_taken", "i0", 2, follows=True),
    Case("clicks_counted", "i0", 2, follows=True),
    Case("timer_due", "d0", 1, silent=True),
    Case("fallback_queued", "d0", 1, silent=True),
)


class Row(msgspec.Struct, frozen=True, kw_only=True):
    """How one case's messages ended. `faults` are of the audit after it."""

    point: str
    process: str
    accepted: int
    counts: dict[str, int]
    faults: list[str]


def run(
    folder: Path, cases: tuple[Case, ...], messages: int, tell: storm.Tell, wait_s: int = WAIT_S
) -> list[Row]:
    """Plays the cases one after another in one world, each audited. Raises BenchFailed, also when
    a process did not die where it should."""
    rows: list[Row] = []
    client: dict[str, Any] = {"accepted": {}, "duplicates": [], "counts": {}, "faults": []}
    refused = 0
    with Stage(folder, Plan(wait_s=wait_s, machines=1)) as stage:
        for number, case in enumerate(cases):
            tell(f"killed when: {case.name}")
            order = storm.Order(
                messages=messages,
                seconds=LOAD_S,
                seed=number + 1,
                first=number * messages,
                connections=CONNECTIONS,
                routes=(case.route,),
                follows=case.follows,
            )
            told = play(stage, case, order)
            before = dict(client["counts"])
            _merge(client, told)
            refused += storm.invalid(order)
            late = storm.calm(stage)
            links = storm.followed(stage, told)
            audit = Audit(stage, client, refused, set())
            audit.run()
            stage.heal()
            rows.append(
                Row(
                    point=case.name,
                    process="ingress" if case.role == "i0" else "dispatcher",
                    accepted=client["counts"]["accepted"] - before.get("accepted", 0),
                    counts=dict(audit.counts - _counted(rows)) | links.counts,
                    faults=late + audit.faults + links.faults,
                )
            )
    return rows


def play(stage: Stage, case: Case, order: storm.Order) -> dict[str, Any]:
    """Arms the process, sends the messages, waits until it has died; what the client was told."""
    silent = {"viber": {"ending": "silent"}}
    numbers = range(order.first, order.first + order.messages)
    stage.turn(by_phone={audience.phone(n): silent for n in numbers} if case.silent else {})
    mark = MARKS.get(case.point)
    if mark is not None:
        pid = stage.roles[case.role].pid
        stage.proxy(mark.way, "kill", pid=pid, mark=mark.mark, down=mark.down, times=case.nth)
    else:
        stage.kill(case.role)
        stage.launch(case.role, **{VARIABLE: f"{case.point}:{case.nth}"}).await_ready()
        stage.down.clear()
    armed = stage.roles[case.role].process
    with storm.load(stage, order) as (client, result):
        until(f"the {case.role} dies: {case.name}", lambda: armed.poll() is not None, DIES_S)
        if mark is not None:
            stage.proxy(mark.way, "pass")
        if armed.returncode != -signal.SIGKILL:
            raise BenchFailed(f"{case.name}: {case.role} ended with {armed.returncode}.")
        stage.killed.append(stage.roles[case.role].log)
        stage.tend()
        stage.roles[case.role].await_ready()
        client.wait(order.seconds + storm.PATIENCE_S)
    told: dict[str, Any] = json.loads(result.read_text())
    return told


def _merge(client: dict[str, Any], told: dict[str, Any]) -> None:
    client["accepted"] |= told["accepted"]
    client["duplicates"] += told["duplicates"]
    client["faults"] += told["faults"]
    for name, count in told["counts"].items():
        client["counts"][name] = client["counts"].get(name, 0) + count


def _counted(rows: list[Row]) -> Counter[str]:
    """What the audits before have counted already: an audit counts the whole world."""
    found: Counter[str] = Counter()
    for row in rows:
        found.update(row.counts)
    return found
