"""Conversions in the store: each booked once, whoever tells it, as often as it is told."""

from __future__ import annotations

import datetime
from functools import partial

import trio
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from gateway.core import events as ev
from gateway.core.records.conversion import Conversion
from gateway.core.records.message import Message
from gateway.finance.reports.verify import verify_ledger
from gateway.redis.trio_driver import open_client
from gateway.store.keys import keys_of
from gateway.store.messages import reads
from gateway.store.messages.apply import Item
from gateway.store.money.totals import total_rows
from gateway.store.reactions import conversions
from gateway.store.reactions.conversions import ToldConversion
from gateway.store.store import Store
from providers.contract import Receipt
from tests.worlds import stores
from tests.worlds.cascade_world import T0, policy, request
from tests.worlds.watched_link import Killed, WatchedLink

SHARDS = 3
DAY = datetime.date(2100, 1, 1)  # of T0
VALUE = 5_000_000
in_store = partial(stores.in_store, shards=SHARDS)


async def delivered(store: Store, to: str, user: str) -> Message:
    sent = request(id=store.new_message_id(to, T0), to=to, user=user)
    await store.admit([sent], T0)
    receipt = Receipt("delivered", at_ms=T0)
    for event in (ev.Claimed(0), ev.Accepted(0), ev.Reported(0, receipt, "viber")):
        await store.apply([Item(sent.id, event)], T0)
    message = await reads.message(store, sent.id)
    assert message is not None
    return message


async def booked(store: Store) -> tuple[int, int]:
    """Conversions and revenue over all shards; the ledger agrees."""
    assert (await verify_ledger(store.redis, SHARDS, full=True)).agrees
    sums = {"conversions": 0, "revenue": 0}
    for shard in range(SHARDS):
        keys = keys_of(shard)
        (found,) = await store.redis.call([("HGETALL", keys.totals(DAY.isoformat()))])
        pairs = list(zip(found[::2], found[1::2], strict=True))
        for row in total_rows(keys, DAY, pairs):
            if row.measure in sums:
                sums[row.measure] += row.amount
    return sums["conversions"], sums["revenue"]


def test_two_processes_that_tell_the_same_book_it_once(redis_url: str) -> None:
    async def work(store: Store) -> None:
        await delivered(store, "79160000001", "u1")
        message = await delivered(store, "79160000002", "u2")
        asked = [ToldConversion("a", T0, VALUE, user="u:u1", campaign="autumn")]
        asked += [ToldConversion("b", T0, VALUE, message), ToldConversion("a", T0, VALUE, message)]
        answers = []
        async with open_client(redis_url) as other, trio.open_nursery() as nursery:

            async def tell(on: Store) -> None:
                answers.append(await conversions.book(on, "shop", asked, T0))

            for on in (store, Store(other, policy(), shards=SHARDS)):
                for _ in range(4):
                    nursery.start_soon(tell, on)
        assert await booked(store) == (2, 2 * VALUE)
        first = [answer.again for told in answers for answer in told].count(False)
        assert first == 2, "and to one of them it is new"
        assert len({answer[0].conversion for answer in answers}) == 1

    in_store(redis_url, work)


def test_wherever_a_process_dies_it_is_booked_by_who_tells_it_again(redis_url: str) -> None:
    async def work(store: Store) -> None:
        deaths = 0
        for dies_at in range(99):
            message = await delivered(store, f"7916000{dies_at:04}", f"u{dies_at}")
            asked = [ToldConversion(f"c{dies_at}", T0, VALUE, message)]
            dying = WatchedLink(store.redis, dies_at=dies_at)
            mortal = Store(dying, store.policy, shards=SHARDS)
            mortal.declarations = store.declarations
            try:
                await conversions.book(mortal, "shop", asked, T0)
            except Killed:
                deaths += 1
            (answer,) = await conversions.book(store, "shop", asked, T0)
            assert await booked(store) == (dies_at + 1, (dies_at + 1) * VALUE)
            assert isinstance(answer.conversion, Conversion)
            assert answer.conversion.had_by is not None
            if deaths == dies_at:
                break
        assert deaths > 3

    in_store(redis_url, work)


def test_a_message_of_which_nothing_arrived_yet_goes_on_no_further(redis_url: str) -> None:
    """Nothing has the conversion, which names the message all the same: the person converted."""

    async def work(store: Store) -> None:
        sent = request(id=store.new_message_id("79160000001", T0), to="79160000001")
        await store.admit([sent], T0)
        for event in (ev.Claimed(0), ev.Accepted(0)):
            await store.apply([Item(sent.id, event)], T0)
        message = await reads.message(store, sent.id)
        assert message is not None
        (answer,) = await conversions.book(
            store, "shop", [ToldConversion("a", T0, VALUE, message)], T0
        )
        assert isinstance(answer.conversion, Conversion)
        assert answer.conversion.had_by is None
        told = await reads.message(store, sent.id)
        assert told is not None
        assert told.finished
        assert told.steps[1].fault is not None
        assert told.steps[1].fault.code == "converted"
        assert await booked(store) == (0, 0)

    in_store(redis_url, work)


TOLD = st.lists(
    st.tuples(st.sampled_from("abc"), st.integers(0, 1), st.sampled_from([VALUE, -1_000_000, 0])),
    max_size=8,
)


@settings(
    max_examples=15,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)
@given(TOLD, st.lists(st.integers(1, 4), max_size=3))
def test_whatever_is_told_however_often_each_id_counts_as_it_first_came(
    redis_url: str, told: list[tuple[str, int, int]], cuts: list[int]
) -> None:
    async def work(store: Store) -> None:
        await store.redis.call([("FLUSHALL",)])
        people = [await delivered(store, f"7916000000{n}", f"u{n}") for n in range(2)]
        asked = [ToldConversion(id_, T0, value, people[who]) for id_, who, value in told]
        calls: list[list[ToldConversion]] = []
        rest = asked
        for cut in cuts:
            calls, rest = [*calls, rest[:cut]], rest[cut:]
        for batch in (*calls, rest, asked):
            await conversions.book(store, "shop", batch, T0)
        first: dict[str, int] = {}
        for id_, _, value in told:
            first.setdefault(id_, value)
        counted = sum(value >= 0 for value in first.values())
        assert await booked(store) == (counted, sum(first.values()))

    in_store(redis_url, work)
