"""Says and counts which callbacks were refused, and why.

A provider that lost its proof sends many in a second: of those refused for the same reason one line
in LOG_EVERY_MS is logged, with their number. What they carried is never said.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from typing import Literal

import structlog

from gateway.ingress.metrics import IngressMetrics

LOG_EVERY_MS = 10_000

ProofFault = Literal["no_proof", "wrong_proof"]

_log = structlog.get_logger("ingress")


class RefusedCallbacks:
    """One worker's; `now_ms` is the edge's clock."""

    def __init__(self, metrics: IngressMetrics, now_ms: Callable[[], int]) -> None:
        self._metrics = metrics
        self._now_ms = now_ms
        self._unsaid: Counter[tuple[str, ProofFault]] = Counter()
        self._next_ms: dict[tuple[str, ProofFault], int] = {}

    def note(self, provider: str, reason: ProofFault, peer: str) -> None:
        """A callback to `provider`, a configured one, was refused."""
        self._metrics.callbacks_refused.labels(provider, reason).inc()
        kind, now_ms = (provider, reason), self._now_ms()
        self._unsaid[kind] += 1
        if now_ms >= self._next_ms.get(kind, 0):
            self._next_ms[kind] = now_ms + LOG_EVERY_MS
            n = self._unsaid.pop(kind)
            _log.warning("callback_refused", provider=provider, reason=reason, peer=peer, n=n)
