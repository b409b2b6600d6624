"""How long a step waits where that is learned from what its provider's deliveries took."""

from __future__ import annotations

from collections import Counter
from typing import Any

from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import replace

from gateway.core import events as ev
from gateway.core import timing
from gateway.core.explain import explain_message
from gateway.core.plan import Known, Plan, plan
from gateway.core.policy import LearnedWait, Policy, RouteStep
from gateway.core.waits import (
    BIN_LAST,
    DELIVERIES_MIN,
    RECENT_MIN,
    Delay,
    Learned,
    bound_ms,
    learn,
    wait_of,
)
from tests.worlds.cascade_world import MINUTE, T0, World, policy, request

RULE = LearnedWait(min_ms=30_000, max_ms=15 * MINUTE)
NONE: Counter[int] = Counter()


def binned(*took_ms: int) -> Counter[int]:
    return Counter(Delay("viber", "RU", ms).bin for ms in took_ms)


@given(st.integers(0, 10**9))
def test_a_delay_is_in_the_lowest_bin_that_holds_it(ms: int) -> None:
    bin_ = Delay("viber", "RU", ms).bin
    assert ms <= bound_ms(bin_) or bin_ == BIN_LAST
    assert bin_ == 0 or bound_ms(bin_ - 1) < ms + 1_000


BINS = st.dictionaries(st.integers(0, BIN_LAST), st.integers(1, 5_000), max_size=8).map(Counter)


@given(st.lists(BINS, min_size=1, max_size=4))
def test_of_a_hundred_deliveries_ninety_nine_had_come(days: list[Counter[int]]) -> None:
    wait_ms = learn(days, [])
    deliveries = sum(sum(day.values()) for day in days)
    if deliveries < DELIVERIES_MIN:
        assert wait_ms is None
        return
    assert wait_ms is not None
    weight: Counter[int] = Counter()
    for age, day in enumerate(days):
        for bin_, count in day.items():
            weight[bound_ms(bin_)] += count * 2 ** (len(days) - age)
    whole = sum(weight.values())
    assert 100 * sum(w for ms, w in weight.items() if ms <= wait_ms) >= 99 * whole
    assert 100 * sum(w for ms, w in weight.items() if ms < wait_ms) < 99 * whole


def test_a_few_deliveries_teach_nothing() -> None:
    assert learn([binned(*[2_000] * (DELIVERIES_MIN - 1))], []) is None
    assert learn([NONE, binned(*[2_000] * DELIVERIES_MIN)], []) == 2_000


def test_a_provider_that_slows_down_is_noticed_within_a_quarter_of_an_hour() -> None:
    quick = [binned(*[4_000] * 100_000)] * 3
    slow = binned(*[4 * MINUTE] * RECENT_MIN)
    assert learn([quick[0] + slow, *quick], [slow - binned(4 * MINUTE)]) == 4_000
    told = learn([quick[0] + slow, *quick], [slow])
    assert told is not None
    assert 4 * MINUTE <= told <= 5 * MINUTE
    assert learn([quick[0] + slow, *quick], [NONE, NONE]) == 4_000, "and that it is over"


def test_a_wait_keeps_within_its_bounds_and_is_the_longest_where_nothing_is_learned() -> None:
    learned: Learned = {("viber", "RU"): 2_000, ("viber", "KZ"): 60_000, ("viber", "BY"): 10**7}
    waits = [wait_of(RULE, "viber", country, learned) for country in ("RU", "KZ", "BY", "AM")]
    assert waits == [30_000, 60_000, 15 * MINUTE, 15 * MINUTE]
    assert wait_of(RULE, "sms", "RU", learned) == 15 * MINUTE


def rules(**changes: Any) -> Policy:
    rule = replace(RULE, **changes)
    steps = (
        RouteStep(("viber",), rule.max_ms, 10_000, learned=rule),
        RouteStep(("sms",), 24 * 60 * MINUTE, 10_000),
    )
    return policy(steps=steps)


def planned(learned: Learned, **changes: Any) -> Plan:
    way = plan(request(), (), rules(**changes), T0, known=Known(waits=learned))
    assert isinstance(way, Plan)
    return way


def test_the_wait_that_a_step_got_stands_in_it() -> None:
    viber, sms = planned({("viber", "RU"): 45_000}).steps
    assert (viber.auto, viber.wait_ms, viber.grace_ms) == (15 * MINUTE, 45_000, 4_500)
    assert (sms.auto, sms.wait_ms) == (0, 24 * 60 * MINUTE)
    assert planned({}).steps[0].wait_ms == 15 * MINUTE
    assert planned({("viber", "RU"): 45_000}, grace_ms=7).steps[0].grace_ms == 7


def test_it_is_told_whether_a_wait_was_learned() -> None:
    world = World(rules())
    for wait_ms, told in ((45_000, "learned wait"), (15 * MINUTE, "no shorter wait is learned")):
        world.message.steps[0].wait_ms = wait_ms
        viber, sms = explain_message(world.message, world.policy, world.now_ms).plan
        assert (viber.wait_ms, viber.detail, sms.detail) == (wait_ms, told, None)


def test_the_provider_may_try_as_long_as_the_longest_wait() -> None:
    """What a learned wait left would else be all that is learned from, and the waits ever less."""
    world = World(rules())
    world.message.steps[0].wait_ms = 45_000
    world.send()
    assert timing.deadline_ms(world.message, world.message.step) == T0 + 45_000
    assert timing.patience_ms(world.message, world.message.step, T0) == 15 * MINUTE
    world.message.expires_ms = T0 + MINUTE
    assert timing.patience_ms(world.message, world.message.step, T0) == MINUTE


def test_a_delivery_is_counted_by_how_long_its_receipt_took() -> None:
    world = World(rules())
    world.send()
    world.now_ms += 40_000
    # The provider's clock says otherwise: what counts is how long the step had to wait.
    effects = world.report("delivered", at_ms=T0 + 1_000)
    assert effects.delays == [Delay("viber", "RU", 40_000)]
    assert world.report("delivered").delays == []
    assert world.report("seen").delays == []


def test_a_delivery_after_the_step_was_given_up_counts_too_and_no_other_provider_does() -> None:
    world = World(rules())
    world.send()
    world.timer()
    assert world.statuses() == ["expired", "queued"]
    took_ms = world.now_ms - T0 + 5_000
    world.now_ms += 5_000
    assert world.report("delivered", 0).delays == [Delay("viber", "RU", took_ms)]
    other = World(rules(), request(route="sms-only"))
    other.send()
    assert other.report("delivered").delays == []
    assert other.happen(ev.Cancelled()).delays == []
