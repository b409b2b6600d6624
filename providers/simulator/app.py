"""The simulator's HTTP face: Infobip's endpoints as plain ASGI, and the faults a request can meet.

Owns routing, authentication, decoding and the faults of whole requests; what a message becomes is
`exchange`'s, the `/_sim` endpoints are `control`'s. A closed connection needs the transport, which
`server` puts into the scope. Whatever a client sends is answered: a fault is the client's 4xx,
never an exception.
"""

from __future__ import annotations

import asyncio
import hmac
from collections.abc import Awaitable, Callable, MutableMapping
from typing import Any, Final, NamedTuple
from urllib.parse import parse_qs

import msgspec

from providers.contract import Channel
from providers.simulator import control
from providers.simulator.fate import Handling
from providers.simulator.replies import Reply, json_reply
from providers.simulator.runtime import Runtime
from providers.simulator.wire import (
    REQUEST_BYTES_MAX,
    SMS_REQUEST,
    VIBER_REQUEST,
    SmsRequest,
    ViberRequest,
    error_body,
    violation,
)

Scope = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[MutableMapping[str, Any]]]
Send = Callable[[MutableMapping[str, Any]], Awaitable[None]]

TRANSPORT: Final = "simulator.transport"  # scope key
PULL_LIMIT: Final = 50
PULL_LIMIT_MAX: Final = 1_000

_SENDS: Final[dict[str, Channel]] = {"/viber/2/messages": "viber", "/sms/3/messages": "sms"}
_PULLS: Final[dict[str, tuple[Channel, str]]] = {
    "/viber/2/logs": ("viber", "logs"),
    "/viber/2/reports": ("viber", "reports"),
    "/sms/3/logs": ("sms", "logs"),
    "/sms/3/reports": ("sms", "reports"),
}


class _Closed(NamedTuple):
    """The connection is closed instead of an answer; `outcome` is what it counts as."""

    outcome: str


class Simulator:
    """The ASGI application. `api_key` is what `Authorization: App` must carry."""

    def __init__(self, runtime: Runtime, api_key: str) -> None:
        self.runtime = runtime
        self._authorization = f"App {api_key}".encode()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            raise RuntimeError(f"The simulator speaks HTTP only, not {scope['type']}.")
        method, path = scope["method"], scope["path"]
        if path.startswith(control.PREFIX):
            body = await _body(receive)
            reply = await control.answer(
                self.runtime, method, path, _query(scope), body or b"", too_long=body is None
            )
            await _answer(send, reply)
            return
        what = f"{method} {path}"
        result = await self._provider(scope, receive)
        if isinstance(result, Reply):
            self.runtime.count(what, result.outcome or str(result.status))
            await _answer(send, result)
        else:
            self.runtime.count(what, result.outcome)
            await _close(scope, receive)

    async def _provider(self, scope: Scope, receive: Receive) -> Reply | _Closed:
        outage = self.runtime.outage()
        if outage == "hang":
            await self._hang(receive)
            return _Closed("hung")
        if outage == "refuse":
            return _Closed("refused")
        body = await _body(receive)
        if outage == "unavailable":
            return self._error(503, "The service is not available.")
        if body is None:
            return self._error(413, f"The body is longer than {REQUEST_BYTES_MAX} bytes.")
        headers = dict(scope["headers"])
        if not hmac.compare_digest(headers.get(b"authorization", b""), self._authorization):
            return self._error(401, "Invalid login details.")
        method, path = scope["method"], scope["path"]
        if path in _SENDS:
            if method != "POST":
                return self._error(405, f"{path} takes POST.")
            if not headers.get(b"content-type", b"").startswith(b"application/json"):
                return self._error(415, "Content-Type must be application/json.")
            return await self._send(_SENDS[path], body)
        if path in _PULLS:
            if method != "GET":
                return self._error(405, f"{path} takes GET.")
            return await self._pull(*_PULLS[path], _query(scope))
        return self._error(404, f"There is no resource {path}.")

    async def _hang(self, receive: Receive) -> None:
        """Keeps the client waiting until the outage ends or it hangs up."""
        over = asyncio.ensure_future(self.runtime.outage_over())
        gone = asyncio.ensure_future(_disconnected(receive))
        try:
            await asyncio.wait((over, gone), return_when=asyncio.FIRST_COMPLETED)
        finally:
            over.cancel()
            gone.cancel()

    async def _send(self, channel: Channel, body: bytes) -> Reply | _Closed:
        runtime = self.runtime
        request: ViberRequest | SmsRequest
        try:
            request = (VIBER_REQUEST if channel == "viber" else SMS_REQUEST).decode(body)
        except msgspec.MsgspecError as fault:
            return self._error(400, "The request cannot be read.", [violation(fault)])
        messages = sum(len(message.destinations) for message in request.messages)
        limit = runtime.knobs.request_messages_max
        if messages > limit:
            sentence = f"{messages} destinations; at most {limit} may be in one request"
            return self._error(400, "The request is too large.", [("messages", sentence)])
        if runtime.book_full:
            return self._error(503, "The simulator's book is full.")
        first = request.messages[0].destinations[0]
        handled = runtime.handling(first.message_id or first.to)
        if handled.fate == "lost":
            return _Closed("lost")
        runtime.offered(channel, messages)
        if handled.fate == "throttled" or runtime.above_rate(channel, messages):
            return self._throttled()
        if handled.fate == "broken" and not runtime.knobs.server_error_accepts:
            return await self._broken(handled)
        sent = runtime.accept(channel, request, messages)
        await runtime.push_first(sent.early)
        if handled.fate == "broken":
            return await self._broken(handled)
        await _pass(handled.answer_ms)
        if handled.fate == "answer-lost":
            return _Closed("answer-lost")
        if handled.fate == "garbage":
            return _garbage(sent.answer, handled.pick)
        return Reply(200, sent.answer)

    async def _pull(
        self, channel: Channel, which: str, query: dict[str, list[str]]
    ) -> Reply | _Closed:
        runtime = self.runtime
        ids, bulks = _list(query, "messageId"), _list(query, "bulkId")
        limit_text = query.get("limit", [str(PULL_LIMIT)])[-1]
        if not limit_text.isdecimal() or not 1 <= int(limit_text) <= PULL_LIMIT_MAX:
            sentence = f"must be 1 to {PULL_LIMIT_MAX}"
            return self._error(400, "The request cannot be read.", [("limit", sentence)])
        handled = runtime.handling(f"{which} {','.join(ids) or ','.join(bulks)}")
        if handled.fate in ("lost", "answer-lost"):
            return _Closed(handled.fate)
        if handled.fate == "throttled":
            return self._throttled()
        if handled.fate == "broken":
            return await self._broken(handled)
        pull = runtime.exchange.logs if which == "logs" else runtime.exchange.reports
        results = pull(channel, ids, bulks, int(limit_text))
        await _pass(handled.answer_ms)
        reply = json_reply(200, {"results": results})
        return _garbage(reply.body, handled.pick) if handled.fate == "garbage" else reply

    def _throttled(self) -> Reply:
        reply = self._error(429, "Too many requests.")
        seconds = self.runtime.knobs.retry_after_s
        if seconds:
            return reply._replace(headers=((b"retry-after", str(seconds).encode()),))
        return reply

    async def _broken(self, handled: Handling) -> Reply:
        await _pass(handled.answer_ms)
        status = (500, 502, 503)[handled.pick % 3]
        if status == 502:  # a proxy on the way does not speak JSON
            return Reply(502, b"<html><h1>502 Bad Gateway</h1></html>", content_type=b"text/html")
        return self._error(status, "Something went wrong.")

    def _error(
        self, status: int, description: str, violations: list[tuple[str, str]] | None = None
    ) -> Reply:
        shape = self.runtime.knobs.error_shape
        return Reply(status, error_body(shape, status, description, violations))


def _garbage(answer: bytes, pick: int) -> Reply:
    bodies = (answer[: len(answer) // 2], b"<html>All is well</html>", b"", b"{}")
    return Reply(200, bodies[pick % len(bodies)], outcome="garbage")


def _query(scope: Scope) -> dict[str, list[str]]:
    return parse_qs(scope["query_string"].decode("latin-1"), keep_blank_values=True)


def _list(query: dict[str, list[str]], name: str) -> list[str]:
    """Several values may be repeated parameters or one with commas."""
    return [part for value in query.get(name, ()) for part in value.split(",") if part]


async def _pass(milliseconds: int) -> None:
    if milliseconds:
        await asyncio.sleep(milliseconds / 1000)


async def _body(receive: Receive) -> bytes | None:
    """The whole body; None when it is longer than REQUEST_BYTES_MAX, of which no more is kept."""
    chunks: list[bytes] = []
    size = 0
    while True:
        event = await receive()
        if event["type"] == "http.disconnect":
            return b"".join(chunks)
        size += len(event["body"])
        if size <= REQUEST_BYTES_MAX:
            chunks.append(event["body"])
        if not event["more_body"]:
            return b"".join(chunks) if size <= REQUEST_BYTES_MAX else None


async def _disconnected(receive: Receive) -> None:
    while (await receive())["type"] != "http.disconnect":
        continue


async def _close(scope: Scope, receive: Receive) -> None:
    """Cuts the connection and waits until the server knows, so that it sends nothing itself."""
    scope[TRANSPORT].abort()
    await _disconnected(receive)


async def _answer(send: Send, reply: Reply) -> None:
    headers = [
        (b"content-type", reply.content_type),
        (b"content-length", str(len(reply.body)).encode()),
        *reply.headers,
    ]
    await send({"type": "http.response.start", "status": reply.status, "headers": headers})
    await send({"type": "http.response.body", "body": reply.body})
