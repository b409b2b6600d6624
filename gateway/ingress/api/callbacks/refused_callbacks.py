"""Says and counts which callbacks were refused, and why.

A provider that lost its proof sends many in a second: of those refused for the same reason one line
in LOG_EVERY_MS is logged, with their number. What they carried is never said.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Literal

import structlog

from gateway.ingress.metrics import IngressMetrics
from gateway.log_throttle import LogThrottle

LOG_EVERY_MS = 10_000

ProofFault = Literal["no_proof", "wrong_proof"]

_log = structlog.get_logger("ingress")


class RefusedCallbacks:
    """One worker's; `now_ms` is the edge's clock."""

    def __init__(self, metrics: IngressMetrics, now_ms: Callable[[], int]) -> None:
        self._metrics = metrics
        self._now_ms = now_ms
        self._lines = LogThrottle(LOG_EVERY_MS)

    def note(self, provider: str, reason: ProofFault, peer: str) -> None:
        """A callback to `provider`, a configured one, was refused."""
        self._metrics.callbacks_refused.labels(provider, reason).inc()
        if n := self._lines.note((provider, reason), self._now_ms()):
            _log.warning("callback_refused", provider=provider, reason=reason, peer=peer, n=n)
