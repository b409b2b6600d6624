"""Opt-outs of one channel: how they are set and taken back, and what is sent all the same."""

from __future__ import annotations

from typing import Any

from gateway.core import events as ev
from gateway.core.people.opt_outs import Origin
from gateway.store.installation import api_keys, audit
from gateway.store.messages.apply import Item
from gateway.store.people import opt_outs
from tests.worlds.ingress_world import OTP, PHONE, SALE, T0, Answer, World, with_ingress

PATH = f"/v1/optouts/{PHONE}"


async def put(world: World, key: str = "shop-key", **body: Any) -> Answer:
    return await world.call("PUT", PATH, body, key=key)


async def message(world: World, id_: str) -> dict[str, Any]:
    return dict((await world.call("GET", f"/v1/messages/{id_}")).json)


@with_ingress()
async def test_a_channel_that_somebody_opted_out_of_is_passed_over_for_the_next(
    world: World,
) -> None:
    told = (await put(world, scope="marketing", channel="viber", reason="by phone")).json
    assert (told["channel"], told["scope"], told["by"]) == ("viber", "marketing", "shop")
    assert (told["phone"], told["reason"]) == (PHONE, "by phone")
    sent = (await world.send(SALE)).json
    assert sent["outcome"] == "accepted"
    first, second = (await message(world, sent["id"]))["steps"]
    assert (first["channel"], first["status"]) == ("viber", "skipped")
    assert first["error"]["code"] == "opted_out"
    assert (second["channel"], second["status"]) == ("sms", "queued")
    code = (await world.send(OTP)).json
    assert {s["status"] for s in (await message(world, code["id"]))["steps"]} == {"queued"}


@with_ingress()
async def test_whom_every_step_is_unwanted_by_is_suppressed(world: World) -> None:
    for channel in ("viber", "sms"):
        assert (await put(world, scope="marketing", channel=channel)).status == 200
    answer = await world.send(SALE)
    assert (answer.status, answer.json) == (200, {"outcome": "suppressed", "reason": "opted_out"})


@with_ingress()
async def test_a_step_that_waits_hears_of_an_opt_out_of_its_channel(world: World) -> None:
    id_ = (await world.send(SALE)).json["id"]
    await put(world, scope="all", channel="viber")
    await world.store.apply([Item(id_, ev.Claimed(0))], T0)
    first, second = (await message(world, id_))["steps"]
    assert (first["status"], first["error"]["code"]) == ("skipped", "opted_out")
    assert (second["channel"], second["status"]) == ("sms", "queued")
    await put(world, scope="all", channel="sms")
    await world.store.apply([Item(id_, ev.Claimed(1))], T0)
    ended = await message(world, id_)
    assert (ended["status"], ended["reason"], ended["final"]) == ("suppressed", "opted_out", True)


@with_ingress(shards=3)
async def test_one_of_the_persons_addresses_is_enough(world: World) -> None:
    """An unsubscribe by e-mail of one channel counts for whoever has that address."""
    address = "anna@shop.example"
    await opt_outs.put(world.redis, 3, address, "marketing", Origin("", T0, "STOP"), "viber")
    sent = (await world.send(SALE | {"to": {"phone": PHONE, "email": address}})).json
    steps = (await message(world, sent["id"]))["steps"]
    assert [step["status"] for step in steps] == ["skipped", "queued"]


@with_ingress()
async def test_opt_outs_are_shown_together_and_each_alone(world: World) -> None:
    await put(world, scope="marketing", channel="sms")
    only = (await world.call("GET", PATH)).json
    assert (only["scope"], list(only["channels"])) == (None, ["sms"])
    await put(world, key="bank-key", scope="all")
    both = (await world.call("GET", PATH)).json
    assert (both["scope"], both["by"], both["channels"]["sms"]["by"]) == ("all", "bank", "shop")
    one = (await world.call("GET", f"{PATH}?channel=sms")).json
    assert (one["channel"], one["scope"]) == ("sms", "marketing")
    assert "channels" not in one
    assert (await world.call("GET", f"{PATH}?channel=viber")).status == 404


@with_ingress()
async def test_each_opt_out_is_taken_back_by_whose_it_is(world: World) -> None:
    await put(world, key="bank-key", scope="all", channel="sms")
    await put(world, scope="marketing")
    for answer in (
        await world.call("DELETE", f"{PATH}?channel=sms"),
        await world.call("DELETE", PATH),
        await put(world, scope="marketing", channel="sms"),
    ):
        assert (answer.status, answer.json["type"]) == (403, "/docs#forbidden")
    assert (await world.call("DELETE", f"{PATH}?channel=viber")).status == 204, "there is none"
    assert (await world.call("DELETE", f"{PATH}?channel=sms", key="bank-key")).status == 204
    assert (await world.call("GET", PATH)).json["channels"] == {}
    await put(world, key="bank-key", scope="all", channel="sms")
    manager = await api_keys.create(world.redis, "shop", ("send", "manage"), T0)
    assert (await world.call("DELETE", PATH, key=manager)).status == 204
    assert (await world.call("GET", PATH)).status == 404


@with_ingress()
async def test_a_channel_that_cannot_be_is_named_with_those_there_are(world: World) -> None:
    wrong = await put(world, scope="all", channel="fax")
    assert (wrong.status, wrong.json["errors"][0]["pointer"]) == (422, "/channel")
    assert "viber" in wrong.json["errors"][0]["detail"]
    for method in ("GET", "DELETE"):
        asked = await world.call(method, f"{PATH}?channel=fax")
        assert (asked.status, "viber" in asked.json["detail"]) == (400, True)


@with_ingress()
async def test_a_channel_left_empty_is_not_every_channel(world: World) -> None:
    """As where a caller's variable for it is not set."""
    await put(world, scope="all")
    await put(world, scope="marketing", channel="sms")
    for query in ("channel=", "channel", "channel=sms&channel=", "channel=viber&channel=sms"):
        assert (await world.call("DELETE", f"{PATH}?{query}")).status == 400
        assert (await world.call("GET", f"{PATH}?{query}")).status == 400
    shown = (await world.call("GET", PATH)).json
    assert (shown["scope"], shown["channels"]["sms"]["scope"]) == ("all", "marketing")


@with_ingress()
async def test_deeds_name_the_channel(world: World) -> None:
    await put(world, scope="all", channel="sms")
    await put(world, scope="marketing")
    await world.call("DELETE", PATH)
    deeds = [kept.deed for kept in (await audit.read(world.redis, 10)).deeds]
    assert sorted((deed.action, deed.detail) for deed in deeds) == [
        ("optout.drop", "all on sms"),
        ("optout.drop", "marketing"),
        ("optout.set", "all on sms"),
        ("optout.set", "marketing"),
    ]
