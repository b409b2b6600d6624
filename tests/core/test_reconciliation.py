"""An invoice against our lines: every fault is found, none is invented, and no unit is lost."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import replace

from gateway.core.money.reconciliation import (
    PICOS,
    PICOS_A_MICRO,
    ROUNDING_MAX,
    ClassSums,
    Ours,
    Pair,
    Range,
    ReconciledLine,
    Shift,
    Theirs,
    classify,
    match_ids,
    match_numbers,
    rounded,
)

NOON = 1_795_262_400_000  # 2026-11-21T12:00:00Z
MINUTE = 60_000
HOUR = 60 * MINUTE
PART = 40_000  # micros

OURS = Ours("m1", 1, "id1", "79161234567", NOON, NOON + 5_000, 2, 2 * PART, True, "25001")
THEIRS = Theirs(2, 2 * PART * PICOS_A_MICRO, "id1", "79161234567", NOON, parts=2, network="25001")


def ours(**changes: object) -> Ours:
    return replace(OURS, **changes)


def theirs(**changes: object) -> Theirs:
    return replace(THEIRS, **changes)


UNDELIVERED = {"delivered": False, "cost": 0}


@pytest.mark.parametrize(
    ("pair", "kind"),
    [
        (Pair(OURS, THEIRS), "matched"),
        (Pair(None, THEIRS), "unknown_to_us"),
        (Pair(None, THEIRS, again=True), "duplicate_line"),
        (Pair(OURS, None), "missing_on_invoice"),
        (Pair(ours(**UNDELIVERED), THEIRS), "not_delivered_billed"),
        (Pair(ours(**UNDELIVERED), theirs(amount=0)), "matched"),
        (Pair(OURS, theirs(failed=True)), "not_delivered_billed"),
        (Pair(OURS, theirs(network="25002", parts=3, amount=1)), "network"),
        (Pair(OURS, theirs(network=None)), "matched"),
        (Pair(ours(network=None), THEIRS), "matched"),
        (Pair(OURS, theirs(parts=3, amount=1)), "parts"),
        (Pair(OURS, theirs(parts=None)), "matched"),
        (Pair(OURS, theirs(amount=0)), "price"),
        (Pair(OURS, theirs(amount=THEIRS.amount + ROUNDING_MAX)), "rounding"),
        (Pair(OURS, theirs(amount=THEIRS.amount - 1)), "rounding"),
        (Pair(OURS, theirs(amount=THEIRS.amount - ROUNDING_MAX - 1)), "price"),
        (Pair(OURS, theirs(amount=PART * PICOS_A_MICRO, parts=None, each=True)), "matched"),
    ],
)
def test_a_line_has_the_first_class_that_fits(pair: Pair, kind: str) -> None:
    assert classify(pair, charged_on_delivery=True).kind == kind


def test_what_is_charged_when_it_is_sent_may_be_billed_though_it_did_not_arrive() -> None:
    sent = Pair(ours(delivered=False), theirs(failed=True))
    assert classify(sent, charged_on_delivery=False).kind == "matched"
    assert classify(sent, charged_on_delivery=True).kind == "not_delivered_billed"


def test_a_repeated_line_is_held_against_nothing_of_ours() -> None:
    item = ReconciledLine("duplicate_line", OURS, THEIRS)
    assert (item.our_amount, item.difference) == (0, THEIRS.amount)


def test_sums_are_exact_beyond_six_decimals() -> None:
    sums = ClassSums()
    for amount in (PICOS // 3, 1, PICOS_A_MICRO - 1):
        sums.add(ReconciledLine("price", OURS, theirs(amount=amount)))
    assert sums.theirs == PICOS // 3 + PICOS_A_MICRO
    assert sums.ours == 3 * OURS.cost * PICOS_A_MICRO
    assert sums.difference == sums.theirs - sums.ours


# --- matching -------------------------------------------------------------------------------------


def test_of_several_lines_with_one_id_the_first_is_ours_and_the_others_repeat_it() -> None:
    lines = [theirs(id="a", line=2), theirs(id="a", line=3), theirs(id="c", line=4)]
    found = list(match_ids([ours(id="a"), ours(id="b")], lines))
    assert [(p.ours and p.ours.id, p.theirs and p.theirs.line, p.again) for p in found] == [
        ("a", 2, False),
        (None, 3, True),
        ("b", None, False),
        (None, 4, False),
    ]


def pairs(mine: list[Ours], lines: list[Theirs], shift_ms: int = 0) -> list[tuple[object, ...]]:
    return [
        (p.ours and p.ours.message, p.theirs and p.theirs.line, p.again)
        for p in match_numbers(mine, lines, shift_ms)
    ]


@pytest.mark.parametrize(
    ("line", "found"),
    [
        ({"at_ms": NOON + 2 * MINUTE}, True),
        ({"at_ms": NOON - 2 * MINUTE}, True),
        ({"at_ms": NOON + 8 * MINUTE}, False),
        ({"at_ms": NOON + HOUR + 2 * MINUTE}, True),  # when it arrived
        ({"at_ms": None}, True),
        ({"to": "79161234568"}, False),
        ({"parts": 5}, True),
    ],
)
def test_without_an_id_number_and_time_say_whose_a_line_is(
    line: dict[str, object], found: bool
) -> None:
    mine = [ours(until_ms=NOON + HOUR)]
    assert (("m1", 2, False) in pairs(mine, [theirs(id=None, **line)])) is found


def test_the_parts_say_which_of_two_messages_at_one_moment_a_line_is() -> None:
    mine = [ours(message="one", parts=1), ours(message="three", parts=3)]
    lines = [theirs(id=None, line=2, parts=3), theirs(id=None, line=3, parts=1)]
    assert pairs(mine, lines) == [("three", 2, False), ("one", 3, False)]


def test_an_equal_line_beyond_ours_repeats_the_one_before() -> None:
    lines = [theirs(id=None, line=n) for n in (2, 3, 4)]
    mine = [ours(message="m1"), ours(message="m2")]
    assert pairs(mine, lines) == [("m1", 2, False), ("m2", 3, False), (None, 4, True)]


def test_who_has_no_number_is_not_found_by_it() -> None:
    assert pairs([ours(to="")], [theirs(to=None)]) == [(None, 2, False), ("m1", None, False)]


# --- zones, days, rounded numbers -----------------------------------------------------------------


@given(st.integers(-14 * 4, 14 * 4), st.lists(st.integers(-400_000, 400_000), min_size=5))
def test_the_zone_is_what_most_lines_say(quarters: int, jitter: list[int]) -> None:
    shift, told = Shift(), quarters * 15 * MINUTE
    for each in jitter:
        shift.note(OURS, theirs(at_ms=NOON + told + each))
    shift.note(OURS, theirs(at_ms=NOON + 5 * HOUR))
    shift.note(OURS, theirs(at_ms=NOON + 90 * HOUR))
    assert shift.ms == told


def test_without_ids_numbers_say_the_zone() -> None:
    shift = Shift()
    mine = [ours(to=str(n), at_ms=NOON + n * 37 * MINUTE) for n in range(10, 20)]
    shift.note_numbers(mine, [theirs(to=o.to, at_ms=o.at_ms + 3 * HOUR) for o in mine])
    assert shift.ms == 3 * HOUR


def test_nothing_known_is_no_shift() -> None:
    shift = Shift()
    shift.note(OURS, theirs(at_ms=None))
    assert (shift.is_known, shift.ms) == (False, 0)


def test_a_line_at_the_edge_of_the_days_may_belong_to_either() -> None:
    days = Range(NOON, NOON + 24 * HOUR)
    inside = ours(at_ms=NOON + HOUR, until_ms=NOON + HOUR)
    over = ours(at_ms=NOON + 23 * HOUR, until_ms=NOON + 25 * HOUR)
    before = ours(at_ms=NOON - 2 * HOUR, until_ms=NOON - HOUR)
    told = [(days.holds(line), days.touches(line)) for line in (inside, over, before)]
    assert told == [(True, True), (False, True), (False, False)]


@pytest.mark.parametrize(
    ("number", "digits", "left"),
    [
        ("79161234567", 6, "791612e10"),
        ("79161250000", 6, "791613e10"),
        ("99999999999", 6, "100000e11"),
        ("79e10", 6, "790000e10"),
        ("12345", 6, "12345"),
        ("ann@example.com", 6, "ann@example.com"),
        ("12e@example.com", 6, "12e@example.com"),
    ],
)
def test_numbers_are_rounded_as_spreadsheets_do(number: str, digits: int, left: str) -> None:
    assert rounded(number, digits) == left


@given(st.integers(10**10, 10**15 - 1), st.integers(2, 9))
def test_a_rounded_number_is_found_by_the_whole_one(number: int, digits: int) -> None:
    shown = f"{number:.{digits - 1}e}"
    mantissa, _, power = shown.partition("e+")
    known = mantissa.replace(".", "").rstrip("0") or "0"
    exact = rounded(str(number), digits)
    left = rounded(f"{known}e{int(power)}", digits)
    # Python rounds a half to even, a spreadsheet up.
    assert exact == left or str(number)[digits:].rstrip("0") == "5"
