"""`GET /v1/budgets`: what may be spent, and what is left of it.

The numbers are read for the answer, over all shards; what processes have leased of a budget and not
reserved is not used.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

import msgspec

from gateway.core.money.budgets import Budget, Then
from gateway.core.money.money import format_amount
from gateway.core.views.message import Amount
from gateway.core.views.words import Time, rfc3339
from gateway.ingress.http.asgi import to_json
from gateway.ingress.http.request import Request
from gateway.store.money import budget_warnings, budgets
from gateway.store.money.budget_warnings import Warned
from gateway.store.money.budgets import Reading
from gateway.store.store import Store
from providers.contract import Category


class BudgetView(msgspec.Struct, frozen=True):
    """A budget of the configuration: `used` of its `limit` in `window`, which includes what is
    `reserved` for messages that are not final; `left` may be reserved. `warned` is the highest
    percentage of which was warned and which holds, since `warned_at`. A filter that is null counts
    everything."""

    name: str
    limit: Amount
    used: Amount
    reserved: Amount
    left: Amount
    currency: str
    window: str
    then: Then
    warned: int
    warned_at: Time | None
    app: str | None
    campaign: str | None
    category: Category | None
    country: str | None
    channel: str | None


class BudgetList(msgspec.Struct, frozen=True):
    """The budgets, as they stand in the configuration."""

    items: list[BudgetView]


class BudgetEndpoints:
    """Shows budgets. `now_ms` is the edge's clock."""

    def __init__(self, store: Store, now_ms: Callable[[], int]) -> None:
        self._store = store
        self._now_ms = now_ms

    async def every(self, request: Request) -> None:
        store = self._store
        items = await views_of(store, store.policy.budgets, self._now_ms())
        await request.respond(200, to_json(BudgetList(items)))


async def views_of(store: Store, shown: Sequence[Budget], now_ms: int) -> list[BudgetView]:
    """How these stand now; without any nothing is asked. Raises RedisUnavailable."""
    if not shown:
        return []
    found = await budgets.read(store.redis, shown, store.shards, now_ms)
    warned = await budget_warnings.read(store.redis, found)
    return [_view(budget, found, warned, store.policy.currency) for budget in shown]


def _view(
    budget: Budget, found: Mapping[str, Reading], warned: Mapping[str, Warned], currency: str
) -> BudgetView:
    reading, told = found[budget.name], warned[budget.name]
    return BudgetView(
        name=budget.name,
        limit=format_amount(budget.limit),
        used=format_amount(reading.spent),
        reserved=format_amount(reading.reserved),
        left=format_amount(max(budget.limit - reading.spent, 0)),
        currency=currency,
        window=budget.window,
        then=budget.then,
        warned=told.percent,
        warned_at=rfc3339(told.at_ms) if told.percent else None,
        app=budget.app,
        campaign=budget.campaign,
        category=budget.category,
        country=budget.country,
        channel=budget.channel,
    )
