"""One thing that a dispatcher's jobs cannot read, wherever it stands, ends no dispatcher: messages
go out beside it. Records, lanes and timers are in tests/store/test_quarantine.py."""

from __future__ import annotations

from collections import Counter

import pytest
import structlog.testing
import trio

from gateway import telemetry
from gateway.core.records.entries import UnmatchedReceipt, unmatched_codec
from gateway.dispatch import apart
from gateway.dispatch.apart import Apart
from gateway.dispatch.jobs import ending, events, feeder, lines, unmatched_receipts
from gateway.dispatch.redis_retry import RedisRetry
from gateway.dispatch.webhooks import desk
from gateway.redis.client import Command
from gateway.redis.errors import RedisUnavailable
from gateway.store import quarantine, shared_keys
from gateway.store.keys import keys_of
from gateway.store.providers import providers
from gateway.store.waiting import leftovers
from providers.contract import Receipt
from tests.worlds.cascade_world import T0
from tests.worlds.dispatch_world import DispatchWorld, dispatching, under_trio, world

KEYS = keys_of(0)
JUNK = b"\xff\xfe junk"
APPS = "lane:viber:marketing:shop"
NAMED: Command = ("ZADD", shared_keys.QUEUES, T0, "campaign:x")
DECLARED: Command = ("HSET", shared_keys.CAMPAIGNS, "x", '{"moved_ms":5}')
VERSION: Command = ("HSET", shared_keys.CAMPAIGNS_META, "version", 1)

PLANTED: dict[str, list[Command]] = {
    "a queue's name": [("ZADD", shared_keys.QUEUES, T0, JUNK)],
    "an old queue's name": [("ZADD", shared_keys.QUEUES, 1, JUNK)],
    "a queue of another type": [NAMED, ("SET", KEYS.held("campaign:x"), 1)],
    "an app's queue of another type": [
        ("ZADD", shared_keys.QUEUES, T0, APPS),
        ("SET", KEYS.held(APPS), 1),
    ],
    "after which change": [
        NAMED,
        DECLARED,
        VERSION,
        ("HSET", shared_keys.ASKED_AGAIN, "0:campaign:x", JUNK),
    ],
    "a campaign's name": [("HSET", shared_keys.CAMPAIGNS, JUNK, "{}"), VERSION],
    "a line": [("HSET", shared_keys.LINES, JUNK, JUNK)],
    "whose a line is": [("HSET", shared_keys.LINES, "1", JUNK)],
    "a line of a newer one": [("HSET", shared_keys.LINES, "999999", f"{T0} shop")],
    "an app's name": [("HSET", KEYS.changed, JUNK, 1)],
    "an app's count": [
        ("HSET", KEYS.changed, "other", JUNK),
        ("XADD", KEYS.events("other"), "*", "d", "x"),
    ],
    "events of another type": [
        ("HSET", KEYS.changed, "other", 1),
        ("SET", KEYS.events("other"), 1),
    ],
    "a dispatcher's name": [
        ("HSET", shared_keys.WEBHOOKS, "", 1),
        ("ZADD", shared_keys.SENDERS, T0, JUNK),
    ],
    "a budget's name": [("HSET", shared_keys.BUDGETS, JUNK, JUNK)],
}


LOOPS = (
    "queues",
    "feeder",
    "ending",
    "events",
    "lines",
    "metrics",
    "unmatched receipts",
    "webhooks",
)


@pytest.fixture
def turns(monkeypatch: pytest.MonkeyPatch) -> Counter[str]:
    """How many turns the loops of a dispatcher took; they have no long pauses."""
    taken: Counter[str] = Counter()
    monkeypatch.setattr(RedisRetry, "succeeded", lambda loop: taken.update([loop._loop]))
    for job in (feeder, ending, events, lines, unmatched_receipts):
        monkeypatch.setattr(job, "LOOK_S", 0.01)
    monkeypatch.setattr(telemetry, "PUBLISH_EVERY_S", 0.01)
    monkeypatch.setattr(desk, "TURN_S", 0.01)
    return taken


async def sends_beside(w: DispatchWorld, turns: Counter[str]) -> None:
    """Each loop has its turns, and then messages go out still."""
    async with dispatching(w):
        await w.until_true(lambda: all(turns[loop] >= 3 for loop in LOOPS))
        (sent,) = await w.admit(1)
        await w.until([sent], "sent", "planned")


@pytest.mark.parametrize("what", PLANTED)
def test_a_dispatcher_goes_on_beside_what_it_cannot_read(
    redis_url: str, turns: Counter[str], what: str
) -> None:
    async def main() -> None:
        async with world(redis_url) as w:
            for command in PLANTED[what]:
                await w.redis.call([command])
            await sends_beside(w, turns)

    with structlog.testing.capture_logs():
        trio.run(main)


def test_a_receipt_by_an_id_whose_note_cannot_be_read_waits_and_stops_no_other(
    redis_url: str, turns: Counter[str]
) -> None:
    async def main() -> None:
        async with world(redis_url) as w:
            (id_,) = await w.admit(1)
            receipt = Receipt("delivered", provider_id="p1")
            parked = unmatched_codec.encode(UnmatchedReceipt("viber", receipt, w.clock()))
            await w.redis.call(
                [
                    ("SET", KEYS.provider_id("viber", "p1"), f"{id_}.0 one 2"),
                    ("ZADD", KEYS.unmatched_receipts, 1, parked),
                ]
            )
            await sends_beside(w, turns)
            (kept,) = await w.redis.call([("ZCARD", KEYS.unmatched_receipts)])
            assert kept == 1

    trio.run(main)


@under_trio
async def test_a_name_of_no_provider_hides_none(redis_url: str) -> None:
    async with world(redis_url) as w:
        shop = KEYS.lane("former", "marketing")
        await w.redis.call(
            [("ZADD", shared_keys.PROVIDERS, 1, JUNK, 2, "former"), ("XADD", shop, "*", "m", "x")]
        )
        assert "former" in await providers.gone(w.redis, T0)
        assert await leftovers.waiting(w.redis, 1, frozenset()) == {"former": 1}


@under_trio
async def test_a_name_of_no_queue_is_set_aside_once(redis_url: str) -> None:
    async with world(redis_url) as w:
        await w.redis.call([("ZADD", shared_keys.QUEUES, T0, JUNK, T0, "zones")])
        for _ in range(2):
            await w.store.queues.look(w.redis, w.clock())
        assert w.store.queues.names == ["zones"]
        (aside,) = await quarantine.listed(w.redis, 1)
        assert aside.raw == JUNK


@under_trio
async def test_what_failed_is_left_alone_for_a_while_and_told_each_time(redis_url: str) -> None:
    failing, calls = True, list[str]()

    async def work() -> int:
        calls.append("work")
        if failing:
            raise ValueError("nobody foresaw this")
        return 1

    each = Apart("feeder")
    with structlog.testing.capture_logs() as lines:
        assert [await each.take("a", work, 0) for _ in range(3)] == [0, 0, 0]
        assert await each.take("b", work, 0) == 0
        failing = False
        each._rest_until.clear()  # the time is over
        assert await each.take("a", work, 0) == 1
    assert len(calls) == 3
    assert [line["of"] for line in lines] == ["a", "b"]
    assert apart.REST_S >= 30

    async def away() -> int:
        raise RedisUnavailable("it is away")

    with pytest.raises(RedisUnavailable):
        await each.take("a", away, 0)
