"""What providers may cost in a window: reserved at acceptance, used as it is booked, the rest
released when the message is final. Pure.

A message reserves the dearest candidate of each step that may run, in every budget that counts it,
as a pending transfer would: all of it or nothing. What settlement books is used, and is taken from
what the message has reserved for as long as there is any. So the sum of both never exceeds the
limit, but for what was not reserved: a late price, a late double delivery, a message from before
there was the budget. A message remembers the budgets it was reserved in, by name: it is booked in
these whatever the configuration says meanwhile, and in those that count it now.

A budget is an account of a provider's cost and no ledger: nothing here is booked, billed or added
to a report. Reservations are no ledger lines either, although the contract has words for such: the
ledger stands for ever, two lines a message would double it, and what is reserved says the record of
the message while it is.
"""

from __future__ import annotations

import datetime
from collections.abc import Container, Iterable, Mapping, Sequence
from functools import lru_cache
from typing import Literal, NamedTuple, Protocol

import msgspec

from gateway.core.money.days import DAY_MS, Days
from gateway.core.records.entries import Post
from gateway.core.records.message import Message, Step, StepStatus
from providers.contract import Category

Then = Literal["hold", "refuse"]

COST = "cost"  # the measure that is used up
WINDOW_PARTS = 100  # what is used is counted for at most so much of the window too long
# How long what was used under a name is remembered that no budget has: it may come back.
GONE_MS = 62 * DAY_MS


class Spender(Protocol):
    """What a request and a message say of which budgets count them."""

    @property
    def app(self) -> str: ...

    @property
    def campaign(self) -> str | None: ...

    @property
    def category(self) -> Category: ...

    @property
    def country(self) -> str: ...


class Budget(msgspec.Struct, frozen=True):
    """`limit` in 1e-6 units; `window_ms` 0: a calendar month of the zone. A filter that is None
    counts everything; `channel` counts the steps of one."""

    name: str
    limit: int
    window_ms: int
    window: str  # as configured
    then: Then = "hold"
    warn: tuple[int, ...] = ()  # per cent, ascending
    app: str | None = None
    campaign: str | None = None
    category: Category | None = None
    country: str | None = None
    channel: str | None = None
    zone: str = "UTC"

    def counts(self, about: Spender) -> bool:
        return (
            self.app in (None, about.app)
            and self.campaign in (None, about.campaign)
            and self.category in (None, about.category)
            and self.country in (None, about.country)
        )

    def counts_on(self, channel: str) -> bool:
        return self.channel in (None, channel)

    def since_ms(self, now_ms: int) -> int:
        """What was used in a part of the window counts that ends after this moment."""
        if self.window_ms:
            return now_ms - self.window_ms
        return _month_ms(now_ms, 0, self.zone)

    def kept_since_ms(self, now_ms: int) -> int:
        """What ended before is forgotten: a window longer than it counts, and a day for clocks that
        do not agree."""
        since_ms = self.since_ms(now_ms)
        return since_ms - (now_ms - since_ms) - DAY_MS

    def part_end_ms(self, now_ms: int) -> int:
        """When the part of the window ends to which belongs what is used now."""
        if self.window_ms:
            part_ms = max(self.window_ms // WINDOW_PARTS, 1)
            return (now_ms // part_ms + 1) * part_ms
        return _month_ms(now_ms, 1, self.zone)

    def highest(self, used: int) -> int:
        """The highest of the warnings that so much reaches; 0: none."""
        return max((p for p in self.warn if used * 100 >= p * self.limit), default=0)


def named(budgets: Iterable[Budget], name: str) -> Budget | None:
    return next((budget for budget in budgets if budget.name == name), None)


def _month_ms(now_ms: int, later: int, zone: str) -> int:
    """When a month of the zone begins: the one of a moment, or a later one."""
    days = _days(zone)
    today = days.of(now_ms)
    year, month = divmod(today.year * 12 + today.month - 1 + later, 12)
    return days.begins_ms(datetime.date(year, month + 1, 1))


_days = lru_cache(maxsize=4)(Days)


class Move(NamedTuple):
    """What a decision changes in a budget: what is reserved, and what was used."""

    budget: str
    reserved: int = 0
    used: int = 0


class Lease(msgspec.Struct):
    """What a process may still reserve of a budget, until a moment; granted in `epoch`. `taken` is
    how much of the budget was not free for others when that was granted."""

    left: int = 0
    until_ms: int = 0
    epoch: int = 0
    taken: int = 0


class Lacking(NamedTuple):
    """What could not be reserved: `full` is the budget that is full; else so much of each budget
    has to be leased before it can be decided."""

    full: str = ""
    needs: Mapping[str, int] = {}


class Funds:
    """What one try at a batch of decisions may reserve. Trying again begins with `undo`."""

    def __init__(self, leases: Mapping[str, Lease], now_ms: int) -> None:
        self._leases = leases
        self._now_ms = now_ms
        self._taken: list[tuple[Lease, int, int]] = []

    def left(self, budget: str) -> int:
        lease = self._leases.get(budget)
        return lease.left if lease is not None and self._now_ms < lease.until_ms else 0

    def spent(self, budget: str) -> int:
        """How much of it was reserved and used, as far as is known here."""
        lease = self._leases.get(budget)
        return lease.taken - lease.left if lease is not None else 0

    def epoch(self, budget: str) -> int:
        """In which what is left of it was granted."""
        return self._leases[budget].epoch

    def take(self, needs: Mapping[str, int], told_full: Container[str] = ()) -> Lacking | None:
        """Reserves all of it, or nothing and says what is lacking. `needs` are in the order of the
        configuration; `told_full` have no more than what is leased."""
        lacking = {name: need for name, need in needs.items() if need > self.left(name)}
        if not lacking:
            for name, need in needs.items():
                lease = self._leases[name]
                lease.left -= need
                self._taken.append((lease, lease.epoch, need))
            return None
        first = next(iter(lacking))
        if first in told_full:
            return Lacking(full=first)
        return Lacking(needs={n: need for n, need in lacking.items() if n not in told_full})

    def undo(self) -> None:
        """Nothing of it was written. What was leased anew meanwhile is another lease, and what was
        taken from the former stays taken until that is forgotten."""
        for lease, epoch, need in self._taken:
            if lease.epoch == epoch:
                lease.left += need
        self._taken.clear()


NO_FUNDS = Funds({}, 0)


def needs_of(about: Spender, steps: Iterable[Step], budgets: Iterable[Budget]) -> dict[str, int]:
    """What a message has to reserve in each budget that counts it: the dearest candidate of every
    step that may run."""
    dearest = [
        (step.channel, max(candidate.cost for candidate in step.candidates) * step.parts)
        for step in steps
        if step.status != StepStatus.SKIPPED
    ]
    needs = {
        budget.name: sum(cost for channel, cost in dearest if budget.counts_on(channel))
        for budget in budgets
        if budget.counts(about)
    }
    return {name: need for name, need in needs.items() if need}


def settle(message: Message, posts: Sequence[Post], budgets: Sequence[Budget]) -> list[Move]:
    """What the bookings of a decision use up, and what is released where the message is final. The
    message's record is changed."""
    reserved = message.reserved
    costs = [(post.group.channel, post.measures[COST]) for post in posts if COST in post.measures]
    moves: list[Move] = []
    if costs:
        for name, used in _used(message, costs, budgets).items():
            released = min(max(used, 0), reserved.get(name, 0))
            if released:
                reserved[name] -= released
            moves.append(Move(name, -released, used))
    if message.closed:
        for name, rest in reserved.items():
            if rest:
                moves.append(Move(name, -rest))
                reserved[name] = 0
    return moves


def settle_apart(post: Post, budgets: Iterable[Budget]) -> list[Move]:
    """What a booking of no message uses up: of the budgets that count everything, or its
    channel."""
    every = [b for b in budgets if (b.app, b.campaign, b.category, b.country) == (None,) * 4]
    return [
        Move(budget.name, used=post.measures[COST])
        for budget in every
        if budget.counts_on(post.group.channel)
    ]


def _used(
    message: Message, costs: Sequence[tuple[str, int]], budgets: Sequence[Budget]
) -> dict[str, int]:
    """How much each budget counts of these costs, by their channels."""
    used: dict[str, int] = {}
    known = set()
    for budget in budgets:
        known.add(budget.name)
        if budget.name in message.reserved or budget.counts(message):
            used[budget.name] = sum(cost for channel, cost in costs if budget.counts_on(channel))
    gone = message.reserved.keys() - known
    return used | {name: sum(cost for _, cost in costs) for name in sorted(gone)}
