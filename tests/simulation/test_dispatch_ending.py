"""What waits outside its campaign's queues ends with its campaign, by real dispatchers in virtual
time."""

from __future__ import annotations

from typing import Any

import pytest
import trio
from msgspec.structs import replace

from gateway.core.money.budgets import Budget
from gateway.core.records.message import MESSAGE_NAMES
from gateway.dispatch.jobs import ending
from gateway.redis.replies import as_list
from gateway.store.campaigns.declarations import KNOWN_EVERYWHERE_MS
from gateway.store.keys import keys_of
from tests.simulation.test_dispatch_campaigns import NAME, Campaigns
from tests.worlds.cascade_world import DAYTIME

ONE = 5_000  # a Viber
NOWHERE = replace(DAYTIME, unknown_zone="hold", country_zones={})
FULL = Budget("spring", ONE, 60_000, "1m")
WAITING = 450  # more than are looked at together


def world(*budgets: Budget) -> Campaigns:
    found = Campaigns()
    rules = found.pace.store.policy
    found.pace.store.policy = replace(rules, send_windows={"day": NOWHERE}, budgets=budgets)
    return found


async def waiting(found: Campaigns, queue: str) -> int:
    key = keys_of(0).held(queue)
    (ids,) = await found.pace.store.redis.call([("ZRANGEBYSCORE", key, "-inf", "+inf")])
    return len(as_list(ids))


@pytest.mark.parametrize(
    ("budgets", "declared", "said"),
    [
        ([FULL], {}, [{}]),
        ([], {"send_window": "day"}, [{"user": f"u{number}"} for number in range(3)]),
        ([], {"send_window": "day"}, [{}]),
    ],
    ids=["budget", "zone of its user", "zone of nobody"],
)
@pytest.mark.parametrize("ahead_s", [-1, 8], ids=["past", "to come"])
def test_what_waits_for_something_of_all_campaigns_ends_with_its_own(
    budgets: list[Budget], declared: dict[str, Any], said: list[dict[str, str]], ahead_s: int
) -> None:
    found, queue = world(*budgets), "budget:spring" if budgets else "zones"

    async def work() -> None:
        pace = found.pace
        await found.declare(**declared)
        await pace.admit(len(budgets), route="viber-only")  # which fills it
        ids = list[str]()
        for each in said:
            ids += await pace.admit(1 if each else WAITING, **each, route="viber-only")
        others = await pace.admit(3, route="viber-only", campaign=None, category="transactional")
        await trio.sleep(2.0)
        before = await waiting(found, queue)
        held = [message for message in await found.messages(ids) if message.held is not None]
        assert 0 < len(held) <= before
        now_ms = pace.clock()
        await found.declare(end_ms=now_ms + 1000 * ahead_s, moved_ms=now_ms)
        await trio.sleep(max(ahead_s, 0) + KNOWN_EVERYWHERE_MS / 1000 + 3.0)
        told = {(MESSAGE_NAMES[m.status], m.reason) for m in await found.messages(ids)}
        assert told == {("expired", "campaign_ended")}
        assert await waiting(found, queue) == before - len(held)
        assert not any(message.finished for message in await found.messages(others))

    found.pace.run(work)


def test_what_waits_is_gone_through_once_after_each_end(monkeypatch: pytest.MonkeyPatch) -> None:
    found, ends = world(FULL), list[tuple[str, set[str]]]()
    end = ending.end

    async def noted(deps: Any, shard: int, name: str, over: set[str]) -> bool:
        ends.append((name, over))
        return await end(deps, shard, name, over)

    async def work() -> None:
        await found.declare()
        await found.pace.admit(WAITING, route="viber-only")
        for ahead_s in (4, 8):
            now_ms = found.pace.clock()
            await found.declare(end_ms=now_ms + 1000 * ahead_s, moved_ms=now_ms)
            await trio.sleep(20.0)

    monkeypatch.setattr(ending, "end", noted)
    found.pace.run(work, dispatchers=2)
    assert ends == [("budget:spring", {NAME})] * 2
