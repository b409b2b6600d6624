"""How much waits to be sent, as far as a request needs to know it: may this category come in?

One task a worker looks at every lane's length and age about once a second (and at how much is set
aside, for the metrics), and a request is judged by that sample against the configured limits. A
message is judged by the first provider of its route, because that lane is where it would wait.
While Redis is unavailable the last sample stands: requests then fail by themselves.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable

import structlog

from gateway.core.plan import Rejection, plan
from gateway.core.records.request import MessageRequest
from gateway.redis.errors import RedisError
from gateway.settings.bootstrap import lanes_of
from gateway.settings.file import Settings
from gateway.store import lanes, quarantine
from gateway.store.keys import keys_of
from gateway.store.lanes import LaneState
from gateway.store.store import Store

SAMPLE_EVERY_S = 1.0

_log = structlog.get_logger("ingress")


class Backlog:
    """The lanes as they were a second ago. `now_ms` is the edge's clock."""

    def __init__(self, settings: Settings, store: Store, now_ms: Callable[[], int]) -> None:
        self._length_max = settings.server.backlog_max
        self._age_max_ms = int(settings.server.backlog_age_max_ms)
        self._store = store
        self._now_ms = now_ms
        self._lanes = lanes_of(settings)
        self._full: frozenset[tuple[str, str]] = frozenset()
        self._sampled = asyncio.Event()
        self._away_ms: int | None = None  # since when Redis is
        self.states: dict[tuple[str, str], LaneState] = {}
        self.quarantined = 0

    def full(self, request: MessageRequest) -> str | None:
        """A sentence saying why this message may not come in now; None when it may."""
        if not self._full:
            return None
        lane = self._first_lane(request)
        if lane is None or lane not in self._full:
            return None
        state = self.states[lane]
        return (
            f"{state.length} {lane[1]} messages wait for {lane[0]}, the oldest for "
            f"{state.age_ms // 1000} s. Send it again later."
        )

    async def next_sample(self) -> None:
        """Returns when the lanes were looked at again."""
        await self._sampled.wait()

    async def keep_sampling(self) -> None:
        """Samples until it is cancelled."""
        while True:
            await self.try_to_sample()
            await asyncio.sleep(SAMPLE_EVERY_S)

    async def try_to_sample(self) -> None:
        """Samples where Redis is there. That it is away, and back, is told once each."""
        try:
            await self.sample()
        except RedisError as error:
            if self._away_ms is None:
                self._away_ms = self._now_ms()
                _log.warning("redis_away", reason=str(error))
        else:
            if self._away_ms is not None:
                after_s = round((self._now_ms() - self._away_ms) / 1000)
                _log.info("redis_back", after_s=after_s)
                self._away_ms = None

    async def sample(self) -> None:
        """Looks at every lane of every shard. Raises RedisUnavailable."""
        shards = range(self._store.shards)
        names = [keys_of(shard).lane(*lane) for lane in self._lanes for shard in shards]
        if names:
            found = await lanes.states(self._store.redis, names, self._now_ms())
            count = len(shards)
            for i, lane in enumerate(self._lanes):
                parts = found[i * count : (i + 1) * count]
                length = sum(part.length for part in parts)
                self.states[lane] = LaneState(length, max(part.age_ms for part in parts))
        self.quarantined = await quarantine.count(self._store.redis, self._store.shards)
        self._full = frozenset(
            lane
            for lane, state in self.states.items()
            if state.length >= self._length_max or state.age_ms > self._age_max_ms
        )
        self._sampled.set()
        self._sampled = asyncio.Event()

    def _first_lane(self, request: MessageRequest) -> tuple[str, str] | None:
        way = plan(request, (), self._store.policy, self._now_ms())
        return None if isinstance(way, Rejection) else way.lane(request.category)
