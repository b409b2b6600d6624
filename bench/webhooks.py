"""A stream's life without a webhook, calls of one alone, and the same life with it: in one world.

Events that were told to nobody are told by `recover` while nothing else goes on, so the calls are
measured by themselves. The receiver is the bare server, which answers at once and checks nothing.
"""

from __future__ import annotations

import datetime

from bench.floors import start_bare
from bench.measure import Mark, Progress, Row, post, row, spec_for
from bench.processes import BenchFailed
from bench.shared import Bench
from bench.waiting import until
from bench.world import SETTLE_S_MAX, World

NUMBER = "14"
# A queue holds 10,000 events, and a stream is sent about twice as fast as it is told: were there
# more, the oldest would leave it.
AT_ONCE_MAX = 12_500
TRIES = "kaskad_dispatch_webhook_tries_total"
PATH = "/v1/webhooks/bench"


def webhooks(bench: Bench) -> list[Row]:
    """14: a life without a webhook and with one, and its calls alone."""
    count, warm = min(bench.sizes.single, AT_ONCE_MAX), bench.sizes.warm
    with (
        bench.world(tells=True, viber_share=1.0) as world,
        bench.progress("14 webhooks", warm + 2 * count) as progress,
    ):
        return _lives(world, warm, count, progress)


def _lives(world: World, warm: int, count: int, progress: Progress) -> list[Row]:
    """Of `count` messages each; whoever is told, is told once of each that was delivered. Raises
    BenchFailed."""
    with start_bare(world.folder / "receiver.log") as port:
        _live(world, "", warm, 0, progress)
        since = datetime.datetime.now(datetime.UTC).isoformat()
        rows = [_live(world, "stream, whole life, no webhook", count, warm, progress)]
        url = f"http://127.0.0.1:{port}/hooks"
        world.call(PATH, {"url": url, "events": ["message.delivered"]}, method="PUT")
        begin = Mark(world)
        world.call(f"{PATH}/recover", {"since": since}, method="POST")
        until("all is recovered", lambda: _is_idle(world), SETTLE_S_MAX)
        rows.append(row(NUMBER, "a webhook is called", count, begin, Mark(world)))
        _await_tries(world, count)
        told = _live(world, "stream, whole life, each told", count, warm + count, progress, count)
        told.figures["cpu_to_untold"] = told.cpu_us["total"] / rows[0].cpu_us["total"]
        told.ledger = world.reconcile(warm + 2 * count)
        return [*rows, told]


def _live(
    world: World, name: str, count: int, first: int, progress: Progress, tries_before: int = 0
) -> Row:
    """The life of so many; with tries before, until each of them is told as well."""
    spec = spec_for(world, mode="stream", connections=1, messages=count, first=first)
    begin, result = post(world, spec)
    world.await_provider(first + count, progress)
    if tries_before:
        _await_tries(world, tries_before + count)
    return row(NUMBER, name, count, begin, Mark(world), result)


def _is_idle(world: World) -> bool:
    world.check()
    found = world.call(PATH)
    return found["recovering_since"] is None and not found["waiting"]


def _await_tries(world: World, tries: int) -> None:
    """Returns when there were so many; one more, or one that failed, is a fault."""

    def done() -> bool:
        world.check()
        found = world.metric(TRIES)
        if found > tries:
            raise BenchFailed(f"For {tries} events a webhook was called {found:,.0f} times.")
        return found == tries

    until(f"{tries} calls are made", done, SETTLE_S_MAX)
