"""Of what budgets are warned: once a crossing, by one dispatcher, and shown while it holds."""

from __future__ import annotations

import json

from msgspec.structs import replace
from structlog.testing import capture_logs

from gateway.core import events as ev
from gateway.core.money.budgets import Budget
from gateway.core.records.webhook import Webhook, outbox_codec
from gateway.core.webhooks import BUDGET
from gateway.dispatch.deps import DispatchDeps
from gateway.dispatch.jobs.budgets import BudgetWatch
from gateway.redis.replies import as_list
from gateway.store import shared_keys
from gateway.store.compression import unpack
from gateway.store.events import webhooks
from gateway.store.installation.audit import Deed
from gateway.store.keys import keys_of
from gateway.store.messages.apply import Item
from gateway.store.money import budget_warnings
from tests.worlds.cascade_world import DAY, T0
from tests.worlds.dispatch_world import under_trio, world

ONE = 45_000
CAP = Budget("cap", 40 * ONE, 30 * DAY, "30d", warn=(50, 80, 100))


async def look(watch: BudgetWatch) -> list[int]:
    """The percentages that are told."""
    with capture_logs() as lines:
        await watch.look()
    return [line["percent"] for line in lines if line["event"] == "budget_warning"]


def shown(deps: DispatchDeps, name: str) -> float | None:
    shared = deps.metrics.registries.shared
    return shared.get_sample_value(f"kaskad_dispatch_{name}", {"budget": "cap"})


@under_trio
async def test_each_crossing_is_told_once_by_one_of_them(redis_url: str) -> None:
    async with world(redis_url) as w:
        w.store.policy = replace(w.store.policy, budgets=(CAP,))
        one, other = BudgetWatch(w.deps()), BudgetWatch(w.deps())
        assert await look(one) == []
        ids = await w.admit(16)
        assert await look(one) == []
        ids += await w.admit(16)
        assert (await look(one), await look(other), await look(one)) == ([50, 80], [], [])
        found = await budget_warnings.read(w.redis, ["cap"])
        assert {name: warned.percent for name, warned in found.items()} == {"cap": 80}
        await w.store.apply([Item(ids[0], ev.Cancelled())], w.clock())
        assert await look(one) == []
        await w.admit(1)
        assert await look(one) == [], "it was hardly less"
        await w.store.apply([Item(id_, ev.Cancelled()) for id_ in ids[1:4]], w.clock())
        assert await look(one) == []
        await w.admit(11)
        assert await look(other) == [80, 100]


@under_trio
async def test_webhooks_that_want_it_are_told(redis_url: str) -> None:
    async with world(redis_url) as w:
        w.store.policy = replace(w.store.policy, budgets=(CAP,))
        wanted = Webhook("h1", "https://ops.example/", (BUDGET,), ())
        deed = Deed(w.clock(), "a test", "webhook.put")
        await webhooks.change(w.redis, "ops", "money", lambda _before, _count: wanted, deed)
        await w.admit(20)
        await BudgetWatch(w.deps()).look()
        (entries,) = await w.redis.call([("XRANGE", shared_keys.OUTBOX, "-", "+")])
        ((_, (_, entry)),) = as_list(entries)
        (event,) = outbox_codec.decode(unpack(entry)).events
        assert (event.type, json.loads(event.data)) == (
            "budget.warning",
            {"name": "cap", "percent": 50, "limit": "1.8000", "used": "0.9000", "window": "30d"},
        )


@under_trio
async def test_it_is_shown_while_there_is_the_budget(redis_url: str) -> None:
    async with world(redis_url) as w:
        w.store.policy = replace(w.store.policy, budgets=(CAP,))
        deps = w.deps()
        watch = BudgetWatch(deps)
        await w.admit(24)
        await watch.look()
        assert shown(deps, "budget_used_percent") == 60
        assert shown(deps, "budget_warned_percent") == 50
        w.store.policy = replace(w.store.policy, budgets=())
        await watch.look()
        assert shown(deps, "budget_used_percent") is None


@under_trio
async def test_what_another_version_noted_counts_as_never_warned(redis_url: str) -> None:
    async with world(redis_url) as w:
        w.store.policy = replace(w.store.policy, budgets=(CAP,))
        await w.redis.call([("HSET", shared_keys.BUDGETS, "cap", b"?")])
        await w.admit(24)
        assert await look(BudgetWatch(w.deps())) == [50]


@under_trio
async def test_without_budgets_it_is_asked_once_a_minute_what_former_ones_left(
    redis_url: str,
) -> None:
    async with world(redis_url) as w:
        await w.redis.call([("PING",)])  # what a connection begins with counts as well
        before = w.redis.statistics().commands
        watch = BudgetWatch(w.deps())
        for _ in range(3):
            await watch.look()
        assert w.redis.statistics().commands == before + 1


@under_trio
async def test_what_the_last_budget_leaves_goes_though_none_is_configured(redis_url: str) -> None:
    async with world(redis_url) as w:
        hash_ = keys_of(0).budget("cap")
        await w.redis.call(
            [
                ("HSET", shared_keys.BUDGETS, CAP.name, '{"percent":0,"at_ms":0}'),
                ("HSET", hash_, "reserved", 0, str(T0 - 800 * DAY), 45_000),
            ]
        )
        await BudgetWatch(w.deps()).look()
        left = await w.redis.call([("EXISTS", shared_keys.BUDGETS), ("EXISTS", hash_)])
        assert left == [0, 0]
