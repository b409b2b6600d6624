"""Measures what is only read when it is shown, and publishes all metrics, again and again.

Once in COMPARE_S the rates that other dispatchers have are read: a configuration that only some
took over lets a provider be asked for more than it allows, and is told. While Redis is unavailable
the last figures stand.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

import structlog
import trio

from gateway import fleet, telemetry
from gateway.dispatch.apart import Apart
from gateway.dispatch.deps import DispatchDeps
from gateway.dispatch.jobs.archive import ArchiveWatch
from gateway.dispatch.jobs.budgets import BudgetWatch
from gateway.dispatch.jobs.reports import ReportWatch
from gateway.dispatch.recent import Mark, Recent
from gateway.dispatch.worker.worker import ProviderWorker
from gateway.fleet import LIMITS
from gateway.store.installation import snapshots

COMPARE_S = 15.0  # a change reaches all dispatchers sooner

_log = structlog.get_logger("dispatch")


async def run(deps: DispatchDeps, working: Sequence[ProviderWorker]) -> None:
    """Measures and publishes until cancelled."""
    measuring, rates = Measuring(deps, working), RateWatch(deps, [w.name for w in working])
    watches: dict[str, ShownOnly] = {
        "budgets": BudgetWatch(deps),
        "archive": ArchiveWatch(deps),
        "reports": ReportWatch(deps),
    }
    apart = Apart("metrics")  # what is only shown stops nothing
    compare_at = trio.current_time() + COMPARE_S

    async def turn() -> float:
        nonlocal compare_at
        await measuring.measure()
        for name, watch in watches.items():
            await apart.take(name, watch.look, None)
        if deps.publish is not None:
            await deps.publish()
            if trio.current_time() >= compare_at:
                compare_at = trio.current_time() + COMPARE_S
                await rates.look()
        return telemetry.PUBLISH_EVERY_S

    await deps.redis_retry("metrics").for_ever(turn)


class ShownOnly(Protocol):
    async def look(self) -> None:
        """Raises RedisUnavailable."""


class Measuring:
    def __init__(self, deps: DispatchDeps, working: Sequence[ProviderWorker]) -> None:
        self._deps = deps
        self._working = working
        self._recent = {worker.name: Recent() for worker in working}

    async def measure(self) -> None:
        """The store's counts, and how each provider stands. Raises RedisUnavailable."""
        metrics, now = self._deps.metrics, trio.current_time()
        metrics.count_commits(self._deps.store.counts)
        metrics.count_ignored_prices(self._deps.store.ignored_prices.counts)
        handed_over = self._deps.store.handed_over
        metrics.count_handed_over(handed_over)
        sends = metrics.sends(self._recent)
        for worker in self._working:
            name, recent = worker.name, self._recent[worker.name]
            left = await worker.limiter.left()
            metrics.rate.labels(name).set(worker.limiter.rate_per_s)
            metrics.tokens_left.labels(name).set(left)
            recent.note(Mark(now, *sends[name], handed_over[name]))
            metrics.sent_rate.labels(name).set(recent.per_second())
            metrics.failed_recently.labels(name).set(recent.failed())
            metrics.handed_over_recently.labels(name).set(recent.handed_over())
            by = worker.token_source.limited_by(left)
            for limit in LIMITS:
                metrics.limited.labels(name, limit).set(limit == by)


class RateWatch:
    """Compares the rates of dispatchers for some providers."""

    def __init__(self, deps: DispatchDeps, providers: Sequence[str]) -> None:
        self._deps = deps
        self._providers = providers
        self._differing: dict[str, dict[str, int]] = {}

    async def look(self) -> None:
        """Reads what all dispatchers say; what is new is logged. Raises RedisUnavailable."""
        found = await snapshots.gather(self._deps.redis, self._deps.clock(), "dispatch-")
        seen = fleet.by_provider(telemetry.figures(found))
        differing = {
            name: seen[name].rates for name in self._providers if name in seen and seen[name].differ
        }
        for name in self._providers:
            self._deps.metrics.rates_differ.labels(name).set(name in differing)
            if name in differing and differing[name] != self._differing.get(name):
                _log.warning(
                    "dispatchers have different rates",
                    provider=name,
                    rates=differing[name],
                    advice="reload or restart those that have the old configuration",
                )
        self._differing = differing
