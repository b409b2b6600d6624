"""To which provider of a channel a message goes: shares by weight, the same in every process."""

from __future__ import annotations

from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import replace

from gateway.core import events
from gateway.core.ids import LOTS, lot_of, new_id
from gateway.core.plan import Plan, plan
from gateway.core.policy import Policy, RouteStep
from gateway.core.shares import first_of, heir_of
from gateway.store import randomness
from tests.worlds.cascade_world import DAY, T0, World, policy, request

MESSAGES = 10_000
MADE = [new_id(T0, 0, noise << 20) for noise in range(MESSAGES)]  # the same in every run


def ids(count: int) -> list[str]:
    """As one process makes them."""
    return [new_id(T0, 0, randomness.id_bits()) for _ in range(count)]


@pytest.mark.parametrize("weights", [(70, 30), (1, 1), (60, 30, 10), (1, 1, 1, 1, 1), (99, 1)])
@pytest.mark.parametrize("processes", [1, 4])
def test_shares_are_kept_within_two_per_cent(weights: tuple[int, ...], processes: int) -> None:
    """Of the share itself, which is far less than two per cent of all."""
    made = []
    for _ in range(processes):
        randomness.begin_anew()
        made += ids(MESSAGES // processes)
    firsts = Counter(first_of(weights, lot_of(id_)) for id_ in made)
    for place, weight in enumerate(weights):
        share = MESSAGES * weight / sum(weights)
        assert abs(firsts[place] - share) <= max(0.02 * share, 2 * processes)


@given(st.lists(st.integers(1, 1_000_000), min_size=1, max_size=8), st.integers(0, LOTS - 1))
def test_every_lot_is_somebodys(weights: list[int], lot: int) -> None:
    assert first_of(weights, lot) in range(len(weights))
    assert first_of(weights, 0) == 0
    assert first_of(weights, LOTS - 1) == len(weights) - 1 or weights[-1] < sum(weights) / LOTS


def test_what_is_taken_over_is_shared_by_weight_whoever_is_left_out() -> None:
    weights = {"a": 50, "b": 30, "c": 20}
    orders: Counter[tuple[str, ...]] = Counter()
    for id_ in MADE:
        left, order = dict(weights), []
        while left:
            order.append(heir_of(id_, left))
            del left[order[-1]]
        orders[tuple(order)] += 1
    for names, count in orders.items():
        first, second, _ = (weights[name] for name in names)
        share = first / 100 * second / (100 - first)
        assert abs(count / MESSAGES - share) < 0.02
    assert len(orders) == 6


def test_a_lot_is_read_from_the_id_alone() -> None:
    assert [lot_of(new_id(T0, 3, bits)) for bits in (0, 5, LOTS - 1, LOTS + 7)] == [
        0,
        5,
        LOTS - 1,
        7,
    ]


def test_ids_of_one_process_never_have_the_same_lot_twice_in_a_while() -> None:
    lots = Counter(randomness.id_bits() % LOTS for _ in range(100_000))
    assert max(lots.values()) == 1


def shared() -> Policy:
    return policy(steps=(RouteStep(("viber", "viber-2"), DAY, 0), RouteStep(("sms",), DAY, 0)))


def planned(lot: int) -> Plan:
    way = plan(request(id=new_id(T0, 0, lot)), [], shared(), T0)
    assert isinstance(way, Plan)
    return way


@pytest.mark.parametrize(
    ("lot", "line", "sell"),
    [(0, ["viber", "viber-2"], 9_000), (LOTS - 1, ["viber-2", "viber"], 11_000)],
)
def test_the_app_pays_the_price_of_the_first_in_line(lot: int, line: list[str], sell: int) -> None:
    step = planned(lot).steps[0]
    assert [candidate.provider for candidate in step.candidates] == line
    assert (step.sell, step.provider) == (sell, None), "nobody is chosen yet"
    assert planned(lot).lane("otp")[0] == line[0]


def heirs(weights: dict[str, int]) -> Counter[str]:
    """Who takes over from the first in line what was accepted with equal shares."""
    steps = (RouteStep(("viber", "viber-2", "viber-3"), DAY, 0), RouteStep(("sms",), DAY, 0))
    accepted = policy(steps=steps)
    known = accepted.providers
    now = replace(
        accepted,
        providers={n: replace(rule, weight=weights.get(n, 1)) for n, rule in known.items()},
    )
    found: Counter[str] = Counter()
    for id_ in MADE[:1_000]:
        world = World(accepted, request(id=id_))
        if world.message.step.provider == "viber":
            world.policy = now
            world.happen(events.Claimed(0, away=frozenset(["viber"])))
            found[world.message.step.provider or ""] += 1
    return found


def test_what_is_taken_over_is_shared_by_the_weights_of_that_moment() -> None:
    for weights, share in (({}, 1 / 2), ({"viber-2": 9, "viber-3": 1}, 9 / 10)):
        found = heirs(weights)
        assert abs(found["viber-2"] / found.total() - share) < 0.05


def test_who_is_no_more_among_its_channels_providers_takes_nothing_over() -> None:
    assert heirs({"viber-2": 0}).keys() == {"viber-3"}
