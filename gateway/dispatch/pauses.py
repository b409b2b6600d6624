"""Providers that are paused because of an account fault: no credit, a bad key, an IP not allowed.

Every message would fail alike, so none is sent: the pause is written where all dispatchers and
/readyz read it, and said once at error level. After each delay one dispatcher takes the right to
probe by moving the end of the pause, sends one message, and either ends the pause or finds the
next, longer delay. While Redis is unavailable the last known pauses stand.
"""

from __future__ import annotations

import structlog
from msgspec.structs import replace

from gateway.backoff import delay_by_age_ms
from gateway.dispatch.deps import DispatchDeps
from gateway.store import pauses
from gateway.store.pauses import Pause

PAUSE_MIN_MS = 5_000
PAUSE_MAX_MS = 300_000
REFRESH_S = 1.0
DETAIL_MAX = 300  # characters of the provider's own words

_log = structlog.get_logger("dispatch")


def next_delay_ms(pause: Pause, now_ms: int) -> int:
    """How long a pause goes on when its probe did not end it."""
    return delay_by_age_ms(now_ms - pause.since, PAUSE_MIN_MS, PAUSE_MAX_MS)


class Pauses:
    def __init__(self, deps: DispatchDeps) -> None:
        self._deps = deps
        self._found: dict[str, Pause] = {}

    def of(self, provider: str) -> Pause | None:
        return self._found.get(provider)

    async def begin(self, provider: str, code: str, detail: str) -> None:
        """An account fault: the provider is paused from now on, or for another while.

        Raises RedisUnavailable; this dispatcher keeps to the pause all the same."""
        now_ms = self._deps.clock()
        before = self._found.get(provider)
        since = before.since if before else now_ms
        delay_ms = next_delay_ms(before, now_ms) if before else PAUSE_MIN_MS
        pause = Pause(code, detail[:DETAIL_MAX], since, now_ms + delay_ms)
        self._note(provider, pause)
        if before is None:
            _log.error(
                "provider paused",
                provider=provider,
                code=code,
                detail=pause.detail,
                advice="repair the account; one message is tried after each delay",
            )
        await pauses.write(self._deps.redis, provider, pause)

    async def take_probe(self, provider: str) -> bool:
        """The pause's time is over: takes the right to send one message. Raises RedisUnavailable.

        False when somebody else was first, or the pause is gone. Two that ask in the same moment
        both probe, which costs nothing but a second message tried."""
        await self.refresh()
        pause, now_ms = self._found.get(provider), self._deps.clock()
        if pause is None or pause.until > now_ms:
            return False
        moved = replace(pause, until=now_ms + next_delay_ms(pause, now_ms))
        self._note(provider, moved)
        await pauses.write(self._deps.redis, provider, moved)
        return True

    async def end(self, provider: str) -> None:
        """A request went well: the account is good again. Raises RedisUnavailable."""
        if self._found.pop(provider, None) is None:
            return
        self._deps.metrics.paused.labels(provider).set(0)
        _log.info("provider resumed", provider=provider)
        await pauses.delete(self._deps.redis, provider)

    async def refresh(self) -> None:
        """Reads what all dispatchers know. Raises RedisUnavailable."""
        found = await pauses.read(self._deps.redis)
        for provider in self._deps.providers:
            if provider in found:
                self._note(provider, found[provider])
            elif self._found.pop(provider, None) is not None:
                self._deps.metrics.paused.labels(provider).set(0)

    async def run(self) -> None:
        """Refreshes until cancelled."""

        async def turn() -> float:
            await self.refresh()
            return REFRESH_S

        await self._deps.redis_retry("pauses").for_ever(turn)

    def _note(self, provider: str, pause: Pause) -> None:
        self._found[provider] = pause
        self._deps.metrics.paused.labels(provider).set(1)
