"""Messages a second, CPU a message and latencies of the whole system, and how far from its floors.

    make bench                      every scenario, some five minutes
    make bench-quick                the same with few messages, under a minute: does it still run?
    python bench/lifecycle.py --help
    make bench ARGS="--scenario 2 --scenario 7 --messages 100000"

Starts real processes on the loopback (Redis with its append-only file, `kaskad simulate` as the
provider, `kaskad serve`, `kaskad dispatch`), loads them from a process of its own, and reads CPU
time from /proc. Claims, caps, receipts, prices, ledger and provider limits are on in every figure,
and every scenario ends by holding the ledger against the provider's bill: one unit of difference,
one message lost or sent twice, and the run fails with exit code 1.

Knobs: --messages (how many scenarios 1 to 4 send, and four times what 8 does), --scenario
(repeatable), --quick, --seed, --workers (ingress processes), --viber-share (below 1 a share of
messages falls back to SMS: two sends, two receipts), --users (messages carry a user id), --seen
(every Viber message is seen, and its step waits for that: two receipts a message), --json FILE,
--keep (leave the worlds' folders with logs and Redis data), --no-save.

How to read a line of the result: "messages/s" is work done a second from the first byte posted to
the last receipt durable (accept only: to the last answer). "µs" are CPU microseconds a message:
total = ingress + dispatch + Redis; the simulator and the load generator stand apart although they
share the cores. "accept" is from post to answer, "to provider" from answer to arrival at the
provider. README.md beside this file says what to turn when a figure is poor.
"""

from __future__ import annotations

import argparse
import shutil
import sys
import tempfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import msgspec
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

from bench import report
from bench.floors import bare_server
from bench.measure import Row
from bench.processes import BenchFailed
from bench.redis_server import find_binary
from bench.scenarios import SCENARIOS
from bench.shared import Bench
from bench.sizes import FULL, QUICK, Sizes
from bench.targets import verdicts

RESULTS = Path(__file__).resolve().parent / "results"
BARE_REQUESTS = 40_000
BARE_REQUESTS_QUICK = 10_000


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs the chosen scenarios; 0 done, 1 a run that cannot be believed, 2 bad usage."""
    options = _options(arguments)
    console = Console(stderr=True)
    chosen = options.scenario or list(SCENARIOS)
    folder = Path(tempfile.mkdtemp(prefix="kaskad-bench-"))
    rows: list[Row] = []
    try:
        with Progress(
            TextColumn("{task.description}"),
            BarColumn(),
            MofNCompleteColumn(),
            TimeElapsedColumn(),
            console=console,
        ) as progress:
            bench = _bench(options, folder, progress)
            requests = BARE_REQUESTS_QUICK if options.quick else BARE_REQUESTS
            bench.floors["bare server"] = bare_server(folder, requests)
            for number in chosen:
                rows += SCENARIOS[number](bench)
    except BenchFailed as fault:
        sys.stderr.write(f"The benchmark failed: {fault}\n")
        options.keep = True
        return 1
    finally:
        if options.keep:
            sys.stderr.write(f"Logs and data are in {folder}\n")
        else:
            shutil.rmtree(folder, ignore_errors=True)
    _tell(options, bench, rows)
    return 0


def _tell(options: argparse.Namespace, bench: Bench, rows: list[Row]) -> None:
    results = report.Results(
        at=report.now(),
        quick=options.quick,
        seed=options.seed,
        machine=report.machine(find_binary()[1]),
        options={
            "messages": bench.sizes.messages,
            "workers": options.workers,
            "viber_share": options.viber_share,
            "users": options.users,
            "seen": options.seen,
        },
        floors=bench.floors,
        rows=rows,
        verdicts=verdicts(rows),
    )
    out = Console()
    report.show(results, out if out.is_terminal else Console(width=200))
    if options.json is not None:
        report.write_json(results, options.json)
    if options.scenario is None and not options.no_save:
        for file in report.keep(results, RESULTS):
            sys.stdout.write(f"Kept {file}\n")


def _options(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="bench/lifecycle.py", description=__doc__.split("\n")[0])
    parser.add_argument("--messages", type=_count, help="messages a scenario (default 50000)")
    parser.add_argument("--scenario", action="append", choices=list(SCENARIOS), help="repeatable")
    parser.add_argument("--quick", action="store_true", help="few messages, under a minute")
    parser.add_argument("--seed", type=int, default=1, help="of the simulator's draws")
    parser.add_argument("--workers", type=_count, default=1, help="ingress processes")
    parser.add_argument("--viber-share", type=float, default=1.0, help="the rest falls back to SMS")
    parser.add_argument("--users", action="store_true", help="messages carry a user id")
    parser.add_argument(
        "--seen", action="store_true", help="each is seen, and its step waits for it"
    )
    parser.add_argument("--json", type=Path, metavar="FILE", help="also write the results there")
    parser.add_argument("--keep", action="store_true", help="leave logs and Redis data")
    parser.add_argument("--no-save", action="store_true", help="write nothing to bench/results")
    return parser.parse_args(arguments)


def _count(text: str) -> int:
    number = int(text)
    if number < 1:
        raise argparse.ArgumentTypeError(f"{text} is not at least 1")
    return number


def _bench(options: argparse.Namespace, folder: Path, progress: Progress) -> Bench:
    @contextmanager
    def show(name: str, total: int) -> Iterator[Callable[[float], None]]:
        task = progress.add_task(name, total=total)
        yield lambda done: progress.update(task, completed=done)
        progress.update(task, completed=total)

    return Bench(
        sizes=_sizes(options),
        folder=folder,
        seed=options.seed,
        viber_share=options.viber_share,
        users=options.users,
        workers=options.workers,
        seen=options.seen,
        progress=show,
    )


def _sizes(options: argparse.Namespace) -> Sizes:
    usual = QUICK if options.quick else FULL
    if options.messages is None:
        return usual
    return msgspec.structs.replace(
        usual,
        messages=options.messages,
        warm=max(1, min(usual.warm, options.messages)),
        single=max(1, options.messages // 4),
    )


if __name__ == "__main__":
    sys.exit(main())
