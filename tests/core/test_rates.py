"""How often a person reacts on a channel, and the order of a route by that."""

from __future__ import annotations

from fractions import Fraction
from itertools import pairwise
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import replace

from gateway.core import events as ev
from gateway.core.addresses import Addresses
from gateway.core.explain import explain_message
from gateway.core.links.urls import LinkRules
from gateway.core.money.prices import Price
from gateway.core.people import reach
from gateway.core.people.rates import (
    HALF_LIFE_S,
    KNOWN_EXPOSURES,
    MILLION,
    NO_RATES,
    THOUSAND,
    AppRates,
    Counted,
    Tally,
    counted_of,
    prior_of,
    rate_of,
)
from gateway.core.plan import Known, Plan, plan
from gateway.core.policy import Policy, ProviderRule, ReachRule, RouteStep
from gateway.core.records.content import Content
from gateway.core.records.person import ChannelMemory, Person, pack_person
from providers.contract import FcmAddress
from tests.worlds.cascade_world import DAY, MINUTE, T0, World, policy, request

ANNA = Addresses("79161234567", push=(FcmAddress("token"),))
HALF_LIFE = HALF_LIFE_S * 1000
COSTS = {"viber": 5_000, "app": 1_000, "sms": 40_000}
PRIOR = {"viber": 60_000, "push": 30_000, "sms": 40_000}


def rules(by: Any = "cost", **reach_rule: Any) -> Policy:
    """A route of three channels, put in order for each person."""
    base = policy()
    steps = (
        RouteStep(("viber",), 15 * MINUTE, 1_000, until="seen", react_ms=7),
        RouteStep(("app",), 20 * MINUTE, 2_000, until="clicked", react_ms=8),
        RouteStep(("sms",), 25 * MINUTE, 3_000),
    )
    return replace(
        base,
        routes=base.routes | {"best": steps},
        providers=base.providers | {"app": ProviderRule("push")},
        quote=lambda provider, *_: Price(COSTS[provider], COSTS[provider], "EUR"),
        reach=ReachRule(**{"prior": PRIOR, "metric": "any"} | reach_rule),
        best={"best": by},
    )


def person(**counted: tuple[float, float]) -> Person:
    """Whose exposures and reactions on each channel are these now."""
    return Person(
        channels={
            channel: ChannelMemory(
                exposures=round(exposures * THOUSAND),
                reactions=round(reactions * THOUSAND),
                counted_s=T0 // 1000,
                keep_d=99_999,
            )
            for channel, (exposures, reactions) in counted.items()
        }
    )


def order(who: Person, by: Any = "cost", rates: AppRates = NO_RATES, **changes: Any) -> Plan:
    asked = request(addresses=ANNA, route="best", **changes)
    way = plan(asked, [who], rules(by), T0, known=Known(rates))
    assert isinstance(way, Plan)
    return way


def channels(way: Plan) -> list[str]:
    return [step.channel for step in way.steps]


def test_the_cheapest_reaction_comes_first() -> None:
    """0.04 / 0.6 against 0.005 / 0.03 and 0.001 / 0.0056: a dear one pays where they react."""
    who = person(viber=(8, 0), push=(35, 0), sms=(12, 12))
    way = order(who)
    assert [(s.channel, s.rate) for s in way.steps] == [
        ("sms", 616_000),
        ("viber", 30_000),
        ("push", 5_581),
    ]
    assert channels(order(who, "rate")) == ["sms", "viber", "push"]


def test_what_decided_the_order_is_told() -> None:
    who = person(viber=(8, 0), push=(35, 0), sms=(12, 12))
    world = World(rules(), request(addresses=ANNA, route="best"), person=who)
    told = explain_message(world.message, world.policy, T0).plan
    assert [step.detail for step in told] == [
        "reacts to 0.6160 of deliveries: 0.064935 a reaction",
        "reacts to 0.0300 of deliveries: 0.166666 a reaction",
        "reacts to 0.0056 of deliveries: 0.179179 a reaction",
    ]


def test_until_and_react_belong_to_the_place_and_the_rest_goes_along() -> None:
    way = order(person(viber=(30, 0), sms=(30, 30), push=(30, 0)), "rate")
    assert channels(way) == ["sms", "viber", "push"]
    # SMS shows no more than its delivery; Viber no click, so that seen is awaited.
    assert [(s.until, s.react_ms) for s in way.steps] == [
        ("delivered", 0),
        ("seen", 8),
        ("delivered", 0),
    ]
    assert [(s.wait_ms, s.grace_ms) for s in way.steps] == [
        (25 * MINUTE, 3_000),
        (15 * MINUTE, 1_000),
        (20 * MINUTE, 2_000),
    ]


def test_a_link_shows_a_click_on_whatever_channel_comes_first() -> None:
    links = LinkRules("https://k.example/l")
    asked = request(
        addresses=ANNA, route="best", content=Content("See https://shop.example"), tracked=True
    )
    rates = {"viber": (30, 30), "sms": (30, 20), "push": (30, 0)}
    way = plan(asked, [person(**rates)], replace(rules("rate"), links=links), T0)
    assert isinstance(way, Plan)
    assert [(s.channel, s.until, s.react_ms) for s in way.steps] == [
        ("viber", "seen", 7),
        ("sms", "clicked", 8),
        ("push", "delivered", 0),
    ]


@pytest.mark.parametrize(
    ("who", "held"),
    [
        (Person(), True),
        (person(sms=(50, 50)), True),
        (person(sms=(50, 50), viber=(2.999, 0)), True),
        (person(sms=(50, 50), viber=(3, 0)), False),
    ],
)
def test_the_written_order_holds_until_two_channels_are_known(who: Person, held: bool) -> None:
    way = order(who, "rate")
    assert (channels(way) == ["viber", "push", "sms"]) == held
    assert all(step.rate == 0 for step in way.steps) == held


def test_a_channel_is_known_whether_its_step_can_run_or_not() -> None:
    asked = request(addresses=ANNA, route="best")
    who = person(viber=(9, 0), sms=(9, 9))
    way = plan(asked, [who], rules("rate"), T0, opt_outs={"viber": "all"})
    assert isinstance(way, Plan)
    assert channels(way) == ["viber", "sms", "push"]
    assert way.first == 1


def test_ties_are_as_written_and_who_never_reacts_comes_last() -> None:
    even = rules("rate", prior={"viber": 50_000, "push": 50_000, "sms": 0})
    who = person(viber=(4, 1), push=(4, 1), sms=(4, 0))
    way = plan(request(addresses=ANNA, route="best"), [who], even, T0)
    assert isinstance(way, Plan)
    assert channels(way) == ["viber", "push", "sms"]


def test_a_step_that_cannot_run_keeps_its_place() -> None:
    who = person(viber=(9, 0), push=(9, 0), sms=(9, 9))
    way = plan(request(route="best"), [who], rules("rate"), T0)
    assert isinstance(way, Plan)
    assert channels(way) == ["sms", "push", "viber"]
    assert way.steps[1].fault is not None


def test_who_is_not_reached_there_is_skipped_whatever_it_would_cost() -> None:
    who = person(viber=(9, 0), push=(9, 0), sms=(9, 9))
    reach.learn(who, "sms", ANNA, rules(), reached=False, at_ms=T0)
    way = order(who, "rate")
    assert channels(way)[0] == "sms"
    assert way.first == 1


COUNTS = st.floats(0, 200).flatmap(lambda n: st.tuples(st.just(n), st.floats(0, n)))


@given(COUNTS, st.integers(0, MILLION))
def test_a_rate_is_the_mean_of_a_beta_whose_prior_is_worth_eight(
    counted: tuple[float, float], prior: int
) -> None:
    one = Counted(round(counted[0] * THOUSAND), round(counted[1] * THOUSAND))
    exact = (Fraction(one.reactions, THOUSAND) + 8 * Fraction(prior, MILLION)) / (
        Fraction(one.exposures, THOUSAND) + 8
    )
    rate = rate_of(one, prior)
    assert rate.rate == min(int(exact * MILLION), MILLION)
    low, high = rate.bounds
    assert 0 <= low <= rate.rate <= high <= MILLION


@given(
    st.fixed_dictionaries(dict.fromkeys(("viber", "push", "sms"), COUNTS)),
    st.sampled_from(["cost", "rate"]),
    st.integers(0, 400 * DAY),
)
def test_the_order_is_that_of_the_formula_and_the_same_each_time(
    counted: dict[str, tuple[float, float]], by: str, later_ms: int
) -> None:
    who, now_ms = person(**counted), T0 + later_ms
    way = plan(request(addresses=ANNA, route="best"), [who], rules(by), now_ms)
    again = plan(request(addresses=ANNA, route="best"), [who], rules(by), now_ms)
    assert isinstance(way, Plan)
    assert way == again
    known = {c: counted_of([who], c, now_ms) for c in counted}
    enough = [c for c in known.values() if c.exposures >= KNOWN_EXPOSURES * THOUSAND]
    written = ["viber", "push", "sms"]
    if len(enough) < 2:
        assert channels(way) == written
        return
    costs = {"viber": COSTS["viber"], "push": COSTS["app"], "sms": COSTS["sms"]}
    rate = {c: rate_of(known[c], PRIOR[c]).rate for c in written}
    key = {c: Fraction(costs[c], rate[c]) if by == "cost" else Fraction(-rate[c]) for c in written}
    places = [key[c] for c in channels(way)]
    assert all(a <= b + Fraction(1, THOUSAND) for a, b in pairwise(places))


def test_what_is_counted_fades_by_half_in_ninety_days() -> None:
    who = person(viber=(8, 4))
    assert counted_of([who], "viber", T0 + HALF_LIFE) == Counted(4_000, 2_000)
    assert counted_of([who], "sms", T0) == Counted()
    assert counted_of([who], "viber", T0 - DAY) == Counted(8_000, 4_000), "a clock that was ahead"


@given(st.lists(st.tuples(st.integers(0, 300 * DAY), st.booleans()), max_size=9), st.randoms())
def test_deliveries_and_reactions_count_the_same_in_any_order(
    happened: list[tuple[int, bool]], shuffle: Any
) -> None:
    now_ms = T0 + 300 * DAY
    found = []
    for _ in range(2):
        who = Person()
        for at_ms, is_reaction in happened:
            if is_reaction:
                reach.reacted(who, "viber", "seen", T0 + at_ms, counts=True)
            else:
                reach.arrived(who, "viber", ANNA, rules(), T0 + at_ms)
        found.append(counted_of([who], "viber", now_ms))
        shuffle.shuffle(happened)
    exact = sum(THOUSAND * 0.5 ** ((300 * DAY - at) / HALF_LIFE) for at, r in happened if not r)
    for one in found:
        assert abs(one.exposures - exact) <= len(happened) + 1
    assert abs(found[0].reactions - found[1].reactions) <= len(happened) + 1


def test_the_prior_is_the_apps_own_once_it_has_a_hundred_deliveries_there() -> None:
    few = {("shop", "viber"): Counted(99_999, 50_000)}
    many = {("shop", "viber"): Counted(100_000, 25_000)}
    assert prior_of("shop", "viber", rules(), few) == PRIOR["viber"]
    assert prior_of("shop", "viber", rules(), many) == 250_000
    assert prior_of("bank", "viber", rules(), many) == PRIOR["viber"]


def test_what_is_remembered_of_a_channel_takes_forty_bytes() -> None:
    who = Person()
    for day in range(40):
        reach.arrived(who, "viber", ANNA, rules(), T0 + day * DAY)
        reach.reacted(who, "viber", "seen", T0 + day * DAY, counts=True)
    assert len(pack_person(who)) - len(pack_person(Person())) <= 40


def test_a_delivery_counts_where_a_route_needs_it_and_nowhere_else() -> None:
    world = World(rules(), request(addresses=ANNA, route="viber-only"))
    world.send()
    effects = world.report("delivered")
    assert effects.tallies == [Tally("shop", "viber", "exposures")]
    assert world.report("delivered").tallies == []
    assert world.report("seen").tallies == [Tally("shop", "viber", "reactions")]
    memory = world.person.channels["viber"]
    assert (memory.exposures, memory.reactions, memory.reached) == (1_000, 1_000, True)
    plain = World(policy(), request(addresses=ANNA, route="viber-only"))
    plain.send()
    assert plain.report("seen").tallies == []
    assert plain.person.channels == {}


def test_a_delivery_of_a_code_counts_as_well_and_only_what_the_metric_says() -> None:
    code = request(addresses=ANNA, route="viber-only", category="otp", campaign=None)
    world = World(rules(metric="clicked"), code)
    world.send()
    world.report("delivered")
    world.report("seen")
    memory = world.person.channels["viber"]
    assert (memory.exposures, memory.reactions) == (1_000, 0)
    assert world.happen(ev.Cancelled()).tallies == []


def test_what_the_person_did_counts_however_it_is_learned_and_once_a_step() -> None:
    code = request(addresses=ANNA, route="viber-only", category="otp", campaign=None)
    world = World(rules(metric="clicked"), code)
    world.send()
    world.report("delivered")
    for kind in ("seen", "replied", "clicked", "clicked"):
        world.happen(ev.Reacted(0, kind, T0))
    memory = world.person.channels["viber"]
    assert (memory.exposures, memory.reactions) == (1_000, 1_000)
    assert (memory.seen, memory.acted, memory.deliveries) == (True, True, 1)
