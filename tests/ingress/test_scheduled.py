"""Messages that wait for a moment: what the caller is told when it sends one and reads it."""

from __future__ import annotations

import pytest

from tests.worlds.ingress_world import OTP, SALE, World, with_ingress

# The world's clock shows 2026-11-18T11:06:40Z.
IN_AN_HOUR = "2026-11-18T12:06:40.000Z"
NIGHT = {
    '[categories.marketing]\nroute = "both"': """[categories.marketing]
route = "both"
send_window = "evening"
[send_windows.evening]
from = "20:00"
to = "22:00"
country_zones = { RU = "Europe/Moscow" }"""
}


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
