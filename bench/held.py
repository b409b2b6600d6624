"""What messages cost while they wait for their campaign, and how fast a pause, a resume and a
cancel of very many of them take hold.

    python -m bench.held                        20,000 messages, about five minutes on two cores
    python -m bench.held --scheduled            the same, all of them for one moment
    python -m bench.held --messages 1000000     about 40 minutes, and 1 GB for Redis

One ingress worker, one dispatcher, Redis and the simulator as real processes. A campaign with a
pace of one message a second takes all messages; so all but a few wait. Then it is paused, resumed
and cancelled. With --scheduled each message has the same `send_at`, and goes out from then on at a
pace of a hundred a second. One line a figure, Markdown; docs/scaling.md has them. Times are those
of a caller that polls, CPU is that of --idle-s seconds, told a minute, beside that of the same time
before there was any message. What goes out when it must not, or is not cancelled, or does not keep
its pace, is a BenchFailed, exit code 1.
"""

from __future__ import annotations

import argparse
import datetime
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path

from bench.months import Caller, campaign
from bench.processes import BenchFailed
from bench.waiting import until
from bench.world import Cpu, Plan, World

MESSAGES = 20_000
IDLE_S = 60.0
NAME = "autumn"
PACE = "60/m"
TAKES_HOLD_S = 2.0  # as CONTRACT.md section 8 says
CANCEL_S_MAX = 3_600.0
SCHEDULED_PER_S = 100  # once its moment has come
RELEASED_S = 30.0  # of that is measured
PACE_SHARE_MIN = 0.9  # of its pace: a crowded machine falls behind
ACCEPTED_PER_S_MIN = 500  # so that the moment is not there before all are accepted

Figure = tuple[str, str]


def measure(world: World, messages: int, idle_s: float) -> Iterator[Figure]:
    """The campaign's life, a figure at a time."""
    yield from _accept(world, messages, idle_s, PACE, {})
    yield f"CPU a minute at {PACE}", _cpu(world, idle_s)
    yield from _pause(world, idle_s)
    yield from _resume(world)
    yield from _cancel(world)


def scheduled(world: World, messages: int, idle_s: float) -> Iterator[Figure]:
    """Messages for one moment, a figure at a time."""
    due_s = time.time() + messages / ACCEPTED_PER_S_MIN + 2 * idle_s + TAKES_HOLD_S
    due = datetime.datetime.fromtimestamp(due_s, datetime.UTC).isoformat()
    pace = f"{60 * SCHEDULED_PER_S}/m"
    yield from _accept(world, messages, idle_s, pace, {"send_at": due})
    yield "CPU a minute while scheduled", _cpu(world, idle_s)
    if time.time() > due_s:
        raise BenchFailed(f"It took longer than foreseen: it was due {due}.")
    until("their moment comes", lambda: time.time() > due_s, due_s - time.time() + TAKES_HOLD_S)
    if _sent(world) > SCHEDULED_PER_S:
        raise BenchFailed("A scheduled message was sent before its moment.")
    first_s = _seconds(lambda: until("a message goes out", lambda: _sent(world)))
    yield "their moment", f"sent after {first_s:.1f} s"
    yield from _released(world, pace)


def _released(world: World, pace: str) -> list[Figure]:
    """How well the pace is kept by what is released."""
    sent, before = _sent(world), world.cpu()
    took_s = _seconds(lambda: time.sleep(RELEASED_S))  # the time that is measured
    rate = (_sent(world) - sent) / took_s
    most = SCHEDULED_PER_S * (1 + 1 / took_s)  # and a second's worth at once
    if not PACE_SHARE_MIN * SCHEDULED_PER_S <= rate <= most:
        raise BenchFailed(f"Released at {rate:.1f} a second, with a pace of {pace}.")
    cpu = _cpu_a_minute(before, world.cpu(), took_s)
    return [("released", f"{rate:.1f} a second"), (f"CPU a minute at {pace}", cpu)]


def _accept(
    world: World, messages: int, idle_s: float, pace: str, said: Mapping[str, str]
) -> Iterator[Figure]:
    """A campaign takes all messages, of each of which that is `said`."""
    caller = Caller(world)
    _put(world, pace=pace)
    yield "CPU a minute without a message", _cpu(world, idle_s)
    before = _used(world)
    began = time.perf_counter()
    for request in campaign(messages, lambda _: NAME):
        caller.accept([body | said for body in request])
    rate = messages / (time.perf_counter() - began)
    yield "accepted", f"{messages:,}, {rate:,.0f} a second"
    yield "Redis", f"{(_used(world) - before) / messages:,.0f} bytes a message"


def _pause(world: World, idle_s: float) -> list[Figure]:
    took_s = _put(world, state="paused")
    time.sleep(TAKES_HOLD_S)  # the promise itself: from then on nothing is sent
    sent = _sent(world)
    cpu = _cpu(world, idle_s)
    if _sent(world) != sent:
        raise BenchFailed("A message of a paused campaign was sent.")
    return [
        ("pause", f"answered in {1e3 * took_s:,.0f} ms, nothing sent after {TAKES_HOLD_S:.0f} s"),
        ("CPU a minute while paused", cpu),
    ]


def _resume(world: World) -> list[Figure]:
    sent = _sent(world)
    took_s = _put(world, state="running")
    first_s = _seconds(lambda: until("a message goes out", lambda: _sent(world) > sent))
    return [("resume", f"answered in {1e3 * took_s:,.0f} ms, sent again after {first_s:.1f} s")]


def _cancel(world: World) -> list[Figure]:
    took_s = _put(world, state="cancelled")
    time.sleep(TAKES_HOLD_S)  # likewise
    sent = _sent(world)
    whole_s = TAKES_HOLD_S + _seconds(
        lambda: until(
            "all is cancelled", lambda: not world.campaign(NAME)["cancelling"], CANCEL_S_MAX
        )
    )
    counts = world.campaign(NAME)["counts"]
    if _sent(world) != sent or counts["held"] or counts["queued"]:
        raise BenchFailed(f"The provider has {sent} and more, and the campaign {counts}.")
    figure = (
        f"answered in {1e3 * took_s:,.0f} ms, nothing sent after {TAKES_HOLD_S:.0f} s; "
        f"{counts['cancelled']:,} cancelled in {whole_s:,.0f} s, "
        f"{counts['cancelled'] / whole_s:,.0f} a second"
    )
    return [("cancel", figure)]


def _put(world: World, **said: object) -> float:
    """Changes the campaign; the seconds until that was answered."""
    return _seconds(lambda: world.campaign(NAME, said))


def _seconds(work: Callable[[], object]) -> float:
    began = time.perf_counter()
    work()
    return time.perf_counter() - began


def _sent(world: World) -> int:
    return int(world.stats()["messages"])


def _used(world: World) -> int:
    return int(world.redis.client.info("memory")["used_memory"])


def _cpu(world: World, idle_s: float) -> str:
    """CPU seconds a minute, while nobody asks for anything."""
    before = world.cpu()
    time.sleep(idle_s)  # the time that is measured
    return _cpu_a_minute(before, world.cpu(), idle_s)


def _cpu_a_minute(before: Cpu, after: Cpu, took_s: float) -> str:
    used = Cpu(*(60 * (b - a) / took_s for a, b in zip(before, after, strict=True)))
    return f"dispatch {used.dispatch:.1f} s, Redis {used.redis:.1f} s, ingress {used.ingress:.1f} s"


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="bench.held", description=__doc__.split("\n")[0])
    parser.add_argument("--messages", type=int, default=MESSAGES)
    parser.add_argument("--idle-s", type=float, default=IDLE_S)
    parser.add_argument("--scheduled", action="store_true")
    options = parser.parse_args(arguments)
    try:
        with (
            tempfile.TemporaryDirectory(prefix="kaskad-held-") as folder,
            World(Path(folder) / "held", Plan()) as world,
        ):
            life = scheduled if options.scheduled else measure
            for what, figure in life(world, options.messages, options.idle_s):
                sys.stdout.write(f"| {what} | {figure} |\n")
                sys.stdout.flush()
    except BenchFailed as fault:
        sys.stderr.write(f"The measurement failed: {fault}\n")
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
