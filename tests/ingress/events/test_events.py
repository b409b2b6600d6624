"""`GET /v1/events`: what an app sees of its messages, live and after an interruption."""

from __future__ import annotations

import asyncio
import json
from typing import Any

import pytest

from gateway.core.events import Cancelled
from gateway.ingress.api.events import event_hub, events
from gateway.redis.errors import RedisUnavailable
from gateway.store.keys import keys_of, shard_of
from gateway.store.messages import reads
from gateway.store.messages.apply import Item
from gateway.store.messages.reads import EventEntry
from gateway.store.shared_keys import META, SHARDS_BEFORE_FIELD
from tests.worlds.ingress_world import OTP, T0, Exchange, World, with_ingress


def follow(world: World, last: str = "", key: str = "shop-key") -> Exchange:
    exchange = world.begin("GET", "/v1/events", {"last-event-id": last} if last else {}, key)
    exchange.feed(b"", more=False)
    return exchange


async def opened(world: World, last: str = "", key: str = "shop-key") -> Exchange:
    """A stream that follows from now on."""
    exchange = follow(world, last, key)
    await exchange.until(b"follow\n\n")
    return exchange


async def next_event(exchange: Exchange) -> tuple[str, Any]:
    """The next event's id and data; heartbeats are passed over."""
    while True:
        block = (await exchange.until(b"\n\n")).decode()
        if not block.startswith(":"):
            break
    kind, id_, data = block.strip().split("\n")
    assert kind == "event: status"
    return id_.removeprefix("id: "), json.loads(data.removeprefix("data: "))


async def told_one(world: World) -> tuple[Exchange, str]:
    """A stream that has told one event, and the event's id."""
    exchange = await opened(world)
    await world.send(OTP)
    last, _ = await next_event(exchange)
    return exchange, last


async def leave(exchange: Exchange) -> None:
    exchange.hang_up()
    await exchange.answer()


@with_ingress()
async def test_a_status_change_reaches_every_client_of_its_app_only(world: World) -> None:
    shop, shop_too = await opened(world), await opened(world)
    bank = await opened(world, key="bank-key")
    id_ = (await world.send(OTP | {"campaign": "c", "metadata": {"a": "b"}})).json["id"]
    for exchange in (shop, shop_too):
        _, data = await next_event(exchange)
        assert data == {
            "id": id_,
            "campaign": "c",
            "status": "queued",
            "channel": None,
            "reason": None,
            "at": "2026-11-18T11:06:40.000Z",
            "final": False,
            "reaction": None,
            "metadata": {"a": "b"},
        }
    other = (await world.call("POST", "/v1/messages", OTP, key="bank-key")).json["id"]
    _, data = await next_event(bank)
    assert data["id"] == other
    assert "metadata" not in data
    for exchange in (shop, shop_too, bank):
        await leave(exchange)


@with_ingress(shards=3)
async def test_a_client_resumes_behind_the_last_event_it_saw(world: World) -> None:
    exchange = await opened(world)
    items = [OTP | {"to": f"+7916123{n:04d}"} for n in range(30)]
    wanted = [r["id"] for r in (await world.send(items)).json]
    seen = [await next_event(exchange) for _ in range(11)]
    await leave(exchange)
    more = (await world.send(OTP)).json["id"]
    again = follow(world, last=seen[-1][0])
    await again.until(b"follow\n\n")
    rest = [await next_event(again) for _ in range(20)]
    told = [data["id"] for _, data in seen + rest]
    assert sorted(told) == sorted([*wanted, more])
    # ... and it goes on live from there.
    last = (await world.send(OTP)).json["id"]
    assert (await next_event(again))[1]["id"] == last
    await leave(again)


@with_ingress(shards=3)
async def test_a_client_that_was_told_nothing_yet_resumes_from_where_it_began(world: World) -> None:
    before = (await world.send(OTP)).json["id"]
    first = follow(world)
    hello = (await first.until(b"follow\n\n")).decode()
    last = next(line for line in hello.split("\n") if line.startswith("id: ")).removeprefix("id: ")
    await leave(first)
    missed = [(await world.send(OTP | {"text": text})).json["id"] for text in ("one", "two")]
    again = await opened(world, last)
    told = {(await next_event(again))[1]["id"] for _ in missed}
    assert told == set(missed)
    assert before not in told
    await leave(again)


@with_ingress(shards=3)
async def test_an_id_from_before_there_were_so_many_shards_resumes_where_it_was(
    world: World,
) -> None:
    await world.store.redis.call([("HSET", META, SHARDS_BEFORE_FIELD, "1,2")])
    items = [OTP | {"to": f"+7916123{n:04d}"} for n in range(30)]
    wanted = [r["id"] for r in (await world.send(items)).json]
    first, *_ = await reads.events_from(world.store.redis, "shop", 0, "0-0")
    for told, id_ in ((0, "0-0.0"), (len(first.changes), f"{first.entry}.999999,0-0.0")):
        again = follow(world, last=id_)
        await again.until(b"follow\n\n")
        rest = [(await next_event(again))[1]["id"] for _ in range(30 - told)]
        assert sorted(rest + [c.id for c in first.changes][:told]) == sorted(wanted)
        await leave(again)
    refused = await follow(world, last="0-0.0,0-0.0,0-0.0,0-0.0").answer()
    assert refused.status == 400


@with_ingress()
async def test_a_client_that_is_too_slow_for_its_queue_misses_nothing(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(event_hub, "QUEUE_ENTRIES_MAX", 2)
    monkeypatch.setattr(event_hub, "POLL_S", 0.001)
    monkeypatch.setattr(reads, "EVENT_ENTRIES_MAX", 3)
    monkeypatch.setattr(events, "EVENT_ENTRIES_MAX", 3)
    exchange = await opened(world)
    exchange.reading.clear()
    wanted = [(await world.send(OTP)).json["id"] for _ in range(10)]
    exchange.reading.set()
    assert [(await next_event(exchange))[1]["id"] for _ in range(10)] == wanted
    await leave(exchange)


@with_ingress()
async def test_who_takes_nothing_of_what_it_missed_is_read_little_of_it(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(events, "MISSED_TOGETHER", 6)
    monkeypatch.setattr(events, "EVENT_BYTES_MAX", 1)
    read: list[int] = []
    events_from = reads.events_from

    async def counted(*arguments: Any) -> list[EventEntry]:
        found = await events_from(*arguments)
        read.append(sum(len(entry.changes) for entry in found))
        if len(read) == 1:
            exchange.reading.clear()
        return found

    monkeypatch.setattr(reads, "events_from", counted)
    noted = OTP | {"metadata": {"order": "17"}}
    wanted = [(await world.send(noted)).json["id"] for _ in range(10)]
    wanted += [each["id"] for _ in range(6) for each in (await world.send([noted] * 4)).json]
    exchange = await opened(world, last="0-0.0")
    for _ in range(5):
        await world.call("GET", "/readyz")
    assert read == [2]
    exchange.reading.set()
    told = [await next_event(exchange) for _ in wanted]
    assert [data["id"] for _, data in told] == wanted
    assert {data["metadata"]["order"] for _, data in told} == {"17"}
    await leave(exchange)
    assert max(read) <= 6 + 4, "what it stood at, and whole transactions"
    assert len(read) <= 20


@with_ingress()
async def test_a_queue_is_bounded_in_changes_too(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(event_hub, "QUEUE_CHANGES_MAX", 4)
    subscription = await event_hub.EventHub(world.store).join("shop")
    await world.send([OTP] * 3)
    (entry,) = await reads.events_from(world.store.redis, "shop", 0, "0-0")
    overflowed = []
    for _ in range(3):
        subscription.add(entry)
        overflowed.append(subscription.overflowed)
    assert overflowed == [False, False, True]
    assert subscription.take() == [entry]


@with_ingress()
async def test_what_nobody_can_read_is_passed_over(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As many in a row as are read together were read again for ever."""
    monkeypatch.setattr(events, "EVENT_ENTRIES_MAX", 3)
    key = keys_of(0).events("shop")
    await world.store.redis.call([("XADD", key, f"1-{n}", "d", "?") for n in range(1, 8)])
    id_ = (await world.send(OTP)).json["id"]
    exchange = await opened(world, last="0-0.0")
    assert (await next_event(exchange))[1]["id"] == id_
    await leave(exchange)


@with_ingress()
async def test_one_transactions_events_have_ids_of_their_own(world: World) -> None:
    exchange = await opened(world)
    ids = [r["id"] for r in (await world.send([OTP, OTP])).json]
    await world.store.apply([Item(id_, Cancelled()) for id_ in ids], T0)
    seen = [await next_event(exchange) for _ in range(4)]
    await leave(exchange)
    assert len({event_id for event_id, _ in seen}) == 4
    for position in range(4):
        again = follow(world, last=seen[position][0])
        await again.until(b"follow\n\n")
        rest = [await next_event(again) for _ in range(3 - position)]
        assert rest == seen[position + 1 :]
        await leave(again)


@with_ingress()
async def test_a_silent_stream_has_a_heartbeat(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(events, "HEARTBEAT_S", 0.02)
    exchange = await opened(world)
    for _ in range(2):
        assert await exchange.until(b"\n\n") == b": still here\n\n"
    await leave(exchange)


@with_ingress()
async def test_redis_away_leaves_the_stream_open_and_nothing_is_missed(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(event_hub, "POLL_S", 0.01)
    monkeypatch.setattr(events, "RETRY_S", 0.01)
    exchange = await opened(world)
    world.redis.away = True
    calls = world.redis.calls
    while world.redis.calls < calls + 3:  # noqa: ASYNC110 - the reader has tried and failed
        await asyncio.sleep(0.005)
    world.redis.away = False
    id_ = (await world.send(OTP)).json["id"]
    assert (await next_event(exchange))[1]["id"] == id_
    await leave(exchange)


@with_ingress()
async def test_what_was_missed_is_told_before_what_comes_also_where_it_could_not_be_read_at_once(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(event_hub, "POLL_S", 0.001)
    first, last = await told_one(world)
    await leave(first)
    missed = (await world.send(OTP)).json["id"]
    events_from, refused, live = reads.events_from, asyncio.Event(), asyncio.Event()

    async def away(*arguments: Any) -> list[EventEntry]:
        if not live.is_set():
            refused.set()
            await live.wait()
            raise RedisUnavailable("Redis is away.")
        return await events_from(*arguments)

    monkeypatch.setattr(reads, "events_from", away)
    monkeypatch.setattr(events, "RETRY_S", 0.01)
    exchange = await opened(world, last)
    follower = await opened(world)
    await refused.wait()
    came = (await world.send(OTP)).json["id"]
    assert (await next_event(follower))[1]["id"] == came
    live.set()
    for id_ in (missed, came):
        assert (await next_event(exchange))[1]["id"] == id_
    await leave(exchange)
    await leave(follower)


@with_ingress()
async def test_who_is_too_slow_while_it_catches_up_misses_nothing(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(event_hub, "QUEUE_ENTRIES_MAX", 2)
    monkeypatch.setattr(event_hub, "POLL_S", 0.001)
    first, last = await told_one(world)
    events_from, wanted = reads.events_from, list[str]()

    async def slow(*arguments: Any) -> list[EventEntry]:
        found = await events_from(*arguments)
        if not wanted:  # more than its queue holds comes while it reads
            wanted.extend([(await world.send(OTP)).json["id"] for _ in range(3)])
            for id_ in wanted:
                assert (await next_event(first))[1]["id"] == id_
        return found

    monkeypatch.setattr(reads, "events_from", slow)
    exchange = await opened(world, last)
    for number in range(3):
        assert (await next_event(exchange))[1]["id"] == wanted[number]
    await leave(exchange)
    await leave(first)


@with_ingress(shards=3)
async def test_what_happens_in_other_shards_is_told_while_one_is_away(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(event_hub, "POLL_S", 0.01)
    monkeypatch.setattr(events, "RETRY_S", 0.01)
    phones = {shard_of(f"79161234{n:03}", 3): f"+79161234{n:03}" for n in range(99)}
    first, last = await told_one(world)

    async def sent(shard: int) -> str:
        id_ = (await world.send(OTP | {"to": phones[shard]})).json["id"]
        assert (await next_event(first))[1]["id"] == id_
        return str(id_)

    missed = [await sent(shard) for shard in range(3)]
    world.redis.tag_away = "{k1}"
    again = await opened(world, last)
    behind = [(await next_event(again))[1]["id"] for _ in range(2)]
    assert sorted(behind) == sorted([missed[0], missed[2]])
    for came in [await sent(0), await sent(2)]:
        assert (await next_event(again))[1]["id"] == came
    world.redis.tag_away = ""
    for came in [missed[1], await sent(1)]:
        assert (await next_event(again))[1]["id"] == came
    await leave(first)
    await leave(again)


@with_ingress("sse_clients_max = 1")
async def test_more_clients_than_a_worker_takes_are_refused(world: World) -> None:
    exchange = await opened(world)
    refused = await follow(world).answer()
    assert (refused.status, "retry-after" in refused.headers) == (503, True)
    await leave(exchange)
    await leave(await opened(world))


@with_ingress("sse_clients_max = 1")
async def test_no_more_clients_are_taken_where_they_come_at_once(world: World) -> None:
    several = [follow(world) for _ in range(3)]
    begun = [await exchange.event() for exchange in several]
    assert sorted(event["status"] for event in begun) == [200, 503, 503]
    for exchange in several:
        await leave(exchange)


@with_ingress(shards=2)
async def test_an_id_of_no_stream_of_ours_is_refused(world: World) -> None:
    for last in ("nonsense", "1-1.0", "1-1.0,2-2", "1-1.0,1-1.0,1-1.0"):
        answer = await follow(world, last=last).answer()
        assert (answer.status, answer.json["type"]) == (400, "/docs#malformed")
    assert (await world.call("GET", "/v1/events", key="")).status == 401
    assert (await world.call("POST", "/v1/events")).status == 405


@with_ingress('request_timeout = "100ms"')
async def test_a_client_that_never_reads_is_disconnected(world: World) -> None:
    exchange = await opened(world)
    exchange.reading.clear()
    await world.send(OTP)
    await exchange.answer()
    assert exchange.connection.aborted


@with_ingress()
async def test_a_worker_that_stops_ends_its_streams(world: World) -> None:
    exchange = await opened(world)
    world.app.stop()
    assert (await exchange.answer()).body == b""
    late = await follow(world).answer()
    assert late.status == 200
