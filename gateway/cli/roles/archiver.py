"""`kaskad archive run`: the role that archives every `archive.every`, and when memory asks for it.

Each run is a process of its own, `kaskad archive run --once`: what it takes of memory ends with it,
and one that dies is followed by the next. This one only watches the clock and how full Redis is. On
SIGTERM it passes that on; a run may end at any moment.
"""

from __future__ import annotations

import os
import signal
import subprocess
import threading
import time
from collections.abc import Mapping
from pathlib import Path
from types import FrameType

import structlog

from gateway import crew
from gateway.cli.archive import archive_of
from gateway.cli.failures import DONE
from gateway.cli.reach import redis_for_role
from gateway.cli.roles.roles import prepare_redis, set_up_logs
from gateway.crew import role_command
from gateway.redis.asyncio_driver import run
from gateway.redis.client import RedisClient
from gateway.redis.errors import RedisError
from gateway.settings.file import Settings, load
from gateway.store.installation.servers import server_states

LOOK_S = 5.0
AGAIN_S = 60.0  # after a run that failed, or that memory asked for
FULL_PERCENT = 70  # of a Redis' limit: well before new messages are refused

_log = structlog.get_logger("archive")


def run_always(config: Path | None, environment: Mapping[str, str]) -> int:
    """Archives until it is told to stop."""
    crew.follow_parent()
    settings = load(config, environment, secrets_required=False)
    archive_of(settings, writes=True)
    set_up_logs("archive", environment)
    url = redis_for_role(settings, "archive run")
    prepare_redis(settings, url, restored=False)
    role = _Role(settings, dict(environment) | {"KASKAD_REDIS_URL": url})
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, role.stop)
    crew.announce()
    role.run(url)
    return DONE


class _Role:
    def __init__(self, settings: Settings, environment: Mapping[str, str]) -> None:
        self._settings = settings
        self._command = role_command("archive", "run", "--once", "--config", str(settings.path))
        self._environment = {k: v for k, v in environment.items() if k != crew.READY_FD}
        self._stopping = threading.Event()
        self._child: subprocess.Popen[bytes] | None = None

    def stop(self, _number: int, _frame: FrameType | None) -> None:
        self._stopping.set()
        if self._child is not None:
            self._child.terminate()

    def run(self, url: str) -> None:
        every_s = self._settings.archive.every_ms / 1000
        due = time.monotonic()
        while not self._stopping.is_set():
            now = time.monotonic()
            if now >= due:
                due = now + (every_s if self._archive() else min(every_s, AGAIN_S))
            elif due - now > AGAIN_S and is_full(url, self._settings.redis.shards):
                due = now + AGAIN_S
            crew.beat()
            self._stopping.wait(min(LOOK_S, max(due - time.monotonic(), 0.0)))

    def _archive(self) -> bool:
        """One run; False where it failed."""
        started = time.monotonic()
        environment = self._environment | {crew.PARENT_PID: str(os.getpid())}
        self._child = subprocess.Popen(
            self._command,
            env=environment,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
        )
        if self._stopping.is_set():  # it came before there was one to pass it on to
            self._child.terminate()
        said = b""
        while True:
            try:
                said, _ = self._child.communicate(timeout=LOOK_S)
            except subprocess.TimeoutExpired:
                crew.beat()
                continue
            break
        code, took_s = self._child.returncode, round(time.monotonic() - started, 1)
        self._child = None
        text = said.decode(errors="replace").strip()
        if code == DONE:
            _log.info("archived", said=text, took_s=took_s)
        elif not self._stopping.is_set():
            _log.error("archiving failed", exit_code=code, said=text, again_in_s=AGAIN_S)
        return code == DONE


def is_full(url: str, shards: int) -> bool:
    """Whether a Redis is so full that what can leave it should."""

    async def ask(redis: RedisClient) -> bool:
        states = await server_states(redis, range(shards))
        return any(
            state.limit_bytes and 100 * state.used_bytes >= FULL_PERCENT * state.limit_bytes
            for state in states.values()
        )

    try:
        return run(url, ask)
    except RedisError:
        return False
