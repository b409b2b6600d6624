"""The metrics of a dispatcher, in a Prometheus registry of its own.

Names, help texts and labels stand here; everybody else only counts. Labels are configured names, so
their number is bounded. `tokens_left` is the whole installation's and every dispatcher shows the
same, all others are this process's. What waits in the lanes ingress shows, which looks at it
anyway.
"""

from __future__ import annotations

from collections import Counter as Counts
from collections.abc import Mapping

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram

from gateway.store.transaction import CommitCounts

REQUEST_SECONDS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0)
_PREFIX = "kaskad_dispatch_"


class Metrics:
    def __init__(self, registry: CollectorRegistry) -> None:
        self.registry = registry
        self._seen = CommitCounts()
        self._ignored: Counts[tuple[str, str]] = Counts()

        def counter(name: str, text: str, *labels: str) -> Counter:
            return Counter(_PREFIX + name, text, labels, registry=registry)

        def gauge(name: str, text: str, *labels: str) -> Gauge:
            return Gauge(_PREFIX + name, text, labels, registry=registry)

        self.paused = gauge("paused", "1 while nothing is sent, by kind", "provider", "kind")
        self.pauses = counter("pauses", "Times a provider was paused", "provider", "kind")
        self.requests_open = gauge("requests_open", "Requests not answered yet", "provider")
        self.claimed = gauge("claimed", "Messages claimed, outcome not recorded", "provider")
        self.tokens = counter("tokens", "Tokens granted by the rate limit", "provider")
        self.tokens_left = gauge(
            "tokens_left", "Tokens the rate limit would grant at this moment", "provider"
        )
        self.token_wait = counter(
            "token_wait_seconds", "Time spent waiting for the rate limit", "provider"
        )
        self.request_seconds = Histogram(
            _PREFIX + "request_seconds",
            "From the first byte to the outcome",
            ("provider",),
            buckets=REQUEST_SECONDS,
            registry=registry,
        )
        self.outcomes = counter("outcomes", "Sends, by how they ended", "provider", "outcome")
        self.look_ups = counter("look_ups", "References asked for", "provider", "result")
        self.receipts = counter("receipts", "Receipts a task brought", "provider", "result")
        self.timers = counter("timers", "Timers that were due")
        self.recovered = counter("recovered", "Taken over from the dead", "provider", "found")
        self.parked = counter("parked", "Unmatched receipts, by how they ended", "became")
        self.retries = counter("redis_retries", "Turns that found Redis unavailable", "loop")
        self.commits = counter("store_commits", "Transactions, by how they went", "went")
        self.newer = counter("records_newer", "Records of a newer Kaskad, left alone")
        self.ignored_prices = counter(
            "receipt_prices_ignored", "Prices in receipts that were not booked", "provider", "why"
        )

    def count_ignored_prices(self, counts: Mapping[tuple[str, str], int]) -> None:
        """Takes over what the store counted since the last call."""
        for labels, now in counts.items():
            self.ignored_prices.labels(*labels).inc(now - self._ignored[labels])
            self._ignored[labels] = now

    def count_commits(self, counts: CommitCounts) -> None:
        """Takes over what the store counted since the last call."""
        for went in ("commits", "conflicts", "unknown"):
            now, before = getattr(counts, went), getattr(self._seen, went)
            self.commits.labels("done" if went == "commits" else went).inc(now - before)
            setattr(self._seen, went, now)
        self.newer.inc(counts.newer - self._seen.newer)
        self._seen.newer = counts.newer

    def retry(self, loop: str) -> None:
        self.retries.labels(loop).inc()
