"""Campaign names as natural keys: a million of them cost what one does, and no sum is wrong."""

from __future__ import annotations

from itertools import count

from gateway.core.campaigns.campaigns import HOLDOUT_PARTS
from gateway.core.money.days import day_of
from gateway.core.records.entries import OTHER_CAMPAIGNS
from gateway.core.records.request import Saying
from gateway.finance.question import Query
from gateway.finance.reports.report import Cell, cost_report
from gateway.finance.reports.verify import Verdict, compare_books
from gateway.store.keys import keys_of
from gateway.store.money.ledger import read_books
from gateway.store.money.totals import pages_of_totals
from gateway.store.shared_keys import campaigns_of
from gateway.store.store import Store
from gateway.store.writes import Retention
from tests.worlds import stores
from tests.worlds.cascade_world import DAY, T0, request
from tests.worlds.stores import Work

LIMIT = 5
BATCH = 200
PERSONS = count()


def in_store(url: str, work: Work) -> None:
    stores.in_store(url, lambda store: work(new_store(store)))


def new_store(store: Store) -> Store:
    """Another process on the same Redis."""
    return Store(store.redis, store.policy, retention=Retention(campaigns_max=LIMIT))


async def accept(
    store: Store, campaigns: list[str], now_ms: int = T0, sayings: tuple[Saying, ...] = ()
) -> None:
    """A message to a person of its own for each."""
    numbers = [f"7916{next(PERSONS):07d}" for _ in campaigns]
    wanted = [
        request(id=store.new_message_id(to, now_ms), to=to, campaign=campaign, sayings=sayings)
        for to, campaign in zip(numbers, campaigns, strict=True)
    ]
    assert {a.outcome for a in await store.admit(wanted, now_ms)} == {"accepted"}


async def accepted(store: Store, now_ms: int = T0) -> dict[Cell, Cell]:
    day = day_of(now_ms)
    pages = pages_of_totals(store.redis, 1, day, day)
    report = await cost_report(pages, Query(day, day, ("campaign",)), "EUR")
    return {row["campaign"]: row["accepted"] for row in report.rows()}


async def verify(store: Store) -> Verdict:
    return await compare_books(read_books(store.redis, 1))


def test_the_first_campaigns_of_a_month_are_kept_apart_and_the_rest_added_up(
    redis_url: str,
) -> None:
    async def work(store: Store) -> None:
        await accept(store, [f"order-{n}" for n in range(LIMIT)])
        await accept(store, ["order-1", "order-98", "order-99"])
        expected = {f"order-{n}": 1 + (n == 1) for n in range(LIMIT)} | {OTHER_CAMPAIGNS: 2}
        assert await accepted(store) == expected
        other = new_store(store)
        await accept(other, ["order-2", "order-98"])
        assert (await accepted(store))["order-2"] == 2
        assert (await accepted(store))[OTHER_CAMPAIGNS] == 3
        assert (await verify(store)).agrees

    in_store(redis_url, work)


def test_variants_of_campaigns_that_are_not_kept_apart_are_added_up_as_well(
    redis_url: str,
) -> None:
    async def work(store: Store) -> None:
        await accept(store, [f"order-{n}" for n in range(LIMIT)])
        for n in range(90, 93):
            variant = (Saying(f"v{n}", HOLDOUT_PARTS, None, None),)
            await accept(store, [f"order-{n}"], sayings=variant)
        day = day_of(T0)
        totals = [t async for page in pages_of_totals(store.redis, 1, day, day) for t in page]
        others = [each for each in totals if each.group.campaign == OTHER_CAMPAIGNS]
        assert [(each.group.variant, each.amount) for each in others] == [("", 3)]
        assert (await verify(store)).agrees

    in_store(redis_url, work)


def test_another_month_has_its_own(redis_url: str) -> None:
    async def work(store: Store) -> None:
        later = T0 + 40 * DAY
        await accept(store, [f"order-{n}" for n in range(LIMIT)])
        await accept(store, ["new"], later)
        assert await accepted(store, later) == {"new": 1}
        await accept(store, ["late"])
        assert (await accepted(store))[OTHER_CAMPAIGNS] == 1
        keys = [campaigns_of(f"{day_of(ms):%Y-%m}") for ms in (T0, later)]
        lives = await store.redis.call([("PTTL", key) for key in keys])
        assert all(isinstance(ms, int) and ms > 60 * DAY for ms in lives)

    in_store(redis_url, work)


def test_a_sum_that_is_wrong_is_found_beside_the_ones_that_are_folded(redis_url: str) -> None:
    async def work(store: Store) -> None:
        await accept(store, [f"order-{n}" for n in range(LIMIT)])
        await accept(store, ["order-97", "order-98", "order-99"])
        assert (await verify(store)).agrees
        totals = keys_of(0).totals(day_of(T0).isoformat())
        (fields,) = await store.redis.call([("HKEYS", totals)])
        assert isinstance(fields, list)
        await store.redis.call([("HINCRBY", totals, fields[0], 1)])
        (difference,) = (await verify(store)).differences
        assert difference.totals - difference.ledger == 1

    in_store(redis_url, work)


def test_a_name_for_each_message_costs_what_one_name_for_all_does(redis_url: str) -> None:
    """Commands and bytes to Redis of a batch, once the month's names are settled."""

    async def work(store: Store) -> None:
        await accept(store, [f"order-{n}" for n in range(LIMIT)])
        link = store.redis
        costs = []
        for names in (["order-1"] * BATCH, [f"order-{1000 + n}" for n in range(BATCH)]):
            before = link.statistics()
            await accept(store, names)
            after = link.statistics()
            costs.append(
                [
                    getattr(after, what) - getattr(before, what)
                    for what in ("round_trips", "commands", "bytes_sent")
                ]
            )
        (trips, commands, sent), (trips_many, commands_many, sent_many) = costs
        assert trips_many == trips
        assert commands_many == commands
        # A ledger line of its own for each name, deflated with its neighbours.
        assert sent_many < 1.1 * sent
        totals = keys_of(0).totals(day_of(T0).isoformat())
        assert await link.call([("HLEN", totals)]) == [LIMIT + 1]
        assert (await verify(store)).agrees

    in_store(redis_url, work)
