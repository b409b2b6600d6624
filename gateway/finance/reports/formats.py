"""A report as JSON, as CSV and as words for people. It cannot fail.

CSV is RFC 4180 in UTF-8 without a byte order mark: a header, a row a line, no total, since a sum
among the rows would be added up again. Names come from callers, and a spreadsheet would run one
that looks like a formula, also behind spaces: such a cell gets an apostrophe in front, numbers
never.
"""

from __future__ import annotations

import csv
import io
import re

import orjson

from gateway.finance.reports.report import Cell, Report

CSV_TYPE = "text/csv; charset=utf-8; header=present"
XLSX_TYPE = "application/vnd.openxmlformats-officedocument.spreadsheetml.sheet"

NO_CAMPAIGN = "(none)"  # in CSV, where an empty cell would read as a mistake
NOTHING = "–"  # what people see for a null

# A spreadsheet may begin a formula with one of these, the full-width ones too, and drop what stands
# before it: white space, and format characters.
_FORMULA_STARTS = tuple("=+-@＝＋－＠")
_DROPPED_STARTS = tuple("\t\r\n")
_DROPPED_INSIDE = "\ufeff\u200b\u2060\u00ad"
_is_number = re.compile(r"[+-][0-9]+(?:\.[0-9]+)?").fullmatch  # an amount, or a phone


def to_json(report: Report) -> bytes:
    """`{"from", "to", "group_by", "zone", "rows", "total"}`, as CONTRACT.md section 7 fixed it."""
    query = report.query
    return orjson.dumps(
        {
            "from": query.from_day,
            "to": query.to_day,
            "group_by": query.group_by,
            "zone": report.zone,
            "rows": report.rows(),
            "total": report.total_row(),
        }
    )


def to_csv(report: Report) -> bytes:
    """The rows under a header with the same columns; a null is an empty cell. A message without a
    campaign stands under NO_CAMPAIGN."""
    text = io.StringIO(newline="")
    writer = csv.writer(text, lineterminator="\r\n")
    writer.writerow(report.columns)
    names = frozenset(report.query.group_by)
    for row in report.rows():
        writer.writerow([_name(key, cell) if key in names else cell for key, cell in row.items()])
    return text.getvalue().encode()


def file_name(report: Report, form: str) -> str:
    """What a browser calls the downloaded file."""
    return f"cost-{report.query.from_day}-to-{report.query.to_day}.{form}"


def to_words(report: Report) -> tuple[list[dict[str, str]], dict[str, str]]:
    """The rows and the total as people read them.

    Thousands are set apart, and one column has one number of decimals, so that the points stand
    under each other; no digit is lost.
    """
    rows, total = report.rows(), report.total_row()
    names = frozenset(report.query.group_by)
    words: list[dict[str, str]] = [{} for _ in rows]
    words_total: dict[str, str] = {}
    for column in report.columns:
        if column in names:
            for word, row in zip(words, rows, strict=True):
                word[column] = NOTHING if row[column] is None else str(row[column])
            continue
        decimals = max(_decimals(row[column]) for row in (*rows, total))
        for word, row in zip(words, rows, strict=True):
            word[column] = number(row[column], decimals)
        words_total[column] = number(total[column], decimals)
    return words, words_total


def number(cell: Cell, decimals: int = 0) -> str:
    """One cell for people; a decimal string is filled up with zeros to `decimals`."""
    if cell is None:
        return NOTHING
    whole, point, fraction = str(cell).partition(".")
    if not whole.lstrip("-").isdigit():
        return whole
    sign = "-" if whole.startswith("-") else ""
    return (
        f"{sign}{int(whole.lstrip('-')):,}{point}{fraction.ljust(decimals, '0') if point else ''}"
    )


def _decimals(cell: Cell) -> int:
    return len(cell.partition(".")[2]) if isinstance(cell, str) else 0


def _name(key: str, cell: Cell) -> Cell:
    return NO_CAMPAIGN if key == "campaign" and cell is None else harmless(cell)


def harmless(cell: Cell) -> Cell:
    """A cell that no spreadsheet runs."""
    if not isinstance(cell, str) or cell[:1].isalnum() or _is_number(cell):
        return cell
    shown = cell
    while (rest := shown.lstrip().lstrip(_DROPPED_INSIDE)) != shown:
        shown = rest
    runs = cell.startswith(_DROPPED_STARTS) or shown.startswith(_FORMULA_STARTS)
    return f"'{cell}" if runs else cell
