"""The scenarios: what is set up, loaded and measured in each. Every one is a function from a
`Bench` to its rows, in a world of its own, and ends by holding ledger and bill against each other.

A scenario that cannot be believed (a message refused, lost or billed differently) raises
BenchFailed; a figure that is merely poor is a result.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from typing import Any

from bench.following import following, storm
from bench.measure import (
    Load,
    Mark,
    Row,
    await_samples,
    cpu_us,
    post,
    require_accepted,
    row,
    spec_for,
)
from bench.measure import to_provider_ms as to_provider
from bench.redis_server import RedisServer, replay
from bench.services import mails, notifications, texts
from bench.shared import Bench
from bench.sizes import SINGLE_CONNECTIONS
from bench.stack import CALLBACK_TOKEN, VIBER
from bench.waiting import until
from bench.webhooks import webhooks
from bench.world import SETTLE_S_MAX, VIBER_COST, World

SINGLE_ANSWER_MS = 40  # scenario 8: so slow that connections, not CPU, bound it
OTP_RATE = 50.0
LIMIT_BATCH = 100


def single_posts(bench: Bench) -> list[Row]:
    """1: single posts on 32 kept connections, whole life."""
    return [_whole_life(bench, "1", "single posts, whole life", mode="single")]


def stream(bench: Bench) -> list[Row]:
    """2: one NDJSON stream, whole life."""
    return [_whole_life(bench, "2", "stream, whole life", mode="stream", connections=1)]


def _whole_life(bench: Bench, number: str, name: str, **how: Any) -> Row:
    warm, count = bench.sizes.warm, bench.sizes.messages
    with bench.world() as world, bench.progress(f"{number} {name}", warm + count) as progress:
        post(world, spec_for(world, messages=warm, users=bench.users, **how))
        world.await_provider(warm, progress)
        written = world.redis.written()
        spec = spec_for(world, messages=count, first=warm, users=bench.users, **how)
        begin, result = post(world, spec)
        world.await_provider(warm + count, progress)
        found = row(number, name, count, begin, Mark(world), result)
        found.figures["accepted_rate"] = count / result.seconds
        found.to_provider_ms = to_provider(world, result)
        found.ledger = world.reconcile(warm + count)
    floor = _replayed(bench, written, warm)
    bench.floors[f"redis, the writes of scenario {number}"] = floor
    redis_us = found.cpu_us["redis"]
    found.figures["file_bytes"] = len(written) / warm
    found.figures["redis_to_floor"] = redis_us / floor["cpu_us"]
    return found


def _replayed(bench: Bench, written: bytes, messages: int) -> dict[str, float]:
    """The floor of Redis: the same writes again, in the same transactions, pipelined."""
    bench.worlds += 1
    server = RedisServer(bench.folder / f"replay-{bench.worlds}", {})
    try:
        server.await_ready()
        return replay(server, written, messages)
    finally:
        server.stop()


def accept_only(bench: Bench) -> list[Row]:
    """3: acceptance with no dispatcher, both ways; one that starts later sends what waited."""
    warm, count = bench.sizes.warm, bench.sizes.messages
    rows: list[Row] = []
    with (
        bench.world(dispatchers=0) as world,
        bench.progress("3 accept only", 2 * count) as progress,
    ):
        post(world, spec_for(world, mode="stream", messages=warm, connections=1))
        accepted = warm
        for name, how in (
            ("accept only, stream", {"mode": "stream", "connections": 1}),
            ("accept only, single posts", {"mode": "single"}),
        ):
            spec = spec_for(world, messages=count, first=accepted, users=bench.users, **how)
            begin, result = post(world, spec)
            rows.append(row("3", name, count, begin, Mark(world), result))
            accepted += count
        begin = Mark(world)
        world.start_dispatcher()
        world.await_provider(accepted, progress)
        rows.append(row("3", "what waited, sent and receipted", accepted, begin, Mark(world)))
        rows[-1].ledger = world.reconcile(accepted)
    floor = bench.floors.get("bare server")
    if floor:
        rows[1].figures["rate_to_bare"] = rows[1].rate / floor["rate"]
    return rows


def receipts(bench: Bench) -> list[Row]:
    """4: delivery receipts alone, one and a hundred a request, with no dispatcher running."""
    count = bench.sizes.messages
    knobs = {"receipt_lost_share": 1.0, "receipt_ms_min": 1, "receipt_ms_max": 10}
    rows: list[Row] = []
    with (
        bench.world(knobs=knobs, viber_share=1.0) as world,
        bench.progress("4 receipts only", 2 * count) as progress,
    ):
        post(world, spec_for(world, mode="stream", messages=2 * count, connections=1), progress)
        world.await_provider(2 * count)
        world.stop_dispatchers()
        known = world.billed()
        lines = [json.dumps([ref, message["to"]]) for ref, message in known.items()]
        for name, part, per_request, connections in (
            ("receipts, 100 a request", lines[:count], 100, 8),
            ("receipts, 1 a request", lines[count:], 1, 32),
        ):
            refs = world.folder / f"refs-{per_request}"
            refs.write_text("\n".join(part))
            spec = spec_for(
                world,
                mode="receipts",
                path=f"/v1/callbacks/{VIBER}?token={CALLBACK_TOKEN}",
                messages=len(part),
                connections=connections,
                refs=str(refs),
                per_request=per_request,
                price=VIBER_COST,
                samples=0,
            )
            begin, result = post(world, spec)
            rows.append(row("4", name, len(part), begin, Mark(world), result))
        rows[-1].ledger = world.reconcile(2 * count)
    floor = bench.floors.get("bare server")
    if floor:
        rows[1].figures["rate_to_bare"] = rows[1].rate / floor["rate"]
    return rows


def otp_under_backlog(bench: Bench) -> list[Row]:
    """5: one-time passwords at a constant rate, with nothing and with a campaign waiting."""
    sizes = bench.sizes
    count, waiting = int(OTP_RATE * sizes.otp_seconds), sizes.otp_waiting
    otp = {"mode": "single", "category": "otp", "campaign": "", "messages": count}
    otp |= {"rate": OTP_RATE, "samples": count, "connections": 16}
    rows: list[Row] = []
    with (
        bench.world(rate=sizes.otp_provider_rate) as world,
        bench.progress("5 OTP under backlog", waiting) as progress,
    ):
        post(world, spec_for(world, mode="stream", messages=sizes.warm, connections=1))
        world.await_provider(sizes.warm)
        first = sizes.warm
        for name in ("OTP, idle", f"OTP while {waiting:,} wait"):
            if rows:
                world.stop_dispatchers()
                spec = spec_for(world, mode="stream", messages=waiting, first=first, connections=1)
                post(world, spec)
                first += waiting
                world.start_dispatcher()
                world.await_sent(first - waiting + sizes.warm // 3)
            begin, result = post(world, spec_for(world, first=first, **otp))
            end = Mark(world)
            first += count
            await_samples(world, result)
            rows.append(row("5", name, count, begin, end, result))
            rows[-1].cpu_us = {}  # of the whole world, so it says nothing about an OTP
            rows[-1].to_provider_ms = to_provider(world, result)
        world.await_provider(first, progress)
        rows[-1].ledger = world.reconcile(first)
    idle, busy = (each.to_provider_ms["p99"] for each in rows)
    rows[1].figures["p99_to_idle"] = busy / max(idle, 1.0)
    return rows


def provider_limit(bench: Bench) -> list[Row]:
    """6: a provider limit shared by several dispatchers: how much of it is used, and the peak."""
    return [_limit_of(bench, dispatchers) for dispatchers in bench.sizes.limit_dispatchers]


def _limit_of(bench: Bench, dispatchers: int) -> Row:
    rate, seconds = bench.sizes.limit_rate, bench.sizes.limit_seconds
    count = rate * seconds
    name = f"limit {rate:,}/s, {dispatchers} dispatcher{'s' * (dispatchers > 1)}"
    with (
        bench.world(
            dispatchers=dispatchers, rate=rate, batch=LIMIT_BATCH, viber_share=1.0
        ) as world,
        bench.progress(f"6 {name}", count) as progress,
    ):
        spec = spec_for(world, mode="stream", messages=count, connections=1)
        with Load(spec) as load:
            begin = Mark(world)
            load.go()
            samples = _watch_provider(world, count, progress)
            require_accepted(load.result(), count)
        world.await_provider(count, progress)
        found = row("6", name, count, begin, Mark(world))
        found.figures["peak_in_a_second"] = world.stats()["admitted_per_s_max"]["viber"]
        found.figures["limit"] = rate
        found.figures["limit_used"] = limit_used(samples, count, rate)
        found.ledger = world.reconcile(count)
    return found


def _watch_provider(
    world: World, count: int, progress: Callable[[float], None]
) -> list[tuple[float, int]]:
    """(moment, messages the provider has) until it has all."""
    samples: list[tuple[float, int]] = []

    def has_all() -> bool:
        asked_s = time.perf_counter()
        messages = world.sent()
        samples.append(((asked_s + time.perf_counter()) / 2, messages))
        progress(messages)
        return messages >= count

    until(f"{count} messages are sent", has_all, SETTLE_S_MAX)
    return samples


def limit_used(samples: list[tuple[float, int]], count: int, rate: int) -> float:
    """The share of the limit that was used while messages waited: from a second after the first
    message, so that what the limit lets through at once does not help, to the last but one look.
    """
    moving = [(at_s, messages) for at_s, messages in samples if 0 < messages < count]
    steady = [each for each in moving if each[0] >= moving[0][0] + 1.0]
    if len(steady) < 2:
        return 0.0
    (began_s, before), (ended_s, after) = steady[0], steady[-1]
    return (after - before) / (ended_s - began_s) / rate


def growth(bench: Bench) -> list[Row]:
    """7: CPU a message and memory with little and with much waiting."""
    rows = [_grown(bench, waiting) for waiting in bench.sizes.growth]
    rows[1].figures["cpu_to_small"] = rows[1].cpu_us["total"] / rows[0].cpu_us["total"]
    return rows


def _grown(bench: Bench, waiting: int) -> Row:
    window = bench.sizes.growth_window
    total = waiting + window
    name = f"{waiting:,} waiting"
    with (
        bench.world(dispatchers=0) as world,
        bench.progress(f"7 {name}", total) as progress,
    ):
        empty_bytes = world.redis.data_bytes()
        fill = spec_for(world, mode="stream", messages=waiting, connections=1, samples=0)
        post(world, fill, progress)
        waiting_bytes = (world.redis.data_bytes() - empty_bytes) / waiting
        more = spec_for(world, mode="stream", messages=window, first=waiting, connections=1)
        begin, result = post(world, more)
        accepted = row("7", name, window, begin, Mark(world), result)
        world.start_dispatcher()
        # A tenth of the window is passed first: the dispatcher's start is not what grows.
        first, sent = _await_receipts(world, window // 10)
        then, sent_then = _await_receipts(world, sent + window)
        drained = cpu_us(first.cpu, then.cpu, sent_then - sent)
        world.await_provider(total, progress)
        accepted.cpu_us = _added(accepted.cpu_us, drained)
        accepted.figures |= {
            "bytes_waiting": waiting_bytes,
            "bytes_final": (world.redis.data_bytes() - empty_bytes) / total,
            "drained_rate": (sent_then - sent) / (then.at_s - first.at_s),
        }
        accepted.ledger = world.reconcile(total)
    return accepted


def _await_receipts(world: World, receipts_taken: int) -> tuple[Mark, int]:
    taken = 0

    def has_taken() -> bool:
        nonlocal taken
        world.check()
        taken = world.stats()["pushed"]["reports"]
        return taken >= receipts_taken

    until(f"{receipts_taken} receipts are taken", has_taken, SETTLE_S_MAX)
    return Mark(world), taken


def _added(one: dict[str, float], other: dict[str, float]) -> dict[str, float]:
    """Both windows together, without a file that Redis happened to write anew in one of them."""
    found = {kind: one[kind] + other[kind] for kind in one}
    found["total"] -= found.pop("rewrite")
    return found


def single_message_provider(bench: Bench) -> list[Row]:
    """8: a provider that takes one message a request and needs a while for each."""
    count, warm = bench.sizes.single, bench.sizes.warm
    knobs = {"answer_ms_min": SINGLE_ANSWER_MS, "answer_ms_max": SINGLE_ANSWER_MS}
    name = f"one message a request, {SINGLE_CONNECTIONS} connections"
    with (
        bench.world(batch=1, connections=SINGLE_CONNECTIONS, knobs=knobs) as world,
        bench.progress(f"8 {name}", warm + count) as progress,
    ):
        post(world, spec_for(world, mode="stream", messages=warm, connections=1))
        world.await_provider(warm, progress)
        spec = spec_for(world, mode="stream", messages=count, first=warm, connections=1)
        with Load(spec) as load:
            begin = Mark(world)
            load.go()
            samples = _watch_provider(world, warm + count, progress)
            result = load.result()
        require_accepted(result, count)
        world.await_provider(warm + count, progress)
        found = row("8", name, count, begin, Mark(world), result)
        found.figures["in_flight"] = in_flight(samples, SINGLE_ANSWER_MS)
        found.ledger = world.reconcile(warm + count)
    return [found]


def in_flight(samples: list[tuple[float, int]], answer_ms: float) -> float:
    """Requests under way at the provider in the run's middle half: rate times time (Little)."""
    begin, end = samples[len(samples) // 4], samples[3 * len(samples) // 4]
    if end[0] <= begin[0]:
        return 0.0
    return (end[1] - begin[1]) / (end[0] - begin[0]) * answer_ms / 1000


SCENARIOS: dict[str, Callable[[Bench], list[Row]]] = {
    "1": single_posts,
    "2": stream,
    "3": accept_only,
    "4": receipts,
    "5": otp_under_backlog,
    "6": provider_limit,
    "7": growth,
    "8": single_message_provider,
    "9": texts,
    "10": mails,
    "11": notifications,
    "12": following,
    "13": storm,
    "14": webhooks,
}
