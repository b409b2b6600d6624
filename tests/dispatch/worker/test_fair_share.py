"""Who goes first: otp before campaigns, and campaigns all the same."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.dispatch.worker.fair_share import OWED_MAX, divide, least_urgent
from gateway.settings.tables import FLOOR_PERCENT_MAX

waiting = st.tuples(*[st.integers(0, 200)] * 3)
grants = st.integers(0, 150)
floors = st.integers(0, FLOOR_PERCENT_MAX)
debts = st.tuples(*[st.integers(0, OWED_MAX)] * 2)


@given(grants, waiting, floors, debts)
def test_every_send_is_used_as_far_as_there_is_something_to_send(
    n: int, entries: tuple[int, int, int], floor: int, owed: tuple[int, int]
) -> None:
    counts, rest = divide(n, entries, floor, owed)
    assert sum(counts) == min(n, sum(entries))
    assert all(0 <= count <= has for count, has in zip(counts, entries, strict=True))
    assert all(0 <= due <= OWED_MAX for due in rest)


@given(grants, waiting, floors, debts)
def test_otp_gets_all_but_what_the_floors_come_to(
    n: int, entries: tuple[int, int, int], floor: int, owed: tuple[int, int]
) -> None:
    counts, _ = divide(n, entries, floor, owed)
    floors_most = 2 * (n * floor // 100 + OWED_MAX // 100 + 1)
    assert counts[0] >= min(entries[0], n - floors_most)


@given(grants, waiting, debts)
def test_without_a_floor_a_lower_lane_gets_only_what_the_upper_ones_leave(
    n: int, entries: tuple[int, int, int], owed: tuple[int, int]
) -> None:
    counts, _ = divide(n, entries, 0)
    assert counts[0] == min(n, entries[0])
    assert counts[1] == min(n - counts[0], entries[1])


@pytest.mark.parametrize("grant", [1, 3, 7, 100])
@pytest.mark.parametrize("floor", [5, 10, 33])
def test_over_many_grants_a_busy_lower_lane_gets_its_floor_and_otp_the_rest(
    grant: int, floor: int
) -> None:
    sent, owed = [0, 0, 0], (0, 0)
    for _ in range(2_000):
        counts, owed = divide(grant, (1_000, 1_000, 1_000), floor, owed)
        sent = [a + b for a, b in zip(sent, counts, strict=True)]
    total = 2_000 * grant
    for lane in (1, 2):
        assert abs(sent[lane] - total * floor / 100) <= total * 0.01 + 2
    assert sent[0] == total - sent[1] - sent[2]


def test_a_lane_that_had_nothing_is_owed_nothing() -> None:
    owed = (0, 0)
    for _ in range(100):
        _, owed = divide(1, (9, 0, 0), 10, owed)
    assert owed == (0, 0)
    assert divide(1, (9, 9, 9), 10, owed).counts == (1, 0, 0)


def test_an_otp_never_waits_behind_a_full_batch_of_marketing() -> None:
    assert divide(100, (1, 0, 1_000), 10).counts == (1, 0, 99)
    assert divide(1, (1, 0, 1_000), 10).counts == (1, 0, 0)


def test_a_probe_is_no_otp_while_something_else_waits() -> None:
    assert least_urgent((5, 5, 5)) == (0, 0, 1)
    assert least_urgent((5, 5, 0)) == (0, 1, 0)
    assert least_urgent((5, 0, 0)) == (1, 0, 0)
    assert least_urgent((0, 0, 0)) == (0, 0, 0)
