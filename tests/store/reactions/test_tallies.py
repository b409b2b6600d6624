"""What all processes count together of an app's persons, and an order of a route that uses it."""

from __future__ import annotations

from typing import Any

import pytest
from msgspec.structs import replace

from gateway.core import events as ev
from gateway.core import waits
from gateway.core.money.days import DAY_MS
from gateway.core.people.rates import Counted
from gateway.core.policy import LearnedWait, Policy, RouteStep
from gateway.core.records.message import Message
from gateway.redis.trio_driver import open_client
from gateway.store.keys import keys_of
from gateway.store.messages import reads
from gateway.store.messages.apply import Item
from gateway.store.reactions.tallies import PERIOD_MS, PERIODS, REFRESH_MS
from gateway.store.store import Store
from providers.contract import Receipt, ReceiptStatus
from tests.store.people.test_identities import SHARDS, accept, in_store
from tests.worlds.cascade_world import T0, policy

CODE: dict[str, Any] = {"category": "transactional", "campaign": None, "user": None}


def rules() -> Policy:
    base = policy()
    return replace(
        base,
        best={"viber-then-sms": "rate"},
        reach=replace(base.reach, metric="any", prior={"viber": 100_000, "sms": 200_000}),
    )


async def deliver(store: Store, to: str, channel: str, *, seen: bool = False) -> None:
    id_ = await accept(store, to, route=f"{channel}-only", **CODE)
    for event in (ev.Claimed(0), ev.Accepted(0)):
        await store.apply([Item(id_, event)], T0)
    told: list[ReceiptStatus] = ["delivered", "seen"] if seen else ["delivered"]
    for status in told:
        receipt = Receipt(status, ref=f"{id_}.0")
        await store.apply([Item(id_, ev.Reported(0, receipt, channel))], T0)


async def sent_by(store: Store, to: str, now_ms: int = T0) -> Message:
    found = await reads.message(store, await accept(store, to, now_ms, **CODE))
    assert found is not None
    return found


def test_a_person_who_reacts_elsewhere_gets_another_order_with_its_numbers(redis_url: str) -> None:
    async def work(store: Store) -> None:
        to = "79160000003"
        for _ in range(3):
            await deliver(store, to, "sms")
            await deliver(store, to, "viber", seen=True)
        assert [s.channel for s in (await sent_by(store, to)).steps] == ["viber", "sms"]
        for _ in range(3):
            await deliver(store, to, "sms")
        # 3.8 of 11 and 1.6 of 14: seen where it can be.
        steps = (await sent_by(store, to)).steps
        assert [(s.channel, s.rate) for s in steps] == [("viber", 345_454), ("sms", 114_285)]
        quiet = "79160000004"
        for _ in range(3):
            await deliver(store, quiet, "viber")
            await deliver(store, quiet, "sms")
        assert [s.channel for s in (await sent_by(store, quiet)).steps] == ["sms", "viber"]

    in_store(redis_url, work, rules())


def test_other_processes_count_with_it_and_it_fades(redis_url: str) -> None:
    async def work(store: Store) -> None:
        for n in range(4):
            await deliver(store, f"7916000{n:04}", "viber", seen=n == 0)
        async with open_client(redis_url) as client:
            other = Store(client, store.policy, shards=SHARDS)
            await other.tallies.refresh(client, other.policy, SHARDS, T0)
            shop = ("shop", "viber")
            assert other.tallies.known.rates == {shop: Counted(4_000, 1_000)}
            await deliver(store, "79160000009", "viber")
            await other.tallies.refresh(client, other.policy, SHARDS, T0 + REFRESH_MS - 1)
            assert other.tallies.known.rates[shop].exposures == 4_000, "it is asked now and then"
            await other.tallies.refresh(client, other.policy, SHARDS, T0 + REFRESH_MS)
            assert other.tallies.known.rates[shop].exposures == 5_000
            later = T0 + PERIOD_MS * 4
            await other.tallies.refresh(client, other.policy, SHARDS, later)
            assert 2_000 < other.tallies.known.rates[shop].exposures < 3_000
            await other.tallies.refresh(client, other.policy, SHARDS, T0 + PERIOD_MS * PERIODS)
            assert other.tallies.known.rates == {}

    in_store(redis_url, work, rules())


def test_where_no_route_needs_it_nothing_is_counted_or_read(redis_url: str) -> None:
    async def work(store: Store) -> None:
        await deliver(store, "79160000001", "viber", seen=True)
        found = await store.redis.call(
            [("EXISTS", f"{{k{n}}}rates:{T0 // PERIOD_MS}") for n in range(SHARDS)]
        )
        assert found == [0] * SHARDS
        await store.tallies.refresh(store.redis, store.policy, SHARDS, T0 + DAY_MS)
        assert store.tallies.known.rates == {}

    in_store(redis_url, work)


def learning() -> Policy:
    rule = LearnedWait(min_ms=1_000, max_ms=900_000)
    return policy(steps=(RouteStep(("viber",), rule.max_ms, 10_000, learned=rule),))


async def take(store: Store, number: int, took_ms: int, now_ms: int = T0) -> None:
    id_ = await accept(store, f"79161{number:06}", now_ms, route="viber-only", **CODE)
    for event in (ev.Claimed(0), ev.Accepted(0)):
        await store.apply([Item(id_, event)], now_ms)
    receipt = Receipt("delivered", ref=f"{id_}.0")
    await store.apply([Item(id_, ev.Reported(0, receipt, "viber"))], now_ms + took_ms)


def test_a_wait_is_learned_from_what_deliveries_took_in_every_process(
    redis_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(waits, "DELIVERIES_MIN", 5)

    async def work(store: Store) -> None:
        for number in range(5):
            await take(store, number, 7_000)
        async with open_client(redis_url) as client:
            other = Store(client, store.policy, shards=SHARDS)
            before = T0 + REFRESH_MS
            (step,) = (await message_at(other, before)).steps
            assert (step.auto, step.wait_ms) == (900_000, 8_000)
            later = T0 + 4 * DAY_MS
            assert (await message_at(other, later)).steps[0].wait_ms == 900_000, "days ago"

    in_store(redis_url, work, learning())


async def message_at(store: Store, now_ms: int) -> Message:
    id_ = await accept(store, "79169999999", now_ms, route="viber-only", **CODE)
    found = await reads.message(store, id_)
    assert found is not None
    return found


def test_counters_that_cannot_be_read_count_for_nothing_and_refuse_no_message(
    redis_url: str,
) -> None:
    """As those that a newer version counts beside ours while an upgrade goes round."""
    junk = b"\xff\xfe junk"
    rule = LearnedWait(30_000, 900_000)
    step = RouteStep(("viber",), rule.max_ms, 10_000, learned=rule)
    both = replace(rules(), routes=policy(steps=(step,)).routes)

    async def work(store: Store) -> None:
        keys = keys_of(0)
        rates = keys.rates(T0 // PERIOD_MS)
        await store.redis.call(
            [
                ("HSET", rates, junk, 1, "viber:opens:shop", 1, "viber:reactions:shop", junk),
                ("HSET", rates, "viber:exposures:shop", 4),
                ("HSET", keys.delays("d", T0 // DAY_MS), junk, 1, "x:RU:viber", 1, "99999:RU:a", 9),
            ]
        )
        assert store.policy.counts
        assert store.policy.learning
        await sent_by(store, "79160000003")
        assert store.tallies.known.rates == {("shop", "viber"): Counted(4_000, 0)}

    in_store(redis_url, work, both)
