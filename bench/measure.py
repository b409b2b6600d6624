"""What is measured and how: a load run in its own process, and windows of CPU time over a world.

Each measurement is a result row, whatever the scenario. A load that ends badly is a BenchFailed.
"""

from __future__ import annotations

import json
import subprocess
import sys
import time
from collections.abc import Callable, Iterable
from typing import Any, Self

import msgspec

from bench.load_spec import Result, Spec, percentile
from bench.processes import BenchFailed
from bench.stack import APP_KEY
from bench.waiting import until
from bench.world import Cpu, World

COMMANDS_SHOWN = 12
KINDS = ("ingress", "dispatch", "redis", "rewrite")
Progress = Callable[[float], None]


class Row(msgspec.Struct, kw_only=True, omit_defaults=True):
    """One line of the table: `cpu_us` is microseconds a message by kind of process, `total` without
    simulator and load generator; latencies are {"p50": ms, "p99": ms}.
    """

    scenario: str
    name: str
    messages: int
    seconds: float
    rate: float
    cpu_us: dict[str, float] = {}
    accept_ms: dict[str, float] = {}
    to_provider_ms: dict[str, float] = {}
    figures: dict[str, float] = {}
    redis_calls: dict[str, float] = {}
    redis_us: dict[str, float] = {}
    ledger: dict[str, object] = {}


class Load:
    """A load generator: started and connected by the constructor, released by `go`."""

    def __init__(self, spec: Spec) -> None:
        self._process = subprocess.Popen(
            [sys.executable, "-m", "bench.load"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
        )
        self._say(msgspec.json.encode(spec))
        self._told()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        if self._process.poll() is None:
            self._process.kill()
        self._process.communicate()

    def go(self) -> None:
        self._say(b"go")

    def result(self, progress: Progress | None = None) -> Result:
        """Waits for the end. Raises BenchFailed."""
        while True:
            told = self._told()
            if "result" in told:
                self._process.wait()
                return msgspec.convert(told["result"], Result)
            if progress is not None and "done" in told:
                progress(told["done"])

    def _say(self, line: bytes) -> None:
        assert self._process.stdin is not None
        self._process.stdin.write(line + b"\n")
        self._process.stdin.flush()

    def _told(self) -> dict[str, Any]:
        assert self._process.stdout is not None
        line = self._process.stdout.readline()
        if not line:
            assert self._process.stderr is not None
            said = self._process.stderr.read().decode().strip()
            raise BenchFailed(said.splitlines()[-1] if said else "The load generator died.")
        told: dict[str, Any] = json.loads(line)
        return told


class Mark:
    """A moment: the clock, CPU seconds by kind, Redis commands so far."""

    def __init__(self, world: World) -> None:
        self.at_s = time.perf_counter()
        self.cpu = world.cpu()
        self.commands = world.redis.command_calls()


def post(world: World, spec: Spec, progress: Progress | None = None) -> tuple[Mark, Result]:
    """Runs one load to its last answer; the mark is its beginning. All must be taken."""
    with Load(spec) as load:
        mark = Mark(world)
        load.go()
        result = load.result(progress)
    require_accepted(result, spec.messages)
    return mark, result


def spec_for(world: World, **fields: Any) -> Spec:
    """A load on this world's ingress."""
    return Spec(port=world.port, key=APP_KEY, **fields)


def require_accepted(result: Result, messages: int) -> None:
    """Raises BenchFailed unless every answer is the one for work that was taken."""
    taken = sum(result.outcomes.get(word, 0) for word in ("accepted", "202", "200", "302"))
    if taken != messages or result.messages != messages:
        raise BenchFailed(f"Of {messages} messages not all were taken: {result.outcomes}.")


def cpu_us(begin: Cpu, end: Cpu, messages: int, load: Iterable[Result] = ()) -> dict[str, float]:
    """Microseconds a message by kind; `total` is what the product and its Redis used."""
    spent = {k: (getattr(end, k) - getattr(begin, k)) / messages * 1e6 for k in Cpu._fields}
    found = {"total": sum(spent[kind] for kind in KINDS), **spent}
    generator_s = sum(result.cpu_s for result in load)
    return found | {"load": generator_s / messages * 1e6}


def row(
    scenario: str, name: str, messages: int, begin: Mark, end: Mark, result: Result | None = None
) -> Row:
    """The row of the window between two marks."""
    seconds = end.at_s - begin.at_s
    calls, busy_us = _commands(begin, end, messages)
    return Row(
        scenario=scenario,
        name=name,
        messages=messages,
        seconds=seconds,
        rate=messages / seconds,
        cpu_us=cpu_us(begin.cpu, end.cpu, messages, [result] if result else []),
        accept_ms={"p50": result.p50_ms, "p99": result.p99_ms} if result else {},
        redis_calls=calls,
        redis_us=busy_us,
    )


def to_provider_ms(world: World, result: Result) -> dict[str, float]:
    """From the answer of the sampled messages to their arrival at the provider."""
    sent = world.sent_ms([message_id for message_id, _ in result.samples])
    missing = len(result.samples) - len(sent)
    if missing:
        raise BenchFailed(f"{missing} sampled messages never came to the provider.")
    waits = sorted(max(0.0, sent[each] - answered) for each, answered in result.samples)
    return {"p50": percentile(waits, 50), "p99": percentile(waits, 99)}


def await_samples(world: World, result: Result) -> None:
    """Returns when all sampled messages have come to the provider. Raises BenchFailed."""
    wanted = [message_id for message_id, _ in result.samples]
    until("all sampled messages are sent", lambda: len(world.sent_ms(wanted)) == len(wanted))


def _commands(begin: Mark, end: Mark, messages: int) -> tuple[dict[str, float], dict[str, float]]:
    """Calls, and microseconds inside Redis, a message, of the commands that cost most."""
    spent = {}
    for name, (calls, us) in end.commands.items():
        calls_before, us_before = begin.commands.get(name, (0, 0))
        if calls > calls_before:
            spent[name] = (us - us_before, calls - calls_before)
    top = sorted(spent.items(), key=lambda item: -item[1][0])[:COMMANDS_SHOWN]
    return (
        {name: round(calls / messages, 4) for name, (_, calls) in top},
        {name: round(us / messages, 3) for name, (us, _) in top},
    )
