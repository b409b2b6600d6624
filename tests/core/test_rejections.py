"""Rejections that nearly all messages in a row get, and those that never count."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.core.rejections import NEARLY_ALL, STREAK, RejectionStreak


def test_nearly_all_of_enough_in_a_row_for_one_reason_are_a_streak() -> None:
    streak = RejectionStreak()
    assert streak.saw(["13"] * (STREAK - 1)) is None
    assert streak.saw(["13"]) == "13"
    assert streak.saw([None]) is None, "what was taken says nothing against the account"
    assert streak.saw(["13"]) == "13", "one in twenty may differ"
    assert streak.saw([None, "13"]) is None


def test_a_whole_batch_is_a_streak_at_once() -> None:
    assert RejectionStreak().saw(["13"] * 100) == "13"
    assert RejectionStreak().saw(["13", "19"] * 50) is None, "two reasons are none"


def test_what_was_before_a_pause_began_or_ended_is_forgotten() -> None:
    streak = RejectionStreak()
    assert streak.saw(["13"] * STREAK, since=1.0) == "13"
    assert streak.saw(["13"] * (STREAK - 1), since=2.0) is None
    assert streak.saw(["13"], since=2.0) == "13"


@given(st.lists(st.lists(st.sampled_from(["13", "19", None]), max_size=30), max_size=30))
def test_a_streak_is_what_the_last_messages_are(batches: list[list[str | None]]) -> None:
    streak, seen = RejectionStreak(), list[str | None]()
    for batch in batches:
        seen += batch
        last = seen[-STREAK:]
        most = {code for code in ("13", "19") if last.count(code) >= NEARLY_ALL}
        found = streak.saw(batch)
        if len(last) == STREAK and any(batch):
            assert {found} - {None} == most
        else:
            assert found is None


@pytest.mark.parametrize("taken", [2, 5, 19])
def test_a_share_that_the_persons_may_be_is_no_streak(taken: int) -> None:
    streak = RejectionStreak()
    for _ in range(50):
        assert streak.saw(["6"] * (STREAK - taken) + [None] * taken) is None
