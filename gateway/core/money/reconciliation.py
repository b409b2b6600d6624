"""A provider's invoice against what we booked: which line is which of ours, and in what the two
differ. Pure, and over sorted streams, so that no more is held than one id's or one number's lines.

Lines match by the provider's id; what is left matches by number, time and parts. Then each line has
one class, the first of CLASSES that fits. Amounts are integers: ours in 1e-6 currency units, theirs
in 1e-12, because an invoice may have eight and more decimals. Nothing is rounded here.
"""

from __future__ import annotations

from bisect import bisect_left
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from itertools import groupby
from typing import Final, Generic, Literal, NamedTuple, TypeVar, get_args

import msgspec
from msgspec.structs import replace

Class = Literal[
    "duplicate_line",
    "unknown_to_us",
    "missing_on_invoice",
    "not_delivered_billed",
    "network",
    "parts",
    "price",
    "rounding",
    "matched",
]
CLASSES: Final[tuple[Class, ...]] = get_args(Class)
LineT = TypeVar("LineT")

AGREED: Final = frozenset(("rounding", "matched"))

PICOS = 10**12  # a currency unit, of their amounts
PICOS_A_MICRO = 10**6
ROUNDING_MAX = PICOS // 10_000  # of one line: 0.0001

MINUTE_MS = 60_000
NEAR_MS = 2 * MINUTE_MS  # how far two clocks may be apart that name the same moment
SHIFT_STEP_MS = 15 * MINUTE_MS  # zones differ by whole quarters of an hour
SHIFT_MAX_MS = 26 * 60 * MINUTE_MS  # from UTC-12 to UTC+14


class Ours(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """One attempt of a provider at a step. `to` is digits, or an e-mail address. `at_ms` is when it
    was handed over, `until_ms` when it arrived or was given up; `cost` is what we booked.
    `further_ids` are those of its other parts, where each has one; `part` is the how-manieth this
    is, where a line is one part. `invoiced`: the days of the accepted invoice that changed its
    cost, empty where it is not known of which; None: none did."""

    message: str
    step: int
    id: str
    to: str
    at_ms: int
    until_ms: int
    parts: int
    cost: int
    delivered: bool
    network: str | None = None
    attempt: int = 0  # the how-manieth of the step's
    further_ids: tuple[str, ...] = ()
    part: int = 0
    invoiced: str | None = None


class Theirs(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """One line of an invoice; None where it does not say. `line` is its number in the file, `at_ms`
    what it names in the zone of the map. `failed`: it calls itself undelivered. `each`: the amount
    is that of one part, and the line does not say of how many. `lines`: of so many it is made."""

    line: int
    amount: int
    id: str | None = None
    to: str | None = None
    at_ms: int | None = None
    parts: int | None = None
    network: str | None = None
    failed: bool = False
    each: bool = False
    lines: int = 1

    def counted(self, parts: int) -> Theirs:
        """With the parts that we count, where it names none."""
        return replace(self, amount=self.amount * parts, each=False) if self.each else self


class Pair(NamedTuple):
    """A line and what it is of ours; None where there is none. `again`: an earlier line has it."""

    ours: Ours | None
    theirs: Theirs | None
    again: bool = False


class ReconciledLine(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """A classified line: both sides, and what they come to in 1e-12 units."""

    kind: Class
    ours: Ours | None
    theirs: Theirs | None

    @property
    def our_amount(self) -> int:
        """Nothing for a repeated line: what it repeats has our cost already."""
        if self.ours is None or self.kind == "duplicate_line":
            return 0
        return self.ours.cost * PICOS_A_MICRO

    @property
    def their_amount(self) -> int:
        return 0 if self.theirs is None else self.theirs.amount

    @property
    def accepted(self) -> int:
        """What our charge is, in 1e-6 units, once the line is accepted."""
        return in_micros(self.their_amount)

    @property
    def difference(self) -> int:
        """Above zero: they ask for more than we booked."""
        return self.their_amount - self.our_amount


def in_micros(picos: int) -> int:
    """The nearest amount of 1e-6 units; of two, the even one."""
    micros, rest = divmod(picos, PICOS_A_MICRO)
    return micros + (rest * 2 > PICOS_A_MICRO or (rest * 2 == PICOS_A_MICRO and micros % 2))


class ClassSums(msgspec.Struct):
    """Of the lines of one class."""

    lines: int = 0
    ours: int = 0
    theirs: int = 0

    def add(self, item: ReconciledLine) -> None:
        self.lines += 1 if item.theirs is None else item.theirs.lines
        self.ours += item.our_amount
        self.theirs += item.their_amount

    @property
    def difference(self) -> int:
        return self.theirs - self.ours


def classify(pair: Pair, *, charged_on_delivery: bool) -> ReconciledLine:
    """The first class that fits. `charged_on_delivery`: the provider asks nothing for what did not
    arrive."""
    ours, theirs, again = pair
    if theirs is not None:
        theirs = theirs.counted(ours.parts if ours is not None else 1)
    return ReconciledLine(_class_of(ours, theirs, again, charged_on_delivery), ours, theirs)


def _class_of(
    ours: Ours | None, theirs: Theirs | None, again: bool, charged_on_delivery: bool
) -> Class:
    if theirs is None:
        return "missing_on_invoice"
    if again:
        return "duplicate_line"
    if ours is None:
        return "unknown_to_us"
    undelivered = not ours.delivered and not ours.cost
    if theirs.amount > 0 and (undelivered or (charged_on_delivery and theirs.failed)):
        return "not_delivered_billed"
    if not theirs.amount and not ours.cost:
        return "matched"
    if _differ(ours.network, theirs.network):
        return "network"
    if theirs.parts is not None and theirs.parts != ours.parts:
        return "parts"
    difference = abs(theirs.amount - ours.cost * PICOS_A_MICRO)
    if difference > ROUNDING_MAX * theirs.lines:
        return "price"
    return "rounding" if difference else "matched"


def _differ(ours: str | None, theirs: str | None) -> bool:
    return ours is not None and theirs is not None and ours != theirs


# --- matching -------------------------------------------------------------------------------------


def match_ids(ours: Iterable[Ours], theirs: Iterable[Theirs]) -> Iterator[Pair]:
    """Both sides by id, as they are sorted. Of several lines with one id the first is ours, the
    others repeat it; lines of theirs without an id are not to be among them."""
    for _, mine, lines in joined(ours, theirs, lambda line: line.id, lambda line: line.id or ""):
        waiting = iter(mine)
        for number, line in enumerate(lines):
            found = next(waiting, None)
            yield Pair(found, line, again=found is None and number > 0)
        for left in waiting:
            yield Pair(left, None)


def match_numbers(
    ours: Iterable[Ours],
    theirs: Iterable[Theirs],
    shift_ms: int,
    key: Callable[[str], str] = str,
) -> Iterator[Pair]:
    """Both sides by number and time, as they are sorted. `key` says of a number under what it
    stands; `shift_ms` is how much later their clock is than ours. Without a number nothing does."""
    for number, mine, lines in joined(
        ours, theirs, lambda line: key(line.to), lambda line: key(line.to or "")
    ):
        if number:
            yield from _match_group(mine, lines, shift_ms)
        else:
            yield from (Pair(None, line) for line in lines)
            yield from (Pair(line, None) for line in mine)


def _match_group(mine: list[Ours], lines: list[Theirs], shift_ms: int) -> Iterator[Pair]:
    """Those that agree in parts come first, then those that are nearest in time; a line that names
    no time comes last. An equal line beyond ours repeats the one before."""
    of_line: dict[int, int] = {}
    free = dict.fromkeys(range(len(mine)))
    for _, _, number, place in sorted(_near(mine, lines, shift_ms)):
        if number not in of_line and place in free:
            of_line[number] = place
            del free[place]
    for number, line in enumerate(lines):
        if line.at_ms is None and free:
            agreeing = (p for p in free if line.parts in (None, mine[p].parts))
            of_line[number] = next(agreeing, next(iter(free)))
            del free[of_line[number]]
    seen = {_said(lines[number]) for number in of_line}
    for number, line in enumerate(lines):
        if number in of_line:
            yield Pair(mine[of_line[number]], line)
        else:
            yield Pair(None, line, again=line.id is None and _said(line) in seen)
            seen.add(_said(line))
    for place in free:
        yield Pair(mine[place], None)


def _near(
    mine: list[Ours], lines: list[Theirs], shift_ms: int
) -> Iterator[tuple[bool, int, int, int]]:
    """Which may be which: whether parts differ, how far apart they are, and the places of both."""
    moments = sorted(
        moment
        for place, line in enumerate(mine)
        for moment in {(line.at_ms, place), (line.until_ms, place)}
    )
    for number, line in enumerate(lines):
        if line.at_ms is None:
            continue
        at_ms = line.at_ms - shift_ms
        for index in range(bisect_left(moments, (at_ms - NEAR_MS, 0)), len(moments)):
            moment_ms, place = moments[index]
            if moment_ms > at_ms + NEAR_MS:
                break
            differ = line.parts not in (None, mine[place].parts)
            yield differ, abs(moment_ms - at_ms), number, place


def _said(line: Theirs) -> tuple[object, ...]:
    return line.to, line.at_ms, line.parts, line.network, line.amount


class LineGroup(NamedTuple, Generic[LineT]):
    key: str
    ours: list[Ours]
    theirs: list[LineT]


def joined(
    ours: Iterable[Ours],
    theirs: Iterable[LineT],
    our_key: Callable[[Ours], str],
    their_key: Callable[[LineT], str],
) -> Iterator[LineGroup[LineT]]:
    """Two sides that are sorted by their keys, a key at a time."""
    mine, lines = groupby(ours, our_key), groupby(theirs, their_key)
    one, other = next(mine, None), next(lines, None)
    while one is not None or other is not None:
        if other is None or (one is not None and one[0] < other[0]):
            assert one is not None
            yield LineGroup(one[0], list(one[1]), [])
            one = next(mine, None)
        elif one is None or other[0] < one[0]:
            yield LineGroup(other[0], [], list(other[1]))
            other = next(lines, None)
        else:
            yield LineGroup(one[0], list(one[1]), list(other[1]))
            one, other = next(mine, None), next(lines, None)


# --- zones ----------------------------------------------------------------------------------------


class Shift:
    """How much later their clock says the same moment than ours, as most lines have it."""

    def __init__(self) -> None:
        self._votes: Counter[int] = Counter()

    def note(self, ours: Ours, theirs: Theirs) -> None:
        """One line of theirs that is known to be this of ours, or may be."""
        if theirs.at_ms is None:
            return
        difference = theirs.at_ms - ours.at_ms
        if abs(difference) <= SHIFT_MAX_MS:
            self._votes[round_to(difference, SHIFT_STEP_MS)] += 1

    def note_numbers(self, ours: Iterable[Ours], theirs: Iterable[Theirs]) -> None:
        """Every line of theirs to a number against every one of ours to it, as they are sorted:
        what is said most often is the zone, and chance is spread."""
        for _, mine, lines in joined(
            ours, theirs, lambda line: line.to, lambda line: line.to or ""
        ):
            for one in mine[:PEERS_MAX]:
                for line in lines[:PEERS_MAX]:
                    self.note(one, line)

    @property
    def is_known(self) -> bool:
        return bool(self._votes)

    @property
    def ms(self) -> int:
        """The smaller of two that are as frequent; 0 where nothing is known."""
        return min(self._votes, key=lambda ms: (-self._votes[ms], abs(ms)), default=0)


PEERS_MAX = 20  # lines to one number that are compared with each other


def round_to(value: int, step: int) -> int:
    """The nearest multiple of a step; half goes up."""
    return (value + step // 2) // step * step


# --- which lines are asked for --------------------------------------------------------------------


class Range(msgspec.Struct, frozen=True):
    """The days of an invoice, as moments of our clock: from the first up to before the last."""

    from_ms: int
    to_ms: int

    def holds(self, ours: Ours) -> bool:
        """Whether a line of ours belongs to these days, whichever of its moments they are counted
        by and however the clocks differ."""
        return self.from_ms + NEAR_MS <= ours.at_ms and ours.until_ms < self.to_ms - NEAR_MS

    def touches(self, ours: Ours) -> bool:
        """Whether it may belong to these days, or to those beside them."""
        return ours.until_ms >= self.from_ms - NEAR_MS and ours.at_ms < self.to_ms + NEAR_MS


# --- numbers of which a spreadsheet left the first digits -----------------------------------------

ROUNDED: Final = "e"  # between the digits that are known and the power of ten


def rounded(number: str, digits: int) -> str:
    """A number as a spreadsheet leaves it with so many digits: 79161234567 as 791612e10. One that
    was rounded already may have lost zeros at its end; what is no number stays as it is."""
    if is_rounded(number):
        known, _, power = number.partition(ROUNDED)
        return f"{known.ljust(digits, '0')}{ROUNDED}{power}"
    if not number.isdecimal() or len(number) <= digits:
        return number
    unit = 10 ** (len(number) - digits)
    first = str(round_to(int(number), unit) // unit)
    return f"{first[:digits]}{ROUNDED}{len(number) - 1 + len(first) - digits}"


def is_rounded(number: str) -> bool:
    """Whether not all of its digits are known."""
    known, _, power = number.partition(ROUNDED)
    return known.isdecimal() and power.isdecimal()
