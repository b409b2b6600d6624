"""Of what a budget was warned: once each time that so many per cent of it are reserved and used.

Any number of processes look; the one whose transaction comes first tells it. Once it is less again
by BELOW the next crossing is told anew: what is reserved comes and goes, and nobody is to be told
of that. A value that another version wrote and this one cannot read counts as never warned. Every
call may raise RedisUnavailable.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import NamedTuple

import msgspec

from gateway.core.money.budgets import Budget
from gateway.core.money.money import format_amount
from gateway.core.webhooks import BUDGET
from gateway.redis.client import Command, RedisClient, Session
from gateway.store import randomness, shared_keys
from gateway.store.events import outbox
from gateway.store.money.budgets import Reading
from gateway.store.transaction import CommitCounts, commit, values_in

BELOW = 5  # per cent of the limit


class Warned(msgspec.Struct, frozen=True):
    """The highest percentage it was warned of that holds still, and when; 0: none."""

    percent: int = 0
    at_ms: int = 0


class Crossing(NamedTuple):
    """A budget crossed a percentage of its limit; `spent` is what is reserved and used."""

    budget: Budget
    percent: int
    spent: int

    def said(self) -> dict[str, str | int]:
        """What webhooks are told."""
        return {
            "name": self.budget.name,
            "percent": self.percent,
            "limit": format_amount(self.budget.limit),
            "used": format_amount(self.spent),
            "window": self.budget.window,
        }


async def read(redis: RedisClient, names: Iterable[str]) -> dict[str, Warned]:
    """Of what each was warned."""
    asked = list(names)
    if not asked:
        return {}
    (found,) = await redis.call([("HMGET", shared_keys.BUDGETS, *asked)])
    return {n: _warned(v) or Warned() for n, v in zip(asked, values_in(found), strict=True)}


async def look(redis: RedisClient, found: Mapping[Budget, Reading], now_ms: int) -> list[Crossing]:
    """Notes what was crossed since, of budgets as they stand; what is to be told is told by this
    process."""
    (values,) = await redis.call([("HMGET", shared_keys.BUDGETS, *(b.name for b in found))])
    told: list[Crossing] = []
    for (budget, reading), value in zip(found.items(), values_in(values), strict=True):
        if _next(budget, reading.spent, _warned(value), now_ms) is not None:
            told += await _change(redis, budget, reading.spent, now_ms)
    return told


async def _change(redis: RedisClient, budget: Budget, spent: int, now_ms: int) -> list[Crossing]:
    token = shared_keys.installation_token(randomness.token())

    async def attempt(session: Session) -> tuple[list[Command], list[Crossing]]:
        _, value = await session.call(
            [("WATCH", token, shared_keys.BUDGETS), ("HGET", shared_keys.BUDGETS, budget.name)]
        )
        before = _warned(value)
        after = _next(budget, spent, before, now_ms)
        if after is None:
            return [], []
        least = before.percent if before is not None else 0
        crossed = [p for p in budget.warn if least < p <= after.percent]
        writes: list[Command] = [
            ("HSET", shared_keys.BUDGETS, budget.name, msgspec.json.encode(after))
        ]
        told = [Crossing(budget, percent, spent) for percent in crossed]
        for crossing in told:
            writes += await outbox.about(redis, BUDGET, now_ms, crossing.said())
        return writes, told

    return await commit(redis, token, attempt, CommitCounts())


def _next(budget: Budget, spent: int, before: Warned | None, now_ms: int) -> Warned | None:
    """What is to be noted instead of what was; None: that holds."""
    reached = budget.highest(spent)
    if before is None or reached > before.percent:
        return Warned(reached, now_ms if reached else 0)
    if before.percent and spent * 100 < (before.percent - BELOW) * budget.limit:
        return Warned(reached, now_ms)
    return None


def _warned(value: object) -> Warned | None:
    """None of a budget that nobody looked at yet."""
    if not isinstance(value, bytes):
        return None
    try:
        return msgspec.json.decode(value, type=Warned)
    except msgspec.DecodeError:
        return Warned()
