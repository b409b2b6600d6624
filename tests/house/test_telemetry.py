"""Log lines of one shape, and figures of many processes in one text."""

from __future__ import annotations

import collections
import datetime
import decimal
import json
import logging
import os
from collections.abc import Iterator

import msgspec
import pytest
import structlog
from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram
from prometheus_client.parser import text_string_to_metric_families

from gateway import telemetry
from gateway.store.providers.pauses import Pause


@pytest.fixture(autouse=True)
def logs_as_before() -> Iterator[None]:
    handlers, level = logging.root.handlers[:], logging.root.level
    yield
    structlog.reset_defaults()
    logging.root.handlers[:] = handlers
    logging.root.setLevel(level)


def registries(count: int) -> telemetry.Registries:
    made = telemetry.Registries(CollectorRegistry(), CollectorRegistry())
    counter = Counter("kaskad_sent", "Steps sent.", ["provider"], registry=made.own)
    counter.labels('a"b\\').inc(count)
    Histogram("kaskad_wait_seconds", "Waits.", registry=made.own, buckets=(1,)).observe(0.5)
    lane = Gauge("kaskad_lane", "Waiting.", ["provider"], registry=made.shared)
    lane.labels("sms").set(count)
    return made


def scrape(text: bytes, name: str) -> dict[str, float]:
    """The samples of a name by `process`; empty where they have none."""
    return {
        sample.labels.get("process", ""): sample.value
        for family in text_string_to_metric_families(text.decode())
        for sample in family.samples
        if sample.name == name
    }


def test_figures_of_all_processes_stand_side_by_side() -> None:
    others = [telemetry.snapshot(registries(n), f"dispatch-h-{n}") for n in (1, 2)]
    stale = telemetry.snapshot(registries(8), "ingress-h-9", "1-h")
    old = [*others, stale, b"of another version"]
    text = telemetry.render(old, registries(9), "ingress-h-9", "1-h")
    families = {f.name: f for f in text_string_to_metric_families(text.decode())}
    sent = {
        sample.labels["process"]: sample.value
        for sample in families["kaskad_sent"].samples
        if sample.labels["provider"] == 'a"b\\'
    }
    assert sent == {"dispatch-h-1": 1, "dispatch-h-2": 2, "ingress-h-9": 9}
    assert families["kaskad_sent"].type == "counter"
    assert families["kaskad_wait_seconds"].type == "histogram"
    assert text.count(b"# TYPE kaskad_sent") == 1
    assert b"_created" not in text


def test_a_sum_over_every_target_counts_each_process_once() -> None:
    """Two servers, the first with two workers, and two dispatchers that nobody scrapes."""
    workers = {"ingress-a-1": "1-a", "ingress-a-2": "1-a", "ingress-b-1": "2-b"}
    others = [telemetry.snapshot(registries(10), name, of) for name, of in workers.items()]
    others += [telemetry.snapshot(registries(20), f"dispatch-{n}") for n in (1, 2)]
    first, second = (
        telemetry.render(others, registries(10), name, workers[name])
        for name in ("ingress-a-2", "ingress-b-1")
    )
    sent = [scrape(text, "kaskad_sent_total") for text in (first, second)]
    assert [sum(each.values()) for each in sent] == [10 + 10 + 20 + 20, 10]
    lane = [scrape(text, "kaskad_lane") for text in (first, second)]
    assert lane == [{"": 20}, {}], "one figure of the installation is shown once, the highest"


def test_without_redis_a_worker_shows_only_what_is_its_own() -> None:
    text = telemetry.render(None, registries(10), "ingress-b-1", "2-b")
    assert scrape(text, "kaskad_sent_total") == {"ingress-b-1": 10}
    assert scrape(text, "kaskad_lane") == {}


def test_a_process_tells_its_role_and_its_own_use_of_the_machine() -> None:
    name = telemetry.process_name("dispatch")
    assert telemetry.role_of(name) == "dispatch"
    assert name.endswith(f"-{os.getpid()}")
    text = telemetry.render([], telemetry.new_registries(), name, "1-h")
    assert b"kaskad_process_cpu_seconds_total" in text


def test_a_log_line_is_one_json_object(capsys: pytest.CaptureFixture[str]) -> None:
    telemetry.configure_logs("ingress", "info", json=True)
    structlog.get_logger().info("sent", provider="sms", count=2, odd=object())
    structlog.get_logger().debug("left out")
    logging.getLogger("library").warning("from a %s", "library")
    try:
        secret = "+79161234567"
        raise ValueError("broken")
    except ValueError:
        structlog.get_logger().exception("failed")
    lines = [json.loads(line) for line in capsys.readouterr().err.splitlines()]
    assert [line["event"] for line in lines] == ["sent", "from a library", "failed"]
    assert lines[0]["provider"] == "sms"
    assert lines[0]["process"] == telemetry.process_name("ingress")
    assert [line["level"] for line in lines] == ["info", "warning", "error"]
    assert "ValueError: broken" in lines[2]["exception"]
    # Tracebacks show no values: they would show numbers and texts.
    assert secret not in json.dumps(lines).replace('secret = \\"+79161234567\\"', "")


def test_a_log_line_shows_what_json_has_no_word_for(capsys: pytest.CaptureFixture[str]) -> None:
    telemetry.configure_logs("cli", "info", json=True)
    shown: dict[str, object] = {
        "counts": collections.Counter({"otp": 2}),
        "by_shard": {1: 2},
        "set": {7},
        "pause": Pause("code", "detail", 1, 2),
        "at_day": datetime.datetime(2026, 11, 28, tzinfo=datetime.UTC),
        "amount": decimal.Decimal("1.20"),
        "none": None,
    }
    structlog.get_logger().info("whole", **shown)
    structlog.get_logger().info("half", text="\ud800", number=2**70)
    whole, half = map(json.loads, capsys.readouterr().err.splitlines())
    assert {key: whole[key] for key in shown} == json.loads(msgspec.json.encode(shown))
    assert (half["text"], half["number"]) == (repr("\ud800"), str(2**70))


def test_a_level_that_does_not_exist_is_refused() -> None:
    with pytest.raises(ValueError, match="no log level"):
        telemetry.configure_logs("cli", "loud", json=False)
