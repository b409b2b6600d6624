"""The cost report: what may be asked, and that every grouping says what adding up by hand does."""

from __future__ import annotations

import datetime
from decimal import Decimal
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import asdict, replace

from gateway.core.effects import BY_HOUR, MEASURES
from gateway.core.records.entries import NO_HOUR, NO_STEP, Group
from gateway.finance.question import KEYS, Query, ReportFault, parse_query
from gateway.finance.reports import report as module
from gateway.finance.reports.report import MESSAGE_MEASURES, RATE_COLUMNS, build
from gateway.store.money.totals import TotalRow

TODAY = datetime.date(2026, 11, 21)
STEP_MEASURES = tuple(m for m in MEASURES if m not in MESSAGE_MEASURES)
AMOUNTS = ("cost", "billed", "sms_only_cost")
FIELDS = {"sms_only_cost": "baseline_cost"}  # figures that are not called as their measure is


def group(**changes: Any) -> Group:
    whole = Group("shop", "autumn", "marketing", "viber", "infobip-viber", "RU", "both", 0)
    return replace(whole, **changes)


def booked(measure: str, amount: int, day: datetime.date = TODAY, **changes: Any) -> TotalRow:
    if measure in MESSAGE_MEASURES:
        changes = {"channel": "", "provider": "", "step": NO_STEP} | changes
    return TotalRow(day, group(**changes), measure, amount)


def ask(*keys: str, **filters: str) -> Query:
    return Query(TODAY, TODAY, keys, tuple(filters.items()))


BOOKED = [
    booked("accepted", 4),
    booked("duplicates", 2),
    booked("suppressed", 1),
    booked("sent", 4),
    booked("undelivered", 2),
    booked("undelivered_messages", 1),
    booked("delivered", 2),
    booked("cost", 10_000),
    booked("billed", 18_000),
    booked("sms_only_cost", 80_000),
    booked("seen", 2),
    booked("clicked", 1),
    booked("sent", 2, channel="sms", provider="infobip-sms"),
    booked("delivered", 1, channel="sms", provider="infobip-sms"),
    booked("parts", 2, channel="sms", provider="infobip-sms"),
    booked("cost", 80_000, channel="sms", provider="infobip-sms"),
    booked("billed", 140_000, channel="sms", provider="infobip-sms"),
    booked("sms_only_cost", 80_000, channel="sms", provider="infobip-sms"),
]


# --- the columns ----------------------------------------------------------------------------------


def test_a_row_has_the_columns_of_the_contract_in_their_order() -> None:
    report = build(BOOKED, ask("campaign"), "EUR")
    assert report.columns == (
        "campaign",
        "accepted",
        "duplicates",
        "suppressed",
        "sent",
        "delivered",
        "double_delivered",
        "undelivered",
        "parts",
        "cost",
        "billed",
        "currency",
        "cost_per_delivered",
        "sms_only_cost",
        "saved",
        "saved_pct",
        "undelivered_messages",
        "seen",
        "clicked",
        "bot_clicks",
        "cost_per_click",
        "conversions",
        "assisted",
        "revenue",
        "revenue_per_delivered",
    )
    assert [tuple(row) for row in report.rows()] == [report.columns]
    assert tuple(report.total_row()) == report.columns[1:]


def test_amounts_are_decimal_strings_and_ratios_come_from_the_sums() -> None:
    (row,) = build(BOOKED, ask("campaign"), "EUR").rows()
    assert row == {
        "campaign": "autumn",
        "accepted": 4,
        "duplicates": 2,
        "suppressed": 1,
        "sent": 6,
        "delivered": 3,
        "double_delivered": 0,
        "undelivered": 2,
        "parts": 2,
        "cost": "0.0900",
        "billed": "0.1580",
        "currency": "EUR",
        "cost_per_delivered": "0.030000",
        "sms_only_cost": "0.1600",
        "saved": "0.0700",
        "saved_pct": "43.75",
        "undelivered_messages": 1,
        "seen": 2,
        "clicked": 1,
        "bot_clicks": 0,
        "cost_per_click": "0.090000",
        "conversions": 0,
        "assisted": 0,
        "revenue": "0.0000",
        "revenue_per_delivered": "0.000000",
    }


def test_by_channel_requests_have_neither_columns_nor_a_row() -> None:
    report = build(BOOKED, ask("channel"), "EUR")
    assert [line.keys for line in report.lines] == [("sms",), ("viber",)]
    assert not set(MESSAGE_MEASURES) & set(report.columns)
    assert report.total.accepted == 0


@pytest.mark.parametrize("filters", [{"channel": "viber"}, {"provider": "infobip-viber"}])
def test_a_filter_by_channel_or_provider_leaves_requests_out_too(filters: dict[str, str]) -> None:
    report = build(BOOKED, ask("campaign", **filters), "EUR")
    assert not set(MESSAGE_MEASURES) & set(report.columns)
    assert (report.total.delivered, report.total.cost) == (2, 10_000)


def test_without_deliveries_the_ratios_are_null() -> None:
    (row,) = build([booked("sent", 1), booked("cost", 5_000)], ask("channel"), "EUR").rows()
    assert (row["cost_per_delivered"], row["saved_pct"], row["saved"]) == (None, None, "-0.0050")


def test_messages_without_a_campaign_are_a_row_with_null() -> None:
    report = build([*BOOKED, booked("sent", 1, campaign="")], ask("campaign"), "EUR")
    assert [row["campaign"] for row in report.rows()] == [None, "autumn"]


def test_without_grouping_there_is_one_row_when_anything_was_booked() -> None:
    report = build(BOOKED, ask(), "EUR")
    assert report.rows() == [report.total_row()]
    assert build([], ask(), "EUR").rows() == []


def test_rows_are_sorted_by_their_keys_in_the_order_asked() -> None:
    rows = [
        booked("sent", 1, channel=channel, country=country, day=day)
        for channel in ("viber", "sms")
        for country in ("RU", "DE")
        for day in (TODAY, TODAY - datetime.timedelta(days=1))
    ]
    query = Query(TODAY - datetime.timedelta(days=1), TODAY, ("country", "day", "channel"))
    keys = [line.keys for line in build(rows, query, "EUR").lines]
    assert keys[0] == ("DE", "2026-11-20", "sms")
    assert keys == sorted(keys)
    assert len(keys) == 8


def test_by_route_and_step_each_booking_has_its_place_and_older_ones_none() -> None:
    rows = [
        booked("accepted", 3),
        booked("sent", 2),
        booked("sent", 1, step=1, channel="sms"),
        booked("sent", 5, step=10, channel="sms", route="sms-only"),
        booked("sent", 7, step=NO_STEP, route=""),
    ]
    found = build(rows, ask("route", "step"), "EUR").rows()
    told = [(row["route"], row["step"], row["sent"]) for row in found]
    assert told == [(None, None, 7), ("both", 0, 2), ("both", 1, 1), ("sms-only", 10, 5)]
    assert "accepted" not in found[0]
    routes = build(rows, ask("route"), "EUR").rows()
    assert [(row["route"], row["accepted"]) for row in routes] == [
        (None, 0),
        ("both", 3),
        ("sms-only", 0),
    ]
    assert build(rows, ask(step="1"), "EUR").total.sent == 1
    assert build(rows, ask(route="sms-only"), "EUR").total.sent == 5


def test_a_report_by_the_hour_has_what_people_did_in_each() -> None:
    rows = [booked("clicked", n, hour=hour) for hour, n in ((0, 1), (9, 3), (23, 2))]
    rows += [booked("seen", 4, hour=9), booked("clicked", 5), booked("sent", 9)]
    found = build([*rows, booked("accepted", 9)], ask("hour"), "EUR").rows()
    told = [(row["hour"], row["seen"], row["clicked"], row["sent"]) for row in found]
    assert told == [(None, 0, 5, 9), (0, 0, 1, 0), (9, 4, 3, 0), (23, 0, 2, 0)]
    assert "accepted" not in found[0]
    at_nine = build(rows, ask(hour="9"), "EUR").total
    assert (at_nine.seen, at_nine.clicked, at_nine.sent) == (4, 3, 0)
    for value in ("0", "9", "10", "23"):
        assert parse_query([("hour", value)], TODAY).filters == (("hour", value),)
    for value in ("24", "09", "-1", "x"):
        with pytest.raises(ReportFault, match="an hour of the day, 0 to 23"):
            parse_query([("hour", value)], TODAY)


def test_a_row_has_its_click_rate_where_that_is_asked_for() -> None:
    rows = [booked("delivered", 90), booked("double_delivered", 10), booked("clicked", 10)]
    plain = build(rows, ask(), "EUR")
    assert not set(RATE_COLUMNS) & set(plain.columns)
    rated = replace(plain, rates=True)
    assert rated.columns == (*plain.columns, *RATE_COLUMNS)
    assert [rated.total_row()[name] for name in RATE_COLUMNS] == ["10.00", "5.52", "17.44"]
    nothing = replace(build([booked("sent", 1)], ask(), "EUR"), rates=True).total_row()
    assert [nothing[name] for name in RATE_COLUMNS] == [None, None, None]
    more = [booked("delivered", 2), booked("clicked", 3)]
    assert replace(build(more, ask(), "EUR"), rates=True).total_row()["click_pct"] == "100.00"


def test_a_report_can_be_grouped_by_all_that_is_booked_apart() -> None:
    assert set(KEYS) - {"day", "month"} == set(Group.__struct_fields__)


def test_totals_of_other_days_do_not_count() -> None:
    rows = [booked("sent", 1, TODAY + datetime.timedelta(days=n)) for n in (-1, 0, 1)]
    assert build(rows, ask(), "EUR").total.sent == 1


def test_a_report_with_too_many_rows_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "ROWS_MAX", 2)
    rows = [booked("sent", 1, campaign=str(n)) for n in range(3)]
    assert len(build(rows[:2], ask("campaign"), "EUR").lines) == 2
    with pytest.raises(ReportFault, match="more than 2 rows") as caught:
        build(rows, ask("campaign"), "EUR")
    assert caught.value.parameter == "group_by"


# --- any bookings, any grouping -------------------------------------------------------------------

DAYS = st.integers(0, 3).map(lambda n: TODAY - datetime.timedelta(days=n))
SOMETIMES = {
    "app": ["shop", "bank"],
    "campaign": ["", "autumn", "=x"],
    "country": ["RU", "DE"],
    "route": ["", "both", "sms-only"],
}


@st.composite
def bookings(draw: st.DrawFn) -> TotalRow:
    measure = draw(st.sampled_from(MEASURES))
    changes: dict[str, Any] = {k: draw(st.sampled_from(v)) for k, v in SOMETIMES.items()}
    if measure not in MESSAGE_MEASURES and draw(st.booleans()):
        steps = st.sampled_from((NO_STEP, 0, 1, 10))  # none, as it was booked before
        changes |= {"channel": "sms", "provider": "infobip-sms", "step": draw(steps)}
    if measure in BY_HOUR:
        changes["hour"] = draw(st.sampled_from((NO_HOUR, 0, 9, 23)))
    return booked(measure, draw(st.integers(-5, 10**12)), draw(DAYS), **changes)


@st.composite
def questions(draw: st.DrawFn) -> Query:
    keys = draw(st.permutations(KEYS))[: draw(st.integers(0, len(KEYS)))]
    filters = draw(
        st.sampled_from(
            [
                (),
                (("app", "bank"),),
                (("channel", "sms"),),
                (("step", "1"), ("route", "both")),
                (("hour", "9"),),
            ]
        )
    )
    last = draw(DAYS)
    first = min(last, draw(DAYS))
    return Query(first, last, tuple(keys), filters)


def by_hand(rows: list[TotalRow], query: Query) -> dict[tuple[Any, ...], dict[str, int]]:
    """The same sums, said plainly: one row of booking at a time, nothing shared with the module."""
    asked = {*query.group_by, *dict(query.filters)}
    found: dict[tuple[Any, ...], dict[str, int]] = {}
    for row in rows:
        day = str(row.day)
        told: dict[str, Any] = {"day": day, "month": day[:7], **asdict(row.group)}
        if str(row.day) < str(query.from_day) or str(row.day) > str(query.to_day):
            continue
        whole = ("accepted", "duplicates", "suppressed", "undelivered_messages")
        if row.measure in whole and asked & {"hour", "channel", "provider", "step"}:
            continue
        if row.amount == 0 or any(str(told[k]) != v for k, v in query.filters):
            continue
        sums = found.setdefault(tuple(told[k] for k in query.group_by), {})
        sums[row.measure] = sums.get(row.measure, 0) + row.amount
    return found


def _told(query: Query, keys: tuple[Any, ...]) -> tuple[Any, ...]:
    """A row's keys as the groups have them."""
    nothing = {"step": NO_STEP, "hour": NO_HOUR}
    pairs = zip(query.group_by, keys, strict=True)
    return tuple(nothing.get(name, "") if key is None else key for name, key in pairs)


@given(st.lists(bookings(), max_size=40), questions())
def test_any_report_says_what_adding_up_by_hand_says(rows: list[TotalRow], query: Query) -> None:
    report = build(rows, query, "EUR")
    expected = by_hand(rows, query)
    assert [_told(query, line.keys) for line in report.lines] == sorted(expected)
    for line in report.lines:
        sums = expected[_told(query, line.keys)]
        figures = line.figures
        assert all(getattr(figures, FIELDS.get(m, m)) == sums.get(m, 0) for m in MEASURES)


@given(st.lists(bookings(), max_size=40), questions())
def test_the_total_is_the_sum_of_the_rows_to_the_last_unit(
    rows: list[TotalRow], query: Query
) -> None:
    report = build(rows, query, "EUR")
    total = report.total_row()
    counts = [c for c in total if c in STEP_MEASURES or c in MESSAGE_MEASURES]
    for column in [c for c in (*counts, "saved") if c in total]:
        cells = [Decimal(str(row[column])) for row in report.rows()]
        assert sum(cells, Decimal()) == Decimal(str(total[column])), column
    if report.total.delivered > 0:
        exact = Decimal(report.total.cost) / report.total.delivered / 10**6
        assert abs(Decimal(str(total["cost_per_delivered"])) - exact) <= Decimal("0.0000005")


@given(st.lists(bookings(), max_size=40), st.permutations(KEYS))
def test_every_grouping_without_requests_has_the_same_total(
    rows: list[TotalRow], keys: tuple[str, ...]
) -> None:
    days = (TODAY - datetime.timedelta(days=3), TODAY)
    totals = [build(rows, Query(*days, tuple(keys[:n])), "EUR").total for n in range(len(keys) + 1)]
    for measure in STEP_MEASURES:
        assert len({getattr(total, FIELDS.get(measure, measure)) for total in totals}) == 1
    assert sum(r.amount for r in rows if r.measure == "cost") == totals[0].cost


# --- the question ---------------------------------------------------------------------------------


def test_by_default_the_last_thirty_days_up_to_today_are_asked_for() -> None:
    query = parse_query([], TODAY)
    assert (query.from_day, query.to_day) == (datetime.date(2026, 10, 23), TODAY)
    assert (query.group_by, query.filters) == ((), ())


def test_one_day_given_moves_only_what_depends_on_it() -> None:
    assert parse_query([("to", "2026-03-31")], TODAY).from_day == datetime.date(2026, 3, 2)
    assert parse_query([("from", "2026-11-01")], TODAY).to_day == TODAY


def test_a_question_reads_back_as_it_was_asked() -> None:
    asked = [
        ("from", "2026-11-01"),
        ("to", "2026-11-30"),
        ("group_by", "day, campaign"),
        ("group_by", "channel"),
        ("app", "shop"),
        ("campaign", ""),
    ]
    query = parse_query(asked, TODAY)
    assert query.group_by == ("day", "campaign", "channel")
    assert query.filters == (("app", "shop"), ("campaign", ""))
    assert parse_query(query.parameters(), TODAY) == query


def test_a_campaign_is_asked_for_as_its_name_is_kept() -> None:
    asked = [("campaign", " e\u0301te\u0301 "), ("campaign", ""), ("variant", " a ")]
    assert parse_query(asked, TODAY).filters == (
        ("campaign", "été"),
        ("campaign", ""),
        ("variant", " a "),
    )
    with pytest.raises(ReportFault, match="There can be no campaign") as caught:
        parse_query([("campaign", "  ")], TODAY)  # which is not "without a campaign"
    assert caught.value.impossible


def test_of_a_filter_that_is_given_several_times_any_value_matches() -> None:
    rows = [booked("sent", 1, campaign=name) for name in ("a", "b", "c")]
    query = parse_query([("campaign", "a"), ("campaign", "c"), ("to", str(TODAY))], TODAY)
    assert build(rows, query, "EUR").total.sent == 2


def test_months_add_their_days_up() -> None:
    rows = [
        booked("sent", 1, day=datetime.date(2026, month, day))
        for month in (10, 11)
        for day in (1, 9)
    ]
    query = parse_query([("group_by", "month"), ("from", "2026-10-01")], TODAY)
    found = [(row["month"], row["sent"]) for row in build(rows, query, "EUR").rows()]
    assert found == [("2026-10", 2), ("2026-11", 2)]


def test_a_century_can_be_asked_for_whole_and_not_much_more() -> None:
    century = [("from", "2000-01-01"), ("to", "2100-01-01")]
    assert parse_query(century, TODAY).to_day == datetime.date(2100, 1, 1)
    with pytest.raises(ReportFault, match="36601 days: ask for 36600"):
        parse_query([("from", "2000-01-01"), ("to", "2100-03-17")], TODAY)


@pytest.mark.parametrize(
    ("parameters", "parameter", "words"),
    [
        ([("from", "yesterday")], "from", "write it as in 2026-11-30"),
        ([("from", "20261101")], "from", "is no day"),
        ([("to", "2026-02-30")], "to", "is no day"),
        ([("to", "0001-01-01")], "to", "from 2000-01-01 on"),
        ([("to", "٢٠٢٦-11-01")], "to", "is no day"),
        ([("from", "")], "from", "is no day"),
        ([("from", "2026-11-22")], "from", "swap them"),
        (
            [("group_by", "colour")],
            "group_by",
            "day, month, app, campaign, variant, category, route",
        ),
        ([("group_by", "day,app,day")], "group_by", "named twice"),
        ([("group_by", "day"), ("group_by", "day")], "group_by", "named twice"),
        ([("colour", "red")], "colour", "there are: from, to, group_by, day"),
        ([("to", "2026-11-30"), ("to", "2026-11-01")], "to", "given twice"),
        ([("category", "marketting")], "category", "one of otp, transactional, marketing"),
        ([("channel", "fax")], "channel", "one of viber, sms"),
        ([("step", "first")], "step", "the first is 0"),
        ([("step", "-1")], "step", "the first is 0"),
        ([("route", "")], "route", "is empty"),
        ([("country", "Germany")], "country", "two capital letters"),
        ([("month", "2026-13")], "month", "written as in 2026-11"),
        ([("app", "")], "app", "is empty"),
        ([("channel", "")], "channel", "is empty"),
        ([("campaign", "x" * 129)], "campaign", "longer than 128"),
        ([("campaign", " \u200b")], "campaign", "characters that can be seen"),
        ([("campaign", "a\x1bb")], "campaign", "no control characters"),
        ([("app", "the shop")], "app", "letters, digits, dots"),
    ],
)
def test_what_cannot_be_answered_names_the_parameter_and_what_to_do(
    parameters: list[tuple[str, str]], parameter: str, words: str
) -> None:
    with pytest.raises(ReportFault, match=words) as caught:
        parse_query(parameters, TODAY)
    assert caught.value.parameter == parameter
    assert caught.value.detail == str(caught.value)


@given(
    st.lists(
        st.tuples(
            st.sampled_from(["from", "to", "group_by", "app", "campaign", "x"]),
            st.text(max_size=12),
        ),
        max_size=4,
    )
)
def test_any_question_is_either_understood_or_refused(parameters: list[tuple[str, str]]) -> None:
    try:
        query = parse_query(parameters, TODAY)
    except ReportFault:
        return
    assert query.from_day <= query.to_day
    assert set(query.group_by) <= set(KEYS)
