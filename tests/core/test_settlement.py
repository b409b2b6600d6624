"""What a receipt does to a charge: CONTRACT.md 7.2 and 7.5, one rule after the other."""

from __future__ import annotations

from decimal import Decimal
from itertools import permutations
from typing import Any, Literal

import pytest

from gateway.core.effects import IgnoredPrice
from gateway.core.records.attempt import Candidate
from gateway.core.records.content import Content
from tests.worlds.cascade_world import ID, World, policy, request

LIST, SELL = 40_000, 70_000  # of an SMS, in 1e-6 EUR
FAILURES = ("undelivered", "expired", "rejected")


def sms(charged_on: Literal["delivered", "sent"] = "sent", **changes: Any) -> World:
    world = World(policy(charged_on=charged_on), request(route="sms-only", **changes))
    world.send()
    return world


def free_by_list(sell: int = SELL) -> World:
    world = sms()
    step = world.message.steps[0]
    step.sell, step.candidates = sell, [Candidate("sms", 0)]
    step.attempts[0].charged = 0
    world.posts.clear()
    return world


def eur(price: str) -> dict[str, Any]:
    return {"cost": Decimal(price), "currency": "EUR"}


@pytest.mark.parametrize("currency", ["EUR", "USD", None])
@pytest.mark.parametrize("failure", FAILURES)
@pytest.mark.parametrize("field", ["cost", "part_cost"])
def test_a_free_failure_takes_the_charge_back_whatever_the_currency(
    failure: str, currency: str | None, field: str
) -> None:
    world = sms()
    assert world.sums()["cost"] == LIST
    fields: dict[str, Any] = {field: Decimal("0.00"), "currency": currency}
    effects = world.report(failure, **fields)
    assert (world.sums()["cost"], world.message.steps[0].charged) == (0, 0)
    assert [post.note for post in effects.posts if post.note] == [{"list": LIST, "charged": 0}]
    assert effects.ignored_price is None
    assert not world.report(failure, cost=Decimal(0), currency=currency).posts, "once is enough"


@pytest.mark.parametrize("currency", ["USD", None])
@pytest.mark.parametrize(
    ("status", "price"),
    [("delivered", "0"), ("seen", "0"), ("delivered", "0.03"), ("rejected", "0.03")],
)
def test_another_price_in_no_or_another_currency_is_ignored_and_told(
    status: str, price: str, currency: str | None
) -> None:
    world = sms()
    effects = world.report(status, cost=Decimal(price), currency=currency)
    assert world.sums()["cost"] == LIST
    told = IgnoredPrice("currency", "sms", ID, price, currency, LIST)
    assert effects.ignored_price == told


def test_ten_times_the_list_price_is_booked_and_beyond_it_the_list_price_and_told() -> None:
    dear, absurd, endless = sms(), sms(), sms()
    assert dear.report("delivered", **eur("0.4")).ignored_price is None
    assert dear.sums()["cost"] == 10 * LIST
    effects = absurd.report("delivered", **eur("0.400001"))
    assert effects.ignored_price == IgnoredPrice("amount", "sms", ID, "0.400001", "EUR", LIST)
    assert absurd.sums()["cost"] == absurd.sums()["sms_only_cost"] == LIST
    assert endless.report("delivered", **eur("99999999999")).ignored_price is not None
    assert endless.sums()["cost"] == LIST


def test_a_price_where_the_list_says_nothing_is_measured_by_what_the_app_pays() -> None:
    dear, absurd, unsold = free_by_list(), free_by_list(), free_by_list(sell=0)
    assert dear.report("delivered", **eur("0.7")).ignored_price is None
    assert dear.sums()["cost"] == 10 * SELL
    told = IgnoredPrice("amount", "sms", ID, "0.700001", "EUR", 0)
    assert absurd.report("delivered", **eur("0.700001")).ignored_price == told
    assert unsold.report("delivered", **eur("0.01")).ignored_price is not None
    assert absurd.sums()["cost"] == unsold.sums()["cost"] == 0


def test_ten_times_is_measured_by_the_whole_step() -> None:
    world = sms(content=Content("я" * 200))
    assert world.report("delivered", **eur("1.2")).ignored_price is None
    assert world.sums()["cost"] == 10 * 3 * LIST


def test_what_was_taken_back_stands_again_when_the_step_arrives_after_all() -> None:
    world = sms()
    world.report("sent", **eur("0.05"))
    world.report("rejected", cost=Decimal(0))
    assert world.sums()["cost"] == 0
    world.report("delivered")
    assert world.sums()["cost"] == world.sums()["sms_only_cost"] == 50_000
    assert not world.report("rejected", cost=Decimal(0)).posts


def test_a_charge_taken_back_is_the_same_in_any_order() -> None:
    receipts = [
        ("sent", eur("0.05")),
        ("rejected", {"cost": Decimal(0)}),
        ("rejected", eur("0.06")),
        ("delivered", {}),
        ("delivered", eur("99")),
    ]
    for several in (receipts, receipts[:3], receipts[:2], receipts[1:4]):
        sums = []
        for order in permutations(several):
            world = sms()
            for status, fields in order:
                world.report(status, **fields)
            sums.append({k: v for k, v in world.sums().items() if v})
        assert sums == sums[:1] * len(sums), several


def test_a_provider_that_charges_deliveries_has_nothing_to_take_back() -> None:
    world = sms("delivered")
    world.report("rejected", cost=Decimal(0), currency="USD")
    assert world.message.steps[0].charged is None
    world.report("delivered", **eur("0.03"))
    assert world.sums()["cost"] == 30_000


def test_a_price_that_comes_after_the_status_is_booked() -> None:
    world = sms()
    world.report("undelivered")
    world.report("undelivered", **eur("0.05"))
    assert world.sums()["cost"] == 50_000
