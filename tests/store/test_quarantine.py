"""One thing that cannot be read or decided costs itself alone, whatever it is."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from typing import Any, cast

import pytest
import structlog.testing
import trio
from hypothesis import HealthCheck, example, given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st

from gateway.core import cascade
from gateway.core import events as ev
from gateway.core.records.message import MESSAGE_NAMES
from gateway.core.records.message_codec import pack_message
from gateway.core.records.person import Person, pack_person, unpack_person
from gateway.dispatch.jobs import recovery, timers
from gateway.redis.client import Command, RedisReply
from gateway.redis.trio_driver import open_client
from gateway.store import quarantine
from gateway.store.installation import api_keys
from gateway.store.keys import keys_of
from gateway.store.messages import reads
from gateway.store.messages import receipts as store_receipts
from gateway.store.messages.apply import Item, LaneEntry
from gateway.store.providers import pauses
from gateway.store.shared_keys import API_KEYS, PAUSED
from gateway.store.store import Store
from gateway.store.waiting import lanes
from providers.contract import Receipt
from ratelimit.caps import Cap
from tests.worlds.cascade_world import DAY, T0, policy, request
from tests.worlds.dispatch_world import dispatching, under_trio, world

KEYS = keys_of(0)
LANE = KEYS.lane("viber", "marketing")
PEOPLE = [f"7916000000{n}" for n in range(6)]
RULES = policy(caps=(Cap("two", 2, DAY, "1d", "marketing", None),))
# What is damaged: a kind of record, of one of the people.
DAMAGED = st.sampled_from(["message", "person", "claim", "timer", "lane", "idempotency", "opt-out"])
BYTES = st.one_of(
    st.binary(max_size=40),
    st.sampled_from([b"", b"\x03", b"\x03\x80", b"\x90", b"\xff\xff", b"\x03\x81\xa1m\xa1x"]),
)


async def listed(store: Store) -> list[str]:
    return [each.what for each in await quarantine.listed(store.redis, store.shards)]


def sends(store: Store, campaign: str, **changes: Any) -> list[Any]:
    return [
        request(
            id=store.new_message_id(to, T0),
            to=to,
            campaign=campaign,
            idempotency_key=f"{campaign}-{to}",
            **changes,
        )
        for to in PEOPLE
    ]


async def damage(store: Store, kind: str, ids: Sequence[str], victim: int, value: bytes) -> None:
    """One record, entry or member of the victim is replaced by some bytes."""
    to, id_ = PEOPLE[victim], ids[victim]
    keys = {
        "message": KEYS.message(id_),
        "person": KEYS.person("p:" + to),
        "claim": KEYS.claim("p:" + to, "first"),
        "idempotency": KEYS.idempotency("shop", f"first-{to}"),
    }
    commands: list[Command] = []
    if kind == "claim":
        # A record of its own, as every claim was before persons' records held them.
        (record,) = await store.redis.call([("GET", keys["person"])])
        person = unpack_person(cast("bytes", record))
        person.claims, person.apart_ms = {}, None
        commands = [("SET", keys["person"], pack_person(person)), ("SET", keys[kind], value)]
    elif kind == "timer":
        commands = [("ZREM", KEYS.timers, id_), ("ZADD", KEYS.timers, T0 - 1, value)]
    elif kind == "lane":
        entries = await store.redis.call([("XRANGE", LANE, "-", "+")])
        (at,) = [e[0] for e in entries[0] if e[1][1] == id_.encode()]
        commands = [("XDEL", LANE, at), ("XADD", LANE, "*", b"m", value)]
    elif kind == "opt-out":
        commands = [("HSET", KEYS.opt_outs, to, value)]
    else:
        commands = [("SET", keys[kind], value)]
    await store.redis.call(commands)


async def live(store: Store, harm: Callable[[list[str]], Any]) -> list[str]:
    """Six people are sent something, each of them everything that can happen happens to, in
    batches; harm is done on the way. What became of each."""
    first = await store.admit(sends(store, "first"), T0)
    ids = [str(answer.id) for answer in first]
    assert [answer.outcome for answer in first] == ["accepted"] * 6
    await lanes.ensure_groups(store.redis, 0, [("viber", "marketing")])
    await harm(ids)
    waiting = (await lanes.read(store.redis, "one", [(LANE, 10)]))[LANE]
    claim = ev.Claimed(ev.CURRENT, provider="viber")
    await store.apply([Item(w.message_id, claim, w.at) for w in waiting], T0)
    await store.apply([Item(w.message_id, ev.Accepted(0), w.at) for w in waiting], T0)
    due = await lanes.due_timers(store.redis, 0, T0)
    await store.apply([Item(id_, ev.TimerDue()) for id_ in due], T0)
    delivered = [Receipt("delivered", ref=f"{id_}.0") for id_ in ids]
    taken = await store_receipts.take_receipts(store, "viber", delivered, T0 + 1)
    again = await store.admit(sends(store, "first"), T0 + 2)
    second = await store.admit(sends(store, "second"), T0 + 3)
    found = await reads.messages(store, 0, ids)
    return [
        " ".join(
            (
                "nothing" if (m := found.get(id_)) is None else MESSAGE_NAMES[m.status],
                "applied" if receipt not in (*taken.faulty, *taken.unmatched) else "not",
                again[n].outcome,
                "replayed" if again[n].replayed else "new",
                second[n].outcome,
            )
        )
        for n, (id_, receipt) in enumerate(zip(ids, delivered, strict=True))
    ]


@hypothesis_settings(
    max_examples=40,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
@given(DAMAGED, st.integers(0, 5), BYTES)
@example("message", 3, b"\x7f")  # the mark of a message that is elsewhere, and no shard
def test_damage_to_one_never_changes_what_becomes_of_the_others(
    redis_url: str, kind: str, victim: int, value: bytes
) -> None:
    async def main() -> None:
        async with open_client(redis_url) as redis:
            await redis.call([("FLUSHALL",)])
            store = Store(redis, RULES)

            async def harm(ids: list[str]) -> None:
                await damage(store, kind, ids, victim, value)

            became = await live(store, harm)
        del became[victim]
        assert became == ["delivered applied accepted replayed accepted"] * 5

    with structlog.testing.capture_logs():  # a hundred tracebacks are slow to print
        trio.run(main)


@under_trio
async def test_an_undecodable_message_with_a_due_timer_stops_nobody(redis_url: str) -> None:
    async with world(redis_url) as w:
        bad, good = await w.admit(2)
        await w.redis.call(
            [
                ("SET", KEYS.message(bad), b"\x03rubbish"),
                ("ZADD", KEYS.timers, 0, bad),
                ("ZADD", KEYS.timers, 1, b"\xffno id"),
                ("XADD", LANE, "*", b"x", b"?"),
                ("XADD", LANE, "*", b"m", b"no id"),
                ("HSET", PAUSED, b"\xff", b"?"),
                ("ZADD", KEYS.unmatched_receipts, 0, b"\x03rubbish"),
            ]
        )
        async with dispatching(w):
            await w.until([good], "sent", "planned")

            async def all_aside() -> bool:
                return len(await listed(w.store)) == 5

            await w.until_asked(all_aside)
        assert await w.lane_entries() == 0
        (kept,) = await w.redis.call([("GET", KEYS.message(bad))])
        assert kept == b"\x03rubbish"
        found = await quarantine.listed(w.redis, 1)
        assert {each.what for each in found} >= {KEYS.message(bad)}
        assert {each.raw for each in found} >= {b"\x03rubbish", b"x ?", b"m no id"}
        (left,) = await w.redis.call([("ZRANGE", KEYS.timers, 0, -1)])
        assert left == [good.encode()]


@under_trio
async def test_a_decision_that_fails_is_set_aside_and_its_neighbours_are_decided(
    redis_url: str,
) -> None:
    async with world(redis_url) as w:
        bad, *good = await w.admit(20)
        decide = cascade.advance

        def advance(message: Any, *rest: Any) -> Any:
            if message.id == bad:
                raise ZeroDivisionError("a fault of ours")
            return decide(message, *rest)

        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(cascade, "advance", advance)
            async with dispatching(w):
                await w.until(good, "sent", "planned")
        assert w.viber.sent == dict.fromkeys(good, 1)
        (found,) = await quarantine.listed(w.redis, 1)
        assert (found.what, found.reason) == (
            KEYS.message(bad),
            "ZeroDivisionError: a fault of ours",
        )
        # Its timer is still there: the next decision may go well.
        w.go_ahead(4 * DAY)
        await timers.fire(w.deps(), 0, lambda _: None, {})
        assert await w.status(bad) == "expired"


@under_trio
async def test_content_that_cannot_be_read_ends_its_message_alone(redis_url: str) -> None:
    async with world(redis_url) as w:
        bad, good = await w.admit(2)
        message = await w.message(bad)
        message.content = b"\x03rubbish"
        await w.redis.call([("SET", KEYS.message(bad), pack_message(message))])
        async with dispatching(w):
            await w.until([good], "sent", "planned")
            await w.until([bad], "rejected", "rejected")
        assert await w.status(bad) == "undelivered"


@under_trio
async def test_a_timer_that_fires_too_early_is_put_right(redis_url: str) -> None:
    async with world(redis_url) as w:
        (id_,) = await w.admit()
        (before,) = await w.redis.call([("ZSCORE", KEYS.timers, id_)])
        await w.redis.call([("ZADD", KEYS.timers, 0, id_)])
        await timers.fire(w.deps(), 0, lambda _: None, {})
        assert await w.redis.call([("ZSCORE", KEYS.timers, id_)]) == [before]


@under_trio
async def test_the_quarantine_is_bounded_and_what_is_beyond_it_ends_all_the_same(
    redis_url: str,
) -> None:
    async with world(redis_url) as w:
        long = b"x" * (quarantine.BYTES_MAX + 1)
        many = {f"thing {n}": long for n in range(quarantine.ENTRIES_MAX + 5)}
        await quarantine.set_aside(w.redis, 0, many, "why", T0)
        timer: list[Command] = [("ZREM", KEYS.timers, "gone")]
        await w.redis.call([("ZADD", KEYS.timers, 0, "gone")])
        await quarantine.set_aside(w.redis, 0, {"one more": b""}, "why", T0, timer)
        assert await quarantine.count(w.redis, 1) == quarantine.ENTRIES_MAX
        assert {len(e.raw) for e in await quarantine.listed(w.redis, 1)} == {quarantine.BYTES_MAX}
        left: list[RedisReply] = await w.redis.call([("EXISTS", KEYS.timers)])
        assert left == [0]


@under_trio
async def test_what_a_fault_of_ours_hits_beyond_the_bound_is_put_off_until_it_is_repaired(
    redis_url: str,
) -> None:
    async with world(redis_url) as w:
        ids = await w.admit(5)
        await lanes.ensure_groups(w.redis, 0, [("viber", "marketing")])
        waiting = (await lanes.read(w.redis, "one", [(LANE, 5)]))[LANE]
        claims = [Item(each.message_id, ev.Claimed(0), each.at) for each in waiting]
        delivered = [Receipt("delivered", ref=f"{id_}.0") for id_ in ids]

        def advance(*_: Any) -> Any:
            raise ZeroDivisionError("a fault of ours")

        with pytest.MonkeyPatch.context() as patch, structlog.testing.capture_logs():
            patch.setattr(cascade, "advance", advance)
            patch.setattr(quarantine, "ENTRIES_MAX", 2)
            for _ in range(2):  # the second time the first two are listed already
                applied = await w.store.apply(claims, w.clock())
                assert [each.set_aside for each in applied] == [True] * 2 + [False] * 3
                assert [each.postponed for each in applied] == [False] * 2 + [True] * 3
                assert await w.lane_entries() == 3
            taken = await store_receipts.take_receipts(w.store, "viber", delivered, w.clock())
            assert (taken.set_aside, taken.kept) == (0, 5)
            w.go_ahead(4 * DAY)
            now_ms = w.clock()
            await timers.fire(w.deps(), 0, lambda _: None, {})
            # They are out of the way of the others, and not due again before a minute is over.
            assert await lanes.due_timers(w.redis, 0, now_ms + quarantine.LATER_MS - 1) == []
        assert await quarantine.count(w.redis, 1) == 2
        w.go_ahead(quarantine.LATER_MS)
        await timers.fire(w.deps(), 0, lambda _: None, {})
        assert [await w.status(id_) for id_ in ids] == ["queued"] * 2 + ["expired"] * 3
        await w.store.apply(claims[2:], w.clock())
        assert await w.lane_entries() == 0


@under_trio
async def test_an_entry_that_was_put_off_is_not_asked_again_by_its_dispatcher(
    redis_url: str,
) -> None:
    async with world(redis_url) as w:
        bad, good = await w.admit(2)
        decide, survey = cascade.advance, lanes.survey
        count = Counter[str]()

        def advance(message: Any, *rest: Any) -> Any:
            if message.id == bad:
                count["decisions"] += 1
                raise ZeroDivisionError("a fault of ours")
            return decide(message, *rest)

        async def counted(*args: Any) -> Any:
            count["surveys"] += 1
            return await survey(*args)

        def was_put_off() -> bool:
            return any("too much" in line["event"] for line in lines)

        with pytest.MonkeyPatch.context() as patch, structlog.testing.capture_logs() as lines:
            patch.setattr(cascade, "advance", advance)
            patch.setattr(lanes, "survey", counted)
            patch.setattr(quarantine, "ENTRIES_MAX", 0)
            patch.setattr(recovery, "LOOK_S", 0.01)
            async with dispatching(w):
                await w.until([good], "sent", "planned")
                await w.until_true(was_put_off)
                decisions, surveys = count["decisions"], count["surveys"]
                await w.until_true(lambda: count["surveys"] >= surveys + 20)
                assert count["decisions"] == decisions
        assert await w.lane_entries() == 1


@under_trio
async def test_a_pause_that_cannot_be_shown_counts_as_over(redis_url: str) -> None:
    async with world(redis_url) as w:
        far = b'{"code":"c","detail":"d","since":1,"until":99999999999999999}'
        await w.redis.call([("HSET", PAUSED, "viber", far, b"\xff", b"?")])
        assert set((await pauses.read(w.redis)).values()) == {pauses.UNREADABLE}


@under_trio
async def test_events_go_on_after_an_entry_that_cannot_be_read(redis_url: str) -> None:
    async with world(redis_url) as w:
        (good,) = await w.admit()
        key = KEYS.events("shop")
        await w.redis.call(
            [("XADD", key, "*", b"d", b"\x03rubbish"), ("XADD", key, "*", b"?", b"?")]
        )
        await w.store.apply([Item(good, ev.Cancelled())], w.clock())
        news = await reads.events_after(w.redis, KEYS.shard, {"shop": "0-0"})
        assert [change.status for entry in news["shop"] for change in entry.changes] == [
            "queued",
            "cancelled",
        ]
        assert len(await listed(w.store)) == 2


@under_trio
async def test_an_entry_whose_item_fails_leaves_its_lane(redis_url: str) -> None:
    async with world(redis_url) as w:
        (bad,) = await w.admit()
        await lanes.ensure_groups(w.redis, 0, [("viber", "marketing")])
        (waiting,) = (await lanes.read(w.redis, "one", [(LANE, 1)]))[LANE]
        await w.redis.call([("SET", KEYS.message(bad), b"\x03rubbish")])
        at = LaneEntry(LANE, waiting.at.entry, 0)
        (applied,) = await w.store.apply([Item(bad, ev.Claimed(0), at)], w.clock())
        assert applied.set_aside
        assert await w.lane_entries() == 0


def test_a_key_that_cannot_be_read_is_no_key(redis_url: str) -> None:
    async def main() -> None:
        async with open_client(redis_url) as redis:
            key = await api_keys.create(redis, "shop", ("send",), T0)
            bad = api_keys.digest_of(b"kk_bad")
            await redis.call([("HSET", API_KEYS, bad.hex(), b"\xff")])
            assert await api_keys.find(redis, bad) is None
            assert await api_keys.find(redis, api_keys.digest_of(key.encode())) is not None
            assert await api_keys.unreadable(redis) == [bad.hex()]

    trio.run(main)


@under_trio
async def test_a_person_that_leads_in_a_circle_stops_nobody_else(redis_url: str) -> None:
    async with world(redis_url) as w:
        first, second = "p:" + PEOPLE[1], "p:" + PEOPLE[2]
        for identity, home in ((first, second), (second, first)):
            record = pack_person(Person(home=home, keep_ms=T0 + DAY))
            await w.redis.call([("SET", KEYS.person(identity), record)])
        answers = await w.store.admit(sends(w.store, "first"), T0)
        outcomes = [answer.outcome for answer in answers]
        assert outcomes == ["accepted", "failed", "failed", "accepted", "accepted", "accepted"]
