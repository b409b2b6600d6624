"""From what a provider says that people wrote back to their opt-outs and to the apps."""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import Any

import msgspec
import pytest

from gateway.core import events as ev
from gateway.core.effects import Effects
from gateway.core.views.words import rfc3339
from gateway.redis.errors import RedisUnavailable
from gateway.store.messages.apply import Applied, Item
from gateway.store.messages.receipts import take_receipts
from gateway.store.people import replies
from providers.contract import Fault, Receipt, Submission
from providers.infobip.reports import read_reports
from providers.registry import KINDS
from providers.simulator import Knobs
from providers.simulator.exchange import Exchange
from providers.simulator.knobs import changed
from providers.simulator.twins import TWINS
from tests.ingress.callbacks.test_callbacks import BASIC, VIBER
from tests.ingress.people.test_people import accepted, everything, key_of
from tests.worlds.ingress_world import OTP, PHONE, SALE, T0, Answer, World, with_ingress
from tests.worlds.provider_examples import config

OTHER = "+79160000001"
AT = "2026-11-18T06:13:20.000+0000"
SMS = "/v1/callbacks/sms"


def sms(text: str, id_: str = "in-1", phone: str = PHONE) -> dict[str, Any]:
    """As PROVIDERS.md 1.7 has it."""
    item = {
        "messageId": id_,
        "from": phone[1:],
        "to": "447491163443",
        "text": text,
        "cleanText": text.partition(" ")[2],
        "keyword": text.partition(" ")[0],
        "receivedAt": AT,
        "smsCount": 1,
        "price": {"pricePerMessage": 0, "currency": "EUR"},
        "callbackData": None,
    }
    return {"results": [item], "messageCount": 1, "pendingMessageCount": 0}


def viber(text: str) -> dict[str, Any]:
    item = {
        "sender": PHONE[1:],
        "to": "Shop",
        "integrationType": "VIBER",
        "receivedAt": AT,
        "messageId": "in-v",
        "pairedMessageId": None,
        "message": {"type": "TEXT", "text": text},
    }
    return {"results": [item]}


def unified(text: str) -> dict[str, Any]:
    item = {
        "event": "MO",
        "channel": "SMS",
        "sender": PHONE[1:],
        "destination": "447491163443",
        "content": [{"type": "TEXT", "text": text, "cleanText": "", "keyword": text}],
        "receivedAt": AT,
        "messageId": "in-u",
    }
    return {"results": [item]}


def block(event: str) -> dict[str, Any]:
    content = {"sender": "Shop", "destination": PHONE[1:], "channel": "VIBER", "sourceType": "MO"}
    item = {"event": event, "receivedAt": AT, "messageId": f"b-{event}", "content": content}
    return {"results": [item]}


async def brought(world: World, body: dict[str, Any], path: str = SMS) -> Answer:
    headers = BASIC if path == SMS else {}
    answer = await world.call("POST", path, body, headers, key="")
    assert answer.status == 200, answer.json
    return answer


async def opt_out(world: World, phone: str = PHONE) -> Any:
    return (await world.call("GET", f"/v1/optouts/{phone}")).json


async def sent(world: World, message: dict[str, Any], key: str = "shop-key") -> str:
    id_ = await accepted(world, message | {"route": "sms-only"}, key)
    await world.hand_over(id_)
    return id_


async def shown(world: World, key: str = "shop-key") -> Any:
    return (await world.call("GET", "/v1/inbound", key=key)).json["items"]


# --- from the provider's bytes


@with_ingress(shards=3)
@pytest.mark.parametrize(("channel", "path"), [("sms", SMS), ("viber", VIBER)])
async def test_a_person_of_the_simulator_writes_stop_and_is_opted_out(
    world: World, channel: str, path: str
) -> None:
    end = {"ending": "delivered", "reply": "Stop."}
    knobs = changed(Knobs(), {"by_phone": {PHONE: {channel: end}}})
    exchange, twin = Exchange(knobs), TWINS["infobip"]
    route = {"route": "sms-only"} if channel == "sms" else {}
    id_ = await accepted(world, SALE | route)
    await world.hand_over(id_)
    submission = Submission(f"{id_}.0", PHONE, "Shop", "marketing", "Sale!", 900_000)
    make = KINDS[f"infobip-{channel}"].adapter
    assert make is not None
    request = make(config(f"infobip-{channel}")).submit([submission])
    exchange.send(twin, twin.read_send(channel, request.body), T0)
    pushes = exchange.tick(T0 + 900_000)
    assert [push.kind for push in pushes if push.kind == "reply"] == ["reply"]
    for push in pushes:
        headers = BASIC if path == SMS else {}
        answer = await world.call("POST", path, push.twin.post([push.report]), headers, key="")
        assert answer.status == 200
    assert (await opt_out(world))["scope"] == "marketing"
    (item,) = await shown(world)
    assert (item["message"], item["text"], item["channel"]) == (id_, "Stop.", channel)


# --- wishes


@with_ingress(shards=3)
@pytest.mark.parametrize(
    ("body", "path"),
    [(sms("Стоп!"), SMS), (unified("STOP"), SMS), (viber("stop"), VIBER)],
    ids=["sms", "unified", "viber"],
)
async def test_a_stop_word_opts_its_sender_out_of_marketing(
    world: World, body: dict[str, Any], path: str
) -> None:
    answer = await brought(world, body, path)
    assert answer.json == {"applied": 0, "parked": 0, "faults": 0, "replies": 1}
    found = await opt_out(world)
    told = (found["scope"], found["by"], found["reason"])
    assert told == ("marketing", "person", "stop_word")
    assert (await world.send(SALE)).json["reason"] == "opted_out"
    assert (await world.send(OTP)).json["outcome"] == "accepted"
    taken_back = await world.call("DELETE", f"/v1/optouts/{PHONE}")
    assert taken_back.status == 403, "it is the person's"


@with_ingress(shards=3)
async def test_stop_all_is_of_everything_and_start_takes_it_back(world: World) -> None:
    await brought(world, sms("STOP ALL"))
    assert (await opt_out(world))["scope"] == "all"
    await brought(world, sms("stop", "in-2"))
    assert (await opt_out(world))["scope"] == "all", "a stop narrows nothing"
    await brought(world, sms("Start", "in-3"))
    assert (await world.call("GET", f"/v1/optouts/{PHONE}")).status == 404


@with_ingress(shards=3)
async def test_what_is_said_twice_is_done_once(world: World) -> None:
    await brought(world, sms("STOP"))
    await brought(world, sms("START", "in-2"))
    answer = await brought(world, sms("STOP"))
    assert "replies" not in answer.json
    assert (await world.call("GET", f"/v1/optouts/{PHONE}")).status == 404
    manager = await key_of(world, "shop", "read", "manage")
    assert [item["text"] for item in await shown(world, manager)] == ["START", "STOP"]


@pytest.mark.parametrize("odd", [None, 7, [], {}, True], ids=str)
def test_a_stop_is_taken_whatever_else_its_reply_says(odd: object) -> None:
    for told, beside in (
        (sms("STOP"), ("to", "message", "content", "event", "destination", "price")),
        (viber("STOP"), ("to", "text", "content", "event", "destination")),
        (unified("STOP"), ("to", "text", "message", "event", "destination")),
    ):
        for field in beside:
            item = told["results"][0] | {field: odd}
            read = read_reports([msgspec.Raw(msgspec.json.encode(item))])
            assert [(reply.sender, reply.text) for reply in read.replies] == [(PHONE[1:], "STOP")]


@with_ingress(shards=3)
async def test_who_blocked_a_channel_at_the_provider_is_sent_no_marketing_there(
    world: World,
) -> None:
    await brought(world, block("BLOCK"), VIBER)
    found = await opt_out(world)
    assert found["channels"]["viber"]["scope"] == "marketing"
    id_ = (await world.send(SALE)).json["id"]
    steps = (await world.call("GET", f"/v1/messages/{id_}")).json["steps"]
    assert [step["status"] for step in steps] == ["skipped", "queued"]
    await brought(world, block("UNBLOCK"), VIBER)
    assert (await world.call("GET", f"/v1/optouts/{PHONE}")).status == 404


@with_ingress(shards=3)
async def test_a_wish_to_be_sent_more_that_comes_late_takes_nothing_newer_back(
    world: World,
) -> None:
    await brought(world, block("BLOCK"), VIBER)
    late = block("UNBLOCK")
    late["results"][0]["receivedAt"] = "2026-11-18T06:13:19.000+0000"
    await brought(world, late, VIBER)
    assert (await opt_out(world))["channels"]["viber"]["scope"] == "marketing"


@with_ingress(shards=3)
async def test_what_somebody_wrote_last_holds_in_whatever_order_it_is_told(world: World) -> None:
    def at(second: int, text: str) -> dict[str, Any]:
        told = sms(text, f"in-{second}")
        told["results"][0]["receivedAt"] = f"2026-11-18T06:13:{second}.000+0000"
        return told

    await brought(world, at(12, "STOP"))
    await brought(world, at(11, "START"))
    assert (await opt_out(world))["at"] == "2026-11-18T06:13:12.000Z"
    await brought(world, at(10, "STOP"))
    assert (await opt_out(world))["at"] == "2026-11-18T06:13:12.000Z", "the later of the two"
    await brought(world, at(13, "START"))
    assert (await world.call("GET", f"/v1/optouts/{PHONE}")).status == 404


@with_ingress(shards=3)
async def test_a_stop_that_is_told_after_a_newer_start_opts_nobody_out(world: World) -> None:
    """As after minutes in which nobody could take it: the provider brings it again."""

    def at(second: int, text: str, id_: str = "") -> dict[str, Any]:
        told = sms(text, id_ or f"in-{second}")
        told["results"][0]["receivedAt"] = f"2026-11-18T06:13:{second}.000+0000"
        return told

    async def is_out() -> bool:
        return (await world.call("GET", f"/v1/optouts/{PHONE}")).status == 200

    await brought(world, at(12, "START"))
    await brought(world, at(11, "STOP"))
    assert not await is_out()
    await brought(world, at(12, "STOP", "in-12b"))
    assert await is_out(), "of the same moment the one that is told last holds"
    await brought(world, at(20, "START"))
    both = at(18, "STOP")
    both["results"] += at(19, "STOP ALL")["results"]
    await brought(world, both)
    assert not await is_out()
    mixed = at(31, "START")
    mixed["results"] += at(30, "STOP")["results"]
    await brought(world, mixed)
    assert not await is_out(), "in one callback as well"
    await brought(world, at(32, "STOP"))
    assert await is_out()


@with_ingress(shards=3)
async def test_to_pass_a_stop_over_the_clock_of_another_provider_is_not_trusted(
    world: World,
) -> None:
    await brought(world, viber("START"), VIBER)
    late = sms("STOP")
    late["results"][0]["receivedAt"] = "2026-11-18T06:00:00.000+0000"
    await brought(world, late)
    assert (await opt_out(world))["scope"] == "marketing"


@with_ingress(shards=3)
async def test_a_start_by_a_clock_that_is_ahead_keeps_no_stop_away(world: World) -> None:
    ahead = sms("START")
    ahead["results"][0]["receivedAt"] = "2099-11-18T06:00:00.000+0000"
    await brought(world, ahead)
    world.clock.now_ms = time.time_ns() // 1_000_000 + 60_000
    ahead = sms("STOP", "in-2")
    ahead["results"][0]["receivedAt"] = "2099-11-18T06:00:01.000+0000"
    await brought(world, ahead)
    assert (await opt_out(world))["scope"] == "marketing"


@with_ingress()
async def test_a_moment_in_whole_seconds_is_all_of_its_second(world: World) -> None:
    """An application opts somebody out, who wants to be sent more a moment later."""
    world.clock.now_ms = T0 + 300
    await world.call("PUT", f"/v1/optouts/{PHONE}", {"scope": "marketing"})
    world.clock.now_ms = T0 + 800
    start = sms("START")
    start["results"][0]["receivedAt"] = rfc3339(T0).replace("Z", "+0000")
    await brought(world, start)
    assert (await world.call("GET", f"/v1/optouts/{PHONE}")).status == 404


@with_ingress(changed={"[prices]": '[optout]\nwords = ["genug"]\n[prices]'})
async def test_the_words_are_a_setting(world: World) -> None:
    await brought(world, sms("STOP"))
    assert (await world.call("GET", f"/v1/optouts/{PHONE}")).status == 404
    await brought(world, sms("Genug.", "in-2"))
    assert (await opt_out(world))["scope"] == "marketing"


# --- whose it is


@with_ingress(shards=3)
async def test_a_reply_is_of_the_app_that_wrote_last(world: World) -> None:
    await sent(world, SALE)
    newest = await sent(world, OTP, "bank-key")
    await sent(world, OTP | {"to": OTHER})
    await brought(world, sms("Thank you"))
    assert await shown(world) == []
    (item,) = await shown(world, "bank-key")
    assert item == {
        "id": item["id"],
        "at": "2026-11-18T06:13:20.000Z",
        "channel": "sms",
        "provider": "sms",
        "from": PHONE,
        "to": "447491163443",
        "text": "Thank you",
        "message": newest,
    }
    assert (await world.call("GET", f"/v1/optouts/{PHONE}")).status == 404


@with_ingress(shards=3)
async def test_what_is_not_in_the_newest_of_the_index_is_found_by_what_the_person_holds(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(replies, "INDEXED_MAX", 0)
    id_ = await sent(world, SALE)
    for number in range(3):
        await sent(world, OTP | {"to": f"+7916000001{number}"})
    await brought(world, sms("Hello"))
    assert [item["message"] for item in await shown(world)] == [id_]


@with_ingress(shards=3)
async def test_a_reply_to_nothing_is_for_who_manages(world: World) -> None:
    await accepted(world, SALE)  # it has not left
    await brought(world, sms("Who is this?"))
    assert await shown(world) == []
    manager = await key_of(world, "bank", "read", "manage")
    (item,) = await shown(world, manager)
    assert (item["text"], item["message"]) == ("Who is this?", None)


@with_ingress()
async def test_pages_are_newest_first_and_go_on_by_the_cursor(world: World) -> None:
    await sent(world, OTP)
    for number in range(5):
        await brought(world, sms(f"reply {number}", f"in-{number}"))
    page = (await world.call("GET", "/v1/inbound?limit=3")).json
    assert [item["text"] for item in page["items"]] == ["reply 4", "reply 3", "reply 2"]
    rest = (await world.call("GET", f"/v1/inbound?limit=3&cursor={page['next']}")).json
    assert [item["text"] for item in rest["items"]] == ["reply 1", "reply 0"]
    assert rest["next"] is None
    for query in ("limit=0", "limit=x", "cursor=y", "since=1"):
        assert (await world.call("GET", f"/v1/inbound?{query}")).status == 400
    await replies.cut(world.redis, 9_999_999_999_999)
    assert await shown(world) == []


@with_ingress(shards=2)
async def test_an_app_is_told_through_its_events(world: World) -> None:
    id_ = await sent(world, OTP)
    stream = world.begin("GET", "/v1/events")
    await stream.until(b"follow\n\n")
    await brought(world, sms("Thanks"))
    event = (await stream.until(b"\n\n")).decode()
    assert event.startswith("event: inbound\n")
    assert f'"message":"{id_}"' in event
    assert '"text":"Thanks"' in event
    stream.hang_up()


@with_ingress(shards=2)
@pytest.mark.parametrize(
    ("text", "arrived", "reaction"),
    [("Thanks", True, "replied"), ("STOP", True, None), ("Thanks", False, None)],
)
async def test_a_reply_is_a_reaction_to_what_arrived(
    world: World, text: str, arrived: bool, reaction: str | None
) -> None:
    id_ = await sent(world, OTP)
    if arrived:
        await take_receipts(world.store, "sms", [Receipt("delivered", ref=f"{id_}.0")], T0)
    await brought(world, sms(text))
    message = (await world.call("GET", f"/v1/messages/{id_}")).json
    assert message["reaction"] == reaction


@with_ingress(shards=2)
@pytest.mark.parametrize(("after_s", "reaction"), [(0, "replied"), (-60, "replied"), (1, None)])
async def test_a_reply_that_outran_its_receipt_is_one_to_what_had_arrived_by_then(
    world: World, after_s: int, reaction: str | None
) -> None:
    """Which of them a provider brings first changes nothing."""
    older = await sent(world, OTP)
    await take_receipts(world.store, "sms", [Receipt("delivered", ref=f"{older}.0")], T0)
    world.clock.now_ms += 60_000
    id_ = await sent(world, OTP | {"text": "Again"})
    world.clock.now_ms += 60_000
    body = sms("Thanks")
    wrote_ms = T0 + 90_000
    body["results"][0]["receivedAt"] = rfc3339(wrote_ms).replace("Z", "+0000")
    await brought(world, body)
    assert (await world.call("GET", f"/v1/messages/{id_}")).json["reaction"] is None
    told = Receipt("delivered", ref=f"{id_}.0", at_ms=wrote_ms + after_s * 1_000)
    await take_receipts(world.store, "sms", [told], world.clock())
    message = (await world.call("GET", f"/v1/messages/{id_}")).json
    assert (message["status"], message["reaction"]) == ("delivered", reaction)
    assert (await world.call("GET", f"/v1/messages/{older}")).json["reaction"] == "replied"


@with_ingress()
async def test_a_late_reply_is_no_reaction(world: World) -> None:
    id_ = await sent(world, OTP)
    await take_receipts(world.store, "sms", [Receipt("delivered", ref=f"{id_}.0")], T0)
    world.clock.now_ms += 73 * 3_600_000
    body = sms("Thanks")
    body["results"][0]["receivedAt"] = "2026-11-21T11:06:41.000+0000"
    await brought(world, body)
    message = (await world.call("GET", f"/v1/messages/{id_}")).json
    assert message["reaction"] is None


@with_ingress(shards=2)
async def test_what_never_left_is_not_answered(world: World) -> None:
    id_ = await sent(world, SALE)
    world.clock.now_ms += 1_000
    refused = await accepted(world, OTP, "bank-key")
    no = ev.StepRefused(0, Fault("bad_number", "No.", permanent=True))
    await world.store.apply([Item(refused, ev.Claimed(0)), Item(refused, no)], T0 + 1_000)
    await brought(world, sms("Thanks"))
    assert await shown(world, "bank-key") == []
    assert [item["message"] for item in await shown(world)] == [id_]


@with_ingress(shards=2)
async def test_a_reaction_is_to_the_newest_that_arrived(world: World) -> None:
    """Also where something was sent since, which is what the reply is shown with."""
    older = await sent(world, OTP)
    world.clock.now_ms += 1_000
    id_ = await sent(world, OTP | {"text": "Again"})
    for each in (older, id_):
        await take_receipts(world.store, "sms", [Receipt("delivered", ref=f"{each}.0")], T0)
    world.clock.now_ms += 1_000
    newest = await sent(world, SALE, "bank-key")
    await brought(world, sms("Thanks"))
    assert [item["message"] for item in await shown(world, "bank-key")] == [newest]
    for each, key, reaction in (
        (older, "shop-key", None),
        (id_, "shop-key", "replied"),
        (newest, "bank-key", None),
    ):
        message = (await world.call("GET", f"/v1/messages/{each}", key=key)).json
        assert message["reaction"] == reaction


# --- faults and forgetting


@with_ingress(shards=2)
@pytest.mark.parametrize("fails", ["keep", "tell", "note_taken"])
async def test_what_was_not_done_whole_is_done_when_the_provider_repeats_it(
    world: World, monkeypatch: pytest.MonkeyPatch, fails: str
) -> None:
    id_ = await sent(world, OTP)
    await take_receipts(world.store, "sms", [Receipt("delivered", ref=f"{id_}.0")], T0)
    stream = world.begin("GET", "/v1/events")
    await stream.until(b"follow\n\n")

    async def away(*_: object) -> None:
        raise RedisUnavailable("away")

    with monkeypatch.context() as patched:
        patched.setattr(replies, fails, away)
        answer = await world.call("POST", SMS, sms("Thanks"), BASIC, key="")
        assert answer.status == 503
    assert (await brought(world, sms("Thanks"))).json["replies"] == 1
    await stream.until(b"event: inbound\n")
    message = (await world.call("GET", f"/v1/messages/{id_}")).json
    assert message["reaction"] == "replied"
    assert "replies" not in (await brought(world, sms("Thanks"))).json
    stream.hang_up()


@with_ingress(shards=2)
@pytest.mark.parametrize("why", ["newer", "postponed", "away"])
async def test_a_reaction_that_cannot_be_taken_now_is_said_again(
    world: World, monkeypatch: pytest.MonkeyPatch, why: str
) -> None:
    id_ = await sent(world, OTP)
    await take_receipts(world.store, "sms", [Receipt("delivered", ref=f"{id_}.0")], T0)

    async def left(items: Sequence[Item], _: int) -> list[Applied]:
        if why == "away":
            raise RedisUnavailable("away")
        return [Applied(item, None, Effects(), **{why: True}) for item in items]

    with monkeypatch.context() as patched:
        patched.setattr(world.store, "apply", left)
        answer = await world.call("POST", SMS, sms("Thanks"), BASIC, key="")
        assert answer.status == 503
    assert await shown(world) == []
    assert (await brought(world, sms("Thanks"))).json["replies"] == 1
    message = (await world.call("GET", f"/v1/messages/{id_}")).json
    assert message["reaction"] == "replied"
    assert [item["text"] for item in await shown(world)] == ["Thanks"]


@with_ingress()
async def test_a_reply_that_names_nobody_costs_itself(world: World) -> None:
    body = sms("STOP")
    body["results"].append(body["results"][0] | {"from": "Shop", "messageId": "in-2"})
    body["results"].append(body["results"][0] | {"messageId": None})
    answer = await brought(world, body)
    assert (answer.json["replies"], answer.json["faults"]) == (1, 2)


@with_ingress(shards=3)
async def test_replies_go_with_their_person(world: World) -> None:
    await sent(world, OTP | {"user": "u1"})
    await brought(world, sms("My name is Anna"))
    await brought(world, sms("Not me", "in-2", OTHER))
    manager = await key_of(world, "shop", "send", "read", "manage")
    assert (await world.call("DELETE", "/v1/users/u1", key=manager)).status == 200
    for key, text in (await everything(world)).items():
        assert PHONE[1:].encode() not in text, key
        assert b"Anna" not in text, key
    assert [item["text"] for item in await shown(world, manager)] == ["Not me"]
