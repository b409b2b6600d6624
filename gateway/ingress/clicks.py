"""Clicks and openings of e-mails on their way to the store, behind the answers to them.

They gather a moment, clicks of one sort on one link as one number, so that a storm costs a batch
what a few cost. A batch that cannot be recorded now is tried again; each click counts once. What
was taken is recorded before the worker ends, unless Redis is away all the time that it has. Those
are counted as lost and told, as are those of more than WAITING_MAX sorts. Those of a worker that is
killed nobody counts: they are what it took in the GATHER_S before, and while its last batch was
being recorded.
"""

from __future__ import annotations

import asyncio
from collections import defaultdict
from collections.abc import Awaitable, Callable, Hashable, Iterable, Sequence
from contextlib import suppress
from functools import partial
from itertools import islice
from typing import TypeVar

import structlog

from gateway.backoff import Backoff
from gateway.failpoints import failpoint
from gateway.ingress.archived import ArchivedMessages
from gateway.ingress.http.problems import Refusal
from gateway.ingress.metrics import ClickMetrics
from gateway.redis.errors import RedisError
from gateway.store import randomness
from gateway.store.reactions import clicks, opens
from gateway.store.reactions.clicks import BATCH_MAX, Click
from gateway.store.reactions.opens import Opening
from gateway.store.store import Store
from gateway.store.transaction import ConflictError

WAITING_MAX = 100_000
GATHER_S = 0.05  # a batch gathers so long, unless it is full before
RETRY_MIN_S, RETRY_MAX_S = 0.1, 2.0

ResultT = TypeVar("ResultT")

_log = structlog.get_logger("ingress")


class ClickRecorder:
    """One worker's. `keep_recording` must run beside it."""

    def __init__(
        self,
        store: Store,
        messages: ArchivedMessages,
        metrics: ClickMetrics,
        now_ms: Callable[[], int],
    ) -> None:
        self._store = store
        self._messages = messages
        self._metrics = metrics
        self._now_ms = now_ms
        self._waiting: dict[Hashable, Click | Opening] = {}  # by their sort
        self._batch: list[Click | Opening] = []  # is being recorded
        self._came = asyncio.Event()
        self._recorded = asyncio.Event()
        self._stopping = False

    def note(self, click: Click | Opening) -> None:
        sort = click.sort if isinstance(click, Click) else click
        alike = self._waiting.get(sort)
        if isinstance(alike, Click):
            alike.times += 1
        elif len(self._waiting) < WAITING_MAX:
            self._waiting[sort] = click
            self._came.set()
        else:
            self._metrics.lost.inc()

    async def keep_recording(self) -> None:
        """Records until it is cancelled."""
        while True:
            await self._came.wait()
            while self._waiting:
                if len(self._waiting) < BATCH_MAX and not self._stopping:
                    await asyncio.sleep(GATHER_S)
                sorts = list(islice(self._waiting, BATCH_MAX))
                self._batch = [self._waiting.pop(sort) for sort in sorts]
                await self._record(self._batch)
                self._batch = []
            self._came.clear()
            self._recorded.set()

    async def drained(self, within_s: float | None = None) -> None:
        """Returns once every click that was noted is recorded, or lost because that is not possible
        in the time there is; the caller sees to it that no more come."""
        self._stopping = True
        try:
            async with asyncio.timeout(within_s):
                while self._waiting or self._batch:
                    self._recorded.clear()
                    self._came.set()
                    await self._recorded.wait()
        except TimeoutError:
            self._lose([*self._batch, *self._waiting.values()], "the worker has to end")
            self._waiting.clear()

    async def _record(self, batch: list[Click | Opening]) -> None:
        """Each part as often as it takes; a part with a fault of ours is lost, and no other."""
        failpoint("clicks_taken")
        store = self._store
        followed = [each for each in batch if isinstance(each, Click)]
        ids = dict.fromkeys(id_ for each in batch if (id_ := _message_of(each)) is not None)
        await self._tried(lambda: self._bring_back(ids), 0)
        if openings := [each for each in batch if isinstance(each, Opening)]:
            await self._tried(lambda: opens.react(store, openings, self._now_ms()), len(openings))
        judged = await self._tried(lambda: clicks.judged(store, followed), _times(followed)) or []
        by_shard: defaultdict[int, list[tuple[Click, str]]] = defaultdict(list)
        for click, who in judged:
            by_shard[clicks.shard_of_click(store, click)].append((click, who))
            self._metrics.recorded.labels(who).inc(click.times)
        now_ms = self._now_ms()
        for part in by_shard.values():
            times = _times(click for click, _ in part)
            await self._tried(partial(clicks.count, store, part, randomness.token(), now_ms), times)
        failpoint("clicks_counted")
        await self._tried(lambda: clicks.react(store, judged, self._now_ms()), 0)

    async def _bring_back(self, ids: Iterable[str]) -> None:
        """Where the archive cannot be read, which its reader tells, clicks count for their links
        alone: to wait for it would hold up those of all others."""
        with suppress(Refusal):
            await self._messages.bring_back(ids)

    async def _tried(self, work: Callable[[], Awaitable[ResultT]], count: int) -> ResultT | None:
        backoff = Backoff(RETRY_MIN_S, RETRY_MAX_S)
        while True:
            try:
                return await work()
            except (RedisError, ConflictError) as error:
                if not backoff.failures:
                    _log.warning("clicks_wait", clicks=count, reason=str(error))
                await asyncio.sleep(backoff.next_s())
            except Exception:
                self._metrics.lost.inc(count)
                _log.exception("clicks_lost", clicks=count)
                return None

    def _lose(self, noted: Sequence[Click | Opening], reason: str) -> None:
        count = _times(noted)
        self._metrics.lost.inc(count)
        _log.error("clicks_lost", clicks=count, reason=reason)


def _times(noted: Iterable[Click | Opening]) -> int:
    return sum(each.times if isinstance(each, Click) else 1 for each in noted)


def _message_of(noted: Click | Opening) -> str | None:
    return noted.link.message if isinstance(noted, Click) else noted.opened.message
