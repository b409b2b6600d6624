"""Requests that come together join no more identities than those that come one after another."""

from __future__ import annotations

from typing import Any

import pytest
import trio
from msgspec.structs import replace

from gateway.core.people.identities import IDENTITIES_MAX
from gateway.core.records.person import Person, pack_person
from gateway.core.records.request import MessageRequest
from gateway.store.people import identities
from gateway.store.store import Store
from tests.store.people.test_identities import in_store, keys_for, record, send
from tests.worlds.cascade_world import T0
from tests.worlds.watched_link import WatchedLink

PHONES = [f"7916{number:07}" for number in range(60)]
GUEST = "guest"


async def outcomes(store: Store, sends: list[MessageRequest]) -> list[str]:
    return [answer.outcome for answer in await store.admit(sends, T0)]


def each(store: Store, **changes: Any) -> list[MessageRequest]:
    return [send(store, to, **changes) for to in PHONES]


async def bounded(store: Store) -> None:
    """How many persons the phones are, by who is the duplicate of whom."""
    told = await outcomes(store, each(store, user=None, campaign="spring"))
    assert set(told) == {"accepted", "duplicate"}
    assert told.count("duplicate") == IDENTITIES_MAX - 2, "the user, a phone, and so many more"
    listed = [len((await record(store, f"p:{to}")).aliases) for to in PHONES]
    assert max(listed) == IDENTITIES_MAX - 1


@pytest.mark.parametrize("known", [False, True])
def test_one_user_of_very_many_phones_in_a_batch_is_one_person_with_few_of_them(
    redis_url: str, known: bool
) -> None:
    async def work(store: Store) -> None:
        if known:
            told = await outcomes(store, each(store, user=None, campaign="before"))
            assert set(told) == {"accepted"}
        sends = [replace(s, campaign=f"c{n}") for n, s in enumerate(each(store, user=GUEST))]
        assert set(await outcomes(store, sends)) == {"accepted"}
        await bounded(store)
        assert store.counts.unjoined == len(PHONES) - (IDENTITIES_MAX - 1)

    in_store(redis_url, work)


def test_batches_at_the_same_time_join_no_more(redis_url: str) -> None:
    async def work(store: Store) -> None:
        sends = [replace(s, campaign=f"c{n}") for n, s in enumerate(each(store, user=GUEST))]
        async with trio.open_nursery() as group:
            for first in range(0, len(sends), 20):
                group.start_soon(store.admit, sends[first : first + 20], T0)
        await bounded(store)

    in_store(redis_url, work)


def test_who_leads_to_a_person_that_is_full_and_is_not_listed_is_sent_to(redis_url: str) -> None:
    """As two processes may leave it that join somebody at the same moment."""

    async def work(store: Store) -> None:
        home, late = PHONES[0], PHONES[1]
        for number in range(IDENTITIES_MAX - 1):
            await store.admit([send(store, home, user=f"v{number}", campaign=f"c{number}")], T0)
        half = Person(home=f"p:{home}", linked_ms=T0 + 10**10)
        key = keys_for(f"p:{late}").person(f"p:{late}")
        await store.redis.call([("SET", key, pack_person(half))])
        for user in (None, GUEST):
            wanted = [send(store, late, user=user, campaign=f"late-{user}")]
            assert await outcomes(store, wanted) == ["accepted"]
        assert len((await record(store, f"p:{home}")).aliases) == IDENTITIES_MAX - 1
        assert (await record(store, f"p:{late}")).home == "", "it is somebody else"

    in_store(redis_url, work)


def test_a_stored_user_of_very_many_phones_is_bounded_as_well(redis_url: str) -> None:
    async def work(store: Store) -> None:
        await identities.link(store, [[f"p:{to}", f"u:{GUEST}"] for to in PHONES], T0)
        await bounded(store)

    in_store(redis_url, work)


def test_who_is_asked_beside_each_of_a_batch_is_read_together(redis_url: str) -> None:
    async def work(store: Store) -> None:
        sends = [replace(s, campaign=f"c{n}") for n, s in enumerate(each(store, user=GUEST))]
        await store.admit(sends, T0)
        link = WatchedLink(store.redis)
        watched = Store(link, store.policy, shards=store.shards)
        again = [replace(s, campaign=f"d{n}") for n, s in enumerate(each(store, user=GUEST))]
        assert set(await outcomes(watched, again)) == {"accepted"}
        assert max(link.calls.values()) < len(PHONES) / 2

    in_store(redis_url, work)
