"""`POST /v1/conversions`: an answer an item, once an id, put down to the step that made it."""

from __future__ import annotations

from typing import Any

from gateway.core import events as ev
from gateway.ingress.api.reactions.conversions import CONVERSIONS_MAX
from gateway.store.messages.apply import Item
from tests.ingress.reactions.test_reactions import UNTIL_SEEN, delivered, react, reaction
from tests.worlds.ingress_world import OTP, SALE, T0, World, with_ingress

DAY = 86_400_000


def order(id_: str = "o1", **more: Any) -> dict[str, Any]:
    return {"id": id_, "value": "49.90"} | more


async def convert(world: World, body: Any, key: str = "shop-key") -> Any:
    return await world.call("POST", "/v1/conversions", body, key=key)


async def report(world: World, query: str = "") -> Any:
    answer = await world.call("GET", f"/v1/reports/cost?{query}", key="finance-key")
    return answer.json


@with_ingress(changed=UNTIL_SEEN, shards=3)
async def test_it_counts_once_ends_the_cascade_and_says_what_it_is_put_down_to(
    world: World,
) -> None:
    id_ = await delivered(world)
    first, again = [(await convert(world, order(message=id_))).json for _ in range(2)]
    had = {"message": id_, "step": 0, "channel": "viber", "campaign": "autumn", "by": "delivery"}
    assert first == {"outcome": "accepted", "attributed": had, "assisted": []}
    assert again == first | {"outcome": "duplicate"}
    message = (await world.call("GET", f"/v1/messages/{id_}")).json
    assert (message["status"], message["final"]) == ("delivered", True)
    assert message["steps"][1]["error"]["code"] == "converted"
    (row,) = (await report(world, "group_by=campaign,channel,step"))["rows"]
    assert (row["channel"], row["step"], row["conversions"], row["assisted"]) == ("viber", 0, 1, 0)
    assert (row["revenue"], row["revenue_per_delivered"]) == ("49.9000", "49.900000")


@with_ingress(changed=UNTIL_SEEN, shards=3)
async def test_a_click_comes_before_a_later_delivery_and_the_other_channel_assists(
    world: World,
) -> None:
    id_ = await delivered(world)
    await world.store.apply([Item(id_, ev.TimerDue())], T0 + DAY // 4)
    for event in (ev.Claimed(1), ev.Accepted(1), ev.Reacted(0, "clicked", T0 + DAY // 2)):
        await world.store.apply([Item(id_, event)], T0 + DAY // 2)
    await world.store.apply([Item(id_, ev.Reacted(1, "replied", T0 + DAY))], T0 + DAY)
    world.clock.now_ms = T0 + DAY
    answer = (await convert(world, order(message=id_))).json
    assert (answer["attributed"]["channel"], answer["attributed"]["by"]) == ("viber", "click")
    assert answer["assisted"] == ["sms"]
    rows = (await report(world, "group_by=channel"))["rows"]
    assert [(r["channel"], r["conversions"], r["assisted"]) for r in rows] == [
        ("sms", 0, 1),
        ("viber", 1, 0),
    ]


@with_ingress(changed=UNTIL_SEEN, shards=3)
async def test_a_user_stands_for_what_it_was_sent_in_a_campaign_or_in_any(world: World) -> None:
    id_ = await delivered(world, user="u1")
    other = await delivered(world, user="u1", campaign="winter")
    (await react(world, reaction(id_))).json["outcome"]
    answers = (
        await convert(
            world,
            [
                order("a", user="u1", campaign="autumn"),
                order("b", user="u1", campaign="winter"),
                order("c", user="u1"),
                order("d", user="u2"),
                order("e", user="u1", campaign="spring"),
            ],
        )
    ).json
    had = [each["attributed"] and each["attributed"]["message"] for each in answers]
    assert had == [id_, other, id_, None, None]
    assert {each["outcome"] for each in answers} == {"accepted"}
    assert (await report(world))["total"]["conversions"] == 3


@with_ingress(changed=UNTIL_SEEN)
async def test_names_are_taken_as_those_of_messages(world: World) -> None:
    """As NFC without spaces at their ends; what cannot be a name uses up no id."""
    id_ = await delivered(world, user="josé", campaign="été")
    spelled = [
        order("a", user=" jose\u0301 "),
        order("b", user="josé", campaign="e\u0301te\u0301 "),
        order("c", user="josé", campaign="é" * 129),
    ]
    nobody = [order("c", user=" "), order("d", user="josé", campaign="\0")]
    answers = (await convert(world, spelled + nobody)).json
    assert [a.get("attributed") and a["attributed"]["message"] for a in answers[:2]] == [id_] * 2
    pointers = [each["error"]["errors"][0]["pointer"] for each in answers[2:]]
    assert pointers == ["/campaign", "/user", "/campaign"]
    fitting = order("c", user="josé", campaign=" " + "e\u0301" * 128)
    assert (await convert(world, fitting)).json["outcome"] == "accepted"


@with_ingress(changed=UNTIL_SEEN)
async def test_what_is_not_attributed_ends_the_campaigns_live_message_all_the_same(
    world: World,
) -> None:
    id_ = (await world.send(SALE | {"user": "u1"})).json["id"]
    answer = (await convert(world, order(user="u1", campaign="autumn"))).json
    assert answer == {"outcome": "accepted", "attributed": None, "assisted": []}
    message = (await world.call("GET", f"/v1/messages/{id_}")).json
    assert (message["status"], message["reason"]) == ("cancelled", "converted")
    assert [step["error"]["code"] for step in message["steps"]] == ["converted"] * 2


@with_ingress(changed=UNTIL_SEEN)
async def test_a_negative_value_corrects_where_the_conversion_went(world: World) -> None:
    id_ = await delivered(world)
    await convert(world, order(message=id_))
    world.clock.now_ms = T0 + 20 * DAY
    answer = (await convert(world, order("r1", message=id_, value="-49.900001"))).json
    assert answer["attributed"]["by"] == "conversion"
    total = (await report(world, "from=2026-11-01&to=2026-12-31"))["total"]
    assert (total["conversions"], total["revenue"]) == (1, "-0.000001")


@with_ingress(changed=UNTIL_SEEN)
async def test_what_a_correction_corrects_may_stand_beside_it(world: World) -> None:
    """A night's list of orders and refunds, days after the messages."""
    id_ = await delivered(world)
    world.clock.now_ms = T0 + 20 * DAY
    bought_at = "2026-11-18T13:00:00Z"
    answers = (
        await convert(
            world,
            [
                order("r1", message=id_, value="-9.90"),
                order("o1", message=id_, at=bought_at),
                order("r1", message=id_, value="-9.90"),
                order("r2", message=id_, value="-40"),
            ],
        )
    ).json
    assert [each["index"] for each in answers] == [0, 1, 2, 3]
    assert [each["outcome"] for each in answers] == [*(["accepted"] * 2), "duplicate", "accepted"]
    by = [each["attributed"]["by"] for each in answers]
    assert by == ["conversion", "delivery", "conversion", "conversion"]
    total = (await report(world, "from=2026-11-01&to=2026-12-31"))["total"]
    assert (total["conversions"], total["revenue"]) == (1, "0.0000")


@with_ingress(changed=UNTIL_SEEN)
async def test_one_bad_item_never_fails_its_neighbours(world: World) -> None:
    id_ = await delivered(world)
    foreign = await delivered(world, to="+79161234568")
    answer = await convert(
        world,
        [
            order("1", message="1M7Q5CQG0000000000AB"),
            order("2"),
            order("3", message=id_, user="u1"),
            order("4", message=id_, campaign="autumn"),
            order("5", message=id_, currency="USD"),
            order("6", message=id_, value="0.0000001"),
            order("7", message=id_, value="1e999999"),
            order("8", message=id_, at="2026-11-18T12:00:00"),
            order("9", message=id_, more=1),
            7,
            order("ok", message=id_, value=12.5, currency="EUR", at="2030-01-01T00:00:00Z"),
            order("ok", message=id_),
        ],
    )
    pointers = [each.get("error", {}).get("errors", [{}])[0].get("pointer") for each in answer.json]
    assert pointers[1:10] == [
        *("", "", "/campaign", "/currency", "/value", "/value", "/at", "/more", ""),
    ]
    outcomes = [each["outcome"] for each in answer.json]
    assert outcomes == ["rejected"] * 10 + ["accepted", "duplicate"]
    assert answer.json[0]["error"]["status"] == 404
    assert (await report(world))["total"]["revenue"] == "12.5000"
    theirs = await convert(world, order(message=foreign), key="bank-key")
    assert theirs.status == 404


@with_ingress()
async def test_it_says_no_to_too_many_to_nothing_and_to_a_key_without_the_scope(
    world: World,
) -> None:
    many = [order(str(n), user="u") for n in range(CONVERSIONS_MAX + 1)]
    assert (await convert(world, many)).status == 413
    assert (await convert(world, [])).status == 422
    assert (await convert(world, order(user="u"), key="reader-key")).status == 403


@with_ingress()
async def test_while_redis_is_away_it_is_a_503_and_may_be_sent_again(world: World) -> None:
    world.redis.away = True
    answer = await convert(world, order(user="u1"))
    assert (answer.status, "retry-after" in answer.headers) == (503, True)
    world.redis.away = False
    assert (await convert(world, order(user="u1"))).json["outcome"] == "accepted"


@with_ingress()
async def test_a_code_that_converts_is_booked_without_a_campaign(world: World) -> None:
    id_ = (await world.send(OTP)).json["id"]
    for event in (ev.Claimed(0), ev.Accepted(0), ev.Reacted(0, "seen", T0)):
        await world.store.apply([Item(id_, event)], T0)
    answer = (await convert(world, order(message=id_))).json
    assert answer["attributed"]["campaign"] is None
    assert (await report(world))["total"]["conversions"] == 1
