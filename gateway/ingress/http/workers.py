"""Several copies of this process: forked, kept running, stopped together.

They are forked because they inherit listening sockets and settings as they are; so this must run in
a process without other threads of work and before any loop. A worker that dies is started again,
for ever, whether it served or not. One tells by a pipe that it works; where it does not for long,
it hangs and is killed, and where nobody reads the pipe, its parent is gone.
"""

from __future__ import annotations

import contextlib
import os
import signal
import sys
import traceback
from collections.abc import Callable
from functools import partial

from gateway import hangup
from gateway.backoff import Backoff
from gateway.supervisor import Child, Supervisor

RESTART_DELAY_MIN_S = 0.1
RESTART_DELAY_MAX_S = 10.0
KILL_AFTER_S = 5.0  # beyond the workers' own limit

_HUNG_UP = b"h"

WorkerMain = Callable[[int, Callable[[], None]], None]


class _Fork:
    """A forked process, as a supervisor wants it."""

    def __init__(self, pid: int) -> None:
        self.pid = pid
        self._code: int | None = None

    def poll(self) -> int | None:
        if self._code is None:
            pid, status = os.waitpid(self.pid, os.WNOHANG)
            if pid:
                self._code = os.waitstatus_to_exitcode(status)
        return self._code

    def send_signal(self, number: int, /) -> None:
        if self._code is None:
            os.kill(self.pid, number)


class Workers:
    """`count` children, 256 at most, that each run `body(index, beat)`. The child calls `beat` once
    it serves and every BEAT_S then; it raises BrokenPipeError when the parent is gone."""

    def __init__(
        self,
        count: int,
        body: WorkerMain,
        stop_within_s: float,
        changed: Callable[[], bool],
        beat: Callable[[], None] | None = None,
        stops: Callable[[], None] | None = None,
    ) -> None:
        """On SIGHUP `changed` is asked, and with True the children get the signal too. `beat` is
        called every BEAT_S, `stops` once, before the children are told to stop."""
        self._body = body
        self._changed = changed
        self._missing = set(range(count))
        self._beats_read, self._beats_write = os.pipe()
        os.set_blocking(self._beats_write, False)
        self._hung_up_read, self._hung_up_write = os.pipe()
        self._children = [
            Child(
                f"worker-{index}",
                partial(self._fork, index),
                stop_within_s=stop_within_s + KILL_AFTER_S,
                backoff=Backoff(RESTART_DELAY_MIN_S, RESTART_DELAY_MAX_S),
                served=True,
            )
            for index in range(count)
        ]
        self._supervisor = Supervisor(self._children, beat=beat, stops=stops)

    def run(self, ready: Callable[[], None]) -> None:
        """Returns when all children have ended after SIGTERM or SIGINT.

        `ready` is called once, when every child has said that it serves.
        """

        def stop(_number: int, _frame: object) -> None:
            self._supervisor.ask_to_stop()

        def hang_up(_number: int, _frame: object) -> None:
            os.write(self._hung_up_write, _HUNG_UP)

        self._supervisor.listen(self._beats_read, partial(self._hear_beats, ready))
        self._supervisor.listen(self._hung_up_read, self._hear_hang_up)
        handlers = {signal.SIGTERM: stop, signal.SIGINT: stop, signal.SIGHUP: hang_up}
        before = {number: signal.signal(number, each) for number, each in handlers.items()}
        hangup.release()
        try:
            self._supervisor.run()
        finally:
            hangup.hold()
            for number, handler in before.items():
                signal.signal(number, handler)
            ours = (self._beats_read, self._beats_write, self._hung_up_read, self._hung_up_write)
            for fd in ours:
                os.close(fd)

    def _hear_beats(self, ready: Callable[[], None]) -> None:
        heard = set(os.read(self._beats_read, 4096))
        for index in heard:
            self._children[index].heard()
        if self._missing:
            self._missing -= heard
            if not self._missing:
                ready()

    def _hear_hang_up(self) -> None:
        os.read(self._hung_up_read, 4096)
        if self._changed():
            self._supervisor.send(signal.SIGHUP)

    def _fork(self, index: int) -> _Fork:
        sys.stdout.flush()
        sys.stderr.flush()
        hangup.hold()  # the child listens once it serves
        pid = os.fork()
        if pid == 0:
            self._be_child(index)
        hangup.release()
        return _Fork(pid)

    def _be_child(self, index: int) -> None:
        """Never returns: what a child leaves behind must not run its parent's code."""
        code = 1
        try:
            for number in (signal.SIGTERM, signal.SIGINT):
                signal.signal(number, signal.SIG_DFL)
            os.close(self._beats_read)
            os.close(self._hung_up_read)
            self._supervisor.close()
            self._body(index, partial(self._beat, index))
            code = 0
        except BaseException:
            traceback.print_exc()
        finally:
            sys.stdout.flush()
            sys.stderr.flush()
            os._exit(code)

    def _beat(self, index: int) -> None:
        with contextlib.suppress(BlockingIOError):  # the parent has much to read already
            os.write(self._beats_write, bytes([index]))
