"""The load generator: one process that posts prepared bytes over raw sockets and times the answers.

Lean on purpose, since it shares the machine with what it measures: no HTTP client, no JSON on the
way out, three string searches on the way in. It knows the API from outside only.

    python -m bench.load < SPEC        (one line of JSON, the fields of `Spec`)

prints one JSON object a line: `{"ready": true}`, then waits for a line on stdin, which is the
starting shot; `{"done": N}` four times a second; at last `{"result": {...}}` (`Result`). Anything
that is not an answer (a refused or lost connection, a silent server) ends it with one sentence on
stderr and exit code 1, because figures of a run with holes would be no figures.

Closed model (rate 0): each connection posts again when it was answered, so it finds the highest
rate. Open model (rate > 0): arrivals keep their time whatever the server does, wait here when all
connections are busy, and count from the moment they were due, so that queueing shows.
"""

from __future__ import annotations

import asyncio
import gc
import os
import sys
import time
from typing import Any

import msgspec
import uvloop

from bench.load_bodies import follow_of, messages_of, receipts_of
from bench.load_posts import Posts
from bench.load_spec import LoadFailed, Result, Spec, Tally, percentile
from bench.load_stream import Streams

PROGRESS_S = 0.25


async def run(spec: Spec) -> Result:
    """Generates the load of `spec` after a line on stdin. Raises LoadFailed and OSError."""
    tally = Tally(spec)
    load: Posts | Streams
    if spec.mode == "stream":
        load = Streams(spec, messages_of(spec), tally)
    elif spec.mode == "single":
        load = Posts(spec, messages_of(spec).request, spec.messages, tally)
    elif spec.mode == "follow":
        followed = follow_of(spec)
        load = Posts(spec, lambda _: followed, spec.messages, tally)
    else:
        bodies = receipts_of(spec)
        load = Posts(spec, bodies.__getitem__, len(bodies), tally)
    loop = asyncio.get_running_loop()
    loop.set_exception_handler(lambda _loop, context: load.fail(_sentence(context)))
    await load.connect()
    gc.collect()
    gc.disable()
    _say({"ready": True})
    await loop.run_in_executor(None, sys.stdin.buffer.readline)
    began_s, cpu_began_s = time.perf_counter(), time.process_time()
    ticker = asyncio.ensure_future(_tell_progress(tally))
    try:
        async with asyncio.timeout(spec.seconds_max):
            await load.run()
    except TimeoutError:
        raise LoadFailed(
            f"After {spec.seconds_max} s only {tally.answered} were answered."
        ) from None
    finally:
        ticker.cancel()
    seconds = time.perf_counter() - began_s
    latencies = sorted(tally.latencies_s)
    return Result(
        messages=tally.answered,
        outcomes=tally.outcomes,
        seconds=seconds,
        p50_ms=percentile(latencies, 50) * 1000,
        p99_ms=percentile(latencies, 99) * 1000,
        max_ms=percentile(latencies, 100) * 1000,
        samples=tally.samples,
        cpu_s=time.process_time() - cpu_began_s,
    )


async def _tell_progress(tally: Tally) -> None:
    while True:
        await asyncio.sleep(PROGRESS_S)
        _say({"done": tally.answered})


def _sentence(context: dict[str, Any]) -> str:
    """A bug in a callback must end the load: the loop would only log it and wait for ever."""
    return f"{context.get('message', 'A callback failed')}: {context.get('exception')!r}"


def _say(what: object) -> None:
    line = msgspec.json.encode(what) + b"\n"
    while line:  # Python's own stream is raw when PYTHONUNBUFFERED is set, and then writes a part
        line = line[os.write(1, line) :]


def main() -> int:
    try:
        spec = msgspec.json.decode(sys.stdin.buffer.readline(), type=Spec)
        with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
            result = runner.run(run(spec))
    except (LoadFailed, OSError, msgspec.MsgspecError) as fault:
        sys.stderr.write(f"The load generator stopped: {fault}\n")
        return 1
    _say({"result": result})
    return 0


if __name__ == "__main__":
    sys.exit(main())
