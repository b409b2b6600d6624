"""The fault bench's proxy kills exactly when the bytes it waits for have been passed on."""

from __future__ import annotations

import json
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator

import pytest

PATIENCE_S = 20.0
WAY = "way"


class Echo:
    """A server that says what it is told, in one connection."""

    def __init__(self) -> None:
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port: int = self._listener.getsockname()[1]
        self.heard = b""
        self._thread = threading.Thread(target=self._run)
        self._thread.start()

    def _run(self) -> None:
        link, _ = self._listener.accept()
        with link:
            while piece := link.recv(1024):
                self.heard += piece
                link.sendall(piece)

    def stop(self) -> None:
        """Returns when its client has left."""
        self._thread.join(PATIENCE_S)
        self._listener.close()


@pytest.fixture
def echo() -> Iterator[Echo]:
    server = Echo()
    yield server
    server.stop()


@pytest.mark.parametrize(("down", "said"), [(False, b"a END"), (True, b"a END END")])
def test_the_second_mark_kills_once_it_has_been_passed_on(
    echo: Echo, down: bool, said: bytes
) -> None:
    with (
        subprocess.Popen(
            [sys.executable, "-m", "bench.chaos.proxy"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        ) as proxy,
        subprocess.Popen(["cat"], stdin=subprocess.PIPE) as victim,
    ):
        assert proxy.stdin is not None
        assert proxy.stdout is not None
        for line in (
            {WAY: [f"127.0.0.1:{echo.port}"]},
            {
                "name": WAY,
                "mode": "kill",
                "pid": victim.pid,
                "mark": "END",
                "down": down,
                "times": 2,
            },
        ):
            proxy.stdin.write(json.dumps(line) + "\n")
            proxy.stdin.flush()
        port = json.loads(proxy.stdout.readline())[WAY]
        with socket.create_connection(("127.0.0.1", port), PATIENCE_S) as link:
            told = b""
            for word in (b"a", b" END"):
                link.sendall(word)
                told += link.recv(1024)
            assert victim.poll() is None
            link.sendall(b" END")
            assert victim.wait(PATIENCE_S) == -signal.SIGKILL
            if down:
                told += link.recv(1024)
            else:
                assert link.recv(1024) == b""  # no byte of the answer
        proxy.communicate()
    echo.stop()
    assert (echo.heard, told) == (b"a END END", said)
