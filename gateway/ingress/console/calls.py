"""Calls of the API that the console makes on behalf of who looks at it, and the same as curl.

A call goes through the application like any request: the same row, scope, handler, log line and
audit. Only the key is not asked for again. A call never raises: what fails is a problem document.
"""

from __future__ import annotations

import shlex
from collections.abc import Awaitable, Callable
from typing import Any, NamedTuple
from urllib.parse import quote

import msgspec

from gateway.ingress.http.asgi import (
    ACTS_AS,
    JSON,
    AsgiMessage,
    AsgiReceive,
    AsgiScope,
    AsgiSend,
    to_json,
)
from gateway.ingress.http.auth import Principal
from gateway.ingress.http.route import Method

AsgiApplication = Callable[[AsgiScope, AsgiReceive, AsgiSend], Awaitable[None]]


class ApiCall(msgspec.Struct, frozen=True):
    """One call; `path` is encoded, with its query."""

    method: Method
    path: str
    body: dict[str, Any] | None = None

    def curl(self, base_url: str) -> str:
        """The same on a command line."""
        parts = [
            f"curl -X {self.method} {shlex.quote(base_url + self.path)}",
            '  -H "Authorization: Bearer $KASKAD_KEY"',
        ]
        if self.body is not None:
            parts.append("  -H 'Content-Type: application/json'")
            parts.append(f"  -d {shlex.quote(to_json(self.body).decode())}")
        return " \\\n".join(parts)


class Answered(NamedTuple):
    """What a call came to."""

    status: int
    json: Any

    @property
    def done(self) -> bool:
        return 200 <= self.status < 300


def segment(text: str) -> str:
    """A name as one segment of a path."""
    return quote(text, safe="")


class Caller:
    """Makes calls in this worker."""

    def __init__(self, app: AsgiApplication) -> None:
        self._app = app

    async def call(self, asked: ApiCall, principal: Principal, peer: str) -> Answered:
        """Makes one call with the rights of a principal."""
        path, _, query = asked.path.partition("?")
        body = b"" if asked.body is None else to_json(asked.body)
        scope = {
            "type": "http",
            "method": asked.method,
            "path": path,
            "raw_path": path.encode(),
            "query_string": query.encode(),
            "headers": [] if asked.body is None else [JSON],
            "client": (peer, 0),
            ACTS_AS: principal,
        }
        status, chunks = 0, []

        async def receive() -> AsgiMessage:
            return {"type": "http.request", "body": body, "more_body": False}

        async def send(message: AsgiMessage) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
            else:
                chunks.append(message.get("body", b""))

        await self._app(scope, receive, send)
        answer = b"".join(chunks)
        return Answered(status, msgspec.json.decode(answer) if answer else None)
