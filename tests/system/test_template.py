"""What is forked from the template of the tests is what a new process is: it says the same, ends
the same, and tells its end however it comes."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest

from gateway import failpoints
from providers.simulator import child
from tests import conftest
from tests.worlds import template
from tests.worlds.patience import PATIENCE_S
from tests.worlds.stack import stack

ENV = {**os.environ, "NO_COLOR": "1", "COLUMNS": "80"}


def started(words: list[str], env: dict[str, str]) -> tuple[type, int, str, str]:
    """How it was started, its exit code, and what it wrote to each of both outputs."""
    with tempfile.TemporaryFile("r+") as out, tempfile.TemporaryFile("r+") as err:
        process = template.start(words, env, out.fileno(), err.fileno())
        code = process.wait(PATIENCE_S)
        out.seek(0)
        err.seek(0)
        return type(process), code, out.read(), err.read()


@pytest.mark.parametrize(
    "words", ["--version", "report --help", "nonsense", "status --config nowhere.toml"]
)
def test_it_says_and_ends_as_a_new_process_does(words: str) -> None:
    command = [sys.executable, "-m", "gateway.cli", *words.split()]
    new = subprocess.run(command, env=ENV, capture_output=True, text=True, timeout=PATIENCE_S)
    found = started(words.split(), ENV)
    assert found == (template.Forked, new.returncode, new.stdout, new.stderr)


def test_what_is_read_on_import_is_read_in_a_new_process() -> None:
    kind, code, out, _err = started(["--version"], {**ENV, failpoints.VARIABLE: "claimed"})
    assert (kind, code) == (subprocess.Popen, 0)
    assert out.startswith("kaskad ")


def test_what_is_started_hears_an_interrupt_also_from_a_suite_in_the_background() -> None:
    before = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        conftest.hear_interrupts()
        process = subprocess.Popen(["sleep", str(PATIENCE_S)])
        process.send_signal(signal.SIGINT)
        assert process.wait(PATIENCE_S / 2) == -signal.SIGINT
    finally:
        signal.signal(signal.SIGINT, before)


def test_a_simulator_is_as_a_new_one_and_ends_with_who_started_it() -> None:
    with template.simulation() as forked, child.running() as new:
        assert isinstance(forked.process, template.ForkedSimulator)
        assert forked.knobs() == new.knobs()
        assert os.getpgid(forked.process.pid) == forked.process.pid
        assert forked.process.stdin is not None
        forked.process.stdin.close()
        assert forked.process.wait(PATIENCE_S) == 0


def test_it_is_of_a_group_of_its_own_and_its_end_is_told() -> None:
    with stack(dispatchers=2) as kaskad:
        killed, stopped = (one for one in kaskad.processes if one.name == "dispatch")
        assert os.getpgid(killed.pid) == killed.pid != os.getpgid(stopped.pid)
        killed.kill()
        assert not killed.running
        assert stopped.running
        assert stopped.stop() >= 0


def test_it_has_no_descriptor_but_what_it_was_given_and_opened(tmp_path: Path) -> None:
    # Two at once, so that the template holds what belongs to another.
    with (tmp_path / "log").open("w") as log:
        ready, write = os.pipe()
        words = ["simulate", "--port", "0", "--api-key", "key"]
        first = template.start(words, ENV, log.fileno(), log.fileno(), write)
        os.close(write)
        second = template.start(["--version"], ENV, log.fileno(), log.fileno())
        assert second.wait(PATIENCE_S) == 0
        assert os.read(ready, 100).startswith(b"serving")
        first.kill()
        assert first.wait(PATIENCE_S) == -signal.SIGKILL
        assert os.read(ready, 1) == b""  # nobody else holds its end
        os.close(ready)
