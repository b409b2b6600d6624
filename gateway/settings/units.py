"""How durations and rates are written in a configuration: `15m`, `500/s`.

Owns the two notations. Both are integers when they are used (milliseconds, messages a second), so
nothing else has to know how they were written; a duration keeps its text, because a refusal quotes
a cap's window as configured. What is neither raises ValueError with a sentence.
"""

from __future__ import annotations

import re
from typing import Self

_UNIT_MS = {"ms": 1, "s": 1_000, "m": 60_000, "h": 3_600_000, "d": 86_400_000}
_PERIOD_S = {"s": 1, "m": 60, "h": 3_600}
_duration = re.compile(r"([0-9]{1,12})(ms|s|m|h|d)").fullmatch
_rate = re.compile(r"([0-9]{1,12})/(s|m|h)").fullmatch

DURATION_MS_MAX = 3_650 * _UNIT_MS["d"]
RATE_PER_S_MAX = 100_000


class Duration(int):
    """Milliseconds, at most ten years; `text` is how it was written."""

    text: str

    @classmethod
    def parse(cls, text: object) -> Self:
        """Reads "15m" as 900000. Raises ValueError."""
        match = _duration(text) if isinstance(text, str) else None
        if match is None:
            raise ValueError(
                f'{text!r} is no duration: write a whole number and ms, s, m, h or d, such as "15m"'
            )
        duration = cls(int(match[1]) * _UNIT_MS[match[2]])
        if duration > DURATION_MS_MAX:
            raise ValueError(f"{text!r} is longer than ten years")
        duration.text = match[0]
        return duration


class Rate(int):
    """Messages a second, at least one."""

    @classmethod
    def parse(cls, text: object) -> Self:
        """Reads "500/s" as 500 and "600/m" as 10. Raises ValueError, also for part of a message."""
        match = _rate(text) if isinstance(text, str) else None
        if match is None:
            raise ValueError(f'{text!r} is no rate: write messages a second, such as "500/s"')
        messages, period_s = int(match[1]), _PERIOD_S[match[2]]
        if messages % period_s or not 1 <= messages // period_s <= RATE_PER_S_MAX:
            raise ValueError(
                f"{text!r} is not a whole number of messages a second from 1 to {RATE_PER_S_MAX}"
            )
        return cls(messages // period_s)
