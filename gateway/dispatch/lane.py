"""One provider's lane: lease tokens, pick messages, claim them, send them, record what became.

Owns the order of these steps and the bounds of what is under way: `connections` requests, and
`claim_max` messages leased for and not recorded. Tokens are leased first, and ahead of their
moment, so none is lost to a late waker; what to send is picked just before that moment, so that a
code that arrived meanwhile goes first (picking at the lease made codes wait out the horizon behind
a campaign: 104 ms at the median, 2026-11-21). A provider that takes few messages a request has
several requests' worth claimed together. It must not know wire formats or the cascade's rules.

Stopping: nothing new is taken, requests in flight are waited for, claimed messages whose request
has not begun go back to their lane; what was only read stays pending and is taken over by others.
Redis away: the loop waits with growing delays, and every entry stays where it was.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import trio

from gateway.dispatch import claims
from gateway.dispatch.allotment import allot
from gateway.dispatch.backoff import AWAY
from gateway.dispatch.breaker import Breaker
from gateway.dispatch.claims import Entry, Held
from gateway.dispatch.deps import DispatchDeps, Provider
from gateway.dispatch.heartbeat import Heartbeat
from gateway.dispatch.intake import Intake
from gateway.dispatch.pauses import Pauses
from gateway.dispatch.sender import Sender
from gateway.store.errors import StoreUnavailable
from ratelimit.limiter import Lease, Limiter, RunScript

PAUSE_LOOK_S = 0.25  # how soon the end of a pause is noticed
LEAD_MAX_S = 0.05  # tokens are leased for the moment a claim is expected to be made, at most this
BUSY_MAX = 10_000  # entries somebody else is sending, kept to look at again
CLAIM_TOGETHER = 32  # messages claimed in one transaction, however few a request takes


class Turn(NamedTuple):
    """What may go next: at most `messages`; a probe goes out although the provider is paused."""

    messages: int
    probe: bool


class Lane:
    def __init__(
        self,
        deps: DispatchDeps,
        provider: Provider,
        run_script: RunScript,
        pauses: Pauses,
        heartbeat: Heartbeat,
    ) -> None:
        config = provider.config
        self.name = config.name
        self.intake = Intake(deps, config.name)
        self.busy: list[Entry] = []  # `recovery` looks at them again
        self._deps = deps
        self._sender_name = config.sender
        self._pauses = pauses
        self._heartbeat = heartbeat
        self._breaker = Breaker()
        self._batch = provider.batch_max
        self._limiter = Limiter(
            run_script,
            config.name,
            rate_per_s=config.rate_per_s,
            batch=max(self._batch, CLAIM_TOGETHER),
        )
        self._sender = Sender(deps, provider, self._limiter, pauses, self._breaker, heartbeat)
        self._requests_max = config.connections
        self._requests = 0
        self._messages = 0
        self._reserved = 0  # tokens leased for messages that are not picked yet
        self._changed = trio.Event()
        self._owed = (0, 0)
        self._claim_s = 0.0  # how long a claim takes of late
        self._watchdog = deps.watchdog(f"lane {config.name}")
        self._tokens = deps.metrics.tokens.labels(config.name)
        self._token_wait = deps.metrics.token_wait.labels(config.name)
        self._requests_open = deps.metrics.requests_open.labels(config.name)
        self._claimed = deps.metrics.claimed.labels(config.name)

    async def run(self) -> None:
        """Works until `deps.stopping` is set, and then until what is under way is recorded."""
        async with trio.open_nursery() as requests:
            with trio.CancelScope() as taking:
                async with trio.open_nursery() as bells:
                    for shard in range(self._deps.store.shards):
                        bells.start_soon(self.intake.ring, shard)
                    bells.start_soon(self._cancel_when_stopping, taking)
                    await self._take(requests)

    async def _cancel_when_stopping(self, scope: trio.CancelScope) -> None:
        await self._deps.stopping.wait()
        scope.cancel()

    async def _take(self, requests: trio.Nursery) -> None:
        while True:
            try:
                turn = await self._gate()
                lease, start = await self._lease(turn.messages)
            except AWAY as error:
                await self._watchdog.away(error)
                continue
            self._watchdog.back()
            self._reserved += lease.granted
            self._count(lease.granted)
            requests.start_soon(self._serve, lease, start, turn.probe)

    async def _gate(self) -> Turn:
        """Waits until something may be sent and there is something to send."""
        while True:
            await self._heartbeat.wait_fresh()
            pause = self._pauses.of(self.name)
            room = self._room(alone=pause is not None or self._breaker.careful)
            if room <= 0:
                await self._changed.wait()
            elif pause is not None and pause.until > self._deps.clock():
                await trio.sleep(min((pause.until - self._deps.clock()) / 1000, PAUSE_LOOK_S))
            elif self._breaker.rest_s > 0.0:
                await trio.sleep(self._breaker.rest_s)
            elif not await self._has_work():
                await self.intake.idle()
            elif pause is None:
                return Turn(min(room, self._limiter.quantum, self._unreserved()), False)
            elif await self._pauses.take_probe(self.name):
                return Turn(1, True)

    def _room(self, *, alone: bool) -> int:
        """How many more messages may be claimed; `alone`: only when nothing else is under way."""
        requests = (1 if alone else self._requests_max) - self._requests
        room = min(requests * self._batch, self._deps.terms.claim_max - self._messages)
        if room <= 0:
            self._changed = trio.Event()
        return room

    def _unreserved(self) -> int:
        return sum(self.intake.waiting()) - self._reserved

    async def _has_work(self) -> bool:
        if self._unreserved() <= 0:
            await self.intake.fill(self._reserved + self._limiter.quantum, now=True)
        return self._unreserved() > 0

    async def _lease(self, wanted: int) -> tuple[Lease, float]:
        """Tokens, and trio's time at which they may be used; waits while too much is leased."""
        began = trio.current_time()
        while True:
            lease = await self._limiter.lease(wanted, round(self._lead_s() * 1e6))
            start = trio.current_time() + lease.wait_us / 1e6
            if lease.granted:
                self._tokens.inc(lease.granted)
                self._token_wait.inc(start - began)
                return lease, start
            await trio.sleep_until(start)

    def _lead_s(self) -> float:
        """How long before its tokens' moment a batch is claimed: half as long again as a claim
        takes of late, so most are made by then and none waits much for its tokens."""
        return min(1.5 * self._claim_s, LEAD_MAX_S)

    async def _serve(self, lease: Lease, start: float, probe: bool) -> None:
        """One batch's life. Whatever the end, the entries are known for what they are."""
        counted = lease.granted
        try:
            entries = await self._pick(lease, start)
            self._count(len(entries), was=counted)
            counted = len(entries)
            queued, busy = await self._claim_and_send(entries, lease, start, probe)
        finally:
            self._count(0, was=counted)
        kept = {(entry.at.lane, entry.at.entry) for entry in (*queued, *busy)}
        self.intake.forget(e for e in entries if (e.at.lane, e.at.entry) not in kept)
        self.intake.give(queued)
        self.busy += busy[: BUSY_MAX - len(self.busy)]

    async def _pick(self, lease: Lease, start: float) -> list[Entry]:
        """Chooses what the tokens are used for, as late as a claim allows."""
        try:
            with trio.move_on_at(start - self._lead_s()):
                await self._deps.stopping.wait()
            if not self._deps.stopping.is_set():
                await self.intake.fill(lease.granted)
        except AWAY as error:
            await self._watchdog.away(error)
            return []
        finally:
            self._reserved -= lease.granted
        if self._deps.stopping.is_set():
            return []
        counts, self._owed = allot(
            lease.granted, self.intake.waiting(), self._deps.terms.floor_percent, self._owed
        )
        return self.intake.pick(counts)

    async def _claim_and_send(
        self, entries: Sequence[Entry], lease: Lease, start: float, probe: bool
    ) -> tuple[list[Entry], list[Entry]]:
        """Returns the entries that are still to be claimed, and those to be looked at again."""
        if not entries or self._deps.stopping.is_set() or not self._heartbeat.fresh:
            await self._give_back(lease, lease.granted)
            return list(entries), []
        now_ms, now = self._deps.clock(), trio.current_time()
        try:
            made = await claims.claim(
                self._deps.store, self.name, self._sender_name, entries, now_ms, now
            )
        except AWAY as error:
            await self._watchdog.away(error)
            return await self._resolve(entries, now_ms)
        self._claim_s += (trio.current_time() - now - self._claim_s) / 8
        if made.broken:
            await self._sender.record(made.broken)
        await self._give_back(lease, lease.granted - len(made.held))
        async with trio.open_nursery() as requests:
            for first in range(0, len(made.held), self._batch):
                piece = made.held[first : first + self._batch]
                requests.start_soon(self._send, piece, start, probe)
        return [], made.busy

    async def _send(self, piece: Sequence[Held], start: float, probe: bool) -> None:
        await self._sender.send(piece, start, probe=probe)

    async def _resolve(
        self, entries: Sequence[Entry], now_ms: int
    ) -> tuple[list[Entry], list[Entry]]:
        """Nobody said whether our claim was made: asks the records."""
        resolved = await self._watchdog.until_done(
            lambda: claims.resolve(
                self._deps.store, self.name, entries, self._deps.clock(), ours_ms=now_ms
            )
        )
        return resolved.queued, resolved.busy

    async def _give_back(self, lease: Lease, unused: int) -> None:
        if unused > 0:
            try:
                await self._limiter.give_back(lease, unused)
            except StoreUnavailable as error:
                await self._watchdog.away(error)  # the tokens lapse, which breaks no limit

    def _count(self, messages: int, *, was: int = 0) -> None:
        """Notes that a batch has so many messages under way, and `was` before."""
        self._requests += -(-messages // self._batch) - -(-was // self._batch)
        self._messages += messages - was
        self._requests_open.set(self._requests)
        self._claimed.set(self._messages)
        self._changed.set()
