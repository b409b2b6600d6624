"""Prices from the callback's bytes to the report: Infobip's webhook and statuses, line by line.

A row is one receipt of a step that was sent: its status (group, id), price and parts as Infobip
writes them, what the step became, and what the report then shows as cost. The list price is 0.0050
a part.
"""

from __future__ import annotations

import asyncio
import json
from pathlib import Path
from typing import Any

import pytest
import uvloop

from gateway.settings.file import parse
from tests.ingress.callbacks.test_callbacks import BASIC, sent
from tests.worlds.ingress_world import (
    CONFIG,
    ENV,
    Clock,
    World,
    opened_world,
    with_ingress,
)
from tests.worlds.patience import PATIENCE_S

SMS = 'kind = "infobip-sms"'
LIST = "0.0050"
Row = tuple[int, int, str, int | None, str, str]
FREE = '{"pricePerMessage":0.0,"currency":"EUR"}'
FREE_FOREIGN = '{"pricePerMessage":0,"currency":"USD"}'
FREE_ALONE = '{"pricePerMessage":0}'
DEARER = '{"pricePerMessage":0.007,"currency":"EUR"}'

# Where sending is charged, as SMS are: the price in the receipt counts, whatever came of it.
SENT_IS_CHARGED: list[Row] = [
    # group, id, price, parts, status, cost
    (1, 3, "", 1, "sent", LIST),  # PENDING_WAITING_DELIVERY
    (1, 7, "", 1, "sent", LIST),  # PENDING_ENROUTE
    (1, 26, DEARER, 1, "sent", "0.0070"),  # PENDING_ACCEPTED
    (3, 2, DEARER, 1, "sent", "0.0070"),  # DELIVERED_TO_OPERATOR is no delivery
    (3, 5, DEARER, 1, "delivered", "0.0070"),
    (3, 5, DEARER, 3, "delivered", "0.0210"),  # price of one part, times the parts
    (3, 5, DEARER, None, "delivered", "0.0070"),  # without a count: times our own parts
    (3, 5, DEARER, 0, "delivered", "0.0070"),  # a delivery has parts, whatever the count says
    (3, 5, FREE, 1, "delivered", "0.0000"),
    (3, 5, FREE_ALONE, 1, "delivered", LIST),  # a delivery's price needs a currency
    (3, 5, FREE_FOREIGN, 1, "delivered", LIST),
    (3, 5, '{"pricePerMessage":0.05,"currency":"EUR"}', 1, "delivered", "0.0500"),  # ten times
    (3, 5, '{"pricePerMessage":0.0501,"currency":"EUR"}', 1, "delivered", LIST),  # beyond
    (3, 5, '{"pricePerMessage":99999999,"currency":"EUR"}', 1, "delivered", LIST),
    (2, 4, DEARER, 1, "undelivered", "0.0070"),  # UNDELIVERABLE_REJECTED_OPERATOR
    (2, 9, DEARER, 2, "undelivered", "0.0140"),
    (2, 9, FREE, 1, "undelivered", "0.0000"),
    (2, 31, FREE_ALONE, 1, "undelivered", "0.0000"),  # UNDELIVERABLE_NOT_SENT
    (2, 31, DEARER, 0, "undelivered", "0.0000"),  # no part was sent
    (4, 15, DEARER, 1, "expired", "0.0070"),
    (4, 29, "", 1, "expired", LIST),  # EXPIRED_DLR_UNKNOWN
    (4, 87, DEARER, 1, "expired", "0.0070"),  # SIGNALS_BLOCKED, charged
    (4, 87, "", 1, "expired", LIST),
    (5, 87, DEARER, 1, "rejected", "0.0000"),  # SIGNALS_BLOCKED, free whatever the price says
    (5, 87, "", 1, "rejected", "0.0000"),
    (5, 23, FREE, 1, "sent", LIST),  # a refused duplicate: its original is alive and charged
    *((5, id_, FREE, 0, "rejected", "0.0000") for id_ in (6, 8, 10, 11, 12, 13, 14, 17, 18, 19)),
    *((5, id_, FREE_FOREIGN, 1, "rejected", "0.0000") for id_ in (20, 21, 24, 25, 51, 52, 100)),
    (5, 6, FREE_ALONE, None, "rejected", "0.0000"),
    (5, 6, '{"pricePerMessage":0.007,"currency":"USD"}', 1, "rejected", LIST),
    (5, 6, '{"pricePerMessage":0.007}', 1, "rejected", LIST),
    (5, 6, "", 1, "rejected", LIST),
]
# Where deliveries are charged, as Viber is: what failed costs nothing, whatever its receipt says.
DELIVERED_IS_CHARGED: list[Row] = [
    (1, 26, DEARER, 1, "sent", "0.0000"),
    (3, 2, DEARER, 1, "sent", "0.0000"),
    (3, 5, "", 1, "delivered", LIST),
    (3, 5, DEARER, 1, "delivered", "0.0070"),
    (2, 9, DEARER, 1, "undelivered", "0.0000"),
    (4, 15, DEARER, 1, "expired", "0.0000"),
    (5, 6, FREE_FOREIGN, 1, "rejected", "0.0000"),
    (5, 6, DEARER, 1, "rejected", "0.0000"),
]


def body(ref: str, group: int, id_: int, price: str, parts: int | None) -> bytes:
    """The bytes of one report, the price written as it was given."""
    item: dict[str, Any] = {
        "bulkId": "b1",
        "messageId": ref,
        "to": "79161234567",
        "sentAt": "2026-11-18T10:00:00.000+0000",
        "doneAt": "2026-11-18T10:00:01.000+0000",
        "mccMnc": "25001",
        "status": {"groupId": group, "groupName": "G", "id": id_, "name": "N"},
        "error": {"groupId": 0, "id": 0, "name": "NO_ERROR", "permanent": False},
    }
    if parts is not None:
        item["messageCount"] = parts
    written = json.dumps(item)
    if price:
        written = f'{written[:-1]},"price":{price}}}'
    return f'{{"results":[{written}]}}'.encode()


async def outcomes(url: str, charged_on: str, rows: list[Row]) -> list[Row]:
    """Sends a message a row and takes its receipt; the rows as they came out in the report, which
    tells them apart by campaign."""
    text = CONFIG.format(server="", shards=2).replace(SMS, f'{SMS}\ncharged_on = "{charged_on}"')
    config = parse(text, Path("/nowhere/kaskad.toml"), ENV)
    async with asyncio.timeout(PATIENCE_S), opened_world(url, config, Clock()) as world:
        ids = [
            await sent(world, to=f"+79161{n:06d}", campaign=f"{n:03d}") for n in range(len(rows))
        ]
        for id_, (group, number, price, parts, *_) in zip(ids, rows, strict=True):
            octets = body(f"{id_}.0", group, number, price, parts)
            answer = await world.call("POST", "/v1/callbacks/sms", octets, BASIC, key="")
            assert answer.json == {"applied": 1, "parked": 0, "faults": 0}
        views = [(await world.call("GET", f"/v1/messages/{id_}")).json for id_ in ids]
        report = await world.call("GET", "/v1/reports/cost?group_by=campaign")
        costs = [line["cost"] for line in report.json["rows"]]
    assert [view["steps"][0]["cost"] or "0.0000" for view in views] == costs
    return [
        (*row[:4], view["steps"][0]["status"], cost)
        for row, view, cost in zip(rows, views, costs, strict=True)
    ]


@pytest.mark.parametrize(
    ("charged_on", "rows"), [("sent", SENT_IS_CHARGED), ("delivered", DELIVERED_IS_CHARGED)]
)
def test_every_status_and_price_comes_to_the_report(
    redis_url: str, charged_on: str, rows: list[Row]
) -> None:
    assert uvloop.run(outcomes(redis_url, charged_on, rows)) == rows


@with_ingress()
async def test_prices_that_were_not_booked_are_counted_by_provider_and_reason(world: World) -> None:
    id_ = await sent(world)
    for price in ('{"pricePerMessage":99,"currency":"EUR"}', '{"pricePerMessage":0.004}', ""):
        octets = body(f"{id_}.0", 3, 5, price, 1)
        assert (await world.call("POST", "/v1/callbacks/sms", octets, BASIC, key="")).status == 200
    text = (await world.call("GET", "/metrics", key="")).body.decode()
    for provider, why, count in (
        ("sms", "amount", 1),
        ("sms", "currency", 1),
        ("viber", "amount", 0),
    ):
        labels = f'process="ingress-test-1",provider="{provider}",why="{why}"'
        assert f"kaskad_receipt_prices_ignored_total{{{labels}}} {count}.0" in text
