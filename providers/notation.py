"""How a configuration is written: tables, durations (`15m`), rates (`500/s`), memory (`4GiB`).

It stands here because the keys of a provider are written as all others are. In the file a key is
`wait = "15m"`; in the tree it is `wait_ms`, an integer that keeps its text for sentences. What is
none of these raises ValueError with a sentence.
"""

from __future__ import annotations

import re
from typing import Annotated, Self

import msgspec

_UNIT_MS = {"ms": 1, "s": 1_000, "m": 60_000, "h": 3_600_000, "d": 86_400_000}
_PERIOD_S = {"s": 1, "m": 60, "h": 3_600}
_duration = re.compile(r"([0-9]{1,12})(ms|s|m|h|d)").fullmatch
_MEMORY = {"MiB": 1024**2, "GiB": 1024**3, "TiB": 1024**4}
_memory = re.compile(r"([0-9]{1,6})(%|MiB|GiB|TiB)").fullmatch
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


class Memory(int):
    """Bytes, or per cent of the machine's memory where `is_share`; `text` is how it was written."""

    is_share: bool
    text: str

    @classmethod
    def parse(cls, text: object) -> Self:
        """Reads "4GiB" as 4294967296 and "50%" as 50. Raises ValueError."""
        match = _memory(text) if isinstance(text, str) else None
        if match is None or not int(match[1]) or (match[2] == "%" and int(match[1]) > 100):
            raise ValueError(
                f'{text!r} is no amount of memory: write MiB, GiB or TiB, such as "4GiB", or a '
                'share of the machine\'s from 1% to 100%, such as "50%"'
            )
        memory = cls(int(match[1]) * _MEMORY.get(match[2], 1))
        memory.is_share, memory.text = match[2] == "%", match[0]
        return memory

    def bytes_of(self, machine_bytes: int) -> int:
        """How many bytes that is on a machine with so many."""
        return machine_bytes * self // 100 if self.is_share else int(self)


class AtLeast(msgspec.Struct, frozen=True):
    """The shortest duration a key takes; stands in the key's `Annotated` type."""

    ms: int


Text = Annotated[str, msgspec.Meta(min_length=1, max_length=1_000)]
Milliseconds = Annotated[Duration, AtLeast(1)]


def _key(field: str) -> str:
    """`wait_ms` is `wait` in the file: there the unit is in the value."""
    return field.removesuffix("_ms").removesuffix("_per_s")


class Table(msgspec.Struct, frozen=True, kw_only=True, rename=_key):
    """A table of the file."""
