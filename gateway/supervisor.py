"""Child processes of this one: started, watched, started again, stopped together.

One thread watches them all: the caller's (`run`) or one of its own (`start`). It also starts them,
because the kernel ties a child's death signal to the thread that started it. A child that served is
started again whenever it ends, for ever, after a growing, bounded delay; one that ended before it
served is given up. One that does not stop in time is killed, and so is one that hangs: that was
heard of once, and then not for SILENT_LOOKS_MAX looks.
"""

from __future__ import annotations

import contextlib
import os
import selectors
import signal
import socket
import threading
import time
from collections.abc import Callable, Sequence
from typing import Protocol

import structlog

from gateway.backoff import Backoff

STEADY_S = 60.0  # a process that ran this long starts again without having been punished before
KILL_WAIT_S = 5.0
BEAT_S = 1.0  # between two heartbeats of a child, and two looks for them
SILENT_LOOKS_MAX = 15  # looks and not seconds: whoever does not look himself cannot miss a beat
LOOK_EVERY_S = 0.05  # while stopping, and where the kernel does not tell of an end
CANNOT_START = 1  # the exit code of a process that could not be started

_log = structlog.get_logger("supervisor")


class Process(Protocol):
    """A process that was started; `subprocess.Popen` is one."""

    pid: int

    def poll(self) -> int | None:
        """Its exit code once it has ended."""

    def send_signal(self, number: int, /) -> None: ...


class Child:
    """One child: how to start it, its process while there is one, and when the next may start.

    Whoever learns that it serves sets `served`. `last_words` tells why it ended, for the log.
    """

    def __init__(
        self,
        name: str,
        start: Callable[[], Process],
        *,
        stop_within_s: float,
        backoff: Backoff,
        served: bool = False,
        last_words: Callable[[], str] | None = None,
    ) -> None:
        self.name = name
        self.start = start
        self.stop_within_s = stop_within_s
        self.backoff = backoff
        self.served = served
        self.last_words = last_words
        self.given_up = False
        self.starts = 0
        self.started_at = self.start_at = 0.0  # monotonic
        self.process: Process | None = None
        self.silent: int | None = None  # looks since it was heard of; None: it never was
        self.end_fd: int | None = None  # becomes readable when the process ends

    def heard(self) -> None:
        """It works."""
        self.silent = 0


class Supervisor:
    """Some children, from `start` or `run` to `stop`. `ended` is called with each exit code, `beat`
    at each look, `stops` once, before the children are told to stop."""

    def __init__(
        self,
        children: Sequence[Child],
        ended: Callable[[Child, int], None] | None = None,
        beat: Callable[[], None] | None = None,
        stops: Callable[[], None] | None = None,
    ) -> None:
        self.stopping = False
        self._children = tuple(children)
        self._ended = ended
        self._beat = beat
        self._stops = stops
        self._look_at = 0.0  # monotonic
        self._clean = True
        self._thread: threading.Thread | None = None
        self._selector = selectors.DefaultSelector()
        self._wake_read, self._wake_write = socket.socketpair()
        self._wake_read.setblocking(False)
        self._wake_write.setblocking(False)
        self.listen(self._wake_read.fileno(), lambda: self._wake_read.recv(4096))

    def listen(self, fd: int, heard: Callable[[], object]) -> None:
        """Calls `heard` in the watching thread whenever the descriptor can be read."""
        self._selector.register(fd, selectors.EVENT_READ, heard)

    def start(self) -> None:
        """Watches in a thread of its own."""
        self._thread = threading.Thread(target=self.run, name="supervisor", daemon=True)
        self._thread.start()

    def run(self) -> bool:
        """Watches until it is asked to stop, then stops all. True when none had to be killed."""
        try:
            while not self.stopping:
                self._start_due()
                self._wait(self._pause_s())
                self._reap()
                self._look()
            self._stop_all()
        finally:
            self.close()
        return self._clean

    def ask_to_stop(self) -> None:
        """Also for signal handlers."""
        self.stopping = True
        # It may be closed already, or full of such wishes.
        with contextlib.suppress(OSError):
            self._wake_write.send(b"s")

    def stop(self) -> bool:
        """Stops what `start` started and waits for it. True when none had to be killed."""
        self.ask_to_stop()
        if self._thread is not None:
            self._thread.join()
        return self._clean

    def send(self, number: int) -> None:
        """Sends a signal to every process there is."""
        for child in self._children:
            process = child.process
            if process is not None:
                process.send_signal(number)

    def close(self) -> None:
        """Closes what it watches with: at its end, and in a child that was forked."""
        self._selector.close()
        self._wake_read.close()
        self._wake_write.close()
        for child in self._children:
            if child.end_fd is not None:
                os.close(child.end_fd)
                child.end_fd = None

    def _start_due(self) -> None:
        now = time.monotonic()
        for child in self._children:
            if child.process is None and not child.given_up and child.start_at <= now:
                child.starts += 1
                child.started_at = now
                try:
                    child.process = child.start()
                except OSError as fault:
                    _log.error("process_cannot_start", child=child.name, reason=str(fault))
                    self._lost(child, CANNOT_START)
                else:
                    self._watch(child, child.process)

    def _watch(self, child: Child, process: Process) -> None:
        # Where the kernel has no such descriptor, `_pause_s` makes up for it.
        with contextlib.suppress(AttributeError, OSError):
            child.end_fd = os.pidfd_open(process.pid)
            self.listen(child.end_fd, lambda: None)

    def _pause_s(self) -> float:
        """How long nothing is to be done unless something is heard."""
        now = time.monotonic()
        pauses = [
            max(child.start_at - now, 0.0)
            for child in self._children
            if child.process is None and not child.given_up
        ]
        if any(child.process is not None and child.end_fd is None for child in self._children):
            pauses.append(LOOK_EVERY_S)
        return min([max(self._look_at - now, 0.0), *pauses])

    def _look(self) -> None:
        """Kills what hangs; it ends like any other, and is started again."""
        now = time.monotonic()
        if now < self._look_at:
            return
        self._look_at = now + BEAT_S
        if self._beat is not None:
            self._beat()
        for child in self._children:
            if child.process is not None and child.silent is not None:
                child.silent += 1
                if child.silent > SILENT_LOOKS_MAX:
                    _log.error("process_hangs", child=child.name, silent_s=child.silent * BEAT_S)
                    child.silent = None
                    child.process.send_signal(signal.SIGKILL)

    def _wait(self, seconds: float) -> None:
        for key, _ in self._selector.select(seconds):
            key.data()

    def _reap(self) -> None:
        for child in self._children:
            code = None if child.process is None else child.process.poll()
            if code is not None:
                self._lost(child, code)

    def _lost(self, child: Child, code: int) -> None:
        if child.end_fd is not None:
            self._selector.unregister(child.end_fd)
            os.close(child.end_fd)
            child.end_fd = None
        child.process = child.silent = None
        if self._ended is not None:
            self._ended(child, code)
        child.given_up = not child.served
        if self.stopping or child.given_up:
            return
        now = time.monotonic()
        if now - child.started_at > STEADY_S:
            child.backoff.reset()
        delay_s = child.backoff.next_s()
        child.start_at = now + delay_s
        said = {} if child.last_words is None else {"said": child.last_words()}
        _log.warning(
            "process_ended", child=child.name, exit_code=code, restart_in_s=delay_s, **said
        )

    def _stop_all(self) -> None:
        asked = time.monotonic()
        if self._stops is not None:
            self._stops()
        self.send(signal.SIGTERM)
        killed: set[Child] = set()
        while living := {child for child in self._children if child.process is not None}:
            waited_s = time.monotonic() - asked
            if all(waited_s > child.stop_within_s + KILL_WAIT_S for child in living):
                return
            for child in living - killed:
                if waited_s >= child.stop_within_s and child.process is not None:
                    _log.error("process_killed", child=child.name, waited_s=waited_s)
                    child.process.send_signal(signal.SIGKILL)
                    killed.add(child)
                    self._clean = False
            self._wait(LOOK_EVERY_S)
            self._reap()
