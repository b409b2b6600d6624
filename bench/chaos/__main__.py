"""The fault bench's command line: `make chaos`, `make chaos-quick`, `python -m bench.chaos --help`.

    make chaos                                              faults that last minutes, a storm for
                                                            each of three seeds, the crash matrix
    make chaos ARGS="--messages 70000 --minutes 4"          every fault in every seed
    make chaos ARGS="--beside ../old/.venv/bin/python"      half of the processes are of the version
                                                            that is installed there; storms alone
    make chaos-quick                                        one short run, writes nothing

Exit code 0: all assertions hold and all that was asked for came. 1: an assertion does not hold, or
the bench broke off. 2: bad usage. 3: it cannot be believed, because something did not come, or the
machine was too busy for what took too long. Every fault, and whatever else a storm asks for, must
come at least once over the seeds, and a fault in each whose load is four minutes or more; a quick
run is too short for that and only says what did not come. Best run on a machine that has nothing
else to do: with two cores it takes less than half an hour.
A run that ends with a fault keeps its folder with logs and Redis data. docs/reliability.md is
written by a whole run only (not with --quick, --only, --beside or --no-page).
"""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Sequence
from pathlib import Path

from bench.chaos import audience, clicks, faults, long_faults, matrix, page
from bench.chaos.busy import BUSY_MAX
from bench.chaos.long_faults import LongOutcome
from bench.chaos.matrix import CASES, Row
from bench.chaos.stage import Plan
from bench.chaos.storm import Order, Outcome, folder_of_run, run
from bench.processes import BenchFailed

SEEDS = (1, 2, 3)
MESSAGES = 20_000  # a run
MINUTES = 1.5  # of load, a run
SKEW_MS = 3_000
WAIT_S = 20  # long enough for two look-ups of an answer that was lost
REACT_S = 15  # ... and longer than a step that had left may take to come (`still.LEFT_MS`)
OPENS_S = 20
MATRIX_MESSAGES = 60
QUICK_MESSAGES = 2_500
QUICK_MINUTES = 0.3
QUICK_WAIT_S = 6
QUICK_REACT_S = 3
QUICK_CASES = ("claimed", "window under way", "settled", "clicks_taken")


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs what was asked for; the exit code."""
    options = _options(arguments)
    outcomes: list[Outcome] = []
    rows: list[Row] = []
    long: list[LongOutcome] = []
    seeds = options.seed or (SEEDS[:1] if options.quick else SEEDS)
    try:
        if not (options.only or options.beside):
            long = long_faults.play(seeds, short=options.quick)
        outcomes += [_storm(options, seed) for seed in seeds]
        if not (options.only or options.beside):
            rows = _matrix(options)
    except BenchFailed as fault:
        sys.stderr.write(f"The fault bench failed: {fault}\n")
        return 1
    if options.json is not None:
        options.json.write_bytes(page.as_json(outcomes, rows, long))
    if not (options.quick or options.only or options.beside or options.no_page):
        sys.stdout.write(f"Wrote {page.write(outcomes, rows, long)}\n")
    return verdict(outcomes, rows, long, strict=not options.quick)


def _matrix(options: argparse.Namespace) -> list[Row]:
    cases = tuple(c for c in CASES if not options.quick or c.point in QUICK_CASES)
    with folder_of_run() as (folder, spoil):
        rows = matrix.run(folder, cases, MATRIX_MESSAGES, _tell)
        if any(row.faults for row in rows):
            spoil()
    return rows


def _storm(options: argparse.Namespace, seed: int) -> Outcome:
    order = Order(
        messages=options.messages or (QUICK_MESSAGES if options.quick else MESSAGES),
        seconds=60 * (options.minutes or (QUICK_MINUTES if options.quick else MINUTES)),
        seed=seed,
        only=tuple(options.only),
        plan=Plan(
            wait_s=QUICK_WAIT_S if options.quick else WAIT_S,
            react_s=QUICK_REACT_S if options.quick else REACT_S,
            opens_s=0 if options.quick else OPENS_S,
            skew_ms=SKEW_MS,
            beside=options.beside,
        ),
        routes=audience.ROUTES,
        lively=True,
        follows=True,
    )
    _tell(f"seed {seed}: {order.messages} messages in {order.seconds:.0f} s")
    with folder_of_run() as (folder, spoil):
        outcome = run(order, folder, _tell)
        if outcome.faults:
            spoil()
    return outcome


def verdict(
    outcomes: list[Outcome], rows: list[Row], long: list[LongOutcome], *, strict: bool
) -> int:
    """Prints what the runs come to; the exit code. `strict`: what did not come is a 3."""
    for one in outcomes:
        injected, of = sum(one.injected.values()), len(one.asked)
        sys.stdout.write(
            f"seed {one.seed}: {one.counts['accepted']} accepted of {one.messages}, {injected} "
            f"faults injected, {len(one.injected)} kinds of {of}, "
            f"{len(one.faults)} assertions do not hold\n"
        )
        _tell_clicks(one.counts)
    for row in rows:
        sys.stdout.write(f"killed when {row.point}: {len(row.faults)} assertions do not hold\n")
        _tell_clicks(row.counts)
    for played in long:
        sys.stdout.write(
            f"long faults, seed {played.seed}: {played.counts['accepted']} accepted, the machine "
            f"at most {played.busy:.0%} busy, {len(played.broken)} assertions do not hold\n"
        )
    broken = [fault for each in (*outcomes, *rows) for fault in each.faults]
    broken += [fault for played in long for fault in played.broken]
    for fault in broken:
        sys.stdout.write(f"  {fault}\n")
    doubtful = [fault for played in long for fault in played.doubtful]
    if doubtful:
        sys.stdout.write(
            f"{len(doubtful)} rules on time do not hold, which says nothing: the machine was more "
            f"than {BUSY_MAX:.0%} busy. Run it again when it has nothing else to do.\n"
        )
        sys.stdout.writelines(f"  {fault}\n" for fault in doubtful)
    missing = page.never(outcomes)
    if missing:
        sys.stdout.write(
            f"{len(missing)} things did not come as often as they must; give it more minutes or "
            f"seeds: {', '.join(missing)}\n"
        )
    if broken:
        return 1
    return 3 if doubtful or (missing and strict) else 0


def _tell_clicks(counts: dict[str, int]) -> None:
    found = {name: counts.get(name, 0) for name in clicks.COUNTS}
    if any(found.values()):
        told = ", ".join(f"{count} {name}" for name, count in found.items())
        sys.stdout.write(f"  of the links followed: {told}\n")


def _tell(what: str) -> None:
    sys.stdout.write(f"{time.strftime('%H:%M:%S')} {what}\n")
    sys.stdout.flush()


def _options(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="bench.chaos", description=__doc__.split("\n")[0])
    parser.add_argument("--messages", type=int, help=f"a run (default {MESSAGES})")
    parser.add_argument("--minutes", type=float, help=f"of load, a run (default {MINUTES})")
    parser.add_argument("--seed", type=int, action="append", help="repeatable (default 1, 2, 3)")
    parser.add_argument("--quick", action="store_true", help="one short run, writes no page")
    names = sorted({fault.name for fault in faults.every()})
    parser.add_argument("--only", action="append", default=[], choices=names, metavar="FAULT")
    told = "of another version: the second machine's roles are of that one, as while it is replaced"
    parser.add_argument("--beside", default="", metavar="PYTHON", help=told)
    parser.add_argument("--json", type=Path, metavar="FILE", help="also write the outcomes there")
    parser.add_argument("--no-page", action="store_true", help="leave docs/reliability.md alone")
    return parser.parse_args(arguments)


if __name__ == "__main__":
    sys.exit(main())
