"""Child processes of a measurement: started, awaited, stopped, and their CPU time read from /proc.

A child that dies or never serves is a `BenchFailed` whose
sentence holds the last line of its log. The kernel ends every child when the benchmark dies.
"""

from __future__ import annotations

import contextlib
import ctypes
import os
import selectors
import signal
import socket
import subprocess
import sys
import time
from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Self

START_S_MAX = 180.0
STOP_S_MAX = 40.0
TICKS = os.sysconf("SC_CLK_TCK")
# The product's own way of telling a parent that a role serves: one line on this descriptor.
READY_FD = "KASKAD_READY_FD"
PARENT_PID = "KASKAD_PARENT_PID"
_LIBC = ctypes.CDLL(None)
_PR_SET_PDEATHSIG = 1


class BenchFailed(Exception):
    """The measurement cannot go on or its figures cannot be believed; the sentence says why."""


class Child:
    """One process and its log."""

    def __init__(
        self,
        name: str,
        command: Sequence[str],
        log: Path,
        env: Mapping[str, str],
        *,
        announces: bool = False,
    ) -> None:
        self.name = name
        self.log = log
        self._ready_fd: int | None = None
        own = dict(env)
        passed: list[int] = []
        if announces:
            self._ready_fd, theirs = os.pipe()
            own |= {READY_FD: str(theirs), PARENT_PID: str(os.getpid())}
            passed.append(theirs)
        with log.open("wb") as out:
            self.process = subprocess.Popen(
                command,
                stdin=subprocess.DEVNULL,
                stdout=out,
                stderr=out,
                env=own,
                pass_fds=passed,
                preexec_fn=_end_with_parent,  # safe: no threads are running here
            )
        for fd in passed:
            os.close(fd)

    @property
    def pid(self) -> int:
        return self.process.pid

    def await_ready(self) -> None:
        """Returns when it has announced that it serves. Raises BenchFailed."""
        assert self._ready_fd is not None
        fd, self._ready_fd = self._ready_fd, None
        deadline = time.monotonic() + START_S_MAX
        try:
            with selectors.DefaultSelector() as selector:
                selector.register(fd, selectors.EVENT_READ)
                if not selector.select(deadline - time.monotonic()):
                    raise self.failure(f"said nothing for {START_S_MAX:.0f} s")
            said = os.read(fd, 4096)
        finally:
            os.close(fd)
        if not said:  # it closed the descriptor by ending
            self.process.wait(STOP_S_MAX)
            raise self.failure(f"ended with exit code {self.process.returncode}")

    def check(self) -> None:
        """Raises BenchFailed when it has died."""
        if self.process.poll() is not None:
            raise self.failure(f"died with exit code {self.process.returncode}")

    def stop(self) -> None:
        """SIGTERM, and SIGKILL when that does not end it. The caller may have stopped it before."""
        if self._ready_fd is not None:
            os.close(self._ready_fd)
            self._ready_fd = None
        if self.process.poll() is None:
            self.process.terminate()
            try:
                self.process.wait(STOP_S_MAX)
            except subprocess.TimeoutExpired:
                self.process.kill()
                self.process.wait(STOP_S_MAX)

    def failure(self, what: str) -> BenchFailed:
        lines = self.log.read_text(errors="replace").strip().splitlines()
        last = lines[-1][:500] if lines else "it logged nothing"
        return BenchFailed(f"{self.name} {what}: {last}")


class Started(ABC):
    """A context manager that ends what it started, also when the start goes wrong half way."""

    @abstractmethod
    def start(self) -> None: ...

    @abstractmethod
    def stop(self) -> None:
        """Ends what there is of it."""

    def __enter__(self) -> Self:
        try:
            self.start()
        except BaseException:
            self.stop()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()


def role(arguments: Sequence[str], python: str = "") -> list[str]:
    """The command line of one of the product's roles; `python` is that of another version's
    environment."""
    interpreter = [python, "-P"] if python else [sys.executable]  # -P: nothing of this folder
    return [*interpreter, "-m", "gateway.cli", *arguments]


def free_port() -> int:
    """A TCP port of the loopback that nobody listens on, for a server that sets SO_REUSEADDR.

    A socket that is bound to it and never listens keeps it until this process ends: the system
    gives it to no other server and to no client, and who connects before the server listens, or
    while it is dead, is refused.
    """
    holder = socket.socket()
    holder.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    holder.bind(("127.0.0.1", 0))
    port: int = holder.getsockname()[1]
    holder.detach()  # nobody closes it
    return port


def cpu_s(pid: int) -> float:
    """CPU seconds of a process with all its threads and live descendants, user and system.

    Read from the scheduler's nanoseconds, so that a window of a second has no rounding in it.
    A process that is gone has 0. Raises BenchFailed where the kernel does not tell.
    """
    total_ns = 0
    for member in _family(pid):
        with contextlib.suppress(FileNotFoundError, ProcessLookupError):
            for task in Path(f"/proc/{member}/task").iterdir():
                try:
                    total_ns += int((task / "schedstat").read_text().split()[0])
                except FileNotFoundError:
                    if not Path("/proc/self/schedstat").exists():
                        raise BenchFailed(
                            "CPU time is read from /proc/PID/task/*/schedstat, which this kernel "
                            "does not have: run the benchmark on Linux."
                        ) from None
    return total_ns / 1e9


def reaped_s(pid: int) -> float:
    """CPU seconds of children that ended: of Redis, those that wrote the append-only file anew."""
    try:
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except FileNotFoundError:
        return 0.0
    return (int(fields[13]) + int(fields[14])) / TICKS


def _family(pid: int) -> Iterator[int]:
    yield pid
    with contextlib.suppress(FileNotFoundError, ProcessLookupError):
        for task in Path(f"/proc/{pid}/task").iterdir():
            for child in (task / "children").read_text().split():
                yield from _family(int(child))


def _end_with_parent() -> None:
    _LIBC.prctl(_PR_SET_PDEATHSIG, signal.SIGTERM, 0, 0, 0)
