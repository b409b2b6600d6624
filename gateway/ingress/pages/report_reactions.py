"""Who reacts to what: click rates side by side, each with the interval in which it lies 19 times of
20, and what came of it. By channel, and for one campaign by step, channel and variant. Pure.

The rate is of delivered steps. Where two intervals overlap, the difference may be chance.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Sequence

import msgspec

from gateway.core.channels import label_of
from gateway.core.people.rates import MILLION
from gateway.finance.question import Query
from gateway.finance.reports.formats import NOTHING, number
from gateway.finance.reports.report import ClickRate, Report, ReportLine
from gateway.ingress.pages.report_charts import amount, percent

ROWS_MAX = 50
NO_RATE = ClickRate(0, 0, 0)
# What a step adds to those before it.
ADDED = (
    ("cost", "Cost"),
    ("seen", "Seen"),
    ("clicked", "Clicked"),
    ("conversions", "Conversions"),
    ("revenue", "Revenue"),
)
_AMOUNTS = ("cost", "revenue")


class Reacting(msgspec.Struct, frozen=True):
    """One row. `low` and `span` are shares of the chart's width, where the interval begins and how
    long it is, and `at` where the rate is."""

    label: str
    delivered: str
    clicked: str
    rate: str
    between: str
    cost_per_click: str
    conversions: str
    revenue_per_delivered: str
    low: str
    span: str
    at: str


class Added(msgspec.Struct, frozen=True):
    """A step's sums, a cell a column of ADDED; of a further one with what share of those before it
    they are."""

    label: str
    cells: tuple[str, ...]


def reaction_keys(query: Query) -> tuple[str, ...]:
    """What is set side by side."""
    campaigns = [value for key, value in query.filters if key == "campaign"]
    return ("step", "channel", "variant") if len(campaigns) == 1 else ("channel",)


def reacting(report: Report) -> Sequence[Reacting]:
    """The rows in which something was delivered; none where nobody clicked on anything."""
    lines = [line for line in report.lines if line.figures.click_rate is not None]
    if not report.total.clicked:
        return ()
    bounds = [line.figures.click_rate or NO_RATE for line in lines]
    widest = max((high for _, _, high in bounds), default=1) or 1
    return [
        Reacting(
            _label(report.query.group_by, line),
            number(line.figures.delivered),
            number(line.figures.clicked),
            percent(rate, MILLION),
            f"{percent(low, MILLION)} to {percent(high, MILLION)}",
            number(line.figures.cost_per_click),
            number(line.figures.conversions),
            number(line.figures.revenue_per_delivered),
            percent(low, widest),
            percent(high - low, widest),
            percent(rate, widest),
        )
        for line, (low, rate, high) in list(zip(lines, bounds, strict=True))[:ROWS_MAX]
    ]


def added(report: Report) -> Sequence[Added]:
    """What each step of a campaign added to those before it, of whatever channel and variant; none
    where there was but one."""
    if "step" not in report.query.group_by:
        return ()
    place = report.query.group_by.index("step")
    by_step: defaultdict[int, Counter[str]] = defaultdict(Counter)
    for line in report.lines:
        if isinstance(step := line.keys[place], int):
            by_step[step].update({name: getattr(line.figures, name) for name, _ in ADDED})
    if len(by_step) < 2:
        return ()
    so_far: Counter[str] = Counter()
    rows: list[Added] = []
    for step, sums in sorted(by_step.items()):
        cells = tuple(_added(name, sums[name], so_far[name], bool(rows)) for name, _ in ADDED)
        rows.append(Added(f"{step + 1}.", cells))
        so_far.update(sums)
    return rows


def _added(name: str, more: int, before: int, further: bool) -> str:
    text = amount(more) if name in _AMOUNTS else number(more)
    if not further:
        return text
    share = f" ({percent(more, before)} more)" if more > 0 and before > 0 else ""
    return f"{'+' if more >= 0 else ''}{text}{share}"


def _label(keys: Sequence[str], line: ReportLine) -> str:
    named = dict(zip(keys, line.keys, strict=True))
    parts = [] if named.get("step") is None else [f"{int(str(named['step'])) + 1}."]
    parts.append(label_of(str(named["channel"])) if named["channel"] else NOTHING)
    if named.get("variant"):
        parts.append(f"({named['variant']})")
    return " ".join(parts)
