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
from gateway.store.providers import pauses
from gateway.store.providers.pauses import (
    ACCOUNT,
    OPERATOR,
    OUTAGE,
    Changed,
    DecidePause,
    Pause,
    Trouble,
)

REFRESH_S = 1.0

_log = structlog.get_logger("dispatch")


class Pauses:
    def __init__(self, deps: DispatchDeps) -> None:
        self._deps = deps
        self._found: dict[str, Pause] = {}
        self.away: frozenset[str] = frozenset()  # whoever is paused
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
        known = self._found.get(provider)
        found = known is None or pauses.outranks(trouble, known)
        if not found and not probe:
            return
        now_ms = self._deps.clock()
        pause = pauses.begun(trouble, now_ms)

        def decide(stands: Pause | None) -> Pause | None:
            if stands is None or pauses.outranks(trouble, stands):
                return pause
            return pauses.prolonged(stands, now_ms, trouble.rest_ms) if probe else stands

        if found:
            self._note(provider, pause)
        try:
            before, stands = await self._change(provider, decide)
        except RETRYABLE:
            if found:
                self._tell_begun(provider, pause)
            raise
        if stands is pause:
            self._tell_begun(provider, pause)
        elif stands is not None and stands != before:
            self._tell_prolonged(provider, stands, trouble, now_ms)

    async def take_probe(self, provider: str) -> bool:
        """The pause's time is over: takes the right to send one message. Raises RedisUnavailable.

        False when somebody else was first, or the pause is gone. The end is moved by as long as the
        answer may take, too."""
        now_ms = self._deps.clock()
        patience_ms = self._deps.providers[provider].config.timeout_ms

        def decide(pause: Pause | None) -> Pause | None:
            if pause is None or pause.until > now_ms:
                return pause
            return pauses.prolonged(pause, now_ms, patience_ms)

        before, stands = await self._change(provider, decide)
        return stands != before

    async def give_probe_back(self, provider: str) -> None:
        """A probe found nothing to send: the next message is one, whenever it comes."""
        ours, now_ms = self._found.get(provider), self._deps.clock()
        if ours is None or ours.kind == OPERATOR:
            return
        try:
            await self._change(provider, lambda p: replace(ours, until=now_ms) if p == ours else p)
        except RETRYABLE as error:
            await self._deps.redis_retry("pauses").failed(error)  # the next delay is waited for

    async def probing(self, provider: str, refs: Sequence[str]) -> None:
        """A probe with these references goes next: where receipts told of the trouble they are
        noted before, because its receipt may be faster than its answer. Raises RedisUnavailable."""
        await self._change(provider, lambda pause: _with_probes(pause, refs))

    async def probed(self, provider: str, accepted: Sequence[str]) -> None:
        """A probe was answered without trouble: an outage is over, and an account is good again
        when the message was `accepted`, under these references. Where receipts told of the trouble
        they are only noted: the probe's receipt will tell. Raises RedisUnavailable."""

        def decide(pause: Pause | None) -> Pause | None:
            if pause is None or pause.kind == OPERATOR or not (accepted or pause.kind == OUTAGE):
                return pause
            return _with_probes(pause, accepted) if pause.by_receipt else None

        await self._change(provider, decide)

    def note_accepted(self, provider: str, began_ms: int) -> None:
        """A request that began then was accepted, by a dispatcher that knew of no pause."""
        self._accepted_ms[provider] = max(began_ms, self._accepted_ms.get(provider, 0))

    async def refresh(self) -> None:
        """Reads what all dispatchers know, and ends a pause of an account that was found good after
        the pause had begun: there may be no message left to probe with. What changed here while it
        was read stands. Raises RedisUnavailable."""
        began = trio.current_time()
        found = await pauses.read(self._deps.redis, self._deps.store.policy.former)
        for provider in self._deps.providers:
            if self.changed_at(provider) > began:
                continue
            pause = found.get(provider)
            if pause is not None:
                self._note(provider, pause)
                if self._is_good_again(provider, pause):
                    await self._end_if_good_again(provider)
            else:
                self._resumed(provider)

    async def run(self) -> None:
        """Refreshes until cancelled."""

        async def turn() -> float:
            await self.refresh()
            return REFRESH_S

        await self._deps.redis_retry("pauses").for_ever(turn)

    def _is_good_again(self, provider: str, pause: Pause) -> bool:
        return pause.kind == ACCOUNT and self._accepted_ms.get(provider, 0) > pause.since

    async def _end_if_good_again(self, provider: str) -> None:
        def decide(pause: Pause | None) -> Pause | None:
            return None if pause is None or self._is_good_again(provider, pause) else pause

        await self._change(provider, decide)

    async def _change(self, provider: str, decide: DecidePause) -> Changed:
        """Changes what all dispatchers know, and knows what stands then."""
        former = self._deps.store.policy.former
        changed = await pauses.change(self._deps.redis, provider, decide, former=former)
        if changed.after is not None:
            self._note(provider, changed.after)
            return changed
        self._forget(provider)
        if changed.before is not None:
            self._tell_ended(provider, changed.before)
        return changed

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

    def _tell_prolonged(self, provider: str, pause: Pause, trouble: Trouble, now_ms: int) -> None:
        _log.warning(
            "probe failed",
            provider=provider,
            kind=pause.kind,
            code=trouble.code,
            next_s=(pause.until - now_ms) // 1000,
        )

    def _tell_ended(self, provider: str, pause: Pause) -> None:
        lasted_s = (self._deps.clock() - pause.since) // 1000
        _log.info("provider resumed", provider=provider, kind=pause.kind, after_s=lasted_s)

    def _note(self, provider: str, pause: Pause) -> None:
        before = self._found.get(provider)
        if before is None or before.kind != pause.kind:
            self._forget(provider)
            self._changed[provider] = trio.current_time()
            self._deps.metrics.paused.labels(provider, pause.kind).set(1)
            if pause.kind == OPERATOR:
                _log.warning(
                    "provider paused",
                    provider=provider,
                    kind=pause.kind,
                    detail=pause.detail,
                    by=pause.by,
                    advice=pauses.ADVICE[pause.kind],
                )
        self._found[provider] = pause
        self.away = frozenset(self._found)

    def _resumed(self, provider: str) -> None:
        """Nobody says any more that it is paused. What ended by itself, another has told."""
        held = self._found.get(provider)
        if held is not None and held.kind == OPERATOR:
            self._tell_ended(provider, held)
        self._forget(provider)

    def _forget(self, provider: str) -> None:
        before = self._found.pop(provider, None)
        self.away = frozenset(self._found)
        if before is not None:
            self._changed[provider] = trio.current_time()
            self._deps.metrics.paused.labels(provider, before.kind).set(0)


def _with_probes(pause: Pause | None, refs: Sequence[str]) -> Pause | None:
    """The pause with the references of its last probes, where a receipt of theirs ends it."""
    if pause is None or not pause.by_receipt:
        return pause
    probes = dict.fromkeys((*pause.probes, *refs))
    return replace(pause, probes=tuple(probes)[-pauses.PROBES_KEPT :])
