"""Fault points: nothing in normal runs, an exact death in armed ones, and each at one place."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from gateway import failpoints
from gateway.errors import ConfigurationError

ROOT = Path(__file__).resolve().parents[2]
SCRIPT = """
from gateway.failpoints import failpoint
for number in range(5):
    print(number, flush=True)
    failpoint("claimed")
    failpoint("settled")
"""


def run(value: str) -> subprocess.CompletedProcess[str]:
    env = {**os.environ, failpoints.VARIABLE: value}
    return subprocess.run(
        [sys.executable, "-c", SCRIPT], cwd=ROOT, env=env, capture_output=True, text=True
    )


def test_without_the_variable_a_point_is_a_function_that_does_nothing() -> None:
    assert failpoints.failpoint is failpoints.armed("") is failpoints._nothing
    assert failpoints._nothing.__code__.co_names == ()
    assert len(failpoints._nothing.__code__.co_code) <= len((lambda _: None).__code__.co_code)
    done = run("")
    assert done.returncode == 0
    assert done.stdout.split() == ["0", "1", "2", "3", "4"]


@pytest.mark.parametrize(("value", "reached"), [("claimed", 1), ("claimed:3", 3), ("settled:2", 2)])
def test_an_armed_point_kills_at_the_time_that_is_named(value: str, reached: int) -> None:
    done = run(value)
    assert done.returncode == -signal.SIGKILL
    assert len(done.stdout.split()) == reached


@pytest.mark.parametrize("value", ["nowhere", "claimed:x", ":2"])
def test_a_point_that_does_not_exist_is_refused(value: str) -> None:
    with pytest.raises(ConfigurationError, match="unset it, or name one of accepted, claimed"):
        failpoints.armed(value)


def test_every_point_stands_at_exactly_one_place() -> None:
    found = [
        name
        for path in sorted((ROOT / "gateway").rglob("*.py"))
        for name in re.findall(r'\bfailpoint\("(\w+)"\)', path.read_text())
    ]
    assert sorted(found) == sorted(failpoints.POINTS)
