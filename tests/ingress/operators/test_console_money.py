"""The console's pages of money: what is spent, what may be, and closed months."""

from __future__ import annotations

import datetime
import re

import msgspec
import pytest

from gateway.core.events import Reported, TimerDue
from gateway.core.money.months import Month
from gateway.finance.reports.closing import close_month
from gateway.ingress.console import money
from gateway.store.messages.apply import Item
from gateway.store.money.months import keep_report
from gateway.store.shared_keys import month_report
from providers.contract import Receipt
from tests.worlds.ingress_world import SALE, World, with_ingress
from tests.worlds.operator import Operator, operator

NOVEMBER = Month("2026-11", datetime.date(2026, 11, 1), datetime.date(2026, 11, 30))
OVER = 1_796_083_200_000  # 2026-12-01T00:00:00Z
PRICES = "[prices]\n"
# Every price is 0.0050 here: a sale reserves a Viber and an SMS.
BUDGETS = """
[[budgets]]
name = "spring-cap"
campaign = "autumn"
limit = "0.0200"
window = "30d"
warn = [50]

[[budgets]]
name = "all-of-it"
limit = "5.00"
window = "month"
"""


async def text_of(by: Operator, path: str) -> str:
    """What a page says, without its markup."""
    answer = await by.get(path)
    assert answer.status == 200
    return " ".join(
        re.sub(
            r"<[^>]+>", " ", answer.body.decode().partition("<main>")[2].partition("</main>")[0]
        ).split()
    )


@with_ingress(changed={PRICES: BUDGETS + PRICES})
async def test_a_budget_says_how_full_it_is_and_of_what(world: World) -> None:
    by = await operator(world)
    first, second = [await world.send(SALE | {"to": f"+7916123000{n}"}) for n in (1, 2)]
    assert (first.status, second.status) == (202, 202)
    await world.deliver(first.json["id"])
    page = await text_of(by, "/console/money")
    assert "spring-cap campaign autumn" in page
    assert "75.0 % 0.0100 0.0150 0.0200 0.0050 EUR 30d hold" in page
    assert "all-of-it everything open 0.3 % 0.0100 0.0150 5.0000" in page
    assert re.search(r"Today 0\.0050 EUR 1 delivered ?, 0\.0050\d* each; billed 0\.0", page)
    assert "No month is closed" in page
    assert "kaskad close 2026-10" in page


async def late(world: World) -> str:
    """November is closed, and then a message of it that expired is delivered; its id."""
    sent = [
        (await world.send(SALE | {"to": f"+7916123000{n}", "route": "sms-only"})).json["id"]
        for n in (1, 2)
    ]
    store, now_ms = world.store, world.clock.now_ms
    for id_ in sent:
        await world.hand_over(id_)
    receipts = [Receipt("delivered", ref=f"{id_}.0", at_ms=now_ms) for id_ in sent]
    await store.apply([Item(sent[0], Reported(0, receipts[0], "sms"))], now_ms)
    await store.apply([Item(sent[1], TimerDue())], OVER - 1)
    told = await close_month(store, NOVEMBER, OVER + 600_000)
    assert isinstance(told, bytes), told
    await store.apply([Item(sent[1], Reported(0, receipts[1], "sms"))], OVER + 700_000)
    world.clock.now_ms = OVER + 800_000
    return str(sent[1])


@with_ingress()
async def test_a_closed_month_shows_its_report_its_hash_and_what_came_late(world: World) -> None:
    by = await operator(world)
    id_ = await late(world)
    page = await text_of(by, "/console/money")
    assert re.search(r"2026-11 2026-12-01 00:10:00 1 0\.0050 0\.\d+ EUR whole", page)
    assert "kaskad close" not in page, "the last one is closed"
    month = await text_of(by, "/console/money/2026-11")
    kept = msgspec.json.decode(await keep_report(world.redis, "2026-11", b"", 0))
    assert kept["sha256"] in month
    assert "Late lines 2 cost 0.0050" in month
    assert month.count(id_) == 2
    assert "All bookings since 2026-12-01 were looked at" in month
    for unknown in ("2026-10", "november"):
        assert (await by.get(f"/console/money/{unknown}")).status == 404


@with_ingress()
async def test_one_look_for_late_lines_is_bounded_and_says_so(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    by = await operator(world)
    await late(world)
    monkeypatch.setattr(money, "BOOKINGS_MAX", 1)
    page = await text_of(by, "/console/money/2026-11")
    assert "Only the first" in page
    assert "kaskad ledger export --from 2026-12-01" in page


@with_ingress()
async def test_a_report_that_is_not_as_it_was_written_is_shown_as_that(world: World) -> None:
    by = await operator(world)
    await late(world)
    kept = await keep_report(world.redis, "2026-11", b"", 0)
    altered = kept.replace(b"0.0050", b"0.0049")
    assert altered != kept
    await world.redis.call([("SET", month_report("2026-11"), altered)])
    assert "not as it was written" in await text_of(by, "/console/money/2026-11")


@with_ingress()
async def test_a_report_that_cannot_be_read_takes_no_other_with_it(world: World) -> None:
    by = await operator(world)
    await late(world)
    for command in (("SET", month_report("2026-11"), b"{"), ("DEL", month_report("2026-11"))):
        await world.redis.call([command])
        page = await text_of(by, "/console/money")
        assert "2026-11 2026-12-01 00:10:00 Its report cannot be read any more. changed" in page
        assert "1 delivered" in page
        assert (await by.get("/console/money/2026-11")).status == 404
