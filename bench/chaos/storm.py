"""One run: a load, a storm over it, the calm after it, and the audit.

The storm is drawn from the seed: which faults, when, how long, and how many at once. Every fault
comes once before any comes twice, so that a run that is long enough has had them all.
"""

from __future__ import annotations

import contextlib
import json
import shutil
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NamedTuple

import msgspec
import redis

from bench.chaos import audience, faults, records
from bench.chaos.audit import Audit
from bench.chaos.faults import Fault
from bench.chaos.stage import APP_KEY, Plan, Stage
from bench.processes import BenchFailed

BETWEEN_S = (0.05, 0.8)  # from the beginning of one fault to the next
AT_ONCE_MAX = 3
QUIET_S = 3.0  # at the end of the load, without new faults
PATIENCE_S = 60.0  # of the client, after the load
CALM_S_EXTRA = 60.0  # beyond twice the waits: until everything must be over
LOOK_S = 0.2
TEND_S = 0.5

Tell = Callable[[str], None]


class Order(msgspec.Struct, frozen=True, kw_only=True):
    """One run. `seconds` is how long the load lasts; `only` names faults, else all;
    its people are numbered from `first`."""

    messages: int
    seconds: float
    seed: int
    first: int = 0
    connections: int = 8
    plan: Plan = Plan()
    only: tuple[str, ...] = ()


class Outcome(msgspec.Struct, frozen=True, kw_only=True):
    """What became of it; `faults` empty means that all assertions hold. `injected` counts the
    faults of the storm by name."""

    messages: int
    seed: int
    seconds: float
    skew_ms: int
    injected: dict[str, int]
    counts: dict[str, int]
    faults: list[str]


class Running(NamedTuple):
    until_s: float
    fault: Fault


def run(order: Order, folder: Path, tell: Tell) -> Outcome:
    """Plays one run in `folder`, which must not exist yet. Raises BenchFailed."""
    began = time.monotonic()
    lost = audience.lost_phones(order.messages)
    plan = msgspec.structs.replace(order.plan, seed=order.seed)
    with Stage(folder, plan) as stage:
        lose: dict[str, object] = {"lost": True}
        stage.turn(by_phone={phone: {"viber": lose, "sms": lose} for phone in lost})
        injected: Counter[str] = Counter()
        with load(stage, order) as (client, result):
            _rage(stage, order, client, injected, tell)
            tell("calm")
            client.wait(order.seconds + PATIENCE_S)
        if client.returncode != 0 or not result.exists():
            raise BenchFailed(f"The client ended with {client.returncode}: {folder / 'client.log'}")
        late = calm(stage)
        audit = Audit(stage, json.loads(result.read_text()), invalid(order), set(lost))
        audit.faults += late
        audit.run()
    return Outcome(
        messages=order.messages,
        seed=order.seed,
        seconds=round(time.monotonic() - began, 1),
        skew_ms=order.plan.skew_ms,
        injected=dict(sorted(injected.items())),
        counts=dict(audit.counts),
        faults=audit.faults,
    )


def invalid(order: Order) -> int:
    """How many of the run's requests must be refused."""
    return sum(
        len(body["to"]) < 9 for body in audience.bodies(order.messages, order.seed, order.first)
    )


@contextlib.contextmanager
def load(stage: Stage, order: Order) -> Iterator[tuple[subprocess.Popen[bytes], Path]]:
    """The client's process and the file of its result."""
    result = stage.folder / "client.json"
    orders = {
        "ports": list(stage.ports.values()),
        "key": APP_KEY,
        "messages": order.messages,
        "seed": order.seed,
        "first": order.first,
        "seconds": order.seconds,
        "connections": order.connections,
        "patience_s": PATIENCE_S,
        "result": str(result),
    }
    result.unlink(missing_ok=True)
    file = stage.folder / "orders.json"
    file.write_text(json.dumps(orders))
    with (stage.folder / "client.log").open("wb") as log:
        client = subprocess.Popen(
            [sys.executable, "-m", "bench.chaos.client", str(file)], stdout=log, stderr=log
        )
    try:
        yield client, result
    finally:
        client.kill()
        client.wait()


def _rage(
    stage: Stage,
    order: Order,
    client: subprocess.Popen[bytes],
    injected: Counter[str],
    tell: Tell,
) -> None:
    draw = stage.draw
    ends = time.monotonic() + order.seconds - QUIET_S
    running: list[Running] = []
    deck: list[Fault] = []
    next_s = tend_s = time.monotonic() + draw.uniform(*BETWEEN_S)
    try:
        while (now := time.monotonic()) < ends and client.poll() is None:
            for each in [each for each in running if each.until_s <= now]:
                running.remove(each)
                each.fault.end(stage)
            if now >= next_s and len(running) < AT_ONCE_MAX:
                if not deck:
                    deck = _chosen(order)
                    draw.shuffle(deck)
                fault = _playable(deck, running)
                if fault is not None:
                    tell(fault.name)
                    fault.begin(stage)
                    injected[fault.name] += 1
                    lasts = draw.uniform(*fault.lasts_s)
                    running.append(Running(time.monotonic() + lasts, fault))
                next_s = time.monotonic() + draw.uniform(*BETWEEN_S)
            if now >= tend_s:
                stage.tend()
                tend_s = now + TEND_S
            time.sleep(0.02)
    finally:
        for each in running:
            each.fault.end(stage)
        stage.heal()


def _chosen(order: Order) -> list[Fault]:
    found = [fault for fault in faults.every() if not order.only or fault.name in order.only]
    if not found:
        raise BenchFailed(f"There is no fault named {' or '.join(order.only)}.")
    return found


def _playable(deck: list[Fault], running: list[Running]) -> Fault | None:
    """The next fault whose place is free; a dead Redis cannot be turned, nor a process twice."""
    taken = {each.fault.place for each in running}
    for fault in deck:
        if fault.place not in taken:
            deck.remove(fault)
            return fault
    return None


def calm(stage: Stage) -> list[str]:
    """Waits until nothing is left to happen; what still is at the deadline, as faults."""
    deadline = time.monotonic() + 2 * stage.plan.wait_s + CALM_S_EXTRA
    while True:
        stage.heal()
        stats = stage.stats()
        try:
            left = records.left(stage.redis)
        except redis.RedisError as error:
            left = {str(error): 1}
        if not left and not stats["pending"] and not stats["reports_waiting"]:
            return []
        if time.monotonic() > deadline:
            waiting = {name: stats[name] for name in ("pending", "reports_waiting")}
            return [f"It never ended: {left} are left, of the provider {waiting}"]
        time.sleep(LOOK_S)


@contextlib.contextmanager
def folder_of_run() -> Iterator[tuple[Path, Callable[[], None]]]:
    """A new folder's name, and what to call when the run went wrong: then it is kept with its logs
    and data, as it is when the run broke off."""
    parent = Path(tempfile.mkdtemp(prefix="kaskad-chaos-"))
    wrong: list[bool] = []
    try:
        yield parent / "run", lambda: wrong.append(True)
    except BaseException:
        wrong.append(True)
        raise
    finally:
        if wrong:
            sys.stderr.write(f"Logs and data are in {parent}\n")
        else:
            shutil.rmtree(parent, ignore_errors=True)
