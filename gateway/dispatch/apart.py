"""What a job looks after one by one: one that fails for a reason nobody foresaw costs itself alone.

It is left alone for REST_S, which is told each time, and all others go on. That Redis is
unavailable passes unchanged.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import TypeVar

import structlog
import trio

from gateway.dispatch.redis_retry import RETRYABLE

REST_S = 60.0

T = TypeVar("T")

_log = structlog.get_logger("dispatch")


class Apart:
    """Of one job, which is called `job` in the log."""

    def __init__(self, job: str) -> None:
        self._job = job
        self._rest_until: dict[str, float] = {}  # by name, of those that failed

    async def take(self, name: str, work: Callable[[], Awaitable[T]], otherwise: T) -> T:
        """What the work gives; `otherwise`: it failed, now or a moment ago."""
        if self._rest_until and trio.current_time() < self._rest_until.get(name, 0.0):
            return otherwise
        try:
            result = await work()
        except RETRYABLE:
            raise
        except Exception:
            _log.exception("left alone for a while", job=self._job, of=name)
            self._rest_until[name] = trio.current_time() + REST_S
            return otherwise
        self._rest_until.pop(name, None)
        return result
