"""Kaskad's roles as child processes of one machine, and what such a process says to its crew.

A role tells that it serves by one line on the pipe that KASKAD_READY_FD names, and that it works by
an empty line now and then; its output is passed on line by line. One that hangs is killed and
started again. It ends with its crew whatever happens to the crew: the kernel sends it SIGTERM.
How its process is kept running is `gateway.supervisor`.
"""

from __future__ import annotations

import contextlib
import ctypes
import os
import queue
import selectors
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from types import TracebackType
from typing import NamedTuple, Self

import msgspec

from gateway.backoff import Backoff
from gateway.supervisor import Child, Supervisor

READY_FD = "KASKAD_READY_FD"
PARENT_PID = "KASKAD_PARENT_PID"
ALIVE_FILE = "KASKAD_ALIVE_FILE"  # names a file whose time says when the role last worked

RESTART_DELAY_MIN_S = 0.5
RESTART_DELAY_MAX_S = 30.0
DRAIN_WAIT_S = 2.0  # for the last lines of a process that has ended
READ_BYTES = 65_536
LINE_BYTES_MAX = 65_536  # a longer line of a role's output is cut into several
READY_BYTES_MAX = 4_096
SERVING = "serving"  # how a line begins that says so; an empty one says that the role works
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


class RoleEnded(NamedTuple):
    """The role's process ended unasked; `final` when it never served and is not started again."""

    role: str
    code: int
    final: bool


class OwnerAsked(NamedTuple):
    """Somebody outside wants something of the crew's owner, such as a signal."""

    what: str


Notice = Ready | RoleEnded | OwnerAsked
PassLine = Callable[[str, str], None]  # (role, line without its end)


def role_command(*words: str) -> tuple[str, ...]:
    """The argument vector of a `kaskad` command on this very interpreter."""
    return (sys.executable, "-m", "gateway.cli", *words)


class Crew:
    """Some roles, from `start` to `stop`. `notices` is what happens to them, in order.

    The queue may be written to by a signal handler.
    """

    def __init__(
        self, roles: Iterable[Role], environment: Mapping[str, str], line: PassLine
    ) -> None:
        self.notices: queue.SimpleQueue[Notice] = queue.SimpleQueue()
        members = [_Member(role, environment, line, self.notices) for role in roles]
        self._members = {member.child: member for member in members}
        self._supervisor = Supervisor([member.child for member in members], self._ended)

    def start(self) -> None:
        self._supervisor.start()

    def send(self, number: int) -> None:
        """Sends a signal to every process there is."""
        self._supervisor.send(number)

    def stop(self) -> bool:
        """Stops all at once; kills what takes longer than it may. True when none had to be."""
        return self._supervisor.stop()

    def _ended(self, child: Child, code: int) -> None:
        self._members[child].drain()
        if not self._supervisor.stopping:
            self.notices.put(RoleEnded(child.name, code, final=not child.served))

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


class _Member:
    """One role's process, and the thread that reads what it says."""

    def __init__(
        self,
        role: Role,
        environment: Mapping[str, str],
        line: PassLine,
        notices: queue.SimpleQueue[Notice],
    ) -> None:
        self.child = Child(
            role.name,
            self._spawn,
            stop_within_s=role.stop_within_s,
            backoff=Backoff(RESTART_DELAY_MIN_S, RESTART_DELAY_MAX_S),
        )
        self._role = role
        self._environment = dict(environment) | {PARENT_PID: str(os.getpid())}
        self._line = line
        self._notices = notices
        self._reader: threading.Thread | None = None

    def drain(self) -> None:
        """Waits for the last words of a process that has ended."""
        if self._reader is not None:
            self._reader.join(DRAIN_WAIT_S)
            self._reader = None

    def _spawn(self) -> subprocess.Popen[bytes]:
        ready_read, ready_write = os.pipe()
        try:
            # A group of its own: a ctrl-C in the terminal is for us to pass on, once.
            process = subprocess.Popen(
                self._role.command,
                env=self._environment | {READY_FD: str(ready_write)},
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                pass_fds=(ready_write,),
                process_group=0,
            )
        except OSError:
            os.close(ready_read)
            raise
        finally:
            os.close(ready_write)
        self._reader = threading.Thread(
            target=self._listen,
            args=(process, ready_read),
            name=f"{self._role.name}-output",
            daemon=True,
        )
        self._reader.start()
        return process

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
            elif not text:
                self.child.heard()
            else:
                self.child.served = True
                self._notices.put(Ready(self._role.name, text.removeprefix(SERVING).lstrip()))
        return rest


# --- the other side: what a role's process does ---


_to_crew: list[int] = []  # the pipe to the crew, once it was told that this process serves


def announce(*said: object) -> None:
    """Tells the crew, if there is one, that this process serves. Only the first call counts."""
    number = os.environ.pop(READY_FD, None)
    if number is None:
        return
    fd = int(number)
    os.write(fd, f"{' '.join(map(str, (SERVING, *said)))}\n".encode()[:READY_BYTES_MAX])
    os.set_blocking(fd, False)
    _to_crew.append(fd)


def beat() -> None:
    """Tells the crew and whoever looks at the file of KASKAD_ALIVE_FILE that this process works, if
    there are any. A crew that is gone, or a file that cannot be written, is no matter of it."""
    for fd in _to_crew:
        with contextlib.suppress(OSError):
            os.write(fd, b"\n")
    if path := os.environ.get(ALIVE_FILE):
        with contextlib.suppress(OSError):
            Path(path).touch()


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
