"""What is told on a real connection: to a good request, a bad one, in a crowd, at a stop."""

from __future__ import annotations

import asyncio
import base64
import hashlib
import hmac
import json
import os
import signal
from collections.abc import Awaitable, Callable
from typing import Any

import pytest
import redis

from gateway.ingress.api.callbacks import callbacks
from gateway.ingress.intake.batcher import Batcher, QueueFull
from gateway.redis.errors import RedisUnavailable
from gateway.redis.server.embedded import EmbeddedRedis
from gateway.store.store import Store
from gateway.store.transaction import ConflictError
from tests.ingress.callbacks.test_callbacks import BASIC, report
from tests.ingress.http.test_server import Connection, serving
from tests.worlds.ingress_world import OTP, SALE

KEY = {"Authorization": "Bearer shop-key"}
JSON = {"Content-Type": "application/json"}
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
# What is taken; the same person's second sale is a duplicate, a third a full cap.
GOOD: dict[str, Request] = {
    "a code": message(OTP),
    "a sale": message(SALE),
    "a duplicate": message(SALE),
    "another sale": message(SALE | {"campaign": "winter"}),
    "a sale too many": message(SALE | {"campaign": "spring"}),
    "a charset": message(OTP, Content_Type="Application/JSON; charset=utf-8"),
    "with a key": message(OTP | {"text": "once"}, **KEYED),
    "with the same key": message(OTP | {"text": "once"}, **KEYED),
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
    "an array": message([OTP, SALE]),
    "white space before it": message(b" " + json.dumps(OTP).encode()),
}
BAD: dict[str, Request] = {
    "no price for it": message(OTP | {"route": "nowhere"}),
    "with the same key and another body": message(OTP | {"text": "twice"}, **KEYED),
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


def answers(redis_url: str, *requests: Request) -> list[tuple[int, dict[str, str], Any]]:
    """Status, headers and document told to each request, one after the other on one connection."""
    found = []

    async def talk(port: int) -> None:
        connection = await Connection.open(port)
        for request in requests:
            connection.writer.write(text_of(request).encode("latin-1"))
            status, headers, body = await connection.answer()
            found.append((status, headers, json.loads(body)))
        connection.writer.close()

    serving(redis_url, "body_bytes_max = 2048", talk)
    return found


def test_good_and_bad_requests_share_a_connection(redis_url: str) -> None:
    requests = GOOD | BAD
    told = dict(zip(requests, answers(redis_url, *requests.values()), strict=True))
    statuses = {name: status for name, (status, _, _) in told.items()}
    assert statuses["a code"] == 202
    assert statuses["a duplicate"] == 200
    assert told["a sale too many"][2]["outcome"] == "suppressed"
    assert "idempotent-replayed" in told["with the same key"][1]
    assert statuses["with the same key and another body"] == statuses["no price for it"] == 422
    assert told["a receipt beside a fault"][2]["faults"] == 1
    assert {name for name, status in statuses.items() if status >= 400} == set(BAD)


@pytest.mark.parametrize(
    ("fault", "status"),
    [
        (RedisUnavailable("Redis at secret-host is away."), 503),
        (ConflictError(), 503),
        (RuntimeError("secret"), 500),
    ],
)
def test_a_failure_of_the_store_is_told_without_its_words(
    redis_url: str, monkeypatch: pytest.MonkeyPatch, fault: Exception, status: int
) -> None:
    async def fails(*_: object) -> Any:
        raise fault

    monkeypatch.setattr(Store, "admit", fails)
    monkeypatch.setattr(callbacks, "take_receipts", fails)
    told = answers(redis_url, GOOD["a code"], GOOD["a receipt"])
    # A receipt that breaks us is a fault that is counted: the provider would only repeat it.
    assert [each[0] for each in told] == [status, status if status == 503 else 200]
    assert "secret" not in str(told)


def test_what_is_being_decided_at_sigterm_is_answered_and_is_durable(
    redis_url: str, redis_server: EmbeddedRedis, monkeypatch: pytest.MonkeyPatch
) -> None:
    let_go, both_taken = asyncio.Event(), asyncio.Event()
    admit: Callable[..., Awaitable[Any]] = Store.admit
    submit: Callable[..., None] = Batcher.submit
    taken: list[object] = []
    answered: list[dict[str, Any]] = []

    async def slow(*all_of: Any) -> Any:
        await let_go.wait()
        return await admit(*all_of)

    def watched(batcher: Batcher[Any, Any], *all_of: Any) -> None:
        submit(batcher, *all_of)
        taken.append(all_of)
        if len(taken) == 2:
            both_taken.set()

    async def talk(port: int) -> None:
        alone, crowded = await Connection.open(port), await Connection.open(port)
        alone.say(text_of(GOOD["a code"]))
        crowded.say(text_of(GOOD["a sale"]) + text_of(GOOD["an array"]))
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
    monkeypatch.setattr(Batcher, "submit", watched)
    serving(redis_url, "", talk)
    accepted = [found["id"] for found in answered if found["outcome"] == "accepted"]
    assert len(accepted) == 3
    with redis.Redis(unix_socket_path=str(redis_server.socket_path)) as client:
        kept = {key.rpartition(b":")[2].decode() for key in client.scan_iter("*m:*")}
    assert kept >= set(accepted)


def test_a_connection_serves_an_event_stream_after_a_post(redis_url: str) -> None:
    async def talk(port: int) -> None:
        connection = await Connection.open(port)
        connection.say(text_of(GOOD["a code"]))
        assert (await connection.answer())[0] == 202
        connection.say(
            "GET /v1/events HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer shop-key\r\n\r\n"
        )
        await connection.reader.readuntil(b"follow\n\n")
        other = await Connection.open(port)
        other.say(text_of(GOOD["a sale"]))
        _, _, body = await other.answer()
        await connection.reader.readuntil(json.loads(body)["id"].encode())
        other.writer.close()
        connection.writer.close()

    serving(redis_url, "", talk)


def test_when_too_much_waits_a_request_is_told_to_come_again(
    redis_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    def busy(*_: object) -> None:
        raise QueueFull

    monkeypatch.setattr(Batcher, "submit", busy)
    monkeypatch.setattr(Batcher, "ask_all", busy)
    told = answers(redis_url, GOOD["a code"], GOOD["a receipt"])
    assert [status for status, _, _ in told] == [503, 503]
