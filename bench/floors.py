"""The floor of HTTP: what the same server does on this machine, now, when it has nothing to do.

Ratios to it travel between machines and days; absolute figures do not.
"""

from __future__ import annotations

import json
import os
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from bench.load_spec import Spec
from bench.measure import Load
from bench.processes import BenchFailed, Child, cpu_s

START_S_MAX = 20.0


def bare_server(folder: Path, requests: int) -> dict[str, float]:
    """Single posts on 32 connections, answered 202 by the bare server: rate and CPU a request."""
    child = _bare(folder / "bare.log")
    try:
        port = _port_of(child)
        cpu_before = 0.0
        rate = 0.0
        for count in (requests // 10, requests):  # the first warms up
            with Load(Spec(mode="single", port=port, messages=count, samples=0)) as load:
                cpu_before = cpu_s(child.pid)
                load.go()
                result = load.result()
            rate = count / result.seconds
        cpu_us = (cpu_s(child.pid) - cpu_before) / requests * 1e6
        return {"rate": rate, "cpu_us": cpu_us, "p50_ms": result.p50_ms, "p99_ms": result.p99_ms}
    finally:
        child.stop()


@contextmanager
def start_bare(log: Path) -> Iterator[int]:
    """The bare server and its port, for as long as it is needed. Raises BenchFailed."""
    child = _bare(log)
    try:
        yield _port_of(child)
    finally:
        child.stop()


def _bare(log: Path) -> Child:
    return Child("The bare server", [sys.executable, "-m", "bench.bare"], log, dict(os.environ))


def _port_of(child: Child) -> int:
    deadline = time.monotonic() + START_S_MAX
    while time.monotonic() < deadline:
        child.check()
        text = child.log.read_text()
        if text.endswith("\n"):
            port: int = json.loads(text)["port"]
            return port
        time.sleep(0.01)
    raise BenchFailed("The bare server did not start.")
