"""The embedded Redis: a private redis-server, its files, and its life.

In its data directory are `owner.lock` (held while we live), `redis.conf` (written at each start),
the append-only file, `redis.log`, `redis.pid` and the unix socket; no TCP port is opened.
Synchronous, for commands and supervisors.

A directory in use, a missing binary, a server that does not start are `EmbeddedRedisError` with a
sentence for the operator. A server that dies is started again by its supervisor; clients reconnect
to the same socket. When the owner itself is killed the server is told to stop by the kernel (where
`setpriv` exists); one that is left all the same is stopped by the next owner before it starts its
own.

`fsync` is "always" by default: with "everysec" Redis answers before write() while a background
fsync runs, so that even `kill -9` of Redis alone can lose a message that was promised. One
fdatasync a batch was measured at 0.17 ms.
"""

from __future__ import annotations

import fcntl
import os
import subprocess
import time
from pathlib import Path
from types import TracebackType
from typing import IO

from gateway.backoff import Backoff
from gateway.files import system_sentence
from gateway.redis.server import machine
from gateway.redis.server.binary import (
    NO_ROOM,
    POLL_S,
    STOP_WAIT_S,
    EmbeddedRedisError,
    Fsync,
    answers,
    check_files,
    claim_directory,
    close_directory,
    config_text,
    death_signal,
    find_binary,
    is_full,
    remove_socket,
    socket_path,
    stop_orphan,
)
from gateway.redis.server.loading import Tell, tell_loading, wait_until_loaded
from gateway.supervisor import Child, Supervisor

__all__ = ["EmbeddedRedis", "EmbeddedRedisError", "Fsync"]

START_WAIT_S = 60.0  # without the time that it loads its data
MEMORY_SHARE = 2  # of the machine's memory, where nothing is said: the half
RESTART_DELAY_MIN_S = 0.05
RESTART_DELAY_MAX_S = 2.0
LOG_TAIL_BYTES = 4096


class EmbeddedRedis:
    """One private redis-server on `data_dir`, for as long as the context or until `stop`."""

    def __init__(
        self,
        data_dir: Path | str,
        fsync: Fsync = "always",
        memory_max_bytes: int | None = None,
        tell: Tell | None = None,
    ) -> None:
        """`tell` is told how far it has come where it loads for long; else the log is."""
        self.data_dir = Path(data_dir).absolute()
        self.memory_max_bytes = memory_max_bytes or machine.memory_bytes() // MEMORY_SHARE
        self._tell = tell or tell_loading
        self.fsync: Fsync = fsync
        self.socket_path = socket_path(self.data_dir)
        self._lock: IO[str] | None = None
        self._server: Child | None = None
        self._supervisor: Supervisor | None = None

    @property
    def url(self) -> str:
        return f"unix://{self.socket_path}"

    @property
    def pid(self) -> int | None:
        """The server's process id, None while there is none."""
        process = self._server.process if self._server is not None else None
        return process.pid if process is not None else None

    @property
    def restarts(self) -> int:
        """How often the server died and was started again."""
        return max(self._server.starts - 1, 0) if self._server is not None else 0

    def start(self) -> str:
        """Starts the server, waits until it serves, returns its `url`.

        Raises EmbeddedRedisError.
        """
        binary, version = find_binary()
        try:
            close_directory(self.data_dir)
            self._take_lock()
        except OSError as error:
            raise self._cannot_start(error) from None
        try:
            check_files(self.data_dir, version)
            stop_orphan(self.data_dir, self.socket_path)
            self._write_config()
            command = [*death_signal(), str(binary), str(self.data_dir / "redis.conf")]
            self._server = Child(
                "embedded-redis",
                lambda: self._spawn(command),
                stop_within_s=STOP_WAIT_S,
                backoff=Backoff(RESTART_DELAY_MIN_S, RESTART_DELAY_MAX_S),
                last_words=lambda: last_words(self.data_dir),
            )
            self._supervisor = Supervisor([self._server])
            self._supervisor.start()
            self.ensure_running()
        except OSError as error:
            self.stop()
            raise self._cannot_start(error) from None
        except BaseException:
            self.stop()
            raise
        return self.url

    def _cannot_start(self, error: OSError) -> EmbeddedRedisError:
        return EmbeddedRedisError(
            f"The embedded Redis cannot start: {system_sentence(error, str(self.data_dir))}"
        )

    def ensure_running(self) -> None:
        """Waits until the server serves, started again if need be. Raises EmbeddedRedisError."""
        deadline = time.monotonic() + START_WAIT_S
        # One that was just started may answer before the supervisor has noted that it is there.
        while self.pid is None or not answers(self.socket_path):
            if answers(self.socket_path, loading=True):
                wait_until_loaded(self.url, self._tell)
                deadline = time.monotonic() + START_WAIT_S
            server = self._server
            if server is None or server.given_up or time.monotonic() > deadline:
                raise EmbeddedRedisError(
                    f"The embedded Redis in {self.data_dir} does not serve: "
                    f"{last_words(self.data_dir)} See redis.log there."
                )
            time.sleep(POLL_S)
        if self._server is not None:
            self._server.served = True

    def stop(self) -> None:
        """Stops the server, its data safe on disk, and frees the directory.

        Harmless when stopped.
        """
        if self._supervisor is not None:
            self._supervisor.stop()
            self._supervisor = None
        if self._lock is not None:
            remove_socket(self.data_dir, self.socket_path)
            self._lock.close()
            self._lock = None

    def __enter__(self) -> EmbeddedRedis:
        self.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        fault: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.stop()

    def _spawn(self, command: list[str]) -> subprocess.Popen[bytes]:
        # A group of its own: ctrl-C in a terminal must not stop Redis under those who still have to
        # write down what they did.
        return subprocess.Popen(
            command,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            process_group=0,
        )

    def _take_lock(self) -> None:
        if self._lock is not None:
            raise EmbeddedRedisError(f"The embedded Redis in {self.data_dir} is started already.")
        # Opened for appending: the owner's pid must survive our failing to get the lock.
        lock = (self.data_dir / "owner.lock").open("a+")
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as fault:
            lock.seek(0)
            owner = lock.read().strip() or "unknown"
            lock.close()
            raise EmbeddedRedisError(
                f"The data directory {self.data_dir} is in use by process {owner}"
                + (
                    ": stop that one first, or set another redis.data_dir."
                    if answers(self.socket_path) or answers(self.socket_path, loading=True)
                    else f", whose Redis does not serve now: {last_words(self.data_dir)} It starts "
                    "again by itself; see redis.log there."
                )
            ) from fault
        lock.truncate(0)
        lock.write(f"{os.getpid()}\n")
        lock.flush()
        self._lock = lock

    def _write_config(self) -> None:
        directory = self.socket_path.parent
        if directory != self.data_dir:
            claim_directory(directory)
            (self.data_dir / "socket.txt").write_text(f"{self.socket_path}\n")
        self.socket_path.unlink(missing_ok=True)
        text = config_text(self.data_dir, self.socket_path, self.fsync, self.memory_max_bytes)
        (self.data_dir / "redis.conf").write_text(text)


def last_words(data_dir: Path) -> str:
    """Why a server on this directory does not serve, so far as that can be seen."""
    words = _last_line(data_dir / "redis.log")
    return f"{words} {NO_ROOM}" if is_full(data_dir) else words


def _last_line(log: Path) -> str:
    try:
        with log.open("rb") as file:
            file.seek(max(log.stat().st_size - LOG_TAIL_BYTES, 0))
            lines = file.read().decode("utf-8", "replace").split("\n")
    except OSError:
        return "it wrote no log."
    return next((line.strip() for line in reversed(lines) if line.strip()), "its log is empty.")
