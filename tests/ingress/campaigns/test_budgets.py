"""Budgets as callers meet them: refused, held, explained, shown and reloaded."""

from __future__ import annotations

from typing import Any

from msgspec.structs import replace

from gateway.store.money.budgets import READ_MS
from tests.worlds.ingress_world import OTP, SALE, World, with_ingress

# Every price is 0.0050 here: a sale reserves a Viber and an SMS.
BUDGET = """
[[budgets]]
name = "spring-cap"
campaign = "autumn"
limit = "0.0200"
window = "30d"
"""
PRICES = "[prices]\n"
HOLDS = {PRICES: BUDGET + PRICES}
REFUSES = {PRICES: BUDGET + 'then = "refuse"\n' + PRICES}
OPERATOR = {**REFUSES, 'scopes = ["report-all"]': 'scopes = ["report-all", "operate"]'}


def sale(number: int, **changes: Any) -> dict[str, Any]:
    return SALE | {"to": f"+7916123{number:04}"} | changes


async def budget(world: World) -> dict[str, Any]:
    told = await world.call("GET", "/v1/budgets", key="finance-key")
    (one,) = told.json["items"]
    assert isinstance(one, dict)
    return one


def gate(answer: Any) -> Any:
    return [each for each in answer.json["explain"]["gates"] if each["gate"] == "budget"]


@with_ingress(changed=REFUSES, shards=2)
async def test_a_full_budget_refuses_with_its_numbers_until_something_is_released(
    world: World,
) -> None:
    first = await world.send(sale(1))
    assert (await world.send(sale(2))).status == first.status == 202
    refused = await world.send(sale(3))
    assert refused.status == 200
    assert refused.json == {
        "outcome": "suppressed",
        "reason": "budget",
        "budget": {"name": "spring-cap", "limit": "0.0200", "used": "0.0200"},
    }
    again = await world.send(sale(1))
    assert again.json["outcome"] == "duplicate", "that is asked before"
    assert (await world.send(OTP)).status == 202, "it counts its campaign"
    await world.deliver(first.json["id"])
    shown = await budget(world)
    assert {key: shown[key] for key in ("limit", "used", "reserved", "left")} == {
        "limit": "0.0200",
        "used": "0.0150",
        "reserved": "0.0100",
        "left": "0.0050",
    }
    assert (await world.send(sale(4))).json["outcome"] == "suppressed"
    assert (await world.send(sale(5, route="sms-only"))).status == 202


@with_ingress(changed=REFUSES)
async def test_batches_and_streams_are_told_the_same(world: World) -> None:
    body = [sale(number) for number in range(4)]
    told = (await world.call("POST", "/v1/messages", body)).json
    assert [each["outcome"] for each in told] == ["accepted"] * 2 + ["suppressed"] * 2
    assert told[2]["budget"]["used"] == "0.0200"


@with_ingress(changed=REFUSES)
async def test_what_was_refused_is_said_again_for_its_idempotency_key(world: World) -> None:
    await world.call("POST", "/v1/messages", [sale(1), sale(2)])
    first = await world.send(sale(3), Idempotency_Key="k")
    again = await world.send(sale(3), Idempotency_Key="k")
    assert first.json["reason"] == "budget"
    assert again.json == first.json
    assert again.headers["idempotent-replayed"] == "true"


@with_ingress(changed=HOLDS)
async def test_a_full_budget_holds_and_says_so_everywhere(world: World) -> None:
    await world.call("POST", "/v1/messages", [sale(1), sale(2)])
    held = await world.send(sale(3))
    assert held.status == 202
    assert held.json["held"] == {"until": None, "reason": "budget"}
    path = f"/v1/messages/{held.json['id']}"
    shown = (await world.call("GET", path)).json
    assert (shown["status"], shown["held"]["reason"], shown["final"]) == ("queued", "budget", False)
    explained = (await world.call("GET", f"{path}/explain")).json["gates"]
    (told,) = [each for each in explained if each["gate"] == "budget"]
    assert (told["verdict"], told["name"]) == ("hold", "spring-cap")
    assert (await world.call("DELETE", path)).json["status"] == "cancelled"


@with_ingress(changed=HOLDS)
async def test_a_dry_run_says_what_would_happen_and_reserves_nothing(world: World) -> None:
    fits = await world.call("POST", "/v1/messages?dry_run=true", sale(1))
    assert gate(fits) == [
        {
            "gate": "budget",
            "verdict": "pass",
            "detail": None,
            "name": "spring-cap",
            "limit": "0.0200",
            "used": "0.0000",
        }
    ]
    names = [each["gate"] for each in fits.json["explain"]["gates"]]
    assert names.index("cap") + 1 == names.index("budget")
    assert (await budget(world))["used"] == "0.0000"
    await world.call("POST", "/v1/messages", [sale(1), sale(2)])
    full = await world.call("POST", "/v1/messages?dry_run=true", sale(3))
    (told,) = gate(full)
    assert (told["verdict"], told["used"]) == ("hold", "0.0200")
    assert full.json["held"] == {"until": None, "reason": "budget"}
    otp = await world.call("POST", "/v1/messages?dry_run=true", OTP)
    assert gate(otp) == [], "no budget counts it"


@with_ingress(changed=REFUSES)
async def test_a_dry_run_of_what_is_refused(world: World) -> None:
    await world.call("POST", "/v1/messages", [sale(1), sale(2)])
    full = await world.call("POST", "/v1/messages?dry_run=true", sale(3))
    assert full.json["reason"] == "budget"
    (told,) = gate(full)
    assert (told["verdict"], told["limit"], told["used"]) == ("stop", "0.0200", "0.0200")
    assert full.json["explain"]["gates"][-1] == told


@with_ingress(changed=OPERATOR)
async def test_it_is_shown_to_those_who_may_see_it(world: World) -> None:
    await world.send(sale(1))
    shown = await budget(world)
    assert shown == {
        "name": "spring-cap",
        "limit": "0.0200",
        "used": "0.0100",
        "reserved": "0.0100",
        "left": "0.0100",
        "currency": "EUR",
        "window": "30d",
        "then": "refuse",
        "warned": 0,
        "warned_at": None,
        "app": None,
        "campaign": "autumn",
        "category": None,
        "country": None,
        "channel": None,
    }
    assert (await world.call("GET", "/v1/budgets")).status == 403
    ops = (await world.call("GET", "/v1/ops", key="finance-key")).json
    assert ops["budgets"] == [shown]


@with_ingress(
    changed={
        **HOLDS,
        'key_env = "SHOP_KEY"': 'key_env = "SHOP_KEY"\nscopes = ["send", "read", "manage"]',
    }
)
async def test_a_campaign_says_what_its_budgets_allow(world: World) -> None:
    await world.send(sale(1))
    put = await world.call("PUT", "/v1/campaigns/autumn", {"state": "running"})
    (told,) = put.json["budgets"]
    assert (told["name"], told["left"]) == ("spring-cap", "0.0100")
    other = await world.call("PUT", "/v1/campaigns/winter", {"state": "running"})
    assert other.json["budgets"] == []
    listed = (await world.call("GET", "/v1/campaigns")).json["items"]
    assert [len(each["budgets"]) for each in listed] == [1, 0]


@with_ingress(changed=REFUSES)
async def test_a_changed_limit_holds_from_the_next_request_on(world: World) -> None:
    await world.call("POST", "/v1/messages", [sale(1), sale(2)])
    (old,) = world.store.policy.budgets
    world.store.policy = replace(world.store.policy, budgets=(replace(old, limit=30_000),))
    assert (await world.send(sale(3))).status == 202
    world.store.policy = replace(world.store.policy, budgets=(replace(old, limit=10_000),))
    refused = await world.send(sale(4))
    assert refused.json["budget"] == {
        "name": "spring-cap",
        "limit": "0.0100",
        "used": "0.0300",
    }


@with_ingress(changed=REFUSES)
async def test_redis_away_is_a_503_and_nothing_is_lost_of_the_budget(world: World) -> None:
    await world.send(sale(1))
    world.redis.away = True
    assert (await world.send(sale(2))).status == 503
    assert (await world.call("GET", "/v1/budgets", key="finance-key")).status == 503
    world.redis.away = False
    world.clock.now_ms += READ_MS
    assert (await world.send(sale(2))).status == 202
    assert (await budget(world))["used"] == "0.0200"
