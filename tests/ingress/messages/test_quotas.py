"""An app's quotas: its rate, its day, and its share of what all apps have together."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Sequence
from typing import Any

import pytest
from msgspec.structs import replace

from gateway import telemetry
from gateway.core.records.request import Answer
from gateway.ingress.intake.batcher import QueueFull
from gateway.ingress.intake.quotas import AppQuota, StreamQuota
from gateway.ingress.metrics import QuotaMetrics
from gateway.settings.file import Settings
from gateway.store import shared_keys
from gateway.store.waiting.lines import Lines
from providers.notation import Rate
from ratelimit.quota import AHEAD_US, Quota
from tests.worlds.cascade_world import request
from tests.worlds.ingress_world import SALE, World, settings, with_ingress

DAY_S = 86_400
SHOP = 'name = "shop"\n'
OF_THREE = {SHOP: SHOP + "day_max = 3\n"}
OF_TWO_A_SECOND = {SHOP: SHOP + 'rate = "2/s"\n'}


def sale(number: int, **changes: Any) -> dict[str, Any]:
    return SALE | {"to": f"+7916123{number:04}"} | changes


def value_of(world: World, name: str, **labels: str) -> float:
    registries = world.app.metrics.registries
    for registry in (registries.own, registries.shared):
        value = registry.get_sample_value(name, labels)
        if value is not None:
            return value
    return 0.0


async def used(world: World) -> int:
    (reply,) = await world.redis.call([("HGET", shared_keys.quota("shop"), "used")])
    return int(reply) if isinstance(reply, bytes) else 0


@with_ingress(changed=OF_THREE)
async def test_a_day_takes_what_is_accepted_and_no_more(world: World) -> None:
    for number in range(3):
        assert (await world.send(sale(number))).status == 202
    refused = await world.send(sale(3))
    assert refused.status == 429
    assert refused.json["type"] == "/docs#day-max"
    assert "3 messages" in refused.json["detail"]
    assert 0 < int(refused.headers["retry-after"]) <= DAY_S
    assert (await world.call("POST", "/v1/messages", sale(4), key="bank-key")).status == 202
    assert await used(world) == 3
    await world.app.publish()
    assert value_of(world, "kaskad_app_day_used", app="shop") == 3
    assert value_of(world, "kaskad_app_quota", app="shop", quota="day_max") == 3
    assert value_of(world, "kaskad_app_quota_refused_total", app="shop", quota="day_max") == 1


@with_ingress(changed=OF_THREE)
async def test_a_dry_run_beyond_the_day_says_when_to_come_again(world: World) -> None:
    for number in range(3):
        await world.send(sale(number))
    refused = await world.call("POST", "/v1/messages?dry_run=true", sale(3))
    assert refused.status == 429
    assert refused.json["type"] == "/docs#day-max"
    assert 0 < int(refused.headers["retry-after"]) <= DAY_S
    assert await used(world) == 3


@with_ingress(changed=OF_THREE)
async def test_duplicates_replays_and_suppressed_ones_use_nothing_up(world: World) -> None:
    first = await world.send(sale(0), Idempotency_Key="k")
    await world.call("PUT", "/v1/optouts/+79161230009", {"scope": "all"})
    for _ in range(2):
        assert (await world.send(sale(0))).json["outcome"] == "duplicate"
        assert (await world.send(sale(0), Idempotency_Key="k")).json == first.json
        assert (await world.send(sale(9))).json["outcome"] == "suppressed"
        assert (await world.send({"to": 1})).status == 422
    assert await used(world) == 1
    for number in (1, 2):
        assert (await world.send(sale(number))).status == 202
    assert (await world.send(sale(0))).json["outcome"] == "duplicate", "also once it is used up"
    assert (await world.send(sale(0), Idempotency_Key="k")).json == first.json
    again = await world.send(sale(3), Idempotency_Key="k3")
    assert again.status == 429
    await world.redis.call([("DEL", shared_keys.quota("shop"))])  # the next day
    assert (await world.send(sale(3), Idempotency_Key="k3")).status == 202, "not remembered"


@with_ingress(changed=OF_THREE)
async def test_of_an_array_the_items_beyond_the_day_are_rejected(world: World) -> None:
    items = [sale(0), sale(0), {"to": 1}, sale(1), sale(2), sale(3), sale(4)]
    told = (await world.send(items)).json
    assert [item["outcome"] for item in told] == [
        "accepted",
        "duplicate",
        "rejected",
        "accepted",
        "accepted",
        "rejected",
        "rejected",
    ], "three are accepted, whatever stands between them"
    assert [item["error"]["status"] for item in told if "error" in item] == [422, 429, 429]
    assert await used(world) == 3
    assert (await world.send([sale(5), sale(6)])).status == 429, "as a whole where none has room"
    mixed = await world.send([sale(5), {"to": 1}])
    assert mixed.status == 200, "each where another has a fault of its own"
    assert [item["error"]["status"] for item in mixed.json] == [429, 422]


@with_ingress(changed=OF_THREE)
async def test_of_a_stream_the_lines_beyond_the_day_are_rejected(world: World) -> None:
    exchange = world.stream()
    lines = [sale(0), sale(0), {"to": 1}, *map(sale, range(1, 6))]
    exchange.feed(b"".join(json.dumps(each).encode() + b"\n" for each in lines), more=False)
    told = (await exchange.answer()).lines
    assert [each["outcome"] for each in told] == [
        "accepted",
        "duplicate",
        "rejected",
        "accepted",
        "accepted",
        "rejected",
        "rejected",
        "rejected",
    ]
    assert [each["error"]["status"] for each in told if "error" in each] == [422, 429, 429, 429]
    assert await used(world) == 3


@with_ingress(changed=OF_THREE)
async def test_what_a_stream_paid_for_and_did_not_need_is_there_for_others(world: World) -> None:
    exchange = world.stream()
    exchange.feed(json.dumps(sale(0)).encode() + b"\n", more=False)
    assert [each["outcome"] for each in (await exchange.answer()).lines] == ["accepted"]
    assert await used(world) == 1
    assert (await world.send([sale(1), sale(2)])).json[1]["outcome"] == "accepted"


@with_ingress(changed=OF_THREE)
async def test_a_stream_that_breaks_off_keeps_nothing_of_the_day_that_it_did_not_need(
    world: World,
) -> None:
    """Its lines were on their way, and what they came to was told to nobody any more."""
    await world.send(sale(0))
    for _ in range(3):  # its client comes again, as it was told nothing
        exchange = world.stream()
        exchange.feed(2 * (json.dumps(sale(0)).encode() + b"\n"))
        exchange.hang_up()
        await exchange.answer()
        assert exchange.connection.aborted
    assert await used(world) == 1
    assert (await world.send(sale(1))).status == 202


@with_ingress(changed=OF_THREE)
async def test_nor_does_one_whose_line_found_no_place_in_its_queue(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    offered = asyncio.Event()

    def full(*_: object) -> None:
        offered.set()
        raise QueueFull

    monkeypatch.setattr(world.app.queue, "submit", full)
    exchange = world.stream()
    exchange.feed(json.dumps(sale(0)).encode() + b"\n")
    await offered.wait()
    exchange._task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await exchange.answer()
    assert await used(world) == 0


@with_ingress(changed=OF_TWO_A_SECOND)
async def test_over_the_rate_a_request_is_refused_as_a_whole(world: World) -> None:
    """The rate may be spent a second ahead; what is asked at once is never parted."""
    assert (await world.send([sale(number) for number in range(30)])).status == 200
    for body in (sale(30), [sale(31), sale(32)]):
        refused = await world.send(body)
        assert refused.status == 429
        assert refused.json["type"] == "/docs#rate"
        assert "2 messages a second" in refused.json["detail"]
        assert 10 <= int(refused.headers["retry-after"]) <= 15
    assert (await world.call("POST", "/v1/messages", sale(30), key="bank-key")).status == 202
    assert value_of(world, "kaskad_app_quota_refused_total", app="shop", quota="rate") == 3
    assert value_of(world, "kaskad_app_quota_messages_total", app="shop") == 30


@with_ingress(changed=OF_TWO_A_SECOND)
async def test_what_is_spent_of_a_rate_is_so_many_messages_at_another_rate_too(
    world: World,
) -> None:
    assert (await world.send([sale(number) for number in range(30)])).status == 200
    world.app.take_over(at_rate(1), world.store.policy)
    refused = await world.send(sale(30))
    assert refused.status == 429
    assert "1 messages a second" in refused.json["detail"]
    assert 24 <= int(refused.headers["retry-after"]) <= 29
    world.app.take_over(at_rate(100), world.store.policy)
    assert (await world.send(sale(30))).status == 202, "they are less than a second's"


@with_ingress(changed=OF_TWO_A_SECOND)
async def test_a_stream_over_the_rate_is_slowed_down(world: World) -> None:
    (now,) = await world.redis.call([("TIME",)])
    assert isinstance(now, list)
    spent_us = int(now[0]) * 1_000_000 + int(now[1]) + AHEAD_US + 200_000
    await world.redis.call([("HSET", shared_keys.quota("shop"), "free_us", spent_us)])
    exchange = world.stream()
    exchange.feed(json.dumps(sale(0)).encode() + b"\n", more=False)
    assert [each["outcome"] for each in (await exchange.answer()).lines] == ["accepted"]
    (after,) = await world.redis.call([("TIME",)])
    assert isinstance(after, list)
    assert int(after[0]) * 1_000_000 + int(after[1]) >= spent_us - AHEAD_US


@with_ingress(changed=OF_THREE)
async def test_a_day_is_exact_over_all_processes(world: World) -> None:
    """Each with its own memory of everything but Redis."""
    quotas = [replaced(world) for _ in range(4)]
    asked = [world.send(sale(number)) for number in range(10)]
    granted = [quota.spend(1) for quota in quotas]
    answers, spent = await asyncio.gather(asyncio.gather(*asked), asyncio.gather(*granted))
    accepted = sum(answer.status == 202 for answer in answers)
    assert accepted + sum(each.granted for each in spent) == await used(world) == 3


def replaced(world: World) -> Quota:
    """The same app's quota as another process has it."""
    return Quota(world.app.quotas._run, shared_keys.quota("shop"), rate_per_s=0, day_max=3)


@with_ingress()
async def test_quotas_change_while_it_runs_and_an_app_without_any_asks_nothing(
    world: World,
) -> None:
    await world.send(sale(0))
    assert world.app.quotas.of("shop") is None
    (exists,) = await world.redis.call([("EXISTS", shared_keys.quota("shop"))])
    assert exists == 0
    world.app.take_over(limited(settings()), world.store.policy)
    assert (await world.send(sale(1))).status == 202
    assert (await world.send(sale(2))).status == 429
    assert value_of(world, "kaskad_app_quota", app="shop", quota="day_max") == 1
    world.app.take_over(settings(), world.store.policy)
    assert (await world.send(sale(2))).status == 202
    assert value_of(world, "kaskad_app_quota", app="shop", quota="day_max") == 0


@with_ingress()
async def test_an_open_stream_goes_by_the_quotas_as_they_change(world: World) -> None:
    """It may be open for hours when somebody bounds its app."""
    exchange = world.stream()

    async def outcomes(numbers: range) -> list[str]:
        for number in numbers:
            exchange.feed(json.dumps(sale(number)).encode() + b"\n")
        return [(await exchange.line())["outcome"] for _ in numbers]

    assert await outcomes(range(2)) == ["accepted", "accepted"], "there are no quotas"
    world.app.take_over(limited(settings()), world.store.policy)
    assert await outcomes(range(2, 5)) == ["accepted", "rejected", "rejected"]
    world.app.take_over(settings(), world.store.policy)
    assert await outcomes(range(5, 7)) == ["accepted", "accepted"]
    exchange.feed(b"", more=False)
    await exchange.answer()
    assert await used(world) == 1


class Midnight:
    """Redis as a quota sees it: all is granted, ten at a time, the first of them on day 1."""

    def __init__(self) -> None:
        self.day = 1
        self.given_back: list[tuple[int, ...]] = []

    async def run(self, name: str, keys: Sequence[str], args: Sequence[int]) -> Any:
        if name == "spend":
            return [10, 0, self.day, 10]
        assert keys == ("key",)
        self.given_back.append(tuple(args))
        return 1


def test_what_a_stream_did_not_need_yesterday_is_not_given_to_today() -> None:
    redis = Midnight()
    quota = Quota(redis.run, "key", rate_per_s=0, day_max=20)
    metrics = QuotaMetrics(telemetry.new_registries())
    stream = StreamQuota(AppQuota(quota, "shop", metrics, lambda: 0))

    async def run() -> None:
        paid = []
        for number in range(11):
            redis.day = 1 if number < 10 else 2
            paid.append((await stream.pay(request()), stream.day))
        for line, day in paid:
            stream.note(Answer("duplicate", "m", "queued"), line, day)
        await stream.close()

    asyncio.run(run())
    assert redis.given_back == [(2, 10)], "the last line, and nine that never came"


def limited(config: Settings) -> Settings:
    shop, *others = config.apps
    return replace(config, apps=(replace(shop, day_max=1, rate_per_s=Rate(100)), *others))


def at_rate(per_s: int) -> Settings:
    shop, *others = settings().apps
    return replace(settings(), apps=(replace(shop, rate_per_s=Rate(per_s)), *others))


async def two_apps_send(world: World) -> None:
    """Each in its line, which a dispatcher reads."""
    await Lines().announce(world.redis)
    assert (await world.call("POST", "/v1/messages", sale(0), key="bank-key")).status == 202
    assert (await world.send(sale(1))).status == 202
    await world.app.backlog.sample()


@with_ingress("sse_clients_max = 3")
async def test_where_several_apps_send_one_has_half_of_the_event_streams(world: World) -> None:
    await two_apps_send(world)
    opened = [world.begin("GET", "/v1/events") for _ in range(2)]
    for each in opened:
        await each.until(b"follow")
    refused = await world.call("GET", "/v1/events")
    assert refused.status == 503
    assert "an app may have 2" in refused.json["detail"]
    other = world.begin("GET", "/v1/events", key="bank-key")
    await other.until(b"follow")
    assert world.app.events.clients == 3


@with_ingress("backlog_max = 4")
async def test_where_several_apps_send_one_has_half_of_a_lane(world: World) -> None:
    await two_apps_send(world)
    assert (await world.send(sale(2))).status == 202
    await world.app.backlog.sample()
    refused = await world.send(sale(3))
    assert refused.status == 429
    assert "its share of 4" in refused.json["detail"]
    assert (await world.call("POST", "/v1/messages", sale(4), key="bank-key")).status == 202
