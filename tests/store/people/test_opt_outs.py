"""How opt-outs stand in Redis: older ones are read, and changes at the same time are all kept."""

from __future__ import annotations

import asyncio
import zlib

import pytest

from gateway.core import events as ev
from gateway.core.addresses import Addresses
from gateway.core.people.opt_outs import EVERY_CHANNEL, KeptOptOut, Origin
from gateway.redis.asyncio_driver import run
from gateway.redis.client import RedisClient
from gateway.store.keys import keys_of, shard_of
from gateway.store.messages.apply import Item
from gateway.store.people import opt_outs
from gateway.store.people.people import WAITED_MS
from gateway.store.store import Store
from providers.contract import Receipt
from tests.worlds import stores
from tests.worlds.cascade_world import T0, request

PHONE = "79161234567"
SHARDS = 3
KEYS = keys_of(shard_of(PHONE, SHARDS))
PERSON, SHOP = Origin("", 1, "STOP"), Origin("shop", 2, "asked")


@pytest.mark.parametrize("scope", ["marketing", "all"])
def test_an_opt_out_from_before_there_were_channels_or_origins_is_read(
    redis_url: str, scope: str
) -> None:
    async def main(redis: RedisClient) -> None:
        await redis.call([("HSET", KEYS.opt_outs, PHONE, scope)])
        before = KeptOptOut("all" if scope == "all" else "marketing", None)
        assert await opt_outs.find(redis, SHARDS, PHONE) == {EVERY_CHANNEL: before}
        await opt_outs.put(redis, SHARDS, PHONE, "all", SHOP, "sms")
        expected = {EVERY_CHANNEL: before, "sms": KeptOptOut("all", SHOP)}
        assert await opt_outs.find(redis, SHARDS, PHONE) == expected

    run(redis_url, main)


def test_what_stands_for_every_channel_alone_is_as_it_was_before_there_were_channels(
    redis_url: str,
) -> None:
    async def main(redis: RedisClient) -> None:
        await opt_outs.put(redis, SHARDS, PHONE, "marketing", SHOP)
        await opt_outs.put(redis, SHARDS, PHONE, "all", PERSON, "sms")
        await opt_outs.drop(redis, SHARDS, PHONE, "sms")
        scope, origin = await redis.call(
            [("HGET", KEYS.opt_outs, PHONE), ("HGET", KEYS.opt_out_origins, PHONE)]
        )
        assert scope == b"marketing"
        assert origin == b"\x83\xa3app\xa4shop\xa5at_ms\x02\xa3why\xa5asked"

    run(redis_url, main)


def test_a_scope_that_nobody_here_knows_counts_as_the_widest() -> None:
    assert opt_outs.scopes_in(b"marketing") == {EVERY_CHANNEL: "marketing"}
    assert opt_outs.scopes_in(b"marketing sms=all") == {EVERY_CHANNEL: "marketing", "sms": "all"}
    assert opt_outs.scopes_in(b"viber=marketing") == {"viber": "marketing"}
    assert opt_outs.scopes_in(b"viber=never fax=marketing") == {"viber": "all", "fax": "marketing"}
    assert opt_outs.scopes_in(b"\xff") == {EVERY_CHANNEL: "all"}


def test_opt_outs_of_one_address_at_the_same_time_are_all_kept(redis_url: str) -> None:
    async def main(redis: RedisClient) -> None:
        channels = ("viber", "sms", "email", "push", EVERY_CHANNEL)
        await asyncio.gather(
            *(opt_outs.put(redis, SHARDS, PHONE, "all", SHOP, channel) for channel in channels)
        )
        assert set(await opt_outs.find(redis, SHARDS, PHONE)) == set(channels)

    run(redis_url, main)


# Longer than the millisecond that is left of the key, and nothing else happens in Redis meanwhile.
LAPSE = "redis.call('PEXPIRE', KEYS[1], 1) for n = 1, 3000000 do end"


def test_the_mark_of_the_last_change_hinders_nobody_once_its_time_is_over(redis_url: str) -> None:
    """Found by the fault bench (2026-11-29): to Redis 6.2 a watched key whose time is over has
    changed for as long as it has not come across it, which with many keys takes minutes. Here it
    looks for such keys once a second."""
    mark = KEYS.token(f"o{zlib.crc32(PHONE.encode()):08x}")

    async def main(redis: RedisClient) -> None:
        hz = await redis.call([("CONFIG", "GET", "hz"), ("CONFIG", "SET", "hz", 1)])
        try:
            await opt_outs.put(redis, SHARDS, PHONE, "marketing", SHOP)
            await redis.call([("EVAL", LAPSE, 1, mark)])
            await opt_outs.put(redis, SHARDS, PHONE, "all", PERSON, "sms")
        finally:
            assert isinstance(hz[0], list)
            await redis.call([("CONFIG", "SET", "hz", hz[0][1])])
        assert set(await opt_outs.find(redis, SHARDS, PHONE)) == {EVERY_CHANNEL, "sms"}

    run(redis_url, main)


def test_of_the_erased_the_opt_outs_of_channels_stay_without_a_reason(redis_url: str) -> None:
    async def main(redis: RedisClient) -> None:
        await opt_outs.put(redis, SHARDS, PHONE, "marketing", PERSON)
        await opt_outs.put(redis, SHARDS, PHONE, "all", SHOP, "sms")
        await opt_outs.make_nameless(redis, SHARDS, [PHONE])
        assert await redis.call([("HGET", KEYS.opt_outs, PHONE)]) == [None]
        hashed = {
            EVERY_CHANNEL: KeptOptOut("marketing", Origin("", 1)),
            "sms": KeptOptOut("all", Origin("shop", 2)),
        }
        assert await opt_outs.find(redis, SHARDS, PHONE) == hashed
        # A change takes in what stands under the hash, and leaves nothing there.
        assert set(await opt_outs.drop(redis, SHARDS, PHONE, EVERY_CHANNEL)) == {EVERY_CHANNEL}
        assert set(await opt_outs.find(redis, SHARDS, PHONE)) == {"sms"}
        assert set(await opt_outs.drop(redis, SHARDS, PHONE)) == {"sms"}
        assert await opt_outs.find(redis, SHARDS, PHONE) == {}

    run(redis_url, main)


@pytest.mark.parametrize("waited", ["in its lane", "for its moment", "for a step"])
def test_a_step_that_waited_hears_of_who_its_person_turned_out_to_be(
    redis_url: str, waited: str
) -> None:
    mailbox = Addresses(PHONE, "anna@shop.example")

    async def work(store: Store) -> None:
        moment_ms = T0 + 1 if waited == "for its moment" else 0
        id_ = store.new_message_id(PHONE, T0)
        sale = request(id=id_, to=PHONE, user=None, not_before_ms=moment_ms)
        order = request(
            id=store.new_message_id(PHONE, T0),
            addresses=mailbox,
            user=None,
            campaign=None,
            category="transactional",
        )
        await store.admit([sale], T0)
        if moment_ms:
            await store.apply([Item(id_, ev.Released())], moment_ms)
        if waited == "for a step":
            receipt = Receipt("undelivered", ref=f"{id_}.0")
            for each in (ev.Claimed(0), ev.Accepted(0), ev.Reported(0, receipt, "viber")):
                await store.apply([Item(id_, each)], T0)
        await store.admit([order], T0)
        await opt_outs.put(store.redis, SHARDS, "anna@shop.example", "marketing", SHOP)
        now_ms = T0 + WAITED_MS if waited == "in its lane" else T0 + 1
        claimed = ev.Claimed(1 if waited == "for a step" else 0)
        (applied,) = await store.apply([Item(id_, claimed)], now_ms)
        assert applied.message is not None
        assert (applied.message.reason, applied.effects.submit) == ("opted_out", False)

    stores.in_store(redis_url, work, shards=SHARDS)
