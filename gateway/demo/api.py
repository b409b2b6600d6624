"""Kaskad's API as an app uses it: single posts, an NDJSON stream, and the stream of events.

HTTP with the standard library, one connection a call: made to be read, not to be fast.
Anything but the expected status is a CampaignFailed with what the server said.
"""

from __future__ import annotations

import http.client
import threading
from collections.abc import Callable, Iterable, Iterator
from typing import Any

import msgspec

TIMEOUT_S = 60.0
LINES_A_WRITE = 100


class CampaignFailed(Exception):
    """The demo could not go on; the sentence says where."""


class Api:
    """One app's way to the server at 127.0.0.1:`port`."""

    def __init__(self, port: int, key: str) -> None:
        self._port = port
        self._headers = {"Authorization": f"Bearer {key}"}

    def connect(self) -> http.client.HTTPConnection:
        return http.client.HTTPConnection("127.0.0.1", self._port, timeout=TIMEOUT_S)

    def call(self, method: str, path: str, shape: object = None) -> Any:
        """One request with a JSON body, or without; returns what answers it."""
        connection = self.connect()
        headers = self._headers | {"Content-Type": "application/json"}
        body = None if shape is None else msgspec.json.encode(shape)
        try:
            connection.request(method, path, body, headers if body else self._headers)
            return _json(connection.getresponse(), 200)
        finally:
            connection.close()

    def post(self, bodies: Iterable[bytes], answer: Callable[[dict[str, Any]], None]) -> None:
        """Sends one message a request, one after the other."""
        connection = self.connect()
        headers = self._headers | {"Content-Type": "application/json"}
        try:
            for body in bodies:
                connection.request("POST", "/v1/messages", body, headers)
                response = connection.getresponse()
                answer(_json(response, 200, 202))
        finally:
            connection.close()

    def opt_out(self, phones: Iterable[str]) -> None:
        connection = self.connect()
        headers = self._headers | {"Content-Type": "application/json"}
        try:
            for phone in phones:
                path = f"/v1/optouts/{phone.replace('+', '%2B')}"
                connection.request("PUT", path, b'{"scope":"marketing"}', headers)
                _json(connection.getresponse(), 200)
        finally:
            connection.close()

    def stream(self, lines: Iterable[bytes], answer: Callable[[dict[str, Any]], None]) -> None:
        """Sends any number of messages in one request, and reads the answers meanwhile.

        Both at once, or a long stream would stand still: the server reads no further than its
        answers are taken.
        """
        connection = self.connect()
        connection.putrequest("POST", "/v1/messages")
        for name, value in self._headers.items():
            connection.putheader(name, value)
        connection.putheader("Content-Type", "application/x-ndjson")
        connection.putheader("Transfer-Encoding", "chunked")
        connection.endheaders()
        faults: list[OSError] = []
        writer = threading.Thread(target=_write, args=(connection, lines, faults), daemon=True)
        writer.start()
        try:
            response = connection.getresponse()
            if response.status != 200:
                _json(response, 200)
            for line in response:
                shape: dict[str, Any] = msgspec.json.decode(line)
                if shape["outcome"] == "error":
                    raise CampaignFailed(f"The stream broke off: {shape['error']}")
                answer(shape)
        finally:
            writer.join(TIMEOUT_S)
            connection.close()
        if faults:
            raise faults[0]

    def events(self, listening: Callable[[http.client.HTTPConnection], None]) -> Iterator[Any]:
        """The app's status changes, as long as the server tells them.

        `listening` is called once none can be missed any more; shutting the connection's socket
        down ends it.
        """
        connection = self.connect()
        connection.request("GET", "/v1/events", headers=self._headers)
        response = connection.getresponse()
        if response.status != 200:
            _json(response, 200)
        listening(connection)
        for line in response:
            if line.startswith(b"data:"):
                yield msgspec.json.decode(line[5:])


def _write(
    connection: http.client.HTTPConnection, lines: Iterable[bytes], faults: list[OSError]
) -> None:
    batch: list[bytes] = []
    try:
        for line in lines:
            batch.append(line + b"\n")
            if len(batch) == LINES_A_WRITE:
                connection.send(_chunk(batch))
                batch.clear()
        if batch:
            connection.send(_chunk(batch))
        connection.send(b"0\r\n\r\n")
    except OSError as fault:
        faults.append(fault)


def _chunk(lines: list[bytes]) -> bytes:
    data = b"".join(lines)
    return b"%x\r\n%s\r\n" % (len(data), data)


def _json(response: http.client.HTTPResponse, *expected: int) -> Any:
    body = response.read()
    if response.status not in expected:
        said = body.decode("utf-8", "replace")[:500]
        raise CampaignFailed(f"The server answered {response.status}: {said}")
    return msgspec.json.decode(body) if body else {}
