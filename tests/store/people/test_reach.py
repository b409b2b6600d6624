"""What is learned of a person's channels: in its record, whoever asks, where it changes."""

from __future__ import annotations

from typing import Any

import pytest

from gateway.core import events as ev
from gateway.core.addresses import Addresses
from gateway.core.people.reach import is_unreachable
from gateway.core.records.message import Message, StepStatus
from gateway.core.records.person import Person
from gateway.store.messages import reads
from gateway.store.messages.apply import Item
from gateway.store.messages.receipts import take_receipts
from gateway.store.people import persons
from gateway.store.store import Store
from providers.contract import Category, Fault, Receipt
from tests.store.people.test_identities import (
    HOME,
    OTHER,
    PHONE,
    SHARDS,
    USER,
    accept,
    in_store,
    record,
)
from tests.worlds.cascade_world import DAY, T0
from tests.worlds.watched_link import WatchedLink

NOBODY = Fault("7002", "EC_UNKNOWN_USER", True)
CODE: dict[str, Any] = {"category": "otp", "campaign": None, "user": None}


async def fail(store: Store, id_: str, *, to: str | None = PHONE, now_ms: int = T0) -> None:
    """Sends the first step; its provider says that nobody is there."""
    for event in (ev.Claimed(0), ev.Accepted(0)):
        await store.apply([Item(id_, event)], now_ms)
    told = Receipt("undelivered", ref=f"{id_}.0", fault=NOBODY, to=to, unreachable=True)
    await take_receipts(store, "viber", [told], now_ms)


async def message(store: Store, id_: str) -> Message:
    found = await reads.message(store, id_)
    assert found is not None
    return found


async def first_step(store: Store, id_: str) -> str:
    step = (await message(store, id_)).steps[0]
    return step.fault.code if step.status == StepStatus.SKIPPED and step.fault else "runs"


def unreachable(store: Store, person: Person, to: str = PHONE) -> bool:
    return is_unreachable([person], "viber", Addresses(to), store.policy, T0)


@pytest.mark.parametrize("category", ["otp", "transactional", "marketing"])
@pytest.mark.parametrize("to", [PHONE, None])
def test_the_next_message_goes_by_sms_at_once(
    redis_url: str, category: Category, to: str | None
) -> None:
    async def work(store: Store) -> None:
        changes = CODE | {"category": category}
        await fail(store, await accept(store, **changes), to=to)
        assert unreachable(store, await record(store, f"p:{PHONE}"))
        again = await accept(store, **changes)
        assert await first_step(store, again) == "not_reachable"
        assert (await message(store, again)).step.channel == "sms"
        assert await first_step(store, await accept(store, OTHER, **changes)) == "runs"
        later = await accept(store, now_ms=T0 + 30 * DAY, **changes)
        assert await first_step(store, later) == "runs"

    in_store(redis_url, work)


@pytest.mark.parametrize("to", [PHONE, None])
def test_a_delivery_ends_it_whether_the_provider_repeats_the_number_or_not(
    redis_url: str, to: str | None
) -> None:
    async def work(store: Store) -> None:
        await fail(store, await accept(store, **CODE))
        id_ = await accept(store, route="viber-only", **CODE)
        for event in (ev.Claimed(0), ev.Accepted(0)):
            await store.apply([Item(id_, event)], T0)
        await take_receipts(store, "viber", [Receipt("delivered", ref=f"{id_}.0", to=to)], T0)
        assert not unreachable(store, await record(store, f"p:{PHONE}"))
        assert await first_step(store, await accept(store, **CODE)) == "runs"

    in_store(redis_url, work)


@pytest.mark.parametrize("told", ["delivered", "seen", "clicked"])
def test_a_message_that_arrived_after_its_refusal_ends_it(redis_url: str, told: Any) -> None:
    """A transactional message without caps, of which nothing is held for the person."""

    async def work(store: Store) -> None:
        transactional = CODE | {"category": "transactional"}
        await fail(store, id_ := await accept(store, **transactional))
        assert unreachable(store, await record(store, f"p:{PHONE}"))
        if told == "clicked":
            await store.apply([Item(id_, ev.Reacted(0, "clicked", T0))], T0)
        else:
            await take_receipts(store, "viber", [Receipt(told, ref=f"{id_}.0")], T0)
        assert not unreachable(store, await record(store, f"p:{PHONE}"))
        assert await first_step(store, await accept(store, **transactional)) == "runs"

    in_store(redis_url, work)


def test_a_code_that_arrives_where_nothing_is_known_reads_and_writes_no_more_than_before(
    redis_url: str,
) -> None:
    async def work(store: Store) -> None:
        id_ = await accept(store, **CODE)
        for event in (ev.Claimed(0), ev.Accepted(0)):
            await store.apply([Item(id_, event)], T0)
        watched = WatchedLink(store.redis)
        counting = Store(watched, store.policy, shards=SHARDS)
        counting.campaigns, counting.lines = store.campaigns, store.lines
        counting.declarations = store.declarations
        await take_receipts(counting, "viber", [Receipt("delivered", ref=f"{id_}.0")], T0)
        assert (watched.commits.total(), watched.calls.total()) == (1, 2)
        assert await record(store, f"p:{PHONE}") == Person()

    in_store(redis_url, work)


def test_it_goes_along_when_two_persons_turn_out_to_be_one(redis_url: str) -> None:
    """Also what is learned under the one that gives way, after it did."""

    async def work(store: Store) -> None:
        loser = OTHER if f"p:{PHONE}" == HOME else PHONE
        winner = HOME[2:]
        for to in (winner, loser):
            await accept(store, to, user=None, campaign=f"first-{to}")
        await fail(store, await accept(store, loser, **CODE), to=loser)
        # Both name the user, so they are one person from here on.
        await accept(store, winner, campaign="joins")
        id_ = await accept(store, loser, campaign="joined")
        assert await first_step(store, id_) == "not_reachable"
        assert unreachable(store, await record(store, HOME), loser)
        assert (await message(store, id_)).person == HOME

    in_store(redis_url, work)


def test_what_is_learned_for_a_message_of_a_person_that_gave_way_is_found(redis_url: str) -> None:
    async def work(store: Store) -> None:
        loser = OTHER if f"p:{PHONE}" == HOME else PHONE
        waiting = await accept(store, loser, user=None, campaign="waits")
        await accept(store, HOME[2:], user=None, campaign="theirs")
        await accept(store, HOME[2:], campaign="joins")
        await accept(store, loser, campaign="joined")
        await fail(store, waiting, to=loser)
        assert await first_step(store, await accept(store, loser, campaign="next")) == (
            "not_reachable"
        )

    in_store(redis_url, work)


def test_it_is_erased_with_the_person(redis_url: str) -> None:
    async def work(store: Store) -> None:
        await fail(store, await accept(store))
        await persons.erase(store, await persons.find(store, f"u:{USER}", T0), T0)
        assert await record(store, f"p:{PHONE}") == Person()
        assert await first_step(store, await accept(store, campaign="anew")) == "runs"

    in_store(redis_url, work)


def test_who_is_refused_in_the_answer_is_remembered(redis_url: str) -> None:
    async def work(store: Store) -> None:
        id_ = await accept(store, **CODE)
        for event in (ev.Claimed(0), ev.StepRefused(0, NOBODY, unreachable=True)):
            await store.apply([Item(id_, event)], T0)
        assert unreachable(store, await record(store, f"p:{PHONE}"))

    in_store(redis_url, work)
