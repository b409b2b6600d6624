"""What every test may ask for: a real Redis, the two loops a Redis client runs on, a directory with
room for a socket. Logs are as they are before anybody sets them up, but for tracebacks, which are
plain; and properties take the time they take: how fast a machine is belongs in benchmarks."""

from __future__ import annotations

import gc
import os
import signal
import socket
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest
import structlog
from hypothesis import HealthCheck, settings

from gateway import memory
from gateway.redis.server.binary import find_binary
from gateway.redis.server.embedded import EmbeddedRedis
from tests.worlds.loops import AsyncioLoop, Loop, TrioLoop

settings.register_profile("unhurried", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("unhurried")
# With the values of a test's world, drawn in boxes, one takes a tenth of a second and more.
structlog.dev.ConsoleRenderer.get_active().exception_formatter = structlog.dev.plain_traceback

# The shared server, and the place for a server of a test's own.
STARTING_REDIS = {"redis_server", "short_dir"}
# What the folders here mark: tests there start real processes, or need other people's servers.
MARKS = {"system": "system", "fault": "system", "peers": "peers"}
SIMULATIONS = "simulation"
HERE = Path(__file__).parent


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--redis-server", type=Path, help="the redis-server that the tests must use")


def pytest_configure(config: pytest.Config) -> None:
    """Puts the wanted redis-server first on PATH, for child processes as well."""
    hear_interrupts()
    gc.disable()  # until all is collected
    wanted: Path | None = config.getoption("redis_server")
    if wanted is not None:
        os.environ["PATH"] = f"{wanted.absolute().parent}:{os.environ['PATH']}"
        chosen, _version = find_binary()
        if not chosen.samefile(wanted):
            raise pytest.UsageError(f"Kaskad prefers {chosen}, which is newer than {wanted}.")


def hear_interrupts() -> None:
    """A shell starts what it puts into the background with SIGINT ignored, and what is started from
    there ignores it too: a demo that a test interrupts went on until the time was over."""
    if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.default_int_handler)


def pytest_collection_finish() -> None:
    """Tests and modules stay, and are looked at once. Each full collection walked them, 0.2 s a
    time: a fifth of the CPU that tests/core took (2026-11-29)."""
    gc.enable()
    memory.freeze()


def pytest_report_header() -> str:
    binary, version = find_binary()
    return f"redis-server: {'.'.join(map(str, version))}, {binary}"


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Marks what starts real processes or a Redis: by its folder, by a fixture, or as a part of the
    system. The rest says so itself.

    What takes longest goes first, so that no worker is alone with it at the end: what starts real
    processes, then simulations. Of neither are lines counted: those of other processes cannot be,
    and simulations run the same lines a million times. Counting took twice as long again, and
    covers nothing that the tests of each part do not.
    """
    for item in items:
        folder = _folder(item)
        if folder in MARKS:
            item.add_marker(MARKS[folder])
        fixtures: set[str] = set(getattr(item, "fixturenames", ()))
        system = item.get_closest_marker("system")
        if fixtures & STARTING_REDIS or system:
            item.add_marker("redis")
        if system or folder == SIMULATIONS:
            item.add_marker("no_cover")
    items.sort(key=_turn)


def _folder(item: pytest.Item) -> str:
    """By `parts`, which a file's tests share: comparing paths took each worker a second."""
    return item.path.parts[len(HERE.parts)]


def _turn(item: pytest.Item) -> int:
    if item.get_closest_marker("system"):
        return 0
    return 1 if _folder(item) == SIMULATIONS else 2


@pytest.fixture(scope="session")
def redis_server() -> Iterator[EmbeddedRedis]:
    """One embedded server a test process, so one a worker under xdist."""
    # Not pytest's own directory: its path can be too long for a socket.
    with (
        tempfile.TemporaryDirectory(prefix="kaskad-") as directory,
        EmbeddedRedis(directory, "everysec") as server,
    ):
        yield server


@pytest.fixture
def redis_url(redis_server: EmbeddedRedis) -> str:
    """The URL of an empty Redis. A client made for one command took a test a millisecond."""
    with socket.socket(socket.AF_UNIX) as link:
        link.connect(str(redis_server.socket_path))
        link.sendall(b"FLUSHALL\r\n")
        assert link.recv(64) == b"+OK\r\n"
    return redis_server.url


@pytest.fixture(autouse=True)
def logs_as_they_were() -> Iterator[None]:
    """Takes back what a command set up in this process: level and form stay with loggers that
    spoke."""
    yield
    if not structlog.is_configured():
        return
    structlog.reset_defaults()
    for name, module in list(sys.modules.items()):
        if name.startswith(("gateway", "providers")) and hasattr(module, "_log"):
            vars(module._log).pop("bind", None)  # where structlog keeps what it made


@pytest.fixture
def short_dir() -> Iterator[Path]:
    """Where a test's own Redis may be: the path leaves room for the name of a socket."""
    with tempfile.TemporaryDirectory(prefix="kaskad-") as directory:
        yield Path(directory)


@pytest.fixture(params=[AsyncioLoop, TrioLoop], ids=["asyncio", "trio"])
def loop(request: pytest.FixtureRequest) -> Loop:
    made: Loop = request.param()
    return made
