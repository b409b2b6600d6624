"""Whose messages are released next, purely."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from gateway.dispatch.jobs.app_turns import in_turn, whose_turn

NONE = {0: "", 1: ""}


def test_a_line_goes_on_behind_whoever_had_the_last_turn() -> None:
    by_line, rooms = {0: ["a", "b", "c"]}, {0: 2}
    asked, last = list[list[str]](), ""
    for _ in range(3):
        asked.append(whose_turn(by_line, rooms, {0: last}, 10))
        last = asked[-1][-1]
    assert asked == [["a", "b"], ["c", "a"], ["b", "c"]]


def test_of_each_queue_one_message_goes_in_turn() -> None:
    by_line = {0: ["a", "b"], 1: ["c"]}
    found = {"a": ["a1", "a2", "a3"], "b": ["b1"], "c": ["c1", "c2"]}
    chosen = in_turn(by_line, found, {0: 10, 1: 10}, NONE, 5)
    assert list(chosen) == ["a1", "c1", "b1", "c2", "a2"]
    assert chosen["b1"] == "b"


@given(
    st.lists(st.lists(st.integers(0, 9), max_size=6), min_size=1, max_size=4),
    st.lists(st.integers(-3, 12), min_size=4, max_size=4),
    st.integers(1, 30),
)
def test_no_line_gets_more_than_it_has_room_for(
    sizes: list[list[int]], room: list[int], count: int
) -> None:
    by_line = {n: [f"{n}-{each}" for each in range(len(of))] for n, of in enumerate(sizes)}
    rooms = dict(enumerate(room[: len(sizes)]))
    last = dict.fromkeys(by_line, "")
    found = {
        f"{n}-{each}": [f"{n}-{each}-{i}" for i in range(size)]
        for n, of in enumerate(sizes)
        for each, size in enumerate(of)
        if size
    }
    chosen = in_turn(by_line, found, rooms, last, count)
    asked = whose_turn(by_line, rooms, last, count)
    for line, names in by_line.items():
        assert sum(name in names for name in chosen.values()) <= max(rooms[line], 0)
        assert sum(name in names for name in asked) <= max(rooms[line], 0)
    bears = sum(min(max(rooms[n], 0), sum(of)) for n, of in enumerate(sizes))
    assert len(chosen) == min(count, bears)
