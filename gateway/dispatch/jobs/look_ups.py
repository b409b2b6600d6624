"""Asks a provider about steps whose answer was lost, and records what it says.

A reference the provider knows becomes its receipt, one it does not know NotKnown; what an answer
that is read in part does not name is left to its timer. Questions go side by side, so that what an
outage of minutes lost is known soon after it. While the provider is out, what is due waits here and
is asked when it is back. What is under way is bounded; beyond that, and when a question fails,
nothing happens here: the step's next timer asks again, and its last one gives up. Each shard's
answers are recorded on their own: while a shard is unavailable, its answers wait and the provider
is asked about others.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from itertools import islice

import msgspec
import structlog
import trio

from gateway.backoff import Backoff
from gateway.core.events import NotKnown, Reported, StepRefused
from gateway.core.ids import read_ref, step_ref
from gateway.core.records.message import Message
from gateway.dispatch.deps import DispatchDeps
from gateway.dispatch.pauses import Pauses
from gateway.dispatch.worker.breaker import RETRY_AFTER_MAX_S
from gateway.store.messages.apply import Item
from gateway.store.providers.pauses import OUTAGE
from gateway.telemetry import few
from providers.contract import (
    Fault,
    NotSent,
    PartlyRead,
    Provider,
    Receipt,
    SendFault,
    Throttled,
)

REFS_MAX = 100  # in one question
QUESTIONS_MAX = 8  # to one provider at once: 1,000 references a second at 30 each and 200 ms
UNDER_WAY_MAX = 50_000  # references that wait, are asked for, or whose answer is recorded
REST_MIN_S, REST_MAX_S = 0.5, 30.0  # after a question that failed
AWAY_LOOK_S = 0.25  # how soon the end of an outage is noticed

_log = structlog.get_logger("dispatch")


class LookUps:
    def __init__(self, deps: DispatchDeps, provider: Provider, pauses: Pauses) -> None:
        self._deps = deps
        self._provider = provider
        self._pauses = pauses
        self._name = provider.config.name
        self._line: dict[str, int] = {}  # reference: of which claim
        self._something = trio.Event()
        self._asked = 0
        self._recording = 0
        self._free = trio.Semaphore(min(QUESTIONS_MAX, provider.config.connections))
        self._backoff = Backoff(REST_MIN_S, REST_MAX_S)
        self._rest_until = -1.0
        self._retries = [deps.redis_retry("look-ups") for _ in range(deps.store.shards)]

    def add(self, message: Message) -> None:
        """Lines up the message's current step."""
        step = message.step
        ref = step_ref(message.id, message.current, step.series)
        under_way = len(self._line) + self._asked + self._recording
        if ref in self._line or under_way < UNDER_WAY_MAX:
            self._line[ref] = step.claimed_ms
            self._something.set()
        else:
            self._deps.metrics.look_ups.labels(self._name, "dropped").inc()

    async def run(self) -> None:
        """Asks until cancelled."""
        most = min(REFS_MAX, self._provider.look_up_max)
        async with trio.open_nursery() as nursery:
            while True:
                await self._something.wait()
                self._something = trio.Event()
                while self._line:
                    await self._free.acquire()
                    if (rest_s := self._rest_s()) > 0.0:
                        self._free.release()
                        await trio.sleep(min(rest_s, AWAY_LOOK_S))
                        continue
                    refs = list(islice(self._line, most))
                    claims = {ref: self._line.pop(ref) for ref in refs}
                    nursery.start_soon(self._look_up, nursery, claims)

    def _rest_s(self) -> float:
        """How much longer nobody asks: the provider is out, or a question failed."""
        rest_s = self._rest_until - trio.current_time()
        pause = self._pauses.of(self._name)
        if pause is not None and pause.kind == OUTAGE:
            rest_s = max(rest_s, (pause.until - self._deps.clock()) / 1000)
        return rest_s

    async def _look_up(self, nursery: trio.Nursery, claims: dict[str, int]) -> None:
        self._asked += len(claims)
        try:
            answers = await self._ask(claims)
        finally:
            self._asked -= len(claims)
            self._free.release()
        for shard, items in self._by_shard(answers).items():
            self._recording += len(items)
            nursery.start_soon(self._record, shard, items)

    async def _record(self, shard: int, items: list[Item]) -> None:
        try:
            await self._retries[shard].until_done(
                lambda: self._deps.store.apply(items, self._deps.clock())
            )
        finally:
            self._recording -= len(items)

    async def _ask(self, claims: Mapping[str, int]) -> list[Item]:
        """What the provider says of these references, each with the claim it is of."""
        refs, whole = list(claims), True
        requests = -(-len(refs) // self._provider.look_up_max)
        try:
            with trio.fail_after(requests * self._provider.config.timeout_ms / 1000 + 1.0):
                receipts: Sequence[Receipt] = await self._provider.look_up(refs)
        except PartlyRead as fault:
            _log.warning("look-up read in part", provider=self._name, n=len(refs), why=fault.detail)
            receipts, whole = fault.receipts, False
        except (SendFault, trio.TooSlowError) as fault:
            self._failed(claims, fault)
            return []
        except Exception:
            # A bug in an adapter; the messages wait for their next timer.
            _log.exception(
                "a provider's adapter failed", provider=self._name, messages=_messages(claims)
            )
            return []
        self._backoff.reset()
        items = [item for receipt in receipts if (item := self._item(receipt, claims)) is not None]
        known = {receipt.ref for receipt in receipts}
        unknown = {text: ref for text in refs if text not in known and (ref := read_ref(text))}
        items += [
            Item(ref.message_id, NotKnown(ref.step, self._pauses.away), claimed_ms=claims[text])
            for text, ref in unknown.items()
            if whole
        ]
        _log.info("look-up", provider=self._name, n=len(refs), unknown=len(unknown))
        self._deps.metrics.look_ups.labels(self._name, "known").inc(len(refs) - len(unknown))
        self._deps.metrics.look_ups.labels(self._name, "not_known" if whole else "failed").inc(
            len(unknown)
        )
        return items

    def _failed(self, claims: Mapping[str, int], fault: Exception) -> None:
        """Nobody asks for a while. What the provider did not hear waits in line for that."""
        code = fault.code if isinstance(fault, SendFault) else "deadline"
        _log.warning(
            "look-up failed",
            provider=self._name,
            n=len(claims),
            fault=code,
            messages=_messages(claims),
        )
        self._deps.metrics.look_ups.labels(self._name, "failed").inc(len(claims))
        rest_s = self._backoff.next_s()
        if isinstance(fault, SendFault) and fault.retry_after_ms is not None:
            rest_s = min(max(rest_s, fault.retry_after_ms / 1000), RETRY_AFTER_MAX_S)
        self._rest_until = max(self._rest_until, trio.current_time() + rest_s)
        if isinstance(fault, Throttled | NotSent):
            self._line = dict(claims) | self._line
            self._something.set()

    def _item(self, receipt: Receipt, claims: Mapping[str, int]) -> Item | None:
        """What an answer means. A rejection is taken for the answer that was lost, so the step
        counts as refused and never as sent: a provider charges nothing for what it did not take."""
        text = receipt.ref or ""
        ref = read_ref(text)
        if ref is None or text not in claims:
            return None
        if receipt.status == "rejected":
            fault = Fault("rejected", "rejected", True)
            if receipt.fault is not None:
                fault = msgspec.structs.replace(receipt.fault, permanent=True)
            refused = StepRefused(ref.step, fault, receipt.unreachable)
            return Item(ref.message_id, refused, claimed_ms=claims[text])
        return Item(ref.message_id, Reported(ref.step, receipt, self._name, ref.series))

    def _by_shard(self, items: list[Item]) -> dict[int, list[Item]]:
        found: defaultdict[int, list[Item]] = defaultdict(list)
        for item in items:
            found[self._deps.store.shard_of_message(item.message_id)].append(item)
        return found


def _messages(claims: Mapping[str, int]) -> list[str]:
    """The messages of references, a few."""
    return few(text.partition(".")[0] for text in claims)
