"""Where a person is reached: what is learned, how long it holds, and which steps are skipped."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import replace

from gateway.core import events as ev
from gateway.core.addresses import Addresses
from gateway.core.people import reach
from gateway.core.people.identities import enlist
from gateway.core.people.rates import NO_RATES, Counted
from gateway.core.plan import Plan, plan
from gateway.core.policy import PLANNED_LATELY_MS, Policy, ProviderRule, RouteStep
from gateway.core.records.message import StepStatus
from gateway.core.records.person import ChannelMemory, Person, pack_person, unpack_person
from providers.contract import Fault, FcmAddress
from ratelimit.caps import Cap, Slot
from tests.worlds.cascade_world import DAY, MINUTE, PRICES, T0, World, policy, request
from tests.worlds.push_examples import browser

PHONES = (Addresses("79161234567"), Addresses("79160000002"))
ANNA = Addresses("79161234567", push=(FcmAddress("token"),))
NOBODY = Fault("7002", "EC_UNKNOWN_USER", True)
RULES = policy()
FORGET = RULES.reach.forget_ms


def three(**changes: Any) -> Policy:
    """A route of three steps, each on a channel of its own."""
    base = policy(**changes)
    steps = tuple(RouteStep((name,), 15 * MINUTE, 0) for name in ("viber", "app", "sms"))
    return replace(
        base,
        routes=base.routes | {"three": steps},
        providers=base.providers | {"app": ProviderRule("push")},
        quote=lambda provider, *_: PRICES.get(provider, PRICES["sms"]),
    )


def learn(person: Person, channel: str, *, reached: bool = False, at_ms: int = T0) -> bool:
    return reach.learn(person, channel, ANNA, RULES, reached=reached, at_ms=at_ms)


def knowing(*channels: str, at_ms: int = T0) -> Person:
    person = Person()
    for channel in channels:
        assert learn(person, channel, at_ms=at_ms)
    return person


def told(way: Plan) -> list[tuple[str, str | None]]:
    return [(s.channel, s.fault.code if s.fault is not None else None) for s in way.steps]


def planned(person: Person, now_ms: int = T0, rules: Policy | None = None) -> Plan:
    way = plan(request(addresses=ANNA, route="three"), [person], rules or three(), now_ms)
    assert isinstance(way, Plan)
    return way


def test_who_has_no_viber_gets_the_next_step_at_once() -> None:
    way = planned(knowing("viber"))
    assert told(way) == [("viber", "not_reachable"), ("push", None), ("sms", None)]
    assert way.first == 1
    assert not any(step.doubted for step in way.steps)


@given(st.sets(st.sampled_from(["viber", "push", "sms"])))
def test_every_step_but_the_last_is_skipped_where_nobody_is_reached(nowhere: set[str]) -> None:
    way = planned(knowing(*nowhere))
    assert told(way) == [
        ("viber", "not_reachable" if "viber" in nowhere else None),
        ("push", "not_reachable" if "push" in nowhere else None),
        ("sms", None),
    ]
    assert [s.channel for s in way.steps if s.doubted] == [c for c in nowhere if c == "sms"]


def test_the_last_step_that_could_run_is_the_last_with_address_and_room() -> None:
    person = knowing("viber")
    full = three(
        caps=(Cap("sms", 1, DAY, "1d", None, "sms"), Cap("app", 1, DAY, "1d", None, "push"))
    )
    person.slots = [Slot("a", T0, "marketing", "sms"), Slot("b", T0, "marketing", "push")]
    way = planned(person, rules=full)
    assert told(way)[0] == ("viber", None)
    assert way.steps[0].doubted
    only = plan(request(to="79161234567", route="viber-only"), [knowing("viber")], RULES, T0)
    assert isinstance(only, Plan)
    assert told(only) == [("viber", None)]


def test_it_is_forgotten_after_its_time_and_holds_for_its_address_alone() -> None:
    person = knowing("viber")
    assert told(planned(person, T0 + FORGET - 1))[0] == ("viber", "not_reachable")
    assert told(planned(person, T0 + FORGET))[0] == ("viber", None)
    assert reach.is_unreachable([person], "viber", PHONES[0], RULES, T0)
    assert not reach.is_unreachable([person], "viber", PHONES[1], RULES, T0)
    reach.prune(person, T0 + FORGET + DAY)
    assert person == Person()


def test_a_record_of_it_lasts_as_long_as_it_holds_and_comes_back_as_it_was() -> None:
    person = knowing("viber", "push")
    assert T0 + FORGET <= person.until_ms <= T0 + FORGET + DAY
    assert unpack_person(pack_person(person)) == person
    assert len(pack_person(person)) - len(pack_person(Person())) <= 2 * 40


def test_only_what_changes_something_is_noted() -> None:
    person = Person()
    assert not learn(person, "viber", reached=True), "who is not known not to be reached is reached"
    assert learn(person, "viber")
    assert not learn(person, "viber", at_ms=T0 + MINUTE)
    assert learn(person, "viber", at_ms=T0 + DAY), "a day later it holds longer"
    assert not learn(person, "viber", reached=True, at_ms=T0), "it was learned later"
    assert learn(person, "viber", reached=True, at_ms=T0 + DAY)
    assert not reach.is_unreachable([person], "viber", ANNA, RULES, T0 + DAY)
    assert not learn(person, "viber", reached=True, at_ms=T0 + 2 * DAY)
    nobody = reach.learn(person, "email", ANNA, RULES, reached=False, at_ms=T0)
    assert not nobody, "there is no such address"


LEARNED = st.lists(
    st.tuples(st.sampled_from(PHONES), st.booleans(), st.integers(0, 50 * DAY)), max_size=12
)


@given(LEARNED, st.integers(0, 50 * DAY))
def test_nobody_counts_as_not_reached_without_a_refusal_that_stands(
    learned: list[tuple[Addresses, bool, int]], later_ms: int
) -> None:
    person = Person()
    learned.sort(key=lambda one: one[2])
    for addresses, reached, at_ms in learned:
        reach.learn(person, "viber", addresses, RULES, reached=reached, at_ms=T0 + at_ms)
    now_ms = T0 + max([at_ms for _, _, at_ms in learned], default=0) + later_ms
    for phone in PHONES:
        if not reach.is_unreachable([person], "viber", phone, RULES, now_ms):
            continue
        refused = [T0 + at for to, reached, at in learned if to == phone and not reached]
        arrived = [T0 + at for to, reached, at in learned if to == phone and reached]
        assert now_ms < max(refused) + FORGET
        assert not arrived or max(arrived) <= max(refused)


RECORDS = st.lists(LEARNED, min_size=1, max_size=4)


@given(RECORDS, st.randoms(use_true_random=False))
def test_records_of_one_person_are_put_together_in_any_order_and_once(
    several: list[list[tuple[Addresses, bool, int]]], order: Any
) -> None:
    people = []
    for learned in several:
        people.append(Person())
        for addresses, reached, at_ms in learned:
            reach.learn(people[-1], "viber", addresses, RULES, reached=reached, at_ms=T0 + at_ms)
    one, other = Person(), Person()
    reach.take_over(one, people)
    assert not reach.take_over(one, people)
    order.shuffle(people)
    reach.take_over(other, people)
    known = [p.channels["viber"].known_s for p in (one, other) if p.channels]
    assert len(set(known)) <= 1
    assert one.channels.keys() == other.channels.keys()
    for phone in PHONES:
        if len({p.channels["viber"].known_s for p in people if p.channels}) == len(people):
            alone = reach.is_unreachable([one], "viber", phone, RULES, T0 + 50 * DAY)
            assert alone == reach.is_unreachable(people, "viber", phone, RULES, T0 + 50 * DAY)


def test_a_person_that_gives_way_to_another_takes_what_is_known_along() -> None:
    home, alias = Person(), replace(knowing("viber"), home="p:79160000001", linked_ms=T0)
    assert enlist(home, "p:79160000001", {"p:79161234567": alias}, [], T0)
    assert reach.is_unreachable([home], "viber", ANNA, RULES, T0)
    assert not enlist(home, "p:79160000001", {"p:79161234567": alias}, [], T0)


def sending(person: Person | None = None, **changes: Any) -> World:
    """A code by the route of three steps, of which nothing is held for the person."""
    fields: dict[str, Any] = {
        "addresses": ANNA,
        "route": "three",
        "category": "otp",
        "campaign": None,
    }
    world = World(three(), request(**(fields | changes)))
    world.person = person or world.person
    return world


def test_a_refusal_of_the_address_is_remembered_for_a_message_that_holds_nothing() -> None:
    world = sending()
    world.happen(ev.Claimed(0))
    effects = world.happen(ev.StepRefused(0, NOBODY, unreachable=True))
    assert effects.people_changed
    assert reach.is_unreachable([world.person], "viber", ANNA, RULES, world.now_ms)
    world = sending()
    world.send()
    world.report("undelivered", fault=NOBODY, unreachable=True)
    assert reach.is_unreachable([world.person], "viber", ANNA, RULES, world.now_ms)


def test_a_failure_that_says_nothing_of_the_address_is_not() -> None:
    world = sending()
    world.happen(ev.Claimed(0))
    world.happen(ev.StepRefused(0, NOBODY))
    assert not world.person.channels


def test_a_step_that_is_next_is_passed_over_where_nobody_is_reached() -> None:
    world = sending(knowing("push"))
    world.happen(ev.Claimed(0))
    effects = world.happen(ev.StepRefused(0, NOBODY))
    assert world.statuses() == ["rejected", "skipped", "queued"]
    assert effects.fallback is not None
    assert (effects.fallback.channel, effects.fallback.to) == ("viber", "sms")
    assert world.message.steps[1].fault == reach.NOT_REACHABLE
    assert world.message.steps[1].attempts == []


def test_what_waited_long_for_its_turn_is_asked_again_when_it_is_claimed() -> None:
    world = sending(knowing("viber"), category="transactional")
    world.now_ms += PLANNED_LATELY_MS - 1
    assert world.happen(ev.Claimed(0)).submit, "it was planned lately"
    world = sending(knowing("viber"), category="transactional")
    world.now_ms += PLANNED_LATELY_MS
    assert not world.happen(ev.Claimed(0)).submit
    assert world.statuses() == ["skipped", "queued", "planned"]
    assert world.lane == ("app", "transactional")


def test_the_last_step_that_is_wanted_is_tried_whether_the_person_is_reached_there_or_not() -> None:
    world = sending(knowing("viber"), category="transactional")
    world.now_ms += PLANNED_LATELY_MS
    assert world.happen(ev.Claimed(0, opt_outs={"push": "all", "sms": "all"})).submit
    assert world.message.steps[0].doubted
    assert world.statuses() == ["sending", "planned", "planned"]
    world = sending(knowing("viber"), category="transactional")
    world.now_ms += PLANNED_LATELY_MS
    assert not world.happen(ev.Claimed(0, opt_outs={"push": "all"})).submit
    assert world.statuses() == ["skipped", "queued", "planned"]


def test_the_last_step_that_is_wanted_waits_for_its_provider() -> None:
    world = World(policy(when_away="skip"), request(category="otp", campaign=None))
    world.happen(ev.Claimed(0, opt_outs={"sms": "all"}, away=frozenset(["viber"])))
    assert world.statuses() == ["retrying", "planned"]


def test_a_delivery_where_nobody_was_reached_before_ends_it_at_no_other_cost() -> None:
    world = World(RULES, request(route="viber-only", category="otp", campaign=None))
    world.send()
    assert not world.report("delivered").people_changed
    code = request(route="viber-only", category="otp", campaign=None)
    unheard = World(RULES, code, person=knowing("viber"))
    unheard.send()
    effects = unheard.report("delivered")
    assert effects.people_changed
    assert not reach.is_unreachable([unheard.person], "viber", PHONES[0], RULES, T0)


def test_a_campaign_of_two_steps_goes_on_where_the_person_is_reached() -> None:
    world = World(RULES, request(campaign="spring"))
    assert world.lane == ("viber", "marketing")
    world.send()
    world.report("undelivered", fault=NOBODY, unreachable=True)
    assert world.statuses() == ["undelivered", "queued"]
    again = plan(request(campaign="summer"), [world.person], RULES, world.now_ms)
    assert isinstance(again, Plan)
    assert [step.status for step in again.steps] == [StepStatus.SKIPPED, StepStatus.PLANNED]


def test_what_is_known_of_a_person_is_told_for_each_channel() -> None:
    person = knowing("viber")
    reach.reacted(person, "push", "clicked", T0, counts=True)
    known = reach.states([person], ANNA, "shop", RULES, NO_RATES, T0)
    assert list(known) == ["viber", "sms", "push"], "of which there is an address"
    viber, sms, push = known.values()
    assert (viber.reachable, viber.reachable_ms) == (False, T0)
    assert (sms.reachable, sms.reachable_ms) == (None, None)
    assert (sms.rate.counted, sms.rate.rate, push.rate.counted.reactions) == (
        Counted(),
        40_000,
        1_000,
    )
    moved = reach.states([person], PHONES[1], "shop", RULES, NO_RATES, T0)
    assert moved["viber"].reachable is None, "nothing is known of the new number"
    later = reach.states([person], ANNA, "shop", RULES, NO_RATES, T0 + FORGET)
    assert later["viber"].reachable is None
    learn(person, "viber", reached=True, at_ms=T0 + DAY)
    assert reach.states([person], ANNA, "shop", RULES, NO_RATES, T0 + DAY)["viber"].reachable


def hiding(**changes: Any) -> Person:
    """Who had ten deliveries on a channel, saw none and clicked once."""
    fields = {"deliveries": 10, "acted": True, "keep_d": 99_999} | changes
    return Person(channels={"viber": ChannelMemory(**fields)})


def until_seen(hidden_seen: Any = "delivered") -> Policy:
    seen = RouteStep(("viber",), 15 * MINUTE, 0, until="seen", react_ms=60 * MINUTE)
    rules = policy(steps=(seen, RouteStep(("sms",), 15 * MINUTE, 0)))
    return replace(rules, reach=replace(rules.reach, hidden_seen=hidden_seen))


@pytest.mark.parametrize(
    ("person", "hides"),
    [
        (hiding(), True),
        (hiding(deliveries=9), False),
        (hiding(acted=False), False),
        (hiding(seen=True), False),
        (Person(), False),
    ],
)
def test_who_saw_none_of_ten_and_yet_clicked_hides_what_is_seen(
    person: Person, hides: bool
) -> None:
    assert reach.hides_seen([person, Person()], "viber") == hides
    world = World(until_seen(), person=person)
    assert (world.message.steps[0].until == "delivered") == hides
    world.send()
    world.report("delivered")
    assert world.message.finished == hides
    if hides:
        fault = world.message.steps[1].fault
        assert fault is not None
        assert (world.statuses(), fault.code) == (["delivered", "skipped"], "hidden_seen")


def test_with_fallback_nothing_is_special_and_nothing_is_counted() -> None:
    world = World(until_seen("fallback"), person=hiding())
    assert world.message.steps[0].until == "seen"
    world.send()
    assert not world.report("delivered").tallies
    assert world.person.channels == hiding().channels


def test_ten_deliveries_and_a_click_are_learned_from_what_happens() -> None:
    rules, person = until_seen(), Person()
    for day in range(10):
        assert not reach.hides_seen([person], "viber")
        reach.arrived(person, "viber", ANNA, rules, T0 + day * DAY)
    reach.reacted(person, "viber", "clicked", T0 + 9 * DAY, counts=True)
    assert reach.hides_seen([person], "viber")
    merged = Person()
    reach.take_over(merged, [person])
    assert reach.hides_seen([merged], "viber")
    reach.reacted(person, "viber", "seen", T0 + 10 * DAY, counts=False)
    assert not reach.hides_seen([person], "viber")


BOTH = Addresses("79161234567", push=(FcmAddress("token"), browser(1)))
GONE = Fault("UNREGISTERED", "UNREGISTERED", True)


def notifying(*names: str) -> World:
    """A message that goes as a notification by one of these, then as SMS."""
    steps = (RouteStep(names, 15 * MINUTE, 0), RouteStep(("sms",), 15 * MINUTE, 0))
    base = policy()
    kinds = {
        "tokens": ProviderRule("push", devices="fcm"),
        "browsers": ProviderRule("push", devices="webpush"),
    }
    rules = replace(
        base,
        routes=base.routes | {"notify": steps},
        providers=base.providers | kinds,
        quote=lambda provider, *_: PRICES.get(provider, PRICES["sms"]),
    )
    return World(rules, request(addresses=BOTH, route="notify"))


def refuse(world: World, fault: Fault = GONE, *, away: tuple[str, ...] = ()) -> None:
    step = world.message.current
    assert world.happen(ev.Claimed(step)).submit
    gone = fault is GONE
    world.happen(ev.StepRefused(step, fault, unreachable=gone, away=frozenset(away)))


def test_where_devices_of_one_kind_are_gone_the_provider_of_the_other_kind_is_next() -> None:
    world = notifying("tokens", "browsers")
    step, first = world.message.steps[0], world.message.steps[0].candidate.provider
    refuse(world)
    assert (world.message.current, world.statuses()[0]) == (0, "queued")
    assert {first, step.candidate.provider} == {"tokens", "browsers"}
    assert "push" not in world.person.channels
    world.send()
    world.happen(ev.Accepted(0, delivered=True))
    assert world.statuses() == ["delivered", "skipped"]


def test_where_one_kind_is_refused_for_good_the_other_is_tried_before_the_next_channel() -> None:
    """As a browser whose service is not in `hosts`, and a text too long for one of them. That says
    nothing of the person, also where the devices of the other kind are gone."""
    world = notifying("tokens", "browsers")
    first = world.message.steps[0].candidate.provider
    refuse(world, Fault("host_refused", "host_refused", True))
    assert (world.message.current, world.statuses()[0]) == (0, "queued")
    assert {first, world.message.steps[0].candidate.provider} == {"tokens", "browsers"}
    refuse(world)
    assert (world.message.current, world.statuses()[0]) == (1, "rejected")
    assert "push" not in world.person.channels


def test_who_has_no_device_left_of_any_kind_is_not_reached() -> None:
    world = notifying("tokens", "browsers")
    refuse(world)
    refuse(world)
    assert (world.message.current, world.statuses()[0]) == (1, "rejected")
    assert not world.person.channels["push"].reached


def test_one_that_is_asked_for_the_other_kind_never_hands_back_to_the_one_that_is_gone() -> None:
    world = notifying("tokens", "browsers")
    refuse(world)
    asked = world.message.steps[0].candidate.provider
    refuse(world, Fault("http_503", "http_503", False))
    assert (world.message.steps[0].candidate.provider, world.statuses()[0]) == (asked, "retrying")
    assert "push" not in world.person.channels


@pytest.mark.parametrize(("names", "away"), [(("tokens",), ()), (("tokens", "browsers"), None)])
def test_a_device_of_another_kind_keeps_its_person_reachable_where_nobody_asks_for_it(
    names: tuple[str, ...], away: tuple[str, ...] | None
) -> None:
    world = notifying(*names)
    refuse(world, away=("tokens", "browsers") if away is None else away)
    assert (world.message.current, world.statuses()[0]) == (1, "rejected")
    assert "push" not in world.person.channels
