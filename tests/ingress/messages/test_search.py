"""An app's messages by whom they went to or by campaign."""

from __future__ import annotations

from typing import Any
from urllib.parse import quote

import pytest

from gateway.store.messages import message_search
from tests.worlds.ingress_world import OTP, PHONE, SALE, World, with_ingress

OTHER = "+79160000001"
MAIL = "Anna+shop@Example.com"
SEARCH = "/v1/messages/search"
NAMES = ["user", "phone", "email", "campaign", "status", "limit", "cursor"]


async def sent(world: World, *messages: dict[str, Any], key: str = "shop-key") -> list[str]:
    """Their ids."""
    answers = [await world.call("POST", "/v1/messages", m, key=key) for m in messages]
    return [str(answer.json["id"]) for answer in answers]


async def found(world: World, query: str, key: str = "shop-key") -> list[str]:
    """The ids of a whole answer."""
    answer = await world.call("GET", f"/v1/messages?{query}", key=key)
    assert (answer.status, answer.json["next"]) == (200, None), answer.body
    return [item["id"] for item in answer.json["items"]]


@with_ingress(shards=3)
async def test_messages_are_found_by_whom_they_name_the_newest_first(world: World) -> None:
    to = {"phone": OTHER, "email": MAIL}
    first, second, third = await sent(
        world, OTP | {"user": " u1 "}, OTP | {"to": to}, OTP | {"to": to, "user": "u1"}
    )
    assert await found(world, "user=u1") == [third, first]
    assert await found(world, f"phone={PHONE}") == [first]  # the plus sign as it is
    assert await found(world, f"phone={quote(OTHER)}") == [third, second]
    assert await found(world, f"email={quote('anna+shop@example.COM')}") == [third, second]
    assert await found(world, f"phone={OTHER}&user=u1") == [third]
    assert await found(world, "user=u2") == []


@with_ingress(shards=3)
async def test_messages_are_found_by_campaign_and_status(world: World) -> None:
    autumn = await sent(world, SALE, SALE | {"to": OTHER})
    await sent(world, SALE | {"to": OTHER, "campaign": "winter"}, OTP)
    assert await found(world, "campaign=autumn") == autumn[::-1]
    await world.call("DELETE", f"/v1/messages/{autumn[0]}")
    assert await found(world, "campaign=autumn&status=cancelled") == autumn[:1]
    assert await found(world, "campaign=autumn&status=queued") == autumn[1:]
    assert await found(world, f"campaign=autumn&phone={OTHER}") == autumn[1:]


@with_ingress()
async def test_only_the_apps_own_messages_are_found_and_as_they_are_read(world: World) -> None:
    (id_,) = await sent(world, SALE)
    assert await found(world, f"phone={PHONE}", key="bank-key") == []
    (item,) = (await world.call("GET", "/v1/messages?campaign=autumn")).json["items"]
    assert item == (await world.call("GET", f"/v1/messages/{id_}")).json
    refused = await world.call("GET", "/v1/messages?campaign=autumn", key="finance-key")
    assert refused.status == 403


@with_ingress(shards=3)
async def test_pages_neither_shift_nor_repeat_while_new_messages_arrive(world: World) -> None:
    batch = [
        OTP | {"user": f"p{i}", "campaign": "codes", "to": f"+7916000{i:04}"} for i in range(9)
    ]
    answer = await world.call("POST", "/v1/messages", batch)
    ids = {item["id"] for item in answer.json}
    told: list[str] = []
    cursor = ""
    while True:
        page = (await world.call("GET", f"/v1/messages?campaign=codes&limit=2{cursor}")).json
        told += [item["id"] for item in page["items"]]
        if page["next"] is None:
            break
        assert len(page["items"]) == 2
        cursor = f"&cursor={page['next']}"
        await sent(world, OTP | {"campaign": "codes", "to": f"+7916111{len(told):04}"})
    assert len(told) == 9
    assert set(told) == ids


@with_ingress(shards=2)
async def test_a_search_that_looked_at_enough_is_gone_on_with(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    (id_,) = await sent(world, OTP | {"user": "u1"})
    await sent(world, *(OTP | {"to": f"+7916000{i:04}"} for i in range(6)))
    monkeypatch.setattr(message_search, "INDEXED_MAX", 3)
    pages: list[list[str]] = []
    body: dict[str, Any] = {"user": "u1"}
    while len(pages) < 9:
        answer = await world.call("POST", SEARCH, body)
        pages.append([item["id"] for item in answer.json["items"]])
        if answer.json["next"] is None:
            break
        body["cursor"] = answer.json["next"]
    assert len(pages) > 2
    assert [id_] == [each for page in pages for each in page]


@with_ingress()
async def test_records_are_read_within_a_bound(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    banks = [OTP | {"to": f"+7916000{i:04}", "campaign": "codes"} for i in range(5)]
    await sent(world, *banks, key="bank-key")
    ids = await sent(world, *(bank | {"to": f"+7917000{i:04}"} for i, bank in enumerate(banks)))
    monkeypatch.setattr(message_search, "RECORDS_MAX", 3)
    body: dict[str, Any] = {"campaign": "codes"}
    first = (await world.call("POST", SEARCH, body)).json
    assert [item["id"] for item in first["items"]] == ids[:-4:-1]
    assert first["next"]


@with_ingress()
async def test_the_erased_are_not_found_by_what_was_erased(world: World) -> None:
    (id_,) = await sent(world, SALE | {"user": "u1"})
    assert await found(world, "user=u1") == [id_]
    assert (await world.call("DELETE", "/v1/users/u1")).status == 200
    assert await found(world, "user=u1") == []
    assert await found(world, f"phone={PHONE}") == []
    assert await found(world, "campaign=autumn") == [id_]


@with_ingress()
async def test_what_cannot_be_sought_is_a_400_in_an_address_and_a_422_in_a_body(
    world: World,
) -> None:
    for name, value in (
        ("phone", "12"),
        ("email", "nobody"),
        ("status", "gone"),
        ("limit", 0),
        ("limit", 1_001),
        ("cursor", "xyz"),
    ):
        told = await world.call("GET", f"/v1/messages?user=u1&{name}={value}")
        assert (told.status, told.json["type"]) == (400, "/docs#query"), name
        assert [error["pointer"] for error in told.json["errors"]] == [f"/{name}"]
        assert (await world.call("POST", SEARCH, {"user": "u1", name: value})).status == 422, name
    assert (await world.call("GET", "/v1/messages")).status == 400
    assert (await world.call("POST", SEARCH, {"status": "queued"})).status == 422
    unknown = await world.call("GET", "/v1/messages?usr=u1")
    assert unknown.status == 400
    assert all(name in unknown.json["detail"] for name in NAMES)
    for query in ("user=u1&user=u2", "user=%75&limit=many", "user=u1&status=queued&status=sent"):
        assert (await world.call("GET", f"/v1/messages?{query}")).status == 400
    assert (await world.call("POST", SEARCH, {"usr": "u1"})).status == 422
