"""Several copies of this process: forked, kept running, stopped together.

They are forked because they inherit listening sockets and settings as they are; so this must run in
a process without other threads of work and before any loop. A worker that dies is started again,
for ever, whether it served or not.
"""

from __future__ import annotations

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

_UP = b"u"
_HUNG_UP = b"h"

Body = Callable[[int, Callable[[], None]], None]


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
    """`count` children that each run `body(index, up)`; `up` says that the child serves."""

    def __init__(
        self, count: int, body: Body, stop_within_s: float, changed: Callable[[], bool]
    ) -> None:
        """On SIGHUP `changed` is asked, and with True the children get the signal too."""
        self._body = body
        self._changed = changed
        self._missing = count
        self._up_read, self._up_write = os.pipe()
        self._hung_up_read, self._hung_up_write = os.pipe()
        self._supervisor = Supervisor(
            [
                Child(
                    f"worker-{index}",
                    partial(self._fork, index),
                    stop_within_s=stop_within_s + KILL_AFTER_S,
                    backoff=Backoff(RESTART_DELAY_MIN_S, RESTART_DELAY_MAX_S),
                    served=True,
                )
                for index in range(count)
            ]
        )

    def run(self, ready: Callable[[], None]) -> None:
        """Returns when all children have ended after SIGTERM or SIGINT.

        `ready` is called once, when every child has said that it serves.
        """

        def stop(_number: int, _frame: object) -> None:
            self._supervisor.ask_to_stop()

        def hang_up(_number: int, _frame: object) -> None:
            os.write(self._hung_up_write, _HUNG_UP)

        self._supervisor.listen(self._up_read, partial(self._hear_up, ready))
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
            for fd in (self._up_read, self._up_write, self._hung_up_read, self._hung_up_write):
                os.close(fd)

    def _hear_up(self, ready: Callable[[], None]) -> None:
        said = len(os.read(self._up_read, 4096))
        if self._missing > 0:
            self._missing -= said
            if self._missing <= 0:
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
            os.close(self._up_read)
            os.close(self._hung_up_read)
            self._supervisor.close()
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
