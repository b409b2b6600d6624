"""A provider written from the wire format alone: Kaskad is not only held against itself.

It speaks Infobip's `POST /viber/2/messages` and `POST /sms/3/messages`, and nothing else: every
other path is a 404, so it has no look-up. It accepts whatever comes, remembers it, and reports
nothing by itself: a test pushes each report by hand, to the address that came with the message. How
the next requests are met can be scripted: an error status, a status inside the 200, a connection
that is closed once the request was read. It imports nothing of Kaskad.
"""

from __future__ import annotations

import contextlib
import http.client
import json
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, NamedTuple
from urllib.parse import urlsplit

from tests.worlds.patience import PATIENCE_S

CHANNELS = {"/viber/2/messages": "viber", "/sms/3/messages": "sms"}
STATUSES = {
    26: (1, "PENDING", "PENDING_ACCEPTED"),
    7: (1, "PENDING", "PENDING_ENROUTE"),
    9: (2, "UNDELIVERABLE", "UNDELIVERABLE_NOT_DELIVERED"),
    5: (3, "DELIVERED", "DELIVERED_TO_HANDSET"),
    2: (3, "DELIVERED", "DELIVERED_TO_OPERATOR"),
    15: (4, "EXPIRED", "EXPIRED_EXPIRED"),
    6: (5, "REJECTED", "REJECTED_NETWORK"),
    12: (5, "REJECTED", "REJECTED_NOT_ENOUGH_CREDITS"),
    20: (5, "REJECTED", "REJECTED_FLOODING_FILTER"),
}
NO_ERROR = {"groupId": 0, "groupName": "OK", "id": 0, "name": "NO_ERROR", "permanent": False}


class Taken(NamedTuple):
    """One destination of one request: `id` is what the sender calls it, `whole` its message."""

    channel: str
    id: str
    to: str
    whole: dict[str, Any]

    @property
    def delivery_url(self) -> str:
        return str(self.whole["webhooks"]["delivery"]["url"])

    @property
    def seen_url(self) -> str:
        return str(self.whole["webhooks"]["seen"]["url"])


class Turn(NamedTuple):
    """How one request is met: an HTTP `status` other than 200 takes nothing; `inside` is the status
    of each message in the answer; `cut` closes the connection after the request was taken;
    `before_answer` is called when it was, and before its answer."""

    status: int = 200
    headers: Mapping[str, str] = {}
    inside: int = 26
    cut: bool = False
    before_answer: Any = None


class FakeProvider:
    """A running provider; `key` is what `Authorization: App` must carry."""

    def __init__(self, key: str) -> None:
        self.key = key
        self.taken: list[Taken] = []
        self.requests: list[tuple[float, str]] = []  # every POST: monotonic time and channel
        self.unknown_paths: list[str] = []
        self._turns: dict[str, list[Turn]] = {"viber": [], "sms": []}
        self._mood: dict[str, Turn] = {}
        self._changed = threading.Condition()
        provider = self

        class Handler(_Handler):
            owner = provider

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._server.daemon_threads = True
        self.base_url = f"http://127.0.0.1:{self._server.server_port}"
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.05,))

    def start(self) -> None:
        self._thread.start()

    def stop(self) -> None:
        self._server.shutdown()
        self._thread.join()
        self._server.server_close()

    def script(self, channel: str, *turns: Turn) -> None:
        """How the next requests of a channel are met; after them everything is accepted again."""
        with self._changed:
            self._turns[channel] += turns

    @contextlib.contextmanager
    def all_met(self, channel: str, turn: Turn) -> Iterator[None]:
        """How every request of a channel is met meanwhile that is not scripted."""
        self._mood[channel] = turn
        try:
            yield
        finally:
            del self._mood[channel]

    def of(self, phone: str, channel: str) -> list[Taken]:
        """Everything that was taken for a number on a channel."""
        with self._changed:
            digits = phone.removeprefix("+")
            return [one for one in self.taken if one.channel == channel and one.to == digits]

    def wait_for(self, phone: str, channel: str, count: int = 1) -> Taken:
        """The latest thing taken for a number once there are `count`."""
        with self._changed:
            came = self._changed.wait_for(lambda: len(self.of(phone, channel)) >= count, PATIENCE_S)
            assert came, (
                f"no {channel} message number {count} for {phone} came within {PATIENCE_S} s"
            )
        return self.of(phone, channel)[-1]

    def next_turn(self, channel: str) -> Turn:
        with self._changed:
            self.requests.append((time.monotonic(), channel))
            turns = self._turns[channel]
            return turns.pop(0) if turns else self._mood.get(channel, Turn())

    def note(self, channel: str, messages: Sequence[Mapping[str, Any]]) -> list[Taken]:
        taken = [
            Taken(channel, destination["messageId"], destination["to"], dict(message))
            for message in messages
            for destination in message["destinations"]
        ]
        with self._changed:
            self.taken += taken
            self._changed.notify_all()
        return taken


class _Handler(BaseHTTPRequestHandler):
    owner: FakeProvider
    protocol_version = "HTTP/1.1"
    wbufsize = -1  # one write an answer

    def do_GET(self) -> None:
        self.owner.unknown_paths.append(self.path)
        self._answer(404, {"errorCode": "E404", "description": "There is no such resource."})

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
        channel = CHANNELS.get(self.path)
        if channel is None:
            self.do_GET()
            return
        if self.headers.get("Authorization") != f"App {self.owner.key}":
            self._answer(401, {"errorCode": "E401", "description": "Invalid credentials."})
            return
        turn = self.owner.next_turn(channel)
        if turn.status != 200:
            error = {"errorCode": f"E{turn.status}", "description": "As the test wants it."}
            self._answer(turn.status, error, turn.headers)
            return
        taken = self.owner.note(channel, json.loads(body)["messages"])
        if turn.before_answer is not None:
            turn.before_answer(taken)
        if turn.cut:
            self.close_connection = True
            return
        items = [
            {"messageId": one.id, "status": status(turn.inside), "destination": one.to}
            for one in taken
        ]
        self._answer(200, {"bulkId": "bulk", "messages": items})

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - the library's name
        """Keeps the test's output clean."""

    def _answer(self, code: int, shape: object, headers: Mapping[str, str] | None = None) -> None:
        octets = json.dumps(shape).encode()
        self.send_response(code)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(octets)))
        for name, value in (headers or {}).items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(octets)


@contextlib.contextmanager
def running(key: str) -> Iterator[FakeProvider]:
    provider = FakeProvider(key)
    provider.start()
    try:
        yield provider
    finally:
        provider.stop()


# --- reports, as the provider writes them ---


def status(number: int) -> dict[str, Any]:
    group, group_name, name = STATUSES[number]
    return {
        "groupId": group,
        "groupName": group_name,
        "id": number,
        "name": name,
        "description": name.replace("_", " ").capitalize(),
    }


def stamp(epoch_s: float | None = None) -> str:
    """The provider's dates: milliseconds, and an offset without a colon."""
    moment = time.time() if epoch_s is None else epoch_s
    text = time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(moment))
    return f"{text}.{int(moment * 1000) % 1000:03d}+0000"


def report(
    taken: Taken, number: int, *, price: str = "", parts: int = 1, error: int = 0
) -> dict[str, Any]:
    """A delivery report with the status of that number; `price` is that of one part."""
    shape: dict[str, Any] = {
        "bulkId": "bulk",
        "messageId": taken.id,
        "to": taken.to,
        "sentAt": stamp(),
        "doneAt": stamp(),
        "messageCount": parts,
        "status": status(number),
        "error": {**NO_ERROR, "id": error, "name": f"EC_{error}"} if error else NO_ERROR,
        "callbackData": taken.whole["webhooks"].get("callbackData"),
    }
    if price:
        shape["price"] = {"pricePerMessage": float(price), "currency": "EUR"}
    return shape


def seen(taken: Taken) -> dict[str, Any]:
    """A seen report: no status, no price, no callback data."""
    sender = taken.whole["sender"]
    return {"messageId": taken.id, "from": sender, "to": taken.to, "seenAt": stamp()}


def push(
    url: str,
    reports: Sequence[object],
    *,
    body: bytes | None = None,
    headers: Mapping[str, str] | None = None,
) -> int:
    """Posts reports (or `body` as it is) to a callback address; the status of the answer."""
    parts = urlsplit(url)
    assert parts.hostname is not None
    connection = http.client.HTTPConnection(parts.hostname, parts.port, timeout=PATIENCE_S)
    path = f"{parts.path}?{parts.query}" if parts.query else parts.path
    octets = json.dumps({"results": list(reports)}).encode() if body is None else body
    try:
        connection.request(
            "POST", path, octets, {"Content-Type": "application/json", **(headers or {})}
        )
        answer = connection.getresponse()
        answer.read()
        return answer.status
    finally:
        connection.close()
