"""Lines take turns: properties of the selection."""

from __future__ import annotations

from collections import Counter

from hypothesis import given
from hypothesis import strategies as st

from gateway.dispatch.worker.claim import Entry
from gateway.dispatch.worker.turns import Turns
from gateway.store.messages.apply import LaneEntry

SHARDS = 3
ENTRIES = st.lists(st.tuples(st.integers(0, 4), st.integers(0, SHARDS - 1)), max_size=60)
COUNTS = st.lists(st.integers(1, 12), min_size=1, max_size=12)
SHARDS_OPEN = tuple(range(SHARDS))


def entry(number: int, line: int = 0, shard: int = 0, message_id: str = "") -> Entry:
    at = LaneEntry(f"lane {line} {shard}", b"%d-0" % number, shard)
    return Entry(message_id or f"m{number}", at, "marketing", shard, line)


def turns_of(placed: list[tuple[int, int]]) -> tuple[Turns, list[Entry]]:
    turns = Turns(SHARDS)
    entries = [entry(n, line, shard) for n, (line, shard) in enumerate(placed)]
    for each in entries:
        turns.add(each)
    return turns, entries


@given(ENTRIES, COUNTS)
def test_between_two_of_one_line_each_other_goes_at_most_once(
    placed: list[tuple[int, int]], counts: list[int]
) -> None:
    turns, entries = turns_of(placed)
    left = Counter(each.line for each in entries)
    went: list[int] = []
    for count in counts:
        for each in turns.take(count, SHARDS_OPEN, {}):
            since = went[::-1].index(each.line) if each.line in went else len(went)
            others = Counter(went[len(went) - since :])
            assert not others or max(others.values()) == 1, "a line had two turns in one of another"
            went.append(each.line)
            left[each.line] -= 1
    assert len(went) == min(sum(counts), len(entries))


@given(ENTRIES, COUNTS)
def test_all_are_taken_once_and_those_of_a_line_and_shard_in_their_order(
    placed: list[tuple[int, int]], counts: list[int]
) -> None:
    turns, entries = turns_of(placed)
    taken = [each for count in counts for each in turns.take(count, SHARDS_OPEN, {})]
    assert turns.count(SHARDS_OPEN) == len(entries) - len(taken)
    taken += turns.clear()
    assert turns.count(SHARDS_OPEN) == turns.filled() == 0
    assert Counter(e.message_id for e in taken) == Counter(e.message_id for e in entries)
    for place in set(placed):
        of_place = [e.message_id for e in taken if (e.line, e.shard) == place]
        assert of_place == [e.message_id for e in entries if (e.line, e.shard) == place]


def test_one_line_is_taken_in_order_what_one_shard_has_before_the_next_ones() -> None:
    turns, _ = turns_of([(0, 1), (0, 0), (0, 1), (0, 2)])
    assert [e.shard for e in turns.take(4, (1, 2, 0), {})] == [1, 1, 2, 0]


def test_two_entries_of_one_message_are_never_taken_together() -> None:
    turns = Turns(1)
    for number, line in enumerate((0, 0, 1)):
        turns.add(entry(number, line, message_id="twice"))
    (first,) = turns.take(3, (0,), {})
    assert (first.line, turns.count((0,))) == (0, 2)
    assert turns.take(3, (0,), {"twice": first}) == []
    assert turns.count((0,)) == 2


def test_a_closed_shards_entries_stay() -> None:
    turns, _ = turns_of([(0, 0), (1, 1), (0, 2)])
    assert [e.shard for e in turns.take(9, (0, 2), {})] == [0, 2]
    assert (turns.held(1, 1), turns.held(7, 0), turns.filled()) == (1, 0, 1)
