"""The lines behind a report: they add up to it, and paging neither shifts nor repeats them."""

from __future__ import annotations

import datetime
from collections import Counter
from decimal import Decimal
from random import Random
from typing import Literal

import pytest
from msgspec.structs import replace

from gateway.core.events import Accepted, Claimed, Event, LooseParts, LostAnswer, Reported
from gateway.core.money.days import Days
from gateway.core.policy import ProviderRule
from gateway.core.records.content import Content
from gateway.finance.lines.lines import LedgerLine, LinePlace, LinesQuery, LineView, pages_of_lines
from gateway.finance.question import Query
from gateway.finance.reports.verify import verify_ledger
from gateway.redis.client import RedisClient
from gateway.store.messages.apply import Item
from gateway.store.money import ledger
from gateway.store.store import Store
from providers.contract import Receipt, ReceiptStatus
from tests.finance.reports.test_ledger import (
    DAY_MS,
    NOON,
    POLICY,
    TODAY,
    book,
    cost_report,
    money,
    on,
    random_post,
)
from tests.worlds.cascade_world import request
from tests.worlds.loops import Loop

TO = "79161234567"
ALL = Query(TODAY - datetime.timedelta(days=30), TODAY)
COSTS = ("cost", "adjust", "reverse")


async def lines(
    redis: RedisClient, query: Query = ALL, shards: int = 1, after: LinePlace | None = None
) -> list[LedgerLine]:
    pages = pages_of_lines(redis, shards, LinesQuery(query), "EUR", after)
    return [line async for page in pages for _, line in page.lines]


def added_up(found: list[LedgerLine]) -> tuple[int, int]:
    """What they cost, and what they bill."""
    cost = sum(line.amount for line in found if line.kind in COSTS)
    return cost, sum(line.amount for line in found if line.kind == "bill")


def random_query(random: Random) -> Query:
    filters = {
        "app": ("shop", "bank"),
        "campaign": ("", "autumn", "=winter"),
        "channel": ("viber", "sms"),
        "provider": ("infobip-viber", "infobip-sms"),
        "country": ("RU", "DE"),
        "route": ("both", "sms-only"),
        "step": ("0", "1"),
        "category": ("marketing", "otp"),
        "month": ("2026-11", "2026-10"),
        "day": ("2026-11-21", "2026-11-20", "2026-11-01"),
    }
    chosen = random.sample(sorted(filters), random.randint(0, 3))
    picked = [(key, v) for key in chosen for v in random.sample(filters[key], random.randint(1, 2))]
    first, last = sorted(random.sample(range(26), 2), reverse=True)
    days = (TODAY - datetime.timedelta(days=n) for n in (first, last))
    return Query(next(days), next(days), filters=tuple(picked))


@pytest.mark.parametrize("seed", range(3))
def test_the_lines_of_a_report_add_up_to_it(loop: Loop, redis_url: str, seed: int) -> None:
    random = Random(seed)

    async def main(redis: RedisClient) -> None:
        for shard in (0, 1):
            for moment in sorted(NOON - random.randint(0, 24 * DAY_MS) for _ in range(12)):
                posts = [random_post(random, f"m{n}") for n in range(random.randint(1, 12))]
                await book(redis, shard, posts, moment)
        for _ in range(25):
            query = random_query(random)
            report = await cost_report(redis, 2, query, "EUR")
            found = added_up(await lines(redis, query, shards=2))
            assert found == (report.total.cost, report.total.billed), query

    on(loop, redis_url, main)


def test_paging_neither_shifts_nor_repeats_while_lines_are_added(
    loop: Loop, redis_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ledger, "ENTRIES_A_PAGE", 3)
    random = Random(5)

    async def main(redis: RedisClient) -> None:
        for shard in (0, 1, 0, 1, 1, 0, 0, 1):
            await book(redis, shard, [money(cost=n, billed=n + 1) for n in range(5)])
        before = {line.id for line in await lines(redis, shards=2)}
        assert len(before) == 80
        told: list[str] = []
        after: LinePlace | None = None
        while True:
            pages = pages_of_lines(redis, 2, LinesQuery(ALL), "EUR", after)
            found = [each async for page in pages for each in page.lines][: random.randint(1, 7)]
            if not found:
                break
            told += [line.id for _, line in found]
            after = found[-1][0]
            if len(told) < 200:
                await book(redis, random.choice((0, 1)), [money(cost=1), money(billed=1)])
        assert max(Counter(told).values()) == 1
        assert before <= set(told)

    on(loop, redis_url, main)


async def next_millisecond(redis: RedisClient) -> None:
    """Returns once what is booked has a moment of its own: a place is found by the millisecond."""

    async def now() -> int:
        ((seconds, micros),) = await redis.call([("TIME",)])
        return int(seconds) * 1_000 + int(micros) // 1_000

    began = await now()
    while await now() == began:
        pass


def test_only_the_days_asked_for_are_read(loop: Loop, redis_url: str) -> None:
    async def main(redis: RedisClient) -> tuple[list[int], int]:
        for back in range(20, -1, -1):
            await book(redis, 0, [money(cost=back)], NOON - back * DAY_MS)
            await next_millisecond(redis)
        day = TODAY - datetime.timedelta(days=7)
        pages = [p async for p in pages_of_lines(redis, 1, LinesQuery(Query(day, day)), "EUR")]
        return [line.amount for page in pages for _, line in page.lines], sum(
            page.looked_at for page in pages
        )

    amounts, looked_at = on(loop, redis_url, main)
    assert amounts == [7]
    assert looked_at == 8  # nothing of the weeks before


def test_a_clock_that_is_an_hour_off_hides_no_line(loop: Loop, redis_url: str) -> None:
    midnight = NOON + DAY_MS // 2
    moments = [midnight - 3_000_000, midnight + 2_500_000, midnight - 400_000, midnight + 100_000]

    async def main(redis: RedisClient) -> list[int]:
        for back in range(9, 0, -1):
            await book(redis, 0, [money(cost=0)], NOON - back * DAY_MS)
        for number, moment in enumerate(moments, 1):
            await book(redis, 0, [money(cost=number)], moment)
        tomorrow = TODAY + datetime.timedelta(days=1)
        return [line.amount for line in await lines(redis, Query(tomorrow, tomorrow))]

    assert on(loop, redis_url, main) == [2, 4]


def test_a_day_is_that_of_the_zone(loop: Loop, redis_url: str) -> None:
    moscow = Days("Europe/Moscow")
    policy = replace(POLICY, days=moscow)
    midnight = NOON + DAY_MS // 2 - 3 * 3_600_000
    tomorrow = TODAY + datetime.timedelta(days=1)
    query = Query(tomorrow, tomorrow)

    async def main(redis: RedisClient) -> None:
        await book(redis, 0, [money(cost=1)], midnight - 1, policy=policy)
        await book(redis, 0, [money(cost=2)], midnight, policy=policy)
        pages = pages_of_lines(redis, 1, LinesQuery(query), "EUR", days=moscow)
        assert [line.amount async for page in pages for _, line in page.lines] == [2]
        assert (await cost_report(redis, 1, query, "EUR")).total.cost == 2
        assert (await verify_ledger(redis, 1, full=True, days=moscow)).agrees
        assert not (await verify_ledger(redis, 1, full=True)).agrees

    on(loop, redis_url, main)


def test_only_the_kinds_asked_for(loop: Loop, redis_url: str) -> None:
    async def main(redis: RedisClient) -> list[str]:
        await book(redis, 0, [money(cost=1, billed=2), money(cost=3)])
        query = LinesQuery(ALL, frozenset(["bill"]))
        pages = pages_of_lines(redis, 1, query, "EUR")
        return [line.kind async for page in pages for _, line in page.lines]

    assert on(loop, redis_url, main) == ["bill"]


# --- what a message's life leaves ---


def test_parts_without_their_text_are_lines_with_their_reason_until_the_text_is_charged(
    loop: Loop, redis_url: str
) -> None:
    policy = replace(
        POLICY,
        routes={"viber-then-sms": POLICY.routes["viber-then-sms"][1:]},
        providers={"sms": ProviderRule("sms", charged_on="sent")},
    )

    async def main(redis: RedisClient) -> list[LineView]:
        store = Store(redis, policy)
        sent = request(id=store.new_message_id(TO, NOON), to=TO, content=Content("x" * 400))
        await store.admit([sent], NOON)
        for event in (
            Claimed(0),
            LooseParts(0, ("a", "b"), 0),
            LostAnswer(0),
            Accepted(0, "a", further_ids=("b", "c")),
        ):
            await store.apply([Item(sent.id, event)], NOON)
        return [LineView.of(line) for line in await lines(redis)]

    assert [
        (line.kind, line.step, line.parts, line.amount, line.list_amount, line.reason)
        for line in on(loop, redis_url, main)
    ] == [
        ("cost", 0, 2, "0.0800", "0.0800", "loose_parts"),
        ("cost", 0, 3, "0.1200", "0.1200", None),
        ("cost", 0, 2, "-0.0800", "-0.0800", "loose_parts"),
    ]


def lives(
    loop: Loop,
    url: str,
    charged_on: Literal["delivered", "sent"],
    status: ReceiptStatus,
    cost: str | None = None,
) -> list[tuple[object, ...]]:
    """The lines of a message whose Viber fell through and whose SMS, of two parts, ended so."""
    sms = ProviderRule("sms", charged_on=charged_on)
    policy = replace(POLICY, providers={**POLICY.providers, "sms": sms})
    price = None if cost is None else Decimal(cost)

    async def main(redis: RedisClient) -> list[LineView]:
        store = Store(redis, policy)
        sent = request(id=store.new_message_id(TO, NOON), to=TO, content=Content("x" * 200))
        await store.admit([sent], NOON)
        fell = Receipt("undelivered", f"{sent.id}.0")
        ended = Receipt(status, f"{sent.id}.1", cost=price, currency="EUR")
        events: list[Event] = [Claimed(0), Accepted(0), Reported(0, fell, "viber")]
        events += [Claimed(1), Accepted(1), Reported(1, ended, "sms")]
        for event in events:
            await store.apply([Item(sent.id, event)], NOON)
        return [LineView.of(line) for line in await lines(redis)]

    return [
        (line.kind, line.channel, line.step, line.parts, line.amount, line.list_amount, line.reason)
        for line in on(loop, url, main)
    ]


def test_a_delivery_is_a_cost_and_a_bill(loop: Loop, redis_url: str) -> None:
    assert lives(loop, redis_url, "delivered", "delivered") == [
        ("cost", "sms", 1, 2, "0.0800", "0.0800", None),
        ("bill", "sms", 1, 2, "0.1400", None, None),
    ]


def test_a_receipts_price_stands_beside_the_lists(loop: Loop, redis_url: str) -> None:
    assert lives(loop, redis_url, "delivered", "delivered", "0.09") == [
        ("cost", "sms", 1, 2, "0.0900", "0.0800", "receipt_price"),
        ("bill", "sms", 1, 2, "0.1400", None, None),
    ]


def test_a_charge_that_a_receipt_corrects_is_two_lines(loop: Loop, redis_url: str) -> None:
    assert lives(loop, redis_url, "sent", "delivered", "0.09") == [
        ("cost", "sms", 1, 2, "0.0800", "0.0800", None),
        ("bill", "sms", 1, 2, "0.1400", None, None),
        ("cost", "sms", 1, None, "0.0100", "0.0000", "receipt_price"),
    ]


def test_a_charge_that_is_taken_back_is_reversed(loop: Loop, redis_url: str) -> None:
    assert lives(loop, redis_url, "sent", "undelivered", "0") == [
        ("cost", "sms", 1, 2, "0.0800", "0.0800", None),
        ("reverse", "sms", 1, None, "-0.0800", "0.0000", "not_charged"),
    ]
