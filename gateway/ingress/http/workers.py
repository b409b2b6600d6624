"""Several copies of this process: forked, watched, started again, stopped together.

Owns child processes and the signals to them; it must not know what they do, and no event loop. It
forks, because the children inherit listening sockets and settings as they are; so it must run in a
process without other threads of work and before any loop. A child that dies is started again, for
ever, with a delay that doubles up to RESTART_DELAY_MAX_S; one that does not stop in time is killed.
"""

from __future__ import annotations

import os
import select
import signal
import socket
import sys
import time
import traceback
from collections.abc import Callable

import structlog

from gateway.backoff import delay_s

RESTART_DELAY_MIN_S = 0.1
RESTART_DELAY_MAX_S = 10.0
STEADY_S = 60.0  # a child that lived this long starts again without having been punished before
KILL_AFTER_S = 5.0  # beyond the children's own limit
LOOK_EVERY_S = 1.0

_SIGNALS = (signal.SIGTERM, signal.SIGINT, signal.SIGCHLD)
_UP = b"u"

Body = Callable[[int, Callable[[], None]], None]

_log = structlog.get_logger("ingress")


class _Child:
    """A worker's place: its process while there is one, and when the next may start."""

    def __init__(self, index: int) -> None:
        self.index = index
        self.pid: int | None = None
        self.started = 0.0
        self.start_at = 0.0
        self.failures = 0


class Workers:
    """`count` children that each run `body(index, up)`; `up` says that the child serves."""

    def __init__(self, count: int, body: Body, stop_within_s: float) -> None:
        self._children = [_Child(index) for index in range(count)]
        self._body = body
        self._stop_within_s = stop_within_s
        self._stopping = False
        self._up_read, self._up_write = os.pipe()
        self._bell_read, self._bell_write = socket.socketpair()

    def run(self, ready: Callable[[], None]) -> None:
        """Returns when all children have ended after SIGTERM or SIGINT.

        `ready` is called once, when every child has said that it serves.
        """
        self._bell_read.setblocking(False)
        self._bell_write.setblocking(False)
        before = {number: signal.signal(number, self._heard) for number in _SIGNALS}
        bell = signal.set_wakeup_fd(self._bell_write.fileno(), warn_on_full_buffer=False)
        try:
            self._watch(ready)
            self._end()
        finally:
            signal.set_wakeup_fd(bell)
            for number, handler in before.items():
                signal.signal(number, handler)
            for end in (self._bell_read, self._bell_write):
                end.close()
            os.close(self._up_read)
            os.close(self._up_write)

    def _heard(self, number: int, _frame: object) -> None:
        if number != signal.SIGCHLD:
            self._stopping = True

    def _watch(self, ready: Callable[[], None]) -> None:
        missing = len(self._children)
        while not self._stopping:
            now = time.monotonic()
            for child in self._children:
                if child.pid is None and child.start_at <= now:
                    self._start(child, now)
            bell = self._bell_read.fileno()
            heard, _, _ = select.select([bell, self._up_read], [], [], LOOK_EVERY_S)
            if bell in heard:
                self._bell_read.recv(4096)
            if self._up_read in heard and missing > 0:
                missing -= len(os.read(self._up_read, missing))
                if missing == 0:
                    ready()
            self._reap(time.monotonic())

    def _start(self, child: _Child, now: float) -> None:
        sys.stdout.flush()
        sys.stderr.flush()
        pid = os.fork()
        if pid == 0:
            self._be_child(child.index)
        child.pid, child.started = pid, now

    def _be_child(self, index: int) -> None:
        """Never returns: what a child leaves behind must not run its parent's code."""
        code = 1
        try:
            signal.set_wakeup_fd(-1)
            for number in _SIGNALS:
                signal.signal(number, signal.SIG_DFL)
            os.close(self._up_read)
            self._bell_read.close()
            self._bell_write.close()
            self._body(index, self._say_up)
            code = 0
        except BaseException:
            traceback.print_exc()
        finally:
            sys.stdout.flush()
            sys.stderr.flush()
            os._exit(code)

    def _say_up(self) -> None:
        os.write(self._up_write, _UP)

    def _reap(self, now: float) -> None:
        for child in self._children:
            if child.pid is None:
                continue
            pid, status = os.waitpid(child.pid, os.WNOHANG)
            if pid == 0:
                continue
            child.pid = None
            if self._stopping:
                continue
            if now - child.started > STEADY_S:
                child.failures = 0
            wait_s = delay_s(child.failures, RESTART_DELAY_MIN_S, RESTART_DELAY_MAX_S)
            child.failures += 1
            child.start_at = now + wait_s
            code = os.waitstatus_to_exitcode(status)
            _log.error("worker_died", pid=pid, code=code, started_again_in_s=wait_s)

    def _end(self) -> None:
        self._signal(signal.SIGTERM)
        deadline = time.monotonic() + self._stop_within_s + KILL_AFTER_S
        while any(child.pid is not None for child in self._children):
            left = deadline - time.monotonic()
            if left <= 0:
                _log.error("workers_killed", advice="they did not stop in time")
                self._signal(signal.SIGKILL)
                deadline = time.monotonic() + KILL_AFTER_S
            heard, _, _ = select.select([self._bell_read], [], [], min(max(left, 0), LOOK_EVERY_S))
            if heard:
                self._bell_read.recv(4096)
            self._reap(time.monotonic())

    def _signal(self, number: int) -> None:
        for child in self._children:
            if child.pid is not None:
                os.kill(child.pid, number)
