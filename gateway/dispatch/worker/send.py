"""Sends one request of claimed steps and records what became of each.

The stage of a failure decides (DESIGN 3.5, 3.6): not sent, refused for the rate or for the account:
back to the lane; refused as a whole: split and tried again, alone for good; no usable answer: lost,
never sent again blindly. Owns this translation, the last check before bytes leave, and the one log
line of a request. It must not know the cascade's rules or where entries come from.

Failures: what became of the messages is kept and offered to Redis until it takes it, and nothing is
sent again meanwhile. Cancelled (a shutdown beyond its deadline) it records nothing: the steps are
found as being sent, and whoever takes over treats them as lost answers.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence

import structlog
import trio

from gateway.core.events import Accepted, Event, LostAnswer, NotSent, PutBack, Refused
from gateway.dispatch.backoff import AWAY
from gateway.dispatch.deps import DispatchDeps
from gateway.dispatch.heartbeat import Heartbeat
from gateway.dispatch.pauses import Pauses
from gateway.dispatch.worker.breaker import Breaker
from gateway.dispatch.worker.claim import Held
from gateway.failpoints import point
from gateway.store.apply import Item
from gateway.store.receipts import note_provider_ids
from providers import contract
from providers.contract import Fault, Outcome, Provider
from ratelimit.limiter import Limiter

CLAIM_AGE_MAX_S = 2.0  # between the claim and the first byte; older ones go back
RECORD_PACE_S = 0.005  # from one commit of outcomes to the next: a small one costs as a large one
SEND_EXTRA_S = 1.0  # beyond the provider's own timeout, in case it does not keep it

_log = structlog.get_logger("dispatch")


class Answer:
    """What one request came to. `halt`: nothing more may go now; `split`: try its halves."""

    def __init__(self, piece: Sequence[Held], code: str = "") -> None:
        self.piece = piece
        self.code = code
        self.items: list[Item] = []
        self.counts: Counter[str] = Counter()
        self.provider_ids: list[tuple[str, str]] = []
        self.account: tuple[str, str] | None = None  # code and detail
        self.slow_down_ms: int | None = None
        self.halt = False
        self.split = False

    def add(self, held: Held, became: str, event: Event) -> None:
        self.items.append(held.became(event))
        self.counts[became] += 1

    def add_all(self, became: str, event: Callable[[Held], Event]) -> None:
        for held in self.piece:
            self.add(held, became, event(held))


def read_outcomes(piece: Sequence[Held], outcomes: Sequence[Outcome], sent_ms: int) -> Answer:
    """An answer that speaks of single messages; one it does not mention has lost its answer.

    `sent_ms` is when the request began."""
    answer = Answer(piece)
    by_ref = {outcome.ref: outcome for outcome in outcomes}
    for held in piece:
        outcome = by_ref.get(held.submission.ref)
        if outcome is None:
            answer.add(held, "unknown", LostAnswer(held.step))
        elif isinstance(outcome, contract.Submitted):
            if outcome.provider_id is not None:
                answer.provider_ids.append((outcome.provider_id, held.submission.ref))
            accepted = Accepted(
                held.step, outcome.provider_id, outcome.parts, outcome.again, sent_ms
            )
            # Whatever else happened to the step, the provider has it: no guard by the claim.
            answer.items.append(Item(held.entry.message_id, accepted, held.entry.at))
            answer.counts["accepted"] += 1
        elif outcome.account:
            answer.account = (outcome.fault.code, outcome.fault.name)
            answer.halt = True
            answer.add(held, "put_back", PutBack(held.step, refused=True))
        else:
            answer.add(held, "refused", Refused(held.step, outcome.fault))
    return answer


def read_fault(piece: Sequence[Held], fault: contract.SendFault) -> Answer:
    """A request that failed as a whole, by its stage."""
    answer = Answer(piece, fault.code)
    named = Fault(fault.code, fault.code, isinstance(fault, contract.BadRequest))
    match fault:
        case contract.NotSent():
            answer.halt = True
            answer.add_all("not_sent", lambda held: NotSent(held.step, named))
        case contract.Throttled():
            answer.halt = True
            answer.add_all("throttled", lambda held: PutBack(held.step))
        case contract.AccountFault():
            answer.halt = True
            answer.account = (fault.code, fault.detail)
            answer.add_all("put_back", lambda held: PutBack(held.step, refused=True))
        case contract.BadRequest() if len(piece) > 1:
            answer.split = True
            answer.counts["split"] = len(piece)
        case contract.BadRequest():
            answer.add_all("refused", lambda held: Refused(held.step, named))
        case _:
            answer.add_all("unknown", lambda held: LostAnswer(held.step))
    return answer


class Gathered:
    """Outcomes that go into one commit."""

    def __init__(self) -> None:
        self.items: list[Item] = []
        self.done = False


class Sender:
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
        self._heartbeat = heartbeat
        self._watchdog = deps.watchdog("outcomes")
        self._recording = trio.Lock()
        self._recorded_at = -RECORD_PACE_S
        self._gathered = Gathered()
        self._send_s = provider.config.timeout_ms / 1000 + SEND_EXTRA_S
        self._seconds = deps.metrics.request_seconds.labels(self._name)

    async def send(self, batch: Sequence[Held], *, probe: bool = False) -> None:
        """`request` and `settle`: on return every message is recorded."""
        await self.settle(await self.request(batch, probe=probe))

    async def request(self, batch: Sequence[Held], *, probe: bool = False) -> Answer | None:
        """Sends the batch now, its tokens are there; returns what is to be settled.

        `probe` goes out although the provider is paused. What was not sent after all is in its lane
        again. A batch refused as a whole is sent in parts, with tokens of their own, one after the
        other: then all but the last are settled already."""
        pieces: list[Sequence[Held]] = [batch]
        since = min(held.since for held in batch)
        start: float | None = trio.current_time()
        answer: Answer | None = None
        while pieces:
            piece = pieces.pop()
            if start is None:
                count, start = await self._lease(len(piece))
                if count < len(piece):
                    pieces.append(piece[count:])
                    piece = piece[:count]
            if not piece or not await self._may_go(start, since, probe):
                await self.put_back([*piece, *(held for left in pieces for held in left)])
                break
            start = None
            await self.settle(answer)
            answer = await self._request(piece)
            if answer.split:
                middle = len(piece) // 2
                pieces += [piece[middle:], piece[:middle]]
                since = trio.current_time()
                continue
            await self._tell_others(answer)
            if answer.halt:
                await self.put_back([held for left in pieces for held in left])
                break
        return answer

    async def settle(self, answer: Answer | None) -> None:
        """Records what a request came to: first the provider's ids, so that a receipt finds its
        step; then all in one commit."""
        if answer is None or not answer.items:
            return
        point("answer_read")
        if answer.provider_ids:
            await self._watchdog.until_done(
                lambda: note_provider_ids(self._deps.store, self._name, answer.provider_ids)
            )
        await self.record(answer.items)
        point("committed")

    async def record(self, items: Sequence[Item]) -> None:
        """Commits what became of messages, however long Redis is away.

        Requests that end while a commit is under way, or soon after, are recorded together by the
        next one: whoever gets the lock first commits for all. Should that one be cancelled, the
        next does it again, which changes nothing twice: a event is of one claim."""
        gathered = self._gathered
        gathered.items += items
        async with self._recording:
            if gathered.done:
                return
            await self._deps.until(self._recorded_at + RECORD_PACE_S)
            if gathered is self._gathered:
                self._gathered = Gathered()
            await self._watchdog.until_done(
                lambda: self._deps.store.apply(gathered.items, self._deps.clock())
            )
            gathered.done = True
            self._recorded_at = trio.current_time()

    async def _lease(self, wanted: int) -> tuple[int, float]:
        """Tokens for a further request, and when they may be used; (0, now) to send nothing."""
        while not self._deps.stopping.is_set():
            try:
                lease = await self._limiter.lease(wanted)
            except AWAY:
                break
            start = trio.current_time() + lease.wait_us / 1e6
            if lease.granted:
                return lease.granted, start
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

    async def _request(self, piece: Sequence[Held]) -> Answer:
        began = trio.current_time()
        answer = await self._ask(piece)
        seconds = trio.current_time() - began
        self._seconds.observe(seconds)
        for became, count in answer.counts.items():
            self._deps.metrics.outcomes.labels(self._name, became).inc(count)
        _log.info(
            "request",
            provider=self._name,
            n=len(piece),
            lanes=Counter(held.entry.category for held in piece),
            outcomes=answer.counts,
            fault=answer.code,
            ms=round(seconds * 1000, 1),
        )
        return answer

    async def _ask(self, piece: Sequence[Held]) -> Answer:
        sent_ms = self._deps.clock()
        try:
            # Not `fail_after`: its generator is a tenth of what a single message costs here.
            with trio.CancelScope(deadline=trio.current_time() + self._send_s):
                outcomes = await self._provider.deliver([held.submission for held in piece])
                self._breaker.went_well()
                return read_outcomes(piece, outcomes, sent_ms)
        except contract.SendFault as fault:
            answer = read_fault(piece, fault)
            if isinstance(fault, contract.NotSent):
                self._breaker.unreachable()
            elif isinstance(fault, contract.Throttled):
                answer.slow_down_ms = self._breaker.slowed_down(fault.retry_after_ms)
            return answer
        except Exception:
            # A bug in an adapter, and bytes may have left: the messages must not pay for it.
            _log.exception("a provider's adapter failed", provider=self._name)
            return read_fault(piece, contract.Unknown("adapter", "The adapter failed."))
        return read_fault(piece, contract.Unknown("deadline", "The deadline passed."))

    async def _tell_others(self, answer: Answer) -> None:
        """Pauses and holds off for everybody. When Redis is away nobody sends anyway."""
        try:
            if answer.slow_down_ms is not None:
                await self._limiter.hold_off(answer.slow_down_ms)
            if answer.account is not None:
                await self._pauses.begin(self._name, *answer.account)
            elif answer.counts["accepted"]:
                await self._pauses.end(self._name)
        except AWAY as error:
            await self._watchdog.away(error)

    async def put_back(self, batch: Sequence[Held]) -> None:
        """Messages that were claimed and not sent go back to their lane."""
        if not batch:
            return
        self._deps.metrics.outcomes.labels(self._name, "put_back").inc(len(batch))
        await self.record([held.became(PutBack(held.step)) for held in batch])
