"""A request as its handler gets it: what came, who sent it, and the way to answer.

A body that is too large, compressed or cut off ends in Refusal (413, 415) or ClientGone. How long
a body may take is the connection's matter, see `protocol`.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Protocol, cast

from gateway.ingress.http.asgi import (
    CONNECTION,
    JSON,
    AsgiReceive,
    AsgiScope,
    AsgiSend,
    ClientGone,
    Field,
    Headers,
    first_header,
    respond,
)
from gateway.ingress.http.auth import Principal
from gateway.ingress.http.problems import Refusal, refuse


class Connection(Protocol):
    """What a request may ask of the connection that it came over."""

    def leave_body_to_app(self) -> None:
        """This request's body has no end: its timing is the handler's work."""

    def abort(self) -> None:
        """Closes the connection at once; what was not read by the peer is lost."""


class Request:
    """One request at its endpoint."""

    __slots__ = ("parameters", "principal", "receive", "scope", "send")

    def __init__(
        self,
        scope: AsgiScope,
        receive: AsgiReceive,
        send: AsgiSend,
        principal: Principal,
        parameters: Mapping[str, str],
    ) -> None:
        self.scope = scope
        self.receive = receive
        self.send = send
        self.principal = principal
        self.parameters = parameters  # of the path, decoded

    @property
    def query(self) -> bytes:
        """What stands behind the question mark, as it came."""
        return cast("bytes", self.scope["query_string"])

    @property
    def headers(self) -> Headers:
        """All headers, names in lower case."""
        return cast("Headers", self.scope["headers"])

    @property
    def media_type(self) -> str:
        """The content type in lower case without parameters; empty when there is none."""
        value = self.header(b"content-type")
        if value == JSON[1]:
            return "application/json"
        return "" if value is None else value.partition(b";")[0].strip().lower().decode("latin-1")

    def header(self, name: bytes) -> bytes | None:
        """The first header of that (lower case) name."""
        return first_header(self.headers, name)

    async def body(self, limit: int) -> bytes:
        """The whole body, at most `limit` bytes. Raises Refusal and ClientGone."""
        self.refuse_encoded()
        declared = self.header(b"content-length")
        if declared is not None and declared.isdigit() and int(declared) > limit:
            raise _too_large(limit)
        chunks: list[bytes] = []
        size = 0
        more = True
        while more:
            event = await self.receive()
            if event["type"] != "http.request":
                raise ClientGone
            chunk: bytes = event.get("body", b"")
            chunks.append(chunk)
            size += len(chunk)
            if size > limit:
                raise _too_large(limit)
            more = event.get("more_body", False)
        return chunks[0] if len(chunks) == 1 else b"".join(chunks)

    def refuse_encoded(self) -> None:
        """A compressed body could be a thousand times what its limit says. Raises Refusal."""
        encoding = self.header(b"content-encoding")
        if encoding is not None and encoding.strip().lower() not in (b"", b"identity"):
            raise refuse("media-type", "Send the body without Content-Encoding.")

    async def respond(
        self, status: int, body: bytes, headers: Headers = (), content_type: Field = JSON
    ) -> None:
        """One complete answer."""
        await respond(self.send, status, body, headers, content_type)

    async def respond_nothing(self) -> None:
        """204: it is done, and there is nothing to show."""
        await self.send({"type": "http.response.start", "status": 204, "headers": []})
        await self.send({"type": "http.response.body", "body": b""})

    def leave_body_to_handler(self) -> None:
        """This body has no end: from now on its timing is the handler's."""
        if (connection := self._connection()) is not None:
            connection.leave_body_to_app()

    def abort(self) -> None:
        """Closes the connection at once; what was not read by the peer is lost."""
        if (connection := self._connection()) is not None:
            connection.abort()

    def _connection(self) -> Connection | None:
        return self.scope.get(CONNECTION)


def _too_large(limit: int) -> Refusal:
    return refuse("too-large", f"The body may have {limit} bytes; send less at once.")
