"""Servers that misbehave on purpose, in threads: a proxy before a real Redis, and a canned one."""

from __future__ import annotations

import socket
import ssl
import threading
from collections.abc import Callable
from pathlib import Path
from types import TracebackType

import hiredis

from tests.worlds.patience import PATIENCE_S

TLS = Path(__file__).parent / "tls"  # self-signed for localhost, for a century


class _Threaded:
    """Accepts connections until closed, each served by a thread of its own."""

    def __init__(self, listener: socket.socket) -> None:
        self._listener = listener
        self._peers: list[socket.socket] = []
        self.connections = 0
        self._threads: list[threading.Thread] = []
        self._spawn(self._accept)

    def _spawn(self, work: Callable[[], None]) -> None:
        thread = threading.Thread(target=work, daemon=True)
        self._threads.append(thread)
        thread.start()

    def _accept(self) -> None:
        while True:
            try:
                peer, _ = self._listener.accept()
            except OSError:
                return
            self._peers.append(peer)
            self.connections += 1
            self._spawn(lambda peer=peer: self.serve(peer))  # type: ignore[misc]

    def serve(self, peer: socket.socket) -> None:
        raise NotImplementedError

    def drop_all(self) -> None:
        """Cuts every connection there is."""
        for peer in self._peers:
            try:
                peer.shutdown(socket.SHUT_RDWR)
            except OSError:
                continue

    def close(self) -> None:
        # Without the shutdown, accept() would go on in its thread.
        self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        self.drop_all()
        for thread in self._threads:
            thread.join(PATIENCE_S)
        for peer in self._peers:
            peer.close()

    def __exit__(
        self,
        kind: type[BaseException] | None,
        fault: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()


def listen_unix(path: Path) -> socket.socket:
    listener = socket.socket(socket.AF_UNIX)
    listener.bind(str(path))
    listener.listen()
    return listener


def listen_tcp() -> socket.socket:
    return socket.create_server(("127.0.0.1", 0))


class Proxy(_Threaded):
    """Passes bytes between its listener and a real Redis.

    `hold` keeps replies back (`held` tells that one arrived) until `release`; `cut_after(n)` passes
    n more reply bytes and then cuts the connection. With `tls` the client's side is encrypted.
    """

    def __init__(self, listener: socket.socket, target: Path, *, tls: bool = False) -> None:
        self._target = str(target)
        self._open = threading.Event()
        self._open.set()
        self.held = threading.Event()
        self._reply_bytes_left: int | None = None
        self._tls: ssl.SSLContext | None = None
        if tls:
            self._tls = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
            self._tls.load_cert_chain(TLS / "localhost-cert.pem", TLS / "localhost-key.pem")
        super().__init__(listener)

    def __enter__(self) -> Proxy:
        return self

    def hold(self) -> None:
        self.held.clear()
        self._open.clear()

    def release(self) -> None:
        self._open.set()

    def cut_after(self, reply_bytes: int) -> None:
        self._reply_bytes_left = reply_bytes

    def close(self) -> None:
        self.release()
        super().close()

    def serve(self, peer: socket.socket) -> None:
        if self._tls is not None:
            try:
                peer = self._tls.wrap_socket(peer, server_side=True)
            except OSError:
                return
            self._peers.append(peer)
        with socket.socket(socket.AF_UNIX) as redis:
            redis.connect(self._target)
            replies = threading.Thread(target=self._reply, args=(redis, peer), daemon=True)
            replies.start()
            _pump(peer, redis)
            replies.join(PATIENCE_S)

    def _reply(self, redis: socket.socket, peer: socket.socket) -> None:
        try:
            while data := redis.recv(65536):
                if not self._open.is_set():
                    self.held.set()
                    self._open.wait(PATIENCE_S)
                if self._reply_bytes_left is not None:
                    data, rest = data[: self._reply_bytes_left], data[self._reply_bytes_left :]
                    self._reply_bytes_left -= len(data)
                    peer.sendall(data)
                    if rest:
                        self._reply_bytes_left = None
                        break
                else:
                    peer.sendall(data)
        except OSError:
            pass
        _shut(peer)


def _pump(source: socket.socket, sink: socket.socket) -> None:
    try:
        while data := source.recv(65536):
            sink.sendall(data)
    except OSError:
        pass
    _shut(sink)


def _shut(end: socket.socket) -> None:
    try:
        end.shutdown(socket.SHUT_RDWR)
    except OSError:
        pass


class Canned(_Threaded):
    """Answers each command with `answers[NAME]`, raw; PING with PONG unless told otherwise."""

    def __init__(self, listener: socket.socket, answers: dict[str, bytes]) -> None:
        self.answers = {"PING": b"+PONG\r\n", **answers}
        self.greeting = b""
        super().__init__(listener)

    def __enter__(self) -> Canned:
        return self

    def serve(self, peer: socket.socket) -> None:
        reader = hiredis.Reader(notEnoughData=self)
        try:
            peer.sendall(self.greeting)
            while data := peer.recv(65536):
                reader.feed(data)
                while (command := reader.gets()) is not self:
                    peer.sendall(self.answers[command[0].decode().upper()])
        except OSError:
            return
