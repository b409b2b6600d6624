"""Steps that may not start yet: scheduled ones, and those outside their send window."""

from __future__ import annotations

from typing import Any

import pytest
from msgspec.structs import replace

from gateway.core import admission, events
from gateway.core.holding import waits_for
from gateway.core.people.opt_outs import NONE
from gateway.core.plan import Rejection
from gateway.core.policy import AWAY_LOOK_MAX_MS, AWAY_LOOK_MIN_MS
from gateway.core.records.held import AWAY, Held
from gateway.core.records.message import Clock, MessageStatus
from gateway.core.records.person import Person
from providers.contract import Fault
from ratelimit.caps import Cap, Slot
from tests.worlds.cascade_world import DAY, DAYTIME, HOUR, MINUTE, T0, World, policy, request

MORNING = T0 + 9 * HOUR
EVENING = T0 + 21 * HOUR
CAP = Cap("one-a-day", 1, DAY, "1d", "marketing", None)
NOT_ON_VIBER = Fault("7002", "EC_UNKNOWN_USER", True)


def held_world(**changes: Any) -> World:
    """A marketing message that was accepted at midnight."""
    return World(policy(send_window=DAYTIME, caps=(CAP,)), request(**changes))


def is_queued(world: World) -> bool:
    return world.lane is not None


def held_now(world: World) -> Held | None:
    return world.message.held


def test_a_message_outside_its_window_waits_for_the_opening_outside_the_lane() -> None:
    world = held_world()
    assert not is_queued(world)
    assert world.statuses() == ["retrying", "planned"]
    assert held_now(world) == Held("send_window", MORNING)
    assert world.message.due_ms == world.message.expires_ms == T0 + 3 * DAY
    world.now_ms = MORNING
    world.happen(events.Released())
    assert world.lane == ("viber", "marketing")
    assert world.statuses() == ["queued", "planned"]
    assert held_now(world) is None
    assert world.message.due_ms == T0 + 3 * DAY


def test_a_release_that_comes_too_early_changes_nothing_but_may_be_repeated() -> None:
    world = held_world()
    world.now_ms = MORNING - 1
    world.happen(events.Released())
    assert held_now(world) == Held("send_window", MORNING)
    assert not is_queued(world)
    world.now_ms = MORNING
    world.happen(events.Released())
    assert not world.happen(events.Released()).changed


def test_the_wait_of_a_step_stands_still_while_it_is_held() -> None:
    world = World(policy(send_window=DAYTIME), request(category="transactional"))
    world.now_ms = MORNING
    world.happen(events.Released())
    assert world.message.step.clock == Clock(MORNING)
    assert world.message.due_ms == MORNING + 15 * MINUTE


def test_a_step_that_is_held_again_goes_on_with_what_is_left_of_its_wait() -> None:
    world = World(policy(send_window=DAYTIME), request(category="transactional"))
    world.now_ms = EVENING - 5 * MINUTE
    world.happen(events.Released())
    world.now_ms = EVENING
    assert not world.happen(events.Claimed(0)).submit
    next_morning = MORNING + DAY
    assert held_now(world) == Held("send_window", next_morning)
    world.now_ms = next_morning
    world.happen(events.Released())
    assert world.message.due_ms == next_morning + 10 * MINUTE


def test_a_fallback_that_falls_due_at_night_waits_for_the_morning() -> None:
    world = held_world()
    world.now_ms = EVENING - MINUTE
    world.happen(events.Released())
    world.send()
    world.now_ms = EVENING + HOUR
    world.lane = None
    world.report("undelivered", fault=NOT_ON_VIBER)
    assert world.statuses() == ["undelivered", "retrying"]
    assert not is_queued(world)
    assert held_now(world) == Held("send_window", MORNING + DAY)
    assert [(s.channel, s.at_ms) for s in world.person.slots] == [("sms", MORNING + DAY)]
    world.now_ms = MORNING + DAY
    assert world.happen(events.Released()).lane == ("sms", "marketing")
    world.send()
    assert held_now(world) is None


def test_what_waits_long_for_its_provider_is_looked_at_seldom() -> None:
    world = World()
    looks = []
    for _ in range(100):
        world.happen(events.Claimed(0, away=frozenset(["viber"])))
        held = held_now(world)
        assert held is not None
        assert held.reason == "away"
        looks.append(held.until_ms - world.now_ms)
        world.now_ms = held.until_ms
        world.happen(events.Released())
        assert is_queued(world)
    assert looks[0] == AWAY_LOOK_MIN_MS
    assert looks == sorted(looks)
    assert looks[-1] == AWAY_LOOK_MAX_MS


def test_a_message_that_is_held_beyond_its_ttl_expires_and_says_why() -> None:
    world = held_world(ttl_ms=HOUR)
    world.timer()
    assert world.message.status == MessageStatus.EXPIRED
    assert world.message.reason == "send_window"
    assert [step.fault.code for step in world.message.steps if step.fault] == ["send_window"] * 2
    assert not world.held()
    assert world.message.closed


def test_a_held_message_can_be_cancelled_and_gives_back_what_it_held() -> None:
    world = held_world()
    assert world.held()
    world.happen(events.Cancelled())
    assert held_now(world) is None
    assert world.message.closed
    assert not world.held()


def test_a_slot_counts_from_when_its_message_is_held_no_more() -> None:
    world = held_world()
    assert [slot.at_ms for slot in world.person.slots] == [MORNING]


def test_a_cap_is_asked_for_the_moment_at_which_the_message_may_go() -> None:
    person = Person(slots=[Slot("another", T0 - 20 * HOUR, "marketing", "viber")])
    rules = policy(caps=(CAP,))
    later = request(not_before_ms=T0 + 5 * HOUR)
    assert isinstance(admission.admit(request(), [person], NONE, rules, T0), admission.Suppressed)
    assert isinstance(admission.admit(later, [person], NONE, rules, T0), admission.Admitted)


def test_a_scheduled_message_waits_for_its_moment_and_its_ttl_counts_from_there() -> None:
    world = World(send=request(not_before_ms=T0 + HOUR, ttl_ms=MINUTE))
    assert held_now(world) == Held("scheduled", T0 + HOUR)
    assert world.message.expires_ms == T0 + HOUR + MINUTE
    world.now_ms = T0 + HOUR
    world.happen(events.Released())
    assert world.lane == ("viber", "marketing")


def test_a_scheduled_message_whose_moment_is_at_night_waits_for_the_morning_after() -> None:
    world = held_world(not_before_ms=EVENING + HOUR)
    assert held_now(world) == Held("send_window", MORNING + DAY)


def test_the_past_is_at_once_and_the_far_future_is_refused() -> None:
    assert World(send=request(not_before_ms=T0 - DAY)).lane == ("viber", "marketing")
    assert World(send=request(not_before_ms=T0 + 30 * DAY)).message.held
    far = request(not_before_ms=T0 + 30 * DAY + 1)
    refused = admission.admit(far, [Person()], NONE, policy(), T0)
    assert isinstance(refused, Rejection)
    assert refused.pointer == "/send_at"


def test_the_recipients_own_zone_decides() -> None:
    world = held_world(tz="Asia/Vladivostok")  # +10:00
    assert world.lane == ("viber", "marketing")


def test_where_the_window_waits_for_a_zone_nobody_knows_when_it_opens() -> None:
    unsure = replace(DAYTIME, unknown_zone="hold", country_zones={})
    world = World(policy(send_window=unsure), request(ttl_ms=HOUR))
    assert held_now(world) == Held("send_window")
    world.timer()
    assert world.message.reason == "send_window"


def test_a_late_delivery_ends_the_hold_of_the_step_after() -> None:
    world = held_world()
    world.now_ms = EVENING - MINUTE
    world.happen(events.Released())
    world.send()
    world.now_ms = EVENING + HOUR
    world.report("expired")
    assert held_now(world)
    world.report("delivered", 0)
    assert held_now(world) is None
    assert world.statuses() == ["delivered", "skipped"]
    assert not world.happen(events.Released()).changed


def test_who_waits_for_a_provider_that_is_away_says_so() -> None:
    world = World(send=request(route="sms-only", category="otp", campaign=None))
    world.happen(events.Claimed(0, away=frozenset(["viber"])))
    assert held_now(world) == AWAY
    world.timer()
    assert held_now(world) is None
    assert world.statuses() == ["queued"]


def test_what_waits_in_a_lane_is_kept_by_a_provider_that_is_away_and_has_no_other() -> None:
    world = World(send=request(route="sms-only", category="otp", campaign=None))

    def kept(*away: str) -> Held | None:
        return waits_for(world.message, world.policy, world.now_ms, frozenset(away))

    (step,) = world.message.steps
    assert (kept(), kept("viber"), kept("sms")) == (None, None, AWAY)
    step.candidates = [*step.candidates, replace(step.candidate, provider="another")]
    assert (kept("sms"), kept("sms", "another")) == (None, AWAY)
    world.happen(events.Claimed(0))
    assert kept("sms", "another") is None


@pytest.mark.parametrize("category", ["otp", "transactional"])
def test_a_category_without_a_window_is_not_held(category: str) -> None:
    assert World(send=request(category=category, campaign=None)).message.held is None
