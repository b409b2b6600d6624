"""Looks at how scheduled reports are: how many could not be handed over when they were last tried.

A part of measuring, in every dispatcher; without a schedule nothing is asked.
"""

from __future__ import annotations

import trio

from gateway.dispatch.deps import DispatchDeps
from gateway.store.money import scheduled_reports

LOOK_S = 15.0


class ReportWatch:
    def __init__(self, deps: DispatchDeps) -> None:
        self._deps = deps
        self._look_at = trio.current_time()

    async def look(self) -> None:
        """Raises RedisUnavailable."""
        wanted = self._deps.schedules
        if not wanted or trio.current_time() < self._look_at:
            return
        self._look_at = trio.current_time() + LOOK_S
        states = await scheduled_reports.states(self._deps.redis)
        failing = sum(states[name].failed_ms > 0 for name in wanted.intersection(states))
        self._deps.metrics.reports_failing.set(failing)
