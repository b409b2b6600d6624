"""Why a request is decided as it is, and a message sent as it is."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest

from gateway.core import events
from gateway.core.admission import admit
from gateway.core.campaigns.campaigns import CANCELLED, HOLDOUT_PARTS, Campaign, Declared
from gateway.core.explain import Explanation, Gate, GateName, explain, explain_message
from gateway.core.people.opt_outs import EVERY_CHANNEL, NONE, OptOuts
from gateway.core.policy import Policy, ProviderRule, RouteStep
from gateway.core.records.content import Content
from gateway.core.records.message import MessageStatus
from gateway.core.records.person import DedupeClaim, Person
from gateway.core.records.request import MessageRequest
from ratelimit.caps import Cap, Slot
from tests.worlds.cascade_world import (
    DAY,
    DAYTIME,
    HOUR,
    MINUTE,
    PRICES,
    T0,
    World,
    policy,
    request,
)

THREE = Cap("three-a-day", 3, DAY, "1d", "marketing", None)
ONE_VIBER = Cap("one-viber", 1, DAY, "1d", "marketing", "viber")
ANOTHER = "1M7Q5CQG0000000000ZZ"


def explained(
    send: MessageRequest,
    person: Person | None = None,
    opt_outs: OptOuts = NONE,
    rules: Policy | None = None,
) -> Explanation:
    people, rules = [person or Person()], rules or policy()
    decision = admit(send, people, opt_outs, rules, T0)
    return explain(send, decision, people, opt_outs, rules, T0)


def gates(told: Explanation) -> list[tuple[str, str]]:
    return [(gate.gate, gate.verdict) for gate in told.gates]


def test_an_accepted_request_passed_each_gate_that_had_something_to_ask() -> None:
    told = explained(request(content=Content("я" * 71)), rules=policy(caps=(THREE,)))
    assert told.gates == [
        Gate("route", detail="viber-then-sms"),
        Gate("address"),
        Gate("price", price=9_000),
        Gate("opt_out"),
        Gate("duplicate"),
        Gate("cap", name="three-a-day", limit=3, window="1d", count=0),
    ]
    assert [msgspec.structs.astuple(step) for step in told.plan] == [
        ("viber", "viber", 9_000, None, 15 * MINUTE, "delivered", "pass", None),
        ("sms", "sms", 140_000, 2, DAY, "delivered", "pass", None),
    ]
    code = explained(request(category="otp", campaign=None), rules=policy(caps=(THREE,)))
    assert [gate.gate for gate in code.gates] == ["route", "address", "price", "opt_out"]


def test_the_cap_with_the_least_room_is_told_and_the_one_that_refused() -> None:
    rules = policy(caps=(THREE, ONE_VIBER))
    person = Person(slots=[Slot(ANOTHER, T0, "marketing", "sms")])
    roomy = explained(request(), person, rules=rules)
    assert roomy.gates[-1] == Gate("cap", name="one-viber", limit=1, window="1d", count=0)
    full = Person(slots=[Slot(ANOTHER, T0, "marketing", "viber")])
    assert explained(request(), full, rules=rules).gates[-1] == Gate(
        "cap", "stop", name="one-viber", limit=1, window="1d", count=1, retry_at_ms=T0 + DAY
    )


def test_nothing_is_asked_after_the_gate_that_stopped_it() -> None:
    person = Person(claims={"autumn": DedupeClaim(ANOTHER)})
    again = explained(request(), person, rules=policy(caps=(THREE,)))
    assert again.gates[-1].message == ANOTHER
    assert gates(again)[-2:] == [("opt_out", "pass"), ("duplicate", "stop")]
    assert again.plan, "the steps it would take"
    refused = explained(request(), opt_outs={EVERY_CHANNEL: "marketing"})
    assert refused.gates[-1] == Gate("opt_out", "stop", "marketing on every channel")
    assert [(step.verdict, step.detail) for step in refused.plan] == [("skip", "opted_out")] * 2


def test_a_request_that_cannot_be_sent_names_the_gate() -> None:
    no_price = msgspec.structs.replace(policy(), quote=lambda *_: None)
    for send, rules, stopped in (
        (request(route="pigeon"), policy(), "route"),
        (request(), no_price, "price"),
        (request(content=Content("")), policy(), "address"),
    ):
        told = explained(send, rules=rules)
        assert gates(told)[-1] == (stopped, "stop")
        assert told.gates[-1].detail
        left_out = [("viber", "no_price"), ("sms", "no_price")] if stopped == "price" else []
        assert [(step.channel, step.detail) for step in told.plan] == left_out


def test_a_step_that_nobody_has_a_price_for_or_that_is_retired_is_told_as_left_out() -> None:
    rules = msgspec.structs.replace(
        policy(), quote=lambda provider, *_: None if provider == "viber" else PRICES[provider]
    )
    sms, viber = explained(request(), rules=rules).plan
    assert (sms.channel, sms.verdict) == ("sms", "pass")
    assert (viber.channel, viber.verdict, viber.price, viber.detail) == (
        "viber",
        "skip",
        None,
        "no_price",
    )
    retired = msgspec.structs.replace(
        policy(), providers=policy().providers | {"viber": ProviderRule("viber", retired=True)}
    )
    assert [step.detail for step in explained(request(), rules=retired).plan] == [None, "retired"]


def test_a_step_that_is_skipped_and_one_that_cannot_show_what_is_asked_say_so() -> None:
    asks = (
        RouteStep(("viber",), MINUTE, 0, until="clicked", react_ms=MINUTE),
        RouteStep(("sms",), MINUTE, 0, until="seen", react_ms=MINUTE),
    )
    told = explained(request(), opt_outs={"viber": "all"}, rules=policy(steps=asks))
    viber, sms = told.plan
    assert viber.verdict == "skip"
    assert viber.detail is not None
    assert viber.detail.startswith("opted_out")
    assert (sms.verdict, sms.until) == ("pass", "delivered")
    assert sms.detail == "seen cannot be shown here: delivered counts"
    assert gates(told)[3] == ("opt_out", "pass")
    assert told.gates[3].detail == "all on viber"


def test_a_message_is_explained_by_its_record() -> None:
    rules = policy(caps=(THREE,))
    world = World(rules)
    before = explained(request(), rules=rules)
    told = explain_message(world.message, rules, world.now_ms)
    assert told.plan == before.plan
    assert gates(told) == gates(before)
    world.happen(events.Claimed(0, opt_outs={EVERY_CHANNEL: "all"}))
    stopped = explain_message(world.message, rules, world.now_ms)
    assert Gate("opt_out", "stop", "on its way: opted_out") in stopped.gates
    assert [(step.verdict, step.detail) for step in stopped.plan] == [("skip", "opted_out")] * 2


def test_a_fallback_that_a_cap_stopped_says_which_gate_it_was() -> None:
    sms = Cap("one-sms", 1, DAY, "1d", "marketing", "sms")
    world = World(policy(caps=(sms,)))
    world.person.slots.append(Slot(ANOTHER, T0, "marketing", "sms"))
    world.send()
    world.report("expired")
    told = explain_message(world.message, world.policy, world.now_ms)
    assert ("cap", "stop") in gates(told)
    assert [(step.verdict, step.detail) for step in told.plan] == [
        ("pass", None),
        ("skip", "frequency_cap: one-sms"),
    ]


def test_what_holds_the_first_step_is_told_with_its_moment() -> None:
    noon = T0 + 12 * HOUR
    rules = policy(send_window=DAYTIME)
    night = explained(request(), rules=rules)
    assert night.gates[-1] == Gate("send_window", "hold", until_ms=T0 + 9 * HOUR)
    later = explained(request(not_before_ms=noon), rules=rules)
    assert later.gates[-2:] == [
        Gate("send_window"),
        Gate("schedule", "hold", until_ms=noon),
    ]
    world = World(rules)
    assert explain_message(world.message, rules, T0).gates[-1] == night.gates[-1]
    too_late = explained(request(not_before_ms=T0 + 31 * DAY))
    assert gates(too_late) == [("route", "pass"), ("schedule", "stop")]


def declared(**said: Any) -> Policy:
    campaigns = {"autumn": Campaign(**said)}
    return msgspec.structs.replace(policy(), declared=Declared(campaigns, b"key"))


def test_the_campaign_is_asked_before_the_person_and_its_pace_last() -> None:
    paced = explained(request(), rules=declared(pace="600/m", pace_per_min=600))
    assert paced.gates[-1] == Gate("pace", "hold", "600/m")
    assert ("campaign", "pass") in gates(paced)
    paused = explained(request(), rules=declared(state="paused"))
    assert Gate("campaign", "hold", "paused") in paused.gates
    gone = explained(request(), rules=declared(state="cancelled"))
    assert gone.gates[-1] == Gate("campaign", "stop", "campaign_cancelled")
    apart = explained(request(), rules=declared(holdout=HOLDOUT_PARTS))
    assert gates(apart)[-2:] == [("campaign", "pass"), ("holdout", "stop")]
    most = request(no_room=True)
    full = explained(most, rules=declared(recipients_max=2))
    assert full.gates[-1] == Gate("campaign", "stop", "recipients_max", limit=2)


def test_a_pause_holds_what_waits_for_something_else_already() -> None:
    paced = declared(pace="60/m", pace_per_min=60)
    world = World(paced, request())
    assert world.message.held is not None
    assert world.message.held.reason == "pace"
    paused = declared(pace="60/m", pace_per_min=60, state="paused")
    told = explain_message(world.message, paused, T0)
    assert ("campaign", "hold") in gates(told)
    assert ("pace", "hold") in gates(told)
    world.happen(events.Cancelled())
    assert ("campaign", "pass") in gates(explain_message(world.message, paused, T0))


@pytest.mark.parametrize(
    ("said", "later", "gate", "reason"),
    [
        ({"state": "paused"}, {"state": "paused"}, "campaign", "paused"),
        ({"start_ms": T0 + 4 * DAY}, {"start_ms": T0 + 9 * DAY}, "schedule", "scheduled"),
        ({"pace": "6/m", "pace_per_min": 6}, {}, "pace", "pace"),
        ({"send_window": "daytime"}, {}, "send_window", "send_window"),
        ({"end_ms": T0 + MINUTE}, {"end_ms": T0 + MINUTE}, "campaign", "campaign_ended"),
    ],
)
def test_what_ended_a_message_that_was_held_is_the_gate_that_stopped_it(
    said: dict[str, Any], later: dict[str, Any], gate: GateName, reason: str
) -> None:
    windows = {"send_windows": {"daytime": DAYTIME}}
    world = World(msgspec.structs.replace(declared(**said), **windows))
    world.policy = msgspec.structs.replace(declared(**said | later), **windows)
    world.now_ms = world.message.expires_ms
    world.happen(events.TimerDue() if world.message.held else events.Claimed(0))
    assert world.message.reason == reason
    told = explain_message(world.message, world.policy, world.now_ms)
    assert [g for g in told.gates if g.verdict != "pass"] == [
        Gate(gate, "stop", f"on its way: {reason}")
    ]


def test_a_message_of_a_cancelled_campaign_was_stopped_there_and_one_taken_back_nowhere() -> None:
    noon = T0 + 12 * HOUR
    for rules in (declared(), declared(start_ms=noon)):
        world = World(rules)
        world.happen(events.Cancelled(reason=CANCELLED))
        told = explain_message(world.message, declared(state="cancelled"), T0)
        assert ("campaign", "stop") in gates(told)
    world = World(send=request(not_before_ms=noon))
    world.happen(events.Cancelled())
    assert {gate.verdict for gate in explain_message(world.message, world.policy, T0).gates} == {
        "pass"
    }


def test_a_person_who_has_not_said_yes_is_stopped_at_consent() -> None:
    rules = msgspec.structs.replace(policy(), consent=frozenset({"marketing"}))
    lacks: OptOuts = {EVERY_CHANNEL: "all"}
    told = explained(request(lacks_consent=lacks), opt_outs=lacks, rules=rules)
    assert told.gates[-1] == Gate("consent", "stop", "none for every channel")
    some: OptOuts = {"viber": "all"}
    told = explained(request(lacks_consent=some), opt_outs=some, rules=rules)
    assert Gate("consent", detail="none for viber") in told.gates
    assert gates(told)[3:5] == [("opt_out", "pass"), ("consent", "pass")]


def test_the_providers_of_a_step_are_told() -> None:
    steps = (RouteStep(("viber-2", "viber", "fax"), DAY, 0), RouteStep(("sms",), DAY, 0))
    (first, second) = explained(request(), rules=policy(steps=steps)).plan
    assert (first.provider, first.price) == ("viber-2", 11_000), "the price is that of the first"
    assert first.detail == "else by viber", "one without a price is left out"
    assert second.detail is None
    world = World(policy(steps=steps))
    world.happen(events.Claimed(0, away=frozenset(["viber-2"])))
    (first, _) = explain_message(world.message, world.policy, world.now_ms).plan
    assert (first.provider, first.price) == ("viber", 11_000), "whoever has it"
    assert first.detail == "else by viber-2"


def test_what_stopped_a_message_stands_in_its_place_though_nobody_asks_it_any_more() -> None:
    """A start that is taken away from a campaign that goes on at its pace."""
    world = World(declared(start_ms=T0 + DAY, pace="6/m", pace_per_min=6))
    message, world.policy = world.message, declared(pace="6/m", pace_per_min=6)
    message.held, message.finished = None, True
    message.status, message.reason = MessageStatus.EXPIRED, "scheduled"
    told = explain_message(message, world.policy, T0)
    assert gates(told)[-2:] == [("schedule", "stop"), ("pace", "pass")]
