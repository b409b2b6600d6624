"""Arrivals a second over time: what each load pattern asks for. Pure; `locustfile` acts on it.

A pattern is a function of the seconds since the start, the base rate and the whole length. Rates
are messages or reads a second, over all quiet users together; the noisy app's come on top.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Self

BURST_EVERY_S = 30.0
BURST_S = 5.0
BURST_TIMES = 5.0
RAMP_STEP_S = 10.0
NOISY_TIMES = 9.0

_DURATION = re.compile(r"(\d+(?:\.\d+)?)(s|m|h|)")
_UNIT_S = {"": 1, "s": 1, "m": 60, "h": 3_600}


class Duration(float):
    """Seconds, as a command line or a web page says them: `90`, `5s`, `2m`, `1h`. Raises
    ValueError for what is none."""

    def __new__(cls, text: str | float) -> Self:
        found = _DURATION.fullmatch(str(text).strip())
        if found is None:
            raise ValueError(f"{text!r} is no duration: write 90, 5s, 2m or 1h.")
        return super().__new__(cls, float(found[1]) * _UNIT_S[found[2]])


Pattern = Callable[[float, float, float], float]


def steady(_at_s: float, rate: float, _length_s: float) -> float:
    """The same all the time."""
    return rate


def burst(at_s: float, rate: float, _length_s: float) -> float:
    """BURST_TIMES the rate for the last BURST_S of every BURST_EVERY_S."""
    in_burst = at_s % BURST_EVERY_S >= BURST_EVERY_S - BURST_S
    return rate * BURST_TIMES if in_burst else rate


def ramp(at_s: float, rate: float, _length_s: float) -> float:
    """One rate more every RAMP_STEP_S, until somebody says that it is enough."""
    return rate * (1 + at_s // RAMP_STEP_S)


PATTERNS: dict[str, Pattern] = {"steady": steady, "burst": burst, "ramp": ramp, "noisy": steady}


def noisy_rate(pattern: str, at_s: float, rate: float, length_s: float) -> float:
    """What the noisy app adds: NOISY_TIMES the rate in the middle third of the pattern `noisy`."""
    loud = pattern == "noisy" and length_s / 3 <= at_s < 2 * length_s / 3
    return rate * NOISY_TIMES if loud else 0.0
