"""The simulator's HTTP face: the twins' endpoints as plain ASGI, and the faults a request can meet.

What a request says and how an answer is written is its twin's, what a message becomes is
`exchange`'s, the `/_sim` endpoints are `control`'s. A closed connection needs the transport, which
`server` puts into the scope. Whatever a client sends is answered: a fault is the client's 4xx,
never an exception.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, MutableMapping
from typing import Any, Final, NamedTuple
from urllib.parse import parse_qs

from providers.contract import Channel
from providers.simulator import control
from providers.simulator.fate import Handling
from providers.simulator.replies import Reply
from providers.simulator.runtime import Runtime
from providers.simulator.twin import Listing, Twin, Unreadable, Violations
from providers.simulator.twins import TWINS

Scope = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[MutableMapping[str, Any]]]
Send = Callable[[MutableMapping[str, Any]], Awaitable[None]]

TRANSPORT: Final = "simulator.transport"  # scope key
REQUEST_BYTES_MAX: Final = 16 * 1024 * 1024
REFUSED_FROM: Final = 300  # HTTP statuses of an answer that nobody takes for "accepted"


class _Closed(NamedTuple):
    """The connection is closed instead of an answer; `outcome` is what it counts as."""

    outcome: str


class Simulator:
    """The ASGI application. `api_key` is the one that every twin wants."""

    def __init__(self, runtime: Runtime, api_key: str) -> None:
        self.runtime = runtime
        self._api_key = api_key

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
        method, path = scope["method"], scope["path"]
        twin = _twin_at(path)
        if outage == "unavailable":
            return self._error(twin, 503, "The service is not available.")
        if body is None:
            return self._error(twin, 413, f"The body is longer than {REQUEST_BYTES_MAX} bytes.")
        headers = dict(scope["headers"])
        for each in TWINS.values() if method == "POST" else ():
            aside = each.aside(path, body, self._api_key)
            if aside is not None:
                return aside
        if not twin.is_authorised(headers, self._api_key):
            return self._error(twin, 401, "Invalid login details.")
        try:
            return await self._resource(twin, scope, headers, body)
        except Unreadable as fault:
            return self._error(twin, 400, fault.sentence, fault.violations)

    async def _resource(
        self, twin: Twin, scope: Scope, headers: dict[bytes, bytes], body: bytes
    ) -> Reply | _Closed:
        method, path = scope["method"], scope["path"]
        channel = twin.sends_at(path)
        if channel is not None:
            if method != "POST":
                return self._error(twin, 405, f"{path} takes POST.")
            if not headers.get(b"content-type", b"").startswith(twin.media_type.encode()):
                return self._error(twin, 415, f"Content-Type must be {twin.media_type}.")
            return await self._send(twin, channel, body, path)
        if path in twin.pulls:
            if method != "GET":
                return self._error(twin, 405, f"{path} takes GET.")
            return await self._pull(twin, *twin.pulls[path], _query(scope))
        return self._error(twin, 404, f"There is no resource {path}.")

    async def _hang(self, receive: Receive) -> None:
        """Keeps the client waiting until the outage ends or it hangs up."""
        over = asyncio.ensure_future(self.runtime.outage_over())
        gone = asyncio.ensure_future(_disconnected(receive))
        try:
            await asyncio.wait((over, gone), return_when=asyncio.FIRST_COMPLETED)
        finally:
            over.cancel()
            gone.cancel()

    async def _send(self, twin: Twin, channel: Channel, body: bytes, path: str) -> Reply | _Closed:
        runtime = self.runtime
        sending = twin.read_send(channel, body, path)
        messages = sum(len(order.destinations) for order in sending.orders)
        limit = runtime.knobs.request_messages_max
        if messages > limit:
            sentence = f"{messages} destinations; at most {limit} may be in one request"
            raise Unreadable("The request is too large.", [("messages", sentence)])
        if runtime.book_full:
            return self._error(twin, 503, "The simulator's book is full.")
        first = sending.orders[0].destinations[0]
        handled = runtime.handling(first.message_id or first.to)
        if handled.fate == "lost":
            return _Closed("lost")
        runtime.offered(channel, messages)
        if handled.fate == "throttled" or runtime.above_rate(channel, messages):
            return self._throttled(twin)
        if handled.fate == "broken" and not runtime.knobs.server_error_accepts:
            return await self._broken(twin, handled)
        sent = runtime.accept(twin, channel, sending, messages)
        await runtime.push_first(sent.early)
        if handled.fate == "broken":
            return await self._broken(twin, handled)
        await _pass(handled.answer_ms)
        if handled.fate == "answer-lost":
            return _Closed("answer-lost")
        if handled.fate == "garbage" and sent.answer.status < REFUSED_FROM:
            return _garbage(sent.answer.body, handled.pick)
        return sent.answer

    async def _pull(
        self, twin: Twin, channel: Channel, listing: Listing, query: dict[str, list[str]]
    ) -> Reply | _Closed:
        runtime = self.runtime
        ids, bulks, limit = twin.read_pull(query)
        handled = runtime.handling(f"{listing} {','.join(ids) or ','.join(bulks)}")
        if handled.fate in ("lost", "answer-lost"):
            return _Closed(handled.fate)
        if handled.fate == "throttled":
            return self._throttled(twin)
        if handled.fate == "broken":
            return await self._broken(twin, handled)
        pull = runtime.exchange.logs if listing == "logs" else runtime.exchange.reports
        entries = pull(channel, ids, bulks, limit)
        body = twin.pulled(listing, entries, price_when_free=runtime.knobs.price_when_free)
        await _pass(handled.answer_ms)
        return _garbage(body, handled.pick) if handled.fate == "garbage" else Reply(200, body)

    def _throttled(self, twin: Twin) -> Reply:
        reply = self._error(twin, 429, "Too many requests.")
        seconds = self.runtime.knobs.retry_after_s
        if seconds:
            return reply._replace(headers=((b"retry-after", str(seconds).encode()),))
        return reply

    async def _broken(self, twin: Twin, handled: Handling) -> Reply:
        await _pass(handled.answer_ms)
        status = (500, 502, 503)[handled.pick % 3]
        if status == 502:  # a proxy on the way does not speak JSON
            return Reply(502, b"<html><h1>502 Bad Gateway</h1></html>", content_type=b"text/html")
        return self._error(twin, status, "Something went wrong.")

    def _error(self, twin: Twin, status: int, sentence: str, violations: Violations = ()) -> Reply:
        shape = self.runtime.knobs.error_shape
        return Reply(status, twin.error(shape, status, sentence, violations))


def _twin_at(path: str) -> Twin:
    """The twin that has a resource there; the first one for a path that nobody knows."""
    twins = list(TWINS.values())
    return next((twin for twin in twins if twin.sends_at(path) or path in twin.pulls), twins[0])


def _garbage(answer: bytes, pick: int) -> Reply:
    bodies = (answer[: len(answer) // 2], b"<html>All is well</html>", b"", b"{}")
    return Reply(200, bodies[pick % len(bodies)], outcome="garbage")


def _query(scope: Scope) -> dict[str, list[str]]:
    return parse_qs(scope["query_string"].decode("latin-1"), keep_blank_values=True)


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
