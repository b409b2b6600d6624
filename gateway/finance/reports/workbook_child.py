"""A report as a workbook, made in a process of its own:
`python -m gateway.finance.reports.workbook_child` reads the report on stdin and writes the workbook
to stdout.

A worker that takes messages asks one for it, since what it would import stays in memory. Without
the library it says so on stderr and ends with MISSING.
"""

from __future__ import annotations

import io
import subprocess
import sys

import msgspec

from gateway.finance.extras import MissingExtra
from gateway.finance.reports.report import Report

MISSING = 2
WAIT_S = 60


class WorkbookFailed(Exception):
    """The process ended without a workbook."""


def workbook_of(report: Report) -> bytes:
    """Waits for the process. Raises MissingExtra and WorkbookFailed."""
    command = [sys.executable, "-m", "gateway.finance.reports.workbook_child"]
    try:
        done = subprocess.run(
            command,
            input=msgspec.msgpack.encode(report),
            capture_output=True,
            timeout=WAIT_S,
            check=False,
        )
    except subprocess.TimeoutExpired:
        raise WorkbookFailed(f"No workbook was made within {WAIT_S} s.") from None
    if done.returncode == MISSING:
        raise MissingExtra(done.stderr.decode(errors="replace").strip())
    if done.returncode:
        raise WorkbookFailed(done.stderr.decode(errors="replace")[-400:])
    return done.stdout


def main() -> int:
    """One report, one workbook."""
    from gateway.finance.reports.report_workbook import write_workbook

    report = msgspec.msgpack.decode(sys.stdin.buffer.read(), type=Report)
    file = io.BytesIO()
    try:
        write_workbook(report, file)
    except MissingExtra as fault:
        sys.stderr.write(f"{fault}\n")
        return MISSING
    sys.stdout.buffer.write(file.getvalue())
    return 0


if __name__ == "__main__":
    sys.exit(main())
