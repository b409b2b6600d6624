"""Runs storms for many seeds: python tests/simulation/simulate_seeds.py --seeds 10000 --first 0

Prints one line a hundred seeds, and for each seed that breaks a rule: the seed, the rule, the
smallest plan of the same seed that still breaks one, and the last of its trace. A line of the trace
is the virtual second and what happened. The last line says what the storms met: why messages and
steps ended, what held them, and what people did. Exit code 1 when any seed broke a rule.
"""

from __future__ import annotations

import argparse
import multiprocessing
import sys
import time
from collections import Counter
from pathlib import Path
from typing import Any, NamedTuple

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


class Lived(NamedTuple):
    """What rule a plan breaks ("" for none), its trace, the virtual hours it took, and how often
    what was met."""

    why: str
    trace: list[str]
    hours: float
    met: Counter[str]


def broken(plan: Plan) -> Lived:
    worlds: list[Storm] = []
    try:
        lived(plan, worlds)
        judge(worlds[0])
    except Exception as error:
        return Lived(_first_line(error), worlds[0].trace if worlds else [], 0.0, Counter())
    return Lived("", [], worlds[0].hours, met(worlds[0]))


def met(storm: Storm) -> Counter[str]:
    """What there was of a storm that kept every rule."""
    found: Counter[str] = Counter()
    for message in storm.messages().values():
        skipped = [s.fault.code for s in message.steps if s.fault and not s.attempts]
        found.update({f"skipped: {code}" for code in skipped})
        found.update({f"ended: {message.reason}"} if message.reason else ())
        found["reacted"] += bool(message.reaction)
        found["a second leg"] += any(step.leg for step in message.steps)
        found["a zone known later"] += message.tz is not None
    found["one person"] += len(storm.people.joined)
    found["an address that left"] += len(storm.people.parted)
    found["STOP"] += len(storm.people.stopped)
    found["a pause"] += len(storm.campaigns.still)
    found["a cancel"] += len(storm.campaigns.cancelled_s)
    found["refused"] += storm.callers.refused
    return +found


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
    again = broken(least)
    lines = [f"seed {seed}: {why}", f"  smallest: {least}", f"  breaks: {again.why}"]
    return "\n".join([*lines, *(f"  {line}" for line in again.trace[-TRACE_LINES:])])


def one(seed: int) -> tuple[int, Lived]:
    return seed, broken(Plan.of(seed))._replace(trace=[])


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
    began, hours, failed, done, every = time.monotonic(), 0.0, [], 0, Counter[str]()
    with multiprocessing.Pool(chosen.processes) as pool:
        seeds = range(chosen.first, chosen.first + chosen.seeds)
        for seed, days in pool.imap_unordered(one, seeds, chunksize=4):
            done += 1
            hours += days.hours
            every += days.met
            if days.why:
                failed.append(seed)
                print(f"seed {seed}: {days.why}", flush=True)  # noqa: T201
            if done % 100 == 0 or done == chosen.seeds:
                minutes = (time.monotonic() - began) / 60
                print(  # noqa: T201
                    f"{done} seeds, {hours:.0f} virtual hours in {minutes:.1f} minutes, "
                    f"{len(failed)} broken",
                    flush=True,
                )
    print("met: " + ", ".join(f"{what} {count}" for what, count in every.most_common()))  # noqa: T201
    for seed in failed[:3]:
        print(tell(seed))  # noqa: T201
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
