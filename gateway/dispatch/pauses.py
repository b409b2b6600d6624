"""Providers that are paused for now, and the one probe that finds out whether they are well again.

A pause has a kind: an account fault that the provider told (no credit, a bad key), rejections that
nearly all messages get (a sender that is not registered), or an outage (the breaker is open: it
cannot be reached, fails, or loses its answers). Nothing is sent meanwhile
that would only fail or be lost: the pause is written where all dispatchers and /readyz read it, and
logged once. After each delay one dispatcher takes the right to probe by moving the end of the
pause, sends one message, and either ends the pause or finds the next, longer delay. While Redis is
unavailable the last known pauses stand.
"""

from __future__ import annotations

from collections.abc import Sequence

import structlog
import trio
from msgspec.structs import replace

from gateway.dispatch.deps import DispatchDeps
from gateway.dispatch.redis_retry import RETRYABLE
from gateway.store import pauses
from gateway.store.pauses import ACCOUNT, OUTAGE, Pause, Trouble

REFRESH_S = 1.0
PROBE_LOOK_S = 0.05  # until what another has moved is looked at

_log = structlog.get_logger("dispatch")


class Pauses:
    def __init__(self, deps: DispatchDeps) -> None:
        self._deps = deps
        self._found: dict[str, Pause] = {}
        self._changed: dict[str, float] = {}
        self._accepted_ms: dict[str, int] = {}

    def of(self, provider: str) -> Pause | None:
        return self._found.get(provider)

    def changed_at(self, provider: str) -> float:
        """Trio's time at which a pause of it began or ended last, as far as we know."""
        return self._changed.get(provider, -1.0)

    async def begin(self, provider: str, trouble: Trouble, *, probe: bool) -> None:
        """Trouble was found: the provider is paused from now on. A `probe` that met it prolongs the
        pause; what else was under way says nothing new.

        Raises RedisUnavailable; this dispatcher stays paused all the same."""
        before = self._found.get(provider)
        if before is not None and (probe or pauses.outranks(trouble, before)):
            await self.refresh()  # another may have ended it or taken its place
            before = self._found.get(provider)
        now_ms = self._deps.clock()
        if before is not None and not pauses.outranks(trouble, before):
            if probe:
                await self._prolong(provider, before, trouble, now_ms)
            return
        pause = pauses.begun(trouble, now_ms)
        self._note(provider, pause)
        first = True
        try:
            if before is None:
                first = await pauses.write_first(self._deps.redis, provider, pause)
            else:
                await pauses.write(self._deps.redis, provider, pause)
        finally:
            if first:
                self._tell_begun(provider, pause)
        if not first:
            await self.refresh()

    async def take_probe(self, provider: str) -> bool:
        """The pause's time is over: takes the right to send one message. Raises RedisUnavailable.

        False when somebody else was first, or the pause is gone. The end is moved by as long as the
        answer may take, too."""
        if not await pauses.take_probe(self._deps.redis, provider):
            await trio.sleep(PROBE_LOOK_S)
            await self.refresh()
            return False
        await self.refresh()
        pause, now_ms = self._found.get(provider), self._deps.clock()
        if pause is None or pause.until > now_ms:
            return False
        patience_ms = self._deps.providers[provider].config.timeout_ms
        await self._write(provider, pauses.prolonged(pause, now_ms, patience_ms))
        return True

    async def give_probe_back(self, provider: str) -> None:
        """A probe found nothing to send: the next message is one, whenever it comes."""
        pause = self._found.get(provider)
        if pause is None:
            return
        try:
            await self._write(provider, replace(pause, until=self._deps.clock()))
        except RETRYABLE as error:
            await self._deps.redis_retry("pauses").failed(error)  # the next delay is waited for

    async def probing(self, provider: str, refs: Sequence[str]) -> None:
        """A probe with these references goes next: where receipts told of the trouble they are
        noted before, because its receipt may be faster than its answer. Raises RedisUnavailable."""
        await self.refresh()
        pause = self._found.get(provider)
        if pause is not None and pause.by_receipt:
            await self._note_probes(provider, pause, refs)

    async def probed(self, provider: str, accepted: Sequence[str]) -> None:
        """A probe was answered without trouble: an outage is over, and an account is good again
        when the message was `accepted`, under these references. Where receipts told of the trouble
        they are only noted: the probe's receipt will tell. Raises RedisUnavailable."""
        await self.refresh()  # another may have found worse meanwhile
        pause = self._found.get(provider)
        if pause is None or not (accepted or pause.kind == OUTAGE):
            return
        if pause.by_receipt:
            await self._note_probes(provider, pause, accepted)
            return
        await self._end(provider, pause)

    def note_accepted(self, provider: str, began_ms: int) -> None:
        """A request that began then was accepted, by a dispatcher that knew of no pause."""
        self._accepted_ms[provider] = max(began_ms, self._accepted_ms.get(provider, 0))

    async def refresh(self) -> None:
        """Reads what all dispatchers know, and ends a pause of an account that was found good after
        the pause had begun: there may be no message left to probe with. What changed here while it
        was read stands. Raises RedisUnavailable."""
        began = trio.current_time()
        found = await pauses.read(self._deps.redis)
        for provider in self._deps.providers:
            if self.changed_at(provider) > began:
                continue
            pause = found.get(provider)
            if pause is not None:
                self._note(provider, pause)
                if pause.kind == ACCOUNT and self._accepted_ms.get(provider, 0) > pause.since:
                    await self._end(provider, pause)
            else:
                self._forget(provider)

    async def run(self) -> None:
        """Refreshes until cancelled."""

        async def turn() -> float:
            await self.refresh()
            return REFRESH_S

        await self._deps.redis_retry("pauses").for_ever(turn)

    async def _end(self, provider: str, pause: Pause) -> None:
        self._forget(provider)
        lasted_s = (self._deps.clock() - pause.since) // 1000
        _log.info("provider resumed", provider=provider, kind=pause.kind, after_s=lasted_s)
        await pauses.delete(self._deps.redis, provider)

    async def _note_probes(self, provider: str, pause: Pause, refs: Sequence[str]) -> None:
        probes = dict.fromkeys((*pause.probes, *refs))
        await self._write(provider, replace(pause, probes=tuple(probes)[-pauses.PROBES_KEPT :]))

    async def _prolong(self, provider: str, pause: Pause, trouble: Trouble, now_ms: int) -> None:
        longer = pauses.prolonged(pause, now_ms, trouble.rest_ms)
        _log.warning(
            "probe failed",
            provider=provider,
            kind=pause.kind,
            code=trouble.code,
            next_s=(longer.until - now_ms) // 1000,
        )
        await self._write(provider, longer)

    async def _write(self, provider: str, pause: Pause) -> None:
        self._note(provider, pause)
        await pauses.write(self._deps.redis, provider, pause)

    def _tell_begun(self, provider: str, pause: Pause) -> None:
        self._deps.metrics.pauses.labels(provider, pause.kind).inc()
        _log.error(
            "provider paused",
            provider=provider,
            kind=pause.kind,
            code=pause.code,
            detail=pause.detail,
            advice=pauses.ADVICE[pause.kind],
        )

    def _note(self, provider: str, pause: Pause) -> None:
        before = self._found.get(provider)
        if before is None or before.kind != pause.kind:
            self._forget(provider)
            self._changed[provider] = trio.current_time()
            self._deps.metrics.paused.labels(provider, pause.kind).set(1)
        self._found[provider] = pause

    def _forget(self, provider: str) -> None:
        before = self._found.pop(provider, None)
        if before is not None:
            self._changed[provider] = trio.current_time()
            self._deps.metrics.paused.labels(provider, before.kind).set(0)
