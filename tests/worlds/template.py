"""A process that has loaded what Kaskad's roles and commands and the simulator are made of, and
forks itself for each start of one: loading it anew took 0.7 s of CPU (a simulator 0.3), for some
two hundred processes of the suite.

What runs in the fork is the console script's `main`, with the words, environment, outputs and ready
pipe that a new process would have, in a group of its own; or that of `providers.simulator`. Other
than in a new process, the modules of both roles are loaded, and what an import reads of the
environment is that of the tests: who arms `gateway.failpoints` starts anew. So do the tests of
`kaskad up`, of its crew, of the command line, of the demo, and of the simulator's control and book,
which show that a role starts from nothing.

One template a test process, from its first use until the end. A fork that is asked for here has
started when the call returns; one whose template died counts as a failed test (TemplateFailed).
"""

from __future__ import annotations

import atexit
import contextlib
import functools
import gc
import json
import os
import select
import signal
import socket
import subprocess
import sys
from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager
from pathlib import Path
from typing import IO, NamedTuple

from gateway import failpoints
from gateway.crew import READY_FD
from providers.simulator import Settings, child
from tests.worlds.patience import PATIENCE_S

REQUEST_BYTES_MAX = 100_000  # words and environment
FDS_MAX = os.sysconf("SC_OPEN_MAX")
ROOT = Path(__file__).parents[2]
# What is passed with a request. The last is the ready pipe, which may be left out, or the input of
# a simulator.
OUT, ERR, STATUS, GIVEN = range(4)
STDERR = 2


class TemplateFailed(Exception):
    """The process that forks is gone."""


class Forked:
    """A started process, with what the tests need of `subprocess.Popen`."""

    def __init__(self, pid: int, status: int) -> None:
        self.pid = pid
        self.returncode: int | None = None
        self._status = status

    def poll(self) -> int | None:
        with contextlib.suppress(subprocess.TimeoutExpired):
            self.wait(0)
        return self.returncode

    def wait(self, timeout: float | None = None) -> int:
        """Its exit code. Raises subprocess.TimeoutExpired."""
        if self.returncode is None:
            ended = select.poll()  # select knows no descriptor above 1,023
            ended.register(self._status, select.POLLIN)
            if not ended.poll(None if timeout is None else timeout * 1_000):
                raise subprocess.TimeoutExpired(str(self.pid), timeout or 0)
            said = os.read(self._status, 16)
            os.close(self._status)
            if not said:
                raise TemplateFailed
            self.returncode = int(said)
        return self.returncode

    def send_signal(self, number: int) -> None:
        if self.poll() is None:
            with contextlib.suppress(ProcessLookupError):
                os.kill(self.pid, number)

    def kill(self) -> None:
        self.send_signal(signal.SIGKILL)

    def terminate(self) -> None:
        self.send_signal(signal.SIGTERM)


class ForkedSimulator(Forked):
    """With its pipes."""

    stdin: IO[bytes] | None = None
    stdout: IO[bytes] | None = None


def simulation(settings: Settings | None = None) -> AbstractContextManager[child.Child]:
    """A simulator for the length of a `with` block."""
    return child.running(settings, _launch_simulator)


def _launch_simulator() -> ForkedSimulator:
    given, stdin = os.pipe()
    stdout, out = os.pipe()
    try:
        pid, status = _template().fork(None, os.environ, out, STDERR, given)
    finally:
        os.close(given)
        os.close(out)
    forked = ForkedSimulator(pid, status)
    forked.stdin, forked.stdout = os.fdopen(stdin, "wb"), os.fdopen(stdout, "rb")
    return forked


def start(
    words: Sequence[str], env: Mapping[str, str], out: int, err: int, ready: int | None = None
) -> Forked | subprocess.Popen[bytes]:
    """Starts `kaskad <words>` with these outputs; `ready` is the pipe to who waits for it."""
    if failpoints.VARIABLE not in env:
        return Forked(*_template().fork(words, env, out, err, ready))
    told = {} if ready is None else {READY_FD: str(ready)}
    return subprocess.Popen(
        [sys.executable, "-m", "gateway.cli", *words],
        env={**env, **told},
        stdin=subprocess.DEVNULL,
        stdout=out,
        stderr=err,
        pass_fds=() if ready is None else (ready,),
        process_group=0,
    )


class _Template:
    """The side of the tests."""

    def __init__(self) -> None:
        self._socket, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        self._socket.settimeout(PATIENCE_S)
        with theirs:
            self._process = subprocess.Popen(
                [sys.executable, "-m", __name__, str(theirs.fileno())],
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                cwd=ROOT,
                pass_fds=(theirs.fileno(),),
                process_group=0,  # a Ctrl-C in the terminal is for the tests to act on
            )

    def fork(
        self,
        words: Sequence[str] | None,
        env: Mapping[str, str],
        out: int,
        err: int,
        given: int | None,
    ) -> tuple[int, int]:
        """Its pid, and the pipe that tells its end. Without words it is a simulator."""
        status, theirs = os.pipe()
        passed = [out, err, theirs] + ([] if given is None else [given])
        request = json.dumps([words if words is None else list(words), dict(env)]).encode()
        assert len(request) < REQUEST_BYTES_MAX
        try:
            socket.send_fds(self._socket, [request], passed)
            answer = self._socket.recv(16)
        finally:
            os.close(theirs)
        if not answer:
            os.close(status)
            raise TemplateFailed
        return int(answer), status

    def stop(self) -> None:
        self._socket.close()
        self._process.wait()


@functools.cache
def _template() -> _Template:
    made = _Template()
    atexit.register(made.stop)
    return made


# --- the side of the template ---


class _Job(NamedTuple):
    """What a fork has to do; without words it is a simulator."""

    words: list[str] | None
    env: dict[str, str]
    fds: list[int]


def _serve(asking: int) -> _Job | None:
    """Forks for each request. Returns what to do in a fork, and nothing once nobody asks more."""
    running: dict[int, tuple[int, int]] = {}  # by its pidfd: its pid, and whom to tell of its end
    while True:
        for fd in select.select([asking, *running], [], [])[0]:
            if fd == asking:
                job = _request(asking)
                if job is None:
                    return None
                pid = os.fork()
                if not pid:
                    return job
                with contextlib.suppress(PermissionError, ProcessLookupError):
                    os.setpgid(pid, 0)  # both do it: who asked may kill the group at once
                running[os.pidfd_open(pid)] = (pid, job.fds[STATUS])
                for number, passed in enumerate(job.fds):
                    if number != STATUS:
                        os.close(passed)
                os.write(asking, str(pid).encode())
            else:
                pid, told = running.pop(fd)
                code = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
                with contextlib.suppress(BrokenPipeError):
                    os.write(told, str(code).encode())
                os.close(told)
                os.close(fd)


def _request(asking: int) -> _Job | None:
    with socket.socket(fileno=asking) as asked:
        data, fds, _flags, _address = socket.recv_fds(asked, REQUEST_BYTES_MAX, GIVEN + 1)
        asked.detach()
    if not data:
        return None
    words, env = json.loads(data)
    return _Job(words, env, fds)


def _become(job: _Job) -> None:
    """Makes this fork what a new process with that job would be."""
    os.setpgid(0, 0)
    os.dup2(job.fds[OUT], 1)
    os.dup2(job.fds[ERR], 2)
    environment = dict(job.env)
    kept = -1
    if job.words is None:
        os.dup2(job.fds[GIVEN], 0)
    elif len(job.fds) > GIVEN:
        kept = job.fds[GIVEN]
        environment[READY_FD] = str(kept)
    os.closerange(3, kept if kept > 0 else FDS_MAX)
    os.closerange(max(kept, 2) + 1, FDS_MAX)
    os.environ.clear()
    os.environ.update(environment)
    sys.argv = ["kaskad", *(job.words or ())]


def _load() -> None:
    """All that roles and the usual commands import, which they do when they run."""
    import gateway.cli.app
    import gateway.cli.books.books
    import gateway.cli.books.ledger
    import gateway.cli.books.reports
    import gateway.cli.roles.roles
    import gateway.dispatch.dispatcher
    import gateway.ingress.http.server  # noqa: F401
    import providers.simulator.__main__  # noqa: F401

    gc.collect()
    gc.freeze()


def main() -> None:
    _load()
    job = _serve(int(sys.argv[1]))
    if job is None:
        return
    _become(job)
    if job.words is None:
        from providers.simulator.__main__ import main as simulate

        sys.exit(simulate())
    from gateway.cli import main as kaskad

    kaskad()


if __name__ == "__main__":
    main()
