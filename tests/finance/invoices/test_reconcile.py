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

from gateway.core.money.reconciliation import PICOS_A_MICRO, ROUNDING_MAX, Ours, Theirs, rounded
from gateway.finance.invoices.reconcile import DaySpan, Reconciliation
from gateway.finance.invoices.sorted_lines import SortedLines
from tests.finance.invoices import long_invoice
from tests.worlds.planted import (
    BY_PART,
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


def planted(
    seed: int, shift_ms: int = 0, *, by_part: bool = False
) -> tuple[list[Ours], list[Theirs], Faults]:
    random = Random(seed)
    ours = list(book(random, COUNT, FROM_MS))
    planter = Planter(random, 0.2, shift_ms=shift_ms, by_part=by_part)
    theirs = list(planter.lines(ours))
    random.shuffle(theirs)
    return ours, theirs, planter.faults


def kinds(faults: Faults) -> Counter[str]:
    return Counter(kind for kind, _ in faults.elements())


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
        assert kinds(found) == kinds(faults)
    else:
        assert found == faults
    assert result.shift_ms == (shift_ms if lines[0].at_ms is not None else 0)
    assert result.total.theirs == sum(line.amount for line in lines)
    assert result.total.ours == sum(line.cost for line in ours) * PICOS_A_MICRO


@pytest.mark.parametrize("seed", range(5))
@pytest.mark.parametrize("left", [without(), without("to"), without("at_ms"), without("id")])
def test_planted_faults_are_found_where_each_part_has_a_line(
    seed: int, left: Callable[[Theirs], Theirs]
) -> None:
    ours, theirs, faults = planted(seed, 3 * HOUR, by_part=True)
    lines = [left(line) for line in theirs]
    result, found = reconcile(ours, lines, question=BY_PART)
    assert kinds(found) == kinds(faults)
    if lines[0].to is not None:
        assert found == faults
    missing = result.classes["missing_on_invoice"].lines
    assert result.total.lines == len(lines) + missing, "every line of theirs counts once"
    assert result.total.theirs == sum(line.amount for line in lines)
    assert result.total.ours == sum(line.cost for line in ours) * PICOS_A_MICRO


def test_a_part_is_found_by_its_number_where_we_know_the_id_of_the_first_alone() -> None:
    """As of messages that were sent before the ids of all parts were kept. Of a part with that id
    that is there twice it may be another that seems too many."""
    ours, theirs, faults = planted(2, by_part=True)
    result, found = reconcile(
        [replace(line, further_ids=()) for line in ours], theirs, question=BY_PART
    )
    assert {number for _, number in found} == {number for _, number in faults}
    assert {kind for kind, _ in (found - faults).elements()} == {"unknown_to_us"}
    assert result.total.theirs == sum(line.amount for line in theirs)


def test_a_part_more_than_we_sent_is_found() -> None:
    sent = line_at(FROM_MS + 50 * HOUR, parts=2, cost=80_000, further_ids=("second",))
    part = Theirs(2, 40_000 * PICOS_A_MICRO, sent.id, sent.to, sent.at_ms, 1)
    second, third = replace(part, line=3, id="second"), replace(part, line=4, id="third")
    result, found = reconcile([sent], [part, second, third], question=BY_PART)
    assert found == Counter({("unknown_to_us", sent.to): 1})
    assert (result.classes["matched"].lines, result.total.lines) == (2, 3)
    no_ids = [replace(line, id=None) for line in (part, second, third)]
    _, found = reconcile([sent], no_ids, question=BY_PART)
    assert found == Counter({("duplicate_line", sent.to): 1})


@pytest.mark.parametrize("free", [0, 1])
def test_of_a_text_that_failed_the_parts_match_that_arrived(free: int) -> None:
    """Whether the invoice has a line of the part that did not, which costs nothing, or has not."""
    at_ms = FROM_MS + 50 * HOUR
    failed = line_at(at_ms, parts=2, cost=80_000, delivered=False, further_ids=("b", "c"))
    lines = [
        Theirs(n, amount * PICOS_A_MICRO, id_, parts=1)
        for n, (id_, amount) in enumerate([(failed.id, 40_000), ("c", 40_000), ("b", 0)], 2)
    ]
    result, found = reconcile([failed], lines[: 2 + free], question=BY_PART)
    assert result.agrees, found
    assert result.classes["matched"].theirs == 80_000 * PICOS_A_MICRO
    dear = [replace(line, amount=40_000 * PICOS_A_MICRO) for line in lines]
    _, found = reconcile([failed], dear, question=BY_PART)
    assert found == Counter({("parts", failed.to): 1})


def test_each_line_of_a_message_may_be_rounded() -> None:
    sent = line_at(FROM_MS + 50 * HOUR, parts=3, cost=120_000)
    lines = [
        Theirs(n, 40_000 * PICOS_A_MICRO + ROUNDING_MAX, sent.id, parts=1) for n in range(2, 5)
    ]
    result, found = reconcile([sent], lines, question=BY_PART)
    assert result.agrees
    assert found == Counter({("rounding", sent.to): 1})
    assert result.classes["rounding"].difference == 3 * ROUNDING_MAX


def test_numbers_that_a_spreadsheet_rounded_are_told_apart_by_time() -> None:
    ours, theirs, faults = planted(1)
    result, found = reconcile(ours, [in_a_spreadsheet(line) for line in theirs])
    assert kinds(found) == kinds(faults)
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


@pytest.mark.parametrize(
    ("hours", "invoiced", "kind"),
    [
        (8, None, "duplicate_line"),
        (8, "2026-10-01 2026-10-31", "duplicate_line"),
        (8, "2026-11-01 2026-11-30", "matched"),  # which this one is, and was accepted before
        (8, "2026-10-20 2026-11-02", "matched"),  # nobody knows of which days of these
        (8, "", "matched"),  # nor of which invoice, as older records say
        (2, None, "matched"),  # by its clock, three hours ahead, it is of November
    ],
)
def test_what_the_invoice_before_asked_for_is_asked_for_again(
    hours: int, invoiced: str | None, kind: str
) -> None:
    """October's was accepted. By id, and by number where there is none."""
    october = DaySpan(datetime.date(2026, 10, 1), datetime.date(2026, 10, 31))
    before = line_at(FROM_MS - hours * HOUR, invoiced=invoiced, to="79990000000")
    clock = [line_at(FROM_MS + n * HOUR) for n in range(5, 15)]
    for by in (before.id, None):
        theirs = [
            Theirs(n, o.cost * PICOS_A_MICRO, o.id, o.to, o.at_ms + 3 * HOUR)
            for n, o in enumerate([before, *clock], 2)
        ]
        theirs[0] = replace(theirs[0], id=by)
        with SortedLines() as lines:
            work = Reconciliation(QUESTION, lines)
            work.take_theirs(theirs, None, None)
            work.take_ours([before, *clock])
            work.take_accepted([october, NOVEMBER])
            result = work.settle(NOVEMBER)
            (item,) = [*work.items()] if kind != "matched" else [None]
        assert result.shift_ms == 3 * HOUR
        assert result.classes["matched"].lines == 10 + (kind == "matched")
        if item is not None:
            assert (item.kind, item.ours, item.difference) == (kind, None, theirs[0].amount)


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


@pytest.mark.parametrize("more", [[], ["--by-part"]])
def test_a_long_invoice_can_be_measured(
    capsys: pytest.CaptureFixture[str], more: list[str]
) -> None:
    assert long_invoice.main(["--lines", "500", *more]) == 0
    assert "lines/s" in capsys.readouterr().out
