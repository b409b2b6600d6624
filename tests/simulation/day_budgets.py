"""The budgets of a simulated day: one process that leases all that is free, as decisions see it.

Each is held against its limit whenever it changes. What nobody can foresee may exceed it: a charge
beyond what its message had reserved, as of a receipt that comes when all is over.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence

from gateway.core.money.budgets import Budget, Funds, Lease, Move

EVER_MS = 10**14


class DayBudgets:
    """What of each is reserved, and when what was used."""

    def __init__(self, budgets: Sequence[Budget]) -> None:
        self.names = frozenset(budget.name for budget in budgets)
        self.waiting: list[str] = []  # messages, in the order in which they came
        self.reserved = Counter[str]()
        self.used: dict[str, list[tuple[int, int]]] = {name: [] for name in self.names}
        self.unforeseen = Counter[str]()
        self._budgets = budgets

    def funds(self, now_ms: int) -> Funds:
        """All that is free."""
        leases = {}
        for budget in self._budgets:
            free = max(budget.limit - self.spent(budget, now_ms), 0)
            leases[budget.name] = Lease(free, EVER_MS, taken=budget.limit)
        return Funds(leases, now_ms)

    def spent(self, budget: Budget, now_ms: int) -> int:
        since_ms = budget.since_ms(now_ms)
        used = sum(amount for at_ms, amount in self.used[budget.name] if at_ms > since_ms)
        return self.reserved[budget.name] + used

    def reserve(self, amounts: Mapping[str, int], now_ms: int) -> None:
        self.reserved.update(amounts)
        self._check(now_ms)

    def move(self, moves: Iterable[Move], now_ms: int) -> None:
        for move in moves:
            self.reserved[move.budget] += move.reserved
            if move.used:
                self.used[move.budget].append((now_ms, move.used))
                self.unforeseen[move.budget] += max(move.used + move.reserved, 0)
        self._check(now_ms)

    def _check(self, now_ms: int) -> None:
        for budget in self._budgets:
            spent, beyond = self.spent(budget, now_ms), self.unforeseen[budget.name]
            assert self.reserved[budget.name] >= 0
            assert spent <= budget.limit + beyond, f"{budget.name}: {spent} of {budget.limit}"
