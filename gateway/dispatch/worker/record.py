"""Records what sending came to, each shard on its own.

Requests that end while a commit is under way, or soon after, are recorded together by the next one.
An outcome is offered to its shard until the shard takes it; the shard is closed meanwhile, and the
others are recorded as ever. A provider's own ids are noted first, so that a receipt finds its step:
while the shard of such an id is unavailable, the outcomes that name it wait too. Devices that
are gone are dropped from their users afterwards, and who told the provider to be sent no more is
opted out: what fails there is found out again by the next message to them.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import structlog
import trio

from gateway.core.records.codec import NewerRecordError, UnreadableRecordError
from gateway.dispatch.deps import DispatchDeps
from gateway.dispatch.redis_retry import RETRYABLE
from gateway.dispatch.worker.answers import RequestResult, loose_ids_in
from gateway.dispatch.worker.claim import ClaimedStep
from gateway.dispatch.worker.shards import Shards
from gateway.failpoints import failpoint
from gateway.store.messages.apply import Item
from gateway.store.messages.receipts import note_provider_ids, ref_in
from gateway.store.people.taken_replies import take_replies
from gateway.store.people.users import drop_device
from providers.contract import Device, PersonReply

RECORD_PACE_S = 0.005  # from one commit of outcomes to the next: a small one costs as a large one

_log = structlog.get_logger("dispatch")


class ShardResult(NamedTuple):
    """The part of a request's result that concerns one shard."""

    shard: int
    steps: Sequence[ClaimedStep]
    items: Sequence[Item]
    provider_ids: Sequence[tuple[str, str]]
    gone: Sequence[tuple[str, Device]] = ()
    wishes: Sequence[PersonReply] = ()


def by_shard(result: RequestResult) -> list[ShardResult]:
    """A result's parts, one a shard."""
    assert len(result.items) == len(result.batch)
    ids = result.provider_ids + loose_ids_in(result.loose)
    shards = dict.fromkeys(step.entry.shard for step in result.batch)
    if len(shards) == 1:
        (shard,) = shards
        items = result.loose + result.items
        return [ShardResult(shard, result.batch, items, ids, result.gone, result.wishes)]
    pairs = list(zip(result.batch, result.items, strict=True))
    parts = []
    for shard in shards:
        steps = [step for step in result.batch if step.entry.shard == shard]
        refs = {step.submission.ref for step in steps}
        users = {step.user for step in steps}
        parts.append(
            ShardResult(
                shard,
                steps,
                [item for item in result.loose if item.shard == shard]
                + [item for step, item in pairs if step.entry.shard == shard],
                [(pid, noted) for pid, noted in ids if ref_in(noted) in refs],
                [(user, device) for user, device in result.gone if user in users],
                [wish for wish in result.wishes if wish.id in refs],
            )
        )
    return parts


class _Gathered:
    """Outcomes that go into one commit."""

    def __init__(self) -> None:
        self.items: list[Item] = []
        self.done = False


class _ShardRecorder:
    """Commits outcomes of one shard, one commit at a time."""

    def __init__(self, deps: DispatchDeps, shards: Shards, shard: int) -> None:
        self._deps = deps
        self._shards = shards
        self._shard = shard
        self._committing = trio.Lock()
        self._committed_at = -RECORD_PACE_S
        self._gathered = _Gathered()

    async def commit(self, items: Sequence[Item]) -> None:
        """Whoever gets the lock first commits for all. Should that one be cancelled, the next does
        it again, which changes nothing twice: an outcome is of one claim."""
        gathered = self._gathered
        gathered.items += items
        async with self._committing:
            if gathered.done:
                return
            await self._deps.until(self._committed_at + RECORD_PACE_S)
            if gathered is self._gathered:
                self._gathered = _Gathered()
            await self._shards.until_done(
                self._shard, lambda: self._deps.store.apply(gathered.items, self._deps.clock())
            )
            gathered.done = True
            self._committed_at = trio.current_time()


class Recorder:
    """Records one provider's outcomes."""

    def __init__(self, deps: DispatchDeps, provider: str, shards: Shards) -> None:
        self._deps = deps
        self._provider = provider
        self._shards = [_ShardRecorder(deps, shards, n) for n in range(deps.store.shards)]
        self._retry = deps.redis_retry("provider ids")

    async def record(self, result: ShardResult) -> None:
        """On return the outcomes are durable."""
        if result.provider_ids:
            await self._retry.until_done(
                lambda: note_provider_ids(self._deps.store, self._provider, result.provider_ids)
            )
        await self.commit(result.shard, result.items)
        failpoint("committed")
        for user, device in result.gone:
            await self._drop(user, device)
        if result.wishes:
            await self._grant(result.wishes)

    async def _grant(self, wishes: Sequence[PersonReply]) -> None:
        store, name = self._deps.store, self._provider
        channel = store.policy.provider(name).channel
        try:
            await take_replies(store, name, channel, wishes, self._deps.clock)
        except RETRYABLE as error:
            _log.warning("who wants no more is not opted out", reason=str(error))

    async def _drop(self, user: str, device: Device) -> None:
        try:
            await drop_device(self._deps.store, user, device)
        except (*RETRYABLE, NewerRecordError, UnreadableRecordError) as error:
            _log.warning("a device that is gone stays with its user", reason=str(error))

    async def commit(self, shard: int, items: Sequence[Item]) -> None:
        """Records outcomes that nobody was asked for."""
        await self._shards[shard].commit(items)
