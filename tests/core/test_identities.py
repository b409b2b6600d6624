"""Who is one person, whatever is joined at one moment and whoever dies in between."""

from __future__ import annotations

import itertools
import random
from collections.abc import Iterator

import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from msgspec.structs import replace

from gateway.core.identities import (
    IDENTITIES_MAX,
    LINK_SPARE_MS,
    PersonRecords,
    enlist,
    join,
    split,
    unread,
)
from gateway.core.records.person import DedupeClaim, Person
from ratelimit.caps import Slot
from tests.worlds.cascade_world import DAY, T0

HOLD_MS = 40 * DAY
EVERYBODY = ["p:1", "p:2", "p:3", "e:a@x", "e:b@x", "u:1", "u:2", "u:3"]
SEEN = st.sets(st.sampled_from(EVERYBODY), min_size=1, max_size=4).map(
    lambda some: sorted(some, key=EVERYBODY.index)
)


class Forest:
    """The records of all shards; each read and each write is alone."""

    def __init__(self) -> None:
        self.records: dict[str, Person] = {}

    def root(self, identity: str) -> str:
        seen = [identity]
        while (record := self.records.get(seen[-1])) is not None and record.home:
            assert record.home not in seen, f"a circle: {seen}"
            seen.append(record.home)
        return seen[-1]

    def request(self, identities: list[str], hold_ms: int = HOLD_MS) -> Iterator[None]:
        """One request, step by step: between two steps anybody else may do anything."""
        while True:
            read: dict[str, Person | None] = {}
            while missing := unread(identities, read):
                for identity in sorted(missing):
                    read[identity] = self.records.get(identity)
                    yield
            made = join(identities, read, T0, hold_ms)
            written = True
            for write in made.writes:
                yield
                stands = self.records.get(write.identity) == write.before
                written = written and stands
                if stands:
                    self.records[write.identity] = write.after
            yield
            person = replace(self.records.get(made.home, Person()))
            if not made.final or not written or person.home:
                continue
            enlist(person, made.home, made.found, T0)
            person.keep_ms = T0 + DAY  # the message takes something
            self.records[made.home] = person
            if all(i in (made.home, *person.aliases) for i in identities):
                return

    def separation(self, address: str, other: str) -> Iterator[None]:
        """An address changes hands, step by step in the same way."""
        while True:
            read: dict[str, Person | None] = {}
            while missing := unread([address, other], read):
                for identity in sorted(missing):
                    read[identity] = self.records.get(identity)
                    yield
            for write in split(address, other, read, T0):
                yield
                if self.records.get(write.identity) != write.before:
                    break
                self.records[write.identity] = write.after
            else:
                return


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


def settle(forest: Forest, *identities: str) -> str:
    for _ in forest.request(list(identities)):
        pass
    return forest.root(identities[0])


def part(forest: Forest, address: str, other: str) -> None:
    """An address changes hands by itself."""
    for _ in forest.separation(address, other):
        pass


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
    assert enlist(person, "p:1", made.found, now_ms) is later
    assert person.linked_ms >= now_ms + HOLD_MS


# --- an address changes hands


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
