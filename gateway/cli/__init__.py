"""The command line: `kaskad` and its commands.

Here are words, options, exit codes and the last catch of every failure: 0 done, 2 bad usage or
configuration, 1 anything else, each with plain sentences on stderr. What a command does is in the
folders beside this one, imported when it runs, so that `kaskad --help` answers at once.
"""

from __future__ import annotations

import gc
import os
import sys

INTERRUPTED = 1

try:
    import signal
    from typing import TYPE_CHECKING
except KeyboardInterrupt:  # it takes milliseconds
    os._exit(INTERRUPTED)

if TYPE_CHECKING:
    from types import FrameType

PRIVATE_UMASK = 0o077  # what a command writes is its user's alone


def main() -> None:
    """The console script. Ends the process with the command's exit code."""
    _on_interrupt(INTERRUPTED, b"Interrupted.\n")  # nothing is begun, and half is loaded
    from gateway.cli.lean import load_lean

    load_lean()
    from gateway.cli.app import run
    from gateway.cli.terminal import open_closed, show_anyway, unfailing, whole

    os.umask(PRIVATE_UMASK)
    open_closed()
    sys.stdout, sys.stderr = whole(sys.stdout), unfailing(sys.stderr)
    show_anyway(sys.stdout, sys.stderr)
    told = _end_in_order()
    code = run(sys.argv[1:])
    _on_interrupt(code)
    # The interpreter's last collection walks all that was ever loaded, of which nothing is left to
    # say anything: a fifth of a short command's CPU (2026-11-29).
    gc.freeze()
    if told:
        signal.signal(told[0], signal.SIG_DFL)
        os.kill(os.getpid(), told[0])
    sys.exit(code)


def _on_interrupt(code: int, word: bytes = b"") -> None:
    """From now on ctrl-C ends the process at once, where it is heard at all."""

    def end(_number: int, _frame: object) -> None:
        try:
            os.write(2, word)
        except OSError:
            pass  # nobody listens
        os._exit(code)

    if signal.getsignal(signal.SIGINT) != signal.SIG_IGN:
        signal.signal(signal.SIGINT, end)


def _end_in_order() -> list[int]:
    """From now on ctrl-C is a KeyboardInterrupt, and the signals that end a process are one first,
    so that nothing half done is left behind: the list has which. Roles have ways of their own."""
    told: list[int] = []
    if signal.getsignal(signal.SIGINT) == signal.SIG_IGN:
        return told
    signal.signal(signal.SIGINT, signal.default_int_handler)

    def interrupt(number: int, frame: FrameType | None) -> None:
        if _is_loading(frame):
            # Libraries in C abort where that is interrupted, as DuckDB does.
            signal.signal(number, signal.SIG_DFL)
            signal.raise_signal(number)
        told.append(number)
        signal.raise_signal(signal.SIGINT)

    for number in (signal.SIGTERM, signal.SIGHUP):
        if signal.getsignal(number) == signal.SIG_DFL:
            signal.signal(number, interrupt)
    return told


def _is_loading(frame: FrameType | None) -> bool:
    """Whether a module is being imported."""
    while frame is not None:
        if frame.f_code.co_filename.startswith("<frozen importlib"):
            return True
        frame = frame.f_back
    return False
