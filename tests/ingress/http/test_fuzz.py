"""Bad input at the doors of a worker: never a 5xx, never a trace, never at a neighbour's cost."""

from __future__ import annotations

import asyncio
import json
import resource
import tracemalloc
from typing import Any

import pytest
import uvloop
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.worlds.ingress_world import (
    ENV,
    OTP,
    Clock,
    World,
    opened_world,
    with_ingress,
)
from tests.worlds.ingress_world import settings as configured
from tests.worlds.patience import PATIENCE_S

# What runs here runs in the tests of each endpoint too, and counting its lines costs as much again.
pytestmark = pytest.mark.no_cover

QUICK = settings(
    max_examples=12,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
GOOD = json.dumps(OTP).encode()
SCALARS = (
    st.none()
    | st.booleans()
    | st.integers(-(10**30), 10**30)
    | st.floats(allow_nan=False)
    | st.text(max_size=20)
    | st.sampled_from(["+79161234567", "otp", "marketing", "x" * 1_001])
)
ANY_JSON = st.recursive(
    SCALARS,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner),
    max_leaves=8,
)
KEYS = ["to", "user", "campaign", "category", "text", "viber", "sms", "route", "ttl", "metadata"]
# A good message, some of whose keys are anything at all.
ALMOST = st.dictionaries(st.sampled_from([*KEYS, "idempotency_key", "more"]), ANY_JSON).map(
    lambda changes: json.dumps(OTP | changes).encode()
)
SPECIAL = st.sampled_from(
    [
        b"",
        b"[" * 50_000,
        b'{"a":' * 50_000,
        b'{"to": 1e400}',
        b'{"ttl": ' + b"9" * 5_000 + b"}",
        b'{"text": "\\ud800"}',
        b'{"text": "\xff\xfe"}',
        GOOD[:-1],
        GOOD + b"\x00",
        b"\xef\xbb\xbf" + GOOD,
        b'{"to": "+79161234567", "to": "+79161234568", "category": "otp", "text": "x"}',
        b"NaN",
        b"[" + b"0," * 2_000 + b"0]",
    ]
)


def cut(body: bytes, at: int) -> bytes:
    return body[: at % (len(body) + 1)]


BODIES = st.lists(
    ALMOST | SPECIAL | st.binary(max_size=60) | st.builds(cut, ALMOST, st.integers(0, 10_000)),
    min_size=10,
    max_size=25,
)


def in_a_world(redis_url: str, talk: Any) -> None:
    async def main() -> None:
        async with (
            asyncio.timeout(PATIENCE_S),
            opened_world(redis_url, configured(), Clock()) as world,
        ):
            await talk(world)

    uvloop.run(main())


def is_told(answer: Any) -> None:
    """A refusal is a problem document that tells nothing of the inside."""
    assert answer.status < 500, (answer.status, answer.body)
    if answer.status >= 400:
        assert answer.headers["content-type"] == "application/problem+json"
        assert answer.json["status"] == answer.status
    for word in (b"Traceback", b".py", b"msgspec", *(value.encode() for value in SECRETS)):
        assert word not in answer.body


SECRETS = [value for value in ENV.values() if len(value) > 3]


@QUICK
@given(bodies=BODIES)
def test_no_body_of_a_send_breaks_anything(redis_url: str, bodies: list[bytes]) -> None:
    async def talk(world: World) -> None:
        kind = {"content-type": "application/json"}
        for body in bodies:
            is_told(await world.call("POST", "/v1/messages", body, kind))
            is_told(
                await world.call("POST", "/v1/messages", b"[" + body + b"," + GOOD + b"]", kind)
            )
        assert (await world.send(OTP)).status == 202

    in_a_world(redis_url, talk)


@QUICK
@given(bodies=BODIES)
def test_no_line_of_a_stream_costs_its_neighbours_anything(
    redis_url: str, bodies: list[bytes]
) -> None:
    """Every second line is good; each answer stands at its line's number."""
    lines = [body.replace(b"\n", b" ").replace(b"\r", b" ") or b"{}" for body in bodies]
    lines = [line if line.strip() else b"{}" for line in lines]

    async def talk(world: World) -> None:
        stream = world.stream()
        whole = b"".join(line + b"\n" + GOOD + b"\n" for line in lines)
        for start in range(0, len(whole), 997):  # cut anywhere
            stream.feed(whole[start : start + 997])
        stream.feed(b"", more=False)
        answer = await stream.answer()
        is_told(answer)
        results = answer.lines
        assert [result["line"] for result in results] == list(range(1, 2 * len(lines) + 1))
        assert {result["outcome"] for result in results[1::2]} == {"accepted"}
        assert all(r["outcome"] != "error" for r in results), "the stream was not ended by a line"

    in_a_world(redis_url, talk)


REPORT = {
    "messageId": "x",
    "status": {"groupId": 3, "id": 5, "name": "DELIVERED_TO_HANDSET"},
    "price": {"pricePerMessage": 0.01, "currency": "EUR"},
    "doneAt": "2026-11-01T10:00:00.000+0000",
    "callbackData": "{}",
}
REPORTS = st.dictionaries(st.sampled_from(list(REPORT)), ANY_JSON).map(
    lambda changes: json.dumps({"results": [REPORT | changes, REPORT]}).encode()
)


@QUICK
@given(
    bodies=st.lists(
        REPORTS
        | SPECIAL
        | st.binary(max_size=60)
        | st.builds(cut, REPORTS, st.integers(0, 10_000)),
        min_size=5,
        max_size=20,
    )
)
def test_no_callback_breaks_anything(redis_url: str, bodies: list[bytes]) -> None:
    async def talk(world: World) -> None:
        basic = {"authorization": "Basic aW5mb2JpcDpwYXNz", "content-type": "application/json"}
        for body in bodies:
            is_told(await world.call("POST", "/v1/callbacks/viber?token=tok", body, key=""))
            is_told(await world.call("POST", "/v1/callbacks/sms", body, basic, key=""))
        assert (await world.send(OTP)).status == 202

    in_a_world(redis_url, talk)


@with_ingress()
async def test_a_line_of_ten_megabytes_is_never_held(world: World) -> None:
    stream = world.stream()
    stream.feed(GOOD + b"\n")
    assert (await stream.line())["outcome"] == "accepted"
    tracemalloc.start()
    before, _ = tracemalloc.get_traced_memory()
    for number in range(160):
        stream.feed(b"x" * 65_536)
        await stream.has_received(number + 2)
    _, most = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert most - before < 2_000_000
    stream.feed(b"\n" + GOOD + b"\n")
    assert (await stream.line())["outcome"] == "rejected"
    assert (await stream.line())["outcome"] == "accepted"
    stream.feed(b"", more=False)
    await stream.answer()


@with_ingress()
async def test_what_nests_without_end_costs_no_time_and_no_stack(world: World) -> None:
    kind = {"content-type": "application/json"}
    before = resource.getrusage(resource.RUSAGE_SELF).ru_utime
    for opening in (b"[", b'{"a":', b'{"viber":', b'{"metadata":{"a":'):
        body = opening * (900_000 // len(opening))
        answer = await world.call("POST", "/v1/messages", body, kind)
        assert answer.status in (400, 413, 422)
    assert resource.getrusage(resource.RUSAGE_SELF).ru_utime - before < 3.0
