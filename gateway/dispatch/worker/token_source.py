"""The first stage of a worker: waits until something may be sent, and takes tokens for it.

Tokens are taken ahead of their moment, so that none is lost to a late waker. Nothing is taken while
the proof of life is stale, the provider is paused or rests, there is no room, or nothing waits.
While Redis is unavailable it waits with growing delays.
"""

from __future__ import annotations

import math
from collections import deque
from typing import NamedTuple

import trio

from gateway.dispatch.deps import DispatchDeps
from gateway.dispatch.heartbeat import Heartbeat
from gateway.dispatch.pauses import Pauses
from gateway.dispatch.redis_retry import RETRYABLE
from gateway.dispatch.worker.breaker import Breaker
from gateway.dispatch.worker.capacity import PACE_S, Capacity
from gateway.dispatch.worker.entry_reader import EntryReader
from gateway.dispatch.worker.in_flight import InFlight
from gateway.fleet import Limit
from ratelimit.limiter import Grant, Limiter

PAUSE_LOOK_S = 0.25  # how soon the end of a pause is noticed
CLAIM_TOGETHER = 32  # messages granted for and claimed together, however few a request takes
SCARCE_US = 2_000  # tokens are scarce when those asked for come so much later


RATE_BOUNDS = 40  # the rate bounds the flow when so small a part of a second's tokens is left


class Demand(NamedTuple):
    """What may go next: at most `messages`; a probe goes out although the provider is paused."""

    messages: int
    probe: bool


class Granted(NamedTuple):
    """Tokens, and trio's time at which they may be used."""

    grant: Grant
    start: float
    probe: bool


class TokenSource:
    def __init__(
        self,
        deps: DispatchDeps,
        provider: str,
        limiter: Limiter,
        reader: EntryReader,
        in_flight: InFlight,
        capacity: Capacity,
        breaker: Breaker,
        pauses: Pauses,
        heartbeat: Heartbeat,
    ) -> None:
        self._deps = deps
        self._provider = provider
        self._limiter = limiter
        self._reader = reader
        self._in_flight = in_flight
        self._capacity = capacity
        self._breaker = breaker
        self._pauses = pauses
        self._heartbeat = heartbeat
        self._retry = deps.redis_retry(f"worker {provider}")
        self._starts: deque[float] = deque()  # of tokens to come that had to be waited for
        self._took_at = -math.inf
        self._waited_until = -math.inf
        self._otp_came = trio.Event()
        self._tokens = deps.metrics.tokens.labels(provider)
        self._token_wait = deps.metrics.token_wait.labels(provider)

    @property
    def alone(self) -> bool:
        """Whether nothing may go beside the one request that shows how the provider is."""
        return self._breaker.careful or self._pauses.of(self._provider) is not None

    async def next(self) -> Granted:
        """The next tokens; whoever takes them notes that before it waits for anything."""
        while True:
            try:
                demand = await self._demand()
                grant, start = await self._take(demand.messages)
            except RETRYABLE as error:
                await self._retry.failed(error)
            else:
                self._retry.succeeded()
                return Granted(grant, start, demand.probe)

    def hurry(self) -> None:
        """An otp came: nothing is waited for only so that more comes together."""
        self._took_at = -math.inf
        self._otp_came.set()
        self._otp_came = trio.Event()

    def limited_by(self, tokens_left: int) -> Limit | None:
        """What keeps more from being sent at this moment. `tokens_left` is a tenth of the rate
        while nobody sends, and near 0 where the rate is what bounds the flow."""
        if self._pauses.of(self._provider) is not None:
            return "pause"
        if self._breaker.rest_s > 0.0:
            return "breaker"
        if tokens_left <= self._limiter.rate_per_s / RATE_BOUNDS:
            return "rate"
        return self._capacity.limited_by()

    def passed(self, start: float) -> None:
        """The moment of tokens has come, or they were not used."""
        while self._starts and self._starts[0] <= start:
            self._starts.popleft()

    def next_start(self) -> float | None:
        """When the next tokens can be used that had to be waited for, or None."""
        return self._starts[0] if self._starts else None

    async def _demand(self) -> Demand:
        """Waits until something may be sent and there is something to send."""
        while True:
            await self._heartbeat.wait_fresh()
            pause = self._pauses.of(self._provider)
            now = trio.current_time()
            room = self._capacity.room(now, alone=self.alone)
            if room <= 0:
                await self._in_flight.wait_freed()
            elif pause is not None and pause.until > self._deps.clock():
                await trio.sleep(min((pause.until - self._deps.clock()) / 1000, PAUSE_LOOK_S))
            elif self._breaker.rest_s > 0.0:
                await trio.sleep(self._breaker.rest_s)
            elif not await self._has_work():
                await self._reader.wait_for_work()
            elif pause is None:
                wanted = min(room, self._limiter.quantum, self._unserved())
                tokenless = self._capacity.tokenless(trio.current_time(), alone=self.alone)
                if wanted <= tokenless or not await self._paced(wanted):
                    return Demand(wanted, False)
            elif await self._pauses.take_probe(self._provider):
                return Demand(1, True)

    async def _paced(self, wanted: int) -> bool:
        """Whether it waited, so that more comes together; not for an otp or a full batch."""
        at = self._took_at + PACE_S
        if wanted < min(CLAIM_TOGETHER, self._limiter.quantum) and at > trio.current_time():
            with trio.move_on_at(at):
                await self._otp_came.wait()
            return True
        self._took_at = trio.current_time()
        return False

    def _unserved(self) -> int:
        return self._capacity.unserved(sum(self._reader.waiting()), trio.current_time())

    async def _has_work(self) -> bool:
        if self._unserved() <= 0:
            with trio.move_on_at(self._reader.read_at + PACE_S):  # so that more comes together
                await self._otp_came.wait()
        if self._unserved() <= 0:
            await self._reader.fill(self._in_flight.granted + self._limiter.quantum, now=True)
        return self._unserved() > 0

    def _count_wait(self, since: float, until: float) -> None:
        """Grants are waited for side by side: a moment counts once."""
        waited = until - max(since, self._waited_until)
        if waited > SCARCE_US / 1e6:
            self._token_wait.inc(waited)
            self._waited_until = until

    async def _take(self, wanted: int) -> tuple[Grant, float]:
        """Tokens, and trio's time at which they may be used; waits while too many are granted."""
        began = trio.current_time()
        wanted_at: float | None = None  # when they would be used, did the limit not make them wait
        while True:
            served = wanted <= self._capacity.claimed_already(began)
            lead_us = round((0.0 if served else self._capacity.lead_s()) * 1e6)
            grant = await self._limiter.take(wanted, lead_us)
            now = trio.current_time()
            start = now + grant.wait_us / 1e6
            if wanted_at is None:
                wanted_at = now + lead_us / 1e6
            if grant.tokens:
                if grant.wait_us > lead_us + SCARCE_US:
                    self._starts.append(start)
                self._tokens.inc(grant.tokens)
                self._count_wait(wanted_at, start)
                return grant, start
            await trio.sleep_until(start)
