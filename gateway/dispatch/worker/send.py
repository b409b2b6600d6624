"""Sends one batch of claimed steps to the provider and says what each came to.

What an answer comes to is in `answers`. This is where the last check is made before bytes leave,
where a batch that is refused as a whole is split, and where a request's one log line is written.
Nothing is recorded here; what a provider tells of before its answer is handed on to be, and judged
with the whole. Cancelled (a shutdown beyond its deadline) it says nothing: the steps are
found as being sent, and whoever takes over treats them as lost answers.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence

import structlog
import trio

from gateway.core.events import Accepted
from gateway.core.rejections import RejectionStreak
from gateway.dispatch.deps import DispatchDeps
from gateway.dispatch.heartbeat import Heartbeat
from gateway.dispatch.pauses import Pauses
from gateway.dispatch.redis_retry import RETRYABLE
from gateway.dispatch.worker.answers import (
    RequestResult,
    codes_of,
    not_sent,
    read_fault,
    read_outcomes,
)
from gateway.dispatch.worker.breaker import Breaker
from gateway.dispatch.worker.claim import ClaimedStep
from gateway.failpoints import failpoint
from gateway.store.providers.pauses import OUTAGE, REJECTIONS, Trouble
from gateway.telemetry import few
from gateway.traces import Traces
from providers import contract
from providers.contract import Provider
from ratelimit.limiter import Limiter

CLAIM_AGE_MAX_S = 2.0  # between the claim and the first byte; older ones go back
SEND_EXTRA_S = 1.0  # beyond the provider's own timeout, in case it does not keep it

_log = structlog.get_logger("dispatch")


class _Told:
    """What a provider took of a batch, by its word while others of it were open."""

    def __init__(
        self, batch: Sequence[ClaimedStep], sent_ms: int, record: Callable[[RequestResult], None]
    ) -> None:
        self.sent_ms = sent_ms
        self.left = batch  # nothing was told of
        self.outcomes: list[contract.Submitted] = []
        self._result: RequestResult | None = None
        self._record = record

    def tell(self, taken: Sequence[contract.Submitted]) -> None:
        """Each counts once, whatever is told again or never was sent."""
        by_ref = {each.ref: each for each in taken}
        steps = [step for step in self.left if step.submission.ref in by_ref]
        if steps:
            self.left = [step for step in self.left if step.submission.ref not in by_ref]
            outcomes = [by_ref[step.submission.ref] for step in steps]
            self.outcomes += outcomes
            result = read_outcomes(steps, outcomes, self.sent_ms)
            self._result = self.with_left(result)
            self._record(result)

    def with_left(self, left: RequestResult) -> RequestResult:
        """The result of the whole batch, from that of what was left."""
        return left if self._result is None else left.after(self._result)


class Sender:
    """Sends one provider's batches."""

    def __init__(
        self,
        deps: DispatchDeps,
        provider: Provider,
        limiter: Limiter,
        pauses: Pauses,
        breaker: Breaker,
        heartbeat: Heartbeat,
    ) -> None:
        self._deps = deps
        self._provider = provider
        self._name = provider.config.name
        self._limiter = limiter
        self._pauses = pauses
        self._breaker = breaker
        self._streak = RejectionStreak()
        self._heartbeat = heartbeat
        self._retry = deps.redis_retry("outcomes")
        self._send_s = provider.config.timeout_ms / 1000 + SEND_EXTRA_S
        self._seconds = deps.metrics.request_seconds.labels(self._name)

    async def send(
        self,
        batch: Sequence[ClaimedStep],
        record: Callable[[RequestResult], None],
        *,
        probe: bool = False,
    ) -> list[RequestResult]:
        """Sends the batch now, its tokens are there; returns what is to be recorded.

        `probe` goes out although the provider is paused. A batch refused as a whole is sent in
        parts, with tokens of their own, one after the other; what became known before the next part
        goes to `record` at once, and what the provider tells of while others are open. What was not
        sent after all is a result as well.
        """
        parts: list[Sequence[ClaimedStep]] = [batch]
        since = claimed = min(step.since for step in batch)
        start: float | None = trio.current_time()
        results: list[RequestResult] = []
        while parts:
            part = parts.pop()
            if start is None:
                count, start = await self._take_tokens(len(part))
                if count < len(part):
                    parts.append(part[count:])
                    part = part[:count]
            if part and (lacking := self._lacking(part)):
                count, start = await self._take_all(lacking)
                since = trio.current_time()
                if not count:
                    parts.append(part)
                    break
            if probe and part:
                await self._announce(part)
            if not part or not await self._may_go(start, since, claimed, probe):
                parts.append(part)
                break
            start = None
            while results:
                record(results.pop())
            result = await self._request(part, record, probe=probe)
            if result.split:
                part = result.left.batch
                middle = len(part) // 2
                parts += [part[middle:], part[:middle]]
                since = trio.current_time()
                continue
            results.append(result.left)
            await self._tell_others(result, probe=probe)
            failpoint("answer_read")
            if result.halt:
                break
        if unsent := [step for part in parts for step in part]:
            results.append(self.put_back(unsent))
        return results

    def put_back(self, batch: Sequence[ClaimedStep]) -> RequestResult:
        """The result of a batch that is not sent."""
        result = not_sent(batch)
        self._count(result)
        return result

    async def _take_tokens(self, wanted: int) -> tuple[int, float]:
        """Tokens for a further request, and when they may be used; (0, now) to send nothing."""
        while not self._deps.stopping.is_set():
            try:
                grant = await self._limiter.take(wanted)
            except RETRYABLE:
                break
            start = trio.current_time() + grant.wait_us / 1e6
            if grant.tokens:
                return grant.tokens, start
            await trio.sleep_until(start)
        return 0, trio.current_time()

    def _lacking(self, batch: Sequence[ClaimedStep]) -> int:
        """How many tokens a batch takes beyond one a message."""
        return self._provider.tokens([step.submission for step in batch]) - len(batch)

    async def _take_all(self, wanted: int) -> tuple[int, float]:
        """As `_take_tokens`, but all of them, in as many grants as that takes."""
        taken, start = 0, trio.current_time()
        while taken < wanted:
            count, start = await self._take_tokens(wanted - taken)
            if not count:
                return 0, start
            taken += count
        return taken, start

    async def _may_go(self, start: float, since: float, claimed: float, probe: bool) -> bool:
        """Waits for the start; whether then everything still speaks for sending. Nobody else took
        it over where the proof of life has stood since it was claimed."""
        await self._deps.until(start)
        return (
            not self._deps.stopping.is_set()
            and self._heartbeat.fresh_since <= claimed
            and trio.current_time() - since < CLAIM_AGE_MAX_S
            and self._breaker.rest_s == 0.0
            and (probe or self._pauses.of(self._name) is None)
        )

    async def _request(
        self,
        batch: Sequence[ClaimedStep],
        record: Callable[[RequestResult], None],
        *,
        probe: bool,
    ) -> RequestResult:
        began, traces = trio.current_time(), self._deps.store.traces
        began_ns = 0 if traces is None else traces.clock()
        result = await self._ask(batch, _Told(batch, self._deps.clock(), record))
        now = trio.current_time()
        if traces is not None:
            self._trace(traces, result, began_ns)
        seconds = now - began
        self._judge(result, began, now, probe=probe)
        self._seconds.observe(seconds)
        self._count(result)
        _log.info(
            "request",
            provider=self._name,
            n=len(batch),
            lanes=Counter(step.entry.category for step in batch),
            outcomes=result.counts,
            fault=result.code,
            failed=few(result.not_accepted) if result.counts["accepted"] < len(batch) else [],
            ms=round(seconds * 1000, 1),
        )
        return result

    def _trace(self, traces: Traces, result: RequestResult, began_ns: int) -> None:
        size = len(result.batch)
        for step, item in zip(result.batch, result.items, strict=False):  # nothing of what is split
            if step.trace:
                accepted = isinstance(item.event, Accepted)
                traces.sent(step.trace, self._name, accepted, result.code, size, began_ns)

    async def _ask(self, batch: Sequence[ClaimedStep], told: _Told) -> RequestResult:
        submissions = [step.submission for step in batch]
        try:
            # Not `fail_after`: its generator is a tenth of what a single message costs here.
            with trio.CancelScope(deadline=trio.current_time() + self._send_s):
                outcomes = await self._provider.deliver(submissions, told.tell)
                held = self._held(codes_of(outcomes))
                away = self._pauses.away
                left = read_outcomes(told.left, outcomes, told.sent_ms, held=held, away=away)
                result = told.with_left(left)
                if result.counts["accepted"]:
                    self._pauses.note_accepted(self._name, told.sent_ms)
                if result.counts["throttled"]:
                    result.slow_down_ms = self._breaker.slowed_down(None)
                else:
                    self._breaker.went_well()
                if len(result.batch) > result.counts["throttled"]:
                    self._breaker.took_some()
                return result
        except contract.SendFault as fault:
            result = self._failed(told, fault)
            if isinstance(fault, contract.NotSent):
                self._breaker.unreachable()
            elif isinstance(fault, contract.Throttled):
                result.slow_down_ms = self._breaker.slowed_down(fault.retry_after_ms)
            return result
        except Exception:
            # A bug in an adapter, and bytes may have left: the messages must not pay for it.
            _log.exception(
                "a provider's adapter failed",
                provider=self._name,
                messages=few(step.entry.message_id for step in told.left),
            )
            return self._failed(told, contract.Unknown("adapter", "The adapter failed."))
        return self._failed(told, contract.Unknown("deadline", "The deadline passed."))

    def _failed(self, told: _Told, fault: contract.SendFault) -> RequestResult:
        """A fault is of what nothing was told of."""
        alike = isinstance(fault, contract.BadRequest) and fault.about == "account"
        codes = codes_of(told.outcomes) + ([fault.code] * len(told.left) if alike else [])
        held = self._held(codes) if codes else None
        if told.outcomes:
            self._pauses.note_accepted(self._name, told.sent_ms)
            self._breaker.took_some()
        return told.with_left(read_fault(told.left, fault, held=held, away=self._pauses.away))

    def _held(self, codes: Sequence[str | None]) -> str | None:
        """The code nearly all messages are rejected with, or that the provider is paused for."""
        pause = self._pauses.of(self._name)
        if pause is not None and pause.kind == REJECTIONS:
            return pause.code
        return self._streak.saw(codes, self._pauses.changed_at(self._name))

    def _judge(self, result: RequestResult, began: float, now: float, *, probe: bool) -> None:
        """Finds an outage: many failed, or only asked for slower, or the probe did. What was asked
        before this process stood still counts as none: one that was stopped for 70 s paused both
        providers for all, and 17 codes went by the next channel (2026-11-30)."""
        since = max(self._pauses.changed_at(self._name), self._heartbeat.fresh_since)
        out = self._breaker.outage.failed(result.failed, began=began, now=now, since=since)
        if result.trouble is not None:
            return
        if result.failed and (out or probe):
            detail = result.detail or "What was sent has no answer."
            result.trouble = Trouble(OUTAGE, result.code or "answer_incomplete", detail)
        elif result.slow_down_ms is not None:
            code, pause = result.code or "throttled", self._pauses.of(self._name)
            again = probe and pause is not None and pause.code == code
            if self._breaker.is_choked or again:
                detail, rest_ms = result.detail or "It takes nothing.", result.slow_down_ms
                result.trouble = Trouble(OUTAGE, code, detail, rest_ms)

    async def _announce(self, probe: Sequence[ClaimedStep]) -> None:
        """Tells others of a probe before it is sent."""
        try:
            await self._pauses.probing(self._name, [step.submission.ref for step in probe])
        except RETRYABLE as error:
            await self._retry.failed(error)

    async def _tell_others(self, result: RequestResult, *, probe: bool) -> None:
        """Pauses and holds off for everybody. While Redis is unavailable nobody sends anyway."""
        try:
            if result.slow_down_ms is not None:
                await self._limiter.hold_off(result.slow_down_ms)
            if result.trouble is not None:
                await self._pauses.begin(self._name, result.trouble, probe=probe)
            elif probe:
                await self._pauses.probed(self._name, result.accepted)
        except RETRYABLE as error:
            await self._retry.failed(error)

    def _count(self, result: RequestResult) -> None:
        for outcome, count in result.counts.items():
            self._deps.metrics.outcomes.labels(self._name, outcome).inc(count)
