"""The simulator as a child process: settings come in on stdin, the port goes out on stdout.

Reads one line of JSON (`Settings`), prints one line `{"port": N}` when it listens, and ends on
SIGTERM or when stdin closes, so that a parent that was killed leaves no orphan. Bad settings: one
sentence on stderr, exit 2.
"""

from __future__ import annotations

import asyncio
import gc
import os
import sys

import msgspec
import uvloop

from providers.simulator.bookfile import BookFault
from providers.simulator.knobs import KnobFault
from providers.simulator.mail.certificate import CertificateFault
from providers.simulator.server import GC_THRESHOLD, Settings, serve, stop_on_signals


async def _serve_child(settings: Settings) -> None:
    stop = asyncio.Event()
    stop_on_signals(stop)
    loop = asyncio.get_running_loop()

    def parent_spoke() -> None:
        if not os.read(sys.stdin.fileno(), 4096):
            loop.remove_reader(sys.stdin.fileno())
            stop.set()

    loop.add_reader(sys.stdin.fileno(), parent_spoke)
    await serve(settings, ready=_announce, stop=stop)


def _announce(port: int) -> None:
    sys.stdout.write(f'{{"port": {port}}}\n')
    sys.stdout.flush()


def main() -> int:
    try:
        settings = msgspec.json.decode(sys.stdin.buffer.readline(), type=Settings)
    except msgspec.MsgspecError as fault:
        sys.stderr.write(f"The settings on stdin cannot be used: {fault}.\n")
        return 2
    gc.set_threshold(*GC_THRESHOLD)
    try:
        with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
            runner.run(_serve_child(settings))
    except KnobFault as fault:
        sys.stderr.write(f"The knob {fault}\n")
        return 2
    except (BookFault, CertificateFault) as fault:
        sys.stderr.write(f"{fault}\n")
        return 2
    return 0


if __name__ == "__main__":
    code = main()
    gc.freeze()  # nothing is looked through once more that ends with the process
    sys.exit(code)
