"""One provider's worker: a pipeline of grant, select, claim, send and record.

    grant    tokens of the rate limit are taken ahead of their moment       `token_source`
    select   just before that moment it is chosen what they are used for,   `entry_reader`
             so that an otp that arrived meanwhile goes first               `fair_share`
    claim    the steps are marked as being sent, each shard on its own      `claim`
    send     claimed messages and usable tokens meet and go as requests     `send_queue`, `send`
    record   what the requests came to, each shard on its own               `record`

`in_flight` counts what is at which stage, `capacity` says how much more may be. An otp that comes
while a campaign goes out does not wait for tokens to be granted for it: it is claimed at once
(express), and goes with tokens that are kept for it.

Stopping: nothing new is taken, what was only read and claimed messages whose request has not begun
go back to their lanes at once, where others read them, and requests in flight are waited for.
While a shard of Redis is unavailable, its entries stay where they are and the others go on.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Sequence

import trio

from gateway.dispatch.deps import CATEGORIES, DispatchDeps
from gateway.dispatch.heartbeat import Heartbeat
from gateway.dispatch.pauses import Pauses
from gateway.dispatch.redis_retry import RETRYABLE
from gateway.dispatch.worker import answers, claim
from gateway.dispatch.worker.away import AwayLanes
from gateway.dispatch.worker.breaker import Breaker
from gateway.dispatch.worker.capacity import Capacity
from gateway.dispatch.worker.claim import ClaimedStep, Entry, Resolved
from gateway.dispatch.worker.entry_reader import EntryReader
from gateway.dispatch.worker.fair_share import divide
from gateway.dispatch.worker.in_flight import (
    Claiming,
    Doubt,
    InFlight,
    Recording,
    Selection,
    Sending,
    Tokens,
)
from gateway.dispatch.worker.record import Recorder, ShardResult, by_shard
from gateway.dispatch.worker.send import Sender
from gateway.dispatch.worker.send_queue import SendQueue
from gateway.dispatch.worker.shards import Shards
from gateway.dispatch.worker.token_source import CLAIM_TOGETHER, Granted, TokenSource
from gateway.redis.errors import RedisUnavailable
from gateway.store.shared_keys import limit
from providers.contract import Provider
from ratelimit.limiter import Grant, Limiter, RunScript

BUSY_MAX = 10_000  # entries of a shard somebody else is sending, kept to look at again
NOBODY: frozenset[str] = frozenset()
UNUSED_S = 0.5  # what was claimed and found no token for so long goes back to its lane


class ProviderWorker:
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
        self._deps = deps
        self._sender_name = config.sender
        self._pauses = pauses
        self._heartbeat = heartbeat
        self._breaker = Breaker()
        self._batch = provider.batch_max
        key, together = limit(config.name), max(self._batch, CLAIM_TOGETHER)
        self.limiter = Limiter(run_script, key, rate_per_s=config.rate_per_s, batch=together)
        self._retry = deps.redis_retry(f"worker {config.name}")
        self.shards = Shards(deps.store.shards, lambda: deps.redis_retry(f"worker {config.name}"))
        self.reader = EntryReader(deps, config.name, self.shards)
        self._in_flight = InFlight(deps.store.shards)
        self._queue = SendQueue(deps.terms.floor_percent)
        self.capacity = Capacity(
            self._in_flight,
            self._queue,
            self.shards,
            batch=self._batch,
            connections=config.connections,
            places=config.places,
            claim_max=deps.terms.claim_max,
        )
        self.token_source = TokenSource(
            deps,
            config.name,
            self.limiter,
            self.reader,
            self._in_flight,
            self.capacity,
            self._breaker,
            pauses,
            heartbeat,
        )
        self._sender = Sender(deps, provider, self.limiter, pauses, self._breaker, heartbeat)
        self._recorder = Recorder(deps, config.name, self.shards)
        self._away_lanes = AwayLanes(
            deps, self.name, self.reader, pauses, self.capacity, self._claim_entries, self._stopped
        )
        self._owed = (0, 0)
        self._expressed = 0  # otp claimed since the last selection without being selected
        self._busy: list[list[Entry]] = [[] for _ in range(deps.store.shards)]  # by shard
        deps.metrics.requests_open.labels(self.name).set_function(lambda: self._in_flight.requests)
        deps.metrics.claimed.labels(self.name).set_function(lambda: self._in_flight.messages)

    async def run(self) -> None:
        """Works until `deps.stopping` is set, and then until what is under way is recorded."""
        async with trio.open_nursery() as self._tasks:
            with trio.CancelScope() as taking:
                async with trio.open_nursery() as loops:
                    self.shards.suspect(range(self._deps.store.shards))  # until they are there
                    loops.start_soon(self.shards.run, self.reader.check, self._shards_changed)
                    loops.start_soon(self.reader.wake_ups.run)
                    loops.start_soon(self._cancel_when_stopping, taking)
                    loops.start_soon(self._claim_express)
                    loops.start_soon(self._return_unused)
                    loops.start_soon(self._away_lanes.clear_while_held)
                    await self._grant()
            self._tasks.start_soon(self.reader.give_back)
            await self._put_back(math.inf)

    async def _cancel_when_stopping(self, scope: trio.CancelScope) -> None:
        await self._deps.stopping.wait()
        scope.cancel()

    def _shards_changed(self) -> None:
        """A shard that closed makes room for the others, one that opened can be read."""
        self._in_flight.freed()
        self.reader.wake_ups.wake_all()

    def _stopped(self) -> bool:
        return self._deps.stopping.is_set() or not self._heartbeat.fresh

    # Grant

    async def _grant(self) -> None:
        while True:
            granted = await self.token_source.next()
            tokens = self._in_flight.grant(granted.grant.tokens)
            self._tasks.start_soon(self._use, granted, tokens)

    async def _use(self, granted: Granted, tokens: Tokens) -> None:
        """The life of one grant's tokens: messages are claimed for them, and go at their start."""
        grant, start, probe = granted
        with tokens:
            await self._deps.until(start - self.capacity.lead_s())
            tokens.become_imminent()
            wanted = max(self.capacity.lacking(trio.current_time()), 0)
            if probe:  # it goes alone, from here only
                await self._away_lanes.claim_probe(self._queue)
                self._tasks.start_soon(self._away_lanes.clear)
            elif wanted:
                self._tasks.start_soon(self._select, self._in_flight.select(wanted))
            await self._deps.until(start)
        self.token_source.passed(start)
        if self._stopped():
            await self._give_back(grant, grant.tokens)
            return
        if probe and not len(self._queue):
            self._tasks.start_soon(self._pauses.give_probe_back, self.name)
        at = trio.current_time() if probe else start
        self._queue.add_tokens(grant.tokens, at, self.token_source.next_start())
        self._send_ready(probe=probe)
        unused = min(self._queue.tokens(trio.current_time()), grant.tokens)
        if unused and not len(self._queue) and not self.capacity.coming():
            self._queue.drop_tokens()
            await self._give_back(grant, unused)

    async def _give_back(self, grant: Grant, unused: int) -> None:
        try:
            await self.limiter.give_back(grant, unused)
        except RedisUnavailable as error:
            await self._retry.failed(error)  # the tokens lapse, which breaks no limit

    # Select

    async def _select(self, selection: Selection) -> None:
        """Chooses what tokens are used for, as late as a claim allows, and claims it."""
        with selection:
            await self.reader.fill(selection.count)
            claims = self._begin_claims(self.reader.select(self._share_out(selection.count)))
        await self._claim_all(claims)

    async def _select_again(self, unclaimed: Sequence[Entry]) -> None:
        """Others take the place of entries that had expired or were cancelled, at once and with no
        token more: twice as many, because such entries lie together."""
        found = Counter(entry.category for entry in unclaimed)
        counts = [min(2 * found[category], CLAIM_TOGETHER) for category in CATEGORIES]
        with self._in_flight.select(sum(counts)):
            await self.reader.fill(max(counts), now=True)
            claims = self._begin_claims(self.reader.select(counts))
        await self._claim_all(claims)

    def _share_out(self, wanted: int) -> tuple[int, int, int]:
        """How many of each category are selected; express otp count as selected before."""
        expressed, self._expressed = self._expressed, 0
        otp, transactional, marketing = self.reader.waiting()
        counts, self._owed = divide(
            wanted + expressed,
            (otp + expressed, transactional, marketing),
            self._deps.terms.floor_percent,
            self._owed,
        )
        return max(counts[0] - expressed, 0), counts[1], counts[2]

    async def _claim_express(self) -> None:
        """Claims otp when they come, as many as may go at once; the next selection counts them."""
        while True:
            await self.reader.wake_ups.wait_for_otp()
            self.token_source.hurry()
            await self._away_lanes.clear()
            if self.capacity.can_send:
                await self.reader.fill(CLAIM_TOGETHER, now=True, only=CATEGORIES[:1])
            room = self.capacity.express_room(trio.current_time(), self.limiter.quantum)
            if room > 0 and not self.token_source.alone and self._breaker.rest_s == 0.0:
                entries = self.reader.select((room, 0, 0))
                self._expressed += len(entries)
                claims = self._begin_claims(entries, express=True)
                self._tasks.start_soon(self._claim_all, claims)
            self.reader.wake_ups.wake()

    # Claim

    def _begin_claims(
        self, entries: Sequence[Entry], *, express: bool = False
    ) -> list[tuple[Claiming, list[Entry]]]:
        return [
            (self._in_flight.claim(shard, len(part), express=express), part)
            for shard, part in claim.by_shard(entries).items()
        ]

    async def _claim_entries(self, entries: Sequence[Entry], away: frozenset[str]) -> None:
        """Claims entries while the provider is away: with `away`, nothing of them is sent."""
        await self._claim_all(self._begin_claims(entries), away=away)

    async def _claim_all(
        self, claims: Sequence[tuple[Claiming, list[Entry]]], *, away: frozenset[str] = NOBODY
    ) -> None:
        """Claims each shard's entries at the same time, and has them sent."""
        if not claims:
            self._send_ready()
            return
        for begun in claims[1:]:
            self._tasks.start_soon(self._claim, *begun, away)
        await self._claim(*claims[0], away)

    async def _claim(self, begun: Claiming, entries: list[Entry], away: frozenset[str]) -> None:
        """Claims entries of one shard. Whatever the end, they are known for what they are."""
        shard = entries[0].shard
        with begun:
            if self._stopped():
                self.reader.give(entries)
                if self._deps.stopping.is_set():
                    await self.reader.give_back()
                return
            now_ms, now = self._deps.clock(), trio.current_time()
            try:
                made = await claim.claim(
                    self._deps.store, self.name, self._sender_name, entries, now_ms, now, away=away
                )
            except RETRYABLE as error:
                doubt = begun.fall_into_doubt()
                self._tasks.start_soon(self._resolve, doubt, entries, now_ms, error)
                return
            self.capacity.claim_took(trio.current_time() - now)
            broken = {item.message_id for item in made.broken}
            kept = broken | {entry.message_id for entry in (*made.busy, *made.postponed)}
            claimed = {step.entry.message_id for step in made.claimed}
            kept |= claimed
            unclaimed = [entry for entry in entries if entry.message_id not in claimed]
            self.reader.forget(entry for entry in entries if entry.message_id not in kept)
            self._note_busy(made.busy)
            begun.succeed(len(made.claimed))
        self._queue.add(made.claimed)
        if self._stopped():
            await self._put_back(math.inf)
        else:
            if unclaimed and self._pauses.of(self.name) is None:
                self._tasks.start_soon(self._select_again, unclaimed)
            self._send_ready()
        if made.broken:
            await self._recorder.commit(shard, made.broken)
            self.reader.forget(entry for entry in entries if entry.message_id in broken)

    async def _resolve(
        self, doubt: Doubt, entries: list[Entry], claimed_ms: int, failed: Exception
    ) -> None:
        """Nobody said whether a claim was made: the records do, once their shard answers."""
        with doubt:
            resolved = await self.shards.until_done(
                entries[0].shard,
                lambda: claim.resolve(
                    self._deps.store, self.name, entries, self._deps.clock(), ours_ms=claimed_ms
                ),
                failed=failed,
            )
            self.pass_on(entries, resolved)

    def pass_on(self, entries: Sequence[Entry], resolved: Resolved) -> None:
        """Entries were judged: what is to be claimed goes back to the buffers."""
        kept = {entry.at.entry for entry in (*resolved.queued, *resolved.busy)}
        self.reader.forget(entry for entry in entries if entry.at.entry not in kept)
        self.reader.give(resolved.queued)
        self._note_busy(resolved.busy)

    def take_busy(self, shard: int) -> list[Entry]:
        """The entries whose step somebody else is sending; `recovery` looks at them again."""
        busy, self._busy[shard] = self._busy[shard], []
        return busy

    def _note_busy(self, entries: Sequence[Entry]) -> None:
        for entry in entries:
            if len(self._busy[entry.shard]) < BUSY_MAX:
                self._busy[entry.shard].append(entry)

    # Send

    def _send_ready(self, *, probe: bool = False) -> None:
        """Sends what there are messages, tokens and connections for."""
        if not len(self._queue) or self._stopped() or self._breaker.rest_s > 0.0:
            return
        if self._pauses.of(self.name) is not None and not probe:
            return
        now, alone = trio.current_time(), self.token_source.alone
        room = 1 if probe else self.capacity.whole(self.capacity.free(alone=alone), now)
        steps = self._queue.take(room, now)
        for first in range(0, len(steps), self._batch):
            batch = steps[first : first + self._batch]
            request = self._in_flight.request(step.entry.shard for step in batch)
            self._tasks.start_soon(self._send, batch, request, probe)
        if self.capacity.tokenless(trio.current_time(), alone=alone) > 0:
            self._in_flight.freed()
            self.reader.wake_ups.wake()

    async def _send(self, batch: Sequence[ClaimedStep], request: Sending, probe: bool) -> None:
        began = trio.current_time()

        def record(result: answers.RequestResult) -> None:
            for part in self._answered(request, result):
                self._tasks.start_soon(self._record, *part)
            self._send_ready()

        with request:
            results = await self._sender.send(batch, record, probe=probe)
            answered = [part for result in results for part in self._answered(request, result)]
        self.capacity.request_took(trio.current_time() - began)
        if self._pauses.of(self.name) is not None:
            self._tasks.start_soon(self._put_back, math.inf)
        self._send_ready()
        await self._record_all(answered)

    # Record

    def _answered(
        self, request: Sending, result: answers.RequestResult
    ) -> list[tuple[Recording, ShardResult]]:
        return [(request.answered(part.shard, len(part.steps)), part) for part in by_shard(result)]

    async def _record_all(self, parts: Sequence[tuple[Recording, ShardResult]]) -> None:
        for part in parts[1:]:
            self._tasks.start_soon(self._record, *part)
        if parts:
            await self._record(*parts[0])

    async def _record(self, recording: Recording, result: ShardResult) -> None:
        with recording:
            await self._recorder.record(result)
            self.reader.forget(step.entry for step in result.steps)

    # Back to the lane

    async def _return_unused(self) -> None:
        """What finds no tokens goes back, and what was read where nothing can be sent; while the
        provider is away, what waits is seen to."""
        while True:
            await trio.sleep(UNUSED_S)
            if len(self._queue):
                self._tasks.start_soon(self._put_back, trio.current_time() - UNUSED_S)
            if self._pauses.of(self.name) is not None:
                self._tasks.start_soon(self._away_lanes.clear)
            elif not self.capacity.can_send and any(self.reader.waiting()):
                self._tasks.start_soon(self.reader.give_back)

    async def _put_back(self, claimed_before: float) -> None:
        if steps := self._queue.drop(claimed_before):
            parts = by_shard(self._sender.put_back(steps))
            await self._record_all(
                [(self._in_flight.put_back(part.shard, len(part.steps)), part) for part in parts]
            )
