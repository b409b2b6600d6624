"""`POST /v1/messages` as a stream: order, both directions at once, bounds, and how it ends."""

from __future__ import annotations

import asyncio
import json
from typing import Any

import pytest

from gateway.ingress.api.bodies import stream as stream_module
from gateway.store.messages import reads
from tests.worlds.ingress_world import OTP, SALE, World, with_ingress


def line(message: Any) -> bytes:
    return json.dumps(message).encode() + b"\n"


@with_ingress()
async def test_each_line_is_answered_in_order_with_its_number(world: World) -> None:
    exchange = world.stream()
    body = line(SALE) + b"\n \r\n" + b"nonsense\n" + line({"to": 1}) + line(SALE) + line(OTP)[:-1]
    for start in range(0, len(body), 7):
        exchange.feed(body[start : start + 7])
    exchange.feed(b"", more=False)
    answer = await exchange.answer()
    assert answer.status == 200
    assert answer.headers["content-type"] == "application/x-ndjson"
    told = [(r["line"], r["outcome"]) for r in answer.lines]
    assert told == [
        (1, "accepted"),
        (4, "rejected"),
        (5, "rejected"),
        (6, "duplicate"),
        (7, "accepted"),
    ]
    assert answer.lines[3]["id"] == answer.lines[0]["id"]
    assert [e["pointer"] for e in answer.lines[2]["error"]["errors"]] == ["/to", "/category"]


@with_ingress()
async def test_a_line_is_answered_durable_before_the_next_is_sent(world: World) -> None:
    exchange = world.stream()
    exchange.feed(line(OTP))
    first = await exchange.line()
    assert (first["line"], first["outcome"]) == (1, "accepted")
    assert await reads.message(world.store, first["id"]) is not None
    exchange.feed(line(OTP))
    assert (await exchange.line())["line"] == 2
    exchange.feed(b"", more=False)
    assert (await exchange.answer()).body == b""
    assert exchange.connection.body_is_apps
    assert not exchange.connection.aborted


@with_ingress("line_bytes_max = 1024")
async def test_a_line_that_is_too_long_is_skipped_without_being_kept(world: World) -> None:
    exchange = world.stream()
    exchange.feed(line(OTP) + b"x" * 1000)
    for _ in range(50):
        exchange.feed(b"x" * 1000)
    exchange.feed(b"\n" + line(OTP), more=False)
    lines = (await exchange.answer()).lines
    assert [r["outcome"] for r in lines] == ["accepted", "rejected", "accepted"]
    assert [r["line"] for r in lines] == [1, 2, 3]
    assert lines[1]["error"]["status"] == 413


@with_ingress()
async def test_lines_have_the_headers_key_and_their_number(world: World) -> None:
    for _ in range(2):
        exchange = world.stream(idempotency_key="file")
        exchange.feed(line(OTP) + b"\n" + line(OTP | {"text": "Three"}), more=False)
        answer = await exchange.answer()
    alone = await world.send(OTP | {"text": "Three"}, idempotency_key="file#3")
    assert alone.json["id"] == answer.lines[1]["id"]


@with_ingress()
async def test_a_client_that_does_not_read_stops_the_reading(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(stream_module, "WINDOW", 10)
    exchange = world.stream()
    exchange.reading.clear()
    for number in range(100):
        exchange.feed(line(OTP | {"text": f"{number}"}))
    exchange.feed(b"", more=False)
    # Ten are in the window, the eleventh was read and waits for room.
    await exchange.has_received(11)
    await world.app.queue.batcher.drained()
    for _ in range(50):
        await asyncio.sleep(0)
    assert exchange.received == 11
    exchange.reading.set()
    lines = (await exchange.answer()).lines
    assert [r["line"] for r in lines] == list(range(1, 101))


@with_ingress('request_timeout = "100ms"')
async def test_a_client_that_never_reads_is_disconnected(world: World) -> None:
    exchange = world.stream()
    exchange.feed(line(OTP))
    await exchange.line()
    exchange.reading.clear()
    exchange.feed(line(OTP))
    await exchange.answer()
    assert exchange.connection.aborted


@with_ingress('request_timeout = "100ms"')
async def test_a_line_that_does_not_arrive_in_time_ends_the_stream(world: World) -> None:
    exchange = world.stream()
    exchange.feed(line(OTP) + b'{"to":')
    lines = (await exchange.answer()).lines
    assert [(r["line"], r["outcome"]) for r in lines] == [(1, "accepted"), (2, "error")]
    assert lines[1]["error"]["status"] == 408


@with_ingress()
async def test_redis_going_away_ends_the_stream_and_says_where(world: World) -> None:
    exchange = world.stream()
    exchange.feed(line(OTP))
    assert (await exchange.line())["outcome"] == "accepted"
    world.redis.away = True
    exchange.feed(line(OTP))
    failed = await exchange.line()
    assert (failed["line"], failed["outcome"]) == (2, "error")
    assert failed["error"]["status"] == 503
    # It ends without waiting for more, and what comes later is not taken.
    world.redis.away = False
    exchange.feed(line(OTP))
    assert (await exchange.answer()).body == b""


@with_ingress()
@pytest.mark.parametrize("count", [1, 600])  # of 600 some wait while the first are refused
@pytest.mark.parametrize("more", [True, False])
async def test_a_stream_that_begins_while_redis_is_away_is_refused_as_any_request(
    world: World, count: int, more: bool
) -> None:
    world.redis.away = True
    exchange = world.stream()
    exchange.feed(line(OTP) * count, more=more)
    answer = await exchange.answer()
    assert (answer.status, answer.json["status"]) == (503, 503)
    assert int(answer.headers["retry-after"]) > 0
    assert answer.headers["content-type"] == "application/problem+json"


@with_ingress()
async def test_a_client_that_waits_for_the_answer_before_its_first_line_gets_its_head(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(stream_module, "START_WITHIN_S", 0.01)
    exchange = world.stream()
    head = await exchange.event()
    assert (head["type"], head["status"]) == ("http.response.start", 200)
    exchange.feed(line(OTP), more=False)
    assert [r["outcome"] for r in (await exchange.answer()).lines] == ["accepted"]


@with_ingress('backlog_max = 1\nrequest_timeout = "100ms"')
async def test_a_full_lane_slows_the_stream_and_then_ends_it(world: World) -> None:
    await world.send(OTP)
    await world.app.backlog.sample()
    exchange = world.stream()
    exchange.feed(line(SALE) + line(OTP) + line(OTP))
    lines = (await exchange.answer()).lines
    assert [(r["line"], r["outcome"]) for r in lines] == [(1, "accepted"), (2, "error")]
    assert lines[1]["error"]["status"] == 429


@with_ingress("backlog_max = 1")
async def test_a_lane_that_gets_room_lets_the_stream_go_on(world: World) -> None:
    first = (await world.send(OTP)).json["id"]
    await world.app.backlog.sample()
    exchange = world.stream()
    exchange.feed(line(OTP), more=False)
    await asyncio.sleep(0)
    await world.call("DELETE", f"/v1/messages/{first}")
    await world.redis.call([("DEL", "{k0}lane:sms:otp")])
    await world.app.backlog.sample()
    assert [r["outcome"] for r in (await exchange.answer()).lines] == ["accepted"]


@with_ingress()
async def test_a_client_that_goes_away_ends_its_stream_only(world: World) -> None:
    exchange = world.stream()
    exchange.feed(line(OTP))
    first = await exchange.line()
    exchange.hang_up()
    await exchange.answer()
    assert await reads.message(world.store, first["id"]) is not None
    assert (await world.send(OTP)).status == 202


@with_ingress()
async def test_a_worker_that_stops_ends_its_streams_after_what_they_took(world: World) -> None:
    exchange = world.stream()
    exchange.feed(line(OTP))
    await exchange.line()
    world.app.stop()
    answer = await exchange.answer()
    assert answer.body == b""
    assert not exchange.connection.aborted


@with_ingress()
async def test_a_stream_needs_a_key_too(world: World) -> None:
    exchange = world.begin(
        "POST", "/v1/messages", {"content-type": "application/x-ndjson"}, key="reader-key"
    )
    exchange.feed(line(OTP), more=False)
    assert (await exchange.answer()).status == 403


@with_ingress()
async def test_what_is_not_read_is_bounded_in_bytes(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(stream_module, "WINDOW_BYTES", 8_192)
    bad = line({f"unknown-{number}": 0 for number in range(30)})
    exchange = world.stream()
    exchange.reading.clear()
    for _ in range(100):
        exchange.feed(bad)
    exchange.feed(b"", more=False)
    for _ in range(500):
        await asyncio.sleep(0)
    assert exchange.received < 10
    assert 0 < world.app.waiting.held < 16_384
    exchange.reading.set()
    lines = (await exchange.answer()).lines
    assert [r["line"] for r in lines] == list(range(1, 101))
    assert world.app.waiting.held == 0


@with_ingress()
async def test_while_the_worker_holds_too_much_a_stream_answers_before_it_reads_on(
    world: World,
) -> None:
    world.app.waiting.add(world.app.waiting.limit)
    exchange = world.stream()
    exchange.reading.clear()
    for _ in range(3):
        exchange.feed(line(OTP))
    await exchange.has_received(1)
    for _ in range(200):
        await asyncio.sleep(0)
    assert exchange.received == 1
    exchange.reading.set()
    exchange.feed(b"", more=False)
    assert [r["outcome"] for r in (await exchange.answer()).lines] == ["accepted"] * 3
    assert world.app.waiting.held == world.app.waiting.limit
