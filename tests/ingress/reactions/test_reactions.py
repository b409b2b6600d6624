"""`POST /v1/reactions`: an answer an item, once a message, kind and step."""

from __future__ import annotations

from typing import Any

from gateway.ingress.api.reactions.reactions import REACTIONS_MAX
from gateway.redis.client import Command
from gateway.store.keys import keys_of
from tests.worlds.ingress_world import OTP, SALE, World, with_ingress

UNTIL_SEEN = {
    'steps = [{ provider = "viber", wait = "15m" }': (
        'steps = [{ provider = "viber", wait = "15m", until = "seen", react = "4h" }'
    )
}
NOON = "2026-11-18T12:00:00Z"


async def delivered(world: World, **changes: Any) -> str:
    """A message whose first step arrived."""
    id_: str = (await world.send(SALE | changes)).json["id"]
    await world.deliver(id_)
    return id_


def reaction(message: str, kind: str = "clicked", **more: Any) -> dict[str, Any]:
    return {"message": message, "kind": kind, "at": NOON} | more


async def react(world: World, body: Any, key: str = "shop-key") -> Any:
    return await world.call("POST", "/v1/reactions", body, key=key)


@with_ingress(changed=UNTIL_SEEN)
async def test_a_reaction_ends_the_cascade_and_is_counted_once(world: World) -> None:
    id_ = await delivered(world)
    before = (await world.call("GET", f"/v1/messages/{id_}")).json
    assert (before["status"], before["final"], before["reaction"]) == ("delivered", False, None)
    answer = await react(world, [reaction(id_), reaction(id_), reaction(id_, "seen")])
    assert answer.status == 200
    assert answer.json == [
        {"index": 0, "outcome": "accepted"},
        {"index": 1, "outcome": "duplicate"},
        {"index": 2, "outcome": "accepted"},
    ]
    after = (await world.call("GET", f"/v1/messages/{id_}")).json
    assert (after["status"], after["final"], after["reaction"]) == ("clicked", True, "clicked")
    viber, sms = after["steps"]
    assert viber["status"] == "clicked"
    assert viber["clicked_at"] == "2026-11-18T11:06:40.000Z", "not after now"
    assert (viber["billed"], sms["billed"]) == ("0.0080", None)
    assert (sms["status"], sms["error"]["code"]) == ("skipped", "reacted")
    total = (await world.call("GET", "/v1/reports/cost", key="finance-key")).json["total"]
    assert (total["seen"], total["clicked"], total["bot_clicks"]) == (1, 1, 0)
    assert total["cost_per_click"] == "0.005000"


@with_ingress(changed=UNTIL_SEEN)
async def test_one_bad_item_never_fails_its_neighbours(world: World) -> None:
    id_ = await delivered(world)
    queued = (await world.send(OTP | {"route": "both"})).json["id"]
    answer = await react(
        world,
        [
            reaction("1M7Q5CQG0000000000AB"),
            reaction("nonsense"),
            reaction(id_, "replied"),
            reaction(id_, channel="sms"),
            reaction(queued),
            {"message": id_, "kind": "clicked"},
            reaction(id_, at="2026-11-18T12:00:00"),
            reaction(id_, more=1),
            7,
            reaction(id_, channel="viber"),
        ],
    )
    outcomes = [item["outcome"] for item in answer.json]
    assert outcomes == ["rejected"] * 9 + ["accepted"]
    assert [item["error"]["status"] for item in answer.json[:9]] == [404] * 2 + [422] * 7
    assert answer.json[5]["error"]["errors"][0]["pointer"] == "/at"


@with_ingress()
async def test_another_apps_message_is_rejected(world: World) -> None:
    id_ = await delivered(world)
    (item,) = (await react(world, [reaction(id_)], key="bank-key")).json
    assert (item["outcome"], item["error"]["status"]) == ("rejected", 404)
    assert (await react(world, reaction(id_), key="bank-key")).status == 404
    assert (await react(world, reaction(id_), key="reader-key")).status == 403


@with_ingress()
async def test_one_reaction_is_answered_as_one(world: World) -> None:
    id_ = await delivered(world)
    assert (await react(world, reaction(id_))).json == {"outcome": "accepted"}
    assert (await react(world, reaction(id_))).json == {"outcome": "duplicate"}
    late = (await world.call("GET", f"/v1/messages/{id_}")).json
    assert (late["status"], late["reaction"]) == ("clicked", "clicked"), "counted when it is late"
    assert late["billing"]["billed"] == "0.0080"


@with_ingress()
async def test_so_many_reactions_are_taken_at_once_and_no_more(world: World) -> None:
    id_ = await delivered(world)
    most = await react(world, [reaction(id_)] * REACTIONS_MAX)
    assert most.status == 200
    assert [item["outcome"] for item in most.json].count("accepted") == 1
    assert (await react(world, [reaction(id_)] * (REACTIONS_MAX + 1))).status == 413
    assert (await react(world, [])).status == 422
    assert (await world.call("POST", "/v1/reactions?x=1", [reaction(id_)])).status == 400


@with_ingress()
async def test_a_message_of_a_newer_kaskad_is_left_to_it(world: World) -> None:
    id_ = await delivered(world)
    key = keys_of(world.store.shard_of_message(id_)).message(id_)
    newer: Command = ("SET", key, b"\x09")
    await world.store.redis.call([newer])
    (item,) = (await react(world, [reaction(id_)])).json
    assert (item["outcome"], item["error"]["status"]) == ("error", 503)


@with_ingress(changed=UNTIL_SEEN)
async def test_a_channel_without_a_step_is_the_channels_fault(world: World) -> None:
    id_ = await delivered(world)
    for channel, words in (("sms", "sent on sms"), ("fax", "One of: viber, sms")):
        answer = await react(world, reaction(id_, channel=channel))
        (fault,) = answer.json["errors"]
        assert (answer.status, fault["pointer"]) == (422, "/channel")
        assert words in fault["detail"]
    waiting = (await world.send(SALE | {"to": "+447700900199", "campaign": "later"})).json["id"]
    (fault,) = (await react(world, reaction(waiting))).json["errors"]
    assert fault["pointer"] == "/message"


@with_ingress()
async def test_nobody_reacts_before_it_was_sent(world: World) -> None:
    """A phone's clock may be wrong, and what reacted to a step proves that it arrived."""
    id_ = (await world.send(SALE)).json["id"]
    world.clock.now_ms += 60_000
    await world.hand_over(id_)
    world.clock.now_ms += 60_000
    for at in ("2020-01-01T00:00:00Z", "2030-01-01T00:00:00Z"):
        await react(world, reaction(id_, "seen" if at > NOON else "clicked", at=at))
    (viber, _) = (await world.call("GET", f"/v1/messages/{id_}")).json["steps"]
    assert viber["clicked_at"] == viber["delivered_at"] == "2026-11-18T11:07:40.000Z"
    assert viber["seen_at"] == "2026-11-18T11:08:40.000Z", "nor after now"
