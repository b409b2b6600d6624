"""Reports and ledger lines as files, by the commands that write them."""

from __future__ import annotations

import csv
import io
from pathlib import Path

import pytest
import python_calamine

from gateway.cli import app
from gateway.cli.app import run as run_command
from gateway.redis.asyncio_driver import run
from tests.cli.test_cli import place as place  # the fixture
from tests.finance.reports.test_ledger import NOON, book, money

DAY = ["--from", "2026-11-21", "--to", "2026-11-21"]


@pytest.fixture
def booked(place: Path, redis_url: str, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A Redis with two deliveries, beside the configuration."""
    monkeypatch.setenv("KASKAD_REDIS_URL", redis_url)
    posts = [money(delivered=1, sent=1, cost=5_000, billed=9_000)] * 2
    run(redis_url, lambda redis: book(redis, 0, posts, NOON))
    return place


def test_the_lines_are_exported_to_a_file(booked: Path) -> None:
    out = booked / "lines.csv"
    assert run_command(["ledger", "export", *DAY, "--out", str(out)]) == 0
    lines = list(csv.DictReader(io.StringIO(out.read_text(), newline="")))
    assert [(line["kind"], line["amount"]) for line in lines] == [
        ("cost", "0.0050"),
        ("bill", "0.0090"),
    ] * 2
    assert not list(booked.glob("*.unfinished"))


def test_the_lines_go_to_stdout_and_can_be_filtered(
    booked: Path, capfdbinary: pytest.CaptureFixture[bytes]
) -> None:
    words = ["ledger", "export", *DAY, "--format", "ndjson", "--where"]
    assert run_command([*words, "campaign=winter"]) == 0
    assert capfdbinary.readouterr().out == b""
    assert run_command([*words, "campaign=autumn"]) == 0
    assert len(capfdbinary.readouterr().out.splitlines()) == 4


def test_a_report_is_a_workbook_with_numbers(booked: Path) -> None:
    out = booked / "cost.xlsx"
    words = ["report", "cost", *DAY, "--group-by", "day,campaign", "--format", "xlsx", "--rates"]
    assert run_command([*words, "--out", str(out)]) == 0
    book_ = python_calamine.CalamineWorkbook.from_path(out)
    header, row = book_.get_sheet_by_name("Cost").to_python()
    cells = dict(zip(header, row, strict=True))
    assert str(cells["day"]) == "2026-11-21"
    assert (cells["campaign"], cells["delivered"], cells["cost"]) == ("autumn", 2, 0.01)
    assert (cells["click_pct"], cells["click_pct_high"]) == (0, 65.76)
    header, total = book_.get_sheet_by_name("Total").to_python()
    assert dict(zip(header, total, strict=True))["billed"] == 0.018


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        (["ledger", "export", "--format", "xml"], "use csv, ndjson, parquet, xlsx"),
        (["ledger", "export", "--where", "channel=pigeon"], "There can be no channel"),
        (["report", "cost", "--out", "x"], "A table goes to the terminal"),
        (["ledger", "export", "--out", "none/x.csv"], "name a file in a folder that is there"),
        (["report", "cost", "--format", "csv", "--out", "."], "is a folder: name a file in it"),
    ],
)
def test_what_cannot_be_written_is_exit_2(
    booked: Path, capsys: pytest.CaptureFixture[str], words: list[str], sentence: str
) -> None:
    assert app.run(words) == 2
    assert sentence in capsys.readouterr().err.replace("\n", " ")


def test_the_shipped_price_list_is_not_doubted(place: Path) -> None:
    assert app.run(["prices", "check", "--json"]) == 0


def test_a_loss_is_told_and_is_exit_1(place: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with (place / "prices.csv").open("a") as file:
        file.write("infobip-sms,999,,0.5000,0.1000,EUR,2026-01-01\n")
    assert app.run(["prices", "check"]) == 1
    assert "sells for 0.1000 what costs 0.5000" in capsys.readouterr().out


def test_a_published_list_becomes_a_price_file(place: Path) -> None:
    (place / "list.csv").write_text("Country Code,MCC,MNC,Price,Currency\n49,262,01,0.1,EUR\n")
    out = place / "imported.csv"
    words = ["prices", "import", str(place / "list.csv"), "--from", "infobip"]
    words += ["--provider", "infobip-sms", "--markup", "20", "--valid-from", "2026-12-01"]
    assert app.run([*words, "--out", str(out)]) == 0
    assert out.read_text().splitlines() == [
        "provider,prefix,category,cost,sell,currency,valid_from,mccmnc",
        "infobip-sms,,,0.100000,0.120000,EUR,2026-12-01,26201",
    ]
    assert app.run(["prices", "import", "x", "--from", "ours", "--provider", "infobip-sms"]) == 2
    assert app.run(["prices", "import", "x", "--from", "twilio", "--provider", "infobip-sms"]) == 2
