"""A report as a table for the terminal.

Numbers are right-aligned and never cut: where a terminal is too narrow the least telling columns
are left out, and the caption names them; where even that is too much lines are longer than it is,
and it folds them. It cannot fail.
"""

from __future__ import annotations

from rich import box
from rich.table import Table
from rich.text import Text

from gateway.core.channels import BASELINE_COLUMN, label_of
from gateway.finance.reports.formats import to_words
from gateway.finance.reports.report import Report

WIDTH_DEFAULT = 100
NAME_CHARS_MAX = 32  # of a key; a longer one is folded onto further lines
_GAP = 2  # between columns
_TOTAL = "Total"

# What goes first where there is no room for all: it follows from the others, or counts rare things.
_DISPENSABLE = (
    "click_pct_low",
    "click_pct_high",
    "click_pct",
    "assisted",
    "revenue_per_delivered",
    "revenue",
    "conversions",
    "bot_clicks",
    "cost_per_click",
    "clicked",
    "seen",
    "parts",
    BASELINE_COLUMN,
    "double_delivered",
    "sent",
    "suppressed",
    "duplicates",
    "undelivered",
    "undelivered_messages",
    "billed",
)

_HEADERS = {
    "accepted": "Accepted",
    "duplicates": "Dupli-\ncates",
    "suppressed": "Sup-\npressed",
    "sent": "Sent",
    "delivered": "Deli-\nvered",
    "double_delivered": "Deliv.\ntwice",
    "undelivered": "Unde-\nlivered",
    "parts": "Parts",
    "cost": "Cost",
    "billed": "Billed",
    "cost_per_delivered": "Cost per\ndelivered",
    BASELINE_COLUMN: "",  # named after the baseline's channel
    "saved": "Saved",
    "saved_pct": "Saved\n%",
    "undelivered_messages": "Messages\nundeliv.",
    "seen": "Seen",
    "clicked": "Clicked",
    "bot_clicks": "Bot\nclicks",
    "cost_per_click": "Cost per\nclick",
    "conversions": "Conver-\nsions",
    "assisted": "As-\nsisted",
    "revenue": "Revenue",
    "revenue_per_delivered": "Revenue per\ndelivered",
    "click_pct": "Click\nrate %",
    "click_pct_low": "at\nleast",
    "click_pct_high": "at\nmost",
}


def render_table(report: Report, width: int = WIDTH_DEFAULT) -> Table:
    """The rows and, in bold, their total. `width` is the terminal's, in characters."""
    rows, total = to_words(report)
    query = report.query
    headers = _HEADERS | {BASELINE_COLUMN: f"{label_of(report.baseline)}\nonly"}
    names = {key: _name_width(key, rows) for key in query.group_by}
    numbers = {
        column: max(
            *(len(line) for line in header.split("\n")),
            *(len(row[column]) for row in (*rows, total)),
        )
        for column, header in headers.items()
        if column in total
    }
    left_out = _left_out(names, numbers, width)
    shown = [column for column in numbers if column not in left_out]
    widths = {column: numbers[column] for column in shown}
    fits = _room({**names, **widths}) <= width
    least = _room({**{key: max(len(key), len(_TOTAL)) for key in names}, **widths})
    table = Table(
        title=f"Cost, {query.from_day} to {query.to_day} ({report.zone}), in {report.currency}",
        title_justify="left",
        title_style="bold",
        caption=_caption(report, left_out),
        caption_justify="left",
        box=box.SIMPLE,
        padding=(0, _GAP - 1, 0, 0),
        pad_edge=False,
        show_edge=False,
        show_footer=bool(names),
        footer_style="bold",
        width=least if _room({**dict.fromkeys(names, 1), **widths}) > width else None,
    )
    for position, (key, name_width) in enumerate(names.items()):
        footer = _TOTAL if position == 0 else ""
        wide = name_width if fits else None
        table.add_column(key.capitalize(), footer, min_width=wide, overflow="fold")
    for column in shown:
        table.add_column(headers[column], total[column], justify="right", no_wrap=True)
    for row in rows if names else [total]:
        table.add_row(*(Text(row[key]) for key in names), *(row[column] for column in shown))
    return table


def _name_width(key: str, rows: list[dict[str, str]]) -> int:
    longest = max([len(row[key]) for row in rows], default=0)
    return max(len(key), len(_TOTAL), min(longest, NAME_CHARS_MAX))


def _room(widths: dict[str, int]) -> int:
    return sum(widths.values()) + _GAP * (len(widths) - 1)


def _left_out(names: dict[str, int], numbers: dict[str, int], width: int) -> list[str]:
    """The columns of numbers for which there is no room beside the others."""
    wanted = _room({**names, **numbers})
    left_out = []
    for column in _DISPENSABLE:
        if wanted <= width:
            break
        if column in numbers:
            wanted -= numbers[column] + _GAP
            left_out.append(column)
    return left_out


def _caption(report: Report, left_out: list[str]) -> str | None:
    if not report.lines:
        return "Nothing was booked in these days."
    if not left_out:
        return None
    return f"Left out for want of room: {', '.join(left_out)}."
