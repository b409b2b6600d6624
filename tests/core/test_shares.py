"""To which provider of a channel a message goes: shares by weight, the same in every process."""

from __future__ import annotations

from collections import Counter
from itertools import permutations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.core.ids import LOTS, lot_of, new_id
from gateway.core.plan import Plan, plan
from gateway.core.policy import Policy, RouteStep
from gateway.core.shares import in_line
from gateway.store import randomness
from tests.worlds.cascade_world import DAY, T0, policy, request

MESSAGES = 10_000


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
    firsts = Counter(in_line(weights, lot_of(id_))[0] for id_ in made)
    for place, weight in enumerate(weights):
        share = MESSAGES * weight / sum(weights)
        assert abs(firsts[place] - share) <= max(0.02 * share, 2 * processes)


def test_the_share_of_one_that_is_left_out_goes_to_the_others_by_their_shares() -> None:
    weights = (50, 30, 20)
    lines = [in_line(weights, lot_of(id_)) for id_ in ids(MESSAGES)]
    seconds = Counter(line[1] for line in lines if line[0] == 0)
    assert abs(seconds[1] / seconds.total() - 0.6) < 0.02
    assert {tuple(line) for line in lines} == set(permutations(range(3)))


@given(st.lists(st.integers(1, 1_000_000), min_size=1, max_size=8), st.integers(0, LOTS - 1))
def test_everybody_stands_in_line_once(weights: list[int], lot: int) -> None:
    assert sorted(in_line(weights, lot)) == list(range(len(weights)))


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
