"""HTTP as a stranger speaks it: one kept connection, whole answers, and chunked bodies by hand.

A connection that the server closed between two requests is made again; one
that breaks within a request raises OSError or HTTPException, because whether it was done is then
not known.
"""

from __future__ import annotations

import contextlib
import http.client
import json
import socket
from collections.abc import Iterator, Mapping
from types import TracebackType
from typing import Any, NamedTuple, Self

from tests.worlds.patience import PATIENCE_S


class Answer(NamedTuple):
    """A whole answer; `headers` have their names in lower case."""

    status: int
    headers: Mapping[str, str]
    body: bytes

    @property
    def json(self) -> Any:
        return json.loads(self.body)

    @property
    def lines(self) -> list[Any]:
        return [json.loads(line) for line in self.body.splitlines()]


class Client:
    """One connection to one server, for one thread."""

    def __init__(self, port: int, key: str | None = None) -> None:
        self.port = port
        self._headers = {"Authorization": f"Bearer {key}"} if key is not None else {}
        self._connection = http.client.HTTPConnection("127.0.0.1", port, timeout=PATIENCE_S)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        fault: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._connection.close()

    def request(
        self,
        method: str,
        path: str,
        body: object = None,
        headers: Mapping[str, str] | None = None,
    ) -> Answer:
        """Sends `body` as it is when it is bytes, else as JSON when it is not None."""
        sent = dict(self._headers)
        if body is not None and not isinstance(body, bytes):
            body = json.dumps(body).encode()
            sent["Content-Type"] = "application/json"
        sent |= headers or {}
        try:
            self._connection.request(method, path, body, sent)
            reply = self._connection.getresponse()
        except (http.client.RemoteDisconnected, BrokenPipeError):
            # A kept connection that was closed meanwhile: nothing of the request was taken.
            self._connection.close()
            self._connection.request(method, path, body, sent)
            reply = self._connection.getresponse()
        names = {name.lower(): value for name, value in reply.getheaders()}
        answer = Answer(reply.status, names, reply.read())
        if reply.will_close:
            self._connection.close()
        return answer

    def get(self, path: str, headers: Mapping[str, str] | None = None) -> Answer:
        return self.request("GET", path, headers=headers)

    def post(self, path: str, body: object, headers: Mapping[str, str] | None = None) -> Answer:
        return self.request("POST", path, body, headers)


class Stream:
    """A chunked POST that is answered while it is still being written, over a socket of its own."""

    def __init__(self, port: int, path: str, headers: Mapping[str, str]) -> None:
        self._socket = socket.create_connection(("127.0.0.1", port), PATIENCE_S)
        lines = [f"POST {path} HTTP/1.1", "Host: kaskad", "Transfer-Encoding: chunked"]
        lines += [f"{name}: {value}" for name, value in headers.items()]
        self._socket.sendall("\r\n".join([*lines, "", ""]).encode())
        self._reply = http.client.HTTPResponse(self._socket, method="POST")

    def write(self, data: bytes) -> None:
        self._socket.sendall(b"%x\r\n%b\r\n" % (len(data), data))

    def end(self) -> None:
        self._socket.sendall(b"0\r\n\r\n")

    def begin(self) -> int:
        """Waits for the head of the answer; its status."""
        self._reply.begin()
        return self._reply.status

    def line(self) -> Any:
        """The next line of the answer, decoded; None at its end."""
        line = self._reply.readline()
        return json.loads(line) if line.strip() else None

    def close(self) -> None:
        self._reply.close()
        self._socket.close()


@contextlib.contextmanager
def streaming(port: int, path: str, headers: Mapping[str, str]) -> Iterator[Stream]:
    stream = Stream(port, path, headers)
    try:
        yield stream
    finally:
        stream.close()
