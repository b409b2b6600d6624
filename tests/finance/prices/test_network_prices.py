"""A receipt's price beats its network's, which beats the prefix's, in whatever order receipts
come."""

from __future__ import annotations

import itertools
from decimal import Decimal

import pytest
from msgspec.structs import replace

from gateway.core.events import Accepted, Claimed, Reported
from gateway.core.money.prices import Price
from gateway.core.policy import ProviderRule
from gateway.finance.question import Query
from gateway.redis.client import RedisClient
from gateway.settings.price_file import parse_prices
from gateway.store.messages.apply import Item
from gateway.store.store import Store
from providers.contract import Receipt
from tests.finance.lines.test_lines import lines
from tests.finance.reports.test_ledger import NOON, POLICY, TODAY, cost_report, on
from tests.worlds.cascade_world import request
from tests.worlds.loops import Loop

TO = "79161234567"
BOOK = parse_prices(
    "provider,prefix,category,cost,sell,currency,valid_from,mccmnc\n"
    "viber,,,0.005,0.009,EUR,2026-01-01,\n"
    "viber,,,0.010,0.009,EUR,2026-01-01,25001\n"
    "viber,,marketing,0.004,0.009,EUR,2026-01-01,25002\n"
    "viber,,,0.030,0.009,EUR,2027-01-01,25001\n",
    "EUR",
)
RULES = replace(POLICY, quote_network=BOOK.quote_network)
ON_SENT = replace(
    RULES, providers={**POLICY.providers, "viber": ProviderRule("viber", charged_on="sent")}
)
UNKNOWN = Receipt("delivered", None)
HERE = replace(UNKNOWN, network="25001")
CHEAP = replace(UNKNOWN, network="25002")
ELSEWHERE = replace(UNKNOWN, network="26201")
PRICED = replace(HERE, cost=Decimal("0.007"), currency="EUR")


async def cost_of(redis: RedisClient, *receipts: Receipt, on_sent: bool = False) -> int:
    """What a message costs in the report, when these receipts came; its lines say the same."""
    store = Store(redis, ON_SENT if on_sent else RULES)
    sent = request(id=store.new_message_id(TO, NOON), to=TO, campaign=None)
    await store.admit([sent], NOON)
    for event in (Claimed(0), Accepted(0)):
        await store.apply([Item(sent.id, event)], NOON)
    for receipt in receipts:
        told = replace(receipt, ref=f"{sent.id}.0")
        await store.apply([Item(sent.id, Reported(0, told, "viber"))], NOON)
    found = (await cost_report(redis, 1, Query(TODAY, TODAY), "EUR")).total.cost
    assert sum(line.amount for line in await lines(redis) if line.kind != "bill") == found
    await redis.call([("FLUSHALL",)])
    return found


@pytest.mark.parametrize("on_sent", [False, True])
@pytest.mark.parametrize(
    ("receipt", "cost"),
    [(UNKNOWN, 5_000), (HERE, 10_000), (CHEAP, 4_000), (ELSEWHERE, 5_000), (PRICED, 7_000)],
)
def test_the_networks_price_stands_between_the_receipts_and_the_prefixes(
    loop: Loop, redis_url: str, receipt: Receipt, cost: int, on_sent: bool
) -> None:
    async def main(redis: RedisClient) -> int:
        return await cost_of(redis, receipt, on_sent=on_sent)

    assert on(loop, redis_url, main) == cost


@pytest.mark.parametrize("on_sent", [False, True])
def test_the_order_of_receipts_does_not_matter(loop: Loop, redis_url: str, on_sent: bool) -> None:
    async def main(redis: RedisClient) -> set[int]:
        return {
            await cost_of(redis, *order, on_sent=on_sent)
            for order in itertools.permutations((UNKNOWN, HERE, CHEAP, PRICED))
        }

    assert on(loop, redis_url, main) == {7_000}


def test_the_price_of_the_day_of_acceptance_counts() -> None:
    day = TODAY.replace(year=2027)
    assert BOOK.quote_network("viber", "25001", "otp", TODAY) == Price(10_000, 9_000, "EUR")
    assert BOOK.quote_network("viber", "25001", "otp", day) == Price(30_000, 9_000, "EUR")
    assert BOOK.quote_network("viber", "25002", "otp", TODAY) is None
    assert BOOK.quote("viber", "25001", "otp", TODAY) == Price(5_000, 9_000, "EUR")
