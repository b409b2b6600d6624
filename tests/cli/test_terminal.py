"""What is printed is shown on a terminal of any encoding, as well as it can be."""

from __future__ import annotations

import errno
import io
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

from gateway.cli import progress
from gateway.cli.failures import UsageFault, tell
from gateway.cli.tables import print_table
from gateway.cli.terminal import show_anyway, whole
from gateway.finance.reports.report import build
from gateway.finance.reports.table import render_table
from tests.finance.reports.test_report import ask, booked


@pytest.mark.parametrize("encoding", ["ascii", "latin-1", "cp1251", "cp437", "koi8-r", "utf-8"])
def test_a_table_is_printed_on_a_terminal_of_any_encoding(encoding: str) -> None:
    raw = io.BytesIO()
    stream = io.TextIOWrapper(raw, encoding=encoding, errors="strict")
    show_anyway(stream)
    report = build([booked("sent", 1, campaign="весна – ▲")], ask("campaign"), "EUR")
    Console(file=stream, width=160).print(render_table(report, 160))
    stream.flush()
    shown = raw.getvalue().decode(encoding)
    assert ("весна" if encoding in ("cp1251", "koi8-r", "utf-8") else "?????") in shown
    assert ("–" if encoding in ("cp1251", "utf-8") else "-") in shown


def test_the_command_line_takes_any_encoding() -> None:
    program = "import sys; from gateway.cli import main; sys.argv[1:] = ['report', '—']; main()"
    done = subprocess.run(
        [sys.executable, "-c", program],
        env={"PYTHONIOENCODING": "ascii:strict", "PYTHONPATH": "."},
        capture_output=True,
        check=False,
    )
    assert done.returncode == 2
    assert b"'-'" in done.stderr


class Narrow(io.RawIOBase):
    """Takes a few bytes at a time, and no more than so many."""

    def __init__(self, room: int) -> None:
        self.taken = b""
        self._room = room

    def writable(self) -> bool:
        return True

    def write(self, data: Any) -> int:
        some = bytes(data[: min(3, self._room - len(self.taken))])
        if not some:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        self.taken += some
        return len(some)


def test_what_is_written_without_buffers_is_whole_or_fails() -> None:
    narrow = Narrow(room=12)
    before = io.TextIOWrapper(narrow, encoding="utf-8", write_through=True)  # type: ignore[type-var]
    stream = whole(before)
    stream.write("десять")
    stream.flush()
    assert narrow.taken.decode() == "десять"
    stream.write("more")
    with pytest.raises(OSError, match="No space"):
        stream.flush()
    narrow.close()  # else what is left would be tried once more


def test_a_command_whose_output_does_not_fit_ends_with_1(tmp_path: Path) -> None:
    """As on a full disk. Without buffers, as in our image, it ended with 0."""
    program = """
import sys
from gateway.cli import main
from gateway.cli.app import app

@app.command()
def write() -> None:
    sys.stdout.buffer.write(b"x" * 9_000)

sys.argv[1:] = ["write"]
main()
"""
    command = 'ulimit -f 1; exec "$0" -c "$1" > "$2"'
    done = subprocess.run(
        ["/bin/sh", "-c", command, sys.executable, program, str(tmp_path / "out")],
        env={"PYTHONUNBUFFERED": "1", "PYTHONDONTWRITEBYTECODE": "1", "PYTHONPATH": "."},
        capture_output=True,
        check=False,
    )
    assert done.returncode == 1
    assert done.stderr == (
        b"File too large: raise the limit for files (`ulimit -f`), and run it again.\n"
    )


def test_words_of_others_move_no_cursor(capsys: pytest.CaptureFixture[str]) -> None:
    print_table(["name", "reason"], [{"name": "sms", "reason": "no \x1b[2J\x9b1A\r\nway"}], "")
    assert capsys.readouterr().out == "NAME  REASON\nsms   no ?[2J?1A??way\n"
    tell(UsageFault("i.csv has no column 'price'.\nIts header is: \x1b]0;a\x07."))
    assert capsys.readouterr().err == "i.csv has no column 'price'.\nIts header is: ?]0;a?.\n"


def test_long_work_shows_how_far_it_is_where_somebody_looks(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("FORCE_COLOR", "1")
    monkeypatch.setenv("TERM", "xterm")  # on a dumb one nothing is shown
    monkeypatch.setenv("COLUMNS", "80")
    with progress.counting() as shown:
        assert list(shown.of(range(2_345), "By id")) == list(range(2_345))
    said = capsys.readouterr()
    assert "By id" in said.err
    assert "2,345 lines" in said.err
    assert said.out == ""


def test_nothing_is_shown_where_nobody_looks(capsys: pytest.CaptureFixture[str]) -> None:
    with progress.counting() as shown:
        assert list(shown.of([], "By id")) == []
    assert capsys.readouterr() == ("", "")
