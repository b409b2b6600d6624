"""A request gets the same answer and has the same effect whichever way it takes to its endpoint."""

from __future__ import annotations

import asyncio
import base64
import hashlib
import hmac
import json
import os
import re
import signal
from collections.abc import Awaitable, Callable
from typing import Any

import pytest
import redis

from gateway.ingress.api import callbacks
from gateway.ingress.batcher import Batcher, Busy
from gateway.ingress.http.app import Ingress
from gateway.ingress.http.asgi import Start
from gateway.redis.errors import StoreUnavailable
from gateway.redis.server.embedded import EmbeddedRedis
from gateway.store.store import Store
from gateway.store.transaction import ConflictError
from tests.ingress.test_callbacks import BASIC, report
from tests.ingress.test_server import Connection, serving
from tests.worlds.ingress_world import OTP, SALE

KEY = {"Authorization": "Bearer shop-key"}
JSON = {"Content-Type": "application/json"}
NOISE = r'[0-9A-Z]{20}|\d{4}-\d\d-\d\dT[0-9:.]+Z|"incident":"[0-9a-f]+"'
OURS = "0" * 20  # an id of ours that no message has
TOKEN = "/v1/callbacks/viber?token=tok"
Request = tuple[str, dict[str, str], bytes]


def message(body: Any, **headers: str) -> Request:
    raw = body if isinstance(body, bytes) else json.dumps(body).encode()
    fields = KEY | JSON | {name.replace("_", "-"): value for name, value in headers.items()}
    return "/v1/messages", fields, raw


def signed(body: bytes) -> dict[str, str]:
    return {"X-Signature": hmac.new(b"hush", body, hashlib.sha256).hexdigest()}


REPORT = json.dumps(report(f"{OURS}.0")).encode()
HALF = json.dumps({"results": [{"messageId": 7}, *report(f"{OURS}.0")["results"]]}).encode()
KEYED = {"Idempotency_Key": "k1"}
# What goes the short way; the same person's second sale is a duplicate, a third a full cap.
SHORT: dict[str, Request] = {
    "a code": message(OTP),
    "a sale": message(SALE),
    "a duplicate": message(SALE),
    "another sale": message(SALE | {"campaign": "winter"}),
    "a sale too many": message(SALE | {"campaign": "spring"}),
    "a charset": message(OTP, Content_Type="Application/JSON; charset=utf-8"),
    "no price for it": message(OTP | {"route": "nowhere"}),
    "with a key": message(OTP | {"text": "once"}, **KEYED),
    "with the same key": message(OTP | {"text": "once"}, **KEYED),
    "with the same key and another body": message(OTP | {"text": "twice"}, **KEYED),
    "a receipt": (TOKEN, JSON, REPORT),
    "a receipt with a password": (
        "/v1/callbacks/sms",
        {"Authorization": BASIC["authorization"]},
        REPORT,
    ),
    "a signed receipt": ("/v1/callbacks/sms", signed(REPORT), REPORT),
    "a receipt beside a fault": (TOKEN, JSON, HALF),
    "a receipt whose token is not alone": (TOKEN + "&from=eu", JSON, REPORT),
    "no receipts": (TOKEN, JSON, b'{"results":[]}'),
}
# What is told by ASGI alone.
LONG: dict[str, Request] = {
    "an array": message([OTP, SALE]),
    "white space before it": message(b" " + json.dumps(OTP).encode()),
    "no JSON": message(b"{"),
    "not UTF-8": message(b'{"to":"\xff"}'),
    "an unknown key of it": message(OTP | {"colour": "red"}),
    "a bad number": message(OTP | {"to": "+7916"}),
    "another type": message(OTP, Content_Type="text/plain"),
    "an unknown key": message(OTP, Authorization="Bearer nobody"),
    "no bearer": message(OTP, Authorization="Basic nobody"),
    "a key that may not": message(OTP, Authorization="Bearer reader-key"),
    "a compressed body": message(OTP, Content_Encoding="gzip"),
    "a bad key of a request": message(OTP, Idempotency_Key="x" * 300),
    "a body that is too large": message(OTP | {"text": "x" * 3000}),
    "another address": ("/v1/elsewhere", KEY | JSON, b"{}"),
    "a receipt without proof": ("/v1/callbacks/viber?token=no", JSON, REPORT),
    "a receipt with a wrong password": (
        "/v1/callbacks/sms",
        {"Authorization": "Basic " + base64.b64encode(b"infobip:no").decode()},
        REPORT,
    ),
    "a receipt of a provider nobody knows": ("/v1/callbacks/none?token=tok", JSON, REPORT),
    "a receipt that cannot be read": (TOKEN, JSON, b"nonsense"),
    "receipts that are too large": (TOKEN, JSON, b" " * 3000),
}


def text_of(request: Request) -> str:
    target, headers, body = request
    head = "".join(f"{name}: {value}\r\n" for name, value in headers.items())
    length = f"Content-Length: {len(body)}\r\n"
    return f"POST {target} HTTP/1.1\r\nHost: x\r\n{head}{length}\r\n" + body.decode("latin-1")


def answers(
    redis_url: str, requests: dict[str, Request], patch: pytest.MonkeyPatch, *, short: bool
) -> dict[str, Any]:
    """What is answered to every request, one after the other on one connection, with the numbers
    that differ from run to run taken out; and whether it went the short way."""
    found: dict[str, Any] = {}
    taken: list[bool] = []
    real: Callable[..., Start | None] = Ingress.short_way

    def watched(app: Ingress, *whole: Any) -> Start | None:
        start = real(app, *whole) if short else None
        taken.append(start is not None)
        return start

    async def talk(port: int) -> None:
        connection = await Connection.open(port)
        for name, request in requests.items():
            taken.clear()
            connection.writer.write(text_of(request).encode("latin-1"))
            status, headers, body = await connection.answer()
            del headers["date"], headers["content-length"]
            told = re.sub(NOISE, "-", body.decode())
            found[name] = (status, headers, told, any(taken))
        connection.writer.close()

    with patch.context() as inner:
        inner.setattr(Ingress, "short_way", watched)
        serving(redis_url, "body_bytes_max = 2048", talk)
    return found


def test_both_ways_answer_alike(
    redis_url: str, redis_server: EmbeddedRedis, monkeypatch: pytest.MonkeyPatch
) -> None:
    short = answers(redis_url, SHORT | LONG, monkeypatch, short=True)
    assert {name for name, told in short.items() if told[3]} == set(SHORT)
    statuses = {name: told[0] for name, told in short.items()}
    assert statuses["a code"] == 202
    assert statuses["a duplicate"] == 200
    assert "suppressed" in short["a sale too many"][2]
    assert "idempotent-replayed" in short["with the same key"][1]
    assert statuses["with the same key and another body"] == statuses["no price for it"] == 422
    assert json.loads(short["a receipt beside a fault"][2])["faults"] == 1
    with redis.Redis(unix_socket_path=str(redis_server.socket_path)) as client:
        client.flushall()
    long = answers(redis_url, SHORT | LONG, monkeypatch, short=False)
    assert not any(told[3] for told in long.values())
    assert {name: told[:3] for name, told in long.items()} == {
        name: told[:3] for name, told in short.items()
    }


@pytest.mark.parametrize(
    ("fault", "status"),
    [
        (StoreUnavailable("Redis at secret-host is away."), 503),
        (ConflictError(), 503),
        (RuntimeError("secret"), 500),
    ],
)
def test_both_ways_tell_a_failure_of_the_store_alike(
    redis_url: str, monkeypatch: pytest.MonkeyPatch, fault: Exception, status: int
) -> None:
    async def fails(*_: object) -> Any:
        raise fault

    monkeypatch.setattr(Store, "admit", fails)
    monkeypatch.setattr(callbacks, "take_receipts", fails)
    requests = {name: SHORT[name] for name in ("a code", "a receipt")}
    short = answers(redis_url, requests, monkeypatch, short=True)
    long = answers(redis_url, requests, monkeypatch, short=False)
    assert [told[3] for told in (*short.values(), *long.values())] == [True, True, False, False]
    assert [told[:3] for told in short.values()] == [told[:3] for told in long.values()]
    assert short["a code"][0] == status
    # A receipt that breaks us is a fault that is counted: the provider would only repeat it.
    assert short["a receipt"][0] == (status if status == 503 else 200)
    assert "secret" not in str(short)


def test_what_is_being_decided_at_sigterm_is_answered_and_is_durable(
    redis_url: str, redis_server: EmbeddedRedis, monkeypatch: pytest.MonkeyPatch
) -> None:
    let_go, both_taken = asyncio.Event(), asyncio.Event()
    admit: Callable[..., Awaitable[Any]] = Store.admit
    short_way: Callable[..., Start | None] = Ingress.short_way
    taken: list[Start] = []
    answered: list[dict[str, Any]] = []

    async def slow(*all_of: Any) -> Any:
        await let_go.wait()
        return await admit(*all_of)

    def watched(app: Ingress, *whole: Any) -> Start | None:
        start = short_way(app, *whole)
        if start is not None:
            taken.append(start)
        if len(taken) == 2:
            both_taken.set()
        return start

    async def talk(port: int) -> None:
        alone, crowded = await Connection.open(port), await Connection.open(port)
        alone.say(text_of(SHORT["a code"]))
        crowded.say(text_of(SHORT["a sale"]) + text_of(LONG["an array"]))
        await both_taken.wait()
        os.kill(os.getpid(), signal.SIGTERM)
        while True:
            try:
                (await Connection.open(port)).writer.close()
            except ConnectionError:
                break
        let_go.set()
        for connection, count in ((alone, 1), (crowded, 2)):
            for place in range(count):
                status, headers, body = await connection.answer()
                assert status in (200, 202)
                assert ("connection" in headers) == (place == count - 1)
                found = json.loads(body)
                answered.extend(found if isinstance(found, list) else [found])
            assert await connection.closed()

    monkeypatch.setattr(Store, "admit", slow)
    monkeypatch.setattr(Ingress, "short_way", watched)
    serving(redis_url, "", talk)
    accepted = [found["id"] for found in answered if found["outcome"] == "accepted"]
    assert len(accepted) == 3
    with redis.Redis(unix_socket_path=str(redis_server.socket_path)) as client:
        kept = {key.rpartition(b":")[2].decode() for key in client.scan_iter("*m:*")}
    assert kept >= set(accepted)


def test_a_connection_serves_an_event_stream_after_the_short_way(redis_url: str) -> None:
    async def talk(port: int) -> None:
        connection = await Connection.open(port)
        connection.say(text_of(SHORT["a code"]))
        assert (await connection.answer())[0] == 202
        connection.say(
            "GET /v1/events HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer shop-key\r\n\r\n"
        )
        await connection.reader.readuntil(b"follow\n\n")
        other = await Connection.open(port)
        other.say(text_of(SHORT["a sale"]))
        _, _, body = await other.answer()
        await connection.reader.readuntil(json.loads(body)["id"].encode())
        other.writer.close()
        connection.writer.close()

    serving(redis_url, "", talk)


def test_both_ways_refuse_when_too_much_waits(
    redis_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    def busy(*_: object) -> None:
        raise Busy

    monkeypatch.setattr(Batcher, "submit", busy)
    monkeypatch.setattr(Batcher, "submit_all", busy)
    requests = {name: SHORT[name] for name in ("a code", "a receipt")}
    short = answers(redis_url, requests, monkeypatch, short=True)
    long = answers(redis_url, requests, monkeypatch, short=False)
    assert [told[:3] for told in short.values()] == [told[:3] for told in long.values()]
    assert [told[0] for told in short.values()] == [503, 503]
