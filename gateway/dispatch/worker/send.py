"""Sends one batch of claimed steps to the provider and says what each came to.

The stage of a failure decides (DESIGN 3.5, 3.6): not sent, refused for the rate or for the account:
back to the lane; refused as a whole: split and tried again, alone for good; no usable answer: lost,
never sent again blindly. This is also where the last check is made before bytes leave, and where a
request's one log line is written. Nothing is recorded here. Cancelled (a shutdown beyond its
deadline) it says nothing: the steps are found as being sent, and whoever takes over treats them as
lost answers.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence

import structlog
import trio

from gateway.core.events import Accepted, Event, LostAnswer, NotSent, PutBack, Refused
from gateway.core.rejections import RejectionStreak
from gateway.dispatch.deps import DispatchDeps
from gateway.dispatch.heartbeat import Heartbeat
from gateway.dispatch.pauses import Pauses
from gateway.dispatch.redis_retry import RETRYABLE
from gateway.dispatch.worker.breaker import RETRY_AFTER_MAX_S, Breaker
from gateway.dispatch.worker.claim import ClaimedStep
from gateway.failpoints import failpoint
from gateway.store.apply import Item
from gateway.store.pauses import ACCOUNT, OUTAGE, REJECTIONS, Trouble
from gateway.telemetry import few
from providers import contract
from providers.contract import Device, Fault, Outcome, Provider
from ratelimit.limiter import Limiter

CLAIM_AGE_MAX_S = 2.0  # between the claim and the first byte; older ones go back
SEND_EXTRA_S = 1.0  # beyond the provider's own timeout, in case it does not keep it

_log = structlog.get_logger("dispatch")


class RequestResult:
    """What one request came to: an item a step of the batch, in order, or none when it is split.

    `halt`: nothing more may go now; `split`: try its halves."""

    def __init__(self, batch: Sequence[ClaimedStep], code: str = "", detail: str = "") -> None:
        self.batch = batch
        self.code = code  # of the fault when it failed as a whole
        self.detail = detail
        self.items: list[Item] = []
        self.counts: Counter[str] = Counter()
        self.provider_ids: list[tuple[str, str]] = []  # the provider's id, our reference
        self.gone: list[tuple[str, Device]] = []  # a user, and one of theirs that no longer exists
        self.trouble: Trouble | None = None  # for which the provider is paused
        self.slow_down_ms: int | None = None
        self.halt = False
        self.split = False

    @property
    def accepted(self) -> list[str]:
        """What is known of accepted messages by: our references, and the provider's ids."""
        refs = [
            step.submission.ref
            for step, item in zip(self.batch, self.items, strict=True)
            if isinstance(item.event, Accepted)
        ]
        return refs + [provider_id for provider_id, _ in self.provider_ids]

    @property
    def not_accepted(self) -> list[str]:
        """The messages that the provider did not take."""
        taken = {item.message_id for item in self.items if isinstance(item.event, Accepted)}
        return [id_ for step in self.batch if (id_ := step.entry.message_id) not in taken]

    @property
    def failed(self) -> bool:
        """Whether the provider could not be reached, or lost half of its answer at least."""
        return 2 * (self.counts["not_sent"] + self.counts["unknown"]) >= len(self.batch)

    def add(self, step: ClaimedStep, outcome: str, event: Event) -> None:
        self.items.append(step.became(event))
        self.counts[outcome] += 1

    def add_all(self, outcome: str, event: Callable[[ClaimedStep], Event]) -> None:
        for step in self.batch:
            self.add(step, outcome, event(step))


def codes_of(outcomes: Sequence[Outcome]) -> list[str | None]:
    """What an answer says of the account: None for what was taken, the code of what was rejected.
    Nothing for what speaks of the person or the message, or of an account that is paused at once.
    """
    return [
        outcome.fault.code if isinstance(outcome, contract.Refused) else None
        for outcome in outcomes
        if not isinstance(outcome, contract.Refused) or _may_be_all_alike(outcome)
    ]


def _may_be_all_alike(refused: contract.Refused) -> bool:
    return refused.about == "account" and not refused.account


def read_outcomes(
    batch: Sequence[ClaimedStep],
    outcomes: Sequence[Outcome],
    sent_ms: int,
    *,
    held: str | None = None,
    away: frozenset[str] = frozenset(),
) -> RequestResult:
    """An answer that speaks of single messages; one it does not mention has lost its answer.

    `sent_ms` is when the request began. `held` is the code that nearly all messages are rejected
    with: it is the account's fault, and what has it goes back to its lane. `away` are the providers
    that none of them goes to."""
    result = RequestResult(batch)
    by_ref = {outcome.ref: outcome for outcome in outcomes}
    for step in batch:
        outcome = by_ref.get(step.submission.ref)
        if outcome is None:
            result.add(step, "unknown", LostAnswer(step.index))
            continue
        if outcome.gone and step.user is not None:
            result.gone += ((step.user, device) for device in outcome.gone)
        if isinstance(outcome, contract.Submitted):
            if outcome.provider_id is not None:
                result.provider_ids.append((outcome.provider_id, step.submission.ref))
            accepted = Accepted(
                step.index,
                outcome.provider_id,
                outcome.parts,
                outcome.again,
                sent_ms,
                outcome.delivered,
                step.series,
            )
            # Whatever else happened to the step, the provider has it: no guard by the claim.
            result.items.append(Item(step.entry.message_id, accepted, step.entry.at))
            result.counts["accepted"] += 1
        elif outcome.account:
            result.trouble = Trouble(ACCOUNT, outcome.fault.code, outcome.fault.name)
            result.halt = True
            result.add(step, "put_back", PutBack(step.index, refused=True))
        elif outcome.fault.code == held and _may_be_all_alike(outcome):
            result.trouble = Trouble(REJECTIONS, outcome.fault.code, outcome.fault.name)
            result.halt = True
            result.add(step, "put_back", PutBack(step.index, refused=True))
        else:
            refused = Refused(step.index, outcome.fault, outcome.unreachable, away)
            result.add(step, "refused", refused)
    return result


def read_fault(
    batch: Sequence[ClaimedStep],
    fault: contract.SendFault,
    *,
    held: str | None = None,
    away: frozenset[str] = frozenset(),
) -> RequestResult:
    """A request that failed as a whole, by its stage; the rest as for `read_outcomes`."""
    result = RequestResult(batch, fault.code, fault.detail)
    named = Fault(fault.code, fault.code, isinstance(fault, contract.BadRequest))
    match fault:
        case contract.NotSent():
            result.halt = True
            result.add_all("not_sent", lambda step: NotSent(step.index, named, away))
        case contract.Throttled():
            result.halt = True
            result.add_all("throttled", lambda step: PutBack(step.index))
        case contract.AccountFault():
            result.halt = True
            result.trouble = Trouble(ACCOUNT, fault.code, fault.detail)
            result.add_all("put_back", lambda step: PutBack(step.index, refused=True))
        case contract.BadRequest() if fault.about == "account" and fault.code == held:
            result.halt = True
            result.trouble = Trouble(REJECTIONS, fault.code, fault.detail)
            result.add_all("put_back", lambda step: PutBack(step.index, refused=True))
        case contract.BadRequest() if len(batch) > 1:
            result.split = True
            result.counts["split"] = len(batch)
        case contract.BadRequest():
            result.add_all("refused", lambda step: Refused(step.index, named))
        case _:
            result.add_all("unknown", lambda step: LostAnswer(step.index))
            if fault.retry_after_ms is not None:
                rest_ms = min(fault.retry_after_ms, round(RETRY_AFTER_MAX_S * 1000))
                result.trouble = Trouble(OUTAGE, fault.code, fault.detail, rest_ms)
    return result


def not_sent(batch: Sequence[ClaimedStep]) -> RequestResult:
    """Nothing was tried: the messages go back to their lane."""
    result = RequestResult(batch)
    result.add_all("put_back", lambda step: PutBack(step.index))
    return result


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
        goes to `record` at once. What was not sent after all is a result as well.
        """
        parts: list[Sequence[ClaimedStep]] = [batch]
        since = min(step.since for step in batch)
        start: float | None = trio.current_time()
        results: list[RequestResult] = []
        while parts:
            part = parts.pop()
            if start is None:
                count, start = await self._take_tokens(len(part))
                if count < len(part):
                    parts.append(part[count:])
                    part = part[:count]
            if probe and part:
                await self._announce(part)
            if not part or not await self._may_go(start, since, probe):
                parts.append(part)
                break
            start = None
            while results:
                record(results.pop())
            result = await self._request(part, probe=probe)
            if result.split:
                middle = len(part) // 2
                parts += [part[middle:], part[:middle]]
                since = trio.current_time()
                continue
            results.append(result)
            await self._tell_others(result, probe=probe)
            failpoint("answer_read")
            if result.halt:
                break
        if left := [step for part in parts for step in part]:
            results.append(self.put_back(left))
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

    async def _may_go(self, start: float, since: float, probe: bool) -> bool:
        """Waits for the start; whether then everything still speaks for sending."""
        await self._deps.until(start)
        return (
            not self._deps.stopping.is_set()
            and self._heartbeat.fresh
            and trio.current_time() - since < CLAIM_AGE_MAX_S
            and self._breaker.rest_s == 0.0
            and (probe or self._pauses.of(self._name) is None)
        )

    async def _request(self, batch: Sequence[ClaimedStep], *, probe: bool) -> RequestResult:
        began = trio.current_time()
        result = await self._ask(batch)
        now = trio.current_time()
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

    async def _ask(self, batch: Sequence[ClaimedStep]) -> RequestResult:
        sent_ms = self._deps.clock()
        try:
            # Not `fail_after`: its generator is a tenth of what a single message costs here.
            with trio.CancelScope(deadline=trio.current_time() + self._send_s):
                outcomes = await self._provider.deliver([step.submission for step in batch])
                self._breaker.went_well()
                held = self._held(codes_of(outcomes))
                away = self._pauses.away
                result = read_outcomes(batch, outcomes, sent_ms, held=held, away=away)
                if result.counts["accepted"]:
                    self._pauses.note_accepted(self._name, sent_ms)
                return result
        except contract.SendFault as fault:
            alike = isinstance(fault, contract.BadRequest) and fault.about == "account"
            held = self._held([fault.code] * len(batch)) if alike else None
            result = read_fault(batch, fault, held=held, away=self._pauses.away)
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
                messages=few(step.entry.message_id for step in batch),
            )
            return read_fault(batch, contract.Unknown("adapter", "The adapter failed."))
        return read_fault(batch, contract.Unknown("deadline", "The deadline passed."))

    def _held(self, codes: Sequence[str | None]) -> str | None:
        """The code nearly all messages are rejected with, or that the provider is paused for."""
        pause = self._pauses.of(self._name)
        if pause is not None and pause.kind == REJECTIONS:
            return pause.code
        return self._streak.saw(codes, self._pauses.changed_at(self._name))

    def _judge(self, result: RequestResult, began: float, now: float, *, probe: bool) -> None:
        """Finds an outage: many failed, or the probe did."""
        since = self._pauses.changed_at(self._name)
        out = self._breaker.outage.failed(result.failed, began=began, now=now, since=since)
        if result.trouble is None and result.failed and (out or probe):
            result.trouble = Trouble(OUTAGE, result.code or "answer_incomplete", result.detail)

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
