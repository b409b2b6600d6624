"""The wall clocks of the machines: each is a file with an offset, which every process of the
machine reads whenever it looks at the clock (`skewed_clock`).

Monotonic clocks are left alone, as a real step of the wall clock leaves them. The provider keeps
the true time, and so does Redis; for hours to pass, it tells a later one to who asks.
"""

from __future__ import annotations

import struct
import time
from pathlib import Path

SEAM = Path(__file__).resolve().parent / "skewed_clock"
FILE = "CHAOS_CLOCK_FILE"
OFFSETS = struct.Struct("<qq")  # nanoseconds: the machine's, and what Redis tells
NS = 1_000_000  # of a millisecond


class Clocks:
    """`offsets_ms` are those of the machines at the beginning, positive: ahead."""

    def __init__(self, folder: Path, offsets_ms: list[int]) -> None:
        self._offsets_ms = list(offsets_ms)
        self._passed_ms = 0
        self._paths = [folder / f"clock-{number}" for number in range(len(offsets_ms))]
        self._files = []
        for path in self._paths:
            path.touch()
            self._files.append(path.open("r+b", buffering=0))
        for machine in range(len(offsets_ms)):
            self._write(machine)

    def environment(self, machine: int) -> dict[str, str]:
        """What a process of the machine needs in its environment."""
        return {"PYTHONPATH": str(SEAM), FILE: str(self._paths[machine])}

    @staticmethod
    def true_ms() -> int:
        """The time by the clock of this process, Redis and the provider, epoch milliseconds."""
        return time.time_ns() // NS

    def jump(self, machine: int, by_ms: int) -> None:
        """The machine's clock jumps, forwards or (negative) backwards, while its processes run."""
        self._offsets_ms[machine] += by_ms
        self._write(machine)

    def pass_by(self, hours_ms: int) -> None:
        """By Redis' clock, which all processes go by, so much time passes at once."""
        self._passed_ms += hours_ms
        for machine in range(len(self._files)):
            self._write(machine)

    def _write(self, machine: int) -> None:
        file = self._files[machine]
        file.seek(0)
        file.write(OFFSETS.pack(self._offsets_ms[machine] * NS, self._passed_ms * NS))

    def close(self) -> None:
        for file in self._files:
            file.close()
