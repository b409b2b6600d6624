"""What bounds an app: where it may send, under which name, and whose user ids it means."""

from __future__ import annotations

import re
from typing import Any

from structlog.testing import capture_logs

from tests.worlds.ingress_world import OTP, PHONE, SALE, World, with_ingress

KAZAKH = "+77011234567"
APPS = {'name = "shop"\n': 'name = "shop"\ncountries = ["RU", "KZ"]\nsenders = ["Shop"]\n'}
OWN_USERS = {"[prices]": '[dedupe]\nusers = "app"\n[prices]'}


@with_ingress(changed=APPS)
async def test_an_app_is_bound_and_another_is_not(world: World) -> None:
    abroad = OTP | {"to": "+447700900123", "sms": {"sender": "Bank"}}
    refused = await world.send([abroad, OTP])
    (first, second) = refused.json
    assert [e["pointer"] for e in first["error"]["errors"]] == ["/to", "/sms/sender"]
    assert second["outcome"] == "accepted"
    free = await world.call("POST", "/v1/messages", abroad, key="bank-key")
    assert free.status == 202


@with_ingress()
async def test_a_dear_number_is_refused(world: World) -> None:
    answer = await world.send(OTP | {"to": "+881631234567"})
    assert (answer.status, answer.json["errors"][0]["pointer"]) == (422, "/to")


async def countries_told(world: World, *messages: Any) -> list[str]:
    with capture_logs() as logs:
        for message in messages:
            assert (await world.send(message)).status == 202
    return [log["country"] for log in logs if log["event"] == "first_message_to_country"]


@with_ingress(shards=2)
async def test_the_first_message_to_a_country_is_told_once(world: World) -> None:
    assert await countries_told(world, OTP, OTP, OTP | {"to": KAZAKH}) == ["RU", "KZ"]
    assert await countries_told(world, OTP, OTP | {"to": KAZAKH}) == []
    metrics = (await world.call("GET", "/metrics")).body.decode()
    assert re.search(r'kaskad_ingress_first_countries_total{app="shop",.*} 2\.0\n', metrics)


@with_ingress()
async def test_users_are_the_same_in_every_app_or_each_apps_own(world: World) -> None:
    await world.send(SALE | {"user": "u1"})
    other = SALE | {"to": "+79160000001", "user": "u1"}
    answer = await world.call("POST", "/v1/messages", other, key="bank-key")
    assert answer.json["outcome"] == "duplicate"


@with_ingress(shards=4, changed=OWN_USERS)
async def test_an_apps_own_user_ids_say_nothing_of_another_apps(world: World) -> None:
    assert (await world.send(SALE | {"user": "u1"})).json["outcome"] == "accepted"
    other = SALE | {"to": "+79160000001", "user": "u1"}
    answer = await world.call("POST", "/v1/messages", other, key="bank-key")
    assert answer.json["outcome"] == "accepted"
    found = await world.call("GET", f"/v1/messages/{answer.json['id']}", key="bank-key")
    assert (found.json["user"], found.json["to"]) == ("u1", "+79160000001")
    assert (await world.send(SALE | {"to": "+79160000002", "user": "u1"})).json["outcome"] == (
        "duplicate"
    )
    by_phone = await world.call(
        "POST", "/v1/messages", SALE | {"to": PHONE, "user": "u9"}, key="bank-key"
    )
    assert by_phone.json["outcome"] == "duplicate"
