"""Starts the simulator in a process of its own and talks to its control endpoints.

For tests, the demo and benchmarks: blocking and free of any event loop, so every kind of caller can
use it. Raises ChildFailed when the process does not come up, ControlFault when a control request is
refused. The child ends with its parent, however that ends.
"""

from __future__ import annotations

import contextlib
import selectors
import subprocess
import sys
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from typing import IO, Any, Final, Protocol

import msgspec

from providers.simulator.book import Bill, Clicks
from providers.simulator.runtime import Stats
from providers.simulator.server import Settings

START_S_MAX: Final = 15.0
STOP_S_MAX: Final = 5.0
CONTROL_S_MAX: Final = 60.0


class ChildFailed(Exception):
    """The simulator's process did not come up."""


class ControlFault(Exception):
    """A control request was refused; `key` names the knob or parameter, if one is at fault."""

    def __init__(self, status: int, key: str, detail: str) -> None:
        super().__init__(f"{status} {key}: {detail}" if key else f"{status}: {detail}")
        self.status = status
        self.key = key
        self.detail = detail


class Process(Protocol):
    """What is needed of a process that was started: a `subprocess.Popen` with pipes, as a rule."""

    stdin: IO[bytes] | None
    stdout: IO[bytes] | None

    @property
    def pid(self) -> int: ...

    def terminate(self) -> None: ...

    def kill(self) -> None: ...

    def wait(self, timeout: float | None = None) -> int: ...


Launch = Callable[[], Process]


class Child:
    """A running simulator: where it is, and its controls."""

    def __init__(self, process: Process, port: int, settings: Settings) -> None:
        self.process = process
        self.port = port
        self.base_url = f"http://127.0.0.1:{port}"
        self.api_key = settings.api_key

    def turn(self, **knobs: Any) -> None:
        """Changes the knobs named. Raises ControlFault for a knob that is out of range."""
        self._control("PUT", "knobs", msgspec.json.encode(knobs))

    def knobs(self) -> dict[str, Any]:
        return self._object(self._control("GET", "knobs"))

    def bill(self) -> Bill:
        """The whole bill, every message included."""
        return msgspec.json.decode(self._control("GET", "bill?full=1"), type=Bill)

    def clicks(self, offset: int = 0) -> Clicks:
        """A page of what people clicked, from `offset` on."""
        return msgspec.json.decode(self._control("GET", f"clicks?offset={offset}"), type=Clicks)

    def stats(self) -> Stats:
        return msgspec.json.decode(self._control("GET", "stats"), type=Stats)

    def flush(self, *, everything: bool = False) -> Stats:
        """Pushes what is due (`everything`: also what is not) and waits until it is taken."""
        path = "flush?all=1" if everything else "flush"
        return msgspec.json.decode(self._control("POST", path), type=Stats)

    def reset(self) -> None:
        """Forgets all messages; the knobs are those of the start again."""
        self._control("POST", "reset")

    def stop(self) -> None:
        """Ends the process and waits for it."""
        self.process.terminate()
        try:
            self.process.wait(STOP_S_MAX)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()
        for pipe in (self.process.stdin, self.process.stdout):
            if pipe is not None:
                pipe.close()

    def _control(self, method: str, path: str, body: bytes | None = None) -> bytes:
        request = urllib.request.Request(  # noqa: S310 - our own address
            f"{self.base_url}/_sim/{path}", data=body, method=method
        )
        try:
            with urllib.request.urlopen(request, timeout=CONTROL_S_MAX) as answer:  # noqa: S310
                content: bytes = answer.read()
                return content
        except urllib.error.HTTPError as fault:
            with fault:
                problem = self._object(fault.read())
            raise ControlFault(
                fault.code, problem.get("key", ""), problem.get("detail", "")
            ) from None

    @staticmethod
    def _object(content: bytes) -> dict[str, Any]:
        return msgspec.json.decode(content, type=dict[str, Any])


def _launch() -> Process:
    return subprocess.Popen(
        [sys.executable, "-m", "providers.simulator"],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        start_new_session=True,  # a Ctrl-C in the terminal is for the parent to act on
    )


def start(settings: Settings | None = None, launch: Launch = _launch) -> Child:
    """Starts a simulator on a free port of 127.0.0.1 and returns when it listens. `launch` runs
    the module `providers.simulator` with pipes for its input and output."""
    settings = settings or Settings()
    process = launch()
    assert process.stdin is not None
    assert process.stdout is not None
    process.stdin.write(msgspec.json.encode(settings) + b"\n")
    process.stdin.flush()
    line = _line(process.stdout, START_S_MAX)
    if not line:
        process.kill()
        process.wait()
        process.stdin.close()
        process.stdout.close()
        raise ChildFailed("The simulator did not start; its reason is on stderr.")
    return Child(process, msgspec.json.decode(line, type=dict[str, int])["port"], settings)


@contextlib.contextmanager
def running(settings: Settings | None = None, launch: Launch = _launch) -> Iterator[Child]:
    """A simulator for the length of a `with` block."""
    child = start(settings, launch)
    try:
        yield child
    finally:
        child.stop()


def _line(pipe: IO[bytes], seconds: float) -> bytes:
    with selectors.DefaultSelector() as selector:
        selector.register(pipe, selectors.EVENT_READ)
        return pipe.readline() if selector.select(seconds) else b""
