"""What the monitoring files ask of Prometheus, and what processes show it."""

from __future__ import annotations

import json
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import yaml
from prometheus_client.metrics_core import Metric

from gateway import telemetry
from gateway.core.effects import Effects, Fallback
from gateway.core.records.entries import StatusChange
from gateway.dispatch.metrics import DispatchMetrics
from gateway.ingress.intake.server_watch import WatchedServer
from gateway.ingress.metrics import IngressMetrics
from gateway.store.installation.servers import ServerState
from gateway.store.messages.outcomes import Outcomes
from gateway.store.waiting.lanes import LaneState
from gateway.telemetry import Registries

MONITORING = Path(__file__).resolve().parents[2] / "config" / "monitoring"
DASHBOARD = MONITORING / "grafana-dashboard.json"
ALERTS = MONITORING / "alerts.yml"


def both_roles() -> tuple[Registries, Registries]:
    """What a worker and a dispatcher show, with something in it."""
    ingress = IngressMetrics()
    counts = SimpleNamespace(commits=1, conflicts=0, unknown=0, unjoined=0, newer=0)
    redis = SimpleNamespace(
        statistics=lambda: SimpleNamespace(
            connected=True, round_trips=1, commands=1, reconnects=0, timeouts=0
        )
    )
    backlog = SimpleNamespace(states={("p", "otp"): LaneState(1, 1)}, quarantined=0)
    ignored = SimpleNamespace(counts={("p", "amount"): 0})
    outcomes = Outcomes()
    for status in ("sent", "delivered"):
        change = StatusChange("shop", "m1", None, status, "viber", None, 5_000)
        effects = Effects(
            status_changes=[change],
            fallback=Fallback("viber", "sms", "expired"),
            reaction=("viber", "seen"),
        )
        outcomes.note(cast("Any", SimpleNamespace(category="otp", created_ms=0)), effects)
    ingress.durations.note(("send",), 0.01)
    store = SimpleNamespace(counts=counts, ignored_prices=ignored, redis=redis, outcomes=outcomes)
    state = ServerState("r", used_bytes=1, limit_bytes=2, fragmentation=1.0, aof_bytes=1)
    servers = SimpleNamespace(servers=[WatchedServer(0, state, disk_free=1)])
    draining: Any = SimpleNamespace(drain=None)
    ingress.watch(
        cast("Any", store), cast("Any", backlog), cast("Any", servers), draining, int, int
    )
    dispatch = DispatchMetrics(telemetry.new_registries())
    dispatch.registries.own.register(Outcomes())
    return ingress.registries, dispatch.registries


def families() -> list[Metric]:
    """Every family of both roles, as /metrics would render it."""
    return [
        family
        for registries in both_roles()
        for registry in registries
        for family in registry.collect()
    ]


def expressions(dashboard: Path = DASHBOARD, alerts: Path = ALERTS) -> list[str]:
    """Every PromQL expression of both files."""
    panels = json.loads(dashboard.read_text())["panels"]
    asked = [t["expr"] for panel in panels for t in panel.get("targets", ())]
    groups = yaml.safe_load(alerts.read_text())["groups"]
    return asked + [rule["expr"] for group in groups for rule in group["rules"]]
