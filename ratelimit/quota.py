"""What a caller may send: a rate, and a number a day, over all processes that ask the same Redis.

The rate is GCRA, as in `ratelimit.limiter`, and may have been spent AHEAD_US ahead: so in any
stretch of time W at most rate * (W + 1 s) messages are granted, and what the last one asked at
once. All that is asked at once is granted or none, however much it is, and what follows waits the
longer. A day is UTC by Redis' clock; of what is asked as many are granted as it has left, and those
that come to nothing are given back.

What `run` raises (Redis is unavailable) passes unchanged; what was spent unheard stays spent.
"""

from __future__ import annotations

from collections.abc import Mapping
from importlib import resources
from types import MappingProxyType

import msgspec

from ratelimit.limiter import RunScript

AHEAD_US = 1_000_000

SCRIPTS: Mapping[str, str] = MappingProxyType(
    {
        name: resources.files("ratelimit").joinpath("lua", f"{name}.lua").read_text()
        for name in ("spend", "unspend")
    }
)


class Spent(msgspec.Struct, frozen=True):
    """`granted` may be sent; with `wait_us` none: the rate is spent for so long. `day` is for
    `give_back`, and `used` is what is spent of it."""

    granted: int
    wait_us: int
    day: int
    used: int


class Quota:
    """One caller's quotas; 0 is no limit."""

    def __init__(self, run: RunScript, key: str, *, rate_per_s: int, day_max: int) -> None:
        self._run = run
        self._keys = (key,)
        self.rate_per_s = rate_per_s
        self.day_max = day_max

    def asking(self, count: int) -> tuple[tuple[str, ...], tuple[int, ...]]:
        """The keys and arguments of `spend`, for a call of one's own; with 0 it only looks."""
        return self._keys, (count, self.rate_per_s * 1_000_000, AHEAD_US, self.day_max)

    async def spend(self, count: int) -> Spent:
        """Asks for `count` (>= 1) messages."""
        return Spent(*await self._run("spend", *self.asking(count)))

    async def look(self) -> Spent:
        """What is spent and granted already."""
        return Spent(*await self._run("spend", *self.asking(0)))

    async def give_back(self, spent: Spent, unused: int) -> None:
        """So many of what was granted came to nothing; what they took of the rate stays spent."""
        if unused and self.day_max:
            await self._run("unspend", self._keys, (spent.day, unused))
