"""Messages that wait for a moment: what the caller is told when it sends one and reads it."""

from __future__ import annotations

import json
from typing import Any

import pytest

from gateway.redis.errors import RedisUnavailable
from gateway.store.providers import pauses
from gateway.store.waiting import zones
from tests.worlds.ingress_world import OTP, SALE, T0, World, with_ingress

# The world's clock shows 2026-11-18T11:06:40Z.
IN_AN_HOUR = "2026-11-18T12:06:40.000Z"
MARKETING = '[categories.marketing]\nroute = "both"'
EVENING = f"""{MARKETING}
send_window = "evening"
[send_windows.evening]
from = "20:00"
to = "22:00"
"""
NIGHT = {MARKETING: EVENING + 'country_zones = { RU = "Europe/Moscow" }'}


@with_ingress()
async def test_a_message_for_later_says_until_when_it_is_held(world: World) -> None:
    answer = await world.send(SALE | {"send_at": "2026-11-18T15:06:40+03:00"})
    held = {"until": IN_AN_HOUR, "reason": "scheduled"}
    assert answer.status == 202
    assert answer.json == {
        "id": answer.json["id"],
        "outcome": "accepted",
        "status": "queued",
        "held": held,
    }
    shown = (await world.call("GET", f"/v1/messages/{answer.json['id']}")).json
    assert shown["held"] == held
    assert (shown["status"], shown["final"]) == ("queued", False)
    assert [step["status"] for step in shown["steps"]] == ["queued", "queued"]


@with_ingress()
async def test_the_past_is_at_once_and_a_message_without_a_moment_is_not_held(world: World) -> None:
    answer = await world.send(SALE | {"send_at": "2026-01-01T00:00:00Z"})
    assert (answer.status, "held" in answer.json) == (202, False)
    answer = await world.send(OTP)
    shown = (await world.call("GET", f"/v1/messages/{answer.json['id']}")).json
    assert shown["held"] is None


@pytest.mark.parametrize(
    ("changes", "pointer"),
    [
        ({"send_at": "2026-12-18T11:06:41Z"}, "/send_at"),
        ({"send_at": "2026-11-18T12:06:40"}, "/send_at"),
        ({"send_at": "tomorrow"}, "/send_at"),
        ({"tz": "Moscow"}, "/tz"),
        ({"tz": ""}, "/tz"),
    ],
)
def test_a_moment_or_zone_that_cannot_be_is_a_422(
    changes: dict[str, str], pointer: str, redis_url: str
) -> None:
    @with_ingress()
    async def ask(world: World) -> None:
        answer = await world.send(SALE | changes)
        assert answer.status == 422
        assert [error["pointer"] for error in answer.json["errors"]] == [pointer]

    ask(redis_url)


@with_ingress()
async def test_the_same_moment_in_another_zone_is_the_same_request(world: World) -> None:
    key = {"idempotency_key": "once"}
    first = await world.send(SALE | {"send_at": "2026-11-18T15:06:40+03:00"} | key)
    again = await world.send(SALE | {"send_at": IN_AN_HOUR} | key)
    assert (again.status, again.json) == (202, first.json)


@with_ingress(changed=NIGHT)
async def test_a_send_window_holds_until_it_opens_where_the_recipient_is(world: World) -> None:
    answer = await world.send(SALE)
    assert answer.json["held"] == {"until": "2026-11-18T17:00:00.000Z", "reason": "send_window"}
    there = await world.send(SALE | {"campaign": "east", "tz": "Asia/Krasnoyarsk"})
    assert there.json["held"]["until"] == "2026-11-18T13:00:00.000Z"
    now = await world.send(SALE | {"to": "+79161234568", "tz": "Asia/Vladivostok"})
    assert "held" not in now.json
    assert "held" not in (await world.send(OTP)).json


NOWHERE = {MARKETING: EVENING + 'unknown_zone = "hold"'}
UNKNOWN = {"until": None, "reason": "send_window"}
NDJSON = {"content-type": "application/x-ndjson"}


@with_ingress(shards=3, changed=NOWHERE)
async def test_what_waits_for_the_zone_of_its_user_goes_on_when_the_user_has_one(
    world: World,
) -> None:
    async def held(id_: str) -> object:
        return (await world.call("GET", f"/v1/messages/{id_}")).json["held"]

    first = (await world.send(SALE | {"user": "u1"})).json
    second = (await world.send(SALE | {"user": "u1", "campaign": "winter"})).json
    other = (await world.send(SALE | {"to": "+79161234568", "user": "u2"})).json
    nobody = (await world.send(SALE | {"to": "+79161234569"})).json
    assert [each["held"] for each in (first, second, other, nobody)] == [UNKNOWN] * 4
    assert (await world.call("PUT", "/v1/users/u1", {"locale": "ru"})).status == 200
    assert await held(first["id"]) == UNKNOWN
    # It is 11:06 by UTC: in Tokyo the window is open.
    assert (await world.call("PATCH", "/v1/users/u1", {"tz": "Asia/Tokyo"})).status == 200
    assert (await held(first["id"]), await held(second["id"])) == (None, None)
    assert await held(other["id"]) == UNKNOWN
    line = json.dumps({"user": "u2", "tz": "Europe/Moscow"}).encode()
    answer = await world.call("POST", "/v1/users", line, NDJSON)
    assert answer.lines[0]["outcome"] == "stored"
    until = {"until": "2026-11-18T17:00:00.000Z", "reason": "send_window"}
    assert (await held(other["id"]), await held(nobody["id"])) == (until, UNKNOWN)


@with_ingress(changed=NOWHERE)
async def test_a_zone_that_is_stored_while_its_message_is_accepted_is_found(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert (await world.call("PUT", "/v1/users/u1", {"locale": "ru"})).status == 200
    admit = world.store.admit

    async def meanwhile(requests: Any, now_ms: int) -> Any:
        assert (await world.call("PATCH", "/v1/users/u1", {"tz": "Asia/Tokyo"})).status == 200
        return await admit(requests, now_ms)

    monkeypatch.setattr(world.store, "admit", meanwhile)
    told = (await world.send(SALE | {"user": "u1"})).json
    assert (await world.call("GET", f"/v1/messages/{told['id']}")).json["held"] is None


@with_ingress(changed=NOWHERE)
async def test_a_zone_that_cannot_be_looked_for_fails_nothing_that_was_accepted(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def fails(*_: object) -> None:
        raise RedisUnavailable("Redis went away.")

    monkeypatch.setattr(zones, "accepted", fails)
    assert (await world.send(SALE | {"user": "u1"})).status == 202


@with_ingress()
async def test_what_waits_in_the_lane_of_a_provider_that_is_away_says_so_at_once(
    world: World,
) -> None:
    """Its record says so once its step's time is over; nobody writes to all that wait."""
    first = (await world.send(SALE)).json["id"]
    other = (await world.send(OTP | {"to": "+79161234569"})).json["id"]  # by SMS alone

    async def held() -> list[object]:
        one = (await world.call("GET", f"/v1/messages/{first}")).json
        found = (await world.call("GET", "/v1/messages?campaign=autumn")).json["items"]
        assert found == [one]
        return [one["held"], (await world.call("GET", f"/v1/messages/{other}")).json["held"]]

    assert await held() == [None, None]
    await pauses.hold(world.redis, "viber", "maintenance", "ann", T0)
    assert await held() == [{"until": None, "reason": "away"}, None]
    await pauses.resume(world.redis, "viber", "done", "ann", T0)
    assert await held() == [None, None]
