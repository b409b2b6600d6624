"""One run: a load, a storm over it, the calm after it, and the audit.

The storm (`script`) is drawn from the seed: which faults, when, how long, and how many at once.
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
from typing import Any, NamedTuple

import msgspec
import redis

from bench.chaos import audience, budget, clicks, faults, records
from bench.chaos.audit import Audit
from bench.chaos.faults import HOURS_LATE, HOURS_LATE_MS, SOON_MS, Fault
from bench.chaos.long_world import LongWorld
from bench.chaos.script import Script
from bench.chaos.stage import Plan, Stage
from bench.processes import BenchFailed
from bench.stack import APP_KEY
from bench.waiting import POLL_S, left_over

BETWEEN_S = (0.05, 0.8)  # from the beginning of one fault to the next
AT_ONCE_MAX = 3
QUIET_S = 3.0  # at the end of the load, without new faults
PROGRESS_S = 10.0
BAR = 20  # characters
# No rule says how quick a busy machine is: what is not over after so long never ends.
PATIENCE_S = 600.0  # of the client, after the load
CALM_S_EXTRA = 600.0  # beyond twice the waits
LOOK_S = 0.2
PROCESSES = "{kaskad}processes"  # each, by when it published its metrics
CLOCKS_S = 30.0  # within which each process asks Redis for the time, and publishes by it
TEND_S = 0.5

Tell = Callable[[str], None]


class Order(msgspec.Struct, frozen=True, kw_only=True):
    """One run. `seconds` is how long the load lasts; `only` names faults, else all;
    its people are numbered from `first`, and each message names one of the `routes`, if any (see
    `audience.bodies`);
    `lively`: they react, and campaigns are managed; `follows`: links are followed beside."""

    messages: int
    seconds: float
    seed: int
    first: int = 0
    connections: int = 8
    plan: Plan = Plan()
    only: tuple[str, ...] = ()
    routes: tuple[str, ...] = ()
    lively: bool = False
    follows: bool = False


class Outcome(msgspec.Struct, frozen=True, kw_only=True):
    """How it ended; `faults` empty means that all assertions hold. `injected` counts the
    faults of the storm by name."""

    messages: int
    seed: int
    seconds: float
    load_s: float
    skew_ms: int
    injected: dict[str, int]
    asked: list[str]
    disk_full_by: str
    counts: dict[str, int]
    faults: list[str]


class Running(NamedTuple):
    until_s: float
    fault: Fault
    before: int  # the count that shows it, when it began


def run(order: Order, folder: Path, tell: Tell) -> Outcome:
    """Plays one run in `folder`, which must not exist yet. Raises BenchFailed."""
    began = time.monotonic()
    lost = audience.lost_phones(order.messages)
    limit = budget.limit_for(order.messages, order.routes)
    plan = msgspec.structs.replace(order.plan, seed=order.seed, budget=limit)
    with Stage(folder, plan) as stage:
        lose: dict[str, object] = {"lost": True}
        known = audience.answers(order.messages)
        known |= {phone: {"viber": lose, "sms": lose} for phone in lost}
        stage.turn(by_phone=known)
        injected: Counter[str] = Counter()
        with load(stage, order) as (client, result):
            Storm(stage, order, injected, tell).rage(client)
            tell("calm")
            client.wait(order.seconds + PATIENCE_S)
        if client.returncode != 0 or not result.exists():
            raise BenchFailed(f"The client ended with {client.returncode}: {folder / 'client.log'}")
        late: list[str] = []
        came = _hours_later(stage, late)
        if not came:
            injected.pop(HOURS_LATE, None)
        tell("audit")
        told = json.loads(result.read_text())
        links = followed(stage, told)
        audit = Audit(stage, told, invalid(order), set(lost))
        audit.opens_ms, audit.budget = stage.opens_ms, limit
        audit.faults += late
        audit.run()
        audit.counts["receipts that came hours late"] = came
        audit.faults += links.faults
        audit.counts.update(links.counts)
    return Outcome(
        messages=order.messages,
        seed=order.seed,
        seconds=round(time.monotonic() - began, 1),
        load_s=order.seconds,
        skew_ms=order.plan.skew_ms,
        injected=dict(sorted(injected.items())),
        asked=sorted({fault.name for fault in _chosen(order)}),
        disk_full_by="file system" if stage.nodes.small_disk else "limit",
        counts=dict(audit.counts),
        faults=audit.faults,
    )


def followed(stage: Stage, told: dict[str, Any]) -> clicks.Found:
    """What came of the links that were followed, if any were: the ingress ends for it."""
    if not told["followed"]:
        return clicks.Found([], Counter())
    stage.end_ingress()
    links = msgspec.convert(told["followed"], list[clicks.Followed])
    said: dict[str, clicks.Said] = {}
    for log in stage.logs:
        said |= clicks.said_in(log.read_text(errors="replace"), killed=log in stage.killed)
    return clicks.judged(links, clicks.booked(stage.redis), said)


def invalid(order: Order) -> int:
    """How many of the run's requests must be refused."""
    every = audience.bodies(order.messages, order.seed, order.first, lively=order.lively)
    phones = (audience.phone_in(body.get("to")) or "" for body in every)
    return sum(len(phone) in range(1, 9) for phone in phones)


@contextlib.contextmanager
def load(stage: Stage | LongWorld, order: Order) -> Iterator[tuple[subprocess.Popen[bytes], Path]]:
    """The client's process and the file of its result."""
    result = stage.folder / "client.json"
    orders = {
        "ports": list(stage.ports.values()),
        "key": APP_KEY,
        "messages": order.messages,
        "seed": order.seed,
        "first": order.first,
        "routes": order.routes,
        "lively": order.lively,
        "follows": order.follows,
        "seconds": order.seconds,
        "connections": order.connections,
        "patience_s": PATIENCE_S,
        "result": str(result),
        "decided": str(stage.folder / "client.decided"),
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


class Storm:
    """The faults of one run; `injected` counts those of which something came."""

    def __init__(self, stage: Stage, order: Order, injected: Counter[str], tell: Tell) -> None:
        self._stage = stage
        self._order = order
        self._injected = injected
        self._tell = tell
        self._running: list[Running] = []
        self._ended: list[Running] = []  # of which it is not known yet whether anything came
        self._script = Script(_chosen(order), order.seed, stage.draw)

    def rage(self, client: subprocess.Popen[bytes]) -> None:
        """Until the load is nearly over, or the client is done. Whatever began is ended."""
        stage, draw = self._stage, self._stage.draw
        began = time.monotonic()
        ends = began + self._order.seconds - QUIET_S
        next_s = tend_s = began + draw.uniform(*BETWEEN_S)
        progress_s = began + PROGRESS_S
        try:
            while (now := time.monotonic()) < ends and client.poll() is None:
                for each in [each for each in self._running if each.until_s <= now]:
                    self._end(each)
                self._judge(time.monotonic())
                if now >= next_s and len(self._running) < AT_ONCE_MAX:
                    self._begin()
                    next_s = time.monotonic() + draw.uniform(*BETWEEN_S)
                if now >= tend_s:
                    stage.tend()
                    tend_s = now + TEND_S
                if now >= progress_s:
                    self._progress((now - began) / self._order.seconds)
                    progress_s = now + PROGRESS_S
                time.sleep(POLL_S)
        finally:
            for each in list(self._running):
                self._end(each)
            stage.heal()
            while self._ended:
                time.sleep(POLL_S)
                self._judge(time.monotonic())

    def _begin(self) -> None:
        fault = self._script.next({each.fault.place for each in self._running})
        if fault is None:
            return
        self._tell(fault.name)
        before = 0 if fault.shown is None else fault.shown(self._stage)
        fault.begin(self._stage)
        lasts = self._stage.draw.uniform(*fault.lasts_s)
        self._running.append(Running(time.monotonic() + lasts, fault, before))

    def _end(self, each: Running) -> None:
        self._running.remove(each)
        each.fault.end(self._stage)
        self._ended.append(each._replace(until_s=time.monotonic() + each.fault.shows_s))

    def _judge(self, now: float) -> None:
        """Counts what has shown; what has not in time comes again."""
        for each in list(self._ended):
            shown = each.fault.shown
            if shown is None or shown(self._stage) > each.before:
                self._injected[each.fault.name] += 1
                self._ended.remove(each)
            elif now > each.until_s:
                self._tell(f"nothing came of: {each.fault.name}")
                self._script.again(each.fault)
                self._ended.remove(each)

    def _progress(self, share: float) -> None:
        decided = 0
        with contextlib.suppress(OSError, ValueError):
            decided = int((self._stage.folder / "client.decided").read_text())
        self._tell(
            f"{bar(share)} {decided:,} of {self._order.messages:,} requests "
            f"decided, {sum(self._injected.values())} faults"
        )


def bar(share: float) -> str:
    """How much of it is done, to be looked at."""
    full = round(BAR * min(share, 1.0))
    return f"[{'#' * full}{'.' * (BAR - full)}]"


def _chosen(order: Order) -> list[Fault]:
    found = [fault for fault in faults.every() if not order.only or fault.name in order.only]
    if not found:
        raise BenchFailed(f"There is no fault named {' or '.join(order.only)}.")
    return found


def calm(stage: Stage, within_ms: int | None = None) -> list[str]:
    """Waits until nothing is left to happen (`within_ms`: in so long from now); what still is at
    the deadline, as faults."""

    def look() -> str:
        stage.heal()
        stats = stage.stats()
        try:
            left = records.left(stage.redis)
        except redis.RedisError as error:
            left = {str(error): 1}
        to_come = stats["pending"]
        if (
            within_ms is not None
            and to_come
            and stats["next_ms"] > stage.clocks.true_ms() + within_ms
        ):
            to_come = 0
        if not left and not to_come and not stats["reports_waiting"]:
            return ""
        waiting = {name: stats[name] for name in ("pending", "reports_waiting")}
        return f"{left} are left, of the provider {waiting}"

    still = left_over(look, 2 * stage.plan.wait_s + CALM_S_EXTRA, LOOK_S)
    return [f"It never ended: {still}"] if still else []


def _hours_later(stage: Stage, late: list[str]) -> int:
    """By Redis' clock hours pass; then the provider brings the receipts that it kept so long.
    Returns how many; adds to `late` what did not end."""
    late += calm(stage, within_ms=SOON_MS)
    came: int = stage.stats()["pending"]
    stage.clocks.pass_by(HOURS_LATE_MS)
    now_ms = stage.clocks.true_ms() + HOURS_LATE_MS // 2

    def look() -> str:
        behind = len(stage.machines) * 2 - stage.redis.zcount(PROCESSES, now_ms, "+inf")
        return f"For {behind} processes no hours have passed." if behind > 0 else ""

    late += filter(None, [left_over(look, CLOCKS_S, LOOK_S)])
    stage.bring_reports()
    late += calm(stage)
    return came


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
