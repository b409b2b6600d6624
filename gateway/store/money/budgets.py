"""What is reserved and used of budgets: counted in each shard, leased to processes in shares.

A message reserves in its own transaction, in its own shard, so no key is written by all. That the
sum over the shards stays below the limit is seen to beforehand: a process reserves only of what it
has leased, and what is leased and not reserved counts as gone. A lease is a small part of what is
free, so one serves many batches; near the end it is what is needed, to the last unit, and what is
left of it is given back. So is what a process did not need for LEASE_MS. What one dies with counts
until the epoch in which it was leased is long over (`lua/lease.lua`), as does what nobody knows the
outcome of: a commit that was on its way is applied before that, or never.

A shard's hash of a budget has `reserved`, the end of each part of the window with what was used in
it, and by epoch how much was reserved of what was leased in it. Every call may raise
RedisUnavailable.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from importlib import resources
from typing import NamedTuple, cast

from gateway.core.money.budgets import GONE_MS, Budget, Funds, Lease, Move, named
from gateway.core.money.days import DAY_MS
from gateway.redis.client import Command, RedisClient
from gateway.redis.replies import as_list, pairs
from gateway.redis.script import Script
from gateway.store import shared_keys
from gateway.store.former_shards import shards_ever
from gateway.store.keys import Keys, keys_of

LEASE_MS = 2_000
READ_MS = 1_000  # what was read longer ago is read again before anything is leased by it
PARTS = 256  # of what is free, one is leased at once
EPOCHS_KEPT = 10

_RESERVED = "reserved"
_EPOCH = "epoch:"
LEASE_SCRIPT = resources.files("gateway.store").joinpath("lua", "lease.lua").read_text()
_LEASE = Script(LEASE_SCRIPT)


class Reading(NamedTuple):
    """A budget over all shards: `of_leases` is by epoch what was reserved of its leases, `epoch`
    the one in which it was read, or the one before."""

    reserved: int = 0
    used: int = 0
    of_leases: Mapping[int, int] = {}
    epoch: int = 0

    @property
    def spent(self) -> int:
        """What counts against the limit."""
        return self.reserved + self.used


class Leased(NamedTuple):
    """What the script says."""

    granted: int
    epoch: int
    free: int


class BudgetWrites:
    """What one transaction on a shard changes in budgets, added up."""

    def __init__(self, keys: Keys, budgets: Sequence[Budget], now_ms: int) -> None:
        self._keys = keys
        self._budgets = budgets
        self._now_ms = now_ms
        self._sums: Counter[tuple[str, str]] = Counter()

    def reserve(self, reserved: Mapping[str, int], funds: Funds) -> None:
        for name, amount in reserved.items():
            self._sums[name, _RESERVED] += amount
            self._sums[name, f"{_EPOCH}{funds.epoch(name)}"] += amount

    def move(self, moves: Iterable[Move]) -> None:
        for move in moves:
            self._sums[move.budget, _RESERVED] += move.reserved
            self._sums[move.budget, self._part(move.budget)] += move.used

    def _part(self, name: str) -> str:
        budget = named(self._budgets, name)
        if budget is not None:
            return str(budget.part_end_ms(self._now_ms))
        return str((self._now_ms // DAY_MS + 1) * DAY_MS)

    def commands(self) -> Iterable[Command]:
        for (name, field), amount in self._sums.items():
            if amount:
                yield ("HINCRBY", self._keys.budget(name), field, amount)


class Budgets:
    """What one process has leased, and read last."""

    def __init__(self) -> None:
        self._leases: dict[str, Lease] = {}
        self._read: dict[str, tuple[int, Reading]] = {}

    def funds(self, now_ms: int) -> Funds:
        """For one try at a transaction."""
        return Funds(self._leases, now_ms)

    async def lease(
        self,
        redis: RedisClient,
        budgets: Sequence[Budget],
        shards: int,
        needs: Mapping[str, int],
        now_ms: int,
    ) -> frozenset[str]:
        """Leases so much of each budget, or what there is; those that have not so much. That is
        said only after they were read anew."""
        asked = [budget for budget in budgets if budget.name in needs]
        old = [budget for budget in asked if self._age_ms(budget.name, now_ms) >= READ_MS]
        await self._look(redis, old, shards, now_ms)
        short = [b for b in asked if not await self._lease(redis, b, needs[b.name], now_ms)]
        again = [budget for budget in short if budget not in old]
        await self._look(redis, again, shards, now_ms)
        enough = [b for b in again if await self._lease(redis, b, needs[b.name], now_ms)]
        return frozenset(budget.name for budget in short if budget not in enough)

    async def free(
        self, redis: RedisClient, budgets: Sequence[Budget], shards: int, now_ms: int
    ) -> dict[str, int]:
        """What this process might reserve of each, as of lately; nothing is leased."""
        mine = self.funds(now_ms)
        old = [budget for budget in budgets if self._age_ms(budget.name, now_ms) >= READ_MS]
        await self._look(redis, old, shards, now_ms)
        told = {b.name: await self._ask(redis, b, 0, 0, 0) for b in budgets}
        return {name: each.free + mine.left(name) for name, each in told.items()}

    async def foreseen(
        self, redis: RedisClient, budgets: Sequence[Budget], shards: int, now_ms: int
    ) -> Funds:
        """What a transaction could reserve now, leased to nobody."""
        await self._look(redis, budgets, shards, now_ms)
        free = await self.free(redis, budgets, shards, now_ms)
        leases = {b.name: Lease(free[b.name], now_ms + 1, 0, b.limit) for b in budgets}
        return Funds(leases, now_ms)

    async def give_back(self, redis: RedisClient, names: Iterable[str]) -> None:
        """What is left of these leases is free again at once. By name, so that a simulated day
        that is lived again is the same."""
        runs = []
        for name in sorted(names):
            lease = self._leases.get(name)
            if lease is not None and lease.left > 0:
                left, lease.left = lease.left, 0
                runs.append(([shared_keys.leased(name)], [0, 0, 0, PARTS, left, lease.epoch, 0]))
        if runs:
            await _LEASE.call_many(redis, runs)

    async def give_back_old(self, redis: RedisClient, now_ms: int) -> None:
        """Gives back what was not needed in its time; without a lease nothing is asked."""
        old = [n for n, each in self._leases.items() if each.left and now_ms >= each.until_ms]
        await self.give_back(redis, old)

    def _age_ms(self, name: str, now_ms: int) -> int:
        found = self._read.get(name)
        return READ_MS if found is None else now_ms - found[0]

    async def _look(
        self, redis: RedisClient, budgets: Sequence[Budget], shards: int, now_ms: int
    ) -> None:
        """A process may stand still before it leases by what it read: how old that is says Redis'
        clock. (One that did so for three minutes had 130,000 reserved of 92,000; 2026-11-30.)"""
        if not budgets:
            return
        key = shared_keys.leased(budgets[0].name)
        begun = Leased(*cast("list[int]", await _LEASE.call(redis, [key], [0] * 7)))
        found = await read(redis, budgets, shards, now_ms)
        for name, reading in found.items():
            self._read[name] = now_ms, reading._replace(epoch=begun.epoch)

    async def _lease(self, redis: RedisClient, budget: Budget, need: int, now_ms: int) -> bool:
        """Takes a new lease for what is left of the former; whether it is as much as needed."""
        lease = self._leases.setdefault(budget.name, Lease())
        left, lease.left = lease.left, 0
        told = await self._ask(redis, budget, need, left, lease.epoch)
        if told.epoch != lease.epoch:
            lease.left = 0  # what another task leased a moment ago, in the epoch before
        lease.left += told.granted
        lease.epoch, lease.until_ms = told.epoch, now_ms + LEASE_MS
        lease.taken = budget.limit - told.free + told.granted
        return told.granted >= need

    async def _ask(
        self, redis: RedisClient, budget: Budget, need: int, left: int, epoch: int
    ) -> Leased:
        _, reading = self._read[budget.name]
        by_epoch = [part for pair in reading.of_leases.items() for part in pair]
        told = await _LEASE.call(
            redis,
            [shared_keys.leased(budget.name)],
            [budget.limit, reading.spent, need, PARTS, left, epoch, reading.epoch, *by_epoch],
        )
        return Leased(*cast("list[int]", told))


async def read(
    redis: RedisClient, budgets: Sequence[Budget], shards: int, now_ms: int
) -> dict[str, Reading]:
    """What is reserved and used of each budget."""
    ever = await shards_ever(redis, shards)
    asked = [(budget, keys_of(shard).budget(budget.name)) for budget in budgets for shard in ever]
    found = {budget.name: Counter[str]() for budget in budgets}
    replies = await redis.call([("HGETALL", key) for _, key in asked]) if asked else []
    for (budget, _), reply in zip(asked, replies, strict=True):
        for field, amount in pairs(as_list(reply)):
            found[budget.name][field.decode()] += int(amount)
    return {budget.name: _reading(found[budget.name], budget, now_ms) for budget in budgets}


def _reading(fields: Mapping[str, int], budget: Budget, now_ms: int) -> Reading:
    since_ms = budget.since_ms(now_ms)
    used = sum(n for f, n in fields.items() if f.isdigit() and int(f) > since_ms)
    of_leases = {
        int(field.removeprefix(_EPOCH)): amount
        for field, amount in fields.items()
        if field.startswith(_EPOCH)
    }
    return Reading(fields.get(_RESERVED, 0), used, of_leases)


async def tidy(redis: RedisClient, budgets: Sequence[Budget], shards: int, now_ms: int) -> None:
    """Drops what counts no more: parts a window after they left it, epochs that are long over, and
    budgets that the configuration has no more, once nothing is reserved under their name and
    nothing was used for GONE_MS."""
    (listed,) = await redis.call([("HKEYS", shared_keys.BUDGETS)])
    if not listed:
        return
    ever = await shards_ever(redis, shards)
    for raw in sorted(as_list(listed)):
        name = raw.decode(errors="replace")
        budget = named(budgets, name)
        hashes = [keys_of(shard).budget(name) for shard in ever]
        replies = await redis.call([("HGETALL", key) for key in hashes])
        found = [{f.decode(): int(n) for f, n in pairs(as_list(reply))} for reply in replies]
        before_ms = now_ms - GONE_MS if budget is None else budget.kept_since_ms(now_ms)
        drops: list[Command]
        if budget is None and _is_over(found, before_ms):
            drops = [("DEL", key) for key in (*hashes, shared_keys.leased(name))]
            drops.append(("HDEL", shared_keys.BUDGETS, raw))
        else:
            old = [_old(fields, before_ms) for fields in found]
            drops = [("HDEL", key, *o) for key, o in zip(hashes, old, strict=True) if o]
        if drops:
            await redis.call(drops)


def _old(fields: Mapping[str, int], before_ms: int) -> list[str]:
    epochs = [int(f.removeprefix(_EPOCH)) for f in fields if f.startswith(_EPOCH)]
    least = max(epochs, default=0) - EPOCHS_KEPT
    parts = [f for f in fields if f.isdigit() and int(f) <= before_ms]
    return parts + [f"{_EPOCH}{epoch}" for epoch in epochs if epoch < least]


def _is_over(found: Sequence[Mapping[str, int]], before_ms: int) -> bool:
    parts = (int(field) for fields in found for field in fields if field.isdigit())
    reserved = sum(fields.get(_RESERVED, 0) for fields in found)
    return not reserved and max(parts, default=0) <= before_ms
