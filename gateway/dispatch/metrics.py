"""The metrics of a dispatcher, in Prometheus registries of its own.

Names, help texts and labels stand here; everybody else only counts. Labels are configured names, so
their number is bounded. What waits in the lanes ingress shows, which looks at it anyway.
"""

from __future__ import annotations

from collections import Counter as Counts
from collections.abc import Callable, Iterable, Mapping
from typing import TypeVar

from prometheus_client import Counter, Gauge, Histogram

from gateway.core.records.webhook import WHY_DISABLED, WebhookTry
from gateway.store.transaction import CommitCounts
from gateway.telemetry import Registries

REQUEST_SECONDS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0)
_PREFIX = "kaskad_dispatch_"
LabelsT = TypeVar("LabelsT", bound=tuple[str, ...])


class DispatchMetrics:
    def __init__(self, registries: Registries) -> None:
        self.registries = registries
        self._seen = CommitCounts()
        self._ignored: Counts[tuple[str, str]] = Counts()
        self._handed_over: Counts[tuple[str]] = Counts()

        def counter(name: str, text: str, *labels: str) -> Counter:
            return Counter(_PREFIX + name, text, labels, registry=registries.own)

        def gauge(name: str, text: str, *labels: str) -> Gauge:
            return Gauge(_PREFIX + name, text, labels, registry=registries.own)

        def shared(name: str, text: str, *labels: str) -> Gauge:
            return Gauge(_PREFIX + name, text, labels, registry=registries.shared)

        self.paused = shared("paused", "1 while nothing is sent, by kind", "provider", "kind")
        self.pauses = counter("pauses", "Times a provider was paused", "provider", "kind")
        self.requests_open = gauge("requests_open", "Requests not answered yet", "provider")
        self.claimed = gauge("claimed", "Messages claimed, outcome not recorded", "provider")
        self.tokens = counter("tokens", "Tokens granted by the rate limit", "provider")
        self.rate = shared("rate", "Messages a second that its rate limit allows", "provider")
        self.tokens_left = shared("tokens_left", "Tokens that are free at this moment", "provider")
        self.token_wait = counter(
            "token_wait_seconds", "Time in which only the rate limit was waited for", "provider"
        )
        self.sent_rate = gauge("sent_rate", "Messages sent a second, over 10 s", "provider")
        self.failed_recently = gauge(
            "failed_recently", "Sends of the last minute that were not accepted", "provider"
        )
        self.handed_over = counter(
            "handed_over", "Steps that another provider of the channel took over", "provider"
        )
        self.handed_over_recently = gauge(
            "handed_over_recently", "Steps of the last minute that another took over", "provider"
        )
        self.limited = gauge("limited", "1 for what keeps more from being sent", "provider", "by")
        self.sessions = gauge("sessions", "Sessions of its account that are bound", "provider")
        self.rates_differ = gauge(
            "rates_differ", "1 while other dispatchers have another rate for it", "provider"
        )
        self._add_books(shared)
        self.request_seconds = Histogram(
            _PREFIX + "request_seconds",
            "From the first byte to the outcome",
            ("provider",),
            buckets=REQUEST_SECONDS,
            registry=registries.own,
        )
        self.outcomes = counter("outcomes", "Sends, by how they ended", "provider", "outcome")
        self.look_ups = counter("look_ups", "References asked for", "provider", "result")
        self.receipts = counter("receipts", "Receipts a task brought", "provider", "result")
        self.timers = counter("timers", "Timers that were due")
        self.provider_removed = counter("provider_removed", "Steps whose provider is gone")
        self.recovered = counter("recovered", "Taken over from the dead", "provider", "found")
        self.parked = counter("parked", "Unmatched receipts, by how they ended", "became")
        self.retries = counter("redis_retries", "Turns that found Redis unavailable", "loop")
        self.commits = counter("store_commits", "Transactions, by how they went", "went")
        self.newer = counter("records_newer", "Records of a newer Kaskad, left alone")
        self._add_webhooks(registries, counter, gauge)
        self.ignored_prices = counter(
            "receipt_prices_ignored", "Prices in receipts that were not booked", "provider", "why"
        )

    def _add_webhooks(
        self, registries: Registries, counter: Callable[..., Counter], gauge: Callable[..., Gauge]
    ) -> None:
        self.webhooks = gauge("webhooks", "Webhooks that are this dispatcher's to tell")
        self.webhooks_dead = gauge("webhooks_dead", "Those of them that took nothing for an hour")
        self.webhooks_behind = gauge("webhooks_behind", "Those for which half of what may waits")
        self.webhook_tries = counter("webhook_tries", "Tries to tell a webhook", "result")
        self._webhook_told = self.webhook_tries.labels("told")  # looked up once for all
        self.webhook_seconds = Histogram(
            _PREFIX + "webhook_seconds",
            "How long a webhook's receiver took to answer",
            buckets=REQUEST_SECONDS,
            registry=registries.own,
        )
        self.webhooks_disabled = counter("webhooks_disabled", "Webhooks that we disabled", "why")
        for why in WHY_DISABLED:  # a series that begins with its first increase shows none
            self.webhooks_disabled.labels(why)

    def _add_books(self, shared: Callable[..., Gauge]) -> None:
        self.budget_used = shared("budget_used_percent", "Used of a budget's limit", "budget")
        self.budget_warned = shared("budget_warned_percent", "Its warning that holds", "budget")
        self.archive_lag = shared("archive_lag_seconds", "Age of the oldest booking not archived")
        self.archive_files = shared("archive_files", "Files that the archive has")
        self.archive_rows = shared("archive_rows", "Rows that the archive has")
        self.archive_failing = shared("archive_failing", "1 after a run that failed")
        self.reports_failing = shared(
            "reports_failing", "Scheduled reports that were not handed over at the last try"
        )

    def sends(self, providers: Iterable[str]) -> dict[str, tuple[float, float]]:
        """How many messages each was sent so far, and how many of them were not accepted."""
        counts: dict[str, dict[str, float]] = {provider: {} for provider in providers}
        for metric in self.outcomes.collect():
            for sample in metric.samples:
                if sample.name.endswith("_total") and sample.labels["provider"] in counts:
                    counts[sample.labels["provider"]][sample.labels["outcome"]] = sample.value
        return {provider: _sent_of(outcomes) for provider, outcomes in counts.items()}

    def webhook_tried(self, tried: WebhookTry) -> None:
        if tried.succeeded:
            self._webhook_told.inc()
        else:
            status = f"{tried.status // 100}xx" if tried.status else "no_answer"
            self.webhook_tries.labels(status).inc()
        self.webhook_seconds.observe(tried.latency_ms / 1000)

    def count_ignored_prices(self, counts: Mapping[tuple[str, str], int]) -> None:
        """Takes over what the store counted since the last call."""
        _count_on(self.ignored_prices, self._ignored, counts)

    def count_handed_over(self, counts: Mapping[str, int]) -> None:
        """Takes over what the store counted since the last call."""
        by_labels = {(provider,): now for provider, now in counts.items()}
        _count_on(self.handed_over, self._handed_over, by_labels)

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


def _count_on(counter: Counter, before: Counts[LabelsT], counts: Mapping[LabelsT, int]) -> None:
    """Raises a counter to what was counted elsewhere, by its labels."""
    for labels, now in counts.items():
        counter.labels(*labels).inc(now - before[labels])
        before[labels] = now


def _sent_of(outcomes: Mapping[str, float]) -> tuple[float, float]:
    sent = sum(outcomes.values()) - outcomes.get("split", 0.0)  # those are sent again, one by one
    return sent, sent - outcomes.get("accepted", 0.0)
