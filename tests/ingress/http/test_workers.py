"""The role as processes: several workers that are watched, and one that nobody watches."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.worlds.ingress_world import CONFIG, ENV
from tests.worlds.patience import PATIENCE_S

BEATS = 40  # in which a worker that watched for the end of its parent would have seen it

# Prints its port, and a line for each heartbeat. A worker that hangs is found within seconds here.
_ROLE = """
import sys
from pathlib import Path
from gateway import supervisor
from gateway.settings import file as settings
from gateway.ingress.http import server
server.BEAT_S = supervisor.BEAT_S = 0.1
path = Path(sys.argv[1])
config = settings.load(path, dict(pair.split("=") for pair in sys.argv[2:]))
server.run(
    config,
    ready=lambda host, port: print(port, flush=True),
    beat=lambda: print("beat", flush=True),
)
"""


@pytest.fixture
def command(redis_url: str, tmp_path: Path) -> Any:
    """The command line of the role with so many workers."""

    def of(workers: int) -> list[str]:
        table = f'port = 0\nworkers = {workers}\npublic_url = "http://127.0.0.1:1"'
        prices = "provider,prefix,category,cost,sell,currency,valid_from\n"
        (tmp_path / "prices.csv").write_text(prices + "sms,,,0.01,0.02,EUR,2026-01-01\n")
        (tmp_path / "kaskad.toml").write_text(CONFIG.format(server=table, shards=1))
        env = ENV | {"KASKAD_REDIS_URL": redis_url}
        pairs = [f"{name}={value}" for name, value in env.items()]
        return [sys.executable, "-c", _ROLE, str(tmp_path / "kaskad.toml"), *pairs]

    return of


def ready_status(port: int) -> int:
    """The status of one request on a connection of its own."""
    with socket.create_connection(("127.0.0.1", port), timeout=PATIENCE_S) as sock:
        sock.sendall(b"GET /readyz HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
        return int(sock.recv(100).split()[1])


def takes_connections(port: int) -> bool:
    try:
        socket.create_connection(("127.0.0.1", port), timeout=PATIENCE_S).close()
    except (ConnectionRefusedError, ConnectionResetError):
        return False
    return True


def workers_of(pid: int) -> list[int]:
    children = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
    return [int(child) for child in children]


def until_replaced(parent: int, worker: int) -> Iterator[list[int]]:
    """Each set of workers, until it is whole without `worker`."""
    deadline = time.monotonic() + PATIENCE_S
    while worker in (now := workers_of(parent)) or len(now) < 2:
        assert time.monotonic() < deadline
        yield now
    yield now


def port_of(process: subprocess.Popen[bytes]) -> int:
    assert process.stdout is not None
    while (line := process.stdout.readline()) == b"beat\n":
        pass
    return int(line)


def test_workers_share_a_port_are_started_again_and_stop_together(command: Any) -> None:
    with subprocess.Popen(command(2), stdout=subprocess.PIPE, stderr=subprocess.DEVNULL) as process:
        try:
            port = port_of(process)
            before = workers_of(process.pid)
            assert len(before) == 2
            assert {ready_status(port) for _ in range(20)} == {200}
            os.kill(before[0], signal.SIGKILL)
            # Callers of the dead worker's socket wait for its successor.
            assert {ready_status(port) for _ in range(20)} == {200}
            *_, after = until_replaced(process.pid, before[0])
            # One that hangs is no better than one that died.
            os.kill(after[0], signal.SIGSTOP)
            *_, after = until_replaced(process.pid, after[0])
            assert {ready_status(port) for _ in range(20)} == {200}
            process.send_signal(signal.SIGTERM)
            assert process.wait(PATIENCE_S) == 0
            assert all(not Path(f"/proc/{pid}").exists() for pid in after)
        finally:
            process.kill()


def test_workers_that_stop_take_no_connections_while_a_request_is_under_way(command: Any) -> None:
    with subprocess.Popen(command(2), stdout=subprocess.PIPE, stderr=subprocess.DEVNULL) as process:
        try:
            port = port_of(process)
            with socket.create_connection(("127.0.0.1", port), timeout=PATIENCE_S) as sock:
                sock.sendall(
                    b"POST /v1/messages HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer shop-key\r\n"
                    b"Content-Type: application/json\r\nContent-Length: 2\r\n"
                    b"Expect: 100-continue\r\n\r\n"
                )
                assert sock.recv(100).split()[1] == b"100"
                process.send_signal(signal.SIGTERM)
                deadline = time.monotonic() + PATIENCE_S
                while takes_connections(port):
                    assert time.monotonic() < deadline
                sock.sendall(b"{}")
                assert sock.recv(100).split()[1] == b"422"
            assert process.wait(PATIENCE_S) == 0
        finally:
            process.kill()


def test_workers_end_when_the_process_that_watches_them_is_killed(command: Any) -> None:
    with subprocess.Popen(command(2), stdout=subprocess.PIPE, stderr=subprocess.DEVNULL) as process:
        port_of(process)
        process.kill()
        assert process.stdout is not None
        process.stdout.read()  # ends with the last process that could write to it


def test_a_worker_alone_goes_on_when_the_shell_that_started_it_ends(command: Any) -> None:
    with subprocess.Popen(
        ["sh", "-c", '"$@" & echo $!', "sh", *command(1)],
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
    ) as shell:
        assert shell.stdout is not None
        pid = int(shell.stdout.readline())
        try:
            assert shell.wait(PATIENCE_S) == 0
            port = port_of(shell)
            for _ in range(BEATS):
                assert shell.stdout.readline() == b"beat\n", "it has ended"
            assert ready_status(port) == 200
        finally:
            os.kill(pid, signal.SIGTERM)
            shell.stdout.read()
