"""The floor of a request: the gateway's own HTTP server and options, answering 202 with no work.

    python -m bench.bare        prints one line, {"port": N}, and serves until SIGTERM

It reads the whole body and sends a body as long as an acceptance, so that only the work differs.
"""

from __future__ import annotations

import contextlib
import socket
import sys
from collections.abc import Iterator
from typing import Any

import uvicorn

ANSWER = b'{"id":"01ARZ3NDEKTSV4RRFFQ6","outcome":"accepted","status":"queued"}'
HEADERS = [
    (b"content-type", b"application/json"),
    (b"content-length", b"%d" % len(ANSWER)),
]


async def app(_scope: Any, receive: Any, send: Any) -> None:
    """Answers every request with 202."""
    while (await receive()).get("more_body", False):
        pass
    await send({"type": "http.response.start", "status": 202, "headers": HEADERS})
    await send({"type": "http.response.body", "body": ANSWER})


class _Server(uvicorn.Server):
    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        """Leaves SIGTERM as it is: there is nothing to finish."""
        yield


def main() -> None:
    with socket.socket() as listener:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind(("127.0.0.1", 0))
        listener.listen()  # whoever reads the port may connect at once
        sys.stdout.write(f'{{"port": {listener.getsockname()[1]}}}\n')
        sys.stdout.flush()
        config = uvicorn.Config(
            app,
            loop="uvloop",
            http="httptools",
            ws="none",
            lifespan="off",
            interface="asgi3",
            log_config=None,
            access_log=False,
            server_header=False,
            proxy_headers=False,
        )
        _Server(config).run(sockets=[listener])


if __name__ == "__main__":
    main()
