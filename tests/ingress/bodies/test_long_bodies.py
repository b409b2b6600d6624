"""What one long request may ask of a process: others have their turns meanwhile, and no object is
read that holds it for long."""

from __future__ import annotations

import asyncio
import json
import tracemalloc
from collections.abc import Awaitable
from typing import Any

import pytest

from gateway.ingress.api.bodies import turns
from gateway.ingress.api.bodies.array_items import COUNTED_BYTES_MAX
from gateway.ingress.api.bodies.decoder import KEYS_TWICE, OBJECT_BYTES_MAX
from gateway.ingress.api.bodies.repeated_keys import SEARCHED_BYTES_MAX
from tests.worlds.ingress_world import OTP, Answer, World, with_ingress

TWICE = b'{"a":0,"a":0}'
JSON = {"content-type": "application/json"}


def numbered(count: int, **more: Any) -> list[dict[str, Any]]:
    return [OTP | more | {"to": f"+7916123{number:04}"} for number in range(count)]


async def posted(world: World, body: bytes, path: str = "/v1/messages") -> tuple[Answer, int]:
    """The answer, and how often others could do something before it."""
    return await with_others(world.call("POST", path, body, JSON))


async def with_others(call: Awaitable[Answer]) -> tuple[Answer, int]:
    taken = 0

    async def take_turns() -> None:
        nonlocal taken
        while True:
            await asyncio.sleep(0)
            taken += 1

    others = asyncio.create_task(take_turns())
    answer = await call
    others.cancel()
    return answer, taken


@with_ingress()
async def test_an_object_that_is_too_long_is_not_read(world: World) -> None:
    long = OTP | {"text": "x" * OBJECT_BYTES_MAX}
    size = len(json.dumps(long))
    alone = await world.call("POST", "/v1/messages", json.dumps(long).encode(), JSON)
    assert (alone.status, alone.json["type"]) == (413, "/docs#too-large")
    assert f"{OBJECT_BYTES_MAX} bytes, this one has {size}" in alone.json["detail"]
    first, second = (await world.send([long, OTP])).json
    assert (first["outcome"], first["error"]["status"]) == ("rejected", 413)
    assert second["outcome"] == "accepted"
    just = OTP | {"text": "x" * (OBJECT_BYTES_MAX - 200)}
    told = await world.call("POST", "/v1/messages", json.dumps(just).encode(), JSON)
    assert (told.status, told.json["errors"][0]["pointer"]) == (422, "/text")


@pytest.mark.parametrize("path", ["/v1/messages", "/v1/reactions", "/v1/conversions"])
def test_others_have_their_turns_while_an_array_is_read(
    redis_url: str, monkeypatch: pytest.MonkeyPatch, path: str
) -> None:
    """Whatever its items take: small ones may take as long as large ones."""
    monkeypatch.setattr(turns, "TURN_S", 0.0)

    @with_ingress()
    async def post(world: World) -> None:
        answer, taken = await posted(world, b"[" + b",".join([b"{}"] * 200) + b"]", path)
        assert [each["error"]["status"] for each in answer.json] == [422] * 200
        assert taken >= 200

    post(redis_url)


@with_ingress()
async def test_others_have_their_turns_while_a_stream_is_read(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(turns, "TURN_S", 0.0)
    stream = world.stream()
    stream.feed(b"{}\n" * 200, more=False)
    answer, taken = await with_others(stream.answer())
    assert len(answer.lines) == 200
    assert taken >= 200


@with_ingress()
async def test_others_have_their_turns_while_a_damaged_array_is_cut(world: World) -> None:
    lists = b'{"a":[' + b",".join([b"[]"] * 100_000) + b"]}"
    answer, taken = await posted(world, b"[" + lists + rb',{"a":"\ud83d"}]')
    assert [each["error"]["status"] for each in answer.json] == [422, 400]
    assert taken > 20


@with_ingress()
async def test_of_far_too_many_items_no_more_are_cut_than_may_be_there(world: World) -> None:
    many = COUNTED_BYTES_MAX // 2
    for last in (b"{}", rb'{"a":"\ud83d"}'):
        body = b"[" + b"{}," * many + last + b"]"
        tracemalloc.start()
        answer, _ = await posted(world, body)
        _, peak = tracemalloc.get_traced_memory()
        tracemalloc.stop()
        assert answer.status == 413
        assert "1000 messages, this one has more" in answer.json["detail"]
        assert peak < 4 * len(body)


@with_ingress()
async def test_a_long_array_of_good_messages_is_taken_as_it_stands(world: World) -> None:
    messages = numbered(100, metadata={"a": "x" * 1_000}, email={"html": "<p>" + "x" * 20_000})
    body = json.dumps(messages).encode()
    assert len(body) > COUNTED_BYTES_MAX
    answer, _ = await posted(world, body)
    assert [each["outcome"] for each in answer.json] == ["accepted"] * 100
    other = await world.call("POST", "/v1/messages", body[:-1], JSON)
    assert other.status == 400


LONG = "x" * 100_000


@with_ingress()
async def test_what_cannot_be_taken_is_not_sent_back_as_a_whole(world: World) -> None:
    """It stood twice in the answer, in `detail` and in `errors`."""
    for key, pointer in (
        ({"category": LONG}, "/category"),
        ({"importance": LONG}, "/importance"),
        ({"links": LONG}, "/links"),
        ({"route": LONG}, "/route"),
        ({"to": {"push": [{"kind": LONG}]}}, "/to/push/0/kind"),
    ):
        answer = await world.send(OTP | key)
        assert (answer.status, answer.json["errors"][0]["pointer"]) == (422, pointer)
        assert f"'{LONG[:64]}" in answer.json["detail"]
        assert len(answer.body) < 1_500, key


@with_ingress()
async def test_keys_given_twice_in_a_long_object_are_told_of_the_whole(world: World) -> None:
    body = b'{"a":[' + b",".join([TWICE] * (SEARCHED_BYTES_MAX // len(TWICE))) + b"]}"
    answer = await world.call("POST", "/v1/messages", body, JSON)
    assert answer.status == 422
    assert answer.json["errors"][0] == {"pointer": "", "detail": KEYS_TWICE}
    assert {each["pointer"] for each in answer.json["errors"]} > {"/a", "/category"}
