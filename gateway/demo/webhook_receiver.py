"""The apps' own receiver of webhooks: it proves each call and counts the messages that are final.

HTTP with the standard library, a thread a connection: made to be read. A call that is not signed
as it should be gets a 401, and is a message that is missing in the count.
"""

from __future__ import annotations

import hmac
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import msgspec

from gateway.core.webhooks import signed
from gateway.demo.audience import FINAL
from gateway.demo.configuration import HOST
from gateway.demo.stage import Stage

NAME = "demo"


class WebhookReceiver:
    """Listens until `close`."""

    def __init__(self) -> None:
        self._secrets: dict[str, str] = {}  # by the path of each app
        self._final: set[str] = set()
        receiver = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"
            disable_nagle_algorithm = True

            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers["Content-Length"]))
                headers = {name.lower(): value for name, value in self.headers.items()}
                self.send_response_only(204 if receiver.take(self.path, headers, body) else 401)
                self.send_header("Content-Length", "0")
                self.end_headers()

            def log_message(self, *_: Any) -> None:
                """Nothing: what counts is the count."""

        self._server = ThreadingHTTPServer((HOST, 0), Handler)
        self._server.daemon_threads = True
        threading.Thread(target=self._server.serve_forever, daemon=True).start()

    @property
    def final(self) -> int:
        """How many messages it was told to be final."""
        return len(self._final)

    def subscribe(self, place: Stage, app: str) -> None:
        """Has an app's messages told here. Raises CampaignFailed."""
        url = f"http://{HOST}:{self._server.server_address[1]}/{app}"
        wanted = {"url": url, "events": [f"message.{status}" for status in sorted(FINAL)]}
        made = place.api(app).call("PUT", f"/v1/webhooks/{NAME}", wanted)
        self._secrets[f"/{app}"] = made["secret"]

    def take(self, path: str, headers: dict[str, str], body: bytes) -> bool:
        """Whether the call is what it says; then its message counts."""
        at_s = int(headers["webhook-timestamp"])
        proof = signed([self._secrets[path]], headers["webhook-id"], at_s, body)
        if not hmac.compare_digest(proof, headers["webhook-signature"]):
            return False
        self._final.add(msgspec.json.decode(body)["data"]["id"])
        return True

    def close(self) -> None:
        self._server.shutdown()
        self._server.server_close()
