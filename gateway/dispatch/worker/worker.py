"""One provider's lane: lease tokens, pick messages, claim them, send them, record what became.

Tokens are leased first, and ahead of their moment, so none is lost to a late waker; what to send is
picked just before that moment, so that a code that arrived meanwhile goes first; messages and
tokens meet in `Ready`. A code that comes while a campaign goes out is claimed at once.

Stopping: nothing new is taken, requests in flight are waited for, claimed messages whose request
has not begun go back to their lane; what was only read stays pending and is taken over by others.
Redis away: the loop waits with growing delays, and every entry stays where it was.
"""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Sequence
from typing import NamedTuple

import trio

from gateway.dispatch.backoff import AWAY
from gateway.dispatch.deps import DispatchDeps
from gateway.dispatch.heartbeat import Heartbeat
from gateway.dispatch.pauses import Pauses
from gateway.dispatch.worker import claim as claims
from gateway.dispatch.worker.breaker import Breaker
from gateway.dispatch.worker.claim import Claims, Entry, Held
from gateway.dispatch.worker.fair_share import allot
from gateway.dispatch.worker.flow import PACE_S, Flow
from gateway.dispatch.worker.intake import Intake
from gateway.dispatch.worker.ready import Ready
from gateway.dispatch.worker.send import Sender
from gateway.redis.errors import StoreUnavailable
from gateway.store.keys import limit
from providers.contract import Provider
from ratelimit.limiter import Lease, Limiter, RunScript

PAUSE_LOOK_S = 0.25  # how soon the end of a pause is noticed
BUSY_MAX = 10_000  # entries somebody else is sending, kept to look at again
CLAIM_TOGETHER = 32  # messages leased for and claimed together, however few a request takes
SCARCE_US = 2_000  # tokens are scarce when those asked for come so much later
UNUSED_S = 0.5  # what was claimed and found no token for so long goes back to its lane


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
        key, batch = limit(config.name), max(self._batch, CLAIM_TOGETHER)
        self.limiter = Limiter(run_script, key, rate_per_s=config.rate_per_s, batch=batch)
        self._sender = Sender(deps, provider, self.limiter, pauses, self._breaker, heartbeat)
        self._ready = Ready(deps.terms.floor_percent)
        self._flow = Flow(
            self._ready,
            batch=self._batch,
            connections=config.connections,
            claim_max=deps.terms.claim_max,
        )
        self._starts: deque[float] = deque()  # of tokens to come that had to be waited for
        self._changed = trio.Event()
        self._code_came = trio.Event()
        self._owed = (0, 0)
        self._hurried = 0  # codes claimed since the last pick
        self._took_at = -math.inf
        self._watchdog = deps.watchdog(f"lane {config.name}")
        self._tokens = deps.metrics.tokens.labels(config.name)
        self._token_wait = deps.metrics.token_wait.labels(config.name)
        self._requests_open = deps.metrics.requests_open.labels(config.name)
        self._claimed = deps.metrics.claimed.labels(config.name)

    async def run(self) -> None:
        """Works until `deps.stopping` is set, and then until what is under way is recorded."""
        async with trio.open_nursery() as self._tasks:
            with trio.CancelScope() as taking:
                async with trio.open_nursery() as bells:
                    for shard in range(self._deps.store.shards):
                        bells.start_soon(self.intake.ring, shard)
                        bells.start_soon(self.intake.ring_for_codes, shard)
                    bells.start_soon(self._cancel_when_stopping, taking)
                    bells.start_soon(self._hurry)
                    bells.start_soon(self._tend)
                    await self._take()
            await self._put_back(math.inf)

    async def _cancel_when_stopping(self, scope: trio.CancelScope) -> None:
        await self._deps.stopping.wait()
        scope.cancel()

    # Taking: when, and how many

    async def _take(self) -> None:
        while True:
            try:
                turn = await self._gate()
                lease, start = await self._lease(turn.messages)
            except AWAY as error:
                await self._watchdog.away(error)
                continue
            self._watchdog.back()
            self._flow.ahead += lease.granted
            self._tasks.start_soon(self._serve, lease, start, turn.probe)

    async def _gate(self) -> Turn:
        """Waits until something may be sent and there is something to send."""
        while True:
            await self._heartbeat.wait_fresh()
            pause = self._pauses.of(self.name)
            room = self._room()
            if room <= 0:
                await self._changed.wait()
            elif pause is not None and pause.until > self._deps.clock():
                await trio.sleep(min((pause.until - self._deps.clock()) / 1000, PAUSE_LOOK_S))
            elif self._breaker.rest_s > 0.0:
                await trio.sleep(self._breaker.rest_s)
            elif not await self._has_work():
                await self.intake.idle()
            elif pause is None:
                wanted = min(room, self.limiter.quantum, self._unserved())
                if wanted <= self._tokenless() or not await self._paced(wanted):
                    return Turn(wanted, False)
            elif await self._pauses.take_probe(self.name):
                return Turn(1, True)

    async def _paced(self, wanted: int) -> bool:
        """Whether it waited, so that more comes together; it does not for a code or full batch."""
        at = self._took_at + PACE_S
        if wanted < min(CLAIM_TOGETHER, self.limiter.quantum) and at > trio.current_time():
            with trio.move_on_at(at):
                await self._code_came.wait()
            return True
        self._took_at = trio.current_time()
        return False

    @property
    def _alone(self) -> bool:
        """Whether nothing may go beside the one request that shows how the provider is."""
        return self._breaker.careful or self._pauses.of(self.name) is not None

    def _room(self) -> int:
        room = self._flow.room(trio.current_time(), alone=self._alone)
        if room <= 0:
            self._changed = trio.Event()
        return room

    def _unserved(self) -> int:
        return self._flow.unserved(sum(self.intake.waiting()), trio.current_time())

    def _tokenless(self) -> int:
        return self._flow.tokenless(trio.current_time(), alone=self._alone)

    async def _has_work(self) -> bool:
        if self._unserved() <= 0:
            with trio.move_on_at(self.intake.read_at + PACE_S):  # so that more comes together
                await self._code_came.wait()
        if self._unserved() <= 0:
            await self.intake.fill(self._flow.ahead + self.limiter.quantum, now=True)
        return self._unserved() > 0

    async def _lease(self, wanted: int) -> tuple[Lease, float]:
        """Tokens, and trio's time at which they may be used; waits while too much is leased."""
        began = trio.current_time()
        while True:
            lead_s = 0.0 if wanted <= self._flow.claimed_already(began) else self._flow.lead_s()
            lead_us = round(lead_s * 1e6)
            lease = await self.limiter.lease(wanted, lead_us)
            start = trio.current_time() + lease.wait_us / 1e6
            if lease.granted:
                if lease.wait_us > lead_us + SCARCE_US:
                    self._starts.append(start)
                self._tokens.inc(lease.granted)
                self._token_wait.inc(start - began)
                return lease, start
            await trio.sleep_until(start)

    # From tokens to requests

    async def _serve(self, lease: Lease, start: float, probe: bool) -> None:
        """The life of one lease's tokens: messages are claimed for them, and go at `start`."""
        try:
            await self._deps.until(start - self._flow.lead_s())
        finally:
            self._flow.ahead -= lease.granted
        self._flow.near += lease.granted
        try:
            wanted = max(self._flow.lacking(trio.current_time()), 0)
            self._flow.picking += wanted
            if probe:
                await self._fetch(wanted)  # it goes alone, and only from here
            elif wanted:
                self._tasks.start_soon(self._fetch, wanted)
            await self._deps.until(start)
        finally:
            self._flow.near -= lease.granted
            while self._starts and self._starts[0] <= start:
                self._starts.popleft()
            self._changed.set()
        if self._stopped():
            await self._give_back(lease, lease.granted)
            return
        at = trio.current_time() if probe else start
        self._ready.grant(lease.granted, at, self._starts[0] if self._starts else None)
        self._send_ready(probe=probe)
        unused = min(self._ready.tokens(trio.current_time()), lease.granted)
        if unused and not len(self._ready) and not self._flow.picking + self._flow.claiming:
            self._ready.waive()
            await self._give_back(lease, unused)

    def _stopped(self) -> bool:
        return self._deps.stopping.is_set() or not self._heartbeat.fresh

    async def _fetch(self, wanted: int) -> None:
        """Chooses what tokens are used for, as late as a claim allows, and claims it."""
        entries: list[Entry] = []
        try:
            await self.intake.fill(wanted)
            entries = self.intake.pick(self._share_out(wanted))
        except AWAY as error:
            await self._watchdog.away(error)
        finally:
            self._flow.picking -= wanted
            self._flow.claiming += len(entries)
        await self._claim(entries)

    def _share_out(self, wanted: int) -> tuple[int, int, int]:
        """How many of each category are picked; codes that hurried count as picked before."""
        hurried, self._hurried = self._hurried, 0
        otp, transactional, marketing = self.intake.waiting()
        counts, self._owed = allot(
            wanted + hurried,
            (otp + hurried, transactional, marketing),
            self._deps.terms.floor_percent,
            self._owed,
        )
        return max(counts[0] - hurried, 0), counts[1], counts[2]

    async def _hurry(self) -> None:
        """Claims codes when they come, as many as may go at once; the next pick counts them in."""
        while True:
            await self.intake.code()
            self._took_at = -math.inf
            self._code_came.set()
            self._code_came = trio.Event()
            await self._watchdog.until_done(
                lambda: self.intake.fill(CLAIM_TOGETHER, now=True, codes=True)
            )
            room = self._flow.hurrying_room(trio.current_time(), self.limiter.quantum)
            if room > 0 and not self._alone and self._breaker.rest_s == 0.0:
                entries = self.intake.pick((room, 0, 0))
                self._flow.claiming += len(entries)
                self._flow.hurrying += len(entries)
                self._hurried += len(entries)
                self._tasks.start_soon(self._claim_codes, entries)
            self.intake.wake()

    async def _claim_codes(self, entries: Sequence[Entry]) -> None:
        try:
            await self._claim(entries)
        finally:
            self._flow.hurrying -= len(entries)

    async def _claim(self, entries: Sequence[Entry]) -> None:
        """Claims messages, which count as being claimed already, and has them sent.

        Whatever the end, entries are known for what they are, and what is still to be claimed goes
        back to the buffers."""
        if not entries:
            self._send_ready()
            return
        if self._stopped():
            self._flow.claiming -= len(entries)
            self.intake.give(entries)
            return
        made = Claims([], [], [])
        self._count(len(entries))
        try:
            made, queued = await self._made(entries)
        finally:
            self._flow.claiming -= len(entries)
            self._count(len(made.held) - len(entries))
        broken = {item.message_id for item in made.broken}
        kept = broken | {entry.message_id for entry in (*queued, *made.busy)}
        kept |= {held.entry.message_id for held in made.held}
        self.intake.forget(entry for entry in entries if entry.message_id not in kept)
        self.intake.give(queued)
        self.busy += made.busy[: BUSY_MAX - len(self.busy)]
        self._ready.add(made.held)
        if self._stopped():
            await self._put_back(math.inf)
        else:
            self._send_ready()
        if made.broken:
            await self._sender.record(made.broken)
            self.intake.forget(entry for entry in entries if entry.message_id in broken)

    async def _made(self, entries: Sequence[Entry]) -> tuple[Claims, list[Entry]]:
        """The claims, and the entries that are still to be claimed."""
        now_ms, now = self._deps.clock(), trio.current_time()
        try:
            made = await claims.claim(
                self._deps.store, self.name, self._sender_name, entries, now_ms, now
            )
        except AWAY as error:
            await self._watchdog.away(error)
        else:
            self._flow.claim_took(trio.current_time() - now)
            return made, []
        # Nobody said whether our claim was made: asks the records.
        resolved = await self._watchdog.until_done(
            lambda: claims.resolve(
                self._deps.store, self.name, entries, self._deps.clock(), ours_ms=now_ms
            )
        )
        return Claims([], resolved.busy, []), resolved.queued

    def _send_ready(self, *, probe: bool = False) -> None:
        """Sends what there are messages, tokens and connections for."""
        if not len(self._ready) or self._stopped() or self._breaker.rest_s > 0.0:
            return
        if self._pauses.of(self.name) is not None and not probe:
            return
        now = trio.current_time()
        room = 1 if probe else self._flow.whole(self._flow.free(alone=self._alone), now)
        held = self._ready.take(room, now)
        for first in range(0, len(held), self._batch):
            self._flow.requests += 1
            self._tasks.start_soon(self._send, held[first : first + self._batch], probe)
        self._requests_open.set(self._flow.requests)
        if self._tokenless() > 0:
            self._changed.set()
            self.intake.wake()

    async def _send(self, piece: Sequence[Held], probe: bool) -> None:
        began = trio.current_time()
        try:
            try:
                answers = await self._sender.request(piece, probe=probe)
            finally:
                self._flow.requests -= 1
                self._requests_open.set(self._flow.requests)
                self._changed.set()
            self._flow.request_took(trio.current_time() - began)
            self._send_ready()
            await self._sender.settle(answers)
        finally:
            self._done_with(piece)

    async def _tend(self) -> None:
        """What is claimed and finds no tokens (others have them, we are held off) goes back."""
        while True:
            await trio.sleep(UNUSED_S)
            self._tasks.start_soon(self._put_back, trio.current_time() - UNUSED_S)

    async def _put_back(self, claimed_before: float) -> None:
        held = self._ready.drop(claimed_before)
        if held:
            try:
                await self._sender.put_back(held)
            finally:
                self._done_with(held)

    def _done_with(self, held: Sequence[Held]) -> None:
        self.intake.forget(each.entry for each in held)
        self._count(-len(held))

    async def _give_back(self, lease: Lease, unused: int) -> None:
        try:
            await self.limiter.give_back(lease, unused)
        except StoreUnavailable as error:
            await self._watchdog.away(error)  # the tokens lapse, which breaks no limit

    def _count(self, messages: int) -> None:
        """Notes that so many messages more are under way."""
        self._flow.messages += messages
        self._claimed.set(self._flow.messages)
        self._changed.set()
