"""How an installation is at this moment, as `GET /v1/ops` and `kaskad status` show it."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Literal

import msgspec

from gateway import fleet, telemetry
from gateway.core.policy import Policy
from gateway.fleet import Limit, ProviderFigures
from gateway.ingress.api.budgets import BudgetView
from gateway.ingress.api.health import PauseView, RedisServer
from gateway.redis.client import RedisClient
from gateway.store import pauses, snapshots
from gateway.store.lanes import LaneState
from gateway.store.pauses import Pause
from gateway.version import VERSION


class ProviderView(msgspec.Struct, frozen=True):
    """A provider, over all dispatchers. `rate` and `used` are messages a second, `in_flight` those
    whose outcome is not recorded yet, `errors` the sends of the last minute that were not accepted.
    `limited_by` says what keeps more from being sent; null: nothing does."""

    channel: str
    state: Literal["up", "paused", "retired"]
    paused: PauseView | None
    limited_by: Limit | None
    rate: int | None
    used: float
    in_flight: int
    errors: int


class LaneView(msgspec.Struct, frozen=True):
    """What waits for a provider: how many messages, and the seconds since the first came."""

    provider: str
    category: str
    length: int
    age: float


class RedisView(msgspec.Struct, frozen=True):
    """The Redis servers behind it."""

    servers: list[RedisServer]


class OpsView(msgspec.Struct, frozen=True):
    """How everything is at this moment."""

    version: str
    providers: dict[str, ProviderView]
    lanes: list[LaneView]
    redis: RedisView
    budgets: list[BudgetView]


class Fleet(msgspec.Struct, frozen=True):
    """What the processes of an installation share in Redis."""

    figures: Mapping[str, ProviderFigures]
    paused: Mapping[str, Pause]


async def read_fleet(redis: RedisClient, now_ms: int) -> Fleet:
    """What dispatchers say, and what is paused. Raises RedisUnavailable."""
    return await fleet_of(redis, await snapshots.gather(redis, now_ms, "dispatch-"))


async def fleet_of(redis: RedisClient, found: Iterable[bytes]) -> Fleet:
    """The same, from snapshots that were read. Raises RedisUnavailable."""
    return Fleet(fleet.by_provider(telemetry.figures(found)), await pauses.read(redis))


def view_of(
    policy: Policy,
    shared: Fleet,
    lanes: Mapping[tuple[str, str], LaneState],
    servers: Sequence[RedisServer],
    budgets: Sequence[BudgetView],
) -> OpsView:
    """All of it. Pure."""
    return OpsView(
        VERSION,
        {name: _provider(policy, shared, name) for name in sorted(policy.providers)},
        [LaneView(*lane, state.length, state.age_ms / 1000) for lane, state in lanes.items()],
        RedisView(list(servers)),
        list(budgets),
    )


def _provider(policy: Policy, shared: Fleet, name: str) -> ProviderView:
    rule, pause = policy.providers[name], shared.paused.get(name)
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
    )
