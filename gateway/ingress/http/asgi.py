"""The little of HTTP that every endpoint needs: reading a bounded body, writing one answer.

Plain ASGI, because a framework's request and response objects would cost more than the work. It
must not know what is in a body. A body that is too large or ends early raises Refusal or
ClientGone; nothing here retries.
"""

from __future__ import annotations

import datetime
from collections.abc import Awaitable, Callable, Iterable, MutableMapping
from typing import Any

import msgspec

from gateway.ingress.http.problems import Refusal, refuse

Scope = MutableMapping[str, Any]
AsgiMessage = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[AsgiMessage]]
Send = Callable[[AsgiMessage], Awaitable[None]]
Field = tuple[bytes, bytes]
Headers = Iterable[Field]

JSON = (b"content-type", b"application/json")
PROBLEM_JSON = (b"content-type", b"application/problem+json")

# What msgspec raises for text that is not JSON. Bytes that are not UTF-8 are told apart by it, and
# only where a value of them is used.
NOT_JSON = (msgspec.DecodeError, UnicodeDecodeError, RecursionError)

to_json = msgspec.json.Encoder().encode


class ClientGone(Exception):
    """The client closed the connection before its request was complete."""


def header(scope: Scope, name: bytes) -> bytes | None:
    """The first header of that (lower case) name."""
    return first_header(scope["headers"], name)


def first_header(headers: Headers, name: bytes) -> bytes | None:
    """The first header of that (lower case) name."""
    for key, value in headers:
        if key == name:
            return value
    return None


def media_type(scope: Scope) -> str:
    """The content type in lower case without parameters; empty when there is none."""
    value = header(scope, b"content-type")
    if value == JSON[1]:
        return "application/json"
    return "" if value is None else value.partition(b";")[0].strip().lower().decode("latin-1")


async def read_body(scope: Scope, receive: Receive, limit: int) -> bytes:
    """The whole body, at most `limit` bytes. How long it may take is the connection's guard's work.

    Raises Refusal (413, or 415 for a compressed body) and ClientGone.
    """
    refuse_encoded(scope)
    declared = header(scope, b"content-length")
    if declared is not None and declared.isdigit() and int(declared) > limit:
        raise _too_large(limit)
    event = await receive()
    if event["type"] != "http.request":
        raise ClientGone
    body: bytes = event.get("body", b"")
    if event.get("more_body", False):
        body = await _read_rest(body, receive, limit)
    if len(body) > limit:
        raise _too_large(limit)
    return body


def refuse_encoded(scope: Scope) -> None:
    """A compressed body could be a thousand times what its limit says. Raises Refusal."""
    encoding = header(scope, b"content-encoding")
    if encoding is not None and encoding.strip().lower() not in (b"", b"identity"):
        raise refuse("media-type", "Send the body without Content-Encoding.")


async def _read_rest(first: bytes, receive: Receive, limit: int) -> bytes:
    chunks = [first]
    size = len(first)
    while True:
        event = await receive()
        if event["type"] != "http.request":
            raise ClientGone
        chunk: bytes = event.get("body", b"")
        chunks.append(chunk)
        size += len(chunk)
        if size > limit:
            raise _too_large(limit)
        if not event.get("more_body", False):
            return b"".join(chunks)


def _too_large(limit: int) -> Refusal:
    return refuse("too-large", f"The body may have {limit} bytes; send less at once.")


async def respond(
    send: Send, status: int, body: bytes, headers: Headers = (), content_type: Any = JSON
) -> None:
    """One complete answer."""
    await send(
        {
            "type": "http.response.start",
            "status": status,
            "headers": [content_type, (b"content-length", b"%d" % len(body)), *headers],
        }
    )
    await send({"type": "http.response.body", "body": body})


async def respond_refusal(scope: Scope, send: Send, refusal: Refusal) -> None:
    """The problem document. A client that waits for "100 Continue" will not send its body any
    more, so that its connection cannot be used again."""
    headers = refusal.headers
    if header(scope, b"expect") is not None:
        headers = [*headers, (b"connection", b"close")]
    problem = refusal.problem
    await respond(send, problem.status, to_json(problem), headers, PROBLEM_JSON)


def rfc3339(at_ms: int) -> str:
    """Epoch milliseconds as "2026-11-21T10:00:00.123Z"."""
    moment = datetime.datetime.fromtimestamp(at_ms // 1000, datetime.UTC)
    return f"{moment:%Y-%m-%dT%H:%M:%S}.{at_ms % 1000:03d}Z"
