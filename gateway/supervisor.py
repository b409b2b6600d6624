"""Roles as child processes of one machine: started, watched, started again, stopped together.

Owns processes and their output, nothing of what they do. A role tells that it serves by one line on
the pipe that KASKAD_READY_FD names. One that ends before that was never able to start, so its crew
is told and nothing is tried again; one that ends later is started again, for ever, with a growing,
bounded delay. A role ends with its crew whatever happens to the crew: the kernel sends it SIGTERM.

It knows no event loop. Each role has two threads here: one waits for the process (and started it,
since the kernel ties that SIGTERM to the starting thread), one reads what it says.
"""

from __future__ import annotations

import ctypes
import os
import queue
import selectors
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterable, Mapping
from types import TracebackType
from typing import NamedTuple, Self

import msgspec
import structlog

from gateway.backoff import delay_s

READY_FD = "KASKAD_READY_FD"
PARENT_PID = "KASKAD_PARENT_PID"

RESTART_DELAY_MIN_S = 0.5
RESTART_DELAY_MAX_S = 30.0
STEADY_S = 60.0  # a role that ran this long starts again without having been punished before
KILL_WAIT_S = 5.0
DRAIN_WAIT_S = 2.0  # for the last lines of a process that has ended
READ_BYTES = 65_536
LINE_BYTES_MAX = 65_536  # a longer line of a role's output is cut into several
READY_BYTES_MAX = 4_096
PR_SET_PDEATHSIG = 1


class Role(msgspec.Struct, frozen=True):
    """One kind of process: `command` is its argument vector; on SIGTERM it gets `stop_within_s`."""

    name: str
    command: tuple[str, ...]
    stop_within_s: float


class Ready(NamedTuple):
    """The role serves; `said` is what it wrote about that."""

    role: str
    said: str


class Ended(NamedTuple):
    """The role's process ended unasked; `final` when it never served and is not started again."""

    role: str
    code: int
    final: bool


class Told(NamedTuple):
    """Somebody outside wants something of the crew's owner, such as a signal."""

    what: str


_log = structlog.get_logger("supervisor")

Happening = Ready | Ended | Told
Line = Callable[[str, str], None]  # (role, line without its end)


def role_command(*words: str) -> tuple[str, ...]:
    """The argument vector of a `kaskad` command on this very interpreter."""
    return (sys.executable, "-m", "gateway.cli", *words)


class Crew:
    """Some roles, from `start` to `stop`. `happenings` is what happens to them, in order.

    The queue may be written to by a signal handler.
    """

    def __init__(self, roles: Iterable[Role], environment: Mapping[str, str], line: Line) -> None:
        self.happenings: queue.SimpleQueue[Happening] = queue.SimpleQueue()
        self._keepers = [_Keeper(role, environment, line, self.happenings) for role in roles]

    def start(self) -> None:
        for keeper in self._keepers:
            keeper.start()

    def send(self, number: int) -> None:
        """Sends a signal to every process there is."""
        for keeper in self._keepers:
            keeper.send(number)

    def stop(self) -> bool:
        """Stops all at once; kills what takes longer than it may. True when none had to be."""
        for keeper in self._keepers:
            keeper.ask_to_stop()
        now = time.monotonic()
        clean = [keeper.wait(now) for keeper in self._keepers]
        return all(clean)

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        fault: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.stop()


class _Keeper:
    """One role's process and the two threads about it."""

    def __init__(
        self,
        role: Role,
        environment: Mapping[str, str],
        line: Line,
        happenings: queue.SimpleQueue[Happening],
    ) -> None:
        self._role = role
        self._environment = dict(environment) | {PARENT_PID: str(os.getpid())}
        self._line = line
        self._happenings = happenings
        self._changed = threading.Condition()
        self._stopping = False
        self._served = False
        self._process: subprocess.Popen[bytes] | None = None
        self._thread = threading.Thread(target=self._keep, name=role.name, daemon=True)

    def start(self) -> None:
        self._thread.start()

    def send(self, number: int) -> None:
        process = self._process
        if process is not None:
            process.send_signal(number)

    def ask_to_stop(self) -> None:
        with self._changed:
            self._stopping = True
            self._changed.notify_all()
        self.send(signal.SIGTERM)

    def wait(self, since: float) -> bool:
        """Waits for the end of a keeper that was asked to stop; `since` is when (monotonic)."""
        if not self._thread.ident:
            return True
        self._thread.join(max(since + self._role.stop_within_s - time.monotonic(), 0))
        if not self._thread.is_alive():
            return True
        _log.error("role_killed", role=self._role.name, waited_s=self._role.stop_within_s)
        self.send(signal.SIGKILL)
        self._thread.join(KILL_WAIT_S)
        return False

    def _keep(self) -> None:
        name, failures = self._role.name, 0
        while True:
            started = time.monotonic()
            code = self._run()
            if code is None:
                return
            with self._changed:
                if self._stopping:
                    return
                self._happenings.put(Ended(name, code, final=not self._served))
                if not self._served:
                    return
                if time.monotonic() - started > STEADY_S:
                    failures = 0
                wait_s = delay_s(failures, RESTART_DELAY_MIN_S, RESTART_DELAY_MAX_S)
                _log.warning("role_ended", role=name, exit_code=code, restart_in_s=wait_s)
                self._changed.wait_for(lambda: self._stopping, wait_s)
                failures += 1

    def _run(self) -> int | None:
        """One process from start to end; its exit code, or None when it must not start any more."""
        ready_read, ready_write = os.pipe()
        try:
            with self._changed:
                if self._stopping:
                    os.close(ready_read)
                    return None
                # A group of its own: a ctrl-C in the terminal is for us to pass on, once.
                self._process = process = subprocess.Popen(
                    self._role.command,
                    env=self._environment | {READY_FD: str(ready_write)},
                    stdin=subprocess.DEVNULL,
                    stdout=subprocess.PIPE,
                    stderr=subprocess.STDOUT,
                    pass_fds=(ready_write,),
                    process_group=0,
                )
        except OSError as fault:
            os.close(ready_read)
            _log.error("role_cannot_start", role=self._role.name, reason=str(fault))
            return 1
        finally:
            os.close(ready_write)
        reader = threading.Thread(
            target=self._listen, args=(process, ready_read), name=f"{self._role.name}-output"
        )
        reader.daemon = True
        reader.start()
        code = process.wait()
        reader.join(DRAIN_WAIT_S)
        return code

    def _listen(self, process: subprocess.Popen[bytes], ready_read: int) -> None:
        assert process.stdout is not None
        output = process.stdout.fileno()
        pending = {output: b"", ready_read: b""}
        with selectors.DefaultSelector() as selector:
            for fd in pending:
                selector.register(fd, selectors.EVENT_READ)
            while selector.get_map():
                for key, _ in selector.select():
                    data = os.read(key.fd, READ_BYTES)
                    if not data:
                        selector.unregister(key.fd)
                    pending[key.fd] = self._take(key.fd == output, pending[key.fd], data)
        process.stdout.close()
        os.close(ready_read)

    def _take(self, is_output: bool, before: bytes, data: bytes) -> bytes:
        """Passes on the whole lines; returns what is left of the last one. No data: the end."""
        *lines, rest = (before + data).split(b"\n")
        limit = LINE_BYTES_MAX if is_output else READY_BYTES_MAX
        if (rest and not data) or len(rest) > limit:
            lines, rest = [*lines, rest], b""
        for line in lines:
            text = line.decode("utf-8", "replace").rstrip("\r")
            if is_output:
                self._line(self._role.name, text)
            else:
                self._served = True
                self._happenings.put(Ready(self._role.name, text))
        return rest


# --- the other side: what a role's process does ---


def announce(*said: object) -> None:
    """Tells the crew, if there is one, that this process serves. Only the first call counts."""
    number = os.environ.pop(READY_FD, None)
    if number is None:
        return
    fd = int(number)
    os.write(fd, f"{' '.join(map(str, said))}\n".encode()[:READY_BYTES_MAX])
    os.close(fd)


def follow_parent() -> None:
    """Makes this process end (SIGTERM) when its crew's process dies. Nothing without a crew."""
    parent = os.environ.pop(PARENT_PID, None)
    if READY_FD in os.environ:
        os.set_inheritable(int(os.environ[READY_FD]), False)
    if parent is None:
        return
    if sys.platform == "linux":
        ctypes.CDLL(None, use_errno=True).prctl(PR_SET_PDEATHSIG, signal.SIGTERM, 0, 0, 0)
    if os.getppid() != int(parent):
        # It died before the kernel knew of our wish.
        os.kill(os.getpid(), signal.SIGTERM)
