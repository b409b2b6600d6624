"""A webhook that remembers its posts and can be told to refuse, and a bare HTTP caller."""

from __future__ import annotations

import http.client
import json
import threading
from collections import deque
from collections.abc import Mapping
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from tests.worlds.patience import PATIENCE_S


class Post:
    def __init__(self, path: str, headers: dict[str, str], body: bytes) -> None:
        self.path = path
        self.headers = headers
        self.body = body

    @property
    def results(self) -> list[dict[str, Any]]:
        shape = json.loads(self.body)
        assert list(shape) == ["results"]
        results: list[dict[str, Any]] = shape["results"]
        return results


class Webhook:
    """`refusals` holds the statuses of the next answers; then everything is taken with a 200."""

    def __init__(self) -> None:
        self.posts: list[Post] = []
        self.refusals: deque[int] = deque()
        self._changed = threading.Condition()
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), self._handler())
        self._server.daemon_threads = True
        self.url = f"http://127.0.0.1:{self._server.server_address[1]}"
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.01,))
        self._thread.start()

    def results(self, path: str = "/delivery") -> list[dict[str, Any]]:
        with self._changed:
            return [item for post in self.posts if post.path == path for item in post.results]

    def wait_for_posts(self, number: int) -> list[Post]:
        with self._changed:
            came = self._changed.wait_for(lambda: len(self.posts) >= number, PATIENCE_S)
            assert came, f"{len(self.posts)} of {number} posts came"
            return list(self.posts)

    def forget(self) -> None:
        with self._changed:
            self.posts.clear()
            self.refusals.clear()

    def close(self) -> None:
        self._server.shutdown()
        self._thread.join()
        self._server.server_close()

    def _handler(self) -> type[BaseHTTPRequestHandler]:
        webhook = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers["content-length"]))
                headers = {name.lower(): value for name, value in self.headers.items()}
                with webhook._changed:
                    webhook.posts.append(Post(self.path, headers, body))
                    status = webhook.refusals.popleft() if webhook.refusals else 200
                    webhook._changed.notify_all()
                self.send_response(status)
                self.send_header("content-length", "0")
                self.end_headers()

            def log_message(self, format: str, *args: object) -> None:  # noqa: A002
                return

        return Handler


class Answer:
    def __init__(self, status: int, headers: dict[str, str], body: bytes) -> None:
        self.status = status
        self.headers = headers
        self.body = body

    @property
    def json(self) -> Any:
        return json.loads(self.body)


def call(
    port: int,
    method: str,
    path: str,
    body: object = None,
    *,
    key: str = "simulator",
    content_type: str = "application/json",
    headers: Mapping[str, str] | None = None,
    timeout_s: float = 15.0,
) -> Answer:
    """One request on a connection of its own; a cut connection raises as http.client does."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=timeout_s)
    data = body if isinstance(body, bytes) else None if body is None else json.dumps(body).encode()
    carried = {"authorization": f"App {key}", "content-type": content_type, **(headers or {})}
    try:
        connection.request(method, path, data, carried)
        answer = connection.getresponse()
        content = answer.read()
        names = {name.lower(): value for name, value in answer.getheaders()}
        return Answer(answer.status, names, content)
    finally:
        connection.close()
