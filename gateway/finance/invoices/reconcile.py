"""A provider's invoice held against our lines, at any length: the steps of it, over sorted lines.

First by id, which also says how the two clocks differ; then what is left by number and time; last
the numbers of which a spreadsheet left only the first digits. What comes out is a `Reconciled`.

What another invoice asked for that was accepted, of days beside these, costs what that one said: a
line for it repeats that one's, and without a line it is not missing.
"""

from __future__ import annotations

import datetime
from collections.abc import Callable, Iterable, Iterator
from functools import partial
from itertools import groupby

import msgspec

from gateway.core.money.days import Days, span_in
from gateway.core.money.invoice_parts import PartLine, parts_of, place_of, whole
from gateway.core.money.reconciliation import (
    AGREED,
    CLASSES,
    ROUNDED,
    SHIFT_MAX_MS,
    Class,
    ClassSums,
    Ours,
    Pair,
    Range,
    ReconciledLine,
    Shift,
    Theirs,
    classify,
    is_rounded,
    match_ids,
    match_numbers,
    rounded,
)
from gateway.finance.invoices.sorted_lines import Shelf, SortedLines

EDGE_MS = 2 * 86_400_000  # of our lines, beyond both ends: another zone, another day
NEAR_DAYS = datetime.timedelta(days=4)  # so far away are days of which lines of ours are taken
SURE_MS = 3_600_000  # from both ends of accepted days: clocks may have changed between two invoices

_DAY = datetime.timedelta(days=1)


class Question(msgspec.Struct, frozen=True):
    """Whose invoice, in which currency, and in which zone its times are written. `by_part`: it has
    a line for each part of a message."""

    provider: str
    currency: str
    zone: str
    charged_on_delivery: bool
    by_part: bool = False


class DaySpan(msgspec.Struct, frozen=True):
    """Both count."""

    first: datetime.date
    last: datetime.date

    def overlaps(self, other: DaySpan) -> bool:
        return self.first <= other.last and other.first <= self.last

    def is_beside(self, other: DaySpan) -> bool:
        apart = max(self.first - other.last, other.first - self.last)
        return datetime.timedelta(0) < apart <= NEAR_DAYS

    def range(self, zone: str, shift_ms: int = 0) -> Range:
        """As moments, where that zone's clock is so much ahead of what it should be."""
        days = Days(zone)
        return Range(
            days.begins_ms(self.first) - shift_ms, days.begins_ms(self.last + _DAY) - shift_ms
        )


class Reconciled(msgspec.Struct):
    """`classes` has every class, in order. `shift_ms`: how much later their clock is than the zone
    of the map says. `carried`: lines of ours at an edge of the days, which may stand on the invoice
    before or after. `outside`: lines of theirs that are not of these days."""

    question: Question
    days: DaySpan
    classes: dict[Class, ClassSums]
    shift_ms: int
    carried: ClassSums
    outside: int

    @property
    def agrees(self) -> bool:
        """Whether nothing is to be claimed or explained."""
        return all(kind in AGREED or not sums.lines for kind, sums in self.classes.items())

    @property
    def total(self) -> ClassSums:
        found = self.classes.values()
        return ClassSums(
            sum(each.lines for each in found),
            sum(each.ours for each in found),
            sum(each.theirs for each in found),
        )


def _once(ours: Iterable[Ours]) -> Iterator[Ours]:
    """Of lines that are sorted by id each once."""
    for _, alike in groupby(ours, lambda line: line.id):
        seen = set[tuple[str, int, int, int]]()
        for line in alike:
            place = line.message, line.step, line.attempt, line.part
            if place not in seen:
                seen.add(place)
                yield line


Watch = Callable[[Iterable[Pair], str], Iterable[Pair]]


def _unwatched(pairs: Iterable[Pair], _by: str) -> Iterable[Pair]:
    return pairs


class Reconciliation:
    """Takes the lines of both sides, theirs first, and then tells what they come to."""

    def __init__(self, question: Question, lines: SortedLines) -> None:
        self._question = question
        self._lines = lines
        self._days = Days(question.zone)
        self._earliest_ms = self._latest_ms = 0
        self._outside = 0
        self._digits = 0  # of the numbers that were rounded
        self._shift = Shift()
        self._classes: dict[Class, ClassSums] = {kind: ClassSums() for kind in CLASSES}
        self._carried = ClassSums()
        self._others: list[DaySpan] = []  # the days of accepted invoices
        self._ranges: list[Range] = []  # ... by the clock of this one, as far as it is known

    def take_accepted(self, accepted: Iterable[DaySpan]) -> None:
        """The days of the provider's invoices that were accepted."""
        self._others += accepted

    def take_theirs(
        self, theirs: Iterable[Theirs], first: datetime.date | None, last: datetime.date | None
    ) -> DaySpan | None:
        """The lines of an invoice, without those before the first day and after the last, where
        these are given. Returns the days that are named by them or by the lines; None where neither
        does."""
        from_ms = self._days.begins_ms(first) if first else None
        to_ms = self._days.begins_ms(last + _DAY) if last else None
        for line in theirs:
            at_ms = line.at_ms
            if at_ms is not None:
                before = from_ms is not None and at_ms < from_ms
                if before or (to_ms is not None and at_ms >= to_ms):
                    self._outside += 1
                    continue
                self._earliest_ms = min(at_ms, self._earliest_ms or at_ms)
                self._latest_ms = max(at_ms, self._latest_ms)
            if line.to is not None and is_rounded(line.to):
                self._digits = max(self._digits, line.to.index(ROUNDED))
            if line.id is not None:
                self._lines.put(Shelf.THEIRS, line.id, line.line, line)
            else:
                self._leave_theirs(line)
        first = first or self._day(self._earliest_ms)
        last = last or self._day(self._latest_ms)
        return DaySpan(first, last) if first is not None and last is not None else None

    def _day(self, at_ms: int) -> datetime.date | None:
        return self._days.of(at_ms) if at_ms else None

    def span(self, days: DaySpan) -> tuple[int, int]:
        """From when on and until when lines of ours are to be taken."""
        asked = days.range(self._question.zone)
        return asked.from_ms - EDGE_MS, asked.to_ms + EDGE_MS

    def take_ours(self, ours: Iterable[Ours]) -> None:
        """Some lines of ours: all of the days, and those of EDGE_MS on both sides. One that comes
        again, from where it is kept as well, counts as it came first."""
        for line in ours:
            if not self._question.by_part:
                self._lines.put(Shelf.OURS, line.id, line.at_ms, line)
                continue
            self._lines.put(Shelf.OUR_WHOLE, place_of(line), 0, line)
            for part in parts_of(line):
                self._lines.put(Shelf.OURS, part.id, part.at_ms, part)

    def settle(self, days: DaySpan, watch: Watch = _unwatched) -> Reconciled:
        """What the lines that were taken come to; `watch` is given the pairs that are compared, and
        by what they are pairs."""
        others = [other for other in self._others if other.is_beside(days)]
        self._ranges = [other.range(self._question.zone) for other in others]
        self._note(watch(self._pairs_by_id(), "By id"), days, None)
        if not self._shift.is_known:
            ours = self._lines.read(Shelf.OUR_REST, Ours)
            self._shift.note_numbers(ours, self._lines.read(Shelf.THEIR_REST, Theirs))
        by_number = watch(self._pairs_by_number(), "By number")
        asked = days.range(self._question.zone, self._shift.ms)
        self._ranges = [other.range(self._question.zone, self._shift.ms) for other in others]
        for item in self._lines.read(Shelf.NEAR_OTHERS, ReconciledLine):
            self._own(Pair(item.ours, item.theirs), days, asked)
        self._note(by_number, days, asked)
        if self._question.by_part:
            for pair in watch(self._pairs_by_message(), "By message"):
                self._own(pair, days, asked)
        return Reconciled(
            self._question, days, self._classes, self._shift.ms, self._carried, self._outside
        )

    def items(self) -> Iterator[ReconciledLine]:
        """Every line that is not matched to the last digit, by class and then by line."""
        return self._lines.read(Shelf.ITEMS, ReconciledLine)

    def _note(self, pairs: Iterable[Pair], days: DaySpan, asked: Range | None) -> None:
        """`asked` None: by how much the clocks differ is not known yet."""
        for pair in pairs:
            if pair.ours is None:
                self._classify(pair, asked)
            elif self._question.by_part:
                if pair.theirs is not None:
                    part = PartLine(place_of(pair.ours), pair.theirs)
                    self._lines.put(Shelf.THEIR_PARTS, part.place, part.line.line, part)
            elif asked is not None:
                self._own(pair, days, asked)
            elif self._may_be_of_another(pair.ours):
                self._lines.put(Shelf.NEAR_OTHERS, "", 0, ReconciledLine("matched", *pair[:2]))
            else:
                self._classify(pair, asked)

    # --- what other invoices asked for ------------------------------------------------------------

    def _own(self, pair: Pair, days: DaySpan, asked: Range) -> None:
        """Classifies a pair whose line of ours may be another invoice's."""
        ours, theirs, _ = pair
        if ours is None or not self._is_of_another(ours, days):
            self._classify(pair, asked)
        elif theirs is not None:
            self._classify(Pair(None, theirs.counted(ours.parts), again=True), asked)

    def _is_of_another(self, ours: Ours, days: DaySpan) -> bool:
        """Whether what it costs is what an accepted invoice of other days asks for. Of the lines of
        such days nothing costs that was not on it; what that changed says so."""
        if not ours.cost or ours.invoiced == "":
            return False
        if ours.invoiced is not None:
            return not DaySpan(*span_in(ours.invoiced)).overlaps(days)
        return self._in_others(ours, SURE_MS)

    def _may_be_of_another(self, ours: Ours) -> bool:
        """The same while nobody knows by how much the clocks differ."""
        if ours.invoiced is not None:
            return bool(ours.cost and ours.invoiced)
        return bool(ours.cost) and self._in_others(ours, -SHIFT_MAX_MS)

    def _in_others(self, ours: Ours, inside_ms: int) -> bool:
        """Whether accepted days hold it, so far inside of them."""
        return any(
            days.from_ms + inside_ms <= ours.at_ms and ours.until_ms < days.to_ms - inside_ms
            for days in self._ranges
        )

    # --- classes ----------------------------------------------------------------------------------

    def _classify(self, pair: Pair, asked: Range | None) -> None:
        if pair.theirs is None:
            assert asked is not None
            assert pair.ours is not None
            if not self._is_missing(pair.ours, asked):
                return
        item = classify(pair, charged_on_delivery=self._question.charged_on_delivery)
        self._classes[item.kind].add(item)
        if item.kind != "matched":
            line = item.theirs.line if item.theirs is not None else 0
            self._lines.put(Shelf.ITEMS, str(CLASSES.index(item.kind)), line, item)

    def _is_missing(self, ours: Ours, asked: Range) -> bool:
        """Whether a line of ours should stand on the invoice, which has none for it."""
        if not ours.cost:
            return False
        if asked.holds(ours):
            return True
        if asked.touches(ours):
            self._carried.add(ReconciledLine("missing_on_invoice", ours, None))
        return False

    def _pairs_by_message(self) -> Iterator[Pair]:
        """What the parts of each of our lines come to, where a line of theirs is one part."""
        parts = self._lines.read(Shelf.THEIR_PARTS, PartLine)
        return whole(self._lines.read(Shelf.OUR_WHOLE, Ours), parts)

    # --- the three ways in which lines match ------------------------------------------------------

    def _pairs_by_id(self) -> Iterator[Pair]:
        ours = _once(self._lines.read(Shelf.OURS, Ours))
        for pair in match_ids(ours, self._lines.read(Shelf.THEIRS, Theirs)):
            if pair.theirs is None:
                assert pair.ours is not None
                self._lines.put(Shelf.OUR_REST, pair.ours.to, pair.ours.at_ms, pair.ours)
            elif pair.ours is not None:
                self._shift.note(pair.ours, pair.theirs)
                yield pair
            elif pair.again:
                yield pair
            else:
                self._leave_theirs(pair.theirs)

    def _leave_theirs(self, line: Theirs) -> None:
        last = line.to is not None and is_rounded(line.to)
        shelf = Shelf.THEIR_LAST if last else Shelf.THEIR_REST
        self._lines.put(shelf, line.to or "", line.at_ms or 0, line)

    def _pairs_by_number(self) -> Iterator[Pair]:
        ours = self._lines.read(Shelf.OUR_REST, Ours)
        theirs = self._lines.read(Shelf.THEIR_REST, Theirs)
        if not self._digits:
            yield from match_numbers(ours, theirs, self._shift.ms)
            return
        key = partial(rounded, digits=self._digits)
        for pair in match_numbers(ours, theirs, self._shift.ms):
            if pair.theirs is None:
                assert pair.ours is not None
                self._lines.put(Shelf.OUR_LAST, key(pair.ours.to), pair.ours.at_ms, pair.ours)
            else:
                yield pair
        for line in self._lines.read(Shelf.THEIR_LAST, Theirs):
            self._lines.put(Shelf.THEIR_ROUNDED, key(line.to or ""), line.at_ms or 0, line)
        ours = self._lines.read(Shelf.OUR_LAST, Ours)
        theirs = self._lines.read(Shelf.THEIR_ROUNDED, Theirs)
        yield from match_numbers(ours, theirs, self._shift.ms, key)
