"""How many processes, Redis masters and bytes a load needs, from the costs that a run measured.

    python -m bench.sizing bench/results/<date>-<machine>.json --messages 10000000 --hours 1
    python -m bench.sizing bench/results/<date>-<machine>.json --messages 1000000000 --hours 24

Plain multiplication of scenario 2 (--way stream) or 1 (--way single) and scenario 7, so it is as
good as they are and as linear as the system: it says nothing of networks, of a provider's own
limit, or of a Redis whose file lies on a slow disk. More than one master is a Redis Cluster, where
a message costs more than on one (docs/scaling.md). Knobs: --busy (how much of a core a process may
be used on average), --retention-days, --waiting (messages that may wait at once; default: one
hour's), --fallback (share of messages that need a second step, counted as a second message's
dispatch and receipt), --master-gib (memory a Redis master may hold).
"""

from __future__ import annotations

import argparse
import math
import sys
from collections.abc import Sequence
from pathlib import Path

import msgspec

SHARDS_A_MASTER = 4  # a few, so that masters can be added by moving shards
FILE_TIMES = 2.0  # the append-only file is written anew when it has doubled


class Costs(msgspec.Struct, frozen=True):
    """What one message costs: microseconds of CPU, bytes of memory and of the append-only file."""

    ingress_us: float
    dispatch_us: float
    redis_us: float
    waiting_bytes: float
    final_bytes: float
    file_bytes: float


class Demand(msgspec.Struct, frozen=True, kw_only=True):
    """The load: `messages` spread evenly over `hours`; shares are 0 to 1."""

    messages: int
    hours: float
    busy: float = 0.6
    fallback: float = 0.0
    retention_days: float = 30.0
    waiting: int | None = None
    master_gib: float = 16.0


class Size(msgspec.Struct, frozen=True):
    """What it takes; memory and file figures are of all masters together."""

    rate: float
    ingress: int
    dispatchers: int
    masters_for_cpu: int
    masters_for_memory: int
    shards: int
    waiting_gib: float
    final_gib: float
    file_mib_per_s: float
    bound_by: str


class SizingFault(ValueError):
    """The results do not hold what is needed; the sentence says which scenario to run."""


def costs_of(results: dict[str, object], way: str) -> Costs:
    """Reads the costs out of a result file's document. Raises SizingFault."""
    rows = results.get("rows")
    found: dict[str, list[dict[str, dict[str, float]]]] = {}
    for row in rows if isinstance(rows, list) else []:
        found.setdefault(row["scenario"], []).append(row)
    wanted = "2" if way == "stream" else "1"
    if wanted not in found or "7" not in found:
        raise SizingFault(f"The results lack scenario {wanted} or 7: run `make bench` as a whole.")
    life, grown = found[wanted][0], found["7"][-1]["figures"]
    cpu = life["cpu_us"]
    return Costs(
        ingress_us=cpu["ingress"],
        dispatch_us=cpu["dispatch"],
        redis_us=cpu["redis"] + cpu["rewrite"],
        waiting_bytes=grown["bytes_waiting"],
        final_bytes=grown["bytes_final"],
        file_bytes=life["figures"]["file_bytes"],
    )


def size(costs: Costs, demand: Demand) -> Size:
    """Pure arithmetic, rounded up to whole processes."""
    rate = demand.messages / demand.hours / 3_600
    steps = 1 + demand.fallback
    # A fallback is sent, receipted and written like a message, but accepted only once; which part
    # of ingress is receipts depends on the way in, so all of it is counted: a safe bound.
    cores = {
        "ingress": rate * costs.ingress_us * steps / 1e6,
        "dispatch": rate * costs.dispatch_us * steps / 1e6,
        "Redis": rate * costs.redis_us * steps / 1e6,
    }
    waiting = demand.waiting if demand.waiting is not None else math.ceil(rate * 3_600)
    waiting_gib = waiting * costs.waiting_bytes / 2**30
    per_day = rate * 86_400 if demand.hours >= 24 else demand.messages
    final_gib = per_day * demand.retention_days * costs.final_bytes / 2**30
    masters_for_cpu = max(1, math.ceil(cores["Redis"] / demand.busy))
    masters_for_memory = max(1, math.ceil((waiting_gib + final_gib) / demand.master_gib))
    return Size(
        rate=rate,
        ingress=max(1, math.ceil(cores["ingress"] / demand.busy)),
        dispatchers=max(1, math.ceil(cores["dispatch"] / demand.busy)),
        masters_for_cpu=masters_for_cpu,
        masters_for_memory=masters_for_memory,
        shards=SHARDS_A_MASTER * max(masters_for_cpu, masters_for_memory),
        waiting_gib=waiting_gib,
        final_gib=final_gib,
        file_mib_per_s=rate * steps * costs.file_bytes * FILE_TIMES / 2**20,
        bound_by=max(cores, key=lambda kind: cores[kind]),
    )


def told(costs: Costs, demand: Demand, found: Size) -> str:
    """The answer in words."""
    return (
        f"{demand.messages:,} messages in {demand.hours:g} h are {found.rate:,.0f} a second.\n"
        f"Costs a message: ingress {costs.ingress_us:.0f} µs, dispatch {costs.dispatch_us:.0f} µs, "
        f"Redis {costs.redis_us:.0f} µs; {costs.waiting_bytes:,.0f} bytes while it waits, "
        f"{costs.final_bytes:,.0f} once final.\n"
        f"With processes busy {demand.busy:.0%} of a core:\n"
        f"  ingress workers    {found.ingress}\n"
        f"  dispatchers        {found.dispatchers}\n"
        f"  Redis masters      {found.masters_for_cpu} for CPU, {found.masters_for_memory} for "
        f"memory at {demand.master_gib:g} GiB each\n"
        f"  redis.shards       {found.shards}\n"
        f"  memory             {found.waiting_gib:,.1f} GiB waiting, {found.final_gib:,.1f} GiB "
        f"final for {demand.retention_days:g} days\n"
        f"  append-only file   {found.file_mib_per_s:,.0f} MiB/s, rewrites included\n"
        f"Most CPU goes to {found.bound_by}.\n"
    )


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m bench.sizing")
    parser.add_argument("results", type=Path, help="a JSON file of bench/results")
    parser.add_argument("--messages", type=int, required=True)
    parser.add_argument("--hours", type=float, required=True)
    parser.add_argument("--way", choices=["stream", "single"], default="stream")
    parser.add_argument("--busy", type=float, default=0.6)
    parser.add_argument("--fallback", type=float, default=0.0)
    parser.add_argument("--retention-days", type=float, default=30.0)
    parser.add_argument("--waiting", type=int)
    parser.add_argument("--master-gib", type=float, default=16.0)
    options = vars(parser.parse_args(arguments))
    file, way = options.pop("results"), options.pop("way")
    try:
        costs = costs_of(msgspec.json.decode(file.read_bytes(), type=dict[str, object]), way)
        demand = Demand(**options)
        sys.stdout.write(told(costs, demand, size(costs, demand)))
    except (OSError, msgspec.MsgspecError, SizingFault, KeyError) as fault:
        sys.stderr.write(f"Cannot size from {file}: {fault}\n")
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
