"""Where the product draws by itself, and how often its idle loops look: set for a simulation.

Ids and tokens come from `store.randomness`, delays are spread by `random`, trio shuffles its tasks:
all are made to follow the seed. Loops that look for work every few tenths of a second look every
few seconds, because looking is what idle virtual time costs. Nothing else of the product is
changed.
"""

from __future__ import annotations

import logging
import random
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any
from unittest import mock

import structlog
import trio

from gateway import telemetry
from gateway.dispatch import pauses
from gateway.dispatch.jobs import timers
from gateway.dispatch.jobs import unmatched_receipts as parked
from gateway.dispatch.worker import wake_ups
from gateway.redis.errors import RedisUnavailable
from gateway.store import randomness as noise
from gateway.store.transaction import ConflictError
from gateway.store.waiting import lanes

AWAY = (RedisUnavailable, ConflictError)  # what a caller is told, and asks again


@contextmanager
def seams(seed: int) -> Iterator[None]:
    runner: Any = trio._core._run
    drawn, logs = (random.getstate(), noise._generator.getstate()), structlog.get_config()
    random.seed(seed)
    noise.begin_anew(seed)
    patches = (
        mock.patch.object(runner, "_ALLOW_DETERMINISTIC_SCHEDULING", True),
        mock.patch.object(runner, "_r", random.Random(seed)),
        mock.patch.object(timers, "LOOK_S", 0.8),
        mock.patch.object(parked, "LOOK_S", 2.0),
        mock.patch.object(pauses, "REFRESH_S", 4.0),
        mock.patch.object(wake_ups, "IDLE_S", 4.0),
        mock.patch.object(lanes, "WAIT_MS", 4_000),
        mock.patch.object(telemetry, "PUBLISH_EVERY_S", 60.0),
    )
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(logging.CRITICAL))
    try:
        for patch in patches:
            patch.start()
        yield
    finally:
        for patch in patches:
            patch.stop()
        structlog.configure(**logs)
        random.setstate(drawn[0])
        noise._generator.setstate(drawn[1])
