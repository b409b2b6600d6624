"""The rates that providers' limiters keep to: what is configured, or for a while an operator's.

Each dispatcher looks every REFRESH_S at what operators said. While Redis is unavailable the last
known rates stand, and one whose time is over ends with the next look.
"""

from __future__ import annotations

from collections.abc import Mapping

import structlog

from gateway.dispatch.deps import DispatchDeps
from gateway.store.providers import temporary_rates
from gateway.store.providers.temporary_rates import TemporaryRate
from ratelimit.limiter import Limiter

REFRESH_S = 1.0

_log = structlog.get_logger("dispatch")


class Rates:
    """Of one dispatcher; `bind` tells it whose limiters it turns."""

    def __init__(self, deps: DispatchDeps) -> None:
        self._deps = deps
        self._limiters: Mapping[str, Limiter] = {}
        self._configured: dict[str, int] = {}
        self._temporary: dict[str, TemporaryRate] = {}

    def bind(self, limiters: Mapping[str, Limiter]) -> None:
        """These limiters, by provider, keep to the rates from now on; they have the configured
        ones."""
        self._limiters = limiters
        self.configure({name: limiter.rate_per_s for name, limiter in limiters.items()})

    def configure(self, rates: Mapping[str, int]) -> None:
        """The configuration says so now; an operator's rate stands until its end."""
        self._configured.update(rates)
        self._apply()

    async def refresh(self) -> None:
        """Looks at what operators said. Raises RedisUnavailable."""
        policy = self._deps.store.policy
        redis = self._deps.redis
        self._temporary = await temporary_rates.read(redis, self._deps.providers, policy.former)
        self._apply()

    async def run(self) -> None:
        """Refreshes until cancelled."""

        async def turn() -> float:
            await self.refresh()
            return REFRESH_S

        await self._deps.redis_retry("rates").for_ever(turn)

    def _apply(self) -> None:
        for name, limiter in self._limiters.items():
            temporary = self._temporary.get(name)
            rate = self._configured[name] if temporary is None else temporary.rate_per_s
            if rate != limiter.rate_per_s:
                by = None if temporary is None else temporary.by
                _log.info("rate changed", provider=name, rate=rate, by=by)
                limiter.set_rate(rate)
