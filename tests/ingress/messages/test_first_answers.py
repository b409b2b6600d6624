"""The first answer of an idempotency key holds also where the request would be refused now: its
campaign or the configuration has changed since."""

from __future__ import annotations

import json
from typing import Any

import pytest
from msgspec.structs import replace

from tests.ingress.campaigns.test_campaigns import MANAGED, PATH
from tests.ingress.messages.test_memory import Servers
from tests.worlds import cascade_world
from tests.worlds.ingress_world import SALE, World, with_ingress

BARE = {key: value for key, value in SALE.items() if key != "text"}
GREETED = BARE | {"vars": {"name": "Anna"}}
KEYED = GREETED | {"idempotency_key": "a"}
NDJSON = "application/x-ndjson"


async def declare(world: World, **said: Any) -> None:
    """At a time to which Redis, which drops by its own clock what is over, does not come."""
    world.clock.now_ms = max(world.clock.now_ms, cascade_world.T0)
    answer = await world.call("PUT", PATH, said, key="finance-key")
    assert answer.status == 200, answer.json


async def taken(world: World) -> str:
    """The campaign says something, a message of it is taken, and the campaign says more."""
    await declare(world, content={"text": "Hello {{name}}"})
    first = await world.send(KEYED)
    assert (first.status, first.json["outcome"]) == (202, "accepted")
    await declare(world, content={"text": "Hello {{name}}, {{city}} is near."})
    assert (await world.send(GREETED)).status == 422
    return str(first.json["id"])


@with_ingress(changed=MANAGED)
async def test_a_single_message_is_told_it_again(world: World) -> None:
    id_ = await taken(world)
    again = await world.send(KEYED)
    assert (again.status, again.json["id"], again.json["outcome"]) == (202, id_, "accepted")
    assert again.headers["idempotent-replayed"] == "true"
    spaced = KEYED | {"campaign": " autumn "}
    assert (await world.send(spaced)).json["id"] == id_, "one name, spelled otherwise"
    by_header = await world.send(GREETED, idempotency_key="a")
    assert by_header.json["id"] == id_
    tried = await world.call("POST", "/v1/messages?dry_run=true", KEYED)
    assert (tried.status, tried.json["outcome"]) == (200, "accepted")
    assert tried.headers["idempotent-replayed"] == "true"


@with_ingress(changed=MANAGED)
async def test_in_an_array_and_in_a_stream_its_neighbours_are_told_what_is_wrong(
    world: World,
) -> None:
    id_ = await taken(world)
    items = [GREETED, KEYED, KEYED | {"idempotency_key": "b"}]
    array = await world.send(items)
    lines = "\n".join(map(json.dumps, items)).encode()
    stream = await world.call("POST", "/v1/messages", lines, {"content-type": NDJSON})
    for told in (array.json, [json.loads(line) for line in stream.body.splitlines()]):
        assert [each["outcome"] for each in told] == ["rejected", "accepted", "rejected"]
        assert told[1]["id"] == id_


@pytest.mark.parametrize(
    "changed",
    [
        {"text": ""},
        {"vars": {"name": "Olga"}},
        {"vars": {"name": 5}},
        {"idempotency_key": "b"},
    ],
)
@with_ingress(changed=MANAGED)
async def test_another_body_or_another_key_is_told_its_own_faults(
    world: World, changed: dict[str, Any]
) -> None:
    await taken(world)
    refused = await world.send(KEYED | changed)
    assert refused.status == 422
    assert refused.json["errors"]


@with_ingress(changed=MANAGED | {'name = "shop"\n': 'name = "shop"\nday_max = 1\nrate = "9/s"\n'})
async def test_it_spends_nothing_of_a_quota(world: World) -> None:
    id_ = await taken(world)
    for _ in range(20):
        assert (await world.send(KEYED)).json["id"] == id_
        (told,) = (await world.send([KEYED])).json
        assert told["id"] == id_


@with_ingress(changed=MANAGED)
async def test_a_name_that_the_configuration_has_no_more(world: World) -> None:
    sale = SALE | {"route": "sms-only", "idempotency_key": "c"}
    first = await world.send(sale)
    policy = world.store.policy
    routes = {name: route for name, route in policy.routes.items() if name != "sms-only"}
    world.store.policy = replace(policy, routes=routes)
    assert (await world.send(sale)).json == first.json
    assert (await world.send(sale | {"idempotency_key": "d"})).status == 422


@with_ingress(changed=MANAGED)
async def test_a_stored_phone_that_the_app_may_not_send_to_any_more(world: World) -> None:
    anna = {"user": "anna", "category": "otp", "text": "5", "idempotency_key": "e"}
    await world.call("PUT", "/v1/users/anna", {"phone": "+79161234567"})
    first = await world.send(anna)
    assert first.status == 202
    policy = world.store.policy
    shop = replace(policy.app("shop"), countries=frozenset({"KZ"}))
    world.store.policy = replace(policy, apps={**policy.apps, "shop": shop})
    assert (await world.send(anna)).json == first.json
    assert (await world.send(anna | {"idempotency_key": "f"})).status == 422


@with_ingress(changed=MANAGED)
async def test_while_redis_is_away_nobody_can_say(world: World) -> None:
    await taken(world)
    world.redis.away = True
    assert (await world.send(KEYED)).status == 503


@with_ingress("backlog_max = 1")
async def test_a_lane_that_is_full_keeps_no_first_answer_back(world: World) -> None:
    """A repeated request brings nothing that would wait there."""
    keyed = SALE | {"idempotency_key": "a"}
    id_ = (await world.send(keyed)).json["id"]
    await world.app.backlog.sample()
    other = SALE | {"to": "+79161234568"}
    assert (await world.send(other)).status == 429
    await told_again(world, keyed, other, id_)


@with_ingress()
async def test_a_store_that_is_full_keeps_no_first_answer_back(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    keyed = SALE | {"idempotency_key": "a"}
    id_ = (await world.send(keyed)).json["id"]
    Servers(monkeypatch, shard0=95)
    await world.app.servers.sample()
    other = SALE | {"to": "+79161234568"}
    assert (await world.send(other)).status == 503
    await told_again(world, keyed, other, id_)


async def told_again(world: World, keyed: dict[str, Any], other: dict[str, Any], id_: str) -> None:
    """Alone, in an array and in a stream; what is new beside it is refused as ever."""
    again = await world.send(keyed)
    assert (again.status, again.json["id"]) == (202, id_)
    assert again.headers["idempotent-replayed"] == "true"
    assert (await world.send([keyed])).json[0]["id"] == id_
    stream = world.stream()
    stream.feed(json.dumps(keyed).encode() + b"\n", more=False)
    assert (await stream.line())["id"] == id_
    assert (await world.send(keyed | {"text": "Another."})).status in (429, 503)
    refused = await world.send([keyed, other])
    told = refused.json[1]["error"] if refused.status == 200 else refused.json
    assert told["status"] in (429, 503)
