"""Invoices of one period after the other, among receipts, erasures and runs of the archive: our
cost is what they ask for, and accepting any of them again changes nothing."""

from __future__ import annotations

import datetime
from contextlib import aclosing
from decimal import Decimal
from functools import partial
from pathlib import Path
from random import Random

import pytest
import trio

from gateway.archive.booked import ArchivedLedger
from gateway.archive.sent import archived_messages, archived_through, records_of
from gateway.core.money.days import DAY_MS, HOUR_MS, day_of
from gateway.core.money.reconciliation import Ours, Theirs, in_micros
from gateway.finance.invoices.acceptance import InvoiceAcceptance, accept
from gateway.finance.invoices.reconcile import DaySpan, Question, Reconciliation
from gateway.finance.invoices.sorted_lines import SortedLines
from gateway.finance.lines.lines import LinesQuery, pages_of_lines
from gateway.finance.question import Query
from gateway.redis.trio_driver import open_client
from gateway.store.archive.closed import listed_since
from gateway.store.messages.sent_lines import lines_within, sent_lines
from gateway.store.money.invoices import accepted_days
from gateway.store.people import persons
from tests.worlds.archive_world import ArchiveWorld
from tests.worlds.cascade_world import T0

PROVIDER = "viber"
PERIODS = 4
PERIOD_DAYS = 3
QUESTION = Question(PROVIDER, "EUR", "UTC", charged_on_delivery=True)
NOTHING = InvoiceAcceptance(0, 0)


def days_of(period: int) -> DaySpan:
    first = day_of(T0) + datetime.timedelta(days=PERIOD_DAYS * period)
    return DaySpan(first, first + datetime.timedelta(days=PERIOD_DAYS - 1))


async def ours_of(world: ArchiveWorld, from_ms: int, to_ms: int) -> list[Ours]:
    """As the command reads them: what is in Redis comes first."""
    found: list[Ours] = []
    async with aclosing(sent_lines(world.store, PROVIDER, from_ms, to_ms)) as batches:
        async for batch in batches:
            found += batch
    through = archived_through(world.archive)
    async with aclosing(listed_since(world.store, through)) as pages:
        async for page in pages:
            found += lines_within(page, PROVIDER, from_ms, to_ms)
    for page in archived_messages(world.archive, day_of(T0), day_of(world.now_ms)):
        found += lines_within(page, PROVIDER, from_ms, to_ms)
    return list({(line.message, line.attempt): line for line in reversed(found)}.values())


async def settle(world: ArchiveWorld, period: int, theirs: list[Theirs]) -> InvoiceAcceptance:
    days = days_of(period)
    with SortedLines() as lines:
        work = Reconciliation(QUESTION, lines)
        work.take_theirs(theirs, days.first, days.last)
        work.take_ours(await ours_of(world, *work.span(days)))
        accepted = await accepted_days(world.store, PROVIDER)
        work.take_accepted(DaySpan(*each) for each in accepted)
        result = work.settle(days)
        records = partial(records_of, world.archive)
        items, name = work.items(), f"i{period}"
        return await accept(world.store, result, items, name, lambda: world.now_ms, records)


async def cost(world: ArchiveWorld) -> int:
    query = LinesQuery(Query(day_of(T0), day_of(world.now_ms), (), (("provider", PROVIDER),)))
    books = ArchivedLedger(world.archive)
    pages = pages_of_lines(world.redis, world.shards, query, "EUR", archived=books)
    async with aclosing(pages):
        return sum(
            [line.amount async for page in pages for _, line in page.lines if line.kind != "bill"]
        )


async def bill(world: ArchiveWorld, chance: Random, period: int) -> list[Theirs]:
    """Most of the period's lines and some of those just before it, at the provider's prices."""
    asked = days_of(period).range("UTC")
    theirs = []
    for number, line in enumerate(await ours_of(world, asked.from_ms - DAY_MS, asked.to_ms)):
        is_before = line.at_ms < asked.from_ms
        if chance.random() < (0.3 if is_before else 0.8):
            price = chance.choice([line.cost, line.cost, 5_000, 7_000]) * 1_000_000
            theirs.append(Theirs(2 + number, price, line.id, at_ms=max(line.at_ms, asked.from_ms)))
    if chance.random() < 0.3:
        theirs.append(Theirs(1, 3_000_000_000, "stranger", at_ms=asked.from_ms))
    return theirs


async def live(world: ArchiveWorld, chance: Random, period: int) -> None:
    """What happens in one period."""
    for day in range(PERIOD_DAYS):
        world.now_ms = T0 + (PERIOD_DAYS * period + day) * DAY_MS
        for _ in range(3):
            world.now_ms += chance.randrange(1, 7) * HOUR_MS
            ids = await world.send(2, f"c{world.now_ms}")
            await world.hand_over(ids)
            price = {"cost": Decimal(chance.choice(["0.006", "0.009"])), "currency": "EUR"}
            await world.tell(ids[:1], "delivered", **chance.choice([{}, price]))
            await world.tell(ids[1:], chance.choice(["delivered", "undelivered"]))
            if chance.random() < 0.3:
                await world.tell(ids, "delivered", **price)
        await world.archived(**chance.choice([{}, {"keep_ms": 0}]))
        if chance.random() < 0.3:
            found = await persons.find(world.store, f"p:7916{chance.randrange(2):07}", world.now_ms)
            await persons.erase(world.store, found, world.now_ms)


async def over_time(redis_url: str, root: Path, seed: int) -> None:
    chance = Random(seed)
    async with open_client(redis_url) as redis:
        world = ArchiveWorld(redis, root, shards=chance.choice([1, 2]))
        invoices: list[list[Theirs]] = []
        for period in range(PERIODS):
            await live(world, chance, period)
            invoices.append(await bill(world, chance, period))
            before = await cost(world)
            told = await settle(world, period, invoices[-1])
            assert await cost(world) == before + told.amount
        asked = in_micros(sum(line.amount for theirs in invoices for line in theirs))
        assert await cost(world) == asked, seed
        world.now_ms += 3 * DAY_MS
        for period in chance.sample(range(PERIODS), PERIODS):
            assert await settle(world, period, invoices[period]) == NOTHING, (seed, period)
            await world.archived(keep_ms=0)
        assert (await world.verify()).agrees


@pytest.mark.parametrize("seed", range(3))
def test_each_is_booked_once_whatever_comes_between(
    redis_url: str, tmp_path: Path, seed: int
) -> None:
    trio.run(over_time, redis_url, tmp_path / "archive", seed)
