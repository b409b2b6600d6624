"""A report written down: JSON, CSV that no spreadsheet runs, and a table that fits the terminal."""

from __future__ import annotations

import csv
import io
import json
import re

import pytest
from hypothesis import given
from hypothesis import strategies as st
from rich.console import Console

from gateway.finance.question import KEYS
from gateway.finance.reports.formats import file_name, number, to_csv, to_json, to_words
from gateway.finance.reports.report import Report, build
from gateway.finance.reports.table import render_table
from tests.finance.reports.test_report import BOOKED, ask, booked


def report(*keys: str) -> Report:
    return build(BOOKED, ask(*keys), "EUR")


def csv_rows(of: Report) -> list[dict[str, str]]:
    return list(csv.DictReader(io.StringIO(to_csv(of).decode(), newline="")))


# --- JSON and CSV ---------------------------------------------------------------------------------


def test_json_is_the_contracts_document() -> None:
    document = json.loads(to_json(report("channel", "country")))
    assert list(document) == ["from", "to", "group_by", "zone", "rows", "total"]
    assert (document["from"], document["to"]) == ("2026-11-21", "2026-11-21")
    assert document["group_by"] == ["channel", "country"]
    assert document["rows"] == report("channel", "country").rows()
    assert document["total"] == report("channel", "country").total_row()


@pytest.mark.parametrize("keys", [("campaign",), ("day", "channel"), ()])
def test_csv_has_the_same_columns_and_cells(keys: tuple[str, ...]) -> None:
    of = report(*keys)
    assert to_csv(of).split(b"\r\n")[0].decode().split(",") == list(of.columns)
    told = [{k: "" if v is None else str(v) for k, v in row.items()} for row in of.rows()]
    assert csv_rows(of) == told


def test_csv_lines_end_as_the_standard_says_and_nothing_follows_the_last() -> None:
    octets = to_csv(report("channel"))
    assert octets.endswith(b"\r\n")
    assert octets.count(b"\r\n") == octets.count(b"\n") == 3


@pytest.mark.parametrize("spaces", ["", " ", "\u00a0", " \u3000\ufeff", "\u200b "])
@pytest.mark.parametrize("start", ["=", "+", "-", "-1+", "@", "\t", "\r", "\n", "＝"])
def test_a_name_that_looks_like_a_formula_is_made_harmless(start: str, spaces: str) -> None:
    name = (start if start.isspace() else spaces + start) + 'HYPERLINK("http://evil.example")'
    of = build([booked("sent", 1, campaign=name, app=name)], ask("app", "campaign"), "EUR")
    (row,) = csv_rows(of)
    assert row["campaign"] == row["app"] == "'" + name


@pytest.mark.parametrize("name", [" autumn", "\u00a0summer - late", "a=b", "-5", "+447911123456"])
def test_other_names_stay_as_they_are(name: str) -> None:
    of = build([booked("sent", 1, campaign=name)], ask("campaign"), "EUR")
    assert csv_rows(of)[0]["campaign"] == name


def test_a_negative_amount_stays_a_number() -> None:
    of = build([booked("cost", 5_000)], ask("campaign"), "EUR")
    assert csv_rows(of)[0]["saved"] == "-0.0050"


@given(st.text(st.characters(codec="utf-8"), min_size=1, max_size=20))
def test_any_name_survives_csv_but_for_the_apostrophe(name: str) -> None:
    of = build([booked("sent", 1, campaign=name)], ask("campaign"), "EUR")
    assert csv_rows(of)[0]["campaign"] in (name, "'" + name)


def test_the_file_is_named_after_its_days() -> None:
    assert file_name(report(), "csv") == "cost-2026-11-21-to-2026-11-21.csv"


# --- for people -----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("cell", "decimals", "words"),
    [
        (1_234_567, 0, "1,234,567"),
        ("1234.5678", 4, "1,234.5678"),
        ("0.0120", 6, "0.012000"),
        ("-0.0120", 4, "-0.0120"),
        ("-1234.0000", 4, "-1,234.0000"),
        (None, 6, "–"),
        ("EUR", 0, "EUR"),
    ],
)
def test_numbers_are_set_apart_and_lose_no_digit(
    cell: int | str | None, decimals: int, words: str
) -> None:
    assert number(cell, decimals) == words


def test_one_column_has_one_number_of_decimals() -> None:
    rows = [booked("cost", 5_000), booked("cost", 1_234_567_891, channel="sms")]
    words, total = to_words(build(rows, ask("channel"), "EUR"))
    assert [row["cost"] for row in words] == ["1,234.567891", "0.005000"]
    assert total["cost"] == "1,234.572891"


def shown(of: Report, width: int) -> list[str]:
    console = Console(width=width, file=io.StringIO(), force_terminal=False)
    with console.capture() as captured:
        console.print(render_table(of, width), crop=False)
    return captured.get().splitlines()


@pytest.mark.parametrize("width", [1, 10, 20, 40])
def test_a_terminal_that_is_too_narrow_cuts_nothing(width: int) -> None:
    lines = shown(report("channel"), width)
    assert not any("…" in line for line in lines)
    total = next(line for line in lines if line.startswith("Total"))
    assert "0.0900" in total.split()


def test_the_table_shows_every_row_and_the_total() -> None:
    lines = shown(report("channel"), 100)
    assert lines[0].strip() == "Cost, 2026-11-21 to 2026-11-21 (UTC), in EUR"
    assert any(line.split()[:2] == ["sms", "2"] for line in lines)
    total = next(line for line in lines if line.startswith("Total"))
    assert total.split() == (
        [
            "Total",
            "6",
            "3",
            "0",
            "2",
            "2",
            "0.0900",
            "0.1580",
            "0.030000",
            "0.1600",
            "0.0700",
            "43.75",
            "2",
        ]
    )


@pytest.mark.parametrize("width", [60, 80, 100, 140])
@pytest.mark.parametrize("keys", [(), ("campaign",), ("channel",), ("day", "campaign", "channel")])
def test_no_number_is_cut_and_what_has_no_room_is_named(keys: tuple[str, ...], width: int) -> None:
    of = report(*keys)
    lines = shown(of, width)
    assert max(len(line) for line in lines) <= width
    assert "…" not in "".join(lines)
    total = next(line for line in lines if "0.0900" in line and (not keys or "Total" in line))
    cells = total.removeprefix("Total").split()
    left_out = " ".join(lines).partition("Left out for want of room: ")[2].rstrip(". ")
    hidden = set(re.split(r",\s+", left_out)) - {""}
    assert hidden < set(of.columns)
    assert len(cells) + len(hidden) == len(of.columns) - len(keys) - len(["currency"])


def test_a_wide_terminal_shows_every_column() -> None:
    assert not any("room" in line for line in shown(report("campaign"), 220))


def test_names_are_shown_as_they_are_whatever_they_look_like() -> None:
    of = build([booked("sent", 1, campaign="[red]sale[/red]")], ask("campaign"), "EUR")
    assert any("[red]sale[/red]" in line for line in shown(of, 100))


def test_a_report_of_nothing_says_so() -> None:
    assert (
        shown(build([], ask(*KEYS[:2]), "EUR"), 100)[-1].strip()
        == "Nothing was booked in these days."
    )
