"""Whom a campaign leaves out, where a person has several records, many claims, or is erased."""

from __future__ import annotations

from typing import Any

import trio
from msgspec.structs import replace

from gateway.core import events as ev
from gateway.core.campaigns.audience import mark_of
from gateway.core.campaigns.campaigns import Campaign, Declared
from gateway.core.records.person import DAY_MS, Person
from gateway.redis.trio_driver import open_client
from gateway.store.messages.apply import Item
from gateway.store.people import persons
from gateway.store.store import Store
from gateway.store.writes import Retention
from providers.contract import Receipt
from tests.store.people.test_identities import (
    HOME,
    OTHER,
    PHONE,
    SHARDS,
    USER,
    accept,
    in_store,
    record,
    send,
)
from tests.worlds.cascade_world import DAY, T0, policy

WAVE = "wave-1"
NEXT = Campaign(exclude_campaigns=(WAVE,), silent_for="90d", silent_ms=90 * DAY)


async def declare(store: Store) -> None:
    store.declarations.declared = Declared({"wave-2": NEXT})
    store.declarations.loaded = True
    store.policy = policy()


async def reach(store: Store, to: str, *, seen: bool = False) -> None:
    """The first wave reaches somebody known by this phone alone."""
    id_ = await accept(store, to, user=None, campaign=WAVE)
    receipt = Receipt("seen" if seen else "delivered", ref=f"{id_}.0")
    for happening in (ev.Claimed(0), ev.Accepted(0), ev.Reported(0, receipt, "viber")):
        await store.apply([Item(id_, happening)], T0)


async def told(
    store: Store, now_ms: int, to: str = PHONE, campaign: str = "wave-2", **changes: Any
) -> str:
    asked = send(store, to, now_ms, campaign=campaign, **changes)
    (answer,) = await store.admit([asked], now_ms)
    return answer.reason or answer.outcome


def test_who_was_reached_as_another_person_is_left_out_as_well(redis_url: str) -> None:
    loser, winner = (OTHER, PHONE) if f"p:{PHONE}" == HOME else (PHONE, OTHER)

    async def work(store: Store) -> None:
        await declare(store)
        await reach(store, loser)
        assert await told(store, T0, winner, "joins") == "accepted"
        assert await told(store, T0, loser) == "excluded", "the user makes them one person"
        later_ms = T0 + 40 * DAY
        assert await told(store, later_ms, winner, "third") == "accepted", "the claim is over"
        assert (await record(store, HOME)).reached == {mark_of(WAVE): T0 // DAY_MS}
        store.declarations.declared = Declared({"fourth": NEXT})
        store.policy = policy()
        assert await told(store, later_ms, winner, "fourth") == "excluded"

    in_store(redis_url, work)


def test_a_claim_that_stands_apart_from_its_person_is_asked_as_well(redis_url: str) -> None:
    async def main() -> None:
        async with open_client(redis_url) as redis:
            store = Store(redis, policy(), shards=SHARDS, retention=Retention(claims_max=2))
            await accept(store, campaign=WAVE)
            for number in range(4):
                await accept(store, campaign=f"c{number}")
            assert WAVE not in (await record(store, f"p:{PHONE}")).claims
            await declare(store)
            assert await told(store, T0) == "excluded"

    trio.run(main)


def test_what_is_remembered_goes_with_the_person(redis_url: str) -> None:
    async def work(store: Store) -> None:
        await declare(store)
        await reach(store, PHONE, seen=True)
        known = await record(store, f"p:{PHONE}")
        assert (known.reached, known.reacted_s) == ({mark_of(WAVE): T0 // DAY_MS}, T0 // 1000)
        await accept(store, campaign="joins")
        await persons.erase(store, await persons.find(store, f"u:{USER}", T0), T0)
        assert await record(store, f"p:{PHONE}") == Person()
        assert await told(store, T0) == "accepted"

    in_store(redis_url, work)


def test_a_reaction_from_before_anybody_asked_is_told_by_its_message(redis_url: str) -> None:
    async def work(store: Store) -> None:
        await reach(store, PHONE, seen=True)
        await reach(store, OTHER)
        store.declarations.declared = Declared({"silent": replace(NEXT, exclude_campaigns=())})
        store.policy = policy()
        assert await told(store, T0 + 20 * DAY, campaign="silent", user=None) == "excluded"
        dry = await store.dry_run(send(store, PHONE, campaign="silent", user=None), T0 + 20 * DAY)
        assert dry.answer.reason == "excluded"
        assert await told(store, T0, OTHER, "silent", user=None) == "accepted"

    in_store(redis_url, work)


def test_where_no_campaign_asks_a_persons_record_is_as_it_was(redis_url: str) -> None:
    async def work(store: Store) -> None:
        await reach(store, PHONE, seen=True)
        known = await record(store, f"p:{PHONE}")
        assert replace(known, claims={}, keep_ms=0) == Person(apart_ms=0)

    in_store(redis_url, work)
