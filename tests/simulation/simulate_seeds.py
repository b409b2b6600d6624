"""Runs storms for many seeds: python tests/simulation/simulate_seeds.py --seeds 10000 --first 0

Prints one line a hundred seeds, and for each seed that breaks a rule: the seed, the rule, the
smallest plan of the same seed that still breaks one, and the last of its trace. A line of the trace
is the virtual second and what happened. Exit code 1 when any seed broke a rule.
"""

from __future__ import annotations

import argparse
import multiprocessing
import sys
import time
from pathlib import Path
from typing import Any

import msgspec

HERE = Path(__file__).parent

from tests.simulation.storm import Storm, lived  # noqa: E402
from tests.simulation.storm_plan import PLAIN, Plan  # noqa: E402
from tests.simulation.storm_rules import judge  # noqa: E402

SIMPLER: tuple[dict[str, Any], ...] = (
    {"shards": 1},
    {"dispatchers": 1},
    {"outages": 0},
    {"breaks": 0},
    {"cut_share": 0.0},
    {"slow_share": 0.0},
    {"die_share": 0.0},
    {"still_share": 0.0},
    {"fault_share": 0.0},
    {"clocks_apart_s": 0.0},
    {"resend": False},
    *({name: value} for name, value in PLAIN.items()),
    *({"messages": n} for n in (1, 2, 3, 5, 8, 12)),
)
TRACE_LINES = 60


def broken(plan: Plan) -> tuple[str, list[str], float]:
    """What rule the plan breaks ("" for none), its trace, and the virtual hours it took."""
    worlds: list[Storm] = []
    try:
        lived(plan, worlds)
        judge(worlds[0])
    except Exception as error:
        return _first_line(error), worlds[0].trace if worlds else [], 0.0
    return "", [], worlds[0].hours


def _first_line(error: BaseException) -> str:
    while isinstance(error, BaseExceptionGroup):
        error = error.exceptions[0]
    return f"{type(error).__name__}: {error}".partition("\n")[0][:1_000]


def smallest(plan: Plan) -> Plan:
    """Leaves out of a broken plan whatever it is broken without."""
    for change in SIMPLER:
        simpler = msgspec.structs.replace(plan, **change)
        if simpler != plan and simpler.messages <= plan.messages and broken(simpler)[0]:
            plan = simpler
    return plan


def tell(seed: int) -> str:
    """The report on one seed."""
    plan = Plan.of(seed)
    why = broken(plan)[0]
    if not why:
        return f"seed {seed}: every rule holds"
    least = smallest(plan)
    why_least, trace, _ = broken(least)
    lines = [f"seed {seed}: {why}", f"  smallest: {least}", f"  breaks: {why_least}"]
    return "\n".join([*lines, *(f"  {line}" for line in trace[-TRACE_LINES:])])


def one(seed: int) -> tuple[int, str, float]:
    why, _, hours = broken(Plan.of(seed))
    return seed, why, hours


def main() -> int:
    options = argparse.ArgumentParser(description=__doc__)
    options.add_argument("--seeds", type=int, default=1_000, help="how many")
    options.add_argument("--first", type=int, default=0, help="the first of them")
    options.add_argument("--processes", type=int, default=2)
    options.add_argument("--tell", type=int, default=None, metavar="SEED", help="one, with trace")
    chosen = options.parse_args()
    if chosen.tell is not None:
        print(tell(chosen.tell))  # noqa: T201
        return 0
    began, hours, failed, done = time.monotonic(), 0.0, [], 0
    with multiprocessing.Pool(chosen.processes) as pool:
        seeds = range(chosen.first, chosen.first + chosen.seeds)
        for seed, why, lived_hours in pool.imap_unordered(one, seeds, chunksize=4):
            done += 1
            hours += lived_hours
            if why:
                failed.append(seed)
                print(f"seed {seed}: {why}", flush=True)  # noqa: T201
            if done % 100 == 0 or done == chosen.seeds:
                minutes = (time.monotonic() - began) / 60
                print(  # noqa: T201
                    f"{done} seeds, {hours:.0f} virtual hours in {minutes:.1f} minutes, "
                    f"{len(failed)} broken",
                    flush=True,
                )
    for seed in failed[:3]:
        print(tell(seed))  # noqa: T201
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
