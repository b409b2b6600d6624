"""What the benchmark measures, judges and writes down, and that it refuses figures with holes."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from bench import redis_server, report
from bench.lifecycle import RESULTS, main
from bench.load_spec import Result
from bench.measure import Row, cpu_us, require_accepted
from bench.processes import BenchFailed, Child, cpu_s, role
from bench.redis_server import RedisServer, replay
from bench.scenarios import SCENARIOS, in_flight, limit_used
from bench.targets import TARGETS, verdicts
from bench.world import Cpu, Plan, books_agree, config_text, epoch_ms
from gateway.settings.file import load
from providers.http.settings import HttpSettings

ROOT = Path(__file__).parents[2]
SECRETS = {
    "BENCH_APP_KEY": "a" * 32,
    "BENCH_PROVIDER_KEY": "p" * 32,
    "BENCH_CALLBACK_TOKEN": "c" * 32,
}
CPU = {"total": 250.0, "ingress": 100.0, "dispatch": 100.0, "redis": 50.0, "rewrite": 0.0}
CPU |= {"simulator": 40.0, "load": 10.0}


def a_row(scenario: str, rate: float = 30_000.0, **fields: Any) -> Row:
    fields = {"cpu_us": CPU, "to_provider_ms": {"p50": 5.0, "p99": 50.0}} | fields
    return Row(scenario=scenario, name="x", messages=100, seconds=1.0, rate=rate, **fields)


def good_rows() -> list[Row]:
    """Rows that reach every target."""
    return [
        a_row("1"),
        a_row("2"),
        a_row("3"),
        a_row("3", figures={"rate_to_bare": 0.6}),
        a_row("4"),
        a_row("4", figures={"rate_to_bare": 0.6}),
        a_row("5"),
        a_row("5", figures={"p99_to_idle": 2.0}),
        a_row("6", figures={"peak_in_a_second": 1_100.0, "limit": 1_000.0, "limit_used": 0.98}),
        a_row("7", figures={"bytes_waiting": 600.0, "bytes_final": 200.0}),
        a_row("7", figures={"bytes_waiting": 600.0, "bytes_final": 200.0, "cpu_to_small": 1.1}),
        a_row("8", figures={"in_flight": 50.0}),
        a_row("9"),
        a_row("10"),
        a_row("11"),
        a_row("12", cpu_us=dict.fromkeys(CPU, 20.0) | {"total": 100.0}),
        a_row("13"),
        a_row("13", figures={"clicks_rate": 4_990.0, "code_p99_ms": 30.0, "p99_to_calm": 1.5}),
        a_row("14"),
        a_row("14", cpu_us=CPU | {"dispatch": 200.0, "redis": 20.0}),
    ]


def test_every_target_is_met_by_rows_that_reach_it() -> None:
    found = verdicts(good_rows())
    assert len(found) == len(TARGETS)
    assert [v.target for v in found if not v.met] == []


def test_every_target_falls_short_by_rows_that_do_not_reach_it() -> None:
    poor = {name: cost * 10 for name, cost in CPU.items()}
    figures = {"rate_to_bare": 0.4, "p99_to_idle": 4.0, "peak_in_a_second": 1_101.0}
    figures |= {"limit": 1_000.0, "limit_used": 0.9, "bytes_waiting": 701.0, "bytes_final": 251.0}
    figures |= {"cpu_to_small": 1.2, "in_flight": 30.0, "clicks_rate": 4_800.0}
    figures |= {"code_p99_ms": 101.0, "p99_to_calm": 3.1}
    late = {"p50": 5.0, "p99": 101.0}
    rows = [
        a_row(row.scenario, 100.0, cpu_us=poor, figures=figures, to_provider_ms=late)
        for row in good_rows()
    ]
    assert [v.target for v in verdicts(rows) if v.met is not False] == []


def test_what_was_not_run_is_neither_met_nor_short() -> None:
    found = verdicts([a_row("1")])
    assert {v.scenario for v in found if v.met is None} == set(SCENARIOS) - {"1"}


def test_every_scenario_has_a_target() -> None:
    assert {scenario for scenario, _, _ in TARGETS} == set(SCENARIOS)


def test_limit_used_leaves_out_the_first_second_and_the_end() -> None:
    # 100 at once, then 90 a second of 100 allowed; at 3 s the messages run out.
    samples = [(0.0, 0), (0.1, 100), (1.1, 190), (2.1, 280), (3.1, 300), (9.0, 300)]
    assert limit_used(samples, 300, 100) == pytest.approx(0.9)
    assert limit_used([(0.0, 0), (0.1, 300)], 300, 100) == 0.0


def test_requests_in_flight_are_rate_times_time() -> None:
    samples = [(0.1 * n, 100 * n) for n in range(20)]
    assert in_flight(samples, 40.0) == pytest.approx(40)


def a_channel(**change: Any) -> dict[str, Any]:
    fields = {"channel": "viber", "sent": 3, "delivered": 2, "double_delivered": 1}
    return fields | {"cost": "0.0300"} | change


def test_books_that_agree_say_what_was_delivered() -> None:
    bill = [{"channel": "viber", "delivered": 3, "charge": "0.03"}]
    requests = a_channel(channel=None, sent=0, delivered=0)
    assert books_agree([a_channel(), requests], bill) == {"delivered": 3, "cost": "0.0300"}


@pytest.mark.parametrize(
    "change", [{"delivered": 3}, {"cost": "0.030001"}, {"channel": "sms"}, {"sent": 0}]
)
def test_one_unit_of_difference_fails_the_run(change: dict[str, Any]) -> None:
    bill = [{"channel": "viber", "delivered": 3, "charge": "0.03"}]
    with pytest.raises(BenchFailed, match="The ledger has"):
        books_agree([a_channel(**change)], bill)


@pytest.mark.parametrize("outcomes", [{"accepted": 99, "duplicate": 1}, {"202": 98, "503": 2}])
def test_a_message_that_was_not_taken_fails_the_run(outcomes: dict[str, int]) -> None:
    result = Result(
        messages=100, outcomes=outcomes, seconds=1, p50_ms=1, p99_ms=1, max_ms=1, samples=[],
        cpu_s=0,
    )  # fmt: skip
    with pytest.raises(BenchFailed, match="not all were taken"):
        require_accepted(result, 100)


def test_cpu_of_simulator_and_load_stands_apart() -> None:
    found = cpu_us(Cpu(0, 0, 0, 0, 0), Cpu(1, 2, 3, 4, 100), 1_000_000)
    assert found["total"] == pytest.approx(10)
    assert found["simulator"] == pytest.approx(100)


def test_cpu_time_of_a_process_and_its_children_is_seen() -> None:
    before_s, own_before_s = cpu_s(os.getpid()), time.process_time()
    child = subprocess.Popen(
        [
            sys.executable,
            "-c",
            "import time\nwhile time.process_time() < 0.3: pass\nprint('x', flush=True)\ninput()",
        ],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
    )
    assert child.stdout is not None
    child.stdout.readline()
    seen_s = cpu_s(os.getpid()) - before_s - (time.process_time() - own_before_s)
    child.communicate(b"\n")
    assert 0.29 < seen_s < 0.6


def test_a_role_that_cannot_start_is_told_with_its_last_line(tmp_path: Path) -> None:
    command = role(["serve", "--config", str(tmp_path / "none.toml")])
    child = Child("kaskad serve", command, tmp_path / "log", dict(os.environ), announces=True)
    with pytest.raises(BenchFailed, match=r"kaskad serve ended with exit code 2: .*none\.toml"):
        child.await_ready()


def test_the_configuration_keeps_everything_on(tmp_path: Path) -> None:
    (tmp_path / "prices.csv").write_text("")
    file = tmp_path / "kaskad.toml"
    file.write_text(
        config_text(Plan(rate=500, batch=7), 8080, "http://h:8090", "unix:///tmp/x.sock")
    )
    settings = load(file, SECRETS)
    assert {cap.category for cap in settings.caps} == {"marketing", "otp"}
    assert [len(route.steps) for route in settings.routes.values()] == [2, 2]
    assert {
        (int(p.rate_per_s), p.batch)
        for p in settings.providers.values()
        if isinstance(p, HttpSettings)
    } == {(500, 7)}
    assert settings.warnings == ()


@pytest.mark.redis
def test_the_floor_of_redis_is_the_same_writes_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(redis_server, "REPLAY_S_MIN", 1e-9)
    first, second = (RedisServer(tmp_path / name, {}) for name in ("first", "second"))
    try:
        first.await_ready()
        second.await_ready()
        with first.client.pipeline() as pipe:
            for number in range(500):
                pipe.set(f"m:{number}", "x" * 220)
            pipe.execute()
        floor = replay(second, first.written(), 500)
        assert second.client.dbsize() == 500
        assert floor["rate"] > 0
        assert floor["cpu_us"] > 0
        assert second.data_bytes() > 500 * 220
        calls, _ = second.command_calls()["set"]
        assert calls == 500
    finally:
        first.stop()
        second.stop()


def a_run() -> report.Results:
    rows = good_rows()
    machine: dict[str, str | int] = {"cpu": "ACME (R) 9000/x", "cores": 2, "python": "3.11.7"}
    machine |= {"redis": "6.2.14", "kernel": "6.1", "commit": "abc"}
    return report.Results(
        at="2026-11-21T10:00:00Z",
        quick=False,
        seed=1,
        machine=machine,
        options={"messages": 100},
        floors={"bare server": {"rate": 10_000.0, "cpu_us": 80.0}},
        rows=rows,
        verdicts=verdicts(rows),
    )


def test_results_are_kept_by_date_and_machine(tmp_path: Path) -> None:
    json_file, text_file = report.keep(a_run(), tmp_path / "results")
    assert json_file.name == "2026-11-21-acme-r-9000-x-2-cores.json"
    kept = json.loads(json_file.read_text())
    assert [row["scenario"] for row in kept["rows"]] == [row.scenario for row in good_rows()]
    text = text_file.read_text()
    assert all(target in text for _, target, _ in TARGETS)
    assert "bare server: 10,000/s" in text


def test_the_kept_results_name_no_host() -> None:
    kept = "".join(path.read_text() for path in RESULTS.glob("*.*")) if RESULTS.exists() else ""
    assert not any(name in kept for name in ("/root", "/home", "/work"))


def test_times_of_the_provider_are_read_with_their_offset() -> None:
    assert epoch_ms("2026-11-21T10:00:00.123+0000") == 1_795_255_200_123


@pytest.mark.parametrize("words", [["--scenario", "99"], ["--messages", "0"], ["--messages", "x"]])
def test_bad_usage_is_exit_code_2(words: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        main(words)
    assert ended.value.code == 2


@pytest.mark.system
@pytest.mark.redis
def test_a_scenario_runs_from_end_to_end(tmp_path: Path) -> None:
    file = tmp_path / "out.json"
    command = [sys.executable, "bench/lifecycle.py", "--quick", "--messages", "300"]
    command += ["--scenario", "2", "--no-save", "--json", str(file)]
    ended = subprocess.run(
        command, capture_output=True, text=True, cwd=Path(__file__).resolve().parents[2]
    )
    assert ended.returncode == 0, ended.stderr
    (row,) = json.loads(file.read_text())["rows"]
    assert row["ledger"] == {"delivered": 600, "cost": "6.0000"}
    assert row["cpu_us"]["total"] > 0
    # 0 ms is a message that was sent before its caller had noted the answer.
    assert 0 <= row["to_provider_ms"]["p50"] <= row["to_provider_ms"]["p99"]
    assert "stream, whole life: at least 6,000/s" in ended.stdout


def test_the_figures_that_the_guides_quote_stand_in_the_result_they_name() -> None:
    readme = (ROOT / "README.md").read_text("utf-8").partition("## How fast it is")[2]
    guide = (ROOT / "bench" / "README.md").read_text("utf-8").partition("## What falls short")[2]
    for text in (readme.partition("\n## ")[0], guide.partition("\n| target")[0]):
        named = re.search(r"results/([\w-]+\.md)", text)
        assert named
        table = (ROOT / "bench" / "results" / named[1]).read_text("utf-8")
        quoted = re.findall(r"(\d[\d,.]*)(?=/s| µs| ms| single posts)", text)
        assert len(quoted) >= 5
        rows = re.sub(r"[|%]", " ", table)
        for figure in quoted:
            known = re.search(rf"(?<![\d,.]){re.escape(figure)}(?![\d,.]*\d)", rows)
            assert known, f"{figure} is not in {named[1]}"
