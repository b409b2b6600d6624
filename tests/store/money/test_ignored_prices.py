"""Prices that were not booked, in the log: seen, and no flood."""

from __future__ import annotations

from structlog.testing import capture_logs

from gateway.core.effects import IgnoredPrice
from gateway.store.money.ignored_prices import LOG_EVERY_MS, IgnoredPrices

FOREIGN = IgnoredPrice("currency", "sms", "m1", "0.03", "USD", 40_000)
ABSURD = IgnoredPrice("amount", "sms", "m2", "99999999", "EUR", 40_000)


def test_a_line_a_minute_of_each_provider_and_reason_says_how_many_there_were() -> None:
    prices = IgnoredPrices(["sms"])
    with capture_logs() as lines:
        for now_ms in (0, 1, 2, LOG_EVERY_MS - 1, LOG_EVERY_MS):
            prices.note(FOREIGN, now_ms)
        prices.note(ABSURD, 3)
    told = [(line["log_level"], line["message"], line["n"]) for line in lines]
    assert told == [("warning", "m1", 1), ("warning", "m1", 4), ("error", "m2", 1)]
    assert lines[-1]["price"] == "99999999"
    assert lines[-1]["list_price"] == "0.0400"
    assert prices.counts == {("sms", "currency"): 5, ("sms", "amount"): 1}


def test_a_clock_that_steps_back_silences_nothing() -> None:
    prices = IgnoredPrices([])
    with capture_logs() as lines:
        prices.note(FOREIGN, 10 * LOG_EVERY_MS)
        prices.note(FOREIGN, 0)
    assert len(lines) == 2
