"""What a worker does while its provider is away: nobody's code waits in a lane that nobody reads.

The lanes of categories whose rule is `skip` are read all the same, and all lanes while another
provider of the channel can take over. What is found is claimed as of a provider that is away,
without tokens: the cascade hands it to the other, passes it over to the next channel, or takes it
out of the lane for a while. One entry stays for a probe that is due or under way. The other lanes
are left alone, but for the message that is sent as a probe.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence

import trio

from gateway.dispatch.deps import CATEGORIES, DispatchDeps
from gateway.dispatch.pauses import Pauses
from gateway.dispatch.worker.capacity import Capacity
from gateway.dispatch.worker.claim import Entry
from gateway.dispatch.worker.entry_reader import EntryReader
from gateway.dispatch.worker.fair_share import least_urgent
from gateway.dispatch.worker.send_queue import SendQueue
from gateway.store.providers.pauses import OPERATOR, Pause
from providers.contract import Category

HELD_LOOK_S = 1.0  # between two looks at what goes on without a provider that somebody paused
TOGETHER = 100  # entries of a lane that are read and claimed at once


class AwayLanes:
    def __init__(
        self,
        deps: DispatchDeps,
        provider: str,
        reader: EntryReader,
        pauses: Pauses,
        capacity: Capacity,
        claim: Callable[[Sequence[Entry], frozenset[str]], Awaitable[None]],
        stopped: Callable[[], bool],
    ) -> None:
        self._deps = deps
        self._provider = provider
        self._reader = reader
        self._pauses = pauses
        self._capacity = capacity
        self._claim = claim
        self._stopped = stopped

    async def clear(self) -> None:
        """Claims what waits, until nothing does, the provider is back or the worker has stopped."""
        while not self._stopped():
            pause = self._pauses.of(self._provider)
            if pause is None or not (passing := self._passing()):
                return
            await self._reader.fill(TOGETHER, now=True, only=passing)
            waiting = dict(zip(CATEGORIES, self._reader.waiting(), strict=True))
            counts = [waiting[c] if c in passing else 0 for c in CATEGORIES]
            if self._is_probing(pause) and sum(counts) == sum(waiting.values()):
                last = max(n for n in range(len(counts)) if counts[n] or not n)
                counts[last] = max(counts[last] - 1, 0)
            entries = self._reader.select(counts)
            if not entries:
                return
            await self._claim(entries, self._pauses.away)

    async def clear_while_held(self) -> None:
        """Clears again and again while an operator has the provider paused: there are no probes to
        do it with. Runs until cancelled."""
        while True:
            pause = self._pauses.of(self._provider)
            if pause is not None and pause.kind == OPERATOR:
                await self.clear()
            await trio.sleep(HELD_LOOK_S)

    async def claim_probe(self, claimed: SendQueue) -> None:
        """Claims a message to be sent as a probe, the least urgent. Those whose time was over while
        nobody read their lane lie at its head: each time twice as many are claimed, and what is
        claimed beyond the one goes back. Nothing is claimed where all were over."""
        together = 1
        while not len(claimed) and not self._stopped():
            await self._reader.fill(together, now=True)
            counts = least_urgent(self._reader.waiting())
            entries = self._reader.select([together * count for count in counts])
            if not entries:
                return
            await self._claim(entries, frozenset())
            together = min(2 * together, TOGETHER)

    def _passing(self) -> Sequence[Category]:
        """The categories that do not wait for the provider."""
        policy = self._deps.store.policy
        if policy.stands_in(self._provider, self._pauses.away):
            return CATEGORIES
        return [category for category in CATEGORIES if policy.when_away(category) == "skip"]

    def _is_probing(self, pause: Pause) -> bool:
        tokens = self._capacity.tokens(trio.current_time())
        return pause.until <= self._deps.clock() or tokens > 0
