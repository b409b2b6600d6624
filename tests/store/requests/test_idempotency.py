"""Idempotency keys in another shard than the person's home."""

from __future__ import annotations

from collections import Counter
from functools import partial
from typing import Any

import pytest
import trio

from gateway.core import events as ev
from gateway.core.ids import shard_of_id
from gateway.core.records.request import MessageRequest
from gateway.redis.trio_driver import open_client
from gateway.store.keys import keys_of, shard_of
from gateway.store.messages.apply import Item
from gateway.store.store import Store
from tests.worlds import stores
from tests.worlds.cascade_world import T0, request
from tests.worlds.watched_link import Killed, WatchedLink

SHARDS = 5
FIRST, SECOND = "79160000002", "79160000003"  # the home of both is the first
KEY = next(
    k
    for k in (f"k{i}" for i in range(99))
    if shard_of(f"shop:{k}", SHARDS) not in (shard_of(FIRST, SHARDS), shard_of(SECOND, SHARDS))
)


in_store = partial(stores.in_store, shards=SHARDS)


def send(store: Store, to: str = FIRST, **changes: Any) -> MessageRequest:
    fields = {"id": store.new_message_id(to, T0), "to": to, "user": "u1", "body_hash": b"a"}
    return request(**(fields | {"idempotency_key": KEY, "route": "viber-only"} | changes))


def test_the_two_phones_are_of_two_shards() -> None:
    assert shard_of(FIRST, SHARDS) != shard_of(SECOND, SHARDS)


@pytest.mark.parametrize("user", [None, "u1"])
def test_a_key_in_another_shard_answers_as_one_at_home(redis_url: str, user: str | None) -> None:
    async def work(store: Store) -> None:
        plain: dict[str, Any] = {"campaign": None, "category": "otp", "user": user}
        first = send(store, **plain)
        (accepted,) = await store.admit([first], T0)
        (again,) = await store.admit([send(store, **plain)], T0)
        (other,) = await store.admit([send(store, body_hash=b"b", **plain)], T0)
        assert (again.id, again.replayed) == (first.id, True)
        assert other.outcome == "conflict"
        assert not accepted.replayed

    in_store(redis_url, work)


def test_a_repeated_request_takes_nothing_for_a_message_that_is_over(redis_url: str) -> None:
    """Its first process died before it closed the key; the message was cancelled meanwhile."""

    async def work(store: Store) -> None:
        wanted = send(store)
        for dies_at in range(99):
            dying = WatchedLink(store.redis, dies_at=dies_at)
            with pytest.raises(Killed):
                await Store(dying, store.policy, shards=SHARDS).admit([wanted], T0)
            keys = keys_of(store.shard_of_message(wanted.id))
            if await store.redis.call([("EXISTS", keys.message(wanted.id))]) == [1]:
                break
        await store.apply([Item(wanted.id, ev.Cancelled())], T0)
        (again,) = await store.admit([send(store)], T0)
        assert (again.outcome, again.id) == ("accepted", wanted.id)
        fresh = send(store, idempotency_key=None)
        (answer,) = await store.admit([fresh], T0)
        assert (answer.outcome, answer.id) == ("accepted", fresh.id)

    in_store(redis_url, work)


def test_wherever_a_process_dies_the_request_makes_one_message(redis_url: str) -> None:
    """Also where its person's home moves to another shard between the two tries."""

    # Its stubs cannot say that it answers in bytes.
    async def work(store: Store, dies_at: int) -> bool:
        died = False
        await store.admit([send(store, user=None, campaign="a", idempotency_key=None)], T0)
        dying = WatchedLink(store.redis, dies_at=dies_at)
        try:
            mortal = Store(dying, store.policy, shards=SHARDS)
            mortal.declarations = store.declarations  # looked at before
            await mortal.admit([send(store, SECOND, user=None)], T0)
        except Killed:
            died = True
        joining = send(store, SECOND, campaign="b", idempotency_key=None)
        (joined,) = await store.admit([joining], T0)
        await store.admit([send(store, campaign="c", idempotency_key=None)], T0)
        (answer,) = await store.admit([send(store, SECOND, user=None)], T0)
        assert answer.outcome == "accepted"
        (messages,) = await store.redis.call([("KEYS", "{k*}m:*")])
        assert isinstance(messages, list)
        made = [key.decode()[-20:] for key in messages if isinstance(key, bytes)]
        assert answer.id in made
        assert joined.id in made
        assert len(made) == 4
        (again,) = await store.admit([send(store, SECOND, user=None)], T0)
        assert (again.id, again.replayed) == (answer.id, True)
        homes[shard_of_id(answer.id or "")] += 1
        return died

    homes: Counter[int | None] = Counter()
    deaths = stores.at_each_call(redis_url, work, shards=SHARDS)
    assert deaths == [0, 1, 2, 3, 4, 5, 6, 7], "at each call but the last that came through"
    assert homes.keys() == {shard_of(FIRST, SHARDS), shard_of(SECOND, SHARDS)}


def test_two_copies_at_once_make_one_message(redis_url: str) -> None:
    async def work(store: Store) -> None:
        answers = []
        async with open_client(redis_url) as other, trio.open_nursery() as nursery:

            async def post(on: Store) -> None:
                answers.extend(await on.admit([send(on), send(on)], T0))

            for on in (store, Store(other, store.policy, shards=SHARDS)):
                for _ in range(4):
                    nursery.start_soon(post, on)
        assert len({answer.id for answer in answers}) == 1
        assert {answer.outcome for answer in answers} == {"accepted"}
        lanes = [keys_of(shard).lane("viber", "marketing") for shard in range(SHARDS)]
        assert sum(await store.redis.call([("XLEN", lane) for lane in lanes])) == 1

    in_store(redis_url, work)
