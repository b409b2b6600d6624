"""Click rates side by side, with the interval in which each lies."""

from __future__ import annotations

import datetime
import html
import re

from msgspec.structs import replace

from gateway.core.records.entries import Group
from gateway.finance.question import Query, parse_query
from gateway.finance.reports.report import Report, build
from gateway.ingress.pages.report_charts import hour_bars
from gateway.ingress.pages.report_reactions import Reacting, added, reacting, reaction_keys
from gateway.store.money.totals import TotalRow
from tests.ingress.reactions.test_conversions import convert, order
from tests.ingress.reactions.test_reactions import UNTIL_SEEN, delivered, react, reaction
from tests.worlds.ingress_world import World, with_ingress

DAY = datetime.date(2026, 11, 21)


def report(keys: tuple[str, ...], *rows: tuple[Group, str, int]) -> Report:
    totals = [TotalRow(DAY, group, measure, amount) for group, measure, amount in rows]
    return build(totals, Query(DAY, DAY, keys), "EUR")


def mails(
    delivered: int, clicked: int, channel: str = "email", step: int = 1, variant: str = ""
) -> list[tuple[Group, str, int]]:
    group = Group("shop", "autumn", channel=channel, step=step, variant=variant)
    return [(group, "delivered", delivered), (group, "clicked", clicked)]


def test_a_rate_has_its_interval_and_a_place_on_the_scale() -> None:
    sms = mails(100, 35, channel="sms", step=0)
    rows = reacting(report(("channel",), *mails(100, 10), *sms))
    assert [(r.label, r.delivered, r.clicked, r.rate, r.between) for r in rows] == [
        ("E-mail", "100", "10", "10.0%", "5.5% to 17.4%"),
        ("SMS", "100", "35", "35.0%", "26.3% to 44.7%"),
    ]
    low, span = (float(part.removesuffix("%")) for part in (rows[1].low, rows[1].span))
    assert 99 < low + span <= 100, "the widest fills the chart"


def test_more_messages_make_it_narrower() -> None:
    (few,), (many,) = (reacting(report(("channel",), *mails(n, n // 10))) for n in (100, 10_000))
    assert few.rate == many.rate
    assert float(many.span.removesuffix("%")) < float(few.span.removesuffix("%"))


def test_a_step_may_be_clicked_of_which_every_delivery_was_a_double_one() -> None:
    group = Group("shop", channel="sms")
    rows = reacting(report(("channel",), (group, "double_delivered", 2), (group, "clicked", 3)))
    assert [(row.rate, row.cost_per_click) for row in rows] == [("100.0%", "0.000000")]


def test_each_further_step_says_what_it_added() -> None:
    first = Group("shop", "autumn", channel="viber", step=0)
    second, other = replace(first, channel="sms", step=1), replace(first, step=1, variant="b")
    booked = [(first, "clicked", 40), (first, "revenue", 100_000_000), (first, "cost", 2_000_000)]
    booked += [(second, "clicked", 8), (other, "clicked", 2), (second, "revenue", 25_000_000)]
    booked += [(second, "cost", 3_000_000), (second, "conversions", 1), (second, "seen", 0)]
    keys = ("step", "channel", "variant")
    one, two = added(report(keys, *booked, (Group("shop", "autumn"), "clicked", 7)))
    assert (one.label, one.cells) == ("1.", ("2.0000", "0", "40", "0", "100.0000"))
    more = ("+3.0000 (150.0% more)", "+0", "+10 (25.0% more)", "+1", "+25.0000 (25.0% more)")
    assert (two.label, two.cells) == ("2.", more)
    assert added(report(keys, (first, "clicked", 1))) == ()
    assert added(report(("channel",), *booked)) == ()


def test_a_correction_of_a_further_steps_revenue_is_taken_off() -> None:
    first = Group("shop", "autumn", channel="viber", step=0)
    booked = [(first, "clicked", 1), (replace(first, step=1), "revenue", -5_000_000)]
    _, two = added(report(("step",), *booked))
    assert two.cells[-1] == "-5.0000"


def test_nothing_is_compared_where_nobody_clicked() -> None:
    assert reacting(report(("channel",), *mails(100, 0))) == ()
    assert reacting(report(("channel",))) == ()


def test_one_campaign_is_told_apart_by_step_channel_and_variant() -> None:
    one = parse_query([("campaign", "autumn")], DAY)
    both = parse_query([("campaign", "autumn"), ("campaign", "winter")], DAY)
    assert reaction_keys(both) == reaction_keys(parse_query([], DAY)) == ("channel",)
    keys = reaction_keys(one)
    rows: list[Reacting] = list(reacting(report(keys, *mails(9, 1), *mails(9, 2, variant="b"))))
    assert [row.label for row in rows] == ["2. E-mail", "2. E-mail (b)"]


def test_hours_are_drawn_each_to_its_own_scale() -> None:
    group = Group("shop")
    at = {hour: replace(group, hour=hour) for hour in (0, 9, 23)}
    booked = [(at[0], "clicked", 1), (at[9], "clicked", 4), (at[23], "seen", 1_000)]
    clicked, seen = hour_bars(report(("hour",), *booked, (group, "seen", 5)))
    assert (clicked.label, seen.label) == ("Clicked", "Seen")
    assert clicked.busiest == "most from 9 to 10 o'clock: 4 of 5"
    assert seen.busiest == "most from 23 to 24 o'clock: 1,000 of 1,000"
    assert [bar.height for bar in clicked.bars if bar.height] == [15, 60]
    assert [(b.x, b.width) for b in clicked.bars if b.height] == [
        ("0.0%", "3.3%"),
        ("37.5%", "3.3%"),
    ]
    assert hour_bars(report(("hour",), (group, "clicked", 5))) == []


@with_ingress(changed=UNTIL_SEEN | {"[prices]": '[reports]\nzone = "Europe/Moscow"\n[prices]'})
async def test_the_hours_are_those_of_the_zone_and_lead_to_the_messages(world: World) -> None:
    id_ = await delivered(world)
    await react(world, reaction(id_))  # at 11:06 UTC
    asked = "/v1/reports/cost?group_by=hour"
    told = (await world.call("GET", asked, key="finance-key")).json
    assert [(row["hour"], row["clicked"]) for row in told["rows"]] == [(None, 0), (14, 1)]
    basic = {"authorization": "Basic OmZpbmFuY2Uta2V5"}
    answer = await world.call("GET", "/reports?group_by=hour", headers=basic, key="")
    page = answer.body.decode()
    assert "When people react" in page
    assert "Clicked, most from 14 to 15 o&#39;clock: 1 of 1" in page
    assert "By the clock of Europe/Moscow" in page
    (leads,) = re.findall(r'href="(/reports/messages[^"]*hour=14[^"]*)"', page)
    found = await world.call("GET", html.unescape(leads), headers=basic, key="")
    assert id_ in found.body.decode()
    other = html.unescape(leads).replace("hour=14", "hour=13")
    assert id_ not in (await world.call("GET", other, headers=basic, key="")).body.decode()


@with_ingress(changed=UNTIL_SEEN)
async def test_the_page_shows_it_and_says_what_a_conversion_is_put_down_to(world: World) -> None:
    id_ = await delivered(world)
    await react(world, reaction(id_))
    await convert(world, order(message=id_))
    answer = await world.call(
        "GET",
        "/reports?campaign=autumn",
        headers={"authorization": "Basic OmZpbmFuY2Uta2V5"},
        key="",
    )
    page = answer.body.decode()
    assert answer.status == 200
    assert "Who reacts" in page
    assert '<th scope="row">1. Viber</th>' in page
    assert "49.900000" in page
    assert "put down to the step of the last click" in page
