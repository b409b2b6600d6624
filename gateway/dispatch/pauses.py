"""Providers that stand still because of an account fault: no credit, a bad key, an IP not allowed.

Every message would fail alike, so none is burnt: the pause is written where all dispatchers and
/readyz read it, said once at error level, and ended by a probe. After each delay one dispatcher
takes the right to probe by moving the end of the pause, sends one message, and either ends the
pause or finds the next, longer delay. Deleting the field by hand ends a pause too.

Owns the hash `keys.PAUSED`: provider -> JSON {"code", "detail", "since", "until"} in epoch
milliseconds. When Redis is away the last known pauses stand.
"""

from __future__ import annotations

import msgspec
import structlog

from gateway.dispatch.deps import DispatchDeps
from gateway.store import keys as k

PAUSE_MIN_MS = 5_000
PAUSE_MAX_MS = 300_000
REFRESH_S = 1.0
DETAIL_MAX = 300  # characters of the provider's own words

_log = structlog.get_logger("dispatch")


class Pause(msgspec.Struct, frozen=True):
    code: str
    detail: str
    since: int
    until: int

    def next_delay_ms(self, now_ms: int) -> int:
        """As long as it has lasted already, so about doubled with each probe."""
        return min(max(now_ms - self.since, PAUSE_MIN_MS), PAUSE_MAX_MS)


_decode = msgspec.json.Decoder(Pause).decode


class Pauses:
    def __init__(self, deps: DispatchDeps) -> None:
        self._deps = deps
        self._found: dict[str, Pause] = {}

    def of(self, provider: str) -> Pause | None:
        return self._found.get(provider)

    async def begin(self, provider: str, code: str, detail: str) -> None:
        """An account fault: the provider stands still from now on, or for another while.

        Raises StoreUnavailable; this dispatcher keeps to the pause all the same."""
        now_ms = self._deps.clock()
        before = self._found.get(provider)
        since = before.since if before else now_ms
        delay_ms = before.next_delay_ms(now_ms) if before else PAUSE_MIN_MS
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
        await self._write(provider, pause)

    async def take_probe(self, provider: str) -> bool:
        """The pause's time is over: takes the right to send one message. Raises StoreUnavailable.

        False when somebody else was first, or the pause is gone. Two that ask in the same moment
        both probe, which costs nothing but a second message tried."""
        await self.refresh()
        pause, now_ms = self._found.get(provider), self._deps.clock()
        if pause is None or pause.until > now_ms:
            return False
        moved = msgspec.structs.replace(pause, until=now_ms + pause.next_delay_ms(now_ms))
        self._note(provider, moved)
        await self._write(provider, moved)
        return True

    async def end(self, provider: str) -> None:
        """A request went well: the account is good again. Raises StoreUnavailable."""
        if self._found.pop(provider, None) is None:
            return
        self._deps.metrics.paused.labels(provider).set(0)
        _log.info("provider resumed", provider=provider)
        await self._deps.link.call([("HDEL", k.PAUSED, provider)])

    async def refresh(self) -> None:
        """Reads what all dispatchers know. Raises StoreUnavailable."""
        (reply,) = await self._deps.link.call([("HGETALL", k.PAUSED)])
        assert isinstance(reply, list)
        found = {}
        for name, value in zip(reply[::2], reply[1::2], strict=True):
            found[name.decode()] = _decode(value)
        for provider in self._deps.providers:
            if provider in found:
                self._note(provider, found[provider])
            elif self._found.pop(provider, None) is not None:
                self._deps.metrics.paused.labels(provider).set(0)

    async def run(self) -> None:
        async def turn() -> float:
            await self.refresh()
            return REFRESH_S

        await self._deps.watchdog("pauses").for_ever(turn)

    def _note(self, provider: str, pause: Pause) -> None:
        self._found[provider] = pause
        self._deps.metrics.paused.labels(provider).set(1)

    async def _write(self, provider: str, pause: Pause) -> None:
        await self._deps.link.call([("HSET", k.PAUSED, provider, msgspec.json.encode(pause))])
