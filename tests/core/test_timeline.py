"""What a record tells of what happened to its message."""

from __future__ import annotations

import pytest

from gateway.core import events
from gateway.core.policy import RouteStep
from gateway.core.records.words import ReactionName
from gateway.core.timeline import timeline
from providers.contract import Fault, Receipt
from ratelimit.caps import Cap, Slot
from tests.worlds.cascade_world import DAY, ID, MINUTE, T0, World, policy, request

BUSY = Fault("20", "REJECTED_FLOODING_FILTER", False)
GONE = Fault("7002", "EC_UNKNOWN_USER", True)

Told = list[tuple[int, str, int | None, str | None]]


def told(world: World) -> Told:
    """Moment after acceptance, event, step and detail of each."""
    return [(h.at_ms - T0, h.event, h.step, h.detail) for h in timeline(world.message)]


def code(category: str = "transactional") -> World:
    return World(send=request(category=category, campaign=None))


def test_a_message_that_was_just_accepted_was_accepted_and_no_more() -> None:
    assert told(code()) == [(0, "accepted", None, "route viber-then-sms")]


def test_a_cascade_is_told_with_its_tries_in_order() -> None:
    world = code()
    world.now_ms += 10
    assert world.happen(events.Claimed(0)).submit
    world.now_ms += 10
    world.happen(events.StepRefused(0, BUSY))
    world.timer()
    retried = world.now_ms - T0
    world.send()
    world.now_ms += 5
    gone = Receipt(status="undelivered", ref=f"{ID}.0.1", fault=GONE)
    world.happen(events.Reported(0, gone, "viber", series=1))
    world.now_ms += 95
    world.send()
    world.now_ms += 50
    world.report("delivered", at_ms=world.now_ms - 10)
    world.report("seen")
    assert told(world) == [
        (0, "accepted", None, "route viber-then-sms"),
        (10, "tried", 0, None),
        (retried, "tried", 0, "the last of 2, refused for now: 1"),
        (retried, "sent", 0, None),
        (retried + 5, "undelivered", 0, "EC_UNKNOWN_USER"),
        (retried + 5, "started", 1, None),
        (retried + 100, "tried", 1, None),
        (retried + 100, "sent", 1, None),
        (retried + 140, "delivered", 1, None),
        (retried + 150, "seen", 1, None),
    ]
    assert [(h.channel, h.provider) for h in timeline(world.message)][:2] == [
        (None, None),
        ("viber", "viber"),
    ]


def test_a_refusal_for_now_that_was_the_last_word_is_named() -> None:
    world = code()
    world.happen(events.Claimed(0))
    world.happen(events.StepRefused(0, BUSY))
    assert told(world)[-1] == (0, "tried", 0, "refused for now: 1, REJECTED_FLOODING_FILTER")


def test_a_cancel_keeps_its_moment_though_the_step_is_heard_of_later() -> None:
    world = code()
    world.send()
    world.now_ms += MINUTE
    world.happen(events.Cancelled())
    world.now_ms += MINUTE
    world.report("delivered")
    assert told(world)[-3:] == [
        (MINUTE, "skipped", 1, "cancelled"),
        (MINUTE, "cancelled", None, "cancelled"),
        (2 * MINUTE, "delivered", 0, None),
    ]


def test_a_late_delivery_does_not_hide_that_the_message_had_ended() -> None:
    world = code()
    for _ in range(2):
        world.send()
        world.timer()
    ended = world.now_ms - T0
    world.now_ms += MINUTE
    world.report("delivered", step=1)
    assert (ended, "ended", None, None) in told(world)
    assert told(world)[-1] == (ended + MINUTE, "delivered", 1, None)


def test_a_delivery_skips_what_had_not_started_and_a_second_one_is_told_apart() -> None:
    world = code()
    world.send()
    world.timer()
    over = world.now_ms - T0
    world.send()
    world.now_ms += 1
    world.report("delivered", step=1)
    world.now_ms += 1
    world.report("delivered", step=0)
    assert told(world)[-2:] == [
        (over + 1, "delivered", 1, None),
        (over + 2, "delivered", 0, "a double delivery"),
    ]
    first = code()
    first.send()
    first.now_ms += 7
    first.report("delivered", at_ms=T0 + 7)
    assert (7, "skipped", 1, "delivered") in told(first)


def test_a_delivery_that_waits_for_a_reaction_skips_nothing() -> None:
    asks = (
        RouteStep(("viber",), MINUTE, 0, until="seen", react_ms=DAY),
        RouteStep(("sms",), MINUTE, 0),
        RouteStep(("viber-2",), MINUTE, 0),
    )
    world = World(policy(steps=asks), request(category="transactional", campaign=None))
    world.send()
    world.report("delivered")
    world.timer()
    world.send()
    world.now_ms += 5
    world.report("delivered", step=1)
    assert told(world)[-2:] == [
        (DAY + 5, "delivered", 1, None),
        (DAY + 5, "skipped", 2, "delivered"),
    ]


def test_a_lost_answer_is_known_as_such_until_more_is_known() -> None:
    world = code()
    world.send(answer="lost")
    assert told(world)[1:] == [
        (0, "tried", 0, "answers lost: 1"),
        (0, "unknown", 0, "the provider's answer was lost"),
    ]
    world.timer()
    world.happen(events.NotKnown(0))
    world.timer()
    world.happen(events.NotKnown(0))
    asked = world.now_ms - T0
    assert (asked, "not_known", 0, "asked, the provider did not know it") in told(world)


def test_a_step_that_is_passed_over_for_its_provider_was_when_the_next_one_started() -> None:
    world = World(policy(when_away="skip"), request(category="otp", campaign=None))
    world.now_ms += 30
    world.happen(events.Claimed(0, away=frozenset(["viber"])))
    assert told(world)[1:] == [(30, "skipped", 0, "away"), (30, "started", 1, None)]


def test_a_step_that_is_not_wanted_when_it_would_start_is_told_where_the_one_before_ended() -> None:
    asks = (RouteStep(("viber",), MINUTE, 0), RouteStep(("sms",), MINUTE, 0))
    cap = Cap("one-sms", 1, DAY, "1d", None, "sms")
    rules = policy(caps=(cap,), steps=asks)
    world = World(rules, request(category="transactional", campaign=None))
    world.person.slots.append(Slot("another", T0, "transactional", "sms"))
    world.send()
    world.now_ms += 5
    world.report("undelivered")
    assert told(world)[-2:] == [
        (5, "skipped", 1, "frequency_cap"),
        (5, "suppressed", None, "frequency_cap"),
    ]
    wished = code()
    wished.now_ms += 30
    wished.happen(events.Claimed(0, opt_outs={"viber": "all"}))
    assert told(wished)[1:] == [(30, "skipped", 0, "opted_out"), (30, "started", 1, None)]


def test_reactions_are_told_and_end_what_had_not_started() -> None:
    asks = (
        RouteStep(("viber",), MINUTE, 0, until="seen", react_ms=DAY),
        RouteStep(("sms",), MINUTE, 0),
    )
    world = World(policy(steps=asks), request(category="transactional", campaign=None))
    world.send()
    world.report("delivered")
    world.now_ms += 40
    world.report("seen")
    world.now_ms += 5
    world.happen(events.Reacted(0, "clicked", world.now_ms))
    assert told(world)[-4:] == [
        (0, "delivered", 0, None),
        (40, "seen", 0, None),
        (40, "skipped", 1, "reacted"),
        (45, "clicked", 0, None),
    ]


@pytest.mark.parametrize("order", [("replied", "clicked"), ("clicked", "replied")])
def test_a_reply_is_told_whatever_else_the_person_did(order: tuple[ReactionName, ...]) -> None:
    world = code()
    world.send()
    world.report("delivered", at_ms=T0)
    moments: dict[str, int] = {"replied": 2 * MINUTE, "clicked": 3 * MINUTE}
    world.now_ms += 4 * MINUTE
    for kind in order:
        world.happen(events.Reacted(0, kind, T0 + moments[kind]))
    world.happen(events.Reacted(0, "replied", T0 + MINUTE))
    assert told(world)[-2:] == [
        (2 * MINUTE, "replied", 0, None),
        (3 * MINUTE, "clicked", 0, None),
    ]


def test_a_reply_in_whole_seconds_stands_behind_the_delivery_that_it_answers() -> None:
    world = code()
    world.send()
    world.now_ms += 900
    world.report("delivered", at_ms=world.now_ms - 100)
    world.happen(events.Reacted(0, "replied", T0))
    assert told(world)[-3:-1] == [(800, "delivered", 0, None), (800, "replied", 0, None)]


def test_a_reply_to_what_arrived_only_afterwards_is_not_told() -> None:
    world = code()
    world.send()
    world.happen(events.Replied(0, T0))
    world.now_ms += MINUTE
    world.report("delivered", at_ms=world.now_ms)
    assert "replied" not in [event for _, event, _, _ in told(world)]


def test_a_marketing_step_that_waited_for_its_turn_is_told_with_its_send() -> None:
    world = World()
    world.send()
    world.report("expired")
    world.now_ms += MINUTE
    world.send()
    assert [event for _, event, step, _ in told(world) if step == 1] == ["tried", "sent"]
