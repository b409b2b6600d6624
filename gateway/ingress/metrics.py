"""The metrics of an ingress worker and their labels. `gateway.telemetry` publishes them.

No label can grow without bound: apps, providers, categories, outcomes and endpoints are from fixed
lists.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence

from prometheus_client import Counter, Gauge, Histogram
from prometheus_client.metrics_core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from gateway import telemetry
from gateway.core.records.request import Answer, MessageRequest
from gateway.ingress.intake.backlog import Backlog
from gateway.ingress.intake.draining import Draining
from gateway.ingress.intake.server_watch import ServerWatch, WatchedServer
from gateway.store.store import Store
from gateway.timings import Timings

_BATCH_BUCKETS = (1, 2, 4, 8, 16, 32, 64, 128, 256)
_SECONDS_BUCKETS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5)


Series = dict[tuple[Counter, tuple[str, ...]], Counter]


class QuotaMetrics:
    """What is used and refused of the apps' quotas, for `gateway.ingress.intake.quotas`."""

    def __init__(self, registries: telemetry.Registries) -> None:
        self.configured = Gauge(
            "kaskad_app_quota",
            "Configured quotas, by app: rate (messages a second) and day_max.",
            ["app", "quota"],
            registry=registries.shared,
        )
        self.messages = Counter(
            "kaskad_app_quota_messages",
            "Messages that an app with a quota asked for within its rate.",
            ["app"],
            registry=registries.own,
        )
        self.day_used = Gauge(
            "kaskad_app_day_used",
            "Messages of the day that an app with a day_max has used.",
            ["app"],
            registry=registries.shared,
        )
        self.refused = Counter(
            "kaskad_app_quota_refused",
            "Messages and event streams that were refused because of a quota or a share.",
            ["app", "quota"],
            registry=registries.own,
        )

    def show(self, quotas: Mapping[str, tuple[int, int]]) -> None:
        """The rate and the day_max that are configured now, by app; 0: none."""
        self.configured.clear()
        self.day_used.clear()
        for app, limits in quotas.items():
            for name, limit in zip(("rate", "day_max"), limits, strict=True):
                if limit:
                    self.configured.labels(app, name).set(limit)


class ClickMetrics:
    """What came of clicks, for `gateway.ingress.clicks`."""

    def __init__(self, registries: telemetry.Registries) -> None:
        self.recorded = Counter(
            "kaskad_ingress_clicks",
            "Links followed, by who it was: person, qr, or the sort of program.",
            ["who"],
            registry=registries.own,
        )
        self.lost = Counter(
            "kaskad_ingress_clicks_lost",
            "Clicks that could not be recorded.",
            registry=registries.own,
        )


class IngressMetrics:
    """One worker's registries, and the metrics that its parts add to."""

    def __init__(self) -> None:
        self.registries = telemetry.new_registries()
        own = self.registries.own
        self.requests = Counter(
            "kaskad_http_requests",
            "Requests answered, by endpoint and status; of sends and callbacks only the refused.",
            ["endpoint", "status"],
            registry=own,
        )
        self.messages = Counter(
            "kaskad_ingress_messages",
            "Messages asked for, by category and outcome (of each transaction, also of replays).",
            ["category", "outcome"],
            registry=own,
        )
        self.refused = Counter(
            "kaskad_ingress_refused",
            "Messages refused before the store was asked, by the kind of problem.",
            ["problem"],
            registry=own,
        )
        self.first_countries = Counter(
            "kaskad_ingress_first_countries",
            "Countries to which the app sent its first message.",
            ["app"],
            registry=own,
        )
        self.receipts = Counter(
            "kaskad_ingress_receipts",
            "Receipts taken, by provider and result.",
            ["provider", "result"],
            registry=own,
        )
        self.last_receipt = Gauge(
            "kaskad_ingress_last_receipt_seconds",
            "When a callback of the provider last brought a receipt, in Unix time.",
            ["provider"],
            registry=own,
        )
        self.callbacks_refused = Counter(
            "kaskad_ingress_callbacks_refused",
            "Callbacks without a proof that is taken, by provider and reason.",
            ["provider", "reason"],
            registry=own,
        )
        self.pauses = Counter(
            "kaskad_ingress_pauses", "Pauses that receipts brought.", ["provider"], registry=own
        )
        self.batch = Histogram(
            "kaskad_admission_batch",
            "Messages decided in one transaction.",
            registry=own,
            buckets=_BATCH_BUCKETS,
        )
        self.seconds = Histogram(
            "kaskad_admission_seconds",
            "How long one admission transaction took.",
            registry=own,
            buckets=_SECONDS_BUCKETS,
        )
        self.durations = Timings(_SECONDS_BUCKETS)
        self.snapshots_failed = Counter(
            "kaskad_snapshots_failed", "Metrics that could not be published.", registry=own
        )
        self.quotas = QuotaMetrics(self.registries)
        self.clicks = ClickMetrics(self.registries)
        self._series: Series = {}

    def count_admission(
        self, requests: list[MessageRequest], answers: list[Answer], seconds: float
    ) -> None:
        """Counts one admission transaction: sums first, so that a batch costs a few additions."""
        self.batch.observe(len(requests))
        self.seconds.observe(seconds)
        sums: dict[tuple[str, str], int] = {}
        for request, answer in zip(requests, answers, strict=True):
            key: tuple[str, str] = (request.category, answer.outcome)
            sums[key] = sums.get(key, 0) + 1
        for key, count in sums.items():
            _add(self._series, self.messages, key, count)

    def count_receipts(self, provider: str, result: str, count: int) -> None:
        """Counts receipts."""
        _add(self._series, self.receipts, (provider, result), count)

    def count_pause(self, provider: str) -> None:
        self.pauses.labels(provider).inc()

    def watch(
        self,
        store: Store,
        backlog: Backlog,
        servers: ServerWatch,
        draining: Draining,
        waiting: Callable[[], int],
        streams: Callable[[], int],
    ) -> None:
        """Adds the metrics that others keep and that are read when asked for."""
        self.registries.own.register(_KeptByOthers(store, waiting, streams, self.durations))
        self.registries.own.register(store.outcomes)
        self.registries.shared.register(_Shared(backlog, servers, draining))


def _add(series: Series, counter: Counter, labels: tuple[str, ...], count: int) -> None:
    """Adds to one series; finding it anew each time would cost thrice the addition."""
    found = series.get((counter, labels))
    if found is None:
        found = series[counter, labels] = counter.labels(*labels)
    found.inc(count)


class _KeptByOthers(Collector):
    def __init__(
        self,
        store: Store,
        waiting: Callable[[], int],
        streams: Callable[[], int],
        durations: Timings,
    ) -> None:
        self._store = store
        self._waiting = waiting
        self._durations = durations
        self._streams = streams

    def collect(self) -> Iterator[Metric]:
        yield self._durations.metric(
            "kaskad_http_request_seconds", "From a request's head to its answer.", ["endpoint"]
        )
        yield _gauge("kaskad_ingress_waiting", "Items no transaction has taken.", self._waiting())
        yield _gauge("kaskad_ingress_event_streams", "Open event streams.", self._streams())
        counts = self._store.counts
        yield _counter("kaskad_commits", "Transactions committed.", counts.commits)
        yield _counter("kaskad_commit_conflicts", "Transactions decided again.", counts.conflicts)
        yield _counter("kaskad_commits_unknown", "Transactions of lost answer.", counts.unknown)
        yield _counter("kaskad_requests_unjoined", "Of too many identities.", counts.unjoined)
        yield _counter("kaskad_records_newer", "Of a newer Kaskad, left alone.", counts.newer)
        yield _ignored_prices(self._store.ignored_prices.counts)
        redis = self._store.redis.statistics()
        yield _gauge("kaskad_redis_connected", "1 while Redis is reachable.", int(redis.connected))
        yield _counter("kaskad_redis_round_trips", "Calls to Redis.", redis.round_trips)
        yield _counter("kaskad_redis_commands", "Commands to Redis.", redis.commands)
        yield _counter("kaskad_redis_reconnects", "Connections lost and remade.", redis.reconnects)
        yield _counter("kaskad_redis_timeouts", "Calls that Redis did not answer.", redis.timeouts)


class _Shared(Collector):
    """What is in Redis, whichever worker looks."""

    def __init__(self, backlog: Backlog, servers: ServerWatch, draining: Draining) -> None:
        self._backlog = backlog
        self._servers = servers
        self._draining = draining

    def collect(self) -> Iterator[Metric]:
        labels = ["provider", "category"]
        length = GaugeMetricFamily("kaskad_lane_messages", "Messages in a lane.", labels=labels)
        age = GaugeMetricFamily(
            "kaskad_lane_age_seconds", "Age of a lane's oldest message.", labels=labels
        )
        for lane, state in self._backlog.states.items():
            length.add_metric(lane, state.length)
            age.add_metric(lane, state.age_ms / 1000)
        yield length
        yield age
        draining = int(self._draining.drain is not None)
        yield _gauge("kaskad_draining", "1 while new messages are refused.", draining)
        yield _gauge("kaskad_quarantined", "Things set aside.", self._backlog.quarantined)
        yield from _servers(self._servers.servers)


def _servers(servers: Sequence[WatchedServer]) -> Iterator[Metric]:
    """The Redis servers, each by the first shard it serves."""
    used = _by_shard("memory_bytes", "Memory that Redis uses.")
    limit = _by_shard("memory_limit_bytes", "Its maxmemory; 0: it has none.")
    fragmentation = _by_shard("memory_fragmentation", "Memory it holds to memory it uses.")
    aof = _by_shard("aof_bytes", "Size of its append-only file.")
    disk = _by_shard("disk_free_bytes", "Free bytes under the embedded Redis' files.")
    for server in servers:
        labels, state = [str(server.shard)], server.state
        used.add_metric(labels, state.used_bytes)
        limit.add_metric(labels, state.limit_bytes)
        fragmentation.add_metric(labels, state.fragmentation)
        aof.add_metric(labels, state.aof_bytes)
        if server.disk_free is not None:
            disk.add_metric(labels, server.disk_free)
    yield from (used, limit, fragmentation, aof, disk)


def _by_shard(name: str, text: str) -> GaugeMetricFamily:
    return GaugeMetricFamily(f"kaskad_redis_{name}", text, labels=["shard"])


def _ignored_prices(counts: Mapping[tuple[str, str], int]) -> Metric:
    text = "Prices in receipts that were not booked."
    found = CounterMetricFamily("kaskad_receipt_prices_ignored", text, labels=["provider", "why"])
    for labels, count in counts.items():
        found.add_metric(labels, count)
    return found


def _gauge(name: str, text: str, value: int) -> Metric:
    return GaugeMetricFamily(name, text, value=value)


def _counter(name: str, text: str, value: int) -> Metric:
    return CounterMetricFamily(name, text, value=value)
