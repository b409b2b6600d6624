"""How scheduled reports stand, as operators are shown them. Pure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import msgspec

from gateway.core.money.days import Days
from gateway.core.views.words import Time, rfc3339
from gateway.finance.reports.schedule import ReportSchedule
from gateway.store.money.scheduled_reports import ScheduleState


class ScheduledReport(msgspec.Struct, frozen=True):
    """A report that is made by the clock: of which period the last was handed over and when, of
    which the next is and when it is due (a moment that is over: nobody has made it), and when and
    why a try failed if none succeeded since."""

    name: str
    made: str | None
    made_at: Time | None
    next: str
    due_at: Time
    failed_at: Time | None
    reason: str | None


def reports_of(
    schedules: Sequence[ReportSchedule],
    states: Mapping[str, ScheduleState],
    days: Days,
    now_ms: int,
) -> list[ScheduledReport]:
    """Those of the configuration, in its order."""
    never = ScheduleState()
    return [_report(each, states.get(each.name, never), days, now_ms) for each in schedules]


def _report(
    schedule: ReportSchedule, state: ScheduleState, days: Days, now_ms: int
) -> ScheduledReport:
    period = schedule.coming(state.through_day, days, now_ms)
    return ScheduledReport(
        schedule.name,
        state.made or None,
        _moment(state.made_ms),
        period.name,
        rfc3339(max(schedule.due_ms(period, days), state.again_ms)),
        _moment(state.failed_ms),
        state.reason or None,
    )


def _moment(at_ms: int) -> Time | None:
    return rfc3339(at_ms) if at_ms else None
