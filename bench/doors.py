"""What hostile callers cost a worker: its memory, and how long it leaves everybody else waiting.

    .venv/bin/python -m bench.doors [SHAPE ...]

Each shape is a load that one stranger or one app can bring, against a `kaskad serve` of its own on
the loopback. A line says what the worker's memory rose to at most, the longest that `/healthz` took
meanwhile (asked every 50 ms over a connection of its own), and what the callers were told.
"""

from __future__ import annotations

import argparse
import socket
import sys
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from bench.processes import BenchFailed, Child, free_port
from bench.redis_server import RedisServer
from bench.stack import APP_KEY, PRICES, Stack
from bench.world import Plan, config_text

MIB = 1024 * 1024
LOOK_S = 0.05
WAIT_S = 60.0  # for one caller's bytes to be taken, or for its answer
UNREAD_S = 3.0  # nothing more was taken for so long: the worker waits for its caller
TINY = b"GET / HTTP/1.1\r\nHost: x\r\n\r\n"
HEAD = (
    b"POST /v1/messages HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer %b\r\n"
    b"Content-Type: application/%b\r\n"
)

Told = Counter[str]


class Door(Stack):
    """A Redis and one ingress worker."""

    def start(self) -> None:
        self.folder.mkdir()
        self.port = free_port()
        (self.folder / "prices.csv").write_text(PRICES)
        self._redis = RedisServer(self.folder / "redis", self.env)
        config = self.folder / "kaskad.toml"
        config.write_text(config_text(Plan(), self.port, self.provider_url, self._redis.url))
        self._redis.await_ready()
        self.worker: Child = self.launch_role("serve", config, ["serve"])
        self.worker.await_ready()

    def stop(self) -> None:
        for name in ("worker", "_redis"):
            if (child := getattr(self, name, None)) is not None:
                child.stop()

    def connect(self) -> socket.socket:
        sock = socket.create_connection(("127.0.0.1", self.port))
        sock.settimeout(WAIT_S)
        return sock


class Watch:
    """Looks at a worker while a load runs."""

    def __init__(self, door: Door) -> None:
        self.rose_mib = 0.0
        self.longest_s = 0.0
        self._door = door
        self._over = threading.Event()

    @contextmanager
    def watching(self) -> Iterator[None]:
        before = _rss_mib(self._door.worker.pid)
        threads = [
            threading.Thread(target=self._weigh, args=(before,)),
            threading.Thread(target=self._ask),
        ]
        for thread in threads:
            thread.start()
        try:
            yield
        finally:
            self._over.set()
            for thread in threads:
                thread.join()

    def _weigh(self, before: float) -> None:
        while not self._over.wait(LOOK_S):
            self.rose_mib = max(self.rose_mib, _rss_mib(self._door.worker.pid) - before)

    def _ask(self) -> None:
        while not self._over.wait(LOOK_S):
            began = time.monotonic()
            with self._door.connect() as sock:
                sock.sendall(b"GET /healthz HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
                while sock.recv(4096):
                    pass
            self.longest_s = max(self.longest_s, time.monotonic() - began)


def pipelined(door: Door) -> Told:
    """10 MB of tiny requests, sent ahead over 40 connections without a key."""
    requests = 10_000_000 // len(TINY) // 40

    def call() -> Told:
        with door.connect() as sock:
            sender = threading.Thread(target=_send, args=(sock, TINY * requests))
            sender.start()
            time.sleep(UNREAD_S)  # the load's shape: a caller who sends and does not read yet
            end = time.monotonic() + WAIT_S
            answered, tail = 0, b""
            while answered < requests and time.monotonic() < end:
                data = sock.recv(65_536)
                answered += (tail[-8:] + data).count(b"HTTP/1.1 ")
                tail = data
                if not data:
                    break
            sock.close()
            sender.join()
            return Counter({"answered": answered})

    return _together(40, call)


def unknown_keys(door: Door) -> Told:
    """One body of 2 MB in which no key is known."""
    keys = b",".join(b'"k%07d":0' % number for number in range(160_000))
    return _posted(door, b"{" + keys + b"}")


def repeated_keys(door: Door) -> Told:
    """One body of 2 MB, in which 149,000 small objects have a key twice."""
    objects = b",".join([b'{"a":0,"a":0}'] * 149_000)
    return _posted(door, b'{"a":[' + objects + b"]}")


def faulty_items(door: Door) -> Told:
    """An array of 1,000 messages of 15.6 KB each, all of small objects that have a key twice."""
    item = b'{"a":[' + b",".join([b'{"a":0,"a":0}'] * 1_114) + b"]}"
    return _posted(door, b"[" + b",".join([item] * 1_000) + b"]")


def tiny_items(door: Door) -> Told:
    """An array of 5.2 million objects without a key."""
    return _posted(door, b"[" + b",".join([b"{}"] * 5_200_000) + b"]")


def damaged_items(door: Door) -> Told:
    """An array of 15.6 MB with many brackets, of which the last text is cut within a character."""
    lists = b'{"a":[' + b",".join([b"[]"] * 5_200_000) + b"]}"
    return _posted(door, b"[" + lists + b',{"a":"\\ud83d"}]')


def faulty_lines(door: Door) -> Told:
    """A stream of 500 lines of 64 KB each, all of small objects that have a key twice."""
    line = b'{"a":[' + b",".join([b'{"a":0,"a":0}'] * 4_680) + b"]}\n"
    return _posted(door, line * 500, b"x-ndjson")


def unread(door: Door) -> Told:
    """A stream of lines full of unknown keys, whose answers are never read."""
    line = b"{" + b",".join(b'"k%04d":0' % number for number in range(6_500)) + b"}\n"
    with door.connect() as sock:
        sock.settimeout(UNREAD_S)
        sock.sendall(HEAD % (APP_KEY.encode(), b"x-ndjson") + b"Transfer-Encoding: chunked\r\n\r\n")
        sent = 0
        try:
            while sent < 4_096:
                sock.sendall(b"%x\r\n%b\r\n" % (len(line), line))
                sent += 1
        except OSError:
            pass
        return Counter({"lines taken": sent})


def half_bodies(door: Door) -> Told:
    """60 bodies of 15.6 MB each that are sent but for their last byte."""

    def call() -> Told:
        size = 15_600_000
        with door.connect() as sock:
            length = b"Content-Length: %d\r\n\r\n" % size
            _send(sock, HEAD % (APP_KEY.encode(), b"json") + length + b" " * (size - 1))
            return Counter({_status(sock.recv(65_536)): 1})

    return _together(60, call)


SHAPES: dict[str, Callable[[Door], Told]] = {
    "pipelined": pipelined,
    "unknown-keys": unknown_keys,
    "repeated-keys": repeated_keys,
    "faulty-items": faulty_items,
    "tiny-items": tiny_items,
    "damaged-items": damaged_items,
    "faulty-lines": faulty_lines,
    "unread": unread,
    "half-bodies": half_bodies,
}


def _posted(door: Door, body: bytes, kind: bytes = b"json") -> Told:
    key = APP_KEY.encode()
    with door.connect() as sock:
        length = b"Content-Length: %d\r\nConnection: close\r\n\r\n" % len(body)
        sender = threading.Thread(target=_send, args=(sock, HEAD % (key, kind) + length + body))
        sender.start()
        answer = bytearray()
        while data := sock.recv(MIB):
            answer += data
        sender.join()
    return Counter({_status(answer): 1, "answer KiB": len(answer) // 1024})


def _send(sock: socket.socket, data: bytes) -> None:
    """Sends what the worker takes; one that ends the connection instead is no fault."""
    try:
        sock.sendall(data)
    except OSError:
        pass


def _status(answer: bytes | bytearray) -> str:
    return bytes(answer[9:12]).decode() or "closed"


def _together(count: int, call: Callable[[], Told]) -> Told:
    told: Told = Counter()
    lock = threading.Lock()

    def one() -> None:
        try:
            found = call()
        except OSError as fault:
            found = Counter({type(fault).__name__: 1})
        with lock:
            told.update(found)

    threads = [threading.Thread(target=one) for _ in range(count)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return told


def _rss_mib(pid: int) -> float:
    for line in Path(f"/proc/{pid}/status").read_text().splitlines():
        if line.startswith("VmRSS:"):
            return int(line.split()[1]) / 1024
    raise BenchFailed("The worker has died.")


def main() -> None:
    parser = argparse.ArgumentParser(description="What hostile callers cost a worker.")
    parser.add_argument("shapes", nargs="*", metavar="SHAPE", help=f"of {', '.join(SHAPES)}")
    names = parser.parse_args().shapes or list(SHAPES)
    for name in names:
        if name not in SHAPES:
            parser.error(f"there is no shape {name}: use {', '.join(SHAPES)}")
    with tempfile.TemporaryDirectory(prefix="kaskad-doors-") as folder:
        for name in names:
            with Door(Path(folder) / name) as door:
                watch = Watch(door)
                began = time.monotonic()
                with watch.watching():
                    told = SHAPES[name](door)
                took = time.monotonic() - began
            what = ", ".join(f"{count} {key}" for key, count in told.items())
            print(
                f"{name:<14} memory +{watch.rose_mib:.0f} MiB, longest /healthz "
                f"{watch.longest_s:.2f} s, {took:.1f} s in all: {what}"
            )
            sys.stdout.flush()


if __name__ == "__main__":
    try:
        main()
    except BenchFailed as fault:
        sys.exit(str(fault))
