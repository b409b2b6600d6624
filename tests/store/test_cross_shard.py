"""Identities and keys in another shard than the phone's: half-made ones are void after a while."""

from __future__ import annotations

from collections.abc import Awaitable, Callable

import msgspec
import pytest
import trio

from gateway.core import events as ev
from gateway.core.records.person import Claim, Person, person_codec
from gateway.core.records.request import MessageRequest
from gateway.redis.trio_driver import open_link
from gateway.store import cross_shard as reserve
from gateway.store.apply import Item
from gateway.store.keys import keys_of, shard_of
from gateway.store.store import Store
from providers.contract import Receipt
from tests.worlds.cascade_world import T0, policy, request

SHARDS = 5
PHONE = "79161234567"
USER = next(u for u in (f"u{i}" for i in range(99)) if shard_of(u, 5) != shard_of(PHONE, 5))
KEY = next(
    k for k in (f"k{i}" for i in range(99)) if shard_of(f"shop:{k}", 5) != shard_of(PHONE, 5)
)
USER_KEYS = keys_of(shard_of(USER, SHARDS))


def in_store(url: str, work: Callable[[Store], Awaitable[None]]) -> None:
    async def main() -> None:
        async with open_link(url) as link:
            await work(Store(link, policy(), shards=SHARDS))

    trio.run(main)


def send(store: Store, to: str = PHONE, now_ms: int = T0, **changes: object) -> MessageRequest:
    return request(**({"id": store.new_message_id(to, now_ms), "to": to, "user": USER} | changes))


async def outcome(store: Store, wanted: MessageRequest, now_ms: int = T0) -> tuple[str, str | None]:
    (answer,) = await store.admit(store.shard_of_home(wanted.home), [wanted], now_ms)
    return answer.outcome, answer.id


def test_a_claim_of_a_message_that_was_never_made_is_believed_for_a_while_and_then_void(
    redis_url: str,
) -> None:
    async def work(store: Store) -> None:
        ghost = send(store)
        person = Person({"autumn": Claim(ghost.id, 0)})
        await store.link.call([("SET", USER_KEYS.user(USER), person_codec.encode(person))])
        assert await outcome(store, send(store)) == ("duplicate", ghost.id)
        later = T0 + reserve.HALF_MADE_MS + 1
        wanted = send(store, now_ms=later)
        assert await outcome(store, wanted, later) == ("accepted", wanted.id)

    in_store(redis_url, work)


def test_what_was_taken_elsewhere_is_given_back_when_home_refuses(redis_url: str) -> None:
    async def work(store: Store) -> None:
        first = send(store, user=None)
        assert (await outcome(store, first))[0] == "accepted"
        assert await outcome(store, send(store)) == ("duplicate", first.id)
        assert await store.link.call([("EXISTS", USER_KEYS.user(USER))]) == [0]

    in_store(redis_url, work)


def test_a_note_left_by_a_dead_process_is_carried_out_by_another(redis_url: str) -> None:
    async def work(store: Store) -> None:
        wanted = send(store, route="viber-only")
        await outcome(store, wanted)
        home = keys_of(store.shard_of_home(PHONE))
        real = reserve.copy_states

        async def dies(*_: object) -> int:
            return 0

        reserve.copy_states = dies  # type: ignore[assignment]
        try:
            await store.apply([Item(wanted.id, ev.Cancelled())], T0)
        finally:
            reserve.copy_states = real
        (value,) = await store.link.call([("GET", USER_KEYS.user(USER))])
        assert person_codec.decode(value).claims
        assert await reserve.copy_states(store, home.shard, T0) == 1
        assert await store.link.call([("EXISTS", USER_KEYS.user(USER)), ("EXISTS", home.sync)]) == [
            0,
            0,
        ]

    in_store(redis_url, work)


def test_an_idempotency_key_in_another_shard_answers_as_one_at_home(redis_url: str) -> None:
    async def work(store: Store) -> None:
        plain = {"campaign": None, "category": "otp", "idempotency_key": KEY, "user": None}
        first = send(store, body_hash=b"a", **plain)
        shard = store.shard_of_home(PHONE)
        (accepted,) = await store.admit(shard, [first], T0)
        (again,) = await store.admit(shard, [send(store, body_hash=b"a", **plain)], T0)
        (other,) = await store.admit(shard, [send(store, body_hash=b"b", **plain)], T0)
        assert (again.id, again.replayed) == (first.id, True)
        assert other.outcome == "conflict"
        assert not accepted.replayed
        half = send(store, body_hash=b"a", **(plain | {"idempotency_key": "h" + KEY}))
        keys = reserve.foreign_key(store, half)
        if keys is not None:  # a process died after opening the key: the next one makes its message
            await reserve._open_key(store, keys, half)
            twin = msgspec.structs.replace(half, id=store.new_message_id(PHONE, T0))
            assert await outcome(store, twin) == ("accepted", half.id)

    in_store(redis_url, work)


def test_a_repeated_request_takes_nothing_for_a_message_that_is_over(redis_url: str) -> None:
    """Its first process died before it closed the key; the message was cancelled meanwhile."""

    async def work(store: Store) -> None:
        wanted = send(store, idempotency_key=KEY, route="viber-only", body_hash=b"a")
        assert reserve.foreign_key(store, wanted) is not None
        closes = reserve._close_key

        async def dies(*_: object) -> None:
            raise RuntimeError("the process is killed")

        reserve._close_key = dies
        try:
            await outcome(store, wanted)
        except RuntimeError:
            pass
        finally:
            reserve._close_key = closes
        await store.apply([Item(wanted.id, ev.Cancelled())], T0)
        again = send(store, idempotency_key=KEY, route="viber-only", body_hash=b"a")
        assert await outcome(store, again) == ("accepted", wanted.id)
        assert await store.link.call([("EXISTS", USER_KEYS.user(USER))]) == [0]
        fresh = send(store)
        assert await outcome(store, fresh) == ("accepted", fresh.id)

    in_store(redis_url, work)


@pytest.mark.parametrize("to", [PHONE, "79000000000", None])
def test_a_receipt_settles_a_message_whose_user_lives_elsewhere_whatever_number_it_names(
    redis_url: str, to: str | None
) -> None:
    async def work(store: Store) -> None:
        wanted = send(store, route="viber-only")
        assert await outcome(store, wanted) == ("accepted", wanted.id)
        receipt = Receipt("delivered", ref=f"{wanted.id}.0", to=to)
        for event in (ev.Claimed(0), ev.Accepted(0), ev.Reported(0, receipt, "viber")):
            await store.apply([Item(wanted.id, event)], T0)
        home = keys_of(store.shard_of_home(PHONE))
        for key in (home.phone(PHONE), USER_KEYS.user(USER)):
            (record,) = await store.link.call([("GET", key)])
            assert isinstance(record, bytes)
            claim = person_codec.decode(record).claims["autumn"]
            assert (claim.message, claim.until_ms > T0) == (wanted.id, True)
        assert await store.link.call([("EXISTS", home.phone("79000000000"))]) == [0]

    in_store(redis_url, work)
