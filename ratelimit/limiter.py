"""A provider's rate over all dispatchers: one schedule in Redis, granted in pieces ahead of time.

The limit is GCRA, kept as the first moment that is not given out yet. A grant of n tokens takes the
next free moment as its start and moves it on by n / speed; its tokens may be sent together at its
start. So the sends in any stretch of time W are at most the spans that fit into it and one grant
more: N <= quantum + speed * W.

What follows from that, for `rate` messages a second:
  - never more than the rate in any one second: with speed = 97.5 % of the rate and a quantum of at
    most 10 ms' worth, N <= 0.010 rate + 0.975 rate = 98.5 % of it. The rest is for what lies
    between a grant's start and the arrival at the provider: requests may jitter by 15 ms against
    each other. Where the quantum is one message, N <= floor(1 + 0.975 rate) = rate for every whole
    rate;
  - at least 97 % of it is used: a grant starts where the last one ended, not when its caller woke
    up, so no dispatcher's delay and no other dispatcher costs a token as long as somebody asks
    within the horizon (a grant's span is rounded up to a microsecond: a fifth of a percent where
    a provider takes single messages at 4,000 a second);
  - a grant that is given back can only be the latest: taking an older one out of the schedule
    would let a later grant start beside one that was promised the same moment.

Pure but for `run`, which the caller provides: it runs one of `SCRIPTS` in Redis, whose clock is the
only one. What `run` raises (Redis is unavailable) passes unchanged; a grant that was made unheard
lapses. `Schedule` is the same arithmetic in Python, for simulations and to test the scripts with.
"""

from __future__ import annotations

from collections.abc import Awaitable, Mapping, Sequence
from importlib import resources
from types import MappingProxyType
from typing import Any, NamedTuple, Protocol

import msgspec

SPEED_PERCENT_TENTHS = 975  # of the rate
QUANTUM_MS = 10
HORIZON_US = 100_000  # how far ahead a grant may start
HOLD_OFF_MS_MAX = 600_000
PACE_QUANTUM_US, PACE_LATE_US = 250_000, 750_000  # together a second

SCRIPTS: Mapping[str, str] = MappingProxyType(
    {
        name: resources.files("ratelimit").joinpath("lua", f"{name}.lua").read_text()
        for name in ("take", "give_back", "hold_off", "ahead")
    }
)


class Grant(msgspec.Struct, frozen=True):
    """`tokens` to be used together in `wait_us` microseconds. With none, ask again in `wait_us`.
    `end_us` is in Redis's time and only names the grant; `speed` is the one it was made at."""

    tokens: int
    wait_us: int
    end_us: int
    speed: int = 0


class RunScript(Protocol):
    def __call__(self, name: str, keys: Sequence[str], args: Sequence[int]) -> Awaitable[Any]:
        """Runs SCRIPTS[name] in Redis and returns its reply."""


def speed_of(rate_per_s: int) -> int:
    """Tokens a million seconds: an integer, so that a grant's span is exact to the microsecond."""
    return rate_per_s * SPEED_PERCENT_TENTHS * 1_000


def quantum_of(rate_per_s: int, batch: int) -> int:
    """The most tokens of one grant: a request's messages, but at most QUANTUM_MS of the rate."""
    return max(1, min(batch, rate_per_s * QUANTUM_MS // 1_000))


class Pace(NamedTuple):
    """A rate that is told a minute: `speed` and `quantum` as of a Limiter."""

    speed: int
    quantum: int


class Places(NamedTuple):
    """How many may go now, and in how long there is one more."""

    granted: int
    wait_us: int


def pace_of(per_min: int) -> Pace:
    """So many a minute, evenly, never more in any minute, and at most a second's worth at once.

    Who asks up to PACE_LATE_US late loses no place. So N <= quantum + speed * (W + PACE_LATE_US),
    which is a second's worth at once, and with 60 / 61 of the rate no more than it in a minute.
    Where the quantum is one place, of up to some 240 a minute, that would be more than a second's
    worth: so a pace at rest begins with the quantum, since nobody waited for what was missed."""
    speed = per_min * 1_000_000 // 61
    return Pace(speed, max(speed * PACE_QUANTUM_US // 10**12, 1))


async def take_in_pace(run: RunScript, key: str, pace: Pace, wanted: int) -> Places:
    """How many of those wanted may go now, by the schedule that everybody shares."""
    args = (wanted, pace.quantum, pace.speed, 0, -PACE_LATE_US)
    granted, wait_us, _ = await run("take", (key,), args)
    return Places(granted, max(wait_us + -(-granted * 10**12 // pace.speed), 0))


class Limiter:
    """One provider's limit, shared by everybody who names the same `key` in the same Redis."""

    def __init__(self, run: RunScript, key: str, *, rate_per_s: int, batch: int) -> None:
        self._run = run
        self._keys = (key,)
        self._batch = batch
        self.set_rate(rate_per_s)

    def set_rate(self, rate_per_s: int) -> None:
        """The rate of grants from now on."""
        self.rate_per_s = rate_per_s
        self._speed = speed_of(rate_per_s)
        self.quantum = quantum_of(rate_per_s, self._batch)

    async def take(self, wanted: int, lead_us: int = 0) -> Grant:
        """Takes up to `wanted` (>= 1) tokens, at most `quantum`, to be used in `lead_us` or later.

        A caller that needs a while before it can send says so: tokens that are used late would
        crowd those of the next grant."""
        args = (wanted, self.quantum, self._speed, HORIZON_US, min(lead_us, HORIZON_US))
        speed = self._speed
        granted, wait_us, end_us = await self._run("take", self._keys, args)
        return Grant(granted, wait_us, end_us, speed)

    async def give_back(self, grant: Grant, unused: int) -> bool:
        """Returns unused tokens; False when a later grant exists, or the rate is another since,
        and they lapse."""
        if grant.speed != self._speed:
            return False
        args = (grant.end_us, unused, self._speed)
        return bool(await self._run("give_back", self._keys, args))

    async def hold_off(self, ms: int) -> None:
        """Lets nobody send for `ms` milliseconds, at most HOLD_OFF_MS_MAX."""
        await self._run("hold_off", self._keys, (max(1, min(ms, HOLD_OFF_MS_MAX)),))

    async def left(self) -> int:
        """Tokens that could be granted at this moment: about a tenth of the rate when nobody sends,
        near 0 when the limit is what bounds the flow, 0 when the provider is held off."""
        ahead_us: int = await self._run("ahead", self._keys, ())
        room_us = HORIZON_US - ahead_us
        return room_us * self._speed // 10**12 + 1 if room_us >= 0 else 0


class Schedule:
    """The scripts' twin: the same decisions on a number in memory, with the time as an argument."""

    def __init__(self, rate_per_s: int, batch: int) -> None:
        self.free_us = 0
        self.quantum = quantum_of(rate_per_s, batch)
        self._speed = speed_of(rate_per_s)

    def take(
        self, wanted: int, now_us: int, lead_us: int = 0, horizon_us: int = HORIZON_US
    ) -> Grant:
        lead_us = min(lead_us, horizon_us)
        if not self.free_us:
            lead_us = max(lead_us, 0)
        elif lead_us < 0:
            ahead_us = -(-self.quantum * 10**12 // self._speed)
            self.free_us = min(self.free_us, now_us + ahead_us)
        start = max(self.free_us, now_us + lead_us)
        if start - now_us > horizon_us:
            return Grant(0, start - now_us - horizon_us, 0, self._speed)
        missed = max(now_us - start, 0) * self._speed // 10**12
        granted = min(wanted, self.quantum + missed)
        self.free_us = start + -(-granted * 10**12 // self._speed)
        return Grant(granted, start - now_us, self.free_us, self._speed)

    def give_back(self, grant: Grant, unused: int) -> bool:
        if self.free_us != grant.end_us:
            return False
        self.free_us -= unused * 10**12 // self._speed
        return True

    def hold_off(self, ms: int, now_us: int) -> None:
        self.free_us = max(self.free_us, now_us + ms * 1_000)
