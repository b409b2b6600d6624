"""Who is one person, whatever is joined at one moment and whoever dies in between."""

from __future__ import annotations

import itertools
import random

import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import replace

from gateway.core.people.identities import (
    IDENTITIES_MAX,
    LINK_SPARE_MS,
    PersonRecords,
    enlist,
    join,
)
from gateway.core.records.person import Person
from tests.worlds.cascade_world import T0
from tests.worlds.persons_forest import EVERYBODY, HOLD_MS, SEEN, Forest, settle


@given(st.lists(SEEN, min_size=1, max_size=6), st.integers(0, 2**32))
def test_identities_seen_together_are_one_person_transitively(
    requests: list[list[str]], seed: int
) -> None:
    luck = random.Random(seed)
    forest = Forest()
    running = [(forest.request(identities), identities) for identities in requests]
    done: list[list[str]] = []
    while running:
        turn = luck.choice(running)
        if next(turn[0], "over") == "over":
            done.append(turn[1])
            running.remove(turn)
        elif luck.random() < 0.01:
            running.remove(turn)  # its process dies
    for identity in list(forest.records):
        settle(forest, identity)  # the next request finishes what a dead process began
    groups: dict[str, set[str]] = {identity: {identity} for identity in EVERYBODY}
    for identities in done:
        joined = set().union(*(groups[identity] for identity in identities))
        groups |= dict.fromkeys(joined, joined)
    for group in groups.values():
        (home,) = {forest.root(identity) for identity in group}
        record = forest.records.get(home, Person())
        assert group <= {home, *record.aliases}
        assert any(i.startswith("p:") for i in group) <= home.startswith("p:")
        holding = {i for i in group - {home} if forest.records[i].keep_ms > T0}
        assert holding <= set(record.former), "what an alias holds is read with its home"


@pytest.mark.parametrize("met", ["p:2", "u:2", "e:a@x", "u:1"])
def test_a_join_that_was_cut_short_is_finished_by_whoever_is_met(met: str) -> None:
    """Found by the storms (seed 20782, 2026-11-29): aliases that were written again, to stand for
    longer, led to a home that did not list the former one, which had the claims."""
    everybody = {"p:1", "u:1", "p:2", "u:2", "e:a@x"}
    steps = 0
    for ends_after in itertools.count(1):
        forest = Forest()
        settle(forest, "p:1", "u:1")
        settle(forest, "p:2", "u:2", "e:a@x")
        going = forest.request(["u:2", "u:1"], 2 * HOLD_MS)
        steps = sum(1 for _ in itertools.islice(going, ends_after))
        if forest.root("p:2") == "p:1":
            settle(forest, met)
            listed = {"p:1", *forest.records["p:1"].aliases}
            assert listed == everybody or met == "u:1", f"after {steps} steps"
            settle(forest, "u:2")
            assert {"p:1", *forest.records["p:1"].aliases} == everybody
            assert "p:2" in forest.records["p:1"].former
        if steps < ends_after:
            break
    assert steps > 10


def test_a_home_that_is_no_phone_moves_to_the_phone_that_becomes_known() -> None:
    forest = Forest()
    assert settle(forest, "u:1") == "u:1"
    assert settle(forest, "p:2", "u:1") == "p:2"
    assert forest.records["p:2"].former == ["u:1"]
    assert settle(forest, "p:1", "u:1") == "p:2", "a phone that comes later is an alias"


def test_seventeen_identities_are_not_joined() -> None:
    forest = Forest()
    for number in range(IDENTITIES_MAX - 1):
        settle(forest, "p:1", f"u:{number:02}")
    settle(forest, "p:2", "u:z")
    records: PersonRecords = {i: forest.records.get(i) for i in (*forest.records, "p:2", "u:new")}
    for identities, apart in ((["p:1", "u:new"], ("u:new",)), (["p:2", "u:00"], ("p:1",))):
        made = join(identities, records, T0, HOLD_MS)
        assert (made.home, made.writes, made.apart) == (identities[0], [], apart)


@pytest.mark.parametrize("later", [False, True])
def test_aliases_are_written_again_before_they_lapse(later: bool) -> None:
    forest = Forest()
    settle(forest, "p:1", "u:1")
    settle(forest, "p:1", "u:2")
    now_ms = T0 + LINK_SPARE_MS + later
    records: PersonRecords = dict(forest.records)
    made = join(["p:1"], records, now_ms, HOLD_MS)
    assert {write.identity for write in made.writes} == ({"u:1", "u:2"} if later else set())
    person = replace(forest.records["p:1"])
    assert enlist(person, "p:1", made.found, made.listed, now_ms) is later
    assert person.linked_ms >= now_ms + HOLD_MS
