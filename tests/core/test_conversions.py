"""What a conversion is put down to: windows, order of what is known, corrections, assistance."""

from __future__ import annotations

import random
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import replace

from gateway.core import events as ev
from gateway.core.cascade.arrivals import CONVERSIONS_MAX
from gateway.core.policy import ReachRule, RouteStep
from gateway.core.reactions.conversions import ConversionRule, attribute
from gateway.core.records.message import Message, MessageStatus
from providers.contract import Receipt
from tests.worlds.cascade_world import DAY, MINUTE, T0, World, policy, request

RULE = ConversionRule(click_ms=7 * DAY, delivery_ms=DAY)
UNTIL_SEEN = (
    RouteStep(("viber",), 15 * MINUTE, 10_000, "seen", 240 * MINUTE),
    RouteStep(("sms",), DAY, 10_000),
)


def message(id_: str = "A", campaign: str | None = "autumn", **moments: int) -> Message:
    """Of a Viber and an SMS step; `clicked_1` is when the second was clicked."""
    made = World(policy(), request(category="marketing", campaign=campaign)).message
    made.id = id_
    for name, at_ms in moments.items():
        touch(made, name, at_ms)
    return made


def touch(touched: Message, name: str, at_ms: int) -> None:
    kind, _, step = name.rpartition("_")
    setattr(touched.steps[int(step)], f"{kind}_ms", at_ms)


def had(messages: list[Message], at_ms: int = T0, **more: Any) -> tuple[str, int, str] | None:
    found = attribute(messages, at_ms, RULE, **more)
    return None if found is None else (found.touch.message, found.touch.step, found.touch.by)


@pytest.mark.parametrize(
    ("moments", "expected"),
    [
        ({"clicked_0": T0 - 7 * DAY}, ("A", 0, "click")),
        ({"clicked_0": T0 - 7 * DAY - 1}, None),
        ({"clicked_0": T0 + 1}, None),
        ({"delivered_1": T0 - DAY}, ("A", 1, "delivery")),
        ({"delivered_1": T0 - DAY - 1}, None),
        ({"delivered_1": T0 - 1, "clicked_0": T0 - 6 * DAY}, ("A", 0, "click")),
        ({"clicked_0": T0 - 9 * DAY, "reclicked_0": T0 - DAY}, ("A", 0, "click")),
        ({"clicked_0": T0 - DAY, "reclicked_0": T0 + DAY}, ("A", 0, "click")),
        ({"clicked_0": T0 - 2, "clicked_1": T0 - 1}, ("A", 1, "click")),
        ({}, None),
    ],
)
def test_the_last_click_has_it_else_the_last_delivery(
    moments: dict[str, int], expected: tuple[str, int, str] | None
) -> None:
    touched = message()
    for name, at_ms in moments.items():
        touch(touched, name, at_ms)
    assert had([touched]) == expected


def test_other_channels_of_the_campaign_assist_once_each() -> None:
    messages = [
        message("A", delivered_0=T0 - 2, clicked_1=T0 - 1, delivered_1=T0 - 3),
        message("B", delivered_0=T0 - 1),
        message("C", "spring", delivered_0=T0 - 1),
        message("D", clicked_0=T0 - 8 * DAY),
    ]
    found = attribute(messages, T0, RULE)
    assert found is not None
    assert (found.touch.message, found.touch.channel) == ("A", "sms")
    assert [(t.message, t.step) for t in found.assisted] == [("B", 0)]


def test_a_correction_goes_where_the_latest_conversion_went() -> None:
    converted = message("A", converted_0=T0 - 40 * DAY, delivered_1=T0 - 1)
    assert had([converted, message("B", clicked_0=T0 - 1)], corrects=True) == ("A", 0, "conversion")
    assert had([message("B", clicked_0=T0 - 1)], corrects=True) == ("B", 0, "click")
    assert had([converted]) == ("A", 1, "delivery"), "a further conversion goes by the windows"


AGO = st.integers(0, 9 * DAY)
# Of each step: how long before the conversion it was delivered, and clicked after that.
STEPS = st.lists(st.tuples(AGO, st.lists(AGO, max_size=3)), min_size=6, max_size=6)


@given(STEPS, st.randoms(use_true_random=False))
def test_it_is_a_function_of_what_happened_not_of_the_order_it_was_told_in(
    steps: list[tuple[int, list[int]]], chance: random.Random
) -> None:
    """Three messages of two steps each; receipts and clicks are told in any order, and again."""
    told: list[tuple[int, int, str, int]] = []
    for place, (delivered, clicked) in enumerate(steps):
        step = place % 2
        told.append((T0 - delivered, place, "delivery", step))
        told += [(T0 - min(ago, delivered), place, "click", step) for ago in clicked]
    shuffled = told + chance.sample(told, 3)
    chance.shuffle(shuffled)
    worlds = [_sent_world(number) for number in range(3)]
    for at_ms, place, kind, step in shuffled:
        receipt = Receipt("delivered", at_ms=at_ms)
        worlds[place // 2].happen(
            ev.Reacted(step, "clicked", at_ms)
            if kind == "click"
            else ev.Reported(step, receipt, ("viber", "sms")[step])
        )
    messages = [world.message for world in worlds]
    chance.shuffle(messages)
    clicks = [each for each in told if each[2] == "click" and T0 - each[0] <= RULE.click_ms]
    deliveries = [e for e in told if e[2] == "delivery" and T0 - e[0] <= RULE.delivery_ms]
    expected = max(clicks or deliveries, default=None)
    if expected is None:
        assert had(messages) is None
    else:
        _, place, kind, step = expected
        assert had(messages) == (f"M{place // 2}", step, kind)


def _sent_world(number: int) -> World:
    """Both steps are out."""
    world = World()
    world.message.id = f"M{number}"
    world.message.created_ms = T0 - 30 * DAY
    world.send()
    world.timer()
    world.send()
    for step in world.message.steps:
        step.attempts[0].first_claimed_ms = world.message.created_ms
    return world


# --- what it does to the message ---


def test_it_ends_the_cascade_and_is_booked_once() -> None:
    world = World(policy(steps=UNTIL_SEEN))
    world.send()
    world.report("delivered", at_ms=T0)
    for _ in range(2):
        world.happen(ev.Converted(7, T0, 5_000_000, step=0))
    assert world.statuses() == ["delivered", "skipped"]
    assert world.message.steps[1].fault is not None
    assert world.message.steps[1].fault.code == "converted"
    assert world.message.closed
    sums = world.sums("viber")
    assert (sums["conversions"], sums["revenue"], sums["billed"]) == (1, 5_000_000, 9_000)


def test_a_correction_counts_as_none_and_ends_nothing() -> None:
    world = World(policy(steps=UNTIL_SEEN))
    world.send()
    world.report("delivered", at_ms=T0)
    world.happen(ev.Converted(8, T0, -2_000_000, counts=False, step=0))
    assert world.statuses() == ["delivered", "planned"]
    assert (world.sums()["conversions"], world.sums()["revenue"]) == (0, -2_000_000)


def test_what_has_not_left_is_skipped_and_the_message_ends_cancelled() -> None:
    world = World()
    world.happen(ev.Converted(7, T0))
    assert world.statuses() == ["skipped", "skipped"]
    assert (world.message.status, world.message.reason) == (MessageStatus.CANCELLED, "converted")
    assert not world.held()


@pytest.mark.parametrize(
    ("receipt", "status", "billed"),
    [
        ("delivered", MessageStatus.DELIVERED, 9_000),
        ("undelivered", MessageStatus.UNDELIVERED, 0),
    ],
)
def test_a_step_that_is_out_finishes_and_says_how_the_message_ends(
    receipt: str, status: int, billed: int
) -> None:
    world = World()
    world.send()
    world.happen(ev.Converted(7, T0))
    assert (world.message.status, world.message.closed) == (MessageStatus.SENT, False)
    world.report(receipt)
    assert (world.message.status, world.message.closed) == (status, True)
    assert world.statuses()[1] == "skipped"
    assert world.sums()["billed"] == billed
    assert world.held() == (receipt == "delivered")


def test_a_claimed_step_that_is_put_back_is_not_sent_any_more() -> None:
    world = World()
    world.happen(ev.Claimed(0))
    world.happen(ev.Converted(7, T0))
    world.happen(ev.PutBack(0))
    assert world.statuses() == ["skipped", "skipped"]
    assert (world.message.status, world.message.reason) == (MessageStatus.CANCELLED, "converted")


def test_a_message_has_so_many_conversions_at_most() -> None:
    world = World()
    for mark in range(CONVERSIONS_MAX):
        world.happen(ev.Converted(mark, T0))
    assert world.happen(ev.Converted(CONVERSIONS_MAX, T0)).refused == "conversions"


def test_rates_count_the_first_conversion_of_a_step_where_they_are_asked_to() -> None:
    rules = replace(policy(), best={"viber-then-sms": "cost"}, reach=ReachRule(metric="converted"))
    world = World(rules)
    world.send()
    world.report("delivered", at_ms=T0)
    world.happen(ev.Reacted(0, "clicked", T0))
    assert world.person.channels["viber"].reactions == 0
    for mark in (1, 2):
        world.happen(ev.Converted(mark, T0, step=0))
    assert world.person.channels["viber"].reactions == 1_000
