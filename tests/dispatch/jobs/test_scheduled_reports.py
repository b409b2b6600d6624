"""What a dispatcher shows of reports by the clock: how many of them fail."""

from __future__ import annotations

from unittest import mock

from msgspec.structs import replace

from gateway.dispatch.jobs import reports
from gateway.dispatch.jobs.reports import LOOK_S, ReportWatch
from gateway.store.money import scheduled_reports
from gateway.store.money.scheduled_reports import ScheduleState
from tests.worlds.dispatch_world import SetClock, under_trio, world

clock = SetClock()
SERIES = "kaskad_dispatch_reports_failing"


@under_trio
@mock.patch.object(reports, "trio", clock)
async def test_those_that_fail_and_are_still_configured_stand_in_the_metrics(
    redis_url: str,
) -> None:
    async with world(redis_url) as w:
        failed = ScheduleState(tries=2, failed_ms=1, again_ms=2, reason="the disk is full")
        for name in ("daily", "monthly", "gone"):
            await scheduled_reports.note(w.redis, name, ScheduleState(), failed)
        deps = w.deps()
        shared = deps.metrics.registries.shared
        await ReportWatch(deps).look()
        assert shared.get_sample_value(SERIES) == 0, "none is configured"

        watch = ReportWatch(replace(deps, schedules=frozenset(("daily", "monthly", "new"))))
        await watch.look()
        assert shared.get_sample_value(SERIES) == 2
        await scheduled_reports.note(w.redis, "daily", failed, ScheduleState("2026-11-28"))
        await watch.look()
        assert shared.get_sample_value(SERIES) == 2, "it looks again later"
        clock.now += LOOK_S
        await watch.look()
        assert shared.get_sample_value(SERIES) == 1
