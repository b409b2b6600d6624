"""Old and new processes on one Redis: what a newer Kaskad wrote is left as it is by an older one.

Here the older one is this version, and the newer one's records have a schema it does not know.
"""

from __future__ import annotations

from gateway.core.events import Cancelled, TimerDue
from gateway.core.records.codec import NEWEST
from gateway.core.records.person import Person, pack_person
from gateway.dispatch.jobs import timers
from gateway.redis.client import RedisClient
from gateway.store.keys import GROUP, keys_of
from gateway.store.messages import receipts
from gateway.store.messages.apply import Item
from gateway.store.waiting import queues
from providers.contract import Receipt
from tests.worlds.cascade_world import request
from tests.worlds.dispatch_world import DispatchWorld, dispatching, under_trio, world

KEYS = keys_of(0)


async def renew(redis: RedisClient, *keys: str) -> dict[str, bytes]:
    """Rewrites records as if the next schema had written them; returns what they are now."""
    newer = {}
    for key in keys:
        (record,) = await redis.call([("GET", key)])
        assert isinstance(record, bytes)
        newer[key] = bytes((NEWEST + 1,)) + record[1:]
        await redis.call([("SET", key, newer[key])])
    return newer


async def are_untouched(redis: RedisClient, records: dict[str, bytes]) -> bool:
    found = await redis.call([("MGET", *records)])
    return found == [list(records.values())]


async def due(w: DispatchWorld, id_: str) -> bool:
    (score,) = await w.redis.call([("ZSCORE", KEYS.timers, id_)])
    return score is not None


@under_trio
async def test_a_dispatcher_sends_its_own_messages_and_leaves_a_newer_ones_alone(
    redis_url: str,
) -> None:
    async with world(redis_url) as w:
        newer, own = await w.admit(2)
        lane = KEYS.lane("viber", "marketing")
        kept = await renew(w.redis, KEYS.message(newer))
        async with dispatching(w):
            await w.until([own], "sent", "planned")
            (pending,) = await w.redis.call([("XPENDING", lane, GROUP)])
        assert w.viber.sent == {own: 1}
        assert await are_untouched(w.redis, kept)
        assert await due(w, newer)
        assert pending[0] == 1, "its lane entry waits for whoever can read it"
        assert await w.lane_entries() == 1


@under_trio
async def test_the_entry_of_a_newer_message_is_sent_by_a_process_that_can_read_it(
    redis_url: str,
) -> None:
    async with world(redis_url) as w:
        (id_,) = await w.admit()
        key = KEYS.message(id_)
        (today,) = await w.redis.call([("GET", key)])
        await renew(w.redis, key)
        async with dispatching(w):
            await w.until_true(lambda: w.store.counts.newer > 0)
        await w.redis.call([("SET", key, today)])
        async with dispatching(w):
            await w.until([id_], "sent", "planned")
        assert w.viber.sent == {id_: 1}


@under_trio
async def test_timers_and_receipts_of_newer_messages_wait_and_those_behind_them_do_not(
    redis_url: str,
) -> None:
    async with world(redis_url) as w:
        newer = await w.admit(3)
        w.go_ahead(1)
        (own,) = await w.admit()
        kept = await renew(w.redis, *(KEYS.message(id_) for id_ in newer))
        w.go_ahead(4 * 86_400_000)
        await timers.fire(w.deps(), 0, lambda _: None, {})
        assert await w.status(own) == "expired"
        assert not await due(w, own)
        assert [await due(w, id_) for id_ in newer] == [True] * 3
        late = Receipt("delivered", ref=f"{newer[0]}.0")
        taken = await receipts.take_receipts(w.store, "viber", [late], w.clock())
        assert (taken.applied, taken.kept) == (0, 1)
        (applied,) = await w.store.apply([Item(newer[1], Cancelled())], w.clock())
        assert (applied.message, applied.newer) == (None, True)
        assert await are_untouched(w.redis, kept)


@under_trio
async def test_a_newer_person_makes_only_its_own_requests_wait(redis_url: str) -> None:
    async with world(redis_url) as w:
        await w.redis.call([("SET", KEYS.person("p:79160000001"), pack_person(Person()))])
        kept = await renew(w.redis, KEYS.person("p:79160000001"))
        asked = [
            request(id=w.store.new_message_id(to, w.clock()), to=to)
            for to in ("79160000001", "79160000002")
        ]
        answers = await w.store.admit(asked, w.clock())
        assert [answer.outcome for answer in answers] == ["unavailable", "accepted"]
        assert await are_untouched(w.redis, kept)
        assert w.store.counts.newer == 1


@under_trio
async def test_a_message_whose_person_is_newer_is_left_alone_where_the_person_is_needed(
    redis_url: str,
) -> None:
    async with world(redis_url) as w:
        (id_,) = await w.admit()
        message = await w.message(id_)
        kept = await renew(w.redis, KEYS.person(message.holder))
        w.go_ahead(4 * 86_400_000)
        (applied,) = await w.store.apply([Item(id_, TimerDue())], w.clock())
        assert applied.newer
        assert await w.status(id_) == "queued"
        assert await are_untouched(w.redis, kept)


@under_trio
async def test_a_newer_unmatched_receipt_waits_and_does_not_stop_the_others(
    redis_url: str,
) -> None:
    async with world(redis_url) as w:
        newer = bytes((NEWEST + 1, 0x80))
        await w.redis.call([("ZADD", KEYS.unmatched_receipts, 1, newer)])
        stranger = Receipt("delivered", ref="nobody")
        await receipts.take_receipts(w.store, "viber", [stranger], w.clock())
        w.go_ahead(2 * 86_400_000)
        taken = await receipts.sweep_unmatched(w.store, 0, w.clock())
        assert len(taken.dropped) == 1
        (left,) = await w.redis.call([("ZRANGE", KEYS.unmatched_receipts, 0, -1)])
        assert left == [newer]


@under_trio
async def test_an_older_feeder_keeps_no_newer_one_from_the_queues_that_it_leaves_alone(
    redis_url: str,
) -> None:
    """Whoever knows fewer kinds of queues fed a shard as long as it ran, and what waited in a queue
    of another kind waited for its end."""
    async with world(redis_url) as w:
        (id_,) = await w.admit(not_before_ms=w.clock() + 60_000)
        w.go_ahead(61_000)
        older = [KEYS.tag + "feeder", KEYS.feeder(queues.KINDS - 1)]  # the first is of version 0.2
        await w.redis.call([("SET", key, "older") for key in older])
        async with dispatching(w):
            await w.until([id_], "sent", "planned")
