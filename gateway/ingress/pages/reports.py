"""The cost report as one HTML page: its words, tiles, chart and links.

`templates/reports.html` says where each of them stands. Pure; it cannot fail on a report.
"""

from __future__ import annotations

import datetime
from collections.abc import Iterator, Mapping, Sequence

import msgspec

from gateway.core.channels import BASELINE_COLUMN, label_of
from gateway.core.money import money
from gateway.finance.question import KEYS, Query, ReportFault
from gateway.finance.reports.formats import number, to_words
from gateway.finance.reports.report import CONVERSION_COLUMNS, Report
from gateway.ingress.pages.page import Page
from gateway.ingress.pages.report_charts import (
    BAR_HEIGHT,
    HOURS_HEIGHT,
    TIME_HEIGHT,
    amount,
    bars_height,
    channel_bars,
    hour_bars,
    time_bars,
    time_key,
)
from gateway.ingress.pages.report_links import REPORT_PAGE as PATH
from gateway.ingress.pages.report_links import href, links_of
from gateway.ingress.pages.report_reactions import ADDED, added, reacting

ROWS_SHOWN_MAX = 500
GROUP_BY_DEFAULT = "campaign"
DAYS = (("Today", 1), ("7 days", 7), ("30 days", 30), ("90 days", 90))

_OWN_FIELDS = ("app", "campaign")  # the filters that the form has a field for
_FORM_FIELDS = {
    "from": "from_day",
    "to": "to_day",
    "campaign": "campaign",
}  # what is typed, not chosen

_page = Page("reports", "img-src data:; form-action 'self'; ", styles=("base", "reports"))
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
    "click_pct": "Clicked over delivered steps, in per cent; where rates are asked for.",
    "click_pct_low": "At least so high is it 19 times of 20, by Wilson's score.",
    "click_pct_high": "At most so high is it 19 times of 20.",
}


# How those that follow from others are computed, in the columns' names.
FORMULAS = {
    "cost_per_delivered": "cost / delivered",
    "saved": f"{BASELINE_COLUMN} - cost of the messages compared",
    "saved_pct": f"100 * saved / {BASELINE_COLUMN}",
    "cost_per_click": "cost / clicked",
}


class Suggestions(msgspec.Struct, frozen=True):
    """What the form suggests."""

    apps: tuple[str, ...] = ()
    campaigns: tuple[str, ...] = ()


class PageReports(msgspec.Struct, frozen=True):
    """What one page is made of: the report asked for, the same in one row, by channel, by day or
    month, by what people react to and by the hour when they do, and the same of the time before
    in one row."""

    rows: Report
    summary: Report
    channels: Report
    over_time: Report
    reactions: Report
    by_hour: Report
    before: Report


class Tile(msgspec.Struct, frozen=True):
    id: str
    label: str
    value: str
    unit: str
    note: str
    bad: bool = False
    change: str = ""  # against the time before


class ReportColumn(msgspec.Struct, frozen=True):
    name: str
    label: str
    number: bool
    meaning: str = ""
    formula: str = ""


def report_page(
    query: Query,
    reports: PageReports,
    suggestions: Suggestions,
    today: datetime.date,
    note: str = "",
) -> bytes:
    """The page of an answered question; with a `note`, a sentence that stands in place of the form,
    it is all that its reader may see, and leads nowhere."""
    form, view = _form(query, suggestions, today), _view(query, reports)
    return _page.render(form=form, view=view, fault=None, note=note)


def fault_page(fault: ReportFault, given: Sequence[tuple[str, str]], today: datetime.date) -> bytes:
    """The page of a question that cannot be answered: why, and the form as it was filled in."""
    form = _form(Query(today, today, (GROUP_BY_DEFAULT,)), Suggestions(), today)
    typed = {_FORM_FIELDS[name]: value for name, value in given if name in _FORM_FIELDS}
    return _page.render(form={**form, **typed}, view=None, fault=fault, note="")


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
        "without_others": href(PATH, msgspec.structs.replace(query, filters=own)),
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
    return {"label": label, "href": href(PATH, moved), "current": moved == query}


def _view(query: Query, reports: PageReports) -> Mapping[str, object]:
    rows, total = to_words(reports.rows)
    totals = reports.rows.total_row()
    bars = channel_bars(reports.channels)
    moments = time_bars(reports.over_time)
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
        "tiles": _tiles(reports.summary, reports.before),
        "before": reports.before,
        "moments": moments,
        "reactions": reacting(reports.reactions),
        "added": added(reports.reactions),
        "added_columns": [label for _, label in ADDED],
        "hours": hour_bars(reports.by_hour),
        "hours_height": HOURS_HEIGHT,
        "by_step": "step" in reports.reactions.query.group_by,
        "time_height": TIME_HEIGHT,
        "time_key": time_key(query),
        "bars": bars,
        "bar_height": BAR_HEIGHT,
        "chart_height": bars_height(bars),
        "chart_text": "; ".join(f"{b.label} {b.value} {reports.rows.currency}" for b in bars) + ".",
        "columns": [
            *(ReportColumn(key, key.capitalize(), False) for key in query.group_by),
            *(
                ReportColumn(name, label, True, MEANINGS.get(name, ""), FORMULAS.get(name, ""))
                for name, label in labels.items()
                if name in total and name not in hidden
            ),
        ],
        "key_count": len(query.group_by),
        "rows": rows[:ROWS_SHOWN_MAX],
        "rows_hidden": number(max(len(rows) - ROWS_SHOWN_MAX, 0))
        if len(rows) > ROWS_SHOWN_MAX
        else "",
        "links": [links_of(query, row) for row in reports.rows.rows()[:ROWS_SHOWN_MAX]],
        "total": total,
        "total_links": links_of(msgspec.structs.replace(query, group_by=()), totals),
        "xlsx_href": href(PATH, query, ("format", "xlsx")),
        "csv_href": href(PATH, query, ("format", "csv")),
        "json_href": href(PATH, query, ("format", "json")),
    }


def _tiles(summary: Report, earlier: Report) -> Sequence[Tile]:
    total, currency, before = summary.total, summary.currency, earlier.total
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
        Tile(
            "delivered",
            "Delivered",
            number(total.delivered),
            "",
            of,
            change=_change(total.delivered, before.delivered),
        ),
        Tile(
            "cost-per-delivered",
            "Cost per delivered",
            number(total.cost_per_delivered),
            currency,
            f"cost {amount(total.cost)}, billed {amount(total.billed)}",
            change=_change(total.cost * before.delivered, before.cost * total.delivered),
        ),
        Tile(
            "saved",
            f"Saved against {label_of(summary.baseline)} only",
            number(total.saved_pct) + ("%" if total.saved_pct else ""),
            "",
            f"{amount(total.saved)} of {amount(total.baseline_cost)} {currency}",
            bad=total.saved < 0,
        ),
        lost,
    )


def _change(now: int, before: int) -> str:
    """By how much it differs from the time before, where there was something then and now."""
    per_cent = money.ratio(100 * (now - before), before, 1) if now and before else None
    if per_cent is None:
        return ""
    return per_cent if per_cent.startswith("-") else f"+{per_cent}"


def time_before(query: Query) -> Query:
    """As long a time right before it; before whole months, as many months."""
    first = query.from_day
    last = first - datetime.timedelta(days=1)
    if first.day == 1 and (query.to_day + datetime.timedelta(days=1)).day == 1:
        months = (query.to_day.year - first.year) * 12 + query.to_day.month - first.month + 1
        count = first.year * 12 + first.month - 1 - months
        begins = datetime.date(count // 12, count % 12 + 1, 1)
    else:
        begins = last - (query.to_day - first)
    return msgspec.structs.replace(query, from_day=begins, to_day=last)
