"""Planted invoices, reconciled: every fault is found and none is invented, whatever is left of
them."""

from __future__ import annotations

import datetime
from collections import Counter
from collections.abc import Callable
from random import Random
from typing import Any

import pytest
from msgspec.structs import replace

from gateway.core.reconciliation import PICOS_A_MICRO, Ours, Theirs, rounded
from gateway.finance.reconcile import DaySpan, Reconciliation
from gateway.finance.sorted_lines import SortedLines
from tests.finance import long_invoice
from tests.worlds.planted import (
    FROM_MS,
    NOVEMBER,
    QUESTION,
    Faults,
    Planter,
    book,
    reconcile,
)

HOUR = 3_600_000
COUNT = 1_500


def planted(seed: int, shift_ms: int = 0) -> tuple[list[Ours], list[Theirs], Faults]:
    random = Random(seed)
    ours = list(book(random, COUNT, FROM_MS))
    planter = Planter(random, 0.2, shift_ms=shift_ms)
    theirs = list(planter.lines(ours))
    random.shuffle(theirs)
    return ours, theirs, planter.faults


def without(*fields: str) -> Callable[[Theirs], Theirs]:
    return lambda line: replace(line, **dict.fromkeys(fields))


def in_a_spreadsheet(line: Theirs) -> Theirs:
    """Its number has lost its last digits, and its id is gone."""
    assert line.to is not None
    return replace(line, id=None, to=rounded(line.to, 6).replace("0e", "e"))


@pytest.mark.parametrize("seed", range(5))
@pytest.mark.parametrize("shift_ms", [0, 3 * HOUR, -5 * HOUR - 1_800_000])
@pytest.mark.parametrize("left", [without(), without("to"), without("at_ms"), without("id")])
def test_every_planted_fault_is_found_and_none_is_invented(
    seed: int, shift_ms: int, left: Callable[[Theirs], Theirs]
) -> None:
    ours, theirs, faults = planted(seed, shift_ms)
    lines = [left(line) for line in theirs]
    result, found = reconcile(ours, lines)
    if all(line.to is None for line in lines):  # then nothing but its id says which line it is
        assert Counter(kind for kind, _ in found.elements()) == Counter(
            kind for kind, _ in faults.elements()
        )
    else:
        assert found == faults
    assert result.shift_ms == (shift_ms if lines[0].at_ms is not None else 0)
    assert result.total.theirs == sum(line.amount for line in lines)
    assert result.total.ours == sum(line.cost for line in ours) * PICOS_A_MICRO


def test_numbers_that_a_spreadsheet_rounded_are_told_apart_by_time() -> None:
    ours, theirs, faults = planted(1)
    result, found = reconcile(ours, [in_a_spreadsheet(line) for line in theirs])
    assert Counter(kind for kind, _ in found.elements()) == Counter(
        kind for kind, _ in faults.elements()
    )
    assert result.total.theirs == sum(line.amount for line in theirs)


def test_an_invoice_that_says_what_we_booked_agrees() -> None:
    random = Random(3)
    ours = list(book(random, 200, FROM_MS))
    result, found = reconcile(ours, list(Planter(random, 0).lines(ours)))
    assert result.agrees
    assert not found


def line_at(at_ms: int, **changes: Any) -> Ours:
    made = Ours(f"m{at_ms}", 0, f"id{at_ms}", "79161234567", at_ms, at_ms + 1_000, 1, 40_000, True)
    return replace(made, **changes)


def test_what_is_at_an_edge_of_the_days_is_carried_and_not_claimed() -> None:
    to_ms = FROM_MS + 30 * 24 * HOUR
    inside = line_at(FROM_MS + HOUR)
    over = line_at(to_ms - HOUR, until_ms=to_ms + HOUR)
    beyond = line_at(to_ms + HOUR)
    free = line_at(FROM_MS + 2 * HOUR, cost=0, delivered=False)
    result, found = reconcile([inside, over, beyond, free], [])
    assert found == Counter({("missing_on_invoice", "79161234567"): 1})
    assert (result.carried.lines, result.carried.ours) == (1, 40_000 * PICOS_A_MICRO)


def test_the_days_are_those_of_the_invoices_own_clock() -> None:
    """At three hours ahead the last three of a month's hours are the next month's."""
    late = line_at(FROM_MS + 30 * 24 * HOUR - HOUR)
    clock = [line_at(FROM_MS + n * HOUR) for n in range(5, 15)]
    theirs = [
        Theirs(n, ours.cost * PICOS_A_MICRO, ours.id, at_ms=ours.at_ms + 3 * HOUR)
        for n, ours in enumerate(clock, 2)
    ]
    result, _ = reconcile([late, *clock], theirs)
    assert result.agrees
    assert (result.shift_ms, result.carried.lines) == (3 * HOUR, 0)


def test_lines_of_other_days_are_counted_and_left_out() -> None:
    theirs = [Theirs(2, 1, "a", at_ms=FROM_MS - 1), Theirs(3, 1, "b", at_ms=FROM_MS)]
    with SortedLines() as lines:
        work = Reconciliation(QUESTION, lines)
        days = work.take_theirs(theirs, NOVEMBER.first, NOVEMBER.last)
        assert days == NOVEMBER
        result = work.settle(NOVEMBER)
    assert (result.outside, result.classes["unknown_to_us"].lines) == (1, 1)


def test_without_days_the_lines_say_them() -> None:
    theirs = [Theirs(2, 1, "a", at_ms=FROM_MS), Theirs(3, 1, "b", at_ms=FROM_MS + 50 * HOUR)]
    with SortedLines() as lines:
        days = Reconciliation(QUESTION, lines).take_theirs(theirs, None, None)
    assert days == DaySpan(datetime.date(2026, 11, 1), datetime.date(2026, 11, 3))
    with SortedLines() as lines:
        assert Reconciliation(QUESTION, lines).take_theirs([Theirs(2, 1, "a")], None, None) is None


def test_a_long_invoice_can_be_measured(capsys: pytest.CaptureFixture[str]) -> None:
    assert long_invoice.main(["--lines", "500"]) == 0
    assert "lines/s" in capsys.readouterr().out
