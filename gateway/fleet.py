"""What the dispatchers say of each provider, read from their snapshots and put together. Pure.

The names of the metrics are those of `gateway.dispatch.metrics`; figures of another version that
are not there count as nothing.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Literal, get_args

import msgspec

from gateway.telemetry import PREFIX, Figure

Limit = Literal["pause", "breaker", "rate", "connections", "claim_max"]
LIMITS: tuple[Limit, ...] = get_args(Limit)  # the first that holds anywhere is the one to look at

_RATE = f"{PREFIX}_dispatch_rate"
_USED = f"{PREFIX}_dispatch_sent_rate"
_IN_FLIGHT = f"{PREFIX}_dispatch_claimed"
_FAILED = f"{PREFIX}_dispatch_failed_recently"
_HANDED_OVER = f"{PREFIX}_dispatch_handed_over_recently"
_LIMITED = f"{PREFIX}_dispatch_limited"
_SESSIONS = f"{PREFIX}_dispatch_sessions"


class ProviderFigures(msgspec.Struct):
    """One provider over all dispatchers: `rates` by dispatcher and `used` in messages a second,
    `failed` and `handed_over` within the last minute, `sessions` bound; None: it keeps none."""

    rates: dict[str, int] = {}
    used: float = 0.0
    in_flight: int = 0
    failed: int = 0
    handed_over: int = 0
    limits: set[str] = set()
    sessions: int | None = None

    @property
    def limited_by(self) -> Limit | None:
        return next((limit for limit in LIMITS if limit in self.limits), None)

    @property
    def differ(self) -> bool:
        """Whether dispatchers have different rates: the one with the highest is slowed down by
        nobody, and the provider may be asked for more than it allows."""
        return len(set(self.rates.values())) > 1


def by_provider(figures: Iterable[Figure]) -> dict[str, ProviderFigures]:
    """What all dispatchers say, by provider."""
    found: dict[str, ProviderFigures] = {}
    for figure in figures:
        if (name := figure.labels.get("provider")) is None:
            continue
        provider = found.setdefault(name, ProviderFigures())
        if figure.name == _RATE:
            provider.rates[figure.process] = int(figure.value)
        elif figure.name == _USED:
            provider.used += figure.value
        elif figure.name == _IN_FLIGHT:
            provider.in_flight += int(figure.value)
        elif figure.name == _FAILED:
            provider.failed += int(figure.value)
        elif figure.name == _HANDED_OVER:
            provider.handed_over += int(figure.value)
        elif figure.name == _SESSIONS:
            provider.sessions = (provider.sessions or 0) + int(figure.value)
        elif figure.name == _LIMITED and figure.value:
            provider.limits.add(figure.labels.get("by", ""))
    return found
