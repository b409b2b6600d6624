"""The cost report as one HTML page: its words, tiles, chart and links.

`templates/reports.html` says where each of them stands. Pure; it cannot fail on a report.
"""

from __future__ import annotations

import datetime
from collections.abc import Iterator, Mapping, Sequence
from urllib.parse import urlencode

import msgspec

from gateway.core import money
from gateway.core.channels import BASELINE_COLUMN, CHANNELS, label_of
from gateway.finance.formats import number, to_words
from gateway.finance.question import KEYS, Query, ReportFault
from gateway.finance.report import CONVERSION_COLUMNS, Figures, Report
from gateway.ingress.pages.page import Page

PATH = "/reports"
ROWS_SHOWN_MAX = 500
GROUP_BY_DEFAULT = "campaign"
DAYS = (("Today", 1), ("7 days", 7), ("30 days", 30), ("90 days", 90))

_BAR_PITCH = 50  # pixels from one bar to the next
_BAR_HEIGHT = 14
_TEXT_Y = 16
_BAR_Y = 24
_OWN_FIELDS = ("app", "campaign")  # the filters that the form has a field for
_FORM_FIELDS = {
    "from": "from_day",
    "to": "to_day",
    "campaign": "campaign",
}  # what is typed, not chosen

_page = Page("reports", "img-src data:; form-action 'self'; ")
CONTENT_SECURITY_POLICY = _page.content_security_policy

_COLUMNS = {
    "accepted": "Accepted",
    "duplicates": "Duplicates",
    "suppressed": "Suppressed",
    "sent": "Sent",
    "delivered": "Delivered",
    "double_delivered": "Twice",
    "undelivered": "Undelivered steps",
    "undelivered_messages": "Undelivered messages",
    "parts": "Parts",
    "cost": "Cost",
    "billed": "Billed",
    "cost_per_delivered": "Per delivered",
    BASELINE_COLUMN: "",  # named after the baseline's channel
    "saved": "Saved",
    "saved_pct": "Saved %",
    "seen": "Seen",
    "clicked": "Clicked",
    "bot_clicks": "Bot clicks",
    "cost_per_click": "Per click",
    "conversions": "Conversions",
    "assisted": "Assisted",
    "revenue": "Revenue",
    "revenue_per_delivered": "Revenue per delivered",
}
# Shown where somebody reacted.
_OF_REACTIONS = frozenset(("seen", "clicked", "bot_clicks", "cost_per_click"))
# What each column says; those that are left out say it by their name.
MEANINGS = {
    "accepted": "Messages that were taken.",
    "duplicates": "Requests for a message of the same campaign to the same person, not sent again.",
    "suppressed": "Requests that a cap or an opt-out stopped.",
    "sent": "Steps that a provider took. A message that fell back has several.",
    "delivered": "Messages, each at its first delivery, and once more for each step that started "
    "because nobody reacted. This is what apps are billed for.",
    "double_delivered": "Further deliveries of what was delivered already.",
    "undelivered": "Steps that ended without delivery. One that fell back to another channel is "
    "one, though its message may have arrived.",
    "parts": "Parts that were delivered: a long text is several, where its channel has parts.",
    "cost": "What providers charge.",
    "billed": "What apps are billed.",
    "cost_per_delivered": "Cost, of everything that was sent, over Delivered.",
    BASELINE_COLUMN: "What the same delivered messages had cost on this one channel, to the same "
    "numbers.",
    "saved": "The column before, less Cost of the messages it counts.",
    "saved_pct": "Saved as a share of it.",
    "undelivered_messages": "Messages that ended without any delivery, on whatever channel.",
    "seen": "Steps that people opened, where the channel can tell.",
    "clicked": "Steps of which people followed a link.",
    "bot_clicks": "Clicks of scanners and previews, which are no reaction.",
    "cost_per_click": "Cost, of everything that was sent, over Clicked.",
    "conversions": "What people did in the end, each put down to one step: that of the last click, "
    "or without one the last that was delivered.",
    "assisted": "Conversions that another channel has, and in which this one had its part.",
    "revenue": "What Conversions were worth to the app, corrections taken off.",
    "revenue_per_delivered": "Revenue over Delivered.",
}


class Suggestions(msgspec.Struct, frozen=True):
    """What the form suggests."""

    apps: tuple[str, ...] = ()
    campaigns: tuple[str, ...] = ()


class PageReports(msgspec.Struct, frozen=True):
    """What one page is made of: the report asked for, the same in one row, and the same by
    channel.
    """

    rows: Report
    summary: Report
    channels: Report


class Tile(msgspec.Struct, frozen=True):
    id: str
    label: str
    value: str
    unit: str
    note: str
    bad: bool = False


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


class Column(msgspec.Struct, frozen=True):
    name: str
    label: str
    number: bool
    meaning: str = ""


def report_page(
    query: Query,
    reports: PageReports,
    suggestions: Suggestions,
    today: datetime.date,
    shared_until: str = "",
) -> bytes:
    """The page of an answered question; `shared_until` that day it is all that its reader may see,
    and leads nowhere."""
    form, view = _form(query, suggestions, today), _view(query, reports)
    return _page.render(form=form, view=view, fault=None, shared_until=shared_until)


def fault_page(fault: ReportFault, given: Sequence[tuple[str, str]], today: datetime.date) -> bytes:
    """The page of a question that cannot be answered: why, and the form as it was filled in."""
    form = _form(Query(today, today, (GROUP_BY_DEFAULT,)), Suggestions(), today)
    typed = {_FORM_FIELDS[name]: value for name, value in given if name in _FORM_FIELDS}
    return _page.render(form={**form, **typed}, view=None, fault=fault, shared_until="")


def _form(query: Query, suggestions: Suggestions, today: datetime.date) -> Mapping[str, object]:
    filters = dict(reversed(query.filters))  # the first of each key has a field
    own = tuple(pair for pair in filters.items() if pair[0] in _OWN_FIELDS)
    others = tuple(pair for pair in query.filters if pair not in own)
    app = filters.get("app", "")
    apps = suggestions.apps if not app or app in suggestions.apps else (app, *suggestions.apps)
    return {
        "from_day": query.from_day.isoformat(),
        "to_day": query.to_day.isoformat(),
        "apps": apps,
        "app": app,
        "campaigns": suggestions.campaigns,
        "campaign": filters.get("campaign", ""),
        "known_keys": KEYS,
        "group_by": query.group_by,
        "others": others,
        "without_others": _href(PATH, msgspec.structs.replace(query, filters=own)),
        "filters": query.filters,
        "presets": [_preset(query, *preset) for preset in _presets(today)],
    }


def _presets(today: datetime.date) -> Iterator[tuple[str, datetime.date, datetime.date]]:
    """Stretches of days that are asked for often: their names, first and last days."""
    for label, days in DAYS:
        yield label, today - datetime.timedelta(days=days - 1), today
    yield "This month", today.replace(day=1), today
    last = today.replace(day=1) - datetime.timedelta(days=1)
    yield "Last month", last.replace(day=1), last


def _preset(
    query: Query, label: str, from_day: datetime.date, to_day: datetime.date
) -> Mapping[str, object]:
    moved = msgspec.structs.replace(query, from_day=from_day, to_day=to_day)
    return {"label": label, "href": _href(PATH, moved), "current": moved == query}


def _href(path: str, query: Query, **more: str) -> str:
    return f"{path}?{urlencode([*query.parameters(), *more.items()], safe=',')}"


def _view(query: Query, reports: PageReports) -> Mapping[str, object]:
    rows, total = to_words(reports.rows)
    bars = _bars(reports.channels)
    summed = reports.summary.total
    hidden: frozenset[str] = frozenset()
    if not (summed.seen or summed.clicked or summed.bot_clicks):
        hidden |= _OF_REACTIONS
    if not summed.converted:
        hidden |= frozenset(CONVERSION_COLUMNS)
    labels = _COLUMNS | {BASELINE_COLUMN: f"{label_of(reports.rows.baseline)} only"}
    return {
        "currency": reports.rows.currency,
        "zone": reports.rows.zone,
        "tiles": _tiles(reports.summary),
        "bars": bars,
        "bar_height": _BAR_HEIGHT,
        "chart_height": len(bars) * _BAR_PITCH - (_BAR_PITCH - _BAR_Y - _BAR_HEIGHT) + 1,
        "chart_text": "; ".join(f"{b.label} {b.value} {reports.rows.currency}" for b in bars) + ".",
        "columns": [
            *(Column(key, key.capitalize(), False) for key in query.group_by),
            *(
                Column(name, label, True, MEANINGS.get(name, ""))
                for name, label in labels.items()
                if name in total and name not in hidden
            ),
        ],
        "key_count": len(query.group_by),
        "rows": rows[:ROWS_SHOWN_MAX],
        "rows_hidden": number(max(len(rows) - ROWS_SHOWN_MAX, 0))
        if len(rows) > ROWS_SHOWN_MAX
        else "",
        "total": total,
        "csv_href": _href(PATH, query, format="csv"),
        "json_href": _href(PATH, query, format="json"),
    }


def _tiles(summary: Report) -> Sequence[Tile]:
    total, currency = summary.total, summary.currency
    if summary.query.counts_messages:
        share = money.ratio(100 * total.delivered, total.accepted, 1)
        of = f"of {number(total.accepted)} accepted" + (f", {share}%" if share else "")
        lost = Tile(
            "undelivered",
            "Undelivered",
            number(total.undelivered_messages),
            "messages",
            f"{number(total.undelivered)} steps, {number(total.duplicates)} duplicates, "
            f"{number(total.suppressed)} suppressed",
        )
    else:
        of = f"of {number(total.sent)} steps sent"
        lost = Tile(
            "undelivered",
            "Undelivered",
            number(total.undelivered),
            "steps",
            f"besides {number(total.double_delivered)} messages delivered twice",
        )
    return (
        Tile("delivered", "Delivered", number(total.delivered), "", of),
        Tile(
            "cost-per-delivered",
            "Cost per delivered",
            number(total.cost_per_delivered),
            currency,
            f"cost {_amount(total.cost)}, billed {_amount(total.billed)}",
        ),
        Tile(
            "saved",
            f"Saved against {label_of(summary.baseline)} only",
            number(total.saved_pct) + ("%" if total.saved_pct else ""),
            "",
            f"{_amount(total.saved)} of {_amount(total.baseline_cost)} {currency}",
            bad=total.saved < 0,
        ),
        lost,
    )


def _amount(micros: int) -> str:
    return number(money.format_amount(micros))


def _bars(channels: Report) -> Sequence[Bar]:
    """A bar a channel, one for all of them, and one for what the same messages had cost on the
    baseline's."""
    total = channels.total
    if not total.delivered:
        return ()
    figures = [
        (
            label_of(name),
            _colour(name),
            line.figures,
        )
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
            cost=_amount(figure.cost),
            width=_percent(cost, longest),
            y=place * _BAR_PITCH + _BAR_Y,
            text_y=place * _BAR_PITCH + _TEXT_Y,
        )
        for place, ((label, kind, figure), cost) in enumerate(zip(figures, costs, strict=True))
    ]


def _colour(channel: str) -> str:
    """The style of a channel's bar: by its place in the table of channels."""
    places = list(CHANNELS)
    return f"channel-{places.index(channel)}" if channel in places else "other"


def _percent(part: int, whole: int) -> str:
    tenths = 1_000 * part // whole
    return f"{tenths // 10}.{tenths % 10}%"
