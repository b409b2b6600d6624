"""An address changes hands, whatever comes in between and whoever dies."""

from __future__ import annotations

import itertools
import random

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from gateway.core.records.person import DedupeClaim
from ratelimit.caps import Slot
from tests.worlds.cascade_world import DAY, T0
from tests.worlds.persons_forest import EVERYBODY, SEEN, Forest, part, settle


@given(
    st.lists(SEEN, min_size=1, max_size=5),
    st.lists(
        st.tuples(st.sampled_from(EVERYBODY[:5]), st.sampled_from(EVERYBODY)).filter(
            lambda pair: pair[0] != pair[1]
        ),
        min_size=1,
        max_size=3,
    ),
    st.integers(0, 2**32),
)
# Who was listed by one and led to another's address joined both again (2026-11-30).
@example([["p:1", "p:2"], ["p:2", "p:3"]], [("p:2", "p:1")], 1)
@example(
    [["p:1"], ["p:1", "e:a@x", "e:b@x"], ["e:a@x", "u:1"], ["p:1", "p:2"]],
    [("e:a@x", "p:1"), ("e:a@x", "e:b@x")],
    2452,
)
@example(
    [["p:2", "p:3"], ["p:1", "p:3", "e:a@x"]], [("p:1", "p:2"), ("p:1", "p:2"), ("p:2", "p:3")], 970
)
def test_whoever_separates_and_joins_at_once_homes_lead_to_an_end(
    requests: list[list[str]], separations: list[tuple[str, str]], seed: int
) -> None:
    luck = random.Random(seed)
    forest = Forest()
    running = [forest.request(identities) for identities in requests]
    running += [forest.separation(*pair) for pair in separations]
    while running:
        turn = luck.choice(running)
        if next(turn, "over") == "over" or luck.random() < 0.01:
            running.remove(turn)  # it is done, or its process dies
        for identity in EVERYBODY:
            forest.root(identity)
    for address, other in separations:
        settle(forest, address)
        part(forest, address, other)
        assert forest.root(address) != forest.root(other)
        for identity in EVERYBODY:
            if forest.root(identity) == forest.root(other) and identity in forest.records:
                settle(forest, identity)
                assert forest.root(identity) != forest.root(address)


# Persons of three, as they came to be one, and an address of theirs that leaves somebody.
JOINED = [
    [["p:1", "p:2", "u:1"]],
    [["p:1", "p:2"], ["p:2", "u:1"]],
    [["p:2", "u:1"], ["p:1", "u:1"]],
    [["u:1"], ["p:2", "u:1"], ["p:1"], ["p:1", "p:2"]],
]
LEAVING = [("p:1", "p:2"), ("p:1", "u:1"), ("p:2", "p:1"), ("p:2", "u:1")]


def person_of_three(joined: list[list[str]]) -> Forest:
    forest = Forest()
    for number, identities in enumerate(joined):
        for _ in forest.request(identities, campaign=f"old{number}"):
            pass
    return forest


def counted(forest: Forest, identity: str) -> set[str]:
    """The campaigns whose claims count for whom `identity` is of."""
    home = forest.root(identity)
    former = forest.records[home].former
    return {c for place in (home, *former) for c in forest.records[place].claims}


def assert_parted(forest: Forest, address: str, other: str, held: set[str]) -> None:
    """Also after the next messages; nobody stays behind, and what was held counts for both."""
    (third,) = {"p:1", "p:2", "u:1"} - {address, other}
    for met in (address, other, third, address):
        assert forest.root(address) != forest.root(other) == forest.root(third)
        assert held <= counted(forest, address) & counted(forest, other)
        settle(forest, met)
    assert {i for i, person in forest.records.items() if person.home} == {
        alias for person in forest.records.values() for alias in person.aliases if not person.home
    }


@pytest.mark.parametrize(("address", "other"), LEAVING)
@pytest.mark.parametrize("joined", JOINED)
def test_a_separation_that_was_cut_short_is_done_when_it_is_asked_for_again(
    joined: list[list[str]], address: str, other: str
) -> None:
    for steps in itertools.count():
        forest = person_of_three(joined)
        held = counted(forest, other)
        going = forest.separation(address, other)
        died = sum(1 for _ in itertools.islice(going, steps)) == steps
        part(forest, address, other)
        assert_parted(forest, address, other, held)
        if not died:
            break


@pytest.mark.parametrize(("address", "other"), LEAVING)
@pytest.mark.parametrize("joined", JOINED)
@pytest.mark.parametrize("first", ["message", "separation"])
def test_a_message_that_meets_a_separation_half_way_joins_nobody_again(
    joined: list[list[str]], address: str, other: str, first: str
) -> None:
    """Each in the middle of the other, at every step; the message names one side alone."""
    for name in ("p:1", "p:2", "u:1"):
        for steps in itertools.count():
            forest = person_of_three(joined)
            held = counted(forest, other)
            going = [
                forest.request([name], campaign="new"),
                forest.separation(address, other),
            ]
            if first == "separation":
                going.reverse()
            between = sum(1 for _ in itertools.islice(going[0], steps)) == steps
            for _ in itertools.chain(going[1], going[0]):
                pass
            assert forest.root(address) != forest.root(other)
            settle(forest, name)
            assert "new" in counted(forest, name)
            assert_parted(forest, address, other, held)
            if not between:
                break


@pytest.mark.parametrize("address", ["p:1", "e:a@x"])
def test_what_was_held_counts_for_both_and_ends(address: str) -> None:
    forest = Forest()
    settle(forest, "p:1", "e:a@x", "u:1")
    home = forest.records["p:1"]
    home.claims = {"live": DedupeClaim("m1"), "over": DedupeClaim("m2", T0 + 9)}
    home.slots = [Slot("m1", T0, "marketing", "viber")]
    part(forest, address, "u:1")
    assert forest.root(address) == address
    assert forest.root("u:1") != address
    moved = forest.records[address if address != "p:1" else "e:a@x"]
    assert moved.claims == {"live": DedupeClaim("m1", T0 + DAY), "over": DedupeClaim("m2", T0 + 9)}
    assert (moved.slots, moved.keep_ms) == (home.slots, home.keep_ms)
    assert forest.records["p:1"].claims == home.claims


def test_who_has_claims_apart_goes_on_asking_the_former_home() -> None:
    forest = Forest()
    settle(forest, "p:1", "u:1")
    forest.records["p:1"].apart_ms = T0 + 1
    part(forest, "p:1", "u:1")
    assert forest.records["u:1"].former == ["p:1"]
    assert list(forest.separation("p:1", "u:1"))  # reads, and writes nothing


@pytest.mark.parametrize("address", ["p:2", "u:1", "e:a@x"])
def test_what_an_alias_held_as_a_home_counts_for_both_as_well(address: str) -> None:
    """Who stayed forgot it where the alias left, and another who left never had it."""
    forest = Forest()
    settle(forest, "p:2", "u:2")
    forest.records["p:2"].claims = {"autumn": DedupeClaim("m1", T0 + 9)}
    forest.records["p:2"].slots = [Slot("m1", T0, "marketing", "viber")]
    settle(forest, "p:1", "e:a@x", "u:1")
    settle(forest, "p:1", "p:2")
    assert forest.records["p:1"].former == ["p:2"]
    part(forest, address, "u:2")
    for root in (forest.root(address), forest.root("u:2")):
        person = forest.records[root]
        held = [forest.records[place] for place in (root, *person.former)]
        assert any(each.claims == {"autumn": DedupeClaim("m1", T0 + 9)} for each in held)
        assert any(each.slots == [Slot("m1", T0, "marketing", "viber")] for each in held)


def test_an_address_that_leaves_again_goes_on_asking_where_it_was_first() -> None:
    forest = Forest()
    settle(forest, "p:1", "e:a@x")
    forest.records["p:1"].apart_ms = T0 + 1
    part(forest, "e:a@x", "p:1")
    settle(forest, "p:2", "e:a@x")
    forest.records["p:2"].apart_ms = 0
    part(forest, "e:a@x", "p:2")
    assert forest.records["e:a@x"].former == ["p:1"]
    assert "p:1" in forest.records["p:2"].former


def test_every_leg_of_a_message_counts_for_whoever_is_parted_from_its_person() -> None:
    forest = Forest()
    settle(forest, "p:1", "u:1")
    first = Slot("m1", T0, "marketing", "viber")
    second = Slot("m1", T0 + 9, "marketing", "sms", leg=1)
    forest.records["u:1"].slots = [first]  # moved there while both were persons of their own
    forest.records["p:1"].slots = [first, second]
    part(forest, "u:1", "p:1")
    assert forest.records["u:1"].slots == [first, second]
