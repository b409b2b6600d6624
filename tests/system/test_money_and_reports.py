"""CONTRACT.md section 7 by real processes: a mixed campaign, its report, and the provider's bill.

The simulator charges SMS when they are sent and by another price list than ours, and tells its
prices in its receipts; Viber is charged when it is delivered, sometimes long after the SMS.
"""

from __future__ import annotations

import csv
import datetime
import io
import json
from collections import Counter
from collections.abc import Iterator
from decimal import Decimal
from typing import Any

import pytest

from tests.worlds.stack import Stack, phone, stack

MESSAGES = 300
REPEATED = 40
ARRIVED = {"delivered", "seen"}
COUNTS = [
    "accepted",
    "duplicates",
    "suppressed",
    "sent",
    "delivered",
    "double_delivered",
    "undelivered",
    "parts",
]
AMOUNTS = ("cost", "billed", "sms_only_cost", "saved")
COLUMNS = [
    *COUNTS,
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
]
REQUESTS = {"accepted", "duplicates", "suppressed", "undelivered_messages"}
KEYS = ("day", "app", "campaign", "category", "channel", "provider", "country")

KNOBS: dict[str, Any] = {
    "viber_share": 0.6,
    "viber_delivered": 0.7,
    "viber_undelivered": 0.15,
    "sms_delivered": 0.85,
    "sms_undelivered": 0.1,
    "seen_share": 0.5,
    "seen_ms_min": 5,
    "seen_ms_max": 60,
    "expiry_ms": 300,
    "revive_share": 0.5,
    "revive_ms": 400,
    "reject_share": 0.03,
    "repeat_share": 0.2,
    "repeat_times": 3,
    "reordered_share": 0.2,
    "early_share": 0.1,
}
TEXTS = (
    "Your order is on its way.",
    "Ваш заказ уже в пути, курьер позвонит за час до приезда. Спасибо, что выбрали нас!",
    "A longer text, " + "which takes its time to come to the point, " * 7,
)
PREFIXES = (("+7916", 7), ("+7921", 7), ("+38050", 7), ("+4915112", 6))


@pytest.fixture(scope="module")
def kaskad() -> Iterator[Stack]:
    with stack(dispatchers=2, knobs=KNOBS) as running:
        ours = running.simulator.knobs()["prices"]
        dearer = [
            price | {"price": str(Decimal(price["price"]) + Decimal("0.001"))}
            if price["channel"] == "sms" and price["prefix"] == "7"
            else price
            for price in ours
        ]
        assert dearer != ours
        running.simulator.turn(prices=dearer)
        yield running


@pytest.fixture(scope="module")
def messages(kaskad: Stack) -> dict[str, dict[str, Any]]:
    """The campaign, sent and settled: all messages by id."""
    bodies = []
    for number in range(MESSAGES):
        prefix, digits = PREFIXES[number % len(PREFIXES)]
        category = ("marketing", "transactional", "otp")[number % 3]
        body = {
            "to": phone(prefix, digits),
            "category": category,
            "campaign": f"campaign-{number % 2}",
            "text": TEXTS[number % 5 % 3],
        }
        bodies.append(body | ({"route": "sms-only"} if number % 10 == 9 else {}))
    ids = kaskad.accept_all(bodies)
    out = phone()
    assert kaskad.put(f"/v1/optouts/{out}", {"scope": "all"}).status == 200
    assert kaskad.post({**bodies[0], "to": out}).json["outcome"] == "suppressed"
    kaskad.when_all_final(ids)
    kaskad.settled_bill()
    found = {id_: kaskad.message(id_) for id_ in ids}
    # What reached nobody may be sent again; so only what has arrived is a duplicate for certain.
    arrived = [
        body
        for body, message in zip(bodies, found.values(), strict=True)
        if message["status"] in ARRIVED
    ]
    repeated = kaskad.post(arrived[:REPEATED]).json
    assert [item["outcome"] for item in repeated] == ["duplicate"] * REPEATED
    return found


def sums(rows: list[dict[str, Any]], column: str) -> Decimal:
    return sum((Decimal(row[column]) for row in rows), Decimal(0))


def test_the_ledger_is_the_providers_bill_to_the_last_unit(
    kaskad: Stack, messages: dict[str, dict[str, Any]]
) -> None:
    kaskad.ledger_equals_bill()
    kaskad.nothing_was_sent_twice()
    kaskad.books_agree()
    bill = kaskad.simulator.bill()
    report = {row["channel"]: row for row in kaskad.cost("channel")["rows"] if row["channel"]}
    for channel in bill.channels:
        assert (channel.channel, channel.pending) == (channel.channel, 0)
        assert Decimal(report[channel.channel]["cost"]) == Decimal(channel.charge)
    delivered_parts = sum(
        one.parts for one in bill.messages.values() if one.channel == "sms" and one.delivered
    )
    assert report["sms"]["parts"] == delivered_parts
    # The campaign was mixed indeed.
    total = kaskad.cost()["total"]
    assert total["double_delivered"] > 0
    assert {message["status"] for message in messages.values()} >= {"delivered", "seen"}
    assert Counter(one.outcome for one in bill.messages.values()).keys() >= {
        "delivered",
        "undelivered",
        "expired",
        "rejected",
    }


def test_the_total_counts_every_message_once(
    kaskad: Stack, messages: dict[str, dict[str, Any]]
) -> None:
    total = kaskad.cost()["total"]
    assert total["accepted"] == MESSAGES
    assert (total["duplicates"], total["suppressed"]) == (REPEATED, 1)
    billed = [
        Decimal((message["billing"] or {"billed": 0})["billed"]) for message in messages.values()
    ]
    cost = [Decimal((message["billing"] or {"cost": 0})["cost"]) for message in messages.values()]
    assert Decimal(total["billed"]) == sum(billed)
    assert Decimal(total["cost"]) == sum(cost)
    arrived = [
        [step for step in message["steps"] if step["status"] in ("delivered", "seen")]
        for message in messages.values()
    ]
    assert total["delivered"] == sum(1 for steps in arrived if steps)
    assert total["double_delivered"] == sum(len(steps) - 1 for steps in arrived if steps)
    assert all(bool(steps) == (amount > 0) for steps, amount in zip(arrived, billed, strict=True))
    ended = ("undelivered", "expired", "rejected")
    steps = [step for message in messages.values() for step in message["steps"]]
    assert total["undelivered"] == sum(step["status"] in ended for step in steps)
    assert total["sent"] == sum(step["sent_at"] is not None for step in steps)


@pytest.mark.parametrize(
    "group_by", ["", "day", "app", "campaign", "category", "channel", "provider", "country"]
)
def test_rows_have_the_columns_of_the_contract_and_add_up_to_the_total(
    kaskad: Stack, messages: dict[str, dict[str, Any]], group_by: str
) -> None:
    report = kaskad.cost(group_by)
    assert set(report) == {"from", "to", "group_by", "zone", "rows", "total"}
    assert report["group_by"] == ([group_by] if group_by else [])
    columns = [
        column
        for column in COLUMNS
        if column not in REQUESTS or group_by not in ("channel", "provider")
    ]
    for row in report["rows"]:
        assert list(row) == [*report["group_by"], *columns]
    assert list(report["total"]) == columns
    for column in columns:
        if column in COUNTS or column in AMOUNTS:
            assert sums(report["rows"], column) == Decimal(report["total"][column])
    for row in (*report["rows"], report["total"]):
        _ratios_follow(row)


def _ratios_follow(row: dict[str, Any]) -> None:
    assert row["currency"] == "EUR"
    assert all(isinstance(row[column], str) for column in AMOUNTS)
    cost, sms_only = Decimal(row["cost"]), Decimal(row["sms_only_cost"])
    assert Decimal(row["saved"]) == sms_only - cost
    if row["delivered"] == 0:
        assert row["cost_per_delivered"] is None
    else:
        assert len(row["cost_per_delivered"].partition(".")[2]) == 6
        exact = cost / row["delivered"]
        assert abs(Decimal(row["cost_per_delivered"]) - exact) <= Decimal("0.0000005")


def test_any_grouping_of_several_keys_adds_up(
    kaskad: Stack, messages: dict[str, dict[str, Any]]
) -> None:
    total = kaskad.cost("channel")["total"]
    report = kaskad.cost("day,app,campaign,category,channel,provider,country")
    assert report["group_by"] == list(KEYS)
    assert report["total"] == total
    for column in AMOUNTS:
        assert sums(report["rows"], column) == Decimal(total[column])
    assert {row["country"] for row in report["rows"]} >= {"RU", "UA", "DE"}


def test_csv_and_the_command_line_say_the_same(
    kaskad: Stack, messages: dict[str, dict[str, Any]]
) -> None:
    group_by = "campaign,category"
    report = kaskad.cost(group_by)
    answer = kaskad.get(f"/v1/reports/cost?group_by={group_by}&format=csv")
    assert answer.headers["content-type"].startswith("text/csv")
    rows = list(csv.DictReader(io.StringIO(answer.body.decode(), newline="")))
    words = [
        {key: "" if value is None else str(value) for key, value in row.items()}
        for row in report["rows"]
    ]
    assert rows == words
    command = ("report", "cost", "--group-by", group_by, "--format")
    assert json.loads(kaskad.command(*command, "json")) == report
    assert kaskad.command(*command, "csv").split() == answer.body.decode().split()
    assert "campaign-1" in kaskad.command(*command, "table")


def test_days_bound_a_report(kaskad: Stack, messages: dict[str, dict[str, Any]]) -> None:
    today = datetime.datetime.now(datetime.UTC).date()
    before = today - datetime.timedelta(days=2)
    answer = kaskad.get(f"/v1/reports/cost?from={before}&to={before}&group_by=day")
    assert answer.json["rows"] == []
    assert (answer.json["from"], answer.json["to"]) == (str(before), str(before))
    assert answer.json["total"]["billed"] == "0.0000"
    for query in ("group_by=colour", "from=yesterday", f"from={today}&to={before}", "colour=red"):
        refused = kaskad.get(f"/v1/reports/cost?{query}")
        assert refused.status in (400, 422)
        assert refused.headers["content-type"] == "application/problem+json"


def test_seen_counts_nothing_twice_and_late_deliveries_are_double(
    kaskad: Stack, messages: dict[str, dict[str, Any]]
) -> None:
    doubles = [
        message
        for message in messages.values()
        if [step["status"] in ("delivered", "seen") for step in message["steps"]] == [True, True]
    ]
    assert len(doubles) == kaskad.cost()["total"]["double_delivered"]
    for message in doubles:
        viber, sms = message["steps"]
        # Billed once, by whichever came first; both are paid for.
        assert Decimal(message["billing"]["cost"]) > Decimal("0.0371")
        assert viber["sent_at"] <= sms["sent_at"]
