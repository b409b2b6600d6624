"""Streams that are full, closed or gone, and signals: what a command says, and what it leaves."""

from __future__ import annotations

import errno
import os
import signal
import subprocess
import sys
import tempfile
import threading
from pathlib import Path
from typing import Any

import pytest

from gateway.cli.output import output
from gateway.finance.spreadsheets.workbook import Workbook

ENVIRONMENT = {"PYTHONDONTWRITEBYTECODE": "1", "PYTHONPATH": "."}
FULL = "No space left on device: make room there, and run it again.\n"
CLOSED = "Bad file descriptor: stdout is closed, so nothing can be printed.\n"

PROGRAM = """
import os, signal, sys
from pathlib import Path
import structlog
from gateway import cli
from gateway.cli.app import app
from gateway.cli.output import output
from gateway.cli.terminal import mention
from gateway.telemetry import configure_logs

@app.command()
def act() -> None:
    {}

sys.argv[1:] = ["act"]
signal.pthread_sigmask(signal.SIG_UNBLOCK, {{signal.SIGHUP}})  # a role in this process held it
{}
cli.main()
"""


def ran(
    act: str, how: str = "", *, before: str = "", unbuffered: bool = False
) -> subprocess.CompletedProcess[str]:
    """A command that does this, its streams as the shell is told."""
    environment = ENVIRONMENT | ({"PYTHONUNBUFFERED": "1"} if unbuffered else {})
    return subprocess.run(
        ["/bin/sh", "-c", f'exec "$0" -c "$1" {how}', sys.executable, PROGRAM.format(act, before)],
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )


@pytest.mark.parametrize("unbuffered", [False, True])
def test_what_a_full_disk_does_not_take_of_stdout_is_one_sentence(unbuffered: bool) -> None:
    done = ran("sys.stdout.write('x' * 20)", "> /dev/full", unbuffered=unbuffered)
    assert (done.returncode, done.stderr) == (1, FULL)
    done = ran("sys.stdout.buffer.write(b'x' * 20_000)", "> /dev/full", unbuffered=unbuffered)
    assert (done.returncode, done.stderr) == (1, FULL)


def test_what_a_closed_stdout_does_not_take_is_one_sentence() -> None:
    done = ran("sys.stdout.write('x' * 20)", ">&-")
    assert (done.returncode, done.stderr) == (1, CLOSED)


def test_a_closed_stderr_changes_no_exit_code() -> None:
    done = ran("sys.stdout.write('done')", "2>&-")
    assert (done.returncode, done.stdout) == (0, "done")
    assert ran("raise OSError(5, 'no')", "2>&-").returncode == 1
    assert ran("raise OSError(5, 'no')", "2> /dev/full").returncode == 1


@pytest.mark.parametrize("how", ["2> /dev/full", "2>&-", "0<&- 2>&-"])
@pytest.mark.parametrize("json", [True, False])
def test_a_log_that_cannot_be_written_ends_no_role(how: str, json: bool) -> None:
    """A dispatcher ended at the line that it writes between an answer and its record."""
    act = f"""configure_logs("dispatch", "info", {json})
    for _ in range(300):
        structlog.get_logger().info("request", outcomes="x" * 100)
    sys.stdout.write("went on")"""
    done = ran(act, how)
    assert (done.returncode, done.stdout) == (0, "went on")


@pytest.mark.parametrize("how", ["> /dev/full", ">&-"])
def test_what_only_tells_where_things_are_may_get_lost(how: str) -> None:
    done = ran("mention('Kaskad serves.')", how)
    assert (done.returncode, done.stderr) == (0, "")


def test_an_interrupt_while_the_program_is_loaded_shows_no_traceback() -> None:
    act = "from gateway.cli import lean"
    before = """from gateway.cli import lean
lean.load_lean = lambda: os.kill(os.getpid(), signal.SIGINT)"""
    done = ran(act, before=before)
    assert (done.returncode, done.stderr) == (1, "Interrupted.\n")


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP, signal.SIGINT])
def test_a_signal_leaves_nothing_half_done(tmp_path: Path, number: signal.Signals) -> None:
    act = f"""with output(Path({str(tmp_path / "out")!r}), binary=False) as file:
        file.write(b"half")
        file.flush()
        os.kill(os.getpid(), {number.value})
        signal.sigtimedwait([], 20)"""
    done = ran(act)
    ended = 1 if number == signal.SIGINT else -number
    assert (done.returncode, done.stderr) == (ended, "Interrupted.\n")
    assert list(tmp_path.iterdir()) == []


def test_a_signal_while_a_library_is_loaded_ends_the_process(tmp_path: Path) -> None:
    """An interrupt there had DuckDB abort."""
    (tmp_path / "library.py").write_text("import os; os.kill(os.getpid(), 15)")
    done = ran(f"sys.path.insert(0, {str(tmp_path)!r}); import library")
    assert (done.returncode, done.stderr) == (-signal.SIGTERM, "")


def test_a_signal_that_is_ignored_stays_so() -> None:
    act = """os.kill(os.getpid(), signal.SIGINT)
    os.kill(os.getpid(), signal.SIGHUP)
    sys.stdout.write("went on")"""
    command = ["/bin/sh", "-c", """trap '' INT HUP; exec "$0" -c "$1" """]
    done = subprocess.run(
        [*command, sys.executable, PROGRAM.format(act, "")],
        env=ENVIRONMENT,
        capture_output=True,
        text=True,
        check=False,
    )
    assert (done.returncode, done.stdout) == (0, "went on")


# --- files ---


def test_a_file_that_does_not_fit_is_named(tmp_path: Path) -> None:
    full = tmp_path / "full"
    full.symlink_to("/dev/full")
    with pytest.raises(OSError, match="No space") as refused, output(full, binary=True) as file:
        file.write(b"x")
    assert refused.value.filename == str(full)
    assert full.is_symlink()


def test_what_is_no_file_is_written_into(tmp_path: Path) -> None:
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    read: list[bytes] = []
    reader = threading.Thread(target=lambda: read.append(pipe.read_bytes()), daemon=True)
    reader.start()
    with output(pipe, binary=True) as file:
        file.write(b"all of it")
    reader.join(20)
    assert read == [b"all of it"]
    assert pipe.is_fifo()


def test_a_file_behind_a_link_is_replaced_and_the_link_stays(tmp_path: Path) -> None:
    link, target = tmp_path / "link", tmp_path / "target"
    link.symlink_to(target)
    for text in (b"first", b"second"):
        with output(link, binary=True) as file:
            file.write(text)
        assert (link.is_symlink(), target.read_bytes()) == (True, text)


def test_the_name_of_stdout_is_stdout(tmp_path: Path) -> None:
    (tmp_path / "out").symlink_to("/proc/self/fd/1")
    act = f"""with output(Path({str(tmp_path / "out")!r}), binary=False) as file:
        file.write(b"all of it")"""
    assert ran(act, f"> {tmp_path / 'file'}").returncode == 0
    assert (tmp_path / "file").read_bytes() == b"all of it"
    assert (tmp_path / "out").is_symlink()


class Full:
    """A file on a disk that is full after a while, and of which is known when it is closed."""

    def __init__(self, room: int) -> None:
        self.closed = False
        self._room = room

    def write(self, octets: bytes) -> int:
        assert not self.closed
        self._room -= len(octets)
        if self._room < 0:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        return len(octets)

    def tell(self) -> int:
        return 0

    def seek(self, offset: int, _whence: int = 0) -> int:
        assert not self.closed
        return offset

    def flush(self) -> None:
        assert not self.closed


@pytest.mark.parametrize("room", [0, 300, 3_000])
def test_a_workbook_on_a_full_disk_is_an_error_of_the_system(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, room: int
) -> None:
    """Nothing is printed when it is cleared away, which a warning would be here."""
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    file: Any = Full(room)
    book = Workbook(file)
    book.sheet("Ledger", ["id"])
    for number in range(100):
        book.row([f"{number}"])
    with pytest.raises(OSError, match="No space"):
        book.close()
    file.closed = True
    del book
    assert list(tmp_path.iterdir()) == []


def test_a_workbook_that_is_given_up_leaves_no_rows(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    file: Any = Full(100_000)
    book = Workbook(file)
    book.sheet("Ledger", ["id"])
    book.row(["1"])
    assert list(tmp_path.iterdir()) != []
    file.closed = True
    del book
    assert list(tmp_path.iterdir()) == []
