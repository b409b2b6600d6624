"""The charts of the report page: their bars, to scale, and what they say in words. Pure."""

from __future__ import annotations

import datetime
from collections.abc import Mapping, Sequence

import msgspec

from gateway.core.channels import CHANNELS, label_of
from gateway.core.money import money
from gateway.core.money.days import HOURS
from gateway.finance.question import Query
from gateway.finance.reports.formats import number
from gateway.finance.reports.report import Figures, Report

BAR_HEIGHT = 14
_BAR_PITCH = 50  # pixels from one bar to the next
_TEXT_Y = 16
_BAR_Y = 24
DAYS_APART_MAX = 92  # a longer time is drawn by months
TIME_HEIGHT, HOURS_HEIGHT = 120, 60  # pixels of the highest bar
HOURLY = (("clicked", "Clicked"), ("seen", "Seen"))  # as effects.BY_HOUR has them
_TENTHS = 1_000  # of a per cent, in a whole
_BAR_SHARE = 800  # of what a day or an hour has of the width, in thousandths


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


class PeriodBar(msgspec.Struct, frozen=True):
    """A day's or month's bar: `x` and `width` are shares of the chart's, the rest is in pixels."""

    label: str
    delivered: str
    cost: str
    x: str
    width: str
    y: int
    height: int


class HourBar(msgspec.Struct, frozen=True):
    """An hour's bar: `x` and `width` are shares of the chart's, the rest is in pixels."""

    hour: int
    count: str
    x: str
    width: str
    y: int
    height: int


class HourBars(msgspec.Struct, frozen=True):
    """What people did, a bar an hour of the day."""

    label: str
    busiest: str
    bars: tuple[HourBar, ...]


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


def time_bars(over_time: Report) -> Sequence[PeriodBar]:
    """What was spent on each day or in each month; one alone says nothing over time."""
    figures = {str(line.keys[0]): line.figures for line in over_time.lines}
    labels = _moments(over_time.query, figures)
    highest = max([figure.cost for figure in figures.values()], default=0)
    if len(labels) < 2 or highest <= 0:
        return ()
    nothing = Figures()
    return [
        PeriodBar(
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


def hour_bars(by_hour: Report) -> Sequence[HourBars]:
    """At which hours of the day people did what, each to its own scale; none of what nobody did."""
    figures = {line.keys[0]: line.figures for line in by_hour.lines if line.keys[0] is not None}
    return [
        drawn
        for name, label in HOURLY
        if (drawn := _hours(label, [getattr(figures.get(h), name, 0) for h in range(HOURS)]))
    ]


def _hours(label: str, counts: Sequence[int]) -> HourBars | None:
    most = max(counts)
    if not most:
        return None
    busiest = counts.index(most)
    return HourBars(
        label,
        f"most from {busiest} to {busiest + 1} o'clock: {number(most)} of {number(sum(counts))}",
        tuple(
            HourBar(
                hour,
                number(count),
                x=percent(hour, HOURS),
                width=percent(_BAR_SHARE, HOURS * 1_000),
                y=HOURS_HEIGHT - (height := count * HOURS_HEIGHT // most),
                height=height,
            )
            for hour, count in enumerate(counts)
        ),
    )


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
