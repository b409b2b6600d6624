"""The prices in receipts that were not booked: counted, and told in the log.

A provider that names another currency does so in each of its receipts: of a provider and reason one
line a minute is logged, with the number of those since the last.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from typing import get_args

import structlog

from gateway.core.effects import IgnoredPrice, WhyIgnored
from gateway.core.money.money import format_amount
from gateway.log_throttle import LogThrottle

LOG_EVERY_MS = 60_000

_log = structlog.get_logger("money")

_SENTENCES = {
    "currency": "A receipt's price is in another currency than prices.currency, or in none: the "
    "price list's was booked.",
    "amount": "A receipt's price is far beyond the list price, which was booked instead. Ask the "
    "provider, and look at the price file.",
}


class IgnoredPrices:
    """One process's. `counts` are by provider and reason, and begin with the zeros that an alert
    compares with."""

    def __init__(self, providers: Iterable[str]) -> None:
        reasons: tuple[WhyIgnored, ...] = get_args(WhyIgnored)
        self.counts: Counter[tuple[str, str]] = Counter(
            {(provider, why): 0 for provider in providers for why in reasons}
        )
        self._lines = LogThrottle(LOG_EVERY_MS)

    def note(self, ignored: IgnoredPrice, now_ms: int) -> None:
        key = (ignored.provider, ignored.why)
        self.counts[key] += 1
        n = self._lines.note(key, now_ms)
        if not n:
            return
        log = _log.error if ignored.why == "amount" else _log.warning
        log(
            "receipt_price_ignored",
            provider=ignored.provider,
            reason=_SENTENCES[ignored.why],
            message=ignored.message,
            price=ignored.price,
            currency=ignored.currency,
            list_price=format_amount(ignored.list_price),
            n=n,
        )
