"""The charts of the report page: their bars, to scale, and what they say in words. Pure."""

from __future__ import annotations

import datetime
from collections.abc import Mapping, Sequence

import msgspec

from gateway.core import money
from gateway.core.channels import CHANNELS, label_of
from gateway.finance.formats import number
from gateway.finance.question import Query
from gateway.finance.report import Figures, Report

BAR_HEIGHT = 14
_BAR_PITCH = 50  # pixels from one bar to the next
_TEXT_Y = 16
_BAR_Y = 24
DAYS_APART_MAX = 92  # a longer time is drawn by months
TIME_HEIGHT = 120  # pixels of the highest bar
_TENTHS = 1_000  # of a per cent, in a whole
_BAR_SHARE = 800  # of what a day has of the width, in thousandths


class Bar(msgspec.Struct, frozen=True):
    """`width` is a share of the chart's; `y` and `text_y` are pixels from its top."""

    label: str
    kind: str
    value: str
    delivered: str
    cost: str
    width: str
    y: int
    text_y: int


class Moment(msgspec.Struct, frozen=True):
    """A day's or month's bar: `x` and `width` are shares of the chart's, the rest is in pixels."""

    label: str
    delivered: str
    cost: str
    x: str
    width: str
    y: int
    height: int


def amount(micros: int) -> str:
    """For people."""
    return number(money.format_amount(micros))


def channel_bars(channels: Report) -> Sequence[Bar]:
    """A bar a channel, one for all of them, and one for what the same messages had cost on the
    baseline's."""
    total = channels.total
    if not total.delivered:
        return ()
    figures = [
        (label_of(name), _colour(name), line.figures)
        for line in channels.lines
        if line.figures.delivered and (name := str(line.keys[0] or ""))
    ]
    figures.sort(key=lambda bar: bar[2].cost * 1_000 // bar[2].delivered)
    without = Figures(delivered=total.delivered, cost=total.baseline_cost)
    figures += [
        ("Together", "all", total),
        (f"Had all been {label_of(channels.baseline)}", "without", without),
    ]
    # Micros over a thousand messages: fine enough to draw.
    costs = [max(f.cost, 0) * 1_000 // f.delivered for _, _, f in figures]
    longest = max(*costs, 1)
    return [
        Bar(
            label=label,
            kind=kind,
            value=number(figure.cost_per_delivered),
            delivered=number(figure.delivered),
            cost=amount(figure.cost),
            width=percent(cost, longest),
            y=place * _BAR_PITCH + _BAR_Y,
            text_y=place * _BAR_PITCH + _TEXT_Y,
        )
        for place, ((label, kind, figure), cost) in enumerate(zip(figures, costs, strict=True))
    ]


def bars_height(bars: Sequence[Bar]) -> int:
    """Of the chart they stand in."""
    return len(bars) * _BAR_PITCH - (_BAR_PITCH - _BAR_Y - BAR_HEIGHT) + 1


def time_key(query: Query) -> str:
    """By what a chart over the question's time is grouped."""
    days = (query.to_day - query.from_day).days + 1
    return "day" if days <= DAYS_APART_MAX else "month"


def time_bars(over_time: Report) -> Sequence[Moment]:
    """What was spent on each day or in each month; one alone says nothing over time."""
    figures = {str(line.keys[0]): line.figures for line in over_time.lines}
    labels = _moments(over_time.query, figures)
    highest = max([figure.cost for figure in figures.values()], default=0)
    if len(labels) < 2 or highest <= 0:
        return ()
    nothing = Figures()
    return [
        Moment(
            label=label,
            delivered=number(figure.delivered),
            cost=amount(figure.cost),
            x=percent(place, len(labels)),
            width=percent(_BAR_SHARE, len(labels) * 1_000),
            y=TIME_HEIGHT - (height := max(figure.cost, 0) * TIME_HEIGHT // highest),
            height=height,
        )
        for place, label in enumerate(labels)
        for figure in [figures.get(label, nothing)]
    ]


def _moments(query: Query, figures: Mapping[str, Figures]) -> list[str]:
    """Every day of the question, or the months of which there is something."""
    if time_key(query) == "month":
        return sorted(figures)
    days = range((query.to_day - query.from_day).days + 1)
    return [(query.from_day + datetime.timedelta(days=n)).isoformat() for n in days]


def _colour(channel: str) -> str:
    """The style of a channel's bar: by its place in the table of channels."""
    places = list(CHANNELS)
    return f"channel-{places.index(channel)}" if channel in places else "other"


def percent(part: int, whole: int) -> str:
    """A share, as a width in a chart and as a rate in words."""
    tenths = _TENTHS * part // whole
    return f"{tenths // 10}.{tenths % 10}%"
