"""How an installation is at this moment, as `GET /v1/ops` and `kaskad status` show it."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Literal

import msgspec

from gateway import fleet, telemetry
from gateway.core.policy import Policy
from gateway.core.views.words import Time, rfc3339
from gateway.core.webhooks import DEAD_MS
from gateway.finance.reports.schedule import ReportSchedule
from gateway.fleet import Limit, ProviderFigures
from gateway.ingress.api.campaigns.budgets import BudgetView, views_of
from gateway.ingress.api.operators.health import PauseView, RedisServer, server_shown
from gateway.ingress.api.reports.schedule_view import ScheduledReport, reports_of
from gateway.ingress.intake.server_watch import WatchedServer
from gateway.redis.client import RedisClient
from gateway.store.archive import archiving
from gateway.store.events import outbox, webhook_queues
from gateway.store.former_shards import shards_ever
from gateway.store.installation import drains, snapshots
from gateway.store.installation.drains import Drain
from gateway.store.money import scheduled_reports
from gateway.store.providers import pauses, temporary_rates
from gateway.store.providers.pauses import Pause
from gateway.store.providers.temporary_rates import TemporaryRate
from gateway.store.store import Store
from gateway.store.waiting.lanes import LaneState
from gateway.telemetry import Figure
from gateway.version import VERSION


class RateView(msgspec.Struct, frozen=True):
    """An operator's rate for a while, in messages a second: since when, until when, and whose."""

    rate: int
    since: Time
    until: Time
    by: str

    @classmethod
    def of(cls, rate: TemporaryRate) -> RateView:
        return cls(rate.rate_per_s, rfc3339(rate.since), rfc3339(rate.until), rate.by)


class DrainView(msgspec.Struct, frozen=True):
    """Whether new messages are refused everywhere: since when, by whom and why. `waiting` are the
    messages in all lanes, those that are being sent included; `empty`: there are none, and none can
    come by a new message."""

    draining: bool
    since: Time | None
    by: str | None
    reason: str | None
    waiting: int
    empty: bool


class ChannelShare(msgspec.Struct, frozen=True):
    """What a provider has of the steps that name its channel: `configured` by the weights, `now`
    without those that are left out, each a part of 1. `left_out` is why it is one of them, the kind
    of its pause or `retired`. `handed_over` are the steps of the last minute that others took over
    from it."""

    weight: int
    configured: float
    now: float
    left_out: str | None
    handed_over: int


class ProviderView(msgspec.Struct, frozen=True):
    """A provider, over all dispatchers. `rate` and `used` are messages a second, `in_flight` those
    whose outcome is not recorded yet, `errors` the sends of the last minute that were not accepted.
    `limited_by` says what keeps more from being sent; null: nothing does.
    `temporary_rate` is there while an operator's holds, `sessions` are those bound, of a provider
    that is spoken to over sessions of an account, and `share` is there where providers share a
    channel."""

    channel: str
    state: Literal["up", "paused", "retired"]
    paused: PauseView | None
    limited_by: Limit | None
    rate: int | None
    used: float
    in_flight: int
    errors: int
    temporary_rate: RateView | msgspec.UnsetType = msgspec.UNSET
    sessions: int | msgspec.UnsetType = msgspec.UNSET
    share: ChannelShare | msgspec.UnsetType = msgspec.UNSET


class LaneView(msgspec.Struct, frozen=True):
    """What waits for a provider: how many messages, and the seconds since the first came."""

    provider: str
    category: str
    length: int
    age: float


class RedisView(msgspec.Struct, frozen=True):
    """The Redis servers behind it."""

    servers: list[RedisServer]


class WebhookState(msgspec.Struct, frozen=True):
    """An app's webhook: how many events wait, and since when no try succeeded. `disabled` says why
    we disabled it; `dead`: none succeeded for an hour; `behind`: half of what may waits."""

    app: str
    name: str
    enabled: bool
    disabled: str | None
    waiting: int
    failing_since: Time | None
    dead: bool
    behind: bool


class ArchiveState(msgspec.Struct, frozen=True):
    """How the archive is: when its last good run ended, when the last one failed if none followed,
    and why; and when the oldest booking was made that is not in it."""

    files: int
    last_run_at: Time | None
    failed_at: Time | None
    reason: str | None
    waiting_since: Time | None


class OpsView(msgspec.Struct, frozen=True):
    """How everything is at this moment. `archive` is null where there is none, `reports` are those
    of `[[reports.schedule]]`. `drain` is there
    while the installation drains."""

    version: str
    providers: dict[str, ProviderView]
    lanes: list[LaneView]
    redis: RedisView
    budgets: list[BudgetView]
    webhooks: list[WebhookState]
    archive: ArchiveState | None
    reports: list[ScheduledReport]
    drain: DrainView | msgspec.UnsetType = msgspec.UNSET


class Fleet(msgspec.Struct, frozen=True):
    """What the processes of an installation share in Redis."""

    figures: Mapping[str, ProviderFigures]
    paused: Mapping[str, Pause]
    rates: Mapping[str, TemporaryRate]
    drain: Drain | None
    budgets: Sequence[BudgetView]
    webhooks: Sequence[WebhookState]
    archive: ArchiveState | None
    reports: Sequence[ScheduledReport]


async def read_fleet(store: Store, schedules: Sequence[ReportSchedule], now_ms: int) -> Fleet:
    """What dispatchers say, and what operators did. Raises RedisUnavailable."""
    found = await snapshots.gather(store.redis, now_ms, "dispatch-")
    return await fleet_of(store, telemetry.figures(found), schedules, now_ms)


async def fleet_of(
    store: Store, figures: Iterable[Figure], schedules: Sequence[ReportSchedule], now_ms: int
) -> Fleet:
    """The same, from figures that were read. Raises RedisUnavailable."""
    redis, policy = store.redis, store.policy
    return Fleet(
        fleet.by_provider(figures),
        await pauses.read(redis, policy.former),
        await temporary_rates.read(redis, policy.providers, policy.former),
        await drains.read(redis),
        await views_of(store, policy.budgets, now_ms),
        await _webhooks(store, now_ms),
        await _archive(redis, store.shards),
        reports_of(schedules, await scheduled_reports.states(redis), policy.days, now_ms),
    )


async def _archive(redis: RedisClient, shards: int) -> ArchiveState | None:
    state = await archiving.state(redis)
    if state == archiving.ArchiveRuns():
        return None
    since_ms = await archiving.waiting_since(redis, await shards_ever(redis, shards))
    moments = (state.done_ms, state.failed_ms, since_ms)
    done_at, failed_at, since = (rfc3339(at_ms) if at_ms else None for at_ms in moments)
    return ArchiveState(state.files, done_at, failed_at, state.reason or None, since)


async def _webhooks(store: Store, now_ms: int) -> list[WebhookState]:
    await store.webhooks.look(store.redis)
    every = sorted(store.webhooks.now.every.items())
    states = await webhook_queues.states(store.redis, [webhook.id for _, webhook in every])
    return [
        WebhookState(
            app,
            name,
            webhook.enabled,
            webhook.why or None,
            state.waiting,
            rfc3339(state.failing_ms) if state.failing_ms else None,
            dead=state.failing_ms is not None and now_ms - state.failing_ms >= DEAD_MS,
            behind=state.waiting >= outbox.BEHIND,
        )
        for ((app, name), webhook), state in zip(every, states, strict=True)
    ]


def view_of(
    policy: Policy,
    shared: Fleet,
    lanes: Mapping[tuple[str, str], LaneState],
    servers: Iterable[WatchedServer],
    now_ms: int,
) -> OpsView:
    """All of it. Pure."""
    return OpsView(
        VERSION,
        {name: _provider(policy, shared, name) for name in sorted(policy.providers)},
        [LaneView(*lane, state.length, state.age_ms / 1000) for lane, state in lanes.items()],
        RedisView([server_shown(server) for server in servers]),
        list(shared.budgets),
        list(shared.webhooks),
        shared.archive,
        list(shared.reports),
        msgspec.UNSET if shared.drain is None else drain_view(shared.drain, lanes, now_ms),
    )


def drain_view(
    drain: Drain | None, lanes: Mapping[tuple[str, str], LaneState], now_ms: int
) -> DrainView:
    """How far a drain is; None: there is none. Pure."""
    waiting = sum(state.length for state in lanes.values())
    if drain is None:
        return DrainView(False, None, None, None, waiting, False)
    since, empty = rfc3339(drain.since), not waiting
    empty = empty and now_ms >= drain.since + drains.HOLDS_WITHIN_MS
    return DrainView(True, since, drain.by, drain.reason, waiting, empty)


def _provider(policy: Policy, shared: Fleet, name: str) -> ProviderView:
    rule, pause, rate = policy.providers[name], shared.paused.get(name), shared.rates.get(name)
    figures = shared.figures.get(name, ProviderFigures())
    return ProviderView(
        channel=rule.channel,
        state="retired" if rule.retired else "up" if pause is None else "paused",
        paused=None if pause is None else PauseView.of(name, pause),
        limited_by=figures.limited_by if pause is None else "pause",
        rate=max(figures.rates.values(), default=None),
        used=round(figures.used, 1),
        in_flight=figures.in_flight,
        errors=figures.failed,
        temporary_rate=msgspec.UNSET if rate is None else RateView.of(rate),
        sessions=msgspec.UNSET if figures.sessions is None else figures.sessions,
        share=_share(policy, shared, name, figures),
    )


def _share(
    policy: Policy, shared: Fleet, name: str, figures: ProviderFigures
) -> ChannelShare | msgspec.UnsetType:
    rule = policy.providers[name]
    if rule.channel not in policy.shared:
        return msgspec.UNSET
    of_channel = {
        other: each for other, each in policy.providers.items() if each.channel == rule.channel
    }
    able = {other for other, each in of_channel.items() if each.shares} - shared.paused.keys()
    pause = shared.paused.get(name)
    return ChannelShare(
        rule.weight,
        _part(rule.weight, sum(each.weight for each in of_channel.values())),
        _part(rule.weight, sum(of_channel[other].weight for other in able)) * (name in able),
        "retired" if rule.retired else None if pause is None else pause.kind,
        figures.handed_over,
    )


def _part(weight: int, total: int) -> float:
    return round(weight / total, 4) if total else 0.0
