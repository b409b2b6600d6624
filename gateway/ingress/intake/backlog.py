"""How much waits to be sent, as far as a request needs to know it: may this category come in?

One task a worker looks at every lane's length and age about once a second (and at how much is set
aside, for the metrics), and a request is judged by that sample against the configured limits. A
message is judged by the first provider of its route, because that lane is where it would wait; of
the whole route, where the addresses are to be taken from its stored user.
While Redis is unavailable the last sample stands: requests then fail by themselves.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence

import structlog

from gateway.core.plan import Plan, first_provider, plan
from gateway.core.records.request import MessageRequest
from gateway.redis.errors import RedisError
from gateway.settings.bootstrap import lanes_of
from gateway.settings.file import Settings
from gateway.store import quarantine
from gateway.store.keys import keys_of
from gateway.store.store import Store
from gateway.store.waiting import lanes
from gateway.store.waiting.lanes import LaneState

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
        # By lane and line: what waits there, where it is more than one app's share.
        self._over_share: dict[tuple[str, str], dict[int, int]] = {}
        self._sampled = asyncio.Event()
        self._away_ms: int | None = None  # since when Redis is
        self.states: dict[tuple[str, str], LaneState] = {}
        self.quarantined = 0

    def full(self, request: MessageRequest) -> str | None:
        """A sentence saying why this message may not come in now; None when it may."""
        if not self._full and not self._over_share:
            return None
        lane = self._first_lane(request)
        if lane is None:
            return None
        if lane not in self._full:
            return self._over_its_share(request.app, lane)
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
        lines = self._store.lines
        lines.count = await lines.in_use(self._store.redis)
        parts = [
            (shard, line) for shard in range(self._store.shards) for line in range(lines.count)
        ]
        names = [keys_of(shard).lane(*lane, line) for lane in self._lanes for shard, line in parts]
        if names:
            found = await lanes.states(self._store.redis, names, self._now_ms())
            count = len(parts)
            for i, lane in enumerate(self._lanes):
                of_lane = found[i * count : (i + 1) * count]
                length = sum(state.length for state in of_lane)
                self._note_shares(lane, [state.length for state in of_lane])
                self.states[lane] = LaneState(length, max(state.age_ms for state in of_lane))
        self.quarantined = await quarantine.count(self._store.redis, self._store.shards)
        self._full = frozenset(
            lane
            for lane, state in self.states.items()
            if state.length >= self._length_max or state.age_ms > self._age_max_ms
        )
        self._sampled.set()
        self._sampled = asyncio.Event()

    def _note_shares(self, lane: tuple[str, str], lengths: Sequence[int]) -> None:
        """Which lines hold more than one app's share of a lane; `lengths` are by shard and line."""
        lines = self._store.lines
        share = lines.share_of(self._length_max)
        of_line = {line: sum(lengths[line :: lines.count]) for line in range(lines.count)}
        over = {line: length for line, length in of_line.items() if length >= share}
        self._over_share.pop(lane, None)
        if over and lines.count > 1:
            self._over_share[lane] = over

    def _over_its_share(self, app: str, lane: tuple[str, str]) -> str | None:
        line = self._store.lines.known(app)
        length = None if line is None else self._over_share.get(lane, {}).get(line)
        if length is None:
            return None
        return (
            f"{length} {lane[1]} messages of the app wait for {lane[0]}, its share of "
            f"{self._length_max}. Send it again later."
        )

    def _first_lane(self, request: MessageRequest) -> tuple[str, str] | None:
        policy = self._store.policy
        way = plan(request, (), policy, self._now_ms())
        if isinstance(way, Plan):
            return way.lane(request.category)
        # What address it lacks may be stored with its user, which is not read yet.
        provider = first_provider(request, policy) if request.user is not None else None
        return (provider, request.category) if provider is not None else None
