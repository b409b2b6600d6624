"""Users are stored in batches: what a batch costs, and that it leaves what single changes leave."""

from __future__ import annotations

import random
from functools import partial

import pytest

from gateway.core.addresses import Addresses
from gateway.core.records.codec import UnreadableRecordError
from gateway.core.records.user import StoredUser
from gateway.store.keys import keys_of, shard_of, shard_of_identity
from gateway.store.people import address_owners, users
from gateway.store.people.identities import find_home
from gateway.store.people.users import UserChange
from gateway.store.store import Store
from tests.worlds import stores
from tests.worlds.cascade_world import DAY, MINUTE, T0
from tests.worlds.watched_link import Killed, WatchedLink

SHARDS = 3
COUNT = 100


in_store = partial(stores.in_store, shards=SHARDS)


def change_of(user: str, addresses: Addresses, now_ms: int = T0) -> UserChange:
    kept = StoredUser("shop", now_ms, addresses, "Europe/Moscow")
    return UserChange(user, "", addresses, lambda _: kept)


def many(now_ms: int = T0, phones: str = "7918") -> list[UserChange]:
    return [
        change_of(f"u{n}", Addresses(f"{phones}{n:07}", f"anna{n}@shop.example"), now_ms)
        for n in range(COUNT)
    ]


def test_a_batch_is_a_few_transactions_a_shard(redis_url: str) -> None:
    async def work(store: Store) -> None:
        link = WatchedLink(store.redis)
        await users.change(Store(link, store.policy, shards=SHARDS), many(), T0)
        assert link.calls.total() < 11 * SHARDS
        for n in range(COUNT):
            assert await find_home(store, f"u:u{n}") == f"p:7918{n:07}"

    in_store(redis_url, work)


def test_who_is_stored_again_as_before_is_only_read(redis_url: str) -> None:
    async def offset(store: Store) -> bytes:
        (size,) = await store.redis.call([("INFO", "persistence")])
        assert isinstance(size, bytes)
        return next(line for line in size.split(b"\n") if b"rdb_changes_since_last_save" in line)

    async def work(store: Store) -> None:
        await users.change(store, many(), T0)
        before = await offset(store)
        link = WatchedLink(store.redis)
        again = Store(link, store.policy, shards=SHARDS)
        await users.change(again, many(T0 + MINUTE), T0 + MINUTE)
        assert link.commits.total() == 0
        assert await offset(store) == before
        assert link.calls.total() < 10 * SHARDS

    in_store(redis_url, work)


def test_addresses_that_change_leave_their_persons_together(redis_url: str) -> None:
    async def work(store: Store) -> None:
        await users.change(store, many(), T0)
        link = WatchedLink(store.redis)
        moved = many(phones="7919")
        await users.change(Store(link, store.policy, shards=SHARDS), moved, T0)
        assert link.calls.total() < 40 * SHARDS
        for n in range(COUNT):
            assert await find_home(store, f"u:u{n}") == f"p:7919{n:07}"
            assert await find_home(store, f"e:anna{n}@shop.example") == f"p:7919{n:07}"
            assert await find_home(store, f"p:7918{n:07}") == f"p:7918{n:07}"

    in_store(redis_url, work)


def test_who_swaps_addresses_in_a_batch_stays_apart(redis_url: str) -> None:
    """All of them meet the same persons, and take turns."""

    async def work(store: Store) -> None:
        before = many()
        await users.change(store, before, T0)
        turned = zip(before, [*before[1:], before[0]], strict=True)
        swapped = [change_of(each.user, other.addresses) for each, other in turned]
        await users.change(store, swapped, T0)
        for n in range(COUNT):
            assert await find_home(store, f"u:u{n}") == f"p:7918{(n + 1) % COUNT:07}"

    in_store(redis_url, work)


def test_aliases_that_stand_too_short_are_written_together(redis_url: str) -> None:
    async def work(store: Store) -> None:
        await users.change(store, many(), T0)
        link = WatchedLink(store.redis)
        later = T0 + 60 * DAY
        await users.change(Store(link, store.policy, shards=SHARDS), many(later), later)
        assert 0 < link.calls.total() < 15 * SHARDS
        (ends,) = await store.redis.call([("PTTL", keys_for("u:u7"))])
        assert isinstance(ends, int)
        assert ends > 0

    in_store(redis_url, work)


def test_one_record_that_cannot_be_read_changes_nothing_of_the_others(redis_url: str) -> None:
    """The batch fails, and its caller stores the others one after another."""

    async def work(store: Store) -> None:
        await users.change(store, many(), T0)
        await store.redis.call([("SET", keys_for("p:79180000007"), b"\x03damaged")])
        changes = many(T0 + 60 * DAY)
        with pytest.raises(UnreadableRecordError):
            await users.change(store, changes, T0 + 60 * DAY)
        for n in (6, 8):
            await users.change(store, changes[n : n + 1], T0 + 60 * DAY)
        with pytest.raises(UnreadableRecordError):
            await users.change(store, changes[7:8], T0 + 60 * DAY)

    in_store(redis_url, work)


@pytest.mark.parametrize("seed", range(12))
def test_a_batch_leaves_what_one_after_another_leaves(redis_url: str, seed: int) -> None:
    """Users take addresses from each other, give them up and take them back."""
    chance = random.Random(seed)
    names = ["u1", "u2", "u3"]
    batches = [
        [
            (
                chance.choice(names),
                chance.choice([None, "79180000001", "79180000002"]),
                chance.choice([None, "anna@shop.example"]),
            )
            for _ in range(chance.randint(1, 5))
        ]
        for _ in range(6)
    ]

    async def left(store: Store, size: int) -> object:
        await store.redis.call([("FLUSHALL",)])
        for batch in batches:
            changes = [change_of(user, Addresses(phone, email)) for user, phone, email in batch]
            for at in range(0, len(changes), size):
                await users.change(store, changes[at : at + size], T0)
        identities = ["p:79180000001", "p:79180000002", "e:anna@shop.example"]
        return await users.read(store, names), await address_owners.read(store, identities)

    async def work(store: Store) -> None:
        assert await left(store, 99) == await left(store, 1)

    in_store(redis_url, work)


def keys_for(identity: str) -> str:
    return keys_of(shard_of_identity(identity, SHARDS)).person(identity)


def test_the_users_of_the_batch_lie_in_every_shard() -> None:
    assert {shard_of(each.user, SHARDS) for each in many()} == set(range(SHARDS))


@pytest.mark.parametrize("by", ["u1", "u2"])
def test_an_address_whose_change_was_interrupted_is_separate_when_that_is_repeated(
    redis_url: str, by: str
) -> None:
    """Its user gives it up, or another takes it; a process dies at each of its calls in turn."""
    first = change_of("u1", Addresses("79180000001", "anna@shop.example"))
    then = {
        "u1": change_of("u1", Addresses("79180000001")),
        "u2": change_of("u2", Addresses("79180000002", "anna@shop.example")),
    }[by]

    async def work(store: Store, at: int) -> bool:
        died = False
        await users.change(store, [first], T0)
        mortal = Store(WatchedLink(store.redis, dies_at=at), store.policy, shards=SHARDS)
        try:
            await users.change(mortal, [then], T0)
        except Killed:
            died = True
        await users.change(store, [then], T0)
        home = await find_home(store, "u:u1")
        assert home == await find_home(store, "p:79180000001")
        assert home not in [await find_home(store, i) for i in ("e:anna@shop.example", "u:u2")]
        kept = (await users.read(store, ["u1"]))["u1"]
        assert kept.addresses == Addresses("79180000001")
        return died

    died = stores.at_each_call(redis_url, work, shards=SHARDS, most=80)
    assert 10 < len(died) < 80
