"""Sizing is multiplication: checked against figures worked out by hand."""

from __future__ import annotations

from pathlib import Path

import msgspec
import pytest

from bench.sizing import Costs, Demand, SizingFault, costs_of, main, size

COSTS = Costs(
    ingress_us=200, dispatch_us=100, redis_us=100, waiting_bytes=700, final_bytes=250,
    file_bytes=2_000,
)  # fmt: skip


def a_file(folder: Path, *scenarios: str) -> Path:
    cpu = {"ingress": 200.0, "dispatch": 100.0, "redis": 90.0, "rewrite": 10.0}
    figures = {"bytes_waiting": 700.0, "bytes_final": 250.0, "file_bytes": 2_000.0}
    rows = [{"scenario": each, "cpu_us": cpu, "figures": figures} for each in scenarios]
    file = folder / "results.json"
    file.write_bytes(msgspec.json.encode({"rows": rows}))
    return file


def test_ten_million_in_an_hour() -> None:
    found = size(COSTS, Demand(messages=10_000_000, hours=1, busy=0.5, retention_days=1))
    assert found.rate == pytest.approx(2777.8, abs=0.1)
    assert found.ingress == 2  # 0.556 cores at half a core each
    assert found.dispatchers == 1  # 0.278
    assert found.masters_for_cpu == 1
    assert found.waiting_gib == pytest.approx(10_000_000 * 700 / 2**30)
    assert found.final_gib == pytest.approx(10_000_000 * 250 / 2**30)
    assert found.masters_for_memory == 1
    assert found.bound_by == "ingress"


def test_what_waits_and_stays_decides_the_masters_when_it_is_larger() -> None:
    demand = Demand(messages=1_000_000_000, hours=24, busy=0.5, retention_days=3, waiting=0)
    found = size(COSTS, demand)
    assert found.masters_for_cpu == 3  # 1.16 cores at half a core each
    assert found.masters_for_memory == 44  # 698 GiB at 16
    assert found.shards == 4 * 44


def test_a_fallback_costs_a_second_step() -> None:
    plain = size(COSTS, Demand(messages=36_000_000, hours=1, busy=1.0))
    twice = size(COSTS, Demand(messages=36_000_000, hours=1, busy=1.0, fallback=1.0))
    assert (plain.dispatchers, twice.dispatchers) == (1, 2)
    assert twice.file_mib_per_s == pytest.approx(2 * plain.file_mib_per_s)


def test_costs_come_from_the_way_asked_for_and_include_rewrites(tmp_path: Path) -> None:
    results = msgspec.json.decode(a_file(tmp_path, "1", "2", "7").read_bytes())
    assert costs_of(results, "stream") == COSTS
    with pytest.raises(SizingFault, match="scenario 1 or 7"):
        costs_of(msgspec.json.decode(a_file(tmp_path, "2", "7").read_bytes()), "single")


def test_the_command_prints_the_answer(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    words = [str(a_file(tmp_path, "2", "7")), "--messages", "10000000", "--hours", "1"]
    assert main(words) == 0
    assert "are 2,778 a second" in capsys.readouterr().out


def test_a_file_without_the_scenarios_is_one_sentence(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main([str(a_file(tmp_path)), "--messages", "1", "--hours", "1"]) == 1
    assert "run `make bench` as a whole" in capsys.readouterr().err
