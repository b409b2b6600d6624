"""What is booked is what is reported: ledger and totals in a real Redis, on both loops."""

from __future__ import annotations

import datetime
from collections.abc import Sequence
from random import Random
from typing import Any

import msgspec
import pytest
from msgspec.structs import replace

from gateway.core.effects import MEASURES
from gateway.core.events import Accepted, Claimed, Event, Reported
from gateway.core.money.days import Days
from gateway.core.money.prices import Price
from gateway.core.policy import CategoryRule, Policy, ProviderRule, RouteStep
from gateway.core.records.codec import SCHEMA
from gateway.core.records.entries import (
    NO_STEP,
    Group,
    LedgerEntry,
    Post,
    Total,
    ledger_codec,
    total_codec,
)
from gateway.core.webhooks import Webhooks
from gateway.finance.question import Query
from gateway.finance.reports import report as reports
from gateway.finance.reports.report import Report, build
from gateway.finance.reports.verify import Difference, Verdict, compare_books, verify_ledger
from gateway.redis.client import Command, RedisClient, RedisReply
from gateway.store.campaigns.campaigns import Campaigns
from gateway.store.compression import pack
from gateway.store.keys import keys_of
from gateway.store.messages.apply import Item
from gateway.store.money import ledger, totals
from gateway.store.money.ledger import read_books
from gateway.store.money.totals import LedgerFault, TotalRow, pages_of_totals
from gateway.store.store import Store
from gateway.store.waiting.lines import Lines
from gateway.store.waiting.queues import Queues
from gateway.store.writes import Retention, Writes
from providers.contract import Receipt
from tests.worlds.cascade_world import request
from tests.worlds.loops import Loop

NOON = 1_795_262_400_000  # 2026-11-21T12:00:00Z
DAY_MS = 86_400_000
TODAY = datetime.date(2026, 11, 21)
GROUP = Group("shop", "autumn", "marketing", "viber", "infobip-viber", "RU")
PRICES = {"viber": Price(5_000, 9_000, "EUR"), "sms": Price(40_000, 70_000, "EUR")}
POLICY = Policy(
    routes={"viber-then-sms": (RouteStep(("viber",), 900_000, 0), RouteStep(("sms",), 900_000, 0))},
    categories={"marketing": CategoryRule("viber-then-sms", DAY_MS)},
    providers={"viber": ProviderRule("viber"), "sms": ProviderRule("sms")},
    caps=(),
    dedupe_ms=DAY_MS,
    slot_ms={},
    currency="EUR",
    quote=lambda provider, digits, category, day: PRICES.get(provider),
)


def total(measure: str) -> bytes:
    """The field of one of the group's running totals."""
    return total_codec.encode(Total.of(GROUP, measure))


def money(**measures: int) -> Post:
    return Post(GROUP, measures, message="m", step=0)


async def book(
    redis: RedisClient,
    shard: int,
    posts: Sequence[Post],
    now_ms: int = NOON,
    campaigns: Campaigns | None = None,
    policy: Policy = POLICY,
) -> None:
    """Books as every commit does."""
    kept = campaigns or Campaigns(10_000)
    writes = Writes(
        keys_of(shard), policy, Retention(), kept, Lines(), Queues(), Webhooks(), now_ms
    )
    for post in posts:
        writes.post(post)
    await writes.learn(redis)
    await redis.call([("MULTI",), *writes.commands(), ("EXEC",)])


async def cost_report(redis: RedisClient, shards: int, query: Query, currency: str) -> Report:
    pages = pages_of_totals(redis, shards, query.from_day, query.to_day)
    return await reports.cost_report(pages, query, currency)


async def read_totals(redis: RedisClient) -> list[TotalRow]:
    return [row async for page in pages_of_totals(redis, 1, TODAY, TODAY) for row in page]


async def verify(redis: RedisClient, shards: int) -> Verdict:
    return await compare_books(read_books(redis, shards))


def random_post(random: Random, message: str | None = None) -> Post:
    group = Group(
        random.choice(("shop", "bank")),
        random.choice(("", "autumn", "=winter")),
        "marketing",
        *random.choice((("viber", "infobip-viber"), ("sms", "infobip-sms"), ("", ""))),
        random.choice(("RU", "DE")),
        *random.choice((("both", 0), ("both", 1), ("sms-only", NO_STEP), ("", NO_STEP))),
    )
    chosen = random.sample(MEASURES, random.randint(1, 4))
    measures = {measure: random.randint(-2, 10**9) for measure in chosen}
    return Post(group, measures, message=message)


def on(loop: Loop, url: str, main: Any) -> Any:
    async def with_client() -> Any:
        async with loop.open_client(url) as redis:
            return await main(redis)

    return loop.run(with_client)


# --- reading --------------------------------------------------------------------------------------


def test_a_report_is_the_sum_of_everything_booked_over_days_and_shards(
    loop: Loop, redis_url: str
) -> None:
    random = Random(7)
    booked: list[TotalRow] = []

    async def main(redis: RedisClient) -> Report:
        for shard in (0, 1, 2):
            for back in (0, 1, 20):
                posts = [random_post(random) for _ in range(20)]
                await book(redis, shard, posts, NOON - back * DAY_MS)
                day = TODAY - datetime.timedelta(days=back)
                booked.extend(
                    TotalRow(day, post.group, measure, amount)
                    for post in posts
                    for measure, amount in post.measures.items()
                )
        return await cost_report(redis, 3, query, "EUR")

    query = Query(TODAY - datetime.timedelta(days=5), TODAY, ("day", "campaign", "country"))
    found = on(loop, redis_url, main)
    assert found == build(booked, query, "EUR")
    assert len({line.keys[0] for line in found.lines}) == 2


def test_a_large_day_is_read_in_pages_without_loss_or_repetition(
    loop: Loop, redis_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(totals, "FIELDS_A_PAGE", 50)
    expected = {f"campaign-{n}": n for n in range(1, 1_201)}

    async def main(redis: RedisClient) -> list[TotalRow]:
        posts = [Post(replace(GROUP, campaign=c), {"sent": n}) for c, n in expected.items()]
        await book(redis, 0, posts)
        return await read_totals(redis)

    rows = on(loop, redis_url, main)
    assert len(rows) == len(expected)
    assert {row.group.campaign: row.amount for row in rows} == expected


def test_a_year_of_empty_days_is_an_empty_report(loop: Loop, redis_url: str) -> None:
    query = Query(TODAY - datetime.timedelta(days=365), TODAY, ("app",))

    async def main(redis: RedisClient) -> Report:
        return await cost_report(redis, 4, query, "EUR")

    assert on(loop, redis_url, main).lines == ()


def test_what_people_do_is_told_apart_by_the_hour_of_the_reports_zone(
    loop: Loop, redis_url: str
) -> None:
    moscow = replace(POLICY, days=Days("Europe/Moscow"))

    async def main(redis: RedisClient) -> tuple[Report, Verdict]:
        # Booked by a version that knew no hours.
        before = Post(GROUP, {"clicked": 4, "sent": 1})
        entry = ledger_codec.encode(LedgerEntry(NOON, [before], "EUR"))
        await redis.call(
            [
                ("XADD", "{k0}ledger", "*", "d", entry),
                ("HINCRBY", f"{{k0}}totals:{TODAY}", total("clicked"), 4),
                ("HINCRBY", f"{{k0}}totals:{TODAY}", total("sent"), 1),
            ]
        )
        for hours in (0, 1, 1):
            at_ms = NOON + hours * 3_600_000
            await book(redis, 0, [Post(GROUP, {"clicked": 1, "sent": 2})], at_ms, policy=moscow)
        pages = pages_of_totals(redis, 1, TODAY, TODAY, hours=True)
        report = await reports.cost_report(pages, Query(TODAY, TODAY, ("hour",)), "EUR")
        plain = await cost_report(redis, 1, Query(TODAY, TODAY), "EUR")
        assert plain.total == report.total
        return report, await compare_books(read_books(redis, 1), moscow.days)

    report, verdict = on(loop, redis_url, main)
    rows = [(row["hour"], row["clicked"], row["sent"]) for row in report.rows()]
    assert rows == [(None, 4, 7), (15, 1, 0), (16, 2, 0)]
    assert (verdict.agrees, verdict.entries) == (True, 4)


def test_a_total_that_cannot_be_read_is_named(loop: Loop, redis_url: str) -> None:
    foreign = [b"no msgpack", total("bonus")]

    async def main(redis: RedisClient) -> list[str]:
        sentences = []
        for field in foreign:
            await redis.call([("DEL", "{k0}totals:2026-11-21")])
            await redis.call([("HSET", "{k0}totals:2026-11-21", field, 1)])
            with pytest.raises(LedgerFault) as caught:
                await read_totals(redis)
            sentences.append(str(caught.value))
        return sentences

    unreadable, newer = on(loop, redis_url, main)
    assert "{k0}totals:2026-11-21 holds b'no msgpack'" in unreadable
    assert "'bonus', which this version does not know" in newer


# --- the life of a message, to its bill -----------------------------------------------------------


def test_messages_reach_the_report_as_they_were_billed(loop: Loop, redis_url: str) -> None:
    async def main(redis: RedisClient) -> tuple[Report, Report, Verdict]:
        store = Store(redis, POLICY)
        ids = []
        for n in range(3):
            to = f"7916123456{n}"
            send = request(id=store.new_message_id(to, NOON), to=to)
            again = replace(send, id=store.new_message_id(send.home, NOON))
            answers = await store.admit([send, again], NOON)
            assert [a.outcome for a in answers] == ["accepted", "duplicate"]
            ids.append(send.id)

        async def happen(id_: str, event: Event) -> None:
            await store.apply([Item(id_, event)], NOON)

        async def report(id_: str, step: int, provider: str, status: Any) -> None:
            await happen(id_, Reported(step, Receipt(status, f"{id_}.{step}"), provider))

        for id_ in ids:
            await happen(id_, Claimed(0))
            await happen(id_, Accepted(0))
        await report(ids[0], 0, "viber", "delivered")
        for id_ in ids[1:]:
            await report(id_, 0, "viber", "undelivered")
            await happen(id_, Claimed(1))
            await happen(id_, Accepted(1))
        await report(ids[1], 1, "sms", "delivered")
        await report(ids[1], 1, "sms", "delivered")
        await report(ids[1], 0, "viber", "delivered")  # late, after the SMS
        await report(ids[2], 1, "sms", "undelivered")
        query = Query(TODAY, TODAY, ("campaign",))
        by_campaign = await cost_report(redis, 1, query, "EUR")
        by_step = await cost_report(redis, 1, replace(query, group_by=("route", "step")), "EUR")
        return by_campaign, by_step, await verify(redis, 1)

    found, by_step, verdict = on(loop, redis_url, main)
    told = [(r["route"], r["step"], r["sent"], r["delivered"], r["cost"]) for r in by_step.rows()]
    assert told == [
        ("viber-then-sms", 0, 3, 1, "0.0100"),
        ("viber-then-sms", 1, 2, 1, "0.0400"),
    ]
    assert found.rows() == [
        {
            "campaign": "autumn",
            "accepted": 3,
            "duplicates": 3,
            "suppressed": 0,
            "sent": 5,
            "delivered": 2,
            "double_delivered": 1,
            "undelivered": 2,
            "parts": 1,
            "cost": "0.0500",
            "billed": "0.0790",
            "currency": "EUR",
            "cost_per_delivered": "0.025000",
            "sms_only_cost": "0.0800",
            "saved": "0.0300",
            "saved_pct": "37.50",
            "undelivered_messages": 1,
            "seen": 0,
            "clicked": 0,
            "bot_clicks": 0,
            "cost_per_click": None,
            "conversions": 0,
            "assisted": 0,
            "revenue": "0.0000",
            "revenue_per_delivered": "0.000000",
        }
    ]
    assert verdict.agrees
    assert verdict.entries > 0


# --- verifying ------------------------------------------------------------------------------------


def test_whatever_was_booked_ledger_and_totals_agree(
    loop: Loop, redis_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ledger, "ENTRIES_A_PAGE", 3)
    random = Random(11)

    async def main(redis: RedisClient) -> Verdict:
        for n in range(21):
            posts = [random_post(random, "m") for _ in range(4)]
            await book(redis, n % 2, posts, NOON - n * DAY_MS // 3)
        return await verify(redis, 2)

    verdict = on(loop, redis_url, main)
    assert (verdict.entries, verdict.posts, verdict.differences) == (21, 84, ())


TAMPERED: list[tuple[str, list[Command], list[tuple[str, int, int, int]]]] = [
    (
        "a total is too high",
        [("HINCRBY", "{k1}totals:2026-11-21", total("cost"), 1)],
        [("cost", 5_000, 5_001, 1)],
    ),
    (
        "a total is gone",
        [("HDEL", "{k0}totals:2026-11-21", total("delivered"))],
        [("delivered", 1, 0, 0)],
    ),
    (
        "a total was never booked",
        [("HSET", "{k0}totals:2026-11-21", total("billed"), 7)],
        [("billed", 0, 7, 0)],
    ),
    (
        "a booking is gone",
        [("DEL", "{k0}ledger")],
        [("delivered", 0, 1, 0), ("cost", 0, 5_000, 0)],
    ),
    (
        "a day is gone",
        [("DEL", "{k1}totals:2026-11-21"), ("DEL", "{k1}days")],
        [("delivered", 1, 0, 1), ("cost", 5_000, 0, 1)],
    ),
    (
        "two shards are wrong by opposite amounts",
        [
            ("HINCRBY", "{k0}totals:2026-11-21", total("cost"), 3),
            ("HINCRBY", "{k1}totals:2026-11-21", total("cost"), -3),
        ],
        [("cost", 5_000, 5_003, 0), ("cost", 5_000, 4_997, 1)],
    ),
]


@pytest.mark.parametrize(
    ("commands", "found"), [t[1:] for t in TAMPERED], ids=[t[0] for t in TAMPERED]
)
def test_every_kind_of_difference_is_found(
    redis_url: str, loop: Loop, commands: list[Command], found: list[tuple[str, int, int, int]]
) -> None:
    async def main(redis: RedisClient) -> Verdict:
        for shard in (0, 1):
            await book(redis, shard, [money(delivered=1, cost=5_000)])
        assert (await verify(redis, 2)).agrees
        await redis.call(commands)
        return await verify(redis, 2)

    verdict = on(loop, redis_url, main)
    assert not verdict.agrees
    assert verdict.differences == tuple(Difference(TODAY, GROUP, *parts) for parts in found)


def test_the_next_comparison_begins_where_the_last_one_agreed(loop: Loop, redis_url: str) -> None:
    async def main(redis: RedisClient) -> list[int]:
        counted = []
        for day in range(6):
            for _ in range(4):
                await book(redis, 0, [money(delivered=1, cost=5_000)], NOON + day * DAY_MS)
            counted.append((await verify_ledger(redis, 1, full=False)).entries)
        counted.append((await verify_ledger(redis, 1, full=True)).entries)
        counted.append((await verify_ledger(redis, 1, full=False)).entries)
        return counted

    # The newest day and the one before are looked at again; the rest lies behind.
    assert on(loop, redis_url, main) == [4, 8, 12, 12, 12, 12, 24, 8]


def test_a_full_redis_is_read_and_compared(loop: Loop, redis_url: str) -> None:
    """It refuses whatever stands in a transaction, and to note how far was compared."""

    async def main(redis: RedisClient) -> tuple[Verdict, int]:
        for day in range(6):
            await book(redis, 0, [money(delivered=1, cost=5_000)], NOON + day * DAY_MS)
        (before,) = await redis.call([("CONFIG", "GET", "maxmemory")])
        assert isinstance(before, list)
        await redis.call([("CONFIG", "SET", "maxmemory", 1)])
        try:
            pages = ledger.pages_of_entries(redis, 0, (0, 0))
            read = sum([len(page) async for page in pages])
            return await verify_ledger(redis, 1, full=False), read
        finally:
            await redis.call([("CONFIG", "SET", "maxmemory", before[1])])

    verdict, read = on(loop, redis_url, main)
    assert (verdict.agrees, verdict.entries, read) == (True, 6, 6)


def test_a_booking_among_those_of_another_day_keeps_both_open(loop: Loop, redis_url: str) -> None:
    async def main(redis: RedisClient) -> tuple[Verdict, Verdict]:
        for day in (0, 1, 2, 0, 3, 4, 5):
            await book(redis, 0, [money(delivered=1, cost=5_000)], NOON + day * DAY_MS)
        first = await verify_ledger(redis, 1, full=False)
        return first, await verify_ledger(redis, 1, full=False)

    first, second = on(loop, redis_url, main)
    assert (first.agrees, second.agrees) == (True, True)
    assert second.entries == 2


BEHIND: list[tuple[str, list[Command]]] = [
    ("a total behind it", [("HINCRBY", "{k0}totals:2026-11-21", total("cost"), 1)]),
    ("a day behind it", [("DEL", "{k0}totals:2026-11-21")]),
    ("a total after it", [("HINCRBY", "{k0}totals:2026-11-26", total("cost"), 1)]),
]


@pytest.mark.parametrize("commands", [b[1] for b in BEHIND], ids=[b[0] for b in BEHIND])
def test_what_changes_behind_a_checkpoint_is_found_and_named(
    loop: Loop, redis_url: str, commands: list[Command]
) -> None:
    async def main(redis: RedisClient) -> tuple[Verdict, Verdict]:
        for day in range(6):
            await book(redis, 0, [money(delivered=1, cost=5_000)], NOON + day * DAY_MS)
        assert (await verify_ledger(redis, 1, full=False)).agrees
        await redis.call(commands)
        found = await verify_ledger(redis, 1, full=False)
        return found, await verify_ledger(redis, 1, full=False)

    found, again = on(loop, redis_url, main)
    assert not found.agrees
    assert again == found, "a comparison that disagrees leaves no checkpoint"
    assert found.entries == 6, "in full"


def test_a_late_booking_of_a_day_behind_a_checkpoint_is_no_difference(
    loop: Loop, redis_url: str
) -> None:
    async def main(redis: RedisClient) -> Verdict:
        for day in range(6):
            await book(redis, 0, [money(delivered=1, cost=5_000)], NOON + day * DAY_MS)
        await verify_ledger(redis, 1, full=False)
        await book(redis, 0, [money(delivered=1, cost=5_000)], NOON)
        return await verify_ledger(redis, 1, full=False)

    assert on(loop, redis_url, main).agrees


def test_a_checkpoint_that_cannot_be_read_counts_as_none(loop: Loop, redis_url: str) -> None:
    async def main(redis: RedisClient) -> list[int]:
        await book(redis, 0, [money(delivered=1, cost=5_000)])
        counted = []
        for octets in (b"", b"nonsense", b"\x90", bytes((SCHEMA + 1,))):
            await redis.call([("SET", "{k0}verified", octets)])
            counted.append((await verify_ledger(redis, 1, full=False)).entries)
        return counted

    assert on(loop, redis_url, main) == [1, 1, 1, 1]


class BusyClient:
    """A Redis client on which somebody else's commit is done just before each of our calls."""

    def __init__(self, redis: RedisClient) -> None:
        self._redis = redis
        self.commits = 0

    async def call(self, commands: Sequence[Command]) -> list[RedisReply]:
        self.commits += 1
        # The day changes while we look, too.
        now_ms = NOON + (self.commits > 2) * DAY_MS
        await book(self._redis, 0, [money(delivered=1, cost=5_000)], now_ms)
        return await self._redis.call(commands)


def test_commits_between_our_reads_are_no_difference(
    loop: Loop, redis_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ledger, "ENTRIES_A_PAGE", 1)

    async def main(redis: RedisClient) -> tuple[Verdict, int]:
        await book(redis, 0, [money(delivered=1, cost=5_000)], NOON - DAY_MS)
        busy: Any = BusyClient(redis)
        found = await verify(busy, 1)
        await redis.call([("HINCRBY", "{k0}totals:2026-11-20", total("cost"), 1)])
        assert len((await verify(busy, 1)).differences) == 1
        return found, busy.commits

    verdict, commits = on(loop, redis_url, main)
    assert verdict.agrees
    assert 2 < verdict.entries < commits


def test_a_ledger_entry_says_its_currency_and_one_of_before_says_none(
    loop: Loop, redis_url: str
) -> None:
    async def main(redis: RedisClient) -> list[str]:
        old = ledger_codec.encode(LedgerEntry(NOON, [money(cost=1)]))
        await redis.call([("XADD", "{k0}ledger", "1-1", "d", old)])
        await book(redis, 0, [money(delivered=1, cost=5_000)])
        return [
            entry.currency
            async for books in read_books(redis, 1)
            async for _, entry in books.entries
        ]

    assert on(loop, redis_url, main) == ["", "EUR"]


def test_a_ledger_entry_that_cannot_be_read_is_named(loop: Loop, redis_url: str) -> None:
    async def main(redis: RedisClient) -> str:
        await redis.call([("XADD", "{k0}ledger", "5-1", "d", bytes((SCHEMA + 1, 0x80)))])
        with pytest.raises(LedgerFault) as caught:
            await verify(redis, 1)
        return str(caught.value)

    sentence = on(loop, redis_url, main)
    assert sentence.startswith("Entry 5-1 of {k0}ledger cannot be read.")
    assert f"schema {SCHEMA + 1}, and this Kaskad reads up to {SCHEMA}" in sentence


def test_a_damaged_ledger_entry_is_named_and_never_added_up(loop: Loop, redis_url: str) -> None:
    async def main(redis: RedisClient) -> str:
        entry = bytearray(pack(msgspec.msgpack.encode([1, NOON, ["spring-sale"] * 100])))
        entry[10] ^= 0x40
        await redis.call([("XADD", "{k0}ledger", "5-1", "d", bytes(entry))])
        with pytest.raises(LedgerFault) as caught:
            await verify(redis, 1)
        return str(caught.value)

    assert "Entry 5-1 of {k0}ledger cannot be read" in on(loop, redis_url, main)
