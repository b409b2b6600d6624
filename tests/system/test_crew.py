"""A crew of real processes: told when they serve, started again, stopped, never left behind."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import textwrap
import time
from collections.abc import Iterator, MutableMapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import structlog
from structlog.testing import capture_logs

from gateway import crew as crews
from gateway import supervisor
from gateway.backoff import Backoff
from gateway.crew import Crew, Notice, Ready, Role, RoleEnded
from tests.worlds.patience import PATIENCE_S
from tests.worlds.processes import gone

PRELUDE = """
import os, signal, sys, time
from gateway.crew import announce, follow_parent
follow_parent()
"""
SERVES = PRELUDE + "print('at work', flush=True); announce(8080); signal.pause()"


class Lines(list[tuple[str, str]]):
    def __call__(self, role: str, line: str) -> None:
        self.append((role, line))


def role(code: str, name: str = "worker", stop_within_s: float = PATIENCE_S) -> Role:
    return Role(name, (sys.executable, "-c", textwrap.dedent(code)), stop_within_s)


def next_of(crew: Crew) -> Notice:
    return crew.notices.get(timeout=PATIENCE_S)


def until_gone(pid: int) -> Iterator[None]:
    deadline = time.monotonic() + PATIENCE_S
    while not gone(pid):
        assert time.monotonic() < deadline, f"process {pid} was left behind"
        yield


@pytest.fixture
def lines() -> Lines:
    return Lines()


def test_a_role_says_that_it_serves_and_its_output_carries_its_name(lines: Lines) -> None:
    crew = Crew([role(SERVES, "ingress")], os.environ, lines)
    with crew:
        assert next_of(crew) == Ready("ingress", "8080")
        assert crew.stop()
    assert ("ingress", "at work") in lines


def test_a_role_with_nothing_more_to_tell_says_that_it_serves_all_the_same(lines: Lines) -> None:
    with Crew([role(SERVES.replace("8080", ""), "dispatch")], os.environ, lines) as crew:
        assert next_of(crew) == Ready("dispatch", "")


@contextmanager
def told() -> Iterator[list[MutableMapping[str, Any]]]:
    """What the crew logs; a logger that another test made talk would go on as it was set up."""
    with pytest.MonkeyPatch.context() as patch, capture_logs() as logs:
        patch.setattr(supervisor, "_log", structlog.get_logger("supervisor"))
        yield logs


@pytest.mark.parametrize("kernel_tells", [True, False])
def test_a_role_that_dies_is_started_again(
    lines: Lines, monkeypatch: pytest.MonkeyPatch, kernel_tells: bool
) -> None:
    if not kernel_tells:
        monkeypatch.delattr(os, "pidfd_open")
    code = PRELUDE + "announce(os.getpid()); signal.pause()"
    with told() as logs, Crew([role(code)], os.environ, lines) as crew:
        first = next_of(crew)
        assert isinstance(first, Ready)
        os.kill(int(first.said), signal.SIGKILL)
        assert next_of(crew) == RoleEnded("worker", -signal.SIGKILL, final=False)
        again = next_of(crew)
    assert isinstance(again, Ready)
    assert again.said != first.said
    assert [entry["event"] for entry in logs] == ["process_ended"]
    assert logs[0]["exit_code"] == -signal.SIGKILL


def test_a_role_that_never_served_is_not_started_again(lines: Lines) -> None:
    with Crew(
        [role("print('The port is taken.'); raise SystemExit(2)")], os.environ, lines
    ) as crew:
        assert next_of(crew) == RoleEnded("worker", 2, final=True)
    assert lines == [("worker", "The port is taken.")]


def test_a_command_that_cannot_run_is_an_end_with_a_reason(lines: Lines) -> None:
    nowhere = Role("worker", ("/nowhere/kaskad",), PATIENCE_S)
    with told() as logs, Crew([nowhere], os.environ, lines) as crew:
        assert next_of(crew) == RoleEnded("worker", 1, final=True)
    assert "/nowhere/kaskad" in logs[0]["reason"]


def test_a_role_that_does_not_stop_in_time_is_killed(lines: Lines) -> None:
    stubborn = PRELUDE + (
        "signal.signal(signal.SIGTERM, signal.SIG_IGN); announce(os.getpid())\n"
        "while True: signal.pause()"
    )
    slow = role(stubborn, stop_within_s=0.1)
    with told() as logs, Crew([slow], os.environ, lines) as crew:
        ready = next_of(crew)
        assert isinstance(ready, Ready)
        assert not crew.stop()
    assert gone(int(ready.said))
    assert "process_killed" in {entry["event"] for entry in logs}


def test_a_role_that_hangs_is_killed_and_started_again(
    lines: Lines, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(supervisor, "BEAT_S", 0.05)
    hangs = PRELUDE + (
        "from gateway.crew import beat\nannounce(os.getpid())\nbeat()\nsignal.pause()"
    )
    with told() as logs, Crew([role(hangs)], os.environ, lines) as crew:
        first = next_of(crew)
        ended = next_of(crew)
        again = next_of(crew)
    assert isinstance(first, Ready)
    assert isinstance(again, Ready)
    assert first.said != again.said
    assert ended == RoleEnded("worker", -signal.SIGKILL, final=False)
    assert "process_hangs" in {entry["event"] for entry in logs}


class Signalled:
    """A process that only notes what it is sent."""

    pid = 0

    def __init__(self) -> None:
        self.signals: list[int] = []

    def poll(self) -> None:
        return None

    def send_signal(self, number: int, /) -> None:
        self.signals.append(number)


def test_only_what_was_heard_of_and_then_is_not_for_long_counts_as_hanging(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(supervisor, "BEAT_S", 0.0)
    process = Signalled()
    child = supervisor.Child(
        "worker", lambda: process, stop_within_s=1, backoff=Backoff(1, 1), served=True
    )
    watch = supervisor.Supervisor([child])
    watch._start_due()
    for _ in range(3 * supervisor.SILENT_LOOKS_MAX):
        watch._look()  # it never says anything: it is not asked to
    child.heard()
    for _ in range(3):
        for _ in range(supervisor.SILENT_LOOKS_MAX):
            watch._look()
        child.heard()
    assert process.signals == []
    for _ in range(supervisor.SILENT_LOOKS_MAX + 1):
        watch._look()
    assert process.signals == [signal.SIGKILL]
    watch.close()


def test_whoever_looks_at_the_file_sees_that_a_role_works(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    alive = tmp_path / "alive"
    monkeypatch.setenv(crews.ALIVE_FILE, str(alive))
    crews.beat()
    os.utime(alive, (0, 0))
    crews.beat()
    assert alive.stat().st_mtime > 0
    monkeypatch.setenv(crews.ALIVE_FILE, "/nowhere/alive")
    crews.beat()  # a file that cannot be written ends nothing


def test_a_role_ends_when_its_crew_is_killed() -> None:
    worker_code = PRELUDE + "announce(os.getpid()); signal.pause()"
    owner = f"""
    import os, signal, sys
    from gateway.crew import Crew, Role
    role = Role("worker", (sys.executable, "-c", {worker_code!r}), 5.0)
    crew = Crew([role], os.environ, lambda role, line: None)
    crew.start()
    print(crew.notices.get(timeout=10).said, flush=True)
    signal.pause()
    """
    with subprocess.Popen(
        [sys.executable, "-c", textwrap.dedent(owner)], stdout=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout is not None
        worker = int(process.stdout.readline())
        process.kill()
    for _ in until_gone(worker):
        os.sched_yield()


def test_a_process_without_a_crew_announces_to_nobody(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(crews.READY_FD, raising=False)
    monkeypatch.delenv(crews.PARENT_PID, raising=False)
    crews.follow_parent()
    crews.announce("8080")
