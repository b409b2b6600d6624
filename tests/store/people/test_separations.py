"""An address changes hands over shards: whoever dies, and whatever is sent in between."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from functools import partial
from typing import Any

import pytest

from gateway.redis.client import Command, RedisClient, RedisReply, Session
from gateway.store.keys import shard_of
from gateway.store.people.identities import find_home, separate
from gateway.store.store import Store
from gateway.store.writes import Retention
from tests.worlds import stores
from tests.worlds.cascade_world import T0, request
from tests.worlds.watched_link import Killed, WatchedLink

SHARDS = 5
PHONE, OTHER = "79161234567", "79160000004"
PEOPLE = {f"p:{PHONE}": PHONE, f"p:{OTHER}": OTHER, "u:clara": "79160009999"}  # and where to
LEAVING = [
    (f"p:{PHONE}", "u:clara"),
    (f"p:{OTHER}", "u:clara"),
    (f"p:{PHONE}", f"p:{OTHER}"),
    (f"p:{OTHER}", f"p:{PHONE}"),
]
assert len({shard_of(who, SHARDS) for who in (PHONE, OTHER, "clara")}) == 3
in_store = partial(stores.in_store, shards=SHARDS)


class Meeting(WatchedLink):
    """Somebody else comes in between, before the call of that number."""

    def __init__(self, redis: RedisClient, at: int, somebody: Callable[[], Awaitable[Any]]) -> None:
        super().__init__(redis)
        self.at, self.somebody = at, somebody

    async def _meet(self) -> None:
        if self.calls.total() >= self.at >= 0:
            self.at = -1
            await self.somebody()

    @contextlib.asynccontextmanager
    async def session(self, key: str) -> AsyncIterator[Session]:
        outer = self

        class Met:
            async def call(self, commands: Sequence[Command]) -> list[RedisReply]:
                await outer._meet()
                return await session.call(commands)

        async with super().session(key) as session:
            yield Met()

    async def call(self, commands: Sequence[Command]) -> list[RedisReply]:
        await self._meet()
        return await super().call(commands)


async def send(store: Store, campaign: str, *identities: str) -> str:
    to = PEOPLE[identities[0]]
    user = "clara" if "u:clara" in identities else None
    wanted = request(id=store.new_message_id(to, T0), to=to, user=user, campaign=campaign)
    (answer,) = await store.admit([wanted], T0)
    return answer.outcome


async def one_person(store: Store) -> None:
    assert await send(store, "spring", f"p:{PHONE}", "u:clara") == "accepted"
    assert await send(store, "summer", f"p:{OTHER}", "u:clara") == "accepted"
    assert await send(store, "winter", "u:clara") == "accepted"


async def assert_parted(store: Store, address: str, other: str, *campaigns: str) -> None:
    """Also after the next messages to each; what was held counts for both."""
    for number, identity in enumerate((address, other, *PEOPLE)):
        homes = {i: await find_home(store, i) for i in PEOPLE}
        assert [i for i in PEOPLE if homes[i] == homes[address]] == [address]
        assert len(set(homes.values())) == 2
        for campaign in campaigns:
            assert await send(store, campaign, identity) == "duplicate", (identity, campaign)
        assert await send(store, f"next{number}", identity) in ("accepted", "suppressed")


@pytest.mark.parametrize(("address", "other"), LEAVING)
def test_who_died_in_the_middle_of_a_separation_is_followed_by_whoever_asks_again(
    redis_url: str, address: str, other: str
) -> None:
    async def work(store: Store, at: int) -> bool:
        died = False
        store.retention = Retention(claims_max=1)
        await one_person(store)
        mortal = Store(WatchedLink(store.redis, dies_at=at), store.policy, shards=SHARDS)
        mortal.retention = store.retention
        try:
            await separate(mortal, [(address, other)], T0)
        except Killed:
            died = True
        await separate(store, [(address, other)], T0)
        await assert_parted(store, address, other, "spring", "summer", "winter")
        return died

    died = stores.at_each_call(redis_url, work, shards=SHARDS)
    assert 5 < len(died) < 60, "it died at every call, until it came through"


@pytest.mark.parametrize(("address", "other"), LEAVING[1:3])
@pytest.mark.parametrize("met", PEOPLE)
def test_who_is_sent_something_in_the_middle_of_a_separation_joins_nobody_again(
    redis_url: str, address: str, other: str, met: str
) -> None:
    async def work(store: Store, at: int) -> bool:
        await one_person(store)
        link = Meeting(store.redis, at, partial(send, store, "autumn", met))
        await separate(Store(link, store.policy, shards=SHARDS), [(address, other)], T0)
        came = link.at < 0
        await assert_parted(store, address, other, "spring", "summer", "winter")
        assert await send(store, "autumn", met) == ("duplicate" if came else "accepted")
        return came

    came = stores.at_each_call(redis_url, work, shards=SHARDS)
    assert 5 <= len(came) < 59
