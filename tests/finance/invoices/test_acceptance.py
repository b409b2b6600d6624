"""An accepted invoice: our cost is what it asks for, once, whatever happens on the way."""

from __future__ import annotations

import datetime
from collections.abc import AsyncIterator, Sequence
from decimal import Decimal
from itertools import count
from random import Random
from typing import Any

import pytest
from msgspec.structs import replace

from gateway.core.events import Reported
from gateway.core.money.budgets import Budget
from gateway.core.money.days import DAY_MS, HOUR_MS
from gateway.core.money.reconciliation import ReconciledLine, Theirs, in_micros
from gateway.finance.invoices import acceptance
from gateway.finance.invoices.acceptance import InvoiceAcceptance, LinesLapsed, accept
from gateway.finance.invoices.reconcile import DaySpan, Question, Reconciled, Reconciliation
from gateway.finance.invoices.sorted_lines import SortedLines
from gateway.finance.lines.lines import LedgerLine, LinesQuery, pages_of_lines
from gateway.finance.question import Query
from gateway.finance.reports.verify import compare_books
from gateway.redis.asyncio_driver import run
from gateway.redis.client import RedisClient
from gateway.store.keys import keys_of
from gateway.store.messages import apply
from gateway.store.money import invoices
from gateway.store.money.budgets import read
from gateway.store.money.invoices import DaysAccepted, accepted_days
from gateway.store.money.ledger import read_books
from gateway.store.money.totals import pages_of_totals
from gateway.store.store import Store
from providers.contract import Receipt
from tests.worlds.booked import NOON, lines_of, send
from tests.worlds.cascade_world import policy
from tests.worlds.planted import Planter

PROVIDER = "viber"
DAY = datetime.date(2026, 11, 21)
DAYS = DaySpan(DAY, DAY)
LATER = NOON + 40 * DAY_MS
COUNT = 24
SAID = ("network", "parts")  # on an invoice that asks for nothing else than we booked
RULES = policy(charged_on="delivered")


async def settle(
    store: Store,
    theirs: Sequence[Theirs],
    invoice: str = "one",
    *,
    accepts: bool = True,
    days: DaySpan = DAYS,
) -> tuple[Reconciled, InvoiceAcceptance | None]:
    """Reconciles with what is booked by now, and accepts it."""
    question = Question(PROVIDER, "EUR", "UTC", charged_on_delivery=True)
    with SortedLines() as lines:
        work = Reconciliation(question, lines)
        work.take_theirs(theirs, days.first, days.last)
        work.take_ours(await lines_of(store, PROVIDER))
        work.take_accepted(DaySpan(*each) for each in await accepted_days(store, PROVIDER))
        result = work.settle(days)
        if not accepts:
            return result, None
        return result, await accept(store, result, work.items(), invoice, lambda: LATER)


async def books(store: Store) -> tuple[int, int]:
    """Our cost by the totals, and by what was booked for invoices; the ledger must agree."""
    verdict = await compare_books(read_books(store.redis, store.shards))
    assert verdict.agrees, verdict.differences
    first, last = DAY, DAY + datetime.timedelta(days=90)
    total = adjusted = 0
    async for page in pages_of_totals(store.redis, store.shards, first, last):
        total += sum(row.amount for row in page if row.measure == "cost")
    lines = [line async for line in _lines(store, first, last)]
    assert total == sum(line.amount for line in lines if line.kind != "bill")
    for line in lines:
        if line.kind == "adjust":
            adjusted += line.amount
            assert line.reason in ("invoice:one", "invoice:two")
            assert line.message is None or line.app == "shop"
    return total, adjusted


async def _lines(
    store: Store, first: datetime.date, last: datetime.date
) -> AsyncIterator[LedgerLine]:
    query = LinesQuery(Query(first, last))
    async for page in pages_of_lines(store.redis, store.shards, query, "EUR"):
        for _, line in page.lines:
            yield line


def asked(theirs: Sequence[Theirs]) -> int:
    return in_micros(sum(line.amount for line in theirs))


async def planted(redis: RedisClient, seed: int) -> tuple[Store, list[Theirs]]:
    store = await send(redis, RULES, COUNT, undelivered=6, provider=PROVIDER)
    planter = Planter(Random(seed), 0.6)
    return store, list(planter.lines(await lines_of(store, PROVIDER)))


@pytest.mark.parametrize("seed", range(4))
def test_our_cost_becomes_what_is_asked_for_to_the_unit_and_once(redis_url: str, seed: int) -> None:
    async def work(redis: RedisClient) -> None:
        store, theirs = await planted(redis, seed)
        before, _ = await books(store)
        result, accepted = await settle(store, theirs)
        assert not result.agrees
        assert accepted is not None
        assert await books(store) == (asked(theirs), asked(theirs) - before)
        assert accepted.amount == asked(theirs) - before
        again, repeated = await settle(store, theirs)
        assert repeated == InvoiceAcceptance(0, 0)
        assert await books(store) == (asked(theirs), asked(theirs) - before)
        left = {kind for kind, sums in again.classes.items() if sums.lines}
        assert left <= {*SAID, "matched", "rounding", "duplicate_line", "unknown_to_us"}

    run(redis_url, work)


def test_what_is_of_no_message_counts_in_the_budgets_that_count_everything(redis_url: str) -> None:
    """Once, as it is booked."""

    async def work(redis: RedisClient) -> None:
        store, theirs = await planted(redis, 0)
        every = Budget("all", 10**9, DAY_MS, "1d")
        kept = [every, *(replace(every, name=name, channel=name) for name in ("viber", "sms"))]
        kept.append(replace(every, name="shop", app="shop"))
        store.policy = replace(store.policy, budgets=tuple(kept))
        _, accepted = await settle(store, theirs)
        assert accepted is not None
        await settle(store, theirs)
        used = {name: each.used for name, each in (await read(redis, kept, 1, LATER)).items()}
        rest = [
            line
            async for line in _lines(store, DAY, DAY + datetime.timedelta(days=90))
            if not line.message
        ]
        (apart,) = [line.amount for line in rest]
        assert apart > 0
        of_ours = accepted.amount - apart
        assert used == {"all": accepted.amount, "viber": accepted.amount, "sms": 0, "shop": of_ours}

    run(redis_url, work)


def test_each_batch_is_booked_when_it_is_written(
    redis_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def work(redis: RedisClient) -> None:
        store, theirs = await planted(redis, 0)
        hours = (NOON + n * HOUR_MS for n in count(1))
        monkeypatch.setattr(acceptance, "LINES_A_BATCH", 1)
        question = Question(PROVIDER, "EUR", "UTC", charged_on_delivery=True)
        with SortedLines() as lines:
            settled = Reconciliation(question, lines)
            settled.take_theirs(theirs, DAY, DAY)
            settled.take_ours(await lines_of(store, PROVIDER))
            result = settled.settle(DAYS)
            await accept(store, result, settled.items(), "one", lambda: next(hours))
        found = [line async for line in _lines(store, DAY, DAY + datetime.timedelta(days=90))]
        booked = [line.at_ms for line in found if line.kind == "adjust"]
        # Not all at the moment at which it began: that may be in a month which is closed by now.
        assert len(set(booked)) == len(booked) > 2

    run(redis_url, work)


class Killed(Exception):
    """The process died there."""


@pytest.mark.parametrize("batches", range(3))
def test_what_was_interrupted_is_gone_on_with(
    redis_url: str, monkeypatch: pytest.MonkeyPatch, batches: int
) -> None:
    done = 0

    async def dying(*given: Any) -> Any:
        nonlocal done
        done += 1
        if done > batches:
            raise Killed
        return await invoices.accept_lines(*given)

    async def work(redis: RedisClient) -> None:
        store, theirs = await planted(redis, 1)
        with monkeypatch.context() as patch:
            patch.setattr(acceptance, "LINES_A_BATCH", 1)
            patch.setattr(acceptance, "accept_lines", dying)
            with pytest.raises(Killed):
                await settle(store, theirs)
        assert (await books(store))[0] != asked(theirs)
        await settle(store, theirs)
        assert (await books(store))[0] == asked(theirs)

    run(redis_url, work)


def test_an_invoice_that_was_put_right_takes_the_place_of_the_one_before(redis_url: str) -> None:
    async def work(redis: RedisClient) -> None:
        store, theirs = await planted(redis, 2)
        await settle(store, theirs, "one")
        right = [line for line in theirs if line.id and not line.id.startswith("x")]
        assert asked(right) < asked(theirs)
        await settle(store, right, "two")
        assert (await books(store))[0] == asked(right)

    run(redis_url, work)


def test_what_is_nothing_of_ours_is_not_booked_again_under_other_days(redis_url: str) -> None:
    week = DaySpan(DAY, DAY + datetime.timedelta(days=6))
    after = DaySpan(week.last, week.last)

    async def work(redis: RedisClient) -> None:
        store, theirs = await planted(redis, 2)
        await settle(store, theirs, "one")
        booked = await books(store)
        with pytest.raises(DaysAccepted, match="give --from 2026-11-21 --to 2026-11-21; else"):
            await settle(store, theirs, "two", days=week)
        assert await books(store) == booked
        await settle(store, [], "two", days=after)
        renamed = Store(redis, replace(RULES, former={"old": PROVIDER}), shards=1)
        field = f"{PROVIDER} {DAY} {DAY}"
        (rest,) = await redis.call([("HGET", keys_of(0).invoices, field)])
        await redis.call([("HDEL", keys_of(0).invoices, field)])
        await redis.call([("HSET", keys_of(0).invoices, f"old {DAY} {DAY}", rest)])
        await settle(renamed, theirs, "one")
        assert await books(store) == booked

    run(redis_url, work)


MONTH = DaySpan(DAY, DAY + datetime.timedelta(days=29))
AFTER = DaySpan(MONTH.last + datetime.timedelta(days=1), MONTH.last + datetime.timedelta(days=30))
EDGE_MS = NOON + 29 * DAY_MS + DAY_MS // 2  # the month is over


async def two_invoices(redis: RedisClient) -> tuple[Store, list[Theirs], list[Theirs]]:
    """Of four messages handed over 8, 6, 4 and 2 hours before a month is over the first invoice has
    three, one of them dearer, and not the third; the second has all, as providers do that ask
    twice, or count by a clock of their own."""
    for n in range(4):
        at_ms = EDGE_MS - (8 - 2 * n) * HOUR_MS
        store = await send(redis, RULES, 1, provider=PROVIDER, prefix=f"791{n}", at_ms=at_ms)
    await send(redis, RULES, 3, provider=PROVIDER, prefix="7920", at_ms=EDGE_MS + 10 * HOUR_MS)
    ours = await lines_of(store, PROVIDER)
    first = [
        Theirs(2, 5_000_000_000, ours[0].id, at_ms=ours[0].at_ms),
        Theirs(3, 7_000_000_000, ours[1].id, at_ms=ours[1].at_ms),
        Theirs(4, 5_000_000_000, ours[3].id, at_ms=ours[3].at_ms),
    ]
    second = [
        Theirs(2 + n, 5_000_000_000, line.id, at_ms=max(line.at_ms, EDGE_MS))
        for n, line in enumerate(ours)
    ]
    return store, first, second


def test_what_two_invoices_ask_for_is_booked_twice_and_told(redis_url: str) -> None:
    """And accepting either again changes nothing."""

    async def work(redis: RedisClient) -> None:
        store, first, second = await two_invoices(redis)
        told, _ = await settle(store, first, "one", days=MONTH)
        assert told.classes["missing_on_invoice"].lines == 1
        told, _ = await settle(store, second, "two", days=AFTER)
        assert told.classes["duplicate_line"].lines == 3, "what the first had"
        assert told.classes["price"].lines == 1, "what the first had not"
        booked = await books(store)
        assert booked[0] == asked(first) + asked(second)
        for theirs, name, days in ((first, "one", MONTH), (second, "two", AFTER)):
            _, accepted = await settle(store, theirs, name, days=days)
            assert accepted == InvoiceAcceptance(0, 0)
        assert await books(store) == booked

    run(redis_url, work)


def test_without_the_first_the_second_invoice_is_ours_to_the_line(redis_url: str) -> None:
    async def work(redis: RedisClient) -> None:
        store, first, second = await two_invoices(redis)
        await settle(store, first, "one", days=MONTH, accepts=False)
        told, _ = await settle(store, second, "two", days=AFTER)
        assert told.classes["matched"].lines == 7
        assert (await books(store))[0] == asked(second)

    run(redis_url, work)


def test_no_later_receipt_changes_what_was_accepted(redis_url: str) -> None:
    async def work(redis: RedisClient) -> None:
        store = await send(redis, RULES, 2, undelivered=1, provider=PROVIDER)
        delivered, not_delivered = await lines_of(store, PROVIDER)
        theirs = [
            Theirs(2, 7_000_000_000, delivered.id),
            Theirs(3, 6_000_000_000, not_delivered.id),
        ]
        await settle(store, theirs)
        for line in (delivered, not_delivered):
            receipt = Receipt("delivered", ref=line.id, cost=Decimal("0.009"), currency="EUR")
            await store.apply([apply.Item(line.message, Reported(0, receipt, PROVIDER))], LATER)
        assert (await books(store))[0] == 13_000

    run(redis_url, work)


def test_a_line_whose_message_is_gone_is_booked_all_the_same(redis_url: str) -> None:
    async def work(redis: RedisClient) -> None:
        store = await send(redis, RULES, 2, provider=PROVIDER)
        ours = await lines_of(store, PROVIDER)
        theirs = [Theirs(2 + n, 7_000_000_000, line.id) for n, line in enumerate(ours)]
        question = Question(PROVIDER, "EUR", "UTC", charged_on_delivery=True)
        with SortedLines() as lines:
            settled = Reconciliation(question, lines)
            settled.take_theirs(theirs, DAY, DAY)
            settled.take_ours(ours)
            result = settled.settle(DAYS)
            await redis.call([("DEL", f"{{k0}}m:{ours[0].message}")])
            accepted = await accept(store, result, settled.items(), "one", lambda: NOON + DAY_MS)
        assert accepted == InvoiceAcceptance(1, 14_000 - sum(line.cost for line in ours))
        assert (await books(store))[0] == 14_000

    run(redis_url, work)


def test_lines_of_messages_that_lapsed_are_not_booked_twice(redis_url: str) -> None:
    """The invoice of three days comes when the messages of the first two are no more."""
    week = DaySpan(DAY, DAY + datetime.timedelta(days=6))
    left = DaySpan(DAY + datetime.timedelta(days=2), week.last)

    async def work(redis: RedisClient) -> None:
        store = await send(redis, RULES, 2, provider=PROVIDER)
        for day, prefix in ((1, "7917"), (2, "7918")):
            await send(redis, RULES, 2, provider=PROVIDER, at_ms=NOON + day * DAY_MS, prefix=prefix)
        ours = await lines_of(store, PROVIDER)
        theirs = [
            Theirs(2 + n, line.cost * 2_000_000, line.id, at_ms=line.at_ms)
            for n, line in enumerate(ours)
        ]
        booked = await books(store)
        await redis.call([("DEL", *(f"{{k0}}m:{line.message}" for line in ours[:4]))])
        with pytest.raises(LinesLapsed, match=r"booked twice.*--from 2026-11-23, and"):
            await settle(store, theirs, days=week)
        assert await books(store) == booked
        await settle(store, theirs, days=left)
        assert (await books(store))[0] == booked[0] + sum(line.cost for line in ours[4:])

    run(redis_url, work)


@pytest.mark.parametrize(
    ("picos", "micros"),
    [(1_500_000, 2), (2_500_000, 2), (2_500_001, 3), (-1_500_000, -2), (-2_400_000, -2), (0, 0)],
)
def test_an_amount_is_rounded_once_to_the_even(picos: int, micros: int) -> None:
    assert in_micros(picos) == micros
    assert ReconciledLine("price", None, Theirs(2, picos)).accepted == micros
