"""Looks at how full budgets are: shows it, tells what was crossed, and drops what counts no more.

A part of measuring, in every dispatcher; without budgets it is asked once a minute what is left of
former ones. A warning is told by one of them.
"""

from __future__ import annotations

import structlog

from gateway.dispatch.deps import DispatchDeps
from gateway.store.money import budget_warnings, budgets

TIDY_MS = 60_000

_log = structlog.get_logger("dispatch")


class BudgetWatch:
    def __init__(self, deps: DispatchDeps) -> None:
        self._deps = deps
        self._shown: set[str] = set()
        self._tidy_ms = 0

    async def look(self) -> None:
        """Raises RedisUnavailable."""
        store, now_ms = self._deps.store, self._deps.clock()
        configured = store.policy.budgets
        if now_ms >= self._tidy_ms:
            await budgets.tidy(store.redis, configured, store.shards, now_ms)
            self._tidy_ms = now_ms + TIDY_MS
        if not configured and not self._shown:
            return
        found = await budgets.read(store.redis, configured, store.shards, now_ms)
        standing = {budget: found[budget.name] for budget in configured}
        if standing:
            for told in await budget_warnings.look(store.redis, standing, now_ms):
                _log.warning("budget_warning", **told.said())
        warned = await budget_warnings.read(store.redis, found)
        metrics = self._deps.metrics
        for name in self._shown - found.keys():
            metrics.budget_used.remove(name)
            metrics.budget_warned.remove(name)
        for budget, reading in standing.items():
            metrics.budget_used.labels(budget.name).set(reading.spent * 100 // budget.limit)
            metrics.budget_warned.labels(budget.name).set(warned[budget.name].percent)
        self._shown = set(found)
