"""The results as a person and as a program read them: tables, Markdown and JSON. No measuring here.

The JSON holds everything; the tables hold what fits a line. Files are named by date and machine.
"""

from __future__ import annotations

import datetime
import os
import platform
import re
import subprocess
from collections.abc import Sequence
from pathlib import Path

import msgspec
from rich.console import Console
from rich.table import Table

from bench.measure import Row
from bench.targets import Verdict

HEADS = (
    "scenario",
    "messages/s",
    "µs total",
    "ingress",
    "dispatch",
    "Redis",
    "sim",
    "load",
    "accept p50",
    "p99 ms",
    "to provider p50",
    "p99 ms",
)
_FIGURES = {
    "accepted_rate": "accepted {:,.0f}/s",
    "redis_to_floor": "Redis {:.2f} of its floor",
    "file_bytes": "{:,.0f} bytes to the append-only file",
    "rate_to_bare": "{:.2f} of the bare server",
    "p99_to_idle": "p99 {:.1f} of idle",
    "p99_to_calm": "p99 {:.1f} of without the clicks",
    "clicks_rate": "{:,.0f} clicks/s",
    "clicks_p99_ms": "clicks answered in {:,.0f} ms (p99)",
    "peak_in_a_second": "peak {:,.0f} in a second",
    "limit_used": "{:.1%} of the limit used",
    "bytes_waiting": "{:,.0f} bytes waiting",
    "bytes_final": "{:,.0f} bytes final",
    "cpu_to_small": "CPU {:.2f} of with little waiting",
    "cpu_to_untold": "CPU {:.2f} of without a webhook",
    "drained_rate": "sent {:,.0f}/s",
    "in_flight": "{:.0f} in flight",
}


class Results(msgspec.Struct, kw_only=True):
    """A whole run, as kept."""

    at: str
    quick: bool
    seed: int
    machine: dict[str, str | int]
    options: dict[str, str | int | float | bool]
    floors: dict[str, dict[str, float]]
    rows: list[Row]
    verdicts: list[Verdict]


def machine(redis_version: str) -> dict[str, str | int]:
    """What the figures depend on; no names of hosts or people."""
    return {
        "cpu": _cpu_model(),
        "cores": len(os.sched_getaffinity(0)),
        "memory_mib": os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") // 2**20,
        "kernel": platform.release().partition("-")[0],
        "python": platform.python_version(),
        "redis": redis_version,
        "commit": _commit(),
    }


def machine_name(found: dict[str, str | int]) -> str:
    """A short name for files: the processor and its cores."""
    model = re.sub(r"[^a-z0-9]+", "-", str(found["cpu"]).lower()).strip("-")
    return f"{model}-{found['cores']}-cores"


def keep(results: Results, folder: Path) -> list[Path]:
    """Writes <date>-<machine>[-quick].json and .md, over those of the same day."""
    folder.mkdir(exist_ok=True)
    stem = f"{results.at[:10]}-{machine_name(results.machine)}{'-quick' * results.quick}"
    json_file, text_file = folder / f"{stem}.json", folder / f"{stem}.md"
    write_json(results, json_file)
    text_file.write_text(markdown(results))
    return [json_file, text_file]


def write_json(results: Results, file: Path) -> None:
    """Everything, rounded to what can be believed."""
    text = msgspec.json.format(msgspec.json.encode(_rounded(msgspec.to_builtins(results))))
    file.write_bytes(text + b"\n")


def markdown(results: Results) -> str:
    """The tables for reading in a repository."""
    told = results.machine
    lines = [
        _heading(results),
        "",
        (
            f"Python {told['python']}, Redis {told['redis']}, Linux {told['kernel']}, commit "
            f"{told['commit']}, seed {results.seed}. Everything on this machine: load generator, "
            "provider simulator, Redis (append-only file, fsync every second), ingress, "
            "dispatchers. CPU in microseconds a message; the total is ingress + dispatch + Redis."
        ),
        "",
        *_md_table(("", "target", "figure", ""), verdict_cells(results.verdicts)),
        "",
        *_md_table((*HEADS, "more"), [row_cells(row) for row in results.rows]),
        "",
        "Floors in the same run:",
        "",
    ]
    for name, floor in results.floors.items():
        lines.append(f"- {name}: {floor['rate']:,.0f}/s, {floor['cpu_us']:.1f} µs CPU")
    lines += ["", "Inside Redis, microseconds (calls) a message:", ""]
    for row in results.rows:
        if row.redis_us and row.scenario in "128":
            told_us = ", ".join(
                f"{name} {us:.1f} ({row.redis_calls[name]:.2f})"
                for name, us in row.redis_us.items()
            )
            lines.append(f"- {row.scenario} {row.name}: {told_us}")
    return "\n".join(lines) + "\n"


def _heading(results: Results) -> str:
    command = f"`make bench{'-quick' * results.quick}`"
    told = results.machine
    return f"# {command}, {results.at[:10]}, {told['cpu']}, {told['cores']} cores"


def show(results: Results, console: Console) -> None:
    """Both tables on a terminal."""
    table = Table(title="What was measured", title_justify="left")
    for head in (*HEADS, "more"):
        table.add_column(head, justify="left" if head in ("scenario", "more") else "right")
    for row in results.rows:
        table.add_row(*row_cells(row))
    console.print(table)
    for name, floor in results.floors.items():
        console.print(f"Floor, {name}: {floor['rate']:,.0f}/s, {floor['cpu_us']:.1f} µs CPU")
    aims = Table(title="Targets on two cores", title_justify="left")
    for head in ("", "target", "figure", ""):
        aims.add_column(head)
    for cells in verdict_cells(results.verdicts):
        aims.add_row(*cells)
    console.print(aims)


def row_cells(row: Row) -> list[str]:
    """The row as text, in the order of HEADS and what more there is."""
    cpu = row.cpu_us
    redis_us = cpu["redis"] + cpu.get("rewrite", 0.0) if cpu else 0.0
    busy = {**cpu, "redis": redis_us}
    kinds = ("total", "ingress", "dispatch", "redis", "simulator", "load")
    more = [
        form.format(row.figures[name]) for name, form in _FIGURES.items() if name in row.figures
    ]
    return [
        f"{row.scenario} {row.name}",
        f"{row.rate:,.0f}",
        *(f"{busy[kind]:.0f}" if cpu else "" for kind in kinds),
        *_latencies(row.accept_ms),
        *_latencies(row.to_provider_ms),
        "; ".join(more),
    ]


def verdict_cells(verdicts: Sequence[Verdict]) -> list[list[str]]:
    """Scenario, target, figure and met or short."""
    words = {True: "met", False: "SHORT", None: ""}
    return [[v.scenario, v.target, v.figure, words[v.met]] for v in verdicts]


def now() -> str:
    """The moment of the run, RFC 3339 UTC."""
    return datetime.datetime.now(datetime.UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def _latencies(found: dict[str, float]) -> tuple[str, str]:
    return (f"{found['p50']:,.1f}", f"{found['p99']:,.1f}") if found else ("", "")


def _md_table(heads: Sequence[str], rows: Sequence[Sequence[str]]) -> list[str]:
    lines = [f"| {' | '.join(heads)} |", f"|{'---|' * len(heads)}"]
    return lines + [f"| {' | '.join(cells)} |" for cells in rows]


def _rounded(value: object) -> object:
    if isinstance(value, float):
        return round(value, 4)
    if isinstance(value, dict):
        return {key: _rounded(each) for key, each in value.items()}
    if isinstance(value, list):
        return [_rounded(each) for each in value]
    return value


def _cpu_model() -> str:
    for line in Path("/proc/cpuinfo").read_text().splitlines():
        if line.startswith("model name"):
            return line.partition(":")[2].strip()
    return platform.machine()


def _commit() -> str:
    """The commit measured, with a plus sign when the tree had changes; "unknown" outside git."""
    told = subprocess.run(
        ["git", "describe", "--always", "--dirty=+"], capture_output=True, text=True, check=False
    )
    return told.stdout.strip() or "unknown"
