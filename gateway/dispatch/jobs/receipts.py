"""Runs the task that brings a provider's receipts, and puts them where callbacks put theirs.

Where a provider's account may have few sessions, the task runs once for each of them that this
dispatcher has. Redis unavailable: the provider's task waits, and tells its provider nothing
meanwhile. A receipt that cannot be applied is logged and counted, and fails no other. A task that
fails is logged and started again after a growing pause; sends go on. An answer that comes after its
time goes the same way: the step whose answer was lost learns it, and its ids are noted first, so
that its receipts find it.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import structlog
import trio

from gateway.backoff import Backoff
from gateway.core import events
from gateway.core.ids import read_ref
from gateway.dispatch.deps import DispatchDeps
from gateway.dispatch.jobs import places
from gateway.dispatch.worker.answers import accepted_by, ids_in, loose_ids_in
from gateway.store.base import BATCH_MAX
from gateway.store.messages.apply import Item
from gateway.store.messages.receipts import note_provider_ids, take_receipts
from gateway.store.people.taken_replies import take_replies
from gateway.store.providers.pauses import REJECTIONS
from gateway.store.providers.rejections import RejectionWatch
from providers.contract import (
    KeepsSessions,
    PersonReply,
    Provider,
    Receipt,
    Refused,
    Submitted,
)

RESTART_S_MIN = 0.5
RESTART_S_MAX = 60.0

_log = structlog.get_logger("dispatch")


async def run(
    deps: DispatchDeps, provider: Provider, held: Callable[[int], None] | None = None
) -> None:
    """Until cancelled, or at once where receipts come another way. `held` is told how many sessions
    are kept here, whenever that changes."""
    if isinstance(provider, KeepsSessions):
        bound = deps.metrics.sessions.labels(provider.config.name)
        bound.set_function(lambda: provider.sessions)
    if provider.config.places is None:
        await _bring(deps, provider)
    else:
        name, count = provider.config.name, provider.config.places
        await places.keep(deps, name, count, lambda: _bring(deps, provider), held)


async def _bring(deps: DispatchDeps, provider: Provider) -> None:
    desk = _Desk(deps, provider.config.name)
    backoff = Backoff(RESTART_S_MIN, RESTART_S_MAX)

    async def receive(
        receipts: Sequence[Receipt],
        replies: Sequence[PersonReply] = (),
        late: Sequence[Submitted | Refused] = (),
    ) -> None:
        await desk.take(receipts)
        if replies:
            await desk.take_replies(replies)
        if late:
            await desk.take_late(late)
        backoff.reset()

    while True:
        try:
            await provider.run(receive)
        except Exception:
            _log.exception("what brings receipts failed", provider=provider.config.name)
            await trio.sleep(backoff.next_s())
        else:
            return


class _Desk:
    """Takes one provider's receipts and replies. On return they are durable, or given up with a
    log line."""

    def __init__(self, deps: DispatchDeps, provider: str) -> None:
        self._deps = deps
        self._provider = provider
        self._channel = deps.store.policy.provider(provider).channel
        self._retry = deps.redis_retry("receipts")
        former = deps.store.policy.former
        self._watch = RejectionWatch(deps.redis, deps.clock, self._count_pause, former)

    async def take(self, receipts: Sequence[Receipt]) -> None:
        for start in range(0, len(receipts), BATCH_MAX):
            together = receipts[start : start + BATCH_MAX]
            if not await self._take(together):
                for receipt in together:  # what was applied before is not applied twice
                    await self._take([receipt])

    async def take_replies(self, replies: Sequence[PersonReply]) -> None:
        try:
            new = await self._retry.until_done(
                lambda: take_replies(
                    self._deps.store, self._provider, self._channel, replies, self._deps.clock
                )
            )
        except Exception:
            _log.exception("replies cannot be taken", provider=self._provider, n=len(replies))
            self._count("fault", len(replies))
        else:
            self._count("reply", new)

    async def take_late(self, answers: Sequence[Submitted | Refused]) -> None:
        store, name = self._deps.store, self._provider
        ids = [
            each for answer in answers if isinstance(answer, Submitted) for each in ids_in(answer)
        ]
        items = [item for answer in answers for item in late_answer(name, answer)]
        ids += loose_ids_in(items)
        try:
            await self._retry.until_done(lambda: note_provider_ids(store, name, ids))
            await self._retry.until_done(lambda: store.apply(items, self._deps.clock()))
        except Exception:
            _log.exception("late answers cannot be taken", provider=name, n=len(answers))
            self._count("fault", len(answers))
        else:
            _log.info("late answers", provider=name, n=len(answers))
            self._count("late_answer", len(answers))

    async def _take(self, receipts: Sequence[Receipt]) -> bool:
        """False when one of several cannot be applied; a single one is then given up."""
        name = self._provider
        try:
            taken = await self._retry.until_done(
                lambda: take_receipts(self._deps.store, name, receipts, self._deps.clock())
            )
        except Exception:
            if len(receipts) == 1:
                _log.exception("a receipt cannot be applied", provider=name, ref=receipts[0].ref)
                self._count("fault", 1)
            return len(receipts) == 1
        await self._watch.saw(name, receipts)
        self._count("applied", taken.applied)
        self._count("parked", taken.kept)
        self._count("dropped", taken.crowded_out)
        self._count("fault", taken.set_aside)
        return True

    def _count(self, result: str, number: int) -> None:
        self._deps.metrics.receipts.labels(self._provider, result).inc(number)

    def _count_pause(self, provider: str) -> None:
        self._deps.metrics.pauses.labels(provider, REJECTIONS).inc()


def late_answer(provider: str, answer: Submitted | Refused) -> list[Item]:
    """What an answer that nobody waited for any more means: it is that of the step, sent when it
    was claimed, or a refusal, if its answer is still lost."""
    ref = read_ref(answer.ref)
    if ref is None:
        return []
    if isinstance(answer, Submitted):
        return [Item(ref.message_id, accepted_by(answer, ref.step, ref.series, None))]
    late = (provider, ref.series)
    told: list[events.Event] = [
        events.StepRefused(ref.step, answer.fault, answer.unreachable, late=late)
    ]
    if answer.part_ids:
        told.insert(0, events.LooseParts(ref.step, answer.part_ids, ref.series))
    return [Item(ref.message_id, event) for event in told]
