"""A format or setting whose library is not installed: exit code 2, and the extra that brings it."""

from __future__ import annotations

import sys
import zipfile
from pathlib import Path

import pytest

from gateway.cli import app
from tests.cli.test_cli import edit
from tests.cli.test_cli import place as place  # the fixture

ARCHIVE = '[archive]\nurl = "archive"'
BUCKET = '[archive]\nurl = "s3://bucket/prefix"'
SCHEDULE = """[[reports.schedule]]
name = "daily"
every = "day"
format = "xlsx"
folder = "."

[archive]"""
INVOICE = ["reconcile", "--provider", "infobip-sms", "--invoice"]


@pytest.mark.parametrize(
    ("library", "tables", "words"),
    [
        ("xlsxwriter", "[archive]", ["report", "cost", "--format", "xlsx"]),
        ("xlsxwriter", "[archive]", ["ledger", "export", "--format", "xlsx"]),
        ("pyarrow", "[archive]", ["ledger", "export", "--format", "parquet"]),
        ("xlsxwriter", SCHEDULE, ["report", "run"]),
        ("xlsxwriter", SCHEDULE, ["report", "run", "--once"]),
        ("xlsxwriter", "[archive]", [*INVOICE, "invoice.csv", "--format", "xlsx"]),
        ("python_calamine", "[archive]", [*INVOICE, "invoice.xlsx"]),
        *(
            (library, tables, words)
            for library, tables in (("pyarrow", ARCHIVE), ("duckdb", ARCHIVE), ("obstore", BUCKET))
            for words in (
                ["archive", "run"],
                ["archive", "run", "--once"],
                ["archive", "verify"],
                ["archive", "status"],
                ["report", "verify"],
                ["ledger", "export"],
                ["close", "2026-10"],
                [*INVOICE, "invoice.csv"],
            )
        ),
    ],
)
def test_it_is_exit_2_naming_the_extra(
    place: Path,
    redis_url: str,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    library: str,
    tables: str,
    words: list[str],
) -> None:
    edit(place, "\n[archive]\n", f"\n{tables}\n")
    monkeypatch.setenv("KASKAD_ARCHIVE_KEY", "a key of the archive's hashes")
    monkeypatch.setenv("KASKAD_REDIS_URL", redis_url)
    monkeypatch.setitem(sys.modules, library, None)
    monkeypatch.chdir(place)
    Path("invoice.csv").write_text("id,to,at,parts,price\n")
    with zipfile.ZipFile("invoice.xlsx", "w") as file:
        file.writestr("x", "")
    assert app.run(words) == 2
    said = capsys.readouterr()
    assert f"the library {library}" in said.err
    assert "pip install 'kaskad[archive]'" in said.err
    assert len(said.err.splitlines()) == 1, "one sentence"
    assert sorted(path.name for path in place.iterdir()) == [
        *("invoice.csv", "invoice.xlsx", "kaskad.toml", "prices.csv"),
    ]
