"""Who reacts to what: click rates side by side, each with the interval in which it lies 19 times of
20, and what came of it. By channel, and for one campaign by step, channel and variant. Pure.

The rate is of delivered steps. Where two intervals overlap, the difference may be chance.
"""

from __future__ import annotations

from collections.abc import Sequence

import msgspec

from gateway.core.channels import label_of
from gateway.core.rates import MILLION, interval
from gateway.finance.formats import NOTHING, number
from gateway.finance.question import Query
from gateway.finance.report import Figures, Line, Report
from gateway.ingress.pages.report_charts import percent

ROWS_MAX = 50


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


def reaction_keys(query: Query) -> tuple[str, ...]:
    """What is set side by side."""
    campaigns = [value for key, value in query.filters if key == "campaign"]
    return ("step", "channel", "variant") if len(campaigns) == 1 else ("channel",)


def reacting(report: Report) -> Sequence[Reacting]:
    """The rows in which something was delivered; none where nobody clicked on anything."""
    lines = [line for line in report.lines if _arrived(line.figures)]
    if not report.total.clicked:
        return ()
    bounds = [_bounds(line.figures) for line in lines]
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


def _arrived(figures: Figures) -> int:
    """Steps that were delivered, also beside another of their leg."""
    return figures.delivered + figures.double_delivered


def _bounds(figures: Figures) -> tuple[int, int, int]:
    """The click rate between its bounds, in millionths."""
    count = _arrived(figures)
    clicked = min(figures.clicked, count)
    low, high = interval(clicked / count, count)
    return low, clicked * MILLION // count, high


def _label(keys: Sequence[str], line: Line) -> str:
    named = dict(zip(keys, line.keys, strict=True))
    parts = [] if named.get("step") is None else [f"{int(str(named['step'])) + 1}."]
    parts.append(label_of(str(named["channel"])) if named["channel"] else NOTHING)
    if named.get("variant"):
        parts.append(f"({named['variant']})")
    return " ".join(parts)
