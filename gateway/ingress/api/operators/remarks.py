"""What an operator should look at now, in sentences: of `kaskad status` and the console.

What is told here of a moment, the alerts of `config/monitoring` tell of a while; the bounds are
theirs. Pure.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping

import msgspec

from gateway import telemetry
from gateway.core.views.words import rfc3339
from gateway.ingress.api.operators.ops_view import (
    ArchiveState,
    Fleet,
    LaneView,
    OpsView,
    ProviderView,
    WebhookState,
)
from gateway.ingress.api.reports.schedule_view import ScheduledReport
from gateway.store.events.outbox import WAITING_MAX

FILLING_PERCENT = 65  # of a Redis' memory
LANE_OLD_S = {"otp": 5, "transactional": 1_800, "marketing": 1_800}
ARCHIVE_BEHIND_MS = 10_800_000
REPORT_LATE_MS = 600_000


def remarks(
    view: OpsView, shared: Fleet, processes: Mapping[str, str], now_ms: int
) -> Iterator[str]:
    """One a sentence; `processes` are the versions of all that run, by name."""
    yield from _of_processes(view, processes)
    yield from _of_redis(view)
    for name, figures in sorted(shared.figures.items()):
        if figures.differ:
            rates = ", ".join(f"{rate}/s at {who}" for who, rate in sorted(figures.rates.items()))
            yield f"Dispatchers have different rates for {name}: {rates}. Reload the old ones."
    for name, provider in view.providers.items():
        yield from _of_provider(name, provider)
    for lane in view.lanes:
        yield from _of_lane(lane)
    for budget in view.budgets:
        if budget.warned:
            used = f"{budget.used} of {budget.limit} {budget.currency}"
            yield f"The budget {budget.name} has crossed {budget.warned} %: {used} are used."
    yield from _of_webhooks(view.webhooks)
    if view.archive is not None:
        yield from _of_archive(view.archive, rfc3339(now_ms - ARCHIVE_BEHIND_MS))
    for report in view.reports:
        yield from _of_report(report, rfc3339(now_ms - REPORT_LATE_MS))


def _of_processes(view: OpsView, processes: Mapping[str, str]) -> Iterator[str]:
    roles = [telemetry.role_of(name) for name in processes]
    if "ingress" not in roles:
        yield "No ingress runs: nothing is taken."
    if "dispatch" not in roles:
        yield "No dispatcher runs: nothing is sent."
    if len(set(processes.values())) > 1:
        yield "Processes of several versions run: end the upgrade."
    if (drain := view.drain) is not msgspec.UNSET:
        rest = "the lanes are empty" if drain.empty else f"{drain.waiting} messages wait in lanes"
        yield f"New messages are refused since {drain.since} by {drain.by}: {rest}."


def _of_redis(view: OpsView) -> Iterator[str]:
    for server in view.redis.servers:
        full = f"Redis, shard {server.shard}, is {server.used_percent} % full"
        if server.refuses is not None:
            new = "all new messages are" if server.refuses == "everything" else "new marketing is"
            yield f"{full}: {new} refused."
        elif server.used_percent is not None and server.used_percent >= FILLING_PERCENT:
            yield f"{full}."


def _of_provider(name: str, provider: ProviderView) -> Iterator[str]:
    if (pause := provider.paused) is not None:
        by = f" by {pause.by}" if pause.by else ""
        yield f"{name} is paused{by} since {pause.since} ({pause.kind}): {pause.detail or '-'}"
    if provider.sessions == 0:
        yield f"{name} has no session: nothing can be sent by it."
    if (rate := provider.temporary_rate) is not msgspec.UNSET:
        yield f"{name} has {rate.rate}/s until {rate.until} by {rate.by}."


def _of_lane(lane: LaneView) -> Iterator[str]:
    if lane.length and lane.age > LANE_OLD_S[lane.category]:
        waiting = f"{lane.length} {lane.category} messages wait for {lane.provider}"
        yield f"{waiting}, the oldest for {lane.age:.0f} s."


def _of_archive(archive: ArchiveState, behind: str) -> Iterator[str]:
    if archive.failed_at is not None:
        yield f"The archive's last run failed at {archive.failed_at}: {archive.reason or '-'}"
    if archive.waiting_since is not None and archive.waiting_since <= behind:
        yield f"What was booked since {archive.waiting_since} is not archived yet."


def _of_report(report: ScheduledReport, late: str) -> Iterator[str]:
    if report.failed_at is not None:
        yield f"The report {report.name} failed at {report.failed_at}: {report.reason or '-'}"
    elif report.due_at <= late:
        what = f"The report {report.name} of {report.next} is due since {report.due_at}"
        yield f"{what} and nobody makes it: start `kaskad report run`."


def _of_webhooks(webhooks: Iterable[WebhookState]) -> Iterator[str]:
    for webhook in webhooks:
        which, waits = f"{webhook.name} of {webhook.app}", f"{webhook.waiting} events wait"
        if webhook.disabled is not None:
            yield f"The webhook {which} is disabled ({webhook.disabled}): {waits}."
        elif webhook.enabled and webhook.dead:
            yield f"The webhook {which} has taken nothing since {webhook.failing_since}: {waits}."
        elif webhook.enabled and webhook.behind:
            beyond = f"beyond {WAITING_MAX} the oldest leave"
            yield f"The webhook {which} is behind: {waits}, and {beyond}."
