"""A request as its handler gets it: what came, who sent it, and the way to answer.

A body that is too large, compressed or cut off ends in Refusal (413, 415) or ClientGone. How long
a body may take is the connection's matter, see `protocol`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Never, Protocol, cast

from gateway.ingress.http.asgi import (
    CONNECTION,
    JSON,
    PROBLEM_JSON,
    AsgiReceive,
    AsgiScope,
    AsgiSend,
    ClientGone,
    HeaderField,
    Headers,
    to_json,
)
from gateway.ingress.http.auth import NOBODY
from gateway.ingress.http.problems import Refusal, refuse
from gateway.ingress.http.request_ids import REQUEST_ID, RequestIds
from gateway.ingress.http.waiting import WaitingBytes


class ClientConnection(Protocol):
    """What a request may ask of the connection that it came over."""

    def leave_body_to_app(self) -> None:
        """This request's body has no end: its timing is the handler's work."""

    def abort(self) -> None:
        """Closes the connection at once; what was not read by the peer is lost."""


class Request:
    """One request at its endpoint. `status` is the answer's, once it has begun."""

    __slots__ = (
        "_held",
        "_receive",
        "_scope",
        "_send",
        "_waiting",
        "changed_something",
        "fields",
        "headers",
        "id",
        "method",
        "parameters",
        "path",
        "principal",
        "status",
    )

    def __init__(
        self,
        scope: AsgiScope,
        receive: AsgiReceive,
        send: AsgiSend,
        ids: RequestIds,
        waiting: WaitingBytes,
    ) -> None:
        self.method: str = scope["method"]
        self.path: str = scope["path"]
        self.headers: Headers = scope["headers"]  # names in lower case
        self.fields = dict(reversed(scope["headers"]))  # the first of a name counts
        self.id = ids.of(self.fields.get(REQUEST_ID))
        self._receive = receive
        self.principal = NOBODY
        self.parameters: Mapping[str, str] = {}  # of the path, decoded
        self.status = 0
        self.changed_something = False  # though its endpoint is asked all the time
        self._scope = scope
        self._send = send
        self._waiting = waiting
        self._held = 0  # bytes of the body that are counted there

    @property
    def raw_path(self) -> str:
        """The path as it came: an encoded `/` in an id or address parts nothing."""
        raw = self._scope.get("raw_path")
        return self.path if raw is None else raw.decode("latin-1")

    @property
    def query(self) -> bytes:
        """What stands behind the question mark, as it came."""
        return cast("bytes", self._scope["query_string"])

    @property
    def port(self) -> int | None:
        """The port of ours that it came to."""
        server = self._scope.get("server")
        return None if server is None else server[1]

    @property
    def peer(self) -> str:
        """The address at the other end of the connection: the caller's, or a proxy's."""
        client = self._scope.get("client")
        return "" if client is None else str(client[0])

    @property
    def media_type(self) -> str:
        """The content type in lower case without parameters; empty when there is none."""
        value = self.header(b"content-type")
        if value == JSON[1]:
            return "application/json"
        return "" if value is None else value.partition(b";")[0].strip().lower().decode("latin-1")

    def header(self, name: bytes) -> bytes | None:
        """The first header of that (lower case) name."""
        return self.fields.get(name)

    def lines(self, name: bytes) -> bytes | None:
        """All headers of that (lower case) name as one, where several say one list."""
        return b",".join(value for each, value in self.headers if each == name) or None

    async def body(self, limit: int, each: Callable[[bytes], object] | None = None) -> bytes:
        """The whole body, at most `limit` bytes; `each` is given the pieces as they come. What
        comes in several is counted as held until `release`. Raises Refusal and ClientGone."""
        self.refuse_encoded()
        declared = self.header(b"content-length")
        if declared is not None and declared.isdigit() and int(declared) > limit:
            raise _too_large(limit)
        body, more = await self.next_chunk()
        chunks, size = [body], len(body)
        if each is not None:
            each(body)
        while more and size <= limit:
            self._hold_or_refuse(len(chunks[-1]))
            chunk, more = await self.next_chunk()
            chunks.append(chunk)
            size += len(chunk)
            if each is not None:
                each(chunk)
        if size > limit:
            raise _too_large(limit)
        return body if len(chunks) == 1 else b"".join(chunks)

    def _hold_or_refuse(self, count: int) -> None:
        if not self._waiting.take(count):
            raise refuse("unavailable", "Too many bytes of requests wait here: try again later.")
        self._held += count

    def hold(self, count: int) -> None:
        """So many more bytes are held for this request; less than 0: so many fewer."""
        self._held += count
        self._waiting.add(count)

    @property
    def crowded(self) -> bool:
        """Whether all requests together hold as much as they may."""
        return self._waiting.full

    def release(self) -> None:
        """The request is over: what it held is held no more."""
        self._waiting.add(-self._held)

    async def next_chunk(self) -> tuple[bytes, bool]:
        """The next piece of the body, and whether there are more. Raises ClientGone."""
        event = await self._receive()
        if event["type"] != "http.request":
            raise ClientGone
        return event.get("body", b""), event.get("more_body", False)

    async def until_gone(self) -> Never:
        """For a request whose body is over: raises ClientGone once its client hangs up."""
        while (await self._receive())["type"] != "http.disconnect":
            pass
        raise ClientGone

    def refuse_encoded(self) -> None:
        """A compressed body could be a thousand times what its limit says. Raises Refusal."""
        encoding = self.header(b"content-encoding")
        if encoding is not None and encoding.strip().lower() not in (b"", b"identity"):
            raise refuse("media-type", "Send the body without Content-Encoding.")

    async def respond(
        self,
        status: int,
        body: bytes = b"",
        headers: Headers = (),
        content_type: HeaderField = JSON,
    ) -> None:
        """One complete answer. A 204 has no body and says nothing of one."""
        if status != 204:
            headers = [content_type, (b"content-length", b"%d" % len(body)), *headers]
        await self.begin(status, headers)
        await self._send({"type": "http.response.body", "body": body})

    async def refuse(self, refusal: Refusal) -> None:
        """The problem document. A client that waits for "100 Continue" will not send its body any
        more, so that its connection cannot be used again."""
        headers = refusal.headers
        if self.header(b"expect") is not None:
            headers = [*headers, (b"connection", b"close")]
        problem = refusal.problem
        await self.respond(problem.status, to_json(problem), headers, PROBLEM_JSON)

    async def begin(self, status: int, headers: Headers) -> None:
        """The head of an answer; its body follows by `write`, until `end`."""
        self.status = status
        headers = [*headers, (REQUEST_ID, self.id)]
        await self._send({"type": "http.response.start", "status": status, "headers": headers})

    async def write(self, body: bytes) -> None:
        """The next piece of the answer's body."""
        await self._send({"type": "http.response.body", "body": body, "more_body": True})

    async def end(self) -> None:
        """The answer is whole."""
        await self._send({"type": "http.response.body", "body": b""})

    def leave_body_to_handler(self) -> None:
        """This body has no end: from now on its timing is the handler's."""
        if (connection := self._connection()) is not None:
            connection.leave_body_to_app()

    def abort(self) -> None:
        """Closes the connection at once; what was not read by the peer is lost."""
        if (connection := self._connection()) is not None:
            connection.abort()

    def _connection(self) -> ClientConnection | None:
        return self._scope.get(CONNECTION)


def _too_large(limit: int) -> Refusal:
    return refuse("too-large", f"The body may have {limit} bytes; send less at once.")
