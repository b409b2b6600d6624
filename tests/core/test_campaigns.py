"""What is declared of a campaign, and what it says of requests and steps."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import replace

from gateway.core import admission, events
from gateway.core.campaigns.campaigns import HOLDOUT_PARTS, Campaign, Declared, share_of, why_not
from gateway.core.holding import waits_for
from gateway.core.people.opt_outs import NONE
from gateway.core.policy import NOT_FOUND_MIN, Policy
from gateway.core.records.held import Held
from gateway.core.records.message import MessageStatus
from gateway.core.records.person import DedupeClaim, Person
from gateway.core.views.message import view_now
from gateway.core.views.words import held_view
from providers.contract import Fault
from ratelimit.caps import Cap, Slot
from tests.worlds.cascade_world import DAY, DAYTIME, HOUR, MINUTE, T0, World, policy, request

KEY = b"k" * 32
GONE = Fault("7002", "EC_UNKNOWN_USER", True)


def declared(rules: Policy | None = None, **said: Any) -> Policy:
    campaigns = {"autumn": Campaign(**said)}
    return replace(rules or policy(), declared=Declared(campaigns, KEY))


def asked(rules: Policy, person: Person | None = None, **changes: Any) -> admission.Decision:
    people = [person or Person()]
    return admission.admit(request(**changes), people, NONE, rules, T0)


def suppressed(rules: Policy, **changes: Any) -> str | None:
    decision = asked(rules, **changes)
    return decision.reason if isinstance(decision, admission.Suppressed) else None


def test_a_campaign_that_ended_or_was_cancelled_takes_no_more() -> None:
    assert suppressed(declared(state="cancelled")) == "campaign_cancelled"
    assert suppressed(declared(end_ms=T0)) == "campaign_ended"
    assert suppressed(declared(end_ms=T0 + 1)) is None
    later = {"not_before_ms": T0 + HOUR}
    assert suppressed(declared(end_ms=T0 + HOUR), **later) == "campaign_ended"
    assert suppressed(declared(state="cancelled"), campaign="winter") is None


def test_a_request_without_a_place_is_refused_after_duplicates_are_named() -> None:
    rules = declared(recipients_max=1)
    assert suppressed(rules, no_room=True) == "recipients_max"
    holder = Person(claims={"autumn": DedupeClaim("another", 0)})
    assert isinstance(asked(rules, holder, no_room=True), admission.Duplicate)


def test_a_message_lives_no_longer_than_its_campaign_and_starts_no_sooner() -> None:
    ended = World(declared(end_ms=T0 + HOUR))
    assert ended.message.expires_ms == T0 + HOUR
    later = World(declared(start_ms=T0 + DAY), request(ttl_ms=MINUTE))
    assert later.message.held == Held("scheduled", T0 + DAY)
    assert later.message.expires_ms == T0 + DAY + MINUTE


@pytest.mark.parametrize(
    ("route", "waited_ms"), [("viber-then-sms", 1), ("viber-then-sms", HOUR), ("sms-only", HOUR)]
)
def test_what_waits_in_a_lane_ends_with_its_campaign_whenever_the_end_was_set(
    route: str, waited_ms: int
) -> None:
    world = World(declared(), request(route=route))
    world.now_ms = T0 + waited_ms
    world.policy = declared(end_ms=world.now_ms)
    assert not world.happen(events.Claimed(0)).submit
    message = world.message
    assert (message.status, message.reason) == (MessageStatus.EXPIRED, "campaign_ended")
    assert not world.person.claims


@given(st.integers(1, HOLDOUT_PARTS), st.text(min_size=1), st.integers(0, 10**11))
def test_a_holdout_is_a_fixed_share_by_campaign_and_person(
    share: int, name: str, number: int
) -> None:
    first = f"p:{number}"
    stands = share_of(KEY, name, first)
    assert 0 <= stands < HOLDOUT_PARTS
    said = Declared({name: Campaign(holdout=share)}, KEY)
    told = why_not(said, name, "marketing", first, T0)
    assert told == ("holdout" if stands < share else None)
    assert why_not(said, name, "transactional", first, T0) is None


def test_a_holdout_is_as_large_as_it_was_asked_for_and_another_in_each_campaign() -> None:
    people = [f"p:7916{number:07}" for number in range(20_000)]
    spring = {p for p in people if share_of(KEY, "spring", p) < 1_000}
    summer = {p for p in people if share_of(KEY, "summer", p) < 1_000}
    assert 0.09 < len(spring) / len(people) < 0.11
    assert 0.005 < len(spring & summer) / len(people) < 0.015


def test_a_holdout_takes_no_claim() -> None:
    person = Person()
    decision = asked(declared(holdout=HOLDOUT_PARTS), person)
    assert isinstance(decision, admission.Suppressed)
    assert person == Person()


def test_the_campaigns_send_window_comes_before_its_categorys() -> None:
    windows = {"daytime": DAYTIME}
    night = replace(policy(), send_windows=windows)
    assert World(declared(night, send_window="daytime")).message.held
    everyday = replace(policy(send_window=DAYTIME), send_windows=windows)
    assert World(declared(everyday, send_window="none")).message.held is None
    assert World(declared(everyday, send_window="gone")).message.held, "as if it named none"
    assert World(declared(night, send_window="gone")).message.held is None
    assert World(declared(everyday)).message.held


def test_no_step_of_a_paused_campaign_starts_and_receipts_flow() -> None:
    world = World(declared())
    world.send()
    world.policy = declared(state="paused")
    world.report("undelivered", fault=GONE)
    assert world.statuses() == ["undelivered", "retrying"]
    assert world.message.held == Held("paused")
    world.happen(events.Released())
    assert world.message.held == Held("paused"), "it is still paused"
    world.report("delivered", 0)
    assert world.message.status == MessageStatus.DELIVERED
    assert world.message.finished


@pytest.mark.parametrize(
    ("said", "kept"),
    [
        ({"state": "paused"}, Held("paused")),
        ({"pace": "1/m", "pace_per_min": 1}, Held("pace")),
        ({"send_window": "daytime"}, Held("send_window", T0 + 9 * HOUR)),
        ({}, Held("scheduled", T0 + HOUR)),
    ],
)
def test_whose_moment_has_passed_waits_for_what_its_campaign_says(
    said: dict[str, Any], kept: Held
) -> None:
    """It stays in its campaign's queue when its moment comes while that is paused or paced."""
    windows = replace(policy(), send_windows={"daytime": DAYTIME})
    scheduled = request(not_before_ms=T0 + HOUR)
    world = World(declared(windows), scheduled)
    assert world.message.held == Held("scheduled", T0 + HOUR)
    world.policy = declared(windows, **said)
    assert waits_for(world.message, world.policy, T0 + HOUR - 1) == world.message.held
    assert waits_for(world.message, world.policy, T0 + HOUR) == kept
    assert view_now(world.message, world.policy, T0 + HOUR).held == held_view(kept)
    world.now_ms = world.message.expires_ms
    world.timer()
    assert world.message.status == MessageStatus.EXPIRED
    assert world.message.reason == kept.reason


def test_a_step_that_a_cap_stopped_and_that_arrives_all_the_same_was_never_undelivered() -> None:
    """Its answer was lost, and the provider did not know it before it delivered it."""
    caps = (Cap("one-viber", 1, DAY, "1d", "marketing", "viber"),)
    world = World(declared(policy(caps=caps)))
    world.send("lost")
    world.policy = declared(policy(caps=caps), state="paused")
    for _ in range(NOT_FOUND_MIN):
        world.happen(events.NotKnown(0))
    assert world.message.held == Held("paused")
    world.policy = declared(policy(caps=caps))
    world.person.slots.append(Slot("another", T0, "marketing", "viber"))
    world.happen(events.Released())
    assert world.statuses()[0] == "skipped"
    world.report("delivered", 0)
    assert world.sums()["delivered"] == 1
    assert world.sums()["undelivered"] == 0


def test_what_is_in_a_lane_when_its_campaign_is_paused_leaves_it_at_its_claim() -> None:
    world = World(declared())
    world.policy = declared(state="paused")
    assert not world.happen(events.Claimed(0)).submit
    assert world.message.held == Held("paused")
    world.policy = declared()
    world.now_ms += HOUR
    assert world.happen(events.Released()).lane == ("viber", "marketing")
    world.send()


@pytest.mark.parametrize("held", [False, True])
def test_no_step_of_a_cancelled_campaign_starts(*, held: bool) -> None:
    world = World(declared(state="paused" if held else "running"))
    world.policy = declared(state="cancelled")
    world.happen(events.Released() if held else events.Claimed(0))
    assert world.message.status == MessageStatus.CANCELLED
    assert world.message.reason == "campaign_cancelled"
    assert world.message.closed
    assert not world.held()


def test_a_fallback_of_a_cancelled_campaign_ends_the_message() -> None:
    world = World(declared())
    world.send()
    world.policy = declared(state="cancelled")
    world.report("undelivered", fault=GONE)
    assert world.statuses() == ["undelivered", "skipped"]
    assert world.message.status == MessageStatus.CANCELLED


def test_a_first_step_waits_for_its_place_in_the_pace_and_a_fallback_does_not() -> None:
    world = World(declared(pace_per_min=60))
    assert world.message.held == Held("pace")
    world.happen(events.Released())
    assert world.message.held == Held("pace"), "it has no place yet"
    assert world.happen(events.Released(in_pace=True)).lane == ("viber", "marketing")
    world.send()
    assert world.report("undelivered", fault=GONE).lane == ("sms", "marketing")
