"""The scenarios in which links are followed: what a click costs, and whom a storm of them delays.

As those in `scenarios` are.
"""

from __future__ import annotations

from bench.measure import (
    Load,
    Mark,
    Row,
    await_samples,
    post,
    require_accepted,
    row,
    spec_for,
    to_provider_ms,
)
from bench.processes import BenchFailed
from bench.shared import Bench
from bench.waiting import until
from bench.world import World

CLICKS_WAIT_S = 60.0
CLICKERS = 64  # connections of a storm
CODE_RATE = 50.0
AHEAD_S = 2  # before the codes the storm begins


def following(bench: Bench) -> list[Row]:
    """12: one link, followed by everybody at once on kept connections."""
    count, warm = bench.sizes.messages, bench.sizes.warm
    name = "a link is followed"
    with bench.world() as world, bench.progress(f"12 {name}", count) as progress:
        code = _made(world)
        how = {"mode": "follow", "path": f"/l/{code}", "samples": 0}
        post(world, spec_for(world, messages=warm, **how))
        begin, result = post(world, spec_for(world, messages=count, **how), progress)
        found = row("12", name, count, begin, Mark(world), result)
        _await_clicks(world, code, warm + count)
        found.ledger = world.reconcile(0)
    return [found]


def storm(bench: Bench) -> list[Row]:
    """13: codes at a constant rate beside a campaign, without and with a storm on one link."""
    sizes = bench.sizes
    waiting, count = sizes.storm_waiting, int(CODE_RATE * sizes.otp_seconds)
    clicks = sizes.storm_rate * (sizes.otp_seconds + AHEAD_S)
    storm_name = f"the same and {sizes.storm_rate:,} clicks/s"
    with (
        bench.world(rate=sizes.storm_provider_rate, dispatchers=0) as world,
        bench.progress("13 codes beside clicks", waiting + 2 * count) as progress,
    ):
        post(world, spec_for(world, mode="stream", messages=waiting, connections=1))
        world.start_dispatcher()
        world.await_sent(sizes.warm)
        calm = _codes(world, "codes beside a campaign", waiting, count)
        code = _made(world)
        spec = spec_for(
            world,
            mode="follow",
            path=f"/l/{code}",
            samples=0,
            rate=float(sizes.storm_rate),
            connections=CLICKERS,
            messages=clicks,
        )
        with Load(spec) as load:
            load.go()
            until("the storm has begun", lambda: _clicks(world, code) > 0, CLICKS_WAIT_S)
            stormy = _codes(world, storm_name, waiting + count, count)
            followed = load.result()
        require_accepted(followed, clicks)
        stormy.figures |= {
            "clicks_rate": clicks / followed.seconds,
            "clicks_p99_ms": followed.p99_ms,
            "campaign_left": waiting + 2 * count - world.sent(),
            "p99_to_calm": _whole_ms(stormy) / max(_whole_ms(calm), 1.0),
        }
        _await_clicks(world, code, clicks)
        world.await_provider(waiting + 2 * count, progress)
        stormy.ledger = world.reconcile(waiting + 2 * count)
    return [calm, stormy]


def _codes(world: World, name: str, first: int, count: int) -> Row:
    """Sends codes to people from `first`; how long they took to the provider."""
    spec = spec_for(
        world,
        mode="single",
        category="otp",
        campaign="",
        messages=count,
        first=first,
        rate=CODE_RATE,
        samples=count,
        connections=16,
    )
    begin, result = post(world, spec)
    end = Mark(world)
    await_samples(world, result)
    found = row("13", name, count, begin, end, result)
    found.cpu_us = {}  # of the whole world, so it says nothing about a code
    found.to_provider_ms = to_provider_ms(world, result)
    found.figures["code_p99_ms"] = _whole_ms(found)
    return found


def _whole_ms(row: Row) -> float:
    """From when a code was due to the provider: no more than both parts' p99 together."""
    return row.accept_ms["p99"] + row.to_provider_ms["p99"]


def _made(world: World) -> str:
    made = world.call("/v1/links", {"url": "https://shop.example/autumn"}, method="POST")
    code: str = made["code"]
    return code


def _clicks(world: World, code: str) -> int:
    found: int = world.call(f"/v1/links/{code}")["clicks"]
    return found


def _await_clicks(world: World, code: str, clicks: int) -> None:
    """Returns once each is counted; one too many is a fault."""

    def counted() -> bool:
        found = _clicks(world, code)
        if found > clicks:
            raise BenchFailed(f"Of {clicks} clicks {found} are counted.")
        return found == clicks

    until(f"{clicks} clicks are counted", counted, CLICKS_WAIT_S)
