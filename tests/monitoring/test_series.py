"""Dashboard and alert rules ask for series, labels and values that the processes really show."""

from __future__ import annotations

import json
import re

import pytest
import yaml

from gateway import telemetry
from gateway.dispatch.metrics import DispatchMetrics
from gateway.ingress.metrics import IngressMetrics
from tests.worlds.monitoring import ALERTS, DASHBOARD, MONITORING, expressions, families

SERIES = re.compile(r"\bkaskad_\w+")
MATCHED = re.compile(r'(\w+)\s*(?:=~|!~|!=|=)\s*"([^"]*)"')
GROUPED = re.compile(r"\bby \(([^)]*)\)")
TARGET = ("job", "env")  # labels that a scrape adds
SOURCES = ("core", "dispatch", "ingress", "store")
ROOT = MONITORING.parents[1]


def labels_of() -> dict[str, set[str]]:
    """The labels of every series by its full name; `process` is added when they are shown."""
    labelled: dict[str, set[str]] = {}
    ingress = IngressMetrics()
    for metrics in (
        ingress,
        ingress.quotas,
        ingress.clicks,
        DispatchMetrics(telemetry.new_registries()),
    ):
        for metric in vars(metrics).values():
            if hasattr(metric, "_labelnames"):
                labelled[metric._name] = set(metric._labelnames)
    found: dict[str, set[str]] = {}
    for family in families():
        names = labelled.get(family.name, set()) | {
            label for sample in family.samples for label in sample.labels
        }
        suffixes = {"counter": ["_total"], "histogram": ["_bucket", "_sum", "_count"]}
        for suffix in suffixes.get(family.type, [""]):
            known = found.get(family.name + suffix, set())
            found[family.name + suffix] = known | names | {"process", *TARGET}
    return found


def unknown_series(expression: str) -> set[str]:
    return set(SERIES.findall(expression)) - set(labels_of())


def test_every_series_asked_for_exists() -> None:
    assert [(e, unknown_series(e)) for e in expressions() if unknown_series(e)] == []


def test_a_series_that_does_not_exist_is_found() -> None:
    assert unknown_series("rate(kaskad_commits[5m])") == {"kaskad_commits"}


def test_every_label_asked_for_is_on_one_of_the_series() -> None:
    labels = labels_of()
    for expression in expressions():
        known = set().union(*(labels[name] for name in SERIES.findall(expression)))
        asked = {label for label, _ in MATCHED.findall(expression)}
        asked |= {
            label.strip() for group in GROUPED.findall(expression) for label in group.split(",")
        }
        assert asked - {""} <= known | {"le"}, expression


def test_every_label_value_asked_for_is_a_word_of_the_code() -> None:
    code = "".join(
        path.read_text() for folder in SOURCES for path in (ROOT / "gateway" / folder).rglob("*.py")
    )
    for expression in expressions():
        for label, value in MATCHED.findall(expression):
            if label not in ("status", *TARGET):
                assert all(f'"{word}"' in code for word in value.split("|")), expression


def test_every_series_that_says_what_bounds_the_flow_is_on_the_dashboard() -> None:
    shown = set(SERIES.findall(DASHBOARD.read_text()))
    unused = {
        "kaskad_process_virtual_memory_bytes",
        "kaskad_process_start_time_seconds",
        "kaskad_process_open_fds",
        "kaskad_process_max_fds",
        "kaskad_commits_unknown_total",
        "kaskad_snapshots_failed_total",
    }
    base = {re.sub(r"_(bucket|sum|count)$", "", name) for name in shown}
    exists = {re.sub(r"_(bucket|sum|count)$", "", name) for name in labels_of()}
    assert exists - base == unused


@pytest.mark.parametrize("key", ["summary", "action"])
def test_every_alert_says_what_is_wrong_and_what_to_do(key: str) -> None:
    groups = yaml.safe_load(ALERTS.read_text())["groups"]
    rules = [rule for group in groups for rule in group["rules"]]
    assert len({rule["alert"] for rule in rules}) == len(rules)
    assert all(rule["annotations"][key] for rule in rules)
    assert {rule["labels"]["severity"] for rule in rules} == {"page", "ticket"}


def test_panels_do_not_overlap_and_have_a_description() -> None:
    panels = json.loads(DASHBOARD.read_text())["panels"]
    taken: set[tuple[int, int]] = set()
    for panel in panels:
        at = panel["gridPos"]
        cells = {(at["x"] + x, at["y"] + y) for x in range(at["w"]) for y in range(at["h"])}
        assert not cells & taken, panel["title"]
        taken |= cells
        assert panel["type"] == "row" or panel["description"], panel["title"]
    assert len({panel["id"] for panel in panels}) == len(panels)
